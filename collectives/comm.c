/*
 * The front: checks arguments, keeps the broken state, sets deadlines, and hands the operation to the backend.
 */
#include "comm.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "progress.h"
#include "reduce.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int cadre_comm_rank(const cadre_comm *comm) { return comm->rank; }
int cadre_comm_world(const cadre_comm *comm) { return comm->world; }
int cadre_comm_device(const cadre_comm *comm) { return comm->backend->device ? comm->backend->device(comm->self) : -1; }
const char *cadre_comm_backend(const cadre_comm *comm) { return comm->backend->name; }

static const char *kind_name(collectives_kind kind)
{
    static const char *const names[] = {"all_reduce", "reduce_scatter", "all_gather", "broadcast", "barrier", "alloc"};
    return names[kind];
}

void collectives_describe(const collectives_op *op, char text[COLLECTIVES_TEXT])
{
    if (op->label)
        snprintf(text, COLLECTIVES_TEXT, "%s of %s", kind_name(op->kind), op->label);
    else if (op->kind == COLLECTIVES_BARRIER)
        snprintf(text, COLLECTIVES_TEXT, "barrier");
    else if (op->kind == COLLECTIVES_ALLOC)
        snprintf(text, COLLECTIVES_TEXT, "alloc of %zu bytes", op->count);
    else
        snprintf(text, COLLECTIVES_TEXT, "%s of %zu %s", kind_name(op->kind), op->count, cadre_dtype_name(op->dtype));
}

static int name_of(const int *ranks, int r) { return ranks ? ranks[r] : r; }

void collectives_name_ranks(const bool *which, int world, const int *ranks, char *text, size_t nbytes)
{
    int count = 0, left = 0;
    size_t used = 0;
    for (int r = 0; r < world; r++)
        count += which[r];
    snprintf(text, nbytes, "none");
    for (int r = 0, last; r < world; r = last + 1) {
        last = r;
        if (!which[r])
            continue;
        while (last + 1 < world && which[last + 1] && name_of(ranks, last + 1) == name_of(ranks, last) + 1)
            last++;
        if (used + 48 > nbytes) { /* two numbers, and how many are left */
            left += last - r + 1;
            continue;
        }
        used += (size_t)snprintf(text + used, nbytes - used, "%s%d",
                                 used        ? ", "
                                 : count > 1 ? "ranks "
                                             : "rank ",
                                 name_of(ranks, r));
        if (last > r)
            used += (size_t)snprintf(text + used, nbytes - used, "-%d", name_of(ranks, last));
    }
    if (left)
        snprintf(text + used, nbytes - used, " and %d more", left);
}

int collectives_usable(cadre_comm *comm)
{
    if (comm->broken)
        return base_error(CADRE_ESTATE, "the communicator is broken: %s", comm->broken_text);
    if (atomic_load(&comm->aborted))
        return collectives_outcome(comm, base_error(CADRE_ECANCELED, "cancelled by cadre_comm_abort"));
    return CADRE_OK;
}

int collectives_outcome(cadre_comm *comm, int status)
{
    if (status >= 0 && comm->on_progress)
        comm->on_progress(comm->on_progress_user);
    if (status < 0 && status != CADRE_EINVAL && !comm->broken) {
        comm->broken = status;
        snprintf(comm->broken_text, sizeof comm->broken_text, "%s", cadre_error_message());
    }
    return status;
}

void collectives_set_clock(const cadre_comm *comm, collectives_op *op)
{
    op->started_ns = base_now_ns();
    op->stall_ns = op->started_ns + (int64_t)(comm->stall_s * 1e9);
    op->deadline_ns = op->started_ns + (int64_t)(comm->timeout_s * 1e9);
    op->late_ns = 0;
}

double cadre_comm_late_s(const cadre_comm *comm) { return (double)comm->late_ns / 1e9; }

void collectives_on_progress(cadre_comm *comm, void (*call)(void *user), void *user)
{
    comm->on_progress = call;
    comm->on_progress_user = user;
}

int collectives_check(const cadre_comm *comm, const char *call, const void *data, size_t count, cadre_dtype dtype,
                      cadre_op op)
{
    size_t size = cadre_dtype_size(dtype);
    if (!size)
        return base_error(CADRE_EINVAL, "%s: %d is no dtype", call, (int)dtype);
    if ((int)op < CADRE_SUM || (int)op > CADRE_PRODUCT)
        return base_error(CADRE_EINVAL, "%s: %d is no operation", call, (int)op);
    if (!data && count)
        return base_error(CADRE_EINVAL, "%s: the buffer is NULL", call);
    if (count > PTRDIFF_MAX / size / (size_t)comm->world)
        return base_error(CADRE_EINVAL, "%s: %zu elements are more than memory can hold", call, count);
    if ((uintptr_t)data % size)
        return base_error(CADRE_EINVAL, "%s: the buffer is not aligned to its elements (%s, %zu bytes)", call,
                          cadre_dtype_name(dtype), size);
    return CADRE_OK;
}

/* `part` may be exactly the own rank's place in `whole`, or must lie outside. */
static int check_overlap(const cadre_comm *comm, const char *call, const void *part, const void *whole, size_t nbytes)
{
    uintptr_t p = (uintptr_t)part, w = (uintptr_t)whole;
    if (p == w + (size_t)comm->rank * nbytes || p + nbytes <= w || w + (size_t)comm->world * nbytes <= p)
        return CADRE_OK;
    return base_error(CADRE_EINVAL, "%s: input and output overlap other than in place", call);
}

static int run(cadre_comm *comm, int (*slot)(void *, collectives_op *), collectives_op op)
{
    int status = collectives_usable(comm);
    if (!status)
        status = collectives_drain(comm);
    if (status)
        return status;
    if (op.count == 0 && op.kind != COLLECTIVES_BARRIER)
        return CADRE_OK;
    op.label = comm->label[0] ? comm->label : NULL;
    collectives_set_clock(comm, &op);
    status = slot(comm->self, &op);
    comm->late_ns += op.late_ns;
    return collectives_outcome(comm, status);
}

int collectives_operate(const collectives_backend *backend, void *self, collectives_op *op)
{
    switch (op->kind) {
    case COLLECTIVES_REDUCE_SCATTER:
        return backend->reduce_scatter(self, op);
    case COLLECTIVES_ALL_GATHER:
        return backend->all_gather(self, op);
    case COLLECTIVES_BROADCAST:
        return backend->broadcast(self, op);
    case COLLECTIVES_BARRIER:
        return backend->barrier(self, op);
    default:
        return backend->all_reduce(self, op);
    }
}

int cadre_all_reduce(cadre_comm *comm, void *data, size_t count, cadre_dtype dtype, cadre_op op)
{
    int status = collectives_check(comm, "all_reduce", data, count, dtype, op);
    return status ? status : run(comm, comm->backend->all_reduce, collectives_all_reduce_op(data, count, dtype, op));
}

int collectives_check_scatter(const cadre_comm *comm, const char *call, const void *input, const void *output,
                              size_t count, cadre_dtype dtype, cadre_op op)
{
    int status = collectives_check(comm, call, input, count, dtype, op);
    if (!status)
        status = collectives_check(comm, call, output, count, dtype, op);
    return status ? status : check_overlap(comm, call, output, input, count * cadre_dtype_size(dtype));
}

int cadre_reduce_scatter(cadre_comm *comm, const void *input, void *output, size_t count, cadre_dtype dtype,
                         cadre_op op)
{
    int status = collectives_check_scatter(comm, "reduce_scatter", input, output, count, dtype, op);
    return status ? status
                  : run(comm, comm->backend->reduce_scatter,
                        collectives_reduce_scatter_op(input, output, count, dtype, op));
}

int cadre_all_gather(cadre_comm *comm, const void *input, void *output, size_t count, cadre_dtype dtype)
{
    int status = collectives_check(comm, "all_gather", input, count, dtype, CADRE_SUM);
    if (!status)
        status = collectives_check(comm, "all_gather", output, count, dtype, CADRE_SUM);
    if (!status)
        status = check_overlap(comm, "all_gather", input, output, count * cadre_dtype_size(dtype));
    if (status)
        return status;
    return run(comm, comm->backend->all_gather,
               (collectives_op){
                   .kind = COLLECTIVES_ALL_GATHER, .input = input, .output = output, .count = count, .dtype = dtype});
}

int cadre_broadcast(cadre_comm *comm, void *data, size_t count, cadre_dtype dtype, int root)
{
    int status = collectives_check(comm, "broadcast", data, count, dtype, CADRE_SUM);
    if (status)
        return status;
    if (root < 0 || root >= comm->world)
        return base_error(CADRE_EINVAL, "broadcast: root %d is none of %d ranks", root, comm->world);
    return run(comm, comm->backend->broadcast,
               (collectives_op){.kind = COLLECTIVES_BROADCAST,
                                .input = data,
                                .output = data,
                                .count = count,
                                .dtype = dtype,
                                .root = root});
}

int cadre_barrier(cadre_comm *comm)
{
    return run(comm, comm->backend->barrier, (collectives_op){.kind = COLLECTIVES_BARRIER});
}

static int plain_alloc(size_t nbytes, void **memory)
{
    size_t rounded = (nbytes + 4095) / 4096 * 4096;
    void *fresh = aligned_alloc(4096, rounded);
    if (!fresh)
        return base_error(CADRE_ENOMEM, "alloc: out of memory for %zu bytes", nbytes);
    *memory = memset(fresh, 0, rounded);
    return CADRE_OK;
}

int cadre_comm_alloc(cadre_comm *comm, size_t nbytes, void **memory)
{
    if (nbytes == 0 || nbytes > PTRDIFF_MAX / 2 || !memory)
        return base_error(CADRE_EINVAL, "alloc: %zu bytes cannot be had", nbytes);
    int status = collectives_usable(comm);
    if (!status)
        status = collectives_drain(comm);
    if (status)
        return status;
    if (!comm->backend->alloc)
        return plain_alloc(nbytes, memory);
    collectives_op op = {.kind = COLLECTIVES_ALLOC, .count = nbytes, .label = comm->label[0] ? comm->label : NULL};
    collectives_set_clock(comm, &op);
    status = comm->backend->alloc(comm->self, &op, nbytes, memory);
    if (status == CADRE_ENOSPC || status == CADRE_ENOMEM)
        return status; /* all ranks know, and nothing is half done */
    return collectives_outcome(comm, status);
}

void cadre_comm_dealloc(cadre_comm *comm, void *memory)
{
    if (!memory)
        return;
    if (comm->backend->alloc)
        comm->backend->dealloc(comm->self, memory);
    else
        free(memory);
}

void cadre_comm_label(cadre_comm *comm, const char *label)
{
    snprintf(comm->label, sizeof comm->label, "%s", label ? label : "");
}

void cadre_comm_set_stream(cadre_comm *comm, void *stream)
{
    if (comm->backend->set_stream)
        comm->backend->set_stream(comm->self, stream);
}

int cadre_comm_synchronize(cadre_comm *comm)
{
    if (!comm->backend->synchronize) { /* operations are complete when they return */
        int status = collectives_usable(comm);
        return status ? status : collectives_drain(comm);
    }
    return run(comm, comm->backend->synchronize, (collectives_op){.kind = COLLECTIVES_BARRIER});
}

void cadre_comm_abort(cadre_comm *comm)
{
    atomic_store(&comm->aborted, 1);
    if (comm->backend->abort)
        comm->backend->abort(comm->self);
}

void cadre_comm_free(cadre_comm *comm)
{
    if (!comm)
        return;
    collectives_drop_requests(comm);
    comm->backend->free(comm->self);
    free(comm);
}
