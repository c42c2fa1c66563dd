/* `cadre show --json`. Memory that runs out shows as a NULL that ends in the caller's hands: jansson takes it along. */
#include "cli.h"

#include <stdlib.h>

static json_t *text_or_null(const char *text) { return *text ? cli_json_text(text) : json_null(); }

static int add_param(const char *name, const char *json, void *user)
{
    return json_object_set_new(user, name, cli_json_value(json)) == 0 ? CADRE_OK : CADRE_ENOMEM;
}

static int add_attempt(const tracking_attempt_row *row, void *user)
{
    json_t *item =
        json_pack("{s:i, s:i, s:o, s:o, s:I, s:I, s:o, s:o, s:o, s:o, s:o, s:i, s:i, s:o}", "attempt", row->attempt,
                  "workers", row->num_workers, "launcher", text_or_null(row->launcher), "backend",
                  text_or_null(row->backend), "restored_report", (json_int_t)row->restored_report,
                  "restored_checkpoint", (json_int_t)row->restored_checkpoint, "started", text_or_null(row->started),
                  "ended", text_or_null(row->ended), "cause", text_or_null(row->cause), "rank",
                  row->rank >= 0 ? json_integer(row->rank) : json_null(), "host", text_or_null(row->host), "exit_code",
                  row->exit_code, "signal", row->signal, "detail", text_or_null(row->detail));
    return json_array_append_new(user, item) == 0 ? CADRE_OK : CADRE_ENOMEM;
}

struct reports {
    json_t *array, *values; /* values: of the report under way; borrowed */
    int64_t first, report;
};

static int add_metric(int64_t report, int64_t step, const char *name, double value, void *user)
{
    struct reports *reports = user;
    if (report < reports->first)
        return CADRE_OK;
    if (report != reports->report) {
        reports->report = report;
        reports->values = json_object();
        json_t *item = json_pack("{s:I, s:I, s:o}", "report", (json_int_t)report, "step", (json_int_t)step, "metrics",
                                 reports->values);
        if (json_array_append_new(reports->array, item) != 0)
            return CADRE_ENOMEM;
    }
    return json_object_set_new(reports->values, name, cli_json_real(value)) == 0 ? CADRE_OK : CADRE_ENOMEM;
}

static json_t *checkpoints_json(tracking_store *store, int64_t trial, tracking_direction direction)
{
    tracking_checkpoint *list = NULL;
    int count = 0;
    json_t *array = json_array();
    if (tracking_checkpoints(store, trial, &list, &count) != CADRE_OK) {
        json_decref(array);
        return NULL;
    }
    for (int i = 0; i < count; i++) {
        json_t *item =
            json_pack("{s:I, s:o, s:i, s:I, s:I, s:I, s:s, s:o, s:b, s:b}", "id", (json_int_t)list[i].id, "path",
                      cli_json_text(list[i].path), "attempt", list[i].attempt, "report", (json_int_t)list[i].report,
                      "step", (json_int_t)list[i].step, "nbytes", (json_int_t)list[i].nbytes, "hash", list[i].hash,
                      "score", list[i].has_score ? cli_json_real(list[i].score) : json_null(), "best",
                      cli_is_best(list, count, i, direction), "last", i + 1 == count);
        if (json_array_append_new(array, item) != 0) {
            json_decref(array);
            array = NULL;
            break;
        }
    }
    free(list);
    return array;
}

struct trials {
    tracking_store *store;
    const cli_show_options *options;
    tracking_direction direction;
    json_t *array;
    int64_t shown; /* id of the last one */
};

static int add_trial(const tracking_trial *trial, void *user)
{
    struct trials *trials = user;
    long wanted = trials->options->trial, last = trials->options->last;
    if (wanted >= 0 && trial->number != wanted)
        return CADRE_OK;
    trials->shown = trial->id;
    json_t *params = json_object(), *attempts = json_array();
    struct reports reports = {.array = json_array(), .first = last >= 0 ? trial->last_report - last + 1 : 1};
    int status = tracking_each_param(trials->store, trial->id, add_param, params);
    if (status == CADRE_OK)
        status = tracking_each_attempt(trials->store, trial->id, add_attempt, attempts);
    if (status == CADRE_OK)
        status = tracking_each_metric(trials->store, trial->id, add_metric, &reports);
    json_t *item = json_pack(
        "{s:I, s:s, s:o, s:o, s:o, s:o, s:o, s:I, s:o, s:o, s:o, s:o}", "number", (json_int_t)trial->number, "state",
        cli_state_name(trial->state), "value", trial->has_value ? cli_json_real(trial->value) : json_null(), "detail",
        text_or_null(trial->detail), "reason", text_or_null(trial->reason), "started", text_or_null(trial->started),
        "ended", text_or_null(trial->ended), "reports", (json_int_t)trial->last_report, "params", params, "attempts",
        attempts, "metrics", reports.array, "checkpoints",
        checkpoints_json(trials->store, trial->id, trials->direction));
    if (status != CADRE_OK) {
        json_decref(item);
        return status;
    }
    return json_array_append_new(trials->array, item) == 0 ? CADRE_OK : CADRE_ENOMEM;
}

static int add_event(const tracking_event_row *row, void *user)
{
    json_t *item = json_pack("{s:I, s:s, s:o, s:o, s:o}", "sequence", (json_int_t)row->sequence, "time", row->time,
                             "trial", row->trial_number >= 0 ? json_integer(row->trial_number) : json_null(), "kind",
                             cli_json_text(row->kind), "value", cli_json_value(row->json));
    return json_array_append_new(user, item) == 0 ? CADRE_OK : CADRE_ENOMEM;
}

json_t *cli_experiment_json(tracking_store *store, const char *path, const tracking_experiment_row *row,
                            const cli_show_options *options)
{
    char owner[512] = "";
    bool held = tracking_lock_held(path, owner, sizeof owner);
    struct trials trials = {.store = store, .options = options, .direction = row->direction, .array = json_array()};
    json_t *events = options->events ? json_array() : NULL;
    int status = tracking_each_trial(store, row->id, add_trial, &trials);
    if (status == CADRE_OK && events)
        status = tracking_each_event(store, row->id, options->trial >= 0 ? trials.shown : 0, add_event, events);
    if (status != CADRE_OK) {
        json_decref(trials.array);
        json_decref(events);
        return NULL;
    }
    json_t *object =
        json_pack("{s:o, s:o, s:b, s:o, s:o, s:s, s:o, s:o, s:b, s:o, s:o}", "experiment", cli_json_text(row->name),
                  "path", cli_json_text(path), "running", held, "owner", text_or_null(owner), "metric",
                  text_or_null(row->metric), "direction", row->direction == TRACKING_MAXIMIZE ? "maximize" : "minimize",
                  "best", row->has_best ? cli_json_real(row->best) : json_null(), "best_trial",
                  row->has_best ? json_integer(row->best_number) : json_null(), "best_is_so_far", row->best_so_far,
                  "last_activity", text_or_null(row->last_activity), "trials", trials.array);
    if (events && object)
        json_object_set_new(object, "events", events);
    if (object && options->trial < 0 && json_object_set_new(object, "importance", cli_importance_json(store, row)) != 0) {
        json_decref(object);
        return NULL;
    }
    return object;
}
