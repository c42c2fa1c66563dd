/* Workers and controllers that die anywhere: the run ends with the bits and the record of one that was never disturbed. */
#include "support.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

struct ending {
    const char *action, *cause;
    int exit_code, signal;
};
static const struct ending endings[] = {{"kill", "killed", 0, SIGKILL}, {"segv", "killed", 0, SIGSEGV}, {"exit", "failed", 3, 0}};

/* One worker is struck at `point`; the group begins again by itself. */
static void strike_worker(const char *name, const char *words, const char *point, const struct ending *ending, int rank)
{
    char all[1400], sql[300];
    snprintf(all, sizeof all, "%s failures=1 fault=%s:%s@%d %s", words, point, ending->action, rank, new_marker());
    job_expect(name, all, "OK");
    if (file_exists(in_scratch("marker")))
        fail_msg("%s: nobody came by %s on rank %d", name, point, rank);
    assert_string_equal(job_answer(name, "attempts"), "2");
    snprintf(sql, sizeof sql, "SELECT count(*) FROM cadre_attempts WHERE attempt = 0 AND cause = '%s' AND \"rank\" = %d AND exit_code = %d AND signal = %d "
                              "AND host <> '' AND detail LIKE 'rank %d %%'", ending->cause, rank, ending->exit_code, ending->signal, rank);
    if (store_int(name, sql) != 1)
        fail_msg("%s, %s: attempt 0 is recorded as %s", point, ending->action,
                 store_text(name, "SELECT cause || ' ' || \"rank\" || ' ' || exit_code || ' ' || signal || ' ' || detail FROM cadre_attempts WHERE attempt = 0"));
    assert_int_equal(store_int(name, "SELECT count(*) FROM cadre_attempts WHERE attempt = 1 AND cause = 'finished' AND \"rank\" = -1"), 1);
    assert_true(store_int(name, "SELECT count(*) FROM cadre_events WHERE kind = 'recovered'") <= 1); /* none where nothing was left to do */
}

static void any_worker_anywhere(void **state)
{
    (void)state;
    static const char *const points[] = {"train:1", "step:1", "step:8", "report:1", "report:3", "reported:1", "reported:3", "trained:1",
                                         "collective:9", "checkpoint_write:2", "checkpoint_renamed:1", "checkpoint_renamed:3"};
    static const char *const modes[] = {"workers=2", "workers=2 every=2", "workers=2 every=3 keep=1 score=score"};
    int turn = 0;
    for (int mode = 0; mode < 3; mode++) {
        char undisturbed[32];
        snprintf(undisturbed, sizeof undisturbed, "undisturbed%d", mode);
        job_expect(undisturbed, modes[mode], "OK");
        for (size_t i = 0; i < sizeof points / sizeof *points; i++)
            for (int rank = 0; rank < (strncmp(points[i], "checkpoint", 10) == 0 ? 1 : 2); rank++) {
                char name[32];
                snprintf(name, sizeof name, "m%d-%zu-%d", mode, i, rank);
                strike_worker(name, modes[mode], points[i], &endings[turn++ % 3], rank);
                assert_like(name, undisturbed, 2);
            }
    }
}

static void by_other_launchers(void **state)
{
    (void)state;
    job_expect("two", "workers=2 every=2", "OK");
    job_expect("three", "workers=3 every=2", "OK");
    strike_worker("exec", "workers=2 every=2 thread=1", "step:8", &endings[1], 1);
    assert_like("exec", "two", 2);
    strike_worker("mpirun", "workers=2 every=2 launcher=mpirun", "step:8", &endings[0], 1);
    assert_like("mpirun", "two", 2);
    strike_worker("three-killed", "workers=3 every=2", "step:12", &endings[0], 2);
    assert_like("three-killed", "three", 3);
    job_expect("one", "launcher=inproc every=2", "OK");
    job_expect("inproc", "launcher=inproc every=2 failures=1 act=error act_step=9 act_attempt=0", "OK");
    assert_like("inproc", "one", 1);
    assert_int_equal(store_int("inproc", "SELECT count(*) FROM cadre_attempts WHERE attempt = 0 AND cause = 'failed' AND \"rank\" = 0"), 1);
}

/* The controller is killed; a resume goes on from the last checkpoint. */
static void controller(void **state)
{
    (void)state;
    static const char *const faults[] = {"record:1", "record:2", "record:3", "write:1", "write:2", "open:3", "open:5", "fsync:1"};
    static const char *const modes[] = {"workers=2", "workers=2 every=2", "workers=2 every=2 keep=1 thread=1"};
    for (int mode = 0; mode < 3; mode++) {
        char undisturbed[32];
        snprintf(undisturbed, sizeof undisturbed, "undisturbed%d", mode);
        job_expect(undisturbed, modes[mode], "OK");
        for (size_t i = 0; i < sizeof faults / sizeof *faults; i++) {
            char name[32], words[1400];
            snprintf(name, sizeof name, "c%d-%zu", mode, i);
            snprintf(words, sizeof words, "%s fault=%s:kill@-2 %s", modes[mode], faults[i], new_marker());
            if (job_run(name, words) != -SIGKILL)
                continue; /* not that often in this mode */
            snprintf(words, sizeof words, "%s resume=1", modes[mode]);
            if (!has_trial(name)) { /* killed before there was anything */
                job_expect(name, words, "ENOENT");
                continue;
            }
            int begun = (int)store_int(name, "SELECT count(*) FROM cadre_attempts");
            job_expect(name, words, "OK");
            assert_like(name, undisturbed, 2);
            assert_int_equal(store_int(name, "SELECT count(*) FROM cadre_attempts WHERE cause = 'lost'"), begun);
        }
    }
}

/* Killed from outside at any time. */
static void controller_at_any_time(void **state)
{
    (void)state;
    job_expect("undisturbed", "workers=2 every=2 sleep_us=5000", "OK");
    for (int i = 0; i < 12; i++) {
        char name[32];
        snprintf(name, sizeof name, "k%d", i);
        job job = job_start(name, "workers=2 every=2 sleep_us=5000");
        usleep(1000u * (unsigned)(i * 11));
        kill(job.pid, SIGKILL);
        job_wait(&job, 10);
        job_expect(name, has_trial(name) ? "workers=2 every=2 resume=1" : "workers=2 every=2", "OK");
        assert_like(name, "undisturbed", 2);
    }
}

static void mpirun_controller(void **state)
{
    (void)state;
    job_expect("undisturbed", "workers=2 every=2", "OK");
    char words[1400];
    snprintf(words, sizeof words, "workers=2 every=2 launcher=mpirun fault=record:2:kill@-2 %s", new_marker());
    assert_int_equal(job_run("m", words), -SIGKILL);
    job_expect("m", "workers=2 every=2 launcher=mpirun resume=1", "OK");
    assert_like("m", "undisturbed", 2); /* and the private directory of the killed one is swept, or the teardown finds it */
}

static void too_often(void **state)
{
    (void)state;
    job_expect("none", "workers=2 fault=step:4:kill@1", "ETRAIN");
    assert_string_equal(job_answer("none", "message"), "rank 1 was killed by signal 9 (Killed)");
    assert_string_equal(store_text("none", "SELECT state FROM trials"), "FAIL");
    assert_string_equal(store_text("none", "SELECT reason FROM cadre_trials"), "rank 1 was killed by signal 9 (Killed)");
    job_expect("two", "workers=2 failures=2 fault=step:4:segv@0", "ETRAIN");
    assert_string_equal(job_answer("two", "message"), "rank 0 was killed by signal 11 (Segmentation fault); failure 3, max_failures is 2");
    assert_int_equal(store_int("two", "SELECT count(*) FROM cadre_attempts WHERE signal = 11"), 3);
    assert_run_clean("two");
    /* Each attempt dies at its 9th step: without limit it gets there all the same. */
    job_expect("undisturbed", "workers=2 every=4 epochs=8", "OK");
    job_expect("unlimited", "workers=2 every=4 epochs=8 failures=-1 fault=step:9:kill@0", "OK");
    assert_like("unlimited", "undisturbed", 2);
    assert_in_range(store_int("unlimited", "SELECT count(*) FROM cadre_attempts"), 4, 12);
}

static void errors(void **state)
{
    (void)state;
    job_expect("error", "workers=2 act=error act_rank=1 act_step=7", "ETRAIN");
    assert_string_equal(job_answer("error", "message"), "rank 1: the disk is \xc3\xbc" "ber full of holes");
    assert_int_equal(store_int("error", "SELECT count(*) FROM cadre_attempts WHERE cause = 'failed' AND \"rank\" = 1 AND exit_code = 1 AND signal = 0"), 1);
    assert_non_null(strstr(job_log("error", 0, 1), "the disk is"));
    assert_run_clean("error");
    job_expect("silent", "workers=2 act=silent-error act_rank=0 act_step=7", "ETRAIN");
    assert_string_equal(job_answer("silent", "message"), "rank 0: the train function returned -14 (not supported)");
    job_expect("exit", "workers=2 act=exit0 act_rank=0 act_step=7", "ETRAIN");
    assert_string_equal(job_answer("exit", "message"), "rank 0 exited with code 0 before it was done");
    job_expect("abort", "workers=3 act=abort act_rank=2 act_step=7", "ETRAIN");
    assert_string_equal(job_answer("abort", "message"), "rank 2 was killed by signal 6 (Aborted)");
    job_expect("inproc", "launcher=inproc act=error act_step=7", "ETRAIN");
    assert_string_equal(job_answer("inproc", "message"), "the disk is \xc3\xbc" "ber full of holes");
}

/* What a worker starts and leaves behind goes with its group (the teardown looks for it). */
static void helpers_left_behind(void **state)
{
    (void)state;
    job_expect("fine", "workers=2 act=helper act_step=3", "OK");
    job_expect("failed", "workers=1 act=helper-error act_step=3", "ETRAIN");
    job_expect("executed", "workers=2 thread=1 act=helper act_step=3", "OK");
    char words[1400];
    snprintf(words, sizeof words, "workers=2 act=helper act_step=3 fault=record:2:kill@-2 %s", new_marker());
    assert_int_equal(job_run("killed", words), -SIGKILL);
}

/* A metric that is not a number: recorded, the end of the run, or a step back. */
static void not_a_number(void **state)
{
    (void)state;
    static const char *const ways[] = {"workers=2", "launcher=inproc"};
    for (int i = 0; i < 2; i++) {
        char name[32], undisturbed[32], words[300];
        int world = i ? 1 : 2;
        snprintf(undisturbed, sizeof undisturbed, "undisturbed%d", i);
        job_expect(undisturbed, ways[i], "OK");
        snprintf(name, sizeof name, "record%d", i);
        snprintf(words, sizeof words, "%s failures=3 act=nan-score", ways[i]);
        job_expect(name, words, "OK");
        assert_string_equal(job_answer(name, "attempts"), "1");
        assert_int_equal(store_int(name, "SELECT count(*) FROM cadre_metrics WHERE value IS NULL"), 2);
        assert_same_final(name, undisturbed, world);

        snprintf(name, sizeof name, "fail%d", i);
        snprintf(words, sizeof words, "%s failures=3 on_nan=1 act=nan-score", ways[i]);
        job_expect(name, words, "ETRAIN");
        assert_string_equal(job_answer(name, "attempts"), "1");
        assert_non_null(strstr(job_answer(name, "message"), "metric \"score\" is NaN at report 1"));
        assert_string_equal(store_text(name, "SELECT state FROM trials"), "FAIL");
        assert_int_equal(store_int(name, "SELECT count(*) FROM cadre_reports"), 1); /* the report is there, its checkpoint is not */
        assert_int_equal(store_int(name, "SELECT count(*) FROM cadre_checkpoints"), 0);
        assert_run_clean(name);

        snprintf(name, sizeof name, "restore%d", i);
        snprintf(words, sizeof words, "%s failures=3 on_nan=2 act=nan-score act_attempt=0", ways[i]);
        job_expect(name, words, "OK");
        assert_string_equal(job_answer(name, "attempts"), "2");
        assert_like(name, undisturbed, world);
        snprintf(name, sizeof name, "again%d", i);
        snprintf(words, sizeof words, "%s failures=2 on_nan=2 act=nan-score", ways[i]);
        job_expect(name, words, "ETRAIN");
        assert_string_equal(job_answer(name, "attempts"), "3");
        assert_run_clean(name);
    }
}

/* Each ending is told as what it was: the cause, whose it was, and the words. */
static void assert_told(const char *name, const char *cause, int rank, int exit_code, int signal_number, const char *words)
{
    char sql[400];
    snprintf(sql, sizeof sql, "SELECT count(*) FROM cadre_attempts WHERE attempt = 0 AND cause = '%s' AND \"rank\" = %d AND exit_code = %d AND signal = %d "
                              "AND detail LIKE '%s' AND (\"rank\" < 0) = (host = '')", cause, rank, exit_code, signal_number, words);
    if (store_int(name, sql) != 1)
        fail_msg("%s is recorded as %s", name,
                 store_text(name, "SELECT cause || ', rank ' || \"rank\" || ' on ' || host || ', exit code ' || exit_code || ', signal ' || signal || ': ' || detail "
                                  "FROM cadre_attempts WHERE attempt = 0"));
}

static void told_truly(void **state)
{
    (void)state;
    char words[1400];
    if (can_attach()) {
        job_run("gone", "attached=2 failures=3 every=2 fault=step:8:kill@1");
        if (strcmp(store_text("gone", "SELECT cause FROM cadre_attempts"), "failed") == 0) /* rank 0 came to say so before mpirun ended it, too */
            assert_told("gone", "failed", -1, 0, 0, "%rank 1 (pid %) died");
        job_run("own", "attached=2 failures=3 every=2 act=error act_rank=0 act_step=7");
        assert_told("own", "failed", 0, 1, 0, "the disk is%");
    }
    snprintf(words, sizeof words, "workers=2 launcher=mpirun failures=1 fault=step:8:segv@1 %s", new_marker());
    job_expect("logs", words, "OK");
    assert_told("logs", "killed", 1, 0, SIGSEGV, "rank 1 was killed by signal 11 (Segmentation fault)");
    for (int rank = 0; rank < 2; rank++) { /* mpirun does not mix what they print */
        const char *log = job_log("logs", 0, rank);
        snprintf(words, sizeof words, "attempt 0 rank %d of 2", rank);
        assert_non_null(strstr(log, words));
        snprintf(words, sizeof words, "---- attempt 1 ----\nattempt 1 rank %d of 2", rank);
        assert_non_null(strstr(log, words));
        snprintf(words, sizeof words, "rank %d of 2", !rank);
        assert_null(strstr(log, words));
    }
    snprintf(words, sizeof words, "workers=2 fault=write:2:enospc@-2 %s", new_marker());
    job_expect("full", words, "ENOSPC");
    assert_told("full", "failed", -1, 0, 0, "%write result.json: No space left on device");
}

/* A cgroup of our own with so much memory; false: there is none to be had here. */
static bool make_cgroup(char *directory, size_t nbytes, const char *limit)
{
    char own[400] = "", line[600];
    FILE *file = fopen("/proc/self/cgroup", "r");
    while (file && !*own && fgets(line, sizeof line, file))
        if (sscanf(line, "%*d:memory:%399s", own) == 1)
            break;
    if (file)
        fclose(file);
    snprintf(directory, nbytes, "/sys/fs/cgroup/memory%s/cadre-test-%d", own, (int)getpid());
    if (!*own || mkdir(directory, 0755) != 0)
        return false;
    snprintf(line, sizeof line, "%s/memory.limit_in_bytes", directory);
    file = fopen(line, "w");
    bool fine = file && fputs(limit, file) >= 0;
    return (!file || fclose(file) == 0) && fine;
}

static void out_of_memory(void **state)
{
    (void)state;
    char directory[600], words[800];
    if (!make_cgroup(directory, sizeof directory, "100M")) {
        rmdir(directory);
        skip();
    }
    job_expect("undisturbed", "workers=2 every=2", "OK");
    snprintf(words, sizeof words, "workers=2 every=2 failures=1 act=eat act_step=7 act_rank=1 act_attempt=0 cgroup=%s", directory);
    job_expect("oom", words, "OK");
    for (int i = 0; i < 100 && rmdir(directory) != 0; i++)
        usleep(10000);
    assert_told("oom", "killed", 1, 0, SIGKILL, "rank 1 was killed by signal 9 (Killed): out of memory (the kernel''s OOM killer)");
    assert_like("oom", "undisturbed", 2);
    snprintf(words, sizeof words, "workers=2 failures=1 fault=step:8:kill@1 %s", new_marker());
    job_expect("kill", words, "OK"); /* by somebody else */
    assert_told("kill", "killed", 1, 0, SIGKILL, "rank 1 was killed by signal 9 (Killed)");
}

/* A disk that is full: said as such, nothing is left of the checkpoint, and it goes on when there is room. */
static void disk_full(void **state)
{
    (void)state;
    job_expect("undisturbed", "workers=2", "OK");
    static const char *const modes[] = {"workers=2", "launcher=inproc"};
    for (int mode = 0; mode < 2; mode++) {
        char words[1400];
        const char *name = mode ? "inproc" : "full";
        snprintf(words, sizeof words, "%s failures=3 fault=write:2:enospc@-2 %s", modes[mode], new_marker());
        if (mode)
            snprintf(words, sizeof words, "launcher=inproc save=0 failures=3 fault=write:2:enospc %s", new_marker());
        job_expect(name, words, "ENOSPC");
        assert_non_null(strstr(job_answer(name, "message"), "No space left on device"));
        assert_string_equal(job_answer(name, "attempts"), "1");
        assert_run_clean(name);
    }
    /* A checkpoint that finds no room: the oldest that can be spared goes, and it is written after all. */
    static const char *const savings[] = {"workers=2 behind=-1", "workers=2 behind=1", "launcher=inproc"};
    job_expect("undisturbed1", "workers=1", "OK");
    for (int i = 0; i < 3; i++) {
        char name[32], words[1400];
        snprintf(name, sizeof name, "spared%d", i);
        snprintf(words, sizeof words, "%s fault=checkpoint_write:3:enospc%s %s", savings[i], i < 2 ? "@0" : "", new_marker());
        job_expect(name, words, "OK");
        assert_string_equal(job_answer(name, "attempts"), "1");
        assert_like(name, i < 2 ? "undisturbed" : "undisturbed1", i < 2 ? 2 : 1);
        assert_string_equal(store_text(name, "SELECT group_concat(path) FROM (SELECT path FROM cadre_checkpoints ORDER BY path)"),
                            "trial-00000/checkpoint-000002,trial-00000/checkpoint-000003");
    }
    char words[1400]; /* but not the only one: then it fails as a worker fails, and is started again */
    snprintf(words, sizeof words, "workers=2 failures=3 fault=checkpoint_write:2:enospc@0 %s", new_marker());
    job_expect("checkpoint", words, "OK"); /* a worker's failure like any other */
    const char *detail = store_text("checkpoint", "SELECT detail FROM cadre_attempts WHERE attempt = 0");
    if (strncmp(detail, "rank 0: ", 8) != 0 || !strstr(detail, "no space left"))
        fail_msg("it is recorded as: %s", detail);
    assert_like("checkpoint", "undisturbed", 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(any_worker_anywhere, scratch_make, scratch_remove),
        cmocka_unit_test_setup_teardown(by_other_launchers, scratch_make, scratch_remove),
        cmocka_unit_test_setup_teardown(controller, scratch_make, scratch_remove),
        cmocka_unit_test_setup_teardown(controller_at_any_time, scratch_make, scratch_remove),
        cmocka_unit_test_setup_teardown(mpirun_controller, scratch_make, scratch_remove),
        cmocka_unit_test_setup_teardown(too_often, scratch_make, scratch_remove),
        cmocka_unit_test_setup_teardown(errors, scratch_make, scratch_remove),
        cmocka_unit_test_setup_teardown(helpers_left_behind, scratch_make, scratch_remove),
        cmocka_unit_test_setup_teardown(not_a_number, scratch_make, scratch_remove),
        cmocka_unit_test_setup_teardown(told_truly, scratch_make, scratch_remove),
        cmocka_unit_test_setup_teardown(out_of_memory, scratch_make, scratch_remove),
        cmocka_unit_test_setup_teardown(disk_full, scratch_make, scratch_remove),
    };
    return cmocka_run_group_tests_name("trainer: crash", tests, NULL, NULL);
}
