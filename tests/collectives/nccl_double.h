/* What the two halves of the double share: nccl_double.c is NCCL, nccl_double_cuda.c the CUDA runtime. */
#ifndef TEST_NCCL_DOUBLE_H
#define TEST_NCCL_DOUBLE_H

#include "collectives/nccl/library.h"

#include <stdatomic.h>

#define EXPORT __attribute__((visibility("default")))

/* The backend did what the real libraries would not forgive. */
_Noreturn void double_misuse(const char *what);
void double_nap(long ns);
/* A number from the environment. */
int double_number(const char *variable, int otherwise);
/* Is it `kind`'s turn, at passage `n` on `rank` (-1: it is not known)? */
bool double_fault(const char *kind, int n, int rank);

/* From now on the GPU has met an illegal address. */
extern atomic_int double_illegal;

/* Where the library itself may touch what the host knows as `memory`. */
char *double_inside(const void *memory);

/* The communicator that last gave work to the stream, for cudaEventRecord to look at. */
void double_uses(cuda_stream stream, nccl_comm comm);
bool double_in_progress(nccl_comm comm);

/* Memory that a task reads or writes; 0 bytes: none. */
struct double_range {
    const void *memory;
    size_t nbytes;
};

/* Something for a stream to do, after all that it has. `number` is the task's own. */
struct double_task {
    struct double_task *next;
    void (*fn)(struct double_task *task);
    cuda_event event;
    uint64_t number;
    void *to;
    const void *from;
    size_t nbytes;
    nccl_comm comm;
    collectives_op op;
};
void double_enqueue(cuda_stream stream, struct double_task what, struct double_range reads, struct double_range writes);
/* All that the stream has is through, and the host knows it. */
void double_host_knows(cuda_stream stream);

#endif
