/* Launcher inproc: one worker in the caller's own process, without a channel between them. */
#include "fit.h"

#include "base/error.h"
#include "message.h"
#include "session.h"
#include "worker.h"

#include <signal.h>
#include <stdio.h>
#include <unistd.h>

static int direct_send(trainer_link *link, const json_t *message)
{
    json_t *reply = NULL;
    trainer_run *run = link->user;
    int due_ms;
    int status = run_take(run, message, &reply);
    if (status == CADRE_OK)
        status = run_tick(run, &due_ms);
    if (reply) { /* its receiver says what is wrong */
        status = trainer_link_push(link, reply);
        json_decref(reply);
    }
    return status;
}

int fit_link_direct(trainer_link *link, trainer_run *run)
{
    int status = trainer_link_null(link);
    link->send = direct_send;
    link->user = run;
    return status;
}

/* Ctrl-C saves and stops here, too; once more ends the program as it would without us. */
static void note_interrupt(int number)
{
    (void)number;
    session_leave_signal = 1;
}

static int train_once(trainer_run *run)
{
    trainer_link link;
    int status = run_attempt_begin(run, 1, "inproc");
    if (status != CADRE_OK)
        return status;
    json_t *start = run_start_message(run, fit_threads(run->trainer, 1));
    status = start ? fit_link_direct(&link, run) : CADRE_ENOMEM;
    if (status == CADRE_OK) {
        cadre_oob oob = {.size = sizeof oob, .rank = 0, .world = 1};
        link.attempt = run->attempt;
        status = worker_train(run->trainer, start, &oob, &link);
        trainer_link_close(&link);
    }
    json_decref(start);
    return status;
}

int fit_inproc(trainer_run *run)
{
    int failures = 0, allowed = run->trainer->failure.max_failures, status, recorded;
    char message[600], host[64] = "";
    gethostname(host, sizeof host - 1);
    worker_signals kept;
    worker_borrow_signals(&kept, true);
    sigaction(SIGINT, &(struct sigaction){.sa_handler = note_interrupt, .sa_flags = (int)(SA_RESETHAND | SA_RESTART)}, NULL);
    bool again;
    do {
        status = train_once(run);
        snprintf(message, sizeof message, "%s", status < 0 ? cadre_error_message() : "");
        run_ending ending = {status < 0 ? "failed" : status == CADRE_STOP ? "stopped" : "finished", status < 0 ? 0 : -1, status < 0 ? host : "",
                             status < 0, 0, message};
        recorded = run_attempt_end(run, &ending);
        failures += status < 0;
        again = status < 0 && recorded == CADRE_OK && run->refused == CADRE_OK && !session_leave_signal && (allowed < 0 || failures <= allowed);
        if (again)
            progress_say(&run->progress, "attempt %d failed: %s; starting again", run->attempt - 1, message);
    } while (again);
    worker_give_back_signals(&kept);
    if (status >= 0 && recorded != CADRE_OK) {
        status = recorded;
        snprintf(message, sizeof message, "%s", cadre_error_message());
    }
    recorded = run_finish(run, status, message);
    if (status < 0)
        return base_error(run->refused != CADRE_OK ? run->refused : CADRE_ETRAIN, "%s", message);
    return recorded;
}
