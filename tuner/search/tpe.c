/*
 * The tree-structured Parzen estimator: Bergstra, Bardenet, Bengio, Kegl, "Algorithms for Hyper-Parameter
 * Optimization", NIPS 2011; multivariate, as Optuna 5 has it by default (samplers/_tpe), and with what Watanabe,
 * "Tree-Structured Parzen Estimator", arXiv 2304.11127, found to matter.
 *
 * The best ceil(0.15 n) trials, 25 at most, are good, the others bad. Each side is a mixture of product kernels, one a
 * trial (a truncated normal per number, its mass on the steps of a stepped one, a smeared peak per choice), and a wide
 * prior. 24 points are drawn from the good mixture; the one with the largest ratio of good to bad density is suggested.
 * Pruned trials come after all complete ones, the furthest first. Trials still running are bad ("constant liar").
 *
 * Where it departs from Optuna, each for what bench/search showed on its problems and on others like them:
 * - 0.15 instead of 0.1 of the trials are good (Watanabe's advice), and a good trial counts by its rank, log(n + 1) -
 *   log(rank), instead of by its age; the good prior weighs a half.
 * - Kernels may be narrower while trials are few: TPE_CLIP.
 * - A point that was tried is not suggested again, and kernels over steps are at least half a step wide: on a coarse
 * grid Optuna spends most of its later trials on points that it has been to.
 * - Every fourth suggestion takes each dimension by itself, as the original estimator does, so that good values of
 *   different trials come together where dimensions are independent; the joint mixture alone stays in the valley it is
 * in.
 * - Conditions: one mixture over the whole tree of dimensions. A kernel that does not have a dimension that a point has
 *   counts there as the uniform density; Optuna leaves such dimensions to independent one-dimensional estimators. The
 * best two trials of every branch are good, so that each branch is searched and not only drawn from.
 * - Failed trials are bad, so that a region that crashes is left; Optuna forgets them.
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
    double *candidates; /* the points in natural units */
} tpe;

static void tpe_free(void *self)
{
    tpe *search = self;
    tpe_history_free(&search->history);
    tpe_model_free(&search->model);
    free(search->points.at);
    free(search->points.left);
    free(search->points.right);
    free(search->points.value);
    free(search->candidates);
    free(search);
}

static int set_up(tpe *search)
{
    size_t ndims = (size_t)search->space->count, points = (size_t)search->options.candidates;
    int status = tpe_history_init(&search->history, search->space->count);
    if (!status)
        status = tpe_model_init(&search->model, search->space);
    if (status)
        return status;
    search->points = (tpe_points){.count = (int)points, .ndims = (int)ndims};
    search->points.at = base_calloc(points * ndims, sizeof(double));
    search->points.left = base_calloc(points * ndims, sizeof(double));
    search->points.right = base_calloc(points * ndims, sizeof(double));
    search->points.value = base_calloc(points * ndims, sizeof(int));
    search->candidates = base_calloc(points * ndims, sizeof(double));
    return search->points.at && search->points.left && search->points.right && search->points.value &&
                   search->candidates
               ? CADRE_OK
               : CADRE_ENOMEM;
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
    options.gamma = options.gamma > 0 ? options.gamma : 0.15;
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

static int tpe_tell(void *self, int64_t number, const double *x, const cadre_outcome *outcome)
{
    tpe *search = self;
    int trial = tpe_history_find(&search->history, number);
    if (trial < 0) {
        int status = tpe_history_add(&search->history, search->model.dims, number, x);
        if (status)
            return status;
        trial = search->history.count - 1;
    }
    tpe_history_end(&search->history, trial, outcome);
    return CADRE_OK;
}

static int tpe_running(void *self, int64_t number, const double *x)
{
    tpe *search = self;
    return tpe_history_add(&search->history, search->model.dims, number, x);
}

/* ---- asking ----------------------------------------------------------------------------------------------------- */

/* A value of a point to be evaluated. */
static void place(tpe *search, int point, int d, double value)
{
    tpe_points *points = &search->points;
    const tpe_dim *dim = &search->model.dims[d];
    size_t at = (size_t)(point * points->ndims + d);
    double half = dim->dim->step / 2;
    points->at[at] = points->left[at] = points->right[at] = tpe_scaled(dim, value);
    if (isnan(value) || half == 0)
        return;
    points->left[at] = fmax(dim->dim->log && value <= half ? dim->low : tpe_scaled(dim, value - half), dim->low);
    points->right[at] = fmin(tpe_scaled(dim, value + half), dim->high);
    if (dim->values)
        points->value[at] = (int)((value - dim->dim->low) / dim->dim->step + 0.5);
}

/* All dimensions together: the best of the candidates that are new goes to x; false when none is. */
static bool choose_together(tpe *search, base_rng *rng, double *x)
{
    const tpe_model *model = &search->model;
    int ndims = search->history.ndims;
    for (int p = 0; p < search->points.count; p++) {
        double *candidate = search->candidates + p * ndims;
        tpe_model_draw(model, search->space, rng, candidate);
        for (int d = 0; d < ndims; d++)
            place(search, p, d, candidate[d]);
    }
    double above[TPE_MAX_POINTS], below[TPE_MAX_POINTS], best = -INFINITY;
    tpe_log_density(model->dims, &model->good_mixture, &search->points, above);
    tpe_log_density(model->dims, &model->bad, &search->points, below);
    bool found = false;
    for (int p = 0; p < search->points.count; p++) {
        const double *candidate = search->candidates + p * ndims;
        if ((!found || above[p] - below[p] > best) && !tpe_history_seen(&search->history, candidate)) {
            best = above[p] - below[p];
            memcpy(x, candidate, (size_t)ndims * sizeof *x);
            found = true;
        }
    }
    return found;
}

/* Each dimension by itself, the best of its own candidates: good values of different trials come together. False when
 * the point is not new. */
static bool choose_alone(tpe *search, base_rng *rng, double *x)
{
    const tpe_model *model = &search->model;
    tpe_points *points = &search->points;
    for (int i = 0; i < points->count * points->ndims; i++)
        points->at[i] = NAN;
    for (int k = 0; k < points->ndims; k++) {
        int d = search->space->order[k], best = 0;
        x[d] = NAN;
        if (!cadre_space_active(search->space, x, d))
            continue;
        double above[TPE_MAX_POINTS], below[TPE_MAX_POINTS];
        for (int p = 0; p < points->count; p++) {
            search->candidates[p] = tpe_model_draw_alone(model, d, rng);
            place(search, p, d, search->candidates[p]);
        }
        tpe_log_density(model->dims_alone, &model->good_alone, points, above);
        tpe_log_density(model->dims_alone, &model->bad_alone, points, below);
        for (int p = 1; p < points->count; p++)
            best = above[p] - below[p] > above[best] - below[best] ? p : best;
        x[d] = search->candidates[best];
        for (int p = 0; p < points->count; p++)
            points->at[p * points->ndims + d] = NAN;
    }
    return !tpe_history_seen(&search->history, x);
}

static int suggest(tpe *search, int64_t number, double *x)
{
    enum { ROUNDS = 8, DRAWS = 32 };
    int ranked = search->history.ranked;
    int good = (int)fmin(ceil(search->options.gamma * ranked), search->options.max_good);
    int status = tpe_model_update(&search->model, &search->history, good);
    if (status)
        return status;
    base_rng rng;
    base_rng_init(&rng, search->seed, base_rng_mix((uint64_t)number, SEARCH_STREAM_TPE));
    if (number % TPE_ALONE == 0 && choose_alone(search, &rng, x))
        return CADRE_OK;
    for (int round = 0; round < ROUNDS; round++)
        if (choose_together(search, &rng, x))
            return CADRE_OK;
    /* All that is promising has been tried: anything new, and when that is hard to find too, anything. */
    for (int draw = 0; draw < DRAWS; draw++) {
        cadre_space_sample(search->space, search->seed, base_rng_u64(&rng), x);
        if (!tpe_history_seen(&search->history, x))
            break;
    }
    return CADRE_OK;
}

static int tpe_ask(void *self, int64_t number, double *x)
{
    tpe *search = self;
    int status = CADRE_OK;
    if (search->history.ranked < search->options.startup)
        cadre_space_sample(search->space, search->seed, base_rng_mix((uint64_t)number, SEARCH_STREAM_SAMPLE), x);
    else
        status = suggest(search, number, x);
    return status ? status : tpe_history_add(&search->history, search->model.dims, number, x);
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
