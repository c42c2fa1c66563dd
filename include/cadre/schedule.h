/*
 * Schedulers and stoppers: which trials go on, pause or stop, by what they report.
 *
 * A scheduler is a table of functions over numbers alone: it knows no processes, no clock and no file. The loop calls it with numbered events
 * in one order; called again with the same events it decides the same, which is how it is rebuilt after an interruption. Values reach it so that
 * lower is better (the loop turns them round for CADRE_MAX); NaN is worse than anything.
 */
#ifndef CADRE_SCHEDULE_H
#define CADRE_SCHEDULE_H

#include "cadre/status.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/** What is to become of a trial. */
typedef enum cadre_decision {
    CADRE_DECIDE_GO_ON = 0,
    CADRE_DECIDE_STOP = 1,  /* it is pruned: it ends, its last value stands */
    CADRE_DECIDE_PAUSE = 2, /* it saves and gives its place to others until `next` names it */
    CADRE_DECIDE_COMPLETE = 3, /* it has had all the time there is: it ends as complete */
} cadre_decision;

/** How a trial ended. */
typedef enum cadre_trial_end { CADRE_ENDED_COMPLETE = 0, CADRE_ENDED_PRUNED = 1, CADRE_ENDED_FAILED = 2 } cadre_trial_end;

/** One report as a scheduler sees it. */
typedef struct cadre_schedule_report {
    int64_t trial;    /* number in the experiment */
    double time;      /* of time_attr: reports made so far (training_iteration), or a metric that grows */
    double value;     /* the metric, lower is better */
    double elapsed_s; /* seconds the trial has run, over all attempts */
} cadre_schedule_report;

typedef struct cadre_scheduler_table {
    uint32_t abi; /* CADRE_SCHEDULER_ABI */
    size_t size;  /* sizeof(cadre_scheduler_table) */
    const char *name;
    /** Make one from its options (NULL: the defaults). CADRE_EINVAL names the option. */
    int (*create)(const void *options, uint64_t seed, void **self);
    /** A trial has been started for the first time. May be NULL. */
    void (*on_trial_add)(void *self, int64_t trial);
    /** A trial has reported; what becomes of it? */
    cadre_decision (*on_report)(void *self, const cadre_schedule_report *report);
    /** A trial is over; it will not come again. May be NULL. */
    void (*on_trial_end)(void *self, int64_t trial, cadre_trial_end end);
    /** A place is free: the paused trial to go on with first, or -1 for none (a new one is started then). NULL: it never pauses any. */
    int64_t (*next)(void *self);
    /** No new trial will come, and none runs: is this paused trial of no more use? It ends as pruned then. NULL: all are. */
    bool (*is_over)(void *self, int64_t trial);
    void (*free)(void *self);
} cadre_scheduler_table;

enum { CADRE_SCHEDULER_ABI = 1 };

/** A scheduler and its options; zero is FIFO. `options` is borrowed until fit returns. */
typedef struct cadre_scheduler {
    const cadre_scheduler_table *table;
    const void *options;
} cadre_scheduler;

/** Every trial runs to its end. */
CADRE_API extern const cadre_scheduler_table cadre_scheduler_fifo;

/**
 * Asynchronous successive halving (Li, Jamieson, Rostamizadeh, Gonina, Hardt, Recht, Talwalkar, "A System for Massively Parallel Hyperparameter
 * Tuning", MLSys 2020, algorithm 2), with rungs at grace_period * reduction_factor^k. Stopping: a trial that is not in the top
 * 1/reduction_factor of those that have come to a rung is pruned there at once (Ray's way). Promotion: it pauses at
 * every rung and is taken up when it is among the top (the paper's way); needs checkpoints to lose nothing.
 */
typedef struct cadre_asha_options {
    size_t size; /* as CADRE_ASHA sets it; 0: of this version's struct */
    double max_t;            /* 0: 100; a trial ends there as complete */
    double grace_period;     /* 0: 1 */
    double reduction_factor; /* 0: 4 */
    int brackets;            /* 0: 1; trials are dealt to brackets by number, bracket s begins at grace_period * reduction_factor^s */
    bool promotion;
    bool delayed; /* with promotion: a rung promotes only when that leaves it reduction_factor trials for each one promoted (D-ASHA of Li et al.,
                     "Hyper-Tune", PVLDB 15, 2022). While trials get better, as a model makes them, plain ASHA promotes nearly all of them. */
} cadre_asha_options;
CADRE_API extern const cadre_scheduler_table cadre_scheduler_asha;
#define CADRE_ASHA(...) ((cadre_scheduler){&cadre_scheduler_asha, &(const cadre_asha_options){.size = sizeof(cadre_asha_options), __VA_ARGS__}})

/**
 * HyperBand (Li, Jamieson, DeSalvo, Rostamizadeh, Talwalkar, "Hyperband", JMLR 18, 2018) made asynchronous as in ASHA's paper (section 3.3): brackets
 * that are each an ASHA, beginning at grace_period * reduction_factor^s, s = 0, 1, ...; trials are dealt to them in the proportion in which HyperBand
 * begins configs there. For when it is not known from which report on a trial's value says something of its last one.
 */
typedef struct cadre_hyperband_options {
    size_t size; /* as CADRE_HYPERBAND sets it; 0: of this version's struct */
    double max_t;            /* 0: 100; a trial ends there as complete */
    double grace_period;     /* 0: 1 */
    double reduction_factor; /* 0: 3 */
    int brackets;            /* 0: all, 1 + floor(log(max_t / grace_period) / log(reduction_factor)) */
    bool promotion, delayed; /* as ASHA's */
} cadre_hyperband_options;
CADRE_API extern const cadre_scheduler_table cadre_scheduler_hyperband;
#define CADRE_HYPERBAND(...) ((cadre_scheduler){&cadre_scheduler_hyperband, &(const cadre_hyperband_options){.size = sizeof(cadre_hyperband_options), __VA_ARGS__}})

/**
 * Optuna's PercentilePruner, and at 50 its MedianPruner: a trial stops when its best value so far is worse than that percentile of the values that
 * complete trials reported at the same time. 25 keeps the best quarter.
 */
typedef struct cadre_percentile_options {
    size_t size; /* as CADRE_PERCENTILE sets it; 0: of this version's struct */
    double percentile;    /* above 0, at most 100, from the best; 0: 50 */
    int n_startup_trials; /* complete trials without which none is stopped; 0: 5, -1: none */
    double n_warmup_steps; /* no trial is stopped before this time; 0: from the first report on */
    double interval_steps; /* judged at the first report at or after every so many from there on; 0: 1 */
    int n_min_trials;     /* complete trials with a report at that time without which none is stopped there; 0: 1 */
} cadre_percentile_options;
CADRE_API extern const cadre_scheduler_table cadre_scheduler_percentile;
#define CADRE_PERCENTILE(...) ((cadre_scheduler){&cadre_scheduler_percentile, &(const cadre_percentile_options){.size = sizeof(cadre_percentile_options), __VA_ARGS__}})

/**
 * The median rule (Golovin et al., "Google Vizier", KDD 2017, section 3.2.2): a trial stops when its best value so far is worse than the median of the
 * other trials' running means up to the same time.
 */
typedef struct cadre_median_options {
    size_t size; /* as CADRE_MEDIAN sets it; 0: of this version's struct */
    double grace_period;      /* in units of time; 0: 1 */
    int min_samples_required; /* other trials that must have come so far; 0: 3 */
} cadre_median_options;
CADRE_API extern const cadre_scheduler_table cadre_scheduler_median;
#define CADRE_MEDIAN(...) ((cadre_scheduler){&cadre_scheduler_median, &(const cadre_median_options){.size = sizeof(cadre_median_options), __VA_ARGS__}})

/* ---- stoppers: reasons to end a trial or the whole experiment, beside the scheduler -------------------------------------- */

/** Zero fields are off. All are checked at every report. */
typedef struct cadre_stop {
    int64_t max_iterations;     /* reports of a trial; it ends as complete */
    double trial_plateau_std;   /* a trial ends as complete when the standard deviation of its last `plateau_window` values is at most this */
    int plateau_window;         /* 0: 4 */
    int plateau_grace;          /* reports before the rule holds; 0: 4 */
    double experiment_plateau_std; /* the experiment ends when the best `plateau_top` values have at most this standard deviation ... */
    int plateau_top;            /* 0: 10 */
    int plateau_patience;       /* ... for so many finished trials in a row; 0: 0 */
    double time_budget_s;       /* the experiment ends after so many seconds, over all its lives */
    bool has_target;
    double target;              /* the experiment ends when a trial reaches it (at least for CADRE_MAX, at most for CADRE_MIN) */
    /** A rule of one's own: 0 go on, 1 end this trial as complete, 2 end the experiment. `value` as reported, not turned round. */
    int (*rule)(int64_t trial, int64_t report, double value, void *user);
    void *user;
} cadre_stop;

#ifdef __cplusplus
}
#endif
#endif
