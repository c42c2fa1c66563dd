/*
 * A worker group: the workers of one attempt, as the controller sees them. Started by a launcher; lives on the controller's event loop.
 *
 * Crash only: when a worker dies, hangs or errs the whole group is ended by SIGKILL, and the reason that came first, or that explains the
 * others, is kept. A group that is asked to leave is told so over the channel, also workers that are yet to call in (a signal would end those
 * that have no handler yet); then, each after its deadline, SIGTERM and SIGKILL follow.
 */
#ifndef TRAINER_GROUP_H
#define TRAINER_GROUP_H

#include "base/buffer.h"
#include "cadre/trainer.h"

#include <jansson.h>
#include <stdbool.h>
#include <sys/types.h>
#include <uv.h>

typedef struct trainer_group trainer_group;
typedef struct trainer_worker trainer_worker;
typedef struct trainer_launcher trainer_launcher;

/** A way to start workers. All three run on the controller's loop and do not block. */
struct trainer_launcher {
    const char *name;
    /** Start all workers. Each gets its channel by group_connect, now or when it calls in. On failure group_end follows. */
    int (*start)(trainer_launcher *launcher, trainer_group *group);
    /** Send a signal to all that live. */
    void (*signal)(trainer_launcher *launcher, trainer_group *group, int signal_number);
    /** The group is over, all processes are gone: release and sweep what belonged to it. */
    void (*release)(trainer_launcher *launcher, trainer_group *group);
    /** No more groups: let go of the loop and free itself. */
    void (*close)(trainer_launcher *launcher);
};

struct trainer_worker {
    trainer_group *group;
    int rank;
    pid_t pid;          /* 0: not known */
    int fd;             /* control channel; -1: none */
    bool polling;
    uv_poll_t poll;
    base_buffer input, output;
    bool started;       /* its process was started, so its exit will be told */
    bool greeted;       /* it has said hello */
    bool exited;
    int wait_status;    /* as of waitpid */
    bool done;          /* its last word has come */
    int done_status;
    bool second_hand;   /* it failed because another one did */
    int done_exit, done_signal; /* with a failure: of what it had started and trained by */
    char done_message[512];
    char host[64];
    double last_seen;   /* base_now() of its last message; 0: it has not begun to step */
    double lost_at;     /* base_now() when its channel was closed from the other side; 0: it was not */
};

typedef struct group_outcome {
    int status;        /* CADRE_OK: all finished; CADRE_STOP: all left on request; else it failed */
    const char *cause; /* "finished", "stopped", "failed", "killed", "hung" */
    int rank, exit_code, signal;
    char host[64];
    char detail[512];
} group_outcome;

struct trainer_group {
    uv_loop_t *loop;
    trainer_launcher *launcher;
    const cadre_trainer *trainer;
    int number;  /* of the group, for the launcher */
    int attempt, world;
    trainer_worker *workers;
    char *directory; /* the trial's: logs go there */

    /** A message of this attempt for the record; `*reply` (new reference) goes back to its sender. */
    int (*on_message)(trainer_group *group, const json_t *message, json_t **reply);
    /** A worker has said hello: the start message for it (new reference). */
    json_t *(*on_hello)(trainer_group *group, int rank);
    /** All processes are gone, the outcome stands; the group may be freed from here. */
    void (*on_end)(trainer_group *group, const group_outcome *outcome);
    void *user;
    void *owner;       /* the callbacks' second user pointer */
    void *launch_data; /* the launcher's own */

    uv_timer_t timer;
    bool timer_on;
    bool ending, leaving, ended;
    int leave_stage;       /* 0: asked, 1: SIGTERM sent (or not needed: all are done), 2: SIGKILL sent */
    double leave_deadline; /* base_now() of the next stage */
    double verdict_at;     /* a first, perhaps second-hand, failure is settled then; 0: none */
    double stacks_until;   /* it hangs and is writing its stacks; it is ended then; 0: no */
    group_outcome outcome;
    int64_t oom_kills;     /* trainer_oom_kills at its start */
    json_t *gathering;     /* parts of the out-of-band all-gather under way, by rank */
    int64_t gather_sequence;
    int gathered;
    int open_handles;
};

/** Start a group of `world` workers. On failure nothing is left and on_end is not called. */
int group_start(trainer_group *group, uv_loop_t *loop, trainer_launcher *launcher);
/** Ask it to save and leave within `grace_s` seconds; then it is made to. */
void group_leave(trainer_group *group, double grace_s);
/** End it now. `cause` and `detail` stand unless a reason is there already. */
void group_kill(trainer_group *group, int status, const char *cause, int rank, const char *detail);
/** What started the workers was killed by this signal, and they go with it. */
void group_launcher_killed(trainer_group *group, const char *program, int signal_number);
/** Is this the status of a worker that has lost a peer? (CADRE_ESTATE: it went on with the broken communicator.) */
bool group_second_hand(int status);
/** Free what group_start made; only after on_end. */
void group_free(trainer_group *group);

/* ---- for launchers ------------------------------------------------------------------------------------------------------- */

/** The worker's channel, which the group owns from now on (closed on failure). */
int group_connect(trainer_group *group, int rank, int fd);
/** The same when `first` has been received on it already (copied). */
int group_connect_with(trainer_group *group, int rank, int fd, const base_buffer *first);
/** The worker's process is gone. */
void group_exited(trainer_group *group, int rank, int wait_status);
/** The line in a log at which a restarted attempt begins; the first has none. */
#define GROUP_LOG_MARK "---- attempt %d ----"

/** Open the worker's log file, appending. */
int group_open_log(const trainer_group *group, int rank, int *fd);

#endif
