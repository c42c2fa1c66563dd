/*
 * Minimising in a box: limited-memory BFGS (Nocedal and Wright, "Numerical Optimization", 2nd ed., algorithm 7.4) over
 * the variables that are not held at a bound, with steps projected onto the box and halved until they gain enough
 * (Bertsekas, "Projected Newton methods", SIAM J. Control Optim. 20, 1982). Simpler than L-BFGS-B, which finds the
 * bounds that a step meets one after another; with this few variables it takes no more evaluations.
 */
#include "tuner/search/gp.h"

#include <string.h>

typedef struct memory {
    int n, pairs, next;
    double *s, *y; /* GP_MEMORY steps and changes of the gradient */
    double curvature[GP_MEMORY];
} memory;

size_t gp_minimise_room(int n) { return (size_t)n * (2 * GP_MEMORY + 4); }

static void remember(memory *memory, const double *before, const double *x, const double *gradient_before,
                     const double *gradient)
{
    size_t at = (size_t)memory->next * (size_t)memory->n;
    double *s = memory->s + at, *y = memory->y + at;
    for (int i = 0; i < memory->n; i++) {
        s[i] = x[i] - before[i];
        y[i] = gradient[i] - gradient_before[i];
    }
    double curvature = gp_dot(memory->n, s, y);
    if (!(curvature > 1e-10 * gp_dot(memory->n, y, y)))
        return; /* it would not be a descent direction's */
    memory->curvature[memory->next] = curvature;
    memory->next = (memory->next + 1) % GP_MEMORY;
    memory->pairs += memory->pairs < GP_MEMORY;
}

static bool is_held(const double *x, const double *gradient, const double *low, const double *high, int i)
{
    return (x[i] <= low[i] && gradient[i] > 0) || (x[i] >= high[i] && gradient[i] < 0);
}

/* direction = - (inverse Hessian) gradient; that of held variables is zero. */
static void point_downhill(const memory *memory, double *direction)
{
    double factor[GP_MEMORY];
    int n = memory->n;
    for (int k = 0; k < memory->pairs; k++) {
        int pair = (memory->next + GP_MEMORY - 1 - k) % GP_MEMORY;
        const double *s = memory->s + (size_t)pair * (size_t)n, *y = memory->y + (size_t)pair * (size_t)n;
        factor[pair] = gp_dot(n, s, direction) / memory->curvature[pair];
        for (int i = 0; i < n; i++)
            direction[i] -= factor[pair] * y[i];
    }
    if (memory->pairs) {
        int last = (memory->next + GP_MEMORY - 1) % GP_MEMORY;
        const double *y = memory->y + (size_t)last * (size_t)n;
        double scale = memory->curvature[last] / gp_dot(n, y, y);
        for (int i = 0; i < n; i++)
            direction[i] *= scale;
    }
    for (int k = memory->pairs - 1; k >= 0; k--) {
        int pair = (memory->next + GP_MEMORY - 1 - k) % GP_MEMORY;
        const double *s = memory->s + (size_t)pair * (size_t)n, *y = memory->y + (size_t)pair * (size_t)n;
        double other = gp_dot(n, y, direction) / memory->curvature[pair];
        for (int i = 0; i < n; i++)
            direction[i] += (factor[pair] - other) * s[i];
    }
    for (int i = 0; i < n; i++)
        direction[i] = -direction[i];
}

double gp_minimise(gp_function *function, void *context, int n, const double *low, const double *high,
                   const gp_minimise_options *options, double *scratch, double *x)
{
    memory memory = {.n = n, .s = scratch, .y = scratch + GP_MEMORY * n};
    double *gradient = scratch + 2 * GP_MEMORY * n, *before = gradient + n, *gradient_before = before + n,
           *direction = gradient_before + n;
    double value = function(context, x, gradient);
    int evaluations = 1;
    while (isfinite(value) && evaluations < options->evaluations) {
        double steepest = 0, length = 0, slope = 0;
        for (int i = 0; i < n; i++) {
            direction[i] = is_held(x, gradient, low, high, i) ? 0 : gradient[i];
            steepest = fmax(steepest, fabs(direction[i]));
        }
        if (!(steepest > options->gradient))
            break;
        point_downhill(&memory, direction);
        for (int i = 0; i < n; i++) {
            direction[i] = is_held(x, gradient, low, high, i) ? 0 : direction[i];
            slope += direction[i] * gradient[i];
        }
        if (!(slope < 0)) { /* what is remembered has nothing to do with here */
            memory.pairs = memory.next = 0;
            for (int i = 0; i < n; i++)
                direction[i] = is_held(x, gradient, low, high, i) ? 0 : -gradient[i];
        }
        for (int i = 0; i < n; i++)
            length = fmax(length, fabs(direction[i]));
        double step = memory.pairs ? 1 : fmin(1, options->first / length), was = value;
        memcpy(before, x, (size_t)n * sizeof *x);
        memcpy(gradient_before, gradient, (size_t)n * sizeof *x);
        bool better = false;
        while (!better && evaluations < options->evaluations && step * length > 1e-12) {
            double expected = 0;
            for (int i = 0; i < n; i++) {
                x[i] = fmin(fmax(before[i] + step * direction[i], low[i]), high[i]);
                expected += gradient_before[i] * (x[i] - before[i]);
            }
            value = function(context, x, gradient);
            evaluations++;
            better = value <= was + 1e-4 * expected;
            if (!better) { /* the parabola's lowest point, within reason */
                double guess = isfinite(value) ? -0.5 * expected / (value - was - expected) : 0.1;
                step *= fmin(fmax(guess, 0.1), 0.5);
            }
        }
        if (!better) {
            memcpy(x, before, (size_t)n * sizeof *x);
            return was;
        }
        remember(&memory, before, x, gradient_before, gradient);
        if (was - value < options->decrease)
            break;
    }
    return value;
}
