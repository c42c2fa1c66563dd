/* Sweep files: what is refused says where and why; what is taken means what it should. Commands: words, quoting, lines of reports. */
#include "tests/tracking/helpers.h"

#include "tuner/sweep.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define HEAD "name: a\nmetric: loss\nmode: min\ncommand: [./prog]\n" /* lines 1 to 4 */
#define SPACE HEAD "params:\n  lr: uniform(0, 1)\n"                 /* to line 6 */

static const struct {
    const char *yaml, *message;
} refused[] = {
    {"", "s.yaml:1:1: a sweep is a map"},
    {"- a\n", "s.yaml:1:1: a sweep is a map"},
    {"name: [1\n", "s.yaml:2:1: while parsing a flow sequence"},
    {"name: a\nname: b\n", "s.yaml:2:1: the key \"name\" is there twice"},
    {"name: &x a\n", "s.yaml:1:7: anchors"},
    {"name: *x\n", "s.yaml:1:7: aliases"},
    {"name: !!str a\n", "s.yaml:1:7: anchors and tags"},
    {"name: a\n---\nname: b\n", "s.yaml:2:1: a second document"},
    {"name: a\n? [b]\n: c\n", "a key is plain text"},
    {"a: [[[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]]]\n", "nested too deeply"},
    {"name: \xff\n", "s.yaml:1:7: invalid leading UTF-8 octet"},
    {"name: \"a\\0b\"\n", "s.yaml:1:7: a text with a zero byte"},
    {"metrik: loss\n", "s.yaml:1:1: unknown key \"metrik\" in a sweep: did you mean \"metric\"?"},
    {"zzzzzzzz: loss\n", "s.yaml:1:1: unknown key \"zzzzzzzz\" in a sweep; there are name, storage, metric"},
    {"mode: min\n", "s.yaml:1:1: name is missing"},
    {"name: a\nmetric: b\n", "mode is missing"},
    {"name: a\nmetric: b\nmode: up\n", "s.yaml:3:7: mode is \"up\", not max or min"},
    {"name: a\nmetric: b\nmode: max\n", "command is missing"},
    {"name: a\nmetric: b\nmode: max\ncommand: ./prog --x\n", "s.yaml:4:10: command is a list of words"},
    {"name: a\nmetric: b\nmode: max\ncommand: []\n", "s.yaml:4:10: command is a list of words, not empty"},
    {"name: a\nmetric: b\nmode: max\ncommand: [a]\nshell: b\n", "s.yaml:5:1: command and shell: give one"},
    {HEAD, "params is missing"},
    {HEAD "params: {}\n", "s.yaml:5:9: params is a map of parameters, not empty"},
    {HEAD "params:\n  lr: unifrm(0, 1)\n", "s.yaml:6:7: lr: there is no distribution \"unifrm\""},
    {HEAD "params:\n  lr: \"uniform(0, x)\"\n", "s.yaml:6:19: lr: a number expected"},
    {HEAD "params:\n  lr: uniform(0, 1\n", "s.yaml:6:19: lr: the ')' is missing"},
    {HEAD "params: {lr: uniform(0, 1)}\n", "s.yaml:5:14: lr: \"uniform(0\" has no ')': within {...} and [...] a distribution is quoted"},
    {HEAD "params:\n  lr: [1, uniform(0, 1)]\n", "s.yaml:6:11: lr: a list is a choice of values: uniform(0 needs quotes there"},
    {HEAD "params:\n  lr: loguniform 1e-4 1e-1\n", "s.yaml:6:7: lr: \"loguniform 1e-4 1e-1\" is a text"},
    {HEAD "params:\n  lr: uniform(2, 1)\n", "s.yaml:6:7: lr: low 2 is greater than high 1"},
    {HEAD "params:\n  lr: loguniform(0, 1)\n", "s.yaml:6:7: lr: a logarithmic scale needs low > 0"},
    {HEAD "params:\n  lr: quniform(0, 1, 0.3)\n", "s.yaml:6:7: lr: step 0.3 does not divide"},
    {HEAD "params:\n  lr: choice()\n", "s.yaml:6:7: lr: choice of nothing"},
    {HEAD "params:\n  lr: []\n", "s.yaml:6:7: lr: choice of nothing"},
    {HEAD "params:\n  lr: [1, [2]]\n", "s.yaml:6:11: lr: a value is a number"},
    {HEAD "params:\n  lr: {unifrm: [0, 1]}\n", "s.yaml:6:8: lr: there is no distribution \"unifrm\""},
    {HEAD "params:\n  lr: {when: {a: 1}}\n", "s.yaml:6:7: lr: say what it is drawn from"},
    {HEAD "params:\n  lr: {values: [1, 2], grid: [1]}\n", "s.yaml:6:24: lr: grid beside values"},
    {HEAD "params:\n  a: [x, y]\n  lr: {uniform: [0, 1], when: {b: x}}\n", "s.yaml:7:32: condition on b: there is no parameter"},
    {HEAD "params:\n  a: 3\n  lr: {uniform: [0, 1], when: {a: 3}}\n", "s.yaml:7:35: lr: condition on a, which is a constant"},
    {HEAD "params:\n  a: [x, y]\n  lr: {uniform: [0, 1], when: {a: z}}\n", "s.yaml:7:35: lr: condition on a: it cannot be \"z\""},
    {HEAD "params:\n  a: [x, y]\n  lr: {uniform: [0, 1], when: {a: {most: 1}}}\n", "s.yaml:7:36: unknown key \"most\" in a range"},
    {SPACE "search: tpo\n", "s.yaml:7:9: there is no searcher \"tpo\"; there are random, grid, tpe"},
    {SPACE "search: {startup: 3}\n", "s.yaml:7:9: search: name is missing"},
    {SPACE "search:\n  name: tpe\n  startp: 3\n", "s.yaml:9:11: tpe: there is no option \"startp\""},
    {SPACE "search: {name: random, points: [{x: 1}]}\n", "s.yaml:7:34: there is no parameter \"x\""},
    {SPACE "search: grid\n", "lr is continuous: a grid needs"},
    {SPACE "scheduler: ash\n", "s.yaml:7:12: there is no scheduler \"ash\"; there are fifo, asha, hyperband, percentile, median"},
    {SPACE "scheduler: {name: asha, max: 3}\n", "s.yaml:7:25: unknown key \"max\" in asha"},
    {SPACE "scheduler: {name: asha, max_t: 3, grace_period: 9}\n", "asha: grace_period is 9 and max_t 3"},
    {SPACE "scheduler: {name: hyperband, max_t: 8, reduction_factor: 2, brackets: 5}\n", "hyperband: brackets is 5: give 1 to 4"},
    {SPACE "scheduler: {name: percentile, percentile: 101}\n", "percentile: percentile is 101"},
    {SPACE "stop: {max_iterations: 0}\n", "s.yaml:7:24: max_iterations is 0, not in 1 to"},
    {SPACE "stop: {plateau: {top: 3}}\n", "plateau: std is missing"},
    {SPACE "num_samples: 0\n", "s.yaml:7:14: num_samples is 0"},
    {SPACE "num_samples: -1\n", "nothing would ever end the sweep"},
    {SPACE "num_samples: 1.5\n", "s.yaml:7:14: num_samples is a whole number, not \"1.5\""},
    {SPACE "num_samples: [3]\n", "s.yaml:7:14: num_samples is a whole number, not a list"},
    {SPACE "num_samples:\n", "s.yaml:7:13: num_samples is a whole number, not empty"},
    {SPACE "num_samples: \"\"\n", "s.yaml:7:14: num_samples is a whole number, not empty"},
    {SPACE "command: 3\n", "s.yaml:7:1: the key \"command\" is there twice"},
    {SPACE "fail_fast: 1\n", "s.yaml:7:12: fail_fast is true or false, not \"1\""},
    {SPACE "directory: {}\n", "s.yaml:7:12: directory is a text, not a map"},
    {SPACE "scheduler: {name: asha, max_t: 0}\n", "s.yaml:7:32: max_t is 0: give more"},
    {SPACE "stop: {trial_plateau: {std: 0}}\n", "s.yaml:7:29: std is 0: give more"},
    {SPACE "stop: {target: .nan}\n", "s.yaml:7:16: target is a number, not \".nan\""},
    {"name: a/b\nmetric: loss\n", "s.yaml:1:7: name \"a/b\": use up to 100 letters"},
    {"name: a\n\tb: c\n", "s.yaml:2:1: a tab: YAML indents by spaces"},
    {"name: \xc3\xa9\n", "s.yaml:1:7: name"},
    {SPACE "time_budget: soon\n", "s.yaml:7:14: time_budget is a time"},
    {SPACE "gpus: -1\n", "s.yaml:7:7: gpus is -1, less than 0"},
    {SPACE "seed: -1\n", "s.yaml:7:7: seed is -1, not in 0 to"},
    {SPACE "env: [a]\n", "s.yaml:7:6: env is a map"},
    {SPACE "env: {\"A=B\": c}\n", "is no name of a variable"},
    {HEAD "params:\n  a: grid(1, 2, 3, 4, 5, 6, 7, 8, 9, 10)\n  b: grid(1, 2, 3, 4, 5, 6, 7, 8, 9, 10)\n  c: grid(1, 2, 3, 4, 5, 6, 7, 8, 9, 10)\n"
          "  d: grid(1, 2, 3, 4, 5, 6, 7, 8, 9, 10)\n  e: grid(1, 2, 3, 4, 5, 6, 7, 8, 9, 10)\n  f: grid(1, 2, 3, 4, 5, 6, 7, 8, 9, 10)\n"
          "  g: grid(1, 2)\nsearch: grid\n",
     "the grid has more than 1000000 combinations"},
};

static int read_sweep(const char *yaml, sweep_node **tree, sweep **sweep)
{
    *tree = NULL;
    *sweep = NULL;
    int status = sweep_parse_yaml(yaml, strlen(yaml), "s.yaml", tree);
    return status == CADRE_OK ? sweep_new(*tree, sweep) : status;
}

static void test_refused(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++) {
        sweep_node *tree;
        sweep *sweep;
        assert_int_equal(read_sweep(refused[i].yaml, &tree, &sweep), CADRE_EINVAL);
        assert_null(sweep);
        const char *message = cadre_error_message();
        bool same = *refused[i].message == 's' && strncmp(refused[i].message, "s.yaml", 6) == 0
                        ? strncmp(message, refused[i].message, strlen(refused[i].message)) == 0
                        : strstr(message, refused[i].message) && strncmp(message, "s.yaml:", 7) == 0;
        if (!same || strchr(message, '\n'))
            fail_msg("%s\ngave: %s\nnot: %s", refused[i].yaml, message, refused[i].message);
        sweep_free(tree);
    }
}

static const char whole[] = "name: whole\nmetric: acc\nmode: max\ncommand: [./prog, --lr, '{lr}', 007]\n"
                            "params:\n  lr: loguniform(1e-4, 1e-1)\n  opt: [sgd, \"it's\", 1.0, 2, true]\n"
                            "  momentum: {uniform: [0, 0.99], when: {opt: sgd, n: {min: 2}}}\n  n: {randint: [1, 10]}\n"
                            "  layers: grid(1, 2, 3)\n  epochs: 10\n  tag: {value: 'grid(1)'}\n"
                            "search: {name: tpe, startup: 5, points: [{lr: 0.01, opt: sgd}]}\n"
                            "scheduler: {name: asha, max_t: 27, promotion: true, time_attr: epoch}\n"
                            "stop: {target: 0.99, trial_plateau: {std: 0.5, window: 3}}\n"
                            "time_budget: 1.5h\nseed: 7\ncores: 0.5\nenv: {A: 1}\n";

static void check_whole(const sweep *sweep)
{
    cadre_trainer trainer;
    cadre_tuner tuner;
    sweep_options(sweep, &trainer, &tuner);
    assert_string_equal(trainer.run.name, "whole");
    assert_int_equal(tuner.mode, CADRE_MAX);
    assert_int_equal(tuner.num_samples, 3); /* the grid once */
    assert_true(tuner.stop.time_budget_s == 5400);
    assert_true(tuner.stop.has_target && tuner.stop.target == 0.99 && tuner.stop.trial_plateau_std == 0.5);
    assert_ptr_equal(tuner.scheduler.table, &cadre_scheduler_asha);
    assert_true(((const cadre_asha_options *)tuner.scheduler.options)->max_t == 27);
    assert_true(((const cadre_asha_options *)tuner.scheduler.options)->promotion);
    assert_string_equal(tuner.time_attr, "epoch");
    assert_string_equal(sweep->command.words[3], "007");
    assert_string_equal(sweep->command.env[0], "A=1");
    assert_true(trainer.failure.hang_timeout_s < 0);
    cadre_space *space = NULL;
    assert_ok(cadre_space_new(tuner.space, &space));
    char *json = cadre_space_to_json(space);
    assert_non_null(strstr(json, "[\"sgd\", \"it's\", 1.0, 2, true]"));
    assert_non_null(strstr(json, "\"tag\": {\"kind\": \"constant\", \"value\": \"grid(1)\"}"));
    assert_int_equal(cadre_space_dim(space, cadre_space_find(space, "momentum"))->conditions, 2);
    free(json);
    cadre_space_free(space);
}

/* What Windows writes is read as what anyone else writes. */
static void test_windows(void **state)
{
    (void)state;
    static const char yaml[] = "\xef\xbb\xbfname: a\r\nmetric: loss\r\nmode: min\r\ncommand: [./prog]\r\nparams:\r\n  lr: uniform(0, 1)\r\n";
    sweep_node *tree;
    sweep *sweep;
    assert_ok(read_sweep(yaml, &tree, &sweep));
    assert_string_equal(sweep->name, "a");
    assert_int_equal(sweep->param_count, 1);
    sweep_close(sweep);
    sweep_free(tree);
}

/* The same after it has been in the store. */
static void test_taken(void **state)
{
    (void)state;
    sweep_node *tree, *again = NULL;
    sweep *sweep, *second = NULL;
    int status = read_sweep(whole, &tree, &sweep);
    if (status != CADRE_OK)
        fail_msg("%s", cadre_error_message());
    check_whole(sweep);
    char *json = sweep_tree_json(tree);
    assert_ok(sweep_parse_json(json, "store", &again));
    assert_ok(sweep_new(again, &second));
    check_whole(second);
    cadre_space *a = NULL, *b = NULL;
    assert_ok(cadre_space_new(sweep->params, &a));
    assert_ok(cadre_space_new(second->params, &b));
    assert_true(cadre_space_hash(a) == cadre_space_hash(b));
    cadre_space_free(a);
    cadre_space_free(b);
    free(json);
    sweep_close(sweep);
    sweep_close(second);
    sweep_free(tree);
    sweep_free(again);
}

static void check_words(const cadre_config *config, char *const *words, const char *wanted)
{
    static const char *const names[] = {"lr", "opt", "gone", "flag", NULL};
    char **made = NULL, line[400] = "";
    assert_ok(command_words(words, config, names, &made));
    for (int i = 0; made[i]; i++)
        snprintf(line + strlen(line), sizeof line - strlen(line), "%s%s", i ? "|" : "", made[i]);
    assert_string_equal(line, wanted);
    command_free_words(made);
}

static void test_words(void **state)
{
    (void)state;
    static const char *const names[] = {"lr", "opt", "gone", NULL};
    cadre_config *config = NULL;
    char *line = NULL;
    assert_ok(cadre_config_new(&config));
    assert_ok(cadre_config_set_double(config, "lr", 1e-5));
    assert_ok(cadre_config_set_string(config, "opt", "it's $HOME"));
    assert_ok(cadre_config_set_bool(config, "flag", true));
    check_words(config, (char *[]){"p", "--lr", "{lr}", "--o={opt}", "{x}{", "{flag}", NULL}, "p|--lr|1e-05|--o=it's $HOME|{x}{|true");
    check_words(config, (char *[]){"p", "--lr", "{lr}", "--gone", "{gone}", "--g={gone}", "{opt}", NULL}, "p|--lr|1e-05|it's $HOME|--flag|true");
    check_words(config, (char *[]){"p", NULL}, "p|--lr|1e-05|--opt|it's $HOME|--flag|true");
    assert_ok(command_shell("x {lr} {opt} '{gone}' ${HOME}", config, names, &line));
    assert_string_equal(line, "x 1e-05 'it'\\''s $HOME' '''' ${HOME}");
    free(line);
    cadre_config_free(config);
}

static void test_lines(void **state)
{
    (void)state;
    command_report report;
#define READ(text) command_line_read(text, sizeof(text) - 1, &report)
    assert_ok(READ("{\"loss\": NaN, \"b\": -Infinity, \"c\": true, \"step\": 5, \"checkpoint\": true, \"note\": \"NaN\", \"w\": \"word\"}"));
    assert_int_equal(report.count, 3);
    assert_true(isnan(report.metrics[0].value) && isinf(report.metrics[1].value) && report.metrics[2].value == 1);
    assert_true(report.checkpoint && report.step == 5);
    assert_string_equal(report.skipped, "note");
    command_line_free(&report);
    const char *const bad[] = {"", "x", "[1]", "{}", "{\"step\": 1}", "{\"a\": 1, \"step\": 0}", "{\"a\": 1, \"step\": 1.5}", "{\"a\": 1, \"a\": 2}",
                               "{\"a\": 1, \"checkpoint\": 1}", "{\"a\": \"\xff\"}", "{\"\": 1}", "{\"a\": 1} x", "{\"a\\n\": 1}"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        if (command_line_read(bad[i], strlen(bad[i]), &report) != CADRE_EINVAL)
            fail_msg("taken: %s", bad[i]);
    assert_int_equal(READ("{\"a\": 1}\0"), CADRE_EINVAL);
#undef READ
}

static void test_durations(void **state)
{
    (void)state;
    double seconds = 0;
    assert_true(sweep_duration("90", &seconds) && seconds == 90);
    assert_true(sweep_duration("1.5h", &seconds) && seconds == 5400);
    assert_true(sweep_duration("2 m", &seconds) && seconds == 120);
    assert_true(sweep_duration("1d", &seconds) && seconds == 86400);
    assert_false(sweep_duration("", &seconds) || sweep_duration("0", &seconds) || sweep_duration("-1", &seconds) ||
                 sweep_duration("1w", &seconds) || sweep_duration("inf", &seconds) || sweep_duration("1h30", &seconds));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_refused), cmocka_unit_test(test_windows), cmocka_unit_test(test_taken), cmocka_unit_test(test_words),
        cmocka_unit_test(test_lines), cmocka_unit_test(test_durations),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
