#include "library.h"

#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Newest first. One that the program has open already (PyTorch brings its own) is taken before any other. */
static const char *const nccl_names[] = {"libnccl.so.2", NULL};
static const char *const cuda_names[] = {
    "libcudart.so.13",
    "libcudart.so.12",
    "libcudart.so.11.0",
    "/usr/local/cuda/lib64/libcudart.so",
    "/usr/local/cuda/lib/libcudart.so",
    NULL,
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static bool tried;
static char reason[COLLECTIVES_WHY];
static nccl_libraries libraries;

static void *open_one(const char *variable, const char *const *names)
{
    const char *named = getenv(variable);
    void *handle = NULL;
    if (named && *named)
        handle = dlopen(named, RTLD_NOW | RTLD_LOCAL);
    else
        for (int loaded = 1; loaded >= 0 && !handle; loaded--)
            for (const char *const *name = names; *name && !handle; name++)
                handle = dlopen(*name, RTLD_NOW | RTLD_LOCAL | (loaded ? RTLD_NOLOAD : 0));
    if (handle)
        return handle;
    if (named && *named)
        snprintf(reason, sizeof reason, "%.150s", dlerror());
    else
        snprintf(reason, sizeof reason, "%s: not there (put its directory into LD_LIBRARY_PATH, or name it in %s)",
                 names[0], variable);
    return NULL;
}

static bool take(void *handle, const char *symbol, void **function)
{
    *function = dlsym(handle, symbol);
    if (!*function)
        snprintf(reason, sizeof reason, "the library that was opened has no %s", symbol);
    return *function != NULL;
}

static bool open_both(void)
{
    void *cuda = open_one("CADRE_CUDART", cuda_names);
    void *nccl = cuda ? open_one("CADRE_NCCL", nccl_names) : NULL;
#define TAKE(field, symbol, type, arguments)                                                                           \
    if (!take(from, #symbol, (void **)&to->field))                                                                     \
        return false;
    if (!nccl)
        return false;
    {
        struct cuda_library *to = &libraries.cuda;
        void *from = cuda;
        CUDA_FUNCTIONS(TAKE)
    }
    {
        struct nccl_library *to = &libraries.nccl;
        void *from = nccl;
        if (!take(nccl, "ncclGetVersion", (void **)&to->get_version) || to->get_version(&libraries.nccl_version) != 0)
            return false;
        if (libraries.nccl_version < NCCL_OLDEST) { /* its communicators block, without a deadline */
            snprintf(reason, sizeof reason, "NCCL is too old: 2.14 is needed, its version number is %d",
                     libraries.nccl_version);
            return false;
        }
        NCCL_FUNCTIONS(TAKE)
    }
#undef TAKE
    return true;
}

/* What the driver says, in words of one line. A runtime without a driver calls that "insufficient". */
static bool find_devices(void)
{
    const struct cuda_library *cuda = &libraries.cuda;
    int driver = 0;
    cuda->runtime_version(&libraries.runtime_version);
    cuda_error error = cuda->driver_version(&driver);
    if (error == CUDA_SUCCESS_ && driver == 0) {
        snprintf(reason, sizeof reason, "no NVIDIA driver");
        return false;
    }
    error = cuda->device_count(&libraries.devices);
    if (error != CUDA_SUCCESS_ || libraries.devices < 1) {
        cuda->take_error();
        snprintf(reason, sizeof reason, "no GPU can be used: %.100s",
                 error ? cuda->error_string(error) : "CUDA_VISIBLE_DEVICES names none");
        return false;
    }
    return true;
}

const nccl_libraries *collectives_nccl_libraries(char why[COLLECTIVES_WHY])
{
    pthread_mutex_lock(&lock);
    if (!tried && open_both() && find_devices())
        snprintf(reason, sizeof reason, "NCCL %d.%d.%d, CUDA %d.%d, %d GPU%s", libraries.nccl_version / 10000,
                 libraries.nccl_version / 100 % 100, libraries.nccl_version % 100, libraries.runtime_version / 1000,
                 libraries.runtime_version / 10 % 100, libraries.devices, libraries.devices == 1 ? "" : "s");
    else if (!tried)
        libraries.devices = 0;
    tried = true;
    if (why)
        memcpy(why, reason, COLLECTIVES_WHY);
    pthread_mutex_unlock(&lock);
    return libraries.devices > 0 ? &libraries : NULL;
}
