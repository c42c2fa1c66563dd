/* Modules: the tree, its names, and what is done to a whole tree. */
#include "module.h"

#include <c10/core/GradMode.h>

#include <algorithm>
#include <cstring>

/* ---- the tree ---- */

ct_module::~ct_module()
{
    for (Tensor &parameter : parameters)
        ct::drop_grad_hooks(parameter.handle->t); /* whose owner may be gone: it would never be called again */
    for (Child &child : children)
        delete child.module;
}

void ct_module::changed() noexcept
{
    for (ct_module *m = this; m; m = m->parent)
        m->listing_.reset();
}

void ct_module::check_name(const std::string &name) const
{
    if (name.empty() || name.find('.') != std::string::npos)
        ct::fail(CT_EINVAL, "\"%s\" is no name: it is empty or has a dot", name.c_str());
    for (const Child &child : children)
        if (child.name == name)
            ct::fail(CT_EEXIST, "there is a child \"%s\" already", name.c_str());
    for (const auto *list : {&parameters, &buffers})
        for (const Tensor &tensor : *list)
            if (tensor.name == name)
                ct::fail(CT_EEXIST, "there is a tensor \"%s\" already", name.c_str());
}

at::Tensor &ct_module::add_parameter(std::string name, at::Tensor value, bool requires_grad)
{
    check_name(name);
    value.set_requires_grad(requires_grad);
    parameters.push_back({std::move(name), std::make_unique<ct_tensor>(ct_tensor{std::move(value)})});
    changed();
    return parameters.back().handle->t;
}

at::Tensor &ct_module::add_buffer(std::string name, at::Tensor value)
{
    check_name(name);
    buffers.push_back({std::move(name), std::make_unique<ct_tensor>(ct_tensor{std::move(value)})});
    changed();
    return buffers.back().handle->t;
}

void ct_module::add_child(std::string name, ct_module *child)
{
    check_name(name);
    if (child->parent)
        ct::fail(CT_EINVAL, "the module is part of another already");
    for (const ct_module *m = this; m; m = m->parent)
        if (m == child)
            ct::fail(CT_EINVAL, "a module cannot be part of itself");
    children.push_back({std::move(name), child});
    child->parent = this;
    changed();
}

void ct_module::set_training(bool on)
{
    training = on;
    for (Child &child : children)
        child.module->set_training(on);
}

void ct_module::collect(const std::string &prefix, Listing &into) const
{
    for (const Tensor &parameter : parameters) {
        const Entry entry{prefix + parameter.name, parameter.handle.get()};
        const auto same = [&](const Entry &e) { return e.tensor->t.is_same(parameter.handle->t); };
        if (std::none_of(into.parameters.begin(), into.parameters.end(), same)) /* tied weights are one parameter */
            into.parameters.push_back(entry);
        into.state.push_back(entry);
    }
    for (const Tensor &buffer : buffers) {
        into.buffers.push_back({prefix + buffer.name, buffer.handle.get()});
        into.state.push_back(into.buffers.back());
    }
    for (const Child &child : children)
        child.module->collect(prefix + child.name + ".", into);
}

const ct_module::Listing &ct_module::listing() const
{
    if (!listing_) {
        auto made = std::make_unique<Listing>();
        collect("", *made);
        listing_ = std::move(made);
    }
    return *listing_;
}

namespace {

struct UserModule : ct_module {
    ct_forward_fn fn;
    void *user;
    UserModule(ct_forward_fn f, void *u) : fn(f), user(u) {}

    at::Tensor forward(const at::Tensor &x) override
    {
        if (!fn)
            ct::fail(CT_ENOTSUP, "the module has no forward function");
        ct::Scope scope(true);
        ct_tensor input{x};
        ct_tensor *result = nullptr;
        ct::call_user("forward function", [&] { return fn(this, &input, &result, user); });
        if (!result)
            ct::fail(CT_EINVAL, "the forward function gave no tensor");
        return result->t;
    }
};

/* The descendant under a dotted path; a part that is missing gives NULL. */
const ct_module *descend(const ct_module *m, const char *path, size_t length)
{
    while (m && length > 0) {
        const char *dot = static_cast<const char *>(std::memchr(path, '.', length));
        const size_t part = dot ? static_cast<size_t>(dot - path) : length;
        const ct_module *next = nullptr;
        for (const ct_module::Child &child : m->children) {
            if (child.name.size() == part && std::memcmp(child.name.data(), path, part) == 0) {
                next = child.module;
                break;
            }
        }
        m = next;
        path += part + (dot ? 1 : 0);
        length -= part + (dot ? 1 : 0);
    }
    return m;
}

template <class F> void for_each_tensor(ct_module *m, F &&convert)
{
    const ct_module::Listing &all = ct::need(m, "m").listing();
    for (const ct_module::Entry &entry : all.parameters)
        if (ct::has_grad_hooks(entry.tensor->t))
            ct::fail(CT_ESTATE, "%s has gradient hooks or a bound gradient: convert first", entry.name.c_str());
    c10::NoGradGuard no_grad;
    for (const ct_module::Entry &entry : all.state) {
        at::Tensor &t = entry.tensor->t;
        at::Tensor converted = convert(t.detach());
        if (converted.is_same(t) || (converted.device() == t.device() && converted.scalar_type() == t.scalar_type() &&
                                     converted.data_ptr() == t.data_ptr() && converted.strides() == t.strides()))
            continue;
        t.mutable_grad().reset();
        t.set_data(converted);
    }
}

} // namespace

/* ---- building ---- */

ct_module *ct_nn_module(ct_forward_fn forward, void *user)
{
    CT_TRY { return new UserModule(forward, user); }
    CT_CATCH(nullptr)
}

void ct_module_free(ct_module *m)
{
    if (m && !m->parent)
        delete m;
}

ct_status ct_module_add(ct_module *m, const char *name, ct_module *child)
{
    if (!child) {
        const ct_status status = ct_last_status();
        if (status != CT_OK)
            return status;
    }
    CT_TRY
    {
        ct::need(child, "child");
        if (ct::need(m, "m").fixed())
            ct::fail(CT_ENOTSUP, "nothing can be added to this module");
        m->add_child(name ? name : std::to_string(m->children.size()), child);
        return CT_OK;
    }
    catch (...)
    {
        const ct_status status = ct::caught(__func__);
        if (child && child != m)
            ct_module_free(child);
        return status;
    }
}

ct_status ct_module_add_parameter(ct_module *m, const char *name, const ct_tensor *value, ct_tensor **borrowed)
{
    CT_TRY
    {
        if (ct::need(m, "m").fixed())
            ct::fail(CT_ENOTSUP, "nothing can be added to this module");
        const at::Tensor &t = ct::in(value, "value");
        ct::need(name, "name");
        m->add_parameter(name, t.detach(), t.is_floating_point());
        if (borrowed)
            *borrowed = m->parameters.back().handle.get();
        return CT_OK;
    }
    CT_CATCH(status)
}

ct_status ct_module_add_buffer(ct_module *m, const char *name, const ct_tensor *value, ct_tensor **borrowed)
{
    CT_TRY
    {
        if (ct::need(m, "m").fixed())
            ct::fail(CT_ENOTSUP, "nothing can be added to this module");
        const at::Tensor &t = ct::in(value, "value");
        ct::need(name, "name");
        m->add_buffer(name, t.detach());
        if (borrowed)
            *borrowed = m->buffers.back().handle.get();
        return CT_OK;
    }
    CT_CATCH(status)
}

/* ---- finding ---- */

ct_module *ct_module_child(const ct_module *m, const char *path)
{
    return path && *path ? const_cast<ct_module *>(descend(m, path, std::strlen(path))) : nullptr;
}

ct_tensor *ct_module_tensor(const ct_module *m, const char *path)
{
    if (!m || !path)
        return nullptr;
    CT_TRY
    {
        for (const ct_module::Entry &entry : m->listing().state)
            if (entry.name == path)
                return entry.tensor;
        return nullptr;
    }
    CT_CATCH(nullptr)
}

static size_t count_of(const ct_module *m, std::vector<ct_module::Entry> ct_module::Listing::*list)
{
    if (!m)
        return 0;
    CT_TRY { return (m->listing().*list).size(); }
    CT_CATCH(0)
}

static ct_status entry_at(const ct_module *m, std::vector<ct_module::Entry> ct_module::Listing::*list, size_t index,
                          const char **name, ct_tensor **tensor, const char *where)
{
    try {
        const auto &entries = ct::need(m, "m").listing().*list;
        if (index >= entries.size())
            ct::fail(CT_ENOENT, "index %zu of %zu", index, entries.size());
        if (name)
            *name = entries[index].name.c_str();
        if (tensor)
            *tensor = entries[index].tensor;
        return CT_OK;
    } catch (...) {
        return ct::caught(where);
    }
}

size_t ct_module_parameter_count(const ct_module *m) { return count_of(m, &ct_module::Listing::parameters); }
size_t ct_module_buffer_count(const ct_module *m) { return count_of(m, &ct_module::Listing::buffers); }
size_t ct_module_state_count(const ct_module *m) { return count_of(m, &ct_module::Listing::state); }

ct_status ct_module_parameter_at(const ct_module *m, size_t index, const char **name, ct_tensor **tensor)
{
    return entry_at(m, &ct_module::Listing::parameters, index, name, tensor, __func__);
}

ct_status ct_module_buffer_at(const ct_module *m, size_t index, const char **name, ct_tensor **tensor)
{
    return entry_at(m, &ct_module::Listing::buffers, index, name, tensor, __func__);
}

ct_status ct_module_state_at(const ct_module *m, size_t index, const char **name, ct_tensor **tensor)
{
    return entry_at(m, &ct_module::Listing::state, index, name, tensor, __func__);
}

/* ---- running ---- */

ct_status ct_module_forward(ct_module *m, ct_tensor *x, ct_tensor **out)
{
    CT_TRY
    {
        const at::Tensor &input = ct::in(x, "x");
        ct::need(out, "out");
        ct::give(out, ct::need(m, "m").forward(input));
        return CT_OK;
    }
    CT_CATCH(status)
}

ct_status ct_child_forward(ct_module *m, const char *path, ct_tensor *x, ct_tensor **out)
{
    CT_TRY
    {
        const at::Tensor &input = ct::in(x, "x");
        ct::need(out, "out");
        ct::need(m, "m");
        ct_module *child = ct_module_child(m, &ct::need(path, "path"));
        if (!child)
            ct::fail(CT_ENOENT, "there is no child \"%s\"", path);
        ct::give(out, child->forward(input));
        return CT_OK;
    }
    catch (...)
    {
        return ct::caught_in(path ? path : __func__);
    }
}

/* ---- the whole tree ---- */

ct_status ct_module_train(ct_module *m, bool training)
{
    CT_TRY
    {
        ct::need(m, "m").set_training(training);
        return CT_OK;
    }
    CT_CATCH(status)
}

bool ct_module_is_training(const ct_module *m) { return m && m->training; }

ct_status ct_module_to_device(ct_module *m, const char *device)
{
    CT_TRY
    {
        const c10::Device target = ct::device(device);
        for_each_tensor(m, [&](const at::Tensor &t) { return t.to(target); });
        return CT_OK;
    }
    CT_CATCH(status)
}

ct_status ct_module_to_dtype(ct_module *m, ct_dtype dtype)
{
    CT_TRY
    {
        const at::ScalarType target = ct::scalar_type(dtype);
        if (!at::isFloatingType(target))
            ct::fail(CT_EINVAL, "%s is not a floating dtype", ct_dtype_name(dtype));
        for_each_tensor(m, [&](const at::Tensor &t) { return t.is_floating_point() ? t.to(target) : t; });
        return CT_OK;
    }
    CT_CATCH(status)
}

ct_status ct_module_to_memory_format(ct_module *m, ct_memory_format format)
{
    CT_TRY
    {
        if (format != CT_CONTIGUOUS && format != CT_CHANNELS_LAST)
            ct::fail(CT_EINVAL, "%d is no memory format", static_cast<int>(format));
        const auto target = format == CT_CHANNELS_LAST ? at::MemoryFormat::ChannelsLast : at::MemoryFormat::Contiguous;
        for_each_tensor(m, [&](const at::Tensor &t) { return t.dim() == 4 ? t.to(t.scalar_type(), false, false, target) : t; });
        return CT_OK;
    }
    CT_CATCH(status)
}

ct_status ct_module_zero_grad(ct_module *m, bool set_to_none)
{
    CT_TRY
    {
        for (const ct_module::Entry &entry : ct::need(m, "m").listing().parameters)
            ct::zero_grad(entry.tensor->t, set_to_none);
        return CT_OK;
    }
    CT_CATCH(status)
}
