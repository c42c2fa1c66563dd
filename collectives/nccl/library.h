/*
 * NCCL and the CUDA runtime as this backend knows them: the few types, constants and functions that it uses, declared
 * here so that building needs no header of theirs, and opened at run time so that one build serves machines with and
 * without GPUs. tests/collectives/nccl_headers.c holds these declarations against the real headers where those are.
 *
 * What is relied on has been stable since NCCL 2.14 (non-blocking communicators) and CUDA 11.
 */
#ifndef COLLECTIVES_NCCL_LIBRARY_H
#define COLLECTIVES_NCCL_LIBRARY_H

#include "collectives/backend.h"

enum { NCCL_UNIQUE_ID = 128 };

/* X(our name, theirs, value) */
#define NCCL_CONSTANTS(X)                                                                                              \
    X(NCCL_SUCCESS, ncclSuccess, 0)                                                                                    \
    X(NCCL_SYSTEM_ERROR, ncclSystemError, 2)                                                                           \
    X(NCCL_REMOTE_ERROR, ncclRemoteError, 6)                                                                           \
    X(NCCL_IN_PROGRESS, ncclInProgress, 7)                                                                             \
    X(NCCL_SUM, ncclSum, 0)                                                                                            \
    X(NCCL_PROD, ncclProd, 1)                                                                                          \
    X(NCCL_MAX, ncclMax, 2)                                                                                            \
    X(NCCL_MIN, ncclMin, 3)                                                                                            \
    X(NCCL_AVG, ncclAvg, 4)                                                                                            \
    X(NCCL_INT32, ncclInt32, 2)                                                                                        \
    X(NCCL_INT64, ncclInt64, 4)                                                                                        \
    X(NCCL_FLOAT32, ncclFloat32, 7)                                                                                    \
    X(NCCL_FLOAT64, ncclFloat64, 8)                                                                                    \
    X(NCCL_BFLOAT16, ncclBfloat16, 9)                                                                                  \
    X(CUDA_SUCCESS_, cudaSuccess, 0)                                                                                   \
    X(CUDA_OUT_OF_MEMORY, cudaErrorMemoryAllocation, 2)                                                                \
    X(CUDA_NOT_READY, cudaErrorNotReady, 600)                                                                          \
    X(CUDA_MEMORY_UNREGISTERED, cudaMemoryTypeUnregistered, 0)                                                         \
    X(CUDA_MEMORY_DEVICE, cudaMemoryTypeDevice, 2)                                                                     \
    X(CUDA_MEMORY_MANAGED, cudaMemoryTypeManaged, 3)                                                                   \
    X(CUDA_STREAM_NON_BLOCKING, cudaStreamNonBlocking, 1)                                                              \
    X(CUDA_EVENT_NO_TIMING, cudaEventDisableTiming, 2)                                                                 \
    X(CUDA_COPY_DEFAULT, cudaMemcpyDefault, 4)

/* The test against the real headers gives these names the real types. */
#ifndef NCCL_REAL_TYPES
#define NCCL_CONSTANT(name, real, value) name = value,
enum { NCCL_CONSTANTS(NCCL_CONSTANT) };
#undef NCCL_CONSTANT

typedef int nccl_result, nccl_dtype, nccl_op;
typedef struct nccl_comm_opaque *nccl_comm;
typedef struct {
    char internal[NCCL_UNIQUE_ID];
} nccl_unique_id;

typedef int cuda_error, cuda_copy_kind;
typedef struct cuda_stream_opaque *cuda_stream;
typedef struct cuda_event_opaque *cuda_event;
typedef struct {
    int type, device;
    void *device_pointer, *host_pointer;
    long reserved[8]; /* new in CUDA 13; older runtimes write less */
} cuda_pointer;
typedef struct nccl_config nccl_config_argument;
#endif

/* NCCL's configuration as of 2.14, which says so in `size` and `version`: later libraries take their own defaults for
 * what was added since. */
struct nccl_config {
    size_t size;
    unsigned int magic, version;
    int blocking;
};
#define NCCL_CONFIG_NON_BLOCKING                                                                                       \
    {                                                                                                                  \
        sizeof(struct nccl_config), 0xcafebeefu, 21400, 0                                                              \
    }
enum { NCCL_OLDEST = 21400, NCCL_SHARED_GPU = 23000 };

/* X(field, symbol, what it returns, its arguments) */
#define NCCL_FUNCTIONS(X)                                                                                              \
    X(get_version, ncclGetVersion, nccl_result, (int *version))                                                        \
    X(get_unique_id, ncclGetUniqueId, nccl_result, (nccl_unique_id * id))                                              \
    X(init_rank, ncclCommInitRankConfig, nccl_result,                                                                  \
      (nccl_comm * comm, int world, nccl_unique_id id, int rank, nccl_config_argument *config))                        \
    X(finalize, ncclCommFinalize, nccl_result, (nccl_comm comm))                                                       \
    X(destroy, ncclCommDestroy, nccl_result, (nccl_comm comm))                                                         \
    X(abort, ncclCommAbort, nccl_result, (nccl_comm comm))                                                             \
    X(async_error, ncclCommGetAsyncError, nccl_result, (nccl_comm comm, nccl_result * result))                         \
    X(error_string, ncclGetErrorString, const char *, (nccl_result result))                                            \
    X(last_error, ncclGetLastError, const char *, (nccl_comm comm))                                                    \
    X(all_reduce, ncclAllReduce, nccl_result,                                                                          \
      (const void *send, void *receive, size_t count, nccl_dtype dtype, nccl_op op, nccl_comm comm,                    \
       cuda_stream stream))                                                                                            \
    X(reduce_scatter, ncclReduceScatter, nccl_result,                                                                  \
      (const void *send, void *receive, size_t count, nccl_dtype dtype, nccl_op op, nccl_comm comm,                    \
       cuda_stream stream))                                                                                            \
    X(all_gather, ncclAllGather, nccl_result,                                                                          \
      (const void *send, void *receive, size_t count, nccl_dtype dtype, nccl_comm comm, cuda_stream stream))           \
    X(broadcast, ncclBroadcast, nccl_result,                                                                           \
      (const void *send, void *receive, size_t count, nccl_dtype dtype, int root, nccl_comm comm, cuda_stream stream))

#define CUDA_FUNCTIONS(X)                                                                                              \
    X(driver_version, cudaDriverGetVersion, cuda_error, (int *version))                                                \
    X(runtime_version, cudaRuntimeGetVersion, cuda_error, (int *version))                                              \
    X(error_string, cudaGetErrorString, const char *, (cuda_error error))                                              \
    X(take_error, cudaGetLastError, cuda_error, (void))                                                                \
    X(device_count, cudaGetDeviceCount, cuda_error, (int *count))                                                      \
    X(set_device, cudaSetDevice, cuda_error, (int device))                                                             \
    X(get_device, cudaGetDevice, cuda_error, (int *device))                                                            \
    X(bus_id, cudaDeviceGetPCIBusId, cuda_error, (char *text, int nbytes, int device))                                 \
    X(priorities, cudaDeviceGetStreamPriorityRange, cuda_error, (int *least, int *greatest))                           \
    X(stream_new, cudaStreamCreateWithPriority, cuda_error, (cuda_stream * stream, unsigned flags, int priority))      \
    X(stream_free, cudaStreamDestroy, cuda_error, (cuda_stream stream))                                                \
    X(stream_wait, cudaStreamWaitEvent, cuda_error, (cuda_stream stream, cuda_event event, unsigned flags))            \
    X(event_new, cudaEventCreateWithFlags, cuda_error, (cuda_event * event, unsigned flags))                           \
    X(event_record, cudaEventRecord, cuda_error, (cuda_event event, cuda_stream stream))                               \
    X(event_query, cudaEventQuery, cuda_error, (cuda_event event))                                                     \
    X(event_free, cudaEventDestroy, cuda_error, (cuda_event event))                                                    \
    X(malloc, cudaMalloc, cuda_error, (void **memory, size_t nbytes))                                                  \
    X(free, cudaFree, cuda_error, (void *memory))                                                                      \
    X(copy, cudaMemcpyAsync, cuda_error,                                                                               \
      (void *to, const void *from, size_t nbytes, cuda_copy_kind kind, cuda_stream stream))                            \
    X(fill, cudaMemsetAsync, cuda_error, (void *memory, int value, size_t nbytes, cuda_stream stream))                 \
    X(pointer, cudaPointerGetAttributes, cuda_error, (CUDA_POINTER_ARGUMENT * answer, const void *memory))

#ifndef CUDA_POINTER_ARGUMENT
#define CUDA_POINTER_ARGUMENT cuda_pointer
#endif

#define NCCL_MEMBER(field, symbol, type, arguments) type(*field) arguments;
struct nccl_library {
    NCCL_FUNCTIONS(NCCL_MEMBER)
};
struct cuda_library {
    CUDA_FUNCTIONS(NCCL_MEMBER)
};
#undef NCCL_MEMBER

typedef struct nccl_libraries {
    struct nccl_library nccl;
    struct cuda_library cuda;
    int nccl_version, runtime_version; /* 22809 is 2.28.9, 13000 is CUDA 13.0 */
    int devices;                       /* that this process may use, at least 1 */
} nccl_libraries;

/**
 * Both libraries, opened once in a process and never closed; any thread. Where that does not work, NULL, and `why` has
 * the reason in a few words ("libnccl.so.2: cannot open ...", "no NVIDIA driver"). CADRE_NCCL and CADRE_CUDART in the
 * environment name other files. This asks the driver for its devices: a process that did so cannot fork workers that
 * use CUDA.
 */
const nccl_libraries *collectives_nccl_libraries(char why[COLLECTIVES_WHY]);

#endif
