/*
 * Hyperparameters: the largest posterior density (Rasmussen and Williams, algorithm 2.1 and eq. 5.9). Theta holds
 * logarithms: variances of the joint part and of the parts alone, the joint part's lengthscales and those alone (so far
 * as gp_kernel_derivatives has them), and the variance of the noise.
 */
#include "tuner/search/gp.h"

#include <string.h>

enum { JOINT, ALONE, LENGTHS };

static const double quiet = 1e-8; /* least variance of noise */

int gp_fit_parameters(const gp_model *model) { return LENGTHS + 2 * model->kernel.space->axes + 1; }

/* Where the noise stands. */
static int noise_of(const gp_model *model) { return LENGTHS + 2 * model->kernel.space->axes; }

/* Of a joint lengthscale, as in Hvarfner, Hellsten, Nardi, "Vanilla Bayesian Optimization Performs Great in High
 * Dimensions", arXiv 2402.02229: log-normal, growing with the square root of the number of axes. */
static double log_length(const gp_model *model) { return 1.4142135623730951 + 0.5 * log(model->kernel.space->axes); }

void gp_fit_defaults(const gp_model *model, int start, double *theta)
{
    int axes = model->kernel.space->axes;
    theta[JOINT] = log(start ? 0.05 : 0.7);
    theta[ALONE] = log(start ? 1 : 0.3);
    theta[noise_of(model)] = model->fixed_noise ? log(quiet) : log(1e-3);
    for (int d = 0; d < axes; d++) {
        theta[LENGTHS + d] = log(0.3 * sqrt(axes));
        theta[LENGTHS + axes + d] = log(start ? 0.2 : 0.4);
    }
}

static void set_bounds(gp_model *model)
{
    int axes = model->kernel.space->axes;
    model->low[JOINT] = log(1e-3);
    model->high[JOINT] = log(50);
    model->low[ALONE] = log(1e-4);
    model->high[ALONE] = log(50);
    model->low[noise_of(model)] = log(quiet);
    model->high[noise_of(model)] = model->fixed_noise ? log(quiet) : 0;
    for (int d = 0; d < axes; d++) {
        model->low[LENGTHS + d] = log(0.01);
        model->high[LENGTHS + d] = log(100);
        model->low[LENGTHS + axes + d] = log(0.02);
        model->high[LENGTHS + axes + d] = log(30);
    }
}

void gp_fit_set(gp_model *model, const double *theta)
{
    gp_kernel *kernel = &model->kernel;
    kernel->mean = 1;
    kernel->joint = exp(theta[JOINT]);
    kernel->alone = exp(theta[ALONE]);
    kernel->noise = exp(theta[noise_of(model)]);
    for (int d = 0; d < kernel->space->axes; d++) {
        kernel->w[d] = exp(-2 * theta[LENGTHS + d]);
        kernel->v[d] = exp(-2 * theta[LENGTHS + kernel->space->axes + d]);
    }
}

/* Minus the logarithm of the prior density. */
static double prior(const gp_model *model, const double *theta, double *gradient)
{
    int axes = model->kernel.space->axes;
    double sum = 0;
    /* variances: gamma densities of the variance, shapes 2 and 1.5, rate 1; of the noise 1.1 and 30 */
    sum -= theta[JOINT] - exp(theta[JOINT]);
    gradient[JOINT] -= 1 - exp(theta[JOINT]);
    sum -= 0.5 * theta[ALONE] - exp(theta[ALONE]);
    gradient[ALONE] -= 0.5 - exp(theta[ALONE]);
    if (!model->fixed_noise) {
        sum -= 0.1 * theta[noise_of(model)] - 30 * exp(theta[noise_of(model)]);
        gradient[noise_of(model)] -= 0.1 - 30 * exp(theta[noise_of(model)]);
    }
    double centre = log_length(model), alone = 0;
    for (int d = 0; d < axes; d++) {
        double off = theta[LENGTHS + d] - centre, other = theta[LENGTHS + axes + d] - alone;
        sum += off * off / 6 + theta[LENGTHS + d] + other * other / 2 + theta[LENGTHS + axes + d];
        gradient[LENGTHS + d] += off / 3 + 1;
        gradient[LENGTHS + axes + d] += other + 1;
    }
    return sum;
}

double gp_fit_objective(void *context, const double *theta, double *gradient)
{
    gp_model *model = context;
    int n = model->count, stride = model->stride;
    double *half = model->row, *weight = half + n, *scratch = weight + n;
    memset(gradient, 0, (size_t)gp_fit_parameters(model) * sizeof *gradient);
    gp_fit_set(model, theta);
    if (!gp_model_try(model, n))
        return INFINITY;
    gp_multiply(n, stride, model->inverse, model->y, half);
    double value = 0.5 * gp_dot(n, half, half);
    for (int i = 0; i < n; i++)
        value += log(model->l[(size_t)i * (size_t)stride + (size_t)i]);
    gp_multiply_transposed(n, stride, model->inverse, half, model->alpha);
    gp_square(n, stride, model->inverse, model->square);
    /* d value = 1/2 sum of (K^-1 - alpha alpha') dK */
    double trace = 0;
    for (int i = 0; i < n; i++) {
        const double *row = model->square + (size_t)i * (size_t)stride;
        trace += row[i] - model->alpha[i] * model->alpha[i];
        for (int j = 0; j < i; j++)
            weight[j] = row[j] - model->alpha[i] * model->alpha[j];
        gp_kernel_derivatives(&model->kernel, model->points.at + i, model->points.stride, &model->points, i, weight,
                              scratch, gradient);
    }
    gradient[JOINT] += 0.5 * trace * model->kernel.joint;
    gradient[ALONE] += 0.5 * trace * model->kernel.alone;
    gradient[noise_of(model)] = 0.5 * trace * model->kernel.noise;
    return value + prior(model, theta, gradient);
}

double gp_fit(gp_model *model, bool restart, int evaluations)
{
    int parameters = gp_fit_parameters(model);
    size_t bytes = (size_t)parameters * sizeof(double);
    gp_minimise_options options = {.evaluations = evaluations, .gradient = 0.02, .decrease = 1e-3, .first = 0.5};
    set_bounds(model);
    double least = INFINITY;
    if (model->fitted) {
        least = gp_minimise(gp_fit_objective, model, parameters, model->low, model->high, &options, model->scratch,
                            model->theta);
        memcpy(model->best, model->theta, bytes);
    }
    if (!model->fitted || restart || !isfinite(least)) {
        for (int start = 0; start < GP_FIT_STARTS; start++) {
            gp_fit_defaults(model, start, model->theta);
            double value = gp_minimise(gp_fit_objective, model, parameters, model->low, model->high, &options,
                                       model->scratch, model->theta);
            if (value < least || !isfinite(least)) {
                least = value;
                memcpy(model->best, model->theta, bytes);
            }
        }
    }
    memcpy(model->theta, model->best, bytes);
    model->fitted = true;
    gp_fit_set(model, model->theta);
    return least;
}
