/* Trials that Optuna added to the file while no controller had it: brought into our tables, so that they read like any other. */
#include "base/error.h"
#include "base/mem.h"
#include "base/number.h"
#include "tracking/internal.h"

#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The value as JSON, in a new string: Optuna stores a number, and for a choice its index. NULL: no memory, or not a distribution. */
static char *value_json(double value, const json_t *distribution)
{
    const char *name = json_string_value(json_object_get(distribution, "name"));
    const json_t *attributes = json_object_get(distribution, "attributes");
    if (name && strcmp(name, "CategoricalDistribution") == 0) {
        const json_t *choice = json_array_get(json_object_get(attributes, "choices"), value >= 0 && value < INT32_MAX ? (size_t)value : SIZE_MAX);
        return choice ? json_dumps(choice, JSON_ENCODE_ANY | JSON_COMPACT) : NULL;
    }
    if (!name || strncmp(name, "Int", 3) == 0)
        return name ? base_sprintf("%.0f", value) : NULL;
    char digits[32];
    base_number_text(value, digits);
    return isfinite(value) ? base_strdup(digits) : NULL;
}

static int adopt_param(tracking_store *store, int64_t trial, int position, sqlite3_stmt *row)
{
    const char *name = (const char *)sqlite3_column_text(row, 0), *text = (const char *)sqlite3_column_text(row, 2);
    json_t *distribution = json_loads(text ? text : "", 0, NULL);
    char *json = value_json(sqlite3_column_double(row, 1), distribution);
    json_decref(distribution);
    if (!name || !json) {
        free(json);
        return base_error(CADRE_ECORRUPT, "store %s: param %s of an added trial cannot be read", store->path, name ? name : "?");
    }
    int status = tracking_put(store, TRACKING_SQL_OWN_PARAM_ADD,
                              TRACKING_ARGS(tracking_int(trial), tracking_int(position), tracking_text(name), tracking_text(json)));
    free(json);
    return status;
}

static int adopt_params(tracking_store *store, int64_t trial)
{
    sqlite3_stmt *statement;
    bool row = false;
    int position = 0;
    int status = tracking_walk(store,
                               "SELECT param_name, param_value, distribution_json FROM trial_params WHERE trial_id = ?1 AND NOT EXISTS (SELECT 1 FROM "
                               "cadre_params c WHERE c.trial_id = ?1) ORDER BY param_id",
                               TRACKING_ARGS(tracking_int(trial)), &statement);
    if (status != CADRE_OK)
        return status;
    while (status == CADRE_OK && (status = tracking_step(store, statement, &row)) == CADRE_OK && row)
        status = adopt_param(store, trial, position++, statement);
    sqlite3_finalize(statement);
    return status;
}

static int read_last_step(tracking_store *store, int64_t trial, int64_t *step)
{
    sqlite3_stmt *statement;
    bool row = false;
    int status = tracking_walk(store, "SELECT max(step) FROM trial_intermediate_values WHERE trial_id = ?", TRACKING_ARGS(tracking_int(trial)), &statement);
    if (status != CADRE_OK)
        return status;
    status = tracking_step(store, statement, &row);
    if (row)
        *step = sqlite3_column_int64(statement, 0); /* 0 for none */
    sqlite3_finalize(statement);
    return status;
}

int tracking_adopt(tracking_store *store, int64_t trial, const char *reason, int64_t *last_step)
{
    tracking_known_trial *known;
    int status = tracking_check_writer(store);
    if (status == CADRE_OK)
        status = tracking_know_trial(store, trial, &known);
    if (status != CADRE_OK)
        return status;
    bool finished = known->finished;
    size_t mark = tracking_journal_mark(store);
    status = adopt_params(store, trial);
    if (status != CADRE_OK)
        tracking_journal_back(store, mark);
    if (status == CADRE_OK)
        status = read_last_step(store, trial, last_step);
    if (status == CADRE_OK && !finished)
        status = tracking_trial_finish(store, trial, TRACKING_FAIL, false, 0, reason);
    return status;
}

int tracking_enqueued_params(tracking_store *store, int64_t trial, char **json)
{
    sqlite3_stmt *statement;
    bool row = false;
    char *text = NULL;
    int status = tracking_walk(store, "SELECT value_json FROM trial_system_attributes WHERE trial_id = ? AND \"key\" = 'fixed_params'",
                               TRACKING_ARGS(tracking_int(trial)), &statement);
    if (status != CADRE_OK)
        return status;
    status = tracking_step(store, statement, &row);
    const char *found = row ? (const char *)sqlite3_column_text(statement, 0) : NULL;
    if (status == CADRE_OK && !(text = base_strdup(found ? found : "{}")))
        status = base_error(CADRE_ENOMEM, "store %s: out of memory", store->path);
    sqlite3_finalize(statement);
    if (status == CADRE_OK)
        *json = text;
    return status;
}
