/* Modules: trees, names, modes, conversions, user-made forward functions. */
#include "check.h"

static ct_status block_forward(ct_module *m, ct_tensor *x, ct_tensor **out, void *user)
{
    int *calls = user;
    ct_tensor *y = NULL;
    if (calls)
        ++*calls;
    CT_CHECK(ct_child_forward(m, "conv", x, &y));
    CT_CHECK(ct_child_forward(m, "bn", y, &y));
    CT_CHECK(ct_add_(y, x));
    CT_CHECK(ct_relu_(y));
    *out = y;
    return CT_OK;
}

static ct_module *block(int64_t channels, int *calls)
{
    ct_module *m = ct_nn_module(block_forward, calls);
    if (ct_module_add(m, "conv", ct_nn_conv2d(channels, channels, 3, &(ct_conv2d_options){.padding = 1, .no_bias = true})) ||
        ct_module_add(m, "bn", ct_nn_batch_norm2d(channels))) {
        ct_module_free(m);
        return NULL;
    }
    return m;
}

static ct_module *net(int *calls)
{
    ct_module *m = CT_SEQUENTIAL(ct_nn_conv2d(1, 4, 3, NULL), block(4, calls), ct_nn_relu(), ct_nn_adaptive_avg_pool2d(1, 1),
                                 ct_nn_flatten(), ct_nn_linear(4, 3, true));
    if (!m)
        fail_msg("%s", ct_error_message());
    return m;
}

static void tree(void **state)
{
    (void)state;
    ct_module *m = net(NULL);
    const char *const parameters[] = {"0.weight", "0.bias", "1.conv.weight", "1.bn.weight", "1.bn.bias", "5.weight", "5.bias"};
    const char *const states[] = {"0.weight",  "0.bias",    "1.conv.weight",     "1.bn.weight",
                                  "1.bn.bias", "1.bn.running_mean", "1.bn.running_var", "1.bn.num_batches_tracked",
                                  "5.weight",  "5.bias"};
    const char *name = NULL;
    ct_tensor *t = NULL;
    assert_int_equal(ct_module_parameter_count(m), 7);
    for (size_t i = 0; i < 7; i++) {
        OK(ct_module_parameter_at(m, i, &name, &t));
        assert_string_equal(name, parameters[i]);
        assert_true(ct_tensor_requires_grad(t));
        assert_ptr_equal(ct_module_tensor(m, name), t);
    }
    assert_int_equal(ct_module_state_count(m), 10);
    for (size_t i = 0; i < 10; i++) {
        OK(ct_module_state_at(m, i, &name, NULL));
        assert_string_equal(name, states[i]);
    }
    assert_int_equal(ct_module_buffer_count(m), 3);
    OK(ct_module_buffer_at(m, 2, &name, &t));
    assert_string_equal(name, "1.bn.num_batches_tracked");
    FAILS(CT_ENOENT, ct_module_parameter_at(m, 7, &name, &t));
    FAILS(CT_ENOENT, ct_module_buffer_at(m, 3, &name, &t));
    FAILS(CT_ENOENT, ct_module_state_at(m, 10, &name, &t));
    FAILS(CT_EINVAL, ct_module_state_at(NULL, 0, &name, &t));
    assert_int_equal(ct_module_state_count(NULL), 0);
    assert_null(ct_module_tensor(m, "1.conv.bias"));
    assert_non_null(ct_module_child(m, "1.bn"));
    assert_null(ct_module_child(m, "1.bnx"));
    assert_null(ct_module_child(m, "7"));
    /* a listing follows what is added below */
    OK(ct_module_add(ct_module_child(m, "1"), "extra", ct_nn_linear(2, 2, false)));
    assert_int_equal(ct_module_parameter_count(m), 8);
    ct_module_free(m);
    ct_module_free(NULL);
}

static void forward(void **state)
{
    (void)state;
    int calls = 0;
    ct_module *m = net(&calls);
    ct_tensor *x = NULL, *y = NULL, *loss = NULL, *g = NULL, *batches = ct_module_tensor(m, "1.bn.num_batches_tracked");
    OK(ct_tensor_randn(CT_SHAPE(2, 1, 6, 6), CT_FLOAT32, NULL, &x));
    OK(ct_module_forward(m, x, &y));
    assert_int_equal(ct_tensor_size(y, 1), 3);
    assert_int_equal(calls, 1);
    assert_float_equal(item(batches), 1, 0);
    OK(ct_sum(y, &loss));
    OK(ct_backward(loss, 1));
    for (size_t i = 0; i < ct_module_parameter_count(m); i++) {
        ct_tensor *p = NULL;
        OK(ct_module_parameter_at(m, i, NULL, &p));
        OK(ct_tensor_grad(p, &g));
        assert_non_null(g);
    }
    OK(ct_module_zero_grad(m, true));
    OK(ct_tensor_grad(ct_module_tensor(m, "0.weight"), &g));
    assert_null(g);
    assert_true(ct_module_is_training(m));
    OK(ct_module_train(m, false));
    assert_false(ct_module_is_training(ct_module_child(m, "1.bn")));
    OK(ct_module_forward(m, x, &y));
    assert_float_equal(item(batches), 1, 0);

    /* errors name the way to the part that failed */
    ct_tensor *bad = NULL, *old = y;
    OK(ct_tensor_randn(CT_SHAPE(2, 5, 6, 6), CT_FLOAT32, NULL, &bad));
    FAILS(CT_ETORCH, ct_child_forward(m, "1", bad, &y));
    assert_non_null(strstr(ct_error_message(), "1: conv: "));
    assert_ptr_equal(y, old);
    FAILS(CT_ENOENT, ct_child_forward(m, "1.nothing", x, &y));
    FAILS(CT_EINVAL, ct_module_forward(NULL, x, &y));
    FAILS(CT_EINVAL, ct_module_forward(m, NULL, &y));
    ct_module_free(m);
}

static ct_status identity(ct_module *m, ct_tensor *x, ct_tensor **out, void *user)
{
    (void)m;
    (void)user;
    OK(ct_scope_begin()); /* left open: ends with the call */
    *out = x;
    return CT_OK;
}
static ct_status nothing(ct_module *m, ct_tensor *x, ct_tensor **out, void *user)
{
    (void)m;
    (void)x;
    (void)out;
    (void)user;
    return ct_scope_end() == CT_ESTATE ? CT_OK : -1; /* the call's own scope is not the callback's to end */
}
static ct_status refuse(ct_module *m, ct_tensor *x, ct_tensor **out, void *user)
{
    (void)m;
    (void)x;
    (void)out;
    (void)user;
    return -77;
}

static void user_modules(void **state)
{
    (void)state;
    ct_tensor *x = floats(FLOATS(1, 2), CT_SHAPE(2)), *y = NULL;
    ct_module *m = ct_nn_module(identity, NULL);
    OK(ct_module_forward(m, x, &y));
    assert_ptr_equal(ct_tensor_data(y), ct_tensor_data(x));
    assert_ptr_not_equal(x, y);
    ct_module_free(m);
    m = ct_nn_module(nothing, NULL);
    FAILS(CT_EINVAL, ct_module_forward(m, x, &y));
    ct_module_free(m);
    m = ct_nn_module(refuse, NULL);
    FAILS(-77, ct_module_forward(m, x, &y));
    ct_module_free(m);
    m = ct_nn_module(NULL, NULL);
    FAILS(CT_ENOTSUP, ct_module_forward(m, x, &y));
    ct_tensor *p = NULL, *b = NULL;
    OK(ct_module_add_parameter(m, "w", x, &p));
    OK(ct_module_add_buffer(m, "count", x, &b));
    assert_true(ct_tensor_requires_grad(p));
    assert_false(ct_tensor_requires_grad(x));
    assert_false(ct_tensor_requires_grad(b));
    assert_ptr_equal(ct_tensor_data(p), ct_tensor_data(x));
    FAILS(CT_EEXIST, ct_module_add_parameter(m, "count", x, NULL));
    FAILS(CT_EEXIST, ct_module_add_buffer(m, "w", x, NULL));
    FAILS(CT_EINVAL, ct_module_add_parameter(m, "a.b", x, NULL));
    FAILS(CT_EINVAL, ct_module_add_parameter(m, "", x, NULL));
    FAILS(CT_EINVAL, ct_module_add_parameter(m, "z", NULL, NULL));
    ct_module_free(m);
}

static void building_refuses(void **state)
{
    (void)state;
    ct_module *m = ct_nn_sequential(NULL, 0);
    FAILS(CT_EINVAL, ct_module_add(m, "c", ct_nn_conv2d(0, 4, 3, NULL)));
    assert_non_null(strstr(ct_error_message(), "in_channels"));
    assert_null(ct_module_child(m, "c"));
    OK(ct_module_add(m, NULL, ct_nn_relu()));
    FAILS(CT_EEXIST, ct_module_add(m, "0", ct_nn_relu())); /* frees it */
    FAILS(CT_EINVAL, ct_module_add(m, "a.b", ct_nn_relu()));
    FAILS(CT_EINVAL, ct_module_add(NULL, "a", ct_nn_relu()));
    FAILS(CT_EINVAL, ct_module_add(m, "self", m));
    ct_module_free(m);
    assert_null(CT_SEQUENTIAL(ct_nn_relu(), ct_nn_linear(3, -1, true), ct_nn_relu()));
    assert_int_equal(ct_last_status(), CT_EINVAL);
    assert_null(ct_nn_conv2d(3, 4, 3, &(ct_conv2d_options){.groups = 2}));
    assert_null(ct_nn_batch_norm2d(0));
    assert_null(ct_nn_layer_norm(NULL, 2));
    assert_null(ct_nn_layer_norm(NULL, 0));
    assert_null(ct_nn_embedding(0, 3));
    assert_null(ct_nn_dropout(-1));
    assert_null(ct_nn_max_pool2d(0, 0, 0));
    assert_null(ct_nn_avg_pool2d(2, -1, 0));
    assert_null(ct_nn_adaptive_avg_pool2d(0, 1));
}

static void layers(void **state)
{
    (void)state;
    ct_tensor *x = NULL, *y = NULL;
    ct_module *m = CT_SEQUENTIAL(ct_nn_max_pool2d(2, 0, 0), ct_nn_avg_pool2d(2, 2, 0), ct_nn_gelu(), ct_nn_tanh(),
                                 ct_nn_sigmoid(), ct_nn_relu(), ct_nn_dropout(0.5), ct_nn_flatten(), ct_nn_layer_norm(CT_SHAPE(12)));
    assert_non_null(m);
    OK(ct_tensor_randn(CT_SHAPE(2, 3, 8, 8), CT_FLOAT32, NULL, &x));
    OK(ct_module_forward(m, x, &y));
    assert_int_equal(ct_tensor_size(y, 1), 12);
    OK(ct_sum(y, &y));
    OK(ct_backward(y, 1)); /* relu after sigmoid is not done in place: sigmoid needs its result */
    ct_module_free(m);
    m = ct_nn_embedding(5, 2);
    OK(ct_tensor_arange(5, CT_INT64, NULL, &x));
    OK(ct_module_forward(m, x, &y));
    assert_int_equal(ct_tensor_size(y, 1), 2);
    ct_module_free(m);
    /* relu as the first layer leaves its input alone */
    m = CT_SEQUENTIAL(ct_nn_relu());
    x = floats(FLOATS(-1, 1), CT_SHAPE(2));
    OK(ct_module_forward(m, x, &y));
    assert_float_equal(at(x, 0), -1, 0);
    assert_float_equal(at(y, 0), 0, 0);
    ct_module_free(m);
}

static ct_status no_hook(const ct_tensor *param, ct_tensor *grad, void *user)
{
    (void)param;
    (void)grad;
    (void)user;
    return CT_OK;
}

static void converting(void **state)
{
    (void)state;
    ct_module *m = net(NULL);
    ct_tensor *w = ct_module_tensor(m, "1.conv.weight"), *batches = ct_module_tensor(m, "1.bn.num_batches_tracked");
    ct_tensor *x = NULL, *y = NULL;
    OK(ct_module_to_memory_format(m, CT_CHANNELS_LAST));
    assert_true(ct_tensor_is_contiguous(w, CT_CHANNELS_LAST));
    OK(ct_tensor_randn(CT_SHAPE(2, 1, 6, 6), CT_FLOAT32, NULL, &x));
    OK(ct_contiguous(x, CT_CHANNELS_LAST, &x));
    OK(ct_module_forward(m, x, &y));
    OK(ct_sum(y, &y));
    OK(ct_backward(y, 1));
    OK(ct_module_to_dtype(m, CT_FLOAT64));
    assert_int_equal(ct_tensor_dtype(w), CT_FLOAT64);
    assert_int_equal(ct_tensor_dtype(batches), CT_INT64);
    assert_true(ct_tensor_requires_grad(w));
    OK(ct_tensor_grad(w, &y));
    assert_null(y);
    OK(ct_to_dtype(x, CT_FLOAT64, &x));
    OK(ct_module_forward(m, x, &y));
    OK(ct_module_to_memory_format(m, CT_CONTIGUOUS));
    assert_true(ct_tensor_is_contiguous(w, CT_CONTIGUOUS));
    OK(ct_module_to_device(m, "cpu"));
    FAILS(CT_EINVAL, ct_module_to_dtype(m, CT_INT32));
    FAILS(CT_EINVAL, ct_module_to_device(m, "nowhere"));
    ct_hook *hook = NULL;
    OK(ct_grad_hook(w, no_hook, NULL, &hook));
    FAILS(CT_ESTATE, ct_module_to_dtype(m, CT_FLOAT32));
    ct_module_free(m); /* the hook's parameter goes first */
    ct_hook_free(hook);
}

static void initial_values(void **state)
{
    (void)state;
    ct_tensor *w = NULL;
    OK(ct_tensor_zeros(CT_SHAPE(64, 32, 3, 3), CT_FLOAT32, NULL, &w));
    OK(ct_init_kaiming_uniform(w, 0));
    const double bound = sqrt(6.0 / (32 * 9));
    for (int i = 0; i < 64 * 32 * 9; i += 997)
        assert_true(fabs(at(w, i)) <= bound);
    OK(ct_init_kaiming_normal(w, true));
    ct_tensor *square = NULL;
    OK(ct_mul(w, w, &square));
    OK(ct_mean(square, &square));
    NEAR(2.0 / (64 * 9), item(square), 0.01);
    ct_tensor *vector = floats(FLOATS(1, 2), CT_SHAPE(2));
    FAILS(CT_EINVAL, ct_init_kaiming_uniform(vector, 0));
    FAILS(CT_EINVAL, ct_init_kaiming_normal(NULL, false));
}

int main(void)
{
    const struct CMUnitTest tests[] = {TEST(tree),   TEST(forward),    TEST(user_modules),  TEST(building_refuses),
                                       TEST(layers), TEST(converting), TEST(initial_values)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
