/*
 * The zygote: a copy of the program made at the start of fit, before store, event loop or any thread, which forks the workers. So a worker begins in
 * milliseconds with libtorch already mapped, and inherits nothing of the controller's. Descriptors travel by SCM_RIGHTS; exits are told to the
 * controller. When the controller dies, so do zygote and workers. What a group's workers have started and left is ended with the last of them.
 */
#ifndef TRAINER_LAUNCH_ZYGOTE_H
#define TRAINER_LAUNCH_ZYGOTE_H

#include "cadre/status.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

/** Runs in a forked worker with its control channel; its answer is the exit code. */
typedef int zygote_worker_fn(int rank, int attempt, int control_fd, void *user);

typedef struct zygote {
    int fd; /* -1: none */
    pid_t pid;
} zygote;

typedef enum zygote_event_kind { ZYGOTE_NOT_SPAWNED = 1, ZYGOTE_EXITED = 2 } zygote_event_kind;

typedef struct zygote_event {
    int32_t kind;
    int32_t group, rank;
    int32_t pid;         /* EXITED; NOT_SPAWNED: why, as an errno */
    int32_t wait_status; /* EXITED */
} zygote_event;

int zygote_start(zygote *zygote, zygote_worker_fn *worker, void *user);
/** End it and all its workers; waits for it. Fine when there is none. */
void zygote_stop(zygote *zygote);

/** Ask for a worker. `control_fd` and `log_fd` (its stdout and stderr; -1: the program's own) are copied; the caller keeps its own. */
int zygote_spawn(zygote *zygote, int group, int rank, int attempt, int control_fd, int log_fd);
/** Send a signal to every living worker of a group and to its process group. */
int zygote_signal(zygote *zygote, int group, int signal_number);
/** The next event; `*got` false: none is there. CADRE_ECLOSED: the zygote is gone. */
int zygote_next(zygote *zygote, zygote_event *event, bool *got);

#endif
