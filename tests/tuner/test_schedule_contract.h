/*
 * What every scheduler keeps, whatever it stops by. A scheduler's test is a row:
 *
 *     static const schedule_case asha = {{&cadre_scheduler_asha, &options}, .stops = true};
 *     SCHEDULE_CONTRACT(asha)
 */
#ifndef TEST_SCHEDULE_CONTRACT_H
#define TEST_SCHEDULE_CONTRACT_H

#include "cadre/schedule.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

typedef struct schedule_case {
    cadre_scheduler scheduler;
    bool stops; /* it ends some of a hundred trials of which half are hopeless */
} schedule_case;

/** The same events: the same decisions; rebuilt from the events at any moment, it goes on as if it had never been gone. */
void schedule_contract_replays(void **state);
/** Decisions are of the enum; only a scheduler with `next` pauses; `next` names paused trials, each once. All trials come to an end. */
void schedule_contract_decides(void **state);
/** A trial that is better than all others at every report comes through. */
void schedule_contract_keeps_the_best(void **state);
/** NaN, infinities, equal values, times that stand still or go back, trials that were never added or are over, thousands of trials. */
void schedule_contract_endures(void **state);
/** Every allocation failing in turn: create says so, the rest goes on. */
void schedule_contract_bears_no_memory(void **state);

/* clang-format off */
#define SCHEDULE_CONTRACT(row)                                                                                         \
    {"replays " #row, schedule_contract_replays, NULL, NULL, (void *)&(row)},                                          \
    {"decides " #row, schedule_contract_decides, NULL, NULL, (void *)&(row)},                                          \
    {"keeps the best " #row, schedule_contract_keeps_the_best, NULL, NULL, (void *)&(row)},                            \
    {"endures " #row, schedule_contract_endures, NULL, NULL, (void *)&(row)},                                          \
    {"no memory " #row, schedule_contract_bears_no_memory, NULL, NULL, (void *)&(row)}
/* clang-format on */

#endif
