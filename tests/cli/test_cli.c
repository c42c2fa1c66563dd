/* The command line as a script sees it: what it prints, and its exit codes. */
#include "shell.h"
#include "tests/tracking/helpers.h"

#include "base/io.h"
#include "tracking/sql.h"

#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static int cadre(const char *arguments) { return run("cadre %s", arguments); }

static tracking_store *store;

static int setup(void **state)
{
    (void)state;
    int64_t experiment, trial;
    const tracking_param params[] = {{"lr", NULL, 0, "0.1"}, {"optimizer", NULL, 0, "\"adam\""}};
    snprintf(place, sizeof place, "%s", helpers_directory());
    char path[500];
    snprintf(path, sizeof path, "%s/runs/first/cadre.db", place);
    assert_ok(tracking_open(path, &store));
    assert_ok(tracking_experiment(store, "first", "loss", TRACKING_MINIMIZE, &experiment));
    assert_ok(tracking_trial_add(store, experiment, params, 2, 0, &trial, NULL));
    assert_ok(tracking_attempt_begin(store, trial, 0, 2, "fork", "shm", 0, 0));
    for (int i = 1; i <= 12; i++) {
        tracking_metric metrics[] = {{"loss", i == 12 ? NAN : 1.0 / i}, {"accuracy", i / 16.0}};
        assert_ok(tracking_report(store, trial, 0, i, 100 * i, metrics, i == 11 ? 1 : 2));
    }
    assert_ok(tracking_attempt_end(store, trial, 0, "killed", 1, "node7", 0, 9, "out of memory"));
    assert_ok(tracking_attempt_begin(store, trial, 1, 2, "fork", "shm", 12, 1));
    for (int i = 0; i < 3; i++) {
        tracking_checkpoint checkpoint = {.report = i, .nbytes = 5, .has_score = true, .score = i == 1 ? 0.25 : 0.5};
        snprintf(checkpoint.path, sizeof checkpoint.path, "trial-0/checkpoint-%d", i);
        assert_ok(tracking_checkpoint_add(store, trial, &checkpoint));
    }
    assert_ok(tracking_event(store, experiment, trial, "restart", "{\"after\": 12}", NULL));
    assert_ok(tracking_event(store, experiment, 0, "stop", NULL, NULL));
    assert_ok(tracking_commit(store, true));
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    tracking_close(store);
    store = NULL;
    helpers_remove();
    return 0;
}

static void test_usage(void **state)
{
    (void)state;
    assert_int_equal(cadre(""), 2);
    assert_int_equal(cadre("--help"), 0);
    expect("usage: cadre COMMAND");
    assert_int_equal(cadre("--version"), 0);
    expect("cadre 0.");
    assert_int_equal(cadre("show --help"), 0);
    expect("--events");
    const char *const wrong[] = {"nonsense",
                                 "--nonsense",
                                 "ls --nonsense",
                                 "ls a b",
                                 "show",
                                 "show first --last",
                                 "show first --last=x",
                                 "show first --trial -1",
                                 "show --json=1 first",
                                 "info x"};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        assert_int_equal(cadre(wrong[i]), 2);
        assert_int_equal(count("\n"), 1);
    }
    const char *const missing[] = {"ls nowhere",       "show second",
                                   "show runs/second", "show second --storage elsewhere",
                                   "show ''",          "show first --trial 3"};
    for (size_t i = 0; i < sizeof missing / sizeof *missing; i++) {
        assert_int_equal(cadre(missing[i]), 1);
        assert_int_equal(count("\n"), 1);
    }
    cadre("show second --storage elsewhere");
    expect("elsewhere/second/cadre.db");
}

static void test_ls(void **state)
{
    (void)state;
    assert_int_equal(cadre("ls"), 0);
    assert_int_equal(count("\n"), 2);
    expect("first\trunning\t1\t0\t0\t0\tloss\t0.0909091\t20");
    assert_int_equal(cadre("ls --json"), 0);
    json_t *list = json_loads(output, 0, NULL);
    assert_int_equal(json_array_size(list), 1);
    const json_t *first = json_array_get(list, 0);
    assert_string_equal(json_string_value(json_object_get(first, "experiment")), "first");
    assert_true(json_is_true(json_object_get(first, "running")));
    assert_true(json_is_true(json_object_get(first, "best_is_so_far")));
    json_decref(list);
    tracking_close(store);
    store = NULL;
    assert_int_equal(cadre("ls runs/first"), 0);
    expect("first\tinterrupted\t1");
    /* One damaged store is said and does not hide the others. */
    char path[500];
    snprintf(path, sizeof path, "%s/runs/broken", place);
    assert_ok(base_mkdirs(path, 0700));
    snprintf(path, sizeof path, "%s/runs/broken/cadre.db", place);
    assert_ok(base_write_file(path, "nonsense", 8));
    assert_int_equal(cadre("ls"), 1);
    expect("runs/broken/cadre.db");
    expect("first\tinterrupted");
    assert_int_equal(cadre("show broken"), 1);
    assert_int_equal(count("\n"), 1);
}

static void test_show(void **state)
{
    (void)state;
    const char *const names[] = {"show first", "show runs/first", "show runs/first/cadre.db",
                                 "show first --storage=runs"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        assert_int_equal(cadre(names[i]), 0);
        expect("running: pid ");
        expect("optimizer\t\"adam\"\n");
        expect("killed: rank 1 on node7, signal 9: out of memory");
        expect("REPORT\tSTEP\tloss\taccuracy\n3\t300\t0.333333\t0.1875\n");
        expect("\n11\t1100\t0.0909091\t-\n12\t1200\tnan\t0.75\n");
        expect("trial-0/checkpoint-1\t0\t1\t0\t5\t0.25\t-\t-\tbest\n");
        expect("trial-0/checkpoint-2\t0\t2\t0\t5\t0.5\t-\t-\tlast\n");
        assert_null(strstr(output, "restart"));
    }
    assert_int_equal(cadre("show first --all --events"), 0);
    expect("\n1\t100\t1\t0.0625\n");
    expect("\trestart\t{\"after\": 12}\n");
    expect("\t-\tstop\t\n");
    assert_int_equal(cadre("show first --last 1"), 0);
    expect("the last 1 of 12 reports");
    assert_null(strstr(output, "\n11\t"));
}

static void test_show_json(void **state)
{
    (void)state;
    assert_int_equal(cadre("show first --json --events"), 0);
    json_t *object = json_loads(output, 0, NULL);
    assert_non_null(object);
    const json_t *trial = json_array_get(json_object_get(object, "trials"), 0);
    const json_t *reports = json_object_get(trial, "metrics");
    assert_int_equal(json_array_size(reports), 12);
    const json_t *last = json_object_get(json_array_get(reports, 11), "metrics");
    assert_string_equal(json_string_value(json_object_get(last, "loss")), "NaN");
    assert_true(json_real_value(json_object_get(last, "accuracy")) == 0.75);
    assert_string_equal(json_string_value(json_object_get(json_object_get(trial, "params"), "optimizer")), "adam");
    const json_t *attempt = json_array_get(json_object_get(trial, "attempts"), 0);
    assert_int_equal(json_integer_value(json_object_get(attempt, "signal")), 9);
    assert_true(json_is_true(json_object_get(json_array_get(json_object_get(trial, "checkpoints"), 1), "best")));
    assert_int_equal(json_array_size(json_object_get(object, "events")), 2);
    json_decref(object);
    assert_int_equal(cadre("show first --json --last 2"), 0);
    object = json_loads(output, 0, NULL);
    trial = json_array_get(json_object_get(object, "trials"), 0);
    assert_int_equal(json_array_size(json_object_get(trial, "metrics")), 2);
    assert_null(json_object_get(object, "events"));
    json_decref(object);
}

/* Who may write the store does not get to drive the reader's terminal. */
static void test_show_plain(void **state)
{
    (void)state;
    int64_t experiment;
    assert_ok(tracking_experiment(store, "evil\033[31m\r\302\233" "2J", "loss\033]0;x\a", TRACKING_MINIMIZE, &experiment));
    assert_ok(tracking_exec(store, "UPDATE trials SET datetime_start = '9' || char(27) || '[2J'", NULL));
    assert_ok(tracking_commit(store, true));
    assert_int_equal(cadre("show runs/first/cadre.db"), 0);
    expect("last activity 9 [2J UTC\n");
    expect("experiment evil [31m   2J (");
    expect("objective: minimize loss ]0;x ");
    assert_null(strpbrk(output, "\033\r\a\302"));
    assert_int_equal(cadre("show runs/first/cadre.db --trial 0"), 1);
    expect("cadre: experiment evil [31m   2J has no trial 0\n");
    assert_null(strchr(output, '\033'));
}

/* Several trials are listed; one of them can be asked for. Several experiments in one file are told apart by name. */
static void test_several(void **state)
{
    (void)state;
    int64_t experiment, trial;
    assert_ok(tracking_experiment(store, "first", NULL, TRACKING_MINIMIZE, &experiment));
    assert_ok(tracking_trial_add(store, experiment, &(tracking_param){"lr", NULL, 0, "0.23456789012345"}, 1, 0, &trial, NULL));
    assert_ok(tracking_trial_finish(store, trial, TRACKING_COMPLETE, true, 0.125, ""));
    assert_ok(tracking_experiment(store, "second", NULL, TRACKING_MINIMIZE, &experiment));
    assert_ok(tracking_commit(store, true));
    assert_int_equal(cadre("show first"), 0);
    expect("\n0\trunning\t-\t12\t2\t");
    expect("\n1\tcomplete\t0.125\t0\t0\t");
    expect("lr=0.234568\t");
    expect("best 0.125 (trial 1)");
    assert_null(strstr(output, "experiment second"));
    assert_int_equal(cadre("show runs/first"), 0);
    expect("experiment second");
    assert_int_equal(cadre("show first --trial 1"), 0);
    expect("trial 1: complete, value 0.125");
    assert_int_equal(cadre("show runs/first --json"), 0);
    json_t *both = json_loads(output, 0, NULL);
    assert_int_equal(json_array_size(both), 2);
    json_decref(both);
}

static void test_info(void **state)
{
    (void)state;
    assert_int_equal(cadre("info"), 0);
    expect("cores\t");
    expect("self\tworks");
    assert_int_equal(cadre("info --json"), 0);
    json_t *object = json_loads(output, 0, NULL);
    assert_true(json_integer_value(json_object_get(json_object_get(object, "machine"), "cores_usable")) > 0);
    assert_true(json_array_size(json_object_get(object, "backends")) > 0);
    json_decref(object);
}

/* Output that cannot be written is a failure, not silence. */
static void test_full_output(void **state)
{
    (void)state;
    if (access("/dev/full", W_OK) != 0)
        skip();
    assert_int_equal(cadre("show first > /dev/full"), 1);
}

static void put_log(int rank, const char *text)
{
    char path[600];
    snprintf(path, sizeof path, "%s/runs/first/trial-00000", place);
    assert_ok(base_mkdirs(path, 0700));
    snprintf(path, sizeof path, "%s/runs/first/trial-00000/rank%d.log", place, rank);
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    fputs(text, file);
    assert_int_equal(fclose(file), 0);
}

static void logs(void **state)
{
    (void)state;
    assert_int_equal(cadre("logs first"), 1);
    expect("trial 0 has no logs");
    put_log(0, "zero\n");
    put_log(1, "one\ntwo\n\nthree\n---- attempt 1 ----\nfour\nno end");
    assert_int_equal(cadre("logs first"), 0);
    assert_string_equal(output, "rank 0: zero\nrank 1: one\nrank 1: two\nrank 1: \nrank 1: three\nrank 1: ---- attempt 1 ----\nrank 1: four\nrank 1: no end\n");
    assert_int_equal(cadre("logs first --rank 1 --last 2"), 0);
    assert_string_equal(output, "four\nno end\n");
    assert_int_equal(cadre("logs first --rank 0 --last 99"), 0);
    assert_string_equal(output, "zero\n");
    assert_int_equal(cadre("logs first --rank 2"), 1);
    expect("cadre: trial 0 has no log of rank 2\n");
    assert_int_equal(cadre("logs first --trial 7"), 1);
    expect("has no trial 7: the newest is 0");
    assert_int_equal(cadre("logs first --rank x"), 2);
    assert_int_equal(cadre("logs"), 2);
    /* What the attempt that was killed printed last stands in `show`. */
    assert_int_equal(cadre("show first"), 0);
    expect("rank1.log:\n    one\n    two\n    \n    three\n");
    assert_null(strstr(output, "four"));
    /* Followed until the run ends: the writer lets go of its lock while more is being printed. */
    char command[1400];
    snprintf(command, sizeof command, "cd '%s' && '%s' logs first --rank 0 -f >followed & sleep 0.5; echo more >>'%s/runs/first/trial-00000/rank0.log'; sleep 0.5", place,
             getenv("CADRE_CLI"), place);
    assert_int_equal(system(command), 0);
    tracking_close(store);
    store = NULL;
    run("for i in 1 2 3 4 5 6 7 8 9 10; do grep -q more followed && break; sleep 0.2; done; cat followed");
    assert_string_equal(output, "zero\nmore\n");
    assert_int_equal(cadre("logs first --rank 0 -f"), 0); /* ended already: it does not wait */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_usage, setup, teardown),
        cmocka_unit_test_setup_teardown(test_ls, setup, teardown),
        cmocka_unit_test_setup_teardown(test_show, setup, teardown),
        cmocka_unit_test_setup_teardown(test_show_json, setup, teardown),
        cmocka_unit_test_setup_teardown(test_show_plain, setup, teardown),
        cmocka_unit_test_setup_teardown(test_several, setup, teardown),
        cmocka_unit_test_setup_teardown(test_info, setup, teardown),
        cmocka_unit_test_setup_teardown(test_full_output, setup, teardown),
        cmocka_unit_test_setup_teardown(logs, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
