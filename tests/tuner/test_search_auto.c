/* Auto: it suggests what the searcher that it names would, and hands over when it says so. */
#include "cadre/search.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define PARAMS(...) ((const cadre_param[]){__VA_ARGS__, CADRE_END})

enum { DIMS = 3 };

static cadre_space *make(const cadre_param *params)
{
    cadre_space *space;
    if (cadre_space_new(params, &space))
        fail_msg("%s", cadre_error_message());
    return space;
}

static cadre_searcher *start(const cadre_space *space, const char *name, const char *json)
{
    cadre_searcher *searcher;
    if (cadre_searcher_new(space, &(cadre_search){.name = name, .json = json}, 5, &searcher))
        fail_msg("%s", cadre_error_message());
    return searcher;
}

static double value_of(const double *x)
{
    return pow(x[0] - 0.3, 2) + pow(x[1] + 1, 2) + (isnan(x[2]) ? 0.1 : x[2] * 0.05);
}

static cadre_outcome outcome_of(const double *x, int64_t number)
{
    return number % 9 == 4 ? (cadre_outcome){.end = CADRE_ENDED_FAILED, .value = NAN}
                           : (cadre_outcome){.value = value_of(x)};
}

static void ask(cadre_searcher *searcher, double *x, int64_t *number)
{
    if (cadre_searcher_ask(searcher, number, x))
        fail_msg("%s", cadre_error_message());
}

/* The name that a note begins with. */
static void name_of(const char *note, char *name)
{
    size_t length = strcspn(note, ",");
    assert_in_range(length, 1, 15);
    memcpy(name, note, length);
    name[length] = 0;
}

static void it_suggests_what_the_one_it_names_does(void **state)
{
    (void)state;
    cadre_space *space =
        make(PARAMS(CADRE_UNIFORM("a", -2, 2), CADRE_UNIFORM("b", -2, 2), CADRE_CHOICE("c", "x", "y", "z")));
    cadre_searcher *one = start(space, "auto", NULL), *other = NULL;
    for (int i = 0; i < 40; i++) {
        double x[DIMS], same[DIMS];
        int64_t number, again;
        ask(one, x, &number);
        if (i == 0) {
            char name[16];
            name_of(cadre_searcher_note(one), name);
            other = start(space, name, NULL);
        } else {
            assert_string_equal(cadre_searcher_note(one), ""); /* said once */
        }
        ask(other, same, &again);
        assert_string_equal(cadre_searcher_note(other), "");
        assert_memory_equal(x, same, sizeof x);
        cadre_outcome outcome = outcome_of(x, number);
        assert_int_equal(cadre_searcher_tell(one, number, &outcome), CADRE_OK);
        assert_int_equal(cadre_searcher_tell(other, again, &outcome), CADRE_OK);
    }
    cadre_searcher_free(one);
    cadre_searcher_free(other);
    cadre_space_free(space);
}

/* Who suggests after 20 results, with four trials at once. */
static void hands_over(const cadre_param *params, const char *json, const char *expected)
{
    cadre_space *space = make(params);
    cadre_searcher *searcher = start(space, "auto", json);
    double x[4][DIMS], before = 0, after = 0;
    int64_t number[4], elsewhere;
    int running = 0, ended = 0, notes = 0;
    for (int i = 0; i < 60; i++) {
        ask(searcher, x[running], &number[running]);
        double value = value_of(x[running]);
        before += i < 15 ? value / 15 : 0;
        after += i >= 45 ? value / 15 : 0;
        const char *note = cadre_searcher_note(searcher);
        if (*note && ++notes == 2) {
            char name[16];
            name_of(note, name);
            assert_string_equal(name, expected);
            assert_true(ended >= 20 && ended <= 22);
        }
        if (++running < 4)
            continue;
        int which = i % 4;
        cadre_outcome outcome = outcome_of(x[which], number[which]);
        assert_int_equal(cadre_searcher_tell(searcher, number[which], &outcome), CADRE_OK);
        ended += outcome.end != CADRE_ENDED_FAILED;
        running--;
        number[which] = number[running];
        memcpy(x[which], x[running], sizeof x[which]);
        if (i == 10) {
            assert_int_equal(cadre_searcher_add(searcher, (double[]){0.4, -0.9, isnan(x[0][2]) ? NAN : 0},
                                                &(cadre_outcome){.value = 0.02}, &elsewhere),
                             CADRE_OK);
            ended++;
        }
    }
    assert_int_equal(notes, 2);
    assert_true(after < before / 3);
    cadre_searcher_free(searcher);
    cadre_space_free(space);
}

static void it_hands_over(void **state)
{
    (void)state;
    hands_over(PARAMS(CADRE_UNIFORM("a", -2, 2), CADRE_UNIFORM("b", -2, 2), CADRE_UNIFORM("c", 0, 1)),
               "{\"handover\": 20}", "cmaes");
}

/* Where there are steps and choices alone, two of them suggest in turn, and that is said once. */
static void two_in_turn(void **state)
{
    (void)state;
    cadre_space *space =
        make(PARAMS(CADRE_RANDINT("a", 0, 40), CADRE_QUNIFORM("b", -2, 2, 0.1), CADRE_CHOICE("c", "x", "y", "z")));
    cadre_searcher *searcher = start(space, "auto", "{\"handover\": 110}");
    static const char *const names[] = {
        "gp, after 0 results: ", "gp and tpe in turn, after 100 results: ", "tpe, after 110 results: "};
    int notes = 0;
    for (int i = 0; i < 120; i++) {
        double x[DIMS];
        int64_t number;
        ask(searcher, x, &number);
        const char *note = cadre_searcher_note(searcher);
        if (*note) {
            assert_in_range(notes, 0, 2);
            assert_true(strncmp(note, names[notes], strlen(names[notes])) == 0);
            notes++;
        }
        assert_int_equal(cadre_searcher_tell(searcher, number, &(cadre_outcome){.value = value_of(x)}), CADRE_OK);
    }
    assert_int_equal(notes, 3);
    cadre_searcher_free(searcher);
    cadre_space_free(space);
}

/* With such a plan over such a space `auto`, which is the default, does what the searcher of that name does, and says so. */
static void does_as(const cadre_param *params, cadre_search_plan plan, const char *name)
{
    cadre_space *space = make(params);
    cadre_searcher *one, *other = start(space, name, NULL);
    assert_int_equal(cadre_searcher_new(space, &(cadre_search){.plan = plan}, 5, &one), CADRE_OK);
    for (int i = 0; i < 30; i++) {
        double x[DIMS], same[DIMS];
        int64_t number, again;
        ask(one, x, &number);
        if (i == 0)
            assert_true(strncmp(cadre_searcher_note(one), name, strlen(name)) == 0 && cadre_searcher_note(one)[strlen(name)] == ',');
        ask(other, same, &again);
        assert_memory_equal(x, same, sizeof x);
        double value = value_of(x);
        bool pruned = i % 3 > 0;
        for (int64_t step = 1; step <= (pruned ? 2 : 6); step++) {
            assert_int_equal(cadre_searcher_report(one, number, step, value + 1 / (double)step), CADRE_OK);
            assert_int_equal(cadre_searcher_report(other, again, step, value + 1 / (double)step), CADRE_OK);
        }
        cadre_outcome outcome = {pruned ? CADRE_ENDED_PRUNED : CADRE_ENDED_COMPLETE, value + (pruned ? 1.0 / 2 : 1.0 / 6), pruned ? 2 : 6};
        assert_int_equal(cadre_searcher_tell(one, number, &outcome), CADRE_OK);
        assert_int_equal(cadre_searcher_tell(other, again, &outcome), CADRE_OK);
    }
    cadre_searcher_free(one);
    cadre_searcher_free(other);
    cadre_space_free(space);
}

static void space_and_plan_decide(void **state)
{
    (void)state;
    const cadre_param *plain = PARAMS(CADRE_UNIFORM("a", -2, 2), CADRE_UNIFORM("b", -2, 2), CADRE_CHOICE("c", "x", "y", "z"));
    does_as(plain, (cadre_search_plan){0}, "gp");
    does_as(plain, (cadre_search_plan){.trials = -1, .parallel = 64}, "gp");
    does_as(plain, (cadre_search_plan){.trials = 40, .stops_early = true}, "bohb");
    does_as(PARAMS(CADRE_UNIFORM("a", -2, 2), CADRE_GRID_INT("b", -1, 0, 1), CADRE_CHOICE("c", "x", "y", "z")), (cadre_search_plan){.stops_early = true},
            "random");
    does_as(PARAMS(CADRE_UNIFORM("a", 1, 1), CADRE_CHOICE("b", "x"), CADRE_CHOICE("c", "x")), (cadre_search_plan){0}, "random");
}

/* Which trial is the first that gp does not suggest. */
static int64_t handed_over_at(const cadre_param *params, cadre_search_plan plan, const char *json, cadre_trial_end end)
{
    cadre_space *space = make(params);
    cadre_searcher *searcher;
    assert_int_equal(cadre_searcher_new(space, &(cadre_search){.json = json, .plan = plan}, 5, &searcher), CADRE_OK);
    double x[40];
    int64_t number = -1;
    for (int notes = 0; notes < 2;) {
        ask(searcher, x, &number);
        notes += *cadre_searcher_note(searcher) != 0;
        assert_int_equal(cadre_searcher_tell(searcher, number, &(cadre_outcome){.end = end, .value = x[0]}), CADRE_OK);
    }
    cadre_searcher_free(searcher);
    cadre_space_free(space);
    return number;
}

static void it_hands_over_earlier_where_gp_costs_too_much(void **state)
{
    (void)state;
    static char names[40][8];
    cadre_param wide[41] = {{0}}, small[] = {CADRE_UNIFORM("a", 0, 1), CADRE_END};
    for (int i = 0; i < 40; i++) {
        snprintf(names[i], sizeof names[i], "x%d", i);
        wide[i] = (cadre_param)CADRE_UNIFORM(names[i], 0, 1);
    }
    wide[40] = (cadre_param)CADRE_END;
    assert_int_equal(handed_over_at(small, (cadre_search_plan){.trials = 5000}, NULL, CADRE_ENDED_COMPLETE), 100);
    assert_int_equal(handed_over_at(wide, (cadre_search_plan){.trials = 5000}, NULL, CADRE_ENDED_COMPLETE), 80);
    assert_int_equal(handed_over_at(small, (cadre_search_plan){.trials = 5000}, "{\"handover\": 20}", CADRE_ENDED_COMPLETE), 20);
    assert_int_equal(handed_over_at(small, (cadre_search_plan){0}, "{\"handover\": 20}", CADRE_ENDED_FAILED), 40);
}

/* With so many at once: what the second note says, "" for none in 16 trials. */
static const char *second_note(int at_once)
{
    static char said[200];
    cadre_space *space = make(PARAMS(CADRE_UNIFORM("a", -2, 2), CADRE_UNIFORM("b", -2, 2), CADRE_UNIFORM("c", 0, 1)));
    cadre_searcher *searcher = start(space, "auto", NULL);
    double x[DIMS];
    int64_t number;
    said[0] = 0;
    for (int i = 0; i < 16; i++) {
        ask(searcher, x, &number);
        if (i > 0 && *cadre_searcher_note(searcher))
            snprintf(said, sizeof said, "%s", cadre_searcher_note(searcher));
        if (i >= at_once - 1)
            assert_int_equal(cadre_searcher_tell(searcher, i - at_once + 1, &(cadre_outcome){.value = i % 5}), CADRE_OK);
    }
    cadre_searcher_free(searcher);
    cadre_space_free(space);
    return said;
}

static void many_at_once_are_not_one_searchers(void **state)
{
    (void)state;
    assert_string_equal(second_note(4), "");
    const char *expected = "gp and tpe in turn, after 10 results: many trials at once";
    assert_true(strncmp(second_note(5), expected, strlen(expected)) == 0);
}

static void what_is_wrong_is_refused(void **state)
{
    (void)state;
    cadre_space *space = make(PARAMS(CADRE_UNIFORM("a", 0, 1)));
    cadre_searcher *searcher = NULL;
    assert_int_equal(cadre_searcher_new(space, &CADRE_AUTO(.handover = -3), 1, &searcher), CADRE_EINVAL);
    assert_null(searcher);
    assert_int_equal(cadre_searcher_new(space, &CADRE_AUTO(.handover = 30), 1, &searcher), CADRE_OK);
    cadre_searcher_free(searcher);
    assert_int_equal(cadre_searcher_new(space, &CADRE_SEARCH_AUTO, 1, &searcher), CADRE_OK);
    cadre_searcher_free(searcher);
    cadre_space_free(space);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(it_suggests_what_the_one_it_names_does),
        cmocka_unit_test(it_hands_over),
        cmocka_unit_test(two_in_turn),
        cmocka_unit_test(space_and_plan_decide),
        cmocka_unit_test(it_hands_over_earlier_where_gp_costs_too_much),
        cmocka_unit_test(many_at_once_are_not_one_searchers),
        cmocka_unit_test(what_is_wrong_is_refused),
    };
    return cmocka_run_group_tests_name("auto", tests, NULL, NULL);
}
