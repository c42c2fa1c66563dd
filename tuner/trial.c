/* One trial's record. */
#include "tuner.h"

#include "base/clock.h"
#include "base/error.h"
#include "base/mem.h"
#include "base/rng.h"
#include "space.h"
#include "trainer/state/config.h"

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

int trial_know_row(tuner *tuner, int64_t number, int64_t row)
{
    int status = make_room(tuner, number);
    if (status == CADRE_OK)
        tuner->rows[number] = row;
    return status;
}

int trial_get(tuner *tuner, int64_t number, tuner_trial **out)
{
    int status = make_room(tuner, number);
    *out = status == CADRE_OK ? tuner->trials[number] : NULL;
    if (status != CADRE_OK || *out)
        return status;
    tuner_trial *trial = base_calloc(1, sizeof *trial);
    if (!trial)
        return CADRE_ENOMEM;
    const core_trial *seen = core_get(tuner->core, number);
    uint64_t random = base_rng_mix(tuner->options->seed, (uint64_t)seen->origin); /* a retry has the same computed values, too */
    status = cadre_space_config(tuner->space, seen->x, random, &trial->config);
    if (status != CADRE_OK) {
        free(trial);
        return base_wrap(status, "the config of trial %lld", (long long)number);
    }
    trial->tuner = tuner;
    trial->number = number;
    trial->ran_s = seen->seconds;
    trial->trainer = *tuner->options->trainer;
    trial->trainer.config = trial->config;
    trial->trainer.run.metric = tuner->options->metric;
    trial->trainer.run.progress = CADRE_PROGRESS_NONE;
    tuner->trials[number] = *out = trial;
    return CADRE_OK;
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

/* A value of the config as JSON, in the fewest digits that read back as the same number. */
static int value_text(const cadre_config *config, const char *name, base_buffer *text)
{
    switch (state_config_kind_of(config, name)) {
    case STATE_CONFIG_INT: return base_buffer_printf(text, "%lld", (long long)cadre_config_int(config, name, 0));
    case STATE_CONFIG_BOOL: return base_buffer_printf(text, "%s", cadre_config_bool(config, name, false) ? "true" : "false");
    case STATE_CONFIG_STRING: {
        int status = tuner_put_string(text, cadre_config_string(config, name, ""));
        return status == CADRE_OK ? base_buffer_append(text, "", 1) : status;
    }
    default: return tuner_put_double(text, cadre_config_double(config, name, 0));
    }
}

/* Optuna's distribution of a dimension, which is the same for all trials. */
static const char *distribution_of(tuner *tuner, int dim)
{
    if (!tuner->distributions)
        tuner->distributions = base_calloc((size_t)cadre_space_count(tuner->space), sizeof *tuner->distributions);
    if (tuner->distributions && !tuner->distributions[dim])
        tuner->distributions[dim] = cadre_dim_distribution(cadre_space_dim(tuner->space, dim));
    return tuner->distributions ? tuner->distributions[dim] : NULL;
}

/* What the store keeps of each value of the config: Optuna's distribution where it is a dimension. */
static int describe_params(tuner_trial *trial, tracking_param *params, base_buffer *texts, int count)
{
    tuner *tuner = trial->tuner;
    for (int i = 0; i < count; i++) {
        const char *name = cadre_config_name(trial->config, i);
        int dim = cadre_space_find(tuner->space, name);
        const char *distribution = dim >= 0 ? distribution_of(tuner, dim) : NULL;
        int status = value_text(trial->config, name, &texts[i]);
        if (status != CADRE_OK || (dim >= 0 && !distribution))
            return base_error(CADRE_ENOMEM, "out of memory for a trial");
        params[i] = (tracking_param){.name = name, .json = (const char *)texts[i].data, .distribution_json = distribution,
                                     .value = dim >= 0 ? core_get(tuner->core, trial->number)->x[dim] : 0};
    }
    return CADRE_OK;
}

static int add_row(tuner_trial *trial, const tracking_param *params, int count)
{
    tuner *tuner = trial->tuner;
    int64_t number = -1, failed = core_get(tuner->core, trial->number)->retry_of;
    int status = tracking_trial_add(tuner->store, tuner->experiment, params, count, failed >= 0 ? tuner->rows[failed] : 0, &tuner->rows[trial->number], &number);
    if (status == CADRE_OK && number != trial->number)
        status = base_error(CADRE_ECORRUPT, "%s: the next trial has number %lld there, %lld here: has another program added trials?", tuner->directory,
                            (long long)number, (long long)trial->number);
    return status;
}

static int begin_row(tuner_trial *trial, const tracking_param *params, int count)
{
    return tracking_trial_begin(trial->tuner->store, trial_row(trial), params, count);
}

/* Hand the trial's params to what makes its row. */
static int with_params(tuner_trial *trial, int (*make)(tuner_trial *, const tracking_param *, int))
{
    int count = cadre_config_count(trial->config);
    tracking_param *params = base_calloc((size_t)count, sizeof *params);
    base_buffer *texts = base_calloc((size_t)count, sizeof *texts);
    int status = params && texts ? describe_params(trial, params, texts, count) : CADRE_ENOMEM;
    if (status == CADRE_OK)
        status = make(trial, params, count);
    for (int i = 0; texts && i < count; i++)
        base_buffer_free(&texts[i]);
    free(texts);
    free(params);
    return status;
}

int trial_add(tuner_trial *trial) { return with_params(trial, add_row); }

int trial_begin_row(tuner_trial *trial) { return with_params(trial, begin_row); }

/* ---- what an earlier life or trial reported --------------------------------------------------------------------------------------- */

static int take_metric(int64_t report, int64_t step, const char *name, double value, void *user)
{
    tuner_trial *trial = user;
    (void)step;
    if (strcmp(name, trial->tuner->options->metric) == 0 && report > core_get(trial->tuner->core, trial->number)->reports)
        core_set_value(trial->tuner->core, trial->number, value, report);
    return CADRE_OK;
}

int trial_recall(tuner_trial *trial) { return tracking_each_metric(trial->tuner->store, trial_row(trial), take_metric, trial); }

/* The reports of a trial on their way to the one that tries it again. */
struct inheritance {
    tuner_trial *trial;
    int64_t until, report, step;
    tracking_metric metrics[CADRE_MAX_METRICS];
    int count;
};

/* Write down the report that is gathered. */
static int put_inherited(struct inheritance *in)
{
    const tuner_trial *trial = in->trial;
    int status = in->count ? tracking_report(trial->tuner->store, trial_row(trial), 0, in->report, in->step, in->metrics, in->count) : CADRE_OK;
    for (int i = 0; i < in->count; i++)
        free((char *)(uintptr_t)in->metrics[i].name);
    in->count = 0;
    return status;
}

static int inherit_metric(int64_t report, int64_t step, const char *name, double value, void *user)
{
    struct inheritance *in = user;
    if (report > in->until)
        return CADRE_OK;
    int status = report != in->report ? put_inherited(in) : CADRE_OK;
    in->report = report;
    in->step = step;
    char *copy = status == CADRE_OK && in->count < CADRE_MAX_METRICS ? base_strdup(name) : NULL;
    if (copy)
        in->metrics[in->count++] = (tracking_metric){copy, value};
    return status == CADRE_OK && !copy && in->count < CADRE_MAX_METRICS ? CADRE_ENOMEM : status;
}

int trial_inherit_reports(tuner_trial *trial, int64_t until)
{
    const tuner *tuner = trial->tuner;
    struct inheritance in = {.trial = trial, .until = until};
    int status = tracking_each_metric(tuner->store, tuner->rows[core_get(tuner->core, trial->number)->retry_of], inherit_metric, &in);
    int last = put_inherited(&in);
    return status == CADRE_OK ? last : status;
}

int trial_inherit_checkpoints(tuner_trial *trial)
{
    const tuner *tuner = trial->tuner;
    tracking_checkpoint *list = NULL;
    int count = 0;
    int status = tracking_checkpoints(tuner->store, tuner->rows[core_get(tuner->core, trial->number)->retry_of], &list, &count);
    for (int i = 0; status == CADRE_OK && i < count; i++) {
        tracking_checkpoint copy = list[i];
        status = tracking_checkpoint_add(tuner->store, trial_row(trial), &copy);
    }
    if (status == CADRE_OK && count > 0)
        status = trial_inherit_reports(trial, list[count - 1].report);
    free(list);
    return status;
}

/* ---- reports and ends --------------------------------------------------------------------------------------------------------------- */

static const cadre_metric *find(const cadre_metric *metrics, int count, const char *name)
{
    for (int i = 0; name && i < count; i++)
        if (strcmp(metrics[i].name, name) == 0)
            return &metrics[i];
    return NULL;
}

int trial_report(tuner_trial *trial, int64_t report, const cadre_metric *metrics, int count)
{
    tuner *tuner = trial->tuner;
    const cadre_tuner *options = tuner->options;
    const core_trial *seen = core_get(tuner->core, trial->number);
    const cadre_metric *value = find(metrics, count, options->metric), *time = find(metrics, count, options->time_attr);
    if (!value || seen->decision != CADRE_DECIDE_GO_ON)
        return CADRE_OK; /* what it says on its way out is in the store, but changes nothing */
    if (report <= seen->reports) { /* made again after a restart: it was judged, but this is what the store says now */
        core_set_value(tuner->core, trial->number, value->value, seen->reports);
        return CADRE_OK;
    }
    double now = options->sim ? tuner->virtual_s : base_now(), experiment_s = tuner_elapsed(tuner);
    double trial_s = trial->ran_s + now - trial->begun;
    double at = time ? time->value : options->time_attr ? NAN : (double)report;
    core_report(tuner->core, trial->number, report, at, value->value, trial_s, experiment_s);
    return tuner->log_reports ? event_report(tuner, trial->number, report, at, value->value, trial_s, experiment_s) : CADRE_OK;
}

int trial_end(tuner_trial *trial, cadre_trial_end end, const char *reason)
{
    tuner *tuner = trial->tuner;
    char text[600];
    const core_trial *seen = core_get(tuner->core, trial->number);
    if (end == CADRE_ENDED_COMPLETE && isnan(seen->value)) {
        end = CADRE_ENDED_FAILED;
        snprintf(text, sizeof text, seen->reports ? "its last value of \"%s\" is not a number" : "the trial never reported the metric \"%s\"", tuner->options->metric);
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

int trial_fail(tuner_trial *trial, const char *reason)
{
    tuner *tuner = trial->tuner;
    int status = trial_end(trial, CADRE_ENDED_FAILED, reason);
    if (status == CADRE_OK && tuner->options->fail_fast)
        tuner_fail(tuner, base_error(CADRE_ETRAIN, "trial %lld failed, and fail_fast is set: %s", (long long)trial->number, reason));
    return status;
}

int trial_obey(tuner_trial *trial)
{
    tuner *tuner = trial->tuner;
    cadre_decision decision = core_get(tuner->core, trial->number)->decision;
    if (decision != CADRE_DECIDE_PAUSE)
        return trial_end(trial, decision == CADRE_DECIDE_STOP ? CADRE_ENDED_PRUNED : CADRE_ENDED_COMPLETE, "");
    core_paused(tuner->core, trial->number);
    int status = event_pause(tuner, trial->number);
    return status == CADRE_OK ? tracking_trial_note(tuner->store, trial_row(trial), "paused") : status;
}

int trial_cut_short(tuner_trial *trial)
{
    if (core_get(trial->tuner->core, trial->number)->reports > 0)
        return trial_end(trial, CADRE_ENDED_COMPLETE, "");
    return trial_end(trial, CADRE_ENDED_PRUNED, "the experiment ended before it reported anything");
}
