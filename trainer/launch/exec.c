/* Launcher exec: the program executed anew for every worker, which finds its way back to fit by its environment. */
#include "launch.h"

#include "base/error.h"
#include "base/mem.h"
#include "trainer/worker.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

struct exec_launcher {
    trainer_launcher base;
    char *name;
};

struct exec_process {
    uv_process_t process;
    trainer_group *group;
    int rank;
};

static void on_process_closed(uv_handle_t *handle) { free(handle->data); }

static void on_process_exit(uv_process_t *process, int64_t exit_status, int term_signal)
{
    struct exec_process *own = process->data;
    kill(-process->pid, SIGKILL); /* what it has started and left; it led a process group of its own */
    group_exited(own->group, own->rank, term_signal ? term_signal : (int)exit_status << 8);
    uv_close((uv_handle_t *)process, on_process_closed);
}

static int spawn(struct exec_launcher *launcher, trainer_group *group, int rank, char **argv, int control_fd, int log_fd)
{
    char name[160], call[48], rank_text[48], attempt[48];
    snprintf(name, sizeof name, WORKER_ENV_TRAINER "=%s", launcher->name);
    snprintf(rank_text, sizeof rank_text, WORKER_ENV_RANK "=%d", rank);
    snprintf(attempt, sizeof attempt, WORKER_ENV_ATTEMPT "=%d", group->attempt);
    snprintf(call, sizeof call, WORKER_ENV_CALL "=%d", worker_call());
    const char *extra[] = {name, call, WORKER_ENV_FD "=3", rank_text, attempt, NULL};
    char **environment = NULL;
    int status = launch_environment(extra, &environment);
    struct exec_process *own = status == CADRE_OK ? base_calloc(1, sizeof *own) : NULL;
    if (!own) {
        launch_free_argv(environment);
        return CADRE_ENOMEM;
    }
    uv_stdio_container_t stdio[4] = {
        {.flags = UV_IGNORE},
        {.flags = UV_INHERIT_FD, .data.fd = log_fd},
        {.flags = UV_INHERIT_FD, .data.fd = log_fd},
        {.flags = UV_INHERIT_FD, .data.fd = control_fd},
    };
    uv_process_options_t options = {
        .file = argv[0], .args = argv, .env = environment, .stdio = stdio, .stdio_count = 4, .exit_cb = on_process_exit, .flags = UV_PROCESS_DETACHED,
    };
    own->group = group;
    own->rank = rank;
    own->process.data = own;
    int failed = uv_spawn(group->loop, &own->process, &options);
    launch_free_argv(environment);
    if (failed) {
        uv_close((uv_handle_t *)&own->process, on_process_closed);
        return base_error(CADRE_ESYSTEM, "start %s: %s", argv[0], uv_strerror(failed));
    }
    group->workers[rank].pid = own->process.pid;
    group->workers[rank].started = true;
    return CADRE_OK;
}

static int start_worker(struct exec_launcher *launcher, trainer_group *group, int rank, char **argv)
{
    int pair[2], log_fd = -1;
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) != 0)
        return base_errno(errno, "make the channel of rank %d", rank);
    int status = group_open_log(group, rank, &log_fd);
    if (status == CADRE_OK)
        status = spawn(launcher, group, rank, argv, pair[1], log_fd);
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

static int exec_start(trainer_launcher *base, trainer_group *group)
{
    char **argv = NULL;
    int status = launch_own_argv(&argv);
    for (int rank = 0; status == CADRE_OK && rank < group->world; rank++)
        status = start_worker((struct exec_launcher *)base, group, rank, argv);
    launch_free_argv(argv);
    return status;
}

static void exec_signal(trainer_launcher *base, trainer_group *group, int signal_number)
{
    (void)base;
    for (int rank = 0; rank < group->world; rank++)
        if (group->workers[rank].started && !group->workers[rank].exited)
            kill(-group->workers[rank].pid, signal_number); /* each leads a process group of its own */
}

static void exec_release(trainer_launcher *base, trainer_group *group)
{
    (void)base;
    (void)group;
}

static void exec_close(trainer_launcher *base)
{
    struct exec_launcher *launcher = (struct exec_launcher *)base;
    free(launcher->name);
    free(launcher);
}

int launch_exec_new(uv_loop_t *loop, const char *trainer_name, trainer_launcher **out)
{
    (void)loop;
    struct exec_launcher *launcher = base_calloc(1, sizeof *launcher);
    char *name = base_strdup(trainer_name);
    if (!launcher || !name) {
        free(launcher);
        free(name);
        return CADRE_ENOMEM;
    }
    launcher->base = (trainer_launcher){.name = "exec", .start = exec_start, .signal = exec_signal, .release = exec_release, .close = exec_close};
    launcher->name = name;
    *out = &launcher->base;
    return CADRE_OK;
}
