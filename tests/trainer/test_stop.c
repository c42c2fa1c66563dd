/* Asked to end, once and twice, by people and by service managers; workers that hang or do not listen. */
#include "support.h"

#include <dirent.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static void wait_for_reports(const char *name, int reports) { wait_for_lines(in_scratch("runs/%s/trial-00000/result.json", name), reports); }

static void assert_stopped_and_resumable(const char *name, const char *words, const char *undisturbed, int world)
{
    char all[300];
    assert_string_equal(job_answer(name, "status"), "OK");
    assert_string_equal(job_answer(name, "stopped"), "1");
    assert_string_equal(store_text(name, "SELECT state FROM trials"), "RUNNING");
    assert_string_equal(store_text(name, "SELECT detail FROM cadre_trials"), "paused");
    if (!strstr(words, "failures="))
        assert_string_equal(store_text(name, "SELECT cause FROM cadre_attempts ORDER BY attempt DESC"), "stopped");
    assert_run_clean(name);
    snprintf(all, sizeof all, "%s resume=1", words);
    if (job_run(name, all) != 0)
        fail_msg("%s is not resumed: %s\n%s", name, job_answer(name, "message"), job_output(name));
    assert_string_equal(job_answer(name, "stopped"), "0");
    assert_string_equal(store_text(name, "SELECT state FROM trials"), "COMPLETE");
    assert_run_clean(name);
    assert_same_final(name, undisturbed, world);
    char *reports = store_reports(name, 0), *expected = store_reports(undisturbed, 0);
    assert_string_equal(reports, expected);
    free(reports);
    free(expected);
}

static void once(void **state)
{
    (void)state;
    static const struct {
        const char *name, *words;
        int world, signal_number;
    } ways[] = {
        {"int", "workers=2 sleep_us=20000", 2, SIGINT},
        {"term", "workers=2 sleep_us=20000 every=2", 2, SIGTERM},
        {"exec", "workers=2 sleep_us=20000 thread=1", 2, SIGINT},
        {"mpirun", "workers=2 sleep_us=20000 launcher=mpirun", 2, SIGTERM},
        {"inproc-int", "launcher=inproc sleep_us=20000", 1, SIGINT},
        {"inproc-term", "launcher=inproc sleep_us=20000", 1, SIGTERM},
        {"reports-only", "workers=2 sleep_us=20000 stepping=0", 2, SIGINT},
    };
    job_expect("undisturbed1", "workers=1", "OK");
    job_expect("undisturbed2", "workers=2", "OK");
    for (size_t i = 0; i < sizeof ways / sizeof *ways; i++) {
        job job = job_start(ways[i].name, ways[i].words);
        wait_for_reports(ways[i].name, 1);
        usleep(30000);
        kill(job.pid, ways[i].signal_number);
        job_wait(&job, 20);
        assert_int_equal(job.wait_status, 0);
        if (strcmp(ways[i].name, "reports-only") != 0) { /* between two reports: saved at the step where the wish was agreed on */
            assert_int_equal(store_int(ways[i].name, "SELECT max(report) FROM cadre_reports"), 1);
            assert_true(store_int(ways[i].name, "SELECT count(*) FROM cadre_checkpoints") >= 2);
        }
        assert_stopped_and_resumable(ways[i].name, ways[i].words, ways[i].world == 1 ? "undisturbed1" : "undisturbed2", ways[i].world);
    }
}

/* Whichever way the workers were started, whatever they are at: they save at the next step and leave, and nothing is lost. */
static void at_all_moments(void **state)
{
    (void)state;
    static const struct {
        const char *name, *words;
        int world;
    } ways[] = {
        {"fork", "workers=2", 2},           {"one", "workers=1", 1},       {"exec", "workers=2 thread=1", 2}, {"mpirun", "workers=2 launcher=mpirun", 2},
        {"attached", "attached=2 failures=0", 2}, {"inproc", "launcher=inproc", 1},
    };
    static const struct {
        const char *name, *fault;
        bool restarts;
    } moments[] = {
        {"before the first step", "train:1:slow", false}, {"at a step", "step:7:slow", false}, {"while a checkpoint is written", "checkpoint_write:2:slow", false},
        {"while it starts again", "step:8:kill", true},
    };
    static const int signals[] = {SIGUSR1, SIGTERM};
    const char *matrix = getenv("CADRE_MATRIX");
    bool all_cells = matrix && strcmp(matrix, "all") == 0; /* else every other one */
    job_expect("undisturbed1", "workers=1 every=3", "OK");
    job_expect("undisturbed2", "workers=2 every=3", "OK");
    for (size_t way = 0; way < sizeof ways / sizeof *ways; way++)
        for (size_t moment = 0; moment < sizeof moments / sizeof *moments; moment++) {
            if (strncmp(ways[way].words, "attached", 8) == 0 && !can_attach())
                continue;
            if (moments[moment].restarts && way >= 4)
                continue; /* nobody starts these again */
            if (!all_cells && (way + moment) % 2)
                continue;
            char name[32], words[600], all[1400];
            snprintf(name, sizeof name, "%s%zu", ways[way].name, moment);
            snprintf(words, sizeof words, "%s every=3%s", ways[way].words, moments[moment].restarts ? " failures=3" : "");
            snprintf(all, sizeof all, "%s sleep_us=10000 fault=%s@0 %s", words, moments[moment].fault, new_marker());
            job job = job_start(name, all);
            for (double deadline = seconds_now() + 20; file_exists(in_scratch("marker")); usleep(1000))
                if (seconds_now() > deadline)
                    fail_msg("%s: nobody came by %s:\n%s", name, moments[moment].name, job_output(name));
            usleep(10000 * (unsigned)(way % 3));
            int number = strncmp(ways[way].words, "attached", 8) == 0 ? SIGUSR1 : signals[(way / 2 + moment) % 2]; /* mpirun kills them 1 s after a SIGTERM */
            kill(job.pid, number);
            job_wait(&job, 20);
            if (job.wait_status != 0)
                fail_msg("%s, %s, signal %d: ends with %d: %s\n%s", ways[way].words, moments[moment].name, number, job.wait_status,
                         job_answer(name, "message"), job_output(name));
            if (!moments[moment].restarts) /* just where it was: no step was made again or gone on with */
                assert_true(store_int(name, "SELECT max(report) FROM cadre_reports") <= (moment == 0 ? 0 : 2));
            assert_stopped_and_resumable(name, words, ways[way].world == 1 ? "undisturbed1" : "undisturbed2", ways[way].world);
        }
}

/* All times from the start on: there is always something sensible left. */
static void at_any_time(void **state)
{
    (void)state;
    job_expect("undisturbed", "workers=2", "OK");
    for (int i = 0; i < 16; i++) {
        char name[32];
        snprintf(name, sizeof name, "t%d", i);
        job job = job_start(name, i % 2 ? "workers=2 sleep_us=4000" : "workers=2 sleep_us=4000 thread=1");
        usleep(1000u * (unsigned)(i * 5));
        kill(job.pid, SIGINT);
        job_wait(&job, 20);
        if (WIFSIGNALED(job.wait_status) || strcmp(job_answer(name, "status"), "") == 0)
            continue; /* before fit took the signal over; the program's own way with it */
        assert_string_equal(job_answer(name, "status"), "OK");
        assert_run_clean(name);
        if (strcmp(job_answer(name, "stopped"), "1") == 0)
            job_expect(name, "workers=2 resume=1", "OK");
        assert_same_final(name, "undisturbed", 2);
    }
}

static void twice(void **state)
{
    (void)state;
    job_expect("undisturbed", "workers=2", "OK");
    job job = job_start("twice", "workers=2 act=spin act_rank=1 act_step=7 act_attempt=0 grace=60");
    wait_for_lines(in_scratch("twice.out.spins"), 1);
    double begun = seconds_now();
    kill(job.pid, SIGINT);
    usleep(100000);
    kill(job.pid, SIGINT);
    job_wait(&job, 20);
    assert_true(seconds_now() - begun < 3);
    assert_stopped_and_resumable("twice", "workers=2", "undisturbed", 2);
    /* Without a controller the program itself is ended, as it would be without us. */
    job_expect("undisturbed1", "workers=1", "OK");
    job = job_start("alone", "launcher=inproc act=spin act_step=7 act_attempt=0");
    wait_for_lines(in_scratch("alone.out.spins"), 1); /* before, a signal would be a wish that the next step heeds */
    siginfo_t ended = {0};
    for (int i = 0; i < 100 && waitid(P_PID, (id_t)job.pid, &ended, WEXITED | WNOHANG | WNOWAIT) == 0 && ended.si_pid == 0; i++) {
        kill(job.pid, SIGTERM);
        usleep(100000); /* two that come at once are one */
    }
    job_wait(&job, 20);
    assert_true(WIFSIGNALED(job.wait_status) && WTERMSIG(job.wait_status) == SIGTERM);
    job_expect("alone", "launcher=inproc resume=1", "OK");
    assert_same_final("alone", "undisturbed1", 1);
    assert_run_clean("alone");
}

/* One that does not listen is ended: after the grace SIGTERM, 5 s later SIGKILL. */
static void grace_runs_out(void **state)
{
    (void)state;
    job_expect("undisturbed", "workers=2 epochs=40", "OK");
    double begun = seconds_now();
    job job = job_start("ignores", "workers=2 act=ignore epochs=100000 sleep_us=1000 grace=0.3");
    wait_for_reports("ignores", 1);
    kill(job.pid, SIGTERM);
    job_wait(&job, 20);
    assert_true(seconds_now() - begun < 10);
    assert_string_equal(job_answer("ignores", "stopped"), "1");
    assert_string_equal(store_text("ignores", "SELECT cause FROM cadre_attempts"), "stopped");
    assert_non_null(strstr(store_text("ignores", "SELECT detail FROM cadre_attempts"), "did not leave in time"));
    assert_run_clean("ignores");
}

/* A service manager, or a batch system, sends it to every process at once. */
static void signal_descendants(pid_t parent, int signal_number)
{
    DIR *directory = opendir("/proc");
    for (struct dirent *entry; (entry = readdir(directory));) {
        char path[300], text[512] = "";
        pid_t pid = (pid_t)atoi(entry->d_name), of = 0;
        snprintf(path, sizeof path, "/proc/%s/stat", entry->d_name);
        FILE *file = pid > 1 ? fopen(path, "r") : NULL;
        if (!file)
            continue;
        if (fgets(text, sizeof text, file) && strrchr(text, ')') && sscanf(strrchr(text, ')'), ") %*c %d", &of) == 1 && of == parent) {
            kill(pid, signal_number);
            signal_descendants(pid, signal_number);
        }
        fclose(file);
    }
    closedir(directory);
}

static void everybody_is_told(void **state)
{
    (void)state;
    job_expect("undisturbed", "workers=2", "OK");
    static const char *const words[] = {"workers=2 sleep_us=10000", "workers=2 sleep_us=10000 thread=1"};
    for (int i = 0; i < 2; i++) {
        const char *name = i ? "exec" : "fork";
        job job = job_start(name, words[i]);
        wait_for_reports(name, 1);
        signal_descendants(job.pid, SIGTERM); /* first those, so that the controller knows nothing of it */
        usleep(20000);
        kill(job.pid, SIGTERM);
        job_wait(&job, 20);
        assert_stopped_and_resumable(name, words[i], "undisturbed", 2);
    }
    job_expect("by-worker", "workers=1 thread=1 act=term-controller act_step=7 epochs=1000 sleep_us=5000", "OK");
    assert_string_equal(job_answer("by-worker", "stopped"), "1");
}

static void hung(void **state)
{
    (void)state;
    job_expect("undisturbed", "workers=2", "OK");
    static const char *const launchers[] = {"launcher=fork", "launcher=mpirun"};
    for (int i = 0; i < 2; i++)
        for (int rank = 0; rank < (i ? 1 : 2); rank++) {
            char name[32], words[200], sql[200];
            snprintf(name, sizeof name, "hung%d%d", i, rank);
            snprintf(words, sizeof words, "workers=2 %s failures=1 hang=1.5 act=stop act_attempt=0 act_step=7 act_rank=%d", launchers[i], rank);
            job_expect(name, words, "OK");
            assert_same_final(name, "undisturbed", 2);
            assert_run_clean(name);
            snprintf(sql, sizeof sql, "SELECT count(*) FROM cadre_attempts WHERE attempt = 0 AND cause = 'hung' AND \"rank\" = %d AND detail LIKE '%%is stopped%%'", rank);
            if (store_int(name, sql) != 1)
                fail_msg("recorded as %s", store_text(name, "SELECT cause || ' ' || detail FROM cadre_attempts WHERE attempt = 0"));
        }
    job_expect("spins", "workers=2 hang=1.5 act=spin act_step=7 act_rank=1", "ETRAIN");
    assert_string_equal(store_text("spins", "SELECT cause FROM cadre_attempts"), "hung");
    assert_non_null(strstr(job_answer("spins", "message"), "made no progress for"));
    for (int rank = 0; rank < 2; rank++) /* each says where it was, the stopped one too */
        assert_non_null(strstr(job_log(rank ? "hung01" : "spins", 0, rank), "this is where the worker is"));
    assert_non_null(strstr(job_log("spins", 0, 1), "nanosleep"));
    assert_non_null(strstr(job_log("hung01", 0, 1), "---- attempt 1 ----"));
    /* Collectives are signs of life, too: a long validation between two steps. */
    job_expect("collectives", "workers=2 hang=1.5 act=collectives act_step=7", "OK");
    assert_same_final("collectives", "undisturbed", 2);
    /* Reports are signs of life on every rank, also without steps. */
    job_expect("slow", "workers=2 hang=1 steps=1 epochs=25 sleep_us=100000 stepping=1", "OK");
    job_expect("reports", "workers=2 hang=1 steps=1 epochs=25 sleep_us=100000 stepping=0", "OK");
    /* The timeout is as long as two steps: they say so before it, not once a second. */
    job_expect("steady", "workers=2 hang=1 steps=1 epochs=6 sleep_us=450000", "OK");
    assert_string_equal(job_answer("steady", "attempts"), "1");
}

/* When its time is spent a run saves and leaves by itself; what is left is done by the next call. */
static void time_budget(void **state)
{
    (void)state;
    static const char *const ways[] = {"workers=2", "launcher=inproc", "workers=2 thread=1", "workers=2 launcher=mpirun", "attached=2"};
    for (int i = 0; i < (can_attach() ? 5 : 4); i++) {
        char name[32], undisturbed[32], words[200];
        snprintf(name, sizeof name, "budget%d", i);
        snprintf(undisturbed, sizeof undisturbed, "undisturbed%d", i);
        assert_int_equal(job_run(undisturbed, ways[i]), 0);
        snprintf(words, sizeof words, "%s sleep_us=%d budget=%g", ways[i], i < 3 ? 50000 : 150000, i < 3 ? 0.4 : 1.0); /* mpirun takes its time to begin */
        assert_int_equal(job_run(name, words), 0);
        assert_stopped_and_resumable(name, ways[i], undisturbed, i == 1 ? 1 : 2);
    }
    job_expect("ample", "workers=2 budget=1000", "OK");
    assert_string_equal(job_answer("ample", "stopped"), "0");
}

/* Programs started with their children's deaths ignored, as some supervisors do. */
static void children_ignored(void **state)
{
    (void)state;
    job_expect("fork", "workers=2 ignore_children=1", "OK");
    job_expect("exec", "workers=2 ignore_children=1 thread=1", "OK");
    job_expect("killed", "workers=2 ignore_children=1 fault=step:4:kill@1", "ETRAIN");
    assert_string_equal(job_answer("killed", "message"), "rank 1 was killed by signal 9 (Killed)");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(once, scratch_make, scratch_remove),
        cmocka_unit_test_setup_teardown(at_all_moments, scratch_make, scratch_remove),
        cmocka_unit_test_setup_teardown(at_any_time, scratch_make, scratch_remove),
        cmocka_unit_test_setup_teardown(twice, scratch_make, scratch_remove),
        cmocka_unit_test_setup_teardown(grace_runs_out, scratch_make, scratch_remove),
        cmocka_unit_test_setup_teardown(everybody_is_told, scratch_make, scratch_remove),
        cmocka_unit_test_setup_teardown(hung, scratch_make, scratch_remove),
        cmocka_unit_test_setup_teardown(time_budget, scratch_make, scratch_remove),
        cmocka_unit_test_setup_teardown(children_ignored, scratch_make, scratch_remove),
    };
    return cmocka_run_group_tests_name("trainer: stop", tests, NULL, NULL);
}
