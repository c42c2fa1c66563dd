/*
 * Trials that another program has added to the store while no controller had it (Optuna's study.optimize, say). They are told to the searcher as
 * results from elsewhere; each becomes an event, so that replaying tells them again at the same place. They are nobody's business else: the
 * scheduler does not judge by them, and they do not count among the trials that were asked for.
 *
 * What it has only enqueued (study.enqueue_trial) is run here: before anything else, beyond num_samples, with what its params leave open drawn at random.
 */
#include "tuner.h"

#include "base/error.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/rng.h"
#include "search/search.h"
#include "space.h"
#include "tracking/view.h"

#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

struct found {
    tuner *tuner;
    tracking_trial *rows;
    int count, capacity;
};

static int note_row(const tracking_trial *row, void *user)
{
    struct found *found = user;
    if (row->number < core_count(found->tuner->core))
        return CADRE_OK;
    if (found->count == found->capacity) {
        int capacity = found->capacity ? 2 * found->capacity : 16;
        tracking_trial *rows = base_realloc(found->rows, (size_t)capacity * sizeof *rows);
        if (!rows)
            return CADRE_ENOMEM;
        found->rows = rows;
        found->capacity = capacity;
    }
    found->rows[found->count++] = *row;
    return CADRE_OK;
}

static int take_param(const char *name, const char *json, void *user)
{
    json_t *value = json_loads(json, JSON_DECODE_ANY, NULL);
    if (!value)
        value = json_null(); /* no JSON: of no space */
    return json_object_set_new(user, name, value) == 0 ? CADRE_OK : base_error(CADRE_ENOMEM, "out of memory for a trial");
}

/* The row's params as a point; `*fits` is false when they are none of this space. */
static int read_point(tuner *tuner, int64_t row, double *x, bool *fits)
{
    cadre_config *config = NULL;
    json_t *params = json_object();
    int status = params ? tracking_each_param(tuner->store, row, take_param, params) : CADRE_ENOMEM;
    char *text = status == CADRE_OK ? json_dumps(params, 0) : NULL;
    json_decref(params);
    if (status == CADRE_OK && !text)
        status = CADRE_ENOMEM;
    if (status != CADRE_OK)
        return status;
    status = cadre_config_from_json(text, &config);
    free(text);
    if (status == CADRE_OK)
        status = cadre_space_point(tuner->space, config, x);
    cadre_config_free(config);
    const int *order = cadre_space_order(tuner->space);
    for (int k = 0; status == CADRE_OK && k < cadre_space_count(tuner->space); k++)
        if (!cadre_space_active(tuner->space, x, order[k]))
            x[order[k]] = NAN; /* suggested all the same; it had no say */
    if (status == CADRE_OK)
        status = cadre_space_check(tuner->space, x);
    *fits = status == CADRE_OK;
    return status == CADRE_ENOMEM ? status : CADRE_OK;
}

static int take_in(tuner *tuner, const tracking_trial *row, const char *reason, double *x, bool *fits)
{
    int64_t last_step = 0;
    int status = tracking_adopt(tuner->store, row->id, reason, &last_step);
    if (status == CADRE_OK)
        status = read_point(tuner, row->id, x, fits);
    if (status == CADRE_OK)
        status = trial_know_row(tuner, row->number, row->id);
    if (status != CADRE_OK)
        return status;
    cadre_trial_end end = row->state == TRACKING_COMPLETE ? CADRE_ENDED_COMPLETE : row->state == TRACKING_PRUNED ? CADRE_ENDED_PRUNED : CADRE_ENDED_FAILED;
    status = core_add(tuner->core, *fits ? x : NULL, end, row->value, last_step);
    return status == CADRE_OK ? event_other(tuner, row->number, end, *fits) : status;
}

/* The enqueued trial's point; `reason` says why it has none. */
static int read_enqueued(tuner *tuner, const tracking_trial *row, double *x, char reason[600])
{
    char *text = NULL;
    cadre_config *config = NULL;
    reason[0] = '\0';
    int status = tracking_enqueued_params(tuner->store, row->id, &text);
    if (status != CADRE_OK)
        return status;
    status = cadre_config_from_json(text, &config);
    free(text);
    if (status == CADRE_OK)
        status = cadre_space_point(tuner->space, config, x);
    cadre_config_free(config);
    if (status == CADRE_ENOMEM)
        return status;
    if (status != CADRE_OK)
        snprintf(reason, 600, "enqueued with params that are none of the space: %s", cadre_error_message());
    else
        tuner_space_fill(tuner->space, tuner->options->seed, base_rng_mix((uint64_t)row->number, SEARCH_STREAM_POINTS), x);
    return CADRE_OK;
}

/* It is begun as if an earlier life had begun it and left it running. */
static int begin_enqueued(tuner *tuner, const tracking_trial *row, const double *x)
{
    int64_t number;
    tuner_trial *trial;
    int status = core_begin(tuner->core, x, &number);
    if (status == CADRE_OK)
        status = trial_know_row(tuner, number, row->id);
    if (status == CADRE_OK)
        status = trial_get(tuner, number, &trial);
    if (status == CADRE_OK)
        status = trial_begin_row(trial);
    return status == CADRE_OK ? event_enqueued(tuner, number) : status;
}

struct counts {
    int results, strange, enqueued;
};

static int take_one(tuner *tuner, const tracking_trial *row, double *x, struct counts *counts)
{
    char reason[600] = "another program added it and left it unfinished";
    bool fits = false;
    if (row->number != core_count(tuner->core))
        return base_error(CADRE_ECORRUPT, "%s: trial %lld is missing, or another one has its number", tuner->directory, (long long)core_count(tuner->core));
    int status = row->state == TRACKING_WAITING ? read_enqueued(tuner, row, x, reason) : CADRE_OK;
    if (status == CADRE_OK && row->state == TRACKING_WAITING && !*reason) {
        counts->enqueued++;
        return begin_enqueued(tuner, row, x);
    }
    if (status == CADRE_OK)
        status = take_in(tuner, row, reason, x, &fits);
    counts->results++;
    counts->strange += !fits;
    return status;
}

int tuner_take_in_others(tuner *tuner)
{
    struct found found = {.tuner = tuner};
    struct counts counts = {0};
    double *x = base_malloc(((size_t)cadre_space_count(tuner->space) + 1) * sizeof *x);
    int status = x ? tracking_each_trial(tuner->store, tuner->experiment, note_row, &found) : CADRE_ENOMEM;
    while (core_closed(tuner->core) && found.count > 0 && found.rows[found.count - 1].state == TRACKING_WAITING)
        found.count--; /* the experiment is over: they wait on */
    for (int i = 0; status == CADRE_OK && i < found.count; i++)
        status = take_one(tuner, &found.rows[i], x, &counts);
    if (status == CADRE_OK && counts.results > 0)
        base_log(counts.strange ? CADRE_LOG_WARN : CADRE_LOG_INFO, "tuner",
                 "%s: another program has added %d trials, of which the search learns; %d of them are no points of its space", tuner->directory, counts.results, counts.strange);
    if (status == CADRE_OK && counts.enqueued > 0)
        base_log(CADRE_LOG_INFO, "tuner", "%s: another program has enqueued %d trials, which run first", tuner->directory, counts.enqueued);
    free(found.rows);
    free(x);
    return status;
}
