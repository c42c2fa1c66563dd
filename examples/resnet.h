/* Residual networks (He, Zhang, Ren, Sun, "Deep Residual Learning for Image Recognition", CVPR 2016) for small images. */
#ifndef EXAMPLE_RESNET_H
#define EXAMPLE_RESNET_H

#include "ctorch.h"

/**
 * depth 8: three stages of one basic block, 16, 32 and 64 channels (section 4.2 with n = 1), 78 thousand parameters.
 * depth 18: four stages of two, 64 to 512 channels (table 1), 11 million, with a 3x3 first convolution, as is usual for small images.
 * A new module, N x channels x H x W to N x classes; NULL on failure (ct_error_message() says why).
 */
ct_module *resnet_new(int depth, int64_t channels, int64_t classes);

#endif
