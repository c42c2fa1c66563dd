/*
 * What one rank of `cadre bench collectives` does. For every size: fill the buffer, operate, compare the result; then
 * the timed operations, before each of which every rank writes its whole buffer anew, so that no cache has what the
 * operation is to bring. An operation takes as long as on its slowest rank; a row has the median over operations.
 *
 * Operations are in place. Sizes, counts and bandwidths are those of nccl-tests (doc/PERFORMANCE.md there): the size of
 * all_gather and reduce_scatter is that of the whole buffer, and busbw is algbw times what a rank has to send of it at
 * least.
 */
#include "bench.h"

#include "base/clock.h"
#include "base/error.h"
#include "base/mem.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { PERIOD = 251 };

const char *const bench_operation_names[BENCH_OPERATIONS] = {"all_reduce", "reduce_scatter", "all_gather", "broadcast",
                                                             "barrier"};

struct bench {
    const bench_plan *plan;
    cadre_comm *comm;
    int rank, world;
    size_t size; /* bytes of an element */
    char *buffer;
    bool on_device;
    char *pristine; /* on the GPU: what a buffer holds at first */
    char *view;     /* host memory in which to look at a buffer: itself, unless that is on a GPU */
    size_t capacity;
    double *times;
    unsigned char mine[PERIOD * 8]; /* a pattern of what this rank gives */
};

/* Element `index` as rank `rank` gives it: small whole numbers, so that sums are exact; a product has one factor that
 * is not 1. */
static int given(const struct bench *b, int rank, size_t index)
{
    int at = (int)(index % PERIOD);
    return b->plan->op == CADRE_PRODUCT ? (at % b->world == rank ? 3 : 1) : (at + rank) % 3;
}

static double reduced(const struct bench *b, size_t index)
{
    double sum = 0, least = INFINITY, most = -INFINITY, product = 1;
    for (int r = 0; r < b->world; r++) {
        double value = given(b, r, index);
        sum += value;
        product *= value;
        least = fmin(least, value);
        most = fmax(most, value);
    }
    switch (b->plan->op) {
    case CADRE_MEAN:
        return sum / b->world;
    case CADRE_MIN:
        return least;
    case CADRE_MAX:
        return most;
    case CADRE_PRODUCT:
        return product;
    default:
        return sum;
    }
}

static void store(const struct bench *b, void *to, double value)
{
    float narrow = (float)value;
    uint32_t bits;
    memcpy(&bits, &narrow, sizeof bits);
    switch (b->plan->dtype) {
    case CADRE_FLOAT32:
        memcpy(to, &narrow, 4);
        break;
    case CADRE_FLOAT64:
        memcpy(to, &value, 8);
        break;
    case CADRE_BFLOAT16:
        memcpy(to, &(uint16_t){(uint16_t)(bits >> 16)}, 2);
        break;
    case CADRE_INT32:
        memcpy(to, &(int32_t){(int32_t)value}, 4);
        break;
    default:
        memcpy(to, &(int64_t){(int64_t)value}, 8);
    }
}

static double load(const struct bench *b, const void *from)
{
    union {
        float f32;
        double f64;
        uint16_t bf16;
        int32_t i32;
        int64_t i64;
        uint32_t bits;
    } value = {0};
    memcpy(&value, from, b->size);
    switch (b->plan->dtype) {
    case CADRE_FLOAT32:
        return (double)value.f32;
    case CADRE_FLOAT64:
        return value.f64;
    case CADRE_BFLOAT16:
        value.bits = (uint32_t)value.bf16 << 16;
        return (double)value.f32;
    case CADRE_INT32:
        return value.i32;
    default:
        return (double)value.i64;
    }
}

/* Elements of the whole buffer, and which of them hold the result on this rank. */
struct extent {
    size_t all, lo, hi;
};

static struct extent extent_of(const struct bench *b, bench_operation operation, size_t count)
{
    bool split = operation == BENCH_ALL_GATHER || operation == BENCH_REDUCE_SCATTER;
    struct extent e = {.all = split ? count * (size_t)b->world : count};
    e.hi = e.all;
    if (operation == BENCH_REDUCE_SCATTER) {
        e.lo = count * (size_t)b->rank;
        e.hi = e.lo + count;
    }
    return e;
}

static void write_pattern(const struct bench *b, char *to, size_t nbytes)
{
    size_t period = PERIOD * b->size;
    for (size_t at = 0; at < nbytes; at += period)
        memcpy(to + at, b->mine, nbytes - at < period ? nbytes - at : period);
}

static int fill(struct bench *b, size_t nbytes)
{
    if (b->on_device)
        return nbytes ? bench_device_copy(b->buffer, b->pristine, nbytes) : CADRE_OK;
    write_pattern(b, b->buffer, nbytes);
    return CADRE_OK;
}

/* Add up what is wrong. */
static int compare(struct bench *b, bench_operation operation, size_t count, int64_t *sum)
{
    struct extent e = extent_of(b, operation, count);
    int status = b->on_device ? bench_device_copy(b->view, b->buffer, e.all * b->size) : CADRE_OK;
    if (status)
        return status;
    bool exact = b->plan->dtype == CADRE_INT32 || b->plan->dtype == CADRE_INT64;
    double slack = exact ? 0 : b->plan->dtype == CADRE_BFLOAT16 ? 1.0 / 128 : 1e-6; /* a mean is rounded */
    int64_t wrong = 0;
    double wanted[PERIOD];
    for (size_t i = 0; i < PERIOD; i++)
        wanted[i] = exact ? trunc(reduced(b, i)) : reduced(b, i);
    for (size_t i = e.lo; i < e.hi; i++) {
        double want = operation == BENCH_ALL_GATHER  ? given(b, (int)(i / count), i)
                      : operation == BENCH_BROADCAST ? given(b, 0, i)
                                                     : wanted[i % PERIOD];
        wrong += !(fabs(load(b, b->view + i * b->size) - want) <= slack * fabs(want));
    }
    *sum += wrong;
    return CADRE_OK;
}

static int operate(struct bench *b, bench_operation operation, size_t count)
{
    const bench_plan *plan = b->plan;
    char *own = b->buffer + (size_t)b->rank * count * b->size;
    switch (operation) {
    case BENCH_ALL_REDUCE:
        return cadre_all_reduce(b->comm, b->buffer, count, plan->dtype, plan->op);
    case BENCH_REDUCE_SCATTER:
        return cadre_reduce_scatter(b->comm, b->buffer, own, count, plan->dtype, plan->op);
    case BENCH_ALL_GATHER:
        return cadre_all_gather(b->comm, own, b->buffer, count, plan->dtype);
    case BENCH_BROADCAST:
        return cadre_broadcast(b->comm, b->buffer, count, plan->dtype, 0);
    default:
        return cadre_barrier(b->comm);
    }
}

static int once(struct bench *b, bench_operation operation, size_t count, double *seconds)
{
    int status = fill(b, operation == BENCH_BARRIER ? 0 : extent_of(b, operation, count).all * b->size);
    if (!status)
        status = cadre_barrier(b->comm);
    double begun = base_now();
    if (!status)
        status = operate(b, operation, count);
    if (!status && b->on_device)
        status = cadre_comm_synchronize(b->comm);
    *seconds = base_now() - begun;
    return status;
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* How many timed operations, the same on all ranks; `seconds` is what the last one took here. */
static int decide(struct bench *b, double seconds, long *iterations)
{
    int status = cadre_all_reduce(b->comm, &seconds, 1, CADRE_FLOAT64, CADRE_MAX);
    double fit = fmin(fmax(0.5 / seconds, 10), 1000);
    *iterations = b->plan->iterations ? b->plan->iterations : (long)fit;
    return status;
}

static void summarise(const struct bench *b, bench_row *row)
{
    double n = b->world, share = row->operation == BENCH_ALL_REDUCE  ? 2 * (n - 1) / n
                                 : row->operation == BENCH_BROADCAST ? 1
                                                                     : (n - 1) / n;
    qsort(b->times, (size_t)row->iterations, sizeof *b->times, by_value);
    row->seconds = b->times[row->iterations / 2];
    row->least = b->times[0];
    row->most = b->times[row->iterations - 1];
    row->algbw = row->seconds > 0 ? (double)row->nbytes / row->seconds / 1e9 : 0;
    row->busbw = row->algbw * share;
}

static int measure(struct bench *b, bench_operation operation, size_t count, bench_row *row)
{
    double seconds = 0;
    size_t all = operation == BENCH_BARRIER ? 0 : extent_of(b, operation, count).all;
    *row = (bench_row){.operation = operation, .nbytes = all * b->size, .count = count};
    int status = CADRE_OK;
    for (long i = 0; i < b->plan->warmup + 1 && !status; i++)
        status = once(b, operation, count, &seconds);
    int64_t wrong = 0;
    if (!status && all)
        status = compare(b, operation, count, &wrong);
    if (!status)
        status = decide(b, seconds, &row->iterations);
    for (long i = 0; i < row->iterations && !status; i++)
        status = once(b, operation, count, &b->times[i]);
    if (!status && all)
        status = compare(b, operation, count, &wrong);
    if (!status)
        status = cadre_all_reduce(b->comm, b->times, (size_t)row->iterations, CADRE_FLOAT64, CADRE_MAX);
    if (!status)
        status = cadre_all_reduce(b->comm, &wrong, 1, CADRE_INT64, CADRE_SUM);
    if (status)
        return status;
    row->wrong = wrong;
    summarise(b, row);
    return CADRE_OK;
}

/* Elements a rank gives or gets when the whole buffer is to have `nbytes`; at least one. */
static size_t count_of(const struct bench *b, bench_operation operation, size_t nbytes)
{
    bool split = operation == BENCH_ALL_GATHER || operation == BENCH_REDUCE_SCATTER;
    size_t count = nbytes / b->size / (split ? (size_t)b->world : 1);
    return operation == BENCH_BARRIER ? 0 : count ? count : 1;
}

static int set_up_device(struct bench *b)
{
    int status = cadre_comm_alloc(b->comm, b->capacity, (void **)&b->pristine);
    b->view = base_malloc(b->capacity);
    if (status || !b->view)
        return status ? status : CADRE_ENOMEM;
    write_pattern(b, b->view, b->capacity);
    return bench_device_copy(b->pristine, b->view, b->capacity);
}

static int set_up(struct bench *b, const cadre_oob *oob)
{
    const bench_plan *plan = b->plan;
    cadre_comm_options options = {
        .size = sizeof options, .backend = plan->backend, .timeout_s = plan->timeout_s, .device = plan->device};
    int status = cadre_comm_new(oob, &options, &b->comm);
    if (status)
        return status;
    b->capacity = plan->most + b->size * (size_t)b->world;
    b->times = base_malloc((size_t)(plan->iterations ? plan->iterations : 1000) * sizeof *b->times);
    if (!plan->unregistered)
        status = cadre_comm_alloc(b->comm, b->capacity, (void **)&b->buffer);
    else if (!(b->buffer = aligned_alloc(4096, (b->capacity + 4095) / 4096 * 4096)))
        status = base_error(CADRE_ENOMEM, "out of memory for a buffer of %zu bytes", b->capacity);
    for (size_t i = 0; i < PERIOD; i++)
        store(b, b->mine + i * b->size, given(b, b->rank, i));
    b->view = b->buffer;
    b->on_device = !plan->unregistered && cadre_comm_device(b->comm) >= 0;
    if (!status && b->on_device)
        status = set_up_device(b);
    return status ? status : b->times ? CADRE_OK : CADRE_ENOMEM;
}

int bench_run(const bench_plan *plan, const cadre_oob *oob, bench_row_fn *fn, void *user)
{
    struct bench b = {.plan = plan, .rank = oob->rank, .world = oob->world, .size = cadre_dtype_size(plan->dtype)};
    int status = set_up(&b, oob);
    const char *backend = status ? "" : cadre_comm_backend(b.comm);
    if (!status && b.rank == 0)
        fn(NULL, backend, user);
    for (int o = 0; o < BENCH_OPERATIONS && !status; o++) {
        if (!plan->operations[o])
            continue;
        bench_operation operation = (bench_operation)o;
        for (size_t nbytes = plan->least; nbytes <= plan->most && !status;) {
            bench_row row;
            status = measure(&b, operation, count_of(&b, operation, nbytes), &row);
            if (!status && b.rank == 0)
                fn(&row, backend, user);
            size_t next = (size_t)((double)nbytes * plan->factor);
            nbytes = operation == BENCH_BARRIER ? SIZE_MAX : next > nbytes ? next : nbytes + 1;
        }
    }
    if (b.on_device) {
        cadre_comm_dealloc(b.comm, b.pristine);
        free(b.view);
    }
    if (b.comm && !plan->unregistered)
        cadre_comm_dealloc(b.comm, b.buffer);
    else
        free(b.buffer);
    free(b.times);
    cadre_comm_free(b.comm);
    return status;
}
