/*
 * A stand-in for NCCL and the CUDA runtime on host memory, as a library with their symbols (those of
 * collectives/nccl/library.h): what the nccl backend does around them is tested on machines without a GPU.
 *
 * It behaves as the real ones where that matters. GPU memory cannot be touched by the host (its pages are mapped a
 * second time for the library's own use). Streams are threads, so that work is under way when calls return. A
 * communicator does not block: making it and its first operations go on in the background, and misuse (an operation or
 * an event while it is in progress, an abort after the end) ends the process. Dead peers are not noticed.
 *
 * Ranks may be processes or threads; they meet in a file in /dev/shm that is gone when all have come.
 *
 * Faults, from CADRE_DOUBLE in the environment: a comma-separated list of KIND:N[@RANK], at the Nth collective of a
 * communicator (from 1) if not said otherwise: delay (0.3 s more), error (the call fails), async (it never ends, and
 * the communicator says why), hang (it never ends, nothing is said), die (SIGKILL), deaf (hang, and abort does not
 * return); fault (from then on the GPU has met an illegal address), init_hang, init_error (N is 1), memory (the Nth
 * cudaMalloc fails). CADRE_DOUBLE_DEVICES: how many GPUs there are (8); CADRE_DOUBLE_VERSION: of NCCL (22809);
 * CADRE_DOUBLE_DRIVER: 0 is a machine without one.
 */
#include "collectives/nccl/library.h"
#include "collectives/reduce.h"

#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdalign.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <time.h>
#include <unistd.h>

enum { CHUNK = 1 << 18, RANKS_MAX = 16, CUDA_ILLEGAL_ADDRESS = 700, CUDA_NO_DEVICE = 100, NCCL_INTERNAL_ERROR = 3 };

#define EXPORT __attribute__((visibility("default")))

static _Noreturn void misuse(const char *what)
{
    fprintf(stderr, "nccl double: %s\n", what);
    abort();
}

static void nap(long ns) { nanosleep(&(struct timespec){.tv_sec = ns / 1000000000, .tv_nsec = ns % 1000000000}, NULL); }

static int number_from(const char *variable, int otherwise)
{
    const char *text = getenv(variable);
    return text && *text ? atoi(text) : otherwise;
}

/* Is it `kind`'s turn, at passage `n` on `rank` (-1: it is not known)? */
static bool fault(const char *kind, int n, int rank)
{
    const char *at = getenv("CADRE_DOUBLE");
    size_t length = strlen(kind);
    for (; at && *at; at = strchr(at, ',') ? strchr(at, ',') + 1 : NULL) {
        char *end;
        if (strncmp(at, kind, length) != 0 || at[length] != ':' || strtol(at + length + 1, &end, 10) != n)
            continue;
        if (*end != '@' || rank < 0 || strtol(end + 1, NULL, 10) == rank)
            return true;
    }
    return false;
}

/* ---- memory ------------------------------------------------------------------------------------------------------ */

struct block {
    struct block *next;
    char *outside, *inside; /* what the host is given, and what it may touch */
    size_t nbytes;
    int device;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER; /* of everything here */
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static struct block *blocks;
static atomic_int mallocs, illegal;
static pthread_key_t device_key; /* not _Thread_local: what the loader does for that looks like a race to tsan */

__attribute__((constructor)) static void set_up(void)
{
    if (pthread_key_create(&device_key, NULL) != 0)
        misuse("no key");
}

static int current_device(void) { return (int)(intptr_t)pthread_getspecific(device_key); }

static struct block *block_of(const void *memory)
{
    struct block *block = blocks;
    while (block && !((const char *)memory >= block->outside && (const char *)memory < block->outside + block->nbytes))
        block = block->next;
    return block;
}

static char *inside(const void *memory)
{
    pthread_mutex_lock(&lock);
    struct block *block = block_of(memory);
    char *found = block ? block->inside + ((const char *)memory - block->outside) : (char *)(uintptr_t)memory;
    pthread_mutex_unlock(&lock);
    return found;
}

EXPORT cuda_error cudaMalloc(void **memory, size_t nbytes)
{
    struct block *block = calloc(1, sizeof *block);
    if (fault("memory", atomic_fetch_add(&mallocs, 1) + 1, -1) || !block) {
        free(block);
        return CUDA_OUT_OF_MEMORY;
    }
    int fd = memfd_create("nccl-double", MFD_CLOEXEC);
    block->device = current_device();
    block->nbytes = (nbytes + 4095) / 4096 * 4096;
    if (fd < 0 || ftruncate(fd, (off_t)block->nbytes) != 0)
        misuse("no memfd");
    block->inside = mmap(NULL, block->nbytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    block->outside = mmap(NULL, block->nbytes, PROT_NONE, MAP_SHARED, fd, 0);
    close(fd);
    if (block->inside == MAP_FAILED || block->outside == MAP_FAILED)
        misuse("no memory to map");
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
        misuse("cudaFree of what is not ours");
    *link = block->next;
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
    *version = number_from("CADRE_DOUBLE_DRIVER", 13000);
    return CUDA_SUCCESS_;
}

EXPORT cuda_error cudaRuntimeGetVersion(int *version)
{
    *version = 13000;
    return CUDA_SUCCESS_;
}

EXPORT cuda_error cudaGetDeviceCount(int *count)
{
    *count = number_from("CADRE_DOUBLE_DEVICES", 8);
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

struct task {
    struct task *next;
    void (*fn)(struct task *task);
    struct cuda_event_opaque *event;
    uint64_t number;
    void *to;
    const void *from;
    size_t nbytes;
    struct nccl_comm_opaque *comm;
    collectives_op op;
};

struct cuda_stream_opaque {
    pthread_t thread;
    struct task *head, *tail;
    bool ending;
    struct nccl_comm_opaque *comm; /* the newest that was given work here */
};

struct cuda_event_opaque {
    struct cuda_event_opaque *next;
    uint64_t recorded, complete;
    bool destroyed;
};

static struct cuda_event_opaque *events; /* all there ever were: a stream may wait for one that is destroyed */

static struct cuda_stream_opaque default_stream;
static bool default_started;

static void *run_stream(void *user)
{
    cuda_stream stream = user;
    pthread_mutex_lock(&lock);
    while (!stream->ending || stream->head) {
        struct task *task = stream->head;
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

static cuda_stream stream_of(cuda_stream stream)
{
    if (stream)
        return stream;
    pthread_mutex_lock(&lock);
    if (!default_started && pthread_create(&default_stream.thread, NULL, run_stream, &default_stream) != 0)
        misuse("no thread");
    default_started = true;
    pthread_mutex_unlock(&lock);
    return &default_stream;
}

static void enqueue(cuda_stream stream, struct task what)
{
    struct task *task = malloc(sizeof *task);
    stream = stream_of(stream);
    if (!task)
        misuse("no memory");
    *task = what;
    pthread_mutex_lock(&lock);
    if (stream->tail)
        stream->tail->next = task;
    else
        stream->head = task;
    stream->tail = task;
    pthread_cond_broadcast(&changed);
    pthread_mutex_unlock(&lock);
}

EXPORT cuda_error cudaStreamCreateWithPriority(cuda_stream *stream, unsigned flags, int priority)
{
    if (flags != CUDA_STREAM_NON_BLOCKING || priority != -5)
        misuse("not the stream of highest priority beside the default one");
    *stream = calloc(1, sizeof **stream);
    if (!*stream || pthread_create(&(*stream)->thread, NULL, run_stream, *stream) != 0)
        misuse("no thread");
    return CUDA_SUCCESS_;
}

EXPORT cuda_error cudaStreamDestroy(cuda_stream stream)
{
    pthread_mutex_lock(&lock);
    stream->ending = true;
    pthread_cond_broadcast(&changed);
    pthread_mutex_unlock(&lock);
    pthread_join(stream->thread, NULL);
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
        misuse("an event is destroyed twice");
    event->destroyed = true;
    pthread_mutex_unlock(&lock);
    return CUDA_SUCCESS_;
}

static void complete_event(struct task *task)
{
    pthread_mutex_lock(&lock);
    task->event->complete = task->number;
    pthread_cond_broadcast(&changed);
    pthread_mutex_unlock(&lock);
}

static void await_event(struct task *task)
{
    pthread_mutex_lock(&lock);
    while (task->event->complete < task->number)
        pthread_cond_wait(&changed, &lock);
    pthread_mutex_unlock(&lock);
}

static void check_idle(cuda_stream stream);

EXPORT cuda_error cudaEventRecord(cuda_event event, cuda_stream stream)
{
    check_idle(stream);
    pthread_mutex_lock(&lock);
    uint64_t number = ++event->recorded;
    pthread_mutex_unlock(&lock);
    enqueue(stream, (struct task){.fn = complete_event, .event = event, .number = number});
    return CUDA_SUCCESS_;
}

EXPORT cuda_error cudaEventQuery(cuda_event event)
{
    if (atomic_load(&illegal))
        return CUDA_ILLEGAL_ADDRESS;
    pthread_mutex_lock(&lock);
    bool complete = event->complete == event->recorded;
    pthread_mutex_unlock(&lock);
    return complete ? CUDA_SUCCESS_ : CUDA_NOT_READY;
}

EXPORT cuda_error cudaStreamWaitEvent(cuda_stream stream, cuda_event event, unsigned flags)
{
    (void)flags;
    pthread_mutex_lock(&lock);
    uint64_t number = event->recorded;
    pthread_mutex_unlock(&lock);
    enqueue(stream, (struct task){.fn = await_event, .event = event, .number = number});
    return CUDA_SUCCESS_;
}

static void do_copy(struct task *task) { memcpy(inside(task->to), inside(task->from), task->nbytes); }
static void do_fill(struct task *task) { memset(inside(task->to), (int)task->number, task->nbytes); }

EXPORT cuda_error cudaMemcpyAsync(void *to, const void *from, size_t nbytes, cuda_copy_kind kind, cuda_stream stream)
{
    if (kind != CUDA_COPY_DEFAULT)
        misuse("a copy of one direction");
    enqueue(stream, (struct task){.fn = do_copy, .to = to, .from = from, .nbytes = nbytes});
    return CUDA_SUCCESS_;
}

EXPORT cuda_error cudaMemsetAsync(void *memory, int value, size_t nbytes, cuda_stream stream)
{
    enqueue(stream, (struct task){.fn = do_fill, .to = memory, .number = (uint64_t)value, .nbytes = nbytes});
    return CUDA_SUCCESS_;
}

/* ---- communicators ----------------------------------------------------------------------------------------------- */

/* What the ranks share. A barrier of two counters, as nobody can be two rounds ahead. */
struct room {
    atomic_int attached, arrived;
    atomic_uint round;
    alignas(64) unsigned char chunks[RANKS_MAX][CHUNK];
};

struct nccl_comm_opaque {
    struct nccl_comm_opaque *next;
    struct room *room;
    char path[64];
    int rank, world, calls;
    atomic_int in_progress; /* so many polls of the state say so */
    atomic_int joined, aborted, failed, deaf, ended, under_way;
    unsigned round;
};

static nccl_comm comms; /* all there ever were: what comes after their end is noticed */

static void check_idle(cuda_stream stream)
{
    if (stream && stream->comm && atomic_load(&stream->comm->in_progress) > 0)
        misuse("an event is recorded while the communicator is in progress");
}

static void check_alive(nccl_comm comm, const char *call)
{
    if (!comm || atomic_load(&comm->ended))
        misuse(call);
}

EXPORT nccl_result ncclGetVersion(int *version)
{
    *version = number_from("CADRE_DOUBLE_VERSION", 22809);
    return NCCL_SUCCESS;
}

EXPORT const char *ncclGetErrorString(nccl_result result)
{
    return result == NCCL_REMOTE_ERROR     ? "remote process exited or there was a network error"
           : result == NCCL_INTERNAL_ERROR ? "internal error"
                                           : "some error";
}

EXPORT const char *ncclGetLastError(nccl_comm comm)
{
    (void)comm;
    return "";
}

EXPORT nccl_result ncclGetUniqueId(nccl_unique_id *id)
{
    uint64_t tag;
    if (getrandom(&tag, sizeof tag, 0) != sizeof tag)
        return NCCL_SYSTEM_ERROR;
    memset(id, 0, sizeof *id);
    snprintf(id->internal, sizeof id->internal, "/dev/shm/cadre-double-%016llx", (unsigned long long)tag);
    return NCCL_SUCCESS;
}

static void *join(void *user)
{
    nccl_comm comm = user;
    if (fault("init_hang", 1, comm->rank))
        while (!atomic_load(&comm->aborted))
            nap(1000000);
    atomic_fetch_add(&comm->room->attached, 1);
    while (atomic_load(&comm->room->attached) < comm->world && !atomic_load(&comm->aborted))
        nap(50000);
    unlink(comm->path);
    atomic_store(&comm->joined, 1);
    return NULL;
}

EXPORT nccl_result ncclCommInitRankConfig(nccl_comm *out, int world, nccl_unique_id id, int rank,
                                          nccl_config_argument *config)
{
    if (config->size != sizeof *config || config->magic != 0xcafebeef || config->blocking != 0 || world > RANKS_MAX)
        misuse("this is not a configuration of a communicator that does not block");
    if (fault("init_error", 1, rank))
        return NCCL_INTERNAL_ERROR;
    nccl_comm comm = calloc(1, sizeof *comm);
    int fd = open(id.internal, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (!comm || fd < 0 || ftruncate(fd, sizeof(struct room)) != 0)
        misuse("no room to meet in");
    comm->room = mmap(NULL, sizeof(struct room), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    close(fd);
    if (comm->room == MAP_FAILED)
        misuse("no room to meet in");
    snprintf(comm->path, sizeof comm->path, "%s", id.internal);
    comm->rank = rank;
    comm->world = world;
    pthread_mutex_lock(&lock);
    comm->next = comms;
    comms = comm;
    pthread_mutex_unlock(&lock);
    pthread_t joiner;
    if (pthread_create(&joiner, NULL, join, comm) != 0)
        misuse("no thread");
    pthread_detach(joiner);
    *out = comm;
    return NCCL_IN_PROGRESS;
}

EXPORT nccl_result ncclCommGetAsyncError(nccl_comm comm, nccl_result *result)
{
    check_alive(comm, "the state of an ended communicator is asked for");
    *result = NCCL_SUCCESS;
    if (atomic_load(&comm->failed))
        *result = NCCL_REMOTE_ERROR;
    else if (!atomic_load(&comm->joined))
        *result = NCCL_IN_PROGRESS;
    else if (atomic_load(&comm->in_progress) > 0 && atomic_fetch_sub(&comm->in_progress, 1) > 1)
        *result = NCCL_IN_PROGRESS;
    return NCCL_SUCCESS;
}

static nccl_result end(nccl_comm comm)
{
    if (atomic_exchange(&comm->ended, 1))
        misuse("a communicator is ended twice");
    while (!atomic_load(&comm->joined))
        nap(50000);
    munmap(comm->room, sizeof *comm->room);
    unlink(comm->path);
    return NCCL_SUCCESS;
}

EXPORT nccl_result ncclCommAbort(nccl_comm comm)
{
    check_alive(comm, "abort of an ended communicator");
    while (atomic_load(&comm->deaf))
        nap(10000000);
    atomic_store(&comm->aborted, 1);
    while (atomic_load(&comm->under_way) > 0)
        nap(50000);
    return end(comm);
}

EXPORT nccl_result ncclCommFinalize(nccl_comm comm)
{
    check_alive(comm, "finalize of an ended communicator");
    atomic_store(&comm->in_progress, 2);
    return NCCL_IN_PROGRESS;
}

EXPORT nccl_result ncclCommDestroy(nccl_comm comm)
{
    check_alive(comm, "destroy of an ended communicator");
    if (atomic_load(&comm->under_way) > 0)
        misuse("destroy of a communicator with operations under way");
    return end(comm);
}

/* ---- operations -------------------------------------------------------------------------------------------------- */

/* False when the communicator was aborted. */
static bool meet(nccl_comm comm)
{
    struct room *room = comm->room;
    unsigned round = ++comm->round;
    if (atomic_fetch_add(&room->arrived, 1) + 1 == comm->world) {
        atomic_store(&room->arrived, 0);
        atomic_store(&room->round, round);
    }
    while (atomic_load(&room->round) < round) {
        if (atomic_load(&comm->aborted))
            return false;
        nap(20000);
    }
    return true;
}

/* Every rank puts a piece into its chunk, all meet, each takes what it needs, all meet. */
static bool pass(nccl_comm comm, const char *mine, size_t nbytes)
{
    if (mine)
        memcpy(comm->room->chunks[comm->rank], mine, nbytes);
    return meet(comm);
}

static void reduce_chunks(nccl_comm comm, const collectives_op *op, char *to, size_t count)
{
    const void *from[RANKS_MAX];
    void *one = to;
    for (int r = 0; r < comm->world; r++)
        from[r] = comm->room->chunks[r];
    collectives_reduce(&one, 1, from, comm->world, count, op->dtype, op->op);
}

static bool all_reduce(nccl_comm comm, const collectives_op *op, const char *input, char *output)
{
    size_t size = cadre_dtype_size(op->dtype), most = CHUNK / size;
    bool on = true;
    for (size_t at = 0, count; on && at < op->count; at += count) {
        count = op->count - at < most ? op->count - at : most;
        on = pass(comm, input + at * size, count * size);
        if (on)
            reduce_chunks(comm, op, output + at * size, count);
        on = on && meet(comm);
    }
    return on;
}

/* One round for each rank's part: all reduce it, its owner keeps it. Input may be output's surroundings. */
static bool reduce_scatter(nccl_comm comm, const collectives_op *op, const char *input, char *output)
{
    size_t size = cadre_dtype_size(op->dtype), most = CHUNK / size;
    bool on = true;
    for (size_t at = 0, count; on && at < op->count; at += count) {
        count = op->count - at < most ? op->count - at : most;
        for (int owner = 0; on && owner < comm->world; owner++) {
            on = pass(comm, input + ((size_t)owner * op->count + at) * size, count * size);
            if (on && owner == comm->rank)
                reduce_chunks(comm, op, output + at * size, count);
            on = on && meet(comm);
        }
    }
    return on;
}

static bool all_gather(nccl_comm comm, const collectives_op *op, const char *input, char *output)
{
    size_t size = cadre_dtype_size(op->dtype), most = CHUNK / size;
    bool on = true;
    for (size_t at = 0, count; on && at < op->count; at += count) {
        count = op->count - at < most ? op->count - at : most;
        on = pass(comm, input + at * size, count * size);
        for (int r = 0; on && r < comm->world; r++)
            memcpy(output + ((size_t)r * op->count + at) * size, comm->room->chunks[r], count * size);
        on = on && meet(comm);
    }
    return on;
}

static bool broadcast(nccl_comm comm, const collectives_op *op, const char *input, char *output)
{
    size_t size = cadre_dtype_size(op->dtype), most = CHUNK / size;
    bool on = true;
    for (size_t at = 0, count; on && at < op->count; at += count) {
        count = op->count - at < most ? op->count - at : most;
        on = pass(comm, comm->rank == op->root ? input + at * size : NULL, count * size);
        if (on)
            memcpy(output + at * size, comm->room->chunks[op->root], count * size);
        on = on && meet(comm);
    }
    return on;
}

static void do_collective(struct task *task)
{
    nccl_comm comm = task->comm;
    const collectives_op *op = &task->op;
    const char *input = inside(op->input);
    char *output = inside(op->output);
    int call = (int)task->number;
    if (fault("die", call, comm->rank))
        kill(getpid(), SIGKILL);
    if (fault("delay", call, comm->rank))
        nap(300000000);
    if (fault("deaf", call, comm->rank))
        atomic_store(&comm->deaf, 1);
    if (fault("async", call, comm->rank))
        atomic_store(&comm->failed, 1);
    if (fault("fault", call, comm->rank))
        atomic_store(&illegal, 1);
    if (fault("hang", call, comm->rank) || atomic_load(&comm->deaf) || atomic_load(&comm->failed))
        while (!atomic_load(&comm->aborted))
            nap(100000);
    if (atomic_load(&comm->aborted))
        goto out;
    switch (op->kind) {
    case COLLECTIVES_REDUCE_SCATTER:
        reduce_scatter(comm, op, input, output);
        break;
    case COLLECTIVES_ALL_GATHER:
        all_gather(comm, op, input, output);
        break;
    case COLLECTIVES_BROADCAST:
        broadcast(comm, op, input, output);
        break;
    default:
        all_reduce(comm, op, input, output);
    }
out:
    atomic_fetch_sub(&comm->under_way, 1);
}

static nccl_result call(nccl_comm comm, cuda_stream stream, collectives_op op)
{
    check_alive(comm, "an operation on an ended communicator");
    if (!atomic_load(&comm->joined) || atomic_load(&comm->in_progress) > 0)
        misuse("an operation while the communicator is in progress");
    int number = ++comm->calls;
    if (fault("error", number, comm->rank))
        return NCCL_INTERNAL_ERROR;
    atomic_fetch_add(&comm->under_way, 1);
    atomic_store(&comm->in_progress, number < 4 ? 3 : 0); /* the first ones connect */
    stream->comm = comm;
    enqueue(stream, (struct task){.fn = do_collective, .comm = comm, .op = op, .number = (uint64_t)number});
    return number < 4 ? NCCL_IN_PROGRESS : NCCL_SUCCESS;
}

static cadre_dtype our_dtype(nccl_dtype dtype)
{
    return dtype == NCCL_FLOAT32    ? CADRE_FLOAT32
           : dtype == NCCL_FLOAT64  ? CADRE_FLOAT64
           : dtype == NCCL_BFLOAT16 ? CADRE_BFLOAT16
           : dtype == NCCL_INT32    ? CADRE_INT32
                                    : CADRE_INT64;
}

static cadre_op our_op(nccl_op op)
{
    static const cadre_op ops[] = {CADRE_SUM, CADRE_PRODUCT, CADRE_MAX, CADRE_MIN, CADRE_MEAN};
    return ops[op];
}

EXPORT nccl_result ncclAllReduce(const void *send, void *receive, size_t count, nccl_dtype dtype, nccl_op op,
                                 nccl_comm comm, cuda_stream stream)
{
    return call(comm, stream,
                (collectives_op){.kind = COLLECTIVES_ALL_REDUCE,
                                 .input = send,
                                 .output = receive,
                                 .count = count,
                                 .dtype = our_dtype(dtype),
                                 .op = our_op(op)});
}

EXPORT nccl_result ncclReduceScatter(const void *send, void *receive, size_t count, nccl_dtype dtype, nccl_op op,
                                     nccl_comm comm, cuda_stream stream)
{
    return call(comm, stream,
                (collectives_op){.kind = COLLECTIVES_REDUCE_SCATTER,
                                 .input = send,
                                 .output = receive,
                                 .count = count,
                                 .dtype = our_dtype(dtype),
                                 .op = our_op(op)});
}

EXPORT nccl_result ncclAllGather(const void *send, void *receive, size_t count, nccl_dtype dtype, nccl_comm comm,
                                 cuda_stream stream)
{
    return call(comm, stream,
                (collectives_op){.kind = COLLECTIVES_ALL_GATHER,
                                 .input = send,
                                 .output = receive,
                                 .count = count,
                                 .dtype = our_dtype(dtype)});
}

EXPORT nccl_result ncclBroadcast(const void *send, void *receive, size_t count, nccl_dtype dtype, int root,
                                 nccl_comm comm, cuda_stream stream)
{
    return call(comm, stream,
                (collectives_op){.kind = COLLECTIVES_BROADCAST,
                                 .input = send,
                                 .output = receive,
                                 .count = count,
                                 .dtype = our_dtype(dtype),
                                 .root = root});
}
