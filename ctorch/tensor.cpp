/* Tensors: handles and scopes, making them, asking about them, moving bytes in and out. */
#include "internal.h"

#include <ATen/ops/arange.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/from_blob.h>
#include <ATen/ops/full.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/rand.h>
#include <ATen/ops/randint.h>
#include <ATen/ops/randn.h>
#include <ATen/ops/zeros.h>
#include <ATen/ops/zeros_like.h>
#include <c10/core/GradMode.h>

#include <cstring>

namespace {

struct Frame {
    size_t start;
    bool open;  /* collects handles */
    bool users; /* opened by ct_scope_begin, to be ended by ct_scope_end */
};

thread_local std::vector<Frame> frames;
thread_local std::vector<ct_tensor *> scoped;

void end_frame() noexcept
{
    const size_t start = frames.back().start;
    frames.pop_back();
    while (scoped.size() > start) {
        ct_tensor *tensor = scoped.back();
        scoped.pop_back();
        delete tensor;
    }
}

at::TensorOptions options(ct_dtype dtype, const char *device)
{
    return at::TensorOptions().dtype(ct::scalar_type(dtype)).device(ct::device(device));
}

/* ct_tensor_* questions answer instead of returning a status: this files the error for a NULL. */
template <class T> T refuse_null(const char *where, T answer)
{
    try {
        ct::fail(CT_EINVAL, "tensor is NULL");
    } catch (...) {
        ct::caught(where);
    }
    return answer;
}

} // namespace

namespace ct {

at::IntArrayRef shape(const int64_t *sizes, size_t ndim)
{
    if (ndim > 0)
        need(sizes, "sizes");
    return at::IntArrayRef(sizes, ndim);
}

at::ScalarType scalar_type(ct_dtype dtype)
{
    switch (dtype) {
    case CT_FLOAT32:
        return at::kFloat;
    case CT_FLOAT64:
        return at::kDouble;
    case CT_BFLOAT16:
        return at::kBFloat16;
    case CT_INT32:
        return at::kInt;
    case CT_INT64:
        return at::kLong;
    case CT_UINT8:
        return at::kByte;
    case CT_BOOL:
        return at::kBool;
    }
    fail(CT_EINVAL, "%d is no dtype", static_cast<int>(dtype));
}

ct_dtype dtype_of(const at::Tensor &tensor) noexcept
{
    switch (tensor.scalar_type()) {
    case at::kFloat:
        return CT_FLOAT32;
    case at::kDouble:
        return CT_FLOAT64;
    case at::kBFloat16:
        return CT_BFLOAT16;
    case at::kInt:
        return CT_INT32;
    case at::kLong:
        return CT_INT64;
    case at::kByte:
        return CT_UINT8;
    case at::kBool:
        return CT_BOOL;
    default:
        return static_cast<ct_dtype>(0);
    }
}

c10::Device device(const char *name)
{
    if (!name || std::strcmp(name, "cpu") == 0)
        return c10::Device(c10::DeviceType::CPU);
    if (std::strncmp(name, "cuda", 4) != 0 || (name[4] != '\0' && name[4] != ':'))
        fail(CT_EINVAL, "device \"%s\" is neither \"cpu\" nor \"cuda\" nor \"cuda:N\"", name);
    return c10::Device(std::string(name));
}

ct_tensor *make_handle(at::Tensor &&tensor)
{
    auto handle = std::make_unique<ct_tensor>();
    handle->t = std::move(tensor);
    if (!frames.empty() && frames.back().open) {
        scoped.push_back(handle.get());
        handle->slot = static_cast<int64_t>(scoped.size()) - 1;
    }
    return handle.release();
}

Scope::Scope(bool open) : depth_(frames.size()) { frames.push_back({scoped.size(), open, false}); }
Scope::~Scope()
{
    while (frames.size() > depth_) /* with those that a callback left open */
        end_frame();
}

} // namespace ct

ct_status ct_scope_begin(void)
{
    CT_TRY
    {
        frames.push_back({scoped.size(), true, true});
        return CT_OK;
    }
    CT_CATCH(status)
}

ct_status ct_scope_end(void)
{
    CT_TRY
    {
        if (frames.empty() || !frames.back().users)
            ct::fail(CT_ESTATE, "no scope is open");
        end_frame();
        return CT_OK;
    }
    CT_CATCH(status)
}

static void leave_scope(ct_tensor *tensor) noexcept
{
    const auto slot = static_cast<size_t>(tensor->slot);
    if (tensor->slot >= 0 && slot < scoped.size() && scoped[slot] == tensor)
        scoped[slot] = nullptr;
    tensor->slot = -1;
}

ct_status ct_tensor_keep(ct_tensor *tensor)
{
    CT_TRY
    {
        leave_scope(&ct::need(tensor, "tensor"));
        return CT_OK;
    }
    CT_CATCH(status)
}

void ct_tensor_free(ct_tensor *tensor)
{
    if (!tensor)
        return;
    leave_scope(tensor);
    delete tensor;
}

/* ---- making ---- */

#define CT_MAKER(name, expression)                                                                                             \
    ct_status ct_tensor_##name(const int64_t *sizes, size_t ndim, ct_dtype dtype, const char *device, ct_tensor **out)         \
    {                                                                                                                          \
        CT_TRY                                                                                                                 \
        {                                                                                                                      \
            ct::need(out, "out");                                                                                              \
            ct::give(out, expression);                                                                                         \
            return CT_OK;                                                                                                      \
        }                                                                                                                      \
        CT_CATCH(status)                                                                                                       \
    }

CT_MAKER(empty, at::empty(ct::shape(sizes, ndim), options(dtype, device)))
CT_MAKER(zeros, at::zeros(ct::shape(sizes, ndim), options(dtype, device)))
CT_MAKER(ones, at::ones(ct::shape(sizes, ndim), options(dtype, device)))
CT_MAKER(rand, at::rand(ct::shape(sizes, ndim), options(dtype, device)))
CT_MAKER(randn, at::randn(ct::shape(sizes, ndim), options(dtype, device)))

ct_status ct_tensor_full(const int64_t *sizes, size_t ndim, double value, ct_dtype dtype, const char *device, ct_tensor **out)
{
    CT_TRY
    {
        ct::give(out, at::full(ct::shape(sizes, ndim), value, options(dtype, device)));
        return CT_OK;
    }
    CT_CATCH(status)
}

ct_status ct_tensor_randint(int64_t low, int64_t high, const int64_t *sizes, size_t ndim, ct_dtype dtype, const char *device,
                            ct_tensor **out)
{
    CT_TRY
    {
        ct::need(out, "out");
        ct::give(out, at::randint(low, high, ct::shape(sizes, ndim), options(dtype, device)));
        return CT_OK;
    }
    CT_CATCH(status)
}

ct_status ct_tensor_arange(int64_t end, ct_dtype dtype, const char *device, ct_tensor **out)
{
    CT_TRY
    {
        ct::give(out, at::arange(end, options(dtype, device)));
        return CT_OK;
    }
    CT_CATCH(status)
}

ct_status ct_tensor_from_memory(const void *data, size_t nbytes, const int64_t *sizes, size_t ndim, ct_dtype dtype,
                                ct_tensor **out)
{
    CT_TRY
    {
        ct::need(out, "out");
        at::Tensor tensor = at::empty(ct::shape(sizes, ndim), options(dtype, nullptr));
        if (tensor.nbytes() != nbytes)
            ct::fail(CT_EINVAL, "%zu bytes given, the shape needs %zu", nbytes, tensor.nbytes());
        if (nbytes > 0) {
            if (!data)
                ct::fail(CT_EINVAL, "data is NULL");
            std::memcpy(tensor.data_ptr(), data, nbytes);
        }
        ct::give(out, std::move(tensor));
        return CT_OK;
    }
    CT_CATCH(status)
}

ct_status ct_tensor_borrow_memory(void *data, const int64_t *sizes, size_t ndim, ct_dtype dtype,
                                  void (*deleter)(void *data, void *user), void *user, ct_tensor **out)
{
    CT_TRY
    {
        ct::need(out, "out");
        if (!data)
            ct::fail(CT_EINVAL, "data is NULL");
        /* The caller's deleter is armed only once nothing can fail any more. */
        auto armed = std::make_shared<bool>(false);
        at::Tensor tensor = at::from_blob(
            data, ct::shape(sizes, ndim),
            [armed, deleter, user](void *p) {
                if (*armed && deleter)
                    deleter(p, user);
            },
            options(dtype, nullptr));
        ct::give(out, std::move(tensor));
        *armed = true;
        return CT_OK;
    }
    CT_CATCH(status)
}

ct_status ct_tensor_borrow_like(const ct_tensor *like, void *data, ct_tensor **out)
{
    CT_TRY
    {
        const at::Tensor &model = ct::in(like, "like");
        ct::need(out, "out");
        if (!data)
            ct::fail(CT_EINVAL, "data is NULL");
        if (!model.is_non_overlapping_and_dense())
            ct::fail(CT_EINVAL, "the model tensor's memory has gaps or overlaps");
        const at::TensorOptions as_model = at::TensorOptions().dtype(model.scalar_type()).device(model.device());
        ct::give(out, at::from_blob(data, model.sizes(), model.strides(), [](void *) {}, as_model));
        return CT_OK;
    }
    CT_CATCH(status)
}

ct_status ct_tensor_borrow_on(void *data, const int64_t *sizes, size_t ndim, ct_dtype dtype, const char *device, ct_tensor **out)
{
    CT_TRY
    {
        ct::need(out, "out");
        if (!data)
            ct::fail(CT_EINVAL, "data is NULL");
        ct::give(out, at::from_blob(data, ct::shape(sizes, ndim), [](void *) {}, options(dtype, device)));
        return CT_OK;
    }
    CT_CATCH(status)
}

ct_status ct_tensor_set_data(ct_tensor *tensor, const ct_tensor *data)
{
    CT_TRY
    {
        at::Tensor &t = ct::in(tensor, "tensor");
        const at::Tensor &from = ct::in(data, "data");
        if (t.sizes() != from.sizes() || t.scalar_type() != from.scalar_type() || t.device() != from.device())
            ct::fail(CT_EINVAL, "data is of another shape, dtype or device");
        t.set_data(from);
        return CT_OK;
    }
    CT_CATCH(status)
}

#define CT_FROM_ONE(name, expression)                                                                                          \
    ct_status ct_tensor_##name(const ct_tensor *tensor, ct_tensor **out)                                                       \
    {                                                                                                                          \
        CT_TRY                                                                                                                 \
        {                                                                                                                      \
            const at::Tensor &t = ct::in(tensor, "tensor");                                                                    \
            ct::need(out, "out");                                                                                              \
            ct::give(out, expression);                                                                                         \
            return CT_OK;                                                                                                      \
        }                                                                                                                      \
        CT_CATCH(status)                                                                                                       \
    }

CT_FROM_ONE(clone, t.clone())
CT_FROM_ONE(ref, t)
CT_FROM_ONE(zeros_like, at::zeros_like(t.detach()))
CT_FROM_ONE(empty_like, at::empty_like(t.detach()))

/* ---- asking ---- */

size_t ct_dtype_size(ct_dtype dtype)
{
    switch (dtype) {
    case CT_FLOAT64:
    case CT_INT64:
        return 8;
    case CT_FLOAT32:
    case CT_INT32:
        return 4;
    case CT_BFLOAT16:
        return 2;
    case CT_UINT8:
    case CT_BOOL:
        return 1;
    }
    return 0;
}

const char *ct_dtype_name(ct_dtype dtype)
{
    switch (dtype) {
    case CT_FLOAT32:
        return "float32";
    case CT_FLOAT64:
        return "float64";
    case CT_BFLOAT16:
        return "bfloat16";
    case CT_INT32:
        return "int32";
    case CT_INT64:
        return "int64";
    case CT_UINT8:
        return "uint8";
    case CT_BOOL:
        return "bool";
    }
    return "unknown";
}

int64_t ct_tensor_ndim(const ct_tensor *tensor)
{
    return tensor ? tensor->t.dim() : refuse_null<int64_t>(__func__, -1);
}

static int64_t along(const ct_tensor *tensor, int64_t dim, at::IntArrayRef extents, const char *where)
{
    const int64_t ndim = tensor->t.dim();
    try {
        if (dim < -ndim || dim >= ndim)
            ct::fail(CT_EINVAL, "no dimension %lld in a tensor of %lld", static_cast<long long>(dim),
                     static_cast<long long>(ndim));
        return extents[static_cast<size_t>(dim < 0 ? dim + ndim : dim)];
    } catch (...) {
        ct::caught(where);
        return -1;
    }
}

int64_t ct_tensor_size(const ct_tensor *tensor, int64_t dim)
{
    return tensor ? along(tensor, dim, tensor->t.sizes(), __func__) : refuse_null<int64_t>(__func__, -1);
}

int64_t ct_tensor_stride(const ct_tensor *tensor, int64_t dim)
{
    return tensor ? along(tensor, dim, tensor->t.strides(), __func__) : refuse_null<int64_t>(__func__, -1);
}

int64_t ct_tensor_numel(const ct_tensor *tensor)
{
    return tensor ? tensor->t.numel() : refuse_null<int64_t>(__func__, -1);
}

size_t ct_tensor_nbytes(const ct_tensor *tensor)
{
    return tensor ? tensor->t.nbytes() : refuse_null<size_t>(__func__, 0);
}

ct_dtype ct_tensor_dtype(const ct_tensor *tensor)
{
    return tensor ? ct::dtype_of(tensor->t) : refuse_null(__func__, static_cast<ct_dtype>(0));
}

const char *ct_tensor_device(const ct_tensor *tensor)
{
    thread_local std::string name;
    CT_TRY
    {
        name = ct::in(tensor, "tensor").device().str();
        return name.c_str();
    }
    CT_CATCH(nullptr)
}

bool ct_tensor_is_contiguous(const ct_tensor *tensor, ct_memory_format format)
{
    if (!tensor)
        return refuse_null(__func__, false);
    return tensor->t.is_contiguous(format == CT_CHANNELS_LAST ? at::MemoryFormat::ChannelsLast : at::MemoryFormat::Contiguous);
}

bool ct_tensor_is_dense(const ct_tensor *tensor)
{
    return tensor ? tensor->t.is_non_overlapping_and_dense() : refuse_null(__func__, false);
}

void *ct_tensor_data(const ct_tensor *tensor)
{
    CT_TRY { return ct::in(tensor, "tensor").data_ptr(); }
    CT_CATCH(nullptr)
}

/* ---- values and bytes ---- */

static at::Scalar one_value(const ct_tensor *tensor)
{
    const at::Tensor &t = ct::in(tensor, "tensor");
    if (t.numel() != 1)
        ct::fail(CT_EINVAL, "the tensor has %lld elements, not one", static_cast<long long>(t.numel()));
    return t.item();
}

ct_status ct_tensor_item(const ct_tensor *tensor, double *out)
{
    CT_TRY
    {
        ct::need(out, "out");
        *out = one_value(tensor).to<double>();
        return CT_OK;
    }
    CT_CATCH(status)
}

ct_status ct_tensor_item_int64(const ct_tensor *tensor, int64_t *out)
{
    CT_TRY
    {
        ct::need(out, "out");
        *out = one_value(tensor).to<int64_t>();
        return CT_OK;
    }
    CT_CATCH(status)
}

static void check_bytes(const at::Tensor &t, const void *data, size_t nbytes)
{
    if (t.nbytes() != nbytes)
        ct::fail(CT_EINVAL, "%zu bytes given, the tensor has %zu", nbytes, t.nbytes());
    if (nbytes > 0 && !data)
        ct::fail(CT_EINVAL, "data is NULL");
}

ct_status ct_tensor_copy_to_memory(const ct_tensor *tensor, void *data, size_t nbytes)
{
    CT_TRY
    {
        const at::Tensor &t = ct::in(tensor, "tensor");
        check_bytes(t, data, nbytes);
        if (nbytes > 0) {
            const at::Tensor plain = t.detach().to(at::kCPU).contiguous();
            std::memcpy(data, plain.data_ptr(), nbytes);
        }
        return CT_OK;
    }
    CT_CATCH(status)
}

ct_status ct_tensor_copy_from_memory(ct_tensor *tensor, const void *data, size_t nbytes)
{
    CT_TRY
    {
        at::Tensor &t = ct::in(tensor, "tensor");
        check_bytes(t, data, nbytes);
        if (nbytes > 0) {
            c10::NoGradGuard no_grad;
            const at::TensorOptions plain = at::TensorOptions().dtype(t.scalar_type());
            t.detach().copy_(at::from_blob(const_cast<void *>(data), t.sizes(), [](void *) {}, plain));
        }
        return CT_OK;
    }
    CT_CATCH(status)
}
