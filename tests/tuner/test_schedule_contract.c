#include "test_schedule_contract.h"

#include "base/fault.h"
#include "base/rng.h"

enum { TRIALS = 100, LAST = 30, PLACES = 4, MOST_EVENTS = TRIALS * (LAST + 4) };

typedef enum fate { UNKNOWN, RUNS, PAUSED, OVER } fate;

typedef struct event {
    enum { ADDED, REPORTED, ENDED, ASKED_NEXT } kind;
    cadre_schedule_report report;
    cadre_trial_end end;
    cadre_decision decision;
    int64_t next;
} event;

/* What a run of trials has come to. */
typedef struct population {
    const cadre_scheduler_table *table;
    void *self;
    fate fate[TRIALS];
    int reports[TRIALS];
    int64_t running[PLACES];
    int places, started, complete, stopped;
    event *events;
    int count;
} population;

static void *make(const schedule_case *row)
{
    void *self = NULL;
    if (row->scheduler.table->create(row->scheduler.options, 7, &self) != CADRE_OK)
        fail_msg("%s", cadre_error_message());
    return self;
}

/* Odd trials are hopeless; trial `favourite` beats all others at every report. */
enum { FAVOURITE = 37 };
static double value_at(int64_t trial, int step)
{
    base_rng rng;
    base_rng_init(&rng, 11, (uint64_t)trial);
    double level = trial == FAVOURITE ? 0 : 1 + base_rng_uniform(&rng) + (double)(trial % 2) * 3;
    return level + 1 / (double)step;
}

static void give(population *p, event *e)
{
    switch (e->kind) {
    case ADDED:
        if (p->table->on_trial_add)
            p->table->on_trial_add(p->self, e->report.trial);
        break;
    case REPORTED:
        e->decision = p->table->on_report(p->self, &e->report);
        break;
    case ENDED:
        if (p->table->on_trial_end)
            p->table->on_trial_end(p->self, e->report.trial, e->end);
        break;
    case ASKED_NEXT:
        e->next = p->table->next ? p->table->next(p->self) : -1;
        break;
    }
}

static event *tell(population *p, event e)
{
    assert_true(p->count < MOST_EVENTS);
    p->events[p->count] = e;
    give(p, &p->events[p->count]);
    return &p->events[p->count++];
}

/* Fill a place; false when nothing is to be begun. */
static bool begin(population *p)
{
    int64_t trial = tell(p, (event){.kind = ASKED_NEXT})->next;
    if (trial >= 0) {
        assert_true(trial < TRIALS && p->fate[trial] == PAUSED);
    } else {
        if (p->started == TRIALS)
            return false;
        trial = p->started++;
        tell(p, (event){.kind = ADDED, .report = {.trial = trial}});
    }
    p->fate[trial] = RUNS;
    p->running[p->places++] = trial;
    return true;
}

static void leave(population *p, int place, cadre_decision decision, bool failed)
{
    int64_t trial = p->running[place];
    p->running[place] = p->running[--p->places];
    if (decision == CADRE_DECIDE_PAUSE) {
        assert_non_null(p->table->next);
        p->fate[trial] = PAUSED;
        return;
    }
    p->fate[trial] = OVER;
    p->complete += decision == CADRE_DECIDE_COMPLETE && !failed;
    p->stopped += decision == CADRE_DECIDE_STOP;
    cadre_trial_end end = failed ? CADRE_ENDED_FAILED : decision == CADRE_DECIDE_STOP ? CADRE_ENDED_PRUNED : CADRE_ENDED_COMPLETE;
    tell(p, (event){.kind = ENDED, .report = {.trial = trial}, .end = end});
}

/* PLACES trials at once, of which one chosen at random reports; now and then one fails. */
static population run(const schedule_case *row)
{
    population p = {.table = row->scheduler.table, .self = make(row), .events = calloc(MOST_EVENTS, sizeof(event))};
    base_rng rng;
    base_rng_init(&rng, 5, 0);
    for (;;) {
        while (p.places < PLACES && begin(&p))
            ;
        if (!p.places)
            break;
        int place = (int)base_rng_below(&rng, (uint64_t)p.places);
        int64_t trial = p.running[place];
        int step = ++p.reports[trial];
        double value = value_at(trial, step);
        cadre_decision decision =
            tell(&p, (event){.kind = REPORTED, .report = {.trial = trial, .time = step, .value = value, .elapsed_s = step}})->decision;
        bool failed = trial % 17 == 5 && step == 3;
        if (decision == CADRE_DECIDE_GO_ON && step == LAST)
            decision = CADRE_DECIDE_COMPLETE;
        if (decision != CADRE_DECIDE_GO_ON || failed)
            leave(&p, place, failed ? CADRE_DECIDE_COMPLETE : decision, failed);
    }
    return p;
}

static void finish(population *p)
{
    p->table->free(p->self);
    free(p->events);
}

void schedule_contract_replays(void **state)
{
    const schedule_case *row = *state;
    population p = run(row);
    population again = {.table = p.table, .self = make(row)};
    for (int i = 0; i < p.count; i++) {
        event e = p.events[i];
        e.decision = (cadre_decision)99;
        e.next = 99;
        give(&again, &e);
        if (e.kind == REPORTED)
            assert_int_equal(e.decision, p.events[i].decision);
        if (e.kind == ASKED_NEXT)
            assert_int_equal(e.next, p.events[i].next);
    }
    again.table->free(again.self);
    finish(&p);
}

void schedule_contract_decides(void **state)
{
    const schedule_case *row = *state;
    population p = run(row);
    int paused = 0;
    for (int i = 0; i < p.count; i++)
        assert_in_range(p.events[i].decision, CADRE_DECIDE_GO_ON, CADRE_DECIDE_COMPLETE);
    assert_int_equal(p.started, TRIALS);
    for (int i = 0; i < TRIALS; i++) {
        paused += p.fate[i] == PAUSED;
        assert_true(p.fate[i] == PAUSED || p.fate[i] == OVER);
        if (p.fate[i] == PAUSED && p.table->is_over)
            p.table->is_over(p.self, i);
    }
    assert_true(p.complete > 0);
    assert_int_equal(p.stopped + paused > 0, row->stops);
    finish(&p);
}

void schedule_contract_keeps_the_best(void **state)
{
    population p = run(*state);
    assert_int_equal(p.fate[FAVOURITE], OVER);
    assert_in_range(p.reports[FAVOURITE], 27, LAST); /* the schedulers of the tests end trials there at the earliest */
    finish(&p);
}

void schedule_contract_endures(void **state)
{
    const schedule_case *row = *state;
    const cadre_scheduler_table *table = row->scheduler.table;
    static const double odd[] = {NAN, INFINITY, -INFINITY, 0, 0, 1e308, -1e308, 5e-324};
    void *self = make(row);
    base_rng rng;
    base_rng_init(&rng, 3, 0);
    for (int i = 0; i < 20000; i++) {
        int64_t trial = (int64_t)base_rng_below(&rng, 3000);
        uint64_t what = base_rng_below(&rng, 12);
        double value = what < 8 ? odd[what] : base_rng_uniform(&rng);
        double time = what == 9 ? odd[base_rng_below(&rng, 8)] : floor(base_rng_uniform(&rng) * 40);
        if (what == 10 && table->on_trial_end) {
            table->on_trial_end(self, trial, (cadre_trial_end)base_rng_below(&rng, 3));
        } else if (what == 11 && table->on_trial_add) {
            table->on_trial_add(self, trial);
        } else {
            cadre_decision decision = table->on_report(self, &(cadre_schedule_report){trial, time, value, 1});
            assert_in_range(decision, CADRE_DECIDE_GO_ON, CADRE_DECIDE_COMPLETE);
        }
        if (table->next && what == 8)
            assert_in_range(table->next(self) + 1, 0, 3000);
    }
    table->free(self);
}

void schedule_contract_bears_no_memory(void **state)
{
    const schedule_case *row = *state;
    const cadre_scheduler_table *table = row->scheduler.table;
    char fault[32];
    void *self = NULL;
    int status = CADRE_ENOMEM;
    for (int nth = 1; status != CADRE_OK && nth < 100; nth++) {
        snprintf(fault, sizeof fault, "alloc:%d", nth);
        base_fault_set(fault);
        status = table->create(row->scheduler.options, 1, &self);
        assert_true(status == CADRE_OK || (status == CADRE_ENOMEM && self == NULL));
    }
    assert_int_equal(status, CADRE_OK);
    for (int i = 0; i < 2000; i++) {
        int64_t trial = i / 20;
        base_fault_set(i % 3 ? NULL : "alloc:1+");
        if (table->on_trial_add && i % 20 == 0)
            table->on_trial_add(self, trial);
        cadre_decision decision = table->on_report(self, &(cadre_schedule_report){trial, i % 20 + 1, value_at(trial, i % 20 + 1), 1});
        assert_in_range(decision, CADRE_DECIDE_GO_ON, CADRE_DECIDE_COMPLETE);
        if (table->on_trial_end && i % 20 == 19)
            table->on_trial_end(self, trial, CADRE_ENDED_COMPLETE);
    }
    base_fault_set(NULL);
    table->free(self);
}
