/* The loop on processes: each trial a worker group of the trainer's, all on one event loop. */
#include "tuner.h"

#include "base/clock.h"
#include "base/error.h"
#include "base/mem.h"
#include "trainer/fit.h"
#include "trainer/group.h"
#include "trainer/launch/launch.h"
#include "trainer/message.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <uv.h>

static const double GRACE_S = 30.0;
enum { TICK_MS = 250 };

struct loop {
    tuner *tuner;
    uv_loop_t uv;
    trainer_launcher *launcher;
    uv_signal_t on_int, on_term;
    uv_timer_t commit, tick;
    uv_idle_t refill; /* runs once when a place has become free: never from inside a group's own callback */
    int groups, interrupts;
};

static struct loop *loop_of(trainer_group *group) { return group->owner; }

static int64_t unfinished(tuner *tuner);

/* ---- committing in groups ---------------------------------------------------------------------------------------------------- */

static void on_commit(uv_timer_t *timer);

static void schedule_commit(struct loop *loop)
{
    int due = tracking_commit_due_ms(loop->tuner->store);
    if (due == 0) {
        bool durable = loop->tuner->wants_durable;
        loop->tuner->wants_durable = false;
        int status = tracking_commit(loop->tuner->store, durable);
        if (status != CADRE_OK)
            tuner_fail(loop->tuner, status);
        due = tracking_commit_due_ms(loop->tuner->store);
    }
    if (due >= 0 && !uv_is_active((uv_handle_t *)&loop->commit))
        uv_timer_start(&loop->commit, on_commit, (uint64_t)due + 1, 0);
}

static void on_commit(uv_timer_t *timer) { schedule_commit(timer->data); }

/* ---- trials ------------------------------------------------------------------------------------------------------------------- */

static void refill_soon(struct loop *loop);

static json_t *on_hello(trainer_group *group, int rank)
{
    tuner_trial *trial = group->user;
    (void)rank;
    json_t *start = run_start_message(&trial->run, fit_threads_of(&trial->trainer, group->world, trial->share.cores));
    if (start && trial->tuner->sync)
        message_set_int(start, "sync", 1);
    if (start && trial->share.gpu_count > 0) {
        json_t *gpus = json_array();
        for (int i = 0; i < trial->share.gpu_count; i++)
            json_array_append_new(gpus, json_integer(trial->share.gpu[i]));
        json_object_set_new(start, "gpus", gpus);
    }
    return start;
}

static int read_metrics(const json_t *message, cadre_metric *metrics)
{
    size_t index;
    json_t *pair;
    int count = 0;
    json_array_foreach(json_object_get(message, "metrics"), index, pair)
    {
        const char *name = json_string_value(json_array_get(pair, 0));
        if (count < CADRE_MAX_METRICS && name && message_read_double(json_array_get(pair, 1), &metrics[count].value))
            metrics[count++].name = name;
    }
    return count;
}

static int on_message(trainer_group *group, const json_t *message, json_t **reply)
{
    tuner_trial *trial = group->user;
    tuner *tuner = trial->tuner;
    int status = run_take(&trial->run, message, reply);
    if (status != CADRE_OK || !message_is(message, "report"))
        return status;
    cadre_metric metrics[CADRE_MAX_METRICS];
    cadre_decision decision;
    int count = read_metrics(message, metrics);
    trial_report(trial, message_int(message, "report", 0), metrics, count, &decision);
    bool stop = decision != CADRE_DECIDE_GO_ON || trial->stopping || core_closed(tuner->core);
    if (tuner->sync && !*reply) {
        *reply = message_new("ack", group->attempt);
        if (*reply)
            message_set_int(*reply, "status", CADRE_OK);
    }
    if (stop) {
        trial->stopping = true;
        if (*reply)
            message_set_int(*reply, "stop", 1);
        else
            *reply = message_new("stop", group->attempt);
    }
    if (core_closed(tuner->core))
        refill_soon(loop_of(group)); /* the others are asked to leave there */
    schedule_commit(loop_of(group));
    return CADRE_OK;
}

/* What a group that ended well means for its trial. */
static int settle(tuner_trial *trial, bool left)
{
    tuner *tuner = trial->tuner;
    cadre_decision decision = core_get(tuner->core, trial->number)->decision;
    if (decision == CADRE_DECIDE_PAUSE) {
        core_paused(tuner->core, trial->number);
        int status = event_pause(tuner, trial->number);
        return status == CADRE_OK ? tracking_trial_note(tuner->store, trial_row(trial), "paused") : status;
    }
    if (decision == CADRE_DECIDE_STOP)
        return trial_end(trial, CADRE_ENDED_PRUNED, "");
    bool unheard = core_closed(tuner->core) && core_get(tuner->core, trial->number)->reports == 0; /* the sweep ended before its first report */
    if (decision == CADRE_DECIDE_GO_ON && left && (tuner->interrupted || unheard))
        return tracking_trial_note(tuner->store, trial_row(trial), "paused"); /* it goes on when the experiment is resumed */
    return trial_end(trial, CADRE_ENDED_COMPLETE, "");
}

static int start_trial(struct loop *loop, tuner_trial *trial);

static int take_failure(struct loop *loop, tuner_trial *trial, const group_outcome *outcome)
{
    tuner *tuner = trial->tuner;
    int allowed = tuner->options->trainer->failure.max_failures;
    trial->failures++;
    if (tuner->interrupted)
        return tracking_trial_note(tuner->store, trial_row(trial), "interrupted");
    if (outcome->status == CADRE_ETRAIN && trial->run.refused == CADRE_OK && (allowed < 0 || trial->failures <= allowed) && !core_closed(tuner->core))
        return start_trial(loop, trial);
    int status = trial_end(trial, CADRE_ENDED_FAILED, outcome->detail);
    if (status == CADRE_OK && tuner->options->fail_fast)
        tuner_fail(tuner, base_error(CADRE_ETRAIN, "trial %lld failed, and fail_fast is set: %s", (long long)trial->number, outcome->detail));
    return status;
}

static void on_end(trainer_group *group, const group_outcome *outcome)
{
    tuner_trial *trial = group->user;
    tuner *tuner = trial->tuner;
    struct loop *loop = loop_of(group);
    group_outcome own = *outcome;
    run_ending ending = {own.cause, own.rank, own.host, own.exit_code, own.signal, own.detail};
    int status = run_attempt_end(&trial->run, &ending);
    trial->ran_s += base_now() - trial->begun;
    group_free(group);
    free(group);
    trial->group = NULL;
    tuner->running--;
    slots_give_back(&tuner->slots, &trial->share);
    if (status == CADRE_OK)
        status = own.status == CADRE_OK || own.status == CADRE_STOP ? settle(trial, own.status == CADRE_STOP) : take_failure(loop, trial, &own);
    if (!trial->group) {
        core_state state = core_get(tuner->core, trial->number)->state;
        if (trial->run_open)
            run_close(&trial->run);
        trial->run_open = false;
        if (state != CORE_RUNNING && state != CORE_PAUSED)
            trial_forget(tuner, trial->number);
    }
    if (status != CADRE_OK)
        tuner_fail(tuner, status);
    schedule_commit(loop);
    refill_soon(loop);
}

static int open_run(tuner_trial *trial)
{
    tuner *tuner = trial->tuner;
    if (trial->run_open)
        return CADRE_OK;
    run_shared shared = {.store = tuner->store, .experiment = tuner->experiment, .directory = tuner->directory, .wants_durable = &tuner->wants_durable};
    int status = run_open_trial(&trial->run, &trial->trainer, &shared, trial_row(trial), trial->number, trial->attempts, base_now());
    trial->run_open = status == CADRE_OK;
    return status;
}

static int take_metric(int64_t report, int64_t step, const char *name, double value, void *user)
{
    tuner_trial *trial = user;
    (void)step;
    if (strcmp(name, trial->tuner->options->metric) == 0) {
        core_set_value(trial->tuner->core, trial->number, value, report);
        trial->heard = report;
    }
    return CADRE_OK;
}

/* Reports that are no events are not replayed: what an earlier life heard of a trial that goes on is in the store. */
static int recall(tuner_trial *trial)
{
    if (trial->tuner->log_reports || trial->run.report <= core_get(trial->tuner->core, trial->number)->reports)
        return CADRE_OK;
    return tracking_each_metric(trial->tuner->store, trial_row(trial), take_metric, trial);
}

/* The trial holds its share of the machine already. */
static int start_group(struct loop *loop, tuner_trial *trial)
{
    tuner *tuner = trial->tuner;
    int world = trial->trainer.scaling.num_workers ? trial->trainer.scaling.num_workers : 1;
    int status = open_run(trial);
    if (status == CADRE_OK)
        status = run_attempt_begin(&trial->run, world, loop->launcher->name);
    if (status == CADRE_OK)
        status = recall(trial);
    trainer_group *group = status == CADRE_OK ? base_calloc(1, sizeof *group) : NULL;
    if (!group)
        return status == CADRE_OK ? CADRE_ENOMEM : status;
    *group = (trainer_group){
        .trainer = &trial->trainer, .number = ++loop->groups, .attempt = trial->run.attempt, .world = world, .on_message = on_message,
        .on_hello = on_hello, .on_end = on_end, .user = trial, .owner = loop, .directory = base_strdup(trial->run.trial_directory),
    };
    status = group->directory ? group_start(group, &loop->uv, loop->launcher) : CADRE_ENOMEM;
    if (status != CADRE_OK) {
        group_free(group);
        free(group);
        return status;
    }
    trial->group = group;
    trial->attempts = trial->run.attempt + 1;
    trial->begun = base_now();
    trial->stopping = false;
    tuner->running++;
    return CADRE_OK;
}

static int start_trial(struct loop *loop, tuner_trial *trial)
{
    tuner *tuner = trial->tuner;
    const cadre_scaling_config *scaling = &trial->trainer.scaling;
    double world = scaling->num_workers ? scaling->num_workers : 1;
    if (!slots_take(&tuner->slots, tuner->cores_each, scaling->gpus_per_worker * world, &trial->share))
        return base_error(CADRE_ESTATE, "no place for trial %lld", (long long)trial->number); /* looked at before */
    int status = start_group(loop, trial);
    if (status != CADRE_OK)
        slots_give_back(&tuner->slots, &trial->share);
    return status;
}

/* ---- filling free places --------------------------------------------------------------------------------------------------------- */

static bool has_place(const tuner *tuner)
{
    tuner_slots look = tuner->slots;
    tuner_share share;
    const cadre_scaling_config *scaling = &tuner->options->trainer->scaling;
    double world = scaling->num_workers ? scaling->num_workers : 1;
    if (tuner->options->max_concurrent > 0 && tuner->running >= tuner->options->max_concurrent)
        return false;
    return slots_take(&look, tuner->cores_each, scaling->gpus_per_worker * world, &share);
}

/* The next thing to run: first what an earlier life left running, then what the core wants. */
static int next_trial(struct loop *loop, bool *started)
{
    tuner *tuner = loop->tuner;
    core_job job = CORE_START;
    int64_t number = unfinished(tuner);
    int status = CADRE_OK;
    bool left = number >= 0;
    *started = false;
    if (!left)
        status = core_next(tuner->core, &job, &number);
    if (status != CADRE_OK || (!left && (job == CORE_DONE || job == CORE_LATER)))
        return status;
    tuner_trial *trial = trial_get(tuner, number);
    if (!trial)
        return CADRE_ENOMEM;
    if (!left && job == CORE_START)
        status = trial_add(trial);
    if (status == CADRE_OK && !left)
        status = job == CORE_START ? event_ask(tuner, number) : event_resume(tuner, number);
    if (status == CADRE_OK)
        status = start_trial(loop, trial);
    *started = status == CADRE_OK;
    return status;
}

/* Trials that an earlier life of the experiment left running, in order. */
static int64_t unfinished(tuner *tuner)
{
    for (; tuner->resumed < tuner->to_resume; tuner->resumed++)
        if (core_get(tuner->core, tuner->resumed)->state == CORE_RUNNING)
            return tuner->resumed++;
    return -1;
}

static void leave_all(struct loop *loop)
{
    double grace = loop->tuner->options->trainer->failure.grace_s;
    for (int64_t i = 0; i < loop->tuner->capacity; i++) {
        tuner_trial *trial = loop->tuner->trials[i];
        if (trial && trial->group && !trial->stopping) {
            trial->stopping = true;
            group_leave(trial->group, grace > 0 ? grace : GRACE_S);
        }
    }
}

static void refill(struct loop *loop)
{
    tuner *tuner = loop->tuner;
    bool started = true;
    while (started && tuner->status == CADRE_OK && !tuner->interrupted && !core_closed(tuner->core) && has_place(tuner)) {
        int status = next_trial(loop, &started);
        if (status != CADRE_OK)
            tuner_fail(tuner, status);
    }
    if (tuner->running > 0 && (tuner->status != CADRE_OK || core_closed(tuner->core)))
        leave_all(loop);
    if (tuner->running == 0)
        uv_stop(&loop->uv);
    schedule_commit(loop);
}

static void on_refill(uv_idle_t *idle)
{
    uv_idle_stop(idle);
    refill(idle->data);
}

static void refill_soon(struct loop *loop) { uv_idle_start(&loop->refill, on_refill); }

/* ---- signals and screen ------------------------------------------------------------------------------------------------------------ */

static void on_signal(uv_signal_t *handle, int number)
{
    struct loop *loop = handle->data;
    tuner *tuner = loop->tuner;
    (void)number;
    tuner->interrupted = true;
    if (++loop->interrupts == 1) {
        leave_all(loop);
        table_interrupted(tuner);
        return;
    }
    for (int64_t i = 0; i < tuner->capacity; i++)
        if (tuner->trials[i] && tuner->trials[i]->group)
            group_kill(tuner->trials[i]->group, CADRE_ECANCELED, "stopped", -1, "ended by a second interrupt");
}

static void on_tick(uv_timer_t *timer)
{
    struct loop *loop = timer->data;
    double budget = loop->tuner->options->stop.time_budget_s;
    if (budget > 0 && tuner_elapsed(loop->tuner) >= budget && !core_closed(loop->tuner->core)) {
        core_close(loop->tuner->core, "time budget spent");
        refill_soon(loop);
    }
    table_draw(loop->tuner, false);
}

static int open_loop(struct loop *loop, zygote *zygote)
{
    int failed = uv_loop_init(&loop->uv);
    if (failed)
        return base_error(CADRE_ESYSTEM, "make the event loop: %s", uv_strerror(failed));
    uv_signal_init(&loop->uv, &loop->on_int);
    uv_signal_init(&loop->uv, &loop->on_term);
    uv_timer_init(&loop->uv, &loop->commit);
    uv_timer_init(&loop->uv, &loop->tick);
    uv_idle_init(&loop->uv, &loop->refill);
    loop->on_int.data = loop->on_term.data = loop->commit.data = loop->tick.data = loop->refill.data = loop;
    uv_signal_start(&loop->on_int, on_signal, SIGINT);
    uv_signal_start(&loop->on_term, on_signal, SIGTERM);
    uv_timer_start(&loop->tick, on_tick, TICK_MS, TICK_MS);
    const cadre_trainer *trainer = loop->tuner->options->trainer;
    const char *name = trainer->run.name ? trainer->run.name : "run";
    if (trainer->scaling.launcher == CADRE_LAUNCH_MPIRUN)
        return launch_mpirun_new(&loop->uv, name, &loop->launcher);
    return zygote->fd < 0 ? launch_exec_new(&loop->uv, name, &loop->launcher) : launch_fork_new(&loop->uv, zygote, &loop->launcher);
}

static void close_loop(struct loop *loop)
{
    uv_handle_t *handles[] = {(uv_handle_t *)&loop->on_int, (uv_handle_t *)&loop->on_term, (uv_handle_t *)&loop->commit, (uv_handle_t *)&loop->tick,
                              (uv_handle_t *)&loop->refill};
    for (size_t i = 0; i < sizeof handles / sizeof *handles; i++)
        uv_close(handles[i], NULL);
    launch_free(loop->launcher);
    uv_run(&loop->uv, UV_RUN_DEFAULT);
    uv_loop_close(&loop->uv);
}

int tuner_loop(tuner *tuner, zygote *zygote)
{
    struct loop loop = {.tuner = tuner};
    int status = open_loop(&loop, zygote);
    if (status == CADRE_OK) {
        refill_soon(&loop);
        uv_run(&loop.uv, UV_RUN_DEFAULT);
        status = tuner->status;
    }
    close_loop(&loop);
    return status == CADRE_OK || !*tuner->message ? status : base_error(status, "%s", tuner->message);
}
