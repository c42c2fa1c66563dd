/* Gradients: values, modes, hooks, and gradients that live in a bucket. */
#include "check.h"

/* loss = sum(a * b^2): d/da = b^2, d/db = 2ab */
static ct_tensor *loss_of(ct_tensor *a, ct_tensor *b)
{
    ct_tensor *square = NULL, *product = NULL, *loss = NULL;
    OK(ct_mul(b, b, &square));
    OK(ct_mul(a, square, &product));
    OK(ct_sum(product, &loss));
    return loss;
}

static ct_tensor *leaf(float x, float y)
{
    ct_tensor *t = floats(FLOATS(x, y), CT_SHAPE(2));
    OK(ct_tensor_set_requires_grad(t, true));
    assert_true(ct_tensor_requires_grad(t));
    return t;
}

static void gradients(void **state)
{
    (void)state;
    ct_tensor *a = leaf(1, 2), *b = leaf(3, 4), *g = (ct_tensor *)&g;
    OK(ct_tensor_grad(a, &g));
    assert_null(g);
    OK(ct_backward(loss_of(a, b), 1));
    OK(ct_tensor_grad(a, &g));
    assert_float_equal(at(g, 0), 9, 0);
    OK(ct_tensor_grad(b, &g));
    assert_float_equal(at(g, 1), 16, 0);
    OK(ct_backward(loss_of(a, b), 0.5)); /* adds */
    assert_float_equal(at(g, 1), 24, 0);
    OK(ct_tensor_zero_grad(b, false));
    assert_float_equal(at(g, 1), 0, 0);
    OK(ct_tensor_zero_grad(b, true));
    OK(ct_tensor_grad(b, &g));
    assert_null(g);

    ct_tensor *sum = NULL, *seed = floats(FLOATS(10, 100), CT_SHAPE(2));
    OK(ct_tensor_zero_grad(a, true));
    OK(ct_mul(a, b, &sum));
    OK(ct_backward_from(sum, seed));
    OK(ct_tensor_grad(a, &g));
    assert_float_equal(at(g, 1), 400, 0);
    FAILS(CT_EINVAL, ct_backward(sum, 1));
    FAILS(CT_ETORCH, ct_backward_from(sum, seed)); /* the graph is gone */
    ct_tensor *off = NULL;
    OK(ct_detach(a, &off));
    assert_false(ct_tensor_requires_grad(off));
    OK(ct_sum(off, &sum));
    FAILS(CT_ETORCH, ct_backward(sum, 1));
    FAILS(CT_EINVAL, ct_backward(NULL, 1));
}

static void no_grad(void **state)
{
    (void)state;
    ct_tensor *a = leaf(1, 2), *s = NULL;
    assert_true(ct_grad_enabled());
    OK(ct_no_grad_push());
    OK(ct_no_grad_push());
    OK(ct_sum(a, &s));
    assert_false(ct_tensor_requires_grad(s));
    OK(ct_no_grad_pop());
    assert_false(ct_grad_enabled());
    OK(ct_no_grad_pop());
    assert_true(ct_grad_enabled());
    FAILS(CT_ESTATE, ct_no_grad_pop());
    FAILS(CT_ETORCH, ct_zero_(a)); /* a leaf in use by autograd */
}

static char order[16];
static ct_status note(const ct_tensor *param, ct_tensor *grad, void *user)
{
    const char *name = user;
    assert_int_equal(ct_tensor_numel(param), ct_tensor_numel(grad));
    strncat(order, name, 1);
    ct_tensor *own = NULL; /* no scope is open here */
    CT_CHECK(ct_mul_scalar(grad, 2, &own));
    ct_tensor_free(own);
    return CT_OK;
}

static void hooks(void **state)
{
    (void)state;
    ct_tensor *a = leaf(1, 2), *b = leaf(3, 4);
    ct_hook *ha = NULL, *hb = NULL, *hb2 = NULL;
    OK(ct_grad_hook(a, note, "a", &ha));
    OK(ct_grad_hook(b, note, "b", &hb));
    OK(ct_grad_hook(b, note, "B", &hb2));
    /* y = (x*a) * b then sum: b is nearer to the loss */
    ct_tensor *y = NULL, *loss = NULL;
    OK(ct_mul_scalar(a, 3, &y));
    OK(ct_mul_scalar(y, 3, &y));
    OK(ct_mul(y, b, &y));
    OK(ct_sum(y, &loss));
    order[0] = '\0';
    OK(ct_backward(loss, 1));
    assert_string_equal(order, "bBa");
    ct_hook_free(hb);
    order[0] = '\0';
    OK(ct_backward(loss_of(a, b), 1));
    assert_int_equal(strlen(order), 2);
    assert_null(strchr(order, 'b'));
    ct_hook_free(ha);
    ct_hook_free(hb2);
    order[0] = '\0';
    OK(ct_backward(loss_of(a, b), 1));
    assert_string_equal(order, "");
    ct_hook_free(NULL);
    ct_tensor *off = NULL;
    OK(ct_detach(a, &off));
    FAILS(CT_EINVAL, ct_grad_hook(off, note, NULL, &ha));
    FAILS(CT_EINVAL, ct_grad_hook(a, NULL, NULL, &ha));
}

static int failing_status;
static ct_status failing(const ct_tensor *param, ct_tensor *grad, void *user)
{
    (void)param;
    (void)user;
    if (failing_status)
        return failing_status;
    ct_tensor *nothing = NULL;
    return ct_view(grad, CT_SHAPE(7), &nothing);
}

static void failing_hook(void **state)
{
    (void)state;
    ct_tensor *a = leaf(1, 2), *b = leaf(3, 4), *g = NULL;
    ct_hook *h = NULL;
    OK(ct_grad_hook(b, failing, NULL, &h));
    failing_status = -4711;
    FAILS(-4711, ct_backward(loss_of(a, b), 1));
    assert_non_null(strstr(ct_error_message(), "-4711"));
    failing_status = 0;
    FAILS(CT_ETORCH, ct_backward(loss_of(a, b), 1));
    assert_non_null(strstr(ct_error_message(), "ct_view"));
    ct_hook_free(h);
    OK(ct_tensor_zero_grad(a, true));
    OK(ct_backward(loss_of(a, b), 1)); /* and all is well again */
    OK(ct_tensor_grad(a, &g));
    assert_float_equal(at(g, 0), 9, 0);
}

static void gradient_as_view(void **state)
{
    (void)state;
    float bucket[4] = {0, 0, 0, 0};
    ct_tensor *a = leaf(1, 2), *b = leaf(3, 4), *va = NULL, *vb = NULL, *g = NULL;
    OK(ct_tensor_borrow_like(a, bucket, &va));
    OK(ct_tensor_borrow_like(b, bucket + 2, &vb));
    OK(ct_tensor_set_grad(a, va));
    OK(ct_tensor_set_grad(b, vb));
    OK(ct_backward(loss_of(a, b), 1));
    const float once[4] = {9, 16, 6, 16};
    assert_memory_equal(bucket, once, sizeof bucket);
    OK(ct_backward(loss_of(a, b), 1));
    assert_float_equal(bucket[3], 32, 0);
    OK(ct_tensor_set_grad(a, NULL));
    OK(ct_tensor_grad(a, &g));
    assert_null(g);
    ct_tensor *three = floats(FLOATS(1, 2, 3), CT_SHAPE(3)), *wide = NULL;
    FAILS(CT_EINVAL, ct_tensor_set_grad(a, three));
    OK(ct_tensor_ones(CT_SHAPE(2), CT_FLOAT64, NULL, &wide));
    FAILS(CT_EINVAL, ct_tensor_set_grad(a, wide));
}

static const float *seen;
static ct_status look(const ct_tensor *param, ct_tensor *grad, void *user)
{
    (void)param;
    (void)user;
    seen = ct_tensor_data(grad);
    return CT_OK;
}

static void bound_gradient(void **state)
{
    (void)state;
    float bucket[4] = {99, 99, 99, 99}; /* need not be zeroed */
    ct_tensor *a = leaf(1, 2), *b = leaf(3, 4), *va = NULL, *vb = NULL, *g = NULL;
    ct_hook *h = NULL;
    OK(ct_grad_hook(a, look, NULL, &h)); /* before the binding: told after it all the same */
    OK(ct_tensor_borrow_like(a, bucket, &va));
    OK(ct_tensor_borrow_like(b, bucket + 2, &vb));
    OK(ct_tensor_bind_grad(a, va));
    OK(ct_tensor_bind_grad(b, vb));
    for (int round = 0; round < 3; round++) {
        OK(ct_tensor_zero_grad(a, true));
        OK(ct_tensor_zero_grad(b, true));
        OK(ct_tensor_grad(a, &g));
        assert_null(g);
        OK(ct_backward(loss_of(a, b), 1));
        const float once[4] = {9, 16, 6, 16};
        assert_memory_equal(bucket, once, sizeof bucket);
        assert_ptr_equal(seen, bucket);
        OK(ct_tensor_grad(b, &g));
        assert_ptr_equal(ct_tensor_data(g), bucket + 2);
        OK(ct_backward(loss_of(a, b), 1)); /* accumulates */
        assert_float_equal(bucket[0], 18, 0);
        OK(ct_tensor_zero_grad(a, false));
        assert_float_equal(bucket[0], 0, 0);
    }
    OK(ct_tensor_bind_grad(a, NULL));
    OK(ct_tensor_zero_grad(a, true));
    bucket[0] = -1;
    OK(ct_backward(loss_of(a, b), 1));
    assert_float_equal(bucket[0], -1, 0);
    ct_hook_free(h);
    OK(ct_tensor_bind_grad(b, NULL));
    ct_tensor *wrong = floats(FLOATS(1, 2, 3), CT_SHAPE(3));
    FAILS(CT_EINVAL, ct_tensor_bind_grad(a, wrong));
    FAILS(CT_EINVAL, ct_tensor_bind_grad(va, vb)); /* not a leaf that requires gradients */
}

/* Expanded gradients (of a sum) and channels_last parameters are put into the bucket in the parameter's own order. */
static void bound_layouts(void **state)
{
    (void)state;
    float bucket[16];
    ct_tensor *w = NULL, *view = NULL, *loss = NULL;
    OK(ct_tensor_zeros(CT_SHAPE(2, 2, 2, 2), CT_FLOAT32, NULL, &w));
    OK(ct_contiguous(w, CT_CHANNELS_LAST, &w));
    OK(ct_tensor_set_requires_grad(w, true));
    OK(ct_tensor_borrow_like(w, bucket, &view));
    OK(ct_tensor_bind_grad(w, view));
    OK(ct_sum(w, &loss));
    OK(ct_backward(loss, 3));
    for (int i = 0; i < 16; i++)
        assert_float_equal(bucket[i], 3, 0);
    ct_tensor *factor = NULL, *product = NULL;
    OK(ct_tensor_arange(16, CT_FLOAT32, NULL, &factor));
    OK(ct_view(factor, CT_SHAPE(2, 2, 2, 2), &factor));
    OK(ct_tensor_zero_grad(w, true));
    OK(ct_mul(w, factor, &product));
    OK(ct_sum(product, &loss));
    OK(ct_backward(loss, 1));
    for (int i = 0; i < 16; i++)
        assert_float_equal(at(view, i), i, 0);
    assert_float_equal(bucket[1], 4, 0); /* channels lie side by side */
    OK(ct_tensor_bind_grad(w, NULL));
}

int main(void)
{
    const struct CMUnitTest tests[] = {TEST(gradients),        TEST(no_grad),        TEST(hooks),        TEST(failing_hook),
                                       TEST(gradient_as_view), TEST(bound_gradient), TEST(bound_layouts)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
