/*
 * A rank is killed or stopped in the middle of an operation: every other one has to fail, in time, and name it. The
 * same for every backend whose steps pass the fault point "collective".
 */
#ifndef TEST_STRIKES_H
#define TEST_STRIKES_H

#include "ranks.h"

#include <stdbool.h>

enum { STRIKE_OPERATIONS = 11 };

/* Where it happens. */
struct strike_place {
    const char *backend;
    int world;
    void (*prepare)(int world);               /* before the ranks are forked; NULL: nothing */
    void (*enter)(const cadre_oob *oob);      /* in each rank, first; NULL: nothing */
    bool (*sees_death)(int rank, int victim); /* rank is told within a second, others at the deadline; NULL: all are */
};

struct strike {
    const struct strike_place *place;
    int operation;
    int step; /* at which passage of the fault point, from 1 */
    int victim;
    bool stop; /* or kill */
};

/* Run them all, up to `at_once` at a time, each in processes of its own; the test fails when one does. */
void strikes_run(struct strike *strikes, int count, int at_once);

#endif
