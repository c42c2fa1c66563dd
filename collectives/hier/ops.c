/*
 * The operations over hosts. A sum goes piece by piece: the host's ranks reduce-scatter it among themselves, each sends
 * its slice to the ranks of its lane on the other hosts and sums what they send in the tree order over hosts, and the
 * host's ranks gather the slices. While piece k is on its way, k + 1 is reduced within the host. With lanes a power of
 * two the tree over hosts of trees over lanes is the tree over all ranks, so the bits are those of shm.
 *
 * Between two hosts slices are exchanged whole, which takes one round and the same bytes as the other way, which is for
 * more of them: each host sums a part of the slice and sends it to the others.
 *
 * In between bfloat16 travels as float32, and a mean is divided at the end.
 */
#include "hier.h"

#include "base/error.h"
#include "collectives/reduce.h"

#include <string.h>

/* How the elements of an operation travel. */
struct wire {
    cadre_dtype dtype;
    size_t size;
    cadre_op op;
    bool wide; /* bfloat16 as float32 */
};

static size_t smaller(size_t a, size_t b) { return a < b ? a : b; }

static struct wire wire_of(const collectives_op *op)
{
    bool wide = op->dtype == CADRE_BFLOAT16;
    cadre_dtype dtype = wide ? CADRE_FLOAT32 : op->dtype;
    return (struct wire){
        .dtype = dtype, .size = cadre_dtype_size(dtype), .op = op->op == CADRE_MEAN ? CADRE_SUM : op->op, .wide = wide};
}

static void finish_mean(const hier *h, const collectives_op *op, const struct wire *w, void *data, size_t count)
{
    if (op->op == CADRE_MEAN)
        collectives_divide(data, count, w->dtype, h->world);
}

/* A step within the host. */
static int within(hier *h, collectives_op *op, struct shm_task task)
{
    if (h->locals == 1 && task.input == task.output)
        return CADRE_OK;
    task.part_of = &h->call;
    return collectives_shm_run(h->within, op, task);
}

static struct shm_task step(collectives_kind kind, const struct wire *w, const void *input, void *output, size_t count)
{
    return (struct shm_task){.kind = kind,
                             .dtype = w->dtype,
                             .op = w->op,
                             .input = input,
                             .output = output,
                             .count = count,
                             .size = w->size};
}

/* ---- between hosts ---- */

static char *place_of(const hier *h, int half, int host, size_t each)
{
    return h->scratch + (size_t)half * h->half_bytes + (size_t)host * each;
}

/* Exchange data with the lane's rank on `host`. */
static int trade(hier *h, collectives_op *op, int half, int host, void *in, size_t in_bytes, const void *out,
                 size_t out_bytes)
{
    return hier_trade(h, op, h->pieces[half], host, (struct hier_parcel){in, in_bytes}, out, out_bytes);
}

/* Wait for what was traded. */
static int await(hier *h, collectives_op *op, int half)
{
    bool all = h->with_data && !h->met;
    int status = hier_meet(h, op);
    return status || all ? status : hier_await(h, op, h->pieces[half]);
}

/* The part of `count` elements that `host` sums; all of them when there are two hosts or few elements. */
static void part_of(const hier *h, int host, size_t count, bool whole, size_t *lo, size_t *n)
{
    size_t hosts = (size_t)h->hosts, share = count / hosts, rest = count % hosts, g = (size_t)host;
    *lo = whole ? 0 : share * g + smaller(g, rest);
    *n = whole ? count : share + (g < rest);
}

static bool goes_whole(const hier *h, size_t nbytes) { return h->hosts == 2 || nbytes <= HIER_SMALL; }

/* Send `count` elements of this lane on their way; `half` is the piece's number modulo 2. */
static int sum_begin(hier *h, collectives_op *op, const struct wire *w, int half, char *slice, size_t count)
{
    bool whole = goes_whole(h, count * w->size);
    size_t lo, n, own_lo, own_n;
    int status = CADRE_OK;
    part_of(h, h->host, count, whole, &own_lo, &own_n);
    for (int g = 0; g < h->hosts && !status; g++) {
        part_of(h, g, count, whole, &lo, &n);
        if (g != h->host)
            status = trade(h, op, half, g, place_of(h, half, g, own_n * w->size), own_n * w->size, slice + lo * w->size,
                           n * w->size);
    }
    return status;
}

/* Wait for what the others sent and sum it, in place. */
static int sum_end(hier *h, collectives_op *op, const struct wire *w, int half, char *slice, size_t count)
{
    const void *from[SHM_RANKS_MAX];
    bool whole = goes_whole(h, count * w->size);
    size_t lo, n, own_lo, own_n;
    int status = await(h, op, half);
    if (status)
        return status;
    part_of(h, h->host, count, whole, &own_lo, &own_n);
    void *own = slice + own_lo * w->size;
    for (int g = 0; g < h->hosts; g++)
        from[g] = g == h->host ? own : place_of(h, half, g, own_n * w->size);
    if (own_n)
        collectives_reduce(&own, 1, from, h->hosts, own_n, w->dtype, w->op);
    finish_mean(h, op, w, own, own_n);
    if (whole)
        return CADRE_OK;
    for (int g = 0; g < h->hosts && !status; g++) {
        part_of(h, g, count, whole, &lo, &n);
        if (g != h->host)
            status = trade(h, op, half, g, slice + lo * w->size, n * w->size, own, own_n * w->size);
    }
    return status ? status : await(h, op, half);
}

/* ---- all_reduce ---- */

/* Few elements: within the host, then every lane exchanges all of them. */
static int all_reduce_small(hier *h, collectives_op *op, const struct wire *w, char *data, size_t count)
{
    char *at = w->wide ? h->work : data;
    if (w->wide)
        collectives_widen((float *)(void *)at, data, count);
    int status = within(h, op, step(COLLECTIVES_ALL_REDUCE, w, at, at, count));
    if (!status)
        status = sum_begin(h, op, w, 0, at, count);
    if (!status)
        status = sum_end(h, op, w, 0, at, count);
    if (!status && w->wide)
        collectives_narrow(data, (const float *)(const void *)at, count);
    return status;
}

/* Piece `k`: where its elements are, in the user's memory or widened in this half of the host's. */
struct piece {
    size_t first, each; /* element it begins with; elements of a slice */
    char *at;
};

static struct piece piece_at(const hier *h, const collectives_op *op, const struct wire *w, size_t k)
{
    size_t lanes = (size_t)h->lanes, each = HIER_PIECE / 2 / w->size / lanes, whole = op->count / lanes;
    struct piece p = {.first = k * each * lanes};
    p.each = k * each < whole ? smaller(each, whole - k * each) : 0;
    p.at = w->wide ? h->work + k % 2 * (HIER_PIECE / 2) : (char *)op->output + p.first * w->size;
    return p;
}

static int piece_begin(hier *h, collectives_op *op, const struct wire *w, size_t k)
{
    struct piece p = piece_at(h, op, w, k);
    char *own = p.at + (size_t)h->lane * p.each * w->size;
    if (w->wide)
        collectives_widen((float *)(void *)p.at, (char *)op->output + 2 * p.first, p.each * (size_t)h->lanes);
    int status = within(h, op, step(COLLECTIVES_REDUCE_SCATTER, w, p.at, own, p.each));
    return status ? status : sum_begin(h, op, w, (int)(k % 2), own, p.each);
}

static int piece_end(hier *h, collectives_op *op, const struct wire *w, size_t k)
{
    struct piece p = piece_at(h, op, w, k);
    char *own = p.at + (size_t)h->lane * p.each * w->size;
    int status = sum_end(h, op, w, (int)(k % 2), own, p.each);
    if (!status)
        status = within(h, op, step(COLLECTIVES_ALL_GATHER, w, own, p.at, p.each));
    if (!status && w->wide)
        collectives_narrow((char *)op->output + 2 * p.first, (const float *)(const void *)p.at,
                           p.each * (size_t)h->lanes);
    return status;
}

static int all_reduce(hier *h, collectives_op *op)
{
    struct wire w = wire_of(op);
    size_t lanes = (size_t)h->lanes, rest = op->count % lanes;
    int status = CADRE_OK;
    if (op->count * w.size <= HIER_SMALL)
        return all_reduce_small(h, op, &w, op->output, op->count);
    for (size_t k = 0; !status; k++) {
        bool more = piece_at(h, op, &w, k).each > 0;
        if (more)
            status = piece_begin(h, op, &w, k);
        if (!status && k > 0)
            status = piece_end(h, op, &w, k - 1);
        if (!more)
            break;
    }
    if (!status && rest) /* fewer than there are lanes */
        status =
            all_reduce_small(h, op, &w, (char *)op->output + (op->count - rest) * cadre_dtype_size(op->dtype), rest);
    return status;
}

/* ---- the others ---- */

/* Columns [at, at + n) of the blocks for the ranks of `host`, side by side in the host's memory. */
static void gather_columns(const hier *h, const collectives_op *op, const struct wire *w, int host, size_t at, size_t n)
{
    size_t size = cadre_dtype_size(op->dtype);
    for (int l = 0; l < h->lanes; l++) {
        const char *from = (const char *)op->input + ((size_t)hier_rank_at(h, host, l) * op->count + at) * size;
        char *to = h->work + (size_t)l * n * w->size;
        if (w->wide)
            collectives_widen((float *)(void *)to, from, n);
        else
            memcpy(to, from, n * size);
    }
}

/* For every host the sum over this one of what its rank of this lane is to get; those go there. */
static int reduce_scatter(hier *h, collectives_op *op)
{
    const void *from[SHM_RANKS_MAX];
    struct wire w = wire_of(op);
    size_t widest = (size_t)(h->lanes > h->hosts ? h->lanes : h->hosts), each = HIER_PIECE / 2 / w.size / widest;
    int status = CADRE_OK;
    for (size_t at = 0; at < op->count && !status; at += each) {
        size_t n = smaller(each, op->count - at), nbytes = n * w.size;
        for (int g = 0; g < h->hosts && !status; g++) {
            gather_columns(h, op, &w, g, at, n);
            status = within(h, op, step(COLLECTIVES_REDUCE_SCATTER, &w, h->work, place_of(h, 0, g, nbytes), n));
            if (!status && g != h->host)
                status = trade(h, op, 0, g, place_of(h, 1, g, nbytes), nbytes, place_of(h, 0, g, nbytes), nbytes);
        }
        if (!status)
            status = await(h, op, 0);
        if (status)
            break;
        void *sum = place_of(h, 0, h->host, nbytes);
        for (int g = 0; g < h->hosts; g++)
            from[g] = place_of(h, g == h->host ? 0 : 1, g, nbytes);
        collectives_reduce(&sum, 1, from, h->hosts, n, w.dtype, w.op);
        finish_mean(h, op, &w, sum, n);
        char *output = (char *)op->output + at * cadre_dtype_size(op->dtype);
        if (w.wide)
            collectives_narrow(output, sum, n);
        else
            memcpy(output, sum, nbytes);
    }
    return status;
}

/* The own block to the lane's ranks elsewhere, which lay it before their hosts. */
static int all_gather(hier *h, collectives_op *op)
{
    struct wire w = {.dtype = op->dtype, .size = cadre_dtype_size(op->dtype), .op = CADRE_SUM};
    size_t block = op->count * w.size, region = block * (size_t)h->lanes;
    char *output = op->output;
    int status = h->with_data ? CADRE_OK : hier_meet(h, op);
    for (size_t at = 0; at < block && !status; at += HIER_PIECE) {
        size_t n = smaller(HIER_PIECE, block - at);
        for (int g = 0; g < h->hosts && !status; g++)
            if (g != h->host)
                status = trade(h, op, 0, g, output + (size_t)hier_rank_on(h, g) * block + at, n,
                               (const char *)op->input + at, n);
        if (!status && at == 0)
            status = within(h, op,
                            step(COLLECTIVES_ALL_GATHER, &w, op->input, output + (size_t)h->host * region, op->count));
        if (!status)
            status = await(h, op, 0);
    }
    for (int g = 0; g < h->hosts && !status; g++)
        if (g != h->host)
            status = within(h, op,
                            step(COLLECTIVES_ALL_GATHER, &w, output + (size_t)hier_rank_on(h, g) * block,
                                 output + (size_t)g * region, op->count));
    return status;
}

/* From the root to its lane's ranks elsewhere, and from each of those through its host. */
static int broadcast(hier *h, collectives_op *op)
{
    struct wire w = {.dtype = op->dtype, .size = cadre_dtype_size(op->dtype), .op = CADRE_SUM};
    size_t all = op->count * w.size;
    int root_host = op->root / h->lanes, root_lane = op->root % h->lanes, status = CADRE_OK;
    if (h->lane != root_lane)
        status = hier_greet(h, op);
    else if (!h->with_data)
        status = hier_meet(h, op);
    if (h->hosts > 2 && h->host != root_host) /* the root may be waiting for a third */
        h->grace_ns = 2 * HIER_GRACE_NS;
    for (size_t at = 0; at < all && !status; at += HIER_PIECE) {
        size_t n = smaller(HIER_PIECE, all - at);
        char *data = (char *)op->output + at;
        if (h->lane == root_lane && h->host != root_host)
            status = trade(h, op, 0, root_host, data, n, NULL, 0);
        for (int g = 0; g < h->hosts && h->rank == op->root && !status; g++)
            if (g != root_host)
                status = trade(h, op, 0, g, NULL, 0, data, n);
        if (!status && h->lane == root_lane && h->host != root_host)
            status = await(h, op, 0);
        struct shm_task task = step(COLLECTIVES_BROADCAST, &w, data, data, n / w.size);
        task.root = root_lane;
        if (!status)
            status = within(h, op, task);
        if (!status && h->rank == op->root)
            status = await(h, op, 0);
    }
    return status ? status : hier_meet(h, op);
}

/* Whoever hears from a rank of another host knows that all of that host are there. */
static int barrier(hier *h, collectives_op *op)
{
    struct wire w = {.size = 1};
    int status = within(h, op, step(COLLECTIVES_BARRIER, &w, NULL, h->work, 0));
    return status ? status : hier_meet(h, op);
}

/* Whether what a rank has first for another host is small, and there is no more before it needs an answer. */
static bool goes_by_letter(const hier *h, const collectives_op *op)
{
    struct wire w = wire_of(op);
    size_t nbytes = op->count * w.size, lanes = (size_t)h->lanes;
    switch (op->kind) {
    case COLLECTIVES_ALL_REDUCE:
        return nbytes <= HIER_SMALL || (nbytes / lanes <= HIER_SMALL && nbytes <= HIER_PIECE / 2);
    case COLLECTIVES_REDUCE_SCATTER:
        return nbytes <= HIER_SMALL && nbytes * (size_t)(h->lanes > h->hosts ? h->lanes : h->hosts) <= HIER_PIECE / 2;
    case COLLECTIVES_ALL_GATHER:
    case COLLECTIVES_BROADCAST:
        return op->count * cadre_dtype_size(op->dtype) <= HIER_SMALL;
    default:
        return true;
    }
}

int hier_operate_as(hier *h, collectives_op *op, struct shm_call call)
{
    int status = CADRE_OK;
    bool with_data = goes_by_letter(h, op);
    hier_begin(h, &call, with_data);
    switch (op->kind) {
    case COLLECTIVES_ALL_REDUCE:
        status = all_reduce(h, op);
        break;
    case COLLECTIVES_REDUCE_SCATTER:
        status = reduce_scatter(h, op);
        break;
    case COLLECTIVES_ALL_GATHER:
        status = all_gather(h, op);
        break;
    case COLLECTIVES_BROADCAST:
        status = broadcast(h, op);
        break;
    default:
        status = barrier(h, op);
    }
    return hier_failed(h, status);
}

int hier_operate(void *self, collectives_op *op) { return hier_operate_as(self, op, collectives_shm_call(op)); }
