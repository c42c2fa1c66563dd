/* Drawing: each dimension's quantile function, and random points. */
#include "base/rng.h"
#include "tuner/space.h"

#include <math.h>

/*
 * Wichura, "Algorithm AS 241: The Percentage Points of the Normal Distribution", Applied Statistics 37 (1988) 477-484,
 * would need three rational functions; instead Acklam's single-precision start and one step of Halley's method on erfc,
 * which doubles its nine digits to full precision.
 */
double tuner_normal_quantile(double p)
{
    static const double a[] = {-3.969683028665376e+01, 2.209460984245205e+02,  -2.759285104469687e+02,
                               1.383577518672690e+02,  -3.066479806614716e+01, 2.506628277459239e+00};
    static const double b[] = {-5.447609879822406e+01, 1.615858368580409e+02, -1.556989798598866e+02,
                               6.680131188771972e+01, -1.328068155288572e+01};
    static const double c[] = {-7.784894002430293e-03, -3.223964580411365e-01, -2.400758277161838e+00,
                               -2.549732539343734e+00, 4.374664141464968e+00,  2.938163982698783e+00};
    static const double d[] = {7.784695709041462e-03, 3.224671290700398e-01, 2.445134137142996e+00,
                               3.754408661907416e+00};
    if (p > 0.5)
        return -tuner_normal_quantile(1 - p);
    if (!(p > 0))
        return -INFINITY;
    double x;
    if (p < 0.02425) {
        double q = sqrt(-2 * log(p));
        x = (((((c[0] * q + c[1]) * q + c[2]) * q + c[3]) * q + c[4]) * q + c[5]) /
            ((((d[0] * q + d[1]) * q + d[2]) * q + d[3]) * q + 1);
    } else {
        double q = p - 0.5, r = q * q;
        x = (((((a[0] * r + a[1]) * r + a[2]) * r + a[3]) * r + a[4]) * r + a[5]) * q /
            (((((b[0] * r + b[1]) * r + b[2]) * r + b[3]) * r + b[4]) * r + 1);
    }
    double error = 0.5 * erfc(-x * M_SQRT1_2) - p;
    double u = error * 2.5066282746310002 * exp(x * x / 2);
    return x - u / (1 + x * u / 2);
}

static double below(const cadre_dim *dim, double value)
{
    /* uniform and loguniform leave high out, as Ray has it, and rounding may not bring it in */
    return value >= dim->high && dim->high > dim->low ? nextafter(dim->high, dim->low) : fmax(value, dim->low);
}

double cadre_dim_from_unit(const cadre_dim *dim, double u)
{
    u = fmin(fmax(u, 0), 1);
    if (dim->kind == CADRE_DIM_CATEGORICAL)
        return fmin(floor(u * dim->count), dim->count - 1);
    if (dim->normal) {
        double value = dim->mean + dim->sd * tuner_normal_quantile(u);
        return tuner_dim_nearest(dim, value);
    }
    double low, high;
    tuner_dim_range(dim, &low, &high);
    if (dim->log)
        return dim->step > 0 ? tuner_dim_nearest(dim, exp(low + u * (high - low)))
                             : below(dim, exp(low + u * (high - low)));
    if (dim->step > 0)
        return tuner_dim_nearest(dim, dim->low +
                                          dim->step * fmin(floor(u * tuner_dim_steps(dim)), tuner_dim_steps(dim) - 1));
    return below(dim, low + u * (high - low));
}

static double normal_share(const cadre_dim *dim, double value)
{
    return 0.5 * erfc(-(value - dim->mean) / dim->sd * M_SQRT1_2);
}

double cadre_dim_to_unit(const cadre_dim *dim, double value)
{
    if (dim->kind == CADRE_DIM_CATEGORICAL)
        return (value + 0.5) / dim->count;
    if (dim->normal) {
        double half = dim->step / 2;
        return (normal_share(dim, value - half) + normal_share(dim, value + half)) / 2;
    }
    double low, high;
    tuner_dim_range(dim, &low, &high);
    if (!(high > low))
        return 0.5;
    if (!dim->log)
        return (value - low) / (high - low);
    double left = log(fmax(value - dim->step / 2, exp(low))), right = log(value + dim->step / 2);
    return fmin(fmax(((left + right) / 2 - low) / (high - low), 0), 1);
}

void cadre_space_sample(const cadre_space *space, uint64_t seed, uint64_t stream, double *x)
{
    base_rng rng;
    base_rng_init(&rng, seed, stream);
    for (int i = 0; i < space->count; i++) /* one number each whether it is there or not: a draw has a fixed place */
        x[i] = cadre_dim_from_unit(&space->dims[i], base_rng_uniform(&rng));
    for (int k = 0; k < space->count; k++) {
        int i = space->order[k];
        if (!cadre_space_active(space, x, i))
            x[i] = NAN;
    }
}

void tuner_space_fill(const cadre_space *space, uint64_t seed, uint64_t stream, double *x)
{
    base_rng rng;
    base_rng_init(&rng, seed, stream);
    /* An open parent may be drawn so that a given value has no place: then it is left out. Draws come in the order of the list, whatever is given. */
    for (int i = 0; i < space->count; i++) {
        double value = cadre_dim_from_unit(&space->dims[i], base_rng_uniform(&rng));
        x[i] = isnan(x[i]) ? value : x[i];
    }
    for (int k = 0; k < space->count; k++) { /* parents first: one that is taken out takes its children out */
        int i = space->order[k];
        if (!cadre_space_active(space, x, i))
            x[i] = NAN;
    }
}
