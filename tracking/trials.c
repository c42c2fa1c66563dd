#include "base/clock.h"
#include "base/error.h"
#include "tracking/internal.h"

#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

static int put_attribute(tracking_store *store, int64_t trial, const char *key, json_t *value)
{
    char *text = value ? json_dumps(value, JSON_ENCODE_ANY) : NULL;
    if (!text)
        return base_error(CADRE_ENOMEM, "store %s: out of memory", store->path);
    int status = tracking_put(store, TRACKING_SQL_TRIAL_ATTRIBUTE_SET,
                              TRACKING_ARGS(tracking_int(trial), tracking_text(key), tracking_text(text)));
    free(text);
    return status;
}

/* What Optuna's RetryFailedTrialCallback writes: the first trial's number, and the numbers of all up to the one before.
 */
static int put_retry(tracking_store *store, int64_t trial, int64_t retry_of, int64_t retried_number)
{
    json_t *first = NULL, *history = NULL;
    sqlite3_stmt *statement;
    bool row;
    int status = tracking_query(store, TRACKING_SQL_RETRY_FIND, TRACKING_ARGS(tracking_int(retry_of)), &statement);
    while (status == CADRE_OK && (status = tracking_step(store, statement, &row)) == CADRE_OK && row) {
        const char *key = (const char *)sqlite3_column_text(statement, 0);
        const char *text = (const char *)sqlite3_column_text(statement, 1);
        json_t *value = text ? json_loads(text, JSON_DECODE_ANY, NULL) : NULL;
        json_t **kept = key && strcmp(key, "failed_trial") == 0 ? &first : &history;
        json_decref(*kept);
        *kept = value;
    }
    if (!first)
        first = json_integer(retried_number);
    if (!json_is_array(history)) {
        json_decref(history);
        history = json_array();
    }
    if (status == CADRE_OK && json_array_append_new(history, json_integer(retried_number)) != 0)
        status = base_error(CADRE_ENOMEM, "store %s: out of memory", store->path);
    if (status == CADRE_OK)
        status = put_attribute(store, trial, "failed_trial", first);
    if (status == CADRE_OK)
        status = put_attribute(store, trial, "retry_history", history);
    json_decref(first);
    json_decref(history);
    return status;
}

static int put_trial(tracking_store *store, const tracking_known_trial *trial, const tracking_param *params, int count,
                     int64_t retry_of, int64_t retried_number)
{
    char now[BASE_UTC_TEXT];
    base_utc_format(base_utc_us(), now);
    int status = tracking_put(store, TRACKING_SQL_TRIAL_ADD,
                              TRACKING_ARGS(tracking_int(trial->id), tracking_int(trial->number),
                                            tracking_int(trial->experiment), tracking_text(now)));
    if (status == CADRE_OK)
        status =
            tracking_put(store, TRACKING_SQL_TRIAL_NOTE, TRACKING_ARGS(tracking_int(trial->id), tracking_text("")));
    if (status == CADRE_OK)
        status = tracking_put_params(store, trial->id, params, count);
    if (status == CADRE_OK && retry_of)
        status = put_retry(store, trial->id, retry_of, retried_number);
    return status;
}

int tracking_trial_add(tracking_store *store, int64_t experiment, const tracking_param *params, int count,
                       int64_t retry_of, int64_t *trial, int64_t *number)
{
    tracking_known_experiment *known;
    tracking_known_trial *retried = NULL;
    int status = tracking_check_writer(store);
    if (status == CADRE_OK)
        status = tracking_know_experiment(store, experiment, &known);
    if (status == CADRE_OK && retry_of)
        status = tracking_know_trial(store, retry_of, &retried);
    if (status != CADRE_OK)
        return status;
    tracking_known_trial fresh = {.id = store->last_trial_id + 1, .experiment = experiment, .number = known->trials};
    size_t mark = tracking_journal_mark(store);
    status = put_trial(store, &fresh, params, count, retry_of, retried ? retried->number : 0);
    if (status == CADRE_OK)
        status = tracking_remember_trial(store, &fresh);
    if (status != CADRE_OK) {
        tracking_journal_back(store, mark);
        return status;
    }
    known->trials++;
    store->last_trial_id = fresh.id;
    *trial = fresh.id;
    if (number)
        *number = fresh.number;
    return CADRE_OK;
}

int tracking_trial_begin(tracking_store *store, int64_t trial, const tracking_param *params, int count)
{
    tracking_known_trial *known;
    char now[BASE_UTC_TEXT];
    int status = tracking_know_open_trial(store, trial, &known);
    if (status != CADRE_OK)
        return status;
    size_t mark = tracking_journal_mark(store);
    base_utc_format(base_utc_us(), now);
    status = tracking_put(store, TRACKING_SQL_PARAMS_DROP, TRACKING_ARGS(tracking_int(trial)));
    if (status == CADRE_OK)
        status = tracking_put(store, TRACKING_SQL_OWN_PARAMS_DROP, TRACKING_ARGS(tracking_int(trial)));
    if (status == CADRE_OK)
        status = tracking_put_params(store, trial, params, count);
    if (status == CADRE_OK)
        status = tracking_put(store, TRACKING_SQL_TRIAL_NOTE, TRACKING_ARGS(tracking_int(trial), tracking_text("")));
    if (status == CADRE_OK)
        status = tracking_put(store, TRACKING_SQL_TRIAL_BEGIN, TRACKING_ARGS(tracking_int(trial), tracking_text(now)));
    if (status != CADRE_OK)
        tracking_journal_back(store, mark);
    return status;
}

static const char *state_name(tracking_state state)
{
    return state == TRACKING_COMPLETE ? "COMPLETE" : state == TRACKING_PRUNED ? "PRUNED" : "FAIL";
}

static int put_end(tracking_store *store, int64_t trial, tracking_state state, bool has_value, double value,
                   const char *reason)
{
    char now[BASE_UTC_TEXT];
    base_utc_format(base_utc_us(), now);
    int status = CADRE_OK;
    if (state != TRACKING_FAIL && has_value) {
        const char *type = isfinite(value) ? "FINITE" : value > 0 ? "INF_POS" : "INF_NEG";
        status = tracking_put(
            store, TRACKING_SQL_TRIAL_VALUE,
            TRACKING_ARGS(tracking_int(trial), tracking_real(isfinite(value) ? value : NAN), tracking_text(type)));
    }
    if (status == CADRE_OK)
        status = tracking_put(store, TRACKING_SQL_TRIAL_REASON,
                              TRACKING_ARGS(tracking_int(trial), tracking_text(""), tracking_text(reason)));
    if (status == CADRE_OK)
        status = tracking_put(store, TRACKING_SQL_TRIAL_END,
                              TRACKING_ARGS(tracking_int(trial), tracking_text(state_name(state)), tracking_text(now)));
    return status;
}

int tracking_trial_finish(tracking_store *store, int64_t trial, tracking_state state, bool has_value, double value,
                          const char *reason)
{
    tracking_known_trial *known;
    if (state != TRACKING_COMPLETE && state != TRACKING_PRUNED && state != TRACKING_FAIL)
        return base_error(CADRE_EINVAL, "store %s: a trial does not end in state %d", store->path, (int)state);
    int status = tracking_know_open_trial(store, trial, &known);
    if (status != CADRE_OK)
        return status;
    has_value = has_value && !isnan(value);
    if (state == TRACKING_COMPLETE && !has_value) {
        state = TRACKING_FAIL; /* Optuna cannot read a complete trial that has no value */
        if (!reason || !*reason)
            reason = "it ended without a value of its objective";
    }
    char *line = tracking_one_line(reason);
    if (!line)
        return CADRE_ENOMEM;
    size_t mark = tracking_journal_mark(store);
    status = put_end(store, trial, state, has_value, value, line);
    free(line);
    if (status != CADRE_OK)
        tracking_journal_back(store, mark);
    else
        known->finished = true;
    return status;
}

int tracking_trial_note(tracking_store *store, int64_t trial, const char *detail)
{
    tracking_known_trial *known;
    int status = tracking_know_open_trial(store, trial, &known);
    if (status != CADRE_OK)
        return status;
    char *line = tracking_one_line(detail);
    if (!line)
        return CADRE_ENOMEM;
    status = tracking_put(store, TRACKING_SQL_TRIAL_NOTE, TRACKING_ARGS(tracking_int(trial), tracking_text(line)));
    free(line);
    return status;
}
