/*
 * The operations over MPI, as tasks like those of shm/ops.c: step() posts messages, and goes on when they have all
 * come.
 *
 * A sum goes piece by piece: every rank receives its slice of the piece from all the others, reduces them in the tree
 * order and sends the result to all. So the bits are those of shm. A small one is sent to all whole and reduced by
 * everyone.
 */
#include "module.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    PIECE = 8 << 20, /* bytes of a buffer that are under way at a time */
    SMALL = 8 << 10, /* an all-reduce up to here takes one exchange instead of two */
    FIRST_TAG = 16,
    TAGS = 10000, /* of three each; MPI promises 32767 */
};

enum step { STEP_WAIT, STEP_DONE };

struct mpi {
    struct exchange x;
    atomic_int aborted;
    char *scratch; /* what the others sent */
    size_t scratch_bytes;
    const void **from;
    /* the operation under way */
    size_t at; /* elements behind us */
    int phase; /* 0: post, 1: reduce what came, 2: after the result came */
    bool waiting;
    int tries;
};

static size_t piece_count(const collectives_op *op, const struct mpi *m, size_t size)
{
    size_t most = PIECE / size / (op->kind == COLLECTIVES_REDUCE_SCATTER ? (size_t)m->x.world : 1);
    if (most == 0)
        most = 1;
    return op->count - m->at < most ? op->count - m->at : most;
}

static void slice(int rank, int world, size_t count, size_t *lo, size_t *n)
{
    size_t share = count / (size_t)world, rest = count % (size_t)world, r = (size_t)rank;
    *lo = share * r + (r < rest ? r : rest);
    *n = share + (r < rest);
}

static int need_scratch(struct mpi *m, size_t each)
{
    size_t nbytes = each * (size_t)m->x.world;
    if (nbytes <= m->scratch_bytes)
        return CADRE_OK;
    char *fresh = realloc(m->scratch, nbytes);
    if (!fresh)
        return collectives_host_table->error(CADRE_ENOMEM, "out of memory for what the other ranks send");
    m->scratch = fresh;
    m->scratch_bytes = nbytes;
    return CADRE_OK;
}

/* Exchange with every other rank; NULL: nothing in that direction. Slices may be empty, which is no message. */
static int exchange(struct mpi *m, int r, void *in, size_t in_bytes, const void *out, size_t out_bytes)
{
    int status = in && in_bytes ? collectives_mpi_receive(&m->x, r, in, in_bytes) : CADRE_OK;
    if (!status && out && out_bytes)
        status = collectives_mpi_send(&m->x, r, out, out_bytes);
    return status;
}

static void reduce_received(struct mpi *m, const collectives_op *op, const void *own, size_t each, void *to,
                            size_t count)
{
    for (int r = 0; r < m->x.world; r++)
        m->from[r] = r == m->x.rank ? own : m->scratch + (size_t)r * each;
    if (count)
        collectives_host_table->reduce(&to, 1, m->from, m->x.world, count, op->dtype, op->op);
}

static int step_all_reduce(struct mpi *m, const collectives_op *op, size_t size, enum step *next)
{
    int world = m->x.world, rank = m->x.rank, status = CADRE_OK;
    size_t count = piece_count(op, m, size), lo, n, theirs, their_n;
    char *data = (char *)op->output + m->at * size;
    bool whole = op->count * size <= SMALL;
    slice(rank, world, count, &lo, &n);
    if (whole) {
        lo = 0;
        n = count;
    }
    *next = STEP_WAIT;
    switch (m->phase++) {
    case 0:
        status = need_scratch(m, n * size);
        for (int r = 0; r < world && !status; r++) {
            slice(r, world, count, &theirs, &their_n);
            if (r != rank && whole)
                status = exchange(m, r, m->scratch + (size_t)r * n * size, n * size, data, n * size);
            else if (r != rank)
                status =
                    exchange(m, r, m->scratch + (size_t)r * n * size, n * size, data + theirs * size, their_n * size);
        }
        return status;
    case 1:
        reduce_received(m, op, data + lo * size, n * size, data + lo * size, n);
        for (int r = 0; r < world && !status && !whole; r++) {
            slice(r, world, count, &theirs, &their_n);
            if (r != rank)
                status = exchange(m, r, data + theirs * size, their_n * size, data + lo * size, n * size);
        }
        if (!whole)
            return status;
        break;
    default:
        break;
    }
    m->at += count;
    m->phase = 0;
    *next = m->at < op->count ? STEP_WAIT : STEP_DONE; /* nothing is posted: the wait is over at once */
    return status;
}

static int step_reduce_scatter(struct mpi *m, const collectives_op *op, size_t size, enum step *next)
{
    size_t count = piece_count(op, m, size), each = count * size;
    const char *input = (const char *)op->input + m->at * size;
    size_t stride = op->count * size;
    *next = STEP_WAIT;
    if (m->phase++ == 0) {
        int status = need_scratch(m, each);
        for (int r = 0; r < m->x.world && !status; r++)
            if (r != m->x.rank)
                status = exchange(m, r, m->scratch + (size_t)r * each, each, input + (size_t)r * stride, each);
        return status;
    }
    reduce_received(m, op, input + (size_t)m->x.rank * stride, each, (char *)op->output + m->at * size, count);
    m->at += count;
    m->phase = 0;
    *next = m->at < op->count ? STEP_WAIT : STEP_DONE;
    return CADRE_OK;
}

static int step_all_gather(struct mpi *m, const collectives_op *op, size_t size, enum step *next)
{
    size_t each = piece_count(op, m, size) * size, stride = op->count * size;
    const char *input = (const char *)op->input + m->at * size;
    char *output = (char *)op->output + m->at * size;
    if (m->at == op->count) {
        *next = STEP_DONE;
        return CADRE_OK;
    }
    *next = STEP_WAIT;
    int status = CADRE_OK;
    for (int r = 0; r < m->x.world && !status; r++) {
        if (r != m->x.rank)
            status = exchange(m, r, output + (size_t)r * stride, each, input, each);
        else if (output + (size_t)r * stride != input)
            memcpy(output + (size_t)r * stride, input, each);
    }
    m->at += each / size;
    return status;
}

static int step_broadcast(struct mpi *m, const collectives_op *op, size_t size, enum step *next)
{
    size_t each = piece_count(op, m, size) * size;
    char *data = (char *)op->output + m->at * size;
    if (m->at == op->count) {
        *next = STEP_DONE;
        return CADRE_OK;
    }
    *next = STEP_WAIT;
    int status = CADRE_OK;
    if (m->x.rank != op->root)
        status = exchange(m, op->root, data, each, NULL, 0);
    for (int r = 0; r < m->x.world && m->x.rank == op->root && !status; r++)
        if (r != op->root)
            status = exchange(m, r, NULL, 0, data, each);
    m->at += each / size;
    return status;
}

/* A byte to everyone from everyone, so that a rank that is missing can be named. */
static int step_barrier(struct mpi *m, enum step *next)
{
    int status = CADRE_OK;
    *next = m->phase == 0 ? STEP_WAIT : STEP_DONE;
    if (m->phase++ > 0)
        return CADRE_OK;
    status = need_scratch(m, 2);
    for (int r = 0; r < m->x.world && !status; r++)
        if (r != m->x.rank)
            status = exchange(m, r, m->scratch + 2 * r, 1, m->scratch + 2 * r + 1, 1);
    return status;
}

static int step(struct mpi *m, const collectives_op *op, enum step *next)
{
    size_t size = op->kind == COLLECTIVES_BARRIER ? 1 : collectives_host_table->dtype_size(op->dtype);
    switch (op->kind) {
    case COLLECTIVES_ALL_REDUCE:
        return step_all_reduce(m, op, size, next);
    case COLLECTIVES_REDUCE_SCATTER:
        return step_reduce_scatter(m, op, size, next);
    case COLLECTIVES_ALL_GATHER:
        return step_all_gather(m, op, size, next);
    case COLLECTIVES_BROADCAST:
        return step_broadcast(m, op, size, next);
    default:
        return step_barrier(m, next);
    }
}

static int fail(struct mpi *m, const collectives_op *op, int status, const char *what)
{
    char described[COLLECTIVES_TEXT], missing[400], text[COLLECTIVES_TEXT + 512];
    double waited = (double)(collectives_host_table->now_ns() - op->started_ns) / 1e9;
    collectives_host_table->describe(op, described);
    collectives_mpi_missing(&m->x, missing, sizeof missing);
    if (status == CADRE_ETIMEDOUT)
        snprintf(text, sizeof text, "%s: deadline passed: after %.1f s still waiting for %s", described, waited,
                 missing);
    else
        snprintf(text, sizeof text, "%s: %s", described, what);
    return collectives_host_table->error(status, text);
}

/* Why not to wait any longer. */
static int look_around(struct mpi *m, collectives_op *op, int64_t now)
{
    if (atomic_load(&m->aborted))
        return fail(m, op, CADRE_ECANCELED, "cancelled by cadre_comm_abort");
    if (now >= op->deadline_ns)
        return fail(m, op, CADRE_ETIMEDOUT, "");
    if (now >= op->stall_ns) {
        char described[COLLECTIVES_TEXT], missing[400], text[COLLECTIVES_TEXT + 512];
        op->stall_ns = INT64_MAX;
        collectives_host_table->describe(op, described);
        collectives_mpi_missing(&m->x, missing, sizeof missing);
        snprintf(text, sizeof text, "%s: after %.1f s still waiting for %s", described,
                 (double)(now - op->started_ns) / 1e9, missing);
        collectives_host_table->log(CADRE_LOG_WARN, text);
    }
    return CADRE_OK;
}

static int advance(struct mpi *m, collectives_op *op, bool block, bool *done)
{
    *done = false;
    m->tries = 0;
    for (;;) {
        enum step next;
        while (m->waiting) {
            bool complete;
            int status = collectives_mpi_look(&m->x, &complete);
            if (status)
                return status;
            if (complete) {
                m->waiting = false;
                break;
            }
            int64_t now = collectives_host_table->now_ns();
            status = look_around(m, op, now);
            if (status || !block)
                return status;
            collectives_mpi_pause(now - op->started_ns, &m->tries);
        }
        int status = step(m, op, &next);
        if (status)
            return status;
        if (next == STEP_DONE) {
            *done = true;
            return CADRE_OK;
        }
        m->waiting = true;
    }
}

static int mpi_start(void *self, collectives_op *op)
{
    struct mpi *m = self;
    (void)op;
    m->at = 0;
    m->phase = 0;
    m->waiting = false;
    return CADRE_OK;
}

static int mpi_test(void *self, collectives_op *op, bool *done) { return advance(self, op, false, done); }

static int mpi_wait(void *self, collectives_op *op)
{
    bool done;
    return advance(self, op, true, &done);
}

static int mpi_operate(void *self, collectives_op *op)
{
    mpi_start(self, op);
    return mpi_wait(self, op);
}

static void mpi_abort(void *self) { atomic_store(&((struct mpi *)self)->aborted, 1); }

static void mpi_free(void *self)
{
    struct mpi *m = self;
    if (!m)
        return;
    collectives_mpi_exchange_free(&m->x);
    free(m->scratch);
    free(m->from);
    free(m);
}

/* All ranks come here in the same order with the communicators they make, but one may have failed elsewhere before: so
 * they compare what number each has come to. */
int collectives_mpi_agree_on_tag(const collectives_place *place, int *tag)
{
    static int32_t made;
    int world = place->oob->world;
    int32_t mine = made, highest = 0, *all = malloc((size_t)world * sizeof *all);
    if (!all)
        return collectives_host_table->error(CADRE_ENOMEM, "out of memory");
    all[0] = mine;
    int status =
        world > 1 ? place->oob->all_gather(place->oob->user, &mine, all, sizeof mine, place->timeout_s) : CADRE_OK;
    for (int r = 0; !status && r < world; r++)
        highest = all[r] > highest ? all[r] : highest;
    free(all);
    if (status)
        return status;
    made = (highest + 1) % TAGS;
    *tag = FIRST_TAG + 3 * made;
    return CADRE_OK;
}

static int mpi_init(const collectives_place *place, void **self)
{
    int tag = 0, status = collectives_mpi_agree_on_tag(place, &tag);
    if (status)
        return status;
    struct mpi *m = calloc(1, sizeof *m);
    status = m ? collectives_mpi_exchange_new(&m->x, collectives_mpi_world(), tag) : CADRE_ENOMEM;
    if (!status && !(m->from = malloc((size_t)m->x.world * sizeof *m->from)))
        status = CADRE_ENOMEM;
    if (status) {
        mpi_free(m);
        return collectives_host_table->error(status, "out of memory for an mpi communicator");
    }
    *self = m;
    return CADRE_OK;
}

const collectives_backend collectives_mpi_inside = {
    .abi = COLLECTIVES_ABI,
    .size = sizeof(collectives_backend),
    .name = "mpi",
    .init = mpi_init,
    .all_reduce = mpi_operate,
    .reduce_scatter = mpi_operate,
    .all_gather = mpi_operate,
    .broadcast = mpi_operate,
    .barrier = mpi_operate,
    .start = mpi_start,
    .test = mpi_test,
    .wait = mpi_wait,
    .abort = mpi_abort,
    .free = mpi_free,
};
