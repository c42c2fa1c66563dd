/* From the history to two mixtures of kernels: the split, bandwidths by neighbours, weights, and drawing. */
#include "base/error.h"
#include "base/mem.h"
#include "tuner/search/tpe.h"

#include <stdlib.h>
#include <string.h>

double tpe_scaled(const tpe_dim *dim, double value) { return dim->dim->log ? log(value) : value; }

static double bounded(double value, double low, double high) { return fmin(fmax(value, low), high); }

/* A trial's bandwidth is the larger of the gaps to its neighbours on its side; at an end of the range the one gap there
 * is. The magic clip keeps it from falling below a share of the range that shrinks as trials come, down to a hundredth.
 */
static void set_bandwidth(const tpe_dim *dim, struct tpe_track *track, int trial, double left, double right,
                          int kernels)
{
    double gap = isnan(left) ? right : isnan(right) ? left : fmax(left, right);
    if (isnan(gap)) /* alone on its side: the bounds are its neighbours */
        gap = fmax(track->centre[trial] - dim->low, dim->high - track->centre[trial]);
    double sd = bounded(gap, dim->width / fmin(100, kernels + 2), dim->width);
    if (sd == track->sd[trial])
        return;
    track->sd[trial] = sd;
    track->inverse[trial] = 1 / sd;
    track->offset[trial] = tpe_offset(dim, track->centre[trial], sd);
}

static void set_bandwidths(const tpe_dim *dim, struct tpe_track *track, const unsigned char *is_good)
{
    int kernels[2] = {0, 0}, last[2] = {-1, -1};
    double gap[2] = {NAN, NAN}; /* to the left of `last` */
    for (int k = 0; k < track->sorted; k++)
        kernels[is_good[track->order[k]]]++;
    for (int k = 0; k < track->sorted; k++) {
        int trial = track->order[k], side = is_good[trial];
        double between = NAN;
        if (last[side] >= 0) {
            between = track->centre[trial] - track->centre[last[side]];
            set_bandwidth(dim, track, last[side], gap[side], between, kernels[side]);
        }
        gap[side] = between;
        last[side] = trial;
    }
    for (int side = 0; side < 2; side++)
        if (last[side] >= 0)
            set_bandwidth(dim, track, last[side], gap[side], NAN, kernels[side]);
}

/* The last 25 count fully, those before on a ramp from 1/n, in the order of their numbers. */
static double weight_of(int i, int n)
{
    if (n < 25 || i >= n - 25)
        return 1;
    return n == 26 ? 1.0 / n : 1.0 / n + i * (1 - 1.0 / n) / (n - 26);
}

static void set_categorical(const tpe_dim *dim, tpe_column *column, int kernels)
{
    double choices = dim->dim->count, prior = 1.0 / (kernels + 1), sum = 1 + choices * prior;
    column->same = log((1 + prior) / sum);
    column->other = log(prior / sum);
}

static int grow(tpe_model *model, const tpe_history *history, int good)
{
    if (history->room > model->room) {
        size_t room = (size_t)history->room;
        unsigned char *is_good = base_realloc(model->is_good, room);
        model->is_good = is_good ? is_good : model->is_good;
        double *bias = base_realloc(model->bias, room * sizeof *bias);
        model->bias = bias ? bias : model->bias;
        double *weight = base_realloc(model->weight, room * sizeof *weight);
        model->weight = weight ? weight : model->weight;
        if (!is_good || !bias || !weight)
            return CADRE_ENOMEM;
        model->room = history->room;
    }
    if (good > model->good_room) {
        size_t room = 2 * (size_t)good, each = (size_t)history->ndims * 3 + 2;
        int *list = base_realloc(model->good, room * sizeof *list);
        model->good = list ? list : model->good;
        double *store = base_realloc(model->good_store, room * each * sizeof *store);
        model->good_store = store ? store : model->good_store;
        if (!list || !store)
            return CADRE_ENOMEM;
        model->good_room = (int)room;
    }
    return CADRE_OK;
}

/* The bad mixture is the whole history in place, with the good trials struck out: nothing has to be moved when the
 * split moves. */
static void make_bad(tpe_model *model, const tpe_history *history, int good)
{
    int n = history->count - good, at = 0;
    double weights = 1;
    for (int i = 0; i < history->count; i++) {
        model->weight[i] = model->is_good[i] ? 0 : weight_of(at++, n);
        weights += model->weight[i];
        model->bias[i] = model->is_good[i] ? -INFINITY : 0;
    }
    for (int d = 0; d < history->ndims; d++) {
        const struct tpe_track *track = &history->track[d];
        model->bad_column[d] = (tpe_column){track->centre, track->inverse, track->offset, 0, 0};
        if (model->dims[d].dim->kind == CADRE_DIM_CATEGORICAL)
            set_categorical(&model->dims[d], &model->bad_column[d], n);
        else if (model->dims[d].always)
            for (int i = 0; i < history->count; i++)
                model->bias[i] += track->offset[i];
    }
    model->bad = (tpe_mixture){history->count, model->bad_column, model->bias, model->weight, weights};
}

static void make_good(tpe_model *model, const tpe_history *history, int good)
{
    double *bias = model->good_store, *weight = bias + good, *at = weight + good, weights = 1;
    for (int k = 0; k < good; k++) {
        bias[k] = 0;
        weights += weight[k] = weight_of(k, good);
    }
    for (int d = 0; d < history->ndims; d++, at += 3 * good) {
        const struct tpe_track *track = &history->track[d];
        double *centre = at, *inverse = at + good, *offset = at + 2 * good;
        for (int k = 0; k < good; k++) {
            centre[k] = track->centre[model->good[k]];
            inverse[k] = track->inverse[model->good[k]];
            offset[k] = track->offset[model->good[k]];
            if (model->dims[d].always && model->dims[d].dim->kind != CADRE_DIM_CATEGORICAL)
                bias[k] += offset[k];
        }
        model->good_column[d] = (tpe_column){centre, inverse, offset, 0, 0};
        if (model->dims[d].dim->kind == CADRE_DIM_CATEGORICAL)
            set_categorical(&model->dims[d], &model->good_column[d], good);
    }
    model->good_mixture = (tpe_mixture){good, model->good_column, bias, weight, weights};
}

static int by_number(const void *a, const void *b) { return *(const int *)a - *(const int *)b; }

int tpe_model_update(tpe_model *model, tpe_history *history, int good)
{
    int status = grow(model, history, good);
    if (status)
        return status;
    memset(model->is_good, 0, (size_t)history->count);
    memcpy(model->good, history->rank, (size_t)good * sizeof *model->good);
    qsort(model->good, (size_t)good, sizeof *model->good, by_number);
    for (int k = 0; k < good; k++)
        model->is_good[model->good[k]] = 1;
    for (int d = 0; d < history->ndims; d++)
        if (model->dims[d].dim->kind != CADRE_DIM_CATEGORICAL && model->dims[d].high > model->dims[d].low)
            set_bandwidths(&model->dims[d], &history->track[d], model->is_good);
    make_bad(model, history, good);
    make_good(model, history, good);
    return CADRE_OK;
}

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
    if (!(dim->high > dim->low))
        at = dim->low;
    else if (kernel < 0)
        at = tpe_draw_normal(rng, dim->prior_centre, dim->prior_sd, dim->low, dim->high);
    else if (column->inverse[kernel] == 0)
        at = dim->low + base_rng_uniform(rng) * (dim->high - dim->low);
    else
        at = tpe_draw_normal(rng, column->centre[kernel], 1 / column->inverse[kernel], dim->low, dim->high);
    return tuner_dim_nearest(dim->dim, dim->dim->log ? exp(at) : at);
}

void tpe_model_draw(const tpe_model *model, const cadre_space *space, base_rng *rng, double *x)
{
    const tpe_mixture *good = &model->good_mixture;
    double u = base_rng_uniform(rng) * good->weights;
    int kernel = 0;
    while (kernel < good->kernels && u >= good->weight[kernel])
        u -= good->weight[kernel++];
    if (kernel == good->kernels)
        kernel = -1; /* the prior */
    for (int k = 0; k < space->count; k++) {
        int d = space->order[k];
        const tpe_dim *dim = &model->dims[d];
        if (!cadre_space_active(space, x, d))
            x[d] = NAN;
        else if (dim->dim->kind == CADRE_DIM_CATEGORICAL)
            x[d] = draw_choice(dim, &good->column[d], kernel, rng);
        else
            x[d] = draw_number(dim, &good->column[d], kernel, rng);
    }
}
