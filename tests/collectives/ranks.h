/*
 * Ranks for tests: forked processes or threads of this one, with an out-of-band all-gather over a board they share, and
 * a watchdog that turns a hang into a failure which says where.
 */
#ifndef TEST_RANKS_H
#define TEST_RANKS_H

#include "cadre/collectives.h"

#include <stdio.h>
#include <stdlib.h>

/* In a rank there is no test runner to report to: say what was wrong and die. */
#define CHECK(condition)                                                                                               \
    do {                                                                                                               \
        if (!(condition)) {                                                                                            \
            fprintf(stderr, "%s:%d: %s (last error: %s)\n", __FILE__, __LINE__, #condition, cadre_error_message());    \
            abort();                                                                                                   \
        }                                                                                                              \
    } while (0)

/* What one rank does. */
typedef void rank_fn(const cadre_oob *oob, void *user);

enum ranks_kind { PROCESSES, THREADS };

/* Run `fn` as `world` ranks and fail the test when one does not end well. A process rank `victim` (-1: none) is
 * expected to be killed, or is killed, stopped as it may be, when the others have ended. */
void ranks_run(enum ranks_kind kind, int world, int victim, rank_fn *fn, void *user);
/* The same, but answers how many did not end well, for a process that is no test. */
int ranks_try(enum ranks_kind kind, int world, int victim, rank_fn *fn, void *user);

/* fn(0, user), fn(1, user), ..., each in a process of its own, up to `at_once` at a time; the test fails when one does
 * not answer 0. For processes that are no test themselves, as those that call ranks_try. */
void ranks_apart(int count, int at_once, int (*fn)(int i, void *user), void *user);

/* From now on, more than `seconds` without another call is a hang in `what`. */
void watchdog(const char *what, unsigned seconds);

#endif
