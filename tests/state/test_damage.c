/* Damaged checkpoints: no change to any byte passes, and none does harm. */
#include "test_state.h"

#include "base/io.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static test_program program;
static const char *const files[] = {"c/state.safetensors", "c/state.json"};

static int make_checkpoint(void **state)
{
    int failed = test_enter_folder(state);
    test_program_init(&program, 1, 0);
    return failed || cadre_checkpoint_save("c", program.state) != CADRE_OK;
}

static int drop_checkpoint(void **state)
{
    test_program_free(&program);
    return test_leave_folder(state);
}

static void assert_refused(void)
{
    cadre_checkpoint_info info = {.epoch = 77};
    test_program other;
    test_program_init(&other, 2, 0);
    test_program before = other;
    assert_int_equal(cadre_checkpoint_verify("c", &info), CADRE_ECORRUPT);
    assert_message_has("checkpoint c: ");
    assert_int_equal(info.epoch, 77);
    assert_int_equal(cadre_checkpoint_load("c", other.state), CADRE_ECORRUPT);
    assert_true(test_program_equal(&other, &before));
    test_program_free(&other);
}

static void any_changed_byte_is_seen(void **state)
{
    (void)state;
    static const unsigned char changes[] = {0x01, 0x20, 0x80, 0xFF};
    for (int which = 0; which < 2; which++) {
        size_t nbytes;
        unsigned char *bytes = test_slurp(files[which], &nbytes);
        /* every byte of the header and the record; of the tensors' bytes every 7th, and the last */
        for (size_t at = 0; at < nbytes; at += which == 0 && at > 2500 && at + 8 < nbytes ? 7 : 1) {
            bytes[at] ^= changes[at % 4];
            test_spit(files[which], bytes, nbytes);
            assert_refused();
            bytes[at] ^= changes[at % 4];
        }
        test_spit(files[which], bytes, nbytes);
        free(bytes);
    }
    assert_ok(cadre_checkpoint_verify("c", NULL));
}

static void any_other_length_is_seen(void **state)
{
    (void)state;
    for (int which = 0; which < 2; which++) {
        size_t nbytes;
        unsigned char *bytes = test_slurp(files[which], &nbytes);
        for (size_t length = 0; length < nbytes; length += which == 0 && length > 2500 && length + 8 < nbytes ? 7 : 1) {
            test_spit(files[which], bytes, length);
            assert_refused();
        }
        unsigned char *longer = calloc(1, nbytes + 4096);
        assert_non_null(longer);
        memcpy(longer, bytes, nbytes);
        for (size_t more = 1; more <= 4096; more *= 8) {
            test_spit(files[which], longer, nbytes + more);
            assert_refused();
        }
        free(longer);
        test_spit(files[which], bytes, nbytes);
        free(bytes);
    }
    assert_ok(cadre_checkpoint_verify("c", NULL));
}

static void files_of_two_checkpoints_do_not_mix(void **state)
{
    (void)state;
    test_program other;
    test_program_init(&other, 2, 0);
    assert_ok(cadre_checkpoint_save("d", other.state));
    for (int which = 0; which < 2; which++) {
        size_t nbytes, other_nbytes;
        unsigned char *bytes = test_slurp(files[which], &nbytes);
        unsigned char *foreign = test_slurp(which ? "d/state.json" : "d/state.safetensors", &other_nbytes);
        test_spit(files[which], foreign, other_nbytes);
        assert_refused();
        test_spit(files[which], bytes, nbytes);
        free(bytes);
        free(foreign);
    }
    assert_ok(cadre_checkpoint_verify("c", NULL));
    size_t nbytes, record_nbytes;
    unsigned char *tensors = test_slurp(files[0], &nbytes), *record = test_slurp(files[1], &record_nbytes);
    test_spit(files[0], record, record_nbytes);
    assert_refused();
    test_spit(files[1], tensors, nbytes);
    assert_refused();
    test_spit(files[0], tensors, nbytes);
    assert_refused();
    test_spit(files[1], record, record_nbytes);
    assert_ok(cadre_checkpoint_verify("c", NULL));
    free(tensors);
    free(record);
    test_program_free(&other);
}

static void missing_files_are_damage(void **state)
{
    (void)state;
    for (int which = 0; which < 2; which++) {
        assert_ok(base_rename(files[which], "aside"));
        assert_refused();
        assert_ok(base_mkdirs(files[which], 0700));
        assert_true(cadre_checkpoint_verify("c", NULL) < 0);
        assert_int_equal(rmdir(files[which]), 0);
        assert_ok(base_rename("aside", files[which]));
    }
    assert_ok(cadre_checkpoint_verify("c", NULL));
}

/* The reading of state.json on its own, without the hash that would catch all this. */
static void changed_records_do_no_harm(void **state)
{
    (void)state;
    size_t nbytes;
    unsigned char *bytes = test_slurp(files[1], &nbytes);
    for (size_t at = 0; at < nbytes; at++)
        for (int change = 1; change < 256; change += 5) {
            checkpoint_record record;
            bytes[at] ^= (unsigned char)change;
            if (checkpoint_record_parse_body((const char *)bytes, nbytes, &record) == CADRE_OK) {
                assert_true(record.info.world >= 1);
                checkpoint_record_is_local(&record, "own");
                checkpoint_record_free(&record);
            }
            bytes[at] ^= (unsigned char)change;
        }
    checkpoint_record_free(NULL);
    free(bytes);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(any_changed_byte_is_seen),
        cmocka_unit_test(any_other_length_is_seen),
        cmocka_unit_test(files_of_two_checkpoints_do_not_mix),
        cmocka_unit_test(missing_files_are_damage),
        cmocka_unit_test(changed_records_do_no_harm),
    };
    return cmocka_run_group_tests(tests, make_checkpoint, drop_checkpoint);
}
