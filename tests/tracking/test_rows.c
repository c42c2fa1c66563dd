/* What the calls leave in the tables, and what reading gives back. */
#include "base/clock.h"
#include "helpers.h"
#include "tracking/view.h"

#include <math.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

static tracking_store *store;
static int64_t experiment;

static int setup(void **state)
{
    (void)state;
    helpers_directory();
    assert_ok(tracking_open(helpers_store(), &store));
    assert_ok(tracking_experiment(store, "first", "loss", TRACKING_MINIMIZE, &experiment));
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    tracking_close(store);
    helpers_check_integrity(helpers_store());
    helpers_remove();
    return 0;
}

static int64_t in_file(const char *sql)
{
    assert_ok(tracking_commit(store, false));
    return helpers_int(helpers_store(), sql);
}

static const char *text_in_file(const char *sql)
{
    assert_ok(tracking_commit(store, false));
    return helpers_text(helpers_store(), sql);
}

static int64_t add_trial(void)
{
    int64_t trial, number;
    assert_ok(tracking_trial_add(store, experiment, NULL, 0, 0, &trial, &number));
    return trial;
}

static void report(int64_t trial, int64_t number, int64_t step, double loss)
{
    tracking_metric metrics[] = {{"loss", loss}, {"accuracy", -loss}};
    assert_ok(tracking_report(store, trial, 0, number, step, metrics, 2));
}

static void test_experiments(void **state)
{
    (void)state;
    int64_t again, second;
    assert_ok(tracking_experiment(store, "first", "loss", TRACKING_MINIMIZE, &again));
    assert_int_equal(again, experiment);
    assert_ok(tracking_experiment(store, "first", NULL, TRACKING_MAXIMIZE, &again));
    assert_status(tracking_experiment(store, "first", "loss", TRACKING_MAXIMIZE, &again), CADRE_EEXIST);
    assert_status(tracking_experiment(store, "first", "accuracy", TRACKING_MINIMIZE, &again), CADRE_EEXIST);
    assert_ok(tracking_experiment(store, "second", NULL, TRACKING_MINIMIZE, &second));
    assert_ok(tracking_experiment(store, "second", "acc\"1", TRACKING_MAXIMIZE, &again));
    assert_int_equal(again, second);
    assert_string_equal(text_in_file("SELECT value_json FROM study_system_attributes WHERE study_id = 2 AND \"key\" = "
                                     "'study:metric_names'"),
                        "[\"acc\\\"1\"]");
    assert_string_equal(text_in_file("SELECT value_json FROM study_system_attributes WHERE study_id = 2 AND \"key\" = "
                                     "'dashboard:objective_names'"),
                        "[\"acc\\\"1\"]");
    assert_string_equal(text_in_file("SELECT group_concat(direction) FROM study_directions"), "MINIMIZE,MAXIMIZE");
    assert_status(tracking_experiment(store, "", NULL, TRACKING_MINIMIZE, &again), CADRE_EINVAL);
    assert_status(tracking_experiment(store, "bad\xff", NULL, TRACKING_MINIMIZE, &again), CADRE_EINVAL);
    assert_ok(tracking_experiment_set(store, experiment, "space", "{\"lr\": [1, 2]}"));
    assert_ok(tracking_experiment_set(store, experiment, "space", "7"));
    assert_status(tracking_experiment_set(store, experiment, "space", "{"), CADRE_EINVAL);
    assert_int_equal(in_file("SELECT value_json FROM cadre_experiments"), 7);
    assert_status(tracking_experiment_set(store, 99, "a", "1"), CADRE_ENOENT);
}

/* Another process opens it again: objective, numbers and sequences go on. */
static void test_going_on(void **state)
{
    (void)state;
    int64_t trial = add_trial(), number, sequence;
    report(trial, 1, 1, 0.5);
    assert_ok(tracking_event(store, experiment, 0, "start", NULL, &sequence));
    tracking_close(store);
    assert_ok(tracking_open(helpers_store(), &store));
    assert_ok(tracking_experiment(store, "first", "loss", TRACKING_MINIMIZE, &experiment));
    report(trial, 2, 2, 0.25);
    assert_int_equal(in_file("SELECT count(*) FROM trial_intermediate_values"), 2);
    assert_int_equal(in_file("SELECT count(*) FROM cadre_names"), 2);
    assert_ok(tracking_event(store, experiment, trial, "stop", "{}", &sequence));
    assert_int_equal(sequence, 2);
    assert_ok(tracking_trial_add(store, experiment, NULL, 0, 0, &trial, &number));
    assert_int_equal(number, 1);
    assert_true(trial > 1);
    assert_status(tracking_event(store, experiment, 0, "bad", "{", &sequence), CADRE_EINVAL);
    assert_status(tracking_event(store, experiment, 0, "", "{}", &sequence), CADRE_EINVAL);
    assert_int_equal(sequence, 2);
}

/* What is JSON, the plain kind that is only looked through and all other. */
static void test_json(void **state)
{
    (void)state;
    static const char *const fine[] = {"0", " -0.5e-3 ", "[]", "{ }", "\"x\"", "true", "null", "1e300", "123456789012345678", "\"\\u00e9\"",
                                       "{\"a\": [1, -2.5E+3, \"x\", {\"b\": false}], \"a\": []}", "[[[[[[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]]]]]]"};
    static const char *const wrong[] = {"", " ", "[1,]", "[1 2]", "[,1]", "{\"a\":}", "{\"a\" 1}", "{\"a\":1,}", "{a:1}", "{1:1}", "[1}", "[1] 2", "01", "-", "--1", "+1", ".5", "1.",
                                        "1e", "1e+", "1e999", "nan", "tru", "truex", "\"a", "\"a\\\"", "\"\x01\"", "\"\xff\"", "99999999999999999999"};
    for (size_t i = 0; i < sizeof fine / sizeof *fine; i++)
        if (tracking_event(store, experiment, 0, "fine", fine[i], NULL) != CADRE_OK)
            fail_msg("%s: %s", fine[i], cadre_error_message());
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++)
        if (tracking_event(store, experiment, 0, "wrong", wrong[i], NULL) != CADRE_EINVAL)
            fail_msg("%s is taken for JSON", wrong[i]);
}

static int take_param(const char *name, const char *json, void *user)
{
    char *text = user;
    snprintf(text + strlen(text), 200 - strlen(text), "%s=%s ", name, json);
    return 0;
}

/* What Optuna added while nobody had the file: rows as it writes them. */
static void test_adopted(void **state)
{
    (void)state;
    char text[200] = "";
    int64_t own = add_trial(), step = -1;
    tracking_trial row;
    tracking_close(store);
    sqlite3 *db;
    assert_int_equal(sqlite3_open(helpers_store(), &db), SQLITE_OK);
    const char *rows = "INSERT INTO trials (trial_id, number, study_id, state) VALUES (2, 1, 1, 'COMPLETE'), (3, 2, 1, 'RUNNING');"
                       "INSERT INTO trial_values (trial_id, objective, value, value_type) VALUES (2, 0, 0.25, 'FINITE');"
                       "INSERT INTO trial_intermediate_values (trial_id, step, intermediate_value, intermediate_value_type) VALUES (2, 1, 1, 'FINITE'), (2, 7, "
                       "0.25, 'FINITE');"
                       "INSERT INTO trial_params (trial_id, param_name, param_value, distribution_json) VALUES "
                       "(2, 'lr', 0.1, '{\"name\": \"FloatDistribution\", \"attributes\": {\"step\": null, \"low\": 0.0, \"high\": 1.0, \"log\": false}}'),"
                       "(2, 'n', 3.0, '{\"name\": \"IntDistribution\", \"attributes\": {\"log\": false, \"step\": 1, \"low\": 1, \"high\": 9}}'),"
                       "(2, 'k', 1.0, '{\"name\": \"CategoricalDistribution\", \"attributes\": {\"choices\": [\"a\", \"b\"]}}')";
    assert_int_equal(sqlite3_exec(db, rows, NULL, NULL, NULL), SQLITE_OK);
    assert_int_equal(sqlite3_close(db), SQLITE_OK);
    assert_ok(tracking_open(helpers_store(), &store));
    assert_ok(tracking_experiment(store, "first", "loss", TRACKING_MINIMIZE, &experiment));
    for (int again = 0; again < 2; again++) {
        assert_ok(tracking_adopt(store, 2, "", &step));
        assert_int_equal(step, 7);
    }
    assert_ok(tracking_each_param(store, 2, take_param, text));
    assert_string_equal(text, "lr=0.1 n=3 k=\"b\" ");
    assert_ok(tracking_adopt(store, 3, "left unfinished", &step));
    assert_int_equal(step, 0);
    assert_ok(tracking_get_trial(store, 3, &row));
    assert_int_equal(row.state, TRACKING_FAIL);
    assert_string_equal(row.reason, "left unfinished");
    assert_ok(tracking_get_trial(store, 2, &row));
    assert_true(row.state == TRACKING_COMPLETE && row.value == 0.25);
    assert_true(own == 1 && add_trial() == 4);
    assert_status(tracking_adopt(store, 99, "", &step), CADRE_ENOENT);
}

static void test_trial_ends(void **state)
{
    (void)state;
    tracking_trial row;
    int64_t complete = add_trial(), nan = add_trial(), infinite = add_trial(), pruned = add_trial(),
            failed = add_trial();
    report(complete, 3, 30, 0.5);
    assert_ok(tracking_trial_note(store, complete, "paused\nby hand"));
    assert_ok(tracking_get_trial(store, complete, &row));
    assert_string_equal(row.detail, "paused by hand");
    assert_int_equal(row.state, TRACKING_RUNNING);
    assert_false(row.has_value);
    assert_ok(tracking_trial_finish(store, complete, TRACKING_COMPLETE, true, 0.5, ""));
    assert_ok(tracking_trial_finish(store, nan, TRACKING_COMPLETE, true, NAN, NULL));
    assert_ok(tracking_trial_finish(store, infinite, TRACKING_COMPLETE, true, -INFINITY, ""));
    assert_ok(tracking_trial_finish(store, pruned, TRACKING_PRUNED, true, 0.75, "rung 2"));
    assert_ok(tracking_trial_finish(store, failed, TRACKING_FAIL, true, 0.1, "rank 1:\ndied \xff"));
    assert_ok(tracking_get_trial(store, complete, &row));
    assert_int_equal(row.state, TRACKING_COMPLETE);
    assert_true(row.has_value && row.value == 0.5);
    assert_int_equal(row.last_report, 3);
    assert_int_equal(strlen(row.ended), 26);
    assert_true(strcmp(row.started, row.ended) <= 0);
    assert_ok(tracking_get_trial(store, nan, &row));
    assert_int_equal(row.state, TRACKING_FAIL);
    assert_true(*row.reason);
    assert_ok(tracking_get_trial(store, infinite, &row));
    assert_true(row.state == TRACKING_COMPLETE && row.value == -INFINITY);
    assert_ok(tracking_get_trial(store, pruned, &row));
    assert_true(row.state == TRACKING_PRUNED && row.value == 0.75);
    assert_ok(tracking_last_trial(store, experiment, &row));
    assert_int_equal(row.id, failed);
    assert_false(row.has_value);
    assert_string_equal(row.reason, "rank 1: died ?");
    assert_string_equal(text_in_file("SELECT group_concat(value_type) FROM trial_values"), "FINITE,INF_NEG,FINITE");
    assert_int_equal(in_file("SELECT count(*) FROM trial_values WHERE value IS NULL"), 1);
    assert_status(tracking_trial_finish(store, failed, TRACKING_COMPLETE, true, 1, ""), CADRE_ESTATE);
    assert_status(tracking_trial_finish(store, add_trial(), TRACKING_RUNNING, true, 1, ""), CADRE_EINVAL);
    assert_status(tracking_report(store, failed, 0, 1, 1, &(tracking_metric){"loss", 1}, 1), CADRE_ESTATE);
    assert_status(tracking_trial_note(store, failed, "x"), CADRE_ESTATE);
    assert_status(tracking_trial_finish(store, 99, TRACKING_FAIL, false, 1, ""), CADRE_ENOENT);
}

static void test_retry(void **state)
{
    (void)state;
    int64_t first = add_trial(), second, third;
    assert_ok(tracking_trial_finish(store, first, TRACKING_FAIL, false, 0, "x"));
    assert_ok(tracking_trial_add(store, experiment, NULL, 0, first, &second, NULL));
    assert_ok(tracking_trial_add(store, experiment, NULL, 0, second, &third, NULL));
    assert_string_equal(text_in_file("SELECT group_concat(trial_id || ' ' || \"key\" || ' ' || value_json, '; ') FROM "
                                     "(SELECT * FROM trial_system_attributes ORDER BY trial_id, \"key\")"),
                        "2 failed_trial 0; 2 retry_history [0]; 3 failed_trial 0; 3 retry_history [0, 1]");
}

static void test_params(void **state)
{
    (void)state;
    static const char uniform[] = "{\"name\": \"FloatDistribution\", \"attributes\": {\"step\": null, \"low\": 0.0, "
                                  "\"high\": 1.0, \"log\": false}}";
    static const char choice[] =
        "{\"name\": \"CategoricalDistribution\", \"attributes\": {\"choices\": [\"a\", \"b\"]}}";
    const tracking_param params[] = {
        {"lr", uniform, 0.1, "0.1"}, {"optimizer", choice, 1, "\"b\""}, {"batch", NULL, 0, "32"},
        {"decay", NULL, 0, "1e-4"},  {"name", NULL, 0, "\"x\""},        {"list", NULL, 0, "[1, 2]"},
        {"on", NULL, 0, "true"},
    };
    int64_t trial = 0, number = -1;
    assert_ok(tracking_trial_add(store, experiment, params, 7, 0, &trial, &number));
    assert_int_equal(number, 0);
    assert_string_equal(text_in_file("SELECT group_concat(param_name || '=' || param_value) FROM trial_params"),
                        "lr=0.1,optimizer=1.0,batch=32.0,decay=0.0001,name=0.0,list=0.0,on=0.0");
    assert_string_equal(text_in_file("SELECT distribution_json FROM trial_params WHERE param_name = 'decay'"),
                        "{\"name\": \"FloatDistribution\", \"attributes\": {\"step\": null, \"low\": 1e-4, \"high\": "
                        "1e-4, \"log\": false}}");
    assert_string_equal(text_in_file("SELECT distribution_json FROM trial_params WHERE param_name = 'list'"),
                        "{\"name\": \"CategoricalDistribution\", \"attributes\": {\"choices\": [\"[1, 2]\"]}}");
    assert_string_equal(text_in_file("SELECT group_concat(value_json) FROM cadre_params"),
                        "0.1,\"b\",32,1e-4,\"x\",[1, 2],true");
    const tracking_param bad[] = {
        {"optimizer", choice, 2, "\"c\""},
        {"optimizer", choice, 0.5, "\"c\""},
        {"lr", uniform, NAN, "0.1"},
        {"lr", "{}", 0, "0.1"},
        {"lr", NULL, 0, "nan"},
        {"lr", NULL, 0, NULL},
        {"", NULL, 0, "1"},
        {NULL, NULL, 0, "1"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        const tracking_param pair[] = {{"fine", NULL, 0, "1"}, bad[i]};
        assert_status(tracking_trial_add(store, experiment, pair, 2, 0, &trial, &number), CADRE_EINVAL);
    }
    const tracking_param twice[] = {{"lr", NULL, 0, "1"}, {"lr", NULL, 0, "1"}};
    assert_status(tracking_trial_add(store, experiment, twice, 2, 0, &trial, &number), CADRE_EINVAL);
    assert_int_equal(in_file("SELECT count(*) FROM trials"), 1); /* the refused ones left nothing */
    assert_int_equal(in_file("SELECT count(*) FROM trial_params"), 7);
}

struct seen {
    int rows;
    char text[1024];
};

static int note_metric(int64_t number, int64_t step, const char *name, double value, void *user)
{
    struct seen *seen = user;
    size_t used = strlen(seen->text);
    snprintf(seen->text + used, sizeof seen->text - used, "%d/%d %s %g;", (int)number, (int)step, name, value);
    return ++seen->rows == 100 ? 7 : 0;
}

static void test_metrics(void **state)
{
    (void)state;
    int64_t trial = add_trial();
    tracking_metric odd[] = {{"loss", NAN}, {"accuracy", INFINITY}, {"x", -INFINITY}};
    assert_ok(tracking_report(store, trial, 0, 1, 10, odd, 3));
    odd[0].value = -INFINITY;
    assert_ok(tracking_report(store, trial, 0, 2, 20, odd, 1));
    assert_ok(tracking_report(store, trial, 0, 3, 30, NULL, 0));
    struct seen seen = {0};
    assert_ok(tracking_each_metric(store, trial, note_metric, &seen));
    assert_string_equal(seen.text, "1/10 loss nan;1/10 accuracy inf;1/10 x -inf;2/20 loss -inf;");
    assert_string_equal(
        text_in_file("SELECT group_concat(step || intermediate_value_type) FROM trial_intermediate_values"),
        "10NAN,20INF_NEG");
    assert_int_equal(in_file("SELECT count(*) FROM trial_intermediate_values WHERE intermediate_value IS NOT NULL"), 0);
    report(trial, 2, 25, 0.5); /* again, at another step */
    memset(&seen, 0, sizeof seen);
    assert_ok(tracking_each_metric(store, trial, note_metric, &seen));
    assert_string_equal(seen.text, "1/10 loss nan;1/10 accuracy inf;1/10 x -inf;2/25 loss 0.5;2/25 accuracy -0.5;");
    assert_string_equal(
        text_in_file("SELECT group_concat(step) FROM (SELECT step FROM trial_intermediate_values ORDER BY step)"),
        "10,25");
    assert_status(tracking_report(store, trial, 0, 0, 0, odd, 3), CADRE_EINVAL);
    odd[1].name = "\xc0\x80";
    assert_status(tracking_report(store, trial, 0, 4, 40, odd, 3), CADRE_EINVAL);
    odd[1].name = "loss"; /* twice in one report: the last one holds */
    odd[1].value = 4;
    assert_ok(tracking_report(store, trial, 0, 4, 40, odd, 2));
    assert_int_equal(in_file("SELECT intermediate_value FROM trial_intermediate_values WHERE step = 40"), 4);
    assert_int_equal(in_file("SELECT value FROM cadre_metrics WHERE report = 4"), 4);
    for (int i = 5; i < 100; i++)
        report(trial, i, i, i);
    assert_int_equal(tracking_each_metric(store, trial, note_metric, &seen), 7); /* the callback ended it */
}

/* An attempt that goes on from report 3: what came after is gone, and a step that report 4 had shared is report 2's
 * again. */
static void test_restart(void **state)
{
    (void)state;
    int64_t trial = add_trial();
    tracking_trial row;
    assert_ok(tracking_attempt_begin(store, trial, 0, 2, "fork", "shm", 0, 0));
    report(trial, 1, 1, 0.9);
    report(trial, 2, 5, 0.8);
    report(trial, 3, 6, 0.7);
    report(trial, 4, 5, 0.6);
    report(trial, 5, 7, 0.5);
    assert_string_equal(text_in_file("SELECT intermediate_value FROM trial_intermediate_values WHERE step = 5"), "0.6");
    assert_ok(tracking_attempt_end(store, trial, 0, "killed", 1, "node7", 0, 9, "by the kernel"));
    assert_ok(tracking_attempt_begin(store, trial, 1, 2, "fork", "shm", 3, 12));
    assert_string_equal(text_in_file("SELECT group_concat(step || '=' || intermediate_value) FROM "
                                     "(SELECT * FROM trial_intermediate_values ORDER BY step)"),
                        "1=0.9,5=0.8,6=0.7");
    assert_int_equal(in_file("SELECT max(report) FROM cadre_metrics"), 3);
    assert_ok(tracking_get_trial(store, trial, &row));
    assert_int_equal(row.attempts, 2);
    assert_int_equal(row.last_report, 3);
    report(trial, 4, 5, 0.3);
    assert_string_equal(text_in_file("SELECT intermediate_value FROM trial_intermediate_values WHERE step = 5"), "0.3");
    assert_string_equal(text_in_file("SELECT cause || \"rank\" || host || signal || detail FROM cadre_attempts"),
                        "killed1node79by the kernel");
    assert_ok(tracking_attempt_begin(store, trial, 2, 2, "fork", "shm", 0, 0));
    assert_int_equal(in_file("SELECT count(*) FROM trial_intermediate_values"), 0);
    assert_int_equal(in_file("SELECT count(*) FROM cadre_metrics"), 0);
    assert_int_equal(in_file("SELECT count(*) FROM cadre_reports"), 0);
}

static void test_objective_set_later(void **state)
{
    (void)state;
    int64_t second, trial;
    assert_ok(tracking_experiment(store, "second", NULL, TRACKING_MINIMIZE, &second));
    assert_ok(tracking_trial_add(store, second, NULL, 0, 0, &trial, NULL));
    report(trial, 1, 1, 0.5);
    report(trial, 2, 2, NAN);
    assert_int_equal(in_file("SELECT count(*) FROM trial_intermediate_values"), 0);
    assert_ok(tracking_set_objective(store, second, "accuracy", TRACKING_MAXIMIZE));
    assert_string_equal(
        text_in_file("SELECT group_concat(step || intermediate_value_type || coalesce(intermediate_value, '')) FROM "
                     "trial_intermediate_values"),
        "1FINITE-0.5,2NAN");
    report(trial, 3, 3, 0.25);
    assert_ok(tracking_set_objective(store, second, "loss", TRACKING_MINIMIZE));
    assert_string_equal(
        text_in_file("SELECT group_concat(coalesce(intermediate_value, 'nan')) FROM trial_intermediate_values"),
        "0.5,nan,0.25");
}

static void test_checkpoints(void **state)
{
    (void)state;
    int64_t trial = add_trial();
    tracking_checkpoint *list = NULL;
    int count = -1;
    assert_ok(tracking_checkpoints(store, trial, &list, &count));
    assert_int_equal(count, 0);
    free(list);
    for (int i = 0; i < 5; i++) {
        tracking_checkpoint checkpoint = {
            .attempt = 1, .report = i, .step = 10 * i, .nbytes = 1 << 20, .score = i / 2.0, .has_score = i != 2};
        snprintf(checkpoint.path, sizeof checkpoint.path, "0/checkpoint-%d", i);
        snprintf(checkpoint.hash, sizeof checkpoint.hash, "%032d", i);
        assert_ok(tracking_checkpoint_add(store, trial, &checkpoint));
        assert_int_equal(checkpoint.id, i + 1);
        assert_int_equal(checkpoint.trial, trial);
    }
    assert_ok(tracking_checkpoint_remove(store, 1));
    assert_ok(tracking_checkpoints(store, trial, &list, &count));
    assert_int_equal(count, 4);
    assert_string_equal(list[3].path, "0/checkpoint-4");
    assert_int_equal(strlen(list[3].hash), 32);
    assert_true(list[3].has_score && list[3].score == 2);
    assert_true(!list[1].has_score && isnan(list[1].score));
    assert_int_equal(list[3].step, 40);
    free(list);
    tracking_checkpoint empty = {0};
    assert_status(tracking_checkpoint_add(store, trial, &empty), CADRE_EINVAL);
}

static int finish_one(const tracking_trial *trial, void *user)
{
    (*(int *)user)++;
    assert_ok(tracking_trial_finish(store, trial->id, TRACKING_COMPLETE, true, 1, ""));
    return tracking_commit(store, false); /* writing within a walk */
}

static void test_walk(void **state)
{
    (void)state;
    int rows = 0;
    for (int i = 0; i < 20; i++)
        add_trial();
    assert_ok(tracking_each_trial(store, experiment, finish_one, &rows));
    assert_int_equal(rows, 20);
    assert_int_equal(in_file("SELECT count(*) FROM trials WHERE state = 'COMPLETE'"), 20);
}

static void test_due(void **state)
{
    (void)state;
    assert_ok(tracking_commit(store, false));
    assert_int_equal(tracking_commit_due_ms(store), -1);
    add_trial();
    int due = tracking_commit_due_ms(store);
    assert_in_range(due, 0, TRACKING_GROUP_MS);
    base_sleep_ns((TRACKING_GROUP_MS + 1) * 1000000);
    assert_int_equal(tracking_commit_due_ms(store), 0);
    assert_ok(tracking_commit(store, true));
    assert_int_equal(tracking_commit_due_ms(store), -1);
    assert_ok(tracking_commit(store, true));
}

/* Somebody else writes for longer than we wait: nothing gathered is lost by it. */
static void test_busy(void **state)
{
    (void)state;
    sqlite3 *other;
    assert_ok(tracking_commit(store, false));
    assert_int_equal(sqlite3_open(helpers_store(), &other), SQLITE_OK);
    assert_int_equal(sqlite3_exec(other, "BEGIN IMMEDIATE", NULL, NULL, NULL), SQLITE_OK);
    add_trial();
    assert_status(tracking_commit(store, true), CADRE_EBUSY);
    assert_true(tracking_commit_due_ms(store) > 500);
    assert_int_equal(sqlite3_exec(other, "ROLLBACK", NULL, NULL, NULL), SQLITE_OK);
    sqlite3_close(other);
    assert_ok(tracking_commit(store, true));
    assert_int_equal(in_file("SELECT count(*) FROM trials"), 1);
}

/* The log never gets so long that a reader of another program would want to fold it. */
static void test_short_log(void **state)
{
    (void)state;
    char log[400];
    struct stat info;
    int64_t trial = add_trial();
    snprintf(log, sizeof log, "%s-wal", helpers_store());
    off_t longest = 0;
    for (int i = 1; i <= 2000; i++) {
        report(trial, i, i, i);
        assert_ok(tracking_commit(store, false));
        assert_int_equal(stat(log, &info), 0);
        longest = info.st_size > longest ? info.st_size : longest;
    }
    assert_true(longest > 0 && longest < 1000 * (4096 + 24));
}

int main(void)
{
#define WITH_STORE(test) cmocka_unit_test_setup_teardown(test, setup, teardown)
    const struct CMUnitTest tests[] = {
        WITH_STORE(test_experiments), WITH_STORE(test_going_on), WITH_STORE(test_json),
        WITH_STORE(test_trial_ends),  WITH_STORE(test_retry),
        WITH_STORE(test_params),      WITH_STORE(test_metrics),
        WITH_STORE(test_restart),     WITH_STORE(test_objective_set_later),
        WITH_STORE(test_checkpoints), WITH_STORE(test_walk),
        WITH_STORE(test_due),         WITH_STORE(test_busy),
        WITH_STORE(test_short_log),   WITH_STORE(test_adopted),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
