/* `cadre bench collectives`: what is asked for, and what one size gave. */
#ifndef CLI_BENCH_H
#define CLI_BENCH_H

#include "cadre/collectives.h"

#include <stdbool.h>

enum { BENCH_OPERATIONS = 5 };

typedef enum bench_operation {
    BENCH_ALL_REDUCE,
    BENCH_REDUCE_SCATTER,
    BENCH_ALL_GATHER,
    BENCH_BROADCAST,
    BENCH_BARRIER
} bench_operation;

extern const char *const bench_operation_names[BENCH_OPERATIONS];

typedef struct bench_plan {
    bool operations[BENCH_OPERATIONS]; /* which */
    const char *backend;               /* NULL: the best one */
    const char *device;                /* NULL: buffers in host memory; "cuda" */
    int ranks;
    size_t least, most; /* bytes */
    double factor;
    cadre_dtype dtype;
    cadre_op op;
    bool unregistered;
    long iterations; /* 0: as many as go into half a second, 10 to 1000 */
    long warmup;
    double timeout_s;
    bool json;
} bench_plan;

typedef struct bench_row {
    bench_operation operation;
    size_t nbytes, count; /* of the whole buffer; elements that a rank gives or gets, as nccl-tests counts them */
    long iterations;
    double seconds, least, most; /* of an operation's slowest rank: median, least, most */
    double algbw, busbw;         /* 1e9 bytes a second */
    int64_t wrong;               /* elements, over all ranks */
} bench_row;

/** Called on rank 0, in order; first once with NULL when all is set up. */
typedef void bench_row_fn(const bench_row *row, const char *backend, void *user);

/** Copy between host memory and a GPU's, or within that. */
int bench_device_copy(void *to, const void *from, size_t nbytes);

/** Be one of the ranks. A negative status with the message set. */
int bench_run(const bench_plan *plan, const cadre_oob *oob, bench_row_fn *fn, void *user);

#endif
