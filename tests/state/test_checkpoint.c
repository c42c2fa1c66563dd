/* Saving and restoring: what comes back, to whom, and what does not fit. */
#include "test_state.h"

#include "base/io.h"
#include "cadre/log.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

static void everything_comes_back_bit_for_bit(void **state)
{
    (void)state;
    test_program saved, loaded;
    cadre_checkpoint_info info;
    test_program_init(&saved, 1, 0);
    test_program_init(&loaded, 2, 0);
    assert_false(test_program_equal(&saved, &loaded));
    assert_ok(cadre_checkpoint_save("new/deep//one/", saved.state));
    assert_ok(cadre_checkpoint_verify("new/deep/one", &info));
    assert_true(info.epoch == 4 && info.step == INT64_MAX - 1 && info.world == 1 && info.report == 0);
    assert_int_equal(strlen(info.hash), 32);
    struct stat tensors, record;
    assert_int_equal(stat("new/deep/one/state.safetensors", &tensors), 0);
    assert_int_equal(stat("new/deep/one/state.json", &record), 0);
    assert_int_equal(info.nbytes, tensors.st_size + record.st_size);
    assert_int_equal(test_entries_of("new/deep/one"), 2);
    assert_int_equal(test_entries_of("new/deep"), 1);
    assert_ok(cadre_checkpoint_load("new/deep/one/", loaded.state));
    assert_true(test_program_equal(&saved, &loaded));
    test_program_free(&saved);
    test_program_free(&loaded);
}

static void a_state_without_entries_has_its_counters(void **state)
{
    (void)state;
    cadre_state *s, *back;
    assert_ok(cadre_state_new(&s));
    assert_ok(cadre_state_new(&back));
    s->epoch = 7;
    s->step = -1;
    assert_ok(cadre_checkpoint_save("bare", s));
    assert_ok(cadre_checkpoint_load("bare", back));
    assert_true(back->epoch == 7 && back->step == -1);
    cadre_state_free(s);
    cadre_state_free(back);
}

/* Any double, through JSON: random bits meet NaNs, infinities and numbers below the normal ones. */
static void doubles_keep_their_bits(void **state)
{
    (void)state;
    enum { N = 2000 };
    double *values = calloc(N, sizeof *values), *kept = calloc(N, sizeof *kept);
    assert_true(values && kept);
    cadre_state *s;
    assert_ok(cadre_state_new(&s));
    uint64_t bits = 88172645463325252u;
    static const uint64_t odd[] = {0,
                                   1,
                                   0x8000000000000000,
                                   0x7ff0000000000000,
                                   0xfff0000000000000,
                                   0x7ff8000000000000,
                                   0x7ff0000000000001,
                                   0xffffffffffffffff,
                                   0x7fefffffffffffff,
                                   0x000fffffffffffff};
    for (int i = 0; i < N; i++) {
        char name[16];
        bits ^= bits << 13, bits ^= bits >> 7, bits ^= bits << 17;
        uint64_t value = i < 10  ? odd[i]
                         : i % 3 ? bits
                                 : (bits & 0x800fffffffffffff) | (i % 2 ? 0x7ff0000000000000 : 0);
        memcpy(&values[i], &value, sizeof value);
        snprintf(name, sizeof name, "d%d", i);
        assert_ok(cadre_state_add_double(s, name, &values[i]));
    }
    memcpy(kept, values, N * sizeof *kept);
    assert_ok(cadre_checkpoint_save("doubles", s));
    memset(values, 0, N * sizeof *values);
    assert_ok(cadre_checkpoint_load("doubles", s));
    assert_memory_equal(values, kept, N * sizeof *kept);
    cadre_state_free(s);
    free(values);
    free(kept);
}

/* Save `saved` programs' state as a group of that many ranks. */
static void save_group(const char *path, test_program *programs, int world, cadre_checkpoint_info *info)
{
    size_t nbytes = state_local_nbytes(programs[0].state);
    unsigned char *locals = calloc((size_t)world, nbytes);
    state_snapshot *snapshot = NULL;
    cadre_checkpoint_info meta = {.report = 12, .attempt = 3, .epoch = -99, .world = -99};
    assert_non_null(locals);
    for (int rank = 0; rank < world; rank++)
        assert_ok(state_pack_local(programs[rank].state, locals + (size_t)rank * nbytes));
    assert_ok(state_snapshot_take(programs[0].state, &snapshot));
    assert_ok(checkpoint_write(path, snapshot, locals, world, &meta, info));
    state_snapshot_free(snapshot);
    free(locals);
}

static int log_lines;

static void count_line(cadre_log_level level, const char *room, const char *line, void *user)
{
    (void)room, (void)user;
    log_lines += level == CADRE_LOG_WARN && strstr(line, "keeps its own local entries");
}

static void each_rank_gets_its_own_back(void **state)
{
    (void)state;
    for (int saved_world = 1; saved_world <= 4; saved_world++) {
        test_program saved[4];
        cadre_checkpoint_info written, read;
        char path[32];
        snprintf(path, sizeof path, "world-%d", saved_world);
        for (int rank = 0; rank < 4; rank++)
            test_program_init(&saved[rank], 5, rank);
        save_group(path, saved, saved_world, &written);
        for (int world = 1; world <= 4; world++)
            for (int rank = 0; rank < world; rank++) {
                test_program loaded, fresh;
                test_program_init(&loaded, 9, rank);
                test_program_init(&fresh, 9, rank);
                log_lines = 0;
                cadre_log_set(count_line, NULL, CADRE_LOG_INFO);
                assert_ok(checkpoint_restore(path, loaded.state, rank, world, &read));
                cadre_log_set(NULL, NULL, CADRE_LOG_INFO);
                assert_memory_equal(&read, &written, sizeof read);
                assert_true(read.report == 12 && read.attempt == 3 && read.world == saved_world && read.epoch == 8);
                const test_program *owner = rank < saved_world ? &saved[rank] : &fresh;
                assert_int_equal(log_lines, rank < saved_world ? 0 : 1);
                assert_memory_equal(loaded.own, owner->own, sizeof loaded.own);
                assert_memory_equal(loaded.own_behind, owner->own_behind, sizeof loaded.own_behind);
                assert_memory_equal(loaded.f64, saved[0].f64, sizeof loaded.f64);
                test_program_free(&loaded);
                test_program_free(&fresh);
            }
        for (int rank = 0; rank < 4; rank++)
            test_program_free(&saved[rank]);
    }
}

static void what_is_there_is_not_overwritten(void **state)
{
    (void)state;
    test_program p;
    test_program_init(&p, 1, 0);
    assert_ok(cadre_checkpoint_save("taken", p.state));
    assert_int_equal(cadre_checkpoint_save("taken", p.state), CADRE_EEXIST);
    assert_message_has("checkpoint taken: ");
    assert_ok(base_mkdirs("empty", 0700));
    assert_int_equal(cadre_checkpoint_save("empty", p.state), CADRE_EEXIST);
    assert_int_equal(symlink("nowhere", "link"), 0);
    assert_int_equal(cadre_checkpoint_save("link", p.state), CADRE_EEXIST);
    assert_int_equal(cadre_checkpoint_save("taken/state.json/under", p.state), CADRE_ENOENT);
    assert_int_equal(cadre_checkpoint_save("", p.state), CADRE_EINVAL);
    assert_int_equal(cadre_checkpoint_save(NULL, p.state), CADRE_EINVAL);
    assert_int_equal(cadre_checkpoint_save("x", NULL), CADRE_EINVAL);
    assert_int_equal(checkpoint_write("x", NULL, NULL, 1, NULL, NULL), CADRE_EINVAL);
    state_snapshot *snapshot = NULL;
    assert_ok(state_snapshot_take(p.state, &snapshot));
    assert_int_equal(checkpoint_write("x", snapshot, NULL, 1, NULL, NULL), CADRE_EINVAL);
    assert_message_has("\"own\"");
    assert_int_equal(checkpoint_write("x", snapshot, NULL, 0, NULL, NULL), CADRE_EINVAL);
    assert_int_equal(test_entries_of("x"), -1);
    state_snapshot_free(snapshot);
    test_program_free(&p);
}

static void what_is_not_there_is_said(void **state)
{
    (void)state;
    cadre_checkpoint_info info = {.epoch = 77};
    test_program p;
    test_program_init(&p, 1, 0);
    assert_int_equal(cadre_checkpoint_verify("no/such", &info), CADRE_ENOENT);
    assert_message_has("checkpoint no/such: ");
    assert_int_equal(cadre_checkpoint_verify(NULL, &info), CADRE_EINVAL);
    assert_ok(base_mkdirs("hollow", 0700));
    assert_int_equal(cadre_checkpoint_verify("hollow", &info), CADRE_ECORRUPT);
    test_spit("file", "x", 1);
    assert_int_equal(cadre_checkpoint_verify("file", &info), CADRE_ECORRUPT);
    assert_int_equal(cadre_checkpoint_load("no/such", p.state), CADRE_ENOENT);
    assert_int_equal(cadre_checkpoint_load("no/such", NULL), CADRE_EINVAL);
    assert_int_equal(checkpoint_restore("no/such", p.state, 1, 1, NULL), CADRE_EINVAL);
    assert_int_equal(info.epoch, 77);
    test_program_free(&p);
}

/* One thing about the state is other than in the checkpoint. */
static int add_misfit(cadre_state *s, int which, void *memory)
{
    static const int64_t shape[] = {2, 3}, turned[] = {3, 2};
    switch (which) {
    case 0:
        return cadre_state_add_tensor(s, "fresh", CADRE_STATE_F32, 2, shape, memory);
    case 1:
        return cadre_state_add_tensor(s, "weight", CADRE_STATE_F32, 2, turned, memory);
    case 2:
        return cadre_state_add_tensor(s, "weight", CADRE_STATE_I32, 2, shape, memory);
    case 3:
        return cadre_state_add_tensor(s, "weight", CADRE_STATE_F32, 1, (int64_t[]){6}, memory);
    case 4:
        return cadre_state_add_tensor(s, "own", CADRE_STATE_U8, 2, (int64_t[]){1, 4}, memory);
    case 5:
        return cadre_state_add_local(s, "own", memory, 5);
    case 6:
        return cadre_state_add_local(s, "weight", memory, 24);
    case 7:
        return cadre_state_add_double(s, "count", memory);
    case 8:
        return cadre_state_add_int64(s, "rate", memory);
    case 9:
        return cadre_state_add_int64(s, "odd", memory);
    default:
        return cadre_state_add_double(s, "fresh", memory);
    }
}

static void misfits_leave_all_as_it_was(void **state)
{
    (void)state;
    static const char *const messages[] = {"no tensor \"fresh\"",
                                           "\"weight\" is F32 [2, 3] there and F32 [3, 2] in the state",
                                           "F32 [2, 3] there and I32 [2, 3] in",
                                           "F32 [2, 3] there and F32 [6] in",
                                           "\"own\" is local, U8 [1, 4] there and U8 [1, 4] in the state",
                                           "\"own\" has 4 bytes a rank there and 5",
                                           "no local entry \"weight\"",
                                           "no scalar \"count\" of type double",
                                           "no scalar \"rate\" of type int64",
                                           "no scalar \"odd\" of type int64",
                                           "no scalar \"fresh\" of type double"};
    float weight[6] = {1, 2, 3, 4, 5, 6}, bias = 7;
    char own[4] = "abc", memory[64];
    int64_t count = 8;
    double rate = 0.5, odd = 1.0 / 0.0;
    cadre_state *s;
    assert_ok(cadre_state_new(&s));
    assert_ok(cadre_state_add_tensor(s, "weight", CADRE_STATE_F32, 2, (int64_t[]){2, 3}, weight));
    assert_ok(cadre_state_add_tensor(s, "bias", CADRE_STATE_F32, 0, NULL, &bias));
    assert_ok(cadre_state_add_local(s, "own", own, sizeof own));
    assert_ok(cadre_state_add_int64(s, "count", &count));
    assert_ok(cadre_state_add_double(s, "rate", &rate));
    assert_ok(cadre_state_add_double(s, "odd", &odd));
    assert_ok(cadre_checkpoint_save("fit", s));
    cadre_state_free(s);
    for (int which = 0; which < 11; which++) {
        bias = 70;
        memset(memory, 'm', sizeof memory);
        assert_ok(cadre_state_new(&s));
        s->epoch = 55;
        assert_ok(cadre_state_add_tensor(s, "bias", CADRE_STATE_F32, 0, NULL, &bias));
        assert_ok(add_misfit(s, which, memory));
        assert_int_equal(cadre_checkpoint_load("fit", s), CADRE_EMISMATCH);
        assert_message_has(messages[which]);
        assert_message_has("checkpoint fit: ");
        assert_true(bias == 70 && s->epoch == 55 && memory[0] == 'm' && memory[63] == 'm');
        cadre_state_free(s);
    }
    assert_ok(cadre_state_new(&s)); /* fewer entries than the checkpoint has are fine */
    assert_ok(cadre_state_add_tensor(s, "bias", CADRE_STATE_F32, 0, NULL, &bias));
    assert_ok(cadre_checkpoint_load("fit", s));
    assert_true(bias == 7 && s->epoch == 0);
    cadre_state_free(s);
}

static int fail_load(void *user, const void *buffer, size_t nbytes)
{
    (void)user, (void)buffer, (void)nbytes;
    return cadre_fail(CADRE_ETORCH, "no such device");
}

static int save_ones(void *user, void *buffer, size_t nbytes)
{
    (void)user;
    memset(buffer, 1, nbytes);
    return CADRE_OK;
}

static void a_source_that_fails_is_named(void **state)
{
    (void)state;
    cadre_state_source source = {.save = save_ones, .load = fail_load};
    cadre_state *s;
    assert_ok(cadre_state_new(&s));
    assert_ok(cadre_state_add_source(s, "gpu", CADRE_STATE_U8, 1, (int64_t[]){4}, &source));
    assert_ok(cadre_checkpoint_save("source", s));
    s->epoch = 9;
    assert_int_equal(cadre_checkpoint_load("source", s), CADRE_ETORCH);
    assert_string_equal(cadre_error_message(), "checkpoint source: load state entry \"gpu\": no such device");
    assert_int_equal(s->epoch, 9);
    cadre_state_free(s);
}

static void the_record_says_what_it_is(void **state)
{
    (void)state;
    test_program p;
    test_program_init(&p, 1, 0);
    assert_ok(cadre_checkpoint_save("record", p.state));
    json_t *record = json_load_file("record/state.json", 0, NULL);
    assert_string_equal(json_string_value(json_object_get(record, "format")), "cadre-checkpoint");
    assert_int_equal(json_integer_value(json_object_get(record, "version")), 1);
    assert_int_equal(json_string_length(json_object_get(record, "made")), 26);
    assert_true(json_integer_value(json_object_get(json_object_get(record, "scalars"), "count")) == INT64_MIN + 1);
    assert_true(json_real_value(json_object_get(json_object_get(record, "scalars"), "rate")) == 1.1);
    assert_string_equal(json_string_value(json_object_get(json_object_get(record, "scalars"), "odd")),
                        "fff8000000000124");
    json_decref(record);
    test_program_free(&p);
}

static void newer_formats_are_told_from_damage(void **state)
{
    (void)state;
    static const char text[] = "{\"format\": \"cadre-checkpoint\", \"version\": 3}";
    checkpoint_record record;
    assert_int_equal(checkpoint_record_parse_body(text, sizeof text - 1, &record), CADRE_EVERSION);
    assert_message_has("format 3, this program reads up to 2");
}

static void leftovers_are_swept(void **state)
{
    (void)state;
    static const char *const names[] = {"c-1.tmp-77/state.json", "c-2.tmp-1/x", "c-3/state.json", "c-4.tmp-/x",
                                        "c-5.tmp-7a/x"};
    for (size_t i = 0; i < 5; i++) {
        char path[64];
        snprintf(path, sizeof path, "sweep/%s", names[i]);
        *strrchr(path, '/') = '\0';
        assert_ok(base_mkdirs(path, 0700));
        snprintf(path, sizeof path, "sweep/%s", names[i]);
        test_spit(path, "x", 1);
    }
    assert_ok(checkpoint_sweep("sweep"));
    assert_int_equal(test_entries_of("sweep"), 3);
    assert_true(base_exists("sweep/c-3/state.json"));
    assert_ok(checkpoint_sweep("no such place"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(everything_comes_back_bit_for_bit),
        cmocka_unit_test(a_state_without_entries_has_its_counters),
        cmocka_unit_test(doubles_keep_their_bits),
        cmocka_unit_test(each_rank_gets_its_own_back),
        cmocka_unit_test(what_is_there_is_not_overwritten),
        cmocka_unit_test(what_is_not_there_is_said),
        cmocka_unit_test(misfits_leave_all_as_it_was),
        cmocka_unit_test(a_source_that_fails_is_named),
        cmocka_unit_test(the_record_says_what_it_is),
        cmocka_unit_test(newer_formats_are_told_from_damage),
        cmocka_unit_test(leftovers_are_swept),
    };
    return cmocka_run_group_tests(tests, test_enter_folder, test_leave_folder);
}
