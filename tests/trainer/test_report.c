/* What may be reported and what not, and that all ranks must say the same. */
#include "support.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void assert_message(const char *name, const char *part)
{
    if (!strstr(job_answer(name, "message"), part))
        fail_msg("the message of %s has no \"%s\": %s", name, part, job_answer(name, "message"));
}

/* Refused alike whatever the launcher, with a message that says what and, where it matters, who; nothing is recorded of it. */
static void refused(void **state)
{
    (void)state;
    static const struct {
        const char *act, *message;
        bool alone; /* makes sense in a world of one, too */
    } acts[] = {
        {"none", "a report without metrics", true},
        {"null", "a report without metrics", true},
        {"empty", "metric 0: its name has 0 bytes", true},
        {"long", "metric 0: its name has 101 bytes", true},
        {"latin1", "metric 0: its name is not plain UTF-8 text", true},
        {"newline", "metric 0: its name is not plain UTF-8 text", true},
        {"twice", "metric \"a\" is there twice", true},
        {"reduction", "metric \"a\": unknown reduction 17", true},
        {"65", "more than 64 metrics", true},
        {"backwards", "step 50 is not after step 50", true},
        {"odd-names", "rank 1 reports other metrics than rank 0", false},
        {"odd-reduction", "rank 1 reports other metrics than rank 0", false},
        {"odd-steps", "rank 1 gives another step than rank 0", false},
        {"odd-state", "rank 1 saves another state than rank 0", false},
    };
    for (size_t i = 0; i < sizeof acts / sizeof *acts; i++)
        for (int way = acts[i].alone ? 0 : 1; way < 2; way++) {
            char name[48], words[200];
            snprintf(name, sizeof name, "%s-%d", acts[i].act, way);
            snprintf(words, sizeof words, "epochs=1 act=%s act_step=0 %s", acts[i].act, way ? "workers=2" : "launcher=inproc");
            job_expect(name, words, "ETRAIN");
            assert_message(name, acts[i].message);
            assert_int_equal(store_int(name, "SELECT count(*) FROM cadre_reports"), strcmp(acts[i].act, "backwards") == 0 ? 1 : 0);
            assert_run_clean(name);
        }
    /* Wrong on one rank only: everyone fails, and it is said whose report it was. */
    job_expect("one-twice", "workers=3 epochs=1 act=twice act_rank=2", "ETRAIN");
    assert_string_equal(job_answer("one-twice", "message"), "rank 2: cadre_report: metric \"a\" is there twice");
    assert_int_equal(store_int("one-twice", "SELECT \"rank\" FROM cadre_attempts"), 2);
}

static void a_rank_does_not_report(void **state)
{
    (void)state;
    /* Long enough for the others to come on a machine that does much else; else they would be missing, too. */
    job_expect("missing", "workers=2 epochs=1 timeout=3 act=no-report act_rank=1 save=0", "ETRAIN");
    assert_message("missing", "rank 1");
    job_expect("missing-state", "workers=3 epochs=1 timeout=3 act=no-report act_rank=0", "ETRAIN");
    assert_message("missing-state", "rank 0");
}

static double metric(const char *name, const char *key)
{
    const char *answer = job_answer(name, key);
    if (!*answer)
        fail_msg("the result of %s has no %s", name, key);
    return strtod(answer, NULL);
}

static double stored(const char *name, const char *key)
{
    char sql[300];
    snprintf(sql, sizeof sql, "SELECT CASE WHEN value IS NULL THEN 'nan' ELSE printf('%%!.17g', value) END FROM cadre_metrics JOIN cadre_names USING (name_id) WHERE name = '%s' AND report = 1", key);
    return strtod(store_text(name, sql), NULL);
}

static void numbers(void **state)
{
    (void)state;
    static const char *const ways[] = {"launcher=inproc", "workers=2", "workers=2 thread=1"};
    for (int i = 0; i < 3; i++) {
        char name[32], words[200];
        snprintf(name, sizeof name, "numbers%d", i);
        snprintf(words, sizeof words, "epochs=1 act=numbers %s metric=inf", ways[i]);
        job_expect(name, words, "OK");
        assert_run_clean(name); /* the store and result.json have the same */
        assert_true(isnan(stored(name, "nan")) && isnan(stored(name, "ratio of nothing")));
        assert_true(stored(name, "third") == 1.0 / 3);
        assert_int_equal(store_int(name, "SELECT count(*) FROM cadre_metrics WHERE value = 9e999"), 1);
        assert_int_equal(store_int(name, "SELECT count(*) FROM cadre_metrics WHERE value = -9e999"), 1);
        assert_int_equal(store_int(name, "SELECT count(*) FROM cadre_metrics WHERE value = 5e-324"), 1);
        assert_int_equal(store_int(name, "SELECT count(*) FROM cadre_metrics WHERE value = -1.7976931348623157e308"), 1);
        assert_string_equal(store_text(name, "SELECT intermediate_value_type FROM trial_intermediate_values WHERE step = 1"), "INF_POS");
    }
    job_expect("reductions", "workers=3 epochs=1 act=reductions", "OK");
    static const struct {
        const char *name;
        double value;
    } expected[] = {{"none", 1}, {"sum", 6}, {"mean", 2}, {"min", 1}, {"max", 3}, {"ratio", 0.5}, {"nan min", NAN}, {"nan max", NAN}};
    for (size_t i = 0; i < sizeof expected / sizeof *expected; i++)
        if (!(stored("reductions", expected[i].name) == expected[i].value) && !(isnan(expected[i].value) && isnan(stored("reductions", expected[i].name))))
            fail_msg("%s is %g", expected[i].name, stored("reductions", expected[i].name));
    assert_true(metric("reductions", "metric-score") == sin(1.3)); /* the result has the last report's */

    job_expect("reserved", "workers=2 epochs=1 act=reserved", "OK"); /* names that the record itself uses */
    assert_run_clean("reserved");
    assert_true(stored("reserved", "step") == 8.5);
    job_expect("64", "workers=2 epochs=1 act=64", "OK");
    assert_run_clean("64");
    job_expect("longest", "workers=2 epochs=1 act=longest", "OK");
    assert_run_clean("longest");

    /* A loss that is not a number is reported as such, and the run has no value. */
    job_expect("nan-score", "workers=2 epochs=1 act=nan-score metric=score", "OK");
    assert_string_equal(store_text("nan-score", "SELECT intermediate_value_type FROM trial_intermediate_values"), "NAN");
    assert_string_equal(store_text("nan-score", "SELECT state FROM trials"), "FAIL");
    assert_true(isnan(metric("nan-score", "metric-score")));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(refused, scratch_make, scratch_remove),
        cmocka_unit_test_setup_teardown(a_rank_does_not_report, scratch_make, scratch_remove),
        cmocka_unit_test_setup_teardown(numbers, scratch_make, scratch_remove),
    };
    return cmocka_run_group_tests_name("trainer: report", tests, NULL, NULL);
}
