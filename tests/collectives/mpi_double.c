/*
 * A double of libcadre_mpi.so for tests of hier: the messages of mpi/table.h between processes of one machine, over
 * memory that they have inherited, without MPI. So ranks can be killed and stopped with nobody to end the others.
 *
 * CADRE_MPI_DOUBLE is the number of a descriptor of that memory (mpi_double.h), empty at the beginning; rank and world
 * are what mpirun would say (OMPI_COMM_WORLD_RANK, OMPI_COMM_WORLD_SIZE). As in MPI, messages of one tag between two
 * ranks come in order, a short one is gone when it is sent, a long one when it is received, nothing moves unless
 * somebody looks, and a receiver with too little room is told so.
 */
#include "mpi_double.h"
#include "collectives/mpi/table.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

enum { OOB_TAG = 1, AMONG_TAG = 2, FIRST_TAG = 16, EAGER = 4096 };

static const collectives_host *host;
static struct double_slot *slots; /* [from][to][MPI_DOUBLE_SLOTS] */
static int own_rank, own_world;
static uint64_t sent_so_far;

struct message {
    void *data;
    size_t nbytes;
    bool active;
    bool came; /* and arrived() has not told yet */
    bool truncated;
    int tag;
    struct double_slot *slot; /* of a send: where it lies */
    struct message *next;     /* of a receive: the one posted after it, for the same sender */
};

struct exchange {
    int tag;
    struct message in[MPI_DOUBLE_RANKS], out[MPI_DOUBLE_RANKS];
};

static struct message *posted[MPI_DOUBLE_RANKS]; /* receives, one list a sender, oldest first */

static struct double_slot *slots_of(int from, int to)
{
    return slots + ((size_t)from * (size_t)own_world + (size_t)to) * MPI_DOUBLE_SLOTS;
}

static void go_on_sending(struct exchange *x, int to)
{
    struct message *m = &x->out[to];
    struct double_slot *all = slots_of(own_rank, to);
    for (int i = 0; m->active && !m->slot && i < MPI_DOUBLE_SLOTS; i++) {
        if (atomic_load(&all[i].state) != SLOT_FREE)
            continue;
        m->slot = &all[i];
        m->slot->tag = x->tag;
        m->slot->number = ++sent_so_far;
        m->slot->nbytes = m->nbytes;
        memcpy(m->slot->data, m->data, m->nbytes);
        atomic_store(&m->slot->state, m->nbytes <= EAGER ? SLOT_SHORT : SLOT_LONG);
        if (m->nbytes <= EAGER)
            m->active = false;
    }
    if (m->active && m->slot && atomic_load(&m->slot->state) == SLOT_TAKEN) {
        atomic_store(&m->slot->state, SLOT_FREE);
        m->active = false;
    }
}

/* The oldest message of a tag from a rank. What a second look finds as well is it: an older one would be there by then.
 */
static struct double_slot *oldest(int from, int tag)
{
    struct double_slot *all = slots_of(from, own_rank), *first = NULL, *before;
    do {
        before = first;
        for (int i = 0; i < MPI_DOUBLE_SLOTS; i++) {
            unsigned state = atomic_load(&all[i].state);
            if ((state == SLOT_SHORT || state == SLOT_LONG) && all[i].tag == tag &&
                (!first || all[i].number < first->number))
                first = &all[i];
        }
    } while (first != before);
    return first;
}

/* Whether a receive posted before this one has its tag: the next message is that one's, and may have come since. */
static bool has_elder(int from, const struct message *m)
{
    const struct message *other = posted[from];
    while (other->tag != m->tag)
        other = other->next;
    return other != m;
}

/* Receives get messages in the order in which they were posted, whoever looks. */
static void go_on_receiving(int from)
{
    struct message **link = &posted[from];
    while (*link) {
        struct message *m = *link;
        struct double_slot *slot = has_elder(from, m) ? NULL : oldest(from, m->tag);
        if (!slot) {
            link = &m->next;
            continue;
        }
        *link = m->next;
        m->active = false;
        m->came = true;
        m->truncated = slot->nbytes > m->nbytes;
        memcpy(m->data, slot->data, m->truncated ? m->nbytes : slot->nbytes);
        atomic_store(&slot->state, atomic_load(&slot->state) == SLOT_SHORT ? SLOT_FREE : SLOT_TAKEN);
    }
}

static int look(struct exchange *x, bool *complete)
{
    int status = CADRE_OK;
    *complete = true;
    for (int r = 0; r < own_world; r++) {
        go_on_receiving(r);
        go_on_sending(x, r);
        if (x->in[r].truncated)
            status = host->error(CADRE_EMISMATCH, "the double of MPI: message truncated");
        *complete = *complete && !x->in[r].active && !x->out[r].active;
    }
    return status;
}

static int double_send(struct exchange *x, int to, const void *data, size_t nbytes)
{
    if (x->out[to].active || nbytes > MPI_DOUBLE_BYTES)
        return host->error(CADRE_ESTATE, "the double of MPI: a second message, or too long a one");
    x->out[to] = (struct message){.data = (void *)(uintptr_t)data, .nbytes = nbytes, .active = true};
    go_on_sending(x, to);
    return CADRE_OK;
}

static int double_receive(struct exchange *x, int from, void *data, size_t nbytes)
{
    if (x->in[from].active)
        return host->error(CADRE_ESTATE, "the double of MPI: a second message");
    x->in[from] = (struct message){.data = data, .nbytes = nbytes, .active = true, .tag = x->tag};
    struct message **link = &posted[from];
    while (*link)
        link = &(*link)->next;
    *link = &x->in[from];
    return CADRE_OK;
}

static bool received(struct exchange *x, int rank)
{
    go_on_receiving(rank);
    return !x->in[rank].active;
}

static bool sent(struct exchange *x, int rank)
{
    go_on_sending(x, rank);
    return !x->out[rank].active;
}

static int arrived(struct exchange *x)
{
    for (int r = 0; r < own_world; r++) {
        go_on_receiving(r);
        if (x->in[r].came) {
            x->in[r].came = false;
            return r;
        }
    }
    return -1;
}

static int double_open(int tag, struct exchange **out)
{
    struct exchange *x = calloc(1, sizeof *x);
    if (!x)
        return host->error(CADRE_ENOMEM, "out of memory");
    x->tag = tag;
    *out = x;
    return CADRE_OK;
}

static void drop(struct exchange *x)
{
    for (int r = 0; r < own_world; r++)
        for (struct message **link = &posted[r]; *link;)
            if (*link == &x->in[r])
                *link = (*link)->next;
            else
                link = &(*link)->next;
}

static void double_close(struct exchange *x)
{
    drop(x);
    free(x);
}

static int gather(int tag, const int *ranks, int count, const void *mine, void *all, size_t nbytes, double timeout_s)
{
    struct exchange x = {.tag = tag};
    int64_t deadline = host->now_ns() + (int64_t)(timeout_s * 1e9);
    bool complete = false;
    int status = CADRE_OK;
    for (int i = 0; i < count && !status; i++) {
        int rank = ranks ? ranks[i] : i;
        char *place = (char *)all + (size_t)i * nbytes;
        if (rank == own_rank)
            memcpy(place, mine, nbytes);
        else
            status = double_receive(&x, rank, place, nbytes);
        if (rank != own_rank && !status)
            status = double_send(&x, rank, mine, nbytes);
    }
    while (!status && !complete) {
        status = look(&x, &complete);
        for (int r = 0; r < own_world && !complete && host->now_ns() > deadline; r++)
            if (x.in[r].active || x.out[r].active) {
                char text[64];
                snprintf(text, sizeof text, "deadline passed: still waiting for rank %d", r);
                status = host->error(CADRE_ETIMEDOUT, text);
                break;
            }
        if (!complete)
            host->sleep_ns(50000);
    }
    drop(&x);
    return status;
}

static int gather_among(const int *ranks, int count, const void *mine, void *all, size_t nbytes, double timeout_s)
{
    return gather(AMONG_TAG, ranks, count, mine, all, nbytes, timeout_s);
}

static int oob_all_gather(void *user, const void *mine, void *all, size_t nbytes, double timeout_s)
{
    (void)user;
    return gather(OOB_TAG, NULL, own_world, mine, all, nbytes, timeout_s);
}

static int agree_on_tag(const collectives_place *place, int *tag)
{
    static int32_t made;
    int32_t all[MPI_DOUBLE_RANKS], highest = 0;
    int status = place->oob->all_gather(place->oob->user, &made, all, sizeof made, place->timeout_s);
    for (int r = 0; r < own_world && !status; r++)
        highest = all[r] > highest ? all[r] : highest;
    if (status)
        return status;
    made = highest + 1;
    *tag = FIRST_TAG + 3 * made;
    return CADRE_OK;
}

static int join(int *rank, int *world)
{
    const char *fd = getenv("CADRE_MPI_DOUBLE"), *r = getenv("OMPI_COMM_WORLD_RANK"),
               *w = getenv("OMPI_COMM_WORLD_SIZE");
    if (!fd || !r || !w || atoi(w) > MPI_DOUBLE_RANKS)
        return host->error(CADRE_ENOTSUP, "the double of MPI: its variables are not set");
    *rank = own_rank = atoi(r);
    *world = own_world = atoi(w);
    if (!slots) {
        void *base = mmap(NULL, mpi_double_bytes(own_world), PROT_READ | PROT_WRITE, MAP_SHARED, atoi(fd), 0);
        if (base == MAP_FAILED)
            return host->error(CADRE_ESYSTEM, "the double of MPI: its memory cannot be mapped");
        slots = base;
    }
    return CADRE_OK;
}

static void leave(bool ok) { (void)ok; }

static const collectives_mpi_messages messages = {
    .agree_on_tag = agree_on_tag,
    .gather_among = gather_among,
    .open = double_open,
    .close = double_close,
    .send = double_send,
    .receive = double_receive,
    .look = look,
    .arrived = arrived,
    .received = received,
    .sent = sent,
};

static const collectives_mpi_table table = {
    .abi = COLLECTIVES_ABI,
    .size = sizeof(collectives_mpi_table),
    .messages = &messages,
    .join = join,
    .all_gather = oob_all_gather,
    .leave = leave,
};

CADRE_API const collectives_mpi_table *cadre_mpi_backend(const collectives_host *given)
{
    host = given;
    return &table;
}
