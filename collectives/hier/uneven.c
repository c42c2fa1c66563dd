/*
 * The operations where hosts have different numbers of ranks (and the all-gather where ranks were dealt out in turn). A
 * piece is laid into every rank's part of its host's shared memory; the ranks that have a lane each reduce a slice of
 * it straight from there, exchange it with their lanes and leave it where it was; then all take what they need. So the
 * ranks that have no lane only lay down and take. A sum is the tree over hosts of trees over their ranks: always the
 * same bits on all ranks, but not those of the tree over all ranks.
 *
 * Two pieces lie there in turn: when a rank lays down piece k + 2, all have passed the first barrier of k + 1 and so
 * have taken what they need of k. A barrier at the end keeps the next operation off the last two.
 */
#include "hier.h"

#include "collectives/reduce.h"

#include <string.h>

enum { HALF = HIER_PIECE / 2 };

static size_t larger(size_t a, size_t b) { return a > b ? a : b; }

static char *half_of(const hier *h, int lane, int half) { return (char *)h->works[lane] + (size_t)half * HALF; }

static int meet_within(hier *h, collectives_op *op)
{
    const struct hier_wire w = {.size = 1};
    return hier_within(h, op, hier_step(COLLECTIVES_BARRIER, &w, NULL, h->work, 0));
}

static void lay_down(const struct hier_wire *w, void *to, const void *from, size_t count)
{
    if (w->wide)
        collectives_widen(to, from, count);
    else
        memcpy(to, from, count * w->size);
}

/* Sum the `total` elements that every rank has laid down: afterwards each lane's half has its slice of the sum. */
static int sum_piece(hier *h, collectives_op *op, const struct hier_wire *w, int half, size_t total)
{
    const void *from[SHM_RANKS_MAX];
    size_t lo, n;
    int status = meet_within(h, op);
    if (!status && h->lane < h->lanes) {
        hier_part(total, h->lanes, h->lane, &lo, &n);
        for (int r = 0; r < h->locals; r++)
            from[r] = half_of(h, r, half) + lo * w->size;
        void *own = half_of(h, h->lane, half) + lo * w->size;
        if (n)
            collectives_reduce(&own, 1, from, h->locals, n, w->dtype, w->op);
        status = hier_sum_begin(h, op, w, half, own, n);
        if (!status)
            status = hier_sum_end(h, op, w, half, own, n);
    }
    return status ? status : meet_within(h, op);
}

/* Elements [first, first + count) of the sum of `total`. */
static void take(const hier *h, const struct hier_wire *w, int half, size_t total, size_t first, size_t count, char *to)
{
    size_t lo, n, size = w->wide ? 2 : w->size;
    for (int l = 0; l < h->lanes; l++) {
        hier_part(total, h->lanes, l, &lo, &n);
        size_t begin = larger(lo, first), end = hier_smaller(lo + n, first + count);
        if (begin >= end)
            continue;
        const char *from = half_of(h, l, half) + begin * w->size;
        char *at = to + (begin - first) * size;
        if (w->wide)
            collectives_narrow(at, (const float *)(const void *)from, end - begin);
        else
            memcpy(at, from, (end - begin) * size);
    }
}

int hier_uneven_all_reduce(hier *h, collectives_op *op)
{
    struct hier_wire w = hier_wire_of(op);
    size_t size = cadre_dtype_size(op->dtype), each = HALF / w.size;
    int half = 0, status = CADRE_OK;
    for (size_t at = 0; at < op->count && !status; at += each, half = !half) {
        size_t n = hier_smaller(each, op->count - at);
        char *data = (char *)op->output + at * size;
        lay_down(&w, half_of(h, h->lane, half), data, n);
        status = sum_piece(h, op, &w, half, n);
        if (!status)
            take(h, &w, half, n, 0, n, data);
    }
    return status ? status : meet_within(h, op);
}

/* An all-reduce of columns of all blocks, of which each rank takes its own. */
int hier_uneven_reduce_scatter(hier *h, collectives_op *op)
{
    struct hier_wire w = hier_wire_of(op);
    size_t size = cadre_dtype_size(op->dtype), world = (size_t)h->world, each = HALF / w.size / world;
    int half = 0, status = CADRE_OK;
    for (size_t at = 0; at < op->count && !status; at += each, half = !half) {
        size_t n = hier_smaller(each, op->count - at);
        for (size_t r = 0; r < world; r++)
            lay_down(&w, half_of(h, h->lane, half) + r * n * w.size,
                     (const char *)op->input + (r * op->count + at) * size, n);
        status = sum_piece(h, op, &w, half, world * n);
        if (!status)
            take(h, &w, half, world * n, (size_t)h->rank * n, n, (char *)op->output + at * size);
    }
    return status ? status : meet_within(h, op);
}

/* How many ranks of `host` a lane speaks for: those whose number among them is the lane's modulo the lanes. */
static size_t spoken_for(const hier *h, int host, int lane)
{
    return (size_t)((h->layout.count[host] - lane + h->lanes - 1) / h->lanes);
}

/* Where the blocks of `host` lie in that half of the lane's: behind the own one, host by host. */
static char *blocks_of(const hier *h, int host, int lane, int half, size_t n)
{
    size_t before = 1;
    for (int g = 0; g < host; g++)
        before += g == h->host ? 0 : spoken_for(h, g, lane);
    return half_of(h, lane, half) + before * n;
}

/* Every rank has laid down `n` bytes: afterwards the lanes have those of the other hosts behind their own. */
static int gather_piece(hier *h, collectives_op *op, int half, size_t n)
{
    int status = meet_within(h, op);
    if (!status && h->lane < h->lanes) {
        char *packed = h->scratch + (size_t)half * h->half_bytes;
        size_t count = spoken_for(h, h->host, h->lane);
        for (size_t i = 0; i < count; i++)
            memcpy(packed + i * n, half_of(h, h->lane + (int)i * h->lanes, half), n);
        for (int g = 0; g < h->hosts && !status; g++)
            if (g != h->host)
                status = hier_swap(h, op, half, g, blocks_of(h, g, h->lane, half, n), spoken_for(h, g, h->lane) * n,
                                   packed, count * n);
        if (!status)
            status = hier_take(h, op, half);
    }
    return status ? status : meet_within(h, op);
}

int hier_uneven_all_gather(hier *h, collectives_op *op)
{
    size_t block = op->count * cadre_dtype_size(op->dtype), each = HALF / ((size_t)h->world + 1);
    int half = 0, status = CADRE_OK;
    for (size_t at = 0; at < block && !status; at += each, half = !half) {
        size_t n = hier_smaller(each, block - at);
        memcpy(half_of(h, h->lane, half), (const char *)op->input + at, n);
        status = gather_piece(h, op, half, n);
        for (int g = 0; g < h->hosts && !status; g++)
            for (int i = 0; i < h->layout.count[g]; i++) {
                const char *from = g == h->host ? half_of(h, i, half)
                                                : blocks_of(h, g, i % h->lanes, half, n) + (size_t)(i / h->lanes) * n;
                memcpy((char *)op->output + (size_t)hier_rank_at(h, g, i) * block + at, from, n);
            }
    }
    return status ? status : meet_within(h, op);
}

/* As in ops.c: one piece, of which what a lane sends to another is small. */
bool hier_uneven_by_letter(const hier *h, const collectives_op *op)
{
    struct hier_wire w = hier_wire_of(op);
    size_t world = (size_t)h->world, lanes = (size_t)h->lanes, block = op->count * cadre_dtype_size(op->dtype);
    size_t total = op->count * w.size * (op->kind == COLLECTIVES_REDUCE_SCATTER ? world : 1);
    if (op->kind == COLLECTIVES_ALL_GATHER)
        return block <= HALF / (world + 1) && (((size_t)h->layout.most + lanes - 1) / lanes) * block <= HIER_SMALL;
    return total <= HALF && total / lanes + w.size <= HIER_SMALL;
}
