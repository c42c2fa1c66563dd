/* A bracket of asynchronous successive halving: what ASHA has one of, and HyperBand several. */
#ifndef TUNER_SCHEDULE_BRACKET_H
#define TUNER_SCHEDULE_BRACKET_H

#include "cadre/schedule.h"

typedef struct schedule_entry {
    int64_t trial;
    double value;
    bool passed; /* went on, or was promoted, beyond this rung */
} schedule_entry;

typedef struct schedule_rung {
    double at;
    schedule_entry *entries; /* best first; equals in order of arrival */
    int count, capacity;
    int passed; /* how many of them */
} schedule_rung;

typedef struct schedule_bracket {
    schedule_rung *rungs; /* lowest first, at grace * reduction^k below max_t */
    int count;
    double reduction;
    bool promotion, delayed;
} schedule_bracket;

typedef struct schedule_promotion {
    bool on, delayed;
} schedule_promotion;

/** CADRE_EINVAL names the option of scheduler `name`; zeroes are taken for the defaults, which are put in. */
int schedule_check_halving(const char *name, double *max_t, double *grace, double *reduction);

/** Rungs from `grace` up. A bracket without rungs (grace >= max_t) lets all go on. CADRE_ENOMEM leaves nothing behind. */
int schedule_bracket_init(schedule_bracket *bracket, double grace, double max_t, double reduction, schedule_promotion promotion);
void schedule_bracket_free(schedule_bracket *bracket);
cadre_decision schedule_bracket_report(schedule_bracket *bracket, const cadre_schedule_report *report);
/** The best paused trial that may be promoted from the k-th rung, which it has left then; -1: none. */
int64_t schedule_bracket_promote(schedule_bracket *bracket, int k);
/** The same over several brackets, from the highest rung down (algorithm 2 of the paper, get_job). */
int64_t schedule_brackets_next(schedule_bracket *brackets, int count);
/** A trial is over: it keeps its places, for others were judged by them, but it is not promoted. */
void schedule_bracket_end(schedule_bracket *bracket, int64_t trial);

#endif
