/* What the tests of the command line share: lines of shell in a directory of their own, with `cadre` on the path. */
#ifndef TESTS_CLI_SHELL_H
#define TESTS_CLI_SHELL_H

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

extern char place[400];      /* where lines are run; a test's setup sets it. At first: here */
extern char output[1 << 16]; /* of the last line, stderr too */

/** Run a line, or several; the exit code. */
int run(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
/** The same with its exit code. */
#define RUNS(code, ...)                                                                                                \
    do {                                                                                                               \
        int code_ = run(__VA_ARGS__);                                                                                  \
        if (code_ != (code))                                                                                           \
            fail_msg("exit code %d:\n%s", code_, output);                                                              \
    } while (0)

/** The output has these words; how often it has them. */
void expect(const char *words);
int count(const char *words);

/** A file in the place, with its mode; one that is a script. */
void write_file(const char *name, const char *text, unsigned mode);
void script(const char *name, const char *text);

#endif
