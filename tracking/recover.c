/*
 * The two moments at which a store's file is not simply there: when it is made, and when its last writer was killed in the middle of a change.
 *
 * It is made under another name and renamed when it is whole, so that no reader ever finds one without its tables. What SQLite has to undo first
 * (a journal beside the file) only a connection that may write can undo; a reader that finds it so does it, as the store's owner for that moment.
 */
#include "base/clock.h"
#include "base/error.h"
#include "base/io.h"
#include "base/mem.h"
#include "tracking/internal.h"
#include "tracking/lock.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

/* Tables in a file that nobody else knows of: it needs no journal, and is synced once. */
static int fill(tracking_store *store, const char *path)
{
    int fd = -1;
    int status = base_open(path, O_RDWR | O_CREAT | O_EXCL, 0600, &fd); /* SQLite would make it readable to all */
    if (status != CADRE_OK)
        return base_wrap(status, "store %s", store->path);
    base_close(fd);
    int rc = sqlite3_open_v2(path, &store->db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_EXRESCODE, NULL);
    status = rc == SQLITE_OK ? tracking_exec(store, "PRAGMA journal_mode = OFF", NULL) : tracking_failed(store, rc, "make it");
    if (status == CADRE_OK)
        status = tracking_exec(store, "PRAGMA synchronous = OFF", NULL);
    if (status == CADRE_OK)
        status = tracking_schema_make(store);
    sqlite3_close_v2(store->db);
    store->db = NULL;
    if (status == CADRE_OK)
        status = base_open(path, O_RDONLY, 0, &fd);
    if (status != CADRE_OK)
        return status;
    status = base_fsync(fd, path);
    base_close(fd);
    return status == CADRE_OK ? status : base_wrap(status, "store %s", store->path);
}

/* A log or journal whose file is gone would be taken for the new file's. */
static int remove_beside(const tracking_store *store)
{
    static const char *const endings[] = {"-journal", "-wal", "-shm"};
    int status = CADRE_OK;
    for (size_t i = 0; status == CADRE_OK && i < sizeof endings / sizeof *endings; i++) {
        char *path = base_sprintf("%s%s", store->place, endings[i]);
        status = path ? base_remove_tree(path) : CADRE_ENOMEM;
        free(path);
    }
    return status;
}

int tracking_make_file(tracking_store *store, const char *directory)
{
    if (base_exists(store->place))
        return CADRE_OK; /* never opened here: closing it would drop the locks of this process's other connections */
    char *fresh = base_sprintf("%s.new", store->place);
    int status = fresh ? base_remove_tree(fresh) : CADRE_ENOMEM; /* of a writer that was killed at it */
    if (status == CADRE_OK) {
        status = fill(store, fresh);
        if (status == CADRE_OK)
            status = remove_beside(store);
        if (status == CADRE_OK)
            status = base_rename(fresh, store->place);
        if (status == CADRE_OK)
            status = base_fsync_dir(directory);
        if (status != CADRE_OK && base_exists(fresh))
            unlink(fresh);
    }
    free(fresh);
    return status;
}

bool tracking_needs_recovery(const tracking_store *store)
{
    return store->db && (sqlite3_errcode(store->db) & 0xff) == SQLITE_READONLY;
}

static int undo(tracking_store *store)
{
    sqlite3 *db = NULL;
    int rc = sqlite3_open_v2(store->place, &db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_EXRESCODE, NULL);
    if (rc == SQLITE_OK) {
        sqlite3_db_config(db, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1, NULL);
        sqlite3_busy_timeout(db, TRACKING_BUSY_MS); /* other readers look, too, before they see that they cannot read */
        rc = sqlite3_exec(db, "SELECT count(*) FROM sqlite_master", NULL, NULL, NULL);
    }
    int status = rc == SQLITE_OK ? CADRE_OK : base_error((rc & 0xff) == SQLITE_READONLY || (rc & 0xff) == SQLITE_CANTOPEN ? CADRE_EACCES : CADRE_EIO, "%s",
                                                         db ? sqlite3_errmsg(db) : sqlite3_errstr(rc));
    sqlite3_close_v2(db);
    return status;
}

int tracking_recover(tracking_store *store)
{
    int lock = -1;
    int status = tracking_lock_take(store->place, store->path, &lock);
    if (status == CADRE_EBUSY) { /* its next writer is at it */
        base_sleep_ns(INT64_C(100000000));
        return CADRE_OK;
    }
    if (status == CADRE_OK) {
        status = undo(store);
        tracking_lock_release(store->place, lock);
    }
    if (status == CADRE_OK)
        return status;
    char why[BASE_ERROR_MAX];
    snprintf(why, sizeof why, "%s", cadre_error_message());
    return base_error(status, "store %s: its run was killed in the middle of a change, which has to be undone first: read it as a user who may write there, or resume the run (%s)",
                      store->path, why);
}
