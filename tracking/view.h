/*
 * Reading for people: what `cadre ls` and `cadre show` tell beyond store.h. On a writer's store these see what is
 * gathered too; texts handed to a callback are borrowed for the call. A callback's answer other than 0 ends the walk
 * and is returned.
 */
#ifndef TRACKING_VIEW_H
#define TRACKING_VIEW_H

#include "tracking/lock.h"
#include "tracking/store.h"

typedef struct tracking_experiment_row {
    int64_t id;
    const char *name;
    const char *metric; /* "" when it is not known yet */
    tracking_direction direction;
    int64_t running, waiting, complete, pruned, failed; /* trials */
    bool has_best;
    bool best_so_far; /* no trial is complete: the best that was reported */
    double best;
    int64_t best_number;    /* the trial's number */
    char last_activity[32]; /* UTC text; "" when nothing happened yet */
} tracking_experiment_row;

int tracking_each_experiment(tracking_store *store, int (*row)(const tracking_experiment_row *, void *), void *user);

typedef struct tracking_attempt_row {
    int attempt, num_workers, rank, exit_code, signal;
    const char *launcher, *backend, *started, *ended, *cause, *host,
        *detail; /* "" for none; ended "": under way or lost */
    int64_t restored_report, restored_checkpoint;
} tracking_attempt_row;

int tracking_each_attempt(tracking_store *store, int64_t trial, int (*row)(const tracking_attempt_row *, void *),
                          void *user);

typedef struct tracking_event_row {
    int64_t sequence, trial_number; /* -1: the experiment's own */
    const char *time;               /* UTC text */
    const char *kind, *json;
} tracking_event_row;

/** Events in their order; `trial` 0: all of the experiment. */
int tracking_each_event(tracking_store *store, int64_t experiment, int64_t trial,
                        int (*row)(const tracking_event_row *, void *), void *user);

/** A trial's params in the order given, each value as JSON text. */
int tracking_each_param(tracking_store *store, int64_t trial, int (*row)(const char *name, const char *json, void *),
                        void *user);

/** The params of all trials, trial by trial, as Optuna has them: the value (a choice's index) and its distribution, JSON. */
int tracking_each_distribution(tracking_store *store, int64_t experiment,
                               int (*row)(int64_t trial_number, const char *name, double value, const char *distribution_json, void *),
                               void *user);

#endif
