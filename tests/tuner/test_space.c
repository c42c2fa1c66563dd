/* Spaces: what is refused and how it is said, conditions, configs and back, JSON and its changes. */
#include "cadre/space.h"

#include <math.h>
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
    cadre_space *space = NULL;
    if (cadre_space_new(params, &space))
        fail_msg("%s", cadre_error_message());
    return space;
}

static void refuses(const cadre_param *params, const char *message)
{
    cadre_space *space = NULL;
    assert_int_equal(cadre_space_new(params, &space), CADRE_EINVAL);
    assert_null(space);
    assert_string_equal(cadre_error_message(), message);
}

static int constant_seven(cadre_config *config, const char *name, uint64_t random, void *user)
{
    (void)random, (void)user;
    return cadre_config_set_int(config, name, 7);
}

static void bad_bounds_are_refused(void **state)
{
    (void)state;
    refuses(PARAMS(CADRE_UNIFORM("lr", 1, 0.1)), "lr: low 1 is greater than high 0.1");
    refuses(PARAMS(CADRE_UNIFORM("lr", 0, INFINITY)), "lr: a bound is not a finite number");
    refuses(PARAMS(CADRE_UNIFORM("lr", NAN, 1)), "lr: a bound is not a finite number");
    refuses(PARAMS(CADRE_UNIFORM("lr", -1.5e308, 1.5e308)), "lr: -1.5e+308 to 1.5e+308 is too wide");
    refuses(PARAMS(CADRE_LOGUNIFORM("lr", 0, 1)), "lr: a logarithmic scale needs low > 0, it is 0");
    refuses(PARAMS(CADRE_LOGRANDINT("n", 0, 8)), "n: a logarithmic scale needs low > 0, it is 0");
    refuses(PARAMS(CADRE_QUNIFORM("p", 0, 0.8, 0.3)), "p: step 0.3 does not divide 0 to 0.8");
    refuses(PARAMS(CADRE_QUNIFORM("p", 0, 1, 0)), "p: step 0 is not above 0");
    refuses(PARAMS(CADRE_QUNIFORM("p", 0, 1e300, 1e-9)), "p: step 1e-09 is too small for 0 to 1e+300");
    refuses(PARAMS(CADRE_QRANDINT("n", 0, 10, 4)), "n: step 4 does not divide 0 to 10");
    refuses(PARAMS(CADRE_QRANDINT("n", 0, 10, 2.5)), "n: step 2.5 is not a whole number");
    refuses(PARAMS(CADRE_RANDINT("n", 0.5, 3)), "n: low 0.5 is not a whole number");
    refuses(PARAMS(CADRE_RANDINT("n", 0, 1e17)), "n: high 1e+17 is beyond 2^53");
    refuses(PARAMS(CADRE_RANDINT("n", 3, 3)), "n: no whole number in [3, 3), whose high is not included");
    refuses(PARAMS(CADRE_RANDN("z", 0, 0)), "z: standard deviation 0 is not above 0");
    refuses(PARAMS(CADRE_QRANDN("z", 1.5, 0.01, 1)), "z: no multiple of 1 within six standard deviations of 1.5");
}

static void bad_lists_are_refused(void **state)
{
    (void)state;
    refuses(PARAMS({.kind = CADRE_PARAM_CHOICE, .name = "opt"}), "opt: choice of nothing");
    refuses(PARAMS({.kind = CADRE_PARAM_GRID, .name = "opt"}), "opt: grid of nothing");
    refuses(PARAMS(CADRE_CHOICE("opt", "sgd", "adam", "sgd")), "opt: choice has the same value at 1 and 3");
    refuses(PARAMS(CADRE_CHOICE_DOUBLE("opt", 1, NAN)), "opt: value 2 is not a finite number");
    refuses(PARAMS(CADRE_UNIFORM("lr", 0, 1), CADRE_CONSTANT_INT("lr", 3)),
            "lr: there are two parameters of that name");
    refuses(PARAMS(CADRE_UNIFORM("", 0, 1)), "a parameter without a name");
    refuses(PARAMS(CADRE_SAMPLE_FROM("n", NULL, NULL)), "n: sample_from without a function");
    refuses(PARAMS({.kind = CADRE_PARAM_CONSTANT, .name = "n"}), "n: a constant has one value");
    refuses(PARAMS({.kind = (cadre_param_kind)99, .name = "n"}), "n: parameter of unknown kind 99");
}

/* What nobody means would take minutes to look through, and megabytes a trial in the store. */
static void sizes_without_sense_are_refused(void **state)
{
    (void)state;
    static int64_t values[CADRE_MAX_CHOICES + 1];
    static char names[CADRE_MAX_PARAMS + 1][8];
    static cadre_param params[CADRE_MAX_PARAMS + 2];
    for (int i = 0; i <= CADRE_MAX_CHOICES; i++)
        values[i] = i;
    cadre_param choice = {.kind = CADRE_PARAM_CHOICE, .name = "k", .of = CADRE_VALUE_INT, .values = values, .count = CADRE_MAX_CHOICES + 1};
    refuses(PARAMS(choice), "k: choice of 10001 values; 10000 at most: draw a number by randint and look the value up by it");
    choice.count--;
    cadre_space_free(make(PARAMS(choice)));
    for (int i = 0; i <= CADRE_MAX_PARAMS; i++) {
        snprintf(names[i], sizeof names[i], "p%d", i);
        params[i] = (cadre_param)CADRE_UNIFORM(names[i], 0, 1);
    }
    refuses(params, "a space has at most 4096 parameters");
    params[CADRE_MAX_PARAMS] = (cadre_param)CADRE_END;
    cadre_space_free(make(params));
}

static void bad_conditions_are_refused(void **state)
{
    (void)state;
    cadre_param model = CADRE_CHOICE("model", "rbf", "poly"), layers = CADRE_RANDINT("layers", 1, 5);
    refuses(PARAMS(CADRE_WHEN("kernel", "rbf", CADRE_UNIFORM("gamma", 0, 1))),
            "gamma: condition on kernel: there is no parameter of that name");
    refuses(PARAMS(model, CADRE_WHEN("model", "linear", CADRE_UNIFORM("gamma", 0, 1))),
            "gamma: condition on model: it cannot be \"linear\"");
    refuses(PARAMS(layers, CADRE_WHEN("layers", "5", CADRE_UNIFORM("u", 0, 1))),
            "u: condition on layers: it cannot be \"5\"");
    refuses(PARAMS(layers, CADRE_WHEN("layers", "two", CADRE_UNIFORM("u", 0, 1))),
            "u: condition on layers: it cannot be \"two\"");
    refuses(PARAMS(layers, CADRE_WHEN_BETWEEN("layers", 5, 9, CADRE_UNIFORM("u", 0, 1))),
            "u: condition on layers: it is never in 5 to 9");
    refuses(PARAMS(model, CADRE_WHEN_BETWEEN("model", 0, 1, CADRE_UNIFORM("u", 0, 1))),
            "u: condition on model: a choice has no range");
    refuses(PARAMS(CADRE_UNIFORM("a", 0, 1), CADRE_WHEN("a", "0.5", CADRE_UNIFORM("u", 0, 1))),
            "u: condition on a: it is continuous, which no single value fits; give a range");
    refuses(PARAMS(CADRE_CONSTANT("c", "x"), CADRE_WHEN("c", "x", CADRE_UNIFORM("u", 0, 1))),
            "u: condition on c, which is a constant");
    refuses(PARAMS(CADRE_SAMPLE_FROM("s", constant_seven, NULL), CADRE_WHEN("s", "7", CADRE_UNIFORM("u", 0, 1))),
            "u: condition on s, which is computed");
    refuses(PARAMS(CADRE_WHEN("b", "1", CADRE_RANDINT("a", 0, 3)), CADRE_WHEN("a", "1", CADRE_RANDINT("b", 0, 3))),
            "a: its condition goes round in a circle");
    refuses(PARAMS(CADRE_WHEN("a", "1", CADRE_RANDINT("a", 0, 3))), "a: its condition goes round in a circle");
    refuses(PARAMS({.kind = CADRE_PARAM_WHEN_END}), "the end of a condition that was not opened");
    refuses(PARAMS(model, {.kind = CADRE_PARAM_WHEN, .name = "model", CADRE_VALUES("rbf")}),
            "a condition is not closed");
    refuses(PARAMS(model, {.kind = CADRE_PARAM_WHEN, .name = "model"}, {.kind = CADRE_PARAM_WHEN_END}),
            "condition on model: no value is given");
}

static void bounds_are_rays(void **state)
{
    (void)state;
    cadre_space *space =
        make(PARAMS(CADRE_RANDINT("a", 2, 5), CADRE_QRANDINT("b", 2, 8, 2), CADRE_QRANDINT("c", 2, 5, 1),
                    CADRE_LOGRANDINT("d", 1, 16), CADRE_QLOGRANDINT("e", 8, 64, 8), CADRE_RANDINT("f", 3, 4)));
    const double low[] = {2, 2, 2, 1, 8, 3}, high[] = {4, 8, 4, 15, 64, 3}, step[] = {1, 2, 1, 1, 8, 1};
    for (int i = 0; i < cadre_space_count(space); i++) {
        const cadre_dim *dim = cadre_space_dim(space, i);
        assert_int_equal(dim->kind, CADRE_DIM_INT);
        assert_true(dim->low == low[i] && dim->high == high[i] && dim->step == step[i]);
    }
    assert_null(cadre_space_dim(space, 6));
    assert_null(cadre_space_dim(space, -1));
    cadre_space_free(space);
}

/* A tree three deep, with a child listed before its parent. */
static cadre_space *tree(void)
{
    return make(PARAMS(CADRE_WHEN("model", "rbf", CADRE_LOGUNIFORM("gamma", 1e-6, 100),
                                  CADRE_WHEN_BETWEEN("depth", 2, INFINITY, CADRE_QUNIFORM("rate", 0, 1, 0.05))),
                       CADRE_CHOICE("model", "linear", "rbf", "poly"),
                       CADRE_WHEN_ANY("model", CADRE_VALUES("rbf", "poly"), CADRE_RANDINT("depth", 1, 5),
                                      CADRE_CONSTANT_BOOL("nonlinear", true)),
                       CADRE_CONSTANT_INT("epochs", 10)));
}

enum { GAMMA, RATE, MODEL, DEPTH };

static void conditions_nest(void **state)
{
    (void)state;
    cadre_space *space = tree();
    assert_int_equal(cadre_space_count(space), 4);
    assert_int_equal(cadre_space_order(space)[0], MODEL);
    assert_int_equal(cadre_space_find(space, "depth"), DEPTH);
    assert_int_equal(cadre_space_find(space, "epochs"), -1);
    double x[4] = {0.5, 0.33, 1, 3};
    cadre_space_repair(space, x);
    assert_int_equal(cadre_space_check(space, x), CADRE_OK);
    assert_true(x[RATE] == 0.35 && x[DEPTH] == 3);
    x[DEPTH] = 1;
    assert_int_equal(cadre_space_check(space, x), CADRE_EINVAL);
    assert_string_equal(cadre_error_message(), "rate has a value, 0.35, where it is not there");
    cadre_space_repair(space, x);
    assert_true(isnan(x[RATE]) && x[GAMMA] == 0.5);
    x[MODEL] = 0;
    cadre_space_repair(space, x);
    assert_true(isnan(x[RATE]) && isnan(x[GAMMA]) && isnan(x[DEPTH]));
    x[MODEL] = 2;
    assert_int_equal(cadre_space_check(space, x), CADRE_EINVAL);
    assert_string_equal(cadre_error_message(), "depth has no value");
    cadre_space_repair(space, x);
    assert_true(x[DEPTH] >= 1 && x[DEPTH] <= 4 && isnan(x[GAMMA]));
    x[DEPTH] = 9;
    assert_int_equal(cadre_space_check(space, x), CADRE_EINVAL);
    assert_string_equal(cadre_error_message(), "depth: 9 is not in 1 to 4");
    x[DEPTH] = 2.5;
    assert_int_equal(cadre_space_check(space, x), CADRE_EINVAL);
    assert_string_equal(cadre_error_message(), "depth: 2.5 is not on a step; 3 is");
    cadre_space_free(space);
}

static void a_point_becomes_a_config_and_comes_back(void **state)
{
    (void)state;
    cadre_space *space = tree();
    double x[4] = {1e-3, 0.15, 1, 2}, back[4];
    cadre_config *config;
    assert_int_equal(cadre_space_config(space, x, 1, &config), CADRE_OK);
    char *json = cadre_config_to_json(config);
    assert_string_equal(
        json,
        "{\"gamma\": 0.001, \"rate\": 0.15, \"model\": \"rbf\", \"depth\": 2, \"nonlinear\": true, \"epochs\": 10}");
    free(json);
    assert_int_equal(cadre_space_point(space, config, back), CADRE_OK);
    assert_memory_equal(x, back, sizeof x);
    assert_int_equal(cadre_config_set_string(config, "model", "forest"), CADRE_OK);
    assert_int_equal(cadre_space_point(space, config, back), CADRE_EINVAL);
    assert_string_equal(cadre_error_message(), "model: not one of its choices");
    assert_memory_equal(x, back, sizeof x); /* untouched */
    cadre_config_free(config);
    double linear[4] = {NAN, NAN, 0, NAN};
    assert_int_equal(cadre_space_config(space, linear, 1, &config), CADRE_OK);
    json = cadre_config_to_json(config);
    assert_string_equal(json, "{\"model\": \"linear\", \"epochs\": 10}");
    free(json);
    cadre_config_free(config);
    assert_int_equal(cadre_config_from_json("{\"depth\": 3, \"gamma\": 1, \"unknown\": 5}", &config), CADRE_OK);
    assert_int_equal(cadre_space_point(space, config, back), CADRE_OK); /* what is left out is NaN */
    assert_true(back[DEPTH] == 3 && back[GAMMA] == 1 && isnan(back[MODEL]) && isnan(back[RATE]));
    cadre_config_free(config);
    cadre_space_free(space);
}

static int twice_width(cadre_config *config, const char *name, uint64_t random, void *user)
{
    *(uint64_t *)user = random;
    return cadre_config_set_int(config, name, 2 * cadre_config_int(config, "width", -1));
}

static int fails(cadre_config *config, const char *name, uint64_t random, void *user)
{
    (void)config, (void)name, (void)random, (void)user;
    return cadre_fail(CADRE_ENOENT, "no such file");
}

static int forgets(cadre_config *config, const char *name, uint64_t random, void *user)
{
    (void)config, (void)name, (void)random, (void)user;
    return CADRE_OK;
}

static void values_are_computed_from_others(void **state)
{
    (void)state;
    uint64_t first = 0, second = 0;
    cadre_space *space = make(PARAMS(CADRE_SAMPLE_FROM("hidden", twice_width, &first), CADRE_RANDINT("width", 8, 9),
                                     CADRE_SAMPLE_FROM("other", twice_width, &second)));
    double x[1] = {8};
    cadre_config *config;
    assert_int_equal(cadre_space_config(space, x, 5, &config), CADRE_OK);
    char *json = cadre_config_to_json(config);
    assert_string_equal(json, "{\"hidden\": 16, \"width\": 8, \"other\": 16}");
    free(json);
    cadre_config_free(config);
    assert_int_not_equal(first, second); /* each has random bits of its own ... */
    uint64_t before = first;
    assert_int_equal(cadre_space_config(space, x, 5, &config), CADRE_OK);
    cadre_config_free(config);
    assert_int_equal(first, before); /* ... and the same again */
    cadre_space_free(space);
    space = make(PARAMS(CADRE_SAMPLE_FROM("a", fails, NULL)));
    assert_int_equal(cadre_space_config(space, x, 5, &config), CADRE_ENOENT);
    assert_string_equal(cadre_error_message(), "compute a: no such file");
    cadre_space_free(space);
    space = make(PARAMS(CADRE_SAMPLE_FROM("a", forgets, NULL)));
    assert_int_equal(cadre_space_config(space, x, 5, &config), CADRE_EINVAL);
    assert_string_equal(cadre_error_message(), "compute a: its function did not set it");
    cadre_space_free(space);
}

static void distribution_is(const cadre_param param, const char *json)
{
    cadre_space *space = make(PARAMS(param));
    char *text = cadre_dim_distribution(cadre_space_dim(space, 0));
    assert_string_equal(text, json);
    free(text);
    cadre_space_free(space);
}

#define IS(param, json) distribution_is((cadre_param)param, json)
#define FLOAT(step, low, high, log)                                                                                    \
    "{\"name\": \"FloatDistribution\", \"attributes\": {\"step\": " step ", \"low\": " low ", \"high\": " high         \
    ", \"log\": " log "}}"
#define INT(step, low, high, log)                                                                                      \
    "{\"name\": \"IntDistribution\", \"attributes\": {\"step\": " step ", \"low\": " low ", \"high\": " high           \
    ", \"log\": " log "}}"

static void distributions_are_optunas(void **state)
{
    (void)state;
    IS(CADRE_UNIFORM("a", -5, 5), FLOAT("null", "-5.0", "5.0", "false"));
    IS(CADRE_LOGUNIFORM("a", 1e-5, 1), FLOAT("null", "1e-05", "1.0", "true"));
    IS(CADRE_QUNIFORM("a", 0, 0.8, 0.05), FLOAT("0.05", "0.0", "0.8", "false"));
    IS(CADRE_QLOGUNIFORM("a", 0.5, 2.5, 0.5), FLOAT("null", "0.5", "2.5", "true"));
    IS(CADRE_RANDN("a", 1, 0.5), FLOAT("null", "-2.0", "4.0", "false"));
    IS(CADRE_QRANDN("a", 0, 1, 0.5), FLOAT("0.5", "-6.0", "6.0", "false"));
    IS(CADRE_RANDINT("a", 1, 9), INT("1", "1", "8", "false"));
    IS(CADRE_QRANDINT("a", 1, 9, 2), INT("2", "1", "9", "false"));
    IS(CADRE_LOGRANDINT("a", 1, 1025), INT("1", "1", "1024", "true"));
    IS(CADRE_QLOGRANDINT("a", 8, 64, 8), INT("1", "8", "64", "true"));
    cadre_param mixed;
    assert_int_equal(cadre_param_parse("a", "choice(x, true, 3, 2.5, 1e3, 'a\"b')", &mixed), CADRE_OK);
    distribution_is(mixed,
                    "{\"name\": \"CategoricalDistribution\", \"attributes\": {\"choices\": [\"x\", true, 3, 2.5, "
                    "1000.0, \"a\\\"b\"]}}");
    cadre_param_clear(&mixed);
}

static void changes_are(const char *before, const cadre_param *params, const char *expected)
{
    cadre_space *space = make(params);
    char *changes = (char *)"untouched";
    assert_int_equal(cadre_space_changes(space, before, &changes), CADRE_OK);
    if (expected)
        assert_string_equal(changes, expected);
    else
        assert_null(changes);
    free(changes);
    cadre_space_free(space);
}

static void changes_are_named(void **state)
{
    (void)state;
    cadre_param lr = CADRE_LOGUNIFORM("lr", 1e-4, 0.1), opt = CADRE_CHOICE("opt", "sgd", "adam");
    cadre_space *space = make(PARAMS(lr, opt, CADRE_WHEN("opt", "sgd", CADRE_UNIFORM("m", 0, 1))));
    char *before = cadre_space_to_json(space);
    assert_string_equal(before,
                        "{\"lr\": {\"kind\": \"loguniform\", \"low\": 0.0001, \"high\": 0.1}, \"opt\": {\"kind\": "
                        "\"choice\", \"values\": [\"sgd\", \"adam\"]}, \"m\": {\"kind\": \"uniform\", \"low\": 0.0, "
                        "\"high\": 1.0, \"when\": [{\"opt\": [\"sgd\"]}]}}");
    uint64_t hash = cadre_space_hash(space);
    cadre_space_free(space);
    space = make(PARAMS(lr, opt, CADRE_WHEN("opt", "sgd", CADRE_UNIFORM("m", 0, 1))));
    assert_int_equal(cadre_space_hash(space), hash);
    cadre_space_free(space);
    changes_are(before, PARAMS(lr, opt, CADRE_WHEN("opt", "sgd", CADRE_UNIFORM("m", 0, 1))), NULL);
    changes_are(before,
                PARAMS(CADRE_LOGUNIFORM("lr", 1e-4, 1), opt, CADRE_WHEN("opt", "sgd", CADRE_UNIFORM("m", 0, 1))),
                "lr: high was 0.1, is 1.0");
    changes_are(before, PARAMS(lr, opt, CADRE_UNIFORM("m", 0, 1)), "m: when was [{\"opt\": [\"sgd\"]}], is nothing");
    changes_are(before, PARAMS(lr, opt, CADRE_CONSTANT_INT("wd", 0)), "m is gone; wd is new");
    changes_are(before, PARAMS(opt, lr, CADRE_WHEN("opt", "sgd", CADRE_UNIFORM("m", 0, 1))),
                "the order: opt stands where lr stood");
    char *changes = NULL;
    space = make(PARAMS(lr));
    assert_int_equal(cadre_space_changes(space, "{\"lr\": ", &changes), CADRE_EINVAL);
    assert_int_equal(cadre_space_changes(space, "[]", &changes), CADRE_EINVAL);
    assert_int_equal(cadre_space_changes(space, "{\"lr\": 3}", &changes), CADRE_EINVAL);
    assert_null(changes);
    cadre_space_free(space);
    free(before);
}

static void grids_are_counted(void **state)
{
    (void)state;
    int64_t size = -1;
    cadre_space *space =
        make(PARAMS(CADRE_GRID("opt", "sgd", "adam"), CADRE_WHEN("opt", "sgd", CADRE_GRID_DOUBLE("m", 0, 0.9, 0.99)),
                    CADRE_GRID_INT("n", 1, 2), CADRE_UNIFORM("lr", 0, 1)));
    assert_int_equal(cadre_space_grid_size(space, 8, &size), CADRE_OK);
    assert_int_equal(size, 8); /* (3 + 1) * 2 */
    assert_int_equal(cadre_space_grid_size(space, 7, &size), CADRE_EINVAL);
    assert_string_equal(cadre_error_message(), "the grid has more than 7 combinations: take values out, or draw them (choice, search random)");
    cadre_space_free(space);
    space = make(PARAMS(CADRE_UNIFORM("lr", 0, 1)));
    assert_int_equal(cadre_space_grid_size(space, 8, &size), CADRE_OK);
    assert_int_equal(size, 1);
    cadre_space_free(space);
    cadre_space_free(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bad_bounds_are_refused),
        cmocka_unit_test(bad_lists_are_refused),
        cmocka_unit_test(sizes_without_sense_are_refused),
        cmocka_unit_test(bad_conditions_are_refused),
        cmocka_unit_test(bounds_are_rays),
        cmocka_unit_test(conditions_nest),
        cmocka_unit_test(a_point_becomes_a_config_and_comes_back),
        cmocka_unit_test(values_are_computed_from_others),
        cmocka_unit_test(distributions_are_optunas),
        cmocka_unit_test(changes_are_named),
        cmocka_unit_test(grids_are_counted),
    };
    return cmocka_run_group_tests_name("space", tests, NULL, NULL);
}
