/* Launcher fork: workers forked by the zygote. */
#include "launch.h"

#include "base/error.h"
#include "base/mem.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

struct fork_launcher {
    trainer_launcher base;
    zygote *zygote;
    uv_poll_t poll;
    trainer_group **groups; /* those that live */
    int count;
};

static trainer_group *find_group(const struct fork_launcher *launcher, int number)
{
    for (int i = 0; i < launcher->count; i++)
        if (launcher->groups[i]->number == number)
            return launcher->groups[i];
    return NULL;
}

/* The zygote is gone, and the workers with it: every group fails. */
static void lose_zygote(struct fork_launcher *launcher)
{
    uv_poll_stop(&launcher->poll);
    for (int i = launcher->count - 1; i >= 0; i--) {
        trainer_group *group = launcher->groups[i];
        group_kill(group, CADRE_ESYSTEM, "failed", -1, "the zygote, which forks the workers, is gone");
        for (int rank = 0; rank < group->world; rank++)
            if (!group->workers[rank].exited)
                group_exited(group, rank, SIGKILL);
    }
}

static void on_zygote(uv_poll_t *poll, int status, int events)
{
    struct fork_launcher *launcher = poll->data;
    (void)events;
    (void)status;
    zygote_event event;
    bool got = true;
    while (got) {
        if (zygote_next(launcher->zygote, &event, &got) != CADRE_OK) {
            lose_zygote(launcher);
            return;
        }
        trainer_group *group = got ? find_group(launcher, event.group) : NULL;
        if (!group || event.rank < 0 || event.rank >= group->world)
            continue;
        if (event.kind == ZYGOTE_EXITED) {
            group_exited(group, event.rank, event.wait_status);
        } else {
            base_errno(event.pid, "fork worker %d", event.rank);
            char detail[256];
            snprintf(detail, sizeof detail, "%s", cadre_error_message());
            group_kill(group, CADRE_ESYSTEM, "failed", event.rank, detail);
            group_exited(group, event.rank, 0);
        }
    }
}

static int start_worker(struct fork_launcher *launcher, trainer_group *group, int rank)
{
    int pair[2], log_fd = -1;
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) != 0)
        return base_errno(errno, "make the channel of rank %d", rank);
    int status = group_open_log(group, rank, &log_fd);
    if (status == CADRE_OK)
        status = zygote_spawn(launcher->zygote, group->number, rank, group->attempt, pair[1], log_fd);
    if (status == CADRE_OK)
        group->workers[rank].started = true;
    if (log_fd >= 0)
        close(log_fd);
    close(pair[1]);
    if (status != CADRE_OK) {
        close(pair[0]);
        return status;
    }
    fcntl(pair[0], F_SETFL, O_NONBLOCK);
    return group_connect(group, rank, pair[0]);
}

static int fork_start(trainer_launcher *base, trainer_group *group)
{
    struct fork_launcher *launcher = (struct fork_launcher *)base;
    trainer_group **groups = base_realloc(launcher->groups, (size_t)(launcher->count + 1) * sizeof *groups);
    if (!groups)
        return CADRE_ENOMEM;
    launcher->groups = groups;
    groups[launcher->count++] = group;
    int status = CADRE_OK;
    for (int rank = 0; status == CADRE_OK && rank < group->world; rank++)
        status = start_worker(launcher, group, rank);
    return status;
}

static void fork_signal(trainer_launcher *base, trainer_group *group, int signal_number)
{
    struct fork_launcher *launcher = (struct fork_launcher *)base;
    zygote_signal(launcher->zygote, group->number, signal_number);
}

static void fork_release(trainer_launcher *base, trainer_group *group)
{
    struct fork_launcher *launcher = (struct fork_launcher *)base;
    for (int i = 0; i < launcher->count; i++)
        if (launcher->groups[i] == group)
            launcher->groups[i] = launcher->groups[--launcher->count];
}

static void on_closed(uv_handle_t *handle)
{
    struct fork_launcher *launcher = handle->data;
    free(launcher->groups);
    free(launcher);
}

static void fork_close(trainer_launcher *base)
{
    struct fork_launcher *launcher = (struct fork_launcher *)base;
    uv_close((uv_handle_t *)&launcher->poll, on_closed);
}

int launch_fork_new(uv_loop_t *loop, zygote *zygote, trainer_launcher **out)
{
    struct fork_launcher *launcher = base_calloc(1, sizeof *launcher);
    if (!launcher)
        return CADRE_ENOMEM;
    launcher->base = (trainer_launcher){.name = "fork", .start = fork_start, .signal = fork_signal, .release = fork_release, .close = fork_close};
    launcher->zygote = zygote;
    uv_poll_init(loop, &launcher->poll, zygote->fd);
    launcher->poll.data = launcher;
    uv_poll_start(&launcher->poll, UV_READABLE, on_zygote);
    *out = &launcher->base;
    return CADRE_OK;
}
