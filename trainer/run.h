/*
 * The record of a training run: one trial of an experiment, over all its attempts. Takes what the workers report and keeps it in the store,
 * decides which checkpoints stay, and says from where an attempt goes on. Knows nothing of processes: the controller, rank 0 of an
 * attached run and the in-process launcher drive it alike.
 */
#ifndef TRAINER_RUN_H
#define TRAINER_RUN_H

#include "cadre/trainer.h"
#include "progress.h"
#include "tracking/store.h"

#include <jansson.h>

/** An experiment that several runs (trials) share: who owns it opens, commits and closes the store. */
typedef struct run_shared {
    tracking_store *store;
    int64_t experiment;
    const char *directory;
    bool *wants_durable; /* set when the next commit of the store should wait for the disk */
    /** A report is recorded; what this records beside it is committed together with it and its checkpoint. An error is the record's. */
    int (*on_report)(void *user, int64_t report, const cadre_metric *metrics, int count);
    void *user;
} run_shared;

typedef struct trainer_run {
    const cadre_trainer *trainer;
    tracking_store *store;
    bool *wants_durable; /* of a shared store; NULL: the store is the run's own */
    int (*on_report)(void *user, int64_t report, const cadre_metric *metrics, int count); /* of its owner; NULL: none */
    void *user;
    char *directory;       /* <storage>/<experiment>, as a full path: workers may be somewhere else */
    char *trial_directory; /* <storage>/<experiment>/trial-00000, there before the trial is made */
    int64_t experiment;
    int64_t trial;        /* 0: not made yet */
    int64_t trial_number;
    int64_t parent;       /* the finished trial that this one goes on from, 0: none */
    int64_t parent_number;
    bool objective_known;
    char objective[128];

    int attempt; /* number of the attempt under way, over the trial's whole life */
    int attempts_made; /* by this call of fit */
    int world;
    const char *launcher;
    bool attempt_open, attempt_recorded;
    bool has_restore;
    tracking_checkpoint restore; /* where this attempt goes on from */
    char restore_directory[1200];

    int64_t report, step; /* the last ones recorded */
    bool result_open;      /* result.json */
    int result_fd;
    int64_t result_nbytes; /* of its whole lines */
    int64_t next_checkpoint;
    int refused; /* the first error that would come again: the record's own, or a NaN that is to end the run; CADRE_OK: none */
    bool gave_up;           /* this attempt ends for a NaN: what it still saves is not to be gone on from */
    int64_t saving_report;  /* the report whose checkpoint is being written behind the training; 0: none */
    bool saving_has_score;
    double saving_score;
    double lost_at; /* base_now() when an attempt was found to have failed, until the next one makes a step; 0: none was */
    double objective_value;
    bool has_objective_value;

    double begun;      /* base_now() at the call of fit */
    double first_step; /* seconds from there; 0: not yet */
    cadre_result result;
    trainer_progress progress;
} trainer_run;

/** Open or make the experiment and settle which trial this is. `begun`: base_now() at the call of fit. Errors as cadre_trainer_fit has them. */
int run_open(trainer_run *run, const cadre_trainer *trainer, double begun, bool resume_unfinished);

/**
 * Open as one trial of a shared experiment: row `trial`, number `number`, of which `attempts` were begun. Its final state is the owner's
 * to record (run_finish is not for it). `trainer` is borrowed; its run.metric names the objective.
 */
int run_open_trial(trainer_run *run, const cadre_trainer *trainer, const run_shared *shared, int64_t trial, int64_t number, int attempts,
                   double begun);

/** May an experiment be called that? CADRE_EINVAL. */
int run_check_name(const char *name);

/** The checks of name and storage that run_open makes, and the experiment's directory as a full path (free() it). `resume`: it must be there. */
int run_prepare_directory(const char *storage, const char *name, bool resume, char **directory);

/** Begin an attempt of `world` workers: picks the newest checkpoint that passes its hashes (a damaged one is passed over and said) and rolls
 *  the record back to it. */
int run_attempt_begin(trainer_run *run, int world, const char *launcher);

/** The start message for a worker of this attempt (new reference). NULL: no memory. */
json_t *run_start_message(trainer_run *run, int threads);

/** Take a worker's report, checkpoint, progress or beat. `*reply` is set (new reference) when the worker waits for one. An error is the store's. */
int run_take(trainer_run *run, const json_t *message, json_t **reply);

typedef struct run_ending {
    const char *cause; /* "finished", "stopped", "failed", "killed", "hung", "resized"; "lost" when the controller ended without a word */
    int rank;          /* -1: none in particular */
    const char *host;
    int exit_code, signal;
    const char *detail; /* one line */
} run_ending;
int run_attempt_end(trainer_run *run, const run_ending *ending);

/** The run is over: `status` CADRE_OK (finished), CADRE_STOP (stopped on request, to be resumed) or an error (failed, with its message). */
int run_finish(trainer_run *run, int status, const char *reason);

/** Commit what has gathered, if it is time; answers the milliseconds until it will be, or -1. */
int run_tick(trainer_run *run, int *due_ms);

/** Close the store. What is not finished stays as it is, to be resumed. */
void run_close(trainer_run *run);

#endif
