/* What is drawn follows the distributions: Kolmogorov-Smirnov for continuous ones, chi-square for the others, with
 * fixed seeds. */
#include "cadre/space.h"
#include "tuner/space.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { DRAWS = 20000 };

static cadre_space *make(cadre_param param)
{
    cadre_param params[] = {param, CADRE_END};
    cadre_space *space;
    if (cadre_space_new(params, &space))
        fail_msg("%s", cadre_error_message());
    return space;
}

static double *draw(const cadre_space *space)
{
    double *values = malloc(DRAWS * sizeof *values);
    for (int i = 0; i < DRAWS; i++) {
        cadre_space_sample(space, 42, (uint64_t)i, &values[i]);
        assert_int_equal(cadre_space_check(space, &values[i]), CADRE_OK);
    }
    return values;
}

static int ascending(const void *a, const void *b)
{
    return (*(const double *)a > *(const double *)b) - (*(const double *)a < *(const double *)b);
}

/* The largest distance of the empirical from the true distribution function; 1.63 / sqrt(n) is passed once in a
 * hundred. */
static void follows(cadre_param param, double (*cdf)(double))
{
    cadre_space *space = make(param);
    double *values = draw(space), worst = 0;
    qsort(values, DRAWS, sizeof *values, ascending);
    for (int i = 0; i < DRAWS; i++) {
        double p = cdf(values[i]);
        worst = fmax(worst, fmax(fabs(p - (double)i / DRAWS), fabs((i + 1.0) / DRAWS - p)));
    }
    assert_true(worst < 1.63 / sqrt(DRAWS));
    free(values);
    cadre_space_free(space);
}

static double uniform_cdf(double x) { return (x + 3) / 5; }
static double loguniform_cdf(double x) { return (log10(x) + 4) / 3; }
static double normal_cdf(double x) { return 0.5 * erfc(-(x - 2) / 0.5 * M_SQRT1_2); }

static void continuous_draws_follow(void **state)
{
    (void)state;
    follows((cadre_param)CADRE_UNIFORM("a", -3, 2), uniform_cdf);
    follows((cadre_param)CADRE_LOGUNIFORM("a", 1e-4, 1e-1), loguniform_cdf);
    follows((cadre_param)CADRE_RANDN("a", 2, 0.5), normal_cdf);
}

/* Chi-square of the counts of low, low + step, ... against their shares. */
static void falls(cadre_param param, int cells, double low, double step, double (*share)(double value))
{
    cadre_space *space = make(param);
    double *values = draw(space), chi = 0, total = 0;
    int counts[64] = {0};
    for (int i = 0; i < DRAWS; i++) {
        double cell = (values[i] - low) / step;
        assert_true(fabs(cell - nearbyint(cell)) < 1e-9 && cell > -0.5 && cell < cells - 0.5);
        counts[(int)nearbyint(cell)]++;
    }
    for (int i = 0; i < cells; i++) {
        double expected = DRAWS * share(low + i * step);
        total += expected;
        chi += expected > 0 ? (counts[i] - expected) * (counts[i] - expected) / expected : counts[i] * 1e9;
    }
    assert_true(fabs(total - DRAWS) < 1e-6 * DRAWS);
    /* Wilson and Hilferty: the 99 % quantile of chi-square */
    double k = cells - 1, bound = k * pow(1 - 2 / (9 * k) + 2.326 * sqrt(2 / (9 * k)), 3);
    assert_true(chi < bound);
    free(values);
    cadre_space_free(space);
}

static double quarter(double x) { return (void)x, 0.25; }
static double fifth(double x) { return (void)x, 0.2; }
static double log_int(double x) { return (log(x + 0.5) - log(x - 0.5)) / (log(8.5) - log(0.5)); }
static double log_step(double x) { return (log(x + 0.25) - log(x - 0.25)) / (log(2.75) - log(0.25)); }
static double log_eights(double x) { return (log(x + 4) - log(x - 4)) / (log(68) - log(4)); }
static double rounded_normal(double x) { return 0.5 * (erfc(-(x + 0.25) * M_SQRT1_2) - erfc(-(x - 0.25) * M_SQRT1_2)); }

static void stepped_draws_follow(void **state)
{
    (void)state;
    falls((cadre_param)CADRE_RANDINT("a", 3, 7), 4, 3, 1, quarter);
    falls((cadre_param)CADRE_QRANDINT("a", 2, 10, 2), 5, 2, 2, fifth);
    falls((cadre_param)CADRE_QUNIFORM("a", -0.5, 0.5, 0.25), 5, -0.5, 0.25, fifth);
    falls((cadre_param)CADRE_LOGRANDINT("a", 1, 9), 8, 1, 1, log_int);
    falls((cadre_param)CADRE_QLOGRANDINT("a", 8, 64, 8), 8, 8, 8, log_eights);
    falls((cadre_param)CADRE_QLOGUNIFORM("a", 0.5, 2.5, 0.5), 5, 0.5, 0.5, log_step);
    falls((cadre_param)CADRE_QRANDN("a", 0, 1, 0.5), 25, -6, 0.5, rounded_normal);
    falls((cadre_param)CADRE_CHOICE("a", "w", "x", "y", "z"), 4, 0, 1, quarter);
    falls((cadre_param)CADRE_GRID_INT("a", 10, 20, 30, 40), 4, 0, 1, quarter);
}

static void the_high_end_is_out_where_ray_has_it_out(void **state)
{
    (void)state;
    const cadre_param params[] = {CADRE_UNIFORM("a", 0, 1), CADRE_LOGUNIFORM("a", 0.1, 1),
                                  CADRE_UNIFORM("a", -1e-300, 0)};
    for (int i = 0; i < 3; i++) {
        cadre_space *space = make(params[i]);
        const cadre_dim *dim = cadre_space_dim(space, 0);
        assert_true(cadre_dim_from_unit(dim, 1) < dim->high);
        assert_true(cadre_dim_from_unit(dim, 0) >= dim->low);
        cadre_space_free(space);
    }
    cadre_space *space = make((cadre_param)CADRE_UNIFORM("a", 3, 3)); /* one value is one value */
    assert_true(cadre_dim_from_unit(cadre_space_dim(space, 0), 0.7) == 3);
    cadre_space_free(space);
}

static void shares_come_back(void **state)
{
    (void)state;
    const cadre_param params[] = {
        CADRE_UNIFORM("a", -3, 2),       CADRE_LOGUNIFORM("a", 1e-4, 1e-1), CADRE_RANDN("a", 2, 0.5),
        CADRE_QUNIFORM("a", 0, 1, 0.05), CADRE_RANDINT("a", 0, 100),        CADRE_LOGRANDINT("a", 1, 1025),
        CADRE_QRANDN("a", 0, 1, 0.5),    CADRE_CHOICE("a", "x", "y", "z"),  CADRE_QLOGUNIFORM("a", 0.5, 2.5, 0.5),
    };
    for (size_t p = 0; p < sizeof params / sizeof *params; p++) {
        cadre_space *space = make(params[p]);
        const cadre_dim *dim = cadre_space_dim(space, 0);
        for (int i = 1; i < 100; i++) {
            double value = cadre_dim_from_unit(dim, i / 100.0), share = cadre_dim_to_unit(dim, value);
            if (dim->step == 0)
                assert_true(fabs(share - i / 100.0) < 1e-9);
            assert_true(fabs(cadre_dim_from_unit(dim, share) - value) <= 1e-12 * fabs(value));
        }
        cadre_space_free(space);
    }
}

static void steps_are_without_dust(void **state)
{
    (void)state;
    cadre_space *space = make((cadre_param)CADRE_QUNIFORM("a", 0, 0.8, 0.05));
    const double clean[] = {0, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.45, 0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8};
    for (int i = 0; i < 17; i++) {
        double x = i * 0.05;
        cadre_space_repair(space, &x);
        assert_true(x == clean[i]);
    }
    cadre_space_free(space);
}

static void quantiles_of_the_normal(void **state)
{
    (void)state;
    /* Abramowitz and Stegun, table 26.5, to their ten digits, and the far tail by the function's own inverse */
    assert_true(fabs(tuner_normal_quantile(0.975) - 1.9599639845) < 1e-10);
    assert_true(fabs(tuner_normal_quantile(0.99) - 2.3263478740) < 1e-10);
    assert_true(fabs(tuner_normal_quantile(0.5)) < 1e-16);
    for (double p = 1e-300; p < 0.5; p *= 7)
        assert_true(fabs(0.5 * erfc(-tuner_normal_quantile(p) * M_SQRT1_2) / p - 1) < 1e-11);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(continuous_draws_follow),
        cmocka_unit_test(stepped_draws_follow),
        cmocka_unit_test(the_high_end_is_out_where_ray_has_it_out),
        cmocka_unit_test(shares_come_back),
        cmocka_unit_test(steps_are_without_dust),
        cmocka_unit_test(quantiles_of_the_normal),
    };
    return cmocka_run_group_tests_name("space_sample", tests, NULL, NULL);
}
