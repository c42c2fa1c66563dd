/* Sharded checkpoints: each rank writes its share, any number of ranks reads them, and nobody sees half of one. */
#include "test_state.h"

#include "base/fault.h"
#include "base/io.h"
#include "base/mem.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mount.h>
#include <sys/wait.h>
#include <unistd.h>

enum { MOST = 4, ATTEMPT = 3 };

/* One rank's part, as its process does it. */
static int write_share(const char *path, cadre_state *state, int rank, int world, state_snapshot **snapshot, checkpoint_file *file)
{
    void *locals = malloc(state_local_nbytes(state) + 1);
    assert_non_null(locals);
    int status = state_pack_local(state, locals);
    if (status == CADRE_OK)
        status = state_snapshot_take_share(state, rank, world, snapshot);
    if (status == CADRE_OK)
        status = checkpoint_shard_write(path, ATTEMPT, *snapshot, locals, file);
    free(locals);
    return status;
}

static int write_shards(const char *path, cadre_state *const *states, int world, cadre_checkpoint_info *info)
{
    state_snapshot *snapshots[MOST] = {NULL};
    checkpoint_file files[MOST];
    cadre_checkpoint_info meta = {.report = 12, .attempt = ATTEMPT};
    int status = CADRE_OK;
    for (int rank = world - 1; status == CADRE_OK && rank >= 0; rank--)
        status = write_share(path, states[rank], rank, world, &snapshots[rank], &files[rank]);
    if (status == CADRE_OK)
        status = checkpoint_shards_commit(path, snapshots[0], files, &meta, info);
    for (int rank = 0; rank < world; rank++)
        state_snapshot_free(snapshots[rank]);
    return status;
}

static void save_programs(const char *path, test_program *programs, int world, cadre_checkpoint_info *info)
{
    cadre_state *states[MOST];
    for (int rank = 0; rank < world; rank++)
        states[rank] = programs[rank].state;
    assert_ok(write_shards(path, states, world, info));
}

static void any_group_reads_what_any_wrote(void **state)
{
    (void)state;
    for (int wrote = 1; wrote <= MOST; wrote++) {
        test_program saved[MOST];
        cadre_checkpoint_info written = {0}, read;
        char path[32];
        snprintf(path, sizeof path, "by-%d", wrote);
        for (int rank = 0; rank < MOST; rank++)
            test_program_init(&saved[rank], 5, rank);
        save_programs(path, saved, wrote, &written);
        assert_int_equal(test_entries_of(path), wrote + 2);
        assert_ok(cadre_checkpoint_verify(path, &read));
        assert_memory_equal(&read, &written, sizeof read);
        assert_true(read.world == wrote && read.report == 12 && read.attempt == ATTEMPT);
        for (int world = 1; world <= MOST; world++)
            for (int rank = 0; rank < world; rank++) {
                test_program loaded;
                test_program_init(&loaded, 9, rank);
                assert_ok(checkpoint_restore(path, loaded.state, rank, world, &read));
                if (rank < wrote) {
                    assert_true(test_program_equal(&loaded, &saved[rank]));
                } else { /* a rank that was not there keeps what is its own */
                    memcpy(saved[rank].own, loaded.own, sizeof loaded.own);
                    memcpy(saved[rank].own_behind, loaded.own_behind, sizeof loaded.own_behind);
                    assert_true(test_program_equal(&loaded, &saved[rank]));
                    assert_int_equal(loaded.own[0], (uint8_t)(9 + 100 * rank));
                }
                test_program_free(&loaded);
            }
        for (int rank = 0; rank < MOST; rank++)
            test_program_free(&saved[rank]);
    }
}

/* ---- one array in shards ---- */

enum { LONGEST = 700 };

static size_t shard_nbytes(size_t length, int world)
{
    size_t align = CADRE_STATE_SHARD_ALIGN * (size_t)world;
    return (length + align - 1) / align * CADRE_STATE_SHARD_ALIGN;
}

static int save_bytes(void *user, void *buffer, size_t nbytes)
{
    memcpy(buffer, user, nbytes);
    return CADRE_OK;
}

static int load_bytes(void *user, const void *buffer, size_t nbytes)
{
    memcpy(user, buffer, nbytes);
    return CADRE_OK;
}

static cadre_state *state_of_shard(unsigned char *shard, size_t nbytes)
{
    cadre_state *state;
    assert_ok(cadre_state_new(&state));
    const cadre_state_source source = {.save = save_bytes, .load = load_bytes, .user = shard};
    assert_ok(cadre_state_add_shard_source(state, "moment", nbytes, &source));
    return state;
}

/* Each rank writing its share, or rank 0 all. */
static void save_array(const char *path, cadre_state *const *states, int world, bool shares)
{
    if (shares) {
        assert_ok(write_shards(path, states, world, NULL));
        return;
    }
    size_t nbytes = state_local_nbytes(states[0]);
    unsigned char *locals = calloc((size_t)world, nbytes + 1);
    state_snapshot *snapshot = NULL;
    cadre_checkpoint_info meta = {.report = 12, .attempt = ATTEMPT};
    assert_non_null(locals);
    for (int rank = 0; rank < world; rank++)
        assert_ok(state_pack_local(states[rank], locals + (size_t)rank * nbytes));
    assert_ok(state_snapshot_take(states[0], &snapshot));
    assert_ok(checkpoint_write(path, snapshot, locals, world, &meta, NULL));
    state_snapshot_free(snapshot);
    free(locals);
}

static void reads_its_shards(const char *path, const unsigned char *array, size_t length)
{
    for (int world = 1; world <= MOST; world++)
        for (int rank = 0; rank < world; rank++) {
            size_t nbytes = shard_nbytes(length, world);
            unsigned char shard[LONGEST + CADRE_STATE_SHARD_ALIGN];
            memset(shard, 0xee, sizeof shard);
            cadre_state *state = state_of_shard(shard, nbytes);
            assert_ok(checkpoint_restore(path, state, rank, world, NULL));
            for (size_t i = 0, at = (size_t)rank * nbytes; i < nbytes; i++, at++)
                assert_int_equal(shard[i], at < length ? array[at] : 0);
            assert_int_equal(shard[nbytes], 0xee);
            cadre_state_free(state);
        }
}

static void shards_of_an_array_come_back_to_any_group(void **state)
{
    static const size_t lengths[] = {0, 1, 64, 65, 256, 300, LONGEST};
    (void)state;
    for (int i = 0; i < 2 * (int)(sizeof lengths / sizeof *lengths); i++)
        for (int wrote = 1; wrote <= MOST; wrote++) {
            size_t length = lengths[i / 2], nbytes = shard_nbytes(length, wrote);
            unsigned char array[2 * LONGEST] = {0};
            cadre_state *states[MOST];
            char path[48];
            for (size_t k = 0; k < length; k++)
                array[k] = (unsigned char)(1 + k % 251);
            snprintf(path, sizeof path, "array-%d-%d", i, wrote);
            for (int rank = 0; rank < wrote; rank++)
                states[rank] = state_of_shard(array + (size_t)rank * nbytes, nbytes);
            save_array(path, states, wrote, i % 2);
            reads_its_shards(path, array, length);
            for (int rank = 0; rank < wrote; rank++)
                cadre_state_free(states[rank]);
        }
}

static void shards_of_another_length_are_refused(void **state)
{
    unsigned char shard[2 * LONGEST] = {0};
    cadre_state *saved[2] = {state_of_shard(shard, 256), state_of_shard(shard, 256)};
    (void)state;
    save_array("another", saved, 2, true); /* of 385 to 512 bytes */
    for (size_t nbytes = 64; nbytes <= 640; nbytes += 64) {
        cadre_state *other = state_of_shard(shard, nbytes);
        if (nbytes == 448 || nbytes == 512) {
            assert_ok(checkpoint_restore("another", other, 0, 1, NULL));
        } else {
            assert_int_equal(checkpoint_restore("another", other, 0, 1, NULL), CADRE_EMISMATCH);
            assert_message_has("\"moment\" is in shards of 256 bytes on 2 ranks there and of ");
        }
        cadre_state_free(other);
    }
    const cadre_state_source source = {.save = save_bytes, .load = load_bytes, .user = shard};
    assert_int_equal(cadre_state_add_shard_source(saved[0], "uneven", 100, &source), CADRE_EINVAL);
    assert_message_has("a shard of 100 bytes is no multiple of 64");
    state_set_rows(saved[0], 2);
    assert_int_equal(checkpoint_restore("another", saved[0], 0, 1, NULL), CADRE_ENOTSUP);
    cadre_state_free(saved[0]);
    cadre_state_free(saved[1]);
}

/* Four logical workers as 1, 2 and 4 processes. */
static void rows_follow_the_logical_workers(void **state)
{
    (void)state;
    for (int wrote = 1; wrote <= MOST; wrote *= 2) {
        uint8_t rows[MOST][3], weight[16] = {1, 2, 3};
        cadre_state *states[MOST];
        char path[32];
        snprintf(path, sizeof path, "logical-%d", wrote);
        for (int i = 0; i < MOST * 3; i++)
            rows[i / 3][i % 3] = (uint8_t)(40 + i);
        for (int rank = 0; rank < wrote; rank++) {
            assert_ok(cadre_state_new(&states[rank]));
            state_set_rows(states[rank], MOST / wrote);
            assert_ok(cadre_state_add_tensor(states[rank], "weight", CADRE_STATE_U8, 1, (int64_t[]){16}, weight));
            assert_ok(cadre_state_add_local(states[rank], "rng", rows[rank * MOST / wrote], sizeof rows / (size_t)wrote));
        }
        assert_ok(write_shards(path, states, wrote, NULL));
        for (int world = 1; world <= MOST; world *= 2)
            for (int rank = 0; rank < world; rank++) {
                uint8_t own[MOST * 3] = {0}, loaded[16] = {0};
                size_t nbytes = sizeof own / (size_t)world;
                cadre_state *reader;
                assert_ok(cadre_state_new(&reader));
                state_set_rows(reader, MOST / world);
                assert_ok(cadre_state_add_local(reader, "rng", own, nbytes));
                assert_ok(cadre_state_add_tensor(reader, "weight", CADRE_STATE_U8, 1, (int64_t[]){16}, loaded));
                assert_ok(checkpoint_restore(path, reader, rank, world, NULL));
                assert_memory_equal(own, (uint8_t *)rows + (size_t)rank * nbytes, nbytes);
                assert_memory_equal(loaded, weight, sizeof weight);
                cadre_state_free(reader);
            }
        for (int rank = 0; rank < wrote; rank++)
            cadre_state_free(states[rank]);
    }
}

/* No rank has more than an even share and the largest tensor; each tensor is somebody's; a copy holds the share alone. */
static void shares_are_even(void **state)
{
    (void)state;
    static uint8_t memory[5000];
    static const int64_t sizes[] = {5000, 10, 700, 700, 2000, 1, 0, 900, 900, 3000, 450};
    enum { COUNT = sizeof sizes / sizeof *sizes };
    cadre_state *s;
    assert_ok(cadre_state_new(&s));
    size_t total = 0;
    for (int i = 0; i < COUNT; i++) {
        char name[8];
        snprintf(name, sizeof name, "t%d", i);
        assert_ok(cadre_state_add_tensor(s, name, CADRE_STATE_U8, 1, &sizes[i], memory));
        total += (size_t)sizes[i];
    }
    for (int world = 1; world <= 16; world++) {
        size_t sum = 0;
        int owner[COUNT] = {0};
        for (int rank = 0; rank < world; rank++) {
            state_snapshot *snapshot = NULL;
            assert_ok(state_snapshot_take_share(s, rank, world, &snapshot));
            sum += snapshot->nbytes;
            assert_true(snapshot->capacity == snapshot->nbytes);
            assert_true(snapshot->nbytes <= total / (size_t)world + 5000);
            for (int i = 0; i < COUNT; i++) {
                assert_true(rank == 0 || owner[i] == snapshot->entries[i].shard);
                owner[i] = snapshot->entries[i].shard;
                assert_true((snapshot->entries[i].data != NULL) == (owner[i] == rank));
            }
            state_snapshot_free(snapshot);
        }
        assert_int_equal(sum, total);
    }
    state_snapshot *snapshot = NULL;
    assert_int_equal(state_snapshot_take_share(s, 2, 2, &snapshot), CADRE_EINVAL);
    assert_null(snapshot);
    cadre_state_free(s);
}

/* ---- damage ------------------------------------------------------------------------------------------------------------------------- */

static const char *const files[] = {"state-00001-of-00002.safetensors", "state-00002-of-00002.safetensors", "state.safetensors.index.json", "state.json"};

static void assert_refused(const char *file)
{
    test_program other;
    test_program_init(&other, 2, 0);
    test_program before = other;
    assert_int_equal(cadre_checkpoint_verify("d/c", NULL), CADRE_ECORRUPT);
    assert_message_has("checkpoint d/c: ");
    assert_message_has(file);
    assert_int_equal(cadre_checkpoint_load("d/c", other.state), CADRE_ECORRUPT);
    assert_true(test_program_equal(&other, &before));
    test_program_free(&other);
}

static void a_missing_or_altered_file_is_named(void **state)
{
    (void)state;
    test_program programs[2];
    for (int rank = 0; rank < 2; rank++)
        test_program_init(&programs[rank], 1, rank);
    save_programs("d/c", programs, 2, NULL);
    for (size_t i = 0; i < 4; i++) {
        char path[64];
        size_t nbytes;
        snprintf(path, sizeof path, "d/c/%s", files[i]);
        unsigned char *bytes = test_slurp(path, &nbytes);
        assert_int_equal(unlink(path), 0);
        assert_refused(files[i]);
        for (size_t at = 0; at < nbytes; at += 11) {
            bytes[at] ^= 0x10;
            test_spit(path, bytes, nbytes);
            assert_refused(files[i]);
            bytes[at] ^= 0x10;
        }
        for (size_t length = 0; length < nbytes; length += 101) {
            test_spit(path, bytes, length);
            assert_refused(files[i]);
        }
        test_spit(path, bytes, nbytes);
        assert_ok(cadre_checkpoint_verify("d/c", NULL));
        free(bytes);
    }
    assert_int_equal(rename("d/c/state-00001-of-00002.safetensors", "d/kept"), 0); /* in each other's place */
    assert_int_equal(rename("d/c/state-00002-of-00002.safetensors", "d/c/state-00001-of-00002.safetensors"), 0);
    assert_int_equal(rename("d/kept", "d/c/state-00002-of-00002.safetensors"), 0);
    assert_refused(files[0]);
    for (int rank = 0; rank < 2; rank++)
        test_program_free(&programs[rank]);
}

/* ---- writers that fail or die -------------------------------------------------------------------------------------------------------- */

static void a_failed_share_leaves_nothing_of_itself(void **state)
{
    (void)state;
    static const char *const points[] = {"alloc", "open", "write", "fsync", "mkdir", "checkpoint_write", "checkpoint_shard"};
    static const char *const actions[] = {"fail", "enospc", "short"};
    test_program program;
    test_program_init(&program, 1, 1);
    assert_ok(base_mkdirs("share", 0700));
    json_set_alloc_funcs(base_malloc, free);
    for (size_t point = 0; point < sizeof points / sizeof *points; point++)
        for (size_t action = 0; action < 3; action++) {
            int n = 1;
            for (;; n++) {
                char spec[64];
                state_snapshot *snapshot = NULL;
                checkpoint_file file = {.nbytes = 99};
                snprintf(spec, sizeof spec, "%s:%d:%s", points[point], n, actions[action]);
                base_fault_set(spec);
                int status = write_share("share/c", program.state, 1, 2, &snapshot, &file);
                base_fault_set(NULL);
                state_snapshot_free(snapshot);
                if (status == CADRE_OK)
                    break;
                assert_false(base_exists("share/c.tmp-3/state-00002-of-00002.safetensors"));
                assert_int_equal(file.nbytes, 99);
                if (status == CADRE_ENOSPC)
                    assert_string_equal(cadre_error_message(), "checkpoint share/c: no space left: free some or lower checkpoint.keep");
                assert_true(n < 2000);
            }
            assert_true(n > 1);
            assert_true(base_exists("share/c.tmp-3/state-00002-of-00002.safetensors"));
            assert_ok(checkpoint_shards_drop("share/c", ATTEMPT));
            assert_int_equal(test_entries_of("share"), 0);
        }
    json_set_alloc_funcs(malloc, free);
    test_program_free(&program);
}

static void a_failed_commit_can_be_made_again(void **state)
{
    (void)state;
    static const char *const points[] = {"alloc", "open", "write", "fsync", "rename", "checkpoint_commit", "checkpoint_renamed"};
    static const char *const actions[] = {"fail", "enospc", "short"};
    test_program programs[2];
    state_snapshot *snapshots[2] = {NULL};
    checkpoint_file written[2];
    cadre_checkpoint_info meta = {.attempt = ATTEMPT}, info;
    for (int rank = 0; rank < 2; rank++)
        test_program_init(&programs[rank], 1, rank);
    assert_ok(base_mkdirs("commit", 0700));
    json_set_alloc_funcs(base_malloc, free);
    for (size_t point = 0; point < sizeof points / sizeof *points; point++)
        for (size_t action = 0; action < 3; action++) {
            int n = 1;
            for (int rank = 0; rank < 2; rank++)
                assert_ok(write_share("commit/c", programs[rank].state, rank, 2, &snapshots[rank], &written[rank]));
            for (;; n++) {
                char spec[64];
                snprintf(spec, sizeof spec, "%s:%d:%s", points[point], n, actions[action]);
                base_fault_set(spec);
                int status = checkpoint_shards_commit("commit/c", snapshots[0], written, &meta, &info);
                base_fault_set(NULL);
                if (status == CADRE_OK)
                    break;
                assert_int_equal(test_entries_of("commit"), 1);
                assert_int_equal(test_entries_of("commit/c.tmp-3"), 2);
                assert_true(n < 2000);
            }
            assert_true(n > 1);
            assert_ok(cadre_checkpoint_verify("commit/c", NULL));
            assert_int_equal(test_entries_of("commit"), 1);
            assert_ok(base_remove_tree("commit/c"));
        }
    json_set_alloc_funcs(malloc, free);
    for (int rank = 0; rank < 2; rank++) {
        state_snapshot_free(snapshots[rank]);
        test_program_free(&programs[rank]);
    }
}

static void what_does_not_fit_is_refused(void **state)
{
    (void)state;
    test_program programs[2];
    state_snapshot *snapshots[2] = {NULL};
    checkpoint_file written[2];
    cadre_checkpoint_info meta = {.attempt = ATTEMPT};
    uint8_t one = 1;
    for (int rank = 0; rank < 2; rank++) {
        test_program_init(&programs[rank], 1, rank);
        assert_ok(write_share("fit/c", programs[rank].state, rank, 2, &snapshots[rank], &written[rank]));
    }
    written[1].nbytes--; /* what rank 1 says it wrote is not what is there */
    assert_int_equal(checkpoint_shards_commit("fit/c", snapshots[0], written, &meta, NULL), CADRE_EIO);
    assert_message_has("state-00002-of-00002.safetensors, which rank 1 wrote, is not there");
    written[1].nbytes++;
    assert_ok(base_mkdirs("fit/c", 0700));
    assert_int_equal(checkpoint_shards_commit("fit/c", snapshots[0], written, &meta, NULL), CADRE_EEXIST);
    assert_ok(base_remove_tree("fit/c"));
    assert_int_equal(checkpoint_shard_write("fit/c", ATTEMPT, snapshots[1], NULL, &written[1]), CADRE_EEXIST);
    assert_ok(checkpoint_shards_drop("fit/c", ATTEMPT));
    for (int rank = 0; rank < 2; rank++) { /* the name of a row */
        assert_ok(cadre_state_add_tensor(programs[rank].state, "own[1]", CADRE_STATE_U8, 1, (int64_t[]){1}, &one));
        assert_ok(write_share("fit/c", programs[rank].state, rank, 2, &snapshots[rank], &written[rank]));
    }
    assert_int_equal(checkpoint_shards_commit("fit/c", snapshots[0], written, &meta, NULL), CADRE_EINVAL);
    assert_message_has("two tensors are called \"own[1]\"");
    state_snapshot *whole = NULL;
    assert_ok(state_snapshot_take(programs[0].state, &whole));
    assert_int_equal(checkpoint_shard_write("fit/c", ATTEMPT, whole, NULL, &written[0]), CADRE_EINVAL);
    assert_int_equal(checkpoint_write("fit/c", snapshots[0], NULL, 1, NULL, NULL), CADRE_EINVAL);
    state_snapshot_free(whole);
    for (int rank = 0; rank < 2; rank++) {
        state_snapshot_free(snapshots[rank]);
        test_program_free(&programs[rank]);
    }
}

/* Rank `struck` of two dies at the point; rank 0, if it lives, is not told that the other is down. */
static void die_at(const char *spec, int struck, test_program *programs)
{
    for (int rank = 1; rank >= 0; rank--) {
        pid_t child = fork();
        if (child == 0) {
            state_snapshot *snapshot = NULL, *own = NULL;
            checkpoint_file written[2];
            cadre_checkpoint_info meta = {.attempt = ATTEMPT};
            base_fault_set(rank == struck ? spec : NULL);
            int status = write_share("die/c", programs[rank].state, rank, 2, &own, &written[rank]);
            if (rank == 0 && struck == 0 && status == CADRE_OK) { /* rank 1 has written the same in its process */
                base_fault_set(NULL);
                status = write_share("die/other", programs[1].state, 1, 2, &snapshot, &written[1]);
                base_fault_set(spec);
                checkpoint_shards_commit("die/c", own, written, &meta, NULL);
            }
            _exit(status != CADRE_OK);
        }
        int status = 0;
        assert_int_equal(waitpid(child, &status, 0), child);
        assert_true(rank == struck ? WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL : WIFEXITED(status) && WEXITSTATUS(status) == 0);
    }
}

static void a_dead_rank_leaves_the_former_as_the_last(void **state)
{
    (void)state;
    static const char *const shares[] = {"checkpoint_write:1:kill", "write:1:kill", "fsync:1:kill", "open:1:kill", "checkpoint_shard:1:kill"};
    static const char *const commits[] = {"checkpoint_commit:1:kill", "write:1:kill", "write:2:kill", "fsync:1:kill", "fsync:2:kill", "fsync:3:kill", "rename:1:kill"};
    test_program programs[2];
    for (int rank = 0; rank < 2; rank++)
        test_program_init(&programs[rank], 1, rank);
    assert_ok(base_mkdirs("die", 0700));
    for (size_t i = 0; i < sizeof shares / sizeof *shares + sizeof commits / sizeof *commits; i++)
        for (int struck = 0; struck < (i < 5 ? 2 : 1); struck++) {
            die_at(i < 5 ? shares[i] : commits[i - 5], struck, programs);
            assert_false(base_exists("die/c"));
            assert_true(base_exists("die/c.tmp-3"));
            assert_ok(checkpoint_sweep("die"));
            assert_int_equal(test_entries_of("die"), 0);
        }
    die_at("checkpoint_renamed:1:kill", 0, programs);
    assert_ok(cadre_checkpoint_verify("die/c", NULL));
    for (int rank = 0; rank < 2; rank++)
        test_program_free(&programs[rank]);
}

static void a_full_disk_is_named(void **state)
{
    (void)state;
    static unsigned char large[2][100000];
    assert_ok(base_mkdirs("small", 0700));
    if (!test_mount_small("small"))
        skip();
    cadre_state *s;
    state_snapshot *snapshots[2] = {NULL};
    checkpoint_file written[2];
    assert_ok(cadre_state_new(&s));
    for (int i = 0; i < 2; i++)
        assert_ok(cadre_state_add_tensor(s, i ? "b" : "a", CADRE_STATE_U8, 1, (int64_t[]){sizeof large[i]}, large[i]));
    assert_ok(write_share("small/c", s, 0, 2, &snapshots[0], &written[0]));
    assert_int_equal(write_share("small/c", s, 1, 2, &snapshots[1], &written[1]), CADRE_ENOSPC);
    assert_string_equal(cadre_error_message(), "checkpoint small/c: no space left: free some or lower checkpoint.keep");
    assert_int_equal(test_entries_of("small/c.tmp-3"), 1);
    assert_ok(checkpoint_shards_drop("small/c", ATTEMPT));
    assert_int_equal(test_entries_of("small"), 0);
    for (int rank = 0; rank < 2; rank++)
        state_snapshot_free(snapshots[rank]);
    cadre_state_free(s);
    assert_int_equal(umount("small"), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(any_group_reads_what_any_wrote),
        cmocka_unit_test(rows_follow_the_logical_workers),
        cmocka_unit_test(shards_of_an_array_come_back_to_any_group),
        cmocka_unit_test(shards_of_another_length_are_refused),
        cmocka_unit_test(shares_are_even),
        cmocka_unit_test(a_missing_or_altered_file_is_named),
        cmocka_unit_test(a_failed_share_leaves_nothing_of_itself),
        cmocka_unit_test(a_failed_commit_can_be_made_again),
        cmocka_unit_test(what_does_not_fit_is_refused),
        cmocka_unit_test(a_dead_rank_leaves_the_former_as_the_last),
        cmocka_unit_test(a_full_disk_is_named),
    };
    return cmocka_run_group_tests(tests, test_enter_folder, test_leave_folder);
}
