/*
 * Percentile stopping as Optuna has it (pruners/_percentile.py, Optuna 5): cadre/schedule.h has the rule. Values of complete trials alone are
 * looked at, those of pruned ones never; percentiles are interpolated linearly between the values (numpy's default), NaN among them left out. A trial whose
 * values are all NaN is stopped. Departure: time may be any growing number, so "the same step" is the same time.
 */
#include "cadre/schedule.h"

#include "base/error.h"
#include "base/mem.h"
#include "tuner/schedule/options.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* The values of complete trials at one time, best first, NaN left out; `count` of them, `reports` with the NaN. */
struct column {
    double time;
    double *values;
    int count, capacity, reports;
};

/* A trial that runs. */
struct running {
    int64_t trial;
    double best, last; /* NaN: none yet; time of the last report */
    double *times, *values;
    int count, capacity;
};

struct percentile {
    cadre_percentile_options options;
    struct column *columns; /* earliest first */
    int column_count, column_capacity;
    struct running *running;
    int running_count, running_capacity;
    int64_t complete;
};

static void free_percentile(void *self)
{
    struct percentile *p = self;
    for (int i = 0; i < p->column_count; i++)
        free(p->columns[i].values);
    for (int i = 0; i < p->running_count; i++) {
        free(p->running[i].times);
        free(p->running[i].values);
    }
    free(p->columns);
    free(p->running);
    free(p);
}

static int create(const void *options, uint64_t seed, void **self)
{
    (void)seed;
    cadre_percentile_options o = {0};
    schedule_options(options, sizeof o, &o);
    o.percentile = o.percentile ? o.percentile : 50;
    o.n_startup_trials = o.n_startup_trials ? o.n_startup_trials : 5;
    o.interval_steps = o.interval_steps ? o.interval_steps : 1;
    o.n_min_trials = o.n_min_trials ? o.n_min_trials : 1;
    if (!(o.percentile > 0) || !(o.percentile <= 100))
        return base_error(CADRE_EINVAL, "percentile: percentile is %g: give a number above 0 and at most 100", o.percentile);
    if (o.n_startup_trials < -1 || o.n_min_trials < 1)
        return base_error(CADRE_EINVAL, "percentile: n_startup_trials is %d and n_min_trials %d: give -1 or more, and 1 or more", o.n_startup_trials, o.n_min_trials);
    if (!(o.n_warmup_steps >= 0) || !isfinite(o.n_warmup_steps) || !(o.interval_steps > 0) || !isfinite(o.interval_steps))
        return base_error(CADRE_EINVAL, "percentile: n_warmup_steps is %g and interval_steps %g: give 0 or more, and more than 0", o.n_warmup_steps, o.interval_steps);
    struct percentile *p = base_calloc(1, sizeof *p);
    if (!p)
        return CADRE_ENOMEM;
    p->options = o;
    *self = p;
    return CADRE_OK;
}

/* Room for one more in an array of `size` bytes an element; NULL without memory, and the array stands. */
static void *grow(void *array, int count, int *capacity, size_t size)
{
    if (count < *capacity)
        return array;
    int wanted = *capacity ? 2 * *capacity : 16;
    void *grown = base_realloc(array, (size_t)wanted * size);
    if (grown)
        *capacity = wanted;
    return grown;
}

static int find(const struct percentile *p, int64_t trial)
{
    for (int i = 0; i < p->running_count; i++)
        if (p->running[i].trial == trial)
            return i;
    return -1;
}

static struct running *running_of(struct percentile *p, int64_t trial)
{
    int at = find(p, trial);
    if (at >= 0)
        return &p->running[at];
    struct running *running = grow(p->running, p->running_count, &p->running_capacity, sizeof *running);
    if (!running)
        return NULL;
    p->running = running;
    running[p->running_count] = (struct running){.trial = trial, .best = NAN, .last = -INFINITY};
    return &running[p->running_count++];
}

static bool append(struct running *running, double time, double value)
{
    int capacity = running->capacity; /* of both arrays, which grow one after the other */
    double *times = grow(running->times, running->count, &capacity, sizeof *times);
    running->times = times ? times : running->times;
    capacity = running->capacity;
    double *values = times ? grow(running->values, running->count, &capacity, sizeof *values) : NULL;
    if (!values)
        return false;
    running->values = values;
    running->capacity = capacity;
    running->times[running->count] = time;
    running->values[running->count++] = value;
    return true;
}

/* The first column at or after a time. */
static int column_at(const struct percentile *p, double time)
{
    int low = 0, high = p->column_count;
    while (low < high) {
        int middle = (low + high) / 2;
        if (p->columns[middle].time < time)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

/* Without memory a value is left out of the percentiles. */
static void add_value(struct percentile *p, double time, double value)
{
    int at = column_at(p, time);
    if (at == p->column_count || p->columns[at].time != time) {
        struct column *columns = grow(p->columns, p->column_count, &p->column_capacity, sizeof *columns);
        if (!columns)
            return;
        p->columns = columns;
        memmove(columns + at + 1, columns + at, (size_t)(p->column_count - at) * sizeof *columns);
        columns[at] = (struct column){.time = time};
        p->column_count++;
    }
    struct column *column = &p->columns[at];
    column->reports++;
    if (isnan(value))
        return;
    double *values = grow(column->values, column->count, &column->capacity, sizeof *values);
    if (!values)
        return;
    column->values = values;
    int low = 0, high = column->count;
    while (low < high) {
        int middle = (low + high) / 2;
        if (values[middle] <= value)
            low = middle + 1;
        else
            high = middle;
    }
    memmove(values + low + 1, values + low, (size_t)(column->count - low) * sizeof *values);
    values[low] = value;
    column->count++;
}

static bool is_worse(const struct percentile *p, double time, double best)
{
    int at = column_at(p, time);
    const struct column *column = at < p->column_count && p->columns[at].time == time ? &p->columns[at] : NULL;
    if (!column || column->reports < p->options.n_min_trials || column->count == 0)
        return false;
    double where = p->options.percentile / 100 * (column->count - 1), share = where - floor(where);
    double low = column->values[(int)where], high = column->values[(int)ceil(where)];
    double limit = share == 0 || low == high ? low : low + share * (high - low); /* equal infinities have no difference */
    return best > limit;
}

static cadre_decision on_report(void *self, const cadre_schedule_report *report)
{
    struct percentile *p = self;
    const cadre_percentile_options *o = &p->options;
    struct running *own = running_of(p, report->trial);
    if (!own || isnan(report->time) || !append(own, report->time, report->value))
        return CADRE_DECIDE_GO_ON;
    double before = own->last;
    own->best = isnan(own->best) || report->value < own->best ? report->value : own->best;
    own->last = fmax(before, report->time);
    if (p->complete == 0 || p->complete < o->n_startup_trials || report->time < o->n_warmup_steps)
        return CADRE_DECIDE_GO_ON;
    double judged = floor((report->time - o->n_warmup_steps) / o->interval_steps) * o->interval_steps + o->n_warmup_steps;
    if (before >= judged)
        return CADRE_DECIDE_GO_ON; /* not the first report of its interval */
    return isnan(own->best) || is_worse(p, report->time, own->best) ? CADRE_DECIDE_STOP : CADRE_DECIDE_GO_ON;
}

static void on_trial_end(void *self, int64_t trial, cadre_trial_end end)
{
    struct percentile *p = self;
    int at = find(p, trial);
    p->complete += end == CADRE_ENDED_COMPLETE;
    if (at < 0)
        return;
    struct running own = p->running[at];
    p->running[at] = p->running[--p->running_count];
    for (int i = 0; i < own.count && end == CADRE_ENDED_COMPLETE; i++)
        add_value(p, own.times[i], own.values[i]);
    free(own.times);
    free(own.values);
}

const cadre_scheduler_table cadre_scheduler_percentile = {.abi = CADRE_SCHEDULER_ABI,
                                                          .size = sizeof(cadre_scheduler_table),
                                                          .name = "percentile",
                                                          .create = create,
                                                          .on_report = on_report,
                                                          .on_trial_end = on_trial_end,
                                                          .free = free_percentile};
