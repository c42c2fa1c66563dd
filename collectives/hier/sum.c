/*
 * What the operations share: steps within the host, data that lanes exchange, and the sum of a lane's slices in the
 * tree order over hosts.
 *
 * Between two hosts slices are exchanged whole, which takes one round and the same bytes as the other way, which is for
 * more of them: each host sums a part of the slice and sends it to the others.
 *
 * In between bfloat16 travels as float32, and a mean is divided at the end.
 */
#include "hier.h"

#include "collectives/reduce.h"

struct hier_wire hier_wire_of(const collectives_op *op)
{
    bool wide = op->dtype == CADRE_BFLOAT16;
    cadre_dtype dtype = wide ? CADRE_FLOAT32 : op->dtype;
    return (struct hier_wire){
        .dtype = dtype, .size = cadre_dtype_size(dtype), .op = op->op == CADRE_MEAN ? CADRE_SUM : op->op, .wide = wide};
}

void hier_finish_mean(const hier *h, const collectives_op *op, const struct hier_wire *w, void *data, size_t count)
{
    if (op->op == CADRE_MEAN)
        collectives_divide(data, count, w->dtype, h->world);
}

int hier_within(hier *h, collectives_op *op, struct shm_task task)
{
    if (h->locals == 1 && task.input == task.output)
        return CADRE_OK;
    task.part_of = &h->call;
    int64_t late_ns = op->late_ns;
    int status = collectives_shm_run(h->within, op, task);
    if (h->stepped) /* all had come: since then it is messages that they wait for */
        op->late_ns = late_ns;
    h->stepped = true;
    return status;
}

struct shm_task hier_step(collectives_kind kind, const struct hier_wire *w, const void *input, void *output,
                          size_t count)
{
    return (struct shm_task){.kind = kind,
                             .dtype = w->dtype,
                             .op = w->op,
                             .input = input,
                             .output = output,
                             .count = count,
                             .size = w->size};
}

char *hier_place(const hier *h, int half, int host, size_t each)
{
    return h->scratch + (size_t)half * h->half_bytes + (size_t)host * each;
}

int hier_swap(hier *h, collectives_op *op, int half, int host, void *in, size_t in_bytes, const void *out,
              size_t out_bytes)
{
    return hier_trade(h, op, h->pieces[half], host, (struct hier_parcel){in, in_bytes}, out, out_bytes);
}

int hier_take(hier *h, collectives_op *op, int half)
{
    bool all = h->with_data && !h->met;
    int status = hier_meet(h, op);
    return status || all ? status : hier_await(h, op, h->pieces[half]);
}

/* The part of `count` elements that `host` sums; all of them when there are two hosts or few elements. */
static void part_of(const hier *h, int host, size_t count, bool whole, size_t *lo, size_t *n)
{
    *lo = 0;
    *n = count;
    if (!whole)
        hier_part(count, h->hosts, host, lo, n);
}

static bool goes_whole(const hier *h, size_t nbytes) { return h->hosts == 2 || nbytes <= HIER_SMALL; }

int hier_sum_begin(hier *h, collectives_op *op, const struct hier_wire *w, int half, char *slice, size_t count)
{
    bool whole = goes_whole(h, count * w->size);
    size_t lo, n, own_lo, own_n;
    int status = CADRE_OK;
    part_of(h, h->host, count, whole, &own_lo, &own_n);
    for (int g = 0; g < h->hosts && !status; g++) {
        part_of(h, g, count, whole, &lo, &n);
        if (g != h->host)
            status = hier_swap(h, op, half, g, hier_place(h, half, g, own_n * w->size), own_n * w->size,
                               slice + lo * w->size, n * w->size);
    }
    return status;
}

int hier_sum_end(hier *h, collectives_op *op, const struct hier_wire *w, int half, char *slice, size_t count)
{
    const void *from[SHM_RANKS_MAX];
    bool whole = goes_whole(h, count * w->size);
    size_t lo, n, own_lo, own_n;
    int status = hier_take(h, op, half);
    if (status)
        return status;
    part_of(h, h->host, count, whole, &own_lo, &own_n);
    void *own = slice + own_lo * w->size;
    for (int g = 0; g < h->hosts; g++)
        from[g] = g == h->host ? own : hier_place(h, half, g, own_n * w->size);
    if (own_n)
        collectives_reduce(&own, 1, from, h->hosts, own_n, w->dtype, w->op);
    hier_finish_mean(h, op, w, own, own_n);
    if (whole)
        return CADRE_OK;
    for (int g = 0; g < h->hosts && !status; g++) {
        part_of(h, g, count, whole, &lo, &n);
        if (g != h->host)
            status = hier_swap(h, op, half, g, slice + lo * w->size, n * w->size, own, own_n * w->size);
    }
    return status ? status : hier_take(h, op, half);
}
