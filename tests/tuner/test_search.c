/* The contract for every searcher and wrapper, what random and grid search and the wrappers do beyond it, and what is
 * refused. */
#include "test_search_contract.h"

static const search_case random_search = {.search = {.name = "random"}};
static const search_case grid = {.search = {.name = "grid"}, .finite = true};
static const search_case tpe = {.search = {.name = "tpe"}};
static const search_case bohb = {.search = {.name = "bohb"}};
static const search_case sobol = {.search = {.name = "sobol"}};
static const search_case halton = {.search = {.name = "halton"}};
static const search_case cmaes = {.search = {.name = "cmaes"}};
static const search_case automatic = {.search = {.name = "auto", .json = "{\"handover\": 14}"}}; /* gp takes its time */
static const search_case limited = {.search = {.name = "tpe", .max_concurrent = 3}};
static const search_case repeated = {.search = {.name = "tpe", .repeats = 3}};
static const search_case repeated_grid = {.search = {.name = "grid", .repeats = 3}, .finite = true};
static const search_case wrapped = {.search = {.name = "tpe", .repeats = 2, .max_concurrent = 2}};

#define PARAMS(...) ((const cadre_param[]){__VA_ARGS__, CADRE_END})

static cadre_space *make(const cadre_param *params)
{
    cadre_space *space;
    if (cadre_space_new(params, &space))
        fail_msg("%s", cadre_error_message());
    return space;
}

static cadre_searcher *start(const cadre_space *space, const cadre_search *search)
{
    cadre_searcher *searcher;
    if (cadre_searcher_new(space, search, 1, &searcher))
        fail_msg("%s", cadre_error_message());
    return searcher;
}

static void refuses(const cadre_search *search, int status, const char *message)
{
    cadre_space *space = make(PARAMS(CADRE_UNIFORM("lr", 0, 1), CADRE_CHOICE("opt", "a", "b")));
    cadre_searcher *searcher = NULL;
    assert_int_equal(cadre_searcher_new(space, search, 1, &searcher), status);
    assert_null(searcher);
    assert_string_equal(cadre_error_message(), message);
    cadre_space_free(space);
}

static void bad_searches_are_refused(void **state)
{
    (void)state;
    static const char listed[] = "there is no searcher \"bayes\"; there are random, grid, tpe, ";
    cadre_space *plain = make(PARAMS(CADRE_UNIFORM("lr", 0, 1)));
    cadre_searcher *none = NULL;
    assert_int_equal(cadre_searcher_new(plain, &(cadre_search){.name = "bayes"}, 1, &none), CADRE_ENOENT);
    assert_true(none == NULL && strncmp(cadre_error_message(), listed, strlen(listed)) == 0);
    cadre_space_free(plain);
    refuses(&(cadre_search){.name = "tpe", .json = "{\"startups\": 3}"}, CADRE_EINVAL,
            "tpe: there is no option \"startups\"");
    refuses(&(cadre_search){.name = "tpe", .json = "{\"startup\": 3.5}"}, CADRE_EINVAL,
            "tpe: startup is not a whole number");
    refuses(&(cadre_search){.name = "tpe", .json = "{\"gamma\": 2}"}, CADRE_EINVAL,
            "tpe: gamma is 2, not in 1e-06 to 1");
    refuses(&(cadre_search){.name = "tpe", .json = "[]"}, CADRE_EINVAL,
            "tpe: its options: line -1, column -1: not an object");
    refuses(&(cadre_search){.name = "random", .json = "{\"a\": 1}"}, CADRE_EINVAL, "random: there is no option \"a\"");
    refuses(&CADRE_TPE(.candidates = -1), CADRE_EINVAL, "tpe: candidates is -1, not in 1 to 64");
    refuses(&(cadre_search){.name = "tpe", .options = &(size_t){0}}, CADRE_EINVAL,
            "tpe: its options do not begin with their size");
    refuses(&(cadre_search){.name = "grid"}, CADRE_EINVAL,
            "lr is continuous: a grid needs a step, a choice, or a resolution");
    refuses(&CADRE_GRID_SEARCH(.resolution = 10, .limit = 19), CADRE_EINVAL, "the grid has more than 19 combinations: take values out, or draw them (choice, search random)");
    refuses(&(cadre_search){.repeats = -1}, CADRE_EINVAL, "repeats and max_concurrent may not be negative");
    cadre_config *config;
    assert_int_equal(cadre_config_from_json("{\"lr\": 3}", &config), CADRE_OK);
    const cadre_config *points[] = {config, NULL};
    refuses(&(cadre_search){.points = points}, CADRE_EINVAL, "point 1 to try first: lr: 3 is not in 0 to 1");
    cadre_config_free(config);
    cadre_searcher_table table = cadre_searcher_random;
    table.abi = 77;
    cadre_space *space = make(PARAMS(CADRE_UNIFORM("lr", 0, 1)));
    cadre_searcher *searcher;
    assert_int_equal(cadre_searcher_new(space, &(cadre_search){.table = &table}, 1, &searcher), CADRE_EVERSION);
    table.abi = CADRE_SEARCHER_ABI;
    table.tell = NULL;
    assert_int_equal(cadre_searcher_new(space, &(cadre_search){.table = &table}, 1, &searcher), CADRE_EINVAL);
    cadre_space_free(space);
}

static void the_registry_has_names(void **state)
{
    (void)state;
    for (int i = 0; cadre_searcher_name(i); i++)
        assert_string_equal(cadre_searcher_by_name(cadre_searcher_name(i))->name, cadre_searcher_name(i));
    assert_null(cadre_searcher_by_name("bayes"));
    assert_null(cadre_searcher_name(-1));
    cadre_space *space = make(PARAMS(CADRE_UNIFORM("lr", 0, 1)));
    cadre_searcher_free(start(space, NULL)); /* random */
    cadre_searcher_free(start(space, &CADRE_SEARCH_RANDOM));
    cadre_searcher_free(start(space, &CADRE_SEARCH_TPE));
    cadre_searcher_free(NULL);
    cadre_space_free(space);
}

static void a_grid_has_every_combination_once(void **state)
{
    (void)state;
    cadre_space *space =
        make(PARAMS(CADRE_CHOICE("opt", "sgd", "adam"), CADRE_WHEN("opt", "sgd", CADRE_QUNIFORM("m", 0, 1, 0.5)),
                    CADRE_RANDINT("n", 1, 3), CADRE_UNIFORM("lr", 0, 1)));
    cadre_searcher *searcher = start(space, &CADRE_GRID_SEARCH(.resolution = 2));
    const double expected[16][4] = {{0, 0, 1, 0},   {0, 0, 1, 1},   {0, 0, 2, 0},   {0, 0, 2, 1},
                                    {0, 0.5, 1, 0}, {0, 0.5, 1, 1}, {0, 0.5, 2, 0}, {0, 0.5, 2, 1},
                                    {0, 1, 1, 0},   {0, 1, 1, 1},   {0, 1, 2, 0},   {0, 1, 2, 1},
                                    {1, NAN, 1, 0}, {1, NAN, 1, 1}, {1, NAN, 2, 0}, {1, NAN, 2, 1}};
    double x[4];
    int64_t number;
    for (int i = 0; i < 16; i++) {
        assert_int_equal(cadre_searcher_ask(searcher, &number, x), CADRE_OK);
        for (int d = 0; d < 4; d++)
            assert_true(x[d] == expected[i][d] || (isnan(x[d]) && isnan(expected[i][d])));
    }
    assert_int_equal(cadre_searcher_ask(searcher, &number, x), CADRE_STOP);
    cadre_searcher_free(searcher);
    cadre_space_free(space);
}

static void random_search_walks_grids(void **state)
{
    (void)state;
    cadre_space *space = make(PARAMS(CADRE_GRID("opt", "sgd", "adam"), CADRE_UNIFORM("lr", 0, 1),
                                     CADRE_WHEN("opt", "sgd", CADRE_GRID_INT("n", 1, 2), CADRE_UNIFORM("m", 0, 1))));
    cadre_searcher *searcher = start(space, NULL);
    const double opt[3] = {0, 0, 1}, n[3] = {0, 1, NAN};
    double x[4], last = -1;
    int64_t number;
    for (int i = 0; i < 30; i++) {
        assert_int_equal(cadre_searcher_ask(searcher, &number, x), CADRE_OK);
        assert_true(x[0] == opt[i % 3] && (x[2] == n[i % 3] || (isnan(x[2]) && isnan(n[i % 3]))));
        assert_true(isnan(x[3]) == (i % 3 == 2));
        assert_true(x[1] != last);
        last = x[1];
    }
    cadre_searcher_free(searcher);
    cadre_space_free(space);
}

static void a_limit_limits(void **state)
{
    (void)state;
    cadre_space *space = make(PARAMS(CADRE_UNIFORM("lr", 0, 1)));
    cadre_searcher *searcher = start(space, &(cadre_search){.max_concurrent = 2});
    double x[1];
    int64_t first, second, third = -7;
    assert_int_equal(cadre_searcher_ask(searcher, &first, x), CADRE_OK);
    assert_int_equal(cadre_searcher_ask(searcher, &second, x), CADRE_OK);
    assert_int_equal(cadre_searcher_ask(searcher, &third, x), CADRE_LATER);
    assert_int_equal(third, -7);
    assert_int_equal(cadre_searcher_add(searcher, x, &(cadre_outcome){.value = 1}, &third), CADRE_OK);
    assert_int_equal(cadre_searcher_ask(searcher, &third, x), CADRE_LATER); /* one from elsewhere frees no place */
    assert_int_equal(cadre_searcher_tell(searcher, first, &(cadre_outcome){.end = CADRE_ENDED_FAILED}), CADRE_OK);
    assert_int_equal(cadre_searcher_ask(searcher, &third, x), CADRE_OK);
    assert_int_equal(third, 3);
    cadre_searcher_free(searcher);
    cadre_space_free(space);
}

/* A searcher of a user's own, which writes down what it is told. */
static struct diary {
    int asked, told, ran, reports, freed;
    cadre_outcome last;
    int64_t last_number;
    double last_x;
} diary;

static int diary_create(const cadre_searcher_args *args, void **self)
{
    assert_non_null(args->space);
    *self = &diary;
    return CADRE_OK;
}

static int diary_ask(void *self, int64_t number, double *x)
{
    (void)self, (void)number;
    x[0] = 0.125 * diary.asked++; /* the ninth is out of the space */
    return CADRE_OK;
}

static int diary_tell(void *self, int64_t number, const double *x, const cadre_outcome *outcome)
{
    (void)self;
    diary.told++;
    diary.last = *outcome;
    diary.last_number = number;
    diary.last_x = x[0];
    return CADRE_OK;
}

static int diary_running(void *self, int64_t number, const double *x)
{
    (void)self, (void)number, (void)x;
    diary.ran++;
    return CADRE_OK;
}

static int diary_report(void *self, int64_t number, int64_t step, double value)
{
    (void)self, (void)number, (void)step, (void)value;
    diary.reports++;
    return CADRE_OK;
}

static void diary_free(void *self) { ((struct diary *)self)->freed++; }

static const cadre_searcher_table diary_table = {.abi = CADRE_SEARCHER_ABI,
                                                 .size = sizeof(cadre_searcher_table),
                                                 .name = "diary",
                                                 .create = diary_create,
                                                 .ask = diary_ask,
                                                 .tell = diary_tell,
                                                 .running = diary_running,
                                                 .report = diary_report,
                                                 .free = diary_free};

static void repeats_are_told_as_their_mean(void **state)
{
    (void)state;
    diary = (struct diary){0};
    cadre_space *space = make(PARAMS(CADRE_UNIFORM("lr", 0, 1)));
    cadre_searcher *searcher = start(space, &(cadre_search){.table = &diary_table, .repeats = 3});
    double x[1];
    int64_t number;
    for (int i = 0; i < 9; i++) {
        assert_int_equal(cadre_searcher_ask(searcher, &number, x), CADRE_OK);
        assert_true(x[0] == 0.125 * (i / 3));
    }
    const cadre_outcome outcomes[9] = {{.value = 1},
                                       {.value = 2},
                                       {.value = 6},
                                       {CADRE_ENDED_PRUNED, 9, 4},
                                       {.value = 5},
                                       {.end = CADRE_ENDED_FAILED},
                                       {CADRE_ENDED_PRUNED, 1, 2},
                                       {CADRE_ENDED_PRUNED, 3, 7},
                                       {.value = NAN}};
    for (int i = 0; i < 9; i++) {
        int which = (i * 2) % 9; /* 0 2 4 6 8 1 3 5 7 */
        int told = diary.told;
        assert_int_equal(cadre_searcher_tell(searcher, which, &outcomes[which]), CADRE_OK);
        if (which == 1) {
            assert_true(diary.last.end == CADRE_ENDED_COMPLETE && diary.last.value == 3 && diary.last_number == 0);
        } else if (which == 5) { /* complete ones count alone */
            assert_true(diary.last.end == CADRE_ENDED_COMPLETE && diary.last.value == 5 && diary.last_x == 0.125);
        } else if (which == 7) {
            assert_true(diary.last.end == CADRE_ENDED_PRUNED && diary.last.value == 2 && diary.last.last_step == 7);
        } else {
            assert_int_equal(diary.told, told);
        }
    }
    cadre_searcher_free(searcher);
    assert_int_equal(diary.freed, 1);
    cadre_space_free(space);
}

static void points_come_first(void **state)
{
    (void)state;
    diary = (struct diary){0};
    cadre_space *space = make(PARAMS(CADRE_UNIFORM("lr", 0, 1), CADRE_CHOICE("opt", "sgd", "adam"),
                                     CADRE_WHEN("opt", "sgd", CADRE_UNIFORM("m", 0, 1))));
    cadre_config *a, *b;
    assert_int_equal(cadre_config_from_json("{\"lr\": 0.25, \"opt\": \"sgd\", \"m\": 0.5}", &a), CADRE_OK);
    assert_int_equal(cadre_config_from_json("{\"opt\": \"adam\", \"m\": 0.5}", &b), CADRE_OK);
    const cadre_config *points[] = {a, b, NULL};
    cadre_searcher *searcher = start(space, &(cadre_search){.name = "tpe", .points = points});
    double x[3];
    int64_t number;
    assert_int_equal(cadre_searcher_ask(searcher, &number, x), CADRE_OK);
    assert_true(x[0] == 0.25 && x[1] == 0 && x[2] == 0.5);
    assert_int_equal(cadre_searcher_ask(searcher, &number, x), CADRE_OK);
    assert_true(x[0] >= 0 && x[0] < 1 && x[1] == 1 && isnan(x[2])); /* lr was open; m has no place */
    assert_int_equal(cadre_searcher_ask(searcher, &number, x), CADRE_OK);
    assert_int_equal(number, 2);
    cadre_searcher_free(searcher);
    cadre_space_free(space);
    space = make(PARAMS(CADRE_UNIFORM("lr", 0, 1)));
    points[1] = NULL;
    searcher = start(space, &(cadre_search){.table = &diary_table, .points = points});
    assert_int_equal(cadre_searcher_ask(searcher, &number, x), CADRE_OK);
    assert_true(diary.asked == 0 && diary.ran == 1); /* it is told of what it did not choose */
    assert_int_equal(cadre_searcher_report(searcher, 0, 1, 2), CADRE_OK);
    assert_int_equal(diary.reports, 1);
    cadre_searcher_free(searcher);
    cadre_space_free(space);
    cadre_config_free(a);
    cadre_config_free(b);
}

static void a_users_searcher_is_held_to_the_space(void **state)
{
    (void)state;
    diary = (struct diary){0};
    cadre_space *space = make(PARAMS(CADRE_UNIFORM("lr", 0, 1)));
    cadre_searcher *searcher = start(space, &(cadre_search){.table = &diary_table});
    double x[1] = {0};
    int64_t number = -1;
    for (int i = 0; i < 9; i++)
        assert_int_equal(cadre_searcher_ask(searcher, &number, x), CADRE_OK);
    assert_int_equal(cadre_searcher_ask(searcher, &number, x), CADRE_EINVAL);
    assert_string_equal(cadre_error_message(), "searcher diary: lr: 1.125 is not in 0 to 1");
    assert_true(number == 8 && x[0] == 1);
    assert_int_equal(cadre_searcher_tell(searcher, 8, &(cadre_outcome){.value = NAN}), CADRE_OK);
    assert_int_equal(diary.last.end, CADRE_ENDED_FAILED);
    cadre_searcher_free(searcher);
    cadre_space_free(space);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        SEARCH_CONTRACT(random_search),
        SEARCH_CONTRACT(grid),
        SEARCH_CONTRACT(tpe),
        SEARCH_CONTRACT(bohb),
        SEARCH_CONTRACT(sobol),
        SEARCH_CONTRACT(halton),
        SEARCH_CONTRACT(cmaes),
        SEARCH_CONTRACT(automatic),
        SEARCH_CONTRACT(limited),
        SEARCH_CONTRACT(repeated),
        SEARCH_CONTRACT(repeated_grid),
        SEARCH_CONTRACT(wrapped),
        cmocka_unit_test(bad_searches_are_refused),
        cmocka_unit_test(the_registry_has_names),
        cmocka_unit_test(a_grid_has_every_combination_once),
        cmocka_unit_test(random_search_walks_grids),
        cmocka_unit_test(a_limit_limits),
        cmocka_unit_test(repeats_are_told_as_their_mean),
        cmocka_unit_test(points_come_first),
        cmocka_unit_test(a_users_searcher_is_held_to_the_space),
    };
    return cmocka_run_group_tests_name("search", tests, NULL, NULL);
}
