/* States in memory: what may be added, snapshots, packing, the layout's hash. */
#include "test_state.h"

#include "base/fault.h"

#include <stdio.h>
#include <stdlib.h>

static void names_are_checked(void **state)
{
    (void)state;
    int64_t value = 0;
    char longest[202];
    memset(longest, 'n', sizeof longest);
    cadre_state *s;
    assert_ok(cadre_state_new(&s));
    longest[201] = '\0';
    const char *const bad[] = {"", NULL, "__metadata__", "a\nb", "\x7F", "\xFF", longest};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_int_equal(cadre_state_add_int64(s, bad[i], &value), CADRE_EINVAL);
    longest[200] = '\0';
    assert_ok(cadre_state_add_int64(s, longest, &value));
    assert_int_equal(cadre_state_add_double(s, longest, (double[]){0}), CADRE_EEXIST);
    assert_int_equal(cadre_state_add_int64(NULL, "a", &value), CADRE_EINVAL);
    assert_int_equal(cadre_state_add_int64(s, "a", NULL), CADRE_EINVAL);
    assert_message_has("\"a\" has no memory");
    assert_int_equal(cadre_state_count(s), 1);
    assert_int_equal(cadre_state_count(NULL), 0);
    cadre_state_free(s);
    cadre_state_free(NULL);
}

static int never(void *user, void *buffer, size_t nbytes)
{
    (void)user, (void)buffer, (void)nbytes;
    return CADRE_EIO;
}

static void shapes_are_checked(void **state)
{
    (void)state;
    char byte;
    cadre_state *s;
    cadre_state_source half = {.save = never};
    static const int64_t negative[] = {2, -1}, large[] = {INT64_MAX, INT64_MAX}, nine[9] = {1};
    static const int64_t empty_large[] = {INT64_MAX, INT64_MAX, 0};
    assert_ok(cadre_state_new(&s));
    assert_int_equal(cadre_state_add_tensor(s, "a", CADRE_STATE_F32, 2, negative, &byte), CADRE_EINVAL);
    assert_int_equal(cadre_state_add_tensor(s, "a", CADRE_STATE_F32, 2, large, &byte), CADRE_EINVAL);
    assert_int_equal(cadre_state_add_tensor(s, "a", CADRE_STATE_F32, 9, nine, &byte), CADRE_EINVAL);
    assert_int_equal(cadre_state_add_tensor(s, "a", CADRE_STATE_F32, -1, nine, &byte), CADRE_EINVAL);
    assert_int_equal(cadre_state_add_tensor(s, "a", CADRE_STATE_F32, 1, NULL, &byte), CADRE_EINVAL);
    assert_int_equal(cadre_state_add_tensor(s, "a", (cadre_state_dtype)10, 0, NULL, &byte), CADRE_EINVAL);
    assert_int_equal(cadre_state_add_tensor(s, "a", CADRE_STATE_U8, 0, NULL, NULL), CADRE_EINVAL);
    assert_int_equal(cadre_state_add_source(s, "a", CADRE_STATE_U8, 0, NULL, &half), CADRE_EINVAL);
    assert_int_equal(cadre_state_add_source(s, "a", CADRE_STATE_U8, 0, NULL, NULL), CADRE_EINVAL);
    assert_int_equal(cadre_state_add_local_source(s, "a", 1, &half), CADRE_EINVAL);
    assert_int_equal(cadre_state_count(s), 0);
    assert_ok(cadre_state_add_tensor(s, "a", CADRE_STATE_F32, 3, empty_large, NULL));
    cadre_state_free(s);
}

static int released;
static int answer;

static int save_answer(void *user, void *buffer, size_t nbytes)
{
    memset(buffer, 1, nbytes);
    return user ? cadre_fail(answer, "%s", (char *)user) : answer;
}

static int load_answer(void *user, const void *buffer, size_t nbytes)
{
    (void)user, (void)buffer, (void)nbytes;
    return answer;
}

static void count_release(void *user)
{
    (void)user;
    released++;
}

static void sources_are_asked_and_released(void **state)
{
    (void)state;
    char reason[] = "the tensor is on fire";
    cadre_state *s;
    state_snapshot *snapshot = NULL;
    cadre_state_source source = {.save = save_answer, .load = load_answer, .release = count_release};
    released = 0;
    assert_ok(cadre_state_new(&s));
    assert_ok(cadre_state_add_source(s, "one", CADRE_STATE_U8, 1, (int64_t[]){3}, &source));
    assert_int_equal(cadre_state_add_source(s, "one", CADRE_STATE_U8, 1, (int64_t[]){3}, &source), CADRE_EEXIST);
    assert_int_equal(released, 0);
    cadre_fail(CADRE_EIO, "an older failure");
    answer = CADRE_ETORCH;
    assert_int_equal(state_snapshot_take(s, &snapshot), CADRE_ETORCH);
    assert_string_equal(cadre_error_message(), "save state entry \"one\": libtorch error");
    answer = 17;
    assert_int_equal(state_snapshot_take(s, &snapshot), CADRE_EINVAL);
    assert_null(snapshot);
    source.user = reason;
    assert_ok(cadre_state_add_local_source(s, "two", 3, &source));
    answer = CADRE_EIO;
    unsigned char packed[3];
    assert_int_equal(state_pack_local(s, packed), CADRE_EIO);
    assert_string_equal(cadre_error_message(), "save state entry \"two\": the tensor is on fire");
    answer = CADRE_OK;
    assert_ok(state_pack_local(s, packed));
    assert_ok(state_snapshot_take(s, &snapshot));
    state_snapshot_free(snapshot);
    cadre_state_free(s);
    assert_int_equal(released, 2);
}

static void a_snapshot_is_cut_off(void **state)
{
    (void)state;
    test_program program;
    state_snapshot *snapshot = NULL;
    test_program_init(&program, 1, 0);
    assert_ok(state_snapshot_take(program.state, &snapshot));
    const unsigned char *data = snapshot->data;
    double kept[6];
    memcpy(kept, program.f64, sizeof kept);
    memset(program.f64, 0, sizeof program.f64);
    program.count = 5;
    int found = 0;
    for (int i = 0; i < snapshot->count; i++) {
        const state_entry *entry = &snapshot->entries[i];
        if (entry->kind == STATE_TENSOR && entry->nbytes)
            assert_int_equal((size_t)((unsigned char *)entry->data - snapshot->data) % state_dtype_nbytes(entry->dtype),
                             0);
        if (strcmp(entry->name, "layer.0.weight") == 0) {
            assert_memory_equal(entry->data, kept, sizeof kept);
            found++;
        }
        if (strcmp(entry->name, "count") == 0) {
            assert_true(entry->value.integer == INT64_MIN + 1);
            found++;
        }
    }
    assert_int_equal(found, 2);
    assert_ok(state_snapshot_take(program.state, &snapshot)); /* the same memory again */
    assert_ptr_equal(snapshot->data, data);
    assert_ok(cadre_state_add_tensor(program.state, "more", CADRE_STATE_F64, 1, (int64_t[]){6}, program.f64));
    assert_ok(state_snapshot_take(program.state, &snapshot));
    assert_int_equal(snapshot->count, cadre_state_count(program.state));
    test_program_free(&program);
    state_snapshot_free(snapshot);
    state_snapshot_free(NULL);
}

static void a_snapshot_survives_want_of_memory(void **state)
{
    (void)state;
    test_program program;
    test_program_init(&program, 1, 0);
    state_snapshot *reused = NULL;
    for (int n = 1;; n++) {
        char spec[32];
        state_snapshot *fresh = NULL;
        snprintf(spec, sizeof spec, "alloc:%d", n);
        base_fault_set(spec);
        int status = state_snapshot_take(program.state, &fresh);
        base_fault_set(spec);
        int again = reused ? state_snapshot_take(program.state, &reused) : CADRE_ENOMEM;
        base_fault_set(NULL);
        state_snapshot_free(fresh);
        if (status == CADRE_OK && again == CADRE_OK)
            break;
        assert_ok(state_snapshot_take(program.state, &reused));
        assert_true(n < 100);
    }
    state_snapshot_free(reused);
    test_program_free(&program);
}

static void layouts_tell_apart(void **state)
{
    (void)state;
    test_program a, b;
    test_program_init(&a, 1, 0);
    test_program_init(&b, 2, 1);
    assert_true(state_layout_hash(a.state) == state_layout_hash(b.state));
    assert_int_equal(state_local_nbytes(a.state), 16);
    char byte = 0;
    assert_ok(cadre_state_add_tensor(a.state, "x", CADRE_STATE_I8, 0, NULL, &byte));
    assert_true(state_layout_hash(a.state) != state_layout_hash(b.state));
    assert_ok(cadre_state_add_tensor(b.state, "x", CADRE_STATE_U8, 0, NULL, &byte));
    assert_true(state_layout_hash(a.state) != state_layout_hash(b.state));
    test_program_free(&a);
    test_program_free(&b);

    uint64_t hashes[5];
    for (int i = 0; i < 5; i++) {
        cadre_state *s;
        double value = 0;
        assert_ok(cadre_state_new(&s));
        if (i == 0)
            assert_ok(cadre_state_add_tensor(s, "x", CADRE_STATE_F32, 2, (int64_t[]){2, 3}, &value));
        else if (i == 1)
            assert_ok(cadre_state_add_tensor(s, "x", CADRE_STATE_F32, 2, (int64_t[]){3, 2}, &value));
        else if (i == 2)
            assert_ok(cadre_state_add_local(s, "x", &value, 6));
        else if (i == 3)
            assert_ok(cadre_state_add_double(s, "x", &value));
        hashes[i] = state_layout_hash(s);
        for (int j = 0; j < i; j++)
            assert_true(hashes[j] != hashes[i]);
        cadre_state_free(s);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names_are_checked),
        cmocka_unit_test(shapes_are_checked),
        cmocka_unit_test(sources_are_asked_and_released),
        cmocka_unit_test(a_snapshot_is_cut_off),
        cmocka_unit_test(a_snapshot_survives_want_of_memory),
        cmocka_unit_test(layouts_tell_apart),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
