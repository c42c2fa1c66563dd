/* Operations: one small value each, and what they refuse. */
#include "check.h"

static void elementwise(void **state)
{
    (void)state;
    ct_tensor *a = floats(FLOATS(1, -2, 3), CT_SHAPE(3)), *b = floats(FLOATS(4, 5, -6), CT_SHAPE(3)), *c = NULL;
    OK(ct_add(a, b, &c));
    assert_float_equal(at(c, 1), 3, 0);
    OK(ct_sub(a, b, &c));
    assert_float_equal(at(c, 2), 9, 0);
    OK(ct_mul(a, b, &c));
    assert_float_equal(at(c, 1), -10, 0);
    OK(ct_div(a, b, &c));
    assert_float_equal(at(c, 0), 0.25, 0);
    OK(ct_add_scalar(a, 0.5, &c));
    assert_float_equal(at(c, 0), 1.5, 0);
    OK(ct_mul_scalar(a, 2, &c));
    assert_float_equal(at(c, 2), 6, 0);
    OK(ct_eq(a, a, &c));
    assert_int_equal(ct_tensor_dtype(c), CT_BOOL);
    assert_float_equal(at(c, 0), 1, 0);
    OK(ct_add_(a, b));
    assert_float_equal(at(a, 0), 5, 0);
    OK(ct_sub_(a, b));
    OK(ct_mul_(a, b));
    assert_float_equal(at(a, 2), -18, 0);
    OK(ct_div_(a, b));
    OK(ct_add_scalar_(a, 1));
    OK(ct_mul_scalar_(a, 3));
    assert_float_equal(at(a, 0), 6, 0);
    OK(ct_add_scaled_(a, b, 0.5));
    assert_float_equal(at(a, 0), 8, 0);
    FAILS(CT_EINVAL, ct_add_scalar_(NULL, 1));
}

static void functions(void **state)
{
    (void)state;
    ct_tensor *x = floats(FLOATS(-1, 0, 2), CT_SHAPE(3)), *y = NULL;
    OK(ct_relu(x, &y));
    assert_float_equal(at(y, 0), 0, 0);
    assert_float_equal(at(y, 2), 2, 0);
    OK(ct_gelu(x, &y));
    NEAR(1.9544997, at(y, 2), 1e-6);
    OK(ct_tanh(x, &y));
    NEAR(tanh(2), at(y, 2), 1e-6);
    OK(ct_sigmoid(x, &y));
    NEAR(0.5, at(y, 1), 1e-6);
    OK(ct_exp(x, &y));
    NEAR(exp(2), at(y, 2), 1e-6);
    OK(ct_log(y, &y));
    NEAR(2, at(y, 2), 1e-6);
    OK(ct_softmax(x, 0, &y));
    NEAR(exp(2) / (exp(-1) + 1 + exp(2)), at(y, 2), 1e-6);
    OK(ct_log_softmax(x, 0, &y));
    NEAR(2 - log(exp(-1) + 1 + exp(2)), at(y, 2), 1e-6);
    OK(ct_relu_(x));
    assert_float_equal(at(x, 0), 0, 0);
    OK(ct_sqrt(x, &y));
    NEAR(sqrt(2), at(y, 2), 1e-6);
    OK(ct_dropout(x, 0.5, false, &y));
    assert_ptr_equal(ct_tensor_data(y), ct_tensor_data(x));
    OK(ct_tensor_ones(CT_SHAPE(1000), CT_FLOAT32, NULL, &x));
    OK(ct_dropout(x, 0.5, true, &y));
    for (int i = 0; i < 1000; i += 50)
        assert_true(at(y, i) == 0 || at(y, i) == 2);
    FAILS(CT_ETORCH, ct_dropout(x, 1.5, true, &y));
    FAILS(CT_ETORCH, ct_softmax(x, 4, &y));
}

static void reductions(void **state)
{
    (void)state;
    ct_tensor *x = floats(FLOATS(1, 5, 3, 4, 2, 6), CT_SHAPE(2, 3)), *y = NULL;
    OK(ct_sum(x, &y));
    assert_float_equal(item(y), 21, 0);
    OK(ct_mean(x, &y));
    assert_float_equal(item(y), 3.5, 0);
    OK(ct_sum_dim(x, 0, false, &y));
    assert_float_equal(at(y, 1), 7, 0);
    OK(ct_mean_dim(x, 1, true, &y));
    assert_int_equal(ct_tensor_ndim(y), 2);
    assert_float_equal(at(y, 0), 3, 0);
    OK(ct_max_dim(x, 1, false, &y));
    assert_float_equal(at(y, 1), 6, 0);
    OK(ct_argmax(x, 1, false, &y));
    assert_int_equal(ct_tensor_dtype(y), CT_INT64);
    assert_float_equal(at(y, 0), 1, 0);
    ct_tensor *t = NULL;
    OK(ct_transpose(x, 0, 1, &t));
    OK(ct_matmul(x, t, &y));
    assert_float_equal(at(y, 0), 35, 0);
    FAILS(CT_ETORCH, ct_matmul(x, x, &y));
    const ct_tensor *pair[] = {x, x};
    OK(ct_cat(pair, 2, 1, &y));
    assert_int_equal(ct_tensor_size(y, 1), 6);
    OK(ct_stack(pair, 2, 0, &y));
    assert_int_equal(ct_tensor_ndim(y), 3);
    FAILS(CT_EINVAL, ct_cat(pair, 0, 0, &y));
    FAILS(CT_EINVAL, ct_stack(NULL, 2, 0, &y));
    const ct_tensor *hole[] = {x, NULL};
    FAILS(CT_EINVAL, ct_cat(hole, 2, 0, &y));
    OK(ct_pad(x, CT_SHAPE(1, 2), 7, &y));
    assert_int_equal(ct_tensor_size(y, 1), 6);
    assert_float_equal(at(y, 0), 7, 0);
    FAILS(CT_ETORCH, ct_pad(x, CT_SHAPE(1, 2, 3), 0, &y));
}

static void layers(void **state)
{
    (void)state;
    ct_tensor *x = NULL, *w = NULL, *b = NULL, *y = NULL;
    OK(ct_tensor_ones(CT_SHAPE(2, 3), CT_FLOAT32, NULL, &x));
    OK(ct_tensor_full(CT_SHAPE(4, 3), 2, CT_FLOAT32, NULL, &w));
    OK(ct_tensor_ones(CT_SHAPE(4), CT_FLOAT32, NULL, &b));
    OK(ct_linear(x, w, b, &y));
    assert_float_equal(at(y, 0), 7, 0);
    OK(ct_linear(x, w, NULL, &y));
    assert_float_equal(at(y, 0), 6, 0);
    FAILS(CT_ETORCH, ct_linear(w, b, NULL, &y) ? CT_ETORCH : CT_OK);
    OK(ct_tensor_ones(CT_SHAPE(1, 2, 5, 5), CT_FLOAT32, NULL, &x));
    OK(ct_tensor_ones(CT_SHAPE(3, 2, 3, 3), CT_FLOAT32, NULL, &w));
    OK(ct_conv2d(x, w, NULL, 1, 1, 1, 1, &y));
    assert_int_equal(ct_tensor_size(y, 3), 5);
    assert_float_equal(at(y, 0), 8, 0);
    assert_float_equal(at(y, 6), 18, 0);
    OK(ct_conv2d(x, w, NULL, 2, 0, 1, 1, &y));
    assert_int_equal(ct_tensor_size(y, 3), 2);
    OK(ct_tensor_ones(CT_SHAPE(3, 5, 3, 3), CT_FLOAT32, NULL, &w));
    FAILS(CT_ETORCH, ct_conv2d(x, w, NULL, 1, 1, 1, 1, &y));
    assert_non_null(strstr(ct_error_message(), "channels"));

    ct_tensor *mean = NULL, *var = NULL;
    x = floats(FLOATS(1, 3), CT_SHAPE(2, 1));
    OK(ct_tensor_zeros(CT_SHAPE(1), CT_FLOAT32, NULL, &mean));
    OK(ct_tensor_ones(CT_SHAPE(1), CT_FLOAT32, NULL, &var));
    OK(ct_batch_norm(x, NULL, NULL, mean, var, true, 0.1, 1e-5, &y));
    NEAR(-1, at(y, 0), 1e-4);
    NEAR(0.2, item(mean), 1e-6);
    NEAR(0.9 + 0.1 * 2, item(var), 1e-6);
    OK(ct_batch_norm(x, NULL, NULL, mean, var, false, 0.1, 1e-5, &y));
    NEAR((1 - 0.2) / sqrt(1.1 + 1e-5), at(y, 0), 1e-5);
    OK(ct_tensor_randn(CT_SHAPE(4, 8), CT_FLOAT32, NULL, &x));
    OK(ct_layer_norm(x, CT_SHAPE(8), NULL, NULL, 1e-5, &y));
    OK(ct_mean(y, &y));
    NEAR(0, item(y), 1e-5);
    FAILS(CT_ETORCH, ct_layer_norm(x, CT_SHAPE(7), NULL, NULL, 1e-5, &y));

    w = floats(FLOATS(1, 2, 3, 4), CT_SHAPE(2, 2));
    OK(ct_tensor_ones(CT_SHAPE(3), CT_INT64, NULL, &x));
    OK(ct_embedding(x, w, &y));
    assert_int_equal(ct_tensor_size(y, 0), 3);
    assert_float_equal(at(y, 0), 3, 0);
    assert_int_not_equal(ct_embedding(w, w, &y), CT_OK);

    OK(ct_tensor_arange(16, CT_FLOAT32, NULL, &x));
    OK(ct_view(x, CT_SHAPE(1, 1, 4, 4), &x));
    OK(ct_max_pool2d(x, 2, 0, 0, &y));
    assert_float_equal(at(y, 3), 15, 0);
    OK(ct_max_pool2d(x, 3, 1, 1, &y));
    assert_int_equal(ct_tensor_size(y, 2), 4);
    OK(ct_avg_pool2d(x, 2, 2, 0, &y));
    assert_float_equal(at(y, 0), 2.5, 0);
    OK(ct_adaptive_avg_pool2d(x, 1, 1, &y));
    assert_float_equal(item(y), 7.5, 0);
}

/* Batch norm in training on float32, which has kernels of its own, against ATen's on float64: results, gradients, averages. */
static void batch_norm_training(void **state)
{
    (void)state;
    const int64_t shapes[][4] = {{3, 5, 7, 7}, {4, 16, 6, 5}, {2, 3, 1, 1}, {2, 1, 9, 4}};
    for (size_t s = 0; s < 8; s++) {
        const int64_t *sizes = shapes[s / 2], channels = sizes[1];
        const bool last = s % 2;
        ct_tensor *x = NULL, *g = NULL, *w = NULL, *b = NULL;
        OK(ct_tensor_randn(sizes, 4, CT_FLOAT32, NULL, &x));
        OK(ct_add_scalar_(x, 1000)); /* a mean far from zero costs no digits */
        OK(ct_tensor_randn(sizes, 4, CT_FLOAT32, NULL, &g));
        if (last)
            OK(ct_contiguous(x, CT_CHANNELS_LAST, &x));
        OK(ct_tensor_randn(CT_SHAPE(channels), CT_FLOAT32, NULL, &w));
        OK(ct_tensor_randn(CT_SHAPE(channels), CT_FLOAT32, NULL, &b));
        ct_tensor *results[2][6];
        for (int wide = 0; wide < 2; wide++) {
            const ct_dtype dtype = wide ? CT_FLOAT64 : CT_FLOAT32;
            ct_tensor *in[4], *seed = NULL, *mean = NULL, *var = NULL, **r = results[wide];
            ct_tensor *const from[] = {x, w, b};
            for (int i = 0; i < 3; i++) {
                OK(ct_tensor_clone(from[i], &in[i]));
                OK(ct_to_dtype(in[i], dtype, &in[i]));
                OK(ct_tensor_set_requires_grad(in[i], true));
            }
            OK(ct_to_dtype(g, dtype, &seed));
            OK(ct_tensor_zeros(CT_SHAPE(channels), dtype, NULL, &mean));
            OK(ct_tensor_ones(CT_SHAPE(channels), dtype, NULL, &var));
            OK(ct_batch_norm(in[0], in[1], in[2], mean, var, true, 0.1, 1e-5, &r[0]));
            OK(ct_backward_from(r[0], seed));
            for (int i = 0; i < 3; i++)
                OK(ct_tensor_grad(in[i], &r[1 + i]));
            r[4] = mean;
            r[5] = var;
        }
        assert_int_equal(ct_tensor_stride(results[0][0], 1), ct_tensor_stride(x, 1));
        for (int i = 0; i < 6; i++)
            for (int64_t k = 0; k < ct_tensor_numel(results[0][i]); k++)
                NEAR(at(results[1][i], k), at(results[0][i], k), 3e-4);
    }
}

static void losses(void **state)
{
    (void)state;
    ct_tensor *logits = floats(FLOATS(1, 2, 3, 0, 0, 0), CT_SHAPE(2, 3)), *target = NULL, *loss = NULL;
    OK(ct_tensor_ones(CT_SHAPE(2), CT_INT64, NULL, &target));
    OK(ct_cross_entropy(logits, target, 0, &loss));
    const double z = log(exp(1) + exp(2) + exp(3));
    NEAR((z - 2 + log(3)) / 2, item(loss), 1e-6);
    OK(ct_cross_entropy(logits, target, 0.1, &loss));
    NEAR((z - 2 + log(3)) / 2, item(loss), 1e-6); /* the mean logit is the target's here */
    OK(ct_mse_loss(logits, logits, &loss));
    assert_float_equal(item(loss), 0, 0);
    FAILS(CT_ETORCH, ct_cross_entropy(logits, logits, 2, &loss));
    OK(ct_tensor_full(CT_SHAPE(2), 7, CT_INT64, NULL, &target));
    assert_int_not_equal(ct_cross_entropy(logits, target, 0, &loss), CT_OK);
    assert_int_not_equal(ct_cross_entropy(logits, NULL, 0, &loss), CT_OK);
}

int main(void)
{
    const struct CMUnitTest tests[] = {TEST(elementwise), TEST(functions), TEST(reductions), TEST(layers), TEST(batch_norm_training),
                                       TEST(losses)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
