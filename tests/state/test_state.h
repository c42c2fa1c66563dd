/* What every test of this folder shares: cmocka, a folder of its own to work in, a state with one entry of each kind.
 */
#ifndef TEST_STATE_H
#define TEST_STATE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "cadre/status.h"
#include "trainer/state/checkpoint.h"

#include <string.h>

#define assert_ok(call)          assert_string_equal((call) == CADRE_OK ? "" : cadre_error_message(), "")
#define assert_message_has(part) assert_non_null(strstr(cadre_error_message(), part))

/** Group set-up and tear-down: work in a new folder, remove it. */
int test_enter_folder(void **state);
int test_leave_folder(void **state);

/** Entries in a directory; -1: there is none. */
int test_entries_of(const char *path);
/** A whole file in memory; free(). */
unsigned char *test_slurp(const char *path, size_t *nbytes);
void test_spit(const char *path, const void *bytes, size_t nbytes);
/** A file system of 128 KiB in a mount namespace of this process; false when that is not allowed. */
bool test_mount_small(const char *path);

/** Memory of a program, with a tensor of every type, an empty one, one without dimensions, a source, scalars and local
 * entries. */
typedef struct test_program {
    uint64_t f64[2][3], i64[4];
    uint32_t f32[5], i32[1];
    uint16_t f16[3], bf16[7], i16[2];
    uint8_t i8[3], u8[5], boolean[2];
    uint8_t behind[4096]; /* reached through a source only */
    int64_t count;
    double rate, odd;
    uint8_t own[11], own_behind[5];
    cadre_state *state;
} test_program;

/** Fill with bytes that follow from `seed` (rank's own from `seed` and `rank`) and add all to a new state. */
void test_program_init(test_program *program, unsigned seed, int rank);
void test_program_free(test_program *program);
/** Everything but the state handle is equal. */
int test_program_equal(const test_program *a, const test_program *b);

#endif
