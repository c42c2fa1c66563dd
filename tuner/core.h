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
    cadre_decision decision; /* what the running trial was told; anything but "go on" is the last word until it goes on again */
    double *x;               /* its point */
    int64_t reports;         /* number of the last report with the metric; 0: none yet */
    double value;            /* the metric in it, as reported; NaN: none yet */
    double seconds;          /* that it had run by then */
    int64_t retry_of;        /* the failed trial that it tries again; -1: none */
    int64_t origin;          /* where such a line of trials began; its own number when it tries none again */
    bool retried;            /* it failed, and is or will be tried again */
    bool from_beginning;     /* a retry that does not go on from a checkpoint */
    bool promoted;           /* the scheduler wants it to go on; it is yet to leave from its pause */
} core_trial;

typedef struct core_spec {
    const cadre_space *space;
    const cadre_search *search;
    cadre_scheduler scheduler; /* table NULL: FIFO */
    const cadre_stop *stop;
    bool maximize;
    int64_t limit; /* trials asked of the searcher at most; negative: no limit */
    uint64_t seed;
} core_spec;

typedef struct tuner_core tuner_core;

int core_new(const core_spec *spec, tuner_core **out);
void core_free(tuner_core *core);

typedef enum core_job {
    CORE_START,   /* a new trial */
    CORE_RETRY,   /* a new trial that tries a failed one again (its retry_of) */
    CORE_RESUME,  /* a paused one */
    CORE_PROMOTE, /* nothing to run: this one will go on when it has left from its pause; ask again */
    CORE_LATER,   /* nothing now; ask again when a trial has reported or ended */
    CORE_DONE,    /* nothing more will come; what still runs may go on */
} core_job;

/** A place is free: what is to be done with it? But for LATER and DONE `*trial` is its number and this is an event. */
int core_next(tuner_core *core, core_job *job, int64_t *trial);

/** While events of the past are given again: what was begun is begun again, whatever this life's limits are. */
void core_replay(tuner_core *core, bool on);

/**
 * A running trial that was told nothing yet sent report number `report`, with the metric in it. `time`: of the scheduler (the report's number, or a
 * metric; NaN: it is not asked); `trial_s`, `experiment_s`: how long they have run. An event.
 */
cadre_decision core_report(tuner_core *core, int64_t trial, int64_t report, double time, double value, double trial_s, double experiment_s);

/** A running trial has left because it was told to pause. An event. */
void core_paused(tuner_core *core, int64_t trial);

/** What is known of the last report without its having been an event: by a replayed end, the store, or a restart that made it again. */
void core_set_value(tuner_core *core, int64_t trial, double value, int64_t reports);

/** A trial is over; COMPLETE without a value counts as failed. An event. */
int core_end(tuner_core *core, int64_t trial, cadre_trial_end end);

/**
 * A trial of another program takes the next number; its result is told to the searcher. x NULL: it is no point of the space, and nobody is told. It is
 * not tried again when it failed. An event.
 */
int core_add(tuner_core *core, const double *x, cadre_trial_end end, double value, int64_t last_step);

/** A trial whose point another program has chosen takes the next number, to run like those that were asked for, beyond the limit. An event. */
int core_begin(tuner_core *core, const double *x, int64_t *trial);

/** No new trials from here on (the user, a budget or an error wants it so). Not an event: it holds for this life of the experiment. */
void core_close(tuner_core *core, const char *reason);
/** Why no new trials come, static text; NULL while they do. */
const char *core_closed(const tuner_core *core);
/** Every failed trial that was not tried again yet will be, before anything else. How many come to it. An event. */
int core_retry_failed(tuner_core *core, bool from_beginning, int64_t *count);

/** The first trial from `from` on that is in this state; -1: none. */
int64_t core_find(const tuner_core *core, core_state state, int64_t from);

/** What the searcher has to say about the trial that it suggested last; "" for nothing. */
const char *core_note(const tuner_core *core);
int64_t core_count(const tuner_core *core);
int64_t core_running(const tuner_core *core);
const core_trial *core_get(const tuner_core *core, int64_t trial);
/** The trial with the best final value, complete before pruned; -1: none. */
int64_t core_best(const tuner_core *core);

#endif
