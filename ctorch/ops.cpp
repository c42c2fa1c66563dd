/* Operations on tensors: each entry checks its handles and hands over to ATen. */
#include "batch_norm.h"
#include "conv.h"
#include "pool.h"

#include <ATen/ops/amax.h>
#include <ATen/ops/argmax.h>
#include <ATen/ops/avg_pool2d.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/cross_entropy_loss.h>
#include <ATen/ops/dropout.h>
#include <ATen/ops/embedding.h>
#include <ATen/ops/gelu.h>
#include <ATen/ops/layer_norm.h>
#include <ATen/ops/linear.h>
#include <ATen/ops/log_softmax.h>
#include <ATen/ops/matmul.h>
#include <ATen/ops/max.h>
#include <ATen/ops/max_pool2d.h>
#include <ATen/ops/mse_loss.h>
#include <ATen/ops/pad.h>
#include <ATen/ops/softmax.h>
#include <ATen/ops/stack.h>
#include <c10/core/GradMode.h>

/* An entry whose one result comes from `expression`; the handles are unpacked by `unpack`. */
#define CT_ENTRY(name, parameters, unpack, expression)                                                                         \
    ct_status name parameters                                                                                                  \
    {                                                                                                                          \
        CT_TRY                                                                                                                 \
        {                                                                                                                      \
            unpack;                                                                                                            \
            ct::need(out, "out");                                                                                              \
            ct::give(out, expression);                                                                                         \
            return CT_OK;                                                                                                      \
        }                                                                                                                      \
        CT_CATCH(status)                                                                                                       \
    }

/* An entry that writes into its first tensor. */
#define CT_ENTRY_(name, parameters, unpack, statement)                                                                         \
    ct_status name parameters                                                                                                  \
    {                                                                                                                          \
        CT_TRY                                                                                                                 \
        {                                                                                                                      \
            unpack;                                                                                                            \
            statement;                                                                                                         \
            return CT_OK;                                                                                                      \
        }                                                                                                                      \
        CT_CATCH(status)                                                                                                       \
    }

#define CT_X const at::Tensor &X = ct::in(x, "x")
#define CT_X_ at::Tensor &X = ct::in(x, "x")
#define CT_AB const at::Tensor &A = ct::in(a, "a"), &B = ct::in(b, "b")
#define CT_AB_                                                                                                                 \
    at::Tensor &A = ct::in(a, "a");                                                                                            \
    const at::Tensor &B = ct::in(b, "b")
#define CT_A const at::Tensor &A = ct::in(a, "a")

namespace {

at::MemoryFormat memory_format(ct_memory_format format)
{
    switch (format) {
    case CT_CONTIGUOUS:
        return at::MemoryFormat::Contiguous;
    case CT_CHANNELS_LAST:
        return at::MemoryFormat::ChannelsLast;
    }
    ct::fail(CT_EINVAL, "%d is no memory format", static_cast<int>(format));
}

std::vector<at::Tensor> list(const ct_tensor *const *tensors, size_t count)
{
    ct::need(tensors, "tensors");
    if (count == 0)
        ct::fail(CT_EINVAL, "no tensors given");
    std::vector<at::Tensor> result;
    result.reserve(count);
    for (size_t i = 0; i < count; i++)
        result.push_back(ct::in(tensors[i], "a tensor of the list"));
    return result;
}

at::IntArrayRef window_stride(const int64_t &kernel, const int64_t &stride)
{
    return at::IntArrayRef(stride == 0 ? kernel : stride);
}

} // namespace

/* ---- views and conversions ---- */

CT_ENTRY(ct_view, (const ct_tensor *x, const int64_t *sizes, size_t ndim, ct_tensor **out), CT_X,
         X.view(ct::shape(sizes, ndim)))
CT_ENTRY(ct_reshape, (const ct_tensor *x, const int64_t *sizes, size_t ndim, ct_tensor **out), CT_X,
         X.reshape(ct::shape(sizes, ndim)))
CT_ENTRY(ct_flatten, (const ct_tensor *x, int64_t start_dim, int64_t end_dim, ct_tensor **out), CT_X,
         X.flatten(start_dim, end_dim))
CT_ENTRY(ct_select, (const ct_tensor *x, int64_t dim, int64_t index, ct_tensor **out), CT_X, X.select(dim, index))
CT_ENTRY(ct_slice, (const ct_tensor *x, int64_t dim, int64_t start, int64_t end, int64_t step, ct_tensor **out), CT_X,
         X.slice(dim, start, end, step))
CT_ENTRY(ct_narrow, (const ct_tensor *x, int64_t dim, int64_t start, int64_t length, ct_tensor **out), CT_X,
         X.narrow(dim, start, length))
CT_ENTRY(ct_transpose, (const ct_tensor *x, int64_t dim0, int64_t dim1, ct_tensor **out), CT_X, X.transpose(dim0, dim1))
CT_ENTRY(ct_permute, (const ct_tensor *x, const int64_t *dims, size_t ndim, ct_tensor **out), CT_X,
         X.permute(ct::shape(dims, ndim)))
CT_ENTRY(ct_to_dtype, (const ct_tensor *x, ct_dtype dtype, ct_tensor **out), CT_X, X.to(ct::scalar_type(dtype)))
CT_ENTRY(ct_to_device, (const ct_tensor *x, const char *device, ct_tensor **out), CT_X, X.to(ct::device(device)))
CT_ENTRY(ct_contiguous, (const ct_tensor *x, ct_memory_format format, ct_tensor **out), CT_X,
         /* not .contiguous(): that leaves the strides of one-channel images as they are, and kernels choose by strides */
         X.to(X.scalar_type(), false, false, memory_format(format)))
CT_ENTRY(ct_detach, (const ct_tensor *x, ct_tensor **out), CT_X, X.detach())

CT_ENTRY_(ct_copy_, (ct_tensor * dst, const ct_tensor *src), at::Tensor &D = ct::in(dst, "dst"), D.copy_(ct::in(src, "src")))
CT_ENTRY_(ct_fill_, (ct_tensor * x, double value), CT_X_, X.fill_(value))
CT_ENTRY_(ct_zero_, (ct_tensor * x), CT_X_, X.zero_())
CT_ENTRY_(ct_uniform_, (ct_tensor * x, double from, double to), CT_X_, X.uniform_(from, to))
CT_ENTRY_(ct_normal_, (ct_tensor * x, double mean, double std), CT_X_, X.normal_(mean, std))

/* ---- elementwise ---- */

CT_ENTRY(ct_add, (const ct_tensor *a, const ct_tensor *b, ct_tensor **out), CT_AB, A.add(B))
CT_ENTRY(ct_sub, (const ct_tensor *a, const ct_tensor *b, ct_tensor **out), CT_AB, A.sub(B))
CT_ENTRY(ct_mul, (const ct_tensor *a, const ct_tensor *b, ct_tensor **out), CT_AB, A.mul(B))
CT_ENTRY(ct_div, (const ct_tensor *a, const ct_tensor *b, ct_tensor **out), CT_AB, A.div(B))
CT_ENTRY_(ct_add_, (ct_tensor * a, const ct_tensor *b), CT_AB_, A.add_(B))
CT_ENTRY_(ct_sub_, (ct_tensor * a, const ct_tensor *b), CT_AB_, A.sub_(B))
CT_ENTRY_(ct_mul_, (ct_tensor * a, const ct_tensor *b), CT_AB_, A.mul_(B))
CT_ENTRY_(ct_div_, (ct_tensor * a, const ct_tensor *b), CT_AB_, A.div_(B))
CT_ENTRY(ct_add_scalar, (const ct_tensor *a, double b, ct_tensor **out), CT_A, A.add(b))
CT_ENTRY(ct_mul_scalar, (const ct_tensor *a, double b, ct_tensor **out), CT_A, A.mul(b))
CT_ENTRY_(ct_add_scalar_, (ct_tensor * a, double b), at::Tensor &A = ct::in(a, "a"), A.add_(b))
CT_ENTRY_(ct_mul_scalar_, (ct_tensor * a, double b), at::Tensor &A = ct::in(a, "a"), A.mul_(b))
CT_ENTRY_(ct_add_scaled_, (ct_tensor * a, const ct_tensor *b, double alpha), CT_AB_, A.add_(B, alpha))
CT_ENTRY(ct_eq, (const ct_tensor *a, const ct_tensor *b, ct_tensor **out), CT_AB, A.eq(B))

CT_ENTRY(ct_relu, (const ct_tensor *x, ct_tensor **out), CT_X, X.relu())
CT_ENTRY_(ct_relu_, (ct_tensor * x), CT_X_, X.relu_())
CT_ENTRY(ct_gelu, (const ct_tensor *x, ct_tensor **out), CT_X, at::gelu(X))
CT_ENTRY(ct_tanh, (const ct_tensor *x, ct_tensor **out), CT_X, X.tanh())
CT_ENTRY(ct_sigmoid, (const ct_tensor *x, ct_tensor **out), CT_X, X.sigmoid())
CT_ENTRY(ct_sqrt, (const ct_tensor *x, ct_tensor **out), CT_X, X.sqrt())
CT_ENTRY(ct_exp, (const ct_tensor *x, ct_tensor **out), CT_X, X.exp())
CT_ENTRY(ct_log, (const ct_tensor *x, ct_tensor **out), CT_X, X.log())
CT_ENTRY(ct_softmax, (const ct_tensor *x, int64_t dim, ct_tensor **out), CT_X, at::softmax(X, dim))
CT_ENTRY(ct_log_softmax, (const ct_tensor *x, int64_t dim, ct_tensor **out), CT_X, at::log_softmax(X, dim))
CT_ENTRY(ct_dropout, (const ct_tensor *x, double p, bool training, ct_tensor **out), CT_X, at::dropout(X, p, training))

/* ---- products and reductions ---- */

CT_ENTRY(ct_matmul, (const ct_tensor *a, const ct_tensor *b, ct_tensor **out), CT_AB, at::matmul(A, B))
CT_ENTRY(ct_sum, (const ct_tensor *x, ct_tensor **out), CT_X, X.sum())
CT_ENTRY(ct_mean, (const ct_tensor *x, ct_tensor **out), CT_X, X.mean())
CT_ENTRY(ct_sum_dim, (const ct_tensor *x, int64_t dim, bool keepdim, ct_tensor **out), CT_X,
         X.sum(at::IntArrayRef(dim), keepdim))
CT_ENTRY(ct_mean_dim, (const ct_tensor *x, int64_t dim, bool keepdim, ct_tensor **out), CT_X,
         X.mean(at::IntArrayRef(dim), keepdim))
CT_ENTRY(ct_max_dim, (const ct_tensor *x, int64_t dim, bool keepdim, ct_tensor **out), CT_X,
         std::get<0>(at::max(X, dim, keepdim)))
CT_ENTRY(ct_argmax, (const ct_tensor *x, int64_t dim, bool keepdim, ct_tensor **out), CT_X, at::argmax(X, dim, keepdim))
CT_ENTRY(ct_cat, (const ct_tensor *const *tensors, size_t count, int64_t dim, ct_tensor **out), (void)0,
         at::cat(list(tensors, count), dim))
CT_ENTRY(ct_stack, (const ct_tensor *const *tensors, size_t count, int64_t dim, ct_tensor **out), (void)0,
         at::stack(list(tensors, count), dim))
CT_ENTRY(ct_pad, (const ct_tensor *x, const int64_t *pads, size_t npads, double value, ct_tensor **out), CT_X,
         at::pad(X, ct::shape(pads, npads), "constant", value))

/* ---- layers ---- */

CT_ENTRY(ct_linear, (const ct_tensor *x, const ct_tensor *weight, const ct_tensor *bias, ct_tensor **out), CT_X,
         at::linear(X, ct::in(weight, "weight"), ct::optional(bias)))
CT_ENTRY(ct_conv2d,
         (const ct_tensor *x, const ct_tensor *weight, const ct_tensor *bias, int64_t stride, int64_t padding, int64_t dilation,
          int64_t groups, ct_tensor **out),
         CT_X,
         ct::conv2d(X, ct::in(weight, "weight"), ct::optional(bias), stride, padding, dilation, groups))
CT_ENTRY(ct_batch_norm,
         (const ct_tensor *x, const ct_tensor *weight, const ct_tensor *bias, ct_tensor *running_mean, ct_tensor *running_var,
          bool training, double momentum, double eps, ct_tensor **out),
         CT_X,
         ct::batch_norm(X, ct::optional(weight), ct::optional(bias), ct::optional(running_mean), ct::optional(running_var),
                        training, momentum, eps))
CT_ENTRY(ct_layer_norm,
         (const ct_tensor *x, const int64_t *sizes, size_t ndim, const ct_tensor *weight, const ct_tensor *bias, double eps,
          ct_tensor **out),
         CT_X, at::layer_norm(X, ct::shape(sizes, ndim), ct::optional(weight), ct::optional(bias), eps))
CT_ENTRY(ct_embedding, (const ct_tensor *indices, const ct_tensor *weight, ct_tensor **out),
         const at::Tensor &I = ct::in(indices, "indices"), at::embedding(ct::in(weight, "weight"), I))
CT_ENTRY(ct_max_pool2d, (const ct_tensor *x, int64_t kernel, int64_t stride, int64_t padding, ct_tensor **out), CT_X,
         at::max_pool2d(X, at::IntArrayRef(kernel), window_stride(kernel, stride), at::IntArrayRef(padding)))
CT_ENTRY(ct_avg_pool2d, (const ct_tensor *x, int64_t kernel, int64_t stride, int64_t padding, ct_tensor **out), CT_X,
         at::avg_pool2d(X, at::IntArrayRef(kernel), window_stride(kernel, stride), at::IntArrayRef(padding)))
CT_ENTRY(ct_adaptive_avg_pool2d, (const ct_tensor *x, int64_t height, int64_t width, ct_tensor **out), CT_X,
         ct::adaptive_avg_pool2d(X, height, width))

/* ---- losses ---- */

CT_ENTRY(ct_cross_entropy, (const ct_tensor *logits, const ct_tensor *target, double label_smoothing, ct_tensor **out),
         const at::Tensor &L = ct::in(logits, "logits"),
         at::cross_entropy_loss(L, ct::in(target, "target"), {}, at::Reduction::Mean, -100, label_smoothing))
CT_ENTRY(ct_mse_loss, (const ct_tensor *x, const ct_tensor *target, ct_tensor **out), CT_X,
         at::mse_loss(X, ct::in(target, "target")))
