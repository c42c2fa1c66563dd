/* The loop on processes: each trial a worker group of the trainer's, all on one event loop. */
#include "tuner.h"

#include "base/clock.h"
#include "base/error.h"
#include "base/io.h"
#include "base/mem.h"
#include "trainer/fit.h"
#include "trainer/group.h"
#include "trainer/launch/launch.h"
#include "trainer/message.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <uv.h>

static const double GRACE_S = 30.0;
/* After a commit that waited for the disk, so many times as long without: a slow disk takes a quarter of the time at most. A trial whose end is not on
 * disk when the power fails is run again. */
static const double SYNC_REST = 3;
enum { TICK_MS = 250, SIGNAL_COUNT = 4 };
static const int SIGNALS[SIGNAL_COUNT] = {SIGINT, SIGTERM, SIGUSR1, SIGCHLD}; /* that the loop takes over */

struct loop {
    tuner *tuner;
    uv_loop_t uv;
    trainer_launcher *launcher;
    uv_signal_t on_int, on_term, on_usr1; /* USR1: what batch systems send before the time is up */
    struct sigaction was[SIGNAL_COUNT];   /* the program's own */
    uv_timer_t commit, tick;
    uv_idle_t refill; /* runs once when a place has become free: never from inside a group's own callback */
    double next_sync; /* base_now() from which a commit may wait for the disk again */
    int groups, interrupts;
};

static struct loop *loop_of(trainer_group *group) { return group->owner; }

/* ---- committing in groups ---------------------------------------------------------------------------------------------------- */

static void on_commit(uv_timer_t *timer);

static void commit(struct loop *loop)
{
    tuner *tuner = loop->tuner;
    double begun = base_now();
    bool durable = tuner->wants_durable && begun >= loop->next_sync;
    tuner->wants_durable = tuner->wants_durable && !durable;
    int status = tracking_commit(tuner->store, durable);
    double ended = base_now();
    if (durable)
        loop->next_sync = ended + SYNC_REST * (ended - begun);
    if (status != CADRE_OK)
        tuner_fail(tuner, status);
}

/* What was committed to start a trial may still have to wait for the disk: wants_durable then stands, though nothing is gathered. */
static void schedule_commit(struct loop *loop)
{
    if (tracking_commit_due_ms(loop->tuner->store) == 0)
        commit(loop);
    int due = tracking_commit_due_ms(loop->tuner->store);
    if (due < 0 && loop->tuner->wants_durable) {
        double left_ms = 1e3 * (loop->next_sync - base_now());
        due = left_ms > TRACKING_GROUP_MS ? (int)left_ms : TRACKING_GROUP_MS;
    }
    if (due >= 0 && !uv_is_active((uv_handle_t *)&loop->commit))
        uv_timer_start(&loop->commit, on_commit, (uint64_t)due + 1, 0);
}

static void on_commit(uv_timer_t *timer)
{
    struct loop *loop = timer->data;
    if (tracking_commit_due_ms(loop->tuner->store) < 0 && loop->tuner->wants_durable)
        commit(loop);
    schedule_commit(loop);
}

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

static double grace_of(const tuner *tuner)
{
    double grace = tuner->options->trainer->failure.grace_s;
    return grace > 0 ? grace : GRACE_S;
}

/* It is told to leave, and made to when it does not. */
static void leave(tuner_trial *trial)
{
    if (trial->stopping)
        return;
    trial->stopping = true;
    group_leave(trial->group, grace_of(trial->tuner));
}

static int on_report(void *user, int64_t report, const cadre_metric *metrics, int count) { return trial_report(user, report, metrics, count); }

static int on_message(trainer_group *group, const json_t *message, json_t **reply)
{
    tuner_trial *trial = group->user;
    tuner *tuner = trial->tuner;
    int status = run_take(&trial->run, message, reply);
    if (status != CADRE_OK || !message_is(message, "report"))
        return status;
    bool over = core_closed(tuner->core) != NULL;
    if (over || core_get(tuner->core, trial->number)->decision != CADRE_DECIDE_GO_ON)
        leave(trial);
    if (tuner->sync && !*reply) {
        *reply = message_new("ack", group->attempt);
        if (*reply)
            message_set_int(*reply, "status", CADRE_OK);
    }
    if (*reply && trial->stopping)
        message_set_int(*reply, "stop", 1);
    if (over)
        refill_soon(loop_of(group)); /* the others are asked to leave there */
    schedule_commit(loop_of(group));
    return CADRE_OK;
}

static int start_trial(struct loop *loop, tuner_trial *trial);

/* A failure of the machine or the record is none of the trial's: it is to be resumed. */
static bool is_ours(int status)
{
    return status == CADRE_ESYSTEM || status == CADRE_ENOMEM || status == CADRE_ENOSPC || status == CADRE_EIO || status == CADRE_EBUSY;
}

static int take_failure(struct loop *loop, tuner_trial *trial, const group_outcome *outcome)
{
    tuner *tuner = trial->tuner;
    int allowed = tuner->options->trainer->failure.max_failures;
    if (tuner->interrupted || tuner->status != CADRE_OK)
        return tracking_trial_note(tuner->store, trial_row(trial), "interrupted");
    if (is_ours(outcome->status)) {
        tuner_fail(tuner, base_error(outcome->status, "trial %lld: %s", (long long)trial->number, outcome->detail));
        return tracking_trial_note(tuner->store, trial_row(trial), "interrupted");
    }
    trial->failures++;
    if (outcome->status == CADRE_ETRAIN && trial->run.refused == CADRE_OK && (allowed < 0 || trial->failures <= allowed) && !core_closed(tuner->core))
        return start_trial(loop, trial);
    return trial_fail(trial, outcome->detail);
}

/* What it means for a trial that its group is gone. A trial that was told something does it, however it left. */
static int settle(struct loop *loop, tuner_trial *trial, const group_outcome *outcome)
{
    tuner *tuner = trial->tuner;
    if (core_get(tuner->core, trial->number)->decision != CADRE_DECIDE_GO_ON)
        return trial_obey(trial);
    if (outcome->status == CADRE_OK)
        return trial_end(trial, CADRE_ENDED_COMPLETE, "");
    if (outcome->status != CADRE_STOP)
        return take_failure(loop, trial, outcome);
    if (tuner->interrupted || tuner->status != CADRE_OK)
        return tracking_trial_note(tuner->store, trial_row(trial), "paused"); /* it goes on when the experiment is resumed */
    return core_closed(tuner->core) ? trial_cut_short(trial) : trial_end(trial, CADRE_ENDED_COMPLETE, "");
}

static void put_active(tuner *tuner, tuner_trial *trial)
{
    trial->place = tuner->running;
    tuner->active[tuner->running++] = trial;
}

static void take_active(tuner *tuner, tuner_trial *trial)
{
    tuner->active[trial->place] = tuner->active[--tuner->running];
    tuner->active[trial->place]->place = trial->place;
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
    take_active(tuner, trial);
    slots_give_back(&tuner->slots, &trial->share);
    if (status == CADRE_OK)
        status = settle(loop, trial, &own);
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
    run_shared shared = {.store = tuner->store, .experiment = tuner->experiment, .directory = tuner->directory, .wants_durable = &tuner->wants_durable,
                         .on_report = on_report, .user = trial};
    int status = run_open_trial(&trial->run, &trial->trainer, &shared, trial_row(trial), trial->number, trial->attempts, base_now());
    trial->run_open = status == CADRE_OK;
    return status;
}

/* Reports that are no events are not replayed, and a retry's may be another trial's: what the restored attempt goes on from is in the store. */
static int recall(tuner_trial *trial)
{
    return trial->run.report > core_get(trial->tuner->core, trial->number)->reports ? trial_recall(trial) : CADRE_OK;
}

static int make_active_room(tuner *tuner)
{
    if (tuner->running < tuner->active_capacity)
        return CADRE_OK;
    int capacity = tuner->active_capacity ? 2 * tuner->active_capacity : 16;
    tuner_trial **active = base_realloc(tuner->active, (size_t)capacity * sizeof *active);
    if (!active)
        return CADRE_ENOMEM;
    tuner->active = active;
    tuner->active_capacity = capacity;
    return CADRE_OK;
}

/* The trial holds its share of the machine already. */
static int start_group(struct loop *loop, tuner_trial *trial)
{
    tuner *tuner = trial->tuner;
    int world = trial->trainer.scaling.num_workers ? trial->trainer.scaling.num_workers : 1;
    int status = make_active_room(tuner);
    if (status == CADRE_OK)
        status = open_run(trial);
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
    put_active(tuner, trial);
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

/* What a program keeps for itself (tuner/command.c) is not copied: a retry goes on in the directory of the trial that failed. A link that is there
 * is of a retry that was never recorded. */
static int link_checkpoint_directory(const tuner_trial *trial)
{
    const core_trial *seen = core_get(trial->tuner->core, trial->number);
    const char *directory = trial->tuner->directory;
    char *own = base_sprintf("%s/trial-%05lld", directory, (long long)trial->number), *path = own ? base_path_join(own, "checkpoint") : NULL;
    char *other = base_sprintf("%s/trial-%05lld/checkpoint", directory, (long long)seen->retry_of);
    char *target = base_sprintf("../trial-%05lld/checkpoint", (long long)seen->retry_of);
    int status = path && other && target ? base_mkdirs(own, 0700) : CADRE_ENOMEM;
    if (status == CADRE_OK)
        (void)unlink(path);
    if (status == CADRE_OK && !seen->from_beginning && base_exists(other) && symlink(target, path) != 0)
        status = base_errno(errno, "make the link %s", path);
    free(own);
    free(path);
    free(other);
    free(target);
    return status;
}

/* Its row, and for a retry what it goes on from. */
static int add_trial(tuner_trial *trial)
{
    const core_trial *seen = core_get(trial->tuner->core, trial->number);
    int status = trial_add(trial);
    if (status != CADRE_OK || seen->retry_of < 0)
        return status;
    if (!seen->from_beginning)
        status = trial_inherit_checkpoints(trial);
    return status == CADRE_OK ? link_checkpoint_directory(trial) : status;
}

/* Trials that an earlier life of the experiment left running, in order. */
static int64_t unfinished(tuner *tuner)
{
    int64_t number = tuner->resumed < tuner->to_resume ? core_find(tuner->core, CORE_RUNNING, tuner->resumed) : -1;
    tuner->resumed = number >= 0 && number < tuner->to_resume ? number + 1 : tuner->to_resume;
    return number < tuner->to_resume ? number : -1;
}

/* Go on with what an earlier life left running. It may have been told something and not have come to it. */
static int go_on(struct loop *loop, int64_t number)
{
    tuner_trial *trial;
    int status = trial_get(loop->tuner, number, &trial);
    if (status != CADRE_OK)
        return status;
    if (core_get(loop->tuner->core, number)->decision == CADRE_DECIDE_GO_ON)
        return start_trial(loop, trial);
    status = trial_obey(trial);
    if (core_get(loop->tuner->core, number)->state != CORE_PAUSED)
        trial_forget(loop->tuner, number);
    return status;
}

/* The next thing to do: first what an earlier life left running, then what the core wants. `*more`: there was one. */
static int next_trial(struct loop *loop, bool *more)
{
    tuner *tuner = loop->tuner;
    tuner_trial *trial;
    core_job job;
    int64_t number = unfinished(tuner);
    *more = true;
    if (number >= 0)
        return go_on(loop, number);
    int status = core_next(tuner->core, &job, &number);
    if (status == CADRE_OK && job == CORE_LATER && tuner->running == 0)
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
    if (status != CADRE_OK || job == CORE_PROMOTE)
        return status;
    /* No process works for a trial that a killed controller would know nothing of, and whose number another config might get. */
    status = tracking_commit(tuner->store, false);
    return status == CADRE_OK ? start_trial(loop, trial) : status;
}

static void leave_all(struct loop *loop)
{
    for (int i = 0; i < loop->tuner->running; i++)
        leave(loop->tuner->active[i]);
}

static void refill(struct loop *loop)
{
    tuner *tuner = loop->tuner;
    bool more = true;
    while (more && tuner->status == CADRE_OK && !tuner->interrupted && !core_closed(tuner->core) && has_place(tuner)) {
        int status = next_trial(loop, &more);
        if (status != CADRE_OK)
            tuner_fail(tuner, status);
    }
    if (tuner->status != CADRE_OK || core_closed(tuner->core))
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
    for (int i = 0; i < tuner->running; i++)
        group_kill(tuner->active[i]->group, CADRE_ECANCELED, "stopped", -1, "ended by a second interrupt");
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
    for (int i = 0; i < SIGNAL_COUNT; i++)
        sigaction(SIGNALS[i], NULL, &loop->was[i]);
    uv_signal_init(&loop->uv, &loop->on_int);
    uv_signal_init(&loop->uv, &loop->on_term);
    uv_signal_init(&loop->uv, &loop->on_usr1);
    uv_timer_init(&loop->uv, &loop->commit);
    uv_timer_init(&loop->uv, &loop->tick);
    uv_idle_init(&loop->uv, &loop->refill);
    loop->on_int.data = loop->on_term.data = loop->on_usr1.data = loop->commit.data = loop->tick.data = loop->refill.data = loop;
    uv_signal_start(&loop->on_int, on_signal, SIGINT);
    uv_signal_start(&loop->on_term, on_signal, SIGTERM);
    uv_signal_start(&loop->on_usr1, on_signal, SIGUSR1);
    uv_timer_start(&loop->tick, on_tick, TICK_MS, TICK_MS);
    const cadre_trainer *trainer = loop->tuner->options->trainer;
    const char *name = trainer->run.name ? trainer->run.name : "run";
    if (trainer->scaling.launcher == CADRE_LAUNCH_MPIRUN)
        return launch_mpirun_new(&loop->uv, name, &loop->launcher);
    return zygote->fd < 0 ? launch_exec_new(&loop->uv, name, &loop->launcher) : launch_fork_new(&loop->uv, zygote, &loop->launcher);
}

static void close_loop(struct loop *loop)
{
    uv_handle_t *handles[] = {(uv_handle_t *)&loop->on_int, (uv_handle_t *)&loop->on_term, (uv_handle_t *)&loop->on_usr1,
                              (uv_handle_t *)&loop->commit, (uv_handle_t *)&loop->tick,    (uv_handle_t *)&loop->refill};
    for (size_t i = 0; i < sizeof handles / sizeof *handles; i++)
        uv_close(handles[i], NULL);
    launch_free(loop->launcher);
    uv_run(&loop->uv, UV_RUN_DEFAULT);
    uv_loop_close(&loop->uv);
    for (int i = 0; i < SIGNAL_COUNT; i++) /* libuv leaves them at their defaults */
        sigaction(SIGNALS[i], &loop->was[i], NULL);
}

int tuner_loop(tuner *tuner, zygote *zygote)
{
    struct loop loop = {.tuner = tuner};
    int failed = uv_loop_init(&loop.uv);
    if (failed)
        return base_error(CADRE_ESYSTEM, "make the event loop: %s", uv_strerror(failed));
    int status = open_loop(&loop, zygote);
    if (status == CADRE_OK) {
        refill_soon(&loop);
        uv_run(&loop.uv, UV_RUN_DEFAULT);
        status = tuner->status;
    }
    close_loop(&loop);
    return status == CADRE_OK || !*tuner->message ? status : base_error(status, "%s", tuner->message);
}
