/* The built-in layers: torch.nn's, with its names, defaults and initial values. */
#include "batch_norm.h"
#include "module.h"
#include "conv.h"
#include "pool.h"

#include <ATen/ops/avg_pool2d.h>
#include <ATen/ops/dropout.h>
#include <ATen/ops/embedding.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/gelu.h>
#include <ATen/ops/layer_norm.h>
#include <ATen/ops/linear.h>
#include <ATen/ops/max_pool2d.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/zeros.h>

#include <cmath>

namespace {

void positive(int64_t value, const char *name)
{
    if (value <= 0)
        ct::fail(CT_EINVAL, "%s is %lld, not positive", name, static_cast<long long>(value));
}

void not_negative(int64_t value, const char *name)
{
    if (value < 0)
        ct::fail(CT_EINVAL, "%s is %lld, negative", name, static_cast<long long>(value));
}

struct Conv2d : ct_module {
    at::Tensor weight, bias;
    int64_t stride, padding, dilation, groups;

    Conv2d(int64_t in, int64_t out, int64_t kernel, const ct_conv2d_options &o)
        : stride(o.stride ? o.stride : 1), padding(o.padding), dilation(o.dilation ? o.dilation : 1),
          groups(o.groups ? o.groups : 1)
    {
        positive(in, "in_channels");
        positive(out, "out_channels");
        positive(kernel, "kernel");
        positive(stride, "stride");
        not_negative(padding, "padding");
        positive(dilation, "dilation");
        positive(groups, "groups");
        if (in % groups != 0 || out % groups != 0)
            ct::fail(CT_EINVAL, "groups does not divide the channels");
        weight = add_parameter("weight", at::empty({out, in / groups, kernel, kernel}, at::kFloat));
        ct::kaiming_uniform(weight, std::sqrt(5.0));
        if (!o.no_bias) {
            bias = add_parameter("bias", at::empty({out}, at::kFloat));
            ct::uniform_bias(bias, weight);
        }
    }
    at::Tensor forward(const at::Tensor &x) override
    {
        return ct::conv2d(x, weight, bias, stride, padding, dilation, groups);
    }
};

struct Linear : ct_module {
    at::Tensor weight, bias;

    Linear(int64_t in, int64_t out, bool with_bias)
    {
        positive(in, "in_features");
        positive(out, "out_features");
        weight = add_parameter("weight", at::empty({out, in}, at::kFloat));
        ct::kaiming_uniform(weight, std::sqrt(5.0));
        if (with_bias) {
            bias = add_parameter("bias", at::empty({out}, at::kFloat));
            ct::uniform_bias(bias, weight);
        }
    }
    at::Tensor forward(const at::Tensor &x) override { return at::linear(x, weight, bias); }
};

struct BatchNorm2d : ct_module {
    at::Tensor weight, bias, mean, var, batches;

    explicit BatchNorm2d(int64_t channels)
    {
        positive(channels, "channels");
        weight = add_parameter("weight", at::ones({channels}, at::kFloat));
        bias = add_parameter("bias", at::zeros({channels}, at::kFloat));
        mean = add_buffer("running_mean", at::zeros({channels}, at::kFloat));
        var = add_buffer("running_var", at::ones({channels}, at::kFloat));
        batches = add_buffer("num_batches_tracked", at::zeros({}, at::kLong));
    }
    at::Tensor forward(const at::Tensor &x) override
    {
        if (x.dim() != 4)
            ct::fail(CT_EINVAL, "batch_norm2d takes 4 dimensions, not %lld", static_cast<long long>(x.dim()));
        if (training) {
            if (batches.is_cpu())
                ++*static_cast<int64_t *>(batches.data_ptr());
            else
                batches.add_(1);
        }
        return ct::batch_norm(x, weight, bias, mean, var, training, 0.1, 1e-5);
    }
};

struct LayerNorm : ct_module {
    std::vector<int64_t> sizes;
    at::Tensor weight, bias;

    LayerNorm(const int64_t *s, size_t ndim) : sizes(ct::shape(s, ndim).vec())
    {
        positive(static_cast<int64_t>(ndim), "ndim");
        weight = add_parameter("weight", at::ones(sizes, at::kFloat));
        bias = add_parameter("bias", at::zeros(sizes, at::kFloat));
    }
    at::Tensor forward(const at::Tensor &x) override { return at::layer_norm(x, sizes, weight, bias, 1e-5); }
};

struct Embedding : ct_module {
    at::Tensor weight;

    Embedding(int64_t rows, int64_t width)
    {
        positive(rows, "rows");
        positive(width, "width");
        weight = at::empty({rows, width}, at::kFloat);
        weight.normal_(0, 1);
        add_parameter("weight", weight);
    }
    at::Tensor forward(const at::Tensor &indices) override { return at::embedding(weight, indices); }
};

struct Relu : ct_module {
    at::Tensor forward(const at::Tensor &x) override { return x.relu(); }
};

struct Sequential : ct_module {
    at::Tensor forward(const at::Tensor &x) override
    {
        at::Tensor y = x;
        bool overwritable = false; /* nobody but us sees y, and no gradient needs its values */
        for (Child &child : children) {
            if (overwritable && dynamic_cast<Relu *>(child.module))
                y.relu_();
            else
                y = child.module->forward(y);
            overwritable = dynamic_cast<Conv2d *>(child.module) || dynamic_cast<BatchNorm2d *>(child.module) ||
                           dynamic_cast<Linear *>(child.module) || dynamic_cast<LayerNorm *>(child.module);
        }
        return y;
    }
};

/* A layer without tensors: a function of x and whether we are training. */
template <class F> struct Stateless : ct_module {
    F function;
    explicit Stateless(F f) : function(std::move(f)) {}
    at::Tensor forward(const at::Tensor &x) override { return function(x, training); }
};

template <class F> ct_module *stateless(F function) { return new Stateless<F>(std::move(function)); }

} // namespace

#define CT_LAYER(name, parameters, expression)                                                                                 \
    ct_module *name parameters                                                                                                 \
    {                                                                                                                          \
        CT_TRY { return expression; }                                                                                          \
        CT_CATCH(nullptr)                                                                                                      \
    }

CT_LAYER(ct_nn_conv2d, (int64_t in_channels, int64_t out_channels, int64_t kernel, const ct_conv2d_options *options),
         new Conv2d(in_channels, out_channels, kernel, options ? *options : ct_conv2d_options{}))
CT_LAYER(ct_nn_linear, (int64_t in_features, int64_t out_features, bool bias), new Linear(in_features, out_features, bias))
CT_LAYER(ct_nn_batch_norm2d, (int64_t channels), new BatchNorm2d(channels))
CT_LAYER(ct_nn_layer_norm, (const int64_t *sizes, size_t ndim), new LayerNorm(sizes, ndim))
CT_LAYER(ct_nn_embedding, (int64_t rows, int64_t width), new Embedding(rows, width))

CT_LAYER(ct_nn_relu, (void), new Relu)
CT_LAYER(ct_nn_gelu, (void), stateless([](const at::Tensor &x, bool) { return at::gelu(x); }))
CT_LAYER(ct_nn_tanh, (void), stateless([](const at::Tensor &x, bool) { return x.tanh(); }))
CT_LAYER(ct_nn_sigmoid, (void), stateless([](const at::Tensor &x, bool) { return x.sigmoid(); }))
CT_LAYER(ct_nn_flatten, (void), stateless([](const at::Tensor &x, bool) { return x.flatten(1); }))

ct_module *ct_nn_dropout(double p)
{
    CT_TRY
    {
        if (!(p >= 0 && p <= 1))
            ct::fail(CT_EINVAL, "p is %g, not a probability", p);
        return stateless([p](const at::Tensor &x, bool training) { return at::dropout(x, p, training); });
    }
    CT_CATCH(nullptr)
}

ct_module *ct_nn_max_pool2d(int64_t kernel, int64_t stride, int64_t padding)
{
    CT_TRY
    {
        positive(kernel, "kernel");
        not_negative(stride, "stride");
        not_negative(padding, "padding");
        return stateless([=](const at::Tensor &x, bool) {
            return at::max_pool2d(x, at::IntArrayRef(kernel), at::IntArrayRef(stride ? stride : kernel),
                                  at::IntArrayRef(padding));
        });
    }
    CT_CATCH(nullptr)
}

ct_module *ct_nn_avg_pool2d(int64_t kernel, int64_t stride, int64_t padding)
{
    CT_TRY
    {
        positive(kernel, "kernel");
        not_negative(stride, "stride");
        not_negative(padding, "padding");
        return stateless([=](const at::Tensor &x, bool) {
            return at::avg_pool2d(x, at::IntArrayRef(kernel), at::IntArrayRef(stride ? stride : kernel),
                                  at::IntArrayRef(padding));
        });
    }
    CT_CATCH(nullptr)
}

ct_module *ct_nn_adaptive_avg_pool2d(int64_t height, int64_t width)
{
    CT_TRY
    {
        positive(height, "height");
        positive(width, "width");
        return stateless([=](const at::Tensor &x, bool) { return ct::adaptive_avg_pool2d(x, height, width); });
    }
    CT_CATCH(nullptr)
}

ct_module *ct_nn_sequential(ct_module *const *modules, size_t count)
{
    ct_module *sequential = nullptr;
    size_t taken = 0;
    CT_TRY
    {
        if (count > 0)
            ct::need(modules, "modules");
        for (size_t i = 0; i < count; i++)
            if (!modules[i]) {
                if (ct_last_status() != CT_OK) /* the builder that failed has said why */
                    throw ct::CallbackError(ct_last_status(), ct_error_message());
                ct::fail(CT_EINVAL, "module %zu is NULL", i);
            }
        sequential = new Sequential;
        for (; taken < count; taken++)
            sequential->add_child(std::to_string(taken), modules[taken]);
        return sequential;
    }
    catch (...)
    {
        ct::caught(__func__);
        for (size_t i = taken; modules && i < count; i++)
            ct_module_free(modules[i]);
        delete sequential;
        return nullptr;
    }
}
