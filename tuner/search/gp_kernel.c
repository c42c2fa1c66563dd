/*
 * The covariance: Matern-5/2 (Rasmussen and Williams, "Gaussian Processes for Machine Learning", 2006, eq. 4.17) of all
 * axes together, each with its own lengthscale, and of each axis alone.
 *
 * Exponentials are what it costs. Along one axis exp(-|c a - c b|) is the smaller one of exp(c a) exp(-c b) and its
 * inverse, so that each point needs its two powers and no pair an exponential: gp_kernel_prepare makes them. Of a
 * choice M has two values.
 */
#include "tuner/search/gp.h"

#include <string.h>

/* exp(-x), 0 <= x, to a few units of the last place, without a branch, so that loops over it become vector code: the
 * remainder after whole powers of two by its Taylor series. */
static inline double exp_minus(double x)
{
    const double shift = 0x1.8p52, log2e = 1.4426950408889634, high = 0x1.62e42fefa38p-1, low = 0x1.ef35793c7673p-45;
    x = x < 700 ? -x : -700;
    double whole = x * log2e + shift, n = whole - shift;
    double f = (x - n * high) - n * low;
    double p = 1.0 / 479001600;
    p = p * f + 1.0 / 39916800;
    p = p * f + 1.0 / 3628800;
    p = p * f + 1.0 / 362880;
    p = p * f + 1.0 / 40320;
    p = p * f + 1.0 / 5040;
    p = p * f + 1.0 / 720;
    p = p * f + 1.0 / 120;
    p = p * f + 1.0 / 24;
    p = p * f + 1.0 / 6;
    p = p * f + 0.5;
    p = p * f + 1;
    p = p * f + 1;
    uint64_t bits;
    memcpy(&bits, &whole, sizeof bits);
    bits = (bits + 1023) << 52;
    memcpy(&n, &bits, sizeof n);
    return p * n;
}

/* out += scale M(factor q) */
GP_WIDE static void add_matern(int n, double scale, double factor, const double *restrict q, double *restrict out)
{
    factor *= 5;
    for (int i = 0; i < n; i++) {
        double r = sqrt(factor * q[i]);
        out[i] += scale * (1 + r + r * r * (1.0 / 3)) * exp_minus(r);
    }
}

/* value = M(factor q), slope = M'(factor q) */
GP_WIDE static void matern_and_slope(int n, double factor, const double *restrict q, double *restrict value,
                                     double *restrict slope)
{
    for (int i = 0; i < n; i++) {
        double r = sqrt(5 * factor * q[i]), e = exp_minus(r);
        value[i] = (1 + r + r * r * (1.0 / 3)) * e;
        slope[i] = -5.0 / 6 * (1 + r) * e;
    }
}

GP_WIDE static void squares(int n, double a, const double *restrict b, double *restrict out)
{
    for (int i = 0; i < n; i++)
        out[i] = (a - b[i]) * (a - b[i]);
}

GP_WIDE static void squares_of_two(int n, double a, const double *restrict b, double c, const double *restrict d,
                                   double *restrict out)
{
    for (int i = 0; i < n; i++)
        out[i] = (a - b[i]) * (a - b[i]) + (c - d[i]) * (c - d[i]);
}

GP_WIDE static void unequal(int n, double a, const double *restrict b, double *restrict out)
{
    for (int i = 0; i < n; i++)
        out[i] = a == b[i] ? 0.0 : 1.0;
}

GP_WIDE static void add(int n, double factor, const double *restrict a, double *restrict out)
{
    for (int i = 0; i < n; i++)
        out[i] += factor * a[i];
}

/* A number's axis alone: M and M' by the powers exp(r) and exp(-r) of its points. */
typedef struct line {
    double at, up, down;             /* of the point */
    const double *ats, *ups, *downs; /* of the others */
    double root;                     /* sqrt(5 v) */
} line;

/* out += scale M, all += w distances. */
GP_WIDE static void add_line(int n, line l, double scale, double w, double *restrict all, double *restrict out)
{
    for (int i = 0; i < n; i++) {
        double off = l.at - l.ats[i], r = l.root * fabs(off);
        double one = l.up * l.downs[i], other = l.down * l.ups[i];
        all[i] += w * (off * off);
        out[i] += scale * (1 + r + r * r * (1.0 / 3)) * (one < other ? one : other);
    }
}

GP_WIDE static void line_and_slope(int n, line l, double *restrict value, double *restrict slope)
{
    for (int i = 0; i < n; i++) {
        double r = l.root * fabs(l.at - l.ats[i]);
        double one = l.up * l.downs[i], other = l.down * l.ups[i], e = one < other ? one : other;
        value[i] = (1 + r + r * r * (1.0 / 3)) * e;
        slope[i] = -5.0 / 6 * (1 + r) * e;
    }
}

/* Of a choice, whose distances are 0 and 1. */
GP_WIDE static void add_choice(int n, double scale, double other, const double *restrict unequal, double *restrict out)
{
    for (int i = 0; i < n; i++)
        out[i] += scale * (1 + unequal[i] * (other - 1));
}

static double matern_of(double q)
{
    double r = sqrt(5 * q);
    return (1 + r + r * r * (1.0 / 3)) * exp(-r);
}

void gp_kernel_prepare(const gp_kernel *kernel, double *columns, int stride, int count)
{
    for (int d = 0; d < kernel->space->axes; d++) {
        const gp_axis *axis = &kernel->space->axis[d];
        if (!axis->powers)
            continue;
        const double *at = columns + (size_t)axis->column * (size_t)stride;
        double *up = columns + (size_t)axis->powers * (size_t)stride, *down = up + stride,
               root = sqrt(5 * kernel->v[d]);
        for (int i = 0; i < count; i++) {
            up[i] = exp(root * at[i]);
            down[i] = 1 / up[i];
        }
    }
}

static line line_of(const gp_kernel *kernel, int d, const double *point, int stride, const gp_points *points)
{
    const gp_axis *axis = &kernel->space->axis[d];
    const double *ups = points->at + (size_t)axis->powers * (size_t)points->stride;
    return (line){.at = point[axis->column * stride],
                  .up = point[axis->powers * stride],
                  .down = point[(axis->powers + 1) * stride],
                  .ats = points->at + (size_t)axis->column * (size_t)points->stride,
                  .ups = ups,
                  .downs = ups + points->stride,
                  .root = sqrt(5 * kernel->v[d])};
}

/* Squared distances along an axis. */
static void distances(const gp_axis *axis, const double *point, int stride, const gp_points *points, int count,
                      double *out)
{
    const double *column = points->at + (size_t)axis->column * (size_t)points->stride;
    double a = point[axis->column * stride];
    if (axis->choice)
        unequal(count, a, column, out);
    else if (axis->columns == 1)
        squares(count, a, column, out);
    else
        squares_of_two(count, a, column, point[(axis->column + 1) * stride], column + points->stride, out);
}

/* M and M' of axis d alone, whose distances are `along`. */
static void alone_and_slope(const gp_kernel *kernel, int d, const double *point, int stride, const gp_points *points,
                            int count, const double *along, double *value, double *slope)
{
    if (kernel->space->axis[d].powers)
        line_and_slope(count, line_of(kernel, d, point, stride, points), value, slope);
    else
        matern_and_slope(count, kernel->v[d], along, value, slope);
}

void gp_kernel_row(const gp_kernel *kernel, const double *point, int stride, const gp_points *points, int count,
                   double *scratch, double *out)
{
    double *along = scratch, *all = scratch + count, share = kernel->alone / kernel->space->axes;
    for (int i = 0; i < count; i++) {
        out[i] = kernel->mean;
        all[i] = 0;
    }
    for (int d = 0; d < kernel->space->axes; d++) {
        const gp_axis *axis = &kernel->space->axis[d];
        if (axis->powers) {
            add_line(count, line_of(kernel, d, point, stride, points), share, kernel->w[d], all, out);
            continue;
        }
        distances(axis, point, stride, points, count, along);
        add(count, kernel->w[d], along, all);
        if (axis->choice)
            add_choice(count, share, matern_of(kernel->v[d]), along, out);
        else
            add_matern(count, share, kernel->v[d], along, out);
    }
    add_matern(count, kernel->joint, 1, all, out);
}

void gp_kernel_derivatives(const gp_kernel *kernel, const double *point, int stride, const gp_points *points, int count,
                           const double *weight, double *scratch, double *gradient)
{
    int axes = kernel->space->axes;
    double *along = scratch, *all = along + count, *value = all + count, *slope = value + count;
    double share = kernel->alone / axes;
    for (int i = 0; i < count; i++)
        all[i] = 0;
    for (int d = 0; d < axes; d++) {
        distances(&kernel->space->axis[d], point, stride, points, count, along);
        add(count, kernel->w[d], along, all);
        if (share > 0) {
            alone_and_slope(kernel, d, point, stride, points, count, along, value, slope);
            gradient[1] += share * gp_dot(count, weight, value);
            for (int i = 0; i < count; i++)
                slope[i] *= along[i];
            gradient[2 + axes + d] -= 2 * share * kernel->v[d] * gp_dot(count, weight, slope);
        }
    }
    matern_and_slope(count, 1, all, value, slope);
    gradient[0] += kernel->joint * gp_dot(count, weight, value);
    for (int i = 0; i < count; i++)
        slope[i] *= weight[i];
    for (int d = 0; d < axes; d++) {
        distances(&kernel->space->axis[d], point, stride, points, count, along);
        gradient[2 + d] -= 2 * kernel->joint * kernel->w[d] * gp_dot(count, slope, along);
    }
}

/* Half the derivative of the squared distances along an axis by u. */
static void directions(const gp_axis *axis, const double *point, const gp_points *points, int count, double *out)
{
    const double *a = points->at + (size_t)axis->column * (size_t)points->stride, *b = a + points->stride;
    double at = point[axis->column];
    if (axis->columns == 1) {
        for (int i = 0; i < count; i++)
            out[i] = at - a[i];
        return;
    }
    double cosine = at, sine = point[axis->column + 1];
    for (int i = 0; i < count; i++)
        out[i] = sine * a[i] - cosine * b[i];
}

void gp_kernel_slope(const gp_kernel *kernel, const double *point, const gp_points *points, int count,
                     const double *weight, double *scratch, double *gradient)
{
    int axes = kernel->space->axes;
    double *along = scratch, *all = along + count, *value = all + count, *slope = value + count;
    double share = kernel->alone / axes;
    for (int i = 0; i < count; i++)
        all[i] = 0;
    for (int d = 0; d < axes; d++) {
        distances(&kernel->space->axis[d], point, 1, points, count, along);
        add(count, kernel->w[d], along, all);
    }
    matern_and_slope(count, 1, all, value, slope);
    for (int i = 0; i < count; i++)
        all[i] = slope[i] * weight[i];
    for (int d = 0; d < axes; d++) {
        const gp_axis *axis = &kernel->space->axis[d];
        if (!axis->continuous || (axis->columns == 2 && point[axis->column] == 0 && point[axis->column + 1] == 0))
            continue;
        gradient[d] = 0;
        if (share > 0) {
            distances(axis, point, 1, points, count, along);
            alone_and_slope(kernel, d, point, 1, points, count, along, value, slope);
        }
        directions(axis, point, points, count, along);
        gradient[d] += 2 * kernel->joint * kernel->w[d] * gp_dot(count, all, along);
        if (share > 0) {
            for (int i = 0; i < count; i++)
                slope[i] *= weight[i];
            gradient[d] += 2 * share * kernel->v[d] * gp_dot(count, slope, along);
        }
    }
}
