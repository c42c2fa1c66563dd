/* One trial's record. */
#include "tuner.h"

#include "base/clock.h"
#include "base/error.h"
#include "base/mem.h"
#include "base/rng.h"

#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

static int make_room(tuner *tuner, int64_t number)
{
    if (number < tuner->capacity)
        return CADRE_OK;
    int64_t capacity = tuner->capacity ? tuner->capacity : 64;
    while (capacity <= number)
        capacity *= 2;
    tuner_trial **trials = base_realloc(tuner->trials, (size_t)capacity * sizeof *trials);
    if (!trials)
        return CADRE_ENOMEM;
    tuner->trials = trials;
    int64_t *rows = base_realloc(tuner->rows, (size_t)capacity * sizeof *rows);
    if (!rows)
        return CADRE_ENOMEM;
    tuner->rows = rows;
    memset(trials + tuner->capacity, 0, (size_t)(capacity - tuner->capacity) * sizeof *trials);
    memset(rows + tuner->capacity, 0, (size_t)(capacity - tuner->capacity) * sizeof *rows);
    tuner->capacity = capacity;
    return CADRE_OK;
}

tuner_trial *trial_get(tuner *tuner, int64_t number)
{
    if (make_room(tuner, number) != CADRE_OK)
        return NULL;
    if (tuner->trials[number])
        return tuner->trials[number];
    tuner_trial *trial = base_calloc(1, sizeof *trial);
    if (!trial)
        return NULL;
    uint64_t random = base_rng_mix(tuner->options->seed, (uint64_t)number);
    if (cadre_space_config(tuner->space, core_get(tuner->core, number)->x, random, &trial->config) != CADRE_OK) {
        free(trial);
        return NULL;
    }
    trial->tuner = tuner;
    trial->number = number;
    trial->heard = core_get(tuner->core, number)->reports;
    trial->trainer = *tuner->options->trainer;
    trial->trainer.config = trial->config;
    trial->trainer.run.metric = tuner->options->metric;
    trial->trainer.run.progress = CADRE_PROGRESS_NONE;
    tuner->trials[number] = trial;
    return trial;
}

void trial_free(tuner_trial *trial)
{
    if (!trial)
        return;
    if (trial->run_open)
        run_close(&trial->run);
    cadre_config_free(trial->config);
    free(trial);
}

void trial_forget(tuner *tuner, int64_t number)
{
    trial_free(tuner->trials[number]);
    tuner->trials[number] = NULL;
}

int64_t trial_row(const tuner_trial *trial) { return trial->tuner->rows[trial->number]; }

/* What the store keeps of each value of the config: Optuna's distribution where it is a dimension. */
static int describe_params(tuner_trial *trial, tracking_param *params, char **texts, int count)
{
    const tuner *tuner = trial->tuner;
    char *whole = cadre_config_to_json(trial->config);
    json_t *json = whole ? json_loads(whole, 0, NULL) : NULL;
    free(whole);
    int status = json ? CADRE_OK : base_error(CADRE_ENOMEM, "out of memory for a trial");
    for (int i = 0; status == CADRE_OK && i < count; i++) {
        const char *name = cadre_config_name(trial->config, i);
        int dim = cadre_space_find(tuner->space, name);
        texts[2 * i] = json_dumps(json_object_get(json, name), JSON_ENCODE_ANY | JSON_COMPACT);
        texts[2 * i + 1] = dim >= 0 ? cadre_dim_distribution(cadre_space_dim(tuner->space, dim)) : NULL;
        params[i] = (tracking_param){.name = name, .json = texts[2 * i], .distribution_json = texts[2 * i + 1],
                                     .value = dim >= 0 ? core_get(tuner->core, trial->number)->x[dim] : 0};
        if (!texts[2 * i] || (dim >= 0 && !texts[2 * i + 1]))
            status = base_error(CADRE_ENOMEM, "out of memory for a trial");
    }
    json_decref(json);
    return status;
}

int trial_add(tuner_trial *trial)
{
    tuner *tuner = trial->tuner;
    int count = cadre_config_count(trial->config);
    tracking_param *params = base_calloc((size_t)count, sizeof *params);
    char **texts = base_calloc(2 * (size_t)count, sizeof *texts);
    int64_t number = -1;
    int status = params && texts ? describe_params(trial, params, texts, count) : CADRE_ENOMEM;
    if (status == CADRE_OK)
        status = tracking_trial_add(tuner->store, tuner->experiment, params, count, 0, &tuner->rows[trial->number], &number);
    if (status == CADRE_OK && number != trial->number)
        status = base_error(CADRE_ECORRUPT, "%s: the next trial has number %lld there, %lld here: has another program added trials?", tuner->directory,
                            (long long)number, (long long)trial->number);
    for (int i = 0; texts && i < 2 * count; i++)
        free(texts[i]);
    free(texts);
    free(params);
    return status;
}

bool trial_report(tuner_trial *trial, int64_t report, const cadre_metric *metrics, int count, cadre_decision *decision)
{
    tuner *tuner = trial->tuner;
    const cadre_metric *value = NULL, *time = NULL;
    *decision = CADRE_DECIDE_GO_ON;
    for (int i = 0; i < count; i++) {
        if (strcmp(metrics[i].name, tuner->options->metric) == 0)
            value = &metrics[i];
        if (tuner->options->time_attr && strcmp(metrics[i].name, tuner->options->time_attr) == 0)
            time = &metrics[i];
    }
    if (!value)
        return false;
    if (report <= trial->heard) /* made again after a restart: the core knows it */
        return true;
    trial->heard = report;
    double now = tuner->options->sim ? tuner->virtual_s : base_now(), experiment_s = tuner_elapsed(tuner);
    double trial_s = trial->ran_s + now - trial->begun;
    double at = time ? time->value : (double)report;
    *decision = core_report(tuner->core, trial->number, at, value->value, trial_s, experiment_s);
    if (tuner->log_reports && event_report(tuner, trial->number, at, value->value, trial_s, experiment_s) != CADRE_OK)
        tuner_fail(tuner, CADRE_EIO);
    return true;
}

int trial_end(tuner_trial *trial, cadre_trial_end end, const char *reason)
{
    tuner *tuner = trial->tuner;
    char text[600];
    const core_trial *seen = core_get(tuner->core, trial->number);
    if (end != CADRE_ENDED_FAILED && seen->reports == 0) {
        end = CADRE_ENDED_FAILED;
        snprintf(text, sizeof text, "the trial never reported the metric \"%s\"", tuner->options->metric);
        reason = text;
    }
    snprintf(trial->reason, sizeof trial->reason, "%s", reason);
    int status = core_end(tuner->core, trial->number, end);
    if (status == CADRE_OK)
        status = event_end(tuner, trial->number, end);
    tracking_state state = end == CADRE_ENDED_COMPLETE ? TRACKING_COMPLETE : end == CADRE_ENDED_PRUNED ? TRACKING_PRUNED : TRACKING_FAIL;
    if (status == CADRE_OK)
        status = tracking_trial_finish(tuner->store, trial_row(trial), state, state != TRACKING_FAIL, seen->value, reason);
    tuner->wants_durable = true;
    table_trial_ended(tuner, trial, end);
    return status;
}
