/*
 * The tuner's mind: searcher, scheduler and stoppers over the states of all trials. Knows no process, clock or store. The loop drives it with
 * events in one order, which it also writes down; driven again by the same events it comes to the same state, and that is how an interrupted
 * experiment is taken up.
 */
#ifndef TUNER_CORE_H
#define TUNER_CORE_H

#include "cadre/schedule.h"
#include "cadre/search.h"

typedef enum core_state { CORE_RUNNING, CORE_PAUSED, CORE_COMPLETE, CORE_PRUNED, CORE_FAILED } core_state;

typedef struct core_trial {
    core_state state;
    double *x;           /* its point */
    int64_t reports;     /* with the metric */
    double value;        /* the last one, as reported; NaN: none yet */
    cadre_decision decision; /* what the running trial was last told */
} core_trial;

typedef struct core_spec {
    const cadre_space *space;
    const cadre_search *search;
    cadre_scheduler scheduler; /* table NULL: FIFO */
    const cadre_stop *stop;
    bool maximize;
    int64_t num_samples; /* new trials at most; negative: no limit */
    uint64_t seed;
} core_spec;

typedef struct tuner_core tuner_core;

int core_new(const core_spec *spec, tuner_core **out);
void core_free(tuner_core *core);

typedef enum core_job {
    CORE_START,  /* a new trial */
    CORE_RESUME, /* a paused one */
    CORE_LATER,  /* nothing now; ask again when a trial has reported or ended */
    CORE_DONE,   /* nothing more will come; what still runs may go on */
} core_job;

/** A place is free: what is to be done with it? For START and RESUME `*trial` is its number. An event when it is one of these. */
int core_next(tuner_core *core, core_job *job, int64_t *trial);

/** A running trial reported the metric. `time`: of the scheduler (reports so far, or a metric); `elapsed_s` of the trial and of the experiment. An event. */
cadre_decision core_report(tuner_core *core, int64_t trial, double time, double value, double trial_s, double experiment_s);

/** A running trial has left because it was told to pause. An event. */
void core_paused(tuner_core *core, int64_t trial);

/** What a replayed end says of the last report: reports need not be events themselves. */
void core_set_value(tuner_core *core, int64_t trial, double value, int64_t reports);

/** A trial is over. An event. */
int core_end(tuner_core *core, int64_t trial, cadre_trial_end end);

/** No new trials from here on (the user, a budget or an error wants it so). Not an event: it holds for this life of the experiment. */
void core_close(tuner_core *core, const char *reason);
/** Why no new trials come, static text; NULL while they do. */
const char *core_closed(const tuner_core *core);
/** Start up to so many more than before. */
void core_add_samples(tuner_core *core, int64_t more);

/** A paused trial of which nothing more will come, once nothing runs and core_next says DONE: it is to be ended as pruned. -1: none. */
int64_t core_left_over(const tuner_core *core);

int64_t core_count(const tuner_core *core);
int64_t core_running(const tuner_core *core);
const core_trial *core_get(const tuner_core *core, int64_t trial);
/** The trial with the best final value, complete before pruned; -1: none. */
int64_t core_best(const tuner_core *core);

#endif
