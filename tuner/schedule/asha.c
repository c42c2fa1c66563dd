/* ASHA (cadre/schedule.h has the source): its brackets are dealt trials in turn. bracket.c has the rungs, and where they depart. */
#include "base/error.h"
#include "base/mem.h"
#include "tuner/schedule/bracket.h"
#include "tuner/schedule/options.h"

#include <math.h>
#include <stdlib.h>

struct asha {
    cadre_asha_options options;
    schedule_bracket *brackets;
};

static schedule_bracket *bracket_of(const struct asha *asha, int64_t trial) { return &asha->brackets[trial % asha->options.brackets]; }

static void free_asha(void *self)
{
    struct asha *asha = self;
    for (int b = 0; asha && asha->brackets && b < asha->options.brackets; b++)
        schedule_bracket_free(&asha->brackets[b]);
    if (asha)
        free(asha->brackets);
    free(asha);
}

static int check(cadre_asha_options *o)
{
    o->reduction_factor = o->reduction_factor ? o->reduction_factor : 4;
    o->brackets = o->brackets ? o->brackets : 1;
    int status = schedule_check_halving("asha", &o->max_t, &o->grace_period, &o->reduction_factor);
    if (status == CADRE_OK && (o->brackets < 1 || o->brackets > 64))
        status = base_error(CADRE_EINVAL, "asha: brackets is %d: give 1 to 64", o->brackets);
    return status;
}

static int create(const void *options, uint64_t seed, void **self)
{
    (void)seed;
    cadre_asha_options o = {0};
    schedule_options(options, sizeof o, &o);
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
        status = schedule_bracket_init(&asha->brackets[b], o.grace_period * pow(o.reduction_factor, b), o.max_t, o.reduction_factor, (schedule_promotion){o.promotion, o.delayed});
    if (status != CADRE_OK) {
        free_asha(asha);
        return status;
    }
    *self = asha;
    return CADRE_OK;
}

static cadre_decision on_report(void *self, const cadre_schedule_report *report)
{
    struct asha *asha = self;
    return report->time >= asha->options.max_t ? CADRE_DECIDE_COMPLETE : schedule_bracket_report(bracket_of(asha, report->trial), report);
}

static int64_t next(void *self)
{
    struct asha *asha = self;
    return asha->options.promotion ? schedule_brackets_next(asha->brackets, asha->options.brackets) : -1;
}

static void on_trial_end(void *self, int64_t trial, cadre_trial_end end)
{
    (void)end;
    schedule_bracket_end(bracket_of(self, trial), trial);
}

const cadre_scheduler_table cadre_scheduler_asha = {.abi = CADRE_SCHEDULER_ABI,
                                                    .size = sizeof(cadre_scheduler_table),
                                                    .name = "asha",
                                                    .create = create,
                                                    .on_report = on_report,
                                                    .on_trial_end = on_trial_end,
                                                    .next = next,
                                                    .free = free_asha};
