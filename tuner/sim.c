/* The launcher sim: trials are a function's numbers, and time goes as fast as they say. The core, the store and their order are the real ones. */
#include "tuner.h"

#include "base/error.h"
#include "base/mem.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

/* A trial that runs: its next report comes at `due` on the virtual clock. */
struct running {
    double due, value;
    int64_t trial, report; /* the report that comes then */
    int outcome;           /* what the function answered */
    int64_t order;         /* equals in time go in the order in which they were planned */
};

struct sim {
    tuner *tuner;
    struct running *heap; /* earliest first */
    int count, capacity;
    double now;
    int64_t planned;
    int places;
};

static bool earlier(const struct running *a, const struct running *b) { return a->due < b->due || (a->due == b->due && a->order < b->order); }

static void swap(struct running *a, struct running *b)
{
    struct running kept = *a;
    *a = *b;
    *b = kept;
}

static int push(struct sim *sim, struct running item)
{
    if (sim->count == sim->capacity) {
        int capacity = sim->capacity ? 2 * sim->capacity : 16;
        struct running *heap = base_realloc(sim->heap, (size_t)capacity * sizeof *heap);
        if (!heap)
            return CADRE_ENOMEM;
        sim->heap = heap;
        sim->capacity = capacity;
    }
    int at = sim->count++;
    sim->heap[at] = item;
    for (; at > 0 && earlier(&sim->heap[at], &sim->heap[(at - 1) / 2]); at = (at - 1) / 2)
        swap(&sim->heap[at], &sim->heap[(at - 1) / 2]);
    return CADRE_OK;
}

static struct running pop(struct sim *sim)
{
    struct running first = sim->heap[0];
    sim->heap[0] = sim->heap[--sim->count];
    for (int at = 0;;) {
        int child = 2 * at + 1;
        if (child + 1 < sim->count && earlier(&sim->heap[child + 1], &sim->heap[child]))
            child++;
        if (child >= sim->count || !earlier(&sim->heap[child], &sim->heap[at]))
            return first;
        swap(&sim->heap[at], &sim->heap[child]);
        at = child;
    }
}

/* Ask the function for the trial's next report and put it on the clock. */
static int plan(struct sim *sim, tuner_trial *trial)
{
    const cadre_tuner *options = sim->tuner->options;
    double value = NAN, seconds = 0;
    struct running next = {.trial = trial->number, .report = trial->heard + 1, .order = sim->planned++};
    next.outcome = options->sim(trial->config, trial->number, next.report, &value, &seconds, options->sim_user);
    if (next.outcome < 0)
        snprintf(trial->reason, sizeof trial->reason, "%s", cadre_error_message());
    next.value = value;
    next.due = sim->now + (seconds > 0 ? seconds : 0);
    trial->begun = sim->now;
    return push(sim, next);
}

static int begin_attempt(tuner_trial *trial)
{
    tuner *tuner = trial->tuner;
    return tracking_attempt_begin(tuner->store, trial_row(trial), trial->attempts++, 1, "sim", "none", trial->heard, 0);
}

static int end_attempt(const tuner_trial *trial, const char *cause)
{
    return tracking_attempt_end(trial->tuner->store, trial_row(trial), trial->attempts - 1, cause, -1, "", 0, 0, "");
}

static int fill(struct sim *sim)
{
    tuner *tuner = sim->tuner;
    int status = CADRE_OK;
    while (status == CADRE_OK && sim->count < sim->places) {
        core_job job;
        int64_t number;
        status = core_next(tuner->core, &job, &number);
        if (status != CADRE_OK || job == CORE_DONE || job == CORE_LATER)
            return status;
        tuner_trial *trial = trial_get(tuner, number);
        status = trial ? CADRE_OK : CADRE_ENOMEM;
        if (status == CADRE_OK && job == CORE_START)
            status = trial_add(trial);
        if (status == CADRE_OK)
            status = job == CORE_START ? event_ask(tuner, number) : event_resume(tuner, number);
        if (status == CADRE_OK)
            status = begin_attempt(trial);
        if (status == CADRE_OK)
            status = plan(sim, trial);
    }
    return status;
}

static int end_trial(tuner_trial *trial, cadre_trial_end end, const char *cause)
{
    tuner *tuner = trial->tuner;
    int64_t number = trial->number;
    char reason[sizeof trial->reason];
    snprintf(reason, sizeof reason, "%s", trial->reason);
    int status = end_attempt(trial, cause);
    if (status == CADRE_OK)
        status = trial_end(trial, end, reason);
    trial_forget(tuner, number);
    return status;
}

/* The report that is due. */
static int step(struct sim *sim)
{
    struct running due = pop(sim);
    tuner *tuner = sim->tuner;
    tuner_trial *trial = tuner->trials[due.trial];
    sim->now = due.due;
    tuner->virtual_s = sim->now;
    if (due.outcome < 0)
        return end_trial(trial, CADRE_ENDED_FAILED, "failed");
    tracking_metric row = {tuner->options->metric, due.value};
    cadre_metric metric = {.name = row.name, .value = due.value};
    cadre_decision decision;
    int status = tracking_report(tuner->store, trial_row(trial), trial->attempts - 1, due.report, due.report, &row, 1);
    trial_report(trial, due.report, &metric, 1, &decision);
    trial->ran_s += sim->now - trial->begun;
    if (status != CADRE_OK)
        return status;
    if (due.outcome == CADRE_STOP && decision != CADRE_DECIDE_STOP)
        decision = CADRE_DECIDE_COMPLETE;
    if (decision == CADRE_DECIDE_GO_ON && core_closed(tuner->core))
        decision = CADRE_DECIDE_COMPLETE; /* all is over: it leaves, as a real one is asked to */
    if (decision == CADRE_DECIDE_GO_ON)
        return plan(sim, trial);
    if (decision == CADRE_DECIDE_STOP)
        return end_trial(trial, CADRE_ENDED_PRUNED, "stopped");
    if (decision == CADRE_DECIDE_COMPLETE)
        return end_trial(trial, CADRE_ENDED_COMPLETE, "finished");
    status = end_attempt(trial, "stopped");
    if (status != CADRE_OK)
        return status;
    core_paused(tuner->core, trial->number);
    return event_pause(tuner, trial->number);
}

int tuner_simulate(tuner *tuner)
{
    struct sim sim = {.tuner = tuner, .now = tuner->spent_s, .places = tuner->options->max_concurrent ? tuner->options->max_concurrent : 1};
    int status = fill(&sim);
    while (status == CADRE_OK && sim.count > 0 && tuner->status == CADRE_OK) {
        status = step(&sim);
        if (status == CADRE_OK)
            status = fill(&sim);
        if (status == CADRE_OK && tracking_commit_due_ms(tuner->store) == 0)
            status = tracking_commit(tuner->store, false); /* only the last one waits for the disk: what is lost can be simulated again */
    }
    free(sim.heap);
    return status == CADRE_OK && tuner->status != CADRE_OK ? base_error(tuner->status, "%s", tuner->message) : status;
}
