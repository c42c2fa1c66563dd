/*
 * When a run is over, and what comes next. The criteria are those of Hansen, "Benchmarking a BI-Population CMA-ES on
 * the BBOB-2009 Function Testbed", GECCO 2009, section 2; so is BIPOP: runs with generations twice as large as the
 * large one before, and between them, as long as these have spent less, small ones of random size and width. As in
 * Hansen's pycma, what the first run spent counts as spent by small ones, and a plateau ends a run: two generations in
 * a row whose better three quarters are all the same. IPOP (Auger and Hansen 2005): the large ones alone.
 */
#include "base/error.h"
#include "base/mem.h"
#include "tuner/search/cma.h"

#include <stdlib.h>
#include <string.h>

enum { DOUBLINGS = 9, STALE = 30, LEVEL = 2 };
static const double TOLERANCE_X = 1e-12, TOLERANCE_VALUE = 1e-12, WORST_CONDITION = 1e14, WIDEST = 1e3;

int cma_restart_init(cma_restart *restart, int lambda, double sigma)
{
    *restart = (cma_restart){.lambda0 = lambda, .sigma0 = sigma};
    restart->best = base_calloc(CMA_KEPT, sizeof(double));
    restart->median = base_calloc(CMA_KEPT, sizeof(double));
    restart->spare = base_calloc(CMA_KEPT, sizeof(double));
    return restart->best && restart->median && restart->spare ? CADRE_OK : CADRE_ENOMEM;
}

void cma_restart_free(cma_restart *restart)
{
    free(restart->best);
    free(restart->median);
    free(restart->spare);
    *restart = (cma_restart){0};
}

void cma_restart_note(cma_restart *restart, const cma_strategy *strategy, double best, double median, bool fresh,
                      bool level)
{
    restart->best[restart->generations % CMA_KEPT] = best;
    restart->median[restart->generations % CMA_KEPT] = median;
    restart->generations++;
    restart->spent += strategy->lambda;
    restart->stale = fresh ? 0 : restart->stale + 1;
    restart->level = level ? restart->level + 1 : 0;
}

static int ascending(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* The median of the `count` last values of a ring, `back` generations ago. */
static double median_of(const cma_restart *restart, const double *ring, int64_t back, int64_t count)
{
    for (int64_t i = 0; i < count; i++)
        restart->spare[i] = ring[(restart->generations - 1 - back - i) % CMA_KEPT];
    qsort(restart->spare, (size_t)count, sizeof(double), ascending);
    return restart->spare[count / 2];
}

/* Over the last fifth of the generations neither the best nor the median has got better. Looked at now and then only.
 */
static bool stagnates(const cma_restart *restart, const cma_strategy *strategy)
{
    double least = 120 + 30.0 * strategy->n / strategy->lambda;
    int64_t window = (int64_t)fmin(fmax(0.2 * (double)restart->generations, least), CMA_KEPT), part = window * 3 / 10;
    if (restart->generations < window || restart->generations % 16)
        return false;
    return median_of(restart, restart->best, 0, part) >= median_of(restart, restart->best, window - part, part) &&
           median_of(restart, restart->median, 0, part) >= median_of(restart, restart->median, window - part, part);
}

/* The best values of the last generations are all the same. */
static bool flat(const cma_restart *restart, const cma_strategy *strategy)
{
    int64_t window = 10 + (int64_t)ceil(30.0 * strategy->n / strategy->lambda);
    if (window > CMA_KEPT || restart->generations < window)
        return false;
    double low = INFINITY, high = -INFINITY;
    for (int64_t i = 0; i < window; i++) {
        double best = restart->best[(restart->generations - 1 - i) % CMA_KEPT];
        low = fmin(low, best);
        high = fmax(high, best);
    }
    return high - low <= TOLERANCE_VALUE * fmax(1, fabs(low) * 1e-2);
}

static bool too_narrow(const cma_strategy *strategy, const cma_coords *coords)
{
    bool continuous = false;
    for (int i = 0; i < strategy->n; i++) {
        if (cma_coords_stepped(&coords->coord[i]))
            continue;
        continuous = true;
        if (cma_strategy_sd(strategy, i) > TOLERANCE_X || strategy->sigma * fabs(strategy->pc[i]) > TOLERANCE_X)
            return false;
    }
    return continuous;
}

bool cma_restart_due(const cma_restart *restart, const cma_strategy *strategy, const cma_coords *coords)
{
    double shortest = INFINITY, longest = 0, n = strategy->n;
    if (!isfinite(strategy->sigma) || restart->stale >= STALE || restart->level >= LEVEL)
        return true;
    if (n == 0)
        return false;
    for (int k = 0; k < strategy->n; k++) {
        shortest = fmin(shortest, strategy->length[k]);
        longest = fmax(longest, strategy->length[k]);
    }
    if (longest * longest > WORST_CONDITION * shortest * shortest ||
        strategy->sigma * longest > WIDEST * restart->sigma0 || !(strategy->sigma * longest > 0))
        return true;
    if ((double)restart->generations > 100 + 50 * (n + 3) * (n + 3) / sqrt(strategy->lambda) ||
        (restart->small && restart->spent >= restart->small_most))
        return true;
    return too_narrow(strategy, coords) || flat(restart, strategy) || stagnates(restart, strategy);
}

void cma_restart_next(cma_restart *restart, cadre_cmaes_restarts kind, base_rng *rng, int *lambda, double *sigma)
{
    double u = base_rng_uniform(rng), v = base_rng_uniform(rng);
    if (restart->small || restart->doublings == 0)
        restart->spent_small += restart->spent;
    else {
        restart->spent_large += restart->spent;
        restart->last_large = restart->spent;
    }
    restart->spent = restart->generations = 0;
    restart->stale = restart->level = 0;
    restart->small = kind == CADRE_CMAES_BIPOP && restart->doublings > 0 && restart->spent_small < restart->spent_large;
    *lambda = restart->lambda0;
    *sigma = restart->sigma0;
    if (kind == CADRE_CMAES_NONE)
        return;
    if (restart->small) {
        double ratio = pow(2, restart->doublings) / 2;
        *lambda = (int)(restart->lambda0 * pow(ratio, u * u));
        *sigma = restart->sigma0 * pow(10, -2 * v);
        restart->small_most = restart->last_large / 2;
        return;
    }
    restart->doublings += restart->doublings < DOUBLINGS;
    *lambda = restart->lambda0 << restart->doublings;
}
