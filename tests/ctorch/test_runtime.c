/* Random state, threads, autocast, memory, fork. */
#include "check.h"

#include <sys/wait.h>
#include <unistd.h>

static void random_state(void **state)
{
    (void)state;
    ct_tensor *a = NULL, *b = NULL;
    OK(ct_manual_seed(42));
    OK(ct_tensor_randn(CT_SHAPE(100), CT_FLOAT32, NULL, &a));
    const size_t nbytes = ct_rng_state_size();
    assert_true(nbytes > 1000);
    void *saved = malloc(nbytes);
    OK(ct_rng_get_state(saved, nbytes));
    OK(ct_tensor_randn(CT_SHAPE(37), CT_FLOAT32, NULL, &a));
    OK(ct_rng_set_state(saved, nbytes));
    OK(ct_tensor_randn(CT_SHAPE(37), CT_FLOAT32, NULL, &b));
    assert_memory_equal(ct_tensor_data(a), ct_tensor_data(b), 37 * sizeof(float));
    FAILS(CT_EINVAL, ct_rng_get_state(saved, nbytes - 1));
    FAILS(CT_EINVAL, ct_rng_get_state(NULL, nbytes));
    FAILS(CT_ETORCH, ct_rng_set_state(saved, 7));
    free(saved);
}

static void threads(void **state)
{
    (void)state;
    OK(ct_set_num_threads(1));
    assert_int_equal(ct_get_num_threads(), 1);
    FAILS(CT_EINVAL, ct_set_num_threads(0));
    FAILS(CT_EINVAL, ct_set_num_interop_threads(0));
    (void)ct_set_num_interop_threads(1);
}

static void autocast(void **state)
{
    (void)state;
    ct_tensor *x = NULL, *y = NULL;
    OK(ct_tensor_ones(CT_SHAPE(4, 4), CT_FLOAT32, NULL, &x));
    OK(ct_autocast_push("cpu", CT_BFLOAT16));
    OK(ct_autocast_push("cpu", CT_BFLOAT16));
    OK(ct_matmul(x, x, &y));
    assert_int_equal(ct_tensor_dtype(y), CT_BFLOAT16);
    OK(ct_autocast_pop());
    OK(ct_matmul(x, x, &y));
    assert_int_equal(ct_tensor_dtype(y), CT_BFLOAT16);
    OK(ct_autocast_pop());
    OK(ct_matmul(x, x, &y));
    assert_int_equal(ct_tensor_dtype(y), CT_FLOAT32);
    FAILS(CT_ESTATE, ct_autocast_pop());
    FAILS(CT_ENOTSUP, ct_autocast_push("cpu", CT_FLOAT64));
    FAILS(CT_EINVAL, ct_autocast_push("abacus", CT_BFLOAT16));
}

/* A convolution in bfloat16 is the float32 one of rounded inputs, rounded, forward and backward, and so are its gradients' dtypes. */
static void bfloat16_convolution(void **state)
{
    (void)state;
    OK(ct_manual_seed(4));
    OK(ct_scope_begin());
    ct_tensor *x, *w, *y, *z, *loss, *grad = NULL, *exact = NULL;
    OK(ct_tensor_randn(CT_SHAPE(3, 8, 9, 9), CT_FLOAT32, NULL, &x));
    OK(ct_tensor_randn(CT_SHAPE(4, 8, 3, 3), CT_FLOAT32, NULL, &w));
    OK(ct_tensor_set_requires_grad(w, true));
    OK(ct_conv2d(x, w, NULL, 2, 1, 1, 1, &y));
    OK(ct_sum(y, &loss));
    OK(ct_backward(loss, 1.0));
    OK(ct_tensor_grad(w, &exact));
    OK(ct_tensor_set_grad(w, NULL));
    OK(ct_autocast_push("cpu", CT_BFLOAT16));
    OK(ct_conv2d(x, w, NULL, 2, 1, 1, 1, &z));
    OK(ct_autocast_pop());
    assert_int_equal(ct_tensor_dtype(z), CT_BFLOAT16);
    OK(ct_to_dtype(z, CT_FLOAT32, &z));
    OK(ct_sum(z, &loss));
    OK(ct_backward(loss, 1.0));
    OK(ct_tensor_grad(w, &grad));
    assert_int_equal(ct_tensor_dtype(grad), CT_FLOAT32);
    const float *a = ct_tensor_data(y), *b = ct_tensor_data(z), *c = ct_tensor_data(exact), *d = ct_tensor_data(grad);
    for (int64_t i = 0; i < ct_tensor_numel(y); i++)
        assert_true(a[i] - b[i] < 0.3F && b[i] - a[i] < 0.3F); /* 72 products of rounded numbers of about 1 */
    for (int64_t i = 0; i < ct_tensor_numel(exact); i++)
        assert_true(c[i] - d[i] < 0.3F && d[i] - c[i] < 0.3F);
    OK(ct_scope_end());
}

static void devices(void **state)
{
    (void)state;
    assert_int_equal(ct_cuda_available(), ct_cuda_device_count() > 0);
    (void)ct_has_fast_bf16();
}

/* Many sizes in a random order: every tensor keeps its own values, through a change of the allocator too. */
static void memory(void **state)
{
    (void)state;
    enum { slots = 64 };
    ct_tensor *held[slots] = {NULL};
    unsigned random = 1;
    for (int round = 0; round < 3000; round++) {
        random = random * 1664525u + 1013904223u;
        const int slot = (int)(random >> 26);
        if (held[slot]) {
            const int64_t n = ct_tensor_numel(held[slot]);
            const int32_t *values = ct_tensor_data(held[slot]);
            assert_int_equal((uintptr_t)values % 64, 0);
            assert_int_equal(values[0], slot);
            assert_int_equal(values[n - 1], slot);
            assert_int_equal(values[n / 2], slot);
            ct_tensor_free(held[slot]);
            held[slot] = NULL;
        } else {
            const int64_t n = 1 + (int64_t)(random & 0xffff) * (1 << (random >> 16 & 7)) / (random & 0x10000 ? 1 : 1000);
            OK(ct_tensor_full(&n, 1, slot, CT_INT32, NULL, &held[slot]));
        }
        if (round % 1000 == 500)
            OK(ct_memory_tune(round != 1500));
    }
    for (int slot = 0; slot < slots; slot++)
        ct_tensor_free(held[slot]);
    OK(ct_memory_tune(false));
    OK(ct_memory_tune(true));
    ct_tensor *large = NULL;
    FAILS(CT_ENOMEM, ct_tensor_empty(CT_SHAPE(INT64_C(1) << 58), CT_FLOAT32, NULL, &large));
    OK(ct_tensor_empty(CT_SHAPE(70 << 20), CT_UINT8, NULL, &large)); /* larger than a segment */
    OK(ct_fill_(large, 1));
}

/* A parent that has loaded the library and used one thread forks workers that train. */
static void fork_trains(void **state)
{
    (void)state;
    OK(ct_set_num_threads(1));
    ct_module *m = CT_SEQUENTIAL(ct_nn_conv2d(1, 4, 3, NULL), ct_nn_relu(), ct_nn_flatten(), ct_nn_linear(4 * 36, 2, true));
    const pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        ct_tensor *x = NULL, *y = NULL, *loss = NULL;
        ct_status failed = ct_tensor_randn(CT_SHAPE(2, 1, 8, 8), CT_FLOAT32, NULL, &x);
        for (int i = 0; !failed && i < 3; i++)
            failed = ct_module_forward(m, x, &y) || ct_sum(y, &loss) || ct_backward(loss, 1);
        _exit(failed ? 1 : 0);
    }
    int status = -1;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    ct_module_free(m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {TEST(random_state), TEST(threads), TEST(autocast), TEST(bfloat16_convolution), TEST(devices),
                                       TEST(memory),       TEST(fork_trains)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
