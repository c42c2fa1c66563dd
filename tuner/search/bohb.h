/* BOHB from inside: bohb.c is the searcher, bohb_rank.c brings trials that came to different steps into one order. */
#ifndef TUNER_SEARCH_BOHB_H
#define TUNER_SEARCH_BOHB_H

#include "tuner/search/tpe.h"

enum { BOHB_LEVELS = 256 };

/* What was reported at one of the steps that are looked at. */
typedef struct bohb_level {
    int *trial; /* best first; equals in order of arrival */
    double *value;
    int count, room;
} bohb_level;

typedef struct bohb_trial {
    int level; /* the highest that it has come to; -1: it has not reported */
    int64_t step;
    double value; /* of its last report */
    enum { BOHB_OPEN, BOHB_COMPLETE, BOHB_FAILED } state; /* open: running, paused or pruned */
} bohb_trial;

typedef struct bohb_ranks {
    int64_t step[BOHB_LEVELS]; /* of each level */
    bohb_level level[BOHB_LEVELS];
    bohb_trial *trials; /* by index in the history */
    int *complete;      /* best first */
    int complete_count;
    int *list, *merged, *place; /* scratch: trials in order, the next list, a trial's place in the list or -1 */
    double *wanted;
    int room;
} bohb_ranks;

void bohb_ranks_init(bohb_ranks *ranks);
void bohb_ranks_free(bohb_ranks *ranks);
/** Room for as many trials as the history has room for. */
int bohb_ranks_reserve(bohb_ranks *ranks, int room);
void bohb_ranks_add(bohb_ranks *ranks, int trial);
/** CADRE_ENOMEM: it is as if the report had not been made. */
int bohb_ranks_report(bohb_ranks *ranks, int trial, int64_t step, double value);
void bohb_ranks_end(bohb_ranks *ranks, int trial, const cadre_outcome *outcome);
/** All trials that have a value, best first, into `order`; how many. */
int bohb_ranks_order(bohb_ranks *ranks, int *order);

#endif
