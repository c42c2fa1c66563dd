/*
 * Every fault at every moment on every victim, as far as the three mean something together:
 *
 *   faults   an error returned, exit(3), SIGSEGV, SIGKILL, SIGSTOP, memory that runs out, a disk that is full or broken, NaN
 *   moments  before the first step, in a collective, before a report, between a report and its commit, while a checkpoint is written, after its
 *            rename and before its record, at the end
 *   victims  rank 0, another rank, mpirun, the controller
 *
 * After each: the final parameters have the bits of the undisturbed run, the trial is in one final state, no report is lost or there twice, and no
 * process, lock, socket or temporary file is left. A sample runs by default, the whole of it with CADRE_MATRIX=all (some minutes).
 */
#include "support.h"

#include <dirent.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define COUNT(list) (sizeof(list) / sizeof *(list))
enum { SAMPLE = 5 /* each so-manieth cell */, CONTROLLER = -2 };

static const char WORDS[] = "workers=2 every=2";
/* Checkpoints that training waits for, that are written behind it, and that each rank writes its share of. */
static const struct mode {
    const char *words, *name;
    bool behind, sharded;
} modes[] = {{WORDS, "", false, false},
             {"workers=2 every=2 behind=1", ", written behind", true, false},
             {"workers=2 every=2 behind=1 sharded=1", ", sharded, written behind", true, true},
             {"workers=2 every=2 behind=-1 sharded=1", ", sharded", false, true}};
static int cells, chosen;

/* Is this cell one of the sample? */
static bool choose(void)
{
    const char *all = getenv("CADRE_MATRIX");
    bool chooses = (all && strcmp(all, "all") == 0) || cells % SAMPLE == 0;
    cells++;
    chosen += chooses;
    return chooses;
}

static int reports_done(const char *name) { return (int)store_int(name, "SELECT count(*) FROM cadre_reports"); }

/* ---- workers: the group is formed again by itself ------------------------------------------------------------------------------------ */

struct moment {
    const char *name, *point; /* "point:N" as the job's fault= has it; NULL: a step at which the train function returns an error */
    bool rank_0_only; /* unless each rank writes its share */
    bool answers; /* the point can also report an error */
    bool sharded; /* only there is such a moment */
};
static const struct moment moments[] = {
    {"before the first step", "train:1", false, false, false},
    {"in a collective", "collective:9", false, false, false},
    {"before a report", "report:2", false, false, false},
    {"between a report and its commit", "reported:2", false, false, false},
    {"while a checkpoint is written", "checkpoint_write:3", true, true, false},
    {"after its rename, before its record", "checkpoint_renamed:2", true, true, false},
    {"at the end", "trained:1", false, false, false},
    {"with a share down that nobody knows of", "checkpoint_shard:2", false, true, true},
    {"with all shares down, before the index", "checkpoint_commit:2", true, true, true},
};

struct fault {
    const char *name, *action, *cause;
    bool needs_answer; /* an error that the point reports; else the process is struck itself */
};
static const struct fault faults[] = {
    {"exit", "exit", "failed", false},       {"SIGSEGV", "segv", "killed", false},     {"SIGKILL", "kill", "killed", false}, {"SIGSTOP", "stop", "hung", false},
    {"out of memory", "oom", "failed", true}, {"disk full", "enospc", "failed", true}, {"I/O error", "eio", "failed", true},
};

/* Does the moment come on this rank? */
static bool has_moment(const struct mode *mode, const struct moment *moment, int rank)
{
    bool writes = mode->sharded && strcmp(moment->point, "checkpoint_write:3") == 0;
    return (!moment->sharded || mode->sharded) && (rank == 0 || !moment->rank_0_only || writes);
}

static void strike_worker(const struct mode *mode, const struct moment *moment, const struct fault *fault, int rank)
{
    char name[32], words[1400], sql[200];
    bool stops = strcmp(fault->action, "stop") == 0;
    /* The third checkpoint finds one that can be spared, which makes room, and the attempt goes on; the second does not. */
    bool spared = strcmp(fault->action, "enospc") == 0 && strcmp(moment->point, "checkpoint_write:3") == 0;
    bool borne = mode->behind && fault->needs_answer && !spared; /* training goes on without that one */
    bool goes_on = spared || borne;
    snprintf(name, sizeof name, "w%d", cells);
    snprintf(words, sizeof words, "%s failures=1 %s fault=%s:%s@%d %s", mode->words, stops ? "hang=1" : "", moment->point, fault->action, rank, new_marker());
    /* Before its first step nothing but the collectives' deadline watches a worker. */
    if (stops && strcmp(moment->point, "train:1") == 0)
        snprintf(words, sizeof words, "%s failures=1 timeout=3 fault=%s:%s@%d %s", mode->words, moment->point, fault->action, rank, new_marker());
    print_message("          %s, %s, rank %d%s\n", moment->name, fault->name, rank, mode->name);
    job_expect(name, words, "OK");
    if (file_exists(in_scratch("marker")))
        fail_msg("nobody came by %s", moment->point);
    assert_string_equal(job_answer(name, "attempts"), goes_on ? "1" : "2");
    assert_like(name, "undisturbed", 2);
    snprintf(sql, sizeof sql, "SELECT count(*) FROM cadre_attempts WHERE attempt = 0 AND cause = '%s'", goes_on ? "finished" : fault->cause);
    assert_int_equal(store_int(name, "SELECT count(*) FROM cadre_events WHERE kind = 'checkpoint_failed'"), borne);
    if (!stops && store_int(name, sql) != 1)
        fail_msg("recorded as %s", store_text(name, "SELECT cause || ' ' || \"rank\" || ' ' || detail FROM cadre_attempts WHERE attempt = 0"));
}

static void workers(void **state)
{
    (void)state;
    job_expect("undisturbed", WORDS, "OK");
    for (size_t mode = 0; mode < COUNT(modes); mode++)
        for (size_t m = 0; m < COUNT(moments); m++)
            for (size_t f = 0; f < COUNT(faults); f++)
                for (int rank = 0; rank < 2; rank++)
                    if (has_moment(&modes[mode], &moments[m], rank) && (!faults[f].needs_answer || moments[m].answers) && choose())
                        strike_worker(&modes[mode], &moments[m], &faults[f], rank);
}

/* What the train function itself may run into, and return. */
static void errors_returned(void **state)
{
    (void)state;
    static const char *const acts[] = {"act=error act_step=1", "act=error act_step=8", "act=error act_step=15", "act=nan-loss on_nan=2"};
    job_expect("undisturbed", WORDS, "OK");
    for (size_t i = 0; i < COUNT(acts); i++)
        for (int rank = 0; rank < 2; rank++) {
            char name[32], words[300];
            if (!choose())
                continue;
            snprintf(name, sizeof name, "e%d", cells);
            snprintf(words, sizeof words, "%s failures=1 %s act_rank=%d act_attempt=0", WORDS, acts[i], rank);
            print_message("          %s, rank %d\n", acts[i], rank);
            job_expect(name, words, "OK");
            assert_string_equal(job_answer(name, "attempts"), "2");
            assert_like(name, "undisturbed", 2);
        }
}

/* ---- the controller: who starts it again finds everything --------------------------------------------------------------------------- */

static const char *const controller_points[] = {"open:4", "take:1", "take:2", "commit:2", "commit:4", "commit:6", "committed:2", "committed:5", "record:1", "record:4", "write:2", "fsync:1", "finish:1"};
static const struct {
    const char *name, *action;
    int code; /* of the process: minus the signal, the exit code, or 1 for an error that fit answers */
} controller_faults[] = {{"SIGKILL", "kill", -SIGKILL}, {"SIGSEGV", "segv", -SIGSEGV}, {"exit", "exit", 3}, {"disk full", "enospc", 1}, {"I/O error", "eio", 1}};

static void strike_controller(const char *point, size_t fault)
{
    char name[32], words[1400];
    snprintf(name, sizeof name, "c%d", cells);
    snprintf(words, sizeof words, "%s fault=%s:%s@%d %s", WORDS, point, controller_faults[fault].action, CONTROLLER, new_marker());
    print_message("          %s, %s, controller\n", point, controller_faults[fault].name);
    int code = job_run(name, words);
    bool struck = !file_exists(in_scratch("marker"));
    if (!struck || code == 0) { /* an error that was borne: the commit was made again, the run went on */
        if (struck && controller_faults[fault].code != 1)
            fail_msg("%s: fit went on after %s", point, controller_faults[fault].name);
        assert_like(name, "undisturbed", 2);
        return;
    }
    assert_int_equal(code, controller_faults[fault].code);
    int before = has_trial(name) ? reports_done(name) : 0;
    snprintf(words, sizeof words, "%s%s", WORDS, has_trial(name) && strcmp(store_text(name, "SELECT state FROM trials ORDER BY number DESC"), "RUNNING") == 0 ? " resume=1" : "");
    if (!strstr(words, "resume")) { /* the trial could not begin, or its end is recorded as a failure: it is run once more from the start */
        snprintf(name, sizeof name, "c%d-again", cells);
        job_expect(name, words, "OK");
        assert_like(name, "undisturbed", 2);
        return;
    }
    job_expect(name, words, "OK");
    assert_like(name, "undisturbed", 2);
    assert_true(reports_done(name) >= before);
}

static void controllers(void **state)
{
    (void)state;
    job_expect("undisturbed", WORDS, "OK");
    for (size_t p = 0; p < COUNT(controller_points); p++)
        for (size_t f = 0; f < COUNT(controller_faults); f++) {
            bool answers = strncmp(controller_points[p], "take", 4) != 0 && strncmp(controller_points[p], "record", 6) != 0 && strncmp(controller_points[p], "committed", 9) != 0 && strncmp(controller_points[p], "finish", 6) != 0;
            if ((controller_faults[f].code != 1 || answers) && choose())
                strike_controller(controller_points[p], f);
        }
}

/* A controller that is stopped and goes on later has missed nothing. */
static void controller_stopped(void **state)
{
    (void)state;
    job_expect("undisturbed", WORDS, "OK");
    if (!choose())
        return;
    job job = job_start("stopped", "workers=2 every=2 sleep_us=5000 hang=1");
    wait_for_lines(in_scratch("runs/stopped/trial-00000/result.json"), 1);
    kill(job.pid, SIGSTOP);
    usleep(300000);
    kill(job.pid, SIGCONT);
    job_wait(&job, 20);
    assert_int_equal(job.wait_status, 0);
    assert_string_equal(job_answer("stopped", "attempts"), "1");
    assert_like("stopped", "undisturbed", 2);
}

/* ---- mpirun ----------------------------------------------------------------------------------------------------------------------------- */

/* A child of `parent` whose name is this; 0: none. */
static pid_t child_named(pid_t parent, const char *wanted)
{
    DIR *directory = opendir("/proc");
    pid_t found = 0;
    for (struct dirent *entry; directory && !found && (entry = readdir(directory));) {
        char path[300], text[512] = "", name[64] = "";
        pid_t of = 0;
        snprintf(path, sizeof path, "/proc/%s/stat", entry->d_name);
        FILE *file = atoi(entry->d_name) > 1 ? fopen(path, "r") : NULL;
        if (!file)
            continue;
        if (fgets(text, sizeof text, file) && sscanf(text, "%*d (%63[^)]) %*c %d", name, &of) == 2 && of == parent && strncmp(name, wanted, strlen(wanted)) == 0)
            found = (pid_t)atoi(entry->d_name);
        fclose(file);
    }
    if (directory)
        closedir(directory);
    return found;
}

static void mpirun_killed(void **state)
{
    (void)state;
    static const int signals[] = {SIGKILL, SIGSEGV}; /* SIGTERM asks it and its ranks to leave: no fault */
    job_expect("undisturbed", WORDS, "OK");
    for (size_t i = 0; i < COUNT(signals); i++)
        for (int reports = 0; reports < 2; reports++) {
            char name[32];
            if (!choose())
                continue;
            snprintf(name, sizeof name, "m%d", cells);
            print_message("          mpirun, %s after %d reports\n", strsignal(signals[i]), reports);
            job job = job_start(name, "workers=2 every=2 launcher=mpirun failures=1 sleep_us=20000");
            pid_t mpirun = 0;
            for (int waited = 0; !(mpirun = child_named(job.pid, "mpirun")) && waited < 5000; waited++)
                usleep(1000);
            assert_true(mpirun > 0);
            if (reports)
                wait_for_lines(in_scratch("runs/%s/trial-00000/result.json", name), reports);
            else
                usleep(200000); /* its ranks are being started */
            kill(mpirun, signals[i]);
            job_wait(&job, 60);
            if (strcmp(job_answer(name, "status"), "OK") != 0)
                fail_msg("%s: %s; %s", job_answer(name, "status"), job_answer(name, "message"), job_output(name));
            assert_string_equal(job_answer(name, "attempts"), "2");
            assert_non_null(strstr(store_text(name, "SELECT detail FROM cadre_attempts WHERE attempt = 0 AND cause = 'killed' AND \"rank\" = -1"), "mpirun was killed"));
            assert_like(name, "undisturbed", 2);
        }
    for (size_t m = 1; m < COUNT(moments); m += 2) /* its ranks */
        if (choose()) {
            char name[32], words[1400];
            snprintf(name, sizeof name, "r%d", cells);
            snprintf(words, sizeof words, "%s launcher=mpirun failures=1 fault=%s:kill@%d %s", WORDS, moments[m].point, moments[m].rank_0_only ? 0 : 1, new_marker());
            job_expect(name, words, "OK");
            assert_like(name, "undisturbed", 2);
        }
}

static int report(void **state)
{
    (void)state;
    print_message("          %d of %d cells%s\n", chosen, cells, chosen < cells ? " (CADRE_MATRIX=all runs all)" : "");
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(workers, scratch_make, scratch_remove),
        cmocka_unit_test_setup_teardown(errors_returned, scratch_make, scratch_remove),
        cmocka_unit_test_setup_teardown(controllers, scratch_make, scratch_remove),
        cmocka_unit_test_setup_teardown(controller_stopped, scratch_make, scratch_remove),
        cmocka_unit_test_setup_teardown(mpirun_killed, scratch_make, scratch_remove),
    };
    return cmocka_run_group_tests_name("trainer: matrix", tests, NULL, report);
}
