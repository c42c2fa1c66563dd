/* The tests' training program: its options, given as key=value words, so that an executed worker has them, too. */
#ifndef TESTS_TRAINER_JOB_H
#define TESTS_TRAINER_JOB_H

#include "cadre/trainer.h"

#include <stdbool.h>

typedef struct job_options {
    cadre_trainer trainer;
    const char *out;   /* file for fit's answer */
    const char *final; /* prefix of the files for each rank's parameters at the end */
    const char *act;   /* what goes wrong: see job_train.c */
    int act_rank;      /* -1: every rank */
    int act_attempt;   /* -1: every attempt */
    int64_t act_step;
    int64_t epochs, steps, sleep_us;
    bool save;         /* reports come with a state */
    bool restore;
    bool stepping;     /* call cadre_step */
    bool bare;         /* reports and nothing else */
} job_options;

cadre_train_fn job_train;
/** Prints both numbers. */
cadre_resize_fn job_resize;

/* The processes and descriptors of this one, for leaks. */
int job_count_fds(void);

#endif
