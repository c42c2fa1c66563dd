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
    struct running next = {.trial = trial->number, .report = core_get(sim->tuner->core, trial->number)->reports + 1, .order = sim->planned++};
    next.outcome = options->sim(trial->config, trial->number, next.report, &value, &seconds, options->sim_user);
    if (next.outcome < 0)
        snprintf(trial->reason, sizeof trial->reason, "%s", cadre_error_message());
    next.value = value;
    next.due = sim->now + (seconds > 0 ? seconds : 0);
    trial->begun = sim->now;
    return push(sim, next);
}

/* It goes on from its last report: a simulated trial always has a checkpoint. */
static int begin(struct sim *sim, tuner_trial *trial)
{
    tuner *tuner = trial->tuner;
    int64_t reports = core_get(tuner->core, trial->number)->reports;
    int status = tracking_attempt_begin(tuner->store, trial_row(trial), trial->attempts++, 1, "sim", "none", reports, 0);
    return status == CADRE_OK ? plan(sim, trial) : status;
}

static int end_attempt(const tuner_trial *trial, const char *cause)
{
    return tracking_attempt_end(trial->tuner->store, trial_row(trial), trial->attempts - 1, cause, -1, "", 0, 0, "");
}

static int add_trial(tuner_trial *trial)
{
    const core_trial *seen = core_get(trial->tuner->core, trial->number);
    int status = trial_add(trial);
    if (status != CADRE_OK || seen->retry_of < 0 || seen->from_beginning)
        return status;
    status = trial_inherit_reports(trial, core_get(trial->tuner->core, seen->retry_of)->reports);
    return status == CADRE_OK ? trial_recall(trial) : status;
}

/* The next thing to do; `*more`: there was one. */
static int next_trial(struct sim *sim, bool *more)
{
    tuner *tuner = sim->tuner;
    tuner_trial *trial;
    core_job job;
    int64_t number;
    int status = core_next(tuner->core, &job, &number);
    *more = true;
    if (status == CADRE_OK && job == CORE_LATER && sim->count == 0)
        return tuner_unblock(tuner, more);
    if (status != CADRE_OK || job == CORE_DONE || job == CORE_LATER) {
        *more = false;
        return status;
    }
    status = trial_get(tuner, number, &trial);
    if (status == CADRE_OK && (job == CORE_START || job == CORE_RETRY))
        status = add_trial(trial);
    if (status == CADRE_OK)
        status = event_begin(tuner, job, number);
    return status == CADRE_OK && job != CORE_PROMOTE ? begin(sim, trial) : status;
}

static int fill(struct sim *sim)
{
    int status = CADRE_OK;
    for (bool more = true; status == CADRE_OK && more && sim->count < sim->places;)
        status = next_trial(sim, &more);
    return status;
}

/* What a killed simulation left running goes on first, all at once: its places were as many, or are more now. */
static int take_up(struct sim *sim)
{
    tuner *tuner = sim->tuner;
    int status = CADRE_OK;
    for (int64_t number = -1; status == CADRE_OK && !core_closed(tuner->core) && (number = core_find(tuner->core, CORE_RUNNING, number + 1)) >= 0;) {
        tuner_trial *trial;
        status = trial_get(tuner, number, &trial);
        if (status == CADRE_OK)
            status = trial_recall(trial);
        if (status == CADRE_OK)
            status = core_get(tuner->core, number)->decision == CADRE_DECIDE_GO_ON ? begin(sim, trial) : trial_obey(trial);
    }
    return status;
}

/* It is over, or paused. */
static int leave(tuner_trial *trial, const char *cause, int (*how)(tuner_trial *trial))
{
    tuner *tuner = trial->tuner;
    int64_t number = trial->number;
    int status = end_attempt(trial, cause);
    if (status == CADRE_OK)
        status = how(trial);
    if (core_get(tuner->core, number)->state != CORE_PAUSED)
        trial_forget(tuner, number);
    return status;
}

static int fail(tuner_trial *trial)
{
    char reason[sizeof trial->reason];
    snprintf(reason, sizeof reason, "%s", trial->reason);
    return trial_fail(trial, reason);
}

static int complete(tuner_trial *trial) { return trial_end(trial, CADRE_ENDED_COMPLETE, ""); }

/* The report that is due. */
static int step(struct sim *sim)
{
    struct running due = pop(sim);
    tuner *tuner = sim->tuner;
    tuner_trial *trial = tuner->trials[due.trial];
    tuner->virtual_s = sim->now = due.due;
    if (due.outcome < 0)
        return leave(trial, "failed", fail);
    tracking_metric row = {tuner->options->metric, due.value};
    cadre_metric metric = {.name = row.name, .value = due.value};
    int status = tracking_report(tuner->store, trial_row(trial), trial->attempts - 1, due.report, due.report, &row, 1);
    if (status == CADRE_OK)
        status = trial_report(trial, due.report, &metric, 1);
    trial->ran_s += sim->now - trial->begun;
    if (status != CADRE_OK)
        return status;
    cadre_decision decision = core_get(tuner->core, due.trial)->decision;
    if (decision == CADRE_DECIDE_STOP || (decision == CADRE_DECIDE_PAUSE && due.outcome != CADRE_STOP))
        return leave(trial, "stopped", trial_obey);
    if (decision == CADRE_DECIDE_COMPLETE || due.outcome == CADRE_STOP)
        return leave(trial, "finished", complete);
    return plan(sim, trial);
}

/* A rule has ended the experiment, and with it what runs. */
static int end_all(struct sim *sim)
{
    int status = CADRE_OK;
    while (status == CADRE_OK && sim->count > 0)
        status = leave(sim->tuner->trials[pop(sim).trial], "stopped", trial_cut_short);
    return status;
}

/* All that happens until the next places are free. */
static int go_on(struct sim *sim)
{
    tuner *tuner = sim->tuner;
    double budget = tuner->options->stop.time_budget_s;
    int status = CADRE_OK;
    if (budget > 0 && sim->heap[0].due > budget) {
        tuner->virtual_s = sim->now = budget;
        core_close(tuner->core, "time budget spent");
    } else {
        status = step(sim);
    }
    if (status == CADRE_OK && core_closed(tuner->core) && tuner->status == CADRE_OK)
        status = end_all(sim);
    return status == CADRE_OK ? fill(sim) : status;
}

int tuner_simulate(tuner *tuner)
{
    struct sim sim = {.tuner = tuner, .now = tuner->spent_s, .places = tuner->options->max_concurrent ? tuner->options->max_concurrent : 1};
    int status = take_up(&sim);
    if (status == CADRE_OK)
        status = fill(&sim);
    while (status == CADRE_OK && sim.count > 0 && tuner->status == CADRE_OK) {
        status = go_on(&sim);
        if (status == CADRE_OK && tracking_commit_due_ms(tuner->store) == 0)
            status = tracking_commit(tuner->store, false); /* only the last one waits for the disk: what is lost can be simulated again */
    }
    free(sim.heap);
    return status == CADRE_OK && tuner->status != CADRE_OK ? base_error(tuner->status, "%s", tuner->message) : status;
}
