/* CMA-ES from inside: eigenvectors, coordinates, margins and choices against what they should be; and what it finds. */
#include "tuner/search/cma.h"
#include "tuner/search/eigen.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define PARAMS(...) ((const cadre_param[]){__VA_ARGS__, CADRE_END})

static cadre_space *make(const cadre_param *params)
{
    cadre_space *space;
    if (cadre_space_new(params, &space))
        fail_msg("%s", cadre_error_message());
    return space;
}

static cadre_searcher *start(const cadre_space *space, const char *json, uint64_t seed)
{
    cadre_searcher *searcher;
    if (cadre_searcher_new(space, &(cadre_search){.name = "cmaes", .json = json}, seed, &searcher))
        fail_msg("%s", cadre_error_message());
    return searcher;
}

/* ---- parts ------------------------------------------------------------------------------------------------------- */

static void eigenvectors_give_the_matrix_again(void **state)
{
    enum { MOST = 30 };
    (void)state;
    base_rng rng;
    base_rng_init(&rng, 1, 0);
    for (int n = 1; n <= MOST; n++) {
        double a[MOST * MOST] = {0}, axis[MOST * MOST], value[MOST], spare[3 * MOST];
        for (int i = 0; i < n; i++) /* from 1 to 1e-6, and some zeros */
            for (int j = 0; j <= i; j++)
                a[i * n + j] = a[j * n + i] =
                    (i + j) % 7 == 3 ? 0 : base_rng_normal(&rng) * pow(10, -3.0 * (i + j) / n);
        memcpy(axis, a, sizeof a);
        assert_true(eigen_symmetric(n, axis, value, spare));
        for (int i = 0; i < n; i++)
            for (int j = 0; j < n; j++) {
                double again = 0, product = 0;
                for (int k = 0; k < n; k++) {
                    again += value[k] * axis[k * n + i] * axis[k * n + j];
                    product += axis[i * n + k] * axis[j * n + k];
                }
                assert_true(fabs(again - a[i * n + j]) < 1e-13);
                assert_true(fabs(product - (i == j)) < 1e-13);
            }
    }
    double bad[4] = {1, 0, NAN, 1}, value[2], spare[6];
    assert_false(eigen_symmetric(2, bad, value, spare));
}

static void points_and_coordinates_agree(void **state)
{
    (void)state;
    cadre_space *space =
        make(PARAMS(CADRE_LOGUNIFORM("lr", 1e-5, 1), CADRE_CHOICE("opt", "a", "b", "c"), CADRE_UNIFORM("u", -3, 5),
                    CADRE_WHEN("opt", "b", CADRE_RANDINT("n", 1, 9)), CADRE_LOGRANDINT("m", 1, 1025),
                    CADRE_RANDN("z", 2, 3), CADRE_QUNIFORM("q", 0, 0.8, 0.05), CADRE_UNIFORM("fixed", 4, 4)));
    cma_coords coords;
    assert_int_equal(cma_coords_init(&coords, space, 0.05), CADRE_OK);
    assert_int_equal(coords.n, 6);
    assert_int_equal(coords.choices, 1);
    for (uint64_t i = 0; i < 2000; i++) {
        double x[8], again[8], g[6], otherwise[6] = {0.5, 0.5, 0.5, 0.5, 0.5, 0.5};
        int pick[1];
        cadre_space_sample(space, 1, i, x);
        if (i % 3 == 0)
            x[0] = i % 2 ? 1e-5 : 1; /* on a bound */
        cma_coords_of_point(&coords, x, otherwise, g, pick);
        cma_coords_point(&coords, g, pick, again);
        for (int d = 0; d < 8; d++)
            assert_true(isnan(x[d]) ? isnan(again[d]) : fabs(x[d] - again[d]) <= 1e-9 * fmax(1, fabs(x[d])));
        for (int k = 0; k < 6; k++) /* anywhere at all there is a point */
            g[k] = (otherwise[k] - g[k]) * pow(10, (double)(i % 5));
        cma_coords_point(&coords, g, pick, again);
        assert_int_equal(cadre_space_check(space, again), CADRE_OK);
    }
    double left, right;
    cma_coords_step(&coords.coord[2], 0.5, &left, &right); /* 1 to 8, from 0.5 to 8.5 */
    assert_true(fabs(left - 0.5) < 1e-12 || fabs(right - 0.5) < 1e-12);
    assert_true(fabs(right - left - 0.125) < 1e-12);
    cma_coords_step(&coords.coord[2], -1, &left, &right);
    assert_true(isinf(left) && fabs(right - 0.125) < 1e-12);
    cma_coords_free(&coords);
    cadre_space_free(space);
}

static double below(double z) { return 0.5 * erfc(-z * M_SQRT1_2); }

static void a_margin_keeps_steps_open(void **state)
{
    (void)state;
    cadre_space *space = make(PARAMS(CADRE_RANDINT("n", 0, 10), CADRE_UNIFORM("u", 0, 1)));
    cma_coords coords;
    cma_strategy strategy;
    assert_int_equal(cma_coords_init(&coords, space, 0.05), CADRE_OK);
    assert_int_equal(cma_strategy_init(&strategy, 2, 6, false), CADRE_OK);
    for (int cell = 0; cell < 10; cell++)
        for (int k = 1; k < 20; k++) {
            double mean[2] = {(cell + k / 20.0) / 10, 0.5}, least = 1.0 / (2 * 6), left, right;
            cma_strategy_start(&strategy, 6, mean, 1e-4); /* far narrower than a step */
            cma_margin(&strategy, &coords);
            double at = strategy.mean[0], sd = cma_strategy_sd(&strategy, 0);
            assert_true(fabs(cma_strategy_sd(&strategy, 1) - 1e-4) < 1e-12 && strategy.mean[1] == 0.5);
            cma_coords_step(&coords.coord[0], at, &left, &right);
            assert_true(floor(at * 10) == cell);
            double down = isinf(left) ? 0 : below((left - at) / sd), up = isinf(right) ? 0 : below((at - right) / sd);
            if (cell == 0 || cell == 9)
                assert_true(down + up > least * (1 - 1e-6));
            else
                assert_true(down > least / 2 * (1 - 1e-6) && up > least / 2 * (1 - 1e-6));
            cma_margin(&strategy, &coords); /* what is open enough stays as it is */
            assert_true(fabs(strategy.mean[0] - at) < 1e-9 && fabs(cma_strategy_sd(&strategy, 0) - sd) < 1e-9);
        }
    cma_strategy_free(&strategy);
    cma_coords_free(&coords);
    cadre_space_free(space);
}

static void choices_go_to_the_best_and_keep_all(void **state)
{
    enum { LAMBDA = 10 };
    (void)state;
    cadre_space *space = make(PARAMS(CADRE_CHOICE("a", "0", "1", "2", "3", "4"), CADRE_CHOICE_BOOL("b")));
    cma_coords coords;
    cma_choices choices;
    assert_int_equal(cma_coords_init(&coords, space, 0.05), CADRE_OK);
    assert_int_equal(cma_choices_init(&choices, &coords), CADRE_OK);
    cma_choices_start(&choices);
    static const double pull[LAMBDA] = {0.4, 0.3, 0.15, 0.1, 0.05};
    base_rng rng;
    base_rng_init(&rng, 3, 0);
    for (int generation = 0; generation < 60; generation++) {
        int pick[LAMBDA * 2], sorted[LAMBDA * 2], count = 0;
        for (int k = 0; k < LAMBDA; k++)
            cma_choices_draw(&choices, &rng, pick + 2 * k);
        for (int away = 0; away <= 5; away++) /* 3 and true are best */
            for (int k = 0; k < LAMBDA; k++)
                if (abs(pick[2 * k] - 3) + (pick[2 * k + 1] != 1) == away) {
                    sorted[2 * count] = pick[2 * k];
                    sorted[2 * count++ + 1] = pick[2 * k + 1];
                }
        assert_int_equal(count, LAMBDA);
        cma_choices_update(&choices, LAMBDA, sorted, pull);
        for (int i = 0; i < 2; i++) {
            double sum = 0;
            for (int v = 0; v < choices.values[i]; v++) {
                sum += choices.q[i * choices.widest + v];
                assert_true(choices.q[i * choices.widest + v] > 0.03);
            }
            assert_true(fabs(sum - 1) < 1e-12);
        }
    }
    assert_true(choices.q[3] > 0.6 && choices.q[choices.widest + 1] > 0.6);
    cma_choices_free(&choices);
    cma_coords_free(&coords);
    cadre_space_free(space);
}

/* ---- searches ---------------------------------------------------------------------------------------------------- */

typedef double function(const double *x, int n);

static double sphere(const double *x, int n)
{
    double sum = 0;
    for (int i = 0; i < n; i++)
        sum += (x[i] - 1.2) * (x[i] - 1.2);
    return sum;
}

static double ellipsoid(const double *x, int n) /* turned, condition 1e6 */
{
    double sum = 0;
    for (int i = 0; i < n; i++)
        sum += pow(1e6, i / (n - 1.0)) * pow(x[i] + x[(i + 1) % n] / 2 - 0.7, 2);
    return sum;
}

static double rosenbrock(const double *x, int n)
{
    double sum = 0;
    for (int i = 0; i + 1 < n; i++)
        sum += 100 * pow(x[i + 1] - x[i] * x[i], 2) + pow(1 - x[i], 2);
    return sum;
}

static double rastrigin(const double *x, int n)
{
    double sum = 0;
    for (int i = 0; i < n; i++)
        sum += 10 + pow(x[i] - 1.2, 2) - 10 * cos(6.283185307179586 * (x[i] - 1.2));
    return sum;
}

static double slope(const double *x, int n) /* its best is in a corner */
{
    double sum = 0;
    for (int i = 0; i < n; i++)
        sum += (i % 2 ? 5 - x[i] : 5 + x[i]) * pow(10, i);
    return sum;
}

static cadre_space *box(int n)
{
    static const char *const names[] = {"a", "b", "c", "d", "e", "f"};
    cadre_param params[7];
    for (int i = 0; i < n; i++)
        params[i] = (cadre_param)CADRE_UNIFORM(names[i], -5, 5);
    params[n] = (cadre_param)CADRE_END;
    return make(params);
}

/* The best value after so many trials, `width` of them running at once and told in another order. */
static double best_of(function *f, int n, const char *json, uint64_t seed, int trials, int width)
{
    enum { WIDEST = 8 };
    cadre_space *space = box(n);
    cadre_searcher *searcher = start(space, json, seed);
    double x[WIDEST][6], best = INFINITY;
    int64_t number[WIDEST];
    int running = 0;
    for (int i = 0; i < trials; i++) {
        assert_int_equal(cadre_searcher_ask(searcher, &number[running], x[running]), CADRE_OK);
        if (++running < width)
            continue;
        int which = (i * 7) % width;
        cadre_outcome outcome = {.value = f(x[which], n)};
        best = fmin(best, outcome.value);
        assert_int_equal(cadre_searcher_tell(searcher, number[which], &outcome), CADRE_OK);
        running--;
        number[which] = number[running];
        memcpy(x[which], x[running], sizeof x[which]);
    }
    cadre_searcher_free(searcher);
    cadre_space_free(space);
    return best;
}

static void it_finds_minima(void **state)
{
    (void)state;
    for (uint64_t seed = 0; seed < 4; seed++) {
        assert_true(best_of(sphere, 6, NULL, seed, 1500, 1) < 1e-8);
        assert_true(best_of(ellipsoid, 5, NULL, seed, 5000, 1) < 1e-8);
        assert_true(best_of(rosenbrock, 5, NULL, seed, 5000, 1) < 1e-8);
        assert_true(best_of(slope, 4, NULL, seed, 1500, 1) < 1e-8);
        assert_true(best_of(sphere, 1, NULL, seed, 300, 1) < 1e-8);
        assert_true(best_of(sphere, 6, NULL, seed, 2500, 8) < 1e-8); /* told late, and out of order */
        assert_true(best_of(ellipsoid, 5, "{\"popsize\": 20, \"sigma\": 0.3, \"startup\": 10}", seed, 4000, 3) < 1e-8);
        assert_true(best_of(ellipsoid, 5, "{\"lr_adapt\": 1}", seed, 14000, 1) < 1e-8);
    }
}

static void restarts_leave_local_minima(void **state)
{
    (void)state;
    int found[3] = {0};
    static const char *const json[] = {"{\"restarts\": \"none\"}", "{\"restarts\": \"ipop\"}",
                                       "{\"restarts\": \"bipop\"}"};
    for (uint64_t seed = 0; seed < 12; seed++)
        for (int k = 0; k < 3; k++)
            found[k] += best_of(rastrigin, 3, json[k], seed, 20000, 1) < 1e-6;
    assert_true(found[0] <= 8); /* where it has converged it widens, too, but begins nowhere else */
    assert_true(found[1] >= 10 && found[2] >= 10);
}

/* With noise as large as the signal, smaller steps of the distribution end nearer to the minimum. */
static void lower_learning_rates_bear_noise(void **state)
{
    (void)state;
    double sums[2] = {0};
    for (int adapt = 0; adapt < 2; adapt++)
        for (uint64_t seed = 0; seed < 6; seed++) {
            cadre_space *space = box(5);
            cadre_searcher *searcher =
                start(space, adapt ? "{\"lr_adapt\": 1, \"restarts\": \"none\"}" : "{\"restarts\": \"none\"}", seed);
            base_rng rng;
            base_rng_init(&rng, seed, 77);
            for (int i = 0; i < 20000; i++) {
                double x[5];
                int64_t number;
                assert_int_equal(cadre_searcher_ask(searcher, &number, x), CADRE_OK);
                cadre_outcome outcome = {.value = sphere(x, 5) + base_rng_normal(&rng)};
                assert_int_equal(cadre_searcher_tell(searcher, number, &outcome), CADRE_OK);
                sums[adapt] += i >= 15000 ? sphere(x, 5) : 0;
            }
            cadre_searcher_free(searcher);
            cadre_space_free(space);
        }
    assert_true(sums[1] < 0.85 * sums[0]);
}

static double mixed(const double *x)
{
    double sum = x[0] == 2 ? 0 : 1;
    sum += pow(x[1] - 7, 2) / 10 + pow(log10(x[2]) + 3, 2) + pow(x[3] - 0.35, 2);
    return sum + (isnan(x[4]) ? 0.5 : pow(x[4] - 0.2, 2));
}

static void it_finds_mixed_minima(void **state)
{
    (void)state;
    int found = 0;
    for (uint64_t seed = 0; seed < 10; seed++) {
        cadre_space *space = make(PARAMS(CADRE_CHOICE("opt", "a", "b", "c", "d"), CADRE_RANDINT("layers", 1, 20),
                                         CADRE_LOGUNIFORM("lr", 1e-6, 1), CADRE_QUNIFORM("dropout", 0, 0.8, 0.05),
                                         CADRE_WHEN("opt", "c", CADRE_UNIFORM("momentum", 0, 1))));
        cadre_searcher *searcher = start(space, NULL, seed);
        double best = INFINITY;
        for (int i = 0; i < 600; i++) {
            double x[5];
            int64_t number;
            assert_int_equal(cadre_searcher_ask(searcher, &number, x), CADRE_OK);
            cadre_outcome outcome = {.value = mixed(x)};
            if (x[1] > 12) /* crashes: left like a bad region */
                outcome = (cadre_outcome){.end = CADRE_ENDED_FAILED, .value = NAN};
            else
                best = fmin(best, outcome.value);
            assert_int_equal(cadre_searcher_tell(searcher, number, &outcome), CADRE_OK);
        }
        found += best < 1e-6;
        cadre_searcher_free(searcher);
        cadre_space_free(space);
    }
    assert_true(found >= 9);
}

static void no_point_is_tried_twice_while_there_are_others(void **state)
{
    (void)state;
    cadre_space *space =
        make(PARAMS(CADRE_RANDINT("n", 0, 12), CADRE_CHOICE("opt", "a", "b", "c"), CADRE_QUNIFORM("q", 0, 1, 0.25)));
    cadre_searcher *searcher = start(space, NULL, 4);
    bool had[12][3][5] = {0};
    int twice = 0;
    for (int i = 0; i < 160; i++) {
        double x[3];
        int64_t number;
        assert_int_equal(cadre_searcher_ask(searcher, &number, x), CADRE_OK);
        bool *one = &had[(int)x[0]][(int)x[1]][(int)(x[2] * 4)];
        twice += *one;
        *one = true;
        cadre_outcome outcome = {.value = x[0] + x[1] + x[2]};
        assert_int_equal(cadre_searcher_tell(searcher, number, &outcome), CADRE_OK);
    }
    assert_int_equal(twice, 0); /* of 180 */
    cadre_searcher_free(searcher);
    cadre_space_free(space);
}

static void earlier_results_say_where_to_begin(void **state)
{
    (void)state;
    cadre_space *space = box(4);
    cadre_searcher *searcher = start(space, NULL, 2);
    int64_t number;
    double x[4], sum = 0;
    for (uint64_t i = 0; i < 100; i++) {
        cadre_space_sample(space, 8, i, x);
        assert_int_equal(cadre_searcher_add(searcher, x, &(cadre_outcome){.value = sphere(x, 4)}, &number), CADRE_OK);
    }
    cadre_searcher_add(searcher, (double[]){-5, -5, -5, -5}, &(cadre_outcome){.end = CADRE_ENDED_FAILED}, &number);
    for (int i = 0; i < 8; i++) {
        assert_int_equal(cadre_searcher_ask(searcher, &number, x), CADRE_OK);
        sum += sphere(x, 4) / 8;
    }
    assert_true(sum < 14); /* 39 on average over the box */
    cadre_searcher_free(searcher);
    searcher = start(space, NULL, 2); /* one good result is enough */
    cadre_searcher_add(searcher, (double[]){1.2, 1.2, 1.2, 1.2}, &(cadre_outcome){.value = 0}, &number);
    for (int i = 0; i < 8; i++) {
        assert_int_equal(cadre_searcher_ask(searcher, &number, x), CADRE_OK);
        assert_true(sphere(x, 4) < 25);
    }
    cadre_searcher_free(searcher);
    cadre_space_free(space);
}

/* All but one of a generation equally good: shared evenly, their weights in the covariance are below 0 together, and
 * still they say where to go. */
static void a_tie_at_the_top_loses_nothing(void **state)
{
    enum { N = 20, LAMBDA = 12 };
    (void)state;
    cadre_param params[N + 1];
    char names[N][8];
    for (int i = 0; i < N; i++) {
        snprintf(names[i], sizeof names[i], "x%d", i);
        params[i] = (cadre_param)CADRE_UNIFORM(names[i], -5, 5);
    }
    params[N] = (cadre_param)CADRE_END;
    cadre_space *space = make(params);
    cadre_searcher *searcher = start(space, "{\"restarts\": \"none\"}", 3);
    double x[N] = {0}, mean[N] = {0}, away = 0;
    int64_t number;
    assert_int_equal(cadre_searcher_add(searcher, x, &(cadre_outcome){.value = 0}, &number), CADRE_OK);
    for (int k = 0; k < 4 * LAMBDA; k++) {
        assert_int_equal(cadre_searcher_ask(searcher, &number, x), CADRE_OK);
        for (int i = 0; i < N; i++)
            mean[i] += x[i] / (4 * LAMBDA);
        assert_int_equal(cadre_searcher_tell(searcher, number, &(cadre_outcome){.value = k % LAMBDA == 7}), CADRE_OK);
    }
    for (int i = 0; i < N; i++)
        away += fabs(mean[i]) / N;
    assert_true(away < 0.6); /* the mean of another place is 2.5 away */
    cadre_searcher_free(searcher);
    cadre_space_free(space);
}

static void ranks(void **state)
{
    (void)state;
    static const cadre_outcome better_to_worse[] = {
        {CADRE_ENDED_COMPLETE, -INFINITY, 0}, {CADRE_ENDED_COMPLETE, 1, 7}, {CADRE_ENDED_COMPLETE, 2, 1},
        {CADRE_ENDED_COMPLETE, INFINITY, 0},  {CADRE_ENDED_PRUNED, 5, 9},   {CADRE_ENDED_PRUNED, 6, 9},
        {CADRE_ENDED_PRUNED, 0, 3},           {CADRE_ENDED_FAILED, NAN, 9},
    };
    for (int i = 0; i < 8; i++)
        for (int j = 0; j < 8; j++) {
            cma_rank a = cma_rank_of(&better_to_worse[i]), b = cma_rank_of(&better_to_worse[j]);
            int order = cma_rank_compare(&a, &b);
            assert_int_equal((order > 0) - (order < 0), (i > j) - (i < j));
        }
}

static void refuses(const char *json, const char *message)
{
    cadre_space *space = box(2);
    cadre_searcher *searcher = NULL;
    assert_int_equal(cadre_searcher_new(space, &(cadre_search){.name = "cmaes", .json = json}, 1, &searcher),
                     CADRE_EINVAL);
    assert_null(searcher);
    assert_string_equal(cadre_error_message(), message);
    cadre_space_free(space);
}

static void options_are_checked(void **state)
{
    (void)state;
    refuses("{\"restarts\": \"often\"}", "cmaes: restarts is one of bipop, none, ipop");
    refuses("{\"restarts\": 1}", "cmaes: restarts is one of bipop, none, ipop");
    refuses("{\"ipop\": 1}", "cmaes: there is no option \"ipop\"");
    refuses("{\"popsize\": 2}", "cmaes: popsize is 2, not in 4 to 100000");
    cadre_space *space = box(2);
    cadre_searcher *searcher;
    assert_int_equal(cadre_searcher_new(space, &CADRE_CMAES(.restarts = CADRE_CMAES_IPOP, .popsize = 12), 1, &searcher),
                     CADRE_OK);
    cadre_searcher_free(searcher);
    assert_int_equal(cadre_searcher_new(space, &CADRE_CMAES(.restarts = (cadre_cmaes_restarts)9), 1, &searcher),
                     CADRE_EINVAL);
    cadre_space_free(space);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(eigenvectors_give_the_matrix_again),
        cmocka_unit_test(points_and_coordinates_agree),
        cmocka_unit_test(a_margin_keeps_steps_open),
        cmocka_unit_test(choices_go_to_the_best_and_keep_all),
        cmocka_unit_test(it_finds_minima),
        cmocka_unit_test(restarts_leave_local_minima),
        cmocka_unit_test(lower_learning_rates_bear_noise),
        cmocka_unit_test(it_finds_mixed_minima),
        cmocka_unit_test(no_point_is_tried_twice_while_there_are_others),
        cmocka_unit_test(earlier_results_say_where_to_begin),
        cmocka_unit_test(a_tie_at_the_top_loses_nothing),
        cmocka_unit_test(ranks),
        cmocka_unit_test(options_are_checked),
    };
    return cmocka_run_group_tests_name("CMA-ES", tests, NULL, NULL);
}
