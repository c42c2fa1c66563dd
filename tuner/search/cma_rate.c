/*
 * Learning rates for noise and many modes: Nomura, Akimoto, Ono, "CMA-ES with Learning Rate Adaptation", GECCO 2023,
 * arXiv 2304.03473, algorithm 2 with its constants. Each update of the mean and of the covariance is measured in the
 * distribution before it; where successive updates do not agree, their signal is small against their noise, and they
 * are taken less far.
 */
#include "base/error.h"
#include "base/mem.h"
#include "tuner/search/cma.h"

#include <stdlib.h>
#include <string.h>

/* Of the mean, or of the covariance. */
typedef struct cma_signal {
    double beta, eta;
    double *average, squares; /* moving averages of the update, and of its squared length */
    size_t size;
} cma_signal;

struct cma_rate {
    cma_signal mean, covariance;
    double sigma, *old_mean, *old_c, *axis, *length, *work, *delta, *change;
};

static const double ALPHA = 1.4, BETA_MEAN = 0.1, BETA_COVARIANCE = 0.03, GAMMA = 0.1;

int cma_rate_new(int n, cma_rate **out)
{
    size_t count = (size_t)n, square = count * count;
    cma_rate *rate = base_calloc(1, sizeof *rate);
    if (!rate)
        return CADRE_ENOMEM;
    rate->mean = (cma_signal){.beta = BETA_MEAN, .size = count, .average = base_calloc(count, sizeof(double))};
    rate->covariance =
        (cma_signal){.beta = BETA_COVARIANCE, .size = square, .average = base_calloc(square, sizeof(double))};
    rate->old_mean = base_calloc(count, sizeof(double));
    rate->length = base_calloc(count, sizeof(double));
    rate->old_c = base_calloc(square, sizeof(double));
    rate->axis = base_calloc(square, sizeof(double));
    rate->work = base_calloc(square, sizeof(double));
    rate->delta = base_calloc(square, sizeof(double));
    rate->change = base_calloc(square, sizeof(double));
    if (!rate->mean.average || !rate->covariance.average || !rate->old_mean || !rate->length || !rate->old_c ||
        !rate->axis || !rate->work || !rate->delta || !rate->change) {
        cma_rate_free(rate);
        return CADRE_ENOMEM;
    }
    *out = rate;
    return CADRE_OK;
}

void cma_rate_free(cma_rate *rate)
{
    if (!rate)
        return;
    free(rate->mean.average);
    free(rate->covariance.average);
    free(rate->old_mean);
    free(rate->length);
    free(rate->old_c);
    free(rate->axis);
    free(rate->work);
    free(rate->delta);
    free(rate->change);
    free(rate);
}

static void forget(cma_signal *signal)
{
    memset(signal->average, 0, signal->size * sizeof(double));
    signal->squares = 0;
    signal->eta = 1;
}

void cma_rate_start(cma_rate *rate)
{
    forget(&rate->mean);
    forget(&rate->covariance);
}

void cma_rate_before(cma_rate *rate, const cma_strategy *strategy)
{
    size_t n = (size_t)strategy->n;
    rate->sigma = strategy->sigma;
    memcpy(rate->old_mean, strategy->mean, n * sizeof(double));
    memcpy(rate->length, strategy->length, n * sizeof(double));
    memcpy(rate->old_c, strategy->c, n * n * sizeof(double));
    memcpy(rate->axis, strategy->axis, n * n * sizeof(double));
}

/* Take one update in; the learning rate follows its signal to noise ratio. */
static void hear(cma_signal *signal, const double *update)
{
    double beta = signal->beta, squares = 0, agreed = 0;
    for (size_t i = 0; i < signal->size; i++) {
        squares += update[i] * update[i];
        signal->average[i] += beta * (update[i] - signal->average[i]);
        agreed += signal->average[i] * signal->average[i];
    }
    signal->squares += beta * (squares - signal->squares);
    double ratio = (agreed - beta / (2 - beta) * signal->squares) / fmax(signal->squares - agreed, 1e-300);
    double relative = fmin(fmax(ratio / (ALPHA * signal->eta) - 1, -1), 1);
    signal->eta = fmin(signal->eta * exp(fmin(GAMMA * signal->eta, beta) * relative), 1);
}

/* The change of the mean in the old distribution's own axes. */
static void change_of_mean(const cma_rate *rate, const cma_strategy *strategy, double *out)
{
    int n = strategy->n;
    for (int k = 0; k < n; k++) {
        double along = 0;
        for (int i = 0; i < n; i++)
            along += rate->axis[k * n + i] * (strategy->mean[i] - rate->old_mean[i]) / strategy->scale[i];
        out[k] = along / (rate->length[k] * rate->sigma);
    }
}

/* The change of sigma^2 c in the same axes, over the root of 2; `delta` keeps it as it is. */
static void change_of_covariance(cma_rate *rate, const cma_strategy *strategy, double *out)
{
    int n = strategy->n;
    double now = strategy->sigma * strategy->sigma, before = rate->sigma * rate->sigma;
    for (int i = 0; i < n; i++)
        for (int j = 0; j <= i; j++)
            rate->delta[i * n + j] = rate->delta[j * n + i] =
                now * strategy->c[i * n + j] - before * rate->old_c[i * n + j];
    for (int k = 0; k < n; k++)
        for (int j = 0; j < n; j++) {
            double sum = 0;
            for (int i = 0; i < n; i++)
                sum += rate->axis[k * n + i] * rate->delta[i * n + j];
            rate->work[k * n + j] = sum;
        }
    for (int k = 0; k < n; k++)
        for (int l = 0; l < n; l++) {
            double sum = 0;
            for (int j = 0; j < n; j++)
                sum += rate->work[k * n + j] * rate->axis[l * n + j];
            out[k * n + l] = sum / (rate->length[k] * rate->length[l] * before * M_SQRT2);
        }
}

void cma_rate_after(cma_rate *rate, cma_strategy *strategy)
{
    int n = strategy->n;
    double eta = rate->mean.eta, before = rate->sigma * rate->sigma, log_volume = 0;
    change_of_mean(rate, strategy, strategy->spare);
    hear(&rate->mean, strategy->spare);
    change_of_covariance(rate, strategy, rate->change);
    hear(&rate->covariance, rate->change);
    for (int i = 0; i < n; i++)
        strategy->mean[i] = rate->old_mean[i] + rate->mean.eta * (strategy->mean[i] - rate->old_mean[i]);
    for (int i = 0; i < n * n; i++)
        strategy->c[i] = before * rate->old_c[i] + rate->covariance.eta * rate->delta[i];
    if (!cma_strategy_decompose(strategy)) {
        strategy->sigma = NAN; /* the run is over */
        return;
    }
    for (int k = 0; k < n; k++)
        log_volume += log(strategy->length[k]);
    double width = exp(log_volume / n);
    for (int i = 0; i < n * n; i++)
        strategy->c[i] /= width * width;
    for (int k = 0; k < n; k++)
        strategy->length[k] /= width;
    strategy->sigma = width * eta / rate->mean.eta; /* the best width goes with the inverse of the rate: section 3.3 */
}
