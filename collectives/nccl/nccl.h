/*
 * The nccl backend: operations on GPU memory go to NCCL, those on host memory to the best host backend there is (self,
 * shm, hier, mpi), which comes along as a communicator of its own.
 *
 * Operations are in the order of the caller's stream, and the host does not wait for the GPU:
 *
 *     caller's stream   ... inputs | record ready                            wait for done | results ...
 *     our stream                      wait for ready | NCCL | record done
 *
 * Nobody need call anything then, and a rank may sleep in CUDA behind an operation whose peer has died: so a thread
 * watches what is under way and, at the deadline or when a peer dies, aborts NCCL, which lets the streams go on.
 *
 * Files: library.c opens NCCL and the CUDA runtime, board.c is how the ranks of a host see each other (NCCL reports no
 * dead peer within a host), ops.c issues operations, watch.c is the thread, nccl.c makes and ends communicators.
 */
#ifndef COLLECTIVES_NCCL_H
#define COLLECTIVES_NCCL_H

#include "collectives/comm.h"
#include "library.h"

#include <pthread.h>
#include <stdalign.h>
#include <stdatomic.h>
#include <sys/types.h>

enum { NCCL_ALARM_NONE = 0, NCCL_ALARM_FAILED = 1, NCCL_ALARM_CANCELLED = 2 };

/* Memory that all ranks of one host have mapped. */
struct nccl_seat {
    alignas(64) _Atomic uint64_t entered; /* operations on GPU memory that this rank has called so far */
    _Atomic int32_t pid;
    _Atomic int32_t left; /* it has freed its communicator */
};
struct nccl_board {
    _Atomic uint32_t alarm;    /* nothing will be complete any more */
    _Atomic uint32_t claimed;  /* some rank writes the record */
    _Atomic uint32_t recorded; /* the record is whole */
    _Atomic int32_t canceller;
    int32_t status, rank;
    char text[512]; /* the first error's words */
    struct nccl_seat seats[];
};

enum nccl_state {
    NCCL_QUEUED,   /* NCCL has not heard of it */
    NCCL_ISSUING,  /* NCCL was called and may go on issuing in the background */
    NCCL_ISSUED,   /* all of it is on the stream, before the event `done` */
    NCCL_COMPLETE, /* the GPU is through with it */
};

/* An operation on GPU memory until the GPU is through with it and the front knows what it wants to; in the order in
 * which they were started. */
struct nccl_work {
    struct nccl_work *next;
    const collectives_op *front; /* the front's own, for which it will wait; NULL: it does not look back */
    collectives_op op;
    char label[COLLECTIVES_LABEL];
    uint64_t number; /* from 1, the same on every rank */
    enum nccl_state state;
    cuda_event ready, done; /* on the caller's stream: the input is there; on ours: the output is */
};

/* Memory of cadre_comm_alloc. */
struct nccl_region {
    struct nccl_region *next;
    void *raw, *memory;
};

typedef struct nccl {
    const nccl_libraries *lib;
    int rank, world, device;
    pthread_mutex_t lock; /* of NCCL, works and what else the watching thread uses; not held in host operations */
    pthread_cond_t wake;
    pthread_t watcher;
    bool watched, idle, leaving; /* there is a watcher; it has nothing to watch; it is to end */
    int broken;                  /* status of what this rank failed with first, 0: nothing */
    char broken_text[BASE_ERROR_MAX];
    nccl_comm comm;     /* NULL when it has been ended */
    cuda_stream stream; /* of highest priority */
    cuda_stream caller; /* the one that buffers are written and read on; NULL: the default stream */
    cadre_comm *host;   /* for host memory */
    bool host_begun;    /* the host operation at the head of the queue has been started there */
    bool stuck;         /* NCCL could not be ended: what it may still use stays where it is */
    struct nccl_board *board;
    bool board_shared; /* else only this rank sees it */
    uint64_t entered;
    int64_t next_look_ns;
    struct nccl_work *works, *spare;
    struct nccl_region *regions;
    int *pidfds; /* one a rank; -1: none */
} nccl;

/* board.c */
int collectives_nccl_board_new(nccl *n, const collectives_place *place, bool one_host);
void collectives_nccl_board_free(nccl *n);
void collectives_nccl_enter(nccl *n);
/* Write what went wrong on the board and raise the alarm; false: another rank of this host had done so. */
bool collectives_nccl_tell(nccl *n, int status, const char *text);
/* Say what went wrong, here and to the ranks of this host; the first one's words win. NCCL is aborted. Like all that
 * may do so, under the lock (but in set-up). */
int collectives_nccl_fail(nccl *n, const char *what, int status, const char *text);
/* 0, or what ended the communicator. */
int collectives_nccl_alarmed(nccl *n, const char *what);
void collectives_nccl_cancel(nccl *n); /* async-signal-safe */
/* Everything but the GPU: the alarm, NCCL's own errors, dead ranks, deadline, warning. */
int collectives_nccl_look(nccl *n, collectives_op *op, uint64_t number);

/* nccl.c */
/* End NCCL's communicator from a thread of its own, for no longer than a few seconds; once. */
void collectives_nccl_end(nccl *n, bool gently);
/* NCCL's or CUDA's error as a status, with the message "<what>: NCCL: <its words>". */
int collectives_nccl_words(nccl *n, nccl_result result, char *text, size_t nbytes);
/* Be idle for a moment that grows with the time waited. */
void collectives_nccl_pause(int64_t waited_ns);

/* ops.c */
int collectives_nccl_operate(nccl *n, collectives_op *op);
int collectives_nccl_start(nccl *n, collectives_op *op);
int collectives_nccl_test(nccl *n, collectives_op *op, bool *done);
int collectives_nccl_wait(nccl *n, collectives_op *op);
int collectives_nccl_synchronize(nccl *n);
/* Block until the GPU is through with all works; 0 or what ended the communicator. Under the lock. */
int collectives_nccl_finish(nccl *n);
/* Go on with the works as far as can be without waiting, and look at what the oldest one waits for; *left tells whether
 * the GPU still has any. Under the lock. */
int collectives_nccl_check(nccl *n, bool *left);
/* Fill GPU memory with zeros and block until that is done, with op's deadline. Under the lock, without works. */
int collectives_nccl_clear(nccl *n, collectives_op *op, void *memory, size_t nbytes);
void collectives_nccl_drop(nccl *n); /* all works and their events */

/* watch.c */
int collectives_nccl_watch(nccl *n);
void collectives_nccl_unwatch(nccl *n);
/* There is something to watch. Under the lock. */
void collectives_nccl_wake(nccl *n);

/* ops.c too. Make `device` this thread's; the answer undoes it. */
int collectives_nccl_on_device(const nccl *n);
void collectives_nccl_off_device(const nccl *n, int before);

#endif
