/* Groups that go on with the workers they have left, and come back whole. */
#include "support.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Each attempt's number of workers and how it ended: "3 killed, 2 finished". */
static const char *attempts_of(const char *name)
{
    return store_text(name, "SELECT group_concat(num_workers || ' ' || cause, ', ') FROM (SELECT * FROM cadre_attempts ORDER BY attempt)");
}

/* Every epoch's samples were gone through exactly once, across all changes. */
static void assert_covered(const char *name, int epochs)
{
    assert_int_equal(store_int(name, "SELECT count(*) FROM cadre_reports"), epochs);
    assert_int_equal(store_int(name, "SELECT count(*) FROM cadre_metrics JOIN cadre_names USING (name_id) WHERE name IN ('least', 'most') AND value <> report"), 0);
    assert_run_clean(name);
}

static void shrinks(void **state)
{
    (void)state;
    job_expect("three", "workers=3 least=1 regrow=-1 failures=2 every=1 act=cover act_step=5 act_rank=1 act_attempt=0", "OK");
    assert_string_equal(attempts_of("three"), "3 killed, 2 finished");
    assert_covered("three", 3);
    assert_non_null(strstr(job_log("three", 0, 0), "from 3 to 2 workers"));
    assert_string_equal(job_answer("three", "metric-world"), "0x1p+1");
    /* In the last, short batch, and from checkpoints that are not at each step. */
    job_expect("late", "workers=3 least=2 regrow=-1 failures=2 every=4 act=cover act_step=15 act_rank=2 act_attempt=0", "OK");
    assert_string_equal(attempts_of("late"), "3 killed, 2 finished");
    assert_covered("late", 3);
    /* No fewer than it may: two are lost one after the other, the second is started again. */
    job_expect("least", "workers=2 least=2 failures=2 every=1 act=cover act_step=5 act_rank=1 act_attempt=0", "OK");
    assert_string_equal(attempts_of("least"), "2 killed, 2 finished");
    assert_covered("least", 3);
    job_expect("fixed", "workers=3 failures=2 every=1 act=cover act_step=5 act_rank=1 act_attempt=0", "OK");
    assert_string_equal(attempts_of("fixed"), "3 killed, 3 finished");
    assert_covered("fixed", 3);
}

static void grows_back(void **state)
{
    (void)state;
    job_expect("back", "workers=3 least=1 regrow=0.1 failures=2 every=1 act=cover act_step=5 act_rank=0 act_attempt=0 sleep_us=20000", "OK");
    assert_string_equal(attempts_of("back"), "3 killed, 2 resized, 3 finished");
    assert_covered("back", 3);
    assert_string_equal(job_answer("back", "attempts"), "3");
    assert_string_equal(store_text("back", "SELECT state FROM trials"), "COMPLETE");
    /* One that is killed while it is small, too. */
    job_expect("twice", "workers=3 least=1 regrow=-1 failures=3 every=1 act=cover act_step=9 act_rank=0 act_attempt=1 fault=step:4:kill@2", "OK");
    assert_covered("twice", 3);
}

/* A launcher cannot take back ranks that mpirun has lost, but ours starts a new mpirun with those that are left. */
static void by_mpirun(void **state)
{
    (void)state;
    job_expect("back", "workers=3 launcher=mpirun least=1 regrow=0.1 failures=2 every=1 act=cover act_step=5 act_rank=1 act_attempt=0 sleep_us=20000", "OK");
    assert_string_equal(attempts_of("back"), "3 killed, 2 resized, 3 finished");
    assert_covered("back", 3);
    if (!can_attach())
        return;
    /* Ranks of the user's own mpirun: it ends, and the next one may have fewer or more of them. */
    assert_int_not_equal(job_run("own", "attached=3 workers=3 least=1 failures=4 every=1 act=cover act_step=5 act_rank=1 act_attempt=0"), 0);
    assert_int_not_equal(job_run("own", "attached=1 workers=3 least=1 failures=4 every=1 act=cover act_step=60 act_rank=0 act_attempt=1"), 0);
    assert_int_equal(job_run("own", "attached=2 workers=3 least=1 failures=4 every=1 act=cover"), 0);
    assert_string_equal(store_text("own", "SELECT group_concat(num_workers) FROM (SELECT * FROM cadre_attempts ORDER BY attempt)"), "3,1,2");
    assert_covered("own", 3);
    assert_int_not_equal(job_run("few", "attached=1 workers=3 least=2 act=cover"), 0);
    assert_non_null(strstr(job_answer("few", "message"), "the program was started with 1 ranks: start 2 to 3"));
}

/* Many changes, at moments that fit nothing: samples and batches of 301 and 7 times the workers. */
static void many_changes(void **state)
{
    (void)state;
    for (int i = 0; i < 3; i++) {
        char name[32], words[300];
        snprintf(name, sizeof name, "many%d", i);
        snprintf(words, sizeof words, "workers=4 least=1 regrow=0.0%d failures=-1 every=1 epochs=4 act=cover sleep_us=4000 fault=step:%d:kill@%d", i + 4, 4 + 3 * i, i % 3);
        job_expect(name, words, "OK");
        assert_covered(name, 4);
        assert_in_range(store_int(name, "SELECT count(*) FROM cadre_attempts"), 3, 200);
        assert_true(store_int(name, "SELECT count(DISTINCT num_workers) FROM cadre_attempts") >= 2);
    }
}

/* A resume may have another number of workers: the samples are gone through once all the same. */
static void resumed_with_others(void **state)
{
    (void)state;
    job_expect("first", "workers=3 failures=0 every=1 act=cover act_step=5 act_rank=1 act_attempt=0", "ETRAIN");
    job_expect("first", "workers=2 every=1 act=cover resume=1", "OK");
    assert_int_equal(store_int("first", "SELECT count(*) FROM cadre_metrics JOIN cadre_names USING (name_id) WHERE name IN ('least', 'most') AND value <> report"), 0);
}

static void refused(void **state)
{
    (void)state;
    job_expect("more", "workers=2 least=3", "EINVAL");
    assert_string_equal(job_answer("more", "message"), "scaling.min_workers is 3: give 1 to num_workers (2), or 0 for a fixed number");
    job_expect("negative", "workers=2 least=-1", "EINVAL");
    job_expect("nan", "workers=2 least=1 regrow=nan", "EINVAL");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(shrinks, scratch_make, scratch_remove),
        cmocka_unit_test_setup_teardown(grows_back, scratch_make, scratch_remove),
        cmocka_unit_test_setup_teardown(by_mpirun, scratch_make, scratch_remove),
        cmocka_unit_test_setup_teardown(many_changes, scratch_make, scratch_remove),
        cmocka_unit_test_setup_teardown(resumed_with_others, scratch_make, scratch_remove),
        cmocka_unit_test_setup_teardown(refused, scratch_make, scratch_remove),
    };
    return cmocka_run_group_tests_name("trainer: elastic", tests, NULL, NULL);
}
