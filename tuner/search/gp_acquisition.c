/*
 * What a point promises: the logarithm of the expected improvement (Ament, Daulton, Eriksson, Balandat, Bakshy,
 * "Unexpected Improvements to Expected Improvement for Bayesian Optimization", arXiv 2310.20708), which has a slope
 * also where the improvement itself is 0 in floating point.
 */
#include "tuner/search/gp.h"

/*
 * h(z) = phi(z) + z Phi(z). Below 0, with t = -z and Mills' ratio R(t) = (1 - Phi(t)) / phi(t), it is phi(t) s with s =
 * 1
 * - t R(t), of order 1 / t^2: cancellation costs t^2 ulps, so from 20 on s is its asymptotic series.
 */
double gp_log_h(double z, double *slope)
{
    const double root_two_pi = 2.5066282746310002, log_root = 0.91893853320467274;
    if (z > 0) {
        double density = exp(-0.5 * z * z) / root_two_pi, share = 0.5 * erfc(-z * M_SQRT1_2);
        double h = density + z * share;
        *slope = share / h;
        return log(h);
    }
    double t = -z, ratio, s;
    if (t < 20) {
        ratio = root_two_pi * 0.5 * erfc(t * M_SQRT1_2) * exp(0.5 * t * t);
        s = 1 - t * ratio;
    } else {
        double i = 1 / (t * t);
        s = i * (1 - i * (3 - i * (15 - i * (105 - i * (945 - i * (10395 - i * 135135))))));
        ratio = (1 - s) / t;
    }
    *slope = ratio / s;
    return log(s) - 0.5 * t * t - log_root;
}

static const double least = 1e-18; /* variance of what is known */

void gp_log_ei(gp_model *model, gp_goal goal, double *columns, double *out)
{
    double mean[GP_BLOCK], variance[GP_BLOCK], slope;
    gp_model_predict(model, columns, mean, variance);
    for (int k = 0; k < GP_BLOCK; k++) {
        double sd = goal.widen * sqrt(fmax(variance[k], least));
        out[k] = gp_log_h((goal.best - mean[k]) / sd, &slope) + log(sd);
    }
}

double gp_log_ei_slope(gp_model *model, gp_goal goal, double *columns, double *gradient)
{
    const gp_kernel *kernel = &model->kernel;
    int n = model->all;
    double *row = model->row, *half = row + n, *back = half + n, *scratch = back + n, slope;
    gp_kernel_prepare(kernel, columns, 1, 1);
    gp_kernel_row(kernel, columns, 1, &model->points, n, scratch, row);
    double mean = gp_dot(n, model->alpha, row);
    gp_multiply(n, model->stride, model->inverse, row, half);
    double variance = kernel->mean + kernel->joint + kernel->alone - gp_dot(n, half, half);
    double sd = goal.widen * sqrt(fmax(variance, least)), z = (goal.best - mean) / sd;
    double value = gp_log_h(z, &slope) + log(sd);
    /* d value = - slope / sd d mean + (1 - z slope) / sd d sd, and d variance = 2 sd d sd = -2 (K^-1 k) dk */
    double by_mean = -slope / sd, by_variance = variance > least ? (1 - z * slope) / (2 * variance) : 0;
    gp_multiply_transposed(n, model->stride, model->inverse, half, back);
    for (int i = 0; i < n; i++)
        back[i] = by_mean * model->alpha[i] - 2 * by_variance * back[i];
    gp_kernel_slope(kernel, columns, &model->points, n, back, scratch, gradient);
    return value;
}
