#include "base/error.h"
#include "base/mem.h"
#include "tracking/internal.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

static const char *optuna_direction(tracking_direction direction)
{
    return direction == TRACKING_MAXIMIZE ? "MAXIMIZE" : "MINIMIZE";
}

const char *tracking_direction_name(tracking_direction direction)
{
    return direction == TRACKING_MAXIMIZE ? "maximize" : "minimize";
}

/* Optuna reads the objective's name under the first key, the dashboard's other reader under the second. */
static int put_objective(tracking_store *store, int64_t experiment, const char *metric, tracking_direction direction)
{
    json_t *names = json_pack("[s]", metric);
    char *text = names ? json_dumps(names, JSON_ENSURE_ASCII) : NULL;
    json_decref(names);
    if (!text)
        return base_error(CADRE_ENOMEM, "store %s: out of memory", store->path);
    int status =
        tracking_put(store, TRACKING_SQL_STUDY_ATTRIBUTE_SET,
                     TRACKING_ARGS(tracking_int(experiment), tracking_text("study:metric_names"), tracking_text(text)));
    if (status == CADRE_OK)
        status = tracking_put(
            store, TRACKING_SQL_STUDY_ATTRIBUTE_SET,
            TRACKING_ARGS(tracking_int(experiment), tracking_text("dashboard:objective_names"), tracking_text(text)));
    if (status == CADRE_OK)
        status = tracking_put(store, TRACKING_SQL_DIRECTION_SET,
                              TRACKING_ARGS(tracking_int(experiment), tracking_text(optuna_direction(direction))));
    free(text);
    return status;
}

static int add_experiment(tracking_store *store, const char *name, const char *metric, tracking_direction direction,
                          int64_t *experiment)
{
    tracking_known_experiment known = {.id = store->last_experiment_id + 1, .direction = direction};
    int status = metric ? tracking_know_name(store, metric, &known.objective) : CADRE_OK;
    if (status != CADRE_OK)
        return status;
    size_t mark = tracking_journal_mark(store); /* after the name, which stays known and so stays gathered */
    status = tracking_put(store, TRACKING_SQL_STUDY_ADD, TRACKING_ARGS(tracking_int(known.id), tracking_text(name)));
    if (status == CADRE_OK && metric)
        status = put_objective(store, known.id, metric, direction);
    else if (status == CADRE_OK)
        status = tracking_put(store, TRACKING_SQL_DIRECTION_SET,
                              TRACKING_ARGS(tracking_int(known.id), tracking_text(optuna_direction(direction))));
    if (status == CADRE_OK)
        status = tracking_remember_experiment(store, &known);
    if (status != CADRE_OK) {
        tracking_journal_back(store, mark);
        return status;
    }
    store->last_experiment_id = known.id;
    *experiment = known.id;
    return CADRE_OK;
}

static const char *name_of(const tracking_store *store, int64_t id)
{
    for (size_t i = 0; i < store->name_count; i++)
        if (store->names[i].id == id)
            return store->names[i].name;
    return "?";
}

int tracking_experiment(tracking_store *store, const char *name, const char *metric, tracking_direction direction,
                        int64_t *experiment)
{
    int status = tracking_check_writer(store);
    if (status == CADRE_OK)
        status = tracking_check_name(store, name, "an experiment");
    if (status == CADRE_OK && metric)
        status = tracking_check_name(store, metric, "a metric");
    if (status != CADRE_OK)
        return status;
    int64_t found = 0;
    status = tracking_find_experiment(store, name, &found);
    if (status == CADRE_ENOENT)
        return add_experiment(store, name, metric, direction, experiment);
    tracking_known_experiment *known;
    if (status == CADRE_OK)
        status = tracking_know_experiment(store, found, &known);
    if (status == CADRE_OK && metric && !known->objective)
        status = tracking_set_objective(store, found, metric, direction);
    else if (status == CADRE_OK && metric &&
             (strcmp(name_of(store, known->objective), metric) != 0 || known->direction != direction))
        status = base_error(CADRE_EEXIST, "store %s: experiment %s is there already, to %s %s, not to %s %s",
                            store->path, name, tracking_direction_name(known->direction),
                            name_of(store, known->objective), tracking_direction_name(direction), metric);
    if (status == CADRE_OK)
        *experiment = found;
    return status;
}

/* Running trials' reports that came before the objective was known become Optuna's intermediate values now. */
int tracking_set_objective(tracking_store *store, int64_t experiment, const char *metric, tracking_direction direction)
{
    int64_t objective;
    tracking_known_experiment *known;
    int status = tracking_check_writer(store);
    if (status == CADRE_OK)
        status = tracking_know_name(store, metric, &objective);
    if (status == CADRE_OK)
        status = tracking_know_experiment(store, experiment, &known);
    if (status != CADRE_OK)
        return status;
    if (known->objective == objective && known->direction == direction)
        return CADRE_OK;
    size_t mark = tracking_journal_mark(store);
    status = put_objective(store, experiment, metric, direction);
    if (status == CADRE_OK && known->objective && known->objective != objective)
        status = tracking_put(store, TRACKING_SQL_INTERMEDIATE_DROP_ALL, TRACKING_ARGS(tracking_int(experiment)));
    if (status == CADRE_OK && known->objective != objective)
        status = tracking_put(store, TRACKING_SQL_INTERMEDIATE_ALL_AGAIN,
                              TRACKING_ARGS(tracking_int(experiment), tracking_int(objective)));
    if (status != CADRE_OK) {
        tracking_journal_back(store, mark);
        return status;
    }
    known->objective = objective;
    known->direction = direction;
    return CADRE_OK;
}

int tracking_experiment_set(tracking_store *store, int64_t experiment, const char *key, const char *json)
{
    tracking_known_experiment *known;
    int status = tracking_check_writer(store);
    if (status == CADRE_OK)
        status = tracking_know_experiment(store, experiment, &known);
    if (status == CADRE_OK)
        status = tracking_check_name(store, key, "an experiment's attribute");
    if (status == CADRE_OK)
        status = tracking_check_json(store, json, "an experiment's attribute");
    if (status == CADRE_OK)
        status = tracking_put(store, TRACKING_SQL_EXPERIMENT_SET,
                              TRACKING_ARGS(tracking_int(experiment), tracking_text(key), tracking_text(json)));
    return status;
}

int tracking_experiment_get(tracking_store *store, int64_t experiment, const char *key, char **json)
{
    sqlite3_stmt *statement;
    bool row = false;
    int status = tracking_query(store, TRACKING_SQL_EXPERIMENT_GET, TRACKING_ARGS(tracking_int(experiment), tracking_text(key)), &statement);
    if (status == CADRE_OK)
        status = tracking_step(store, statement, &row);
    if (status != CADRE_OK)
        return status;
    const char *text = row ? (const char *)sqlite3_column_text(statement, 0) : NULL;
    char *copy = text ? base_strdup(text) : NULL;
    if (row)
        sqlite3_reset(statement);
    if (text && !copy)
        return CADRE_ENOMEM;
    *json = copy;
    return CADRE_OK;
}

int tracking_find_experiment(tracking_store *store, const char *name, int64_t *experiment)
{
    sqlite3_stmt *statement;
    bool row = false;
    int status = tracking_check_name(store, name, "an experiment");
    if (status == CADRE_OK)
        status = tracking_query(store, TRACKING_SQL_STUDY_FIND, TRACKING_ARGS(tracking_text(name)), &statement);
    if (status == CADRE_OK)
        status = tracking_step(store, statement, &row);
    if (status != CADRE_OK)
        return status;
    if (!row)
        return base_error(CADRE_ENOENT, "store %s has no experiment %s", store->path, name);
    *experiment = sqlite3_column_int64(statement, 0);
    sqlite3_reset(statement);
    return CADRE_OK;
}
