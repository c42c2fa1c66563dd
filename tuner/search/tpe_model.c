/* From the history to two mixtures of kernels: the split, bandwidths by neighbours, weights, and drawing. */
#include "base/error.h"
#include "base/mem.h"
#include "tuner/search/tpe.h"

#include <stdlib.h>
#include <string.h>

double tpe_scaled(const tpe_dim *dim, double value) { return dim->dim->log ? log(value) : value; }

/* ---- the dimensions --------------------------------------------------------------------------------------------- */

static void describe(const cadre_dim *dim, tpe_dim *out)
{
    *out = (tpe_dim){.dim = dim};
    tuner_dim_range(dim, &out->low, &out->high);
    out->width = dim->normal ? 4 * dim->sd : out->high - out->low;
    out->prior_centre = dim->normal ? dim->mean : (out->low + out->high) / 2;
    out->prior_sd = dim->normal ? dim->sd : out->width;
    bool choice = dim->kind == CADRE_DIM_CATEGORICAL;
    double steps = choice || dim->step == 0 ? 0 : tuner_dim_steps(dim);
    out->point = !choice && (steps == 1 || !(out->high > out->low));
    if (choice)
        out->uniform = -log(dim->count);
    else if (!out->point)
        out->uniform = steps > 0 ? -log(steps) : -log(out->high - out->low);
    out->values = !out->point && steps <= TPE_TABLE ? (int)steps : 0;
    out->summed = !choice && !out->point && dim->conditions == 0 && !out->values;
}

int tpe_model_init(tpe_model *model, const cadre_space *space)
{
    size_t ndims = (size_t)space->count;
    *model = (tpe_model){0};
    model->dims = base_calloc(ndims, sizeof *model->dims);
    model->bad_column = base_calloc(ndims, sizeof *model->bad_column);
    model->good_column = base_calloc(ndims, sizeof *model->good_column);
    model->dims_alone = base_calloc(ndims, sizeof *model->dims_alone);
    if (!model->dims || !model->bad_column || !model->good_column || !model->dims_alone)
        return CADRE_ENOMEM;
    for (size_t d = 0; d < ndims; d++)
        describe(&space->dims[d], &model->dims[d]);
    for (size_t d = 0; d < ndims; d++)
        for (int k = 0; k < space->dims[d].conditions; k++) {
            int parent = space->dims[d].condition[k].parent;
            if (space->dims[parent].kind != CADRE_DIM_CATEGORICAL || model->dims[parent].parent)
                continue;
            model->dims[parent].parent = true;
            model->branches += space->dims[parent].count;
        }
    for (size_t d = 0; d < ndims; d++) {
        model->dims_alone[d] = model->dims[d];
        model->dims_alone[d].summed = false;
    }
    return CADRE_OK;
}

void tpe_model_free(tpe_model *model)
{
    free(model->dims);
    free(model->dims_alone);
    free(model->bias_alone);
    free(model->good);
    free(model->is_good);
    free(model->bias);
    free(model->weight);
    free(model->bad_column);
    free(model->good_column);
    free(model->good_store);
}

/* ---- bandwidths ------------------------------------------------------------------------------------------------- */

static void set_kernel(const tpe_dim *dim, tpe_track *track, int trial, double sd)
{
    double centre = track->centre[trial], inverse = 1 / sd, offset = tpe_offset(dim, centre, sd);
    track->sd[trial] = sd;
    track->inverse[trial] = inverse;
    track->offset[trial] = offset;
    double right = dim->low;
    for (int v = 0; v < dim->values; v++) {
        double value = dim->dim->low + v * dim->dim->step, left = right;
        right = v + 1 == dim->values ? dim->high : tpe_scaled(dim, value + dim->dim->step / 2);
        track->mass[(size_t)v * (size_t)track->stride + (size_t)trial] =
            offset + tpe_cell(left, tpe_scaled(dim, value), right, centre, inverse);
    }
}

/* A kernel over steps is at least half a step wide. */
static double least_over_steps(const tpe_dim *dim, double centre)
{
    double half = dim->dim->step / 2, step = dim->dim->step;
    if (dim->dim->log) {
        double value = exp(centre);
        step = log((value + half) / fmax(value - half, value / 2));
    }
    return fmin(TPE_STEP * step, dim->width);
}

/*
 * A trial's bandwidth is the larger of the gaps to its neighbours on its side; at an end of the range, the one gap
 * there is. The magic clip keeps it from falling below a share of the range that shrinks as trials come, to a
 * hundredth.
 */
static void set_bandwidth(const tpe_dim *dim, tpe_track *track, int trial, double left, double right, double least)
{
    if (dim->dim->step > 0)
        least = fmax(least, least_over_steps(dim, track->centre[trial]));
    double gap = isnan(left) ? right : isnan(right) ? left : left > right ? left : right;
    if (isnan(gap)) /* alone on its side: the bounds are its neighbours */
        gap = fmax(track->centre[trial] - dim->low, dim->high - track->centre[trial]);
    double sd = gap < least ? least : gap > dim->width ? dim->width : gap;
    if (sd != track->sd[trial])
        set_kernel(dim, track, trial, sd);
}

static void set_bandwidths(const tpe_dim *dim, tpe_track *track, const unsigned char *is_good)
{
    int kernels[2] = {0, 0}, last[2] = {-1, -1};
    double gap[2] = {NAN, NAN}, least[2]; /* gap: to the left of `last` */
    for (int k = 0; k < track->sorted; k++)
        kernels[is_good[track->order[k]]]++;
    for (int side = 0; side < 2; side++)
        least[side] = dim->width / fmin(100, TPE_CLIP * (kernels[side] + 2));
    for (int k = 0; k < track->sorted; k++) {
        int trial = track->order[k], side = is_good[trial];
        double between = NAN;
        if (last[side] >= 0) {
            between = track->centre[trial] - track->centre[last[side]];
            set_bandwidth(dim, track, last[side], gap[side], between, least[side]);
        }
        gap[side] = between;
        last[side] = trial;
    }
    for (int side = 0; side < 2; side++)
        if (last[side] >= 0)
            set_bandwidth(dim, track, last[side], gap[side], NAN, least[side]);
}

/* ---- the split and the mixtures --------------------------------------------------------------------------------- */

static void take(tpe_model *model, int trial)
{
    model->good[model->good_count++] = trial;
    model->is_good[trial] = 1;
}

/* The best of each value of a choice that others are conditional on: without them a branch that had no luck at first
 * would not be searched, but only be drawn from now and then. */
static void take_of_branches(tpe_model *model, const tpe_history *history, int d)
{
    const double *value = history->track[d].centre;
    for (int choice = 0; choice < model->dims[d].dim->count; choice++) {
        int taken = 0;
        for (int k = 0; k < model->good_count; k++)
            taken += value[model->good[k]] == choice;
        for (int k = 0; k < history->ranked && taken < TPE_BRANCH; k++)
            if (value[history->rank[k]] == choice && !model->is_good[history->rank[k]]) {
                take(model, history->rank[k]);
                taken++;
            }
    }
}

/* The good trials: the best `count`, and those of branches. */
static void split(tpe_model *model, const tpe_history *history, int count)
{
    memset(model->is_good, 0, (size_t)history->count);
    model->good_count = 0;
    for (int k = 0; k < count; k++)
        take(model, history->rank[k]);
    for (int d = 0; d < history->ndims; d++)
        if (model->dims[d].parent)
            take_of_branches(model, history, d);
}

/* Of bad trials the last 25 count fully, those before on a ramp from 1/n, in the order of their numbers. */
static double weight_of_bad(int i, int n)
{
    if (n < 25 || i >= n - 25)
        return 1;
    return n == 26 ? 1.0 / n : 1.0 / n + i * (1 - 1.0 / n) / (n - 26);
}

/* Of good trials the better ones count more; all together as much as their number. */
static double weight_of_good(int rank, int n) { return log(n + 1.0) - log(rank + 1.0); }

static void set_choice(const tpe_dim *dim, tpe_column *column, int kernels)
{
    double choices = dim->dim->count, prior = 1.0 / (kernels + 1), sum = 1 + choices * prior;
    column->same = log((1 + prior) / sum);
    column->other = log(prior / sum);
}

/* The bad mixture is the whole history in place, with the good trials struck out: nothing moves when the split moves.
 */
static void make_bad(tpe_model *model, const tpe_history *history)
{
    int n = history->count - model->good_count, at = 0;
    double weights = 1;
    for (int i = 0; i < history->count; i++) {
        model->weight[i] = model->is_good[i] ? 0 : weight_of_bad(at++, n);
        weights += model->weight[i];
        model->bias[i] = model->bias_alone[i] = model->is_good[i] ? -INFINITY : 0;
    }
    for (int d = 0; d < history->ndims; d++) {
        const tpe_track *track = &history->track[d];
        model->bad_column[d] =
            (tpe_column){track->centre, track->inverse, track->offset, track->mass, track->stride, 0, 0};
        if (model->dims[d].dim->kind == CADRE_DIM_CATEGORICAL)
            set_choice(&model->dims[d], &model->bad_column[d], n);
        for (int i = 0; i < history->count && model->dims[d].summed; i++)
            model->bias[i] += track->offset[i];
    }
    model->bad = (tpe_mixture){history->count, model->bad_column, model->bias, model->weight, 1, weights};
    model->bad_alone = model->bad;
    model->bad_alone.bias = model->bias_alone;
}

/* Doubles that the good mixture takes for each of its kernels. */
static size_t doubles_per_kernel(const tpe_model *model, int ndims)
{
    size_t count = 3 + 3 * (size_t)ndims;
    for (int d = 0; d < ndims; d++)
        count += (size_t)model->dims[d].values;
    return count;
}

static void make_good(tpe_model *model, const tpe_history *history)
{
    int n = model->good_count;
    double *bias = model->good_store, *none = bias + n, *weight = none + n, *at = weight + n, weights = TPE_GOOD_PRIOR;
    for (int k = 0; k < n; k++) {
        bias[k] = none[k] = 0;
        weights += weight[k] = weight_of_good(k, n);
    }
    for (int d = 0; d < history->ndims; d++) {
        const tpe_track *track = &history->track[d];
        const tpe_dim *dim = &model->dims[d];
        double *centre = at, *inverse = at + n, *offset = at + 2 * n, *mass = at + 3 * n;
        for (int k = 0; k < n; k++) {
            int trial = model->good[k];
            centre[k] = track->centre[trial];
            inverse[k] = track->inverse[trial];
            offset[k] = track->offset[trial];
            bias[k] += dim->summed ? offset[k] : 0;
            for (int v = 0; v < dim->values; v++)
                mass[v * n + k] = track->mass[(size_t)v * (size_t)track->stride + (size_t)trial];
        }
        model->good_column[d] = (tpe_column){centre, inverse, offset, mass, n, 0, 0};
        if (dim->dim->kind == CADRE_DIM_CATEGORICAL)
            set_choice(dim, &model->good_column[d], n);
        at += (3 + dim->values) * n;
    }
    model->good_mixture = (tpe_mixture){n, model->good_column, bias, weight, TPE_GOOD_PRIOR, weights};
    model->good_alone = model->good_mixture;
    model->good_alone.bias = none;
}

#define GROW(array, count)                                                                                             \
    ((grown = base_realloc(array, (size_t)(count) * sizeof *(array))) ? ((array) = grown, true) : false)

static int make_room(tpe_model *model, const tpe_history *history, int good)
{
    void *grown;
    if (history->room > model->room) {
        if (!GROW(model->is_good, history->room) || !GROW(model->bias, history->room) ||
            !GROW(model->bias_alone, history->room) || !GROW(model->weight, history->room))
            return CADRE_ENOMEM;
        model->room = history->room;
    }
    if (good > model->good_room) {
        if (!GROW(model->good, 2 * good) ||
            !GROW(model->good_store, 2 * (size_t)good * doubles_per_kernel(model, history->ndims)))
            return CADRE_ENOMEM;
        model->good_room = 2 * good;
    }
    return CADRE_OK;
}

int tpe_model_update(tpe_model *model, tpe_history *history, int good)
{
    int status = make_room(model, history, good + TPE_BRANCH * model->branches);
    if (status)
        return status;
    split(model, history, good);
    for (int d = 0; d < history->ndims; d++)
        if (model->dims[d].dim->kind != CADRE_DIM_CATEGORICAL && !model->dims[d].point)
            set_bandwidths(&model->dims[d], &history->track[d], model->is_good);
    make_bad(model, history);
    make_good(model, history);
    return CADRE_OK;
}

/* ---- drawing ---------------------------------------------------------------------------------------------------- */

static double draw_choice(const tpe_dim *dim, const tpe_column *column, int kernel, base_rng *rng)
{
    double own = kernel < 0 ? -1 : column->centre[kernel], u = base_rng_uniform(rng);
    if (own < 0)
        return floor(u * dim->dim->count);
    double same = exp(column->same), other = exp(column->other);
    if (u < same)
        return own;
    double which = fmin(floor((u - same) / other), dim->dim->count - 2); /* among the others */
    return which < own ? which : which + 1;
}

static double draw_number(const tpe_dim *dim, const tpe_column *column, int kernel, base_rng *rng)
{
    double at;
    if (dim->point)
        return dim->dim->low;
    if (kernel < 0)
        at = tpe_draw_normal(rng, dim->prior_centre, dim->prior_sd, dim->low, dim->high);
    else if (column->inverse[kernel] == 0)
        at = dim->low + base_rng_uniform(rng) * (dim->high - dim->low);
    else
        at = tpe_draw_normal(rng, column->centre[kernel], 1 / column->inverse[kernel], dim->low, dim->high);
    return tuner_dim_nearest(dim->dim, dim->dim->log ? exp(at) : at);
}

static double draw_value(const tpe_model *model, int d, int kernel, base_rng *rng)
{
    const tpe_dim *dim = &model->dims[d];
    const tpe_column *column = &model->good_column[d];
    return dim->dim->kind == CADRE_DIM_CATEGORICAL ? draw_choice(dim, column, kernel, rng)
                                                   : draw_number(dim, column, kernel, rng);
}

/* One of the good mixture's kernels by weight; -1 is the prior. */
static int draw_kernel(const tpe_mixture *good, base_rng *rng)
{
    double u = base_rng_uniform(rng) * good->weights;
    for (int kernel = 0; kernel < good->kernels; kernel++) {
        if (u < good->weight[kernel])
            return kernel;
        u -= good->weight[kernel];
    }
    return -1;
}

void tpe_model_draw(const tpe_model *model, const cadre_space *space, base_rng *rng, double *x)
{
    int kernel = draw_kernel(&model->good_mixture, rng);
    for (int k = 0; k < space->count; k++) {
        int d = space->order[k];
        x[d] = cadre_space_active(space, x, d) ? draw_value(model, d, kernel, rng) : NAN;
    }
}

double tpe_model_draw_alone(const tpe_model *model, int d, base_rng *rng)
{
    return draw_value(model, d, draw_kernel(&model->good_mixture, rng), rng);
}
