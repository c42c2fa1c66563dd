/* Copies from and to buffers on a GPU, on the default stream, each waited for. */
#include "bench.h"

#include "base/clock.h"
#include "base/error.h"
#include "collectives/nccl/library.h"

int bench_device_copy(void *to, const void *from, size_t nbytes)
{
    char why[COLLECTIVES_WHY] = "";
    const nccl_libraries *lib = collectives_nccl_libraries(why);
    cuda_event done = NULL;
    if (!lib)
        return base_error(CADRE_ENOTSUP, "%s", why);
    cuda_error error = lib->cuda.event_new(&done, CUDA_EVENT_NO_TIMING);
    if (error == CUDA_SUCCESS_)
        error = lib->cuda.copy(to, from, nbytes, CUDA_COPY_DEFAULT, NULL);
    if (error == CUDA_SUCCESS_)
        error = lib->cuda.event_record(done, NULL);
    while (error == CUDA_SUCCESS_ && (error = lib->cuda.event_query(done)) == CUDA_NOT_READY) {
        error = CUDA_SUCCESS_;
        base_sleep_ns(1000);
    }
    if (done)
        lib->cuda.event_free(done);
    return error == CUDA_SUCCESS_ ? CADRE_OK
                                  : base_error(CADRE_ESYSTEM, "copy %zu bytes from or to the GPU: %s", nbytes,
                                               lib->cuda.error_string(error));
}
