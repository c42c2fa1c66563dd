/* What ctorch's tests share. */
#ifndef CTORCH_TEST_CHECK_H
#define CTORCH_TEST_CHECK_H

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <ctorch.h>

/* The call succeeds; its message is shown if it does not. */
#define OK(call)                                                                                                               \
    do {                                                                                                                       \
        ct_status ok_status_ = (call);                                                                                         \
        if (ok_status_ != CT_OK)                                                                                               \
            fail_msg("%s: %s: %s", #call, ct_status_name(ok_status_), ct_error_message());                                     \
    } while (0)

/* The call fails with this status and says something. */
#define FAILS(expected, call)                                                                                                  \
    do {                                                                                                                       \
        ct_status fails_status_ = (call);                                                                                      \
        if (fails_status_ != (expected))                                                                                       \
            fail_msg("%s: %s instead of %s (%s)", #call, ct_status_name(fails_status_), #expected, ct_error_message());        \
        assert_int_not_equal(strlen(ct_error_message()), 0);                                                                   \
    } while (0)

#define NEAR(expected, actual, tolerance)                                                                                      \
    do {                                                                                                                       \
        double near_e_ = (expected), near_a_ = (actual);                                                                       \
        if (!(fabs(near_e_ - near_a_) <= (tolerance) * fmax(1.0, fabs(near_e_))))                                              \
            fail_msg("%s is %.17g, not %.17g", #actual, near_a_, near_e_);                                                     \
    } while (0)

static inline double item(const ct_tensor *t)
{
    double value = NAN;
    OK(ct_tensor_item(t, &value));
    return value;
}

/* Element i of the flattened tensor. */
static inline double at(const ct_tensor *t, int64_t i)
{
    ct_tensor *flat = NULL, *one = NULL;
    double value = NAN;
    OK(ct_reshape(t, CT_SHAPE(-1), &flat));
    OK(ct_select(flat, 0, i, &one));
    OK(ct_tensor_item(one, &value));
    ct_tensor_free(one);
    ct_tensor_free(flat);
    return value;
}

static inline ct_tensor *floats(const float *values, const int64_t *sizes, size_t ndim)
{
    ct_tensor *t = NULL;
    size_t count = 1;
    for (size_t i = 0; i < ndim; i++)
        count *= (size_t)sizes[i];
    OK(ct_tensor_from_memory(values, count * sizeof(float), sizes, ndim, CT_FLOAT32, &t));
    return t;
}
#define FLOATS(...) (const float[]){__VA_ARGS__}

/* Every test runs in a scope, so that it need not free what it makes. */
static inline int open_scope(void **state)
{
    (void)state;
    return ct_scope_begin() == CT_OK ? 0 : -1;
}
static inline int close_scope(void **state)
{
    (void)state;
    return ct_scope_end() == CT_OK ? 0 : -1;
}
#define TEST(function) cmocka_unit_test_setup_teardown(function, open_scope, close_scope)

#endif
