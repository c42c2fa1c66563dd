/*
 * The tuner: runs a search algorithm over configs, each config as a trial on a worker group of its own, stops the poor ones early and keeps everything
 * in one store.
 *
 *     cadre_tuner tuner = {
 *         .trainer = &trainer, .metric = "accuracy", .num_samples = 50,
 *         .space = (cadre_param[]){CADRE_LOGUNIFORM("lr", 1e-4, 1e-1), CADRE_CHOICE("optimizer", "sgd", "adamw"), CADRE_END},
 *         .search = CADRE_TPE(), .scheduler = CADRE_ASHA(.max_t = 10),
 *     };
 *     int status = cadre_tuner_fit(&tuner, NULL);
 */
#ifndef CADRE_TUNER_H
#define CADRE_TUNER_H

#include "cadre/schedule.h"
#include "cadre/search.h"
#include "cadre/space.h"
#include "cadre/trainer.h"

#ifdef __cplusplus
extern "C" {
#endif

/**
 * What becomes of an experiment of that name that is there already (Ray's Tuner.restore). A finished trial is never changed, so that a failed one is
 * tried again as a new trial with its config, beyond num_samples and before anything else: once a request (what is yet to begin when the controller is
 * killed begins in the next life), and not when a retry of it has ended well.
 */
typedef enum cadre_tuner_resume {
    CADRE_TUNE_NEW = 0,         /* refused with CADRE_EEXIST when it has trials */
    CADRE_TUNE_RESUME,          /* finished trials stand, unfinished ones go on from their checkpoints, then more up to num_samples in all */
    CADRE_TUNE_RESUME_ERRORED,  /* the same, and failed ones are tried again from their checkpoints, with the reports up to there */
    CADRE_TUNE_RESTART_ERRORED, /* the same, from the beginning */
} cadre_tuner_resume;

/**
 * The launcher `sim`: no processes and a virtual clock. Called for every report that a trial would make: gives its metric and the seconds that it took.
 * CADRE_OK, CADRE_STOP (the trial is over with this report) or an error (the trial fails).
 */
typedef int cadre_sim_fn(const cadre_config *config, int64_t trial, int64_t report, double *value, double *seconds, void *user);

typedef struct cadre_tuner {
    const cadre_trainer *trainer; /* how one trial is trained; its run.name and run.storage name the experiment, its config is set by the tuner */
    const char *metric;           /* the objective, which every report should have */
    cadre_mode mode;              /* CADRE_MAX (also what 0 means) or CADRE_MIN */
    const cadre_param *space;     /* ended by CADRE_END */
    cadre_search search;          /* zero: auto; when resumed, the searcher that the experiment began with */
    cadre_scheduler scheduler;    /* zero: FIFO */
    cadre_stop stop;
    const char *time_attr;        /* metric that counts as the scheduler's time, which is not asked about reports without it; NULL: the report's number */
    int64_t num_samples;          /* trials in all; with auto and random search over grids, and with grid search, walks over all combinations, as in Ray. 0: 1;
                                     -1: no limit (then give stop a rule) */
    int max_concurrent;           /* trials at once; 0: as many as cores and GPUs allow */
    double cores, gpus;           /* to be given out; 0: all that the machine has */
    double cores_per_trial;       /* 0: scaling.cores_per_worker times the workers, at least 1 */
    uint64_t seed;
    bool fail_fast;               /* the first trial that fails for good ends the experiment */
    cadre_tuner_resume resume;
    cadre_sim_fn *sim;            /* not NULL: simulate instead of training */
    void *sim_user;
} cadre_tuner;

typedef struct cadre_tuner_result {
    char path[1024];
    int64_t trials, complete, pruned, failed, paused; /* failed: also those that were tried again */
    int64_t best;         /* trial number; -1: none finished */
    double best_value;
    cadre_config *best_config; /* a new config; free it with cadre_config_free. NULL when best is -1 */
    char best_checkpoint[1024];
    double wall_s;
    char stop_reason[64]; /* "" : all trials were made */
    int interrupted;      /* Ctrl-C: to be resumed */
} cadre_tuner_result;

/**
 * Run the tuner to its end; as cadre_trainer_fit, call it from the main thread and before other threads start. `result` may be NULL. A failed trial is no
 * failure of fit. CADRE_OK; CADRE_EINVAL with the option, the parameter or what has changed in the space since the experiment began; CADRE_EEXIST,
 * CADRE_ENOENT (nothing to resume), CADRE_EBUSY; CADRE_ENOTSUP in a program that mpirun or srun started; CADRE_ETRAIN: fail_fast, or no trial finished.
 */
#define cadre_tuner_fit(tuner, result) cadre_tuner_fit_sized((tuner), sizeof(cadre_tuner), (result), sizeof(cadre_tuner_result))
CADRE_API int cadre_tuner_fit_sized(const cadre_tuner *tuner, size_t tuner_size, cadre_tuner_result *result, size_t result_size);

#ifdef __cplusplus
}
#endif
#endif
