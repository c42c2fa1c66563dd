#include "edit.h"

#include <ctype.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum { EDITS = 12, TABLES = 40, COLUMNS = 16 };

struct table {
    char name[48];
    char key[96]; /* "a, b" */
    char columns[COLUMNS][48];
    int count;
};

static struct table tables[TABLES];
static int table_count;

/* All tables, with what tells their rows apart. Once: every template has the same. */
static void learn(sqlite3 *db)
{
    sqlite3_stmt *list, *info;
    if (table_count)
        return;
    must(sqlite3_prepare_v2(db, "SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name", -1, &list, NULL) == SQLITE_OK);
    must(sqlite3_prepare_v2(db, "SELECT name, pk FROM pragma_table_info(?) ORDER BY cid", -1, &info, NULL) == SQLITE_OK);
    while (sqlite3_step(list) == SQLITE_ROW && table_count < TABLES) {
        struct table *table = &tables[table_count++];
        snprintf(table->name, sizeof table->name, "%s", sqlite3_column_text(list, 0));
        sqlite3_bind_text(info, 1, table->name, -1, SQLITE_TRANSIENT);
        while (sqlite3_step(info) == SQLITE_ROW && table->count < COLUMNS) {
            snprintf(table->columns[table->count++], sizeof table->columns[0], "%s", sqlite3_column_text(info, 0));
            if (sqlite3_column_int(info, 1))
                snprintf(table->key + strlen(table->key), sizeof table->key - strlen(table->key), "%s\"%s\"", *table->key ? ", " : "", sqlite3_column_text(info, 0));
        }
        sqlite3_reset(info);
    }
    sqlite3_finalize(info);
    sqlite3_finalize(list);
}

/* ---- values -------------------------------------------------------------------------------------------------------- */

static const char *const words[] = {
    "", "0", "-1", "1e999", "null", "NaN", "[]", "{}", "[null]", "RUNNING", "COMPLETE", "PRUNED", "FAIL", "WAITING", "FINITE", "INF_POS", "INF_NEG", "NAN",
    "MAXIMIZE", "MINIMIZE", "running", "paused", "ask", "retry", "resume", "promote", "report", "pause", "end", "retry_failed", "other", "rest", "checkpoint",
    "recovered", "failed", "killed", "hung", "space", "seed", "study:metric_names", "loss", "x", "optimizer", "trial-00000/../../precious",
    "trial-00000/checkpoint-../../../precious", "../precious", "trial-00000/checkpoint-000001", "9223372036854775807", "-9223372036854775808", "18446744073709551616",
    "0.30000000000000004", "\xff\xfe", "\x1b[2J", "a|b", "'; rm -rf ~; '", "2026-01-01 00:00:00.000000", "9999-99-99", "{\"x\": [1e400]}", "true",
    "{\"name\": \"FloatDistribution\", \"attributes\": {\"step\": null, \"low\": -1e308, \"high\": 1e308, \"log\": true}}",
    "{\"name\": \"IntDistribution\", \"attributes\": {\"step\": 0, \"low\": 5, \"high\": 1, \"log\": false}}",
    "{\"name\": \"CategoricalDistribution\", \"attributes\": {\"choices\": []}}",
};
enum { WORDS = sizeof words / sizeof *words };

static void bind_value(fuzz_input *in, sqlite3_stmt *statement, int at)
{
    size_t nbytes;
    const uint8_t *bytes;
    switch (fuzz_one_of(in, 8)) {
    case 0:
        sqlite3_bind_null(statement, at);
        break;
    case 1:
    case 2:
        sqlite3_bind_int64(statement, at, fuzz_int(in));
        break;
    case 3:
        sqlite3_bind_double(statement, at, fuzz_double(in));
        break;
    case 4:
    case 5:
        sqlite3_bind_text(statement, at, words[fuzz_one_of(in, WORDS)], -1, SQLITE_STATIC);
        break;
    case 6:
        nbytes = fuzz_byte(in);
        bytes = fuzz_bytes(in, &nbytes);
        if (nbytes % 2)
            sqlite3_bind_text(statement, at, (const char *)bytes, (int)nbytes, SQLITE_TRANSIENT);
        else
            sqlite3_bind_blob(statement, at, bytes, (int)nbytes, SQLITE_TRANSIENT);
        break;
    default:
        sqlite3_bind_zeroblob(statement, at, (int)(fuzz_byte(in) * 257));
    }
}

/* ---- edits --------------------------------------------------------------------------------------------------------- */

/* Run it whatever comes of it: what SQLite itself refuses nobody can do. */
static void run(sqlite3 *db, char *text, fuzz_input *in, int values)
{
    sqlite3_stmt *statement = NULL;
    if (sqlite3_prepare_v2(db, text, -1, &statement, NULL) == SQLITE_OK) {
        for (int i = 1; i <= values; i++)
            bind_value(in, statement, i);
        for (int i = 0; i < 100 && sqlite3_step(statement) == SQLITE_ROW; i++) {
        }
    }
    sqlite3_finalize(statement);
    sqlite3_free(text);
}

static char *which_row(const struct table *table, unsigned row)
{
    return sqlite3_mprintf("(%s) = (SELECT %s FROM \"%w\" LIMIT 1 OFFSET %u %% max(1, (SELECT count(*) FROM \"%w\")))", table->key, table->key, table->name, row, table->name);
}

/* Another number or word in place of the nth one within a text: JSON stays JSON more often than not. */
static void edit_within(sqlite3 *db, const struct table *table, const char *column, const char *row, fuzz_input *in)
{
    sqlite3_stmt *statement = NULL;
    char *text = sqlite3_mprintf("SELECT \"%w\" FROM \"%w\" WHERE %s", column, table->name, row), number[40], *changed = NULL;
    if (sqlite3_prepare_v2(db, text, -1, &statement, NULL) == SQLITE_OK && sqlite3_step(statement) == SQLITE_ROW && sqlite3_column_text(statement, 0)) {
        const char *cell = (const char *)sqlite3_column_text(statement, 0), *at = cell, *end;
        for (unsigned skip = fuzz_byte(in) % 24;; skip--) {
            while (*at && !isalnum((unsigned char)*at) && *at != '-')
                at++;
            for (end = at; isalnum((unsigned char)*end) || (*end && strchr("-+._", *end)); end++) {
            }
            if (!skip || !*end)
                break;
            at = end;
        }
        int kind = fuzz_one_of(in, 3);
        if (kind == 0)
            snprintf(number, sizeof number, "%lld", (long long)fuzz_int(in));
        else if (kind == 1)
            snprintf(number, sizeof number, "%.17g", fuzz_double(in));
        changed = sqlite3_mprintf("%.*s%s%s", (int)(at - cell), cell, kind == 2 ? words[fuzz_one_of(in, WORDS)] : number, end);
    }
    sqlite3_finalize(statement);
    sqlite3_free(text);
    if (changed)
        run(db, sqlite3_mprintf("UPDATE OR IGNORE \"%w\" SET \"%w\" = %Q WHERE %s", table->name, column, changed, row), in, 0);
    sqlite3_free(changed);
}

/* A row once more with two other values. */
static void copy_row(sqlite3 *db, const struct table *table, const char *row, fuzz_input *in)
{
    int first = fuzz_one_of(in, table->count), second = fuzz_one_of(in, table->count), values = 0;
    char *text = sqlite3_mprintf("INSERT OR IGNORE INTO \"%w\" SELECT ", table->name);
    for (int i = 0; i < table->count; i++) {
        bool other = i == first || i == second;
        char *more = other ? sqlite3_mprintf("%z%s?", text, i ? ", " : "") : sqlite3_mprintf("%z%s\"%w\"", text, i ? ", " : "", table->columns[i]);
        text = more;
        values += other;
    }
    run(db, sqlite3_mprintf("%z FROM \"%w\" WHERE %s", text, table->name, row), in, values);
}

/* A trial as Optuna adds one: the next number, another one's params with other values, a result. */
static void add_trial(sqlite3 *db, unsigned like, fuzz_input *in)
{
    static const char *const states[] = {"COMPLETE", "PRUNED", "FAIL", "RUNNING", "WAITING"};
    run(db, sqlite3_mprintf("INSERT INTO trials SELECT max(trial_id) + 1, max(number) + 1, study_id, %Q, '2026-01-01 00:00:00', NULL FROM trials",
                            states[fuzz_one_of(in, 5)]), in, 0);
    run(db, sqlite3_mprintf("INSERT OR IGNORE INTO trial_params (trial_id, param_name, param_value, distribution_json) SELECT (SELECT max(trial_id) FROM trials), "
                            "param_name, CASE abs(random()) %% 2 WHEN 0 THEN ? ELSE param_value END, distribution_json FROM trial_params WHERE trial_id = %u", like % 16 + 1), in, 1);
    run(db, sqlite3_mprintf("INSERT OR IGNORE INTO trial_values (trial_id, objective, value, value_type) VALUES ((SELECT max(trial_id) FROM trials), 0, %.17g, 'FINITE')",
                            fuzz_double(in)), in, 0);
}

/* The tables themselves. */
static void edit_schema(sqlite3 *db, const struct table *table, const char *column, fuzz_input *in)
{
    switch (fuzz_one_of(in, 12)) {
    case 0:
        run(db, sqlite3_mprintf("DROP TABLE \"%w\"", table->name), in, 0);
        break;
    case 1:
        run(db, sqlite3_mprintf("ALTER TABLE \"%w\" RENAME COLUMN \"%w\" TO other", table->name, column), in, 0);
        break;
    case 2: /* a view without an end in the table's place */
        run(db, sqlite3_mprintf("DROP TABLE \"%w\"", table->name), in, 0);
        run(db, sqlite3_mprintf("CREATE VIEW \"%w\" AS WITH RECURSIVE n(\"%w\") AS (VALUES (1) UNION ALL SELECT 1 + \"%w\" FROM n) SELECT * FROM n", table->name, column, column), in, 0);
        break;
    case 3:
        run(db, sqlite3_mprintf("ALTER TABLE \"%w\" RENAME TO old", table->name), in, 0);
        run(db, sqlite3_mprintf("CREATE VIEW \"%w\" AS SELECT * FROM old", table->name), in, 0);
        break;
    case 4:
        run(db, sqlite3_mprintf("CREATE TRIGGER t AFTER INSERT ON \"%w\" BEGIN DELETE FROM \"%w\"; END", table->name, tables[fuzz_one_of(in, table_count)].name), in, 0);
        break;
    case 5:
        run(db, sqlite3_mprintf("PRAGMA user_version = %lld", (long long)fuzz_int(in)), in, 0);
        break;
    case 6:
        run(db, sqlite3_mprintf("PRAGMA application_id = %lld", (long long)fuzz_int(in)), in, 0);
        break;
    case 7: /* from here on anything may stand in it, as often as one likes */
        run(db, sqlite3_mprintf("ALTER TABLE \"%w\" RENAME TO old", table->name), in, 0);
        run(db, sqlite3_mprintf("CREATE TABLE \"%w\" AS SELECT * FROM old", table->name), in, 0);
        break;
    case 8:
        run(db, sqlite3_mprintf("ALTER TABLE \"%w\" ADD COLUMN more DEFAULT 7", table->name), in, 0);
        break;
    case 9:
        run(db, sqlite3_mprintf("UPDATE \"%w\" SET \"%w\" = ?", table->name, column), in, 1);
        break;
    case 10:
        run(db, sqlite3_mprintf("DELETE FROM \"%w\"", table->name), in, 0);
        break;
    default:
        run(db, sqlite3_mprintf("PRAGMA encoding = 'UTF-16'"), in, 0);
        run(db, sqlite3_mprintf("VACUUM"), in, 0);
    }
}

static void edit_once(sqlite3 *db, fuzz_input *in)
{
    const struct table *table = &tables[fuzz_one_of(in, table_count)];
    const char *column = table->columns[fuzz_one_of(in, table->count)];
    unsigned number = fuzz_byte(in);
    char *row = which_row(table, number);
    switch (fuzz_one_of(in, 8)) {
    case 0:
    case 1:
        run(db, sqlite3_mprintf("UPDATE OR IGNORE \"%w\" SET \"%w\" = ? WHERE %s", table->name, column, row), in, 1);
        break;
    case 2:
    case 3:
        edit_within(db, table, column, row, in);
        break;
    case 4:
        run(db, sqlite3_mprintf("DELETE FROM \"%w\" WHERE %s", table->name, row), in, 0);
        break;
    case 5:
        copy_row(db, table, row, in);
        break;
    case 6:
        add_trial(db, number, in);
        break;
    default:
        edit_schema(db, table, column, in);
    }
    sqlite3_free(row);
}

/* An edit may have made what never ends. */
static int enough(void *steps) { return --*(int *)steps < 0; }

/* ---- the file ------------------------------------------------------------------------------------------------------ */

static void put_file(const char *path, const void *bytes, size_t nbytes)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    must(fd >= 0 && write(fd, bytes, nbytes) == (ssize_t)nbytes);
    close(fd);
}

static void damage(fuzz_input *in, unsigned char *bytes, size_t *nbytes, const char *path)
{
    static const char *const beside[] = {"-wal", "-journal", "-shm", ".lock"};
    char other[300];
    size_t length = fuzz_byte(in);
    unsigned kind = fuzz_byte(in);
    if (!*nbytes)
        return;
    if (kind % 4 == 0)
        *nbytes = fuzz_word(in) % *nbytes;
    else if (kind % 4 == 1) {
        snprintf(other, sizeof other, "%s%s", path, beside[fuzz_one_of(in, 4)]);
        const uint8_t *content = fuzz_bytes(in, &length);
        put_file(other, content, length);
    } else
        bytes[fuzz_word(in) % *nbytes] = (unsigned char)fuzz_byte(in);
}

void edit_store(fuzz_input *in, const unsigned char *bytes, size_t nbytes, const char *path)
{
    sqlite3 *db;
    must(sqlite3_open(":memory:", &db) == SQLITE_OK);
    unsigned char *copy = sqlite3_malloc64(nbytes);
    must(copy != NULL);
    memcpy(copy, bytes, nbytes);
    must(sqlite3_deserialize(db, "main", copy, (sqlite3_int64)nbytes, (sqlite3_int64)nbytes, SQLITE_DESERIALIZE_FREEONCLOSE | SQLITE_DESERIALIZE_RESIZEABLE) == SQLITE_OK);
    learn(db);
    int steps = 1000;
    sqlite3_progress_handler(db, 1000, enough, &steps);
    unsigned how = fuzz_byte(in);
    for (unsigned i = 0; i <= how % EDITS && in->left; i++)
        edit_once(db, in);
    sqlite3_progress_handler(db, 0, NULL, NULL);
    sqlite3_int64 size = 0;
    unsigned char *edited = sqlite3_serialize(db, "main", &size, 0);
    sqlite3_close(db);
    size_t length = edited ? (size_t)size : 0;
    for (unsigned i = 0; i < how / 64 && how / 64 != 1 && in->left; i++)
        damage(in, edited, &length, path);
    put_file(path, edited ? edited : (unsigned char *)"", length);
    sqlite3_free(edited);
}
