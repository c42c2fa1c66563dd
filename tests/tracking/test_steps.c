/*
 * A writer is killed at each single step in turn (each change on disk, SQLite's and ours), from the making of the store to its closing. After each, a
 * reader that comes before any writer finds a whole store or none, with what was acknowledged; and the next writer brings the run to its end.
 */
#include "base/fault.h"
#include "base/io.h"
#include "fault_vfs.h"
#include "helpers.h"

#include <fcntl.h>
#include <signal.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

enum { REPORTS = 4 };

/* A run to its end, from wherever it is; tells after each durable commit how many reports that answered for. */
static int go(const char *path, int out)
{
    tracking_store *store;
    tracking_trial trial = {0};
    int64_t experiment, number;
    if (tracking_open(path, &store) != CADRE_OK || tracking_experiment(store, "steps", "loss", TRACKING_MINIMIZE, &experiment) != CADRE_OK)
        return 1;
    int status = tracking_last_trial(store, experiment, &trial);
    if (status == CADRE_ENOENT)
        status = tracking_trial_add(store, experiment, NULL, 0, 0, &trial.id, &number);
    for (int64_t report = trial.last_report + 1; status == CADRE_OK && report <= REPORTS; report++) {
        status = tracking_report(store, trial.id, 0, report, report, &(tracking_metric){"loss", 1}, 1);
        if (status == CADRE_OK)
            status = tracking_commit(store, true);
        if (status == CADRE_OK && write(out, &report, sizeof report) != sizeof report)
            return 2;
    }
    tracking_close(store);
    return status == CADRE_OK ? 0 : 3;
}

/* Runs it in a process that dies at the nth change (of SQLite's) or at the fault point. Whether it did. */
static bool go_and_die(const char *path, long nth, const char *spec, int64_t *acknowledged)
{
    int channel[2], status;
    int64_t report;
    assert_int_equal(pipe(channel), 0);
    pid_t child = fork();
    if (child == 0) {
        fault_vfs_arm(nth, FAULT_VFS_KILL, false);
        base_fault_set(spec);
        _exit(go(path, channel[1]));
    }
    close(channel[1]);
    waitpid(child, &status, 0);
    *acknowledged = 0;
    while (read(channel[0], &report, sizeof report) == sizeof report)
        *acknowledged = report;
    close(channel[0]);
    if (WIFEXITED(status) && WEXITSTATUS(status) != 0)
        fail_msg("step %ld %s: the run ended with %d", nth, spec ? spec : "", WEXITSTATUS(status));
    return WIFSIGNALED(status);
}

static void check_after(const char *path, int64_t acknowledged)
{
    tracking_store *store = NULL;
    int64_t experiment;
    if (base_exists(path)) { /* there, it is whole: a reader that is the first to come can read it */
        assert_ok(tracking_open_reader(path, &store));
        int status = tracking_find_experiment(store, "steps", &experiment);
        assert_true(status == CADRE_OK || (status == CADRE_ENOENT && acknowledged == 0));
        tracking_close(store);
        helpers_check_integrity(path);
        assert_true(helpers_int(path, "SELECT count(*) FROM cadre_reports") >= acknowledged);
    } else {
        assert_int_equal(acknowledged, 0);
        assert_status(tracking_open_reader(path, &store), CADRE_ENOENT);
    }
    assert_int_equal(go(path, open("/dev/null", O_WRONLY | O_CLOEXEC)), 0);
    assert_int_equal(helpers_int(path, "SELECT count(*) FROM cadre_reports"), REPORTS);
    assert_int_equal(helpers_int(path, "SELECT max(report) FROM cadre_reports"), REPORTS);
    assert_int_equal(helpers_int(path, "SELECT count(*) FROM trials"), 1);
    static const char *const endings[] = {".new", "-journal", "-wal", ".lock"};
    for (size_t i = 0; i < sizeof endings / sizeof *endings; i++) {
        char beside[400];
        snprintf(beside, sizeof beside, "%s%s", path, endings[i]);
        assert_false(base_exists(beside));
    }
}

static void each_change_of_sqlites(void **state)
{
    (void)state;
    long nth = 1;
    for (bool died = true; died; nth++) {
        int64_t acknowledged;
        helpers_directory();
        died = go_and_die(helpers_store(), nth, NULL, &acknowledged);
        check_after(helpers_store(), acknowledged);
        helpers_remove();
    }
    print_message("killed at each of %ld changes\n", nth - 2);
    assert_true(nth > 20);
}

static void each_change_of_ours(void **state)
{
    (void)state;
    static const char *const points[] = {"open", "fsync", "rename", "mkdir", "commit", "committed"};
    for (size_t i = 0; i < sizeof points / sizeof *points; i++) {
        int n = 1;
        for (bool died = true; died; n++) {
            char spec[32];
            int64_t acknowledged;
            helpers_directory();
            snprintf(spec, sizeof spec, "%s:%d:kill", points[i], n);
            died = go_and_die(helpers_store(), 0, spec, &acknowledged);
            check_after(helpers_store(), acknowledged);
            helpers_remove();
        }
        assert_true(n > 2);
    }
}

/* ---- a file whose change was never ended, as an older version's making of the tables in place could leave it ---- */

/* Dies at the nth change while it writes tables by a journal beside the file. */
static bool change_and_die(const char *path, long nth)
{
    int status;
    pid_t child = fork();
    if (child == 0) {
        sqlite3 *db;
        fault_vfs_arm(nth, FAULT_VFS_KILL, false);
        if (sqlite3_open(path, &db) != SQLITE_OK || sqlite3_exec(db, "BEGIN; CREATE TABLE a (b); INSERT INTO a VALUES (zeroblob(9000)); COMMIT", NULL, NULL, NULL) != SQLITE_OK)
            _exit(1);
        _exit(0);
    }
    waitpid(child, &status, 0);
    assert_true(WIFSIGNALED(status) || WEXITSTATUS(status) == 0);
    return WIFSIGNALED(status);
}

/* Killed over a store, and over nothing: the reader undoes it, and finds what was there before. */
static void a_reader_undoes(void **state)
{
    (void)state;
    for (int there = 0; there < 2; there++) {
        long nth = 1;
        for (bool died = true; died; nth++) {
            tracking_store *store = NULL;
            int64_t acknowledged;
            helpers_directory();
            const char *path = helpers_store();
            if (there)
                assert_false(go_and_die(path, 0, NULL, &acknowledged));
            char directory[400];
            snprintf(directory, sizeof directory, "%.*s", (int)(strrchr(path, '/') - path), path);
            assert_ok(base_mkdirs(directory, 0700));
            died = change_and_die(path, nth);
            int status = tracking_open_reader(path, &store);
            if (there)
                assert_ok(status);
            else if (died && base_exists(path) && status != CADRE_ENOENT && status != CADRE_ECORRUPT)
                fail_msg("%s: %s", cadre_status_name(status), cadre_error_message());
            if (there)
                tracking_close(store);
            helpers_remove();
        }
        assert_true(nth > 5);
    }
}

/* A user who may read and nothing else: CADRE_OK where there is nothing to be undone, else told what to do. */
static int read_as_stranger(const char *path)
{
    int status;
    pid_t child = fork();
    if (child == 0) {
        tracking_store *store;
        if (setgid(65534) != 0 || setuid(65534) != 0)
            _exit(2);
        int opened = tracking_open_reader(path, &store);
        bool told = opened == CADRE_EACCES && strstr(cadre_error_message(), "or resume the run");
        if (opened != CADRE_OK && !told)
            print_error("%s: %s\n", cadre_status_name(opened), cadre_error_message());
        _exit(opened == CADRE_OK ? 0 : told ? 1 : 2);
    }
    waitpid(child, &status, 0);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) < 2);
    return WEXITSTATUS(status);
}

static void a_stranger_is_told(void **state)
{
    (void)state;
    int told = 0;
    if (geteuid() != 0)
        skip();
    bool died = true;
    for (long nth = 1; died; nth++) {
        int64_t acknowledged;
        tracking_store *store = NULL;
        char directory[400], journal[400];
        snprintf(directory, sizeof directory, "%s", helpers_directory());
        const char *path = helpers_store();
        assert_false(go_and_die(path, 0, NULL, &acknowledged));
        died = change_and_die(path, nth);
        snprintf(journal, sizeof journal, "%s-journal", path);
        assert_int_equal(chmod(directory, 0755) | chmod(path, 0644), 0);
        snprintf(directory, sizeof directory, "%.*s", (int)(strrchr(path, '/') - path), path);
        assert_int_equal(chmod(directory, 0755), 0);
        if (base_exists(journal))
            assert_int_equal(chmod(journal, 0644), 0);
        told += read_as_stranger(path);
        assert_ok(tracking_open_reader(path, &store));
        tracking_close(store);
        assert_int_equal(read_as_stranger(path), 0); /* it is undone */
        helpers_remove();
    }
    assert_true(told > 0);
}

int main(void)
{
    fault_vfs_install();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_change_of_sqlites),
        cmocka_unit_test(each_change_of_ours),
        cmocka_unit_test(a_reader_undoes),
        cmocka_unit_test(a_stranger_is_told),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
