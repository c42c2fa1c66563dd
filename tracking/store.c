#include "tracking/store.h"

#include "base/error.h"
#include "base/io.h"
#include "base/log.h"
#include "base/mem.h"
#include "tracking/internal.h"
#include "tracking/lock.h"

#include <errno.h>
#include <libgen.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { READER_BUSY_MS = 5000, RECOVERY_TRIES = 30 };

/* The directory that `path` lies in, as a new string. */
static char *directory_of(const char *path)
{
    char *copy = base_strdup(path);
    char *directory = copy ? base_strdup(dirname(copy)) : NULL;
    free(copy);
    return directory;
}

/* Where the file really is, so that two names of one store meet at one lock. */
static int resolve(tracking_store *store, const char *directory)
{
    char *real = realpath(store->path, NULL);
    if (real) {
        store->place = real; /* the file is there, perhaps by a link */
        return CADRE_OK;
    }
    if (errno != ENOENT || !store->writer)
        return base_errno(errno, "store %s", store->path);
    real = realpath(directory, NULL);
    if (!real)
        return base_errno(errno, "store %s", store->path);
    const char *name = strrchr(store->path, '/');
    store->place = base_path_join(real, name ? name + 1 : store->path);
    free(real);
    return store->place ? CADRE_OK : CADRE_ENOMEM;
}

static int own_place(tracking_store *store)
{
    char *directory = directory_of(store->path);
    if (!directory)
        return CADRE_ENOMEM;
    int status = base_mkdirs(directory, 0700);
    if (status == CADRE_OK)
        status = resolve(store, directory);
    if (status == CADRE_OK) {
        free(directory); /* a link may have led elsewhere */
        directory = directory_of(store->place);
        if (!directory)
            status = CADRE_ENOMEM;
    }
    const char *network = status == CADRE_OK ? base_network_filesystem(directory) : NULL;
    if (network)
        status = base_error(CADRE_ENOTSUP,
                            "store %s is on a network file system (%s), where SQLite's locks do not hold: choose a "
                            "storage directory on a local disk",
                            store->path, network);
    if (status == CADRE_OK)
        status = tracking_lock_take(store->place, store->path, &store->lock);
    if (status == CADRE_OK)
        status = tracking_make_file(store, directory);
    free(directory);
    return status;
}

static int note_log_pages(void *user, sqlite3 *db, const char *name, int pages)
{
    (void)db;
    (void)name;
    ((tracking_store *)user)->log_pages = pages;
    return SQLITE_OK;
}

static int open_file(tracking_store *store)
{
    int flags = store->writer ? SQLITE_OPEN_READWRITE : SQLITE_OPEN_READONLY;
    int rc = sqlite3_open_v2(store->place, &store->db, flags | SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_EXRESCODE, NULL);
    if ((rc & 0xff) == SQLITE_CANTOPEN && access(store->place, store->writer ? R_OK | W_OK : R_OK) != 0) { /* SQLite does not say why */
        int why = errno;
        return base_errno(why, "store %s", store->path);
    }
    if (rc != SQLITE_OK)
        return tracking_failed(store, rc, "open");
    /* Only the owner folds the log into the file, and only when it means to: SQLite before 3.51.3 can damage the log
     * when two connections write or fold it at once. */
    sqlite3_db_config(store->db, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1, NULL);
    /* A file from elsewhere says what is in its tables and no more: a view in a table's place might never end. */
    sqlite3_db_config(store->db, SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0, NULL);
    sqlite3_db_config(store->db, SQLITE_DBCONFIG_ENABLE_VIEW, 0, NULL);
    sqlite3_db_config(store->db, SQLITE_DBCONFIG_ENABLE_TRIGGER, 0, NULL);
    sqlite3_wal_autocheckpoint(store->db, 0);
    sqlite3_wal_hook(store->db, note_log_pages, store);
    sqlite3_busy_timeout(store->db, store->writer ? TRACKING_BUSY_MS : READER_BUSY_MS);
    int status = tracking_exec(store, "PRAGMA mmap_size = 0", NULL);
    /* 16 MiB: the growing ends of many trials, and a group gathered while the disk was slow, without spilling. */
    return status == CADRE_OK ? tracking_exec(store, "PRAGMA cache_size = -16384", NULL) : status;
}

static int start_log(tracking_store *store)
{
    sqlite3_stmt *statement;
    char mode[16] = "";
    bool row;
    int status = tracking_walk(store, "PRAGMA journal_mode = WAL", NULL, 0, &statement);
    if (status != CADRE_OK)
        return status;
    status = tracking_step(store, statement, &row);
    if (row)
        tracking_column_text(statement, 0, mode, sizeof mode);
    sqlite3_finalize(statement);
    if (status == CADRE_OK && strcmp(mode, "wal") != 0)
        status = base_error(CADRE_ENOTSUP, "store %s: no write-ahead log can be kept there", store->path);
    if (status == CADRE_OK)
        status = tracking_exec(store, "PRAGMA synchronous = NORMAL", NULL);
    return status;
}

static void release(tracking_store *store)
{
    for (int i = 0; i < TRACKING_SQL_COUNT; i++)
        sqlite3_finalize(store->statements[i]);
    memset(store->statements, 0, sizeof store->statements);
    sqlite3_close_v2(store->db);
    if (store->lock >= 0)
        tracking_lock_release(store->place, store->lock);
    tracking_known_free(store);
    base_buffer_free(&store->journal);
    free(store->place);
    free(store->path);
    free(store);
}

/* Where it cannot be undone there is no connection afterwards, and so no next try. */
static int open_recovered(tracking_store *store)
{
    int status = tracking_recover(store);
    sqlite3_close_v2(store->db);
    store->db = NULL;
    if (status == CADRE_OK)
        status = open_file(store);
    return status == CADRE_OK ? tracking_schema_ready(store) : status;
}

static int open_store(const char *path, bool writer, tracking_store **out)
{
    if (!path || !*path || !out)
        return base_error(CADRE_EINVAL, "a store needs a path");
    tracking_store *store = base_calloc(1, sizeof *store);
    if (!store)
        return CADRE_ENOMEM;
    store->writer = writer;
    store->pid = getpid();
    store->lock = -1;
    store->path = base_strdup(path);
    int status = store->path ? CADRE_OK : CADRE_ENOMEM;
    if (status == CADRE_OK)
        status = writer ? own_place(store) : resolve(store, NULL);
    if (status == CADRE_OK)
        status = open_file(store);
    if (status == CADRE_OK)
        status = tracking_schema_ready(store);
    for (int tries = 0; status != CADRE_OK && !writer && tracking_needs_recovery(store) && tries < RECOVERY_TRIES; tries++)
        status = open_recovered(store);
    if (status == CADRE_OK && writer)
        status = start_log(store);
    if (status == CADRE_OK && writer)
        status = tracking_statement(store, TRACKING_SQL_ROLLBACK, &(sqlite3_stmt *){NULL});
    if (status == CADRE_OK && writer)
        status = tracking_known_open(store);
    if (status == CADRE_OK)
        *out = store;
    else
        release(store);
    return status;
}

int tracking_open(const char *path, tracking_store **out) { return open_store(path, true, out); }

int tracking_open_reader(const char *path, tracking_store **out) { return open_store(path, false, out); }

/*
 * At rest a store is one plain file without a log: it can be copied, read from a read-only medium, and opened by
 * readers that know nothing of logs. While a reader is in it that cannot be; then the log stays beside it, empty.
 */
static void put_to_rest(tracking_store *store)
{
    for (int i = 0; i < TRACKING_SQL_COUNT; i++) {
        sqlite3_finalize(store->statements[i]);
        store->statements[i] = NULL;
    }
    tracking_fold_log(store);
    sqlite3_exec(store->db, "PRAGMA synchronous = FULL; PRAGMA journal_mode = DELETE", NULL, NULL, NULL);
}

void tracking_close(tracking_store *store)
{
    if (!store)
        return;
    if (store->pid != getpid()) /* a child of fork: whatever it closed would let go of its parent's locks */
        return;
    if (store->writer) {
        if (tracking_commit(store, true) != CADRE_OK)
            base_log(CADRE_LOG_ERROR, "tracking", "closing loses what could not be committed: %s",
                     cadre_error_message());
        else
            put_to_rest(store);
    }
    release(store);
}
