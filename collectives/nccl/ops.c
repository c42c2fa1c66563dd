/*
 * Operations. Those on GPU memory form a queue: each waits (on our stream) for an event on the caller's stream, is
 * given to NCCL, and ends in an event on our stream, for which the caller's stream waits (nccl.h has the picture).
 * NCCL's calls return before they are through (the first one connects to the peers in the background), and until then
 * neither an event may be recorded nor another call be made; so each is issued only when the one before it is, and the
 * host waits for that much.
 *
 * The host never blocks in CUDA or NCCL: it polls, and between polls looks at the deadline and at the other ranks.
 */
#include "nccl.h"

#include "base/clock.h"
#include "base/fault.h"
#include "base/mem.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int cuda_failed(nccl *n, const collectives_op *op, const char *call, cuda_error error)
{
    char what[COLLECTIVES_TEXT], text[256];
    collectives_describe(op, what);
    n->lib->cuda.take_error();
    snprintf(text, sizeof text, "%s: %s", call, n->lib->cuda.error_string(error));
    return collectives_nccl_fail(n, what, error == CUDA_OUT_OF_MEMORY ? CADRE_ENOMEM : CADRE_ESYSTEM, text);
}

int collectives_nccl_on_device(const nccl *n)
{
    int before = n->device;
    if (n->lib->cuda.get_device(&before) != CUDA_SUCCESS_ || before != n->device)
        n->lib->cuda.set_device(n->device);
    return before;
}

void collectives_nccl_off_device(const nccl *n, int before)
{
    if (before != n->device)
        n->lib->cuda.set_device(before);
}

/* ---- whose memory ------------------------------------------------------------------------------------------------ */

static bool on_gpu(const nccl *n, const void *memory, int *device)
{
    cuda_pointer answer = {.type = CUDA_MEMORY_UNREGISTERED};
    if (n->lib->cuda.pointer(&answer, memory) != CUDA_SUCCESS_) {
        n->lib->cuda.take_error(); /* or the program's next check would find it */
        return false;
    }
    *device = answer.device;
    return answer.type == CUDA_MEMORY_DEVICE || answer.type == CUDA_MEMORY_MANAGED;
}

static int place_of(const nccl *n, const collectives_op *op, bool *gpu)
{
    int device = n->device;
    *gpu = false;
    if (op->kind == COLLECTIVES_BARRIER)
        return CADRE_OK;
    *gpu = on_gpu(n, op->output, &device);
    if (op->input != op->output) {
        int other = device;
        if (on_gpu(n, op->input, &other) != *gpu || other != device)
            return base_error(CADRE_EINVAL, "input and output are not in memory of the same device");
    }
    if (*gpu && device != n->device)
        return base_error(CADRE_EINVAL, "the buffer is on GPU %d, the communicator's memory on GPU %d", device,
                          n->device);
    return CADRE_OK;
}

/* ---- the queue --------------------------------------------------------------------------------------------------- */

static struct nccl_work *work_new(nccl *n)
{
    struct nccl_work *work = n->spare;
    if (work) {
        n->spare = work->next;
        return work;
    }
    work = base_calloc(1, sizeof *work);
    if (!work)
        return NULL;
    if (n->lib->cuda.event_new(&work->ready, CUDA_EVENT_NO_TIMING) != CUDA_SUCCESS_ ||
        n->lib->cuda.event_new(&work->done, CUDA_EVENT_NO_TIMING) != CUDA_SUCCESS_) {
        if (work->ready)
            n->lib->cuda.event_free(work->ready);
        free(work);
        base_error(CADRE_ENOMEM, "no CUDA event could be made");
        return NULL;
    }
    return work;
}

static void free_works(nccl *n, struct nccl_work *first)
{
    while (first) {
        struct nccl_work *next = first->next;
        n->lib->cuda.event_free(first->ready);
        n->lib->cuda.event_free(first->done);
        free(first);
        first = next;
    }
}

void collectives_nccl_drop(nccl *n)
{
    free_works(n, n->works);
    free_works(n, n->spare);
    n->works = n->spare = NULL;
}

static struct nccl_work *find_work(nccl *n, const collectives_op *op)
{
    struct nccl_work *work = n->works;
    while (work && work->front != op)
        work = work->next;
    return work;
}

/* Works that the GPU is through with and nobody asks for can be used again. */
static void recycle(nccl *n)
{
    struct nccl_work **link = &n->works;
    while (*link) {
        struct nccl_work *work = *link;
        if (work->state != NCCL_COMPLETE || work->front) {
            link = &work->next;
            continue;
        }
        *link = work->next;
        work->next = n->spare;
        n->spare = work;
    }
}

static nccl_result give(nccl *n, const collectives_op *op)
{
    static const nccl_dtype dtypes[] = {NCCL_FLOAT32, NCCL_FLOAT64, NCCL_BFLOAT16, NCCL_INT32, NCCL_INT64};
    static const nccl_op ops[] = {NCCL_SUM, NCCL_AVG, NCCL_MIN, NCCL_MAX, NCCL_PROD};
    const struct nccl_library *lib = &n->lib->nccl;
    nccl_dtype dtype = dtypes[op->dtype];
    switch (op->kind) {
    case COLLECTIVES_REDUCE_SCATTER:
        return lib->reduce_scatter(op->input, op->output, op->count, dtype, ops[op->op], n->comm, n->stream);
    case COLLECTIVES_ALL_GATHER:
        return lib->all_gather(op->input, op->output, op->count, dtype, n->comm, n->stream);
    case COLLECTIVES_BROADCAST:
        return lib->broadcast(op->input, op->output, op->count, dtype, op->root, n->comm, n->stream);
    default:
        return lib->all_reduce(op->input, op->output, op->count, dtype, ops[op->op], n->comm, n->stream);
    }
}

static int nccl_failed(nccl *n, const collectives_op *op, nccl_result result)
{
    char what[COLLECTIVES_TEXT], text[512];
    collectives_describe(op, what);
    int status = collectives_nccl_words(n, result, text, sizeof text);
    return collectives_nccl_fail(n, what, status, text);
}

/* Go on with one work as far as it goes without waiting; it is not issued yet. */
static int push(nccl *n, struct nccl_work *work)
{
    const struct cuda_library *cuda = &n->lib->cuda;
    nccl_result result = NCCL_SUCCESS;
    cuda_error error;
    if (work->state == NCCL_QUEUED) {
        if ((error = cuda->stream_wait(n->stream, work->ready, 0)) != CUDA_SUCCESS_)
            return cuda_failed(n, &work->op, "cudaStreamWaitEvent", error);
        result = give(n, &work->op);
        if (result != NCCL_SUCCESS && result != NCCL_IN_PROGRESS)
            return nccl_failed(n, &work->op, result);
        work->state = NCCL_ISSUING;
    }
    nccl_result asked = n->lib->nccl.async_error(n->comm, &result);
    if (asked != NCCL_SUCCESS && asked != NCCL_IN_PROGRESS)
        result = asked;
    if (result == NCCL_IN_PROGRESS)
        return CADRE_OK;
    if (result != NCCL_SUCCESS)
        return nccl_failed(n, &work->op, result);
    if ((error = cuda->event_record(work->done, n->stream)) != CUDA_SUCCESS_)
        return cuda_failed(n, &work->op, "cudaEventRecord", error);
    work->state = NCCL_ISSUED;
    return CADRE_OK;
}

static int push_all(nccl *n)
{
    for (struct nccl_work *work = n->works; work; work = work->next) {
        int status = work->state >= NCCL_ISSUED ? CADRE_OK : push(n, work);
        if (status || work->state < NCCL_ISSUED)
            return status;
    }
    return CADRE_OK;
}

int collectives_nccl_check(nccl *n, bool *left)
{
    struct nccl_work *work = n->works;
    char what[COLLECTIVES_TEXT];
    *left = false;
    while (work && work->state == NCCL_COMPLETE)
        work = work->next;
    if (!work)
        return CADRE_OK;
    *left = true;
    collectives_describe(&work->op, what);
    int status = collectives_nccl_alarmed(n, what);
    if (!status)
        status = push_all(n);
    for (; !status && work && work->state == NCCL_ISSUED; work = work->next) {
        cuda_error error = n->lib->cuda.event_query(work->done);
        if (error == CUDA_NOT_READY)
            break;
        if (error != CUDA_SUCCESS_)
            return cuda_failed(n, &work->op, "cudaEventQuery", error);
        work->state = NCCL_COMPLETE;
    }
    if (!status && work)
        status = collectives_nccl_look(n, &work->op, work->number);
    *left = work != NULL;
    recycle(n);
    return status;
}

int collectives_nccl_finish(nccl *n)
{
    int64_t begun = base_now_ns();
    bool left = true;
    int status = CADRE_OK;
    while (!status && left) {
        status = collectives_nccl_check(n, &left);
        if (!status && left)
            collectives_nccl_pause(base_now_ns() - begun);
    }
    return status;
}

/* A work of its own for the front's operation, at the end of the queue. */
static int begin(nccl *n, collectives_op *op, struct nccl_work **out)
{
    char what[COLLECTIVES_TEXT];
    collectives_describe(op, what);
    int status = collectives_nccl_alarmed(n, what);
    if (status)
        return status;
    if (BASE_FAULT("collective"))
        return collectives_nccl_fail(n, what, CADRE_ESYSTEM, "made to fail");
    struct nccl_work *work = work_new(n), **end = &n->works;
    if (!work)
        return collectives_nccl_fail(n, what, CADRE_ENOMEM, cadre_error_message());
    collectives_nccl_enter(n);
    work->op = *op;
    if (op->label) {
        snprintf(work->label, sizeof work->label, "%s", op->label);
        work->op.label = work->label;
    }
    work->front = op;
    work->number = n->entered;
    work->state = NCCL_QUEUED;
    work->next = NULL;
    while (*end)
        end = &(*end)->next;
    *end = work;
    collectives_nccl_wake(n);
    cuda_error error = n->lib->cuda.event_record(work->ready, n->caller);
    if (error != CUDA_SUCCESS_)
        return cuda_failed(n, &work->op, "cudaEventRecord", error);
    *out = work;
    return push_all(n);
}

/* Block until NCCL has all of the work on our stream, and have the caller's stream wait for it there. */
static int follow(nccl *n, struct nccl_work *work)
{
    int64_t begun = base_now_ns();
    bool left;
    int status = CADRE_OK;
    while (!status && work->state < NCCL_ISSUED) {
        status = collectives_nccl_check(n, &left);
        if (!status && work->state < NCCL_ISSUED)
            collectives_nccl_pause(base_now_ns() - begun);
    }
    if (status)
        return status;
    cuda_error error = n->lib->cuda.stream_wait(n->caller, work->done, 0);
    if (error != CUDA_SUCCESS_)
        return cuda_failed(n, &work->op, "cudaStreamWaitEvent", error);
    work->front = NULL;
    return CADRE_OK;
}

/* ---- host memory ------------------------------------------------------------------------------------------------- */

/* What the companion comes back with. One that was aborted there may have been so because a rank failed on its GPU. */
static int host_outcome(nccl *n, const collectives_op *op, int status)
{
    char what[COLLECTIVES_TEXT], text[400];
    if (!status || status == CADRE_EINVAL)
        return status;
    snprintf(text, sizeof text, "%s", cadre_error_message());
    collectives_describe(op, what);
    pthread_mutex_lock(&n->lock);
    if (atomic_load(&n->board->alarm) != NCCL_ALARM_NONE) {
        int alarmed = collectives_nccl_alarmed(n, what);
        pthread_mutex_unlock(&n->lock);
        return status == CADRE_ECANCELED ? alarmed : base_error(status, "%s", text);
    }
    collectives_nccl_tell(n, status, text); /* those who wait for their GPUs should hear of it */
    collectives_nccl_end(n, false);
    pthread_mutex_unlock(&n->lock);
    return base_error(status, "%s", text);
}

static int host_operate(nccl *n, collectives_op *op)
{
    return host_outcome(n, op, collectives_operate(n->host->backend, n->host->self, op));
}

/* The companion knows one operation at a time: the front's oldest. */
static int host_go_on(nccl *n, collectives_op *op, bool *done)
{
    const collectives_backend *host = n->host->backend;
    void *self = n->host->self;
    int status = CADRE_OK;
    if (!host->start) {
        status = host_operate(n, op);
        if (done)
            *done = !status;
        return status;
    }
    if (!n->host_begun)
        status = host->start(self, op);
    n->host_begun = true;
    if (!status && done)
        status = host->test(self, op, done);
    else if (!status)
        status = host->wait(self, op);
    if (!done || *done)
        n->host_begun = false;
    return host_outcome(n, op, status);
}

/* ---- what the table calls ---------------------------------------------------------------------------------------- */

static int enter_gpu(nccl *n)
{
    pthread_mutex_lock(&n->lock);
    return collectives_nccl_on_device(n);
}

static int leave_gpu(nccl *n, int before, int status)
{
    collectives_nccl_off_device(n, before);
    pthread_mutex_unlock(&n->lock);
    return status;
}

int collectives_nccl_operate(nccl *n, collectives_op *op)
{
    bool gpu;
    struct nccl_work *work;
    int status = place_of(n, op, &gpu);
    if (status)
        return status;
    if (!gpu)
        return host_operate(n, op);
    int before = enter_gpu(n);
    status = begin(n, op, &work);
    if (!status)
        status = follow(n, work);
    return leave_gpu(n, before, status);
}

int collectives_nccl_start(nccl *n, collectives_op *op)
{
    bool gpu;
    struct nccl_work *work;
    int status = place_of(n, op, &gpu);
    if (status || !gpu)
        return status;
    int before = enter_gpu(n);
    return leave_gpu(n, before, begin(n, op, &work));
}

int collectives_nccl_test(nccl *n, collectives_op *op, bool *done)
{
    bool left;
    *done = false;
    int before = enter_gpu(n);
    struct nccl_work *work = find_work(n, op);
    int status = CADRE_OK;
    if (work) {
        if (work->state != NCCL_COMPLETE)
            status = collectives_nccl_check(n, &left);
        *done = !status && work->state == NCCL_COMPLETE;
        if (*done)
            work->front = NULL;
    }
    leave_gpu(n, before, status);
    return work ? status : host_go_on(n, op, done);
}

int collectives_nccl_wait(nccl *n, collectives_op *op)
{
    int before = enter_gpu(n), status = CADRE_OK;
    struct nccl_work *work = find_work(n, op);
    if (work) {
        work->op.started_ns = op->started_ns; /* time counts from here */
        work->op.stall_ns = op->stall_ns;
        work->op.deadline_ns = op->deadline_ns;
        status = follow(n, work);
    }
    leave_gpu(n, before, status);
    return work ? status : host_go_on(n, op, NULL);
}

int collectives_nccl_synchronize(nccl *n)
{
    int before = enter_gpu(n);
    return leave_gpu(n, before, collectives_nccl_finish(n));
}

int collectives_nccl_clear(nccl *n, collectives_op *op, void *memory, size_t nbytes)
{
    struct nccl_work *work = work_new(n);
    int64_t begun = base_now_ns();
    if (!work)
        return CADRE_ENOMEM;
    cuda_error error = n->lib->cuda.fill(memory, 0, nbytes, n->stream);
    if (error == CUDA_SUCCESS_)
        error = n->lib->cuda.event_record(work->done, n->stream);
    while (error == CUDA_SUCCESS_ && (error = n->lib->cuda.event_query(work->done)) == CUDA_NOT_READY) {
        if (base_now_ns() >= op->deadline_ns)
            break;
        collectives_nccl_pause(base_now_ns() - begun);
        error = CUDA_SUCCESS_;
    }
    work->next = n->spare;
    n->spare = work;
    if (error == CUDA_NOT_READY)
        return base_error(CADRE_ETIMEDOUT, "the GPU did not answer before the deadline");
    return error == CUDA_SUCCESS_ ? CADRE_OK : base_error(CADRE_ESYSTEM, "CUDA: %s", n->lib->cuda.error_string(error));
}
