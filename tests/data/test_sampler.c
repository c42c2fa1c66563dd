/* The sampler against its own description, by brute force. */
#include "support.h"

#include <stdlib.h>
#include <string.h>

enum { MAX = 64 };

/* The epoch's order, as the one rank of a world of one sees it, sample by sample. */
static void order_of(int64_t count, bool shuffle, uint64_t seed, int64_t epoch, int64_t *order)
{
    cadre_sampler sampler;
    int64_t taken = 0;
    assert_ok(cadre_sampler_init(&sampler, count, 1, 0, 1, shuffle, false, seed));
    assert_ok(cadre_sampler_seek(&sampler, epoch, 0));
    for (int64_t i = 0; i < count; i++) {
        assert_ok(cadre_sampler_next(&sampler, &order[i], &taken));
        assert_int_equal(taken, 1);
    }
    assert_int_equal(cadre_sampler_next(&sampler, order, &taken), CADRE_STOP);
    cadre_sampler_done(&sampler);
}

/* One rank's whole epoch from `consumed` on, against the description. */
static void check_rank(const int64_t *order, int64_t count, int64_t batch, int rank, int world, bool shuffle, bool drop,
                       int64_t consumed, int *seen)
{
    cadre_sampler sampler;
    int64_t global = batch * world;
    int64_t indices[MAX];
    int64_t taken;
    assert_ok(cadre_sampler_init(&sampler, count, batch, rank, world, shuffle, drop, 11));
    assert_ok(cadre_sampler_seek(&sampler, 3, consumed));
    int64_t k = consumed / global;
    for (; k * global < count && !(drop && (k + 1) * global > count); k++) {
        int64_t size = count - k * global < global ? count - k * global : global;
        assert_ok(cadre_sampler_next(&sampler, indices, &taken));
        int64_t at = k * global; /* deal the batch out, rank by rank */
        for (int r = 0; r <= rank; r++) {
            int64_t share = 0;
            for (int64_t i = r; i < size; i += world)
                share++;
            if (r == rank) {
                assert_int_equal(taken, share);
                assert_memory_equal(indices, order + at, (size_t)share * sizeof *indices);
            }
            at += share;
        }
        for (int64_t i = 0; i < taken; i++)
            seen[indices[i]]++;
        assert_int_equal(sampler.consumed, k * global + size);
    }
    if (consumed % global == 0)
        assert_int_equal(cadre_sampler_batches(&sampler), k);
    for (int again = 0; again < 2; again++) {
        taken = -5;
        assert_int_equal(cadre_sampler_next(&sampler, indices, &taken), CADRE_STOP);
        assert_int_equal(taken, -5);
    }
    cadre_sampler_done(&sampler);
}

static void test_every_combination(void **state)
{
    (void)state;
    int64_t order[MAX] = {0};
    for (int64_t count = 0; count <= 25; count++)
        for (int shuffle = 0; shuffle < 2; shuffle++) {
            order_of(count, shuffle, 11, 3, order);
            for (int64_t batch = 1; batch <= 5; batch++)
                for (int world = 1; world <= 6; world++)
                    for (int drop = 0; drop < 2; drop++) {
                        int64_t whole = count - (drop ? count % (batch * world) : 0);
                        for (int64_t from = 0; from <= whole; from += batch * world) {
                            int seen[MAX] = {0};
                            for (int rank = 0; rank < world; rank++)
                                check_rank(order, count, batch, rank, world, shuffle, drop, from, seen);
                            for (int64_t i = 0; i < count; i++)
                                assert_int_equal(seen[order[i]], i >= from && i < whole);
                        }
                    }
        }
}

static void test_ends_and_refusals(void **state)
{
    (void)state;
    cadre_sampler sampler;
    assert_status(cadre_sampler_init(&sampler, -1, 1, 0, 1, true, false, 0), CADRE_EINVAL);
    assert_status(cadre_sampler_init(&sampler, 10, 0, 0, 1, true, false, 0), CADRE_EINVAL);
    assert_status(cadre_sampler_init(&sampler, 10, 1, 1, 1, true, false, 0), CADRE_EINVAL);
    assert_status(cadre_sampler_init(&sampler, 10, 1, -1, 1, true, false, 0), CADRE_EINVAL);
    assert_status(cadre_sampler_init(&sampler, 10, 1, 0, 0, true, false, 0), CADRE_EINVAL);
    assert_status(cadre_sampler_init(&sampler, 10, INT64_MAX / 2, 0, 3, true, false, 0), CADRE_EINVAL);
    assert_status(cadre_sampler_init(&sampler, INT64_MAX, 1, 0, 1, true, false, 0), CADRE_EINVAL);
    int64_t indices[10];
    int64_t taken;
    assert_ok(
        cadre_sampler_init(&sampler, 10, INT64_MAX / 3, 1, 3, false, false, 0)); /* a batch larger than the data */
    assert_int_equal(cadre_sampler_batches(&sampler), 1);
    assert_ok(cadre_sampler_next(&sampler, indices, &taken));
    assert_int_equal(taken, 3);
    assert_int_equal(indices[0], 4);

    assert_ok(cadre_sampler_init(&sampler, 10, 2, 0, 2, true, true, 0)); /* ends at 8 of 10 */
    assert_ok(cadre_sampler_seek(&sampler, 0, 3)); /* where a run of another world was: one batch of four, and three are dropped */
    assert_ok(cadre_sampler_next(&sampler, indices, &taken));
    assert_int_equal(taken, 2);
    assert_int_equal(cadre_sampler_next(&sampler, indices, &taken), CADRE_STOP);
    assert_int_equal(sampler.consumed, 7);
    assert_status(cadre_sampler_seek(&sampler, 0, -4), CADRE_EINVAL);
    assert_status(cadre_sampler_seek(&sampler, -1, 0), CADRE_EINVAL);
    assert_status(cadre_sampler_seek(&sampler, 0, 12), CADRE_EINVAL);
    for (int64_t end = 8; end <= 10; end++) { /* where a run of another world may have ended */
        assert_ok(cadre_sampler_seek(&sampler, 5, end));
        assert_int_equal(cadre_sampler_next(&sampler, indices, &taken), CADRE_STOP);
    }
    cadre_sampler_done(&sampler);
    cadre_sampler_done(&sampler);
    cadre_sampler_done(NULL);
}

/* Ranks that stand for several workers get together what those would get apart, the short last batch included. */
static void test_parts(void **state)
{
    (void)state;
    for (int64_t count = 1; count < 40; count++)
        for (int parts = 1; parts <= 4; parts *= 2) {
            int workers = 4, world = workers / parts;
            for (int rank = 0; rank < world; rank++) {
                cadre_sampler together, apart;
                int64_t indices[64], taken, one[16], of_one;
                assert_ok(cadre_sampler_init(&together, count, 3 * parts, rank, world, true, false, 5));
                together.parts = parts;
                assert_ok(cadre_sampler_next(&together, indices, &taken));
                cadre_batch batch = {.indices = indices, .count = taken};
                for (int part = 0; part < parts; part++) {
                    assert_ok(cadre_sampler_init(&apart, count, 3, rank * parts + part, workers, true, false, 5));
                    assert_ok(cadre_sampler_next(&apart, one, &of_one));
                    cadre_batch mine = cadre_batch_part(&batch, parts, part, 0);
                    assert_int_equal(mine.count, of_one);
                    assert_memory_equal(mine.indices, one, (size_t)of_one * sizeof *one);
                    assert_int_equal(apart.consumed, together.consumed);
                    cadre_sampler_done(&apart);
                }
                cadre_sampler_done(&together);
            }
        }
}

static uint64_t draw(uint64_t *random) { return (*random = *random * 6364136223846793005u + 1442695040888963407u) >> 33; }

/* Groups that lose workers and grow again at any moment, in batches that divide nothing: each sample once an epoch (where the last batch is dropped,
 * at most once, and less than one batch of those who came to the end is missing). */
static void test_elastic(void **state)
{
    (void)state;
    uint64_t random = 20;
    for (int round = 0; round < 3000; round++) {
        int64_t count = (int64_t)(draw(&random) % 200), indices[MAX], taken, consumed = 0, last_global = 1;
        bool drop = draw(&random) % 4 == 0, shuffle = draw(&random) % 4 != 0, over = false;
        int changes = (int)(draw(&random) % 12), *seen = calloc((size_t)count + 1, sizeof *seen);
        for (int change = 0; !over; change++) {
            int parts = 1 << draw(&random) % 3, world = 1 + (int)(draw(&random) % 7);
            int64_t batch = parts * (1 + (int64_t)(draw(&random) % 5)), steps = change < changes ? (int64_t)(draw(&random) % 6) : INT64_MAX, next = consumed;
            for (int rank = 0; rank < world; rank++) {
                cadre_sampler sampler;
                int status = CADRE_OK;
                assert_ok(cadre_sampler_init(&sampler, count, batch, rank, world, shuffle, drop, 9));
                sampler.parts = parts;
                assert_ok(cadre_sampler_seek(&sampler, 4, consumed));
                for (int64_t step = 0; step < steps && (status = cadre_sampler_next(&sampler, indices, &taken)) == CADRE_OK; step++)
                    for (int64_t i = 0; i < taken; i++)
                        seen[indices[i]]++;
                assert_true(rank == 0 || (next == sampler.consumed && over == (status == CADRE_STOP))); /* they are all at the same place */
                next = sampler.consumed;
                over = status == CADRE_STOP;
                cadre_sampler_done(&sampler);
            }
            consumed = next;
            last_global = batch * world;
        }
        int64_t missing = 0;
        for (int64_t i = 0; i < count; i++) {
            assert_in_range(seen[i], !drop, 1);
            missing += !seen[i];
        }
        assert_true(missing < last_global);
        assert_int_equal(missing, count - consumed);
        free(seen);
    }
}

/* Going back and forth between epochs gives the same orders; other epochs and seeds give others. */
static void test_epochs_and_seeds(void **state)
{
    (void)state;
    int64_t base[MAX], other[MAX];
    order_of(MAX, true, 1, 1, base);
    order_of(MAX, true, 1, 1, other);
    assert_memory_equal(base, other, sizeof base);
    order_of(MAX, true, 1, 2, other);
    assert_memory_not_equal(base, other, sizeof base);
    order_of(MAX, true, 2, 1, other);
    assert_memory_not_equal(base, other, sizeof base);
    cadre_sampler sampler;
    int64_t taken;
    assert_ok(cadre_sampler_init(&sampler, MAX, MAX, 0, 1, true, false, 1));
    for (int64_t visit = 0; visit < 6; visit++) {
        int64_t epoch = visit % 2 ? 7 : 1;
        assert_ok(cadre_sampler_seek(&sampler, epoch, 0));
        assert_ok(cadre_sampler_next(&sampler, other, &taken));
        if (epoch == 1)
            assert_memory_equal(base, other, sizeof base);
        else
            assert_memory_not_equal(base, other, sizeof base);
    }
    cadre_sampler_done(&sampler);
}

/* All 24 orders of four samples come about equally often (chi-squared with 23 degrees of freedom: 49.7 is the 0.1 %
 * point). */
static void test_orders_are_uniform(void **state)
{
    (void)state;
    enum { DRAWS = 24000 };
    int times[256] = {0};
    for (int64_t epoch = 0; epoch < DRAWS; epoch++) {
        int64_t order[4];
        order_of(4, true, 5, epoch, order);
        times[order[0] | order[1] << 2 | order[2] << 4 | order[3] << 6]++;
    }
    double chi = 0;
    int kinds = 0;
    for (int i = 0; i < 256; i++)
        if (times[i]) {
            kinds++;
            chi += (times[i] - DRAWS / 24.0) * (times[i] - DRAWS / 24.0) / (DRAWS / 24.0);
        }
    assert_int_equal(kinds, 24);
    assert_true(chi < 49.7);
}

/* What is drawn is part of the contract with old checkpoints: these numbers never change. */
static void test_known_order(void **state)
{
    (void)state;
    int64_t order[8];
    order_of(8, true, 42, 0, order);
    const int64_t known[8] = {5, 0, 1, 7, 6, 4, 2, 3};
    assert_memory_equal(order, known, sizeof known);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_combination), cmocka_unit_test(test_ends_and_refusals),
        cmocka_unit_test(test_parts),             cmocka_unit_test(test_elastic),
        cmocka_unit_test(test_epochs_and_seeds),  cmocka_unit_test(test_orders_are_uniform),
        cmocka_unit_test(test_known_order),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
