/* A TorchScript file is loaded, run and trained like any module. */
#include "check.h"

static void load_and_train(void **state)
{
    (void)state;
    ct_module *m = ct_module_load_script(SCRIPT_FILE, NULL);
    if (!m)
        fail_msg("%s", ct_error_message());
    assert_int_equal(ct_module_parameter_count(m), 3);
    assert_int_equal(ct_module_buffer_count(m), 2);
    const char *name = NULL;
    const char *const names[] = {"weight", "first.weight", "first.bias", "first.running_mean", "first.running_var"};
    for (size_t i = 0; i < 5; i++) {
        OK(ct_module_state_at(m, i, &name, NULL));
        assert_string_equal(name, names[i]);
    }
    OK(ct_module_parameter_at(m, 0, NULL, NULL));

    ct_tensor *x = NULL, *target = NULL, *mean = ct_module_tensor(m, "first.running_mean");
    OK(ct_manual_seed(1));
    OK(ct_tensor_randn(CT_SHAPE(32, 4), CT_FLOAT32, NULL, &x));
    OK(ct_tensor_randint(0, 2, CT_SHAPE(32), CT_INT64, NULL, &target));
    ct_optim *optim = NULL;
    OK(ct_adam_new(m, &(ct_adam_options){.lr = 0.05}, &optim));
    double first = 0, last = 0;
    for (int step = 0; step < 60; step++) {
        ct_tensor *y = NULL, *loss = NULL;
        OK(ct_scope_begin());
        OK(ct_module_zero_grad(m, true));
        OK(ct_module_forward(m, x, &y));
        OK(ct_cross_entropy(y, target, 0, &loss));
        OK(ct_backward(loss, 1));
        OK(ct_optim_step(optim));
        last = item(loss);
        if (step == 0)
            first = last;
        OK(ct_scope_end());
    }
    assert_true(last < 0.7 * first);
    assert_true(at(mean, 0) != 0); /* training mode reached the script */
    OK(ct_module_train(m, false));
    assert_false(ct_module_is_training(m));
    const double before = at(mean, 0);
    ct_tensor *y = NULL;
    OK(ct_module_forward(m, x, &y));
    assert_float_equal(at(mean, 0), before, 0);

    OK(ct_module_to_dtype(m, CT_FLOAT64));
    OK(ct_to_dtype(x, CT_FLOAT64, &x));
    OK(ct_module_forward(m, x, &y));
    assert_int_equal(ct_tensor_dtype(y), CT_FLOAT64);
    FAILS(CT_ENOTSUP, ct_module_add(m, "more", ct_nn_relu()));
    FAILS(CT_ENOTSUP, ct_child_forward(m, "first", x, &y));
    ct_optim_free(optim);
    ct_module_free(m);
}

static void refusals(void **state)
{
    (void)state;
    assert_null(ct_module_load_script("no/such/file.pt", NULL));
    assert_int_equal(ct_last_status(), CT_EIO);
    assert_null(ct_module_load_script(NULL, NULL));
    assert_int_equal(ct_last_status(), CT_EINVAL);
    assert_null(ct_module_load_script("/dev/null", NULL));
    assert_int_equal(ct_last_status(), CT_ETORCH);
}

int main(void)
{
    const struct CMUnitTest tests[] = {TEST(load_and_train), TEST(refusals)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
