/*
 * Batch normalisation while training (Ioffe and Szegedy 2015) for float32 on the CPU.
 *
 * ATen's kernel reads a channel three times and sums its variance in one scalar chain; here it is read twice, once for
 * both sums (in double precision) and once to write the result. The backward pass likewise. All values are taken relative to
 * the channel's first one, so that no digits are lost to a large mean. A channel of a batch mostly fits the second-level cache.
 */
#include "batch_norm.h"

#include <ATen/Parallel.h>
#include <ATen/ops/batch_norm.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <torch/csrc/autograd/custom_function.h>

#include <cmath>

#if defined(__x86_64__)
#define CT_SIMD __attribute__((target("avx2,fma")))
static bool simd() { return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"); }
#else
#define CT_SIMD
static bool simd() { return true; }
#endif

namespace {

/* x as `outer` planes of `channels` rows of `inner` (N x C x HW), or as rows of channels when they lie side by side. */
struct Layout {
    int64_t outer, channels, inner;
    bool channels_last;
};

bool layout_of(const at::Tensor &x, Layout &layout)
{
    if (x.dim() != 4 || x.numel() == 0)
        return false;
    if (x.is_contiguous()) {
        layout = {x.size(0), x.size(1), x.size(2) * x.size(3), false};
        return true;
    }
    if (x.is_contiguous(at::MemoryFormat::ChannelsLast)) {
        layout = {x.size(0) * x.size(2) * x.size(3), x.size(1), 1, true};
        return true;
    }
    return false;
}

constexpr int lanes = 8;

/* Two sums over a run of values: of x - shift and of its square; or of dy and dy * (x - shift). Added to first, second. */
CT_SIMD void sums(const float *__restrict x, int64_t n, float shift, double &first, double &second)
{
    double a[lanes] = {0}, b[lanes] = {0};
    int64_t i = 0;
    for (; i + lanes <= n; i += lanes)
        for (int k = 0; k < lanes; k++) {
            const double d = static_cast<double>(x[i + k]) - static_cast<double>(shift);
            a[k] += d;
            b[k] += d * d;
        }
    for (; i < n; i++) {
        const double d = static_cast<double>(x[i]) - static_cast<double>(shift);
        a[0] += d;
        b[0] += d * d;
    }
    for (int k = 0; k < lanes; k++) {
        first += a[k];
        second += b[k];
    }
}

CT_SIMD void sums(const float *__restrict dy, const float *__restrict x, int64_t n, float shift, double &first, double &second)
{
    double a[lanes] = {0}, b[lanes] = {0};
    int64_t i = 0;
    for (; i + lanes <= n; i += lanes)
        for (int k = 0; k < lanes; k++) {
            const double d = static_cast<double>(dy[i + k]);
            a[k] += d;
            b[k] += d * (static_cast<double>(x[i + k]) - static_cast<double>(shift));
        }
    for (; i < n; i++) {
        const double d = static_cast<double>(dy[i]);
        a[0] += d;
        b[0] += d * (static_cast<double>(x[i]) - static_cast<double>(shift));
    }
    for (int k = 0; k < lanes; k++) {
        first += a[k];
        second += b[k];
    }
}

CT_SIMD void affine(const float *__restrict x, float *__restrict y, int64_t n, float shift, float scale, float offset)
{
    for (int64_t i = 0; i < n; i++)
        y[i] = (x[i] - shift) * scale + offset;
}

CT_SIMD void affine(const float *__restrict dy, const float *__restrict x, float *__restrict dx, int64_t n, float shift,
                    float scale, float slope, float offset)
{
    for (int64_t i = 0; i < n; i++)
        dx[i] = dy[i] * scale + ((x[i] - shift) * slope + offset);
}

/* The same for channels side by side: one value of every channel at a time. */
CT_SIMD void row_sums(const float *__restrict x, int64_t rows, int64_t channels, const float *__restrict shift,
                      double *__restrict first, double *__restrict second)
{
    for (int64_t r = 0; r < rows; r++, x += channels)
        for (int64_t c = 0; c < channels; c++) {
            const double d = static_cast<double>(x[c]) - static_cast<double>(shift[c]);
            first[c] += d;
            second[c] += d * d;
        }
}

CT_SIMD void row_sums(const float *__restrict dy, const float *__restrict x, int64_t rows, int64_t channels,
                      const float *__restrict shift, double *__restrict first, double *__restrict second)
{
    for (int64_t r = 0; r < rows; r++, x += channels, dy += channels)
        for (int64_t c = 0; c < channels; c++) {
            const double d = static_cast<double>(dy[c]);
            first[c] += d;
            second[c] += d * (static_cast<double>(x[c]) - static_cast<double>(shift[c]));
        }
}

CT_SIMD void row_affine(const float *__restrict x, float *__restrict y, int64_t rows, int64_t channels,
                        const float *__restrict shift, const float *__restrict scale, const float *__restrict offset)
{
    for (int64_t r = 0; r < rows; r++, x += channels, y += channels)
        for (int64_t c = 0; c < channels; c++)
            y[c] = (x[c] - shift[c]) * scale[c] + offset[c];
}

CT_SIMD void row_affine(const float *__restrict dy, const float *__restrict x, float *__restrict dx, int64_t rows,
                        int64_t channels, const float *__restrict shift, const float *__restrict scale,
                        const float *__restrict slope, const float *__restrict offset)
{
    for (int64_t r = 0; r < rows; r++, x += channels, dy += channels, dx += channels)
        for (int64_t c = 0; c < channels; c++)
            dx[c] = dy[c] * scale[c] + ((x[c] - shift[c]) * slope[c] + offset[c]);
}

float *floats(const at::Tensor &t) { return static_cast<float *>(t.data_ptr()); }

struct BatchNorm : torch::autograd::Function<BatchNorm> {
    static at::Tensor forward(torch::autograd::AutogradContext *ctx, const at::Tensor &x, const at::Tensor &weight,
                              const at::Tensor &bias, const at::Tensor &running_mean, const at::Tensor &running_var,
                              double momentum, double eps)
    {
        Layout l{};
        layout_of(x, l);
        const int64_t count = l.outer * l.inner; /* values of one channel */
        at::Tensor y = at::empty_like(x);
        at::Tensor saved = at::empty({2, l.channels}, x.options().memory_format(at::MemoryFormat::Contiguous));
        const float *in = floats(x), *w = floats(weight), *b = floats(bias);
        float *out = floats(y), *deltas = floats(saved), *inverses = deltas + l.channels;
        std::vector<double> first(static_cast<size_t>(l.channels)), second(static_cast<size_t>(l.channels));
        std::vector<float> scale(first.size()), offset(first.size());

        /* All sums first, then all results, when channels lie side by side; else channel by channel, from the cache. */
        if (l.channels_last)
            row_sums(in, l.outer, l.channels, in, first.data(), second.data());
        for (int64_t c = 0; c < l.channels; c++) {
            const auto i = static_cast<size_t>(c);
            const float shift = in[c * l.inner]; /* inner is 1 when channels are last */
            if (!l.channels_last)
                for (int64_t n = 0; n < l.outer; n++)
                    sums(in + (n * l.channels + c) * l.inner, l.inner, shift, first[i], second[i]);
            const double values = static_cast<double>(count), from_shift = first[i] / values;
            const double mean = static_cast<double>(shift) + from_shift;
            const double squares = std::max(second[i] - first[i] * from_shift, 0.0); /* of deviations from the mean */
            const double inverse = 1 / std::sqrt(squares / values + eps);
            deltas[c] = static_cast<float>(from_shift);
            inverses[c] = static_cast<float>(inverse);
            float &rm = floats(running_mean)[c], &rv = floats(running_var)[c];
            rm = static_cast<float>(momentum * mean + (1 - momentum) * static_cast<double>(rm));
            rv = static_cast<float>(momentum * (squares / (values - 1)) + (1 - momentum) * static_cast<double>(rv));
            const double a = inverse * static_cast<double>(w[c]);
            scale[i] = static_cast<float>(a);
            offset[i] = static_cast<float>(static_cast<double>(b[c]) - from_shift * a);
            if (!l.channels_last)
                for (int64_t n = 0; n < l.outer; n++) {
                    const int64_t at = (n * l.channels + c) * l.inner;
                    affine(in + at, out + at, l.inner, shift, scale[i], offset[i]);
                }
        }
        if (l.channels_last)
            row_affine(in, out, l.outer, l.channels, in, scale.data(), offset.data());
        running_mean.unsafeGetTensorImpl()->bump_version();
        running_var.unsafeGetTensorImpl()->bump_version();
        ctx->save_for_backward({x, weight, saved});
        return y;
    }

    static torch::autograd::variable_list backward(torch::autograd::AutogradContext *ctx,
                                                   torch::autograd::variable_list grads)
    {
        const auto variables = ctx->get_saved_variables();
        const at::Tensor &x = variables[0], &weight = variables[1], &saved = variables[2];
        Layout l{};
        layout_of(x, l);
        const at::Tensor dy =
            grads[0].contiguous(l.channels_last ? at::MemoryFormat::ChannelsLast : at::MemoryFormat::Contiguous);
        at::Tensor dx = at::empty_like(x), dweight = at::empty_like(weight), dbias = at::empty_like(weight);
        const float *in = floats(x), *din = floats(dy), *w = floats(weight), *deltas = floats(saved),
                    *inverses = deltas + l.channels;
        float *out = floats(dx), *dw = floats(dweight), *db = floats(dbias);
        const double values = static_cast<double>(l.outer * l.inner);
        std::vector<double> first(static_cast<size_t>(l.channels)), second(static_cast<size_t>(l.channels));
        std::vector<float> scale(first.size()), slope(first.size()), offset(first.size());

        if (l.channels_last)
            row_sums(din, in, l.outer, l.channels, in, first.data(), second.data());
        for (int64_t c = 0; c < l.channels; c++) {
            const auto i = static_cast<size_t>(c);
            const float shift = in[c * l.inner];
            if (!l.channels_last)
                for (int64_t n = 0; n < l.outer; n++) {
                    const int64_t at = (n * l.channels + c) * l.inner;
                    sums(din + at, in + at, l.inner, shift, first[i], second[i]);
                }
            const double inverse = static_cast<double>(inverses[c]), delta = static_cast<double>(deltas[c]);
            const double product = second[i] - delta * first[i]; /* sum of dy * (x - mean) */
            dw[c] = static_cast<float>(product * inverse);
            db[c] = static_cast<float>(first[i]);
            /* dx = (dy - mean(dy) - (x - mean) * inverse^2 * mean(dy * (x - mean))) * inverse * w */
            const double a = inverse * static_cast<double>(w[c]), k = product * inverse * inverse / values;
            scale[i] = static_cast<float>(a);
            slope[i] = static_cast<float>(-k * a);
            offset[i] = static_cast<float>((delta * k - first[i] / values) * a);
            if (!l.channels_last)
                for (int64_t n = 0; n < l.outer; n++) {
                    const int64_t at = (n * l.channels + c) * l.inner;
                    affine(din + at, in + at, out + at, l.inner, shift, scale[i], slope[i], offset[i]);
                }
        }
        if (l.channels_last)
            row_affine(din, in, out, l.outer, l.channels, in, scale.data(), slope.data(), offset.data());
        return {dx, dweight, dbias, at::Tensor(), at::Tensor(), at::Tensor(), at::Tensor()};
    }
};

bool plain_float(const at::Tensor &t, int64_t channels)
{
    return t.defined() && t.is_cpu() && t.scalar_type() == at::kFloat && t.numel() == channels && t.is_contiguous();
}

} // namespace

namespace ct {

at::Tensor batch_norm(const at::Tensor &x, const at::Tensor &weight, const at::Tensor &bias, const at::Tensor &running_mean,
                      const at::Tensor &running_var, bool training, double momentum, double eps)
{
    Layout l{};
    const bool ours = training && x.is_cpu() && x.scalar_type() == at::kFloat && layout_of(x, l) && l.outer * l.inner > 1 &&
                      plain_float(weight, l.channels) && plain_float(bias, l.channels) &&
                      plain_float(running_mean, l.channels) && plain_float(running_var, l.channels) && simd() &&
                      at::get_num_threads() <= 2;
    if (ours)
        return BatchNorm::apply(x, weight, bias, running_mean, running_var, momentum, eps);
    return at::batch_norm(x, weight, bias, running_mean, running_var, training, momentum, eps, /*cudnn_enabled=*/true);
}

} // namespace ct
