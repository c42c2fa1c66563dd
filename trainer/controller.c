/* The controller: one event loop that owns the store, the worker group and the failure policy. */
#include "fit.h"

#include "base/clock.h"
#include "base/error.h"
#include "base/mem.h"
#include "group.h"
#include "launch/launch.h"
#include "message.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <uv.h>

static const double GRACE_S = 30.0, REGROW_S = 60.0;
enum { SIGNAL_COUNT = 4 };
static const int SIGNALS[SIGNAL_COUNT] = {SIGINT, SIGTERM, SIGUSR1, SIGCHLD}; /* that the loop takes over */

struct controller {
    trainer_run *run;
    uv_loop_t loop;
    trainer_launcher *launcher;
    trainer_group *group;
    int groups, failures, interrupts;
    int world;       /* of the group under way, or of the next one */
    bool stopping, regrowing; /* regrowing: asked to leave only to come back as large as it should be */
    double smaller_since;     /* base_now() when the group was made smaller; 0: it is whole */
    uv_signal_t on_int, on_term, on_usr1; /* USR1: what batch systems send before the time is up */
    uv_timer_t commit;
    int status; /* of the whole */
    char message[600];
};

static void finish(struct controller *controller, int status)
{
    controller->status = status;
    if (status < 0)
        snprintf(controller->message, sizeof controller->message, "%s", cadre_error_message());
    uv_stop(&controller->loop);
}

/* ---- committing in groups ---------------------------------------------------------------------------------------------------- */

static void on_commit(uv_timer_t *timer);

static void schedule_commit(struct controller *controller)
{
    int due_ms = -1;
    int status = run_tick(controller->run, &due_ms);
    if (status != CADRE_OK) {
        if (controller->group)
            group_kill(controller->group, status, "failed", -1, cadre_error_message());
        else
            finish(controller, status);
    } else if (due_ms >= 0 && !uv_is_active((uv_handle_t *)&controller->commit)) {
        uv_timer_start(&controller->commit, on_commit, (uint64_t)due_ms + 1, 0);
    }
}

static void on_commit(uv_timer_t *timer) { schedule_commit(timer->data); }

/* ---- the group ---------------------------------------------------------------------------------------------------------------- */

static int start_group(struct controller *controller);
static void regrow(struct controller *controller);

static int on_message(trainer_group *group, const json_t *message, json_t **reply)
{
    struct controller *controller = group->user;
    int status = run_take(controller->run, message, reply);
    if (status == CADRE_OK)
        schedule_commit(controller);
    if (status == CADRE_OK)
        regrow(controller);
    return status;
}

static json_t *on_hello(trainer_group *group, int rank)
{
    struct controller *controller = group->user;
    (void)rank;
    return run_start_message(controller->run, fit_threads(controller->run->trainer, group->world));
}

/* A failed attempt is made again while max_failures allows; what the store or the disk refuses would fail again. */
static bool may_restart(const struct controller *controller, int status)
{
    int allowed = controller->run->trainer->failure.max_failures;
    return status == CADRE_ETRAIN && controller->run->refused == CADRE_OK && !controller->stopping && (allowed < 0 || controller->failures <= allowed);
}

static int whole(const struct controller *controller)
{
    int workers = controller->run->trainer->scaling.num_workers;
    return workers ? workers : 1;
}

/* An elastic group goes on without the worker that it lost. */
static void shrink(struct controller *controller)
{
    int least = controller->run->trainer->scaling.min_workers;
    int logical = controller->run->trainer->scaling.logical_workers, next = controller->world - 1;
    while (logical && next > 0 && !fit_logical(logical, next))
        next--;
    if (least == 0 || next < least)
        return;
    controller->world = next;
    controller->smaller_since = base_now();
    progress_say(&controller->run->progress, "going on with %d of %d workers", controller->world, whole(controller));
}

/* Looked at with every message: does a smaller group have to leave, to come back whole? Only what has saved something may. */
static void regrow(struct controller *controller)
{
    double after = controller->run->trainer->scaling.regrow_s;
    if (controller->smaller_since == 0 || after < 0 || controller->regrowing || controller->stopping || !controller->group ||
        base_now() - controller->smaller_since < (after > 0 ? after : REGROW_S))
        return;
    double grace = controller->run->trainer->failure.grace_s;
    controller->regrowing = true;
    group_leave(controller->group, grace > 0 ? grace : GRACE_S);
}

static void on_end(trainer_group *group, const group_outcome *outcome)
{
    struct controller *controller = group->user;
    trainer_run *run = controller->run;
    bool regrown = controller->regrowing && !controller->stopping && outcome->status == CADRE_STOP;
    char detail[512];
    snprintf(detail, sizeof detail, "%s", outcome->detail);
    int number = run->attempt;
    run_ending ending = {regrown ? "resized" : outcome->cause, outcome->rank, outcome->host, outcome->exit_code, outcome->signal, detail};
    int status = run_attempt_end(run, &ending);
    int verdict = outcome->status;
    group_free(group);
    free(group);
    controller->group = NULL;
    if (status != CADRE_OK) {
        finish(controller, status);
        return;
    }
    if (regrown) {
        controller->world = whole(controller);
        controller->smaller_since = 0;
        controller->regrowing = false;
        status = start_group(controller);
        if (status != CADRE_OK)
            finish(controller, status);
        return;
    }
    if (verdict == CADRE_OK || verdict == CADRE_STOP || (controller->stopping && verdict == CADRE_ETRAIN)) {
        finish(controller, controller->stopping && verdict != CADRE_OK ? CADRE_STOP : verdict);
        return;
    }
    controller->failures++;
    if (may_restart(controller, verdict)) {
        if (run->trainer->failure.max_failures < 0)
            progress_say(&run->progress, "attempt %d failed: %s; starting again", number, detail);
        else
            progress_say(&run->progress, "attempt %d failed: %s; starting again (%d of %d)", number, detail, controller->failures,
                         run->trainer->failure.max_failures);
        controller->regrowing = false;
        if (ending.rank >= 0)
            shrink(controller);
        status = start_group(controller);
        if (status != CADRE_OK)
            finish(controller, status);
        return;
    }
    int allowed = run->trainer->failure.max_failures;
    if (verdict == CADRE_ETRAIN && (controller->failures > 1 || allowed))
        base_error(verdict, "%s; failure %d, max_failures is %d", detail, controller->failures, allowed);
    else
        base_error(verdict, "%s", detail);
    finish(controller, verdict);
}

static int start_group(struct controller *controller)
{
    trainer_run *run = controller->run;
    int world = controller->world;
    int status = run_attempt_begin(run, world, controller->launcher->name);
    if (status != CADRE_OK)
        return status;
    trainer_group *group = base_calloc(1, sizeof *group);
    if (!group)
        return CADRE_ENOMEM;
    *group = (trainer_group){
        .trainer = run->trainer, .number = ++controller->groups, .attempt = run->attempt, .world = world, .on_message = on_message,
        .on_hello = on_hello, .on_end = on_end, .user = controller, .directory = base_strdup(run->trial_directory),
    };
    status = group->directory ? group_start(group, &controller->loop, controller->launcher) : CADRE_ENOMEM;
    if (status != CADRE_OK) {
        group_free(group);
        free(group);
        return status;
    }
    controller->group = group;
    return CADRE_OK;
}

/* ---- signals -------------------------------------------------------------------------------------------------------------------- */

static void on_signal(uv_signal_t *handle, int number)
{
    struct controller *controller = handle->data;
    trainer_run *run = controller->run;
    double grace = run->trainer->failure.grace_s > 0 ? run->trainer->failure.grace_s : GRACE_S;
    controller->stopping = true;
    controller->interrupts++;
    if (!controller->group)
        return;
    if (controller->interrupts == 1) {
        progress_say(&run->progress, "%s: saving and stopping; once more ends it at once", number == SIGINT ? "interrupted" : "asked to end");
        group_leave(controller->group, grace);
    } else {
        group_kill(controller->group, CADRE_STOP, "stopped", -1, "ended by a second interrupt");
    }
}

/* ---- life ------------------------------------------------------------------------------------------------------------------------ */

static int make_launcher(struct controller *controller, zygote *zygote)
{
    const cadre_trainer *trainer = controller->run->trainer;
    const char *name = trainer->run.name ? trainer->run.name : "run";
    if (trainer->scaling.launcher == CADRE_LAUNCH_MPIRUN)
        return launch_mpirun_new(&controller->loop, name, &controller->launcher);
    if (zygote->fd < 0)
        return launch_exec_new(&controller->loop, name, &controller->launcher);
    return launch_fork_new(&controller->loop, zygote, &controller->launcher);
}

static void close_handles(struct controller *controller)
{
    uv_close((uv_handle_t *)&controller->on_int, NULL);
    uv_close((uv_handle_t *)&controller->on_term, NULL);
    uv_close((uv_handle_t *)&controller->on_usr1, NULL);
    uv_close((uv_handle_t *)&controller->commit, NULL);
    launch_free(controller->launcher);
    uv_run(&controller->loop, UV_RUN_DEFAULT);
    uv_loop_close(&controller->loop);
}

int fit_controlled(trainer_run *run, zygote *zygote)
{
    struct controller controller = {.run = run};
    controller.world = whole(&controller);
    int failed = uv_loop_init(&controller.loop);
    if (failed)
        return base_error(CADRE_ESYSTEM, "make the event loop: %s", uv_strerror(failed));
    struct sigaction was[SIGNAL_COUNT];
    for (int i = 0; i < SIGNAL_COUNT; i++)
        sigaction(SIGNALS[i], NULL, &was[i]);
    uv_signal_init(&controller.loop, &controller.on_int);
    uv_signal_init(&controller.loop, &controller.on_term);
    uv_signal_init(&controller.loop, &controller.on_usr1);
    uv_timer_init(&controller.loop, &controller.commit);
    controller.on_int.data = controller.on_term.data = controller.on_usr1.data = controller.commit.data = &controller;
    uv_signal_start(&controller.on_int, on_signal, SIGINT);
    uv_signal_start(&controller.on_term, on_signal, SIGTERM);
    uv_signal_start(&controller.on_usr1, on_signal, SIGUSR1);
    int status = make_launcher(&controller, zygote);
    if (status == CADRE_OK)
        status = start_group(&controller);
    if (status == CADRE_OK) {
        uv_run(&controller.loop, UV_RUN_DEFAULT);
        status = controller.status;
    } else {
        snprintf(controller.message, sizeof controller.message, "%s", cadre_error_message());
    }
    close_handles(&controller);
    for (int i = 0; i < SIGNAL_COUNT; i++) /* libuv leaves them at their defaults */
        sigaction(SIGNALS[i], &was[i], NULL);
    zygote_stop(zygote);
    int recorded = run_finish(run, status, controller.message);
    if (status < 0)
        return base_error(status, "%s", controller.message);
    return recorded;
}
