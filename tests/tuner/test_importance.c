/* Importance: what matters is found, what does not is not, and little data is called little. */
#include "tuner/importance.h"

#include "base/fault.h"
#include "base/rng.h"
#include "cadre/status.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

enum { MOST = 2000, PARAMS = 5 };

static const importance_param params[PARAMS] = {
    {1e-5, 1, 0, true, 0}, {0, 1, 0, false, 0}, {0, 0, 0, false, 3}, {1, 8, 1, false, 0}, {0, 1, 0, false, 0},
};
static double x[MOST * PARAMS], value[MOST];
static bool pruned[MOST];

/* lr matters most, the choice next, x1 a little, layers and x4 not at all; x4 is there with choice 1 only. */
static importance_trials draw(int trials, uint64_t seed)
{
    base_rng rng;
    base_rng_init(&rng, seed, 0);
    for (int i = 0; i < trials; i++) {
        double *at = x + i * PARAMS;
        at[0] = pow(10, -5 * base_rng_uniform(&rng));
        at[1] = base_rng_uniform(&rng);
        at[2] = (double)base_rng_below(&rng, 3);
        at[3] = 1 + (double)base_rng_below(&rng, 8);
        at[4] = at[2] == 1 ? base_rng_uniform(&rng) : NAN;
        value[i] = 10 * pow(log10(at[0]) + 2, 2) + (at[2] != 1) * 3.5 + at[1] / 4;
        pruned[i] = false;
    }
    return (importance_trials){trials, PARAMS, params, x, value, pruned};
}

static importance_verdict score(const importance_trials *trials, importance_score *scores, int *top)
{
    importance_verdict verdict;
    assert_int_equal(importance_of(trials, scores, top, &verdict), CADRE_OK);
    double sum = 0;
    for (int d = 0; d < trials->params; d++) {
        assert_true(scores[d].share >= 0 && scores[d].chance > 0 && scores[d].chance <= 1);
        sum += scores[d].share;
    }
    assert_true(fabs(sum - (verdict == IMPORTANCE_FOUND)) < 1e-12);
    return verdict;
}

static void what_matters_is_found(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 10; seed++) {
        importance_trials trials = draw(300, seed);
        importance_score scores[PARAMS];
        int top;
        assert_int_equal(score(&trials, scores, &top), IMPORTANCE_FOUND);
        assert_int_equal(top, 30);
        assert_true(scores[0].share > scores[2].share && scores[2].share > scores[1].share);
        assert_true(scores[0].share > 0.5);
        assert_true(scores[0].chance < 0.02 && scores[2].chance < 0.02);
        assert_true(scores[3].share < 0.2 && scores[4].share < 0.2);
        assert_true(scores[3].trials == 300 && scores[4].trials < 150);
    }
}

/* Values drawn by lot: that anything matters is said about as often as the chance says. */
static void chance_is_chance(void **state)
{
    (void)state;
    int sure = 0;
    for (uint64_t seed = 1; seed <= 40; seed++) {
        importance_trials trials = draw(60, seed);
        importance_score scores[PARAMS];
        int top;
        base_rng rng;
        base_rng_init(&rng, seed, 99);
        for (int i = 0; i < 60; i++)
            value[i] = base_rng_uniform(&rng);
        score(&trials, scores, &top);
        for (int d = 0; d < 4; d++)
            sure += scores[d].chance <= 0.05;
    }
    assert_in_range(sure, 1, 20); /* of 160, 8 expected */
}

/* Conditional: within its branch x4 decides. */
static void a_conditional_parameter_counts_where_it_is(void **state)
{
    (void)state;
    importance_trials trials = draw(400, 3);
    importance_score scores[PARAMS];
    int top;
    for (int i = 0; i < 400; i++)
        value[i] = isnan(x[i * PARAMS + 4]) ? 3 + x[i * PARAMS + 1] : 4 * pow(x[i * PARAMS + 4] - 0.8, 2);
    assert_int_equal(score(&trials, scores, &top), IMPORTANCE_FOUND);
    assert_true(scores[4].share > 0.3 && scores[2].share > 0.1);
    assert_true(scores[0].share < 0.1 && scores[3].share < 0.1);
}

static void pruned_trials_are_behind(void **state)
{
    (void)state;
    importance_trials trials = draw(300, 5);
    importance_score all[PARAMS], some[PARAMS];
    int top;
    score(&trials, all, &top);
    for (int i = 0; i < 300; i++)
        if ((pruned[i] = value[i] > 12)) /* stopped early, with values that look better than any */
            value[i] = -1;
    score(&trials, some, &top);
    assert_int_equal(top, 30);
    for (int d = 0; d < PARAMS; d++)
        assert_true(fabs(all[d].share - some[d].share) < 0.05); /* lots are drawn otherwise */
}

static void little_is_called_little(void **state)
{
    (void)state;
    importance_score scores[PARAMS];
    int top;
    for (int n = 0; n < IMPORTANCE_LEAST; n++) {
        importance_trials trials = draw(n, 2);
        assert_int_equal(score(&trials, scores, &top), IMPORTANCE_TOO_FEW);
    }
    importance_trials trials = draw(100, 2);
    for (int i = 0; i < 100; i++)
        pruned[i] = i > 0;
    assert_int_equal(score(&trials, scores, &top), IMPORTANCE_TOO_FEW);
    for (int i = 0; i < 100; i++) {
        pruned[i] = false;
        value[i] = 7;
    }
    assert_int_equal(score(&trials, scores, &top), IMPORTANCE_CONSTANT);
    for (int i = 0; i < 100; i++)
        value[i] = i % 2 ? INFINITY : -INFINITY;
    score(&trials, scores, &top);
    trials.params = 0;
    assert_int_equal(score(&trials, scores, &top), IMPORTANCE_NONE);
}

static void one_parameter_matters_alone(void **state)
{
    (void)state;
    importance_score found;
    int top;
    base_rng rng;
    base_rng_init(&rng, 8, 0);
    for (int i = 0; i < 100; i++)
        value[i] = fabs((x[i] = base_rng_uniform(&rng)) - 0.5);
    importance_trials trials = {100, 1, &params[1], x, value, NULL};
    assert_int_equal(score(&trials, &found, &top), IMPORTANCE_FOUND);
    assert_true(found.share == 1 && found.chance < 0.02);
    for (int i = 0; i < 100; i++)
        x[i] = 0.25; /* all at one place: nothing is set apart */
    assert_int_equal(score(&trials, &found, &top), IMPORTANCE_NONE);
    const importance_param points[] = {{2, 2, 0, false, 0}, {0, 0, 0, false, 1}};
    for (int k = 0; k < 2; k++) {
        trials.param = &points[k];
        assert_int_equal(score(&trials, &found, &top), IMPORTANCE_NONE);
    }
}

static void values_outside_the_range_do_no_harm(void **state)
{
    (void)state;
    importance_trials trials = draw(100, 2);
    importance_score scores[PARAMS];
    int top;
    for (int i = 0; i < 100; i++) {
        x[i * PARAMS] = i % 3 ? -1 : 1e300;
        x[i * PARAMS + 1] = i % 2 ? -1e300 : INFINITY;
        x[i * PARAMS + 2] = i % 4 - 1;
    }
    score(&trials, scores, &top);
}

static void a_reason_is_told_in_numbers(void **state)
{
    (void)state;
    importance_reason reason;
    importance_trials trials = draw(500, 6);
    int best = 0;
    for (int i = 0; i < 500; i++)
        best = value[i] < value[best] ? i : best;
    assert_true(importance_why(&trials, best, 0, &reason));
    assert_true(fabs(reason.below - 0.6) < 0.1 && fabs(reason.below + reason.above - 1) < 1e-12); /* the optimum, 0.01, is at 3/5 of the decades */
    assert_true(fabs(log10(reason.typical) + 2.5) < 0.3);
    assert_true(reason.near_own < reason.near_typical - 1);
    assert_true(importance_why(&trials, best, 2, &reason));
    assert_true(fabs(reason.below - 2.0 / 3) < 0.1 && reason.above == 0);
    pruned[best] = true;
    assert_true(importance_why(&trials, best, 4, &reason));
    for (int i = 0; i < 500; i++)
        x[i * PARAMS + 1] = 0.5;
    assert_false(importance_why(&trials, best, 1, &reason));
    x[best * PARAMS + 4] = NAN;
    assert_false(importance_why(&trials, best, 4, &reason));
    trials.trials = 1;
    assert_false(importance_why(&trials, 0, 0, &reason));
}

static void bears_no_memory(void **state)
{
    (void)state;
    importance_trials trials = draw(50, 2);
    importance_score scores[PARAMS] = {{.share = 42}};
    int top = 42;
    importance_verdict verdict;
    for (int nth = 1; nth <= 2; nth++) {
        base_fault_set(nth == 1 ? "alloc:1" : "alloc:2");
        assert_int_equal(importance_of(&trials, scores, &top, &verdict), CADRE_ENOMEM);
        base_fault_set(NULL);
        assert_true(scores[0].share == 42 && top == 42);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_matters_is_found),
        cmocka_unit_test(chance_is_chance),
        cmocka_unit_test(a_conditional_parameter_counts_where_it_is),
        cmocka_unit_test(pruned_trials_are_behind),
        cmocka_unit_test(little_is_called_little),
        cmocka_unit_test(one_parameter_matters_alone),
        cmocka_unit_test(values_outside_the_range_do_no_harm),
        cmocka_unit_test(a_reason_is_told_in_numbers),
        cmocka_unit_test(bears_no_memory),
    };
    return cmocka_run_group_tests_name("importance", tests, NULL, NULL);
}
