#include "tracking/view.h"

#include "base/clock.h"
#include "tracking/internal.h"

#include <jansson.h>
#include <stdio.h>
#include <string.h>

/* A text column, never NULL; borrowed until the next step. */
static const char *text_of(sqlite3_stmt *statement, int column)
{
    const char *text = (const char *)sqlite3_column_text(statement, column);
    return text ? text : "";
}

typedef int one_row(tracking_store *store, sqlite3_stmt *statement, void *walk);

static int each(tracking_store *store, const char *text, const tracking_arg *args, int count, one_row *row, void *walk)
{
    sqlite3_stmt *statement;
    bool more;
    int answer = 0;
    int status = tracking_walk(store, text, args, count, &statement);
    if (status != CADRE_OK)
        return status;
    while (answer == 0 && (status = tracking_step(store, statement, &more)) == CADRE_OK && more)
        answer = row(store, statement, walk);
    sqlite3_finalize(statement);
    return status != CADRE_OK ? status : answer;
}

struct experiment_walk {
    int (*row)(const tracking_experiment_row *, void *);
    void *user;
};

/* Infinities are stored as NULL and a word. */
#define BEST_FROM(value, type)                                                                                         \
    "SELECT t.number, CASE " type " WHEN 'FINITE' THEN " value " WHEN 'INF_POS' THEN 9e999 ELSE -9e999 END AS best "   \
    "FROM trials t JOIN "

static int find_best(tracking_store *store, tracking_experiment_row *row)
{
    static const char *const finals[] = {
        BEST_FROM("v.value",
                  "v.value_type") "trial_values v USING (trial_id) WHERE t.study_id = ? AND t.state = 'COMPLETE' "
                                  "AND v.objective = 0 ORDER BY best, t.number LIMIT 1",
        BEST_FROM("v.value",
                  "v.value_type") "trial_values v USING (trial_id) WHERE t.study_id = ? AND t.state = 'COMPLETE' "
                                  "AND v.objective = 0 ORDER BY best DESC, t.number LIMIT 1",
    };
    static const char *const reported[] = {
        BEST_FROM("v.intermediate_value",
                  "v.intermediate_value_type") "trial_intermediate_values v USING (trial_id) WHERE "
                                               "t.study_id = ? AND v.intermediate_value_type <> 'NAN' ORDER BY best, "
                                               "t.number LIMIT 1",
        BEST_FROM("v.intermediate_value",
                  "v.intermediate_value_type") "trial_intermediate_values v USING (trial_id) WHERE "
                                               "t.study_id = ? AND v.intermediate_value_type <> 'NAN' ORDER BY best "
                                               "DESC, t.number LIMIT 1",
    };
    sqlite3_stmt *statement;
    row->best_so_far = row->complete == 0;
    int status = tracking_walk(store, (row->best_so_far ? reported : finals)[row->direction == TRACKING_MAXIMIZE],
                               TRACKING_ARGS(tracking_int(row->id)), &statement);
    if (status != CADRE_OK)
        return status;
    status = tracking_step(store, statement, &row->has_best);
    if (row->has_best) {
        row->best_number = sqlite3_column_int64(statement, 0);
        row->best = sqlite3_column_double(statement, 1);
    }
    sqlite3_finalize(statement);
    return status;
}

static int experiment_row(tracking_store *store, sqlite3_stmt *statement, void *user)
{
    struct experiment_walk *walk = user;
    json_t *names = json_loads(text_of(statement, 2), 0, NULL);
    const char *metric = json_string_value(json_array_get(names, 0));
    tracking_experiment_row row = {
        .id = sqlite3_column_int64(statement, 0),
        .name = text_of(statement, 1),
        .metric = metric ? metric : "",
        .direction = strcmp(text_of(statement, 3), "MAXIMIZE") == 0 ? TRACKING_MAXIMIZE : TRACKING_MINIMIZE,
        .running = sqlite3_column_int64(statement, 4),
        .waiting = sqlite3_column_int64(statement, 5),
        .complete = sqlite3_column_int64(statement, 6),
        .pruned = sqlite3_column_int64(statement, 7),
        .failed = sqlite3_column_int64(statement, 8),
    };
    int64_t reported_us = sqlite3_column_int64(statement, 10);
    char reported[BASE_UTC_TEXT] = "";
    if (reported_us)
        base_utc_format(reported_us, reported);
    const char *moved = text_of(statement, 9);
    snprintf(row.last_activity, sizeof row.last_activity, "%s", strcmp(reported, moved) > 0 ? reported : moved);
    int status = find_best(store, &row);
    if (status == CADRE_OK)
        status = walk->row(&row, walk->user);
    json_decref(names);
    return status;
}

int tracking_each_experiment(tracking_store *store, int (*row)(const tracking_experiment_row *, void *), void *user)
{
    struct experiment_walk walk = {row, user};
    return each(
        store,
        "SELECT s.study_id, s.study_name, (SELECT value_json FROM study_system_attributes a WHERE a.study_id = "
        "s.study_id "
        "AND a.\"key\" = 'study:metric_names'), (SELECT direction FROM study_directions d WHERE d.study_id = "
        "s.study_id AND "
        "d.objective = 0), sum(t.state = 'RUNNING'), sum(t.state = 'WAITING'), sum(t.state = 'COMPLETE'), "
        "sum(t.state = 'PRUNED'), sum(t.state = 'FAIL'), max(coalesce(t.datetime_complete, t.datetime_start)), "
        "max((SELECT r.time_us FROM cadre_reports r WHERE r.trial_id = t.trial_id ORDER BY r.report DESC LIMIT 1)) "
        "FROM studies s LEFT JOIN trials t USING (study_id) GROUP BY s.study_id ORDER BY s.study_id",
        NULL, 0, experiment_row, &walk);
}

struct attempt_walk {
    int (*row)(const tracking_attempt_row *, void *);
    void *user;
};

static int attempt_row(tracking_store *store, sqlite3_stmt *statement, void *user)
{
    struct attempt_walk *walk = user;
    (void)store;
    tracking_attempt_row row = {
        .attempt = sqlite3_column_int(statement, 0),
        .num_workers = sqlite3_column_int(statement, 1),
        .launcher = text_of(statement, 2),
        .backend = text_of(statement, 3),
        .restored_report = sqlite3_column_int64(statement, 4),
        .restored_checkpoint = sqlite3_column_int64(statement, 5),
        .started = text_of(statement, 6),
        .ended = text_of(statement, 7),
        .cause = text_of(statement, 8),
        .rank = sqlite3_column_type(statement, 9) == SQLITE_NULL ? -1 : sqlite3_column_int(statement, 9),
        .host = text_of(statement, 10),
        .exit_code = sqlite3_column_int(statement, 11),
        .signal = sqlite3_column_int(statement, 12),
        .detail = text_of(statement, 13),
    };
    return walk->row(&row, walk->user);
}

int tracking_each_attempt(tracking_store *store, int64_t trial, int (*row)(const tracking_attempt_row *, void *),
                          void *user)
{
    struct attempt_walk walk = {row, user};
    return each(
        store,
        "SELECT attempt, num_workers, launcher, backend, restored_report, restored_checkpoint, started, ended, cause, "
        "\"rank\", host, exit_code, signal, detail FROM cadre_attempts WHERE trial_id = ? ORDER BY attempt",
        TRACKING_ARGS(tracking_int(trial)), attempt_row, &walk);
}

struct event_walk {
    int (*row)(const tracking_event_row *, void *);
    void *user;
};

static int event_row(tracking_store *store, sqlite3_stmt *statement, void *user)
{
    struct event_walk *walk = user;
    char time[BASE_UTC_TEXT];
    (void)store;
    base_utc_format(sqlite3_column_int64(statement, 2), time);
    tracking_event_row row = {
        .sequence = sqlite3_column_int64(statement, 0),
        .trial_number = sqlite3_column_type(statement, 1) == SQLITE_NULL ? -1 : sqlite3_column_int64(statement, 1),
        .time = time,
        .kind = text_of(statement, 3),
        .json = text_of(statement, 4),
    };
    return walk->row(&row, walk->user);
}

int tracking_each_event(tracking_store *store, int64_t experiment, int64_t trial,
                        int (*row)(const tracking_event_row *, void *), void *user)
{
    struct event_walk walk = {row, user};
    return each(store,
                "SELECT e.sequence, t.number, e.time_us, e.kind, e.value_json FROM cadre_events e LEFT JOIN trials t "
                "USING (trial_id) "
                "WHERE e.experiment_id = ?1 AND (?2 = 0 OR e.trial_id = ?2) ORDER BY e.sequence",
                TRACKING_ARGS(tracking_int(experiment), tracking_int(trial)), event_row, &walk);
}

struct param_walk {
    int (*row)(const char *name, const char *json, void *);
    void *user;
};

static int param_row(tracking_store *store, sqlite3_stmt *statement, void *user)
{
    struct param_walk *walk = user;
    (void)store;
    return walk->row(text_of(statement, 0), text_of(statement, 1), walk->user);
}

int tracking_each_param(tracking_store *store, int64_t trial, int (*row)(const char *name, const char *json, void *),
                        void *user)
{
    struct param_walk walk = {row, user};
    return each(store, "SELECT name, value_json FROM cadre_params WHERE trial_id = ? ORDER BY position",
                TRACKING_ARGS(tracking_int(trial)), param_row, &walk);
}

struct distribution_walk {
    int (*row)(int64_t trial_number, const char *name, double value, const char *distribution_json, void *);
    void *user;
};

static int distribution_row(tracking_store *store, sqlite3_stmt *statement, void *user)
{
    struct distribution_walk *walk = user;
    (void)store;
    return walk->row(sqlite3_column_int64(statement, 0), text_of(statement, 1), sqlite3_column_double(statement, 2), text_of(statement, 3),
                     walk->user);
}

int tracking_each_distribution(tracking_store *store, int64_t experiment,
                               int (*row)(int64_t trial_number, const char *name, double value, const char *distribution_json, void *),
                               void *user)
{
    struct distribution_walk walk = {row, user};
    return each(store,
                "SELECT t.number, p.param_name, p.param_value, p.distribution_json FROM trials t JOIN trial_params p USING (trial_id) "
                "WHERE t.study_id = ? ORDER BY t.number, p.param_id",
                TRACKING_ARGS(tracking_int(experiment)), distribution_row, &walk);
}
