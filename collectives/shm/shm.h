/*
 * The shm backend: ranks on one host, each of which has mapped what the others share. See wait.c for the barrier,
 * segment.c for the memory, ops.c for the operations.
 */
#ifndef COLLECTIVES_SHM_H
#define COLLECTIVES_SHM_H

#include "collectives/backend.h"

#include <stdalign.h>
#include <stdatomic.h>
#include <sys/types.h>

enum {
    SHM_RANKS_MAX = 256,
    SHM_LINE = 64,
    SHM_STAGES = 3,            /* staging buffers a rank: one filled, one reduced, one copied out (ops.c) */
    SHM_LOOK_NS = 20000000,    /* how often a rank that waits looks for dead peers, the alarm and its deadline */
    SHM_FRESH_NS = 1000000000, /* see collectives_shm_elsewhere */
    SHM_PATIENCE_S = 5,
};

/* What has to be the same on all ranks. */
struct shm_call {
    int32_t kind, dtype, op, root;
    uint64_t count;
};

/* What a rank is about to do, shown to all in the operation's first barrier. One line; two of them in turn. */
struct shm_note {
    alignas(SHM_LINE) struct shm_call call;
    int32_t region;  /* of the buffer the others may use directly, -1: private memory */
    int32_t staged;  /* the first piece lies in the staging area already */
    uint64_t offset; /* in the region */
};

/* A word that many wait for has a line of its own. */
struct shm_seat {
    alignas(SHM_LINE) _Atomic uint32_t arrived; /* the rank's newest barrier */
    _Atomic int64_t elsewhere_ns;               /* when it last said that it waits for somebody else */
    struct shm_note notes[2];
};

enum { ALARM_NONE = 0, ALARM_FAILED = 1, ALARM_CANCELLED = 2 };

/* What lies at the start of the control segment; the staging buffers follow it. */
struct shm_control {
    alignas(SHM_LINE) _Atomic uint64_t count;      /* arrivals at all barriers so far */
    alignas(SHM_LINE) _Atomic uint32_t generation; /* barriers complete; the futex word */
    alignas(SHM_LINE) _Atomic uint32_t sleepers;
    alignas(SHM_LINE) _Atomic uint32_t alarm; /* no barrier will be complete any more */
    _Atomic int32_t canceller;
    _Atomic uint32_t claimed;  /* some rank writes the record */
    _Atomic uint32_t recorded; /* the record is whole */
    int32_t status, rank;
    char text[512]; /* the first error's words */
    uint64_t chunk; /* bytes of a staging buffer, as rank 0 has decided */
    uint64_t small; /* up to so many bytes one barrier and a copy beat two barriers and none; likewise */
    bool dear;      /* a line that another core has read is dear to write again (stream.c); likewise */
    struct shm_seat seats[];
};

/* Memory made by one rank, and how the others find it. All zero: none. */
typedef struct shm_card {
    int32_t pid, fd;
    uint64_t nbytes, device, inode;
    char path[64]; /* of the file in /dev/shm; "" for a memfd */
} shm_card;

/* Memory of cadre_comm_alloc. */
struct shm_region {
    struct shm_region *next;
    int id;
    size_t nbytes;
    void *base[]; /* each rank's, as this process has it mapped */
};

/* An operation on its way, told apart by the barriers in it (ops.c). */
struct shm_task {
    collectives_kind kind;
    cadre_dtype dtype;
    cadre_op op;
    int root;
    const char *input;
    char *output;
    size_t count, size;             /* elements, bytes of one */
    const struct shm_call *part_of; /* the call to show the others, of which this is a step; NULL: this task */
    int phase;
    int way;       /* enum in ops.c */
    size_t piece;  /* elements that go through the staging area at a time */
    size_t pieces; /* how many of them */
    size_t at;     /* the piece that is next */
    bool waiting;  /* has arrived at a barrier that is not known complete */
};

struct shm_peer {
    pid_t pid;
    int pidfd; /* -1: this very process, or no pidfd in this kernel */
};

typedef struct shm {
    int rank, world;
    const int *ranks; /* what they are called in messages; NULL: 0, 1, ... */
    bool spin;        /* a core for each rank */
    struct shm_control *control;
    char *stages;
    size_t chunk;
    uint64_t epoch; /* barriers arrived at */
    uint64_t slot;  /* pieces staged since the beginning, the same number on every rank */
    uint64_t notes; /* operations begun */
    struct shm_region *regions;
    int next_region;
    struct shm_task task;
    struct shm_peer peers[];
} shm;

static inline int collectives_shm_name(const shm *s, int rank) { return s->ranks ? s->ranks[rank] : rank; }

/* shm.c: who this rank is, for the others to see whether it can share memory with them: ranks with equal cards can */
void collectives_shm_card(unsigned char card[COLLECTIVES_CARD]);
/* Whether there is a core for each of this machine's ranks, whatever their hosts are called (containers share cores);
 * each may be bound to one of its own. Collective. */
int collectives_shm_roomy(const collectives_place *place, bool *roomy);

/* segment.c: memory shared by the ranks */
int collectives_shm_make(shm_card *card, size_t nbytes, bool in_file, void **base);
int collectives_shm_map(const shm_card *card, void **base);
void collectives_shm_unmap(void *base);
/* Every rank with a size gives memory of it; all get all of it (base[r] NULL where rank r gave none). Agreed by all. */
int collectives_shm_share(const cadre_oob *oob, const int *ranks, double timeout_s, size_t nbytes, shm_card *cards,
                          void **base);

/* memory.c: is there as much memory as that? CADRE_ENOSPC when not. */
int collectives_shm_room(size_t nbytes);

/* wait.c: the barrier, in two halves */
int collectives_shm_meet(shm *s); /* open the peers' pidfds */
void collectives_shm_arrive(shm *s);
int collectives_shm_await(shm *s, collectives_op *op, int64_t *waited_ns); /* block until all have arrived; adds */
int collectives_shm_poll(shm *s, collectives_op *op, bool *complete);      /* look */
int collectives_shm_fail(shm *s, const collectives_op *op, int status, const char *text);
int collectives_shm_alarmed(shm *s, const collectives_op *op); /* 0, or the first error of any rank */
void collectives_shm_cancel(shm *s);                           /* async-signal-safe */
/* This rank is alive and waits for somebody outside of this communicator, whom it will blame itself. Where only such
 * ranks are missing, the others wait up to SHM_PATIENCE_S seconds beyond the deadline for that. Good for SHM_FRESH_NS.
 */
void collectives_shm_elsewhere(shm *s);

/* ops.c */
struct shm_call collectives_shm_call(const collectives_op *op);
/* Whether rank `a` and rank `b` are to do the same; if not, `text` says what each does. */
bool collectives_shm_same(int a, const struct shm_call *first, int b, const struct shm_call *second, char *text,
                          size_t nbytes);
struct shm_task collectives_shm_task(const collectives_op *op);
int collectives_shm_run(shm *s, collectives_op *op, struct shm_task task); /* block until it is complete */
int collectives_shm_begin(shm *s, collectives_op *op);
int collectives_shm_test(shm *s, collectives_op *op, bool *done);
int collectives_shm_finish(shm *s, collectives_op *op);

#endif
