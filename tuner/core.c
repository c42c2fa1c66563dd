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
    bool maximize, exhausted, replaying;
    int64_t limit, asked; /* of the searcher: retries are not among them */
    core_trial *trials;
    int64_t count, capacity, running;
    int64_t best; /* -1: none */
    int64_t *retries; /* failed trials to be tried again; from `retry` on not begun yet */
    int64_t retry, retry_count;
    bool from_beginning; /* how */
    int64_t promoted;    /* trials that are */
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
    core->limit = spec->limit;
    core->best = -1;
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
    free(core->retries);
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

/* A trial has begun, asked for or a retry of `failed` (-1). Its room is made. */
static void add_trial(tuner_core *core, double *x, int64_t failed)
{
    int64_t number = core->count++;
    core->trials[number] = (core_trial){.state = CORE_RUNNING, .x = x, .value = NAN, .retry_of = failed, .from_beginning = failed >= 0 && core->from_beginning,
                                        .origin = failed >= 0 ? core->trials[failed].origin : number};
    core->running++;
    if (core->scheduler->on_trial_add)
        core->scheduler->on_trial_add(core->scheduler_self, number);
}

static int misnumbered(const tuner_core *core, int64_t number)
{
    return base_error(CADRE_ESTATE, "the searcher numbers trial %lld as %lld", (long long)core->count, (long long)number);
}

static int start_new(tuner_core *core, core_job *job, int64_t *trial)
{
    double *x = base_malloc(((size_t)cadre_space_count(core->space) + 1) * sizeof *x);
    int64_t number;
    int status = x ? make_room(core) : CADRE_ENOMEM;
    if (status == CADRE_OK)
        status = cadre_searcher_ask(core->searcher, &number, x);
    if (status == CADRE_OK && number != core->count)
        status = misnumbered(core, number);
    if (status != CADRE_OK) {
        free(x);
        *job = status == CADRE_STOP ? CORE_DONE : CORE_LATER;
        core->exhausted |= status == CADRE_STOP;
        return status < 0 ? status : CADRE_OK;
    }
    add_trial(core, x, -1);
    core->asked++;
    *job = CORE_START;
    *trial = number;
    return CADRE_OK;
}

/* A trial at a point that the searcher was not asked for; `failed`: the one that it tries again, or -1. */
static int start_at(tuner_core *core, const double *point, int64_t failed, int64_t *trial)
{
    int64_t number;
    size_t nbytes = (size_t)cadre_space_count(core->space) * sizeof(double);
    double *x = base_malloc(nbytes + sizeof *x);
    int status = x ? CADRE_OK : CADRE_ENOMEM;
    if (status == CADRE_OK) {
        memcpy(x, point, nbytes);
        status = make_room(core);
    }
    if (status == CADRE_OK)
        status = cadre_searcher_begin(core->searcher, x, &number);
    if (status == CADRE_OK && number != core->count)
        status = misnumbered(core, number);
    if (status != CADRE_OK) {
        free(x);
        return status;
    }
    add_trial(core, x, failed);
    *trial = number;
    return CADRE_OK;
}

static int start_retry(tuner_core *core, int64_t *trial)
{
    int64_t failed = core->retries[core->retry];
    int status = start_at(core, core->trials[failed].x, failed, trial);
    core->retry += status == CADRE_OK;
    return status;
}

int core_begin(tuner_core *core, const double *x, int64_t *trial)
{
    if (core->replaying)
        core->closed = NULL; /* it was begun, so it was not closed then */
    return start_at(core, x, -1, trial);
}

static core_job resume(tuner_core *core, int64_t number)
{
    core_trial *trial = &core->trials[number];
    core->promoted -= trial->promoted;
    trial->promoted = false;
    trial->state = CORE_RUNNING;
    trial->decision = CADRE_DECIDE_GO_ON;
    core->running++;
    return CORE_RESUME;
}

/* A paused trial that goes on, or one that is still on its way to its pause; false when there is none. */
static bool go_on(tuner_core *core, core_job *job, int64_t *trial)
{
    for (int64_t i = 0; core->promoted > 0 && i < core->count; i++)
        if (core->trials[i].promoted && core->trials[i].state == CORE_PAUSED) {
            *job = resume(core, i);
            *trial = i;
            return true;
        }
    int64_t number = core->scheduler->next ? core->scheduler->next(core->scheduler_self) : -1;
    if (number < 0 || number >= core->count)
        return false;
    core_trial *found = &core->trials[number];
    *trial = number;
    if (found->state == CORE_PAUSED) {
        *job = resume(core, number);
        return true;
    }
    if (found->state != CORE_RUNNING || found->decision != CADRE_DECIDE_PAUSE || found->promoted)
        return false;
    found->promoted = true;
    core->promoted++;
    *job = CORE_PROMOTE;
    return true;
}

int core_next(tuner_core *core, core_job *job, int64_t *trial)
{
    if (core->replaying)
        core->closed = NULL; /* it went on, so it was not closed then */
    if (core->closed) {
        *job = CORE_DONE;
        return CADRE_OK;
    }
    if (core->retry < core->retry_count) {
        *job = CORE_RETRY;
        return start_retry(core, trial);
    }
    if (go_on(core, job, trial))
        return CADRE_OK;
    if (core->exhausted || (!core->replaying && core->limit >= 0 && core->asked >= core->limit)) {
        *job = CORE_DONE;
        return CADRE_OK;
    }
    return start_new(core, job, trial);
}

void core_replay(tuner_core *core, bool on) { core->replaying = on; }

cadre_decision core_report(tuner_core *core, int64_t number, int64_t report, double time, double value, double trial_s, double experiment_s)
{
    core_trial *trial = &core->trials[number];
    double lower_is_better = core->maximize ? -value : value;
    const char *reason = NULL;
    cadre_decision decision = CADRE_DECIDE_GO_ON;
    trial->reports = report;
    trial->value = value;
    trial->seconds = trial_s;
    (void)cadre_searcher_report(core->searcher, number, report, lower_is_better); /* a searcher that fails here still hears the end */
    if (!isnan(time)) {
        cadre_schedule_report said = {.trial = number, .time = time, .value = lower_is_better, .elapsed_s = trial_s};
        decision = core->scheduler->on_report(core->scheduler_self, &said);
    }
    tuner_stop_verdict verdict = tuner_stop_report(core->stop, number, report, value, experiment_s, &reason);
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

/* Is `a` worth more than `b`? Complete before pruned; of equals the earlier one. */
static bool better(const tuner_core *core, const core_trial *a, const core_trial *b)
{
    if (a->state != b->state)
        return a->state == CORE_COMPLETE;
    return core->maximize ? a->value > b->value : a->value < b->value;
}

static void look_for_best(tuner_core *core, int64_t number)
{
    const core_trial *trial = &core->trials[number];
    if (trial->state == CORE_FAILED || isnan(trial->value))
        return;
    const core_trial *best = core->best >= 0 ? &core->trials[core->best] : NULL;
    bool same = best && trial->state == best->state && trial->value == best->value && number < core->best;
    if (!best || same || better(core, trial, best))
        core->best = number;
}

int core_end(tuner_core *core, int64_t number, cadre_trial_end end)
{
    core_trial *trial = &core->trials[number];
    const char *reason = NULL;
    if (end == CADRE_ENDED_COMPLETE && isnan(trial->value))
        end = CADRE_ENDED_FAILED;
    core->running -= trial->state == CORE_RUNNING;
    core->promoted -= trial->promoted;
    trial->promoted = false;
    trial->state = end == CADRE_ENDED_COMPLETE ? CORE_COMPLETE : end == CADRE_ENDED_PRUNED ? CORE_PRUNED : CORE_FAILED;
    look_for_best(core, number);
    if (core->scheduler->on_trial_end)
        core->scheduler->on_trial_end(core->scheduler_self, number, end);
    if (tuner_stop_end(core->stop, number, end == CADRE_ENDED_FAILED ? NAN : trial->value, &reason) == TUNER_STOP_EXPERIMENT)
        core_close(core, reason);
    cadre_outcome outcome = {.end = end, .value = core->maximize ? -trial->value : trial->value, .last_step = trial->reports};
    return cadre_searcher_tell(core->searcher, number, &outcome);
}

int core_add(tuner_core *core, const double *x, cadre_trial_end end, double value, int64_t last_step)
{
    size_t ndims = (size_t)cadre_space_count(core->space);
    double *own = base_malloc((ndims + 1) * sizeof *own);
    int64_t number = -1;
    cadre_outcome outcome = {.end = end, .value = core->maximize ? -value : value, .last_step = last_step};
    int status = own ? make_room(core) : CADRE_ENOMEM;
    for (size_t i = 0; status == CADRE_OK && i < ndims; i++)
        own[i] = x ? x[i] : NAN;
    if (status == CADRE_OK)
        status = cadre_searcher_add(core->searcher, x, &outcome, &number);
    if (status == CADRE_OK && number != core->count)
        status = misnumbered(core, number);
    if (status != CADRE_OK) {
        free(own);
        return status;
    }
    core->trials[core->count++] = (core_trial){.state = end == CADRE_ENDED_COMPLETE ? CORE_COMPLETE : end == CADRE_ENDED_PRUNED ? CORE_PRUNED : CORE_FAILED,
                                               .x = own, .value = x ? value : NAN, .reports = last_step, .retry_of = -1, .origin = number, .retried = true};
    look_for_best(core, number);
    return CADRE_OK;
}

void core_close(tuner_core *core, const char *reason)
{
    if (!core->closed)
        core->closed = reason;
}

const char *core_closed(const tuner_core *core) { return core->closed; }

int core_retry_failed(tuner_core *core, bool from_beginning, int64_t *count)
{
    int64_t more = 0;
    for (int64_t i = 0; i < core->count; i++)
        more += core->trials[i].state == CORE_FAILED && !core->trials[i].retried;
    int64_t *retries = more > 0 ? base_realloc(core->retries, (size_t)(core->retry_count + more) * sizeof *retries) : core->retries;
    if (!retries && more > 0)
        return CADRE_ENOMEM;
    core->retries = retries;
    for (int64_t i = 0; i < core->count; i++)
        if (core->trials[i].state == CORE_FAILED && !core->trials[i].retried) {
            core->trials[i].retried = true;
            core->retries[core->retry_count++] = i;
        }
    core->from_beginning = from_beginning;
    *count = core->retry_count - core->retry;
    return CADRE_OK;
}

int64_t core_find(const tuner_core *core, core_state state, int64_t from)
{
    for (int64_t i = from; i < core->count; i++)
        if (core->trials[i].state == state)
            return i;
    return -1;
}

const char *core_note(const tuner_core *core) { return cadre_searcher_note(core->searcher); }

int64_t core_count(const tuner_core *core) { return core->count; }
int64_t core_running(const tuner_core *core) { return core->running; }
const core_trial *core_get(const tuner_core *core, int64_t trial) { return &core->trials[trial]; }

int64_t core_best(const tuner_core *core) { return core->best; }
