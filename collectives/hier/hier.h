/*
 * The hier backend. Within a host an shm communicator; between hosts each rank exchanges messages with those of its own
 * lane, which is its number among the ranks of its host. There are as many lanes as the smallest host has ranks; what
 * others have more works within its host only. See ops.c and uneven.c, and meet.c for how an operation begins.
 */
#ifndef COLLECTIVES_HIER_H
#define COLLECTIVES_HIER_H

#include "collectives/mpi/table.h"
#include "collectives/shm/shm.h"

enum {
    HIER_PIECE = 2 << 20,       /* bytes of a rank's buffer that are under way at a time, in two pieces */
    HIER_SMALL = 32 << 10,      /* up to here every lane exchanges all of it, and it goes with the letter */
    HIER_GRACE_NS = 1000000000, /* see below */
    HIER_LOOK_NS = 20000000,    /* how often a rank that waits for messages looks for alarms */
    HIER_ALARM_BYTES = 512,
};

/* What a rank that fails tells those on other hosts. */
struct hier_alarm {
    int32_t status;
    char text[HIER_ALARM_BYTES];
};

/* The first message of an operation from a rank to one of its lane; as much of `data` as there is. */
struct hier_letter {
    struct shm_call call;
    char padding[SHM_LINE - sizeof(struct shm_call)];
    char data[HIER_SMALL];
};

/* Where what another host sends is to go. */
struct hier_parcel {
    void *to;
    size_t nbytes;
};

/* Hosts are numbered by their first ranks. */
struct hier_layout {
    int hosts;
    int lanes, most; /* ranks of the smallest and of the largest host */
    bool in_order;   /* host by host */
    int lead[SHM_RANKS_MAX], count[SHM_RANKS_MAX], begin[SHM_RANKS_MAX]; /* first rank, ranks, where in hier.ranks */
};

typedef struct hier {
    struct hier_layout layout;
    int rank, world, hosts, lanes, host;
    int lane, locals; /* the own number among the ranks of the host, and how many those are */
    int *host_of;     /* one a rank */
    int *ranks;       /* those of host 0, of host 1, ... */
    const collectives_mpi_messages *messages;
    struct exchange *pieces[2]; /* data, in turn */
    struct exchange *letters;
    struct exchange *alarms;
    struct hier_alarm *heard; /* one a rank */
    struct hier_alarm *said;
    bool alarmed; /* said has been sent, or is not to be */
    /* the operation under way */
    struct shm_call call;
    bool with_data;              /* its first data go with the letters */
    bool met;                    /* the other hosts make the same call */
    bool stepped;                /* the host's ranks have met in it */
    int64_t grace_ns;            /* see below */
    bool *greeted;               /* one a host */
    struct hier_parcel *parcels; /* one a host: what its letter is to bring */
    void *inbox, *outbox;        /* a letter a host */
    atomic_int aborted;
    int64_t crowded_until_ns; /* others want this core: waiting is by sleeping */
    shm *within;
    char *work;         /* HIER_PIECE bytes of the host's shared memory: float32 of bfloat16, rearranged blocks */
    void *const *works; /* those of all ranks of the host */
    char *scratch;      /* what the other hosts sent: two halves of half_bytes */
    size_t half_bytes;
} hier;

/* exchange.c: waiting for messages */
int hier_await(hier *h, collectives_op *op, struct exchange *x);
/* Tell this host's ranks that messages have failed with `status` and the thread's message; answers `status`. */
int hier_broken(hier *h, const collectives_op *op, int status);
/* Tell the other hosts that `status` (0: nothing) came of an operation, with the thread's message; answers `status`. */
int hier_failed(hier *h, int status);
int hier_listen(hier *h); /* be ready for alarms */

/* layout.c. false: more than there can be. */
bool hier_survey(const collectives_place *place, struct hier_layout *layout, char why[COLLECTIVES_WHY]);
int hier_lay_out(hier *h, const collectives_place *place); /* after the survey */
static inline int hier_rank_at(const hier *h, int host, int lane) { return h->ranks[h->layout.begin[host] + lane]; }
/* The rank of this lane on `host`. */
static inline int hier_rank_on(const hier *h, int host) { return hier_rank_at(h, host, h->lane); }

/* meet.c: the beginning of an operation */
void hier_begin(hier *h, const struct shm_call *call, bool with_data);
int hier_greet(hier *h, const collectives_op *op); /* send the letters that have not been sent, without data */
int hier_meet(hier *h, collectives_op *op);        /* wait for the others' letters; CADRE_EMISMATCH when calls differ */
/* Exchange with the lane's rank on `host`, by `x` or by letter. in.to is the user's memory only when there are letters
 * with data, or the others have been met. */
int hier_trade(hier *h, collectives_op *op, struct exchange *x, int host, struct hier_parcel in, const void *out,
               size_t out_bytes);

static inline size_t hier_smaller(size_t a, size_t b) { return a < b ? a : b; }
/* `count` elements in `parts` parts, the first ones longer by one where it does not come out even: where part `i`
 * begins and how many are in it. */
static inline void hier_part(size_t count, int parts, int i, size_t *lo, size_t *n)
{
    size_t share = count / (size_t)parts, rest = count % (size_t)parts, at = (size_t)i;
    *lo = share * at + hier_smaller(at, rest);
    *n = share + (at < rest);
}

/* sum.c. How the elements of an operation travel. */
struct hier_wire {
    cadre_dtype dtype;
    size_t size;
    cadre_op op;
    bool wide; /* bfloat16 as float32 */
};
struct hier_wire hier_wire_of(const collectives_op *op);
struct shm_task hier_step(collectives_kind kind, const struct hier_wire *w, const void *input, void *output,
                          size_t count);
int hier_within(hier *h, collectives_op *op, struct shm_task task); /* a step within the host */
/* The end of a sum that is a mean. */
void hier_finish_mean(const hier *h, const collectives_op *op, const struct hier_wire *w, void *data, size_t count);
/* In all of these `half` is a piece's number modulo 2. Room for `each` bytes from `host`. */
char *hier_place(const hier *h, int half, int host, size_t each);
/* Exchange data with the lane's rank on `host`; wait for all that was. */
int hier_swap(hier *h, collectives_op *op, int half, int host, void *in, size_t in_bytes, const void *out,
              size_t out_bytes);
int hier_take(hier *h, collectives_op *op, int half);
/* Send `count` elements of this lane on their way; wait for what the others sent and sum it, in place. */
int hier_sum_begin(hier *h, collectives_op *op, const struct hier_wire *w, int half, char *slice, size_t count);
int hier_sum_end(hier *h, collectives_op *op, const struct hier_wire *w, int half, char *slice, size_t count);

typedef int hier_way(hier *h, collectives_op *op);
/* uneven.c */
hier_way hier_uneven_all_reduce, hier_uneven_reduce_scatter, hier_uneven_all_gather;
bool hier_uneven_by_letter(const hier *h, const collectives_op *op);

/*
 * ops.c. Deadlines: when a rank is missing, those that wait for it should be the first to give up, as they can name it;
 * those that wait for them then hear of it. Between hosts nobody sees what the others do, so a rank waits HIER_GRACE_NS
 * beyond the deadline for messages (twice that for those of a broadcast's root, which may be waiting for a third host);
 * within a host ranks see who waits for messages, and wait for them as long (collectives_shm_elsewhere).
 */
int hier_operate(void *self, collectives_op *op);
/* The same as a part of `call`, which is what the other ranks are to make, too. */
int hier_operate_as(hier *h, collectives_op *op, struct shm_call call);

#endif
