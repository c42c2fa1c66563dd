#include "test_base.h"

#include "base/rng.h"

#include <math.h>

/* Known answers of Random123 1.14 (kat_vectors, philox4x32 10 rounds): counter, key, result. */
static const uint32_t known[3][10] = {
    {0, 0, 0, 0, 0, 0, 0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8},
    {0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff, 0x408f276d, 0x41c83b0e, 0xa20bc7c6,
     0x6d5451fd},
    {0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344, 0xa4093822, 0x299f31d0, 0xd16cfe09, 0x94fdcceb, 0x5001e420,
     0x24126ea1},
};

static uint64_t join(uint32_t low, uint32_t high) { return low | (uint64_t)high << 32; }

static void known_answers(void **state)
{
    (void)state;
    for (int i = 0; i < 3; i++) {
        base_rng rng;
        base_rng_init(&rng, join(known[i][4], known[i][5]), join(known[i][2], known[i][3]));
        rng.counter = join(known[i][0], known[i][1]);
        for (int word = 0; word < 4; word++)
            assert_int_equal(base_rng_u32(&rng), known[i][6 + word]);
    }
}

static void same_key_same_numbers(void **state)
{
    (void)state;
    base_rng a, b, other;
    base_rng_init(&a, 7, 1);
    base_rng_init(&b, 7, 1);
    base_rng_init(&other, 7, 2);
    int equal = 0;
    for (int i = 0; i < 1000; i++) {
        uint64_t drawn = base_rng_u64(&a);
        assert_true(drawn == base_rng_u64(&b));
        equal += drawn == base_rng_u64(&other);
    }
    assert_int_equal(equal, 0);
}

static void a_copy_goes_on_alike(void **state)
{
    (void)state;
    base_rng a, b;
    base_rng_init(&a, 1, 0);
    base_rng_u32(&a); /* in the middle of a block */
    b = a;
    for (int i = 0; i < 9; i++)
        assert_int_equal(base_rng_u32(&a), base_rng_u32(&b));
}

static void below_is_within_and_even(void **state)
{
    (void)state;
    base_rng rng;
    base_rng_init(&rng, 3, 0);
    assert_int_equal(base_rng_below(&rng, 0), 0);
    assert_int_equal(base_rng_below(&rng, 1), 0);
    for (int i = 0; i < 1000; i++)
        assert_true(base_rng_below(&rng, UINT64_C(1) << 63 | 1) <= UINT64_C(1) << 63);
    int counts[7] = {0};
    for (int i = 0; i < 70000; i++)
        counts[base_rng_below(&rng, 7)]++;
    double chi = 0;
    for (int i = 0; i < 7; i++)
        chi += (counts[i] - 10000.0) * (counts[i] - 10000.0) / 10000.0;
    assert_true(chi < 22.5); /* 6 degrees of freedom, p = 0.001; the seed is fixed */
}

static void uniform_and_normal_have_their_moments(void **state)
{
    (void)state;
    enum { N = 100000 };
    base_rng rng;
    base_rng_init(&rng, 11, 5);
    double sum = 0, squares = 0;
    for (int i = 0; i < N; i++) {
        double u = base_rng_uniform(&rng);
        assert_true(u >= 0 && u < 1);
        sum += u;
    }
    assert_true(fabs(sum / N - 0.5) < 0.004);
    sum = 0;
    for (int i = 0; i < N; i++) {
        double z = base_rng_normal(&rng);
        assert_true(isfinite(z));
        sum += z;
        squares += z * z;
    }
    assert_true(fabs(sum / N) < 0.012);
    assert_true(fabs(squares / N - 1) < 0.02);
}

static void mixing_tells_arguments_apart(void **state)
{
    (void)state;
    assert_true(base_rng_mix(1, 2) != base_rng_mix(2, 1));
    assert_true(base_rng_mix(0, 0) != base_rng_mix(0, 1));
    assert_true(base_rng_mix(0, 0) == base_rng_mix(0, 0));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(known_answers),
        cmocka_unit_test(same_key_same_numbers),
        cmocka_unit_test(a_copy_goes_on_alike),
        cmocka_unit_test(below_is_within_and_even),
        cmocka_unit_test(uniform_and_normal_have_their_moments),
        cmocka_unit_test(mixing_tells_arguments_apart),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
