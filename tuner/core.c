#include "core.h"

#include "base/error.h"
#include "base/mem.h"
#include "schedule/stop.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

struct tuner_core {
    const cadre_space *space;
    cadre_searcher *searcher;
    const cadre_scheduler_table *scheduler;
    void *scheduler_self;
    tuner_stop *stop;
    bool maximize, exhausted;
    int64_t num_samples;
    core_trial *trials;
    int64_t count, capacity, running;
    const char *closed;
};

static int make_parts(tuner_core *core, const core_spec *spec)
{
    core->scheduler = spec->scheduler.table ? spec->scheduler.table : &cadre_scheduler_fifo;
    if (core->scheduler->abi != CADRE_SCHEDULER_ABI)
        return base_error(CADRE_EVERSION, "scheduler \"%s\" has ABI %u, this library %d", core->scheduler->name, core->scheduler->abi, CADRE_SCHEDULER_ABI);
    int status = cadre_searcher_new(spec->space, spec->search, spec->seed, &core->searcher);
    if (status == CADRE_OK)
        status = tuner_stop_new(spec->stop, spec->maximize, &core->stop);
    if (status == CADRE_OK)
        status = core->scheduler->create(spec->scheduler.options, spec->seed, &core->scheduler_self);
    if (status != CADRE_OK)
        core->scheduler = NULL; /* there is no self to free */
    return status;
}

int core_new(const core_spec *spec, tuner_core **out)
{
    tuner_core *core = base_calloc(1, sizeof *core);
    if (!core)
        return CADRE_ENOMEM;
    core->space = spec->space;
    core->maximize = spec->maximize;
    core->num_samples = spec->num_samples;
    int status = make_parts(core, spec);
    if (status != CADRE_OK) {
        core_free(core);
        return status;
    }
    *out = core;
    return CADRE_OK;
}

void core_free(tuner_core *core)
{
    if (!core)
        return;
    for (int64_t i = 0; i < core->count; i++)
        free(core->trials[i].x);
    free(core->trials);
    if (core->scheduler)
        core->scheduler->free(core->scheduler_self);
    tuner_stop_free(core->stop);
    cadre_searcher_free(core->searcher);
    free(core);
}

static int make_room(tuner_core *core)
{
    if (core->count < core->capacity)
        return CADRE_OK;
    int64_t capacity = core->capacity ? 2 * core->capacity : 64;
    core_trial *trials = base_realloc(core->trials, (size_t)capacity * sizeof *trials);
    if (!trials)
        return CADRE_ENOMEM;
    core->trials = trials;
    core->capacity = capacity;
    return CADRE_OK;
}

static int start_new(tuner_core *core, core_job *job, int64_t *trial)
{
    double *x = base_malloc(((size_t)cadre_space_count(core->space) + 1) * sizeof *x);
    int64_t number;
    int status = x ? make_room(core) : CADRE_ENOMEM;
    if (status == CADRE_OK)
        status = cadre_searcher_ask(core->searcher, &number, x);
    if (status == CADRE_OK && number != core->count)
        status = base_error(CADRE_ESTATE, "the searcher numbers trial %lld as %lld", (long long)core->count, (long long)number);
    if (status != CADRE_OK) {
        free(x);
        *job = status == CADRE_STOP ? CORE_DONE : CORE_LATER;
        core->exhausted |= status == CADRE_STOP;
        return status < 0 ? status : CADRE_OK;
    }
    core->trials[core->count++] = (core_trial){.state = CORE_RUNNING, .x = x, .value = NAN};
    core->running++;
    if (core->scheduler->on_trial_add)
        core->scheduler->on_trial_add(core->scheduler_self, number);
    *job = CORE_START;
    *trial = number;
    return CADRE_OK;
}

int core_next(tuner_core *core, core_job *job, int64_t *trial)
{
    if (core->closed) {
        *job = CORE_DONE;
        return CADRE_OK;
    }
    int64_t paused = core->scheduler->next ? core->scheduler->next(core->scheduler_self) : -1;
    if (paused >= 0 && paused < core->count && core->trials[paused].state == CORE_PAUSED) {
        core->trials[paused].state = CORE_RUNNING;
        core->trials[paused].decision = CADRE_DECIDE_GO_ON;
        core->running++;
        *job = CORE_RESUME;
        *trial = paused;
        return CADRE_OK;
    }
    if (core->exhausted || (core->num_samples >= 0 && core->count >= core->num_samples)) {
        *job = CORE_DONE;
        return CADRE_OK;
    }
    return start_new(core, job, trial);
}

cadre_decision core_report(tuner_core *core, int64_t number, double time, double value, double trial_s, double experiment_s)
{
    core_trial *trial = &core->trials[number];
    double lower_is_better = core->maximize ? -value : value;
    const char *reason = NULL;
    trial->reports++;
    trial->value = value;
    (void)cadre_searcher_report(core->searcher, number, (int64_t)time, lower_is_better); /* a searcher that fails here still hears the end */
    cadre_schedule_report report = {.trial = number, .time = time, .value = lower_is_better, .elapsed_s = trial_s};
    cadre_decision decision = core->scheduler->on_report(core->scheduler_self, &report);
    tuner_stop_verdict verdict = tuner_stop_report(core->stop, number, trial->reports, value, experiment_s, &reason);
    if (verdict == TUNER_STOP_EXPERIMENT)
        core_close(core, reason);
    if (verdict == TUNER_STOP_TRIAL && decision != CADRE_DECIDE_STOP)
        decision = CADRE_DECIDE_COMPLETE;
    trial->decision = decision;
    return decision;
}

void core_paused(tuner_core *core, int64_t number)
{
    core->trials[number].state = CORE_PAUSED;
    core->running--;
}

void core_set_value(tuner_core *core, int64_t number, double value, int64_t reports)
{
    core->trials[number].value = value;
    core->trials[number].reports = reports;
}

int core_end(tuner_core *core, int64_t number, cadre_trial_end end)
{
    core_trial *trial = &core->trials[number];
    const char *reason = NULL;
    if (end != CADRE_ENDED_FAILED && trial->reports == 0)
        end = CADRE_ENDED_FAILED;
    core->running -= trial->state == CORE_RUNNING;
    trial->state = end == CADRE_ENDED_COMPLETE ? CORE_COMPLETE : end == CADRE_ENDED_PRUNED ? CORE_PRUNED : CORE_FAILED;
    if (core->scheduler->on_trial_end)
        core->scheduler->on_trial_end(core->scheduler_self, number, end);
    if (tuner_stop_end(core->stop, number, end == CADRE_ENDED_FAILED ? NAN : trial->value, &reason) == TUNER_STOP_EXPERIMENT)
        core_close(core, reason);
    cadre_outcome outcome = {.end = end, .value = core->maximize ? -trial->value : trial->value, .last_step = trial->reports};
    return cadre_searcher_tell(core->searcher, number, &outcome);
}

void core_close(tuner_core *core, const char *reason)
{
    if (!core->closed)
        core->closed = reason;
}

const char *core_closed(const tuner_core *core) { return core->closed; }

void core_add_samples(tuner_core *core, int64_t more)
{
    if (core->num_samples >= 0)
        core->num_samples += more;
}

int64_t core_left_over(const tuner_core *core)
{
    for (int64_t i = 0; i < core->count; i++)
        if (core->trials[i].state == CORE_PAUSED)
            return i;
    return -1;
}

int64_t core_count(const tuner_core *core) { return core->count; }
int64_t core_running(const tuner_core *core) { return core->running; }
const core_trial *core_get(const tuner_core *core, int64_t trial) { return &core->trials[trial]; }

int64_t core_best(const tuner_core *core)
{
    int64_t best = -1;
    for (int64_t i = 0; i < core->count; i++) {
        const core_trial *trial = &core->trials[i];
        if ((trial->state != CORE_COMPLETE && trial->state != CORE_PRUNED) || isnan(trial->value))
            continue;
        const core_trial *other = best >= 0 ? &core->trials[best] : NULL;
        if (!other || (trial->state == CORE_COMPLETE && other->state == CORE_PRUNED) ||
            (trial->state == other->state && (core->maximize ? trial->value > other->value : trial->value < other->value)))
            best = i;
    }
    return best;
}
