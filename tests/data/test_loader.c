/* The loader: the same batches whatever thread, depth, world and interruption; errors, stopping, waiting. */
#include "support.h"

#include "base/clock.h"
#include "base/error.h"
#include "base/fault.h"

#include <dirent.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

enum { C = 2, H = 3, W = 5, FLOATS = C * H * W };

/* A dataset that counts, fails and dawdles to order. */
typedef struct source {
    int64_t count;
    int64_t bad; /* this sample fails, with `answer` */
    int answer;
    bool silent;
    int64_t pause_ns;
    atomic_int gets;
} source;

static int64_t source_count(void *user) { return ((source *)user)->count; }

static int source_get(void *user, int64_t index, float *values, int64_t *label)
{
    source *from = user;
    atomic_fetch_add(&from->gets, 1);
    if (from->pause_ns)
        base_sleep_ns(from->pause_ns);
    if (from->bad && index == from->bad)
        return from->silent ? from->answer : base_error(from->answer, "the disk is on fire");
    for (int i = 0; i < FLOATS; i++)
        values[i] = (float)(index * FLOATS + i);
    *label = index % 10;
    return CADRE_OK;
}

static cadre_dataset dataset_of(source *from)
{
    return (cadre_dataset){
        .count = source_count, .get = source_get, .user = from, .channels = C, .height = H, .width = W};
}

static cadre_loader *loader_of(source *from, cadre_loader_options options)
{
    cadre_dataset dataset = dataset_of(from);
    cadre_loader *loader = NULL;
    assert_ok(cadre_loader_new(&dataset, &options, &loader));
    return loader;
}

/* The state's double: remembers what was added, as a checkpoint would read and write it. */
static struct {
    char names[4][64];
    int64_t *values[4];
    int count, fail_at;
} entries;

int cadre_state_add_int64(cadre_state *state, const char *name, int64_t *value)
{
    (void)state;
    if (entries.count == entries.fail_at)
        return base_error(CADRE_EEXIST, "there is a \"%s\" already", name);
    strncpy(entries.names[entries.count], name, sizeof entries.names[0] - 1);
    entries.values[entries.count++] = value;
    return CADRE_OK;
}

static void add_state(cadre_loader *loader)
{
    cadre_state state = {0};
    memset(&entries, 0, sizeof entries);
    entries.fail_at = -1;
    assert_ok(cadre_loader_add_state(loader, &state, "train"));
}

static void restore(cadre_loader *loader, int64_t epoch, int64_t consumed)
{
    add_state(loader);
    *entries.values[0] = epoch;
    *entries.values[1] = consumed;
}

/* A batch's contents as one number, place by place. */
static uint64_t digest(uint64_t from, const cadre_batch *batch)
{
    const unsigned char *parts[] = {(const void *)batch->values, (const void *)batch->labels,
                                    (const void *)batch->indices, (const void *)&batch->number};
    size_t sizes[] = {(size_t)batch->count * FLOATS * sizeof(float), (size_t)batch->count * 8, (size_t)batch->count * 8,
                      8};
    for (int part = 0; part < 4; part++)
        for (size_t i = 0; i < sizes[part]; i++)
            from = (from ^ parts[part][i]) * 0x100000001B3u;
    return from;
}

/* Up to `most` batches of what is left of the epoch; answers how many there were. */
static int64_t drain(cadre_loader *loader, int64_t most, uint64_t *hash)
{
    cadre_batch batch;
    int64_t batches = 0;
    while (batches < most) {
        int status = cadre_loader_next(loader, &batch);
        if (status == CADRE_STOP)
            break;
        assert_ok(status);
        *hash = digest(*hash, &batch);
        batches++;
    }
    return batches;
}

static const cadre_loader_options usual = {.batch_size = 7,
                                           .world = 2,
                                           .rank = 1,
                                           .shuffle = true,
                                           .seed = 3,
                                           .augment = {.crop_padding = 1, .flip = true, .rotate = 9, .noise = 0.1}};

static void test_same_whatever_the_depth(void **state)
{
    (void)state;
    source from = {.count = 100};
    uint64_t expected = 0;
    for (int prefetch = -1; prefetch < 12; prefetch++) {
        cadre_loader_options options = usual;
        options.prefetch = prefetch;
        cadre_loader *loader = loader_of(&from, options);
        assert_int_equal(cadre_loader_batches(loader), 8);
        uint64_t hash = 0;
        for (int64_t epoch = 0; epoch < 3; epoch++) {
            assert_ok(cadre_loader_begin(loader, epoch));
            assert_int_equal(cadre_loader_consumed(loader), 0);
            assert_int_equal(drain(loader, 99, &hash), 8);
            assert_int_equal(cadre_loader_consumed(loader), 100);
        }
        if (prefetch == -1)
            expected = hash;
        assert_true(hash == expected);
        cadre_loader_free(loader);
    }
}

static void test_contents(void **state)
{
    (void)state;
    source from = {.count = 23};
    for (int last = 0; last < 2; last++)
        for (int prefetch = -1; prefetch < 1; prefetch++) {
            cadre_loader *loader =
                loader_of(&from, (cadre_loader_options){.batch_size = 4, .channels_last = last, .prefetch = prefetch});
            cadre_batch batch;
            int64_t expected = 0;
            for (int64_t k = 0; k < 6; k++) { /* without begin: epoch 0 */
                assert_ok(cadre_loader_next(loader, &batch));
                assert_int_equal(batch.number, k);
                assert_int_equal(batch.count, k < 5 ? 4 : 3);
                assert_int_equal((uintptr_t)batch.values % 64, 0);
                for (int64_t i = 0; i < batch.count; i++, expected++) {
                    assert_int_equal(batch.indices[i], expected);
                    assert_int_equal(batch.labels[i], expected % 10);
                    for (int j = 0; j < FLOATS; j++) {
                        int at = last ? j % (H * W) * C + j / (H * W) : j;
                        assert_true(batch.values[i * FLOATS + at] == (float)(expected * FLOATS + j));
                    }
                }
                assert_int_equal(cadre_loader_consumed(loader), expected);
            }
            assert_int_equal(cadre_loader_next(loader, &batch), CADRE_STOP);
            assert_int_equal(cadre_loader_next(loader, &batch), CADRE_STOP);
            assert_int_equal(cadre_loader_consumed(loader), 23);
            cadre_loader_free(loader);
        }
}

/* The samples of all ranks of any world, put together, are those of a world of one, augmentation and all. */
static void test_same_whatever_the_world(void **state)
{
    (void)state;
    enum { COUNT = 60, GLOBAL = 12 };
    source from = {.count = COUNT};
    static float expected[COUNT][FLOATS];
    static int64_t batch_of[COUNT];
    for (int world = 1; world <= 6; world = world == 4 ? 6 : world + 1) {
        int seen[COUNT] = {0};
        for (int rank = 0; rank < world; rank++) {
            cadre_loader_options options = usual;
            options.world = world;
            options.rank = rank;
            options.batch_size = GLOBAL / world;
            cadre_loader *loader = loader_of(&from, options);
            cadre_batch batch;
            assert_ok(cadre_loader_begin(loader, 4));
            while (cadre_loader_next(loader, &batch) == CADRE_OK)
                for (int64_t i = 0; i < batch.count; i++) {
                    int64_t index = batch.indices[i];
                    seen[index]++;
                    if (world == 1) {
                        memcpy(expected[index], batch.values + i * FLOATS, sizeof expected[0]);
                        batch_of[index] = batch.number;
                    }
                    assert_memory_equal(expected[index], batch.values + i * FLOATS, sizeof expected[0]);
                    assert_int_equal(batch_of[index], batch.number);
                }
            cadre_loader_free(loader);
        }
        for (int i = 0; i < COUNT; i++)
            assert_int_equal(seen[i], 1);
    }
}

/* Broken off after any number of batches and restored in a new loader: the rest is what it would have been. */
static void test_restore_at_every_position(void **state)
{
    (void)state;
    source from = {.count = 100};
    for (int explicit_begin = 0; explicit_begin < 2; explicit_begin++)
        for (int64_t cut = 0; cut <= 8; cut++) {
            uint64_t whole = 0, parts = 0;
            cadre_loader *loader = loader_of(&from, usual);
            assert_ok(cadre_loader_begin(loader, 5));
            assert_int_equal(drain(loader, 99, &whole), 8);
            cadre_loader_free(loader);

            loader = loader_of(&from, usual);
            assert_ok(cadre_loader_begin(loader, 5));
            drain(loader, cut, &parts);
            add_state(loader);
            assert_string_equal(entries.names[0], "train.epoch");
            assert_string_equal(entries.names[1], "train.consumed");
            int64_t epoch = *entries.values[0];
            int64_t consumed = *entries.values[1];
            assert_int_equal(epoch, 5);
            assert_int_equal(consumed, cut * 14 < 100 ? cut * 14 : 100); /* handed out, however many were made ahead */
            cadre_loader_free(loader);

            loader = loader_of(&from, usual);
            restore(loader, epoch, consumed);
            if (explicit_begin)
                assert_ok(cadre_loader_begin(loader, 5));
            assert_int_equal(cadre_loader_consumed(loader), consumed);
            assert_int_equal(drain(loader, 99, &parts), 8 - cut);
            assert_true(whole == parts);
            cadre_loader_free(loader);
        }
}

/* Groups that change in the middle of epochs, with batches made ahead that nobody has had: each sample once all the same. */
static void test_elastic(void **state)
{
    (void)state;
    uint64_t random = 5;
    for (int round = 0; round < 60; round++) {
        source from = {.count = 100 + round};
        int seen[200] = {0};
        int64_t consumed = 0, left = from.count;
        while (consumed < from.count) {
            random = random * 6364136223846793005u + 1442695040888963407u;
            int world = 1 + (int)(random >> 33) % 5, steps = 1 + (int)(random >> 40) % 4;
            int64_t batch_size = 1 + (int64_t)(random >> 50) % 9, next = 0;
            for (int rank = 0; rank < world; rank++) {
                cadre_loader_options options = {.batch_size = batch_size, .world = world, .rank = rank, .shuffle = true, .seed = 3, .prefetch = 1 + round % 4};
                cadre_loader *loader = loader_of(&from, options);
                cadre_batch batch;
                restore(loader, 2, consumed);
                assert_ok(cadre_loader_begin(loader, 2));
                for (int i = 0; i < steps && cadre_loader_next(loader, &batch) == CADRE_OK; i++)
                    for (int64_t k = 0; k < batch.count; k++, left--)
                        seen[batch.indices[k]]++;
                assert_true(rank == 0 || next == cadre_loader_consumed(loader));
                next = cadre_loader_consumed(loader);
                cadre_loader_free(loader);
            }
            consumed = next;
            assert_int_equal(left, from.count - consumed);
        }
        for (int64_t i = 0; i < from.count; i++)
            assert_int_equal(seen[i], 1);
    }
}

static void test_restore_and_begin(void **state)
{
    (void)state;
    source from = {.count = 100};
    uint64_t epoch6 = 0, hash = 0;
    cadre_loader *loader = loader_of(&from, usual);
    assert_ok(cadre_loader_begin(loader, 6));
    drain(loader, 99, &epoch6);
    restore(loader, 5, 100); /* at the end of epoch 5: epoch 6 is from its beginning */
    assert_ok(cadre_loader_begin(loader, 6));
    assert_int_equal(drain(loader, 99, &hash), 8);
    assert_true(hash == epoch6);
    restore(loader, 6, 28);
    assert_ok(cadre_loader_begin(loader, 6)); /* goes on */
    assert_int_equal(drain(loader, 2, &hash), 2);
    assert_int_equal(cadre_loader_consumed(loader), 56);
    assert_ok(cadre_loader_begin(loader, 6)); /* no restore since: begins anew */
    assert_int_equal(cadre_loader_consumed(loader), 0);
    hash = 0;
    drain(loader, 3, &hash);
    restore(loader, 6, 84); /* in the middle of an epoch whose thread runs */
    assert_int_equal(drain(loader, 99, &hash), 2);
    restore(loader, 6, 13); /* where another world stood: what is left, in batches of this one */
    assert_ok(cadre_loader_begin(loader, 6));
    assert_int_equal(drain(loader, 99, &hash), 7);
    restore(loader, 6, 131072);
    assert_status(cadre_loader_begin(loader, 6), CADRE_EINVAL);
    assert_message("position 131072");
    cadre_batch batch;
    assert_status(cadre_loader_next(loader, &batch), CADRE_EINVAL);
    assert_status(cadre_loader_begin(loader, -1), CADRE_EINVAL);
    assert_ok(cadre_loader_begin(loader, 7));
    assert_int_equal(drain(loader, 99, &hash), 8);
    cadre_loader_free(loader);
}

static void test_state_errors(void **state)
{
    (void)state;
    source from = {.count = 10};
    cadre_state saved = {0};
    cadre_loader *loader = loader_of(&from, usual);
    assert_status(cadre_loader_add_state(loader, NULL, "x"), CADRE_EINVAL);
    assert_status(cadre_loader_add_state(loader, &saved, NULL), CADRE_EINVAL);
    for (int at = 0; at < 2; at++) {
        memset(&entries, 0, sizeof entries);
        entries.fail_at = at;
        assert_status(cadre_loader_add_state(loader, &saved, "x"), CADRE_EEXIST);
        assert_message("already");
    }
    cadre_loader_free(loader);
}

/* The error comes where the bad sample is, after the batches before it, with the message of the thread it happened on.
 */
static void test_errors_of_get(void **state)
{
    (void)state;
    for (int prefetch = -1; prefetch < 6; prefetch++)
        for (int kind = 0; kind < 3; kind++) {
            source from = {.count = 30, .bad = 13, .answer = kind == 2 ? CADRE_STOP : CADRE_EIO, .silent = kind > 0};
            cadre_loader *loader = loader_of(&from, (cadre_loader_options){.batch_size = 4, .prefetch = prefetch});
            cadre_batch batch;
            for (int64_t k = 0; k < 3; k++) {
                assert_ok(cadre_loader_next(loader, &batch));
                assert_int_equal(batch.number, k);
            }
            for (int again = 0; again < 2; again++) {
                base_error(CADRE_OK, "something of long ago");
                assert_status(cadre_loader_next(loader, &batch), kind == 2 ? CADRE_EINVAL : CADRE_EIO);
                assert_message("sample 13: ");
                assert_message(kind == 0 ? "the disk is on fire" : kind == 1 ? "input/output error" : "answered 1");
                assert_int_equal(cadre_loader_consumed(loader), 12);
            }
            from.bad = 0; /* and it can be begun again */
            uint64_t hash = 0;
            assert_ok(cadre_loader_begin(loader, 0));
            assert_int_equal(drain(loader, 99, &hash), 8);
            cadre_loader_free(loader);
        }
}

/* Free, and begin of another epoch, wait for one get() at most; not for a batch. */
static void test_stops_promptly(void **state)
{
    (void)state;
    source from = {.count = 1000, .pause_ns = 10000000};
    for (int way = 0; way < 2; way++) {
        cadre_loader *loader = loader_of(&from, (cadre_loader_options){.batch_size = 20, .prefetch = 4});
        cadre_batch batch;
        assert_ok(cadre_loader_next(loader, &batch));
        int before = atomic_load(&from.gets);
        if (way)
            assert_ok(cadre_loader_begin(loader, 1));
        else
            cadre_loader_free(loader);
        assert_in_range(atomic_load(&from.gets) - before, 0, 5); /* not the 20 of a batch */
        if (way)
            cadre_loader_free(loader);
    }
}

/* Both sides wait asleep: the thread when the ring is full, the caller when it is empty. And no more is made than was
 * asked for. */
static void test_waits_asleep(void **state)
{
    (void)state;
    struct rusage before, last;
    source from = {.count = 1000};
    cadre_loader *loader = loader_of(&from, (cadre_loader_options){.batch_size = 10, .prefetch = 3});
    cadre_batch batch;
    assert_ok(cadre_loader_next(loader, &batch));
    for (int i = 0; i < 1000 && atomic_load(&from.gets) < 40; i++)
        base_sleep_ns(10000000);
    getrusage(RUSAGE_SELF, &before);
    base_sleep_ns(300000000);
    assert_int_equal(atomic_load(&from.gets), 40); /* one handed out, three ahead */
    cadre_loader_free(loader);
    from.pause_ns = 30000000;
    loader = loader_of(&from, (cadre_loader_options){.batch_size = 10});
    assert_ok(cadre_loader_next(loader, &batch)); /* 300 ms */
    cadre_loader_free(loader);
    getrusage(RUSAGE_SELF, &last);
    int64_t used_us =
        (last.ru_utime.tv_sec + last.ru_stime.tv_sec - before.ru_utime.tv_sec - before.ru_stime.tv_sec) * 1000000 +
        last.ru_utime.tv_usec + last.ru_stime.tv_usec - before.ru_utime.tv_usec - before.ru_stime.tv_usec;
    assert_true(used_us < 100000);
}

static int threads_of_this_process(void)
{
    int threads = 0;
    DIR *tasks = opendir("/proc/self/task");
    for (struct dirent *entry; (entry = readdir(tasks));)
        threads += entry->d_name[0] != '.';
    closedir(tasks);
    return threads;
}

/* A joined thread may be listed for a moment yet. */
static void assert_threads(int expected)
{
    for (int i = 0; i < 500 && threads_of_this_process() != expected; i++)
        base_sleep_ns(1000000);
    assert_int_equal(threads_of_this_process(), expected);
}

/* No thread before the first batch, none behind the epoch's end or an error, none at all below 0. */
static void test_threads(void **state)
{
    (void)state;
    source from = {.count = 1000};
    int at_rest = threads_of_this_process(); /* a sanitizer may have one of its own */
    for (int prefetch = -1; prefetch < 1; prefetch++) {
        cadre_loader *loader = loader_of(&from, (cadre_loader_options){.batch_size = 10, .prefetch = prefetch});
        cadre_batch batch;
        uint64_t hash = 0;
        assert_ok(cadre_loader_begin(loader, 0));
        assert_threads(at_rest);
        assert_ok(cadre_loader_next(loader, &batch));
        assert_threads(at_rest + (prefetch >= 0));
        drain(loader, 200, &hash);
        assert_threads(at_rest);
        pid_t child = fork(); /* between epochs that is fine: parent and child go on with threads of their own */
        assert_true(child >= 0);
        if (child == 0) {
            int64_t batches = 0;
            if (cadre_loader_begin(loader, 1) == CADRE_OK)
                while (cadre_loader_next(loader, &batch) == CADRE_OK)
                    batches++;
            _exit(batches == 100 ? 0 : 1);
        }
        int status;
        assert_int_equal(waitpid(child, &status, 0), child);
        assert_int_equal(status, 0);
        assert_ok(cadre_loader_begin(loader, 1));
        assert_int_equal(drain(loader, 200, &hash), 100);
        cadre_loader_free(loader);
    }
}

static void test_short_ends(void **state)
{
    (void)state;
    cadre_batch batch;
    uint64_t hash = 0;
    source from = {.count = 3};
    cadre_loader *loader = loader_of(&from, (cadre_loader_options){.batch_size = 4, .world = 5, .rank = 4});
    assert_ok(cadre_loader_next(loader, &batch)); /* lower ranks got them */
    assert_int_equal(batch.count, 0);
    assert_int_equal(cadre_loader_consumed(loader), 3);
    assert_int_equal(cadre_loader_next(loader, &batch), CADRE_STOP);
    cadre_loader_free(loader);
    loader = loader_of(&from, (cadre_loader_options){.batch_size = 4, .drop_last = true});
    assert_int_equal(cadre_loader_batches(loader), 0);
    assert_int_equal(drain(loader, 9, &hash), 0);
    cadre_loader_free(loader);
    from.count = 0;
    loader = loader_of(&from, (cadre_loader_options){0});
    assert_int_equal(drain(loader, 9, &hash), 0);
    cadre_loader_free(loader);
    cadre_loader_free(NULL);
}

static void test_options(void **state)
{
    (void)state;
    source from = {.count = 100};
    cadre_dataset good = dataset_of(&from);
    cadre_loader *loader = NULL;
    cadre_batch batch;
    assert_ok(cadre_loader_new(&good, NULL, &loader));
    assert_ok(cadre_loader_next(loader, &batch));
    assert_int_equal(batch.count, 64);
    cadre_loader_free(loader);
    struct {
        cadre_loader_options options;
        int64_t news[2];
    } newer = {.options = {.size = sizeof newer, .batch_size = 5}};
    assert_ok(cadre_loader_new(&good, &newer.options, &loader));
    cadre_loader_free(loader);
    newer.news[1] = 1;
    loader = NULL;
    assert_status(cadre_loader_new(&good, &newer.options, &loader), CADRE_EVERSION);
    cadre_loader_options older = {.size = offsetof(cadre_loader_options, rank), .batch_size = 5, .rank = 77};
    assert_ok(cadre_loader_new(&good, &older, &loader));
    cadre_loader_free(loader);
    loader = NULL;

    const cadre_loader_options bad[] = {
        {.batch_size = -1},
        {.batch_size = INT64_MAX},
        {.batch_size = INT64_MAX / 64},
        {.world = -1},
        {.rank = 1},
        {.prefetch = INT32_MAX},
        {.augment.crop_padding = -1},
        {.augment.shift = -1},
        {.augment.erase = -1},
        {.augment.rotate = -1},
        {.augment.rotate = 361},
        {.augment.noise = -1},
        {.augment.noise = 1e300},
        {.augment.fill = 1.0f / 0.0f},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_status(cadre_loader_new(&good, &bad[i], &loader), CADRE_EINVAL);
    cadre_dataset wrong = good;
    wrong.get = NULL;
    assert_status(cadre_loader_new(&wrong, NULL, &loader), CADRE_EINVAL);
    wrong = good;
    wrong.height = 0;
    assert_status(cadre_loader_new(&wrong, NULL, &loader), CADRE_EINVAL);
    wrong.channels = wrong.height = wrong.width = INT32_MAX;
    assert_status(cadre_loader_new(&wrong, NULL, &loader), CADRE_EINVAL);
    assert_status(cadre_loader_new(NULL, NULL, &loader), CADRE_EINVAL);
    from.count = -1;
    assert_status(cadre_loader_new(&good, NULL, &loader), CADRE_EINVAL);
    assert_null(loader);
}

/* Each allocation fails once, at the start and on the thread that shuffles. */
static void test_no_memory(void **state)
{
    (void)state;
    source from = {.count = 100};
    cadre_dataset dataset = dataset_of(&from);
    int status = CADRE_ENOMEM;
    int failures = 0;
    for (int n = 1; status != CADRE_OK; n++) {
        char fault[32];
        cadre_loader *loader = NULL;
        cadre_batch batch;
        snprintf(fault, sizeof fault, "alloc:%d", n);
        base_fault_set(fault);
        status = cadre_loader_new(&dataset, &usual, &loader);
        if (status == CADRE_OK)
            status = cadre_loader_next(loader, &batch);
        cadre_loader_free(loader);
        base_fault_set(NULL);
        assert_true(status == CADRE_OK || status == CADRE_ENOMEM);
        failures += status != CADRE_OK;
        assert_true(n < 100);
    }
    assert_int_equal(failures, 4 + 3 * 3 + 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_same_whatever_the_depth),
        cmocka_unit_test(test_contents),
        cmocka_unit_test(test_same_whatever_the_world),
        cmocka_unit_test(test_restore_at_every_position),
        cmocka_unit_test(test_elastic), cmocka_unit_test(test_restore_and_begin),
        cmocka_unit_test(test_state_errors),
        cmocka_unit_test(test_errors_of_get),
        cmocka_unit_test(test_stops_promptly),
        cmocka_unit_test(test_waits_asleep),
        cmocka_unit_test(test_threads),
        cmocka_unit_test(test_short_ends),
        cmocka_unit_test(test_options),
        cmocka_unit_test(test_no_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
