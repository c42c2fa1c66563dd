/*
 * Points and coordinates. A continuous coordinate near a bound is bent: beyond it, it comes back. So every coordinate
 * has a point, nothing is drawn again, and a best value on the bound itself is reached as any other is (the map of
 * Hansen's pycma, BoxConstraintsLinQuadTransformation: quadratic over a share of the range on both sides of a bound,
 * and mirrored beyond). A stepped one goes to the nearest step instead.
 */
#include "base/error.h"
#include "base/mem.h"
#include "tuner/search/cma.h"

#include <stdlib.h>

static void describe(const cadre_dim *dim, int d, cma_coord *out)
{
    double low, high;
    tuner_dim_range(dim, &low, &high);
    *out = (cma_coord){.dim = dim, .d = d, .origin = low, .width = high - low, .low = 0, .high = 1};
    if (dim->normal) {
        out->width = 6 * dim->sd;
        out->origin = dim->mean - out->width / 2;
        out->low = (low - out->origin) / out->width;
        out->high = (high - out->origin) / out->width;
    }
}

int cma_coords_init(cma_coords *coords, const cadre_space *space, double bent)
{
    size_t count = (size_t)space->count + 1;
    *coords = (cma_coords){.space = space, .bent = bent};
    coords->coord = base_calloc(count, sizeof *coords->coord);
    coords->choice = base_calloc(count, sizeof *coords->choice);
    if (!coords->coord || !coords->choice) {
        cma_coords_free(coords);
        return CADRE_ENOMEM;
    }
    for (int d = 0; d < space->count; d++) {
        const cadre_dim *dim = &space->dims[d];
        if (dim->kind == CADRE_DIM_CATEGORICAL) {
            if (dim->count > 1)
                coords->choice[coords->choices++] = d;
        } else {
            describe(dim, d, &coords->coord[coords->n]);
            coords->n += coords->coord[coords->n].width > 0 && dim->high > dim->low;
        }
    }
    return CADRE_OK;
}

void cma_coords_free(cma_coords *coords)
{
    free(coords->coord);
    free(coords->choice);
    *coords = (cma_coords){0};
}

bool cma_coords_stepped(const cma_coord *coord) { return coord->dim->step > 0; }

static double bend(const cma_coord *coord, double share, double g)
{
    double span = coord->high - coord->low, bent = share * span, from = coord->low - bent,
           period = 2 * (span + 2 * bent);
    if (!isfinite(g))
        return (coord->low + coord->high) / 2;
    double at = fmod(g - from, period);
    at += at < 0 ? period : 0;
    at = at > period / 2 ? period - at : at; /* now in [0, span + 2 bent] */
    if (at < 2 * bent)
        return coord->low + at * at / (4 * bent);
    double left = span + 2 * bent - at;
    return left < 2 * bent ? coord->high - left * left / (4 * bent) : from + at;
}

static double unbend(const cma_coord *coord, double share, double at)
{
    double bent = share * (coord->high - coord->low);
    if (at < coord->low + bent)
        return coord->low - bent + 2 * sqrt(bent * fmax(at - coord->low, 0));
    return at > coord->high - bent ? coord->high + bent - 2 * sqrt(bent * fmax(coord->high - at, 0)) : at;
}

static double natural(const cma_coord *coord, double at)
{
    double scaled = coord->origin + at * coord->width;
    return tuner_dim_nearest(coord->dim, coord->dim->log ? exp(scaled) : scaled);
}

static double coordinate(const cma_coord *coord, double value)
{
    return ((coord->dim->log ? log(value) : value) - coord->origin) / coord->width;
}

void cma_coords_point(const cma_coords *coords, const double *g, int *pick, double *x)
{
    const cadre_space *space = coords->space;
    for (int d = 0; d < space->count; d++)
        x[d] = space->dims[d].low;
    for (int i = 0; i < coords->n; i++) {
        const cma_coord *coord = &coords->coord[i];
        x[coord->d] = natural(coord, cma_coords_stepped(coord) ? fmin(fmax(g[i], coord->low), coord->high)
                                                               : bend(coord, coords->bent, g[i]));
    }
    for (int i = 0; i < coords->choices; i++)
        x[coords->choice[i]] = pick[i];
    for (int k = 0; k < space->count; k++)
        if (!cadre_space_active(space, x, space->order[k]))
            x[space->order[k]] = NAN;
    for (int i = 0; i < coords->choices; i++)
        if (isnan(x[coords->choice[i]]))
            pick[i] = -1;
}

void cma_coords_of_point(const cma_coords *coords, const double *x, const double *otherwise, double *g, int *pick)
{
    for (int i = 0; i < coords->n; i++) {
        const cma_coord *coord = &coords->coord[i];
        double value = x[coord->d];
        if (isnan(value))
            g[i] = otherwise[i];
        else
            g[i] = cma_coords_stepped(coord) ? coordinate(coord, value)
                                             : unbend(coord, coords->bent, coordinate(coord, value));
    }
    for (int i = 0; i < coords->choices; i++)
        pick[i] = isnan(x[coords->choice[i]]) ? -1 : (int)x[coords->choice[i]];
}

void cma_coords_step(const cma_coord *coord, double g, double *left, double *right)
{
    const cadre_dim *dim = coord->dim;
    double value = natural(coord, fmin(fmax(g, coord->low), coord->high)), half = dim->step / 2;
    *left = value - half < dim->low ? -INFINITY : coordinate(coord, value - half);
    *right = value + half > dim->high ? INFINITY : coordinate(coord, value + half);
}
