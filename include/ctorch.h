/*
 * ctorch: PyTorch's tensors, modules, gradients and optimisers for C, over libtorch.
 *
 * It stands alone: plain C11 (and C++17), nothing but this header and libctorch.
 *
 * Ownership. "New reference" means that the caller owns the handle and gives it back with ct_tensor_free. "Borrowed" means
 * that something else owns it; each function says for how long it is valid. While a scope is open on the calling thread
 * (ct_scope_begin), new references belong to the scope instead and end with it, unless ct_tensor_keep takes them out; a
 * module's forward function runs in a scope of its own, so a model's code frees nothing. Handles are references: two handles
 * may share one tensor's memory (views do).
 *
 * Errors. A function returns CT_OK or a negative code, and then ct_error_message() says what was wrong. Functions that build
 * modules return the module or NULL, with the code in ct_last_status(). Outputs are untouched on failure. Nothing prints,
 * exits or aborts. A NULL handle is CT_EINVAL; every *_free takes NULL.
 *
 * Threads. Functions may be called from any thread, but one handle by one thread at a time. Error message, scope, gradient
 * mode and autocast belong to the calling thread. Callbacks must return: no longjmp, and no C++ exceptions, out of them.
 *
 * Unless said otherwise, shapes are in PyTorch's order (images are N x C x H x W), sizes count elements, nbytes bytes.
 */
#ifndef CTORCH_H
#define CTORCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#if defined(__GNUC__)
#define CT_API __attribute__((visibility("default")))
#else
#define CT_API
#endif

#ifdef __cplusplus
extern "C" {
#endif

/* ---- status -------------------------------------------------------------------------------------------------------- */

typedef int ct_status;

#define CT_STATUS_MAP(XX)                                                                                                      \
    XX(OK, 0, "no error")                                                                                                      \
    XX(EINVAL, -1, "invalid argument")                                                                                         \
    XX(ENOMEM, -2, "out of memory")                                                                                            \
    XX(ETORCH, -3, "libtorch refused the call")                                                                                \
    XX(ENOENT, -4, "no such name or index")                                                                                    \
    XX(EEXIST, -5, "name is taken")                                                                                            \
    XX(ENOTSUP, -6, "not supported by this build, device or dtype")                                                            \
    XX(EIO, -7, "file cannot be read")                                                                                         \
    XX(ESTATE, -8, "not allowed now")                                                                                          \
    XX(EINTERNAL, -9, "internal error")

enum {
#define CT_STATUS_ENUM(name, code, text) CT_##name = (code),
    CT_STATUS_MAP(CT_STATUS_ENUM)
#undef CT_STATUS_ENUM
};

/* The code's name, as in "CT_EINVAL"; "CT_UNKNOWN" for a number that is none. Static memory. */
CT_API const char *ct_status_name(ct_status status);
/* The calling thread's latest error, "" if there was none. Borrowed: valid until the thread's next failing call. */
CT_API const char *ct_error_message(void);
/* The code of the calling thread's latest failing call; how a builder that returned NULL tells why. */
CT_API ct_status ct_last_status(void);

/* This wrapper's version and libtorch's, as in "0.1.0" and "1.13.0". Static memory. */
CT_API const char *ct_version(void);
CT_API const char *ct_torch_version(void);

/* Returns from the calling function with the status of a call that failed. For code that has nothing to free. */
#define CT_CHECK(call)                                                                                                         \
    do {                                                                                                                       \
        ct_status ct_check_status_ = (call);                                                                                   \
        if (ct_check_status_ != CT_OK)                                                                                         \
            return ct_check_status_;                                                                                           \
    } while (0)

/* ---- handles ------------------------------------------------------------------------------------------------------- */

typedef struct ct_tensor ct_tensor;
typedef struct ct_module ct_module;
typedef struct ct_optim ct_optim;
typedef struct ct_hook ct_hook;

typedef enum ct_dtype {
    CT_FLOAT32 = 1,
    CT_FLOAT64 = 2,
    CT_BFLOAT16 = 3,
    CT_INT32 = 4,
    CT_INT64 = 5,
    CT_UINT8 = 6,
    CT_BOOL = 7
} ct_dtype;

typedef enum ct_memory_format { CT_CONTIGUOUS = 0, CT_CHANNELS_LAST = 1 } ct_memory_format;

/* Bytes per element, 0 for a number that is no dtype. */
CT_API size_t ct_dtype_size(ct_dtype dtype);
/* As in "float32"; "unknown" for a number that is none. Static memory. */
CT_API const char *ct_dtype_name(ct_dtype dtype);

/* A shape as two arguments (C only): ct_tensor_zeros(CT_SHAPE(64, 10), CT_FLOAT32, NULL, &t). */
#define CT_SHAPE(...) (const int64_t[]){__VA_ARGS__}, sizeof((const int64_t[]){__VA_ARGS__}) / sizeof(int64_t)

/* ---- scopes: who frees intermediate results ------------------------------------------------------------------------ */

/*
 * Opens a scope on the calling thread; scopes nest. Tensors handed out by this thread until the matching ct_scope_end belong
 * to the innermost scope. A tensor of a scope may be freed early, by the same thread. No scope is open in a gradient hook.
 */
CT_API ct_status ct_scope_begin(void);
/* Frees what belongs to the innermost scope. CT_ESTATE if none is open. */
CT_API ct_status ct_scope_end(void);
/* Takes a tensor out of its scope: from now on the caller frees it. Nothing happens if it is in none. */
CT_API ct_status ct_tensor_keep(ct_tensor *tensor);

/* ---- tensors: making ----------------------------------------------------------------------------------------------- */

/* All return a new reference in *out. sizes holds ndim extents >= 0, ndim may be 0 (a scalar; sizes may then be NULL).
 * device is "cpu" (also meant by NULL), "cuda" or "cuda:1". */
CT_API ct_status ct_tensor_empty(const int64_t *sizes, size_t ndim, ct_dtype dtype, const char *device, ct_tensor **out);
CT_API ct_status ct_tensor_zeros(const int64_t *sizes, size_t ndim, ct_dtype dtype, const char *device, ct_tensor **out);
CT_API ct_status ct_tensor_ones(const int64_t *sizes, size_t ndim, ct_dtype dtype, const char *device, ct_tensor **out);
CT_API ct_status ct_tensor_full(const int64_t *sizes, size_t ndim, double value, ct_dtype dtype, const char *device,
                                ct_tensor **out);
/* Uniform in [0, 1) and standard normal; floating dtypes only. Drawn from the device's default generator. */
CT_API ct_status ct_tensor_rand(const int64_t *sizes, size_t ndim, ct_dtype dtype, const char *device, ct_tensor **out);
CT_API ct_status ct_tensor_randn(const int64_t *sizes, size_t ndim, ct_dtype dtype, const char *device, ct_tensor **out);
/* Integers uniform in [low, high). */
CT_API ct_status ct_tensor_randint(int64_t low, int64_t high, const int64_t *sizes, size_t ndim, ct_dtype dtype,
                                   const char *device, ct_tensor **out);
/* 0, 1, ..., end - 1, shape {end}. */
CT_API ct_status ct_tensor_arange(int64_t end, ct_dtype dtype, const char *device, ct_tensor **out);

/* A CPU tensor holding a copy of nbytes at data, row-major; nbytes must be what shape and dtype need. */
CT_API ct_status ct_tensor_from_memory(const void *data, size_t nbytes, const int64_t *sizes, size_t ndim, ct_dtype dtype,
                                       ct_tensor **out);
/*
 * A CPU tensor over the caller's memory, row-major, not copied. data stays valid until deleter(data, user) is called, which
 * happens once, on whichever thread drops the last reference (views included). deleter may be NULL. On failure the deleter is
 * not called.
 */
CT_API ct_status ct_tensor_borrow_memory(void *data, const int64_t *sizes, size_t ndim, ct_dtype dtype,
                                         void (*deleter)(void *data, void *user), void *user, ct_tensor **out);
/*
 * A tensor over caller's memory with the shape, strides, dtype and device of `like` (which must be dense, in any order of
 * dimensions): how a gradient lives in a bucket. data must hold ct_tensor_nbytes(like) bytes, on like's device, aligned to
 * the element, and outlive every reference.
 */
CT_API ct_status ct_tensor_borrow_like(const ct_tensor *like, void *data, ct_tensor **out);

/* The same without a deleter on any device: data is an address on it, and outlives every reference. */
CT_API ct_status ct_tensor_borrow_on(void *data, const int64_t *sizes, size_t ndim, ct_dtype dtype, const char *device,
                                     ct_tensor **out);
/* The tensor's elements are those of `data` from now on (same shape, dtype, device), in data's memory; handles and the
 * autograd graph's leaf stay what they are. Its gradient is left alone. Not while a graph that has used it is alive. */
CT_API ct_status ct_tensor_set_data(ct_tensor *tensor, const ct_tensor *data);

/* New memory with the same contents, shape and strides; part of the autograd graph. */
CT_API ct_status ct_tensor_clone(const ct_tensor *tensor, ct_tensor **out);
/* Another handle on the same tensor. */
CT_API ct_status ct_tensor_ref(const ct_tensor *tensor, ct_tensor **out);
/* New memory, zeros or left as it is, of the same shape, strides, dtype and device. Not part of the autograd graph. */
CT_API ct_status ct_tensor_zeros_like(const ct_tensor *tensor, ct_tensor **out);
CT_API ct_status ct_tensor_empty_like(const ct_tensor *tensor, ct_tensor **out);
/* Gives up one reference. NULL is fine. Not for borrowed handles. */
CT_API void ct_tensor_free(ct_tensor *tensor);

/* ---- tensors: asking ----------------------------------------------------------------------------------------------- */

/* These cannot fail on a valid handle. On NULL: -1, NULL, or 0 as the type allows, with the error set. */
CT_API int64_t ct_tensor_ndim(const ct_tensor *tensor);
/* Extent and stride (in elements) of dimension dim, negative dims counted from the end; -1 if there is no such dimension. */
CT_API int64_t ct_tensor_size(const ct_tensor *tensor, int64_t dim);
CT_API int64_t ct_tensor_stride(const ct_tensor *tensor, int64_t dim);
/* Elements in all, and numel times the element's size in bytes. */
CT_API int64_t ct_tensor_numel(const ct_tensor *tensor);
CT_API size_t ct_tensor_nbytes(const ct_tensor *tensor);
/* 0 when it is none of ct_dtype (a float16 tensor out of a script file, say). */
CT_API ct_dtype ct_tensor_dtype(const ct_tensor *tensor);
/* As in "cpu", "cuda:0". Borrowed: valid until the calling thread's next call of this function. */
CT_API const char *ct_tensor_device(const ct_tensor *tensor);
CT_API bool ct_tensor_is_contiguous(const ct_tensor *tensor, ct_memory_format format);
/* Whether the elements fill their memory without gaps, in whatever order of dimensions. */
CT_API bool ct_tensor_is_dense(const ct_tensor *tensor);
/* Address of the first element, on the tensor's device. Borrowed: valid while the tensor's memory is. */
CT_API void *ct_tensor_data(const ct_tensor *tensor);

/* The value of a tensor of one element, converted. Waits for the device. */
CT_API ct_status ct_tensor_item(const ct_tensor *tensor, double *out);
CT_API ct_status ct_tensor_item_int64(const ct_tensor *tensor, int64_t *out);
/* All elements in row-major order to and from memory, whatever the tensor's strides and device. nbytes must be
 * ct_tensor_nbytes. Copying in does not touch the autograd graph and keeps the tensor's memory (so every view sees it). */
CT_API ct_status ct_tensor_copy_to_memory(const ct_tensor *tensor, void *data, size_t nbytes);
CT_API ct_status ct_tensor_copy_from_memory(ct_tensor *tensor, const void *data, size_t nbytes);

/* ---- tensors: views (new references that share memory, differentiable) --------------------------------------------- */

/* The same elements in another shape; one extent may be -1. view fails where strides forbid it, reshape copies then. */
CT_API ct_status ct_view(const ct_tensor *x, const int64_t *sizes, size_t ndim, ct_tensor **out);
CT_API ct_status ct_reshape(const ct_tensor *x, const int64_t *sizes, size_t ndim, ct_tensor **out);
/* Dimensions start_dim to end_dim (inclusive, may be negative) made one. Copies only if it must. */
CT_API ct_status ct_flatten(const ct_tensor *x, int64_t start_dim, int64_t end_dim, ct_tensor **out);
/* Index `index` of dimension dim, which goes away. */
CT_API ct_status ct_select(const ct_tensor *x, int64_t dim, int64_t index, ct_tensor **out);
/* Elements start, start + step, ... below end of dimension dim; ends past the extent are cut to it, negative count from it. */
CT_API ct_status ct_slice(const ct_tensor *x, int64_t dim, int64_t start, int64_t end, int64_t step, ct_tensor **out);
/* `length` elements of dimension dim from start; out of range is an error. */
CT_API ct_status ct_narrow(const ct_tensor *x, int64_t dim, int64_t start, int64_t length, ct_tensor **out);
CT_API ct_status ct_transpose(const ct_tensor *x, int64_t dim0, int64_t dim1, ct_tensor **out);
/* Dimension i of the result is dims[i] of x; ndim must be x's. */
CT_API ct_status ct_permute(const ct_tensor *x, const int64_t *dims, size_t ndim, ct_tensor **out);

/* ---- tensors: converting and writing ------------------------------------------------------------------------------- */

/* The same tensor (another reference) if it is so already, else a converted copy. New reference, differentiable. */
CT_API ct_status ct_to_dtype(const ct_tensor *x, ct_dtype dtype, ct_tensor **out);
CT_API ct_status ct_to_device(const ct_tensor *x, const char *device, ct_tensor **out);
/* CT_CHANNELS_LAST needs four dimensions. */
CT_API ct_status ct_contiguous(const ct_tensor *x, ct_memory_format format, ct_tensor **out);
/* In place. copy_ converts dtype and device and broadcasts src. */
CT_API ct_status ct_copy_(ct_tensor *dst, const ct_tensor *src);
CT_API ct_status ct_fill_(ct_tensor *x, double value);
CT_API ct_status ct_zero_(ct_tensor *x);
/* In place, from the default generator: uniform in [from, to), and normal. */
CT_API ct_status ct_uniform_(ct_tensor *x, double from, double to);
CT_API ct_status ct_normal_(ct_tensor *x, double mean, double std);

/* ---- operations (new references, differentiable where PyTorch's are) ----------------------------------------------- */

/* Elementwise with broadcasting; integers and floats mix as in PyTorch. The _ forms write into a. */
CT_API ct_status ct_add(const ct_tensor *a, const ct_tensor *b, ct_tensor **out);
CT_API ct_status ct_sub(const ct_tensor *a, const ct_tensor *b, ct_tensor **out);
CT_API ct_status ct_mul(const ct_tensor *a, const ct_tensor *b, ct_tensor **out);
CT_API ct_status ct_div(const ct_tensor *a, const ct_tensor *b, ct_tensor **out);
CT_API ct_status ct_add_(ct_tensor *a, const ct_tensor *b);
CT_API ct_status ct_sub_(ct_tensor *a, const ct_tensor *b);
CT_API ct_status ct_mul_(ct_tensor *a, const ct_tensor *b);
CT_API ct_status ct_div_(ct_tensor *a, const ct_tensor *b);
CT_API ct_status ct_add_scalar(const ct_tensor *a, double b, ct_tensor **out);
CT_API ct_status ct_mul_scalar(const ct_tensor *a, double b, ct_tensor **out);
CT_API ct_status ct_add_scalar_(ct_tensor *a, double b);
CT_API ct_status ct_mul_scalar_(ct_tensor *a, double b);
/* a += alpha * b */
CT_API ct_status ct_add_scaled_(ct_tensor *a, const ct_tensor *b, double alpha);

CT_API ct_status ct_relu(const ct_tensor *x, ct_tensor **out);
/* In place. What produced x must not need it for its own gradient (conv and batch norm do not). */
CT_API ct_status ct_relu_(ct_tensor *x);
/* The exact (erf) form. */
CT_API ct_status ct_gelu(const ct_tensor *x, ct_tensor **out);
CT_API ct_status ct_tanh(const ct_tensor *x, ct_tensor **out);
CT_API ct_status ct_sigmoid(const ct_tensor *x, ct_tensor **out);
CT_API ct_status ct_sqrt(const ct_tensor *x, ct_tensor **out);
CT_API ct_status ct_exp(const ct_tensor *x, ct_tensor **out);
CT_API ct_status ct_log(const ct_tensor *x, ct_tensor **out);
CT_API ct_status ct_softmax(const ct_tensor *x, int64_t dim, ct_tensor **out);
CT_API ct_status ct_log_softmax(const ct_tensor *x, int64_t dim, ct_tensor **out);
/* Zeroes elements with probability p and scales the rest by 1/(1-p) when training, else x itself. */
CT_API ct_status ct_dropout(const ct_tensor *x, double p, bool training, ct_tensor **out);

/* Matrix product as in PyTorch: 1-d are vectors, leading dimensions are batches. */
CT_API ct_status ct_matmul(const ct_tensor *a, const ct_tensor *b, ct_tensor **out);
/* All elements to a scalar. */
CT_API ct_status ct_sum(const ct_tensor *x, ct_tensor **out);
CT_API ct_status ct_mean(const ct_tensor *x, ct_tensor **out);
/* Over one dimension, which stays with extent 1 if keepdim. */
CT_API ct_status ct_sum_dim(const ct_tensor *x, int64_t dim, bool keepdim, ct_tensor **out);
CT_API ct_status ct_mean_dim(const ct_tensor *x, int64_t dim, bool keepdim, ct_tensor **out);
/* Largest values over dim; and where they are (int64). */
CT_API ct_status ct_max_dim(const ct_tensor *x, int64_t dim, bool keepdim, ct_tensor **out);
CT_API ct_status ct_argmax(const ct_tensor *x, int64_t dim, bool keepdim, ct_tensor **out);
/* Elementwise equality, CT_BOOL. */
CT_API ct_status ct_eq(const ct_tensor *a, const ct_tensor *b, ct_tensor **out);
/* Along an existing dimension, and along a new one. count >= 1. */
CT_API ct_status ct_cat(const ct_tensor *const *tensors, size_t count, int64_t dim, ct_tensor **out);
CT_API ct_status ct_stack(const ct_tensor *const *tensors, size_t count, int64_t dim, ct_tensor **out);
/* Adds pads[0] before and pads[1] after the last dimension, pads[2], pads[3] to the one before it, and so on. npads is even. */
CT_API ct_status ct_pad(const ct_tensor *x, const int64_t *pads, size_t npads, double value, ct_tensor **out);

/* x: (..., in), weight: out x in, bias: out or NULL; result (..., out). */
CT_API ct_status ct_linear(const ct_tensor *x, const ct_tensor *weight, const ct_tensor *bias, ct_tensor **out);
/* x: N x C x H x W, weight: O x C/groups x kH x kW, bias: O or NULL. stride, padding, dilation hold for both axes. */
CT_API ct_status ct_conv2d(const ct_tensor *x, const ct_tensor *weight, const ct_tensor *bias, int64_t stride, int64_t padding,
                           int64_t dilation, int64_t groups, ct_tensor **out);
/*
 * x: N x C x ...; weight, bias, running_mean, running_var: C, each may be NULL. When training, batch statistics are used and
 * the running ones moved: running = (1 - momentum) * running + momentum * batch.
 */
CT_API ct_status ct_batch_norm(const ct_tensor *x, const ct_tensor *weight, const ct_tensor *bias, ct_tensor *running_mean,
                               ct_tensor *running_var, bool training, double momentum, double eps, ct_tensor **out);
/* Over the last ndim dimensions, whose extents are sizes; weight and bias of that shape, or NULL. */
CT_API ct_status ct_layer_norm(const ct_tensor *x, const int64_t *sizes, size_t ndim, const ct_tensor *weight,
                               const ct_tensor *bias, double eps, ct_tensor **out);
/* indices: any shape, int32 or int64; weight: rows x width; result: shape of indices x width. */
CT_API ct_status ct_embedding(const ct_tensor *indices, const ct_tensor *weight, ct_tensor **out);
/* x: N x C x H x W, square windows. stride 0 means the window's. */
CT_API ct_status ct_max_pool2d(const ct_tensor *x, int64_t kernel, int64_t stride, int64_t padding, ct_tensor **out);
CT_API ct_status ct_avg_pool2d(const ct_tensor *x, int64_t kernel, int64_t stride, int64_t padding, ct_tensor **out);
/* Result: N x C x height x width. */
CT_API ct_status ct_adaptive_avg_pool2d(const ct_tensor *x, int64_t height, int64_t width, ct_tensor **out);
/* Mean over the batch; logits: N x classes (or N x classes x ...), target: int64 classes, N (x ...).
 * label_smoothing in [0, 1]. */
CT_API ct_status ct_cross_entropy(const ct_tensor *logits, const ct_tensor *target, double label_smoothing, ct_tensor **out);
/* Mean of squared differences; same shapes. */
CT_API ct_status ct_mse_loss(const ct_tensor *x, const ct_tensor *target, ct_tensor **out);

/* ---- gradients ----------------------------------------------------------------------------------------------------- */

CT_API ct_status ct_tensor_set_requires_grad(ct_tensor *tensor, bool requires_grad);
CT_API bool ct_tensor_requires_grad(const ct_tensor *tensor);
/* Shares memory, outside the graph. New reference. */
CT_API ct_status ct_detach(const ct_tensor *x, ct_tensor **out);
/*
 * Gradients of `loss` (one element) times `scale` are added to the .grad of the leaves it depends on. The graph is freed. If
 * a gradient hook fails, its status is returned and the gradients are unspecified. Hooks run before this returns.
 */
CT_API ct_status ct_backward(const ct_tensor *loss, double scale);
/* The same from `tensor` of any shape with the gradient `grad` of that shape. */
CT_API ct_status ct_backward_from(const ct_tensor *tensor, const ct_tensor *grad);
/* The gradient as a new reference; *out is NULL (and the status CT_OK) while there is none. */
CT_API ct_status ct_tensor_grad(const ct_tensor *tensor, ct_tensor **out);
/*
 * Makes `grad` (same shape, dtype, device) the gradient; NULL: none. A backward pass adds into a gradient that is there, in
 * place, so it may be a view of a larger buffer. See ct_tensor_bind_grad for the cheaper way to the same end.
 */
CT_API ct_status ct_tensor_set_grad(ct_tensor *tensor, const ct_tensor *grad);
/*
 * From now on the gradient of the leaf `param` is kept in `view` (same shape, strides, dtype, device): the first gradient after
 * a zero_grad with set_to_none is written into it (view need not be zeroed, one pass less than adding), later ones are added.
 * ct_tensor_grad then gives `view`, or NULL when no gradient has come since. Holds until bound anew; view NULL unbinds.
 * Hooks see the gradient in its place.
 */
CT_API ct_status ct_tensor_bind_grad(ct_tensor *param, const ct_tensor *view);
/* Forgets the gradient (set_to_none; what PyTorch 2 does by default), or fills it with zeros. */
CT_API ct_status ct_tensor_zero_grad(ct_tensor *param, bool set_to_none);

/* Recording of the graph off and on again on this thread, in pairs, nested. CT_ESTATE on a pop too many. */
CT_API ct_status ct_no_grad_push(void);
CT_API ct_status ct_no_grad_pop(void);
CT_API bool ct_grad_enabled(void);

/*
 * Called when a backward pass has accumulated the gradient of `param`; grad is borrowed for the call. Runs on the autograd
 * thread: on CPU the caller of ct_backward, on CUDA a thread of the device. A return other than CT_OK ends the pass, and
 * ct_backward returns it as it is.
 */
typedef ct_status (*ct_grad_hook_fn)(const ct_tensor *param, ct_tensor *grad, void *user);
/* Hooks of one parameter run in order of their making. *out: free with ct_hook_free, which ends the hook. */
CT_API ct_status ct_grad_hook(const ct_tensor *param, ct_grad_hook_fn fn, void *user, ct_hook **out);
/* Not from inside a hook, and not while a backward pass runs. NULL is fine; param may be gone already. */
CT_API void ct_hook_free(ct_hook *hook);

/* ---- modules ------------------------------------------------------------------------------------------------------- */

/*
 * Computes *out, a tensor made in the call or x itself, from x. Runs in a scope of its own: what it makes is freed when it
 * returns, *out goes to the caller of ct_module_forward. m is borrowed.
 */
typedef ct_status (*ct_forward_fn)(ct_module *m, ct_tensor *x, ct_tensor **out, void *user);

/* A module of the user's making. forward may be NULL for a mere container; user is handed to it. New module or NULL. */
CT_API ct_module *ct_nn_module(ct_forward_fn forward, void *user);
/* Frees the module with its parameters and children. Not for a module that has been added to another. NULL is fine. */
CT_API void ct_module_free(ct_module *m);

/*
 * Makes `child` part of m under `name` (no dots, not taken; NULL: its number, as in a sequential). Takes the child over in
 * any case: on failure it is freed. A NULL child is an error of its own: the status and message are those of the builder that
 * returned it, so ct_module_add(m, "conv1", ct_nn_conv2d(...)) needs one check.
 */
CT_API ct_status ct_module_add(ct_module *m, const char *name, ct_module *child);
/* A parameter (requires gradients) or buffer that shares value's memory. *borrowed (if not NULL) is valid while m is. */
CT_API ct_status ct_module_add_parameter(ct_module *m, const char *name, const ct_tensor *value, ct_tensor **borrowed);
CT_API ct_status ct_module_add_buffer(ct_module *m, const char *name, const ct_tensor *value, ct_tensor **borrowed);

/* The module or tensor under a dotted path ("layer1.0.conv1.weight"); NULL if there is none. Borrowed, valid while m is. */
CT_API ct_module *ct_module_child(const ct_module *m, const char *path);
CT_API ct_tensor *ct_module_tensor(const ct_module *m, const char *path);

/* *out: new reference. */
CT_API ct_status ct_module_forward(ct_module *m, ct_tensor *x, ct_tensor **out);
/* Forward of the child under a dotted path. */
CT_API ct_status ct_child_forward(ct_module *m, const char *path, ct_tensor *x, ct_tensor **out);

/*
 * The module's tensors, its children's included, in the order of PyTorch's parameters(), buffers() and state_dict()
 * (a module's parameters, its buffers, then its children). name and tensor may be NULL; they are borrowed and valid until a
 * tensor or child is added to m, or m is freed. CT_ENOENT past the end. Counts are 0 for NULL.
 */
CT_API size_t ct_module_parameter_count(const ct_module *m);
CT_API ct_status ct_module_parameter_at(const ct_module *m, size_t index, const char **name, ct_tensor **tensor);
CT_API size_t ct_module_buffer_count(const ct_module *m);
CT_API ct_status ct_module_buffer_at(const ct_module *m, size_t index, const char **name, ct_tensor **tensor);
CT_API size_t ct_module_state_count(const ct_module *m);
CT_API ct_status ct_module_state_at(const ct_module *m, size_t index, const char **name, ct_tensor **tensor);

/* Training mode (the mode of a new module) or evaluation mode, for m and its children. */
CT_API ct_status ct_module_train(ct_module *m, bool training);
CT_API bool ct_module_is_training(const ct_module *m);
/* Converts in place; handles stay valid, gradients are dropped. dtype: floating tensors only. channels_last: 4-d ones only. */
CT_API ct_status ct_module_to_device(ct_module *m, const char *device);
CT_API ct_status ct_module_to_dtype(ct_module *m, ct_dtype dtype);
CT_API ct_status ct_module_to_memory_format(ct_module *m, ct_memory_format format);
/* ct_tensor_zero_grad on every parameter. */
CT_API ct_status ct_module_zero_grad(ct_module *m, bool set_to_none);

/* Reads a TorchScript file onto a device. New module, or NULL (CT_EIO: no such file; CT_ETORCH: not TorchScript). Its forward
 * takes one tensor and gives one. Its parameters are trained like any other's; nothing can be added to it. */
CT_API ct_module *ct_module_load_script(const char *path, const char *device);

/* ---- layers: new modules or NULL, float32 on the CPU, initialised like torch.nn's from the default generator ------- */

typedef struct ct_conv2d_options {
    int64_t stride;   /* 0 means 1 */
    int64_t padding;  /* both sides */
    int64_t dilation; /* 0 means 1 */
    int64_t groups;   /* 0 means 1 */
    bool no_bias;
    int64_t reserved[4]; /* zero */
} ct_conv2d_options;

/* Square kernels. options NULL means all zero. weight: out x in/groups x kernel x kernel, bias: out. */
CT_API ct_module *ct_nn_conv2d(int64_t in_channels, int64_t out_channels, int64_t kernel, const ct_conv2d_options *options);
/* weight: out x in, bias: out. */
CT_API ct_module *ct_nn_linear(int64_t in_features, int64_t out_features, bool bias);
/* weight, bias, running_mean, running_var: channels; num_batches_tracked: int64 scalar. eps 1e-5, momentum 0.1. */
CT_API ct_module *ct_nn_batch_norm2d(int64_t channels);
/* Over the last ndim dimensions; eps 1e-5. */
CT_API ct_module *ct_nn_layer_norm(const int64_t *sizes, size_t ndim);
/* weight: rows x width, standard normal. */
CT_API ct_module *ct_nn_embedding(int64_t rows, int64_t width);
/* A sequential runs it in place where that is safe. */
CT_API ct_module *ct_nn_relu(void);
CT_API ct_module *ct_nn_gelu(void);
CT_API ct_module *ct_nn_tanh(void);
CT_API ct_module *ct_nn_sigmoid(void);
CT_API ct_module *ct_nn_dropout(double p);
CT_API ct_module *ct_nn_flatten(void); /* all but the first dimension */
CT_API ct_module *ct_nn_max_pool2d(int64_t kernel, int64_t stride, int64_t padding);
CT_API ct_module *ct_nn_avg_pool2d(int64_t kernel, int64_t stride, int64_t padding);
CT_API ct_module *ct_nn_adaptive_avg_pool2d(int64_t height, int64_t width);
/* Runs its children in turn. modules (count may be 0) become children "0", "1", ...; all are taken over in any case, and
 * one NULL among them makes the result NULL. */
CT_API ct_module *ct_nn_sequential(ct_module *const *modules, size_t count);
/* CT_SEQUENTIAL(ct_nn_linear(784, 128, true), ct_nn_relu(), ct_nn_linear(128, 10, true)) (C only). C leaves open in which order
 * the layers are made (gcc and clang take them from left to right); ct_module_add one by one fixes it. */
#define CT_SEQUENTIAL(...)                                                                                                     \
    ct_nn_sequential((ct_module *[]){__VA_ARGS__}, sizeof((ct_module *[]){__VA_ARGS__}) / sizeof(ct_module *))

/* torch.nn.init's kaiming_uniform_(a) and kaiming_normal_(nonlinearity="relu"), on a weight of two or more dimensions. */
CT_API ct_status ct_init_kaiming_uniform(ct_tensor *weight, double a);
CT_API ct_status ct_init_kaiming_normal(ct_tensor *weight, bool fan_out);

/* ---- optimisers ---------------------------------------------------------------------------------------------------- */

/* PyTorch's algorithms and numerics. Zero means the default in every field; a negative weight_decay means none. */
typedef struct ct_sgd_options {
    double lr; /* 1e-3 */
    double momentum;
    double dampening;
    double weight_decay;
    bool nesterov;
    int64_t reserved[4];
} ct_sgd_options;

typedef struct ct_adam_options {
    double lr;           /* 1e-3 */
    double beta1, beta2; /* 0.9, 0.999 */
    double eps;          /* 1e-8 */
    double weight_decay; /* Adam: 0, AdamW: 1e-2 */
    int64_t reserved[4];
} ct_adam_options;

/*
 * An optimiser over the parameters that m has now; m must outlive it. The state exists (as zeros) from the start. options may
 * be NULL. Free with ct_optim_free. CT_EINVAL for values that PyTorch refuses.
 */
CT_API ct_status ct_sgd_new(const ct_module *m, const ct_sgd_options *options, ct_optim **out);
CT_API ct_status ct_adam_new(const ct_module *m, const ct_adam_options *options, ct_optim **out);
CT_API ct_status ct_adamw_new(const ct_module *m, const ct_adam_options *options, ct_optim **out);
CT_API void ct_optim_free(ct_optim *optim);
/* Updates every parameter that has a gradient. */
CT_API ct_status ct_optim_step(ct_optim *optim);
CT_API ct_status ct_optim_zero_grad(ct_optim *optim, bool set_to_none);
/* The learning rate may be set at any time, 0 included. ct_optim_lr is -1 for NULL. */
CT_API ct_status ct_optim_set_lr(ct_optim *optim, double lr);
CT_API double ct_optim_lr(const ct_optim *optim);
/*
 * The state, for checkpoints: "momentum_buffer.<parameter>", "exp_avg.<parameter>", "exp_avg_sq.<parameter>", and "step", the
 * steps each parameter has had (int64, one per parameter). Borrowed, valid while optim is. To restore, copy into them. The
 * learning rate is not part of it. CT_ENOENT past the end.
 */
CT_API size_t ct_optim_state_count(const ct_optim *optim);
CT_API ct_status ct_optim_state_at(const ct_optim *optim, size_t index, const char **name, ct_tensor **tensor);

/* Learning rates as functions of the step (0 is the first), for ct_optim_set_lr. Steps past the end give the last value. */
/* base * gamma^(step / step_size) */
CT_API double ct_lr_step(double base, int64_t step, int64_t step_size, double gamma);
/* base * gamma^(number of milestones <= step); milestones ascend. */
CT_API double ct_lr_multi_step(double base, int64_t step, const int64_t *milestones, size_t count, double gamma);
/* From base (step 0) along a straight line to base * end_factor at step total. */
CT_API double ct_lr_linear(double base, int64_t step, int64_t total, double end_factor);
/* A straight line from base / warmup up to base over `warmup` steps, then half a cosine down to lr_min at step total. */
CT_API double ct_lr_cosine(double base, int64_t step, int64_t warmup, int64_t total, double lr_min);
/* PyTorch's OneCycleLR with its defaults (cosine, div_factor 25, final_div_factor 1e4), peak at pct_start (0 means 0.3). */
CT_API double ct_lr_one_cycle(double lr_max, int64_t step, int64_t total, double pct_start);

/* ---- runtime ------------------------------------------------------------------------------------------------------- */

/* Seeds the default generators of all devices. */
CT_API ct_status ct_manual_seed(uint64_t seed);
/* The CPU generator's state as bytes. get: nbytes must be at least ct_rng_state_size(). */
CT_API size_t ct_rng_state_size(void);
CT_API ct_status ct_rng_get_state(void *state, size_t nbytes);
CT_API ct_status ct_rng_set_state(const void *state, size_t nbytes);

/* Threads of one operation, and of operations beside each other (that one only before it is first used, else CT_ETORCH).
 * A process that has used more than one must not fork workers afterwards. */
CT_API ct_status ct_set_num_threads(int count);
CT_API int ct_get_num_threads(void);
CT_API ct_status ct_set_num_interop_threads(int count);

/* Whether there is a CUDA device; may initialise CUDA, so not in a process that forks workers. */
CT_API bool ct_cuda_available(void);
CT_API int ct_cuda_device_count(void);
/* Whether this CPU does bfloat16 convolutions natively (oneDNN: AVX-512 BW, VL and DQ, or AMX). If not, they are made in float32 from
 * rounded inputs and rounded again, and gain nothing over float32. */
CT_API bool ct_has_fast_bf16(void);

/* Between push and pop, in pairs and nested, this thread's operations on "cpu" or "cuda" choose dtype (CT_BFLOAT16) where
 * that is safe. For the forward pass and the loss; not around ct_backward. */
CT_API ct_status ct_autocast_push(const char *device, ct_dtype dtype);
CT_API ct_status ct_autocast_pop(void);

/*
 * Freed memory of CPU tensors is kept in the process, in huge pages where the kernel grants them, instead of going back to
 * the kernel after every step, which would be paid for in page faults. On from the loading of the library, unless the
 * environment has CTORCH_MEMORY=system or the build has the address sanitizer. on = false takes libtorch's own allocator from
 * then on, restores malloc's defaults, and gives free memory back to the kernel; tensors stay valid. Affects the whole
 * process (malloc's thresholds too), so not while other threads make tensors. Safe before and after fork.
 */
CT_API ct_status ct_memory_tune(bool on);

#ifdef __cplusplus
}
#endif

#endif
