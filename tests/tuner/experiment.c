#include "experiment.h"

#include "base/io.h"

#include <sqlite3.h>
#include <unistd.h>

char folder[64];

int make_folder(void **state)
{
    (void)state;
    strcpy(folder, "/tmp/cadre-tuner-XXXXXX");
    return mkdtemp(folder) ? 0 : -1;
}

int remove_folder(void **state)
{
    (void)state;
    return base_remove_tree(folder);
}

static void check_sound(sqlite3 *db)
{
    sqlite3_stmt *statement;
    assert_int_equal(sqlite3_prepare_v2(db, "PRAGMA integrity_check", -1, &statement, NULL), SQLITE_OK);
    assert_int_equal(sqlite3_step(statement), SQLITE_ROW);
    assert_string_equal((const char *)sqlite3_column_text(statement, 0), "ok");
    sqlite3_finalize(statement);
}

const char *rows_of(const char *name, const char *query)
{
    static char text[65536];
    char path[160];
    size_t used = 0;
    snprintf(path, sizeof path, "%s/%s/cadre.db", folder, name);
    sqlite3 *db;
    sqlite3_stmt *statement;
    assert_int_equal(sqlite3_open_v2(path, &db, SQLITE_OPEN_READWRITE, NULL), SQLITE_OK); /* a killed writer's log is to be recovered */
    assert_int_equal(sqlite3_prepare_v2(db, query, -1, &statement, NULL), SQLITE_OK);
    text[0] = '\0';
    while (sqlite3_step(statement) == SQLITE_ROW && used < sizeof text) {
        const char *cell = (const char *)sqlite3_column_text(statement, 0);
        used += (size_t)snprintf(text + used, sizeof text - used, "%s%s", used ? "\n" : "", cell ? cell : "null");
    }
    sqlite3_finalize(statement);
    check_sound(db);
    sqlite3_close(db);
    return text;
}

const char *trials_of(const char *name)
{
    return rows_of(name, "SELECT t.number || ' ' || t.state || ' ' || ifnull(v.value, 'none') || ' ' || group_concat(p.param_name || '=' || p.param_value) "
                         "FROM trials t LEFT JOIN trial_values v USING (trial_id) JOIN (SELECT * FROM trial_params ORDER BY param_name) p USING (trial_id) "
                         "GROUP BY t.trial_id ORDER BY t.number");
}
