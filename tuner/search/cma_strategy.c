/*
 * The covariance matrix adaptation evolution strategy: Hansen, "The CMA Evolution Strategy: A Tutorial", arXiv
 * 1604.00772, with its default parameters (table 1) and negative weights for the worse half (active CMA, Jastrebski and
 * Arnold 2006). Candidates are mean + sigma * scale * y, y normal with covariance c.
 */
#include "base/error.h"
#include "base/mem.h"
#include "tuner/search/cma.h"
#include "tuner/search/eigen.h"

#include <float.h>
#include <stdlib.h>
#include <string.h>

int cma_strategy_lambda(int dims) { return 4 + (int)(3 * log(dims < 1 ? 1 : dims)); }

int cma_strategy_init(cma_strategy *strategy, int n, int lambda, bool adapt_rate)
{
    size_t count = (size_t)n;
    *strategy = (cma_strategy){.n = n};
    double **arrays[] = {&strategy->mean, &strategy->scale, &strategy->length, &strategy->ps, &strategy->pc};
    int status = CADRE_OK;
    for (size_t k = 0; k < sizeof arrays / sizeof *arrays; k++)
        if (!(*arrays[k] = base_calloc(count + 1, sizeof(double))))
            status = CADRE_ENOMEM;
    strategy->c = base_calloc(count * count + 1, sizeof(double));
    strategy->axis = base_calloc(count * count + 1, sizeof(double));
    strategy->spare = base_calloc(6 * count + 1, sizeof(double));
    if (!strategy->c || !strategy->axis || !strategy->spare)
        status = CADRE_ENOMEM;
    if (status == CADRE_OK)
        status = cma_strategy_make_room(strategy, lambda);
    if (status == CADRE_OK && adapt_rate && n > 0)
        status = cma_rate_new(n, &strategy->rate);
    return status;
}

void cma_strategy_free(cma_strategy *strategy)
{
    free(strategy->mean);
    free(strategy->scale);
    free(strategy->length);
    free(strategy->ps);
    free(strategy->pc);
    free(strategy->c);
    free(strategy->axis);
    free(strategy->spare);
    free(strategy->weight);
    cma_rate_free(strategy->rate);
    *strategy = (cma_strategy){0};
}

int cma_strategy_make_room(cma_strategy *strategy, int lambda)
{
    if (lambda <= strategy->room)
        return CADRE_OK;
    double *weight = base_realloc(strategy->weight, (size_t)lambda * sizeof *weight);
    if (!weight)
        return CADRE_ENOMEM;
    strategy->weight = weight;
    strategy->room = lambda;
    return CADRE_OK;
}

/* Table 1 of the tutorial. */
static void set_parameters(cma_strategy *strategy)
{
    int lambda = strategy->lambda;
    double n = strategy->n > 0 ? strategy->n : 1, *w = strategy->weight, sum = 0, squares = 0, below = 0,
           below_squares = 0;
    strategy->mu = lambda / 2;
    for (int i = 0; i < lambda; i++) {
        w[i] = log((lambda + 1) / 2.0) - log(i + 1);
        if (i < strategy->mu) {
            sum += w[i];
            squares += w[i] * w[i];
        } else {
            below += w[i];
            below_squares += w[i] * w[i];
        }
    }
    double mu_eff = strategy->mu_eff = sum * sum / squares, mu_below = below * below / below_squares;
    strategy->cs = (mu_eff + 2) / (n + mu_eff + 5);
    strategy->ds = 1 + 2 * fmax(0, sqrt((mu_eff - 1) / (n + 1)) - 1) + strategy->cs;
    strategy->cc = (4 + mu_eff / n) / (n + 4 + 2 * mu_eff / n);
    strategy->c1 = 2 / ((n + 1.3) * (n + 1.3) + mu_eff);
    strategy->c_mu = fmin(1 - strategy->c1, 2 * (0.25 + mu_eff - 2 + 1 / mu_eff) / ((n + 2) * (n + 2) + mu_eff));
    strategy->chi = sqrt(n) * (1 - 1 / (4 * n) + 1 / (21 * n * n));
    double most = fmin(1 + strategy->c1 / strategy->c_mu, 1 + 2 * mu_below / (mu_eff + 2));
    most = fmin(most, (1 - strategy->c1 - strategy->c_mu) / (n * strategy->c_mu));
    for (int i = 0; i < lambda; i++)
        w[i] = i < strategy->mu ? w[i] / sum : below < 0 ? -w[i] * most / below : 0;
}

bool cma_strategy_decompose(cma_strategy *strategy)
{
    size_t n = (size_t)strategy->n;
    double *value = strategy->spare, largest = 0;
    memcpy(strategy->axis, strategy->c, n * n * sizeof(double));
    if (!eigen_symmetric(strategy->n, strategy->axis, value, value + n))
        return false;
    for (size_t k = 0; k < n; k++)
        largest = fmax(largest, value[k]);
    for (size_t k = 0; k < n; k++)
        strategy->length[k] = sqrt(fmax(value[k], DBL_EPSILON * largest / 16));
    strategy->decomposed = strategy->generation;
    return largest > 0;
}

static void set_round(cma_strategy *strategy)
{
    size_t n = (size_t)strategy->n;
    memset(strategy->c, 0, n * n * sizeof(double));
    memset(strategy->axis, 0, n * n * sizeof(double));
    for (size_t i = 0; i < n; i++)
        strategy->c[i * n + i] = strategy->axis[i * n + i] = strategy->length[i] = 1;
}

void cma_strategy_start(cma_strategy *strategy, int lambda, const double *mean, double sigma)
{
    strategy->lambda = lambda;
    strategy->sigma = sigma;
    strategy->generation = strategy->decomposed = 0;
    set_parameters(strategy);
    set_round(strategy);
    for (int i = 0; i < strategy->n; i++) {
        strategy->mean[i] = mean[i];
        strategy->scale[i] = 1;
        strategy->ps[i] = strategy->pc[i] = 0;
    }
    if (strategy->rate)
        cma_rate_start(strategy->rate);
}

void cma_strategy_set_covariance(cma_strategy *strategy, const double *c)
{
    memcpy(strategy->c, c, (size_t)strategy->n * (size_t)strategy->n * sizeof *c);
    if (!cma_strategy_decompose(strategy))
        set_round(strategy);
}

double cma_strategy_sd(const cma_strategy *strategy, int i)
{
    return strategy->sigma * strategy->scale[i] * sqrt(strategy->c[i * strategy->n + i]);
}

void cma_strategy_draw(const cma_strategy *strategy, base_rng *rng, double *g)
{
    int n = strategy->n;
    for (int i = 0; i < n; i++)
        g[i] = 0;
    for (int k = 0; k < n; k++) {
        double along = strategy->length[k] * base_rng_normal(rng);
        const double *axis = strategy->axis + k * n;
        for (int i = 0; i < n; i++)
            g[i] += along * axis[i];
    }
    for (int i = 0; i < n; i++)
        g[i] = strategy->mean[i] + strategy->sigma * strategy->scale[i] * g[i];
}

/* c to the power of -1/2, times y, into z; the squared length of it. NULL: the length only. */
static double whiten(const cma_strategy *strategy, const double *y, double *z)
{
    int n = strategy->n;
    double squares = 0;
    for (int i = 0; z && i < n; i++)
        z[i] = 0;
    for (int k = 0; k < n; k++) {
        const double *axis = strategy->axis + k * n;
        double along = 0;
        for (int i = 0; i < n; i++)
            along += axis[i] * y[i];
        along /= strategy->length[k];
        squares += along * along;
        for (int i = 0; z && i < n; i++)
            z[i] += along * axis[i];
    }
    return squares;
}

void cma_strategy_shorten(const cma_strategy *strategy, double *y)
{
    double n = strategy->n, longest = sqrt(n) + 2 * n / (n + 2), length = sqrt(whiten(strategy, y, NULL));
    for (int i = 0; length > longest && i < strategy->n; i++)
        y[i] *= longest / length;
}

static void update_paths(cma_strategy *strategy, const double *step, double *white, bool *held)
{
    int n = strategy->n;
    double cs = strategy->cs, cc = strategy->cc, squares = 0;
    whiten(strategy, step, white);
    for (int i = 0; i < n; i++) {
        strategy->ps[i] = (1 - cs) * strategy->ps[i] + sqrt(cs * (2 - cs) * strategy->mu_eff) * white[i];
        squares += strategy->ps[i] * strategy->ps[i];
    }
    double expected = 1 - pow(1 - cs, 2.0 * (double)(strategy->generation + 1));
    *held = sqrt(squares / expected) >= (1.4 + 2.0 / (n + 1)) * strategy->chi;
    for (int i = 0; i < n; i++)
        strategy->pc[i] = (1 - cc) * strategy->pc[i] + (*held ? 0 : sqrt(cc * (2 - cc) * strategy->mu_eff) * step[i]);
    strategy->sigma *= exp(fmin(1, cs / strategy->ds * (sqrt(squares) / strategy->chi - 1)));
}

static void add_outer(int n, double *c, double weight, const double *y)
{
    for (int i = 0; i < n; i++) {
        double by = weight * y[i];
        for (int j = 0; j <= i; j++)
            c[i * n + j] += by * y[j];
    }
}

static void update_covariance(cma_strategy *strategy, const double *y, const double *weight, bool held)
{
    int n = strategy->n, lambda = strategy->lambda;
    double c1 = strategy->c1, c_mu = strategy->c_mu, sum = 0;
    for (int k = 0; k < lambda; k++)
        sum += weight[k];
    double keep = 1 + (held ? c1 * strategy->cc * (2 - strategy->cc) : 0) - c1 - c_mu * sum;
    for (int i = 0; i < n; i++)
        for (int j = 0; j <= i; j++)
            strategy->c[i * n + j] *= keep;
    add_outer(n, strategy->c, c1, strategy->pc);
    for (int k = 0; k < lambda; k++) {
        const double *row = y + k * n;
        double w = c_mu * weight[k];
        if (w < 0) /* a long step may not make c lose its definiteness: tutorial, equation (46) */
            w *= n / fmax(whiten(strategy, row, NULL), 1e-30);
        if (w != 0)
            add_outer(n, strategy->c, w, row);
    }
}

void cma_strategy_update(cma_strategy *strategy, const double *y, const double *pull, const double *weight)
{
    int n = strategy->n;
    double *step = strategy->spare + 4 * n, *white = strategy->spare + 5 * n;
    bool held;
    if (n == 0)
        return;
    if (strategy->rate)
        cma_rate_before(strategy->rate, strategy);
    for (int i = 0; i < n; i++)
        step[i] = 0;
    for (int k = 0; k < strategy->lambda; k++)
        for (int i = 0; pull[k] > 0 && i < n; i++)
            step[i] += pull[k] * y[k * n + i];
    for (int i = 0; i < n; i++)
        strategy->mean[i] += strategy->sigma * strategy->scale[i] * step[i];
    update_paths(strategy, step, white, &held);
    update_covariance(strategy, y, weight, held);
    strategy->generation++;
    if (strategy->rate) {
        cma_rate_after(strategy->rate, strategy);
        return;
    }
    double gap = 1 / (10 * n * (strategy->c1 + strategy->c_mu));
    if ((double)(strategy->generation - strategy->decomposed) >= gap && !cma_strategy_decompose(strategy))
        strategy->sigma = NAN; /* the run is over */
}
