/* The median rule (cadre/schedule.h has the source). */
#include "cadre/schedule.h"

#include "base/error.h"
#include "base/mem.h"
#include "tuner/schedule/options.h"

#include <math.h>
#include <stdlib.h>

/* What a trial reported, as running sums: mean up to report i is sums[i] / (i + 1). */
struct history {
    int64_t trial;
    double *times, *sums;
    double best;
    int count, capacity;
};

struct median {
    cadre_median_options options;
    struct history *histories; /* in order of first report */
    int count, capacity;
    double *scratch;
};

static void free_median(void *self)
{
    struct median *median = self;
    for (int i = 0; median && i < median->count; i++) {
        free(median->histories[i].times);
        free(median->histories[i].sums);
    }
    if (median) {
        free(median->histories);
        free(median->scratch);
    }
    free(median);
}

static int create(const void *options, uint64_t seed, void **self)
{
    (void)seed;
    cadre_median_options o = {0};
    schedule_options(options, sizeof o, &o);
    o.grace_period = o.grace_period ? o.grace_period : 1;
    o.min_samples_required = o.min_samples_required ? o.min_samples_required : 3;
    if (!(o.grace_period >= 0) || o.min_samples_required < 1)
        return base_error(CADRE_EINVAL, "median: grace_period is %g and min_samples_required %d: give positive numbers", o.grace_period, o.min_samples_required);
    struct median *median = base_calloc(1, sizeof *median);
    if (!median)
        return CADRE_ENOMEM;
    median->options = o;
    *self = median;
    return CADRE_OK;
}

static struct history *history_of(struct median *median, int64_t trial)
{
    for (int i = median->count - 1; i >= 0; i--)
        if (median->histories[i].trial == trial)
            return &median->histories[i];
    if (median->count == median->capacity) {
        int capacity = median->capacity ? 2 * median->capacity : 32;
        struct history *histories = base_realloc(median->histories, (size_t)capacity * sizeof *histories);
        if (histories)
            median->histories = histories;
        double *scratch = histories ? base_realloc(median->scratch, (size_t)capacity * sizeof *scratch) : NULL;
        if (!scratch)
            return NULL;
        median->scratch = scratch;
        median->capacity = capacity;
    }
    median->histories[median->count] = (struct history){.trial = trial, .best = INFINITY};
    return &median->histories[median->count++];
}

static bool append(struct history *history, double time, double value)
{
    if (history->count == history->capacity) {
        int capacity = history->capacity ? 2 * history->capacity : 16;
        double *times = base_realloc(history->times, (size_t)capacity * sizeof *times);
        if (times)
            history->times = times;
        double *sums = times ? base_realloc(history->sums, (size_t)capacity * sizeof *sums) : NULL;
        if (!sums)
            return false;
        history->sums = sums;
        history->capacity = capacity;
    }
    double before = history->count ? history->sums[history->count - 1] : 0;
    history->times[history->count] = time;
    history->sums[history->count++] = before + value;
    if (value < history->best)
        history->best = value;
    return true;
}

/* Mean of what was reported up to `time`; false when the trial did not come so far. */
static bool mean_until(const struct history *history, double time, double *mean)
{
    if (history->count == 0 || history->times[history->count - 1] < time)
        return false;
    int low = 0, high = history->count; /* number of reports with times <= time */
    while (low < high) {
        int middle = (low + high) / 2;
        if (history->times[middle] <= time)
            low = middle + 1;
        else
            high = middle;
    }
    if (low == 0)
        return false;
    *mean = history->sums[low - 1] / low;
    return true;
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    if (isnan(x) || isnan(y))
        return isnan(x) - isnan(y); /* last */
    return (x > y) - (x < y);
}

static cadre_decision on_report(void *self, const cadre_schedule_report *report)
{
    struct median *median = self;
    struct history *own = history_of(median, report->trial);
    if (!own || !append(own, report->time, report->value) || report->time < median->options.grace_period)
        return CADRE_DECIDE_GO_ON;
    int others = 0;
    for (int i = 0; i < median->count; i++)
        if (median->histories[i].trial != report->trial && mean_until(&median->histories[i], report->time, &median->scratch[others]))
            others++;
    if (others < median->options.min_samples_required)
        return CADRE_DECIDE_GO_ON;
    qsort(median->scratch, (size_t)others, sizeof *median->scratch, by_value);
    double low = median->scratch[(others - 1) / 2], high = median->scratch[others / 2];
    double middle = isnan(high) ? low : 0.5 * (low + high);
    return own->best > middle ? CADRE_DECIDE_STOP : CADRE_DECIDE_GO_ON;
}

const cadre_scheduler_table cadre_scheduler_median = {.abi = CADRE_SCHEDULER_ABI,
                                                      .size = sizeof(cadre_scheduler_table),
                                                      .name = "median",
                                                      .create = create,
                                                      .on_report = on_report,
                                                      .free = free_median};
