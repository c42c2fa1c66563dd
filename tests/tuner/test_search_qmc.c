/* Scrambled Sobol and Halton sequences: known points, one point in every interval, discrepancy, and points of a space.
 */
#include "base/rng.h"
#include "cadre/search.h"
#include "tuner/search/halton.h"
#include "tuner/search/sobol.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define PARAMS(...) ((const cadre_param[]){__VA_ARGS__, CADRE_END})

/* Against scipy 1.17 (scipy.stats.qmc.Sobol(1024, scramble=False, bits=32)), which goes in the order of the Gray code.
 */
static void plain_sobol_points(void **state)
{
    (void)state;
    static const int dims[] = {0, 1, 2, 5, 100, 1023};
    static const uint32_t known[][7] = {
        {1, 2147483648, 2147483648, 2147483648, 2147483648, 2147483648, 2147483648},
        {2, 3221225472, 1073741824, 1073741824, 3221225472, 1073741824, 3221225472},
        {3, 1073741824, 3221225472, 3221225472, 1073741824, 3221225472, 1073741824},
        {7, 536870912, 2684354560, 1610612736, 1610612736, 1610612736, 2684354560},
        {1000, 943718400, 415236096, 2227175424, 3896508416, 3300917248, 3066036224},
    };
    sobol sequence;
    assert_int_equal(sobol_init(&sequence, SOBOL_DIMS, 0), 0);
    for (size_t row = 0; row < sizeof known / sizeof *known; row++)
        for (int k = 0; k < 6; k++)
            assert_int_equal(sobol_plain(&sequence, dims[k], known[row][0] ^ known[row][0] >> 1), known[row][1 + k]);
    sobol_free(&sequence);
}

static void plain_halton_points(void **state)
{
    (void)state;
    static const double tenth[] = {0.3125, 10.0 / 27, 0.08, 22.0 / 49, 10.0 / 11};
    halton sequence;
    assert_int_equal(halton_init(&sequence, 5, 0), 0);
    for (int d = 0; d < 5; d++) {
        assert_true(halton_plain(&sequence, d, 0) == 0);
        assert_true(fabs(halton_plain(&sequence, d, 10) - tenth[d]) < 1e-15);
    }
    halton_free(&sequence);
}

/* The table is what it should be: odd numbers below 2^j, polynomials of growing degree, so every coordinate is a
 * permutation. */
static void every_interval_of_every_coordinate_has_one_point(void **state)
{
    enum { POINTS = 1024, NDIMS = SOBOL_DIMS + 3 };
    (void)state;
    sobol sequence;
    assert_int_equal(sobol_init(&sequence, NDIMS, 7), 0);
    double *u = malloc(sizeof *u * POINTS * NDIMS);
    for (int i = 0; i < POINTS; i++)
        sobol_point(&sequence, (uint64_t)(2 * POINTS + i), u + (size_t)i * NDIMS); /* any block of 2^k of them */
    for (int d = 0; d < NDIMS; d++) {
        unsigned char had[POINTS] = {0};
        for (int i = 0; i < POINTS; i++) {
            double at = u[(size_t)i * NDIMS + (size_t)d];
            assert_true(at > 0 && at < 1);
            assert_int_equal(had[(int)(at * POINTS)]++, 0);
        }
    }
    free(u);
    sobol_free(&sequence);
    halton other;
    assert_int_equal(halton_init(&other, 3, 7), 0);
    unsigned char had[125] = {0};
    for (int i = 0; i < 125; i++) {
        double at[3];
        halton_point(&other, (uint64_t)(125 + i), at);
        assert_int_equal(had[(int)(at[2] * 125)]++, 0);
    }
    halton_free(&other);
}

/* In the first two dimensions Sobol is a (0, m, 2)-net: also every box of area 2^-m has one point. */
static void every_elementary_box_has_one_point(void **state)
{
    enum { M = 8, POINTS = 1 << M };
    (void)state;
    for (uint64_t seed = 0; seed < 5; seed++) {
        sobol sequence;
        assert_int_equal(sobol_init(&sequence, 2, seed), 0);
        for (int k = 0; k <= M; k++) {
            unsigned char had[POINTS] = {0};
            for (int i = 0; i < POINTS; i++) {
                double u[2];
                sobol_point(&sequence, (uint64_t)i, u);
                int box = ((int)(u[0] * (1 << k)) << (M - k)) + (int)(u[1] * (1 << (M - k)));
                assert_int_equal(had[box]++, 0);
            }
        }
        sobol_free(&sequence);
    }
}

/* L2-star discrepancy, squared (Warnock 1972). */
static double discrepancy(const double *u, int n, int ndims)
{
    double all = 0, pairs = 0;
    for (int i = 0; i < n; i++) {
        double one = 1;
        for (int d = 0; d < ndims; d++)
            one *= 1 - u[i * ndims + d] * u[i * ndims + d];
        all += one;
        for (int j = 0; j < n; j++) {
            double both = 1;
            for (int d = 0; d < ndims; d++)
                both *= 1 - fmax(u[i * ndims + d], u[j * ndims + d]);
            pairs += both;
        }
    }
    return pow(3, -ndims) - pow(2, 1 - ndims) / n * all + pairs / ((double)n * n);
}

static void they_are_more_even_than_random_points(void **state)
{
    enum { POINTS = 256, NDIMS = 5 };
    (void)state;
    double of_random = 0, of_sobol = 0, of_halton = 0, u[POINTS * NDIMS];
    for (uint64_t seed = 0; seed < 8; seed++) {
        base_rng rng;
        base_rng_init(&rng, seed, 0);
        for (int i = 0; i < POINTS * NDIMS; i++)
            u[i] = base_rng_uniform(&rng);
        of_random += discrepancy(u, POINTS, NDIMS);
        sobol one;
        halton two;
        assert_int_equal(sobol_init(&one, NDIMS, seed), 0);
        assert_int_equal(halton_init(&two, NDIMS, seed), 0);
        for (int i = 0; i < POINTS; i++)
            sobol_point(&one, (uint64_t)i, u + i * NDIMS);
        of_sobol += discrepancy(u, POINTS, NDIMS);
        for (int i = 0; i < POINTS; i++)
            halton_point(&two, (uint64_t)i, u + i * NDIMS);
        of_halton += discrepancy(u, POINTS, NDIMS);
        sobol_free(&one);
        halton_free(&two);
    }
    assert_true(of_sobol < of_random / 4);
    assert_true(of_halton < of_random / 3);
}

/* Each dimension as it is meant: by its quantiles; conditional ones where they are there. */
static void a_space_is_filled_evenly(void **state)
{
    enum { POINTS = 256 };
    cadre_space *space;
    assert_int_equal(
        cadre_space_new(PARAMS(CADRE_LOGUNIFORM("lr", 1e-4, 1), CADRE_CHOICE("opt", "a", "b", "c", "d"),
                               CADRE_RANDINT("n", 0, 8), CADRE_RANDN("z", 3, 2), CADRE_QUNIFORM("q", 0, 1.5, 0.5),
                               CADRE_WHEN("opt", "b", CADRE_UNIFORM("m", 0, 1))),
                        &space),
        CADRE_OK);
    cadre_searcher *searcher, *again;
    assert_int_equal(cadre_searcher_new(space, &(cadre_search){.name = *state}, 3, &searcher), CADRE_OK);
    assert_int_equal(cadre_searcher_new(space, &(cadre_search){.name = *state}, 3, &again), CADRE_OK);
    int decade[4] = {0}, opt[4] = {0}, n[8] = {0}, above = 0, q[4] = {0}, m = 0;
    for (int i = 0; i < POINTS; i++) {
        double x[6], same[6];
        int64_t number;
        if (i % 5 == 0) /* results from elsewhere use no point up */
            assert_int_equal(
                cadre_searcher_add(searcher, (double[]){0.1, 0, 0, 0, 0, NAN}, &(cadre_outcome){.value = 1}, &number),
                CADRE_OK);
        assert_int_equal(cadre_searcher_ask(searcher, &number, x), CADRE_OK);
        assert_int_equal(cadre_searcher_ask(again, &number, same), CADRE_OK);
        assert_memory_equal(x, same, sizeof x);
        decade[(int)(4 + log10(x[0]))]++;
        opt[(int)x[1]]++;
        n[(int)x[2]]++;
        above += x[3] > 3;
        q[(int)(2 * x[4])]++;
        m += x[1] == 1;
        assert_true(isnan(x[5]) == (x[1] != 1));
    }
    int slack = strcmp(*state, "sobol") == 0 ? 0 : 6; /* 256 is a power of two, not of every base */
    for (int k = 0; k < 4; k++)
        assert_true(abs(decade[k] - 64) <= slack && abs(opt[k] - 64) <= slack && abs(q[k] - 64) <= slack);
    for (int k = 0; k < 8; k++)
        assert_true(abs(n[k] - 32) <= slack);
    assert_true(abs(above - 128) <= slack && abs(m - 64) <= slack);
    cadre_searcher_free(searcher);
    cadre_searcher_free(again);
    cadre_space_free(space);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(plain_sobol_points),
        cmocka_unit_test(plain_halton_points),
        cmocka_unit_test(every_interval_of_every_coordinate_has_one_point),
        cmocka_unit_test(every_elementary_box_has_one_point),
        cmocka_unit_test(they_are_more_even_than_random_points),
        cmocka_unit_test_prestate(a_space_is_filled_evenly, "sobol"),
        cmocka_unit_test_prestate(a_space_is_filled_evenly, "halton"),
    };
    return cmocka_run_group_tests_name("quasi-random search", tests, NULL, NULL);
}
