/* A program that has called setlocale() where a decimal point is a comma: what is written and read is as anywhere else. */
#include "experiment.h"

#include "base/buffer.h"
#include "base/number.h"
#include "tuner/space.h"

#include <locale.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

static int simulate(const cadre_config *config, int64_t trial, int64_t report, double *value, double *seconds, void *user)
{
    (void)trial;
    (void)user;
    *value = fabs(log10(cadre_config_double(config, "lr", 1)) + 2) + 1.0 / (double)report;
    *seconds = 0.37;
    return report == 9 ? CADRE_STOP : CADRE_OK;
}

/* Ten trials, and ten more after a resume, which reads what the first ones wrote. */
static char *experiment_of(const char *name)
{
    const cadre_param space[] = {CADRE_LOGUNIFORM("lr", 1e-4, 1e-1), CADRE_CHOICE_DOUBLE("drop", 0.25, 0.5), CADRE_CONSTANT_DOUBLE("decay", 0.1),
                                 CADRE_WHEN("drop", "0.5", CADRE_UNIFORM("x", 0.5, 1.5)), CADRE_END};
    cadre_trainer trainer = {.run = {.name = name, .storage = folder}};
    cadre_tuner tuner = {.trainer = &trainer, .metric = "score", .mode = CADRE_MIN, .space = space, .num_samples = 10, .seed = 3, .max_concurrent = 1,
                         .search = CADRE_TPE(.startup = 4), .scheduler = CADRE_ASHA(.max_t = 9, .reduction_factor = 3), .sim = simulate};
    if (cadre_tuner_fit(&tuner, NULL) != CADRE_OK)
        fail_msg("%s", cadre_error_message());
    tuner.num_samples = 20;
    tuner.resume = CADRE_TUNE_RESUME;
    if (cadre_tuner_fit(&tuner, NULL) != CADRE_OK)
        fail_msg("%s", cadre_error_message());
    char *trials = strdup(trials_of(name));
    const char *values = rows_of(name, "SELECT group_concat(value_json, ' ') FROM cadre_params");
    assert_null(strchr(values, ','));
    assert_string_equal(rows_of(name, "SELECT count(*) FROM cadre_events WHERE NOT json_valid(value_json)"), "0");
    return trials;
}

/* Where no such locale can be had these tests show nothing. */
static void skip_unless_in_germany(void)
{
    if (strcmp(localeconv()->decimal_point, ",") != 0)
        skip();
}

static void numbers_are_plain(void **state)
{
    (void)state;
    char text[32], *end;
    base_number_text(0.5, text);
    assert_string_equal(text, "0.5");
    base_number_text(3, text);
    assert_string_equal(text, "3.0");
    base_number_text(5e-324, text);
    assert_true(base_number_parse(text, &end) == 5e-324 && *end == '\0');
    assert_true(base_number_parse("0.5,", &end) == 0.5 && *end == ',');
    base_buffer buffer = {0};
    assert_int_equal(base_buffer_printf(&buffer, "%.2f", 1.25), 0);
    assert_string_equal((char *)buffer.data, "1.25");
    base_buffer_free(&buffer);
    cadre_param param;
    assert_int_equal(cadre_param_parse("lr", "uniform(0.25, 1.5)", &param), CADRE_OK);
    assert_true(param.low == 0.25 && param.high == 1.5);
    cadre_param_clear(&param);
    skip_unless_in_germany();
}

static void sweeps_are_the_same(void **state)
{
    (void)state;
    skip_unless_in_germany();
    char *there = experiment_of("there");
    setlocale(LC_ALL, "C");
    char *here = experiment_of("here");
    assert_string_equal(there, here);
    free(there);
    free(here);
}

/* German, as this machine has it, or made for the test. */
static int go_to_germany(void **state)
{
    char command[300];
    if (make_folder(state) != 0)
        return -1;
    snprintf(command, sizeof command, "localedef -i de_DE -f UTF-8 '%s/de_DE.UTF-8' > /dev/null 2>&1", folder);
    if (!setlocale(LC_ALL, "de_DE.UTF-8") && system(command) == 0) {
        setenv("LOCPATH", folder, 1);
        setlocale(LC_ALL, "de_DE.UTF-8");
    }
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(numbers_are_plain, go_to_germany, remove_folder),
        cmocka_unit_test_setup_teardown(sweeps_are_the_same, go_to_germany, remove_folder),
    };
    return cmocka_run_group_tests_name("tuner: locale", tests, NULL, NULL);
}
