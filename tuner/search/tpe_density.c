/* The densities of TPE: what is evaluated for every candidate times every kernel stands here, in loops that compilers
 * turn into vector code. */
#include "tuner/search/tpe.h"

#include <string.h>

/* A second copy for wider vectors is taken where the processor has them. It gives the same bits: nothing is fused, and
 * sums keep their order. */
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__) && !defined(__SANITIZE_ADDRESS__) &&               \
    !defined(__SANITIZE_THREAD__)
#define WIDE __attribute__((target_clones("avx2", "default")))
#else
#define WIDE
#endif

#define INLINE static inline __attribute__((always_inline)) /* into the copy, or it would not be wide */

#define LOG_SQRT_2PI 0.91893853320467274178

/* exp for x <= 0, good to 1e-15 relative, 0 below -700; without branches, so that a loop over it vectorises. */
INLINE double exp_negative(double x)
{
    double clamped = x > -700 ? x : -700;
    double shifted = clamped * 1.44269504088896340736 + 0x1.8p52; /* the nearest whole number ends up in the low bits */
    double k = shifted - 0x1.8p52;
    double r = clamped - k * 0x1.62e42fefa38p-1;
    r -= k * 0x1.ef35793c7673p-45;
    double p = 1.0 / 479001600;
    p = p * r + 1.0 / 39916800;
    p = p * r + 1.0 / 3628800;
    p = p * r + 1.0 / 362880;
    p = p * r + 1.0 / 40320;
    p = p * r + 1.0 / 5040;
    p = p * r + 1.0 / 720;
    p = p * r + 1.0 / 120;
    p = p * r + 1.0 / 24;
    p = p * r + 1.0 / 6;
    p = p * r + 0.5;
    p = p * r + 1;
    p = p * r + 1;
    uint64_t bits;
    memcpy(&bits, &shifted, sizeof bits);
    bits = (bits + 1023) << 52; /* 2^k */
    double scale;
    memcpy(&scale, &bits, sizeof scale);
    return p * scale;
}

/* log of the upper tail's mass beyond z >= 5: the first terms of its asymptotic series. */
static double log_tail(double z)
{
    if (z < 30)
        return log(0.5 * erfc(z * M_SQRT1_2));
    double y = 1 / (z * z);
    return -0.5 * z * z - log(z) - LOG_SQRT_2PI + log1p(-y * (1 - y * (3 - 15 * y)));
}

double tpe_log_mass(double a, double b)
{
    if (a > 0 || b < 0) { /* one side: by tails, which do not cancel; far out not even by tails */
        double near = a > 0 ? a : -b, far = a > 0 ? b : -a;
        if (near < 5)
            return log(0.5 * (erfc(near * M_SQRT1_2) - erfc(far * M_SQRT1_2)));
        double tail = log_tail(near);
        return tail + log1p(-exp(log_tail(far) - tail));
    }
    return log(0.5 * (erf(b * M_SQRT1_2) - erf(a * M_SQRT1_2)));
}

double tpe_offset(const tpe_dim *dim, double centre, double sd)
{
    double a = (dim->low - centre) / sd, b = (dim->high - centre) / sd;
    double mass = a < -8.5 && b > 8.5 ? 0 : tpe_log_mass(a, b);
    return dim->dim->step > 0 ? -mass : -mass - log(sd) - LOG_SQRT_2PI;
}

double tpe_draw_normal(base_rng *rng, double centre, double sd, double low, double high)
{
    /* The centre is inside, so each side's mass is at most a half and is counted from its own tail. */
    double below = 0.5 * erf((centre - low) / sd * M_SQRT1_2), above = 0.5 * erf((high - centre) / sd * M_SQRT1_2);
    double u = base_rng_uniform(rng) * (below + above) - below;
    double z = u < 0 ? tuner_normal_quantile(0.5 + u) : -tuner_normal_quantile(0.5 - u);
    return fmin(fmax(centre + sd * z, low), high);
}

double tpe_cell(double left, double middle, double right, double centre, double inverse)
{
    double z = (middle - centre) * inverse;
    if (fabs(z) > 6) /* its density in the middle will do: nothing hangs on it so far out */
        return -0.5 * z * z + log((right - left) * inverse) - LOG_SQRT_2PI;
    return tpe_log_mass((left - centre) * inverse, (right - centre) * inverse);
}

static void add_stepped(const tpe_dim *dim, const tpe_column *column, int first, int count, const double *where,
                        double *sum)
{
    for (int k = 0; k < count; k++) {
        int i = first + k;
        if (sum[k] == -INFINITY)
            continue;
        if (column->inverse[i] != 0)
            sum[k] += tpe_cell(where[0], where[1], where[2], column->centre[i], column->inverse[i]);
        if (!dim->summed)
            sum[k] += column->offset[i];
    }
}

INLINE void add_tabled(const tpe_column *column, int first, int count, int value, double *restrict sum)
{
    const double *restrict mass = column->mass + (size_t)value * (size_t)column->stride + first;
    for (int k = 0; k < count; k++)
        sum[k] += mass[k];
}

INLINE void add_categorical(const tpe_dim *dim, const tpe_column *column, int first, int count, double at, double *sum)
{
    const double *restrict centre = column->centre + first;
    for (int k = 0; k < count; k++)
        sum[k] += centre[k] == at ? column->same : column->other;
    for (int k = 0; k < count && dim->dim->conditions; k++)
        if (centre[k] < 0)
            sum[k] += dim->uniform - column->other;
}

INLINE void add_continuous(const tpe_dim *dim, const tpe_column *column, int first, int count, double at,
                           double *restrict sum)
{
    const double *restrict centre = column->centre + first, *restrict inverse = column->inverse + first;
    for (int k = 0; k < count; k++) {
        double z = (at - centre[k]) * inverse[k];
        sum[k] -= 0.5 * z * z;
    }
    const double *restrict offset = column->offset + first;
    for (int k = 0; k < count && !dim->summed; k++)
        sum[k] += offset[k];
}

static double log_prior(const tpe_dim *dims, const tpe_points *points, int point)
{
    double sum = 0;
    for (int i = 0; i < points->ndims; i++) {
        double at = points->at[point * points->ndims + i];
        const tpe_dim *dim = &dims[i];
        if (isnan(at) || dim->point)
            continue;
        if (dim->dim->kind == CADRE_DIM_CATEGORICAL) {
            sum += dim->uniform;
            continue;
        }
        double z = (at - dim->prior_centre) / dim->prior_sd;
        sum += tpe_offset(dim, dim->prior_centre, dim->prior_sd);
        sum += dim->dim->step > 0
                   ? tpe_log_mass((points->left[point * points->ndims + i] - dim->prior_centre) / dim->prior_sd,
                                  (points->right[point * points->ndims + i] - dim->prior_centre) / dim->prior_sd)
                   : -0.5 * z * z;
    }
    return sum;
}

/* Log-sum-exp on the go: the largest exponent so far, and the sum relative to it. */
typedef struct running_sum {
    double largest, sum;
} running_sum;

/* In LANES sums side by side: a single one would wait for itself. `count` is whole lanes; see add_block's caller. */
enum { LANES = 8 };

INLINE double largest_of(const double *restrict exponent, int count)
{
    double lane[LANES];
    for (int l = 0; l < LANES; l++)
        lane[l] = -INFINITY;
    for (int k = 0; k < count; k += LANES)
        for (int l = 0; l < LANES; l++)
            lane[l] = exponent[k + l] > lane[l] ? exponent[k + l] : lane[l];
    double largest = lane[0];
    for (int l = 1; l < LANES; l++)
        largest = lane[l] > largest ? lane[l] : largest;
    return largest;
}

INLINE void add_block(running_sum *total, const double *restrict exponent, const double *restrict weight, int count)
{
    double largest = largest_of(exponent, count), lane[LANES] = {0}, sum = 0;
    if (largest == -INFINITY)
        return;
    for (int k = 0; k < count; k += LANES)
        for (int l = 0; l < LANES; l++)
            lane[l] += weight[k + l] * exp_negative(exponent[k + l] - largest);
    for (int l = 0; l < LANES; l++)
        sum += lane[l];
    if (largest > total->largest) {
        total->sum = total->sum * exp(total->largest - largest) + sum;
        total->largest = largest;
    } else {
        total->sum += sum * exp(largest - total->largest);
    }
}

INLINE void exponents(const tpe_dim *dims, const tpe_mixture *mixture, const tpe_points *points, int point, int first,
                      int count, double *sum)
{
    memcpy(sum, mixture->bias + first, (size_t)count * sizeof *sum);
    for (int i = 0; i < points->ndims; i++) {
        const double *at = &points->at[point * points->ndims + i];
        const tpe_dim *dim = &dims[i];
        if (isnan(*at) || dim->point)
            continue;
        if (dim->dim->kind == CADRE_DIM_CATEGORICAL) {
            add_categorical(dim, &mixture->column[i], first, count, *at, sum);
        } else if (dim->values) {
            add_tabled(&mixture->column[i], first, count, points->value[point * points->ndims + i], sum);
        } else if (dim->dim->step > 0) {
            double where[3] = {points->left[point * points->ndims + i], *at, points->right[point * points->ndims + i]};
            add_stepped(dim, &mixture->column[i], first, count, where, sum);
        } else {
            add_continuous(dim, &mixture->column[i], first, count, *at, sum);
        }
    }
}

WIDE void tpe_log_density(const tpe_dim *dims, const tpe_mixture *mixture, const tpe_points *points, double *out)
{
    double block[TPE_BLOCK], weight[TPE_BLOCK] = {0};
    running_sum totals[TPE_MAX_POINTS];
    for (int p = 0; p < points->count; p++)
        totals[p] = (running_sum){log_prior(dims, points, p), mixture->prior};
    for (int first = 0; first < mixture->kernels;
         first += TPE_BLOCK) { /* kernels outside: a block stays in the cache */
        int count = mixture->kernels - first < TPE_BLOCK ? mixture->kernels - first : TPE_BLOCK;
        int whole = (count + LANES - 1) / LANES * LANES; /* filled up with kernels that weigh nothing */
        memcpy(weight, mixture->weight + first, (size_t)count * sizeof *weight);
        for (int k = count; k < whole; k++)
            weight[k] = 0;
        for (int p = 0; p < points->count; p++) {
            exponents(dims, mixture, points, p, first, count, block);
            for (int k = count; k < whole; k++)
                block[k] = -INFINITY;
            add_block(&totals[p], block, weight, whole);
        }
    }
    for (int p = 0; p < points->count; p++)
        out[p] = totals[p].largest + log(totals[p].sum / mixture->weights);
}
