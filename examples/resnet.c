#include "resnet.h"

/* conv-bn-relu-conv-bn, added to the input (or to its 1x1 convolution where the shape changes), relu. */
static ct_status block_forward(ct_module *m, ct_tensor *x, ct_tensor **out, void *user)
{
    (void)user;
    ct_tensor *y, *skip = x;
    CT_CHECK(ct_child_forward(m, "residual", x, &y));
    if (ct_module_child(m, "shortcut"))
        CT_CHECK(ct_child_forward(m, "shortcut", x, &skip));
    CT_CHECK(ct_add_(y, skip));
    CT_CHECK(ct_relu_(y));
    *out = y;
    return CT_OK;
}

static ct_module *conv(int64_t in, int64_t out, int64_t kernel, int64_t stride)
{
    return ct_nn_conv2d(in, out, kernel, &(ct_conv2d_options){.stride = stride, .padding = kernel / 2, .no_bias = true});
}

static ct_module *block(int64_t in, int64_t out, int64_t stride)
{
    ct_module *m = ct_nn_module(block_forward, NULL);
    if (ct_module_add(m, "residual",
                      CT_SEQUENTIAL(conv(in, out, 3, stride), ct_nn_batch_norm2d(out), ct_nn_relu(), conv(out, out, 3, 1),
                                    ct_nn_batch_norm2d(out))) != CT_OK)
        goto failed;
    if ((stride != 1 || in != out) &&
        ct_module_add(m, "shortcut", CT_SEQUENTIAL(conv(in, out, 1, stride), ct_nn_batch_norm2d(out))) != CT_OK)
        goto failed;
    return m;
failed:
    ct_module_free(m);
    return NULL;
}

ct_module *resnet_new(int depth, int64_t channels, int64_t classes)
{
    int stages = depth == 18 ? 4 : 3, blocks = depth == 18 ? 2 : 1;
    int64_t width = depth == 18 ? 64 : 16;
    ct_module *net = CT_SEQUENTIAL(conv(channels, width, 3, 1), ct_nn_batch_norm2d(width), ct_nn_relu());
    ct_status status = net ? CT_OK : ct_last_status();
    int64_t in = width;
    for (int stage = 0; stage < stages; stage++)
        for (int i = 0; i < blocks && status == CT_OK; i++) {
            int64_t out = width << stage;
            status = ct_module_add(net, NULL, block(in, out, stage > 0 && i == 0 ? 2 : 1));
            in = out;
        }
    if (status == CT_OK)
        status = ct_module_add(net, NULL, ct_nn_adaptive_avg_pool2d(1, 1));
    if (status == CT_OK)
        status = ct_module_add(net, NULL, ct_nn_flatten());
    if (status == CT_OK)
        status = ct_module_add(net, NULL, ct_nn_linear(in, classes, true));
    if (status == CT_OK)
        return net;
    ct_module_free(net);
    return NULL;
}
