/* Which checkpoints stay, and what a resume makes of what it finds. */
#include "support.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* "1 4 5": the numbers of a trial's recorded checkpoints. */
static const char *kept(const char *name, int trial)
{
    char sql[300];
    snprintf(sql, sizeof sql, "SELECT group_concat(CAST(substr(path, -6) AS INTEGER), ' ') FROM (SELECT path FROM cadre_checkpoints JOIN trials USING (trial_id) "
                              "WHERE number = %d ORDER BY checkpoint_id)", trial);
    return store_text(name, sql);
}

static int number_at_end(const char *path) { return atoi(path + strlen(path) - 6); }

/* The job's scores of epochs 1 to 10: 0.96 0.52 -0.69 -0.88 0.22 1.00 0.32 -0.83 -0.76 0.42. */
static void policies(void **state)
{
    (void)state;
    static const struct {
        const char *name, *words, *kept;
        int best;
    } policies[] = {
        {"all", "epochs=10 keep=0", "1 2 3 4 5 6 7 8 9 10", 10},
        {"newest1", "epochs=10 keep=1", "10", 10},
        {"newest3", "epochs=10 keep=3", "8 9 10", 10},
        {"max1", "epochs=10 keep=1 score=score mode=max", "10", 10},
        {"max2", "epochs=10 keep=2 score=score", "6 10", 6},
        {"max3", "epochs=10 keep=3 score=score mode=max", "1 6 10", 6},
        {"min2", "epochs=10 keep=2 score=score mode=min", "4 10", 4},
        {"min4", "epochs=10 keep=4 score=score mode=min", "4 8 9 10", 4},
        {"nan", "epochs=10 keep=3 score=score act=nan-score", "6 10", 6}, /* odd epochs have none: of the even ones 6 and 10 are best */
        {"no-such-score", "epochs=10 keep=2 score=nothing", "9 10", 10},
        {"steps", "epochs=2 every=2 keep=3", "", 0},
        {"best-of-steps", "epochs=4 every=2 keep=2 score=score", "", 0},
    };
    for (size_t i = 0; i < sizeof policies / sizeof *policies; i++) {
        const char *name = policies[i].name;
        job_expect(name, policies[i].words, "OK");
        assert_run_clean(name);
        assert_true(file_exists(job_answer(name, "best")) && file_exists(job_answer(name, "last")));
        if (strcmp(name, "nan") == 0) {
            assert_string_equal(kept(name, 0), "2 6 10");
            assert_int_equal(store_int(name, "SELECT count(*) FROM cadre_checkpoints WHERE score IS NULL"), 0);
        } else if (policies[i].best) {
            assert_string_equal(kept(name, 0), policies[i].kept);
        }
        if (policies[i].best) {
            assert_int_equal(number_at_end(job_answer(name, "best")), policies[i].best);
            assert_int_equal(number_at_end(job_answer(name, "last")), 10);
        }
    }
    assert_int_equal(store_int("steps", "SELECT count(*) FROM cadre_checkpoints"), 3);
    assert_int_equal(store_int("steps", "SELECT count(*) FROM cadre_checkpoints WHERE report = 2"), 1);
    /* A checkpoint between reports has no score and gives way to one that has. */
    assert_int_equal(store_int("best-of-steps", "SELECT report FROM cadre_checkpoints ORDER BY checkpoint_id"), 1);
    assert_int_equal(store_int("best-of-steps", "SELECT count(*) FROM cadre_checkpoints"), 2);
}

/* Change a byte in the middle of a file. */
static void damage(const char *path)
{
    struct stat info;
    int fd = open(path, O_RDWR);
    unsigned char byte = 0;
    if (fd < 0 || fstat(fd, &info) != 0 || pread(fd, &byte, 1, info.st_size / 2) != 1)
        fail_msg("damage %s", path);
    byte ^= 0x10;
    if (pwrite(fd, &byte, 1, info.st_size / 2) != 1)
        fail_msg("damage %s", path);
    close(fd);
}

/* Killed by its controller's second last report, to be resumed. */
static void interrupt(const char *name, const char *words)
{
    char all[300];
    snprintf(all, sizeof all, "%s fault=record:4:kill@-2", words);
    assert_int_equal(job_run(name, all), -9);
}

static void damaged(void **state)
{
    (void)state;
    job_expect("undisturbed", "workers=2 epochs=5", "OK");
    static const char *const files[] = {"state.safetensors", "state.json"};
    for (int i = 0; i < 2; i++) {
        const char *name = i ? "json" : "tensors";
        interrupt(name, "workers=2 epochs=5");
        damage(in_scratch("runs/%s/trial-00000/checkpoint-000003/%s", name, files[i]));
        job_expect(name, "workers=2 epochs=5 resume=1 progress=1", "OK");
        assert_non_null(strstr(job_output(name), "checkpoint-000003"));
        assert_non_null(strstr(job_output(name), "the one before it is used"));
        assert_run_clean(name);
        assert_same_final(name, "undisturbed", 2);
        assert_int_equal(store_int(name, "SELECT restored_report FROM cadre_attempts WHERE attempt = 1"), 2);
        assert_int_equal(store_int(name, "SELECT count(*) FROM cadre_events WHERE kind = 'checkpoint_damaged'"), 1);
        assert_true(file_exists(in_scratch("runs/%s/trial-00000/damaged-000003/state.json", name)));
        assert_string_equal(kept(name, 0), "1 2 4 5 6");
    }
    interrupt("gone", "workers=2 epochs=5");
    assert_int_equal(rename(in_scratch("runs/gone/trial-00000/checkpoint-000003"), in_scratch("elsewhere")), 0);
    job_expect("gone", "workers=2 epochs=5 resume=1", "OK");
    assert_run_clean("gone");
    assert_same_final("gone", "undisturbed", 2);

    interrupt("foreign", "workers=2 epochs=5"); /* a whole one, but not the one that was recorded */
    assert_int_equal(rename(in_scratch("runs/foreign/trial-00000/checkpoint-000003"), in_scratch("other")), 0);
    assert_int_equal(rename(in_scratch("runs/undisturbed/trial-00000/checkpoint-000005"), in_scratch("runs/foreign/trial-00000/checkpoint-000003")), 0);
    job_expect("foreign", "workers=2 epochs=5 resume=1", "OK");
    assert_non_null(strstr(job_output("foreign"), "not the one that was recorded"));
    assert_same_final("foreign", "undisturbed", 2);
    assert_run_clean("foreign");

    interrupt("all", "workers=2 epochs=5");
    for (int i = 1; i <= 3; i++)
        damage(in_scratch("runs/all/trial-00000/checkpoint-%06d/state.safetensors", i));
    job_expect("all", "workers=2 epochs=5 resume=1", "OK");
    assert_non_null(strstr(job_output("all"), "training begins anew"));
    assert_run_clean("all");
    assert_same_final("all", "undisturbed", 2);
    assert_int_equal(store_int("all", "SELECT restored_report FROM cadre_attempts WHERE attempt = 1"), 0);
    assert_int_equal(store_int("all", "SELECT count(*) FROM cadre_events WHERE kind = 'checkpoint_damaged'"), 3);

    interrupt("unreadable", "workers=2 epochs=5"); /* one that could be read another time is not thrown away */
    if (geteuid() == 0) {
        assert_int_equal(chown(in_scratch("runs/unreadable"), 65534, 65534) | chmod(in_scratch("%s", ""), 0777) | chmod(in_scratch("runs"), 0777), 0);
        const char *paths[] = {"cadre.db", "cadre.db-wal", "cadre.db-shm", "cadre.db.lock", "trial-00000", "trial-00000/result.json",
                               "trial-00000/rank0.log", "trial-00000/rank1.log", "trial-00000/checkpoint-000001", "trial-00000/checkpoint-000002"};
        for (size_t i = 0; i < sizeof paths / sizeof *paths; i++)
            if (chown(in_scratch("runs/unreadable/%s", paths[i]), 65534, 65534) != 0)
                assert_true(i < 4);
        job_expect("unreadable", "workers=2 epochs=5 resume=1 uid=65534", "EACCES");
        assert_true(file_exists(in_scratch("runs/unreadable/trial-00000/checkpoint-000003")));
        assert_int_equal(store_int("unreadable", "SELECT count(*) FROM cadre_checkpoints"), 3);
        assert_int_equal(chown(in_scratch("runs/unreadable"), 0, 0), 0);
    }
    job_expect("unreadable", "workers=2 epochs=5 resume=1", "OK");
    assert_run_clean("unreadable");
    assert_same_final("unreadable", "undisturbed", 2);
}

static void finished(void **state)
{
    (void)state;
    job_expect("undisturbed", "workers=2 epochs=5 every=2", "OK");
    job_expect("more", "workers=2 epochs=2 every=2", "OK");
    char *before = store_reports("more", 0);
    job_expect("more", "workers=2 epochs=2 every=2 resume=1", "OK"); /* nothing left to do */
    assert_int_equal(store_int("more", "SELECT count(*) FROM trials"), 1);
    assert_string_equal(job_answer("more", "trial"), "0");
    assert_string_equal(job_answer("more", "reports"), "2");
    assert_true(*job_answer("more", "metric-loss") != '\0');
    assert_int_equal(number_at_end(job_answer("more", "last")), 7);
    assert_false(file_exists(in_scratch("runs/more/trial-00001")));
    assert_run_clean("more");
    job_expect("more", "workers=2 epochs=5 every=2 resume=1", "OK");
    assert_same_final("more", "undisturbed", 2);
    assert_run_clean("more");
    assert_int_equal(store_int("more", "SELECT count(*) FROM trials WHERE state = 'COMPLETE'"), 2);
    assert_int_equal(store_int("more", "SELECT min(report) FROM cadre_reports WHERE trial_id = 2"), 3);
    assert_int_equal(store_int("more", "SELECT max(report) FROM cadre_reports WHERE trial_id = 2"), 5);
    assert_int_equal(store_int("more", "SELECT count(*) FROM trial_system_attributes WHERE trial_id = 2 AND \"key\" = 'retry_history' AND value_json = '[0]'"), 1);
    char *after = store_reports("more", 0);
    assert_string_equal(before, after);
    free(before);
    free(after);
}

/* A resume that crashes again and again, also before its own first checkpoint: what the failed trial before it has reached is not lost. */
static void failed(void **state)
{
    (void)state;
    job_expect("undisturbed", "workers=2 epochs=4", "OK");
    job_expect("again", "workers=2 epochs=4 act=error act_step=12", "ETRAIN");
    assert_string_equal(store_text("again", "SELECT state FROM trials"), "FAIL");
    job_expect("again", "workers=2 epochs=4 resume=1 act=error act_step=12", "ETRAIN"); /* step 12: within its third epoch, nothing new saved */
    job_expect("again", "workers=2 epochs=4 resume=1 act=error act_step=11 failures=2", "ETRAIN");
    char words[1400];
    snprintf(words, sizeof words, "workers=2 epochs=4 resume=1 fault=checkpoint_renamed:1:kill");
    job_expect("again", words, "ETRAIN"); /* leaves a checkpoint that nobody recorded */
    assert_int_equal(job_run("again", "workers=2 epochs=4 resume=1 fault=record:1:kill@-2"), -9);
    assert_int_equal(job_run("again", "workers=2 epochs=4 resume=1 fault=step:1:kill"), 1);
    job_expect("again", "workers=2 epochs=4 resume=1", "OK");
    assert_run_clean("again");
    assert_same_final("again", "undisturbed", 2);
    assert_int_equal(store_int("again", "SELECT count(*) FROM trials WHERE state = 'FAIL'") + 1, store_int("again", "SELECT count(*) FROM trials"));
    assert_int_equal(store_int("again", "SELECT count(*) FROM cadre_reports WHERE report = 4"), 1);
    assert_int_equal(store_int("again", "SELECT min(report) FROM cadre_reports WHERE trial_id > 1"), 3);
    assert_int_equal(store_int("again", "SELECT min(restored_report) FROM cadre_attempts WHERE trial_id > 1"), 2);
}

static void new_and_missing(void **state)
{
    (void)state;
    job_expect("none", "resume=1", "ENOENT");
    assert_non_null(strstr(job_answer("none", "message"), "nothing to resume"));
    assert_false(file_exists(in_scratch("runs/none")));
    job_expect("twice", "workers=2", "OK");
    job_expect("twice", "workers=2", "OK");
    assert_string_equal(job_answer("twice", "trial"), "1");
    assert_int_equal(store_int("twice", "SELECT count(*) FROM trials WHERE state = 'COMPLETE'"), 2);
    assert_run_clean("twice");
    char *first = store_reports("twice", 0), *second = store_reports("twice", 1);
    assert_string_equal(first, second);
    free(first);
    free(second);
    interrupt("left", "workers=2 epochs=5");
    job_expect("left", "workers=2 epochs=5", "OK");
    assert_string_equal(store_text("left", "SELECT state || ' ' || reason FROM trials JOIN cadre_trials USING (trial_id)"), "FAIL interrupted, and a new run was begun");
    assert_string_equal(store_text("left", "SELECT cause FROM cadre_attempts WHERE trial_id = 1"), "lost");
    assert_run_clean("left");
    job_expect("repeat", "workers=2 repeat=3", "OK"); /* in one program */
    assert_int_equal(store_int("repeat", "SELECT count(*) FROM trials WHERE state = 'COMPLETE'"), 3);
    assert_run_clean("repeat");
}

/* Another number of workers goes on from the same checkpoint; another state is refused. */
static void other_shapes(void **state)
{
    (void)state;
    interrupt("world", "workers=2 epochs=5");
    job_expect("world", "workers=3 epochs=5 resume=1", "OK");
    assert_run_clean("world");
    interrupt("shape", "workers=2 epochs=5");
    job_expect("shape", "workers=2 epochs=5 resume=1 act=other-state", "EMISMATCH");
    assert_non_null(strstr(job_answer("shape", "message"), "other"));
    interrupt("norestore", "workers=2 epochs=5 stepping=0");
    job_expect("norestore", "workers=2 epochs=5 resume=1 restore=0 stepping=0", "ETRAIN");
    assert_non_null(strstr(job_answer("norestore", "message"), "call cadre_session_restore first"));
    interrupt("norestore2", "workers=2 epochs=5");
    job_expect("norestore2", "workers=2 epochs=5 resume=1 restore=0", "ETRAIN");
    assert_non_null(strstr(job_answer("norestore2", "message"), "call cadre_session_restore first"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(policies, scratch_make, scratch_remove),
        cmocka_unit_test_setup_teardown(damaged, scratch_make, scratch_remove),
        cmocka_unit_test_setup_teardown(finished, scratch_make, scratch_remove),
        cmocka_unit_test_setup_teardown(failed, scratch_make, scratch_remove),
        cmocka_unit_test_setup_teardown(new_and_missing, scratch_make, scratch_remove),
        cmocka_unit_test_setup_teardown(other_shapes, scratch_make, scratch_remove),
    };
    return cmocka_run_group_tests_name("trainer: resume", tests, NULL, NULL);
}
