/* Convolution, in bfloat16 also where the processor has none. */
#ifndef CTORCH_CONV_H
#define CTORCH_CONV_H

#include "internal.h"

namespace ct {

/* at::conv2d; an undefined bias stands for none. */
at::Tensor conv2d(const at::Tensor &x, const at::Tensor &weight, const at::Tensor &bias, int64_t stride, int64_t padding,
                  int64_t dilation, int64_t groups);

} // namespace ct

#endif
