/*
 * SGD, Adam and AdamW, with the numerics of torch.optim's single-tensor path (PyTorch 1.13: torch/optim/sgd.py, adam.py,
 * adamw.py; Kingma and Ba 2015, Loshchilov and Hutter 2019).
 *
 * Dense float32 and float64 parameters on a CPU with fused multiply-add are updated in one pass over memory each, rounding
 * where ATen's kernels round. All else goes through ATen's operations.
 */
#include "module.h"

#include <ATen/Parallel.h>
#include <ATen/ops/zeros.h>
#include <ATen/ops/zeros_like.h>
#include <c10/core/GradMode.h>

#include <cmath>

#if defined(__x86_64__)
#define CT_FUSED __attribute__((target("avx2,fma")))
static bool can_fuse()
{
    static const bool answer = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
    return answer;
}
#elif defined(__aarch64__)
#define CT_FUSED
static bool can_fuse() { return true; }
#else
#define CT_FUSED
static bool can_fuse() { return false; }
#endif

struct ct_optim {
    struct Param {
        at::Tensor param;
        at::Tensor first, second; /* momentum_buffer; or exp_avg and exp_avg_sq */
    };
    struct State {
        std::string name;
        ct_tensor tensor;
    };

    double lr = 0;
    std::vector<Param> params;
    std::vector<State> state;
    at::Tensor steps; /* int64, one per parameter */

    virtual ~ct_optim() = default;
    virtual void update(Param &p, at::Tensor &grad, int64_t step) = 0; /* step counts from 1 */
};

namespace {

/* The pointers of one update, if a plain loop over memory will do. */
bool plain(const ct_optim::Param &p, const at::Tensor &grad, bool first, bool second)
{
    const at::Tensor &w = p.param;
    if (w.numel() >= 1 << 15 && at::get_num_threads() > 2) /* ATen's operations run on all of them */
        return false;
    const auto matches = [&](const at::Tensor &t) {
        return t.is_cpu() && t.scalar_type() == w.scalar_type() && t.layout() == at::kStrided && t.sizes() == w.sizes() &&
               t.strides() == w.strides();
    };
    return can_fuse() && w.is_cpu() && (w.scalar_type() == at::kFloat || w.scalar_type() == at::kDouble) &&
           w.is_non_overlapping_and_dense() && matches(grad) && (!first || matches(p.first)) && (!second || matches(p.second));
}

template <class T> T *data(const at::Tensor &t) { return t.defined() ? static_cast<T *>(t.data_ptr()) : nullptr; }

void written(const at::Tensor &t) { t.unsafeGetTensorImpl()->bump_version(); }

/* ---- SGD ---- */

struct SgdScalars {
    double lr, momentum, dampening, weight_decay;
    bool nesterov;
};

/* Flags are template arguments so that each loop is straight-line and vectorises. */
template <class T, bool decay, bool momentum, bool first_step, bool nesterov>
CT_FUSED void sgd_loop(T *__restrict w, const T *__restrict g, T *__restrict buf, int64_t n, const SgdScalars &s)
{
    const T minus_lr = static_cast<T>(-s.lr), wd = static_cast<T>(s.weight_decay), mu = static_cast<T>(s.momentum),
            keep = static_cast<T>(1 - s.dampening);
    for (int64_t i = 0; i < n; i++) {
        T d = g[i];
        if (decay)
            d = std::fma(w[i], wd, d);
        if (momentum) {
            const T b = first_step ? d : std::fma(d, keep, buf[i] * mu);
            buf[i] = b;
            d = nesterov ? std::fma(b, mu, d) : b;
        }
        w[i] = std::fma(d, minus_lr, w[i]);
    }
}

template <class T> void sgd_fused(T *w, const T *g, T *buf, int64_t n, const SgdScalars &s, bool first_step)
{
    const bool decay = s.weight_decay != 0;
    if (s.momentum == 0)
        return decay ? sgd_loop<T, true, false, false, false>(w, g, buf, n, s)
                     : sgd_loop<T, false, false, false, false>(w, g, buf, n, s);
    if (first_step && s.nesterov)
        return decay ? sgd_loop<T, true, true, true, true>(w, g, buf, n, s)
                     : sgd_loop<T, false, true, true, true>(w, g, buf, n, s);
    if (first_step)
        return decay ? sgd_loop<T, true, true, true, false>(w, g, buf, n, s)
                     : sgd_loop<T, false, true, true, false>(w, g, buf, n, s);
    if (s.nesterov)
        return decay ? sgd_loop<T, true, true, false, true>(w, g, buf, n, s)
                     : sgd_loop<T, false, true, false, true>(w, g, buf, n, s);
    return decay ? sgd_loop<T, true, true, false, false>(w, g, buf, n, s)
                 : sgd_loop<T, false, true, false, false>(w, g, buf, n, s);
}

struct Sgd : ct_optim {
    SgdScalars s{};

    void update(Param &p, at::Tensor &grad, int64_t step) override
    {
        s.lr = lr;
        const bool momentum = s.momentum != 0, first_step = step == 1;
        if (plain(p, grad, momentum, false)) {
            const int64_t n = p.param.numel();
            if (p.param.scalar_type() == at::kFloat)
                sgd_fused(data<float>(p.param), data<const float>(grad), data<float>(p.first), n, s, first_step);
            else
                sgd_fused(data<double>(p.param), data<const double>(grad), data<double>(p.first), n, s, first_step);
            written(p.param);
            return;
        }
        at::Tensor d = s.weight_decay != 0 ? grad.add(p.param, s.weight_decay) : grad;
        if (momentum) {
            if (first_step)
                p.first.copy_(d);
            else
                p.first.mul_(s.momentum).add_(d, 1 - s.dampening);
            d = s.nesterov ? d.add(p.first, s.momentum) : p.first;
        }
        p.param.add_(d, -lr);
    }
};

/* ---- Adam and AdamW ---- */

struct AdamScalars {
    double beta1, beta2, eps, weight_decay;
    double step_size, correction2_sqrt, shrink; /* of this step; shrink: AdamW's factor on the weights */
};

template <class T, bool l2, bool decoupled>
CT_FUSED void adam_loop(T *__restrict w, const T *__restrict g, T *__restrict m, T *__restrict v, int64_t n,
                        const AdamScalars &s)
{
    const T beta1 = static_cast<T>(s.beta1), beta2 = static_cast<T>(s.beta2), rest1 = static_cast<T>(1 - s.beta1),
            rest2 = static_cast<T>(1 - s.beta2), eps = static_cast<T>(s.eps), wd = static_cast<T>(s.weight_decay),
            shrink = static_cast<T>(s.shrink), root = static_cast<T>(s.correction2_sqrt),
            minus_size = static_cast<T>(-s.step_size);
    for (int64_t i = 0; i < n; i++) {
        T p = w[i], d = g[i];
        if (decoupled)
            p *= shrink;
        if (l2)
            d = std::fma(p, wd, d);
        const T first = std::fma(d, rest1, m[i] * beta1);
        const T second = std::fma(rest2 * d, d, v[i] * beta2);
        m[i] = first;
        v[i] = second;
        w[i] = p + minus_size * first / (std::sqrt(second) / root + eps);
    }
}

template <class T> void adam_fused(const ct_optim::Param &p, const at::Tensor &grad, const AdamScalars &s, bool decoupled)
{
    T *w = data<T>(p.param), *m = data<T>(p.first), *v = data<T>(p.second);
    const T *g = data<const T>(grad);
    const int64_t n = p.param.numel();
    if (decoupled)
        adam_loop<T, false, true>(w, g, m, v, n, s);
    else if (s.weight_decay != 0)
        adam_loop<T, true, false>(w, g, m, v, n, s);
    else
        adam_loop<T, false, false>(w, g, m, v, n, s);
}

struct Adam : ct_optim {
    AdamScalars s{};
    bool decoupled = false;

    void update(Param &p, at::Tensor &grad, int64_t step) override
    {
        const double t = static_cast<double>(step);
        s.step_size = lr / (1 - std::pow(s.beta1, t));
        s.correction2_sqrt = std::sqrt(1 - std::pow(s.beta2, t));
        s.shrink = 1 - lr * s.weight_decay;
        if (plain(p, grad, true, true)) {
            if (p.param.scalar_type() == at::kFloat)
                adam_fused<float>(p, grad, s, decoupled);
            else
                adam_fused<double>(p, grad, s, decoupled);
            written(p.param);
            return;
        }
        at::Tensor d = grad;
        if (decoupled)
            p.param.mul_(s.shrink);
        else if (s.weight_decay != 0)
            d = grad.add(p.param, s.weight_decay);
        p.first.mul_(s.beta1).add_(d, 1 - s.beta1);
        p.second.mul_(s.beta2).addcmul_(d, d, 1 - s.beta2);
        p.param.addcdiv_(p.first, p.second.sqrt().div_(s.correction2_sqrt).add_(s.eps), -s.step_size);
    }
};

/* ---- making ---- */

void check(bool ok, const char *name, double value)
{
    if (!ok)
        ct::fail(CT_EINVAL, "%s of %g is out of range", name, value);
}

double or_default(double value, double standard) { return value == 0 ? standard : value; }

/* Parameters and state out of the module. */
void fill(ct_optim &optim, const ct_module *m, const char *first, const char *second)
{
    const auto &entries = ct::need(m, "m").listing().parameters;
    if (entries.empty())
        ct::fail(CT_EINVAL, "the module has no parameters");
    c10::NoGradGuard no_grad;
    for (const auto &entry : entries) {
        ct_optim::Param p;
        p.param = entry.tensor->t;
        if (first) {
            p.first = at::zeros_like(p.param.detach());
            optim.state.push_back({std::string(first) + "." + entry.name, ct_tensor{p.first}});
        }
        if (second) {
            p.second = at::zeros_like(p.param.detach());
            optim.state.push_back({std::string(second) + "." + entry.name, ct_tensor{p.second}});
        }
        optim.params.push_back(std::move(p));
    }
    optim.steps = at::zeros({static_cast<int64_t>(entries.size())}, at::kLong);
    optim.state.push_back({"step", ct_tensor{optim.steps}});
}

std::unique_ptr<ct_optim> make_adam(const ct_module *m, const ct_adam_options *options, bool decoupled)
{
    const ct_adam_options o = options ? *options : ct_adam_options{};
    auto optim = std::make_unique<Adam>();
    optim->lr = or_default(o.lr, 1e-3);
    optim->decoupled = decoupled;
    optim->s.beta1 = or_default(o.beta1, 0.9);
    optim->s.beta2 = or_default(o.beta2, 0.999);
    optim->s.eps = or_default(o.eps, 1e-8);
    optim->s.weight_decay = o.weight_decay < 0 ? 0 : decoupled ? or_default(o.weight_decay, 1e-2) : o.weight_decay;
    check(optim->lr >= 0, "lr", optim->lr);
    check(optim->s.beta1 >= 0 && optim->s.beta1 < 1, "beta1", optim->s.beta1);
    check(optim->s.beta2 >= 0 && optim->s.beta2 < 1, "beta2", optim->s.beta2);
    check(optim->s.eps >= 0, "eps", optim->s.eps);
    check(optim->s.weight_decay >= 0, "weight_decay", optim->s.weight_decay);
    fill(*optim, m, "exp_avg", "exp_avg_sq");
    return optim;
}

} // namespace

ct_status ct_sgd_new(const ct_module *m, const ct_sgd_options *options, ct_optim **out)
{
    CT_TRY
    {
        ct::need(out, "out");
        const ct_sgd_options o = options ? *options : ct_sgd_options{};
        auto optim = std::make_unique<Sgd>();
        optim->lr = or_default(o.lr, 1e-3);
        optim->s = {optim->lr, o.momentum, o.dampening, o.weight_decay < 0 ? 0 : o.weight_decay, o.nesterov};
        check(optim->lr >= 0, "lr", optim->lr);
        check(o.momentum >= 0, "momentum", o.momentum);
        check(!std::isnan(o.weight_decay), "weight_decay", o.weight_decay);
        if (o.nesterov && (o.momentum <= 0 || o.dampening != 0))
            ct::fail(CT_EINVAL, "nesterov needs a momentum and no dampening");
        fill(*optim, m, o.momentum != 0 ? "momentum_buffer" : nullptr, nullptr);
        *out = optim.release();
        return CT_OK;
    }
    CT_CATCH(status)
}

ct_status ct_adam_new(const ct_module *m, const ct_adam_options *options, ct_optim **out)
{
    CT_TRY
    {
        ct::need(out, "out");
        *out = make_adam(m, options, false).release();
        return CT_OK;
    }
    CT_CATCH(status)
}

ct_status ct_adamw_new(const ct_module *m, const ct_adam_options *options, ct_optim **out)
{
    CT_TRY
    {
        ct::need(out, "out");
        *out = make_adam(m, options, true).release();
        return CT_OK;
    }
    CT_CATCH(status)
}

void ct_optim_free(ct_optim *optim) { delete optim; }

ct_status ct_optim_step(ct_optim *optim)
{
    CT_TRY
    {
        ct::need(optim, "optim");
        c10::NoGradGuard no_grad;
        auto *steps = static_cast<int64_t *>(optim->steps.data_ptr());
        for (size_t i = 0; i < optim->params.size(); i++) {
            ct_optim::Param &p = optim->params[i];
            at::Tensor &grad = p.param.mutable_grad();
            if (!grad.defined())
                continue;
            if (grad.is_sparse())
                ct::fail(CT_ENOTSUP, "sparse gradients");
            optim->update(p, grad, steps[i] + 1);
            steps[i]++;
        }
        return CT_OK;
    }
    CT_CATCH(status)
}

ct_status ct_optim_zero_grad(ct_optim *optim, bool set_to_none)
{
    CT_TRY
    {
        for (ct_optim::Param &p : ct::need(optim, "optim").params)
            ct::zero_grad(p.param, set_to_none);
        return CT_OK;
    }
    CT_CATCH(status)
}

ct_status ct_optim_set_lr(ct_optim *optim, double lr)
{
    CT_TRY
    {
        check(lr >= 0, "lr", lr);
        ct::need(optim, "optim").lr = lr;
        return CT_OK;
    }
    CT_CATCH(status)
}

double ct_optim_lr(const ct_optim *optim) { return optim ? optim->lr : -1; }

size_t ct_optim_state_count(const ct_optim *optim) { return optim ? optim->state.size() : 0; }

ct_status ct_optim_state_at(const ct_optim *optim, size_t index, const char **name, ct_tensor **tensor)
{
    CT_TRY
    {
        ct::need(optim, "optim");
        if (index >= optim->state.size())
            ct::fail(CT_ENOENT, "index %zu of %zu", index, optim->state.size());
        const ct_optim::State &entry = optim->state[index];
        if (name)
            *name = entry.name.c_str();
        if (tensor)
            *tensor = const_cast<ct_tensor *>(&entry.tensor);
        return CT_OK;
    }
    CT_CATCH(status)
}
