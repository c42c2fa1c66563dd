#include "helpers.h"

#include "base/io.h"

#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static char directory[256], store[300], answer[512];

void helpers_assert_status(int got, int wanted, const char *call, const char *file, int line)
{
    if (got == wanted)
        return;
    print_error("%s: %s (%s), expected %s\n", call, cadre_status_name(got), cadre_error_message(),
                cadre_status_name(wanted));
    _fail(file, line);
}

const char *helpers_directory(void)
{
    const char *root = access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp";
    snprintf(directory, sizeof directory, "%s/cadre-tracking-XXXXXX", root);
    assert_non_null(mkdtemp(directory));
    snprintf(store, sizeof store, "%s/run/cadre.db", directory);
    return directory;
}

const char *helpers_store(void) { return store; }

void helpers_remove(void) { base_remove_tree(directory); }

static void ask(const char *path, const char *sql, int64_t *number)
{
    sqlite3 *db;
    sqlite3_stmt *statement;
    answer[0] = '\0';
    *number = -1;
    assert_int_equal(sqlite3_open_v2(path, &db, SQLITE_OPEN_READONLY, NULL), SQLITE_OK);
    sqlite3_db_config(db, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1, NULL);
    sqlite3_busy_timeout(db, 10000);
    if (sqlite3_prepare_v2(db, sql, -1, &statement, NULL) != SQLITE_OK)
        fail_msg("%s: %s", sql, sqlite3_errmsg(db));
    int rc = sqlite3_step(statement);
    if (rc == SQLITE_ROW) {
        const char *text = (const char *)sqlite3_column_text(statement, 0);
        snprintf(answer, sizeof answer, "%s", text ? text : "");
        *number = sqlite3_column_int64(statement, 0);
    } else if (rc != SQLITE_DONE)
        fail_msg("%s: %s", sql, sqlite3_errmsg(db));
    sqlite3_finalize(statement);
    sqlite3_close(db);
}

int64_t helpers_int(const char *path, const char *sql)
{
    int64_t number;
    ask(path, sql, &number);
    return number;
}

const char *helpers_text(const char *path, const char *sql)
{
    int64_t number;
    ask(path, sql, &number);
    return answer;
}

void helpers_check_integrity(const char *path)
{
    const char *said = helpers_text(path, "PRAGMA integrity_check");
    if (strcmp(said, "ok") != 0)
        fail_msg("%s: %s", path, said);
}
