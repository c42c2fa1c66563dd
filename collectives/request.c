/*
 * Requests: operations that were started and not yet waited for. They form a queue; the backend knows only the oldest,
 * so a backend need not keep two operations apart, and all ranks complete them in the same order.
 */
#include "base/mem.h"
#include "comm.h"

#include <stdlib.h>
#include <string.h>

static void pop(cadre_comm *comm)
{
    cadre_request *first = comm->head;
    first->done = true;
    comm->head = first->next;
    if (!comm->head)
        comm->tail = NULL;
    first->next = NULL;
}

static void unlink_request(cadre_comm *comm, cadre_request *request)
{
    cadre_request **link = &comm->head, *before = NULL;
    while (*link && *link != request) {
        before = *link;
        link = &before->next;
    }
    if (!*link)
        return;
    *link = request->next;
    if (comm->tail == request)
        comm->tail = before;
}

static void end(cadre_comm *comm, cadre_request **request)
{
    unlink_request(comm, *request);
    free(*request);
    *request = NULL;
}

/* Make sure the backend knows the oldest request; one that queues, all of them. */
static int begin_head(cadre_comm *comm)
{
    int status = CADRE_OK;
    for (cadre_request *request = comm->head; request && !status; request = request->next) {
        if (!request->begun)
            status = comm->backend->start(comm->self, &request->op);
        request->begun = true;
        if (!comm->backend->queues)
            break;
    }
    return status;
}

/* Go on with the queue as far as can be without a peer. */
static int advance(cadre_comm *comm)
{
    while (comm->head) {
        bool done = false;
        int status = begin_head(comm);
        if (!status)
            status = comm->backend->test(comm->self, &comm->head->op, &done);
        if (status)
            return collectives_outcome(comm, status);
        if (!done)
            return CADRE_OK;
        pop(comm);
    }
    return CADRE_OK;
}

/* Complete the oldest request. */
static int complete_head(cadre_comm *comm)
{
    const collectives_backend *backend = comm->backend;
    cadre_request *first = comm->head;
    collectives_set_clock(comm, &first->op);
    int status;
    if (backend->start) {
        status = begin_head(comm);
        if (!status)
            status = backend->wait(comm->self, &first->op);
    } else {
        status = collectives_operate(backend, comm->self, &first->op);
    }
    comm->late_ns += first->op.late_ns;
    if (status)
        return collectives_outcome(comm, status);
    pop(comm);
    return CADRE_OK;
}

int collectives_drain(cadre_comm *comm)
{
    int status = CADRE_OK;
    while (comm->head && !status)
        status = complete_head(comm);
    return status;
}

void collectives_drop_requests(cadre_comm *comm)
{
    while (comm->head) {
        cadre_request *first = comm->head;
        comm->head = first->next;
        free(first);
    }
}

/* A request for `op` at the end of the queue, begun if it can be; its arguments are checked. */
static int start(cadre_comm *comm, collectives_op op, cadre_request **request)
{
    int status = collectives_usable(comm);
    if (status)
        return status;
    cadre_request *fresh = base_calloc(1, sizeof *fresh);
    if (!fresh)
        return collectives_outcome(comm, CADRE_ENOMEM);
    fresh->comm = comm;
    fresh->op = op;
    memcpy(fresh->label, comm->label, sizeof fresh->label);
    if (fresh->label[0])
        fresh->op.label = fresh->label;
    collectives_set_clock(comm, &fresh->op);
    if (op.count == 0) {
        fresh->done = true;
    } else {
        if (comm->tail)
            comm->tail->next = fresh;
        else
            comm->head = fresh;
        comm->tail = fresh;
        if (comm->backend->start && (status = advance(comm)) != CADRE_OK) {
            end(comm, &fresh);
            return status;
        }
    }
    *request = fresh;
    return CADRE_OK;
}

int cadre_all_reduce_start(cadre_comm *comm, void *data, size_t count, cadre_dtype dtype, cadre_op op,
                           cadre_request **request)
{
    if (!request)
        return base_error(CADRE_EINVAL, "all_reduce_start: nowhere to put the request");
    int status = collectives_check(comm, "all_reduce_start", data, count, dtype, op);
    return status ? status : start(comm, collectives_all_reduce_op(data, count, dtype, op), request);
}

int cadre_reduce_scatter_start(cadre_comm *comm, const void *input, void *output, size_t count, cadre_dtype dtype,
                               cadre_op op, cadre_request **request)
{
    if (!request)
        return base_error(CADRE_EINVAL, "reduce_scatter_start: nowhere to put the request");
    int status = collectives_check_scatter(comm, "reduce_scatter_start", input, output, count, dtype, op);
    return status ? status : start(comm, collectives_reduce_scatter_op(input, output, count, dtype, op), request);
}

int cadre_wait(cadre_comm *comm, cadre_request **request)
{
    if (!request)
        return base_error(CADRE_EINVAL, "wait: no request given");
    if (!*request)
        return CADRE_OK;
    if ((*request)->comm != comm)
        return base_error(CADRE_EINVAL, "wait: the request is another communicator's");
    int status = CADRE_OK;
    if (!(*request)->done)
        status = collectives_usable(comm);
    while (!status && !(*request)->done)
        status = complete_head(comm);
    end(comm, request);
    return status;
}

int cadre_test(cadre_comm *comm, cadre_request **request, bool *done)
{
    if (!request || !done)
        return base_error(CADRE_EINVAL, "test: no request given");
    if (*request && (*request)->comm != comm)
        return base_error(CADRE_EINVAL, "test: the request is another communicator's");
    if (!*request) {
        *done = true;
        return CADRE_OK;
    }
    int status = CADRE_OK;
    if (!(*request)->done)
        status = collectives_usable(comm);
    if (!status && !(*request)->done && comm->backend->start)
        status = advance(comm);
    while (!status && !(*request)->done && !comm->backend->start)
        status = complete_head(comm);
    if (status || (*request)->done) {
        end(comm, request);
        *done = true;
    } else {
        *done = false;
    }
    return status;
}
