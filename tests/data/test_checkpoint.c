/* A loader's position through a checkpoint on disk: another loader, as after a restart, goes on where the first one
 * was. */
#include "support.h"

#include "base/io.h"
#include "cadre/checkpoint.h"

#include <stdlib.h>
#include <string.h>

enum { BATCH = 6, GLOBAL = 2 * BATCH, COUNT = 100 };

static cadre_loader *loader_of(const cadre_dataset *dataset, int batch_size, int world, cadre_state **state)
{
    const cadre_loader_options options = {
        .batch_size = batch_size, .world = world, .shuffle = true, .seed = 4, .augment = {.shift = 1, .flip = true}};
    cadre_loader *loader;
    assert_ok(cadre_loader_new(dataset, &options, &loader));
    assert_ok(cadre_state_new(state));
    assert_ok(cadre_loader_add_state(loader, *state, "train"));
    assert_int_equal(cadre_state_count(*state), 2);
    assert_status(cadre_loader_add_state(loader, *state, "train"), CADRE_EEXIST);
    return loader;
}

static void test_restart(void **state)
{
    support_write_pair(*state, true, COUNT, 4, 5, true);
    char *path = base_path_join(*state, "checkpoint");
    cadre_idx *idx;
    cadre_dataset dataset;
    cadre_state *saved;
    cadre_batch batch;
    float expected[BATCH * 20];
    assert_ok(cadre_idx_open(*state, true, &idx));
    assert_ok(cadre_idx_dataset(idx, 0.5f, 0.5f, &dataset));

    cadre_loader *loader = loader_of(&dataset, BATCH, 2, &saved);
    assert_ok(cadre_loader_begin(loader, 3));
    for (int k = 0; k < 4; k++)
        assert_ok(cadre_loader_next(loader, &batch));
    assert_ok(cadre_checkpoint_save(path, saved));
    assert_ok(cadre_loader_next(loader, &batch));
    memcpy(expected, batch.values, sizeof expected);
    cadre_loader_free(loader);
    cadre_state_free(saved);

    for (int world = 1; world <= 4; world *= 2) { /* the same global batch on fewer and on more ranks */
        loader = loader_of(&dataset, GLOBAL / world, world, &saved);
        assert_ok(cadre_checkpoint_load(path, saved));
        assert_int_equal(cadre_loader_consumed(loader), 4 * GLOBAL);
        assert_ok(cadre_loader_begin(loader, 3));
        assert_ok(cadre_loader_next(loader, &batch));
        assert_int_equal(batch.number, 4);
        size_t floats = (size_t)(batch.count < BATCH ? batch.count : BATCH) * 20;
        assert_memory_equal(expected, batch.values, floats * sizeof(float));
        cadre_loader_free(loader);
        cadre_state_free(saved);
    }
    cadre_idx_free(idx);
    free(path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_restart, support_make_directory, support_remove_directory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
