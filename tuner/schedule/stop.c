#include "stop.h"

#include "base/error.h"
#include "base/mem.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { WINDOW_MAX = 1024 };

/* The last values of a running trial, the newest at (count - 1) % window. */
struct window {
    int64_t trial;
    int64_t count;
    double *values;
};

struct tuner_stop {
    cadre_stop rules;
    bool maximize;
    struct window *windows; /* of running trials */
    int window_count;
    double *top; /* the best finished values, best first */
    int top_count;
    int patience; /* finished trials in a row over which the best stood still */
};

static int check(cadre_stop *r)
{
    r->plateau_window = r->plateau_window ? r->plateau_window : 4;
    r->plateau_grace = r->plateau_grace ? r->plateau_grace : 4;
    r->plateau_top = r->plateau_top ? r->plateau_top : 10;
    if (r->max_iterations < 0)
        return base_error(CADRE_EINVAL, "stop: max_iterations is %lld: give 1 or more, or 0 for none", (long long)r->max_iterations);
    if (!(r->trial_plateau_std >= 0) || !(r->experiment_plateau_std >= 0))
        return base_error(CADRE_EINVAL, "stop: a plateau's standard deviation may not be negative");
    if (r->plateau_window < 2 || r->plateau_window > WINDOW_MAX || r->plateau_top < 2 || r->plateau_top > WINDOW_MAX)
        return base_error(CADRE_EINVAL, "stop: plateau_window and plateau_top go from 2 to %d", WINDOW_MAX);
    if (r->plateau_grace < 0 || r->plateau_patience < 0)
        return base_error(CADRE_EINVAL, "stop: plateau_grace and plateau_patience may not be negative");
    if (!(r->time_budget_s >= 0))
        return base_error(CADRE_EINVAL, "stop: time_budget_s is %g: give seconds, or 0 for no limit", r->time_budget_s);
    if (r->has_target && isnan(r->target))
        return base_error(CADRE_EINVAL, "stop: the target is not a number");
    return CADRE_OK;
}

int tuner_stop_new(const cadre_stop *rules, bool maximize, tuner_stop **out)
{
    cadre_stop own = rules ? *rules : (cadre_stop){0};
    int status = check(&own);
    if (status != CADRE_OK)
        return status;
    tuner_stop *stop = base_calloc(1, sizeof *stop);
    double *top = base_calloc((size_t)own.plateau_top, sizeof *top);
    if (!stop || !top) {
        free(stop);
        free(top);
        return CADRE_ENOMEM;
    }
    *stop = (tuner_stop){.rules = own, .maximize = maximize, .top = top};
    *out = stop;
    return CADRE_OK;
}

void tuner_stop_free(tuner_stop *stop)
{
    if (!stop)
        return;
    for (int i = 0; i < stop->window_count; i++)
        free(stop->windows[i].values);
    free(stop->windows);
    free(stop->top);
    free(stop);
}

static double deviation(const double *values, int count)
{
    double mean = 0, square = 0;
    for (int i = 0; i < count; i++)
        mean += values[i] / count;
    for (int i = 0; i < count; i++)
        square += (values[i] - mean) * (values[i] - mean) / count;
    return sqrt(square);
}

static struct window *window_of(tuner_stop *stop, int64_t trial)
{
    for (int i = 0; i < stop->window_count; i++)
        if (stop->windows[i].trial == trial)
            return &stop->windows[i];
    struct window *windows = base_realloc(stop->windows, (size_t)(stop->window_count + 1) * sizeof *windows);
    if (windows)
        stop->windows = windows;
    double *values = windows ? base_calloc((size_t)stop->rules.plateau_window, sizeof *values) : NULL;
    if (!values)
        return NULL;
    windows[stop->window_count] = (struct window){.trial = trial, .values = values};
    return &windows[stop->window_count++];
}

static bool trial_stands_still(tuner_stop *stop, int64_t trial, double value)
{
    const cadre_stop *rules = &stop->rules;
    struct window *window = rules->trial_plateau_std > 0 ? window_of(stop, trial) : NULL;
    if (!window)
        return false;
    window->values[window->count++ % rules->plateau_window] = value;
    return window->count >= rules->plateau_window && window->count > rules->plateau_grace &&
           deviation(window->values, rules->plateau_window) <= rules->trial_plateau_std;
}

tuner_stop_verdict tuner_stop_report(tuner_stop *stop, int64_t trial, int64_t report, double value, double elapsed_s, const char **reason)
{
    const cadre_stop *rules = &stop->rules;
    bool still = trial_stands_still(stop, trial, value);
    if (rules->has_target && (stop->maximize ? value >= rules->target : value <= rules->target)) {
        *reason = "target reached";
        return TUNER_STOP_EXPERIMENT;
    }
    if (rules->time_budget_s > 0 && elapsed_s >= rules->time_budget_s) {
        *reason = "time budget spent";
        return TUNER_STOP_EXPERIMENT;
    }
    int own = rules->rule ? rules->rule(trial, report, value, rules->user) : 0;
    if (own) {
        *reason = "stop rule";
        return own == 2 ? TUNER_STOP_EXPERIMENT : TUNER_STOP_TRIAL;
    }
    if (rules->max_iterations > 0 && report >= rules->max_iterations) {
        *reason = "max_iterations";
        return TUNER_STOP_TRIAL;
    }
    if (still) {
        *reason = "plateau";
        return TUNER_STOP_TRIAL;
    }
    return TUNER_STOP_NOT;
}

static void forget_window(tuner_stop *stop, int64_t trial)
{
    for (int i = 0; i < stop->window_count; i++)
        if (stop->windows[i].trial == trial) {
            free(stop->windows[i].values);
            stop->windows[i] = stop->windows[--stop->window_count];
            return;
        }
}

/* Keep the best plateau_top values, best first. */
static void enter_top(tuner_stop *stop, double value)
{
    int at = stop->top_count;
    while (at > 0 && (stop->maximize ? value > stop->top[at - 1] : value < stop->top[at - 1]))
        at--;
    if (at == stop->rules.plateau_top)
        return;
    int last = stop->top_count < stop->rules.plateau_top ? stop->top_count++ : stop->top_count - 1;
    memmove(stop->top + at + 1, stop->top + at, (size_t)(last - at) * sizeof *stop->top);
    stop->top[at] = value;
}

tuner_stop_verdict tuner_stop_end(tuner_stop *stop, int64_t trial, double value, const char **reason)
{
    forget_window(stop, trial);
    if (!(stop->rules.experiment_plateau_std > 0) || isnan(value))
        return TUNER_STOP_NOT;
    enter_top(stop, value);
    bool still = stop->top_count == stop->rules.plateau_top && deviation(stop->top, stop->top_count) <= stop->rules.experiment_plateau_std;
    stop->patience = still ? stop->patience + 1 : 0;
    if (stop->patience <= stop->rules.plateau_patience)
        return TUNER_STOP_NOT;
    *reason = "the best trials stand still";
    return TUNER_STOP_EXPERIMENT;
}
