/* Pooling over whole images with a backward pass that keeps the memory format. */
#ifndef CTORCH_POOL_H
#define CTORCH_POOL_H

#include "internal.h"

namespace ct {

/* at::adaptive_avg_pool2d with the same values. */
at::Tensor adaptive_avg_pool2d(const at::Tensor &x, int64_t height, int64_t width);

} // namespace ct

#endif
