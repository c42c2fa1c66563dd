/*
 * ASHA (cadre/schedule.h has the source). Departures: as in Optuna, a trial's own value counts among those of its rung, and of fewer than
 * reduction_factor values only the best goes on; Ray lets the first one at a rung pass whatever it is worth.
 */
#include "cadre/schedule.h"

#include "base/error.h"
#include "base/mem.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

struct entry {
    int64_t trial;
    double value;
    bool passed; /* went on, or was promoted, beyond this rung */
};

struct rung {
    double at;
    struct entry *entries; /* best first; equals in order of arrival */
    int count, capacity;
};

struct bracket {
    struct rung *rungs; /* lowest first */
    int count;
};

struct asha {
    cadre_asha_options options;
    struct bracket *brackets;
};

static struct bracket *bracket_of(const struct asha *asha, int64_t trial) { return &asha->brackets[trial % asha->options.brackets]; }

static void free_asha(void *self)
{
    struct asha *asha = self;
    for (int b = 0; asha && asha->brackets && b < asha->options.brackets; b++) {
        for (int k = 0; k < asha->brackets[b].count; k++)
            free(asha->brackets[b].rungs[k].entries);
        free(asha->brackets[b].rungs);
    }
    if (asha)
        free(asha->brackets);
    free(asha);
}

static int check(cadre_asha_options *o)
{
    o->max_t = o->max_t ? o->max_t : 100;
    o->grace_period = o->grace_period ? o->grace_period : 1;
    o->reduction_factor = o->reduction_factor ? o->reduction_factor : 4;
    o->brackets = o->brackets ? o->brackets : 1;
    if (!(o->reduction_factor > 1) || !isfinite(o->reduction_factor))
        return base_error(CADRE_EINVAL, "asha: reduction_factor is %g: give a number above 1", o->reduction_factor);
    if (!(o->grace_period > 0) || !(o->max_t >= o->grace_period) || !isfinite(o->max_t))
        return base_error(CADRE_EINVAL, "asha: grace_period is %g and max_t %g: give 0 < grace_period <= max_t", o->grace_period, o->max_t);
    if (o->brackets < 1 || o->brackets > 64)
        return base_error(CADRE_EINVAL, "asha: brackets is %d: give 1 to 64", o->brackets);
    return CADRE_OK;
}

static int make_rungs(const cadre_asha_options *o, int number, struct bracket *bracket)
{
    for (double at = o->grace_period * pow(o->reduction_factor, number); at < o->max_t && bracket->count < 64; at *= o->reduction_factor) {
        struct rung *rungs = base_realloc(bracket->rungs, (size_t)(bracket->count + 1) * sizeof *rungs);
        if (!rungs)
            return CADRE_ENOMEM;
        bracket->rungs = rungs;
        rungs[bracket->count++] = (struct rung){.at = at};
    }
    return CADRE_OK;
}

static int create(const void *options, uint64_t seed, void **self)
{
    (void)seed;
    cadre_asha_options o = options ? *(const cadre_asha_options *)options : (cadre_asha_options){0};
    int status = check(&o);
    if (status != CADRE_OK)
        return status;
    struct asha *asha = base_calloc(1, sizeof *asha);
    if (!asha)
        return CADRE_ENOMEM;
    asha->options = o;
    asha->brackets = base_calloc((size_t)o.brackets, sizeof *asha->brackets);
    status = asha->brackets ? CADRE_OK : CADRE_ENOMEM;
    for (int b = 0; status == CADRE_OK && b < o.brackets; b++)
        status = make_rungs(&o, b, &asha->brackets[b]);
    if (status != CADRE_OK) {
        free_asha(asha);
        return status;
    }
    *self = asha;
    return CADRE_OK;
}

/* NaN is worse than anything, also than infinity. */
static bool better(double a, double b) { return isnan(b) ? !isnan(a) : a < b; }

static int find(const struct rung *rung, int64_t trial)
{
    for (int i = 0; i < rung->count; i++)
        if (rung->entries[i].trial == trial)
            return i;
    return -1;
}

/* Put the value in its place; its index, or -1 without memory. */
static int insert(struct rung *rung, int64_t trial, double value)
{
    if (rung->count == rung->capacity) {
        int capacity = rung->capacity ? 2 * rung->capacity : 32;
        struct entry *entries = base_realloc(rung->entries, (size_t)capacity * sizeof *entries);
        if (!entries)
            return -1;
        rung->entries = entries;
        rung->capacity = capacity;
    }
    int low = 0, high = rung->count;
    while (low < high) {
        int middle = (low + high) / 2;
        if (better(value, rung->entries[middle].value))
            high = middle;
        else
            low = middle + 1;
    }
    memmove(rung->entries + low + 1, rung->entries + low, (size_t)(rung->count - low) * sizeof *rung->entries);
    rung->entries[low] = (struct entry){.trial = trial, .value = value};
    rung->count++;
    return low;
}

/* How many of a rung go on: a 1/reduction_factor of those that came. */
static int places(const struct asha *asha, const struct rung *rung) { return (int)(rung->count / asha->options.reduction_factor); }

static cadre_decision on_report(void *self, const cadre_schedule_report *report)
{
    struct asha *asha = self;
    struct bracket *bracket = bracket_of(asha, report->trial);
    if (report->time >= asha->options.max_t)
        return CADRE_DECIDE_COMPLETE;
    for (int k = bracket->count - 1; k >= 0; k--) {
        struct rung *rung = &bracket->rungs[k];
        if (report->time < rung->at)
            continue;
        if (find(rung, report->trial) >= 0)
            return CADRE_DECIDE_GO_ON;
        int rank = insert(rung, report->trial, report->value);
        if (rank < 0)
            return CADRE_DECIDE_GO_ON; /* without memory nobody is judged */
        int going_on = places(asha, rung);
        if (!asha->options.promotion && going_on == 0)
            going_on = 1;
        bool passes = rank < going_on && !isnan(report->value);
        rung->entries[rank].passed = passes;
        if (passes)
            return CADRE_DECIDE_GO_ON;
        return asha->options.promotion ? CADRE_DECIDE_PAUSE : CADRE_DECIDE_STOP;
    }
    return CADRE_DECIDE_GO_ON;
}

/* The best that may be promoted, from the highest rung down (algorithm 2, get_job). */
static int64_t next(void *self)
{
    struct asha *asha = self;
    int deepest = 0;
    for (int b = 0; b < asha->options.brackets; b++)
        deepest = asha->brackets[b].count > deepest ? asha->brackets[b].count : deepest;
    for (int k = deepest - 1; asha->options.promotion && k >= 0; k--)
        for (int b = 0; b < asha->options.brackets; b++) {
            if (k >= asha->brackets[b].count)
                continue;
            struct rung *rung = &asha->brackets[b].rungs[k];
            for (int i = 0; i < places(asha, rung); i++)
                if (!rung->entries[i].passed && !isnan(rung->entries[i].value)) {
                    rung->entries[i].passed = true;
                    return rung->entries[i].trial;
                }
        }
    return -1;
}

/* A failed trial keeps its places: others were judged by them. But it is not promoted. */
static void on_trial_end(void *self, int64_t trial, cadre_trial_end end)
{
    struct asha *asha = self;
    struct bracket *bracket = bracket_of(asha, trial);
    (void)end;
    for (int k = 0; k < bracket->count; k++) {
        int index = find(&bracket->rungs[k], trial);
        if (index >= 0)
            bracket->rungs[k].entries[index].passed = true;
    }
}

const cadre_scheduler_table cadre_scheduler_asha = {.abi = CADRE_SCHEDULER_ABI,
                                                    .size = sizeof(cadre_scheduler_table),
                                                    .name = "asha",
                                                    .create = create,
                                                    .on_report = on_report,
                                                    .on_trial_end = on_trial_end,
                                                    .next = next,
                                                    .free = free_asha};
