#include "base/error.h"
#include "tracking/internal.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>

static const char *const texts[] = {
#define TRACKING_SQL_TEXT(name, text) text,
    TRACKING_SQL_MAP(TRACKING_SQL_TEXT)
#undef TRACKING_SQL_TEXT
};

/* The errno behind an I/O error tells a full disk from a broken one; SQLite keeps it where it knows it. */
static int status_of_errno(sqlite3 *db, int fallback)
{
    int errnum = db ? sqlite3_system_errno(db) : 0;
    int status = errnum ? base_status_of_errno(errnum) : fallback;
    return status == CADRE_ESYSTEM || status == CADRE_OK ? fallback : status;
}

static int status_of(sqlite3 *db, int rc)
{
    if (rc == SQLITE_IOERR_NOMEM)
        return CADRE_ENOMEM;
    switch (rc & 0xff) {
    case SQLITE_NOMEM:
        return CADRE_ENOMEM;
    case SQLITE_FULL:
        return CADRE_ENOSPC;
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
        return CADRE_EBUSY;
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB:
    case SQLITE_CONSTRAINT: /* our statements keep to the constraints: somebody else wrote */
    case SQLITE_ERROR:      /* a table or column is missing */
    case SQLITE_SCHEMA:
        return CADRE_ECORRUPT;
    case SQLITE_READONLY:
    case SQLITE_PERM:
    case SQLITE_AUTH:
        return CADRE_EACCES;
    case SQLITE_CANTOPEN:
        return status_of_errno(db, CADRE_EACCES);
    case SQLITE_TOOBIG:
        return CADRE_EINVAL;
    default:
        return status_of_errno(db, CADRE_EIO);
    }
}

int tracking_failed(tracking_store *store, int rc, const char *doing)
{
    const char *detail = store->db ? sqlite3_errmsg(store->db) : sqlite3_errstr(rc);
    return base_error(status_of(store->db, rc), "store %s: %s: %s", store->path, doing, detail);
}

int tracking_statement(tracking_store *store, tracking_sql sql, sqlite3_stmt **out)
{
    sqlite3_stmt **kept = &store->statements[sql];
    if (*kept)
        sqlite3_reset(*kept);
    else {
        int rc = sqlite3_prepare_v3(store->db, texts[sql], -1, SQLITE_PREPARE_PERSISTENT, kept, NULL);
        if (rc != SQLITE_OK)
            return tracking_failed(store, rc, "prepare a statement");
    }
    *out = *kept;
    return CADRE_OK;
}

int tracking_bind(tracking_store *store, sqlite3_stmt *statement, const tracking_arg *args, int count)
{
    int rc = SQLITE_OK;
    for (int i = 0; rc == SQLITE_OK && i < count; i++)
        switch (args[i].kind) {
        case TRACKING_INT:
            rc = sqlite3_bind_int64(statement, i + 1, args[i].as.integer);
            break;
        case TRACKING_REAL:
            rc = isnan(args[i].as.real) ? sqlite3_bind_null(statement, i + 1)
                                        : sqlite3_bind_double(statement, i + 1, args[i].as.real);
            break;
        default:
            rc = sqlite3_bind_text(statement, i + 1, args[i].as.text, -1, SQLITE_STATIC);
        }
    return rc == SQLITE_OK ? CADRE_OK : tracking_failed(store, rc, "bind a value");
}

int tracking_step(tracking_store *store, sqlite3_stmt *statement, bool *row)
{
    int rc = sqlite3_step(statement);
    *row = rc == SQLITE_ROW;
    if (*row)
        return CADRE_OK;
    int status = rc == SQLITE_DONE ? CADRE_OK : tracking_failed(store, rc, "read");
    sqlite3_reset(statement);
    return status;
}

static int ready_to_read(tracking_store *store) { return store->writer ? tracking_apply(store) : CADRE_OK; }

int tracking_query(tracking_store *store, tracking_sql sql, const tracking_arg *args, int count, sqlite3_stmt **out)
{
    int status = ready_to_read(store);
    if (status == CADRE_OK)
        status = tracking_statement(store, sql, out);
    if (status == CADRE_OK)
        status = tracking_bind(store, *out, args, count);
    return status;
}

int tracking_walk(tracking_store *store, const char *text, const tracking_arg *args, int count, sqlite3_stmt **out)
{
    sqlite3_stmt *statement = NULL;
    int status = ready_to_read(store);
    if (status != CADRE_OK)
        return status;
    int rc = sqlite3_prepare_v2(store->db, text, -1, &statement, NULL);
    if (rc != SQLITE_OK)
        return tracking_failed(store, rc, "prepare a statement");
    status = tracking_bind(store, statement, args, count);
    if (status != CADRE_OK)
        sqlite3_finalize(statement);
    else
        *out = statement;
    return status;
}

int tracking_exec(tracking_store *store, const char *text, int64_t *value)
{
    sqlite3_stmt *statement = NULL;
    int rc = sqlite3_prepare_v2(store->db, text, -1, &statement, NULL);
    if (rc == SQLITE_OK) {
        rc = sqlite3_step(statement);
        if (rc == SQLITE_ROW && value)
            *value = sqlite3_column_int64(statement, 0);
    }
    int status = rc == SQLITE_ROW || rc == SQLITE_DONE ? CADRE_OK : tracking_failed(store, rc, text);
    sqlite3_finalize(statement);
    return status;
}

void tracking_column_text(sqlite3_stmt *statement, int column, char *field, size_t nbytes)
{
    const char *text = (const char *)sqlite3_column_text(statement, column);
    snprintf(field, nbytes, "%s", text ? text : "");
}

int64_t tracking_column_count(sqlite3_stmt *statement, int column)
{
    int64_t value = sqlite3_column_int64(statement, column);
    return value < 0 ? -1 : value > TRACKING_COUNT_MAX ? TRACKING_COUNT_MAX : value;
}
