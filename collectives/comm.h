/* The front's own communicator and request, shared by comm.c, request.c and setup.c. */
#ifndef COLLECTIVES_COMM_H
#define COLLECTIVES_COMM_H

#include "backend.h"
#include "base/error.h"

#include <stdatomic.h>

enum { COLLECTIVES_LABEL = 256 };

struct cadre_comm {
    const collectives_backend *backend;
    void *self;
    int rank, world;
    double timeout_s, stall_s;
    atomic_int aborted; /* set by cadre_comm_abort, perhaps in a signal handler */
    int broken;         /* status of the first error, 0: none */
    char broken_text[BASE_ERROR_MAX];
    char label[COLLECTIVES_LABEL];
    int64_t late_ns; /* waited for ranks that came later (cadre_comm_late_s) */
    bool wish;       /* to leave, of this rank; rides on the next gradient sync (wish.c) */
    int agreed;      /* what the last sync brought back: 0 nothing yet, 1 nobody, 2 somebody wishes to leave */
    int logical;     /* workers that each rank stands for, 0: none (wish.c) */
    void (*on_progress)(void *user); /* progress.h */
    void *on_progress_user;
    cadre_request *head, *tail; /* requests not complete, oldest first; only the head is known to the backend */
};

struct cadre_request {
    cadre_comm *comm;
    cadre_request *next;
    collectives_op op; /* its label points to the one below */
    bool begun, done;
    char label[COLLECTIVES_LABEL];
};

/* 0, or what a call on this communicator has to return at once (broken, or just found aborted). */
int collectives_usable(cadre_comm *comm);
/* Pass `status` on; an error breaks the communicator. */
int collectives_outcome(cadre_comm *comm, int status);
/* Check the arguments that all-reduces have in common. */
int collectives_check(const cadre_comm *comm, const char *call, const void *data, size_t count, cadre_dtype dtype,
                      cadre_op op);
/* All of a reduce-scatter's. */
int collectives_check_scatter(const cadre_comm *comm, const char *call, const void *input, const void *output,
                              size_t count, cadre_dtype dtype, cadre_op op);
/* Set started, stall and deadline from now. */
void collectives_set_clock(const cadre_comm *comm, collectives_op *op);

static inline collectives_op collectives_all_reduce_op(void *data, size_t count, cadre_dtype dtype, cadre_op op)
{
    return (collectives_op){
        .kind = COLLECTIVES_ALL_REDUCE, .input = data, .output = data, .count = count, .dtype = dtype, .op = op};
}

static inline collectives_op collectives_reduce_scatter_op(const void *input, void *output, size_t count,
                                                           cadre_dtype dtype, cadre_op op)
{
    return (collectives_op){
        .kind = COLLECTIVES_REDUCE_SCATTER, .input = input, .output = output, .count = count, .dtype = dtype, .op = op};
}

/* Complete every request that was started, before an operation that comes later. */
int collectives_drain(cadre_comm *comm);
/* Forget the requests of a communicator that is freed. */
void collectives_drop_requests(cadre_comm *comm);

#endif
