/*
 * Collectives: communicators over which a fixed set of ranks reduce, gather and broadcast.
 *
 * All ranks of a communicator call the same operations in the same order with the same counts. Counts are elements
 * (`count`), sizes are bytes (`nbytes`). Sums are taken in one fixed order, a binary tree over the ranks, so the same
 * input gives the same bits every time and on every rank:
 *
 *     tree(lo, n) = x[lo]                              if n = 1
 *                 = tree(lo, h) + tree(lo + h, n - h)  with h the largest power of two below n
 *
 * (hier: a tree over hosts of trees over their ranks, which is the same where hosts have equally many ranks, a power of
 * two, one host after the other.)
 *
 * Every call has a deadline. After an error other than CADRE_EINVAL the communicator is broken: each further call on it
 * returns CADRE_ESTATE with the first error's words; free it. A communicator is used by one thread at a time (with the
 * mpi backend always the one that initialised MPI).
 *
 * What operations return besides: CADRE_EINVAL (found before anything was sent, the other ranks do not hear of it),
 * CADRE_ETIMEDOUT (naming the ranks that are missing), CADRE_EPEER (a rank died; shm notices within a second, MPI's own
 * mpirun ends the job), CADRE_EMISMATCH (the ranks call different operations; shm and hier always notice),
 * CADRE_ECANCELED.
 * Where the backend can (shm, hier), the first rank to fail tells the others, which then return its status and words.
 * Buffers are undefined after an error. They have to be aligned to their elements.
 *
 * With the nccl backend a buffer is either on the GPU (on all ranks) or in host memory (on all ranks): the former goes to
 * NCCL, which sums in an order of its own (equal within rounding; bfloat16 is rounded after each addition; a NaN may be
 * lost in CADRE_MIN and CADRE_MAX), the latter to the best host backend, as does cadre_barrier.
 *
 * What is on the GPU is done in the order of a CUDA stream, the default one or that of cadre_comm_set_stream:
 *   - when an operation is called (or started), it waits, on the GPU, for all that the stream has by then;
 *   - when it returns (a request: when cadre_wait returns), the stream waits for it: what is put on the stream from then
 *     on finds the result. The host has not waited: it, other streams, and what was put on this one before cadre_wait may
 *     still see the buffer as it was, or half done;
 *   - the host knows that it is complete after cadre_comm_synchronize, cadre_barrier, cadre_test answering done, or
 *     when CUDA says so of the stream.
 * Errors come the same way: a thread watches what is under way, and at its deadline, or within a second of a rank of the
 * same host dying, aborts NCCL; the stream then goes on, with undefined buffers, and the next call (at the latest
 * cadre_comm_synchronize or cadre_barrier) returns the error, which names the operation that failed. So whoever is to
 * trust a result calls one of them first; cadre_report and what saves a checkpoint do.
 */
#ifndef CADRE_COLLECTIVES_H
#define CADRE_COLLECTIVES_H

#include "cadre/status.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct cadre_comm cadre_comm;
typedef struct cadre_request cadre_request;

typedef enum cadre_dtype {
    CADRE_FLOAT32 = 0,
    CADRE_FLOAT64 = 1,
    CADRE_BFLOAT16 = 2, /* reduced in float32, rounded to nearest even once at the end */
    CADRE_INT32 = 3,
    CADRE_INT64 = 4, /* integers wrap around; their mean is the sum divided by the ranks, towards zero */
} cadre_dtype;

/* In CADRE_MIN and CADRE_MAX a NaN on any rank wins. */
typedef enum cadre_op { CADRE_SUM = 0, CADRE_MEAN = 1, CADRE_MIN = 2, CADRE_MAX = 3, CADRE_PRODUCT = 4 } cadre_op;

/** Bytes an element takes; 0 for a number that is no dtype. */
CADRE_API size_t cadre_dtype_size(cadre_dtype dtype);
/** "float32"; "unknown" for a number that is no dtype. Static. */
CADRE_API const char *cadre_dtype_name(cadre_dtype dtype);

/**
 * All that a backend needs from outside: an all-gather of small messages among the ranks, however slow. Provided by a
 * launcher, by MPI, or by a test's threads.
 */
typedef struct cadre_oob {
    size_t size; /* sizeof(cadre_oob) of the caller */
    int rank, world;
    /**
     * Every rank gives `nbytes` (the same on all, at most 65536) and receives world * nbytes in rank order. Called in
     * the same order by all. CADRE_ETIMEDOUT after `timeout_s` seconds, CADRE_EPEER when a rank is known to be gone.
     */
    int (*all_gather)(void *user, const void *mine, void *all, size_t nbytes, double timeout_s);
    void *user;
} cadre_oob;

typedef struct cadre_comm_options {
    size_t size;         /* sizeof(cadre_comm_options) of the caller; 0 for this version */
    const char *backend; /* "self", "shm", "hier", "mpi", ...; NULL: the highest score */
    double timeout_s;    /* deadline of every operation; 0: 1800 */
    double stall_s;      /* after this long a waiting rank logs who is missing; 0: what CADRE_STALL_S says, or 30 */
    const char *device;  /* where buffers will be: NULL: host memory; "cuda:1"; "cuda": the GPU with the rank's number
                            among the ranks of its host, counted around */
} cadre_comm_options;

/**
 * Make a communicator: all ranks of `oob` call it and either all succeed or all fail. `options` may be NULL. `oob` is
 * copied; its user pointer must live as long as the communicator. oob with world 1 needs no all_gather. CADRE_EINVAL,
 * CADRE_ENOTSUP (no such backend, or it does not work here), CADRE_ETIMEDOUT, CADRE_EPEER, CADRE_EMISMATCH (the ranks
 * ask for different backends). For tests, a CADRE_HOST_ID in the environment stands for the host's name, so that one
 * machine can be several hosts.
 */
CADRE_API int cadre_comm_new(const cadre_oob *oob, const cadre_comm_options *options, cadre_comm **out);

/** Local: never waits for a peer (on a GPU: two seconds at most, then what is under way is aborted). NULL is fine. Memory
 *  from cadre_comm_alloc must have been freed before. */
CADRE_API void cadre_comm_free(cadre_comm *comm);

CADRE_API int cadre_comm_rank(const cadre_comm *comm);
CADRE_API int cadre_comm_world(const cadre_comm *comm);
/** "shm". Borrowed from the communicator. */
CADRE_API const char *cadre_comm_backend(const cadre_comm *comm);

/** Seconds in which this rank has waited, in operations and requests so far, for ranks that came to them later. Known to
 *  shm, and to hier within the host; elsewhere it is in the operation's time and 0 here. */
CADRE_API double cadre_comm_late_s(const cadre_comm *comm);

/** The GPU on which memory of cadre_comm_alloc is; -1: it is host memory. */
CADRE_API int cadre_comm_device(const cadre_comm *comm);
/**
 * From now on buffers on the GPU are written and read on this CUDA stream (a cudaStream_t) of the communicator's device;
 * NULL: the default stream, as at the beginning. For a request it is the one set when it is started that it waits for, and
 * the one set at cadre_wait that waits for it. On communicators without a device nothing.
 */
CADRE_API void cadre_comm_set_stream(cadre_comm *comm, void *stream);

/**
 * Block until all operations that were called and requests that were started are complete, on the GPU, too. Local. The
 * errors are those of the operations.
 */
CADRE_API int cadre_comm_synchronize(cadre_comm *comm);

/**
 * Make the communicator fail: calls under way on this and, where the backend can, on other ranks return CADRE_ECANCELED
 * soon. May be called from any thread and from a signal handler.
 */
CADRE_API void cadre_comm_abort(cadre_comm *comm);

/**
 * Memory that the backend can reduce without copying (in shm: mapped by every rank; in nccl: on the GPU). Collective: all ranks call it with
 * the same `nbytes` (> 0). Zeroed, aligned to 4096 bytes. Free it with cadre_comm_dealloc (local; on a GPU it waits for
 * operations under way) before the communicator. CADRE_ENOSPC or CADRE_ENOMEM on all ranks when one cannot have it; that does not break the
 * communicator.
 */
CADRE_API int cadre_comm_alloc(cadre_comm *comm, size_t nbytes, void **memory);
CADRE_API void cadre_comm_dealloc(cadre_comm *comm, void *memory);

/**
 * Reduce `count` elements over all ranks, in place. Fastest when `data` lies in memory of cadre_comm_alloc at the same
 * offset on all ranks; any other memory works too.
 */
CADRE_API int cadre_all_reduce(cadre_comm *comm, void *data, size_t count, cadre_dtype dtype, cadre_op op);

/** Reduce world * count elements of `input`; rank r receives elements [r * count, (r + 1) * count) in `output`, which
 * may be input + r * count but not overlap it otherwise. `input` is left as it is, or undefined when in place. */
CADRE_API int cadre_reduce_scatter(cadre_comm *comm, const void *input, void *output, size_t count, cadre_dtype dtype,
                                   cadre_op op);

/** Every rank gives `count` elements; `output` receives world * count in rank order. `input` may be output + rank *
 * count. */
CADRE_API int cadre_all_gather(cadre_comm *comm, const void *input, void *output, size_t count, cadre_dtype dtype);

/** Copy `count` elements from rank `root` to all. */
CADRE_API int cadre_broadcast(cadre_comm *comm, void *data, size_t count, cadre_dtype dtype, int root);

/** Return when every rank has called it. What this rank called before is complete then, on its GPU, too. */
CADRE_API int cadre_barrier(cadre_comm *comm);

/**
 * Start an all-reduce and return; buffers may not be touched until it is complete. Requests complete in the order in
 * which they were started; every request is ended by cadre_wait (or by cadre_test answering done), on the thread that
 * started it. A backend without progress of its own does the work inside cadre_wait and cadre_test.
 */
CADRE_API int cadre_all_reduce_start(cadre_comm *comm, void *data, size_t count, cadre_dtype dtype, cadre_op op,
                                     cadre_request **request);

/** The same for a reduce-scatter, `input` and `output` as in cadre_reduce_scatter. Requests of both kinds are one queue. */
CADRE_API int cadre_reduce_scatter_start(cadre_comm *comm, const void *input, void *output, size_t count,
                                         cadre_dtype dtype, cadre_op op, cadre_request **request);

/** Wait until `*request` is complete (on a GPU: have the stream wait for it), free it and set it to NULL. NULL inside is
 *  fine. */
CADRE_API int cadre_wait(cadre_comm *comm, cadre_request **request);

/** `*done` tells whether it is complete; then it is freed and set to NULL. Does not block for a peer. */
CADRE_API int cadre_test(cadre_comm *comm, cadre_request **request, bool *done);

/** Name the next operations for stall and deadline messages: "bucket 3 (layer2.0.conv1.weight, ...)". Copied, cut at
 * 255 bytes. NULL: none. */
CADRE_API void cadre_comm_label(cadre_comm *comm, const char *label);

/**
 * A rank's wish to leave, so that it can ride on traffic that there is anyway: the session sets it; whoever next
 * exchanges data on this communicator (ddp's gradient sync) sends it along and hands back whether any rank wished so;
 * the session takes that once. All local, no waiting.
 */
CADRE_API void cadre_comm_set_wish(cadre_comm *comm, bool wish);
CADRE_API bool cadre_comm_wish(const cadre_comm *comm);
CADRE_API void cadre_comm_set_agreed(cadre_comm *comm, bool any);
/** 1: some rank wished, 0: none did, -1: nothing has come back since the last call. */
CADRE_API int cadre_comm_take_agreed(cadre_comm *comm);

/**
 * How many logical workers each rank stands for (scaling.logical_workers), 0 when there are none: the session sets it, and ddp, which has to sum for as
 * many, refuses other options. Local.
 */
CADRE_API void cadre_comm_set_logical(cadre_comm *comm, int workers);
CADRE_API int cadre_comm_logical(const cadre_comm *comm);

/** What this build and machine have, for `cadre info`: calls `fn` for every backend with its name, score here (0: does
 * not work) and why. */
typedef void cadre_backend_fn(const char *name, int score, const char *detail, void *user);
CADRE_API void cadre_backends(cadre_backend_fn *fn, void *user);

#ifdef __cplusplus
}
#endif
#endif
