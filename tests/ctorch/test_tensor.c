/* Tensors: making, asking, bytes, scopes, views, and what each refuses. */
#include "check.h"

#if defined(__SANITIZE_ADDRESS__)
/* The test asks for more memory than there is. */
extern const char *__asan_default_options(void);
const char *__asan_default_options(void) { return "allocator_may_return_null=1"; }
#endif

static void making(void **state)
{
    (void)state;
    ct_tensor *t = NULL;
    OK(ct_tensor_zeros(CT_SHAPE(2, 3), CT_FLOAT32, NULL, &t));
    assert_int_equal(ct_tensor_ndim(t), 2);
    assert_int_equal(ct_tensor_size(t, 0), 2);
    assert_int_equal(ct_tensor_size(t, -1), 3);
    assert_int_equal(ct_tensor_stride(t, 0), 3);
    assert_int_equal(ct_tensor_numel(t), 6);
    assert_int_equal(ct_tensor_nbytes(t), 24);
    assert_int_equal(ct_tensor_dtype(t), CT_FLOAT32);
    assert_string_equal(ct_tensor_device(t), "cpu");
    assert_true(ct_tensor_is_dense(t));
    assert_true(ct_tensor_is_contiguous(t, CT_CONTIGUOUS));
    assert_float_equal(at(t, 5), 0, 0);
    OK(ct_tensor_ones(CT_SHAPE(4), CT_INT64, "cpu", &t));
    assert_float_equal(at(t, 3), 1, 0);
    OK(ct_tensor_full(NULL, 0, 2.5, CT_FLOAT64, NULL, &t));
    assert_int_equal(ct_tensor_ndim(t), 0);
    assert_float_equal(item(t), 2.5, 0);
    int64_t whole = 0;
    OK(ct_tensor_item_int64(t, &whole));
    assert_int_equal(whole, 2);
    OK(ct_tensor_arange(5, CT_INT32, NULL, &t));
    assert_float_equal(at(t, 4), 4, 0);
    OK(ct_tensor_randint(3, 5, CT_SHAPE(100), CT_UINT8, NULL, &t));
    for (int i = 0; i < 100; i++)
        assert_true(at(t, i) == 3 || at(t, i) == 4);
    OK(ct_tensor_rand(CT_SHAPE(10), CT_FLOAT32, NULL, &t));
    assert_true(at(t, 0) >= 0 && at(t, 0) < 1);
    OK(ct_tensor_randn(CT_SHAPE(10), CT_FLOAT64, NULL, &t));
    OK(ct_tensor_empty(CT_SHAPE(0, 4), CT_BOOL, NULL, &t));
    assert_int_equal(ct_tensor_numel(t), 0);

    const ct_dtype all[] = {CT_FLOAT32, CT_FLOAT64, CT_BFLOAT16, CT_INT32, CT_INT64, CT_UINT8, CT_BOOL};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        OK(ct_tensor_ones(CT_SHAPE(3), all[i], NULL, &t));
        assert_int_equal(ct_tensor_dtype(t), all[i]);
        assert_int_equal(ct_tensor_nbytes(t), 3 * ct_dtype_size(all[i]));
        assert_string_not_equal(ct_dtype_name(all[i]), "unknown");
        assert_float_equal(at(t, 2), 1, 0);
    }
    assert_int_equal(ct_dtype_size((ct_dtype)99), 0);
    assert_string_equal(ct_dtype_name((ct_dtype)99), "unknown");
}

static void making_refuses(void **state)
{
    (void)state;
    ct_tensor *t = (ct_tensor *)&t; /* must stay as it is */
    FAILS(CT_EINVAL, ct_tensor_zeros(CT_SHAPE(2), (ct_dtype)99, NULL, &t));
    FAILS(CT_EINVAL, ct_tensor_zeros(CT_SHAPE(2), CT_FLOAT32, "tpu", &t));
    FAILS(CT_EINVAL, ct_tensor_zeros(NULL, 2, CT_FLOAT32, NULL, &t));
    FAILS(CT_ETORCH, ct_tensor_zeros(CT_SHAPE(-2), CT_FLOAT32, NULL, &t));
    FAILS(CT_EINVAL, ct_tensor_zeros(CT_SHAPE(2), CT_FLOAT32, NULL, NULL));
    FAILS(CT_ENOMEM, ct_tensor_empty(CT_SHAPE(1LL << 50), CT_FLOAT32, NULL, &t));
    FAILS(CT_EINVAL, ct_tensor_from_memory("12345678", 8, CT_SHAPE(3), CT_FLOAT32, &t));
    FAILS(CT_EINVAL, ct_tensor_from_memory(NULL, 12, CT_SHAPE(3), CT_FLOAT32, &t));
    FAILS(CT_EINVAL, ct_tensor_borrow_memory(NULL, CT_SHAPE(3), CT_FLOAT32, NULL, NULL, &t));
    if (!ct_cuda_available())
        assert_int_not_equal(ct_tensor_zeros(CT_SHAPE(2), CT_FLOAT32, "cuda", &t), CT_OK);
    assert_ptr_equal(t, (ct_tensor *)&t);
    FAILS(CT_EINVAL, ct_tensor_clone(NULL, &t));
    assert_int_equal(ct_tensor_ndim(NULL), -1);
    assert_int_equal(ct_last_status(), CT_EINVAL);
    assert_int_equal(ct_tensor_size(NULL, 0), -1);
    assert_int_equal(ct_tensor_numel(NULL), -1);
    assert_null(ct_tensor_data(NULL));
    assert_null(ct_tensor_device(NULL));
    assert_false(ct_tensor_is_dense(NULL));
    ct_tensor_free(NULL);
}

static int deleted;
static void count_delete(void *data, void *user)
{
    deleted++;
    assert_ptr_equal(user, data);
}

static void borrowed_memory(void **state)
{
    (void)state;
    float memory[6] = {1, 2, 3, 4, 5, 6};
    ct_tensor *t = NULL, *row = NULL;
    deleted = 0;
    OK(ct_tensor_borrow_memory(memory, CT_SHAPE(2, 3), CT_FLOAT32, count_delete, memory, &t));
    assert_ptr_equal(ct_tensor_data(t), memory);
    OK(ct_select(t, 0, 1, &row));
    OK(ct_fill_(row, 9));
    assert_float_equal(memory[3], 9, 0);
    assert_float_equal(memory[2], 3, 0);
    ct_tensor_free(t);
    assert_int_equal(deleted, 0); /* the view holds it */
    ct_tensor_free(row);
    assert_int_equal(deleted, 1);
    /* a failure leaves the memory with the caller */
    FAILS(CT_ETORCH, ct_tensor_borrow_memory(memory, CT_SHAPE(-3), CT_FLOAT32, count_delete, memory, &t));
    assert_int_equal(deleted, 1);
}

static void bytes(void **state)
{
    (void)state;
    const float values[6] = {1, 2, 3, 4, 5, 6};
    float back[6] = {0};
    ct_tensor *t = floats(values, CT_SHAPE(2, 3)), *turned = NULL;
    OK(ct_transpose(t, 0, 1, &turned));
    assert_false(ct_tensor_is_contiguous(turned, CT_CONTIGUOUS));
    OK(ct_tensor_copy_to_memory(turned, back, sizeof back));
    const float expected[6] = {1, 4, 2, 5, 3, 6};
    assert_memory_equal(back, expected, sizeof back);
    OK(ct_tensor_copy_from_memory(turned, values, sizeof values)); /* seen through t as well */
    assert_float_equal(at(t, 1), 3, 0);
    FAILS(CT_EINVAL, ct_tensor_copy_to_memory(t, back, 20));
    FAILS(CT_EINVAL, ct_tensor_copy_from_memory(t, NULL, 24));
    /* a leaf that requires gradients may be filled from outside */
    OK(ct_tensor_set_requires_grad(t, true));
    OK(ct_tensor_copy_from_memory(t, values, sizeof values));
}

static void like(void **state)
{
    (void)state;
    ct_tensor *x = NULL, *last = NULL, *over = NULL, *gap = NULL, *zeros = NULL;
    float memory[48];
    OK(ct_tensor_randn(CT_SHAPE(2, 3, 4, 2), CT_FLOAT32, NULL, &x));
    OK(ct_contiguous(x, CT_CHANNELS_LAST, &last));
    assert_true(ct_tensor_is_contiguous(last, CT_CHANNELS_LAST));
    assert_int_equal(ct_tensor_stride(last, 1), 1);
    OK(ct_tensor_borrow_like(last, memory, &over));
    for (int d = 0; d < 4; d++)
        assert_int_equal(ct_tensor_stride(over, d), ct_tensor_stride(last, d));
    OK(ct_copy_(over, x));
    assert_memory_equal(memory, ct_tensor_data(last), sizeof memory);
    OK(ct_narrow(x, 3, 0, 1, &gap));
    FAILS(CT_EINVAL, ct_tensor_borrow_like(gap, memory, &over));
    OK(ct_tensor_zeros_like(last, &zeros));
    assert_int_equal(ct_tensor_stride(zeros, 1), 1);
    assert_float_equal(at(zeros, 47), 0, 0);
    OK(ct_tensor_empty_like(x, &zeros));
    assert_int_equal(ct_tensor_numel(zeros), 48);
    /* one channel: strides become those of channels_last even where both orders are the same */
    OK(ct_tensor_randn(CT_SHAPE(2, 1, 4, 4), CT_FLOAT32, NULL, &x));
    OK(ct_contiguous(x, CT_CHANNELS_LAST, &last));
    assert_int_equal(ct_tensor_stride(last, 1), 1);
    FAILS(CT_ETORCH, ct_contiguous(zeros, CT_CHANNELS_LAST, &last) ? CT_ETORCH : ct_view(zeros, CT_SHAPE(5), &last));
}

/* A parameter moves into other memory: its gradient, handles and whoever has it go along. */
static void other_data(void **state)
{
    (void)state;
    float memory[6] = {6, 5, 4, 3, 2, 1};
    ct_tensor *over = NULL, *leaf = floats(FLOATS(1, 2, 3, 4, 5, 6), CT_SHAPE(2, 3)), *other = NULL, *loss = NULL, *grad = NULL, *wide = NULL;
    OK(ct_tensor_borrow_on(memory, CT_SHAPE(2, 3), CT_FLOAT32, "cpu", &over));
    assert_ptr_equal(ct_tensor_data(over), memory);
    OK(ct_tensor_set_requires_grad(leaf, true));
    OK(ct_tensor_ref(leaf, &other));
    OK(ct_tensor_set_data(leaf, over));
    assert_ptr_equal(ct_tensor_data(other), memory);
    assert_true(ct_tensor_requires_grad(other));
    OK(ct_mul(leaf, leaf, &loss));
    OK(ct_sum(loss, &loss));
    OK(ct_backward(loss, 1.0));
    OK(ct_tensor_grad(other, &grad));
    assert_float_equal(at(grad, 0), 12, 0);
    memory[1] = 50;
    assert_float_equal(at(leaf, 1), 50, 0);
    OK(ct_to_dtype(over, CT_FLOAT64, &wide));
    FAILS(CT_EINVAL, ct_tensor_set_data(leaf, wide));
    OK(ct_view(over, CT_SHAPE(6), &wide));
    FAILS(CT_EINVAL, ct_tensor_set_data(leaf, wide));
    FAILS(CT_EINVAL, ct_tensor_set_data(leaf, NULL));
    FAILS(CT_EINVAL, ct_tensor_borrow_on(NULL, CT_SHAPE(6), CT_FLOAT32, "cpu", &wide));
    FAILS(CT_EINVAL, ct_tensor_borrow_on(memory, CT_SHAPE(6), CT_FLOAT32, "tpu", &wide));
}

static void views(void **state)
{
    (void)state;
    ct_tensor *t = NULL, *v = NULL;
    OK(ct_tensor_arange(24, CT_FLOAT32, NULL, &t));
    OK(ct_view(t, CT_SHAPE(2, 3, -1), &t));
    assert_int_equal(ct_tensor_size(t, 2), 4);
    OK(ct_select(t, 1, 2, &v));
    assert_float_equal(at(v, 0), 8, 0);
    OK(ct_slice(t, 2, 1, 4, 2, &v));
    assert_int_equal(ct_tensor_size(v, 2), 2);
    assert_float_equal(at(v, 1), 3, 0);
    OK(ct_narrow(t, 0, 1, 1, &v));
    assert_float_equal(at(v, 0), 12, 0);
    OK(ct_permute(t, CT_SHAPE(2, 0, 1), &v));
    assert_int_equal(ct_tensor_size(v, 0), 4);
    OK(ct_flatten(t, 1, -1, &v));
    assert_int_equal(ct_tensor_size(v, 1), 12);
    OK(ct_transpose(t, 0, 2, &v));
    FAILS(CT_ETORCH, ct_view(v, CT_SHAPE(24), &v));
    OK(ct_reshape(v, CT_SHAPE(24), &v));
    FAILS(CT_ETORCH, ct_view(t, CT_SHAPE(5, 5), &v));
    FAILS(CT_ETORCH, ct_select(t, 3, 0, &v));
    FAILS(CT_ETORCH, ct_narrow(t, 0, 1, 2, &v));
    assert_int_equal(ct_tensor_size(t, 3), -1);
}

static void converting(void **state)
{
    (void)state;
    ct_tensor *t = floats(FLOATS(1.25f, -2), CT_SHAPE(2)), *c = NULL;
    OK(ct_to_dtype(t, CT_INT64, &c));
    assert_float_equal(at(c, 1), -2, 0);
    OK(ct_to_dtype(t, CT_BFLOAT16, &c));
    assert_float_equal(at(c, 0), 1.25, 0);
    OK(ct_to_device(t, "cpu", &c));
    assert_ptr_equal(ct_tensor_data(c), ct_tensor_data(t));
    OK(ct_tensor_clone(t, &c));
    OK(ct_zero_(t));
    assert_float_equal(at(c, 0), 1.25, 0);
    OK(ct_copy_(t, c));
    assert_float_equal(at(t, 1), -2, 0);
    OK(ct_tensor_ref(t, &c));
    assert_ptr_equal(ct_tensor_data(c), ct_tensor_data(t));
    OK(ct_uniform_(t, 3, 4));
    assert_true(at(t, 0) >= 3 && at(t, 0) < 4);
    OK(ct_normal_(t, 100, 0.1));
    assert_true(fabs(at(t, 0) - 100) < 2);
    FAILS(CT_EINVAL, ct_to_dtype(t, (ct_dtype)0, &c));
    FAILS(CT_EINVAL, ct_to_device(t, "cudax", &c));
    ct_tensor *three = floats(FLOATS(1, 2, 3), CT_SHAPE(3));
    FAILS(CT_ETORCH, ct_copy_(t, three));
    FAILS(CT_EINVAL, ct_tensor_item(three, &(double){0}));
    FAILS(CT_EINVAL, ct_tensor_item_int64(NULL, &(int64_t){0}));
}

static void scopes(void **state)
{
    (void)state;
    ct_tensor *kept = NULL, *early = NULL, *outer = NULL;
    float memory[2] = {0, 0};
    deleted = 0;
    OK(ct_scope_begin());
    OK(ct_tensor_borrow_memory(memory, CT_SHAPE(2), CT_FLOAT32, count_delete, memory, &outer));
    OK(ct_scope_begin());
    OK(ct_tensor_borrow_memory(memory, CT_SHAPE(2), CT_FLOAT32, count_delete, memory, &kept));
    OK(ct_tensor_borrow_memory(memory, CT_SHAPE(2), CT_FLOAT32, count_delete, memory, &early));
    ct_tensor *last = NULL;
    OK(ct_tensor_borrow_memory(memory, CT_SHAPE(2), CT_FLOAT32, count_delete, memory, &last));
    OK(ct_tensor_keep(kept));
    ct_tensor_free(early);
    assert_int_equal(deleted, 1);
    OK(ct_scope_end());
    assert_int_equal(deleted, 2);
    OK(ct_scope_end());
    assert_int_equal(deleted, 3);
    ct_tensor_free(kept);
    assert_int_equal(deleted, 4);
    FAILS(CT_EINVAL, ct_tensor_keep(NULL));
}

static void scope_end_alone(void **state)
{
    (void)state;
    FAILS(CT_ESTATE, ct_scope_end());
}

static void errors(void **state)
{
    (void)state;
    ct_tensor *t = NULL, *a = floats(FLOATS(1, 2, 3), CT_SHAPE(3)), *b = floats(FLOATS(1, 2), CT_SHAPE(2));
    FAILS(CT_ETORCH, ct_add(a, b, &t));
    assert_non_null(strstr(ct_error_message(), "ct_add"));
    assert_non_null(strstr(ct_error_message(), "size"));
    assert_null(strstr(ct_error_message(), "Exception raised from"));
    FAILS(CT_EINVAL, ct_add(a, NULL, &t));
    assert_non_null(strstr(ct_error_message(), "b is NULL"));
    FAILS(CT_EINVAL, ct_add(a, a, NULL));
    assert_null(t);
    assert_string_equal(ct_status_name(CT_ETORCH), "CT_ETORCH");
    assert_string_equal(ct_status_name(12345), "CT_UNKNOWN");
    assert_true(strlen(ct_version()) > 0 && strlen(ct_torch_version()) > 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(making),     TEST(making_refuses), TEST(borrowed_memory), TEST(bytes),  TEST(like),
        TEST(views),      TEST(converting),     TEST(scopes),          TEST(errors), TEST(other_data), cmocka_unit_test(scope_end_alone),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
