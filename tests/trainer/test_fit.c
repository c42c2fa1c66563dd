/* Runs that go well: every launcher and number of workers, the same bits, nothing left behind. */
#include "support.h"

#include "base/frame.h"

#include <dirent.h>
#include <libgen.h>
#include <stdio.h>
#include <stdlib.h>
#undef basename
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

static void workers(void **state)
{
    (void)state;
    for (int world = 1; world <= 4; world++) {
        char name[32], words[64];
        snprintf(name, sizeof name, "w%d", world);
        snprintf(words, sizeof words, "workers=%d", world);
        job_expect(name, words, "OK");
        assert_run_clean(name);
        assert_int_equal(store_int(name, "SELECT count(*) FROM cadre_reports"), 3);
        assert_string_equal(store_text(name, "SELECT state FROM trials"), "COMPLETE");
        assert_string_equal(store_text(name, "SELECT launcher || ' ' || num_workers || ' ' || cause || ' ' || rank FROM cadre_attempts") + 5,
                            world == 1 ? "1 finished -1" : world == 2 ? "2 finished -1" : world == 3 ? "3 finished -1" : "4 finished -1");
        assert_string_equal(job_answer(name, "attempts"), "1");
        assert_string_equal(job_answer(name, "reports"), "3");
        assert_string_equal(job_answer(name, "stopped"), "0");
        assert_string_equal(job_answer(name, "times"), "1");
        assert_true(file_exists(job_answer(name, "best")));
        assert_string_equal(job_answer(name, "best"), job_answer(name, "last"));
        for (int rank = 0; rank < world; rank++) { /* standard ones, the channel, what the program had, one a peer */
            snprintf(words, sizeof words, "attempt 0 rank %d of %d, ", rank, world);
            assert_non_null(strstr(job_log(name, 0, rank), words));
            assert_in_range(atoi(strstr(job_log(name, 0, rank), words) + strlen(words)), 4, 5 + world);
        }
    }
}

/* The same program forked, executed, in the process and by mpirun: the same bits and the same record. */
static void launchers_are_equal(void **state)
{
    (void)state;
    static const struct {
        const char *name, *words, *launcher;
        int world;
    } ways[] = {
        {"fork1", "workers=1", "fork", 1},           {"fork2", "workers=2 launcher=fork", "fork", 2}, {"exec1", "workers=1 thread=1", "exec", 1},
        {"exec2", "workers=2 thread=1", "exec", 2}, {"inproc", "launcher=inproc", "inproc", 1},     {"mpirun1", "workers=1 launcher=mpirun", "mpirun", 1},
        {"mpirun2", "workers=2 launcher=mpirun", "mpirun", 2},
    };
    for (size_t i = 0; i < sizeof ways / sizeof *ways; i++) {
        const char *like = ways[i].world == 1 ? "fork1" : "fork2";
        job_expect(ways[i].name, ways[i].words, "OK");
        assert_run_clean(ways[i].name);
        assert_string_equal(store_text(ways[i].name, "SELECT launcher FROM cadre_attempts"), ways[i].launcher);
        assert_same_final(ways[i].name, like, ways[i].world);
        char *reports = store_reports(ways[i].name, 0), *expected = store_reports(like, 0);
        assert_string_equal(reports, expected);
        free(reports);
        free(expected);
    }
}

/* A program that trains several times: an executed worker takes part in the call that it was made for, and in no other. */
static void several_in_a_program(void **state)
{
    (void)state;
    static const char *const ways[] = {"launcher=fork", "thread=1", "launcher=mpirun", "launcher=inproc workers=1"};
    for (int i = 0; i < 4; i++) {
        char name[32], first[32], words[200];
        snprintf(name, sizeof name, "second%d", i);
        snprintf(first, sizeof first, "first%d", i);
        snprintf(words, sizeof words, "workers=2 repeat=2 first=%s %s", first, ways[i]);
        job_expect(name, words, "OK");
        assert_run_clean(name);
        assert_run_clean(first);
        assert_int_equal(store_int(first, "SELECT count(*) FROM trials"), 1);
        assert_int_equal(store_int(first, "SELECT count(*) FROM cadre_reports"), 3);
        assert_int_equal(store_int(name, "SELECT count(*) FROM trials WHERE state = 'COMPLETE'"), 2);
        assert_int_equal(store_int(name, "SELECT count(*) FROM cadre_reports"), 8);
    }
}

/* Twenty restarts: no descriptor more in the controller (job_expect), the zygote or a worker. */
static void nothing_leaks(void **state)
{
    (void)state;
    static const struct {
        const char *name, *words;
        int attempts;
    } ways[] = {
        {"fork", "workers=2 failures=20 fault=step:2:exit@1", 21},
        {"exec", "workers=2 thread=1 failures=20 fault=step:2:kill@0", 21},
        {"mpirun", "workers=2 launcher=mpirun failures=2 fault=step:2:kill@1", 3},
        {"inproc", "launcher=inproc failures=20 act=error act_step=2", 21},
    };
    for (size_t i = 0; i < sizeof ways / sizeof *ways; i++) {
        job_expect(ways[i].name, ways[i].words, "ETRAIN");
        assert_int_equal(store_int(ways[i].name, "SELECT count(*) FROM cadre_attempts"), ways[i].attempts);
        assert_int_equal(store_int(ways[i].name, "SELECT count(*) FROM cadre_checkpoints"), 0);
        assert_run_clean(ways[i].name);
        const char *log = i == 3 ? job_output("inproc") : job_log(ways[i].name, 0, 0);
        int first = -1, count = 0;
        for (const char *at = strstr(log, "rank 0 of "); at; at = strstr(at + 1, "rank 0 of ")) {
            int fds = atoi(strchr(at, ',') + 1);
            first = first < 0 ? fds : first;
            assert_int_equal(fds, first);
            count++;
        }
        assert_int_equal(count, ways[i].attempts);
    }
}

static void many_reports(void **state)
{
    (void)state;
    static const char *const ways[] = {"launcher=inproc", "workers=1", "workers=2", "workers=1 thread=1"};
    for (int i = 0; i < 4; i++) {
        char name[32], words[100];
        snprintf(name, sizeof name, "many%d", i);
        int count = i < 2 ? 5000 : 1000;
        snprintf(words, sizeof words, "bare=1 epochs=%d %s", count, ways[i]);
        job_expect(name, words, "OK");
        assert_int_equal(store_int(name, "SELECT count(*) FROM cadre_metrics"), 2 * count);
        assert_run_clean(name);
        printf("%-20s %8.0f reports/s\n", ways[i], count / strtod(job_answer(name, "wall"), NULL));
    }
    job_expect("saved", "workers=2 epochs=200 steps=1 keep=3", "OK");
    assert_int_equal(store_int("saved", "SELECT count(*) FROM cadre_checkpoints"), 3);
    assert_run_clean("saved");
    printf("%-20s %8.0f reports/s\n", "with a checkpoint", 200 / strtod(job_answer("saved", "wall"), NULL));
}

/* ---- strangers at the mpirun launcher's socket --------------------------------------------------------------------------------------- */

static void find_socket(struct sockaddr_un *address)
{
    double deadline = seconds_now() + 20;
    address->sun_family = AF_UNIX;
    address->sun_path[0] = '\0';
    while (!file_exists(address->sun_path)) {
        DIR *directory = opendir(in_scratch("runtime"));
        for (struct dirent *entry; (entry = readdir(directory));)
            if (entry->d_name[0] != '.')
                snprintf(address->sun_path, sizeof address->sun_path, "%s/controller", in_scratch("runtime/%s", entry->d_name));
        closedir(directory);
        if (seconds_now() > deadline)
            fail_msg("no socket appears");
        usleep(1000);
    }
}

static int call_in(const struct sockaddr_un *address, const void *bytes, size_t nbytes)
{
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    double deadline = seconds_now() + 5;
    while (connect(fd, (const struct sockaddr *)address, sizeof *address) != 0) /* bound, but nobody listens yet */
        if (seconds_now() > deadline)
            fail_msg("nobody listens at %s", address->sun_path);
    if (write(fd, bytes, nbytes) != (ssize_t)nbytes)
        fail_msg("a stranger cannot write");
    return fd;
}

static int call_in_with(const struct sockaddr_un *address, const char *text)
{
    base_buffer frame = {0};
    assert_int_equal(base_frame_append(&frame, text, strlen(text)), 0);
    int fd = call_in(address, frame.data, frame.length);
    base_buffer_free(&frame);
    return fd;
}

static void strangers(void **state)
{
    (void)state;
    job_expect("undisturbed", "workers=2", "OK");
    job job = job_start("strangers", "workers=2 launcher=mpirun sleep_us=30000");
    struct sockaddr_un address = {0};
    find_socket(&address);
    struct stat info;
    assert_int_equal(stat(dirname(strdupa(address.sun_path)), &info), 0);
    assert_int_equal(info.st_mode & 0777, 0700);
    int callers[] = {
        call_in(&address, "", 0), /* and says nothing */
        call_in(&address, "\xff\xff\xff\xff", 4),
        call_in(&address, "GET / HTTP/1.1\r\n\r\n", 18),
        call_in_with(&address, "{}"),
        call_in_with(&address, "{\"t\":\"hello\",\"a\":9,\"rank\":0,\"pid\":1,\"host\":\"x\"}"),
        call_in_with(&address, "{\"t\":\"hello\",\"a\":0,\"rank\":2,\"pid\":1,\"host\":\"x\"}"),
        call_in_with(&address, "{\"t\":\"hello\",\"a\":0,\"rank\":-1,\"pid\":1,\"host\":\"x\"}"),
        call_in_with(&address, "{\"t\":\"hello\",\"a\":0,\"rank\":4294967296,\"pid\":1,\"host\":\"x\"}"),
        call_in_with(&address, "{\"t\":\"report\",\"a\":0,\"rank\":0,\"report\":1,\"step\":1,\"metrics\":[[\"loss\",7]]}"),
        -1,
    };
    int count = sizeof callers / sizeof *callers;
    wait_for_lines(in_scratch("runs/strangers/trial-00000/result.json"), 1);
    callers[count - 1] = call_in_with(&address, "{\"t\":\"hello\",\"a\":0,\"rank\":0,\"pid\":1,\"host\":\"x\"}"); /* rank 0 is there already */
    job_wait(&job, 30);
    for (int i = 0; i < count; i++) {
        char byte;
        assert_int_equal(recv(callers[i], &byte, 1, 0) > 0, 0); /* nobody was told anything */
        close(callers[i]);
    }
    assert_int_equal(job.wait_status, 0);
    assert_run_clean("strangers");
    assert_same_final("strangers", "undisturbed", 2);
    char *reports = store_reports("strangers", 0), *expected = store_reports("undisturbed", 0);
    assert_string_equal(reports, expected);
    free(reports);
    free(expected);
}

/* Written behind the training: the same checkpoints, with the scores of the reports they came with, and what each cost. */
static void written_behind(void **state)
{
    (void)state;
    static const char *const ways[] = {"workers=2 every=2 keep=2 score=score", "launcher=inproc keep=2 score=score"};
    for (int i = 0; i < 2; i++) {
        char at_once[32], behind[32], words[200];
        snprintf(at_once, sizeof at_once, "at-once%d", i);
        snprintf(behind, sizeof behind, "behind%d", i);
        snprintf(words, sizeof words, "%s behind=-1", ways[i]);
        job_expect(at_once, words, "OK");
        snprintf(words, sizeof words, "%s behind=1", ways[i]);
        job_expect(behind, words, "OK");
        char *expected = strdup(store_checkpoints(at_once));
        assert_string_equal(store_checkpoints(behind), expected);
        free(expected);
        assert_string_equal(job_answer(behind, "best") + strlen(job_answer(behind, "path")), job_answer(at_once, "best") + strlen(job_answer(at_once, "path")));
        assert_same_final(behind, at_once, i ? 1 : 2);
        assert_run_clean(behind);
        assert_int_equal(store_int(at_once, "SELECT count(*) FROM cadre_events WHERE kind = 'checkpoint'"), 0);
        assert_true(store_int(behind, "SELECT count(*) FROM cadre_events WHERE kind = 'checkpoint' AND json_extract(value_json, '$.write_s') > 0") >= 3);
    }
    job_expect("wrong", "workers=2 behind=2", "EINVAL");
    /* What the user has pinned stays. */
    run_pinned("pinned", "workers=2 keep=1 sleep_us=20000");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(workers, scratch_make, scratch_remove),
        cmocka_unit_test_setup_teardown(launchers_are_equal, scratch_make, scratch_remove),
        cmocka_unit_test_setup_teardown(several_in_a_program, scratch_make, scratch_remove),
        cmocka_unit_test_setup_teardown(nothing_leaks, scratch_make, scratch_remove),
        cmocka_unit_test_setup_teardown(many_reports, scratch_make, scratch_remove),
        cmocka_unit_test_setup_teardown(strangers, scratch_make, scratch_remove),
        cmocka_unit_test_setup_teardown(written_behind, scratch_make, scratch_remove),
    };
    return cmocka_run_group_tests_name("trainer: fit", tests, NULL, NULL);
}
