/* What the files of ctorch share: handles, errors and scopes. */
#ifndef CTORCH_INTERNAL_H
#define CTORCH_INTERNAL_H

#include <ctorch.h>

#include <ATen/core/Tensor.h>
#include <torch/version.h>

#include <exception>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#define CT_TORCH_AT_LEAST(major, minor)                                                                                        \
    (TORCH_VERSION_MAJOR > (major) || (TORCH_VERSION_MAJOR == (major) && TORCH_VERSION_MINOR >= (minor)))

struct ct_tensor {
    at::Tensor t;
    int64_t slot = -1; /* place in the thread's list of scoped tensors, -1: none */
};

namespace ct {

/* An error of our own; carried through libtorch's autograd engine too. */
struct Error : std::exception {
    ct_status status;
    std::string message;
    Error(ct_status s, std::string m) : status(s), message(std::move(m)) {}
    const char *what() const noexcept override { return message.c_str(); }
};

/* What a user's callback returned. The message is the one it left, not to be prefixed as if it were ours. */
struct CallbackError : Error {
    using Error::Error;
};

[[noreturn]] void fail(ct_status status, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Files the exception being handled as the thread's latest error. `where` is the entry's name, put before the message. */
ct_status caught(const char *where) noexcept;
/* The same with the name of the part of a model that failed: "layer1: conv2: Given groups=1, weight of size ...". */
ct_status caught_in(const char *part) noexcept;

/* Calls a user's callback; a status other than 0 is thrown as a CallbackError. */
template <class F> void call_user(const char *what, F &&callback);

#define CT_TRY try
#define CT_CATCH(result)                                                                                                       \
    catch (...)                                                                                                                \
    {                                                                                                                          \
        [[maybe_unused]] const ct_status status = ct::caught(__func__);                                                        \
        return result;                                                                                                         \
    }

void clear_status() noexcept;
[[noreturn]] void throw_callback_status(const char *what, ct_status status);

template <class F> void call_user(const char *what, F &&callback)
{
    clear_status();
    const ct_status status = callback();
    if (status != CT_OK)
        throw_callback_status(what, status);
}

/* ---- arguments ---- */

template <class T> T &need(T *argument, const char *name)
{
    if (!argument)
        fail(CT_EINVAL, "%s is NULL", name);
    return *argument;
}

inline const at::Tensor &in(const ct_tensor *tensor, const char *name) { return need(tensor, name).t; }
inline at::Tensor &in(ct_tensor *tensor, const char *name) { return need(tensor, name).t; }
/* NULL stands for "none": an undefined tensor. */
inline at::Tensor optional(const ct_tensor *tensor) { return tensor ? tensor->t : at::Tensor(); }

at::IntArrayRef shape(const int64_t *sizes, size_t ndim);
at::ScalarType scalar_type(ct_dtype dtype);
ct_dtype dtype_of(const at::Tensor &tensor) noexcept;
c10::Device device(const char *name);

/* ---- handles and scopes ---- */

/* A new handle, in the thread's scope if one is open. */
ct_tensor *make_handle(at::Tensor &&tensor);

inline void give(ct_tensor **out, at::Tensor tensor)
{
    need(out, "out");
    *out = make_handle(std::move(tensor));
}

/* A frame in which handles are collected (open) or left alone (closed); ends with the C++ scope. */
class Scope {
  public:
    explicit Scope(bool open);
    ~Scope();
    Scope(const Scope &) = delete;
    Scope &operator=(const Scope &) = delete;

  private:
    size_t depth_;
};

/* In the module's file: is there a hook or a bound gradient on this leaf? Drops them. */
bool has_grad_hooks(const at::Tensor &param);
void drop_grad_hooks(const at::Tensor &param) noexcept;
void zero_grad(const at::Tensor &param, bool set_to_none);

} // namespace ct

#endif
