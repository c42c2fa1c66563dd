/*
 * A stand-in for NCCL and the CUDA runtime on host memory, as a library with their symbols (those of
 * collectives/nccl/library.h): what the nccl backend does around them is tested on machines without a GPU.
 *
 * It behaves as the real ones where that matters. GPU memory cannot be touched by the host (its pages are mapped a
 * second time for the library's own use). Streams are threads, so that work is under way when calls return. A
 * communicator does not block: making it and its first operations go on in the background, and misuse (an operation or
 * an event while it is in progress, an abort after the end, memory used out of order) ends the process. Dead peers are
 * not noticed. The CUDA runtime's half, and what is meant by order, is in nccl_double_cuda.c.
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
#include "nccl_double.h"
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

enum { CHUNK = 1 << 18, RANKS_MAX = 16, NCCL_INTERNAL_ERROR = 3 };

void double_misuse(const char *what)
{
    fprintf(stderr, "nccl double: %s\n", what);
    abort();
}

void double_nap(long ns) { nanosleep(&(struct timespec){.tv_sec = ns / 1000000000, .tv_nsec = ns % 1000000000}, NULL); }

int double_number(const char *variable, int otherwise)
{
    const char *text = getenv(variable);
    return text && *text ? atoi(text) : otherwise;
}

bool double_fault(const char *kind, int n, int rank)
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
    cuda_stream stream; /* that it was given work on */
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static nccl_comm comms; /* all there ever were: what comes after their end is noticed */

bool double_in_progress(nccl_comm comm) { return atomic_load(&comm->in_progress) > 0; }

static void check_alive(nccl_comm comm, const char *call)
{
    if (!comm || atomic_load(&comm->ended))
        double_misuse(call);
}

EXPORT nccl_result ncclGetVersion(int *version)
{
    *version = double_number("CADRE_DOUBLE_VERSION", 22809);
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
    if (double_fault("init_hang", 1, comm->rank))
        while (!atomic_load(&comm->aborted))
            double_nap(1000000);
    atomic_fetch_add(&comm->room->attached, 1);
    while (atomic_load(&comm->room->attached) < comm->world && !atomic_load(&comm->aborted))
        double_nap(50000);
    unlink(comm->path);
    atomic_store(&comm->joined, 1);
    return NULL;
}

EXPORT nccl_result ncclCommInitRankConfig(nccl_comm *out, int world, nccl_unique_id id, int rank,
                                          nccl_config_argument *config)
{
    if (config->size != sizeof *config || config->magic != 0xcafebeef || config->blocking != 0 || world > RANKS_MAX)
        double_misuse("this is not a configuration of a communicator that does not block");
    if (double_fault("init_error", 1, rank))
        return NCCL_INTERNAL_ERROR;
    nccl_comm comm = calloc(1, sizeof *comm);
    int fd = open(id.internal, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (!comm || fd < 0 || ftruncate(fd, sizeof(struct room)) != 0)
        double_misuse("no room to meet in");
    comm->room = mmap(NULL, sizeof(struct room), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    close(fd);
    if (comm->room == MAP_FAILED)
        double_misuse("no room to meet in");
    snprintf(comm->path, sizeof comm->path, "%s", id.internal);
    comm->rank = rank;
    comm->world = world;
    pthread_mutex_lock(&lock);
    comm->next = comms;
    comms = comm;
    pthread_mutex_unlock(&lock);
    pthread_t joiner;
    if (pthread_create(&joiner, NULL, join, comm) != 0)
        double_misuse("no thread");
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
        double_misuse("a communicator is ended twice");
    while (!atomic_load(&comm->joined))
        double_nap(50000);
    munmap(comm->room, sizeof *comm->room);
    unlink(comm->path);
    if (comm->stream)
        double_host_knows(comm->stream);
    return NCCL_SUCCESS;
}

EXPORT nccl_result ncclCommAbort(nccl_comm comm)
{
    check_alive(comm, "abort of an ended communicator");
    while (atomic_load(&comm->deaf))
        double_nap(10000000);
    atomic_store(&comm->aborted, 1);
    while (atomic_load(&comm->under_way) > 0)
        double_nap(50000);
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
        double_misuse("destroy of a communicator with operations under way");
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
        double_nap(20000);
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

static void do_collective(struct double_task *task)
{
    nccl_comm comm = task->comm;
    const collectives_op *op = &task->op;
    const char *input = double_inside(op->input);
    char *output = double_inside(op->output);
    int call = (int)task->number;
    if (double_fault("die", call, comm->rank))
        kill(getpid(), SIGKILL);
    if (double_fault("delay", call, comm->rank))
        double_nap(300000000);
    if (double_fault("deaf", call, comm->rank))
        atomic_store(&comm->deaf, 1);
    if (double_fault("async", call, comm->rank))
        atomic_store(&comm->failed, 1);
    if (double_fault("fault", call, comm->rank))
        atomic_store(&double_illegal, 1);
    if (double_fault("hang", call, comm->rank) || atomic_load(&comm->deaf) || atomic_load(&comm->failed))
        while (!atomic_load(&comm->aborted))
            double_nap(100000);
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
        double_misuse("an operation while the communicator is in progress");
    int number = ++comm->calls;
    if (double_fault("error", number, comm->rank))
        return NCCL_INTERNAL_ERROR;
    atomic_fetch_add(&comm->under_way, 1);
    atomic_store(&comm->in_progress, number < 4 ? 3 : 0); /* the first ones connect */
    double_uses(stream, comm);
    comm->stream = stream;
    size_t nbytes = op.count * cadre_dtype_size(op.dtype), all = nbytes * (size_t)comm->world;
    bool reads = op.kind != COLLECTIVES_BROADCAST || op.root == comm->rank;
    double_enqueue(stream,
                   (struct double_task){.fn = do_collective, .comm = comm, .op = op, .number = (uint64_t)number},
                   (struct double_range){op.input, !reads                                  ? 0
                                                   : op.kind == COLLECTIVES_REDUCE_SCATTER ? all
                                                                                           : nbytes},
                   (struct double_range){op.output, op.kind == COLLECTIVES_ALL_GATHER ? all : nbytes});
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
