/*
 * What every searcher keeps, whatever it searches by. A searcher's test is a row:
 *
 *     static const search_case tpe = {.search = {.name = "tpe"}};
 *     cmocka_unit_test_prestate(search_contract_replays, &tpe), ...  or all of them: SEARCH_CONTRACT(tpe)
 */
#ifndef TEST_SEARCH_CONTRACT_H
#define TEST_SEARCH_CONTRACT_H

#include "cadre/search.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

typedef struct search_case {
    cadre_search search;
    bool finite; /* refuses continuous dimensions and comes to an end */
} search_case;

/** Same seed and same events: the same suggestions; another seed: others. */
void search_contract_repeats(void **state);
/** Rebuilt from the events at any moment, it goes on as if it had never been gone. */
void search_contract_replays(void **state);
/** Every point is one of the space: bounds, steps, conditions. */
void search_contract_points(void **state);
/** Thousands of trials, told late, out of order, failed, pruned, infinite, added from elsewhere. */
void search_contract_endures(void **state);
/** A space of one point, one without dimensions, and one of 40 points asked 200 times. */
void search_contract_small_spaces(void **state);
/** Every allocation failing in turn: an error, nothing lost, and the next try goes on. */
void search_contract_bears_no_memory(void **state);

/* clang-format off */
#define SEARCH_CONTRACT(row)                                                                                           \
    {"repeats " #row, search_contract_repeats, NULL, NULL, (void *)&(row)},                                            \
    {"replays " #row, search_contract_replays, NULL, NULL, (void *)&(row)},                                            \
    {"points " #row, search_contract_points, NULL, NULL, (void *)&(row)},                                              \
    {"endures " #row, search_contract_endures, NULL, NULL, (void *)&(row)},                                            \
    {"small spaces " #row, search_contract_small_spaces, NULL, NULL, (void *)&(row)},                                  \
    {"no memory " #row, search_contract_bears_no_memory, NULL, NULL, (void *)&(row)}
/* clang-format on */

#endif
