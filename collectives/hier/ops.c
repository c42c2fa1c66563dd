/*
 * The operations over hosts that have equally many ranks. A sum goes piece by piece: the host's ranks reduce-scatter it
 * among themselves, each sends its slice to the ranks of its lane on the other hosts and sums what they send (sum.c),
 * and the host's ranks gather the slices. While piece k is on its way, k + 1 is reduced within the host. With lanes a
 * power of two, and host by host, the tree over hosts of trees over lanes is the tree over all ranks, so the bits are
 * those of shm. Hosts with different numbers of ranks have uneven.c.
 */
#include "hier.h"

#include "collectives/reduce.h"

#include <string.h>

/* ---- all_reduce ---- */

/* Few elements: within the host, then every lane exchanges all of them. */
static int all_reduce_small(hier *h, collectives_op *op, const struct hier_wire *w, char *data, size_t count)
{
    char *at = w->wide ? h->work : data;
    if (w->wide)
        collectives_widen((float *)(void *)at, data, count);
    int status = hier_within(h, op, hier_step(COLLECTIVES_ALL_REDUCE, w, at, at, count));
    if (!status)
        status = hier_sum_begin(h, op, w, 0, at, count);
    if (!status)
        status = hier_sum_end(h, op, w, 0, at, count);
    if (!status && w->wide)
        collectives_narrow(data, (const float *)(const void *)at, count);
    return status;
}

/* Piece `k`: where its elements are, in the user's memory or widened in this half of the host's. */
struct piece {
    size_t first, each; /* element it begins with; elements of a slice */
    char *at;
};

static struct piece piece_at(const hier *h, const collectives_op *op, const struct hier_wire *w, size_t k)
{
    size_t lanes = (size_t)h->lanes, each = HIER_PIECE / 2 / w->size / lanes, whole = op->count / lanes;
    struct piece p = {.first = k * each * lanes};
    p.each = k * each < whole ? hier_smaller(each, whole - k * each) : 0;
    p.at = w->wide ? h->work + k % 2 * (HIER_PIECE / 2) : (char *)op->output + p.first * w->size;
    return p;
}

static int piece_begin(hier *h, collectives_op *op, const struct hier_wire *w, size_t k)
{
    struct piece p = piece_at(h, op, w, k);
    char *own = p.at + (size_t)h->lane * p.each * w->size;
    if (w->wide)
        collectives_widen((float *)(void *)p.at, (char *)op->output + 2 * p.first, p.each * (size_t)h->lanes);
    int status = hier_within(h, op, hier_step(COLLECTIVES_REDUCE_SCATTER, w, p.at, own, p.each));
    return status ? status : hier_sum_begin(h, op, w, (int)(k % 2), own, p.each);
}

static int piece_end(hier *h, collectives_op *op, const struct hier_wire *w, size_t k)
{
    struct piece p = piece_at(h, op, w, k);
    char *own = p.at + (size_t)h->lane * p.each * w->size;
    int status = hier_sum_end(h, op, w, (int)(k % 2), own, p.each);
    if (!status)
        status = hier_within(h, op, hier_step(COLLECTIVES_ALL_GATHER, w, own, p.at, p.each));
    if (!status && w->wide)
        collectives_narrow((char *)op->output + 2 * p.first, (const float *)(const void *)p.at,
                           p.each * (size_t)h->lanes);
    return status;
}

static int all_reduce(hier *h, collectives_op *op)
{
    struct hier_wire w = hier_wire_of(op);
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
static void gather_columns(const hier *h, const collectives_op *op, const struct hier_wire *w, int host, size_t at,
                           size_t n)
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
    struct hier_wire w = hier_wire_of(op);
    size_t widest = (size_t)(h->lanes > h->hosts ? h->lanes : h->hosts), each = HIER_PIECE / 2 / w.size / widest;
    int status = CADRE_OK;
    for (size_t at = 0; at < op->count && !status; at += each) {
        size_t n = hier_smaller(each, op->count - at), nbytes = n * w.size;
        for (int g = 0; g < h->hosts && !status; g++) {
            gather_columns(h, op, &w, g, at, n);
            status =
                hier_within(h, op, hier_step(COLLECTIVES_REDUCE_SCATTER, &w, h->work, hier_place(h, 0, g, nbytes), n));
            if (!status && g != h->host)
                status =
                    hier_swap(h, op, 0, g, hier_place(h, 1, g, nbytes), nbytes, hier_place(h, 0, g, nbytes), nbytes);
        }
        if (!status)
            status = hier_take(h, op, 0);
        if (status)
            break;
        void *sum = hier_place(h, 0, h->host, nbytes);
        for (int g = 0; g < h->hosts; g++)
            from[g] = hier_place(h, g == h->host ? 0 : 1, g, nbytes);
        collectives_reduce(&sum, 1, from, h->hosts, n, w.dtype, w.op);
        hier_finish_mean(h, op, &w, sum, n);
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
    struct hier_wire w = {.dtype = op->dtype, .size = cadre_dtype_size(op->dtype), .op = CADRE_SUM};
    size_t block = op->count * w.size, region = block * (size_t)h->lanes;
    char *output = op->output;
    int status = h->with_data ? CADRE_OK : hier_meet(h, op);
    for (size_t at = 0; at < block && !status; at += HIER_PIECE) {
        size_t n = hier_smaller(HIER_PIECE, block - at);
        for (int g = 0; g < h->hosts && !status; g++)
            if (g != h->host)
                status = hier_swap(h, op, 0, g, output + (size_t)hier_rank_on(h, g) * block + at, n,
                                   (const char *)op->input + at, n);
        if (!status && at == 0)
            status = hier_within(
                h, op, hier_step(COLLECTIVES_ALL_GATHER, &w, op->input, output + (size_t)h->host * region, op->count));
        if (!status)
            status = hier_take(h, op, 0);
    }
    for (int g = 0; g < h->hosts && !status; g++)
        if (g != h->host)
            status = hier_within(h, op,
                                 hier_step(COLLECTIVES_ALL_GATHER, &w, output + (size_t)hier_rank_on(h, g) * block,
                                           output + (size_t)g * region, op->count));
    return status;
}

/* From the root to ranks of a lane elsewhere, and from each of those through its host. A root whose host has more ranks
 * than others, and which is one too many, has another of its host do that. */
static int broadcast(hier *h, collectives_op *op)
{
    struct hier_wire w = {.dtype = op->dtype, .size = cadre_dtype_size(op->dtype), .op = CADRE_SUM};
    size_t all = op->count * w.size;
    int root_host = h->host_of[op->root], root = 0, status = CADRE_OK;
    while (hier_rank_at(h, root_host, root) != op->root)
        root++;
    int lane = root % h->lanes;
    bool at_root = h->host == root_host, sends = at_root && h->lane == lane, receives = !at_root && h->lane == lane;
    if (h->lane != lane)
        status = hier_greet(h, op);
    else if (!h->with_data)
        status = hier_meet(h, op);
    if (h->hosts > 2 && !at_root) /* the root may be waiting for a third */
        h->grace_ns = 2 * HIER_GRACE_NS;
    for (size_t at = 0; at < all && !status; at += HIER_PIECE) {
        size_t n = hier_smaller(HIER_PIECE, all - at);
        char *data = (char *)op->output + at;
        struct shm_task task = hier_step(COLLECTIVES_BROADCAST, &w, data, data, n / w.size);
        task.root = at_root ? root : lane;
        if (receives)
            status = hier_swap(h, op, 0, root_host, data, n, NULL, 0);
        if (receives && !status)
            status = hier_take(h, op, 0);
        if (root != lane && !status)
            status = hier_within(h, op, task);
        for (int g = 0; g < h->hosts && sends && !status; g++)
            if (g != root_host)
                status = hier_swap(h, op, 0, g, NULL, 0, data, n);
        if (root == lane && !status)
            status = hier_within(h, op, task);
        if (sends && !status)
            status = hier_take(h, op, 0);
    }
    return status ? status : hier_meet(h, op);
}

/* Whoever hears from a rank of another host knows that all of that host are there; who hears from none hears so from
 * those of its host. */
static int barrier(hier *h, collectives_op *op)
{
    struct hier_wire w = {.size = 1};
    struct shm_task task = hier_step(COLLECTIVES_BARRIER, &w, NULL, h->work, 0);
    int status = hier_within(h, op, task);
    if (!status)
        status = hier_meet(h, op);
    return status || h->layout.lanes == h->layout.most ? status : hier_within(h, op, task);
}

/* Whether what a rank has first for another host is small, and there is no more before it needs an answer. */
static bool goes_by_letter(const hier *h, const collectives_op *op)
{
    struct hier_wire w = hier_wire_of(op);
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

/* How each operation is done with hosts that are all alike and in order, and otherwise. */
static hier_way *way_of(const hier *h, collectives_kind kind)
{
    bool uneven = h->layout.lanes != h->layout.most;
    switch (kind) {
    case COLLECTIVES_ALL_REDUCE:
        return uneven ? hier_uneven_all_reduce : all_reduce;
    case COLLECTIVES_REDUCE_SCATTER:
        return uneven ? hier_uneven_reduce_scatter : reduce_scatter;
    case COLLECTIVES_ALL_GATHER:
        return uneven || !h->layout.in_order ? hier_uneven_all_gather : all_gather;
    case COLLECTIVES_BROADCAST:
        return broadcast;
    default:
        return barrier;
    }
}

int hier_operate_as(hier *h, collectives_op *op, struct shm_call call)
{
    hier_way *way = way_of(h, op->kind);
    bool own_rule = way == hier_uneven_all_reduce || way == hier_uneven_reduce_scatter || way == hier_uneven_all_gather;
    hier_begin(h, &call, own_rule ? hier_uneven_by_letter(h, op) : goes_by_letter(h, op));
    return hier_failed(h, way(h, op));
}

int hier_operate(void *self, collectives_op *op) { return hier_operate_as(self, op, collectives_shm_call(op)); }
