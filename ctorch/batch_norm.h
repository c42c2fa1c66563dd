/* Batch normalisation while training, in fewer passes than ATen's. */
#ifndef CTORCH_BATCH_NORM_H
#define CTORCH_BATCH_NORM_H

#include "internal.h"

namespace ct {

/*
 * at::batch_norm by whichever way is faster: our kernels for dense float32 in training on the CPU with one or two threads,
 * ATen's else. Undefined tensors stand for none.
 */
at::Tensor batch_norm(const at::Tensor &x, const at::Tensor &weight, const at::Tensor &bias, const at::Tensor &running_mean,
                      const at::Tensor &running_var, bool training, double momentum, double eps);

} // namespace ct

#endif
