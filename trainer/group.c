#include "group.h"

#include "base/clock.h"
#include "base/error.h"
#include "base/frame.h"
#include "base/io.h"
#include "base/log.h"
#include "base/mem.h"
#include "message.h"
#include "oom.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

enum { TICK_MS = 100, TERM_GRACE_S = 5, OUTPUT_LIMIT = 64 << 20 };

/* A worker that fails because a peer was lost says so before the peer's death may be known: so long its word is not taken for the reason. */
static const double VERDICT_S = 0.3, STACKS_S = 0.5, EXIT_TOLD_S = 5.0, EXIT_AFTER_DONE_S = 30.0;

int group_open_log(const trainer_group *group, int rank, int *fd)
{
    char *path = base_sprintf("%s/rank%d.log", group->directory, rank);
    int status = path ? base_open(path, O_WRONLY | O_CREAT | O_APPEND, 0600, fd) : CADRE_ENOMEM;
    free(path);
    if (status == CADRE_OK && group->attempt > 0)
        (void)dprintf(*fd, GROUP_LOG_MARK "\n", group->attempt); /* what a full disk keeps out of the log is no reason not to train */
    return status;
}

/* ---- ending ------------------------------------------------------------------------------------------------------------------ */

static void set_outcome(trainer_group *group, int status, const char *cause, int rank, int exit_code, int signal_number,
                        const char *detail)
{
    group_outcome *outcome = &group->outcome;
    *outcome = (group_outcome){.status = status, .cause = cause, .rank = rank, .exit_code = exit_code, .signal = signal_number};
    snprintf(outcome->detail, sizeof outcome->detail, "%s", detail);
    if (rank >= 0)
        snprintf(outcome->host, sizeof outcome->host, "%s", group->workers[rank].host);
}

static void begin_end(trainer_group *group)
{
    if (group->ending)
        return;
    group->ending = true;
    group->launcher->signal(group->launcher, group, SIGKILL);
}

void group_kill(trainer_group *group, int status, const char *cause, int rank, const char *detail)
{
    if (!group->outcome.cause)
        set_outcome(group, status, cause, rank, 0, 0, detail);
    begin_end(group);
}

/* What there is to say to a signal: SIGKILL is what the kernel sends when memory runs out, and it counts that. */
static const char *reason_of(const trainer_group *group, int signal_number)
{
    return signal_number == SIGKILL && group->oom_kills >= 0 && trainer_oom_kills() > group->oom_kills ? ": out of memory (the kernel's OOM killer)" : "";
}

void group_launcher_killed(trainer_group *group, const char *program, int signal_number)
{
    char detail[160];
    snprintf(detail, sizeof detail, "%s was killed by signal %d (%s)%s", program, signal_number, strsignal(signal_number), reason_of(group, signal_number));
    if (!group->outcome.cause)
        set_outcome(group, CADRE_ETRAIN, "killed", -1, 0, signal_number, detail);
    begin_end(group);
}

static void send_stop(trainer_worker *worker);

void group_leave(trainer_group *group, double grace_s)
{
    if (group->leaving || group->ending)
        return;
    group->leaving = true;
    group->leave_deadline = base_now() + grace_s;
    for (int rank = 0; rank < group->world; rank++)
        if (group->workers[rank].greeted) /* the others are told when they call in */
            send_stop(&group->workers[rank]);
}

static void close_worker(trainer_worker *worker);

static void on_handle_closed(uv_handle_t *handle)
{
    trainer_group *group = handle->data;
    if (--group->open_handles > 0 || !group->ended)
        return;
    group->launcher->release(group->launcher, group);
    group->on_end(group, &group->outcome);
}

/* All processes are gone: close what is open; on_end follows when the loop has let go of it. */
static void finish(trainer_group *group)
{
    if (group->ended)
        return;
    group->ended = true;
    for (int rank = 0; rank < group->world; rank++)
        close_worker(&group->workers[rank]);
    uv_timer_stop(&group->timer);
    uv_close((uv_handle_t *)&group->timer, on_handle_closed);
}

/* ---- judging ------------------------------------------------------------------------------------------------------------------ */

bool group_second_hand(int status)
{
    return status == CADRE_EPEER || status == CADRE_ECANCELED || status == CADRE_ETIMEDOUT || status == CADRE_ESTATE;
}

/* Of two that ended without a last word, did `a` do so before `b`? mpirun tells all exits at once; the channels tell who was first. */
static bool lost_before(const trainer_worker *a, const trainer_worker *b)
{
    return a->lost_at > 0 && (b->lost_at == 0 || a->lost_at < b->lost_at);
}

/* A worker that fails before any has made a step, for what is wrong with the program or its input, would fail the same way again. */
static bool would_fail_again(const trainer_group *group, int status)
{
    for (int rank = 0; rank < group->world; rank++)
        if (group->workers[rank].last_seen > 0)
            return false;
    return status == CADRE_EINVAL || status == CADRE_ENOENT || status == CADRE_ENOTSUP || status == CADRE_EMISMATCH || status == CADRE_EACCES ||
           status == CADRE_EVERSION || status == CADRE_ECORRUPT || status == CADRE_EEXIST;
}

/* The first worker that failed for a reason of its own, else the first that died, else any failure. */
static void judge(trainer_group *group)
{
    const trainer_worker *found = NULL;
    for (int pass = 0; pass < 3 && !found; pass++)
        for (int rank = 0; rank < group->world; rank++) {
            const trainer_worker *worker = &group->workers[rank];
            bool died = (worker->exited || worker->lost_at > 0) && !worker->done;
            bool failed = worker->done && worker->done_status < 0;
            bool fits = pass == 0 ? failed && !worker->second_hand : pass == 1 ? died : failed;
            if (fits && (!found || (pass == 1 && lost_before(worker, found))))
                found = worker;
        }
    char detail[700];
    if (!found)
        return;
    if (group->leaving && group->leave_stage > 0) {
        set_outcome(group, CADRE_STOP, "stopped", -1, 0, SIGTERM, "did not leave in time; ended");
    } else if (found->done) {
        int number = found->done_signal;
        snprintf(detail, sizeof detail, "rank %d: %s%s", found->rank, found->done_message, reason_of(group, number));
        set_outcome(group, would_fail_again(group, found->done_status) ? found->done_status : CADRE_ETRAIN, number ? "killed" : "failed", found->rank,
                    number ? 0 : found->done_exit ? found->done_exit : 1, number, detail);
    } else if (!found->exited) {
        snprintf(detail, sizeof detail, "rank %d left before it was done", found->rank);
        set_outcome(group, CADRE_ETRAIN, "failed", found->rank, 0, 0, detail);
    } else if (WIFSIGNALED(found->wait_status)) {
        int number = WTERMSIG(found->wait_status);
        snprintf(detail, sizeof detail, "rank %d was killed by signal %d (%s)%s", found->rank, number, strsignal(number), reason_of(group, number));
        set_outcome(group, CADRE_ETRAIN, "killed", found->rank, 0, number, detail);
    } else {
        int code = WEXITSTATUS(found->wait_status);
        snprintf(detail, sizeof detail, "rank %d exited with code %d before it was done", found->rank, code);
        set_outcome(group, CADRE_ETRAIN, "failed", found->rank, code, 0, detail);
    }
    begin_end(group);
}

static void look_at(trainer_group *group)
{
    int done = 0, exited = 0, stopped = 0;
    bool bad = false, own_reason = false;
    for (int rank = 0; rank < group->world; rank++) {
        const trainer_worker *worker = &group->workers[rank];
        bool died = worker->exited && !worker->done;
        bool failed = worker->done && worker->done_status < 0;
        done += worker->done;
        exited += worker->exited || !worker->started;
        stopped += worker->done && worker->done_status == CADRE_STOP;
        bad |= died || failed;
        own_reason |= failed && !worker->second_hand;
    }
    if (bad && !group->ending && group->stacks_until == 0) {
        if (own_reason || exited == group->world)
            judge(group);
        else if (group->verdict_at == 0)
            group->verdict_at = base_now() + VERDICT_S;
    }
    if (!bad && done == group->world && !group->ending && group->outcome.cause == NULL) {
        bool left = stopped > 0;
        set_outcome(group, left ? CADRE_STOP : CADRE_OK, left ? "stopped" : "finished", -1, 0, 0, "");
        group->leaving = true; /* they have said all; from here they only have to go */
        group->leave_stage = 1;
        group->leave_deadline = base_now() + EXIT_AFTER_DONE_S;
    }
    if (exited == group->world)
        finish(group);
}

/* Is the process stopped (SIGSTOP, a debugger)? Then it is the one to blame: those who wait for it make no progress either. */
static bool is_stopped(const trainer_worker *worker)
{
    char path[48], text[512] = "";
    snprintf(path, sizeof path, "/proc/%d/stat", (int)worker->pid);
    FILE *file = worker->pid > 0 ? fopen(path, "re") : NULL;
    if (!file)
        return false;
    const char *name_end = fgets(text, sizeof text, file) ? strrchr(text, ')') : NULL;
    fclose(file);
    return name_end && (strncmp(name_end, ") T", 3) == 0 || strncmp(name_end, ") t", 3) == 0);
}

/* Every worker writes its stack to its log (worker.c takes SIGUSR2); a stopped one has to go on for it. */
static void ask_for_stacks(trainer_group *group, double now)
{
    group->stacks_until = now + STACKS_S;
    group->launcher->signal(group->launcher, group, SIGUSR2);
    for (int rank = 0; rank < group->world; rank++)
        if (!group->workers[rank].done && is_stopped(&group->workers[rank]))
            kill(group->workers[rank].pid, SIGCONT);
}

static void check_hang(trainer_group *group, double now)
{
    double timeout = group->trainer->failure.hang_timeout_s;
    if (timeout < 0 || group->ending || group->stacks_until > 0)
        return;
    if (timeout == 0)
        timeout = 600;
    int rank = -1;
    for (int i = 0; i < group->world; i++) {
        const trainer_worker *worker = &group->workers[i];
        if (!worker->done && worker->last_seen > 0 && now - worker->last_seen > timeout &&
            (rank < 0 || worker->last_seen < group->workers[rank].last_seen))
            rank = i;
    }
    if (rank < 0)
        return;
    for (int i = 0; i < group->world; i++)
        if (!group->workers[i].done && is_stopped(&group->workers[i])) {
            rank = i;
            break;
        }
    char detail[160];
    double since = group->workers[rank].last_seen;
    snprintf(detail, sizeof detail, "rank %d made no progress for %.0f s%s", rank, since > 0 ? now - since : timeout,
             is_stopped(&group->workers[rank]) ? " (its process is stopped)" : "");
    set_outcome(group, CADRE_ETRAIN, "hung", rank, 0, 0, detail);
    ask_for_stacks(group, now);
}

/* Is a worker gone without its exit having been told, and so how it ended? mpirun takes its time. */
static bool exit_is_due(const trainer_group *group)
{
    for (int rank = 0; rank < group->world; rank++)
        if (group->workers[rank].lost_at > 0 && !group->workers[rank].exited && !group->workers[rank].done)
            return true;
    return false;
}

static void on_tick(uv_timer_t *timer)
{
    trainer_group *group = timer->data;
    double now = base_now();
    if (group->verdict_at > 0 && !group->ending && now >= group->verdict_at + (exit_is_due(group) ? EXIT_TOLD_S : 0))
        judge(group);
    check_hang(group, now);
    if (group->stacks_until > 0 && now >= group->stacks_until)
        begin_end(group);
    if (!group->leaving || group->ending || now < group->leave_deadline)
        return;
    if (group->leave_stage++ == 0) {
        group->leave_deadline = now + TERM_GRACE_S;
        group->launcher->signal(group->launcher, group, SIGTERM);
    } else {
        group->launcher->signal(group->launcher, group, SIGKILL);
        if (!group->outcome.cause)
            set_outcome(group, CADRE_STOP, "stopped", -1, 0, SIGKILL, "did not leave in time; ended");
        group->ending = true;
    }
}

/* ---- talking -------------------------------------------------------------------------------------------------------------------- */

static void on_ready(uv_poll_t *poll, int status, int events);

static void close_worker(trainer_worker *worker)
{
    if (worker->polling) {
        worker->polling = false;
        uv_poll_stop(&worker->poll);
        uv_close((uv_handle_t *)&worker->poll, on_handle_closed);
    }
    if (worker->fd >= 0)
        close(worker->fd);
    worker->fd = -1;
}

static void flush_output(trainer_worker *worker)
{
    while (worker->output.length) {
        ssize_t sent = send(worker->fd, worker->output.data, worker->output.length, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (sent < 0 && errno == EINTR)
            continue;
        if (sent < 0)
            break; /* full: on_ready goes on; broken: the exit will be told */
        base_buffer_consume(&worker->output, (size_t)sent);
    }
    uv_poll_start(&worker->poll, UV_READABLE | (worker->output.length ? UV_WRITABLE : 0), on_ready);
}

/* A worker that is gone is no failure here: its exit will be told. */
static int send_to(trainer_worker *worker, const json_t *message)
{
    if (worker->fd < 0)
        return CADRE_OK;
    char *text = message ? message_text(message) : NULL;
    int status = text ? CADRE_OK : CADRE_ENOMEM;
    if (status == CADRE_OK && worker->output.length > OUTPUT_LIMIT)
        status = base_error(CADRE_EPROTO, "rank %d does not read its messages", worker->rank);
    if (status == CADRE_OK)
        status = base_frame_append(&worker->output, text, strlen(text));
    free(text);
    if (status == CADRE_OK)
        flush_output(worker);
    return status;
}

static void send_stop(trainer_worker *worker)
{
    json_t *message = message_new("stop", worker->group->attempt);
    if (!message || send_to(worker, message) != CADRE_OK) /* the deadline goes on, and it is made to leave */
        base_log(CADRE_LOG_WARN, "trainer", "rank %d cannot be asked to leave: %s", worker->rank, cadre_error_message());
    json_decref(message);
}

/* One rank's part of the out-of-band all-gather; the last one makes the whole, which goes to all. */
static int take_gather(trainer_group *group, int rank, const json_t *message)
{
    int64_t sequence = message_int(message, "seq", 0);
    json_t *data = json_object_get(message, "data");
    if (group->gathered == 0) {
        group->gather_sequence = sequence;
        json_decref(group->gathering);
        group->gathering = json_array();
        for (int i = 0; i < group->world; i++)
            json_array_append_new(group->gathering, json_null());
    }
    if (!json_is_array(group->gathering))
        return base_error(CADRE_ENOMEM, "out of memory for a message");
    if (sequence != group->gather_sequence || !json_is_string(data) || !json_is_null(json_array_get(group->gathering, (size_t)rank)))
        return base_error(CADRE_EPROTO, "rank %d sets up the group out of turn", rank);
    json_array_set(group->gathering, (size_t)rank, data);
    if (++group->gathered < group->world)
        return CADRE_OK;
    group->gathered = 0;
    json_t *answer = message_new("gathered", group->attempt);
    if (!answer)
        return CADRE_ENOMEM;
    message_set_int(answer, "seq", sequence);
    json_object_set(answer, "data", group->gathering);
    int status = CADRE_OK;
    for (int i = 0; i < group->world && status == CADRE_OK; i++)
        status = send_to(&group->workers[i], answer);
    json_decref(answer);
    return status == CADRE_OK ? status : base_wrap(status, "set up the group");
}

static int take_hello(trainer_worker *worker, const json_t *message)
{
    trainer_group *group = worker->group;
    if (worker->greeted)
        return base_error(CADRE_EPROTO, "rank %d says hello twice", worker->rank);
    worker->greeted = true;
    snprintf(worker->host, sizeof worker->host, "%s", message_string(message, "host", ""));
    if (worker->pid == 0)
        worker->pid = (pid_t)message_int(message, "pid", 0);
    json_t *start = group->on_hello(group, worker->rank);
    int status = start ? send_to(worker, start) : CADRE_ENOMEM;
    json_decref(start);
    if (status == CADRE_OK && group->leaving)
        send_stop(worker);
    return status;
}

static int take_message(trainer_worker *worker, const json_t *message)
{
    trainer_group *group = worker->group;
    if (message_attempt(message) != group->attempt)
        return CADRE_OK; /* of an attempt that is over */
    if (worker->last_seen > 0 || message_is(message, "beat") || message_is(message, "report"))
        worker->last_seen = base_now();
    if (message_is(message, "gather"))
        return take_gather(group, worker->rank, message);
    if (message_is(message, "hello"))
        return take_hello(worker, message);
    if (worker->done)
        return base_error(CADRE_EPROTO, "rank %d sends \"%s\" after its last word", worker->rank, message_kind(message));
    if (message_is(message, "done")) {
        worker->done = true;
        worker->done_status = (int)message_int(message, "status", CADRE_EPROTO);
        worker->done_exit = (int)message_int(message, "exit", 0);
        worker->done_signal = (int)message_int(message, "signal", 0);
        worker->second_hand = group_second_hand(worker->done_status) || message_int(message, "second", 0) != 0;
        snprintf(worker->done_message, sizeof worker->done_message, "%s", message_string(message, "message", ""));
        look_at(group);
        return CADRE_OK;
    }
    if (message_is(message, "alive"))
        return CADRE_OK;
    if (worker->rank != 0 && !message_is(message, "beat"))
        return base_error(CADRE_EPROTO, "rank %d sends \"%s\", which only rank 0 may", worker->rank, message_kind(message));
    json_t *reply = NULL;
    int status = group->on_message(group, message, &reply);
    if (reply) {
        int sent = send_to(worker, reply);
        status = status == CADRE_OK ? sent : status;
    }
    json_decref(reply);
    return status;
}

static int take_input(trainer_worker *worker)
{
    for (;;) {
        const unsigned char *payload;
        size_t nbytes;
        bool whole;
        int status = base_frame_next(&worker->input, &payload, &nbytes, &whole);
        if (status != CADRE_OK || !whole)
            return status;
        json_t *message = NULL;
        status = message_parse(payload, nbytes, &message);
        base_buffer_consume(&worker->input, nbytes + 4);
        if (status == CADRE_OK)
            status = take_message(worker, message);
        json_decref(message);
        if (status != CADRE_OK || worker->fd < 0)
            return status;
    }
}

/* A worker that talks nonsense has failed like one that crashed; what the record refuses keeps its status, and is no rank's doing. */
static void fail_for(trainer_worker *worker, int status)
{
    char detail[512];
    bool own = status == CADRE_EPROTO || status == CADRE_ETRAIN;
    snprintf(detail, sizeof detail, "%s%s", status == CADRE_EPROTO ? "a worker was not understood: " : "", cadre_error_message());
    group_kill(worker->group, own ? CADRE_ETRAIN : status, "failed", own ? worker->rank : -1, detail);
}

/* Take what has come; false when nothing more is there for now or ever. */
static bool read_some(trainer_worker *worker)
{
    if (worker->fd < 0)
        return false;
    int status = base_buffer_reserve(&worker->input, 65536);
    ssize_t got = 0;
    if (status == CADRE_OK) {
        do
            got = recv(worker->fd, worker->input.data + worker->input.length, worker->input.capacity - worker->input.length, MSG_DONTWAIT);
        while (got < 0 && errno == EINTR);
        if (got < 0 && errno == EAGAIN)
            return false;
        if (got <= 0) { /* closed: its exit, which will be told, has the reason */
            worker->lost_at = base_now();
            close_worker(worker);
            return false;
        }
        worker->input.length += (size_t)got;
        status = take_input(worker);
    }
    if (status != CADRE_OK) {
        fail_for(worker, status);
        close_worker(worker); /* nothing that it says from here on is worth reading */
    }
    return status == CADRE_OK;
}

static void on_ready(uv_poll_t *poll, int poll_status, int events)
{
    trainer_worker *worker = (trainer_worker *)((char *)poll - offsetof(trainer_worker, poll));
    if (poll_status == 0 && (events & UV_WRITABLE))
        flush_output(worker);
    if (poll_status < 0 || (events & UV_READABLE))
        read_some(worker);
}

void group_exited(trainer_group *group, int rank, int wait_status)
{
    trainer_worker *worker = &group->workers[rank];
    if (worker->exited)
        return;
    while (read_some(worker)) /* its last word may still be on the way */
        ;
    worker->exited = true;
    worker->wait_status = wait_status;
    look_at(group);
}

int group_connect(trainer_group *group, int rank, int fd)
{
    trainer_worker *worker = &group->workers[rank];
    if (worker->fd >= 0) {
        close(fd);
        return base_error(CADRE_EPROTO, "rank %d called in twice", rank);
    }
    int failed = uv_poll_init(group->loop, &worker->poll, fd);
    if (failed) {
        close(fd);
        return base_error(CADRE_ESYSTEM, "watch the channel of rank %d: %s", rank, uv_strerror(failed));
    }
    worker->fd = fd;
    worker->polling = true;
    worker->poll.data = group;
    group->open_handles++;
    uv_poll_start(&worker->poll, UV_READABLE, on_ready);
    return CADRE_OK;
}

int group_connect_with(trainer_group *group, int rank, int fd, const base_buffer *first)
{
    int status = group_connect(group, rank, fd);
    trainer_worker *worker = &group->workers[rank];
    if (status == CADRE_OK)
        status = base_buffer_append(&worker->input, first->data, first->length);
    if (status == CADRE_OK)
        status = take_input(worker);
    if (status != CADRE_OK)
        fail_for(worker, status);
    return status;
}

/* ---- life ------------------------------------------------------------------------------------------------------------------------ */

int group_start(trainer_group *group, uv_loop_t *loop, trainer_launcher *launcher)
{
    group->loop = loop;
    group->launcher = launcher;
    group->oom_kills = trainer_oom_kills();
    group->workers = base_calloc((size_t)group->world, sizeof *group->workers);
    if (!group->workers)
        return CADRE_ENOMEM;
    for (int rank = 0; rank < group->world; rank++) {
        group->workers[rank].group = group;
        group->workers[rank].rank = rank;
        group->workers[rank].fd = -1;
    }
    uv_timer_init(loop, &group->timer);
    group->timer.data = group;
    group->open_handles++;
    uv_timer_start(&group->timer, on_tick, TICK_MS, TICK_MS);
    int status = launcher->start(launcher, group);
    if (status != CADRE_OK) { /* those that were started are ended; on_end comes through the loop as for any group */
        char detail[512];
        snprintf(detail, sizeof detail, "%s", cadre_error_message());
        group_kill(group, status, "failed", -1, detail);
        look_at(group);
    }
    return CADRE_OK;
}

void group_free(trainer_group *group)
{
    for (int rank = 0; group->workers && rank < group->world; rank++) {
        base_buffer_free(&group->workers[rank].input);
        base_buffer_free(&group->workers[rank].output);
    }
    free(group->workers);
    free(group->directory);
    json_decref(group->gathering);
    group->workers = NULL;
    group->directory = NULL;
    group->gathering = NULL;
}
