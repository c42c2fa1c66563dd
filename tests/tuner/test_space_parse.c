/* Distributions from text, and where they say that they go wrong. */
#include "cadre/space.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static void parses(const char *text, cadre_param_kind kind, double low, double high, double q)
{
    cadre_param param;
    if (cadre_param_parse("p", text, &param))
        fail_msg("%s: %s", text, cadre_error_message());
    assert_string_equal(param.name, "p");
    assert_int_equal(param.kind, kind);
    assert_true(param.low == low && param.high == high && param.q == q);
    cadre_param_clear(&param);
}

static void numbers_are_read(void **state)
{
    (void)state;
    parses("uniform(0, 1)", CADRE_PARAM_UNIFORM, 0, 1, 0);
    parses("  uniform (\t-1.5 ,+2e3 )  ", CADRE_PARAM_UNIFORM, -1.5, 2000, 0);
    parses("quniform(0,1,.25)", CADRE_PARAM_QUNIFORM, 0, 1, 0.25);
    parses("loguniform(1e-4,1e-1)", CADRE_PARAM_LOGUNIFORM, 1e-4, 1e-1, 0);
    parses("qloguniform(1,9,2)", CADRE_PARAM_QLOGUNIFORM, 1, 9, 2);
    parses("randn()", CADRE_PARAM_RANDN, 0, 1, 0);
    parses("randn(2, 3)", CADRE_PARAM_RANDN, 2, 3, 0);
    parses("qrandn(2, 3, 0.5)", CADRE_PARAM_QRANDN, 2, 3, 0.5);
    parses("randint(1, 10)", CADRE_PARAM_RANDINT, 1, 10, 0);
    parses("qrandint(2, 10, 2)", CADRE_PARAM_QRANDINT, 2, 10, 2);
    parses("lograndint(1, 1025)", CADRE_PARAM_LOGRANDINT, 1, 1025, 0);
    parses("qlograndint(8, 64, 8)", CADRE_PARAM_QLOGRANDINT, 8, 64, 8);
}

static void choices_keep_their_kinds(void **state)
{
    (void)state;
    cadre_param param;
    const char *text =
        "choice(sgd, adam w, 'a, b', \"say \\\"x\\\"\", 3, -2.5, true, false, \"true\", 1e-3, inf, 0x10, '')";
    const char *strings[] = {"sgd", "adam w", "a, b", "say \"x\""};
    assert_int_equal(cadre_param_parse("p", text, &param), CADRE_OK);
    assert_int_equal(param.count, 13);
    for (int i = 0; i < 4; i++) {
        assert_int_equal(param.mixed[i].kind, CADRE_VALUE_STRING);
        assert_string_equal(param.mixed[i].string, strings[i]);
    }
    assert_true(param.mixed[4].kind == CADRE_VALUE_INT && param.mixed[4].integer == 3);
    assert_true(param.mixed[5].kind == CADRE_VALUE_DOUBLE && param.mixed[5].number == -2.5);
    assert_true(param.mixed[6].kind == CADRE_VALUE_BOOL && param.mixed[6].boolean);
    assert_true(param.mixed[7].kind == CADRE_VALUE_BOOL && !param.mixed[7].boolean);
    assert_int_equal(param.mixed[8].kind, CADRE_VALUE_STRING);
    assert_true(param.mixed[9].kind == CADRE_VALUE_DOUBLE && param.mixed[9].number == 1e-3);
    assert_string_equal(param.mixed[10].string, "inf"); /* no number that JSON has */
    assert_string_equal(param.mixed[11].string, "0x10");
    assert_string_equal(param.mixed[12].string, "");
    cadre_param_clear(&param);
    cadre_param_clear(&param);
    cadre_param_clear(NULL);
    assert_int_equal(cadre_param_parse("p", "grid_search(1, 2)", &param), CADRE_OK);
    assert_int_equal(param.kind, CADRE_PARAM_GRID);
    cadre_param_clear(&param);
}

static void refuses(const char *text, const char *message)
{
    cadre_param param = {.count = 42};
    assert_int_equal(cadre_param_parse("lr", text, &param), CADRE_EINVAL);
    assert_string_equal(cadre_error_message(), message);
    assert_int_equal(param.count, 42);
}

#define KINDS                                                                                                          \
    "; there are uniform, quniform, loguniform, qloguniform, randn, qrandn, randint, qrandint, lograndint, "           \
    "qlograndint, choice and grid"

static void errors_give_the_column(void **state)
{
    (void)state;
    refuses("unifrom(0, 1)", "lr: column 1: there is no distribution \"unifrom\"" KINDS);
    refuses("", "lr: column 1: there is no distribution \"\"" KINDS);
    refuses(" 3", "lr: column 2: there is no distribution \"3\"" KINDS);
    refuses("uniform", "lr: column 8: '(' expected");
    refuses("uniform[0, 1]", "lr: column 8: '(' expected");
    refuses("uniform(0, 1", "lr: column 13: the ')' is missing");
    refuses("uniform(0,, 1)", "lr: column 11: a value is missing");
    refuses("uniform(0, 1) x", "lr: column 15: nothing more expected");
    refuses("uniform(0, one)", "lr: column 12: a number expected");
    refuses("uniform(0, nan)", "lr: column 12: a number expected");
    refuses("uniform(0)", "lr: column 10: uniform takes 2 numbers, not 1");
    refuses("uniform(0, 1, 2)", "lr: column 16: uniform takes 2 numbers, not 3");
    refuses("randn(1)", "lr: column 8: randn takes 2 numbers, not 1");
    refuses("choice()", "lr: column 1: choice of nothing");
    refuses("choice(a, )", "lr: column 11: a value is missing");
    refuses("choice('a, b)", "lr: column 8: the quote is not closed");
    refuses("choice('a' b)", "lr: column 12: ',' or ')' expected");
    refuses("choice(f(x))", "lr: column 9: this character needs quotes around its value");
    cadre_param param;
    assert_int_equal(cadre_param_parse("", "uniform(0, 1)", &param), CADRE_EINVAL);
    assert_int_equal(cadre_param_parse("lr", NULL, &param), CADRE_EINVAL);
}

/* Whatever comes is answered, and what parses compiles or is refused: prefixes and single changes of good texts. */
static void nothing_upsets_it(void **state)
{
    (void)state;
    static const char *const texts[] = {"loguniform(1e-4, 1e-1)", "choice(sgd, 'a\\'b', 3, true)",
                                        "qrandint(2, 10, 2)"};
    static const char odd[] = "()',\"\\ -.e0x\x01\xff";
    for (size_t t = 0; t < sizeof texts / sizeof *texts; t++)
        for (size_t at = 0; at <= strlen(texts[t]); at++)
            for (const char *c = odd; c < odd + sizeof odd; c++) {
                char text[64];
                strcpy(text, texts[t]);
                text[at] = *c; /* the last of them is '\0' */
                text[at + 1 > strlen(texts[t]) ? at + 1 : strlen(texts[t])] = '\0';
                cadre_param param[2] = {{.kind = CADRE_PARAM_END}, {.kind = CADRE_PARAM_END}};
                if (cadre_param_parse("p", text, &param[0]))
                    continue;
                cadre_space *space;
                if (!cadre_space_new(param, &space))
                    cadre_space_free(space);
                cadre_param_clear(&param[0]);
            }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(numbers_are_read),
        cmocka_unit_test(choices_keep_their_kinds),
        cmocka_unit_test(errors_give_the_column),
        cmocka_unit_test(nothing_upsets_it),
    };
    return cmocka_run_group_tests_name("space_parse", tests, NULL, NULL);
}
