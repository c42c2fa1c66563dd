/* Options and places that cannot be: one clear line each, and nothing is made. */
#include "support.h"

#include "cadre/trainer.h"

#include <limits.h>
#include <math.h>
#include <signal.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

static int never(cadre_session *session, const cadre_config *config, void *user)
{
    (void)session;
    (void)config;
    (void)user;
    abort();
}

static void refuse(cadre_trainer trainer, const char *part)
{
    cadre_result result = {.attempts = 7};
    trainer.run.storage = in_scratch("runs");
    trainer.train = trainer.user ? NULL : never;
    if (cadre_trainer_fit(&trainer, &result) != CADRE_EINVAL || !strstr(cadre_error_message(), part))
        fail_msg("%s: %s", part, cadre_error_message());
    assert_int_equal(result.attempts, 0);
    assert_int_equal(cadre_trainer_fit(&trainer, NULL), CADRE_EINVAL);
    assert_false(file_exists(in_scratch("runs")));
}

static void options(void **state)
{
    (void)state;
    refuse((cadre_trainer){.user = ""}, "trainer.train is NULL");
    refuse((cadre_trainer){.scaling.num_workers = -1}, "scaling.num_workers is -1");
    refuse((cadre_trainer){.scaling.num_workers = 4097}, "scaling.num_workers is 4097");
    refuse((cadre_trainer){.scaling.num_workers = INT_MIN}, "scaling.num_workers");
    refuse((cadre_trainer){.scaling.cores_per_worker = -2}, "scaling.cores_per_worker is -2");
    refuse((cadre_trainer){.scaling.gpus_per_worker = -0.5}, "scaling.gpus_per_worker is -0.5");
    refuse((cadre_trainer){.scaling.gpus_per_worker = 1.5}, "scaling.gpus_per_worker is 1.5");
    refuse((cadre_trainer){.scaling.gpus_per_worker = NAN}, "scaling.gpus_per_worker");
    refuse((cadre_trainer){.scaling.gpus_per_worker = INFINITY}, "scaling.gpus_per_worker");
    refuse((cadre_trainer){.scaling = {.gpus_per_worker = 1000, .num_workers = 3}}, "scaling asks for 3000 GPUs, this machine has");
    refuse((cadre_trainer){.scaling.launcher = (cadre_launcher)9}, "scaling.launcher is 9");
    refuse((cadre_trainer){.scaling = {.launcher = CADRE_LAUNCH_INPROC, .num_workers = 2}}, "the inproc launcher has one worker");
    refuse((cadre_trainer){.scaling.timeout_s = -1}, "scaling.timeout_s is -1");
    refuse((cadre_trainer){.scaling.timeout_s = NAN}, "scaling.timeout_s");
    refuse((cadre_trainer){.failure.max_failures = -2}, "failure.max_failures is -2");
    refuse((cadre_trainer){.failure.hang_timeout_s = NAN}, "failure.hang_timeout_s");
    refuse((cadre_trainer){.failure.grace_s = -3}, "failure.grace_s is -3");
    refuse((cadre_trainer){.scaling = {.num_workers = 2, .logical_workers = 4, .device = "cuda"}}, "scaling.device is \"cuda\": logical workers add up in host memory");
    refuse((cadre_trainer){.checkpoint.keep = -1}, "checkpoint.keep is -1");
    refuse((cadre_trainer){.checkpoint.every_steps = -5}, "checkpoint.every_steps is -5");
    refuse((cadre_trainer){.checkpoint.score_mode = CADRE_MEAN}, "checkpoint.score_mode is 1");
    refuse((cadre_trainer){.run.resume = (cadre_resume)5}, "run.resume is 5");
    refuse((cadre_trainer){.run.progress = (cadre_progress_mode)5}, "run.progress is 5");
    refuse((cadre_trainer){.run.timeline = in_scratch(".")}, "is not a plain file"); /* nor is a device, which root could remove */
    cadre_trainer trainer = {.train = never, .run = {.storage = in_scratch("runs"), .timeline = in_scratch("nowhere/trace.json")}};
    assert_int_equal(cadre_trainer_fit(&trainer, NULL), CADRE_ENOENT);
    assert_non_null(strstr(cadre_error_message(), "nowhere/trace.json\": No such file"));
    assert_false(file_exists(trainer.run.storage));
    static const char *const names[] = {"", ".", "..", ".hidden", "-rf", "a/b", "../up", "a b", "gr\xc3\xbc\xc3\x9f", "line\nbreak", "semi;colon"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        refuse((cadre_trainer){.run.name = names[i]}, "run.name");
    char longest[102];
    memset(longest, 'n', sizeof longest);
    longest[101] = '\0';
    refuse((cadre_trainer){.run.name = longest}, "run.name");
}

static void calls(void **state)
{
    (void)state;
    cadre_result result;
    memset(&result, 0x5a, sizeof result);
    assert_int_equal(cadre_trainer_fit_sized(NULL, sizeof(cadre_trainer), &result, sizeof result), CADRE_EINVAL);
    cadre_trainer trainer = {.scaling.num_workers = -1};
    assert_int_equal(cadre_trainer_fit_sized(&trainer, sizeof trainer + 8, &result, sizeof result), CADRE_EINVAL);
    assert_non_null(strstr(cadre_error_message(), "newer Cadre"));
    assert_int_equal(cadre_trainer_fit_sized(&trainer, 0, &result, sizeof result), CADRE_EINVAL);
    assert_int_equal(*(unsigned char *)&result, 0x5a); /* an older program's smaller result is not overrun */
    assert_int_equal(cadre_trainer_fit_sized(&trainer, sizeof trainer, &result, 16), CADRE_EINVAL);
    assert_int_equal(((unsigned char *)&result)[15], 0);
    assert_int_equal(((unsigned char *)&result)[16], 0x5a);
    assert_true(isnan(cadre_result_metric(NULL, "a")));
    cadre_result none = {.num_metrics = 0};
    assert_true(isnan(cadre_result_metric(&none, "a")));
    assert_true(isnan(cadre_result_metric(&none, NULL)));
}

static void assert_message(const char *name, const char *part)
{
    const char *message = job_answer(name, "message");
    if (!strstr(message, part) || strchr(message, '\n'))
        fail_msg("the message of %s has no \"%s\": %s", name, part, message);
}

static void write_file(const char *path, const char *text)
{
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    fputs(text, file);
    fclose(file);
}

static void places(void **state)
{
    (void)state;
    write_file(in_scratch("file"), "not a directory");
    char words[1400];
    snprintf(words, sizeof words, "storage=%s", in_scratch("file"));
    job_expect("file", words, "EEXIST");
    assert_message("file", in_scratch("file"));
    snprintf(words, sizeof words, "storage=%s", in_scratch("file/below"));
    assert_int_equal(job_run("below", words), 1);
    assert_message("below", in_scratch("file"));

    job_expect("network", "network=nfs", "ENOTSUP");
    assert_message("network", "is on a network file system (nfs)");
    assert_false(file_exists(in_scratch("runs/network/cadre.db")));

    char deep[900] = "";
    for (int i = 0; i < 3; i++) {
        size_t length = strlen(deep);
        memset(deep + length, 'd', 140);
        snprintf(deep + length + 140, sizeof deep - length - 140, "/");
    }
    snprintf(words, sizeof words, "storage=%s", in_scratch("%s", deep));
    job_expect("deep", words, "OK"); /* some 450 bytes */
    snprintf(words, sizeof words, "storage=%s", in_scratch("%s%.60s", deep, deep));
    job_expect("deeper", words, "EINVAL");
    assert_message("deeper", "the path is longer than 480 bytes");

    snprintf(words, sizeof words, "storage=%s thread=1", "relative/place");
    assert_int_equal(chdir(in_scratch("%s", "")), 0);
    job_expect("relative", words, "OK");
    assert_string_equal(job_answer("relative", "path"), "relative/place/relative");
    assert_true(file_exists(in_scratch("%s", job_answer("relative", "last"))));
    assert_int_equal(chdir("/"), 0);

    if (geteuid() != 0)
        return;
    assert_int_equal(chmod(in_scratch("%s", ""), 0777), 0);
    assert_int_equal(chmod(in_scratch("runs"), 0755), 0);
    job_expect("denied", "uid=65534", "EACCES");
    assert_message("denied", in_scratch("runs"));
    assert_false(file_exists(in_scratch("runs/denied")));
}

static void other_owners(void **state)
{
    (void)state;
    job owner = job_start("busy", "workers=2 epochs=1000 sleep_us=5000");
    wait_for_lines(in_scratch("runs/busy/trial-00000/result.json"), 1);
    char pid[32], log[200];
    snprintf(log, sizeof log, "%s", in_scratch("busy.log"));
    job second = job_start("busy", "workers=2");
    job_wait(&second, 20);
    assert_string_equal(job_answer("busy", "status"), "EBUSY");
    snprintf(pid, sizeof pid, "is in use by pid %d on ", (int)owner.pid);
    assert_message("busy", pid);
    kill(owner.pid, SIGINT);
    job_wait(&owner, 20);
    assert_string_equal(job_answer("busy", "status"), "OK");
    assert_run_clean("busy"); /* the second one harmed nothing */

    job_expect("newer", "workers=2", "OK");
    sqlite3 *db = NULL;
    assert_int_equal(sqlite3_open(in_scratch("runs/newer/cadre.db"), &db), SQLITE_OK);
    assert_int_equal(sqlite3_exec(db, "PRAGMA user_version = 99", NULL, NULL, NULL), SQLITE_OK);
    sqlite3_close(db);
    job_expect("newer", "workers=2", "EVERSION");
    assert_message("newer", "made by a newer Cadre");
    assert_int_equal(mkdir(in_scratch("runs/foreign"), 0700), 0);
    write_file(in_scratch("runs/foreign/cadre.db"), "This is a file of somebody else's, and long enough to be looked at, as SQLite reads a hundred bytes first of all.\n");
    job_expect("foreign", "workers=2", "ECORRUPT");
    assert_message("foreign", in_scratch("runs/foreign/cadre.db"));
    job_expect("foreign", "workers=2 resume=1", "ECORRUPT");
}

/* A disk of half a megabyte: it fills up at some report or checkpoint, says so, and goes on from there when there is room. */
static void small_disk(void **state)
{
    (void)state;
    const char *place = in_scratch("small");
    assert_int_equal(mkdir(place, 0700), 0);
    if (geteuid() != 0 || mount("cadre-test", place, "tmpfs", 0, "size=768k") != 0)
        skip();
    char words[300];
    snprintf(words, sizeof words, "storage=%s workers=2 epochs=40", place);
    int code = job_run("full", words);
    char status[16], message[2048];
    snprintf(status, sizeof status, "%s", job_answer("full", "status"));
    snprintf(message, sizeof message, "%s", job_answer("full", "message"));
    snprintf(words, sizeof words, "storage=%s workers=2 epochs=40 resume=1 keep=2", place);
    int grown = mount("cadre-test", place, "tmpfs", MS_REMOUNT, "size=64m");
    int again = job_run("full", words);
    char last[16];
    snprintf(last, sizeof last, "%s", job_answer("full", "reports"));
    char rest[2048];
    snprintf(rest, sizeof rest, "%s", job_answer("full", "message"));
    umount2(place, MNT_DETACH);
    assert_int_equal(code, 1);
    if ((strcmp(status, "ENOSPC") != 0 && strcmp(status, "ETRAIN") != 0) || (!strstr(message, "o space left") && !strstr(message, "is full")))
        fail_msg("%s: %s", status, message);
    assert_int_equal(grown, 0);
    if (again != 0 || strcmp(last, "40") != 0)
        fail_msg("it does not go on: %s", rest);
}

static void without_mpirun(void **state)
{
    (void)state;
    char path[4096];
    snprintf(path, sizeof path, "%s", getenv("PATH"));
    setenv("PATH", "/nowhere", 1);
    job_expect("missing", "workers=2 launcher=mpirun failures=5", "ENOTSUP");
    assert_message("missing", "apt-get install openmpi-bin");
    assert_int_equal(mkdir(in_scratch("bin"), 0755), 0);
    write_file(in_scratch("bin/mpirun"), "#!/bin/sh\necho no slots >&2\nexit 213\n");
    assert_int_equal(chmod(in_scratch("bin/mpirun"), 0755), 0);
    char with[4300];
    snprintf(with, sizeof with, "%s:%s", in_scratch("bin"), path);
    setenv("PATH", with, 1);
    job_expect("refuses", "workers=2 launcher=mpirun failures=5", "ESYSTEM");
    assert_message("refuses", "mpirun ended with status 213 before a rank called in");
    assert_non_null(strstr(job_log("refuses", 0, 0), "no slots"));
    setenv("PATH", path, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(options, scratch_make, scratch_remove),
        cmocka_unit_test_setup_teardown(calls, scratch_make, scratch_remove),
        cmocka_unit_test_setup_teardown(places, scratch_make, scratch_remove),
        cmocka_unit_test_setup_teardown(other_owners, scratch_make, scratch_remove),
        cmocka_unit_test_setup_teardown(small_disk, scratch_make, scratch_remove),
        cmocka_unit_test_setup_teardown(without_mpirun, scratch_make, scratch_remove),
    };
    return cmocka_run_group_tests_name("trainer: options", tests, NULL, NULL);
}
