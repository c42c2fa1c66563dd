/* What the data tests share: IDX files made to order in a directory of their own. */
#ifndef TESTS_DATA_SUPPORT_H
#define TESTS_DATA_SUPPORT_H

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/buffer.h"
#include "cadre/data.h"

#define assert_ok(call)                                                                                                \
    do {                                                                                                               \
        int status_ = (call);                                                                                          \
        if (status_ != CADRE_OK)                                                                                       \
            fail_msg("%s: %s: %s", #call, cadre_status_name(status_), cadre_error_message());                          \
    } while (0)

#define assert_status(call, status) assert_string_equal(cadre_status_name(call), cadre_status_name(status))

/* The message has the text in it. */
void assert_message(const char *text);

/* A temporary directory, and its removal. */
int support_make_directory(void **state);
int support_remove_directory(void **state);

/* An IDX array of these dimensions with byte i = (i * 7 + salt) % 256, as labels (dims 1) i % 10. */
base_buffer support_idx(int dims, const uint32_t *shape, unsigned salt);
/* The same bytes as a gzip file. */
base_buffer support_gzip(const base_buffer *plain);

/* Write and free. */
void support_write(const char *directory, const char *name, base_buffer bytes);
/* A pair of `count` images of 1 x height x width, gzip or not. */
void support_write_pair(const char *directory, bool train, uint32_t count, uint32_t height, uint32_t width, bool gzip);

#endif
