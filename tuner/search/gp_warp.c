/*
 * Targets: the values of ended trials on a scale on which a stationary process describes them.
 *
 * A value is first measured from the best one, in distances of the median from the best. Which of a few monotone maps
 * follows, from none to the logarithm of what is near the best, is decided by the likelihood of the targets times the
 * map's slopes (Snelson, Rasmussen, Ghahramani, "Warped Gaussian Processes", NIPS 2003), so by what describes these
 * values best. All of them grow as a logarithm far beyond the median: a value of 1e300 is a bad one and no more.
 */
#include "tuner/search/gp.h"

#include <stdlib.h>
#include <string.h>

static int ascending(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Where the logarithm begins. */
static const double far = 4;

static double warp(gp_warp_kind kind, double t, double *slope)
{
    double g = t, by = 1;
    if (t > far) {
        g = far + log1p(t - far);
        by = 1 / (1 + t - far);
    }
    double near = kind == GP_WARP_ROOT ? 0.1 : kind == GP_WARP_LOG ? 0.1 : 0.003;
    switch (kind) {
    case GP_WARP_ROOT:
        *slope = by * 0.5 / sqrt(g + near);
        return sqrt(g + near);
    case GP_WARP_LOG:
    case GP_WARP_LOG_FINE:
        *slope = by / (g + near);
        return log(g + near);
    default:
        *slope = by;
        return g;
    }
}

/* Mean 0 and standard deviation 1; the deviation there was. */
static double standardise(int n, double *y)
{
    double mean = 0, square = 0;
    for (int i = 0; i < n; i++)
        mean += y[i] / n;
    for (int i = 0; i < n; i++)
        square += (y[i] - mean) * (y[i] - mean) / n;
    double sd = sqrt(square);
    for (int i = 0; i < n; i++)
        y[i] = sd > 1e-12 ? (y[i] - mean) / sd : 0;
    return sd;
}

gp_scale gp_warp(gp_warp_kind kind, int n, const unsigned char *state, const double *value, double *sorted, double *y)
{
    int complete = 0, known = 0;
    double slopes = 0, worst = 0;
    for (int pass = 0; pass < 2 && !known; pass++) /* pruned ones only when there are no others */
        for (int i = 0; i < n; i++)
            if (state[i] == (pass ? GP_PRUNED : GP_COMPLETE))
                sorted[known++] = fmin(fmax(value[i], -1e300), 1e300);
    if (!known) {
        memset(y, 0, (size_t)n * sizeof *y);
        return (gp_scale){0, 1};
    }
    qsort(sorted, (size_t)known, sizeof *sorted, ascending);
    double best = sorted[0], middle = sorted[known / 2];
    double unit = middle / 2 - best / 2;
    if (!(unit > 0))
        unit = sorted[known - 1] / 2 - best / 2;
    if (!(unit > 1e-300))
        unit = 1;
    for (int i = 0; i < n; i++) {
        if (state[i] == GP_FAILED)
            continue;
        double slope, at = fmin(fmax(value[i], -1e300), 1e300);
        if (state[i] == GP_PRUNED)
            at = fmax(at, middle); /* it was on its way down, and yet among the worse ones */
        y[i] = warp(kind, fmax((at / 2 - best / 2) / unit, 0), &slope);
        worst = complete++ ? fmax(worst, y[i]) : y[i];
        slopes += log(slope);
    }
    for (int i = 0; i < n; i++)
        if (state[i] == GP_FAILED)
            y[i] = worst; /* to be left, but no cliff */
    double sd = standardise(n, y), steepest;
    if (!(sd > 1e-12))
        return (gp_scale){0, 1};
    warp(kind, 0, &steepest);
    return (gp_scale){slopes - complete * log(sd), 2 * unit * sd / steepest};
}
