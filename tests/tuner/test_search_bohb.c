/* BOHB: the order of trials that came to different steps, and that it is TPE where all come to the end. */
#include "base/rng.h"
#include "tuner/search/bohb.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { ROOM = 64 };

static bohb_ranks *make(int trials)
{
    bohb_ranks *ranks = malloc(sizeof *ranks);
    bohb_ranks_init(ranks);
    assert_int_equal(bohb_ranks_reserve(ranks, ROOM), CADRE_OK);
    for (int i = 0; i < trials; i++)
        bohb_ranks_add(ranks, i);
    return ranks;
}

static void drop(bohb_ranks *ranks)
{
    bohb_ranks_free(ranks);
    free(ranks);
}

static void report(bohb_ranks *ranks, int trial, int64_t step, double value)
{
    assert_int_equal(bohb_ranks_report(ranks, trial, step, value), CADRE_OK);
}

static void complete(bohb_ranks *ranks, int trial, double value)
{
    bohb_ranks_end(ranks, trial, &(cadre_outcome){.end = CADRE_ENDED_COMPLETE, .value = value});
}

static void is_order(bohb_ranks *ranks, int count, const int *expected)
{
    int order[ROOM];
    assert_int_equal(bohb_ranks_order(ranks, order), count);
    assert_memory_equal(order, expected, (size_t)count * sizeof *order);
}

static void levels_are_steps(void **state)
{
    (void)state;
    bohb_ranks *ranks = make(0);
    for (int i = 1; i < BOHB_LEVELS; i++)
        assert_true(ranks->step[i] > ranks->step[i - 1] || ranks->step[i] == (int64_t)4e18);
    assert_true(ranks->step[0] == 1 && ranks->step[9] == 10 && ranks->step[BOHB_LEVELS - 1] == (int64_t)4e18);
    is_order(ranks, 0, (int[]){0});
    drop(ranks);
}

/* Curves that never cross: whatever step they end at, the order is that of the curves. */
static void parallel_curves_are_ordered_across_steps(void **state)
{
    (void)state;
    static const int last[] = {27, 9, 27, 3, 9, 27, 3, 1, 27, 9};
    bohb_ranks *ranks = make(10);
    for (int trial = 0; trial < 10; trial++) {
        for (int step = 1; step <= last[trial]; step++)
            report(ranks, trial, step, trial + 10.0 / step);
        if (last[trial] == 27)
            complete(ranks, trial, trial + 10.0 / 27);
    }
    int order[ROOM], inversions = 0;
    assert_int_equal(bohb_ranks_order(ranks, order), 10);
    for (int i = 0; i < 10; i++)
        for (int k = 0; k < i; k++)
            inversions += order[k] > order[i];
    assert_true(inversions <= 2); /* of 45: few trials came further, and places between them are whole numbers */
    assert_int_equal(order[0], 0);
    drop(ranks);
}

/* Thirty complete trials whose first values are drawn: one that stopped at step 1 with the best of all stands in the middle. At step 4, where values are those
 * of the end, it stands in front. */
static void an_early_value_counts_as_far_as_it_foretells(void **state)
{
    (void)state;
    for (int step = 1; step <= 4; step += 3) {
        bohb_ranks *ranks = make(31);
        base_rng rng;
        base_rng_init(&rng, 4, 0);
        for (int i = 0; i < 30; i++) {
            for (int at = 1; at < 4; at++)
                report(ranks, i, at, base_rng_uniform(&rng));
            report(ranks, i, 4, i);
            complete(ranks, i, i);
        }
        report(ranks, 30, step, -1);
        int order[ROOM], at = 0;
        assert_int_equal(bohb_ranks_order(ranks, order), 31);
        while (order[at] != 30)
            at++;
        assert_in_range(at, step == 1 ? 8 : 0, step == 1 ? 20 : 0);
        drop(ranks);
    }
}

static void odd_reports_do_no_harm(void **state)
{
    (void)state;
    bohb_ranks *ranks = make(6);
    report(ranks, 0, INT64_MAX, 2);
    report(ranks, 0, 5, 1); /* time went back: not heard */
    report(ranks, 1, INT64_MIN, 1);
    report(ranks, 2, 1, NAN); /* worse than anything */
    report(ranks, 3, 0, 3);
    bohb_ranks_end(ranks, 4, &(cadre_outcome){.end = CADRE_ENDED_FAILED}); /* no value: not in the order */
    complete(ranks, 4, 0);
    int order[ROOM];
    assert_int_equal(bohb_ranks_order(ranks, order), 4);
    assert_int_equal(order[3], 2);
    drop(ranks);
}

static void without_stopping_it_is_tpe(void **state)
{
    (void)state;
    cadre_space *space;
    cadre_searcher *bohb, *tpe;
    assert_int_equal(cadre_space_new((cadre_param[]){CADRE_LOGUNIFORM("lr", 1e-4, 1), CADRE_CHOICE("kind", "a", "b"), CADRE_END}, &space), CADRE_OK);
    assert_int_equal(cadre_searcher_new(space, &CADRE_SEARCH_BOHB, 3, &bohb), CADRE_OK);
    assert_int_equal(cadre_searcher_new(space, &CADRE_SEARCH_TPE, 3, &tpe), CADRE_OK);
    for (int i = 0; i < 60; i++) {
        double x[2], same[2];
        int64_t number;
        assert_int_equal(cadre_searcher_ask(bohb, &number, x), CADRE_OK);
        assert_int_equal(cadre_searcher_ask(tpe, &number, same), CADRE_OK);
        assert_memory_equal(x, same, sizeof x);
        cadre_outcome outcome = {.end = i % 9 == 4 ? CADRE_ENDED_FAILED : CADRE_ENDED_COMPLETE, .value = fabs(log10(x[0]) + 2) + x[1]};
        for (int step = 1; step < 5; step++)
            assert_int_equal(cadre_searcher_report(bohb, number, step, outcome.value + 1.0 / step), CADRE_OK);
        assert_int_equal(cadre_searcher_tell(bohb, number, &outcome), CADRE_OK);
        assert_int_equal(cadre_searcher_tell(tpe, number, &outcome), CADRE_OK);
    }
    cadre_searcher_free(bohb);
    cadre_searcher_free(tpe);
    cadre_space_free(space);
}

/* A paused trial, never told, is learned from. */
static void paused_trials_are_learned_from(void **state)
{
    (void)state;
    cadre_space *space;
    cadre_searcher *bohb;
    int near = 0;
    assert_int_equal(cadre_space_new((cadre_param[]){CADRE_UNIFORM("x", 0, 1), CADRE_END}, &space), CADRE_OK);
    assert_int_equal(cadre_searcher_new(space, &CADRE_SEARCH_BOHB, 1, &bohb), CADRE_OK);
    for (int i = 0; i < 80; i++) {
        double x;
        int64_t number;
        assert_int_equal(cadre_searcher_ask(bohb, &number, &x), CADRE_OK);
        near += i >= 40 && fabs(x - 0.7) < 0.1;
        assert_int_equal(cadre_searcher_report(bohb, number, 1, fabs(x - 0.7)), CADRE_OK);
    }
    assert_true(near > 24); /* of 40; at random 8 */
    cadre_searcher_free(bohb);
    cadre_space_free(space);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(levels_are_steps),
        cmocka_unit_test(parallel_curves_are_ordered_across_steps),
        cmocka_unit_test(an_early_value_counts_as_far_as_it_foretells),
        cmocka_unit_test(odd_reports_do_no_harm),
        cmocka_unit_test(without_stopping_it_is_tpe),
        cmocka_unit_test(paused_trials_are_learned_from),
    };
    return cmocka_run_group_tests_name("search_bohb", tests, NULL, NULL);
}
