/* Gradients: backward passes, where a gradient is kept, and who is told when it is there. */
#include "internal.h"

#include <ATen/ops/full_like.h>
#include <c10/core/GradMode.h>
#include <torch/csrc/autograd/function.h>
#include <torch/csrc/autograd/function_hook.h>
#include <torch/csrc/autograd/variable.h>

#include <cstring>
#include <mutex>
#include <unordered_map>
#include <utility>

namespace {

struct Leaf;

/*
 * What hangs on one leaf tensor. Its gradient accumulator, kept alive here (autograd holds it weakly), calls back through one
 * post-hook: first the gradient is put into its place, then the user's hooks are told.
 */
struct Leaf {
    ct_tensor param; /* handle given to hooks */
    decltype(torch::autograd::impl::grad_accumulator(std::declval<const at::Tensor &>())) accumulator; /* one of two kinds of pointer */
    uintptr_t key = 0;
    at::Tensor place; /* undefined: wherever autograd puts it */
    std::vector<ct_hook *> hooks;

    void accumulated();
    ~Leaf()
    {
        if (accumulator)
            accumulator->del_post_hook(key);
    }
};

struct PostHook : torch::autograd::FunctionPostHook {
    Leaf *leaf;
    explicit PostHook(Leaf *l) : leaf(l) {}
    torch::autograd::variable_list operator()(const torch::autograd::variable_list &outputs,
                                              const torch::autograd::variable_list &) override
    {
        leaf->accumulated();
        return outputs;
    }
};

std::mutex leaves_lock;

/* Never destroyed: tensors may outlive static destructors. */
std::unordered_map<at::TensorImpl *, std::unique_ptr<Leaf>> &leaves()
{
    static auto *map = new std::unordered_map<at::TensorImpl *, std::unique_ptr<Leaf>>;
    return *map;
}

/* With the lock held. */
Leaf *find(const at::Tensor &param)
{
    auto found = leaves().find(param.unsafeGetTensorImpl());
    return found == leaves().end() ? nullptr : found->second.get();
}

Leaf &find_or_make(const at::Tensor &param)
{
    if (!param.requires_grad() || !param.is_leaf())
        ct::fail(CT_EINVAL, "the tensor is not a leaf that requires gradients");
    if (Leaf *leaf = find(param))
        return *leaf;
    auto leaf = std::make_unique<Leaf>();
    leaf->param.t = param;
    auto accumulator = torch::autograd::impl::grad_accumulator(param);
    auto &slot = leaves()[param.unsafeGetTensorImpl()];
    leaf->key = accumulator->add_post_hook(std::make_unique<PostHook>(leaf.get()));
    leaf->accumulator = std::move(accumulator);
    slot = std::move(leaf);
    return *slot;
}

void drop_if_idle(Leaf *leaf)
{
    if (leaf->hooks.empty() && !leaf->place.defined())
        leaves().erase(leaf->param.t.unsafeGetTensorImpl());
}

thread_local std::vector<bool> grad_modes;

void check_like(const at::Tensor &param, const at::Tensor &grad, bool strides)
{
    if (grad.sizes() != param.sizes() || grad.scalar_type() != param.scalar_type() || grad.device() != param.device())
        ct::fail(CT_EINVAL, "the gradient's shape, dtype or device differs from the parameter's");
    if (strides && grad.strides() != param.strides())
        ct::fail(CT_EINVAL, "the view's strides differ from the parameter's");
}

void backward(const at::Tensor &tensor, const at::Tensor &grad)
{
    ct::Scope closed(false); /* hooks keep what they make */
    tensor.backward(grad);
}

} // namespace

struct ct_hook {
    at::Tensor param;
    ct_grad_hook_fn fn;
    void *user;
};

void Leaf::accumulated()
{
    at::Tensor &grad = param.t.mutable_grad();
    if (!grad.defined())
        return;
    if (place.defined() && !grad.is_same(place)) {
        if (grad.is_cpu() && grad.strides() == place.strides() && grad.scalar_type() == place.scalar_type())
            std::memcpy(place.data_ptr(), grad.data_ptr(), place.nbytes());
        else
            place.copy_(grad);
        grad = place;
    }
    if (hooks.empty())
        return;
    ct::Scope closed(false); /* the device's threads come here too */
    ct_tensor borrowed{grad};
    for (ct_hook *hook : hooks)
        ct::call_user("gradient hook", [&] { return hook->fn(&param, &borrowed, hook->user); });
}

namespace ct {

bool has_grad_hooks(const at::Tensor &param)
{
    std::lock_guard<std::mutex> guard(leaves_lock);
    return find(param) != nullptr;
}

void drop_grad_hooks(const at::Tensor &param) noexcept
{
    std::lock_guard<std::mutex> guard(leaves_lock);
    leaves().erase(param.unsafeGetTensorImpl());
}

void zero_grad(const at::Tensor &param, bool set_to_none)
{
    at::Tensor &grad = param.mutable_grad();
    if (!grad.defined())
        return;
    if (set_to_none) {
        grad.reset();
        return;
    }
    if (grad.grad_fn())
        grad.detach_();
    else
        grad.set_requires_grad(false);
    grad.zero_();
}

} // namespace ct

ct_status ct_tensor_set_requires_grad(ct_tensor *tensor, bool requires_grad)
{
    CT_TRY
    {
        ct::in(tensor, "tensor").set_requires_grad(requires_grad);
        return CT_OK;
    }
    CT_CATCH(status)
}

bool ct_tensor_requires_grad(const ct_tensor *tensor)
{
    CT_TRY { return ct::in(tensor, "tensor").requires_grad(); }
    CT_CATCH(false)
}

ct_status ct_backward(const ct_tensor *loss, double scale)
{
    CT_TRY
    {
        const at::Tensor &t = ct::in(loss, "loss");
        if (t.numel() != 1)
            ct::fail(CT_EINVAL, "the loss has %lld elements, not one; see ct_backward_from",
                     static_cast<long long>(t.numel()));
        backward(t, scale == 1.0 ? at::Tensor() : at::full_like(t.detach(), scale));
        return CT_OK;
    }
    CT_CATCH(status)
}

ct_status ct_backward_from(const ct_tensor *tensor, const ct_tensor *grad)
{
    CT_TRY
    {
        const at::Tensor &t = ct::in(tensor, "tensor");
        backward(t, ct::in(grad, "grad"));
        return CT_OK;
    }
    CT_CATCH(status)
}

ct_status ct_tensor_grad(const ct_tensor *tensor, ct_tensor **out)
{
    CT_TRY
    {
        const at::Tensor &grad = ct::in(tensor, "tensor").grad();
        ct::need(out, "out");
        *out = grad.defined() ? ct::make_handle(at::Tensor(grad)) : nullptr;
        return CT_OK;
    }
    CT_CATCH(status)
}

ct_status ct_tensor_set_grad(ct_tensor *tensor, const ct_tensor *grad)
{
    CT_TRY
    {
        at::Tensor &t = ct::in(tensor, "tensor");
        if (grad)
            check_like(t, grad->t, false);
        t.mutable_grad() = ct::optional(grad);
        return CT_OK;
    }
    CT_CATCH(status)
}

ct_status ct_tensor_bind_grad(ct_tensor *param, const ct_tensor *view)
{
    CT_TRY
    {
        at::Tensor &t = ct::in(param, "param");
        std::lock_guard<std::mutex> guard(leaves_lock);
        if (!view) {
            if (Leaf *leaf = find(t)) {
                leaf->place.reset();
                drop_if_idle(leaf);
            }
            return CT_OK;
        }
        check_like(t, view->t, true);
        if (!view->t.is_non_overlapping_and_dense())
            ct::fail(CT_EINVAL, "the view's memory has gaps or overlaps");
        find_or_make(t).place = view->t.detach();
        return CT_OK;
    }
    CT_CATCH(status)
}

ct_status ct_tensor_zero_grad(ct_tensor *param, bool set_to_none)
{
    CT_TRY
    {
        ct::zero_grad(ct::in(param, "param"), set_to_none);
        return CT_OK;
    }
    CT_CATCH(status)
}

ct_status ct_no_grad_push(void)
{
    CT_TRY
    {
        grad_modes.push_back(c10::GradMode::is_enabled());
        c10::GradMode::set_enabled(false);
        return CT_OK;
    }
    CT_CATCH(status)
}

ct_status ct_no_grad_pop(void)
{
    CT_TRY
    {
        if (grad_modes.empty())
            ct::fail(CT_ESTATE, "no ct_no_grad_push to match");
        c10::GradMode::set_enabled(grad_modes.back());
        grad_modes.pop_back();
        return CT_OK;
    }
    CT_CATCH(status)
}

bool ct_grad_enabled(void) { return c10::GradMode::is_enabled(); }

ct_status ct_grad_hook(const ct_tensor *param, ct_grad_hook_fn fn, void *user, ct_hook **out)
{
    CT_TRY
    {
        const at::Tensor &t = ct::in(param, "param");
        ct::need(out, "out");
        if (!fn)
            ct::fail(CT_EINVAL, "fn is NULL");
        auto hook = std::make_unique<ct_hook>(ct_hook{t, fn, user});
        std::lock_guard<std::mutex> guard(leaves_lock);
        find_or_make(t).hooks.push_back(hook.get());
        *out = hook.release();
        return CT_OK;
    }
    CT_CATCH(status)
}

void ct_hook_free(ct_hook *hook)
{
    if (!hook)
        return;
    {
        std::lock_guard<std::mutex> guard(leaves_lock);
        if (Leaf *leaf = find(hook->param)) {
            for (auto it = leaf->hooks.begin(); it != leaf->hooks.end(); ++it) {
                if (*it == hook) {
                    leaf->hooks.erase(it);
                    break;
                }
            }
            drop_if_idle(leaf);
        }
    }
    delete hook;
}
