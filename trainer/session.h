/* The inside of a session (cadre/session.h), and how a worker makes one. */
#ifndef TRAINER_SESSION_H
#define TRAINER_SESSION_H

#include "cadre/trainer.h"
#include "link.h"
#include "saver.h"

#include <pthread.h>
#include <signal.h>

/** What a rank says to all of its share of a sharded checkpoint; a multiple of 8 bytes. */
typedef struct session_share {
    int64_t status, done;
    uint64_t layout; /* hash of the state */
    uint64_t nbytes;
    char hash[40];
} session_share;

struct cadre_session {
    int rank, world, attempt, threads;
    int rows; /* logical workers that this rank stands for; 1 without */
    trainer_link *link; /* to the controller; only rank 0 reports, every rank beats */
    cadre_comm *comm;
    char *directory;
    char *restore; /* checkpoint directory to go on from; NULL: none, or restored */

    int64_t report, step;      /* of the last report, counted on over attempts */
    int64_t every_steps;       /* cadre_step saves so often; 0: never */
    int64_t steps;             /* cadre_step calls in this attempt */
    int64_t next_checkpoint;   /* number of the next directory */
    saver saver;               /* rank 0's; of a sharded checkpoint every rank's */
    bool sharded;              /* checkpoint.sharded, of a world that has several ranks */
    bool sharing;              /* the ranks write their shares, and have not yet found that all are down; the same on all ranks */
    session_share share;       /* this rank's of it */
    bool share_behind;         /* training goes on meanwhile */
    int failed_saves;          /* rank 0: written behind one after the other, in vain */
    int64_t saving_step;       /* of the report before what it writes */
    int write_behind;          /* checkpoint.write_behind */
    bool sync;                 /* every report waits for the answer to it: a scheduler decides */
    bool stop_asked;           /* by the controller */
    bool agreed_to_stop;       /* the group has been told to leave */
    int others_failure;        /* what another rank failed with, as this one was told; 0: nothing */
    double last_beat, last_alive, last_progress; /* base_now() */
    double beat_s;             /* between two signs of life */
    double leave_at;           /* base_now() when the time budget is spent; 0: no budget */
    cadre_resize_fn *on_resize;
    void *user;                /* the trainer's */
    pthread_t thread;          /* that uses the session; collectives of others are not its signs of life */
};

/** A session from the controller's start message. `comm` and `link` are borrowed. */
int session_init(cadre_session *session, const json_t *start, int rank, trainer_link *link, cadre_comm *comm);
void session_done(cadre_session *session);

/** Set by SIGUSR1 and SIGTERM: this worker would like to save and leave. */
extern volatile sig_atomic_t session_leave_signal;

/** Take what the controller has sent meanwhile; only "stop" is possible. CADRE_ECLOSED: it is gone. */
int session_poll(cadre_session *session);

/** All ranks learn every rank's `nbytes` (a multiple of 8) at `mine`; `all` has world * nbytes. */
int session_gather(cadre_session *session, const void *mine, void *all, size_t nbytes);

/**
 * One status from the statuses of all ranks: the lowest failed rank's failure, said on every rank; else CADRE_STOP when any rank has it; else
 * CADRE_OK.
 */
int session_agree(cadre_session *session, int status, const char *what);

/* ---- saving (session_save.c) */

/**
 * Collective. Save `state` to the next checkpoint directory. Where it is written at once `*body` becomes on rank 0 the message about it (new
 * reference); where it is written behind (`*behind`, the same on all ranks) a message of its own follows. `*written` says why there is none: rank 0's
 * alone to know until all are told. The answer is an error that every rank has.
 */
int session_save(cadre_session *session, cadre_state *state, json_t **body, bool *behind, int *written);

/**
 * Collective where shares are being written, else rank 0's alone: tell of the checkpoint that is being written behind, if it is through. One that could
 * not be written is said, and training goes on; the answer is an error when the one before it could not be written either, or the link's.
 */
int session_finish_saving(cadre_session *session, bool wait);
/** The same at the training's end: waits, and any failure is an error. */
int session_end_saving(cadre_session *session);

#endif
