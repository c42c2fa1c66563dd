/* Optimisers: updates by hand, the fused loops against ATen's operations, state, schedules. */
#include "check.h"

typedef ct_status (*make_fn)(const ct_module *m, int kind, ct_optim **out);

static ct_status make(const ct_module *m, int kind, ct_optim **out)
{
    switch (kind) {
    case 0:
        return ct_sgd_new(m, &(ct_sgd_options){.lr = 0.1}, out);
    case 1:
        return ct_sgd_new(m, &(ct_sgd_options){.lr = 0.1, .momentum = 0.9, .dampening = 0.3, .weight_decay = 1e-2}, out);
    case 2:
        return ct_sgd_new(m, &(ct_sgd_options){.lr = 0.1, .momentum = 0.8, .nesterov = true}, out);
    case 3:
        return ct_adam_new(m, &(ct_adam_options){.lr = 0.01, .weight_decay = 0.1}, out);
    case 4:
        return ct_adam_new(m, NULL, out);
    default:
        return ct_adamw_new(m, &(ct_adam_options){.lr = 0.01}, out);
    }
}

static ct_module *one_parameter(ct_dtype dtype, bool transposed, ct_tensor **p)
{
    ct_tensor *w = NULL;
    OK(ct_manual_seed(3));
    OK(ct_tensor_randn(CT_SHAPE(7, 5), CT_FLOAT64, NULL, &w));
    OK(ct_to_dtype(w, dtype, &w));
    if (transposed)
        OK(ct_transpose(w, 0, 1, &w));
    ct_module *m = ct_nn_module(NULL, NULL);
    OK(ct_module_add_parameter(m, "w", w, p));
    return m;
}

/* A gradient with strides that are not the parameter's cannot be fused: both ways must give the same. */
static void fused_as_plain(void **state)
{
    (void)state;
    for (int kind = 0; kind < 6; kind++) {
        for (int wide = 0; wide < 2; wide++) {
            const ct_dtype dtype = wide ? CT_FLOAT64 : CT_FLOAT32;
            ct_tensor *p[2] = {NULL, NULL};
            ct_module *m[2];
            ct_optim *o[2] = {NULL, NULL};
            for (int side = 0; side < 2; side++) {
                m[side] = one_parameter(dtype, false, &p[side]);
                OK(make(m[side], kind, &o[side]));
            }
            for (int step = 0; step < 20; step++) {
                ct_tensor *g = NULL, *turned = NULL;
                OK(ct_tensor_randn(CT_SHAPE(7, 5), dtype, NULL, &g));
                OK(ct_tensor_set_grad(p[0], g));
                OK(ct_transpose(g, 0, 1, &turned));
                OK(ct_contiguous(turned, CT_CONTIGUOUS, &turned));
                OK(ct_transpose(turned, 0, 1, &turned));
                OK(ct_tensor_set_grad(p[1], turned));
                OK(ct_optim_step(o[0]));
                OK(ct_optim_step(o[1]));
            }
            for (int i = 0; i < 35; i++)
                NEAR(at(p[0], i), at(p[1], i), wide ? 1e-13 : 1e-6);
            for (int side = 0; side < 2; side++) {
                ct_optim_free(o[side]);
                ct_module_free(m[side]);
            }
        }
    }
}

static void by_hand(void **state)
{
    (void)state;
    ct_tensor *p = NULL, *g = NULL;
    ct_module *m = one_parameter(CT_FLOAT64, false, &p);
    ct_optim *o = NULL;
    const double w = at(p, 0);
    OK(ct_sgd_new(m, &(ct_sgd_options){.lr = 0.5, .momentum = 0.9}, &o));
    OK(ct_tensor_ones(CT_SHAPE(7, 5), CT_FLOAT64, NULL, &g));
    OK(ct_optim_step(o)); /* no gradient: no change, no step */
    assert_float_equal(at(p, 0), w, 0);
    OK(ct_tensor_set_grad(p, g));
    OK(ct_optim_step(o));
    NEAR(w - 0.5, at(p, 0), 1e-15);
    assert_float_equal(ct_optim_lr(o), 0.5, 0);
    OK(ct_optim_set_lr(o, 0));
    OK(ct_optim_step(o));
    NEAR(w - 0.5, at(p, 0), 1e-15);
    OK(ct_optim_set_lr(o, 0.1));
    OK(ct_optim_step(o));
    NEAR(w - 0.5 - 0.1 * (1 + 0.9 * 1.9), at(p, 0), 1e-15);
    OK(ct_optim_zero_grad(o, true));
    OK(ct_tensor_grad(p, &g));
    assert_null(g);
    FAILS(CT_EINVAL, ct_optim_set_lr(o, -1));
    FAILS(CT_EINVAL, ct_optim_set_lr(NULL, 1));
    FAILS(CT_EINVAL, ct_optim_step(NULL));
    assert_float_equal(ct_optim_lr(NULL), -1, 0);
    ct_optim_free(o);
    ct_optim_free(NULL);
    ct_module_free(m);
}

/* Eight steps straight give the bits of four, a state copied into a new optimiser, and four more. */
static void state_restores(void **state)
{
    (void)state;
    for (int kind = 0; kind < 6; kind++) {
        ct_tensor *p[2] = {NULL, NULL}, *g[8] = {NULL};
        ct_module *m[2];
        ct_optim *o[2] = {NULL, NULL};
        for (int side = 0; side < 2; side++) {
            m[side] = one_parameter(CT_FLOAT32, side == 2, &p[side]);
            OK(make(m[side], kind, &o[side]));
        }
        for (int step = 0; step < 8; step++) {
            OK(ct_tensor_randn(CT_SHAPE(7, 5), CT_FLOAT32, NULL, &g[step]));
            OK(ct_tensor_set_grad(p[0], g[step]));
            OK(ct_optim_step(o[0]));
            OK(ct_tensor_set_grad(p[1], g[step]));
            if (step == 4) {
                ct_optim *fresh = NULL;
                OK(make(m[1], kind, &fresh));
                assert_int_equal(ct_optim_state_count(fresh), ct_optim_state_count(o[1]));
                for (size_t i = 0; i < ct_optim_state_count(fresh); i++) {
                    const char *from_name = NULL, *to_name = NULL;
                    ct_tensor *from = NULL, *to = NULL;
                    char bytes[4096];
                    OK(ct_optim_state_at(o[1], i, &from_name, &from));
                    OK(ct_optim_state_at(fresh, i, &to_name, &to));
                    assert_string_equal(from_name, to_name);
                    OK(ct_tensor_copy_to_memory(from, bytes, ct_tensor_nbytes(from)));
                    OK(ct_tensor_copy_from_memory(to, bytes, ct_tensor_nbytes(to)));
                }
                ct_optim_free(o[1]);
                o[1] = fresh;
            }
            OK(ct_optim_step(o[1]));
        }
        assert_memory_equal(ct_tensor_data(p[0]), ct_tensor_data(p[1]), 35 * sizeof(float));
        for (int side = 0; side < 2; side++) {
            ct_optim_free(o[side]);
            ct_module_free(m[side]);
        }
    }
}

static void state_names(void **state)
{
    (void)state;
    ct_tensor *p = NULL, *t = NULL;
    ct_module *m = one_parameter(CT_BFLOAT16, false, &p);
    ct_optim *o = NULL;
    const char *name = NULL;
    OK(make(m, 1, &o));
    assert_int_equal(ct_optim_state_count(o), 2);
    OK(ct_optim_state_at(o, 0, &name, &t));
    assert_string_equal(name, "momentum_buffer.w");
    assert_int_equal(ct_tensor_dtype(t), CT_BFLOAT16);
    OK(ct_optim_state_at(o, 1, &name, &t));
    assert_string_equal(name, "step");
    FAILS(CT_ENOENT, ct_optim_state_at(o, 2, &name, &t));
    OK(ct_tensor_set_grad(p, p)); /* bfloat16 goes through ATen */
    OK(ct_optim_step(o));
    assert_float_equal(at(t, 0), 1, 0);
    ct_optim_free(o);
    OK(make(m, 3, &o));
    OK(ct_optim_state_at(o, 0, &name, &t));
    assert_string_equal(name, "exp_avg.w");
    OK(ct_optim_state_at(o, 1, &name, &t));
    assert_string_equal(name, "exp_avg_sq.w");
    OK(ct_optim_step(o));
    ct_optim_free(o);
    assert_int_equal(ct_optim_state_count(NULL), 0);

    FAILS(CT_EINVAL, ct_sgd_new(m, &(ct_sgd_options){.lr = -1}, &o));
    FAILS(CT_EINVAL, ct_sgd_new(m, &(ct_sgd_options){.nesterov = true}, &o));
    FAILS(CT_EINVAL, ct_sgd_new(m, &(ct_sgd_options){.momentum = -0.5}, &o));
    FAILS(CT_EINVAL, ct_adam_new(m, &(ct_adam_options){.beta1 = 1}, &o));
    FAILS(CT_EINVAL, ct_adamw_new(m, &(ct_adam_options){.eps = -1}, &o));
    FAILS(CT_EINVAL, ct_adam_new(NULL, NULL, &o));
    ct_module_free(m);
    m = ct_nn_relu();
    FAILS(CT_EINVAL, ct_sgd_new(m, NULL, &o));
    ct_module_free(m);
}

static void schedules(void **state)
{
    (void)state;
    NEAR(0.1, ct_lr_step(0.1, 9, 10, 0.5), 1e-15);
    NEAR(0.025, ct_lr_step(0.1, 20, 10, 0.5), 1e-15);
    const int64_t milestones[] = {5, 8};
    NEAR(1, ct_lr_multi_step(1, 4, milestones, 2, 0.1), 1e-15);
    NEAR(0.1, ct_lr_multi_step(1, 5, milestones, 2, 0.1), 1e-15);
    NEAR(0.01, ct_lr_multi_step(1, 100, milestones, 2, 0.1), 1e-15);
    NEAR(1, ct_lr_linear(1, 0, 10, 0.1), 1e-15);
    NEAR(0.55, ct_lr_linear(1, 5, 10, 0.1), 1e-15);
    NEAR(0.1, ct_lr_linear(1, 50, 10, 0.1), 1e-15);
    NEAR(0.2, ct_lr_cosine(1, 0, 5, 105, 0), 1e-15);
    NEAR(1, ct_lr_cosine(1, 5, 5, 105, 0), 1e-15);
    NEAR(0.55, ct_lr_cosine(1, 55, 5, 105, 0.1), 1e-15);
    NEAR(0.1, ct_lr_cosine(1, 105, 5, 105, 0.1), 1e-15);
    NEAR(0.04, ct_lr_one_cycle(1, 0, 100, 0), 1e-15);
    NEAR(1, ct_lr_one_cycle(1, 29, 100, 0), 1e-15);
    NEAR(0.04 / 1e4, ct_lr_one_cycle(1, 99, 100, 0), 1e-12);
    NEAR(0.04 / 1e4, ct_lr_one_cycle(1, 1000, 100, 0), 1e-12);
}

int main(void)
{
    const struct CMUnitTest tests[] = {TEST(fused_as_plain), TEST(by_hand), TEST(state_restores), TEST(state_names),
                                       TEST(schedules)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
