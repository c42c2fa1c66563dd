/*
 * ASHA's bracket (cadre/schedule.h has the source). Departures: as in Optuna, a trial's own value counts among those of its rung, and of fewer
 * than reduction_factor values only the best goes on; Ray lets the first one at a rung pass whatever it is worth.
 */
#include "tuner/schedule/bracket.h"

#include "base/error.h"
#include "base/mem.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { MOST_RUNGS = 64 };

int schedule_check_halving(const char *name, double *max_t, double *grace, double *reduction)
{
    *max_t = *max_t ? *max_t : 100;
    *grace = *grace ? *grace : 1;
    if (!(*reduction > 1) || !isfinite(*reduction))
        return base_error(CADRE_EINVAL, "%s: reduction_factor is %g: give a number above 1", name, *reduction);
    if (!(*grace > 0) || !(*max_t >= *grace) || !isfinite(*max_t))
        return base_error(CADRE_EINVAL, "%s: grace_period is %g and max_t %g: give 0 < grace_period <= max_t", name, *grace, *max_t);
    return CADRE_OK;
}

int schedule_bracket_init(schedule_bracket *bracket, double grace, double max_t, double reduction, schedule_promotion promotion)
{
    *bracket = (schedule_bracket){.reduction = reduction, .promotion = promotion.on, .delayed = promotion.on && promotion.delayed};
    for (double at = grace; at < max_t && bracket->count < MOST_RUNGS; at *= reduction) {
        schedule_rung *rungs = base_realloc(bracket->rungs, (size_t)(bracket->count + 1) * sizeof *rungs);
        if (!rungs) {
            schedule_bracket_free(bracket);
            return CADRE_ENOMEM;
        }
        bracket->rungs = rungs;
        rungs[bracket->count++] = (schedule_rung){.at = at};
    }
    return CADRE_OK;
}

void schedule_bracket_free(schedule_bracket *bracket)
{
    for (int k = 0; k < bracket->count; k++)
        free(bracket->rungs[k].entries);
    free(bracket->rungs);
    *bracket = (schedule_bracket){0};
}

/* NaN is worse than anything, also than infinity. */
static bool better(double a, double b) { return isnan(b) ? !isnan(a) : a < b; }

static int find(const schedule_rung *rung, int64_t trial)
{
    for (int i = 0; i < rung->count; i++)
        if (rung->entries[i].trial == trial)
            return i;
    return -1;
}

/* Put the value in its place; its index, or -1 without memory. */
static int insert(schedule_rung *rung, int64_t trial, double value)
{
    if (rung->count == rung->capacity) {
        int capacity = rung->capacity ? 2 * rung->capacity : 32;
        schedule_entry *entries = base_realloc(rung->entries, (size_t)capacity * sizeof *entries);
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
    rung->entries[low] = (schedule_entry){.trial = trial, .value = value};
    rung->count++;
    return low;
}

/* How many of a rung go on: a 1/reduction of those that came. Delayed: none before so many have come that it is a 1/reduction with one more. */
static int places(const schedule_bracket *bracket, const schedule_rung *rung)
{
    int wanted = bracket->delayed ? rung->passed + 1 : 0;
    return rung->count < bracket->reduction * wanted ? 0 : (int)(rung->count / bracket->reduction);
}

static void pass(schedule_rung *rung, int index)
{
    rung->passed += !rung->entries[index].passed;
    rung->entries[index].passed = true;
}

cadre_decision schedule_bracket_report(schedule_bracket *bracket, const cadre_schedule_report *report)
{
    for (int k = bracket->count - 1; k >= 0; k--) {
        schedule_rung *rung = &bracket->rungs[k];
        if (!(report->time >= rung->at))
            continue;
        if (find(rung, report->trial) >= 0)
            return CADRE_DECIDE_GO_ON;
        int rank = insert(rung, report->trial, report->value);
        if (rank < 0)
            return CADRE_DECIDE_GO_ON; /* without memory nobody is judged */
        int going_on = places(bracket, rung);
        if (!bracket->promotion && going_on == 0)
            going_on = 1;
        if (rank < going_on && !isnan(report->value)) {
            pass(rung, rank);
            return CADRE_DECIDE_GO_ON;
        }
        return bracket->promotion ? CADRE_DECIDE_PAUSE : CADRE_DECIDE_STOP;
    }
    return CADRE_DECIDE_GO_ON;
}

int64_t schedule_bracket_promote(schedule_bracket *bracket, int k)
{
    schedule_rung *rung = &bracket->rungs[k];
    int going_on = places(bracket, rung);
    for (int i = 0; i < going_on; i++)
        if (!rung->entries[i].passed && !isnan(rung->entries[i].value)) {
            pass(rung, i);
            return rung->entries[i].trial;
        }
    return -1;
}

int64_t schedule_brackets_next(schedule_bracket *brackets, int count)
{
    int deepest = 0;
    for (int b = 0; b < count; b++)
        deepest = brackets[b].count > deepest ? brackets[b].count : deepest;
    for (int down = 1; down <= deepest; down++) /* the highest rungs of all brackets stand at the same level */
        for (int b = 0; b < count; b++) {
            int64_t trial = down <= brackets[b].count ? schedule_bracket_promote(&brackets[b], brackets[b].count - down) : -1;
            if (trial >= 0)
                return trial;
        }
    return -1;
}

void schedule_bracket_end(schedule_bracket *bracket, int64_t trial)
{
    for (int k = 0; k < bracket->count; k++) {
        int index = find(&bracket->rungs[k], trial);
        if (index >= 0)
            pass(&bracket->rungs[k], index);
    }
}
