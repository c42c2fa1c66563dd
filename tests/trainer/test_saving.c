/* Checkpoints that are written behind the training, and that each rank writes its share of: what comes of them in a run. */
#include "support.h"

#include "cadre/checkpoint.h"

#include <dirent.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Entries of the trial's directory whose names have this in them, and that are all there at one moment: a listing is none. */
static int entries_with(const char *name, const char *part)
{
    enum { MOST = 64 };
    char found[MOST][300];
    int count = 0, there = 0;
    DIR *directory = opendir(in_scratch("runs/%s/trial-00000", name));
    for (struct dirent *entry; directory && count < MOST && (entry = readdir(directory));)
        if (strstr(entry->d_name, part))
            snprintf(found[count++], sizeof found[0], "%s", entry->d_name);
    if (directory)
        closedir(directory);
    for (int i = 0; i < count; i++)
        there += file_exists(in_scratch("runs/%s/trial-00000/%s", name, found[i]));
    return there;
}

/* The policies of keep, best, last and pinned are the same, and so are the bits. */
static void shares_are_kept_like_others(void **state)
{
    (void)state;
    static const char *const ways[] = {"every=2 keep=2 score=score", "keep=3 score=score mode=min every=3", "launcher=mpirun every=2 keep=2"};
    for (int i = 0; i < 3; i++)
        for (int world = 1; world <= 4; world *= 2) {
            char whole[32], words[200];
            if (i > 0 && world != 2)
                continue;
            snprintf(whole, sizeof whole, "whole%d-%d", i, world);
            snprintf(words, sizeof words, "%s workers=%d behind=-1", ways[i], world);
            job_expect(whole, words, "OK");
            for (int behind = -1; behind <= 1; behind += 2) {
                char name[32];
                snprintf(name, sizeof name, "shares%d-%d-%d", i, world, behind);
                snprintf(words, sizeof words, "%s workers=%d sharded=1 behind=%d", ways[i], world, behind);
                job_expect(name, words, "OK");
                char *expected = strdup(store_checkpoints(whole));
                assert_string_equal(store_checkpoints(name), expected);
                free(expected);
                assert_string_equal(job_answer(name, "best") + strlen(job_answer(name, "path")), job_answer(whole, "best") + strlen(job_answer(whole, "path")));
                assert_like(name, whole, world);
                char path[1100];
                if (world > 1)
                    snprintf(path, sizeof path, "%s/state-%05d-of-%05d.safetensors", job_answer(name, "last"), world, world);
                else
                    snprintf(path, sizeof path, "%s/state.safetensors", job_answer(name, "last"));
                assert_true(file_exists(path));
            }
        }
    run_pinned("pinned", "workers=2 keep=1 sleep_us=20000 sharded=1");
    assert_true(file_exists(in_scratch("runs/pinned/trial-00000/checkpoint-000001/state-00002-of-00002.safetensors")));
    job_expect("wrong", "workers=2 sharded=2", "EINVAL");
    assert_non_null(strstr(job_answer("wrong", "message"), "checkpoint.sharded is 2"));
}

/* Saved by one number of workers, gone on with by another, in shares or not. */
static void other_numbers_go_on(void **state)
{
    (void)state;
    static const int worlds[] = {1, 2, 4};
    for (int from = 0; from < 3; from++)
        for (int to = 0; to < 3; to++)
            for (int sharded = 0; sharded < 2; sharded++) {
                char name[32], words[200];
                if (!sharded && worlds[from] == 1)
                    continue; /* from shares to one file, and the other way round where the first is of one */
                snprintf(name, sizeof name, "n%d-%d-%d", worlds[from], worlds[to], sharded);
                snprintf(words, sizeof words, "workers=%d failures=0 every=1 sharded=1 behind=1 act=cover act_step=5 act_rank=%d act_attempt=0", worlds[from], worlds[from] - 1);
                job_expect(name, words, "ETRAIN");
                snprintf(words, sizeof words, "workers=%d every=1 act=cover sharded=%d resume=1", worlds[to], sharded);
                job_expect(name, words, "OK");
                assert_int_equal(store_int(name, "SELECT count(*) FROM cadre_metrics JOIN cadre_names USING (name_id) WHERE name IN ('least', 'most') AND value <> report"), 0);
                assert_true(store_int(name, "SELECT max(report) FROM cadre_reports") == 3);
            }
    job_expect("elastic", "workers=3 least=1 regrow=0.1 failures=2 every=1 sharded=1 behind=1 act=cover act_step=5 act_rank=0 act_attempt=0 sleep_us=20000", "OK");
    assert_string_equal(store_text("elastic", "SELECT group_concat(num_workers || ' ' || cause, ', ') FROM (SELECT * FROM cadre_attempts ORDER BY attempt)"),
                        "3 killed, 2 resized, 3 finished");
    assert_int_equal(store_int("elastic", "SELECT count(*) FROM cadre_metrics JOIN cadre_names USING (name_id) WHERE name IN ('least', 'most') AND value <> report"), 0);
    assert_run_clean("elastic");
}

static void damage(const char *path)
{
    FILE *file = fopen(path, "r+");
    assert_non_null(file);
    assert_int_equal(fseek(file, -3, SEEK_END), 0);
    int byte = fgetc(file);
    assert_int_equal(fseek(file, -3, SEEK_END), 0);
    fputc(byte ^ 0x10, file);
    fclose(file);
}

/* A share that is missing or altered is named, and the checkpoint before it is taken. */
static void damaged_shares(void **state)
{
    (void)state;
    job_expect("undisturbed", "workers=2 epochs=5", "OK");
    static const char *const files[] = {"state-00001-of-00002.safetensors", "state-00002-of-00002.safetensors", "state.safetensors.index.json"};
    for (int i = 0; i < 6; i++) {
        char name[16], path[200];
        snprintf(name, sizeof name, "d%d", i);
        assert_int_equal(job_run(name, "workers=2 epochs=5 sharded=1 fault=record:4:kill@-2"), -SIGKILL);
        snprintf(path, sizeof path, "%s", in_scratch("runs/%s/trial-00000/checkpoint-000003/%s", name, files[i / 2]));
        if (i % 2)
            assert_int_equal(unlink(path), 0);
        else
            damage(path);
        job_expect(name, "workers=2 epochs=5 sharded=1 resume=1 progress=1", "OK");
        assert_non_null(strstr(job_output(name), files[i / 2]));
        assert_non_null(strstr(job_output(name), "the one before it is used"));
        assert_run_clean(name);
        assert_same_final(name, "undisturbed", 2);
        assert_int_equal(store_int(name, "SELECT restored_report FROM cadre_attempts WHERE attempt = 1"), 2);
    }
}

/* ---- what cannot be written ---------------------------------------------------------------------------------------------------------- */

static const char *const behind_ways[] = {"workers=2 behind=1", "workers=2 behind=1 sharded=1", "launcher=inproc behind=1"};

/* One is said and borne, two in a row are not, nor is the last one. */
static void failures_behind(void **state)
{
    (void)state;
    job_expect("undisturbed2", "workers=2 every=2", "OK");
    job_expect("undisturbed1", "launcher=inproc every=2", "OK");
    for (int i = 0; i < 3; i++) {
        char name[32], words[300];
        const char *undisturbed = i < 2 ? "undisturbed2" : "undisturbed1", *rank = i == 0 ? "@0" : i == 1 ? "@1" : "";
        snprintf(name, sizeof name, "one%d", i);
        snprintf(words, sizeof words, "%s every=2 progress=1 fault=checkpoint_write:3:eio%s", behind_ways[i], rank);
        job_expect(name, words, "OK");
        assert_string_equal(job_answer(name, "attempts"), "1");
        assert_like(name, undisturbed, i < 2 ? 2 : 1);
        assert_non_null(strstr(job_output(name), "training goes on without it"));
        assert_int_equal(store_int(name, "SELECT count(*) FROM cadre_events WHERE kind = 'checkpoint_failed' AND value_json LIKE '%checkpoint-000003%'"), 1);
        assert_int_equal(entries_with(name, "checkpoint-000003"), 0);

        snprintf(name, sizeof name, "two%d", i);
        snprintf(words, sizeof words, "%s every=2 fault=checkpoint_write:3:eio+%s", behind_ways[i], rank);
        job_expect(name, words, "ETRAIN");
        if (!strstr(job_answer(name, "message"), "nor could the one before it be written"))
            fail_msg("%s", job_answer(name, "message"));
        assert_run_clean(name);
        assert_int_equal(store_int(name, "SELECT count(*) FROM cadre_checkpoints"), 2);

        snprintf(name, sizeof name, "last%d", i);
        snprintf(words, sizeof words, "%s failures=0 fault=checkpoint_write:3:eio%s", behind_ways[i], rank);
        job_expect(name, words, "ETRAIN");
        assert_non_null(strstr(job_answer(name, "message"), "checkpoint-000003"));
        assert_int_equal(store_int(name, "SELECT count(*) FROM cadre_checkpoints"), 2);
        assert_run_clean(name);
        snprintf(words, sizeof words, "%s failures=1 fault=checkpoint_write:3:eio%s %s", behind_ways[i], rank, new_marker());
        snprintf(name, sizeof name, "again%d", i);
        job_expect(name, words, "OK");
        assert_string_equal(job_answer(name, "attempts"), "2");
    }
}

/* The disk is full for one rank's share, or for what rank 0 adds to them: what can be spared makes room for it. */
static void disk_full(void **state)
{
    (void)state;
    static const char *const faults[] = {"checkpoint_write:3:enospc@0", "checkpoint_write:3:enospc@1", "checkpoint_commit:3:enospc@0"};
    job_expect("undisturbed", "workers=2", "OK");
    for (int behind = -1; behind <= 1; behind += 2)
        for (int i = 0; i < 3; i++) {
            char name[32], words[1400];
            snprintf(name, sizeof name, "full%d%d", behind, i);
            snprintf(words, sizeof words, "workers=2 sharded=1 behind=%d fault=%s %s", behind, faults[i], new_marker());
            job_expect(name, words, "OK");
            assert_string_equal(job_answer(name, "attempts"), "1");
            assert_like(name, "undisturbed", 2);
            assert_string_equal(store_text(name, "SELECT group_concat(path) FROM (SELECT path FROM cadre_checkpoints ORDER BY path)"),
                                "trial-00000/checkpoint-000002,trial-00000/checkpoint-000003");
        }
}

/* ---- slow disks ------------------------------------------------------------------------------------------------------------------------- */

/* Writing takes far longer than the steps between two: one is in flight at a time, each is there in the end, and the stall is on record. */
static void one_at_a_time(void **state)
{
    (void)state;
    for (int i = 0; i < 2; i++) {
        char name[32], words[300];
        snprintf(name, sizeof name, "slow%d", i);
        snprintf(words, sizeof words, "%s every=2 fault=checkpoint_write:1:slow+", behind_ways[i]);
        job job = job_start(name, words);
        int most = 0;
        for (int looks = 0; looks < 8000 && !file_exists(in_scratch("%s.out", name)); looks++) {
            int now = entries_with(name, ".tmp-");
            most = now > most ? now : most;
            usleep(3000);
        }
        job_wait(&job, 30);
        assert_int_equal(job.wait_status, 0);
        assert_true(most == 1 || (i == 1 && most == 2)); /* a rank may be at its next share while rank 0 gives the last checkpoint its name */
        assert_run_clean(name);
        assert_int_equal(store_int(name, "SELECT count(*) FROM cadre_checkpoints"), 10); /* the last, too: the end waits for it */
        assert_int_equal(store_int(name, "SELECT count(*) FROM cadre_events WHERE kind = 'checkpoint' AND json_extract(value_json, '$.stall_s') > 0"), 10);
    }
}

/* Asked to leave while one is in flight: that one is recorded, the last state is saved, and nothing is lost. */
static void leaving_meanwhile(void **state)
{
    (void)state;
    job_expect("undisturbed", "workers=2 every=3", "OK");
    for (int i = 0; i < 4; i++) {
        char name[32], words[300];
        snprintf(name, sizeof name, "leave%d", i);
        snprintf(words, sizeof words, "%s every=3 sleep_us=10000 fault=checkpoint_write:2:slow+", behind_ways[i % 2]);
        job job = job_start(name, words);
        for (int looks = 0; looks < 3000 && (i < 2 ? entries_with(name, ".tmp-") == 0 : entries_with(name, "checkpoint-") < 2); looks++)
            usleep(1000);
        kill(job.pid, i % 2 ? SIGTERM : SIGINT);
        job_wait(&job, 30);
        assert_int_equal(job.wait_status, 0);
        assert_string_equal(job_answer(name, "stopped"), "1");
        assert_string_equal(store_text(name, "SELECT detail FROM cadre_trials"), "paused");
        assert_run_clean(name);
        snprintf(words, sizeof words, "%s every=3 resume=1", behind_ways[i % 2]);
        job_expect(name, words, "OK");
        assert_run_clean(name);
        assert_same_final(name, "undisturbed", 2);
    }
}

/* A program that forks while one is in flight gets a child that ends as any child does, and the writing goes on. */
static void forking_meanwhile(void **state)
{
    (void)state;
    job_expect("undisturbed", "workers=2", "OK");
    for (int i = 0; i < 2; i++) {
        char name[32], words[300];
        snprintf(name, sizeof name, "fork%d", i);
        snprintf(words, sizeof words, "%s act=fork act_step=6 fault=checkpoint_write:1:slow+", behind_ways[i]);
        job_expect(name, words, "OK");
        assert_like(name, "undisturbed", 2);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(shares_are_kept_like_others, scratch_make, scratch_remove),
        cmocka_unit_test_setup_teardown(other_numbers_go_on, scratch_make, scratch_remove),
        cmocka_unit_test_setup_teardown(damaged_shares, scratch_make, scratch_remove),
        cmocka_unit_test_setup_teardown(failures_behind, scratch_make, scratch_remove),
        cmocka_unit_test_setup_teardown(disk_full, scratch_make, scratch_remove),
        cmocka_unit_test_setup_teardown(one_at_a_time, scratch_make, scratch_remove),
        cmocka_unit_test_setup_teardown(leaving_meanwhile, scratch_make, scratch_remove),
        cmocka_unit_test_setup_teardown(forking_meanwhile, scratch_make, scratch_remove),
    };
    return cmocka_run_group_tests_name("trainer: saving", tests, NULL, NULL);
}
