/*
 * The tree-structured Parzen estimator: Bergstra, Bardenet, Bengio, Kegl, "Algorithms for Hyper-Parameter
 * Optimization", NIPS 2011; multivariate, with the settings that Optuna 5 has by default (samplers/_tpe) and that
 * Watanabe, "Tree-Structured Parzen Estimator", arXiv 2304.11127, found to matter.
 *
 * The best ceil(0.1 n) trials, 25 at most, are good, the others bad. Each side is a mixture of product kernels, one a
 * trial (a truncated normal per number, its mass on the steps of a stepped one, a smeared peak per choice), and a wide
 * prior. 24 points are drawn from the good mixture; the one with the largest ratio of good to bad density is suggested.
 * Pruned trials come after all complete ones, the furthest first. Trials still running are bad ("constant liar").
 *
 * Where it departs from Optuna:
 * - Conditions: one mixture over the whole tree of dimensions. A kernel that does not have a dimension that a point has
 * counts there as the uniform density; Optuna leaves such dimensions to independent one-dimensional estimators.
 * - Failed trials are bad too, so that a region that crashes is left; Optuna forgets them.
 * - A normal dimension's prior is its distribution, and its width for bandwidths four standard deviations.
 */
#include "tuner/search/tpe.h"

#include "base/error.h"
#include "base/mem.h"

#include <stddef.h>
#include <stdlib.h>
#include <string.h>

typedef struct tpe {
    const cadre_space *space;
    uint64_t seed;
    cadre_tpe_options options;
    tpe_history history;
    tpe_model model;
    tpe_points points;
    double *candidates; /* in natural units */
} tpe;

static void tpe_free(void *self)
{
    tpe *search = self;
    tpe_history *history = &search->history;
    for (int d = 0; history->track && d < history->ndims; d++) {
        struct tpe_track *track = &history->track[d];
        void *parts[] = {track->centre, track->there, track->order, track->sd, track->inverse, track->offset};
        for (size_t i = 0; i < sizeof parts / sizeof *parts; i++)
            free(parts[i]);
    }
    void *parts[] = {history->track,
                     history->number,
                     history->state,
                     history->value,
                     history->last_step,
                     history->rank,
                     search->model.dims,
                     search->model.good,
                     search->model.is_good,
                     search->model.bias,
                     search->model.weight,
                     search->model.bad_column,
                     search->model.good_column,
                     search->model.good_store,
                     search->points.at,
                     search->points.left,
                     search->points.right,
                     search->candidates,
                     search};
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++)
        free(parts[i]);
}

static void describe(const cadre_dim *dim, tpe_dim *out)
{
    *out = (tpe_dim){.dim = dim, .always = dim->conditions == 0};
    tuner_dim_range(dim, &out->low, &out->high);
    out->width = dim->normal ? 4 * dim->sd : out->high - out->low;
    out->prior_centre = dim->normal ? dim->mean : (out->low + out->high) / 2;
    out->prior_sd = dim->normal ? dim->sd : out->width;
    if (dim->kind == CADRE_DIM_CATEGORICAL)
        out->uniform = -log(dim->count);
    else if (out->high > out->low)
        out->uniform = dim->step > 0 ? -log(tuner_dim_steps(dim)) : -log(out->high - out->low);
}

static int set_up(tpe *search)
{
    size_t ndims = (size_t)search->space->count, points = (size_t)search->options.candidates;
    search->history.ndims = search->space->count;
    search->history.track = base_calloc(ndims, sizeof *search->history.track);
    search->model.dims = base_calloc(ndims, sizeof *search->model.dims);
    search->model.bad_column = base_calloc(ndims, sizeof *search->model.bad_column);
    search->model.good_column = base_calloc(ndims, sizeof *search->model.good_column);
    search->points = (tpe_points){.count = (int)points, .ndims = (int)ndims};
    search->points.at = base_calloc(points * ndims, sizeof(double));
    search->points.left = base_calloc(points * ndims, sizeof(double));
    search->points.right = base_calloc(points * ndims, sizeof(double));
    search->candidates = base_calloc(points * ndims, sizeof(double));
    if (!search->history.track || !search->model.dims || !search->model.bad_column || !search->model.good_column ||
        !search->points.at || !search->points.left || !search->points.right || !search->candidates)
        return CADRE_ENOMEM;
    for (size_t d = 0; d < ndims; d++)
        describe(&search->space->dims[d], &search->model.dims[d]);
    return CADRE_OK;
}

static int tpe_create(const cadre_searcher_args *args, void **self)
{
    static const search_option known[] = {
        {"startup", SEARCH_OPTION_INT, offsetof(cadre_tpe_options, startup), 1, 1e9},
        {"candidates", SEARCH_OPTION_INT, offsetof(cadre_tpe_options, candidates), 1, TPE_MAX_POINTS},
        {"gamma", SEARCH_OPTION_DOUBLE, offsetof(cadre_tpe_options, gamma), 1e-6, 1},
        {"max_good", SEARCH_OPTION_INT, offsetof(cadre_tpe_options, max_good), 1, 1e6},
        {0},
    };
    cadre_tpe_options options = {.size = sizeof options};
    int status = search_options_read(args, "tpe", known, &options, sizeof options);
    if (status)
        return status;
    tpe *search = base_calloc(1, sizeof *search);
    if (!search)
        return CADRE_ENOMEM;
    options.startup = options.startup ? options.startup : 10;
    options.candidates = options.candidates ? options.candidates : 24;
    options.gamma = options.gamma > 0 ? options.gamma : 0.1;
    options.max_good = options.max_good ? options.max_good : 25;
    search->space = args->space;
    search->seed = args->seed;
    search->options = options;
    status = set_up(search);
    if (status) {
        tpe_free(search);
        return status;
    }
    *self = search;
    return CADRE_OK;
}

/* ---- the history --------------------------------------------------------------------------------------------------
 */

#define GROW(array, room)                                                                                              \
    ((grown = base_realloc(array, (size_t)(room) * sizeof *(array))) ? (array = grown, true) : false)

static int make_room(tpe_history *history)
{
    void *grown;
    if (history->count < history->room)
        return CADRE_OK;
    int room = history->room ? 2 * history->room : 64;
    bool good = GROW(history->number, room) && GROW(history->state, room) && GROW(history->value, room) &&
                GROW(history->last_step, room) && GROW(history->rank, room);
    for (int d = 0; d < history->ndims && good; d++) {
        struct tpe_track *track = &history->track[d];
        good = GROW(track->centre, room) && GROW(track->there, room) && GROW(track->order, room) &&
               GROW(track->sd, room) && GROW(track->inverse, room) && GROW(track->offset, room);
    }
    if (good)
        history->room = room;
    return good ? CADRE_OK : CADRE_ENOMEM;
}

static void insert_sorted(struct tpe_track *track, int trial)
{
    int low = 0, high = track->sorted;
    while (low < high) {
        int middle = low + (high - low) / 2;
        if (track->centre[track->order[middle]] <= track->centre[trial])
            low = middle + 1;
        else
            high = middle;
    }
    memmove(track->order + low + 1, track->order + low, (size_t)(track->sorted - low) * sizeof *track->order);
    track->order[low] = trial;
    track->sorted++;
}

/* A new trial at x, running. */
static int add_trial(tpe *search, int64_t number, const double *x)
{
    tpe_history *history = &search->history;
    int status = make_room(history);
    if (status)
        return status;
    int trial = history->count++;
    history->number[trial] = number;
    history->state[trial] = TPE_RUNNING;
    for (int d = 0; d < history->ndims; d++) {
        struct tpe_track *track = &history->track[d];
        const tpe_dim *dim = &search->model.dims[d];
        bool categorical = dim->dim->kind == CADRE_DIM_CATEGORICAL;
        track->there[trial] = !isnan(x[d]);
        track->centre[trial] = track->there[trial] ? tpe_scaled(dim, x[d]) : categorical ? -1 : 0;
        track->sd[trial] = track->inverse[trial] = 0;
        track->offset[trial] = track->there[trial] ? 0 : dim->uniform;
        if (track->there[trial] && !categorical)
            insert_sorted(track, trial);
    }
    return CADRE_OK;
}

static int find_trial(const tpe_history *history, int64_t number)
{
    for (int low = 0, high = history->count; low < high;) {
        int middle = low + (high - low) / 2;
        if (history->number[middle] == number)
            return middle;
        if (history->number[middle] < number)
            low = middle + 1;
        else
            high = middle;
    }
    return -1;
}

/* Complete before pruned; complete by value; pruned by how far they came, then by value. Equal ones stay in the order
 * in which they were told. */
static bool is_better(const tpe_history *history, int a, int b)
{
    if (history->state[a] != history->state[b])
        return history->state[a] == TPE_COMPLETE;
    if (history->state[a] == TPE_PRUNED && history->last_step[a] != history->last_step[b])
        return history->last_step[a] > history->last_step[b];
    return history->value[a] < history->value[b];
}

static int tpe_tell(void *self, int64_t number, const double *x, const cadre_outcome *outcome)
{
    tpe *search = self;
    tpe_history *history = &search->history;
    int trial = find_trial(history, number);
    if (trial < 0) {
        int status = add_trial(search, number, x);
        if (status)
            return status;
        trial = find_trial(history, number);
    }
    history->value[trial] = outcome->value;
    history->last_step[trial] = outcome->last_step;
    history->state[trial] = outcome->end == CADRE_ENDED_COMPLETE ? TPE_COMPLETE
                            : outcome->end == CADRE_ENDED_PRUNED ? TPE_PRUNED
                                                                 : TPE_FAILED;
    if (history->state[trial] == TPE_FAILED)
        return CADRE_OK;
    int low = 0, high = history->ranked;
    while (low < high) {
        int middle = low + (high - low) / 2;
        if (is_better(history, trial, history->rank[middle]))
            high = middle;
        else
            low = middle + 1;
    }
    memmove(history->rank + low + 1, history->rank + low, (size_t)(history->ranked - low) * sizeof *history->rank);
    history->rank[low] = trial;
    history->ranked++;
    return CADRE_OK;
}

static int tpe_running(void *self, int64_t number, const double *x) { return add_trial(self, number, x); }

/* ---- asking -------------------------------------------------------------------------------------------------------
 */

static void place(tpe *search, int point, const double *x)
{
    tpe_points *points = &search->points;
    for (int d = 0; d < points->ndims; d++) {
        const tpe_dim *dim = &search->model.dims[d];
        size_t at = (size_t)(point * points->ndims + d);
        double half = dim->dim->step / 2;
        points->at[at] = points->left[at] = points->right[at] = tpe_scaled(dim, x[d]);
        if (half > 0 && !isnan(x[d])) {
            points->left[at] = fmax(dim->dim->log && x[d] <= half ? dim->low : tpe_scaled(dim, x[d] - half), dim->low);
            points->right[at] = fmin(tpe_scaled(dim, x[d] + half), dim->high);
        }
    }
}

static int choose(tpe *search, int64_t number, double *x)
{
    tpe_history *history = &search->history;
    int good = (int)fmin(ceil(search->options.gamma * history->ranked), search->options.max_good);
    int status = tpe_model_update(&search->model, history, good);
    if (status)
        return status;
    base_rng rng;
    base_rng_init(&rng, search->seed, base_rng_mix((uint64_t)number, SEARCH_STREAM_TPE));
    size_t ndims = (size_t)history->ndims;
    for (int p = 0; p < search->points.count; p++) {
        tpe_model_draw(&search->model, search->space, &rng, search->candidates + (size_t)p * ndims);
        place(search, p, search->candidates + (size_t)p * ndims);
    }
    double above[TPE_MAX_POINTS], below[TPE_MAX_POINTS];
    tpe_log_density(search->model.dims, &search->model.good_mixture, &search->points, above);
    tpe_log_density(search->model.dims, &search->model.bad, &search->points, below);
    int best = 0;
    for (int p = 1; p < search->points.count; p++)
        if (above[p] - below[p] > above[best] - below[best])
            best = p;
    memcpy(x, search->candidates + (size_t)best * ndims, ndims * sizeof *x);
    return CADRE_OK;
}

static int tpe_ask(void *self, int64_t number, double *x)
{
    tpe *search = self;
    int status = CADRE_OK;
    if (search->history.ranked < search->options.startup)
        cadre_space_sample(search->space, search->seed, base_rng_mix((uint64_t)number, SEARCH_STREAM_SAMPLE), x);
    else
        status = choose(search, number, x);
    return status ? status : add_trial(search, number, x);
}

const cadre_searcher_table cadre_searcher_tpe = {
    .abi = CADRE_SEARCHER_ABI,
    .size = sizeof(cadre_searcher_table),
    .name = "tpe",
    .create = tpe_create,
    .ask = tpe_ask,
    .tell = tpe_tell,
    .running = tpe_running,
    .free = tpe_free,
};
