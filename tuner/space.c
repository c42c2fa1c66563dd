/* What a compiled space tells about itself and about points. */
#include "tuner/space.h"

#include "base/error.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

void cadre_space_free(cadre_space *space)
{
    if (!space)
        return;
    tuner_arena_free(&space->arena);
    free(space);
}

int cadre_space_count(const cadre_space *space) { return space->count; }

const cadre_dim *cadre_space_dim(const cadre_space *space, int i)
{
    return i >= 0 && i < space->count ? &space->dims[i] : NULL;
}

const int *cadre_space_order(const cadre_space *space) { return space->order; }

int cadre_space_find(const cadre_space *space, const char *name)
{
    for (int i = 0; i < space->count; i++)
        if (strcmp(space->dims[i].name, name) == 0)
            return i;
    return -1;
}

static bool holds(const cadre_condition *condition, double value)
{
    if (condition->count == 0)
        return value >= condition->low && value <= condition->high;
    for (int i = 0; i < condition->count; i++)
        if (value == condition->values[i])
            return true;
    return false;
}

bool tuner_conditions_hold(const cadre_space *space, const double *x, const cadre_condition *condition, int count)
{
    for (int i = 0; i < count; i++)
        if (!cadre_space_active(space, x, condition[i].parent) || !holds(&condition[i], x[condition[i].parent]))
            return false;
    return true;
}

bool cadre_space_active(const cadre_space *space, const double *x, int i)
{
    return tuner_conditions_hold(space, x, space->dims[i].condition, space->dims[i].conditions);
}

double tuner_dim_steps(const cadre_dim *dim) { return floor((dim->high - dim->low) / dim->step + 0.5) + 1; }

/* low + k step, without the dust of binary fractions: 0.15, not 0.15000000000000002. */
static double on_step(const cadre_dim *dim, double k)
{
    double value = dim->low + k * dim->step;
    if (dim->kind == CADRE_DIM_FLOAT) {
        double scale = 1e15 / pow(10, ceil(log10(fmax(fabs(value), dim->step))));
        double rounded = isfinite(scale) && scale < 1e22 ? nearbyint(value * scale) / scale : value;
        value = fabs(rounded - value) <= 4e-16 * fmax(fabs(value), dim->step) ? rounded : value;
    }
    return fmin(fmax(value, dim->low), dim->high);
}

double tuner_dim_nearest(const cadre_dim *dim, double value)
{
    if (isnan(value))
        value = dim->kind == CADRE_DIM_CATEGORICAL ? 0 : cadre_dim_from_unit(dim, 0.5);
    value = fmin(fmax(value, dim->low), dim->high);
    if (dim->kind == CADRE_DIM_CATEGORICAL)
        return nearbyint(value);
    if (dim->step == 0)
        return value;
    return on_step(dim, floor((value - dim->low) / dim->step + 0.5));
}

void tuner_dim_range(const cadre_dim *dim, double *low, double *high)
{
    *low = dim->low - dim->step / 2;
    *high = dim->high + dim->step / 2;
    if (dim->log) {
        *low = log(fmax(*low, dim->low / 2)); /* a step may be larger than twice the lower bound */
        *high = log(*high);
    }
}

void cadre_space_repair(const cadre_space *space, double *x)
{
    for (int k = 0; k < space->count; k++) {
        int i = space->order[k];
        x[i] = cadre_space_active(space, x, i) ? tuner_dim_nearest(&space->dims[i], x[i]) : NAN;
    }
}

int cadre_space_check(const cadre_space *space, const double *x)
{
    for (int k = 0; k < space->count; k++) {
        int i = space->order[k];
        const cadre_dim *dim = &space->dims[i];
        if (!cadre_space_active(space, x, i)) {
            if (!isnan(x[i]))
                return base_error(CADRE_EINVAL, "%s has a value, %g, where it is not there", dim->name, x[i]);
            continue;
        }
        if (isnan(x[i]))
            return base_error(CADRE_EINVAL, "%s has no value", dim->name);
        if (x[i] < dim->low || x[i] > dim->high)
            return base_error(CADRE_EINVAL, "%s: %.15g is not in %.15g to %.15g", dim->name, x[i], dim->low, dim->high);
        double nearest = tuner_dim_nearest(dim, x[i]);
        if (fabs(nearest - x[i]) > 1e-9 * fmax(dim->step, 1e-300))
            return base_error(CADRE_EINVAL, "%s: %.15g is not on a step; %.15g is", dim->name, x[i], nearest);
    }
    return CADRE_OK;
}
