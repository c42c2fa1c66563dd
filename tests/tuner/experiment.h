/* What tests of the tuner's loop share: a directory for experiments, and what is in their stores. */
#ifndef TESTS_TUNER_EXPERIMENT_H
#define TESTS_TUNER_EXPERIMENT_H

#include "cadre/tuner.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

extern char folder[64]; /* run.storage */

int make_folder(void **state);
int remove_folder(void **state);

/** The query's rows of one column, a line each, in a static text that the next call overwrites; also checks that the store is sound. */
const char *rows_of(const char *name, const char *query);
/** One text of all trials: number, state, value and params. Static as well. */
const char *trials_of(const char *name);

#endif
