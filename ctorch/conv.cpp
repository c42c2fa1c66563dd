/*
 * Convolution. On a processor without bfloat16 instructions, ATen's bfloat16 convolution is a plain loop, ten times slower than float32.
 * There, inputs are rounded to bfloat16, convolved in float32 and the result is rounded again: what instructions for bfloat16 do, too,
 * since they multiply bfloat16 and add in float32.
 */
#include "conv.h"

#include <ATen/autocast_mode.h>
#include <ATen/ops/conv2d.h>
#include <c10/core/impl/LocalDispatchKeySet.h>

namespace {

bool autocast_to_bfloat16()
{
#if CT_TORCH_AT_LEAST(2, 4)
    return at::autocast::is_autocast_enabled(at::kCPU) && at::autocast::get_autocast_dtype(at::kCPU) == at::kBFloat16;
#else
    return at::autocast::is_cpu_enabled() && at::autocast::get_autocast_cpu_dtype() == at::kBFloat16;
#endif
}

bool emulate(const at::Tensor &x, const at::Tensor &weight)
{
    if (!x.is_cpu() || !weight.is_cpu())
        return false;
    const bool plain = x.scalar_type() == at::kBFloat16 && weight.scalar_type() == at::kBFloat16;
    const auto castable = [](const at::Tensor &t) { return t.scalar_type() == at::kFloat || t.scalar_type() == at::kBFloat16; };
    if (!plain && !(castable(x) && castable(weight) && autocast_to_bfloat16()))
        return false;
    static const bool fast = ct_has_fast_bf16();
    return !fast;
}

at::Tensor rounded(const at::Tensor &t) { return t.defined() ? t.to(at::kBFloat16).to(at::kFloat) : t; }

} // namespace

namespace ct {

at::Tensor conv2d(const at::Tensor &x, const at::Tensor &weight, const at::Tensor &bias, int64_t stride, int64_t padding,
                  int64_t dilation, int64_t groups)
{
    const at::IntArrayRef strides(stride), paddings(padding), dilations(dilation);
    if (!emulate(x, weight))
        return at::conv2d(x, weight, bias, strides, paddings, dilations, groups);
    c10::impl::ExcludeDispatchKeyGuard no_autocast(c10::DispatchKey::AutocastCPU);
    return at::conv2d(rounded(x), rounded(weight), rounded(bias), strides, paddings, dilations, groups).to(at::kBFloat16);
}

} // namespace ct
