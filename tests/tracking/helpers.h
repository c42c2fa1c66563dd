/* What the store's tests share: a directory of their own, and a look into the file past the store. */
#ifndef TESTS_TRACKING_HELPERS_H
#define TESTS_TRACKING_HELPERS_H

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tracking/store.h"

#define assert_ok(call)             helpers_assert_status((call), CADRE_OK, #call, __FILE__, __LINE__)
#define assert_status(call, status) helpers_assert_status((call), status, #call, __FILE__, __LINE__)

void helpers_assert_status(int got, int wanted, const char *call, const char *file, int line);

/** A new directory, in memory where there is /dev/shm, and the store's path in it (0: until the next call). */
const char *helpers_directory(void);
const char *helpers_store(void);
void helpers_remove(void);

/** The first column of the first row, asked through a connection of its own that only reads. -1: no row. */
int64_t helpers_int(const char *path, const char *sql);
/** The same as text, in a static buffer, "" for NULL. */
const char *helpers_text(const char *path, const char *sql);
/** Fails the test unless PRAGMA integrity_check says ok. */
void helpers_check_integrity(const char *path);

#endif
