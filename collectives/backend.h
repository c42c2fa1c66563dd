/*
 * What a collectives backend is: one table of functions. The front (comm.c) has checked every argument, keeps requests
 * in order, and calls a backend from one thread at a time with at most one operation under way; a backend moves the
 * bytes.
 *
 * Errors: a slot that fails returns a negative cadre_status and has set the thread's message. After any failure of an
 * operation the front calls nothing but abort, dealloc and free.
 */
#ifndef COLLECTIVES_BACKEND_H
#define COLLECTIVES_BACKEND_H

#include "cadre/collectives.h"
#include "cadre/log.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

enum {
    COLLECTIVES_ABI = 4,    /* of this file; a module that says another number is refused */
    COLLECTIVES_CARD = 128, /* bytes a backend may tell all ranks about its own before scores are taken */
    COLLECTIVES_WHY = 160,  /* bytes of a reason, its end included */
    COLLECTIVES_TEXT = 384, /* bytes that collectives_describe may write, its end included */
};

typedef enum collectives_kind {
    COLLECTIVES_ALL_REDUCE,
    COLLECTIVES_REDUCE_SCATTER,
    COLLECTIVES_ALL_GATHER,
    COLLECTIVES_BROADCAST,
    COLLECTIVES_BARRIER,
    COLLECTIVES_ALLOC, /* never given to a backend as an operation, only named in messages */
} collectives_kind;

/* One operation. In an all-reduce and a broadcast input is output. `count` is elements as in cadre/collectives.h and
 * never 0 (the front answers those, but for the barrier). All times are base_now_ns(). */
typedef struct collectives_op {
    collectives_kind kind;
    cadre_dtype dtype;
    cadre_op op;
    int root;
    const void *input;
    void *output;
    size_t count;
    const char *label; /* NULL: none */
    int64_t started_ns;
    int64_t stall_ns;    /* when to warn that ranks are missing; INT64_MAX: not (any more) */
    int64_t deadline_ns; /* when to give up with CADRE_ETIMEDOUT */
    int64_t late_ns;     /* a backend that knows adds here how long it has waited for ranks that came to it later */
} collectives_op;

/* Where a communicator is to be. `cards` is NULL when only this machine is asked about (cadre info). */
typedef struct collectives_place {
    const cadre_oob *oob;                           /* rank and world; all_gather only inside init */
    const unsigned char (*cards)[COLLECTIVES_CARD]; /* one a rank, as filled by the backend's card slot */
    double timeout_s;                               /* of every oob call in init */
    bool asked_by_name;                             /* the user named this backend */
    const int *ranks;   /* what messages call the ranks of oob, for as long as what init makes lives; NULL: 0, 1, ... */
    const char *device; /* "cuda", "cuda:1": buffers will be there; NULL: host memory. Backends without `device` are
                           not asked then */
} collectives_place;

typedef struct collectives_backend {
    int abi;     /* COLLECTIVES_ABI */
    size_t size; /* sizeof(collectives_backend) of the one who filled it */
    const char *name;

    /* Describe this rank to the others (which host, which process). Local, does not block, cannot fail. Optional:
     * zeros. */
    void (*card)(unsigned char card[COLLECTIVES_CARD]);

    /* How good it would be at this place: 0 does not work, higher is better (self 100, nccl 80 where it was asked for,
     * shm 50, hier 30, mpi 20). `why` receives a few words, for cadre info or as the reason of a 0. Local, does not
     * block. Ranks may differ: the lowest counts. */
    int (*score)(const collectives_place *place, char why[COLLECTIVES_WHY]);

    /* Make the backend's half of a communicator. Collective; may block in place->oob->all_gather until timeout_s.
     * Either every rank succeeds or every rank fails: each stage ends in an all-gather of statuses (collectives_agree).
     * On failure nothing is left behind. The caller owns *self and ends it with free. */
    int (*init)(const collectives_place *place, void **self);

    /* Zeroed memory that operations take without copying, page-aligned. Collective, blocks until op->deadline_ns; all
     * succeed or all fail, and a failure for want of memory (CADRE_ENOSPC, CADRE_ENOMEM) leaves the communicator
     * usable. Optional: the front gives ordinary memory. */
    int (*alloc)(void *self, collectives_op *op, size_t nbytes, void **memory);
    /* Give it back. Local, never waits for a peer. Required with alloc. */
    void (*dealloc)(void *self, void *memory);

    /* The operations, with the meaning of their public namesakes. Each blocks until it is complete on this rank or
     * op->deadline_ns has passed (CADRE_ETIMEDOUT, naming the ranks that are missing), a peer is known to be dead
     * (CADRE_EPEER), or abort was called (CADRE_ECANCELED). They set op->stall_ns to INT64_MAX when they have warned.
     */
    int (*all_reduce)(void *self, collectives_op *op);
    int (*reduce_scatter)(void *self, collectives_op *op);
    int (*all_gather)(void *self, collectives_op *op);
    int (*broadcast)(void *self, collectives_op *op);
    int (*barrier)(void *self, collectives_op *op);

    /* Begin an all-reduce or a reduce-scatter; `op` is the front's and lives until it is complete. Does not block for a
     * peer. The front begins the next only when this one is complete. Optional, together with test and wait: without
     * them the front calls the blocking operation inside cadre_wait, and inside cadre_test, which then does block. */
    int (*start)(void *self, collectives_op *op);
    /* Go on with what was begun as far as can be without a peer; *done tells whether it is complete. */
    int (*test)(void *self, collectives_op *op, bool *done);
    /* Go on with it until it is complete, or as the blocking operations end. */
    int (*wait)(void *self, collectives_op *op);

    /* Make operations under way fail with CADRE_ECANCELED, here and where it can on other ranks. Any thread, or a
     * signal handler: async-signal-safe, does not block. Optional: then only the next call notices. */
    void (*abort)(void *self);

    /* Local, never waits for a peer (nccl: for two seconds at most); after a failure, too. Memory of alloc that is left
     * is unmapped. */
    void (*free)(void *self);

    /* start may be called again before what was begun is complete; test and wait are for the oldest. */
    bool queues;
    /* The GPU on which alloc's memory is. Optional: it is host memory. */
    int (*device)(void *self);
    /* From now on buffers are written and read on this stream of the device. Required with device. With a device,
     * operations and wait return when they are on their way to it and this stream waits for them; test, barrier and
     * synchronize tell of the device itself. */
    void (*set_stream)(void *self, void *stream);
    /* Block until the device is through with all that was called. Required with device. */
    int (*synchronize)(void *self, collectives_op *op);
} collectives_backend;

/* What a backend in a loaded module gets from the library, since it may not link a second copy of it. */
typedef struct collectives_host {
    int abi;
    size_t size;
    int (*error)(int status, const char *text);           /* base_error */
    void (*log)(cadre_log_level level, const char *text); /* base_log of the room */
    int64_t (*now_ns)(void);
    void (*sleep_ns)(int64_t ns);
    size_t (*dtype_size)(cadre_dtype dtype);
    void (*describe)(const collectives_op *op, char text[COLLECTIVES_TEXT]);
    void (*name_ranks)(const bool *which, int world, const int *ranks, char *text, size_t nbytes);
    void (*reduce)(void *const *to, int copies, const void *const *from, int world, size_t count, cadre_dtype dtype,
                   cadre_op op);
} collectives_host;

/* "all_reduce of bucket 3 (...)", or "all_reduce of 1024 float32" without a label. */
void collectives_describe(const collectives_op *op, char text[COLLECTIVES_TEXT]);

/* "rank 3", "ranks 0-2, 5" or "none": each ranks[r] (NULL: r) for which which[r] is true; what does not fit is counted.
 */
void collectives_name_ranks(const bool *which, int world, const int *ranks, char *text, size_t nbytes);

/* place->oob's all-gather, or that of one rank, which may come without. */
int collectives_gather(const cadre_oob *oob, const void *mine, void *all, size_t nbytes, double timeout_s);

/* Ranks that can share memory. */
static inline bool collectives_same_host(const collectives_place *place, int a, int b)
{
    return memcmp(place->cards[a], place->cards[b], COLLECTIVES_CARD) == 0;
}

/*
 * The end of a setup stage: every rank gives its status so far (with its thread's message when it failed) and all get
 * the same answer, 0 or the lowest failed rank's status with the message "<stage>: rank 1: <its message>". Blocks in
 * the oob.
 */
int collectives_agree(const cadre_oob *oob, double timeout_s, int status, const char *stage);
/* The same among ranks that messages call ranks[0], ranks[1], ...; NULL: 0, 1, ... */
int collectives_agree_among(const cadre_oob *oob, const int *ranks, double timeout_s, int status, const char *stage);

/* The slot of op->kind, which is none of alloc. */
int collectives_operate(const collectives_backend *backend, void *self, collectives_op *op);

/* The backends there are, best known first; NULL ends the list. */
const collectives_backend *const *collectives_registry(void);

extern const collectives_backend collectives_self;
extern const collectives_backend collectives_shm;
extern const collectives_backend collectives_hier; /* shm within hosts, messages of the module between them */
extern const collectives_backend collectives_nccl; /* opens NCCL and CUDA when it is asked for */
extern const collectives_backend collectives_mpi;  /* loads the module when it is used */

#endif
