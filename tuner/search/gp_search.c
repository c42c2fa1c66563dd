/*
 * The point that promises most. Many points, spread evenly and drawn around good ones, are looked at in blocks; from
 * the best of them, and from the best trial, go local searches, which follow the slope over continuous dimensions and
 * try neighbours over the others, in turn.
 */
#include "base/mem.h"
#include "tuner/search/gp.h"

#include <stdlib.h>
#include <string.h>

int gp_search_reserve(gp_search *search)
{
    size_t ndims = (size_t)search->space->space->count + 1, pool = (size_t)search->candidates + GP_BLOCK;
    size_t axes = (size_t)search->space->axes, columns = (size_t)search->space->columns + 1;
    if (search->pool)
        return CADRE_OK;
    double *all = base_calloc(pool * ndims + pool + columns * GP_BLOCK + 2 * GP_BLOCK * ndims + 4 * axes + 4 * ndims +
                                  gp_minimise_room((int)axes) + GP_BLOCK,
                              sizeof *all);
    if (!all)
        return CADRE_ENOMEM;
    search->pool = all;
    search->value = all + pool * ndims;
    search->columns = search->value + pool;
    search->points = search->columns + columns * GP_BLOCK;
    search->variables = search->points + 2 * GP_BLOCK * ndims;
    return CADRE_OK;
}

void gp_search_free(gp_search *search) { free(search->pool); }

/* ---- values ----------------------------------------------------------------------------------------------------- */

/* What `count` points, GP_BLOCK at most, promise; those that may not be suggested, nothing. */
static void evaluate(gp_search *search, int count, const double *points, double *value)
{
    double out[GP_BLOCK];
    int ndims = search->space->space->count;
    for (int k = 0; k < GP_BLOCK; k++) /* the block is always full */
        gp_encode(search->space, points + (size_t)(k < count ? k : 0) * (size_t)ndims, search->columns + k, GP_BLOCK);
    gp_log_ei(search->model, search->goal, search->columns, out);
    for (int k = 0; k < count; k++) {
        const double *x = points + (size_t)k * (size_t)ndims;
        value[k] = !search->repeats && gp_history_seen(search->history, x) ? -INFINITY : out[k];
    }
}

/* ---- candidates ------------------------------------------------------------------------------------------------- */

/* A point near another: each dimension is moved with some chance, by a distance that is near or far. */
static void draw_near(gp_search *search, const double *from, double *x)
{
    const gp_space *space = search->space;
    base_rng *rng = search->rng;
    memcpy(x, from, (size_t)space->space->count * sizeof *x);
    double chance = base_rng_uniform(rng) < 0.5 ? 1 : fmax(2.0 / space->axes, 0.2);
    double far = 0.3 * exp(-5 * base_rng_uniform(rng));
    for (int a = 0; a < space->axes; a++) {
        const gp_axis *axis = &space->axis[a];
        const cadre_dim *dim = &space->space->dims[axis->dim];
        double whether = base_rng_uniform(rng), normal = base_rng_normal(rng);
        if (isnan(x[axis->dim]) || whether >= chance)
            continue;
        if (axis->choice) {
            if (base_rng_uniform(rng) < 0.3)
                x[axis->dim] = (double)base_rng_below(rng, (uint64_t)dim->count);
            continue;
        }
        double u = cadre_dim_to_unit(dim, x[axis->dim]) + far * normal;
        u = u < 0 ? -u : u > 1 ? 2 - u : u;
        double moved = cadre_dim_from_unit(dim, u);
        if (moved == x[axis->dim] && dim->step > 0)
            moved = tuner_dim_nearest(dim, moved + (normal < 0 ? -dim->step : dim->step));
        x[axis->dim] = moved;
    }
    gp_settle(space, from, rng, x);
}

static void fill_pool(gp_search *search)
{
    size_t ndims = (size_t)search->space->space->count;
    int even = search->bases ? search->candidates / 2 : search->candidates;
    for (int i = 0; i < search->candidates; i++) {
        double *x = search->pool + (size_t)i * ndims;
        if (i < even)
            gp_even_point(search->space, search->first + (uint64_t)i, x);
        else
            draw_near(search, search->base[i % search->bases], x);
    }
    for (int i = 0; i < search->candidates; i += GP_BLOCK) {
        int count = search->candidates - i < GP_BLOCK ? search->candidates - i : GP_BLOCK;
        evaluate(search, count, search->pool + (size_t)i * ndims, search->value + i);
    }
}

/* ---- local search ----------------------------------------------------------------------------------------------- */

typedef struct slope_context {
    gp_search *search;
    int count;
    int *axis; /* of each variable */
    double *gradient;
} slope_context;

static double minus_log_ei(void *context, const double *u, double *gradient)
{
    slope_context *slope = context;
    gp_search *search = slope->search;
    for (int i = 0; i < slope->count; i++)
        gp_encode_unit(&search->space->axis[slope->axis[i]], u[i], search->columns, 1);
    double value = gp_log_ei_slope(search->model, search->goal, search->columns, slope->gradient);
    for (int i = 0; i < slope->count; i++)
        gradient[i] = -slope->gradient[slope->axis[i]];
    return -value;
}

/* Uphill over the continuous dimensions that are there. */
static double climb(gp_search *search, double *x, double value)
{
    const gp_space *space = search->space;
    const gp_minimise_options options = {.evaluations = 60, .gradient = 1e-3, .decrease = 1e-5, .first = 0.1};
    size_t axes = (size_t)space->axes;
    double *u = search->variables, *low = u + axes, *high = low + axes, *gradient = high + axes,
           *scratch = gradient + axes;
    int *axis = (int *)(scratch + gp_minimise_room(space->axes));
    slope_context slope = {.search = search, .axis = axis, .gradient = gradient};
    for (int a = 0; a < space->axes; a++) {
        double at = gp_unit(space, &space->axis[a], x);
        if (!space->axis[a].continuous || isnan(at))
            continue;
        u[slope.count] = at;
        low[slope.count] = 0;
        high[slope.count] = 1;
        axis[slope.count++] = a;
    }
    if (!slope.count)
        return value;
    gp_encode(space, x, search->columns, 1);
    double found = -gp_minimise(minus_log_ei, &slope, slope.count, low, high, &options, scratch, u);
    if (!(found > value))
        return value;
    for (int i = 0; i < slope.count; i++) {
        int d = space->axis[axis[i]].dim;
        x[d] = cadre_dim_from_unit(&space->space->dims[d], u[i]);
    }
    return found;
}

/* The i-th neighbour of a value; NaN for none. */
static double neighbour(gp_search *search, const gp_axis *axis, double value, int i)
{
    const cadre_dim *dim = &search->space->space->dims[axis->dim];
    if (axis->choice) {
        double other = dim->count <= GP_BLOCK ? i : (double)base_rng_below(search->rng, (uint64_t)dim->count);
        return other < dim->count && other != value ? other : NAN;
    }
    double other, sign = i % 2 ? -1 : 1;
    if (axis->steps <= GP_BLOCK)
        other = i < axis->steps ? tuner_dim_nearest(dim, dim->low + i * dim->step) : value;
    else if (i < 2)
        other = tuner_dim_nearest(dim, value + sign * dim->step);
    else
        other = cadre_dim_from_unit(dim, cadre_dim_to_unit(dim, value) + sign * ldexp(1, -i / 2));
    return other != value ? other : NAN;
}

/* A point like x with another value in one dimension. */
static void move(gp_search *search, const gp_axis *axis, const double *x, double value, double *out)
{
    const double *like = NULL;
    for (int b = 0; b < search->bases && !like; b++)
        like = search->base[b][axis->dim] == value ? search->base[b] : NULL;
    memcpy(out, x, (size_t)search->space->space->count * sizeof *x);
    out[axis->dim] = value;
    gp_settle(search->space, like, search->rng, out);
}

/* The best neighbour in each of the other dimensions in turn. */
static double hop(gp_search *search, double *x, double value)
{
    size_t ndims = (size_t)search->space->space->count;
    double found[GP_BLOCK];
    for (int a = 0; a < search->space->axes; a++) {
        const gp_axis *axis = &search->space->axis[a];
        if (axis->continuous || isnan(x[axis->dim]))
            continue;
        int count = 0, best = 0;
        for (int i = 0; i < GP_BLOCK; i++) {
            double other = neighbour(search, axis, x[axis->dim], i);
            if (!isnan(other))
                move(search, axis, x, other, search->points + (size_t)count++ * ndims);
        }
        if (!count)
            continue;
        evaluate(search, count, search->points, found);
        for (int i = 1; i < count; i++)
            best = found[i] > found[best] ? i : best;
        if (found[best] > value + 1e-9) {
            value = found[best];
            memcpy(x, search->points + (size_t)best * ndims, ndims * sizeof *x);
        }
    }
    return value;
}

static double search_from(gp_search *search, double *x, double value)
{
    enum { ROUNDS = 6 };
    for (int round = 0; round < ROUNDS; round++) {
        double was = value;
        value = climb(search, x, value);
        double climbed = value;
        value = hop(search, x, value);
        if (!(value > climbed) || (isfinite(was) && value < was + 1e-3))
            break;
    }
    return value;
}

/* The place of a start among the candidates: the best, then by chance, the better the likelier. */
static int choose_start(gp_search *search, int nth)
{
    int best = 0;
    for (int i = 1; i < search->candidates; i++)
        best = search->value[i] > search->value[best] ? i : best;
    if (nth == 0 || !isfinite(search->value[best]))
        return best;
    double sum = 0;
    for (int i = 0; i < search->candidates; i++)
        sum += exp(search->value[i] - search->value[best]);
    double at = base_rng_uniform(search->rng) * sum;
    for (int i = 0; i < search->candidates; i++) {
        at -= exp(search->value[i] - search->value[best]);
        if (at < 0)
            return i;
    }
    return best;
}

double gp_search_maximise(gp_search *search, double *x)
{
    size_t ndims = (size_t)search->space->space->count;
    double best = -INFINITY, *from = search->points + GP_BLOCK * ndims;
    fill_pool(search);
    for (int nth = 0; nth <= search->starts; nth++) {
        double value = -INFINITY;
        if (nth == 0 && search->bases) { /* the best trial itself: a climb starts well there */
            memcpy(from, search->base[0], ndims * sizeof *x);
        } else {
            int start = choose_start(search, nth ? nth - 1 : 0);
            memcpy(from, search->pool + (size_t)start * ndims, ndims * sizeof *x);
            value = search->value[start];
            search->value[start] = -INFINITY;
        }
        value = search_from(search, from, value);
        if (value > best && (search->repeats || !gp_history_seen(search->history, from))) {
            best = value;
            memcpy(x, from, ndims * sizeof *x);
        }
    }
    return best;
}
