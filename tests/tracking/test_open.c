/* Opening: who may, what is refused, what is left behind. */
#include "base/io.h"
#include "helpers.h"
#include "tracking/lock.h"

#include <fcntl.h>
#include <signal.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static int setup(void **state)
{
    (void)state;
    helpers_directory();
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    helpers_remove();
    return 0;
}

/* No network file system can be mounted in a test: the one who would know is asked here instead. */
static const char *pretended_filesystem;
const char *__wrap_base_network_filesystem(const char *path);
const char *__wrap_base_network_filesystem(const char *path)
{
    (void)path;
    return pretended_filesystem;
}

static unsigned mode_of(const char *path)
{
    struct stat info;
    assert_int_equal(stat(path, &info), 0);
    return info.st_mode & 0777;
}

static void test_new_store(void **state)
{
    (void)state;
    const char *path = helpers_store();
    char beside[400];
    tracking_store *store;
    mode_t before = umask(0); /* the modes do not depend on it */
    assert_ok(tracking_open(path, &store));
    int64_t experiment;
    assert_ok(tracking_experiment(store, "first", "loss", TRACKING_MINIMIZE, &experiment));
    assert_ok(tracking_commit(store, true));
    umask(before);
    assert_int_equal(mode_of(path), 0600);
    snprintf(beside, sizeof beside, "%s-wal", path);
    assert_int_equal(mode_of(beside), 0600);
    snprintf(beside, sizeof beside, "%s.lock", path);
    assert_int_equal(mode_of(beside), 0600);
    snprintf(beside, sizeof beside, "%.*s", (int)(strrchr(path, '/') - path), path);
    assert_int_equal(mode_of(beside), 0700);
    assert_int_equal(helpers_int(path,
                                 "SELECT count(*) FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'cadre_%' "
                                 "AND name NOT LIKE 'sqlite_%'"),
                     13);
    assert_int_equal(helpers_int(path, "SELECT count(*) FROM sqlite_master WHERE type = 'index' AND name LIKE 'ix_%'"),
                     2);
    assert_int_equal(helpers_int(path, "SELECT schema_version FROM version_info"), 12);
    assert_string_equal(helpers_text(path, "SELECT version_num FROM alembic_version"), "v3.2.0.a");
    assert_int_equal(helpers_int(path, "PRAGMA application_id"), 0x43616472);
    tracking_close(store);
    snprintf(beside, sizeof beside, "%s-wal", path);
    assert_false(base_exists(beside)); /* at rest: one plain file */
    snprintf(beside, sizeof beside, "%s.lock", path);
    assert_false(base_exists(beside));
    assert_string_equal(helpers_text(path, "PRAGMA journal_mode"), "delete");
    tracking_close(NULL);
}

static void test_one_owner(void **state)
{
    (void)state;
    tracking_store *store, *second = NULL;
    char owner[256], pid[32];
    assert_ok(tracking_open(helpers_store(), &store));
    assert_status(tracking_open(helpers_store(), &second), CADRE_EBUSY);
    assert_null(second);
    snprintf(pid, sizeof pid, "pid %d on ", (int)getpid());
    assert_non_null(strstr(cadre_error_message(), "is in use by"));
    assert_non_null(strstr(cadre_error_message(), pid));
    assert_non_null(strstr(cadre_error_message(), "since 20"));
    assert_true(tracking_lock_held(helpers_store(), owner, sizeof owner));
    assert_non_null(strstr(owner, pid));
    /* another name of the same file */
    char link_path[400];
    snprintf(link_path, sizeof link_path, "%.*s/other.db", (int)(strrchr(helpers_store(), '/') - helpers_store()),
             helpers_store());
    assert_int_equal(symlink("cadre.db", link_path), 0);
    assert_status(tracking_open(link_path, &second), CADRE_EBUSY);
    tracking_close(store);
    assert_false(tracking_lock_held(helpers_store(), owner, sizeof owner));
    assert_ok(tracking_open(link_path, &second));
    tracking_close(second);
}

static void test_dead_owner(void **state)
{
    (void)state;
    int ready[2];
    char byte;
    assert_int_equal(pipe(ready), 0);
    pid_t child = fork();
    if (child == 0) {
        tracking_store *store;
        if (tracking_open(helpers_store(), &store) != CADRE_OK || write(ready[1], "x", 1) != 1)
            _exit(1);
        pause();
    }
    assert_int_equal(read(ready[0], &byte, 1), 1);
    tracking_store *store;
    assert_status(tracking_open(helpers_store(), &store), CADRE_EBUSY);
    kill(child, SIGKILL);
    waitpid(child, NULL, 0);
    assert_ok(tracking_open(helpers_store(), &store)); /* the lock's file is still there, the lock is not */
    tracking_close(store);
    close(ready[0]);
    close(ready[1]);
}

static void test_child_of_fork(void **state)
{
    (void)state;
    tracking_store *store;
    int64_t experiment;
    int status;
    assert_ok(tracking_open(helpers_store(), &store));
    assert_ok(tracking_experiment(store, "first", NULL, TRACKING_MINIMIZE, &experiment));
    pid_t child = fork();
    if (child == 0) {
        bool refused = tracking_commit(store, true) == CADRE_ESTATE &&
                       tracking_event(store, experiment, 0, "x", NULL, NULL) == CADRE_ESTATE;
        tracking_close(store);
        _exit(refused ? 0 : 1);
    }
    waitpid(child, &status, 0);
    assert_int_equal(status, 0);
    tracking_store *second;
    assert_status(tracking_open(helpers_store(), &second), CADRE_EBUSY); /* the child's close let nothing go */
    assert_ok(tracking_commit(store, true));
    tracking_close(store);
    assert_int_equal(helpers_int(helpers_store(), "SELECT count(*) FROM studies"), 1);
}

static void put_file(const char *path, const void *bytes, size_t nbytes)
{
    FILE *file = fopen(path, "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(bytes, 1, nbytes, file), nbytes);
    assert_int_equal(fclose(file), 0);
}

static void expect_refusal(const char *path, int wanted, const char *words)
{
    base_buffer before = {0}, after = {0};
    tracking_store *store = NULL;
    assert_ok(base_read_file(path, 1 << 24, &before));
    assert_status(tracking_open(path, &store), wanted);
    assert_non_null(strstr(cadre_error_message(), path));
    if (!strstr(cadre_error_message(), words))
        fail_msg("\"%s\" does not say \"%s\"", cadre_error_message(), words);
    assert_status(tracking_open_reader(path, &store), wanted);
    assert_null(store);
    assert_ok(base_read_file(path, 1 << 24, &after));
    assert_int_equal(before.length, after.length);
    assert_memory_equal(before.data, after.data, before.length);
    base_buffer_free(&before);
    base_buffer_free(&after);
}

static void run_sql(const char *path, const char *sql)
{
    sqlite3 *db;
    assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
    if (sqlite3_exec(db, sql, NULL, NULL, NULL) != SQLITE_OK)
        fail_msg("%s: %s", sql, sqlite3_errmsg(db));
    sqlite3_close(db);
}

static void test_refusals(void **state)
{
    (void)state;
    char path[400];
    const char *directory = helpers_store();
    snprintf(path, sizeof path, "%.*s/x.db", (int)(strrchr(directory, '/') - directory) - 4, directory);
    put_file(path, "x", 1);
    expect_refusal(path, CADRE_ECORRUPT, "another program"); /* SQLite takes so short a file for an empty one */
    char noise[20000];
    for (size_t i = 0; i < sizeof noise; i++)
        noise[i] = (char)(i * 31 + i / 7);
    put_file(path, noise, sizeof noise);
    expect_refusal(path, CADRE_ECORRUPT, "not a database");
    unlink(path);
    run_sql(path, "CREATE TABLE t (a); INSERT INTO t VALUES (1)");
    expect_refusal(path, CADRE_ECORRUPT, "another program");
    unlink(path);

    tracking_store *store;
    assert_ok(tracking_open(path, &store));
    tracking_close(store);
    run_sql(path, "UPDATE alembic_version SET version_num = 'v9.9.9.a'");
    expect_refusal(path, CADRE_EVERSION, "v9.9.9.a");
    run_sql(path, "UPDATE alembic_version SET version_num = 'v3.2.0.a'; PRAGMA user_version = 7");
    expect_refusal(path, CADRE_EVERSION, "version 7");
    assert_non_null(strstr(cadre_error_message(), "up to version 1"));
    run_sql(path, "PRAGMA user_version = 0");
    expect_refusal(path, CADRE_ECORRUPT, "no version");

    assert_status(tracking_open("", &store), CADRE_EINVAL);
    assert_status(tracking_open_reader("/nonexistent/cadre.db", &store), CADRE_ENOENT);
}

/* A page in the middle of a store is overwritten: the quick check at the opening sees it. */
static void test_damage(void **state)
{
    (void)state;
    tracking_store *store = NULL;
    int64_t experiment, trial;
    assert_ok(tracking_open(helpers_store(), &store));
    assert_ok(tracking_experiment(store, "first", "loss", TRACKING_MINIMIZE, &experiment));
    assert_ok(tracking_trial_add(store, experiment, NULL, 0, 0, &trial, NULL));
    for (int i = 1; i <= 2000; i++)
        assert_ok(tracking_report(store, trial, 0, i, i, &(tracking_metric){"loss", i}, 1));
    tracking_close(store);
    int64_t root = helpers_int(helpers_store(), "SELECT rootpage FROM sqlite_master WHERE name = 'cadre_reports'");
    int fd = open(helpers_store(), O_WRONLY);
    char noise[4096];
    memset(noise, 0x5a, sizeof noise);
    assert_int_equal(pwrite(fd, noise, sizeof noise, (root - 1) * 4096), sizeof noise);
    close(fd);
    store = NULL;
    assert_status(tracking_open(helpers_store(), &store), CADRE_ECORRUPT);
    assert_null(store);
    assert_false(tracking_lock_held(helpers_store(), NULL, 0));
}

static void test_network_filesystem(void **state)
{
    (void)state;
    tracking_store *store;
    pretended_filesystem = "nfs";
    assert_status(tracking_open(helpers_store(), &store), CADRE_ENOTSUP);
    pretended_filesystem = NULL;
    assert_non_null(strstr(cadre_error_message(), "(nfs)"));
    assert_false(base_exists(helpers_store()));
}

static void test_permissions(void **state)
{
    (void)state;
    if (geteuid() == 0)
        skip(); /* root may do anything */
    tracking_store *store;
    char directory[300];
    snprintf(directory, sizeof directory, "%.*s", (int)(strrchr(helpers_store(), '/') - helpers_store()),
             helpers_store());
    assert_int_equal(mkdir(directory, 0500), 0);
    assert_status(tracking_open(helpers_store(), &store), CADRE_EACCES);
}

static void test_reader_and_writer(void **state)
{
    (void)state;
    const char *path = helpers_store();
    char beside[400];
    tracking_store *store, *reader = NULL;
    int64_t experiment, found;
    assert_ok(tracking_open(path, &store));
    assert_ok(tracking_open_reader(path, &reader));
    assert_ok(tracking_experiment(store, "first", NULL, TRACKING_MINIMIZE, &experiment));
    assert_ok(tracking_find_experiment(store, "first", &found)); /* its own gathered writes */
    assert_status(tracking_find_experiment(reader, "first", &found), CADRE_ENOENT);
    assert_ok(tracking_commit(store, false));
    assert_ok(tracking_find_experiment(reader, "first", &found));
    assert_int_equal(found, experiment);
    assert_status(tracking_experiment(reader, "second", NULL, TRACKING_MINIMIZE, &found), CADRE_ESTATE);
    assert_status(tracking_commit(reader, true), CADRE_ESTATE);
    tracking_close(store); /* the reader keeps the log from going away, nothing else */
    assert_ok(tracking_find_experiment(reader, "first", &found));
    tracking_close(reader);
    assert_ok(tracking_open(path, &store));
    assert_ok(tracking_find_experiment(store, "first", &found));
    tracking_close(store);
    snprintf(beside, sizeof beside, "%s-wal", path);
    assert_false(base_exists(beside));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_new_store, setup, teardown),
        cmocka_unit_test_setup_teardown(test_one_owner, setup, teardown),
        cmocka_unit_test_setup_teardown(test_dead_owner, setup, teardown),
        cmocka_unit_test_setup_teardown(test_child_of_fork, setup, teardown),
        cmocka_unit_test_setup_teardown(test_refusals, setup, teardown),
        cmocka_unit_test_setup_teardown(test_damage, setup, teardown),
        cmocka_unit_test_setup_teardown(test_network_filesystem, setup, teardown),
        cmocka_unit_test_setup_teardown(test_permissions, setup, teardown),
        cmocka_unit_test_setup_teardown(test_reader_and_writer, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
