/*
 * Asynchronous HyperBand (cadre/schedule.h has the sources): several of ASHA's brackets, the s-th beginning at grace_period * reduction_factor^s,
 * which hedges against early reports that say little of late ones.
 *
 * Trials are dealt to brackets in proportion to the number of configs that HyperBand would begin there, ceil(B eta^(B-1-s) / (B-s)) of B brackets
 * (Optuna's HyperbandPruner has the same shares). Departure: Optuna takes the bracket by a hash of the trial's number; here numbers are spread by
 * the golden ratio, so that every bracket has its share of any few trials in a row.
 */
#include "base/error.h"
#include "base/mem.h"
#include "tuner/schedule/bracket.h"
#include "tuner/schedule/options.h"

#include <math.h>
#include <stdlib.h>

enum { MOST_BRACKETS = 64 };

struct hyperband {
    cadre_hyperband_options options;
    schedule_bracket *brackets;
    double *upto; /* shares summed up to and with each bracket; the last is 1 */
};

static void free_hyperband(void *self)
{
    struct hyperband *hyperband = self;
    for (int b = 0; hyperband && hyperband->brackets && b < hyperband->options.brackets; b++)
        schedule_bracket_free(&hyperband->brackets[b]);
    if (hyperband) {
        free(hyperband->brackets);
        free(hyperband->upto);
    }
    free(hyperband);
}

static int check(cadre_hyperband_options *o)
{
    o->reduction_factor = o->reduction_factor ? o->reduction_factor : 3;
    int status = schedule_check_halving("hyperband", &o->max_t, &o->grace_period, &o->reduction_factor);
    if (status != CADRE_OK)
        return status;
    /* As many as there are powers of the reduction factor, and a hair's breadth for what the logarithm loses. */
    double most = floor(log(o->max_t / o->grace_period) / log(o->reduction_factor) + 1e-9) + 1;
    most = most < MOST_BRACKETS ? most : MOST_BRACKETS;
    if (o->brackets < 0 || o->brackets > most)
        return base_error(CADRE_EINVAL, "hyperband: brackets is %d: give 1 to %g, or 0 for %g", o->brackets, most, most);
    o->brackets = o->brackets ? o->brackets : (int)most;
    return CADRE_OK;
}

static int set_up(struct hyperband *hyperband)
{
    const cadre_hyperband_options *o = &hyperband->options;
    size_t brackets = (size_t)o->brackets;
    double sum = 0;
    hyperband->brackets = base_calloc(brackets, sizeof *hyperband->brackets);
    hyperband->upto = base_calloc(brackets, sizeof *hyperband->upto);
    if (!hyperband->brackets || !hyperband->upto)
        return CADRE_ENOMEM;
    for (int b = 0; b < o->brackets; b++) {
        int status = schedule_bracket_init(&hyperband->brackets[b], o->grace_period * pow(o->reduction_factor, b), o->max_t, o->reduction_factor, (schedule_promotion){o->promotion, o->delayed});
        if (status != CADRE_OK)
            return status;
        sum += ceil(o->brackets * pow(o->reduction_factor, o->brackets - 1 - b) / (o->brackets - b));
        hyperband->upto[b] = sum;
    }
    for (int b = 0; b < o->brackets; b++)
        hyperband->upto[b] /= sum;
    return CADRE_OK;
}

static int create(const void *options, uint64_t seed, void **self)
{
    (void)seed;
    cadre_hyperband_options o = {0};
    schedule_options(options, sizeof o, &o);
    int status = check(&o);
    if (status != CADRE_OK)
        return status;
    struct hyperband *hyperband = base_calloc(1, sizeof *hyperband);
    if (!hyperband)
        return CADRE_ENOMEM;
    hyperband->options = o;
    status = set_up(hyperband);
    if (status != CADRE_OK) {
        free_hyperband(hyperband);
        return status;
    }
    *self = hyperband;
    return CADRE_OK;
}

static schedule_bracket *bracket_of(const struct hyperband *hyperband, int64_t trial)
{
    double turns = (double)(trial + 1) * 0.61803398874989485, at = turns - floor(turns);
    int b = 0;
    while (b + 1 < hyperband->options.brackets && at >= hyperband->upto[b])
        b++;
    return &hyperband->brackets[b];
}

static cadre_decision on_report(void *self, const cadre_schedule_report *report)
{
    struct hyperband *hyperband = self;
    return report->time >= hyperband->options.max_t ? CADRE_DECIDE_COMPLETE : schedule_bracket_report(bracket_of(hyperband, report->trial), report);
}

static int64_t next(void *self)
{
    struct hyperband *hyperband = self;
    return hyperband->options.promotion ? schedule_brackets_next(hyperband->brackets, hyperband->options.brackets) : -1;
}

static void on_trial_end(void *self, int64_t trial, cadre_trial_end end)
{
    (void)end;
    schedule_bracket_end(bracket_of(self, trial), trial);
}

const cadre_scheduler_table cadre_scheduler_hyperband = {.abi = CADRE_SCHEDULER_ABI,
                                                         .size = sizeof(cadre_scheduler_table),
                                                         .name = "hyperband",
                                                         .create = create,
                                                         .on_report = on_report,
                                                         .on_trial_end = on_trial_end,
                                                         .next = next,
                                                         .free = free_hyperband};
