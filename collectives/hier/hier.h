/*
 * The hier backend: hosts with equally many ranks each, one after the other (rank = host * lanes + lane). Within a host
 * an shm communicator; between hosts each rank exchanges messages with those of its own lane. See ops.c.
 */
#ifndef COLLECTIVES_HIER_H
#define COLLECTIVES_HIER_H

#include "collectives/mpi/table.h"
#include "collectives/shm/shm.h"

enum {
    HIER_PIECE = 2 << 20,      /* bytes of a rank's buffer that are under way at a time, in two pieces */
    HIER_SMALL = 32 << 10,     /* up to here every lane exchanges all of it */
    HIER_GRACE_NS = 500000000, /* see below */
    HIER_LOOK_NS = 20000000,   /* how often a rank that waits for messages looks for alarms */
    HIER_ALARM_BYTES = 512,
};

/* What a rank that fails tells those on other hosts. */
struct hier_alarm {
    int32_t status;
    char text[HIER_ALARM_BYTES];
};

typedef struct hier {
    int rank, world, hosts, lanes, host, lane;
    const collectives_mpi_messages *messages;
    struct exchange *pieces[2]; /* data, in turn */
    struct exchange *alarms;
    struct hier_alarm *heard; /* one a rank */
    struct hier_alarm *said;
    bool alarmed; /* said has been sent, or is not to be */
    atomic_int aborted;
    int64_t crowded_until_ns; /* others want this core: waiting is by sleeping */
    shm *within;
    char *work;    /* HIER_PIECE bytes of the host's shared memory: float32 of bfloat16, rearranged blocks */
    char *scratch; /* what the other hosts sent: two halves of half_bytes */
    size_t half_bytes;
} hier;

/* exchange.c: waiting for messages */
int hier_await(hier *h, collectives_op *op, struct exchange *x);
/* Tell the other hosts that `op` has failed here with `status` and the thread's message; answers `status`. */
int hier_failed(hier *h, int status);
int hier_listen(hier *h); /* be ready for alarms */

/*
 * ops.c. Deadlines: when a rank is missing, those that wait for it should be the first to give up, as they can name it;
 * those that wait for them then hear of it. So a rank waits HIER_GRACE_NS beyond the deadline for messages, and twice
 * that for ranks of its host that may be waiting for messages (late).
 */
int hier_operate(void *self, collectives_op *op);

#endif
