/*
 * The CUDA runtime's half of the double: memory, streams and events, and a watch over their order.
 *
 * The watch finds what a test that only looks at results would see by luck: an operation that uses memory which another
 * stream still writes, without having waited for it. Every stream, event and the host (all its threads together) has a
 * vector clock: how far into each stream it can be sure to be behind (Mattern, "Virtual Time and Global States of
 * Distributed Systems", 1989). A record hands the stream's clock to the event, a wait hands it to the other stream, a
 * query that answers yes hands it to the host, and the host hands its own to whatever it calls. Two uses of the same
 * bytes, one of them a write, must be in order; memory that is freed must be out of use.
 */
#include "nccl_double.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum { CUDA_ILLEGAL_ADDRESS = 700, CUDA_NO_DEVICE = 100, STREAMS_MAX = 256, DEVICES_MAX = 16 };

/* How far into each stream. */
struct order {
    uint64_t at[STREAMS_MAX];
};

/* ---- memory ------------------------------------------------------------------------------------------------------ */

/* A task's use of bytes [lo, hi) of a block: stream's tick-th task. */
struct use {
    struct use *next;
    size_t lo, hi;
    bool writes;
    int stream;
    uint64_t tick;
};

struct block {
    struct block *next;
    char *outside, *inside; /* what the host is given, and what it may touch */
    size_t nbytes;
    int device;
    struct use *uses; /* that the host does not know to be over */
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER; /* of everything here */
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static struct block *blocks;
static atomic_int mallocs;
atomic_int double_illegal;
static struct order host;           /* what all threads of the program together know */
static uint64_t ticks[STREAMS_MAX]; /* tasks given to each stream so far */
static bool taken[STREAMS_MAX];
static pthread_key_t device_key; /* not _Thread_local: what the loader does for that looks like a race to tsan */

__attribute__((constructor)) static void set_up(void)
{
    if (pthread_key_create(&device_key, NULL) != 0)
        double_misuse("no key");
}

static int current_device(void) { return (int)(intptr_t)pthread_getspecific(device_key); }

static struct block *block_of(const void *memory)
{
    struct block *block = blocks;
    while (block && !((const char *)memory >= block->outside && (const char *)memory < block->outside + block->nbytes))
        block = block->next;
    return block;
}

char *double_inside(const void *memory)
{
    pthread_mutex_lock(&lock);
    struct block *block = block_of(memory);
    char *found = block ? block->inside + ((const char *)memory - block->outside) : (char *)(uintptr_t)memory;
    pthread_mutex_unlock(&lock);
    return found;
}

/* ---- order ------------------------------------------------------------------------------------------------------- */

static void learn(struct order *who, const struct order *from)
{
    for (int i = 0; i < STREAMS_MAX; i++)
        if (who->at[i] < from->at[i])
            who->at[i] = from->at[i];
}

static bool over(const struct use *use, const struct order *who) { return who->at[use->stream] >= use->tick; }

/* Under the lock: `stream`, which stands behind all that `clock` has, uses the range. */
static void note_use(struct double_range range, bool writes, int stream, const struct order *clock)
{
    struct block *block = range.nbytes ? block_of(range.memory) : NULL;
    if (!block)
        return; /* the host's memory */
    size_t lo = (size_t)((const char *)range.memory - block->outside), hi = lo + range.nbytes;
    if (hi > block->nbytes)
        double_misuse("more GPU memory is used than there is");
    struct use *fresh = calloc(1, sizeof *fresh), **link = &block->uses;
    if (!fresh)
        double_misuse("no memory");
    while (*link) {
        struct use *use = *link;
        bool overlaps = use->lo < hi && lo < use->hi;
        if (overlaps && (use->writes || writes) && use->stream != stream && !over(use, clock))
            double_misuse(use->writes ? "a stream uses memory that another one writes, and has not waited for it"
                                      : "a stream writes memory that another one reads, and has not waited for it");
        bool same = use->stream == stream && use->lo >= lo && use->hi <= hi && use->writes <= writes;
        if (same || over(use, &host)) {
            *link = use->next;
            free(use);
        } else {
            link = &use->next;
        }
    }
    *fresh = (struct use){
        .next = block->uses, .lo = lo, .hi = hi, .writes = writes, .stream = stream, .tick = clock->at[stream]};
    block->uses = fresh;
}

/* ---- memory, its calls ------------------------------------------------------------------------------------------- */

EXPORT cuda_error cudaMalloc(void **memory, size_t nbytes)
{
    struct block *block = calloc(1, sizeof *block);
    if (double_fault("memory", atomic_fetch_add(&mallocs, 1) + 1, -1) || !block) {
        free(block);
        return CUDA_OUT_OF_MEMORY;
    }
    int fd = memfd_create("nccl-double", MFD_CLOEXEC);
    block->device = current_device();
    block->nbytes = (nbytes + 4095) / 4096 * 4096;
    if (fd < 0 || ftruncate(fd, (off_t)block->nbytes) != 0)
        double_misuse("no memfd");
    block->inside = mmap(NULL, block->nbytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    block->outside = mmap(NULL, block->nbytes, PROT_NONE, MAP_SHARED, fd, 0);
    close(fd);
    if (block->inside == MAP_FAILED || block->outside == MAP_FAILED)
        double_misuse("no memory to map");
    memset(block->inside, 0x5a, block->nbytes); /* not zero */
    pthread_mutex_lock(&lock);
    block->next = blocks;
    blocks = block;
    pthread_mutex_unlock(&lock);
    *memory = block->outside;
    return CUDA_SUCCESS_;
}

EXPORT cuda_error cudaFree(void *memory)
{
    pthread_mutex_lock(&lock);
    struct block **link = &blocks;
    while (*link && (*link)->outside != memory)
        link = &(*link)->next;
    struct block *block = *link;
    if (!block)
        double_misuse("cudaFree of what is not ours");
    *link = block->next;
    for (struct use *use = block->uses, *next; use; use = next) {
        next = use->next;
        if (!over(use, &host))
            double_misuse("GPU memory is freed that is still used, or of which the host does not know otherwise");
        free(use);
    }
    pthread_mutex_unlock(&lock);
    munmap(block->inside, block->nbytes);
    munmap(block->outside, block->nbytes);
    free(block);
    return CUDA_SUCCESS_;
}

EXPORT cuda_error cudaPointerGetAttributes(cuda_pointer *answer, const void *memory)
{
    pthread_mutex_lock(&lock);
    struct block *block = block_of(memory);
    *answer = (cuda_pointer){.type = block ? CUDA_MEMORY_DEVICE : CUDA_MEMORY_UNREGISTERED,
                             .device = block ? block->device : -1};
    pthread_mutex_unlock(&lock);
    return CUDA_SUCCESS_;
}

/* ---- device ------------------------------------------------------------------------------------------------------ */

EXPORT cuda_error cudaDriverGetVersion(int *version)
{
    *version = double_number("CADRE_DOUBLE_DRIVER", 13000);
    return CUDA_SUCCESS_;
}

EXPORT cuda_error cudaRuntimeGetVersion(int *version)
{
    *version = 13000;
    return CUDA_SUCCESS_;
}

EXPORT cuda_error cudaGetDeviceCount(int *count)
{
    *count = double_number("CADRE_DOUBLE_DEVICES", 8);
    if (*count > DEVICES_MAX)
        double_misuse("so many devices there are not");
    return *count > 0 ? CUDA_SUCCESS_ : CUDA_NO_DEVICE;
}

EXPORT cuda_error cudaSetDevice(int device)
{
    pthread_setspecific(device_key, (void *)(intptr_t)device);
    return CUDA_SUCCESS_;
}

EXPORT cuda_error cudaGetDevice(int *device)
{
    *device = current_device();
    return CUDA_SUCCESS_;
}

EXPORT cuda_error cudaDeviceGetPCIBusId(char *text, int nbytes, int device)
{
    snprintf(text, (size_t)nbytes, "0000:%02x:00.0", device);
    return CUDA_SUCCESS_;
}

EXPORT cuda_error cudaDeviceGetStreamPriorityRange(int *least, int *greatest)
{
    *least = 0;
    *greatest = -5;
    return CUDA_SUCCESS_;
}

EXPORT const char *cudaGetErrorString(cuda_error error)
{
    return error == CUDA_OUT_OF_MEMORY     ? "out of memory"
           : error == CUDA_ILLEGAL_ADDRESS ? "an illegal memory access was encountered"
           : error == CUDA_NO_DEVICE       ? "no CUDA-capable device is detected"
                                           : "some error";
}

EXPORT cuda_error cudaGetLastError(void) { return CUDA_SUCCESS_; }

/* ---- streams and events ------------------------------------------------------------------------------------------ */

struct cuda_stream_opaque {
    pthread_t thread;
    struct double_task *head, *tail;
    bool ending;
    nccl_comm comm; /* the newest that was given work here */
    int number;     /* in the clocks */
    struct order order;
};

struct cuda_event_opaque {
    struct cuda_event_opaque *next;
    uint64_t recorded, complete;
    struct order order; /* of the newest record */
    bool destroyed;
};

static struct cuda_event_opaque *events; /* all there ever were: a stream may wait for one that is destroyed */

static struct cuda_stream_opaque default_streams[DEVICES_MAX]; /* numbers from 0 */
static bool default_started[DEVICES_MAX];

static void *run_stream(void *user)
{
    cuda_stream stream = user;
    pthread_mutex_lock(&lock);
    while (!stream->ending || stream->head) {
        struct double_task *task = stream->head;
        if (!task) {
            pthread_cond_wait(&changed, &lock);
            continue;
        }
        pthread_mutex_unlock(&lock);
        task->fn(task);
        pthread_mutex_lock(&lock);
        stream->head = task->next;
        if (!stream->head)
            stream->tail = NULL;
        free(task);
        pthread_cond_broadcast(&changed);
    }
    pthread_mutex_unlock(&lock);
    return NULL;
}

/* NULL is the default stream of the thread's device. */
static cuda_stream stream_of(cuda_stream stream)
{
    int device = current_device();
    if (stream)
        return stream;
    stream = &default_streams[device];
    pthread_mutex_lock(&lock);
    stream->number = device;
    if (!default_started[device] && pthread_create(&stream->thread, NULL, run_stream, stream) != 0)
        double_misuse("no thread");
    default_started[device] = true;
    pthread_mutex_unlock(&lock);
    return stream;
}

/* Under the lock. */
static void append(cuda_stream stream, struct double_task what)
{
    struct double_task *task = malloc(sizeof *task);
    if (!task)
        double_misuse("no memory");
    *task = what;
    if (stream->tail)
        stream->tail->next = task;
    else
        stream->head = task;
    stream->tail = task;
    learn(&stream->order, &host);
    stream->order.at[stream->number] = ++ticks[stream->number];
    pthread_cond_broadcast(&changed);
}

void double_enqueue(cuda_stream stream, struct double_task what, struct double_range reads, struct double_range writes)
{
    stream = stream_of(stream);
    pthread_mutex_lock(&lock);
    append(stream, what);
    note_use(reads, false, stream->number, &stream->order);
    note_use(writes, true, stream->number, &stream->order);
    pthread_mutex_unlock(&lock);
}

void double_host_knows(cuda_stream stream)
{
    pthread_mutex_lock(&lock);
    learn(&host, &stream->order);
    pthread_mutex_unlock(&lock);
}

void double_uses(cuda_stream stream, nccl_comm comm) { stream->comm = comm; }

EXPORT cuda_error cudaStreamCreateWithPriority(cuda_stream *stream, unsigned flags, int priority)
{
    if (flags != CUDA_STREAM_NON_BLOCKING || priority != -5)
        double_misuse("not the stream of highest priority beside the default one");
    *stream = calloc(1, sizeof **stream);
    int number = DEVICES_MAX;
    pthread_mutex_lock(&lock);
    while (number < STREAMS_MAX && taken[number])
        number++;
    if (*stream && number < STREAMS_MAX) {
        taken[number] = true;
        (*stream)->number = number;
    }
    pthread_mutex_unlock(&lock);
    if (!*stream || number == STREAMS_MAX || pthread_create(&(*stream)->thread, NULL, run_stream, *stream) != 0)
        double_misuse("no thread");
    return CUDA_SUCCESS_;
}

EXPORT cuda_error cudaStreamDestroy(cuda_stream stream)
{
    pthread_mutex_lock(&lock);
    stream->ending = true;
    pthread_cond_broadcast(&changed);
    pthread_mutex_unlock(&lock);
    pthread_join(stream->thread, NULL);
    pthread_mutex_lock(&lock);
    learn(&host, &stream->order);
    taken[stream->number] = false;
    pthread_mutex_unlock(&lock);
    free(stream);
    return CUDA_SUCCESS_;
}

EXPORT cuda_error cudaEventCreateWithFlags(cuda_event *event, unsigned flags)
{
    (void)flags;
    *event = calloc(1, sizeof **event);
    if (!*event)
        return CUDA_OUT_OF_MEMORY;
    pthread_mutex_lock(&lock);
    (*event)->next = events;
    events = *event;
    pthread_mutex_unlock(&lock);
    return CUDA_SUCCESS_;
}

EXPORT cuda_error cudaEventDestroy(cuda_event event)
{
    pthread_mutex_lock(&lock);
    if (event->destroyed)
        double_misuse("an event is destroyed twice");
    event->destroyed = true;
    pthread_mutex_unlock(&lock);
    return CUDA_SUCCESS_;
}

static void complete_event(struct double_task *task)
{
    pthread_mutex_lock(&lock);
    task->event->complete = task->number;
    pthread_cond_broadcast(&changed);
    pthread_mutex_unlock(&lock);
}

static void await_event(struct double_task *task)
{
    pthread_mutex_lock(&lock);
    while (task->event->complete < task->number)
        pthread_cond_wait(&changed, &lock);
    pthread_mutex_unlock(&lock);
}

EXPORT cuda_error cudaEventRecord(cuda_event event, cuda_stream stream)
{
    if (stream && stream->comm && double_in_progress(stream->comm))
        double_misuse("an event is recorded while the communicator is in progress");
    if (atomic_load(&double_illegal)) /* every call says so from then on */
        return CUDA_ILLEGAL_ADDRESS;
    stream = stream_of(stream);
    pthread_mutex_lock(&lock);
    append(stream, (struct double_task){.fn = complete_event, .event = event, .number = ++event->recorded});
    event->order = stream->order;
    pthread_mutex_unlock(&lock);
    return CUDA_SUCCESS_;
}

EXPORT cuda_error cudaEventQuery(cuda_event event)
{
    if (atomic_load(&double_illegal))
        return CUDA_ILLEGAL_ADDRESS;
    pthread_mutex_lock(&lock);
    bool complete = event->complete == event->recorded;
    if (complete)
        learn(&host, &event->order);
    pthread_mutex_unlock(&lock);
    return complete ? CUDA_SUCCESS_ : CUDA_NOT_READY;
}

EXPORT cuda_error cudaStreamWaitEvent(cuda_stream stream, cuda_event event, unsigned flags)
{
    (void)flags;
    stream = stream_of(stream);
    pthread_mutex_lock(&lock);
    append(stream, (struct double_task){.fn = await_event, .event = event, .number = event->recorded});
    learn(&stream->order, &event->order);
    pthread_mutex_unlock(&lock);
    return CUDA_SUCCESS_;
}

static void do_copy(struct double_task *task)
{
    memcpy(double_inside(task->to), double_inside(task->from), task->nbytes);
}
static void do_fill(struct double_task *task) { memset(double_inside(task->to), (int)task->number, task->nbytes); }

EXPORT cuda_error cudaMemcpyAsync(void *to, const void *from, size_t nbytes, cuda_copy_kind kind, cuda_stream stream)
{
    if (kind != CUDA_COPY_DEFAULT)
        double_misuse("a copy of one direction");
    double_enqueue(stream, (struct double_task){.fn = do_copy, .to = to, .from = from, .nbytes = nbytes},
                   (struct double_range){from, nbytes}, (struct double_range){to, nbytes});
    return CUDA_SUCCESS_;
}

EXPORT cuda_error cudaMemsetAsync(void *memory, int value, size_t nbytes, cuda_stream stream)
{
    double_enqueue(stream,
                   (struct double_task){.fn = do_fill, .to = memory, .number = (uint64_t)value, .nbytes = nbytes},
                   (struct double_range){0}, (struct double_range){memory, nbytes});
    return CUDA_SUCCESS_;
}
