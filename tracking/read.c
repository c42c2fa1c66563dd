#include "base/error.h"
#include "tracking/internal.h"

#include <math.h>
#include <string.h>

static tracking_state state_of(const char *name)
{
    return strcmp(name, "RUNNING") == 0    ? TRACKING_RUNNING
           : strcmp(name, "COMPLETE") == 0 ? TRACKING_COMPLETE
           : strcmp(name, "PRUNED") == 0   ? TRACKING_PRUNED
           : strcmp(name, "WAITING") == 0  ? TRACKING_WAITING
                                           : TRACKING_FAIL;
}

/* A row of TRACKING_SQL_TRIAL. */
void tracking_row_trial(sqlite3_stmt *statement, tracking_trial *trial)
{
    char state[16], type[16];
    tracking_column_text(statement, 3, state, sizeof state);
    tracking_column_text(statement, 5, type, sizeof type);
    *trial = (tracking_trial){
        .id = sqlite3_column_int64(statement, 0),
        .experiment = sqlite3_column_int64(statement, 1),
        .number = tracking_column_count(statement, 2),
        .state = state_of(state),
        .has_value = *type != '\0',
        .attempts = sqlite3_column_int(statement, 6),
        .last_report = tracking_column_count(statement, 7),
        .first_try = sqlite3_column_type(statement, 12) == SQLITE_NULL ? -1 : sqlite3_column_int64(statement, 12),
    };
    trial->value = !*type                         ? NAN
                   : strcmp(type, "INF_POS") == 0 ? INFINITY
                   : strcmp(type, "INF_NEG") == 0 ? -INFINITY
                                                  : sqlite3_column_double(statement, 4);
    tracking_column_text(statement, 8, trial->detail, sizeof trial->detail);
    tracking_column_text(statement, 9, trial->reason, sizeof trial->reason);
    tracking_column_text(statement, 10, trial->started, sizeof trial->started);
    tracking_column_text(statement, 11, trial->ended, sizeof trial->ended);
}

static int one_trial(tracking_store *store, tracking_sql sql, int64_t id, bool *row, tracking_trial *trial)
{
    sqlite3_stmt *statement;
    int status = tracking_query(store, sql, TRACKING_ARGS(tracking_int(id)), &statement);
    if (status == CADRE_OK)
        status = tracking_step(store, statement, row);
    if (status == CADRE_OK && *row) {
        tracking_row_trial(statement, trial);
        sqlite3_reset(statement);
    }
    return status;
}

int tracking_last_trial(tracking_store *store, int64_t experiment, tracking_trial *trial)
{
    bool row = false;
    int status = one_trial(store, TRACKING_SQL_TRIAL_LAST, experiment, &row, trial);
    return status != CADRE_OK || row ? status
                                     : base_error(CADRE_ENOENT, "store %s: the experiment has no trial", store->path);
}

int tracking_get_trial(tracking_store *store, int64_t id, tracking_trial *trial)
{
    bool row = false;
    int status = one_trial(store, TRACKING_SQL_TRIAL_GET, id, &row, trial);
    return status != CADRE_OK || row
               ? status
               : base_error(CADRE_ENOENT, "store %s has no trial with id %lld", store->path, (long long)id);
}

int tracking_each_trial(tracking_store *store, int64_t experiment, int (*row)(const tracking_trial *, void *),
                        void *user)
{
    sqlite3_stmt *statement;
    bool more;
    int answer = 0;
    int status = tracking_walk(store, TRACKING_SQL_TRIAL "WHERE t.study_id = ? ORDER BY t.trial_id",
                               TRACKING_ARGS(tracking_int(experiment)), &statement);
    if (status != CADRE_OK)
        return status;
    while (answer == 0 && (status = tracking_step(store, statement, &more)) == CADRE_OK && more) {
        tracking_trial trial;
        tracking_row_trial(statement, &trial);
        answer = row(&trial, user);
    }
    sqlite3_finalize(statement);
    return status != CADRE_OK ? status : answer;
}

int tracking_each_metric(tracking_store *store, int64_t trial,
                         int (*row)(int64_t report, int64_t step, const char *name, double value, void *), void *user)
{
    sqlite3_stmt *statement;
    bool more;
    int answer = 0;
    int status = tracking_walk(
        store,
        "SELECT r.report, r.step, n.name, m.value FROM cadre_reports r JOIN cadre_metrics m USING (trial_id, report) "
        "JOIN cadre_names n USING (name_id) WHERE r.trial_id = ? ORDER BY r.report, m.name_id",
        TRACKING_ARGS(tracking_int(trial)), &statement);
    if (status != CADRE_OK)
        return status;
    while (answer == 0 && (status = tracking_step(store, statement, &more)) == CADRE_OK && more) {
        const char *name = (const char *)sqlite3_column_text(statement, 2);
        double value = sqlite3_column_type(statement, 3) == SQLITE_NULL ? NAN : sqlite3_column_double(statement, 3);
        if (!name)
            status = base_error(CADRE_ENOMEM, "store %s: out of memory", store->path);
        else
            answer = row(tracking_column_count(statement, 0), sqlite3_column_int64(statement, 1), name, value, user);
        if (status != CADRE_OK)
            break;
    }
    sqlite3_finalize(statement);
    return status != CADRE_OK ? status : answer;
}
