#include "survive.h"

#include <dirent.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static bool complain(const char *directory, const char *what)
{
    fprintf(stderr, "survive: %s: %s\n", directory, what);
    return false;
}

/* A trial as one text. Reports are counted in every table that has them; they go from 1 on without a gap. */
static const char TRIALS[] =
    "SELECT t.number, t.state NOT IN ('RUNNING', 'WAITING'), t.state || ' ' || ifnull((SELECT group_concat(value || value_type) FROM trial_values v WHERE "
    "v.trial_id = t.trial_id), '-') || ' ' || (SELECT group_concat(name || '=' || value_json, ' ') FROM (SELECT * FROM cadre_params p WHERE p.trial_id = "
    "t.trial_id ORDER BY name)) || ' ' || (SELECT count(*) || ' ' || ifnull(max(report), 0) FROM cadre_reports r WHERE r.trial_id = t.trial_id) || ' ' || "
    "(SELECT count(*) FROM cadre_metrics m WHERE m.trial_id = t.trial_id) || ' ' || (SELECT count(*) FROM trial_intermediate_values i WHERE i.trial_id = "
    "t.trial_id) FROM trials t ORDER BY t.number, t.trial_id";

static bool is_whole(sqlite3 *db)
{
    sqlite3_stmt *statement = NULL;
    bool ok = sqlite3_prepare_v2(db, "PRAGMA integrity_check", -1, &statement, NULL) == SQLITE_OK && sqlite3_step(statement) == SQLITE_ROW &&
              strcmp((const char *)sqlite3_column_text(statement, 0), "ok") == 0;
    sqlite3_finalize(statement);
    return ok;
}

static bool take_rows(sqlite3 *db, const char *directory, survive_view *view)
{
    sqlite3_stmt *statement = NULL;
    bool ok = true;
    int rc = sqlite3_prepare_v2(db, TRIALS, -1, &statement, NULL);
    if (rc == SQLITE_ERROR) /* killed before there were tables */
        return true;
    while (ok && rc == SQLITE_OK && (rc = sqlite3_step(statement)) == SQLITE_ROW) {
        view->lines = realloc(view->lines, (size_t)(view->count + 1) * sizeof *view->lines);
        view->ended = realloc(view->ended, (size_t)(view->count + 1) * sizeof *view->ended);
        ok = sqlite3_column_int(statement, 0) == view->count || complain(directory, "a trial is missing, or there twice");
        view->ended[view->count] = sqlite3_column_int(statement, 1) != 0;
        const char *text = (const char *)sqlite3_column_text(statement, 2);
        view->lines[view->count++] = strdup(text ? text : "(no text)");
        rc = SQLITE_OK;
    }
    sqlite3_finalize(statement);
    return ok && (rc == SQLITE_DONE || complain(directory, sqlite3_errmsg(db)));
}

bool survive_read(const char *directory, survive_view *view)
{
    char path[1200];
    sqlite3 *db = NULL;
    *view = (survive_view){0};
    snprintf(path, sizeof path, "%s/cadre.db", directory);
    if (access(path, F_OK) != 0)
        return true;
    /* For writing, as Optuna opens it: what was killed while it made its tables, or put its log away, has to be rolled back first. */
    bool ok = sqlite3_open_v2(path, &db, SQLITE_OPEN_READWRITE, NULL) == SQLITE_OK || complain(directory, sqlite3_errmsg(db));
    sqlite3_db_config(db, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1, NULL); /* look, and leave it as it is */
    sqlite3_busy_timeout(db, 5000);
    ok = ok && (is_whole(db) || complain(directory, "the store is damaged"));
    ok = ok && take_rows(db, directory, view);
    sqlite3_close(db);
    return ok;
}

void survive_forget(survive_view *view)
{
    for (int i = 0; i < view->count; i++)
        free(view->lines[i]);
    free(view->lines);
    free(view->ended);
    *view = (survive_view){0};
}

static bool differ(int number, const char *a, const char *b)
{
    fprintf(stderr, "survive: trial %d was\n    %s\nand is\n    %s\n", number, a, b);
    return false;
}

bool survive_kept(const survive_view *before, const survive_view *after)
{
    for (int i = 0; i < before->count; i++)
        if (i >= after->count || (before->ended[i] && strcmp(before->lines[i], after->lines[i]) != 0))
            return differ(i, before->lines[i], i < after->count ? after->lines[i] : "gone");
    return true;
}

bool survive_same(const survive_view *a, const survive_view *b)
{
    for (int i = 0; i < a->count || i < b->count; i++)
        if (i >= a->count || i >= b->count || strcmp(a->lines[i], b->lines[i]) != 0)
            return differ(i, i < a->count ? a->lines[i] : "not there", i < b->count ? b->lines[i] : "not there");
    return true;
}

static bool is_expected(const char *name)
{
    static const char *const fixed[] = {"rank0.log", "rank1.log", "result.json", "checkpoint"};
    bool is = false;
    for (size_t i = 0; i < sizeof fixed / sizeof *fixed; i++)
        is = is || strcmp(name, fixed[i]) == 0;
    return is || (strncmp(name, "checkpoint-", 11) == 0 && strspn(name + 11, "0123456789") == strlen(name + 11));
}

static bool check_trial(const char *directory, const char *name)
{
    char path[1400];
    bool ok = true;
    snprintf(path, sizeof path, "%s/%s", directory, name);
    DIR *list = opendir(path);
    for (struct dirent *entry; ok && list && (entry = readdir(list));)
        ok = *entry->d_name == '.' || is_expected(entry->d_name) || complain(path, entry->d_name);
    if (list)
        closedir(list);
    return ok && (list || complain(path, "cannot be read"));
}

bool survive_files(const char *directory, int trials)
{
    bool ok = true;
    int found = 0;
    DIR *list = opendir(directory);
    for (struct dirent *entry; ok && list && (entry = readdir(list));) {
        if (*entry->d_name == '.' || strcmp(entry->d_name, "cadre.db") == 0 || strcmp(entry->d_name, "cadre.db.lock") == 0)
            continue;
        ok = strncmp(entry->d_name, "trial-", 6) == 0 ? check_trial(directory, entry->d_name) : complain(directory, entry->d_name);
        found++;
    }
    if (list)
        closedir(list);
    return ok && (found == trials || complain(directory, "another number of trial directories than of trials"));
}
