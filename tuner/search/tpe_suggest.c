/* From ranked trials to the next point: candidates from the good mixture, of which the best by the ratio of densities is taken. */
#include "base/mem.h"
#include "tuner/search/tpe.h"

#include <stdlib.h>
#include <string.h>

void tpe_suggester_free(tpe_suggester *search)
{
    tpe_model_free(&search->model);
    free(search->points.at);
    free(search->points.left);
    free(search->points.right);
    free(search->points.value);
    free(search->candidates);
}

int tpe_suggester_init(tpe_suggester *search, const cadre_space *space, uint64_t seed, const cadre_tpe_options *options)
{
    *search = (tpe_suggester){.space = space, .seed = seed};
    search->startup = options->startup ? options->startup : 10;
    search->gamma = options->gamma > 0 ? options->gamma : 0.15;
    search->max_good = options->max_good ? options->max_good : 25;
    int status = tpe_model_init(&search->model, space);
    if (status)
        return status;
    size_t ndims = (size_t)space->count, points = (size_t)(options->candidates ? options->candidates : 24);
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

/* A value of a point to be evaluated. */
static void place(tpe_suggester *search, int point, int d, double value)
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
static bool choose_together(tpe_suggester *search, const tpe_history *history, base_rng *rng, double *x)
{
    const tpe_model *model = &search->model;
    int ndims = history->ndims;
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
        if ((!found || above[p] - below[p] > best) && !tpe_history_seen(history, candidate)) {
            best = above[p] - below[p];
            memcpy(x, candidate, (size_t)ndims * sizeof *x);
            found = true;
        }
    }
    return found;
}

/* Each dimension by itself, the best of its own candidates: good values of different trials come together. False when
 * the point is not new. */
static bool choose_alone(tpe_suggester *search, const tpe_history *history, base_rng *rng, double *x)
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
    return !tpe_history_seen(history, x);
}

int tpe_suggest(tpe_suggester *search, tpe_history *history, int64_t number, double *x)
{
    enum { ROUNDS = 8, DRAWS = 32 };
    int good = (int)fmin(ceil(search->gamma * history->ranked), search->max_good);
    int status = tpe_model_update(&search->model, history, good);
    if (status)
        return status;
    base_rng rng;
    base_rng_init(&rng, search->seed, base_rng_mix((uint64_t)number, SEARCH_STREAM_TPE));
    if (number % TPE_ALONE == 0 && choose_alone(search, history, &rng, x))
        return CADRE_OK;
    for (int round = 0; round < ROUNDS; round++)
        if (choose_together(search, history, &rng, x))
            return CADRE_OK;
    /* All that is promising has been tried: anything new, and when that is hard to find too, anything. */
    for (int draw = 0; draw < DRAWS; draw++) {
        cadre_space_sample(search->space, search->seed, base_rng_u64(&rng), x);
        if (!tpe_history_seen(history, x))
            break;
    }
    return CADRE_OK;
}
