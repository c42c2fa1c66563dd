/* From points to columns of numbers and back. */
#include "base/mem.h"
#include "tuner/search/gp.h"

#include <stdlib.h>

static gp_axis describe(const cadre_dim *dim, int d, int column)
{
    gp_axis axis = {.dim = d, .column = column, .columns = 1};
    axis.choice = dim->kind == CADRE_DIM_CATEGORICAL;
    axis.steps = axis.choice ? dim->count : dim->step > 0 ? tuner_dim_steps(dim) : 0;
    axis.continuous = !axis.choice && dim->step == 0;
    if (!axis.choice && dim->conditions > 0)
        axis.columns = 2;
    return axis;
}

static bool has_one_value(const cadre_dim *dim)
{
    if (dim->kind == CADRE_DIM_CATEGORICAL)
        return dim->count == 1;
    return !(dim->high > dim->low) || (dim->step > 0 && tuner_dim_steps(dim) < 2) ||
           !(cadre_dim_to_unit(dim, dim->high) > cadre_dim_to_unit(dim, dim->low));
}

int gp_space_init(gp_space *space, const cadre_space *of, uint64_t seed)
{
    *space = (gp_space){.space = of};
    space->axis = base_calloc((size_t)of->count, sizeof *space->axis);
    if (!space->axis || sobol_init(&space->even, of->count, seed)) {
        gp_space_free(space);
        return CADRE_ENOMEM;
    }
    for (int d = 0; d < of->count; d++) {
        if (has_one_value(&of->dims[d]) && of->dims[d].conditions == 0)
            continue;
        gp_axis axis = describe(&of->dims[d], d, space->columns);
        if (has_one_value(&of->dims[d])) /* there or not is all that it tells */
            axis.continuous = false;
        space->columns += axis.columns;
        if (!axis.choice && axis.columns == 1) {
            axis.powers = space->columns;
            space->columns += 2;
        }
        space->axis[space->axes++] = axis;
    }
    return CADRE_OK;
}

void gp_space_free(gp_space *space)
{
    free(space->axis);
    sobol_free(&space->even);
    *space = (gp_space){0};
}

void gp_encode_unit(const gp_axis *axis, double u, double *out, int stride)
{
    if (axis->columns == 1) {
        out[axis->column * stride] = u;
    } else {
        out[axis->column * stride] = cos(u);
        out[(axis->column + 1) * stride] = sin(u);
    }
}

double gp_unit(const gp_space *space, const gp_axis *axis, const double *x)
{
    double value = x[axis->dim];
    return isnan(value) ? NAN : cadre_dim_to_unit(&space->space->dims[axis->dim], value);
}

void gp_encode(const gp_space *space, const double *x, double *out, int stride)
{
    for (int a = 0; a < space->axes; a++) {
        const gp_axis *axis = &space->axis[a];
        double value = x[axis->dim];
        if (axis->choice)
            out[axis->column * stride] = isnan(value) ? -1 : value;
        else if (!isnan(value))
            gp_encode_unit(axis, cadre_dim_to_unit(&space->space->dims[axis->dim], value), out, stride);
        else
            for (int k = 0; k < axis->columns; k++)
                out[(axis->column + k) * stride] = 0;
    }
}

void gp_settle(const gp_space *space, const double *like, base_rng *rng, double *x)
{
    const cadre_space *of = space->space;
    for (int k = 0; k < of->count; k++) {
        int d = of->order[k];
        if (!cadre_space_active(of, x, d))
            x[d] = NAN;
        else if (isnan(x[d]))
            x[d] = like && !isnan(like[d]) ? like[d] : cadre_dim_from_unit(&of->dims[d], base_rng_uniform(rng));
    }
}

void gp_even_point(const gp_space *space, uint64_t i, double *x)
{
    const cadre_space *of = space->space;
    sobol_point(&space->even, i, x);
    for (int d = 0; d < of->count; d++)
        x[d] = cadre_dim_from_unit(&of->dims[d], x[d]);
    for (int k = 0; k < of->count; k++)
        if (!cadre_space_active(of, x, of->order[k]))
            x[of->order[k]] = NAN;
}
