/*
 * The trainer: runs a train function on a worker group and keeps what it reports.
 *
 *     cadre_trainer trainer = {.train = train, .scaling = {.num_workers = 2}, .run = {.name = "first"}};
 *     int status = cadre_trainer_fit(&trainer, NULL);
 *
 * Started plainly, the program forks its own workers. Started by mpirun or srun, its ranks are the workers and rank 0 also records.
 * Every field that is zero has its default.
 */
#ifndef CADRE_TRAINER_H
#define CADRE_TRAINER_H

#include "cadre/session.h"

#ifdef __cplusplus
extern "C" {
#endif

/** Runs in every worker. CADRE_OK when it is done (or was asked to stop), a negative status when it failed. */
typedef int cadre_train_fn(cadre_session *session, const cadre_config *config, void *user);

typedef enum cadre_launcher {
    CADRE_LAUNCH_AUTO = 0, /* the ranks of mpirun or srun if the program was started by it, else fork */
    CADRE_LAUNCH_FORK,     /* worker processes on this machine */
    CADRE_LAUNCH_INPROC,   /* one worker in this very process, for debugging */
    CADRE_LAUNCH_MPIRUN,   /* an mpirun of the trainer's own */
} cadre_launcher;

/**
 * Called in every worker, with the trainer's `user`, at the end of a cadre_session_restore from a checkpoint that another number of workers made:
 * the place to change what depends on it, the learning rate above all (the global batch has become `now` / `before` times as large). A
 * negative status fails the attempt.
 */
typedef int cadre_resize_fn(cadre_session *session, int before, int now, void *user);

typedef struct cadre_scaling_config {
    int num_workers;         /* 0: 1, or all ranks when started by mpirun or srun */
    int cores_per_worker;    /* 0: the cores shared out evenly */
    double gpus_per_worker;  /* 0: none are given out (CUDA_VISIBLE_DEVICES is left alone) */
    cadre_launcher launcher;
    const char *backend;     /* of the communicator: "shm", "mpi", ...; NULL: the best there is */
    double timeout_s;        /* deadline of every collective operation; 0: 1800 */
    int logical_workers;     /* the same bits whatever num_workers is: batches are cut and gradients summed for so many workers, of which each process
                                stands for an equal run; a power of two times num_workers. See docs/training.md. 0: as many as processes */
    int min_workers;         /* elastic: when a worker is lost the group goes on with one less, down to this; 0: num_workers, always */
    double regrow_s;         /* a smaller group is asked to save and leave after so long, and goes on with num_workers; 0: 60; negative: never */
    cadre_resize_fn *on_resize; /* NULL: nothing to be done */
    const char *device;      /* of the gradients, as in cadre_comm_options: NULL: host memory; "cuda": a GPU for each rank */
} cadre_scaling_config;

typedef enum cadre_progress_mode {
    CADRE_PROGRESS_NONE = 0, /* print nothing */
    CADRE_PROGRESS_AUTO,     /* a live line on a terminal, else a line a report; both to stdout */
} cadre_progress_mode;

typedef enum cadre_resume {
    CADRE_RESUME_NEW = 0, /* a run of that name that is there already is kept; this is its next trial */
    CADRE_RESUME_LAST,    /* go on with the newest trial from its last checkpoint: interrupted, failed or finished */
} cadre_resume;

typedef struct cadre_run_config {
    const char *name;    /* the experiment; NULL: "run". Letters, digits, '.', '_', '-' */
    const char *storage; /* directory of experiments; NULL: "runs". Made when missing */
    cadre_resume resume;
    cadre_progress_mode progress;
    const char *metric; /* the objective, as Optuna and `cadre ls` show it; NULL: checkpoint.score_metric, else the first reported */
    double time_budget_s; /* after so many seconds of this call the workers save at their next step or report and leave, to be resumed; 0: no limit */
    const char *timeline; /* file for a Chrome trace of what each rank did when (cadre/timeline.h); one that is there is replaced; a tuner's trials share it. NULL: none */
} cadre_run_config;

/** What becomes of a report in which a metric is NaN (infinities are recorded and no more). */
typedef enum cadre_on_nan {
    CADRE_NAN_RECORD = 0, /* it is recorded, training goes on */
    CADRE_NAN_FAIL,       /* it is recorded, and the run fails with its words; it is not started again */
    CADRE_NAN_RESTORE,    /* the group starts again from the checkpoint before it, as after any failure: counted by max_failures */
} cadre_on_nan;

typedef struct cadre_failure_config {
    int max_failures;      /* restarts of the worker group; -1: without limit */
    double hang_timeout_s; /* a worker that makes no step, report or collective for so long, after its first step or report, is hung: its stack
                              goes to its log, the group is ended as by a crash; 0: 600; negative: never. Before that scaling.timeout_s watches */
    double grace_s;        /* for workers to save and leave when asked to stop; 0: 30 */
    cadre_on_nan on_nan;
} cadre_failure_config;

/** Which end of a metric is good: CADRE_MAX (also what 0 means) or CADRE_MIN, the names of the reductions. */
typedef cadre_op cadre_mode;

typedef struct cadre_checkpoint_config {
    int keep;                  /* newest (or best) so many are kept, the newest always; 0: all */
    const char *score_metric;  /* keep the best by this metric of the report they came with; NULL: the newest */
    cadre_mode score_mode;
    int64_t every_steps;       /* cadre_step saves every so many steps; 0: it does not */
    int write_behind;          /* 1: a checkpoint is copied in memory and written while training goes on, at most one at a time; -1: training waits for it;
                                  0: behind when its tensors have a MiB and more */
    int sharded;               /* 1: each rank copies and writes its share of the state, of about equally many bytes; read by any number of ranks
                                  (cadre/checkpoint.h). 0, or one rank: rank 0 writes all, with every rank's local entries */
} cadre_checkpoint_config;

typedef struct cadre_trainer {
    cadre_train_fn *train;
    void *user;                /* handed to train */
    const cadre_config *config; /* hyperparameters, recorded and handed to train; NULL: none */
    cadre_scaling_config scaling;
    cadre_run_config run;
    cadre_failure_config failure;
    cadre_checkpoint_config checkpoint;
} cadre_trainer;

typedef struct cadre_result {
    char path[1024];            /* the experiment's directory */
    char best_checkpoint[1024]; /* by score_metric, else the newest; "" when there is none */
    char last_checkpoint[1024];
    int64_t trial;              /* its number in the experiment, from 0 */
    int attempts;
    int64_t reports;
    int stopped;                /* left on request, to be resumed */
    double wall_s;
    double start_s;             /* from the call of fit to the first cadre_step or report of rank 0 */
    int num_metrics;            /* of the last report */
    struct {
        char name[104];
        double value;
    } metrics[CADRE_MAX_METRICS];
} cadre_result;

/**
 * Run the trainer to its end; call it from the main thread, before the program has started threads of its own where it can be helped
 * (workers are then forked, else executed anew: in such a worker the program's main runs again up to this call, and calls before it do nothing,
 * with an empty result and CADRE_OK). `result` may be NULL; it is filled as far as the run came, also on failure. In a worker process that this
 * call starts it does not return.
 * CADRE_OK: finished or stopped on request. CADRE_EINVAL: bad options; CADRE_EBUSY: another process has the experiment;
 * CADRE_ENOENT: nothing to resume; CADRE_ETRAIN: the training failed more often than max_failures (the message has the cause); a train function that
 * fails before its first step with a status that would come again (CADRE_EINVAL, CADRE_ENOENT, CADRE_EMISMATCH, ...) is not started again: that status;
 * CADRE_EACCES, CADRE_ENOSPC, CADRE_ENOTSUP: the storage.
 */
#define cadre_trainer_fit(trainer, result)                                                                             \
    cadre_trainer_fit_sized((trainer), sizeof(cadre_trainer), (result), sizeof(cadre_result))
CADRE_API int cadre_trainer_fit_sized(const cadre_trainer *trainer, size_t trainer_size, cadre_result *result,
                                      size_t result_size);

/** The value of a metric in the result's last report; NaN when it has none of that name. */
CADRE_API double cadre_result_metric(const cadre_result *result, const char *name);

#ifdef __cplusplus
}
#endif
#endif
