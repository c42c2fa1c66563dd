/*
 * Hamano, Saito, Nomura, Shirakawa, "CMA-ES with Margin: Lower-Bounding Marginal Probability for Mixed-Integer
 * Black-Box Optimization", GECCO 2022, arXiv 2205.13482, section 4. Where a stepped coordinate's distribution shrinks
 * into one step, nothing would be told apart any more; its mean and scale are moved so that the probability of leaving
 * stays 1 / (n lambda).
 */
#include "tuner/search/cma.h"

static double above(double z) { return 0.5 * erfc(z * M_SQRT1_2); }

/* How many standard deviations away p of the mass is left. */
static double distance(double p) { return -tuner_normal_quantile(p); }

/* In the first or the last step there is one edge: the mean stays in reach of it. */
static double toward_edge(double mean, double edge, double reach)
{
    return mean < edge ? fmax(mean, edge - reach) : fmin(mean, edge + reach);
}

/* Between two edges both ways out stay open, in proportion to what they had. */
static void between(double *mean, double *sd, double left, double right, double least)
{
    double down = above((*mean - left) / *sd), up = above((right - *mean) / *sd), stay = fmax(1 - down - up, 0);
    double more_down = fmax(down, least / 2), more_up = fmax(up, least / 2);
    if (more_down == down && more_up == up)
        return;
    double surplus = (1 - more_down - more_up - stay) / (more_down + more_up + stay - 1.5 * least);
    double z_down = distance(more_down + surplus * (more_down - least / 2)),
           z_up = distance(more_up + surplus * (more_up - least / 2));
    if (!(z_down + z_up > 0))
        return;
    *sd = (right - left) / (z_down + z_up);
    *mean = left + z_down * *sd;
}

void cma_margin(cma_strategy *strategy, const cma_coords *coords)
{
    double least = 1.0 / ((double)strategy->n * strategy->lambda);
    for (int i = 0; i < strategy->n; i++) {
        double left, right, sd = cma_strategy_sd(strategy, i), wider = sd, *mean = &strategy->mean[i];
        if (!cma_coords_stepped(&coords->coord[i]) || !(sd > 0))
            continue;
        cma_coords_step(&coords->coord[i], *mean, &left, &right);
        if (isinf(left) || isinf(right))
            *mean = toward_edge(*mean, isinf(left) ? right : left, distance(least) * sd);
        else
            between(mean, &wider, left, right, least);
        strategy->scale[i] *= wider / sd;
    }
}
