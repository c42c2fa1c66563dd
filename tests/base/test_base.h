/* What every test of this folder includes, in the order that cmocka wants. */
#ifndef TEST_BASE_H
#define TEST_BASE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "cadre/status.h"

#include <string.h>

#define assert_ok(call)          assert_string_equal((call) == CADRE_OK ? "" : cadre_error_message(), "")
#define assert_message_has(part) assert_non_null(strstr(cadre_error_message(), part))

#endif
