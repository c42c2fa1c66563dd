#include "tuner/space_grid.h"

#include "base/error.h"
#include "base/mem.h"

#include <inttypes.h>
#include <limits.h>
#include <math.h>
#include <stdlib.h>

/* A dimension that is not walked may be anything, so conditions on it count as holding. */
static bool may_be_there(const tuner_grid *grid, int i)
{
    const cadre_dim *dim = &grid->space->dims[i];
    for (int k = 0; k < dim->conditions; k++) {
        const cadre_condition *condition = &dim->condition[k];
        if (!may_be_there(grid, condition->parent))
            return false;
        if (grid->points[condition->parent] == 0)
            continue;
        double value = grid->x[condition->parent];
        bool holds = condition->count == 0 && value >= condition->low && value <= condition->high;
        for (int j = 0; j < condition->count; j++)
            holds |= value == condition->values[j];
        if (!holds)
            return false;
    }
    return true;
}

static double value_at(const cadre_dim *dim, int points, int digit)
{
    if (dim->kind == CADRE_DIM_CATEGORICAL)
        return digit;
    if (dim->step > 0 && !dim->normal)
        return tuner_dim_nearest(dim, dim->low + digit * dim->step);
    if (dim->normal) /* the ends of a normal distribution are of no interest: the middles of equal shares */
        return cadre_dim_from_unit(dim, (digit + 0.5) / points);
    return points == 1           ? cadre_dim_from_unit(dim, 0.5)
           : digit == points - 1 ? dim->high
                                 : cadre_dim_from_unit(dim, (double)digit / (points - 1));
}

static void set(tuner_grid *grid, int i, int digit)
{
    grid->digit[i] = digit;
    grid->x[i] = digit < 0 ? NAN : value_at(&grid->space->dims[i], grid->points[i], digit);
}

/* Dimensions from place `k` of the order on go to their first value. */
static void restart_from(tuner_grid *grid, int k)
{
    for (; k < grid->space->count; k++) {
        int i = grid->space->order[k];
        set(grid, i, grid->points[i] && may_be_there(grid, i) ? 0 : -1);
    }
}

void tuner_grid_first(tuner_grid *grid) { restart_from(grid, 0); }

bool tuner_grid_next(tuner_grid *grid)
{
    for (int k = grid->space->count - 1; k >= 0; k--) {
        int i = grid->space->order[k];
        if (grid->digit[i] < 0 || grid->digit[i] + 1 >= grid->points[i])
            continue;
        set(grid, i, grid->digit[i] + 1);
        restart_from(grid, k + 1);
        return true;
    }
    return false;
}

int tuner_grid_count(tuner_grid *grid, int64_t limit, int64_t *out)
{
    int64_t count = 1;
    for (tuner_grid_first(grid); tuner_grid_next(grid); count++)
        if (count >= limit)
            return base_error(CADRE_EINVAL, "the grid has more than %" PRId64 " combinations: take values out, or draw them (choice, search random)", limit);
    tuner_grid_first(grid);
    *out = count;
    return CADRE_OK;
}

static int points_of(const cadre_dim *dim, bool all, int resolution, int *out)
{
    *out = 0;
    if (dim->param == CADRE_PARAM_GRID || (all && dim->kind == CADRE_DIM_CATEGORICAL)) {
        *out = dim->count;
    } else if (all && dim->step > 0 && !dim->normal) {
        *out = (int)fmin(tuner_dim_steps(dim), INT_MAX);
    } else if (all) {
        if (resolution <= 0)
            return base_error(CADRE_EINVAL, "%s is continuous: a grid needs a step, a choice, or a resolution",
                              dim->name);
        *out = resolution;
    }
    return CADRE_OK;
}

int tuner_grid_new(const cadre_space *space, bool all, int resolution, tuner_grid *out)
{
    size_t n = (size_t)space->count;
    tuner_grid grid = {.space = space};
    grid.points = base_calloc(n, sizeof *grid.points);
    grid.digit = base_calloc(n, sizeof *grid.digit);
    grid.x = base_calloc(n, sizeof *grid.x);
    int status = grid.points && grid.digit && grid.x ? CADRE_OK : CADRE_ENOMEM;
    for (int i = 0; i < space->count && !status; i++)
        status = points_of(&space->dims[i], all, resolution, &grid.points[i]);
    if (status) {
        tuner_grid_free(&grid);
        return status;
    }
    tuner_grid_first(&grid);
    *out = grid;
    return CADRE_OK;
}

void tuner_grid_free(tuner_grid *grid)
{
    free(grid->points);
    free(grid->digit);
    free(grid->x);
}

int cadre_space_grid_size(const cadre_space *space, int64_t limit, int64_t *out)
{
    tuner_grid grid;
    int status = tuner_grid_new(space, false, 0, &grid);
    if (status)
        return status;
    status = tuner_grid_count(&grid, limit, out);
    tuner_grid_free(&grid);
    return status;
}
