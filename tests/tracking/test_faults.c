/*
 * Everything that can fail does, one after the other: the nth allocation (ours and SQLite's), the nth change on disk.
 * Each time the run is brought to its end, trying again what failed. Then the store must be whole, what was said to be
 * committed must be there, and nothing twice.
 */
#include "base/error.h"
#include "base/fault.h"
#include "base/io.h"
#include "fault_vfs.h"
#include "helpers.h"

#include <sched.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

enum { REPORTS = 6 };

/* ---- the nth allocation, SQLite's too ---- */

static long allocations; /* passages of the point "alloc" since it was set */

int __real_base_fault_hit(const char *point);
int __wrap_base_fault_hit(const char *point);
int __wrap_base_fault_hit(const char *point)
{
    allocations += strcmp(point, "alloc") == 0;
    return __real_base_fault_hit(point);
}

static sqlite3_mem_methods plain;
static void *failing_malloc(int nbytes) { return BASE_FAULT("alloc") ? NULL : plain.xMalloc(nbytes); }
static void *failing_realloc(void *old, int nbytes) { return BASE_FAULT("alloc") ? NULL : plain.xRealloc(old, nbytes); }

static void hook_allocations(void)
{
    sqlite3_config(SQLITE_CONFIG_GETMALLOC, &plain);
    sqlite3_mem_methods failing = plain;
    failing.xMalloc = failing_malloc;
    failing.xRealloc = failing_realloc;
    sqlite3_config(SQLITE_CONFIG_MALLOC, &failing);
}

/* ---- a run in which every call is tried again when it fails ---- */

struct run {
    tracking_store *store;
    int tries; /* of each call */
    int failures;
    int expected, or_expected; /* what a failure may be */
    int64_t experiment, trial, sequence;
    int acknowledged; /* reports that a commit answered for */
};

#define TRY(run, call)                                                                                                 \
    do {                                                                                                               \
        int status_ = CADRE_OK;                                                                                        \
        for (int left_ = (run)->tries; left_ > 0; left_--) {                                                           \
            status_ = (call);                                                                                          \
            if (status_ == CADRE_OK)                                                                                   \
                break;                                                                                                 \
            note_failure((run), status_, #call);                                                                       \
        }                                                                                                              \
        if (status_ != CADRE_OK)                                                                                       \
            return status_;                                                                                            \
    } while (0)

static void note_failure(struct run *run, int status, const char *call)
{
    run->failures++;
    if (status != run->expected && status != run->or_expected)
        fail_msg("%s: %s: %s", call, cadre_status_name(status), cadre_error_message());
    if (!strstr(cadre_error_message(), "store ") && status != CADRE_ENOMEM)
        fail_msg("%s: \"%s\" names no store", call, cadre_error_message());
}

static int go(struct run *run, const char *path)
{
    const tracking_param params[] = {{"lr", NULL, 0, "0.1"}, {"optimizer", NULL, 0, "\"sgd\""}};
    int64_t number;
    TRY(run, tracking_open(path, &run->store));
    TRY(run, tracking_experiment(run->store, "faults", "loss", TRACKING_MINIMIZE, &run->experiment));
    TRY(run, tracking_trial_add(run->store, run->experiment, params, 2, 0, &run->trial, &number));
    TRY(run, tracking_attempt_begin(run->store, run->trial, 0, 2, "fork", "shm", 0, 0));
    for (int i = 1; i <= REPORTS; i++) {
        char name[16]; /* every report brings a new name, too */
        snprintf(name, sizeof name, "m%d", i);
        tracking_metric metrics[] = {{"loss", 1.0 / i}, {name, i}};
        TRY(run, tracking_report(run->store, run->trial, 0, i, i, metrics, 2));
        TRY(run, tracking_event(run->store, run->experiment, run->trial, "report", "{}", &run->sequence));
        if (i % 2 == 0) {
            TRY(run, tracking_commit(run->store, i % 4 == 0));
            run->acknowledged = i;
        }
    }
    tracking_checkpoint checkpoint = {.report = REPORTS, .path = "0/checkpoint-1", .has_score = true, .score = 1};
    tracking_checkpoint *list = NULL;
    int count = 0;
    TRY(run, tracking_checkpoint_add(run->store, run->trial, &checkpoint));
    TRY(run, tracking_checkpoints(run->store, run->trial, &list, &count));
    free(list);
    TRY(run, tracking_attempt_end(run->store, run->trial, 0, "finished", -1, NULL, 0, 0, NULL));
    TRY(run, tracking_trial_finish(run->store, run->trial, TRACKING_COMPLETE, true, 0.5, ""));
    TRY(run, tracking_commit(run->store, true));
    return CADRE_OK;
}

/* Whatever stands in the file must be whole, with at least what was acknowledged. */
static void check(const struct run *run, const char *path, bool complete)
{
    tracking_store *store;
    assert_ok(tracking_open(path, &store));
    tracking_close(store);
    helpers_check_integrity(path);
    int64_t reports = helpers_int(path, "SELECT count(*) FROM cadre_reports");
    assert_true(reports >= run->acknowledged);
    assert_int_equal(helpers_int(path, "SELECT coalesce(max(report), 0) FROM cadre_reports"), reports);
    assert_int_equal(helpers_int(path, "SELECT count(*) FROM cadre_metrics"), 2 * reports);
    assert_int_equal(helpers_int(path, "SELECT count(*) FROM trial_intermediate_values"), reports);
    assert_int_equal(helpers_int(path, "SELECT count(*) FROM cadre_metrics JOIN cadre_names USING (name_id)"),
                     2 * reports);
    if (!complete)
        return;
    assert_int_equal(reports, REPORTS);
    assert_int_equal(helpers_int(path, "SELECT max(sequence) FROM cadre_events"), REPORTS);
    assert_int_equal(helpers_int(path, "SELECT count(*) FROM trial_params"), 2);
    assert_int_equal(helpers_int(path, "SELECT count(*) FROM trials WHERE state = 'COMPLETE'"), 1);
    assert_int_equal(helpers_int(path, "SELECT count(*) FROM cadre_checkpoints"), 1);
    assert_int_equal(helpers_int(path, "SELECT count(*) FROM cadre_attempts WHERE cause = 'finished'"), 1);
}

/* Most of the thousands of allocations are SQLite's own: every 7th does for a daily run. */
static long stride(void)
{
    const char *text = getenv("CADRE_FAULT_STRIDE");
    return text && atol(text) > 0 ? atol(text) : 7;
}

/* The nth allocation fails: once (and all is well at the second try), or from then on. */
static void allocations_fail(bool from_then)
{
    char spec[64];
    long n = 1, passed = 1, step = stride();
    for (; n <= passed; n += step) {
        helpers_directory();
        struct run run = {.tries = from_then ? 1 : 2, .expected = CADRE_ENOMEM, .or_expected = CADRE_ENOMEM};
        snprintf(spec, sizeof spec, "alloc:%ld%s:oom", n, from_then ? "+" : "");
        allocations = 0;
        base_fault_set(spec);
        int status = go(&run, helpers_store());
        tracking_close(run.store);
        base_fault_set(NULL);
        passed = n == 1 && !from_then ? allocations : passed; /* of the run that hardly failed */
        passed = from_then && status != CADRE_OK ? n + step : passed;
        if (!from_then)
            assert_int_equal(status, CADRE_OK);
        if (run.failures > 1 && !from_then)
            fail_msg("allocation %ld failed once, %d calls did", n, run.failures);
        if (base_exists(helpers_store()))
            check(&run, helpers_store(), status == CADRE_OK);
        helpers_remove();
    }
    print_message("%ld allocations failed, every %ldth\n", n - step, step);
}

static void test_allocation_once(void **state)
{
    (void)state;
    allocations_fail(false);
}

static void test_allocation_from_then(void **state)
{
    (void)state;
    allocations_fail(true);
}

/* The nth change on disk fails. After one failure everything succeeds at the second try; on a disk that stays full or
 * broken the run ends with that error, and what was acknowledged is there when the disk is well again. */
static void disk_fails(int rc, int expected, bool from_then)
{
    long n = 1, passed = 1;
    for (; n <= passed; n++) {
        helpers_directory();
        struct run run = {.tries = from_then ? 1 : 2, .expected = expected, .or_expected = expected};
        fault_vfs_arm(n, rc, from_then);
        int status = go(&run, helpers_store());
        tracking_close(run.store);
        passed = from_then && status != CADRE_OK ? n + 1 : from_then ? passed : fault_vfs_passed();
        fault_vfs_arm(0, 0, false);
        if (!from_then)
            assert_int_equal(status, CADRE_OK);
        check(&run, helpers_store(), status == CADRE_OK);
        helpers_remove();
    }
    print_message("%ld changes on disk failed\n", n - 1);
}

static void test_disk_full_once(void **state)
{
    (void)state;
    disk_fails(SQLITE_FULL, CADRE_ENOSPC, false);
}

static void test_disk_full_from_then(void **state)
{
    (void)state;
    disk_fails(SQLITE_FULL, CADRE_ENOSPC, true);
}

static void test_disk_broken_once(void **state)
{
    (void)state;
    disk_fails(SQLITE_IOERR_WRITE, CADRE_EIO, false);
}

static void test_disk_broken_from_then(void **state)
{
    (void)state;
    disk_fails(SQLITE_IOERR_FSYNC, CADRE_EIO, true);
}

/* While commits fail, writes gather up to a limit and are refused then; nothing of what was taken is lost. */
static void test_bounded(void **state)
{
    (void)state;
    helpers_directory();
    tracking_store *store;
    int64_t experiment, trial;
    int64_t taken = 0;
    int status = CADRE_OK;
    assert_ok(tracking_open(helpers_store(), &store));
    assert_ok(tracking_experiment(store, "first", "loss", TRACKING_MINIMIZE, &experiment));
    assert_ok(tracking_trial_add(store, experiment, NULL, 0, 0, &trial, NULL));
    fault_vfs_arm(1, SQLITE_FULL, true);
    assert_status(tracking_commit(store, true), CADRE_ENOSPC);
    while (status == CADRE_OK) {
        status = tracking_report(store, trial, 0, taken + 1, taken + 1, &(tracking_metric){"loss", 1}, 1);
        taken += status == CADRE_OK;
    }
    assert_int_equal(status, CADRE_ENOSPC);
    assert_non_null(strstr(cadre_error_message(), "wait to be committed"));
    fault_vfs_arm(0, 0, false);
    assert_ok(tracking_commit(store, true));
    assert_ok(tracking_report(store, trial, 0, taken + 1, taken + 1, &(tracking_metric){"loss", 1}, 1));
    tracking_close(store);
    assert_int_equal(helpers_int(helpers_store(), "SELECT count(*) FROM cadre_reports"), taken + 1);
    helpers_remove();
}

/* ---- a disk that is really full ---- */

static void fill(const char *path, size_t nbytes)
{
    FILE *file = fopen(path, "wb");
    for (size_t i = 0; file && i < nbytes / 4096; i++)
        if (fwrite(path, 1, 1, file) != 1 || fseek(file, 4095, SEEK_CUR) != 0)
            break;
    if (file)
        fclose(file);
}

static bool write_text(const char *path, const char *text)
{
    FILE *file = fopen(path, "w");
    bool written = file && fputs(text, file) >= 0;
    return file && fclose(file) == 0 && written;
}

/* In a user name space, in which this user is root, and a mount name space. */
static bool become_root_of_own(void)
{
    char users[64], groups[64];
    snprintf(users, sizeof users, "0 %u 1", (unsigned)geteuid());
    snprintf(groups, sizeof groups, "0 %u 1", (unsigned)getegid());
    return unshare(CLONE_NEWUSER | CLONE_NEWNS) == 0 && write_text("/proc/self/setgroups", "deny") &&
           write_text("/proc/self/uid_map", users) && write_text("/proc/self/gid_map", groups);
}

/* In a name space of its own, so that the mount goes with the process. Answers 77 when that cannot be had. */
static int on_small_disk(const char *mount_point)
{
    char path[400], ballast[400];
    tracking_store *store;
    int64_t experiment, trial, last = 0, acknowledged = 0;
    int status = CADRE_OK;
    if (unshare(CLONE_NEWNS) != 0 && !become_root_of_own())
        return 77;
    if (mount("none", "/", "", MS_REC | MS_PRIVATE, NULL) != 0 ||
        mount("none", mount_point, "tmpfs", 0, "size=2m") != 0)
        return 77;
    snprintf(path, sizeof path, "%s/run/cadre.db", mount_point);
    snprintf(ballast, sizeof ballast, "%s/ballast", mount_point);
    fill(ballast, 1 << 20);
    if (tracking_open(path, &store) != CADRE_OK ||
        tracking_experiment(store, "full", "loss", TRACKING_MINIMIZE, &experiment) != CADRE_OK ||
        tracking_trial_add(store, experiment, NULL, 0, 0, &trial, NULL) != CADRE_OK)
        return print_error("%s\n", cadre_error_message()), 1;
    while (status == CADRE_OK && last < 1000000) {
        last++;
        if (tracking_report(store, trial, 0, last, last, &(tracking_metric){"loss", 1}, 1) != CADRE_OK)
            return 2;
        if (last % 50 == 0) {
            status = tracking_commit(store, true);
            acknowledged = status == CADRE_OK ? last : acknowledged;
        }
    }
    if (status != CADRE_ENOSPC)
        return print_error("%s\n", cadre_error_message()), 3;
    for (int i = 0; i < 3; i++)
        if (tracking_commit(store, true) != CADRE_ENOSPC)
            return 4;
    unlink(ballast);
    if (tracking_commit(store, true) != CADRE_OK)
        return print_error("%s\n", cadre_error_message()), 5;
    tracking_close(store);
    helpers_check_integrity(path);
    return helpers_int(path, "SELECT count(*) FROM cadre_reports") == last ? 0 : 6;
}

static void test_small_disk(void **state)
{
    (void)state;
    int status;
    const char *directory = helpers_directory();
    pid_t child = fork();
    if (child == 0)
        _exit(on_small_disk(directory));
    waitpid(child, &status, 0);
    helpers_remove();
    if (WIFEXITED(status) && WEXITSTATUS(status) == 77)
        skip();
    assert_int_equal(status, 0);
}

int main(void)
{
    hook_allocations();
    fault_vfs_install();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_allocation_once),  cmocka_unit_test(test_allocation_from_then),
        cmocka_unit_test(test_disk_full_once),   cmocka_unit_test(test_disk_full_from_then),
        cmocka_unit_test(test_disk_broken_once), cmocka_unit_test(test_disk_broken_from_then),
        cmocka_unit_test(test_bounded),          cmocka_unit_test(test_small_disk),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
