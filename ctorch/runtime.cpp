/* What belongs to the process or the thread: random state, threads, devices, autocast. */
#include "internal.h"

#include <ATen/CPUGeneratorImpl.h>
#include <ATen/Context.h>
#include <ATen/Parallel.h>
#include <ATen/autocast_mode.h>
#include <ATen/ops/empty.h>

#include <cstring>
#include <mutex>

/* ---- random numbers ---- */

ct_status ct_manual_seed(uint64_t seed)
{
    CT_TRY
    {
        at::manual_seed(seed);
        return CT_OK;
    }
    CT_CATCH(status)
}

static at::Tensor rng_state()
{
    at::Generator generator = at::detail::getDefaultCPUGenerator();
    std::lock_guard<std::mutex> guard(generator.mutex());
    return generator.get_state();
}

size_t ct_rng_state_size(void)
{
    CT_TRY { return rng_state().nbytes(); }
    CT_CATCH(0)
}

ct_status ct_rng_get_state(void *state, size_t nbytes)
{
    CT_TRY
    {
        if (!state)
            ct::fail(CT_EINVAL, "state is NULL");
        const at::Tensor bytes = rng_state();
        if (nbytes < bytes.nbytes())
            ct::fail(CT_EINVAL, "%zu bytes given, the state needs %zu", nbytes, bytes.nbytes());
        std::memcpy(state, bytes.data_ptr(), bytes.nbytes());
        return CT_OK;
    }
    CT_CATCH(status)
}

ct_status ct_rng_set_state(const void *state, size_t nbytes)
{
    CT_TRY
    {
        if (!state)
            ct::fail(CT_EINVAL, "state is NULL");
        at::Tensor bytes = at::empty({static_cast<int64_t>(nbytes)}, at::kByte);
        std::memcpy(bytes.data_ptr(), state, nbytes);
        at::Generator generator = at::detail::getDefaultCPUGenerator();
        std::lock_guard<std::mutex> guard(generator.mutex());
        generator.set_state(bytes);
        return CT_OK;
    }
    CT_CATCH(status)
}

/* ---- threads ---- */

ct_status ct_set_num_threads(int count)
{
    CT_TRY
    {
        if (count < 1)
            ct::fail(CT_EINVAL, "%d threads", count);
        at::set_num_threads(count);
        return CT_OK;
    }
    CT_CATCH(status)
}

int ct_get_num_threads(void)
{
    CT_TRY { return at::get_num_threads(); }
    CT_CATCH(1)
}

ct_status ct_set_num_interop_threads(int count)
{
    CT_TRY
    {
        if (count < 1)
            ct::fail(CT_EINVAL, "%d threads", count);
        at::set_num_interop_threads(count);
        return CT_OK;
    }
    CT_CATCH(status)
}

/* ---- devices ---- */

bool ct_cuda_available(void)
{
    CT_TRY { return at::hasCUDA() && at::detail::getCUDAHooks().getNumGPUs() > 0; }
    CT_CATCH(false)
}

int ct_cuda_device_count(void)
{
    CT_TRY { return at::hasCUDA() ? static_cast<int>(at::detail::getCUDAHooks().getNumGPUs()) : 0; }
    CT_CATCH(0)
}

bool ct_has_fast_bf16(void)
{
#if defined(__x86_64__)
    return __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq");
#else
    return false;
#endif
}

/* ---- autocast ---- */

namespace {

struct Autocast {
    c10::DeviceType device;
    bool enabled;
    at::ScalarType dtype;
};

thread_local std::vector<Autocast> autocasts;

#if CT_TORCH_AT_LEAST(2, 4)
Autocast current(c10::DeviceType d)
{
    return {d, at::autocast::is_autocast_enabled(d), at::autocast::get_autocast_dtype(d)};
}
void apply(const Autocast &a)
{
    at::autocast::set_autocast_enabled(a.device, a.enabled);
    at::autocast::set_autocast_dtype(a.device, a.dtype);
}
#else
Autocast current(c10::DeviceType d)
{
    if (d == c10::DeviceType::CPU)
        return {d, at::autocast::is_cpu_enabled(), at::autocast::get_autocast_cpu_dtype()};
    return {d, at::autocast::is_enabled(), at::autocast::get_autocast_gpu_dtype()};
}
void apply(const Autocast &a)
{
    if (a.device == c10::DeviceType::CPU) {
        at::autocast::set_cpu_enabled(a.enabled);
        at::autocast::set_autocast_cpu_dtype(a.dtype);
    } else {
        at::autocast::set_enabled(a.enabled);
        at::autocast::set_autocast_gpu_dtype(a.dtype);
    }
}
#endif

} // namespace

ct_status ct_autocast_push(const char *device, ct_dtype dtype)
{
    CT_TRY
    {
        const c10::DeviceType type = ct::device(device).type();
        if (dtype != CT_BFLOAT16)
            ct::fail(CT_ENOTSUP, "autocast to %s", ct_dtype_name(dtype));
        autocasts.push_back(current(type));
        apply({type, true, at::kBFloat16});
        at::autocast::increment_nesting();
        return CT_OK;
    }
    CT_CATCH(status)
}

ct_status ct_autocast_pop(void)
{
    CT_TRY
    {
        if (autocasts.empty())
            ct::fail(CT_ESTATE, "no ct_autocast_push to match");
        if (at::autocast::decrement_nesting() == 0)
            at::autocast::clear_cache(); /* the converted copies of weights */
        apply(autocasts.back());
        autocasts.pop_back();
        return CT_OK;
    }
    CT_CATCH(status)
}
