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
    cadre_searcher *searcher = start(space, "auto", "{\"handover\": 60}");
    static const char *const names[] = {
        "gp, after 0 results: ", "gp and tpe in turn, after 40 results: ", "tpe, after 60 results: "};
    int notes = 0;
    for (int i = 0; i < 70; i++) {
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
        cmocka_unit_test(what_is_wrong_is_refused),
    };
    return cmocka_run_group_tests_name("auto", tests, NULL, NULL);
}
