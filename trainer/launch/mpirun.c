/*
 * Launcher mpirun: one mpirun a group executes the program anew; the workers call in at the group's door (door.h). Its private directory is also
 * the group's TMPDIR, so that what killed ranks leave behind is swept with it.
 */
#include "door.h"
#include "launch.h"

#include "base/error.h"
#include "base/io.h"
#include "base/mem.h"
#include "trainer/worker.h"

#include <limits.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct mpirun_launcher {
    trainer_launcher base;
    char *name;
};

struct mpirun_group {
    trainer_group *group;
    uv_process_t process;
    door *door;
    int log_fd;
    bool running;
    int handles; /* open libuv handles; freed with the last */
    bool released;
};

/* One group at a time has an mpirun; trials at once would each have a launcher of their own. */
static struct mpirun_group *current(const trainer_group *group) { return group->launch_data; }

static void on_handle_closed(uv_handle_t *handle)
{
    struct mpirun_group *own = handle->data;
    if (--own->handles == 0 && own->released)
        free(own);
}

/* mpirun is gone, and with it every rank: those that have said their last word went well, for the others its status stands. When none has ever
 * called in, mpirun itself has not come so far, and its own words, in the log, say why. */
static void on_process_exit(uv_process_t *process, int64_t exit_status, int term_signal)
{
    struct mpirun_group *own = process->data;
    trainer_group *group = own->group;
    int wait_status = term_signal ? term_signal : exit_status > 128 ? (int)exit_status - 128 : (int)exit_status << 8;
    own->running = false;
    bool any = false, all_done = true;
    for (int rank = 0; rank < group->world; rank++)
        any |= group->workers[rank].greeted, all_done &= group->workers[rank].done;
    if (!any && wait_status && !term_signal) {
        char detail[512];
        snprintf(detail, sizeof detail, "mpirun ended with status %d before a rank called in; its words are in %s/rank0.log", (int)exit_status, group->directory);
        group_kill(group, CADRE_ESYSTEM, "failed", -1, detail);
    } else if (term_signal && !all_done) {
        group_launcher_killed(group, "mpirun", term_signal);
    }
    for (int rank = 0; rank < group->world; rank++)
        group_exited(group, rank, wait_status);
    uv_close((uv_handle_t *)process, on_handle_closed);
}

static int build_argv(const trainer_group *group, char ***out)
{
    char **program = NULL;
    int status = launch_own_argv(&program);
    if (status != CADRE_OK)
        return status;
    size_t count = 0;
    while (program[count])
        count++;
    char number[16];
    snprintf(number, sizeof number, "%d", group->world);
    /* setpriv (util-linux) ties mpirun's life to the controller's, which uv_spawn cannot. */
    const char *const head[] = {"setpriv", "--pdeathsig", "TERM", "mpirun", "--bind-to", "none", "--oversubscribe", "--tag-output", "-np", number,
                                "--allow-run-as-root"}; /* the last for root alone, who runs the program as root anyway */
    size_t head_count = sizeof head / sizeof *head - (geteuid() != 0);
    char **argv = base_calloc(head_count + count + 1, sizeof *argv);
    bool complete = argv != NULL;
    for (size_t i = 0; complete && i < head_count + count; i++)
        complete = (argv[i] = base_strdup(i < head_count ? head[i] : program[i - head_count])) != NULL;
    launch_free_argv(program);
    if (!complete) {
        launch_free_argv(argv);
        return CADRE_ENOMEM;
    }
    *out = argv;
    return CADRE_OK;
}

static bool is_installed(const char *program)
{
    const char *list = getenv("PATH");
    char path[PATH_MAX];
    for (; list && *list; list += strcspn(list, ":"), list += *list == ':') {
        snprintf(path, sizeof path, "%.*s/%s", (int)strcspn(list, ":"), list, program);
        if (access(path, X_OK) == 0)
            return true;
    }
    return false;
}

static int run_mpirun(struct mpirun_launcher *launcher, struct mpirun_group *own)
{
    trainer_group *group = own->group;
    char name[160], call[48], path[160], attempt[48], temporary[160], key[80];
    const char *directory = door_directory(own->door);
    snprintf(name, sizeof name, WORKER_ENV_TRAINER "=%s", launcher->name);
    snprintf(path, sizeof path, WORKER_ENV_SOCKET "=%s/controller", directory);
    snprintf(attempt, sizeof attempt, WORKER_ENV_ATTEMPT "=%d", group->attempt);
    snprintf(temporary, sizeof temporary, "TMPDIR=%s", directory);
    snprintf(key, sizeof key, WORKER_ENV_KEY "=%s", door_key(own->door));
    char *logs = base_sprintf(WORKER_ENV_LOGS "=%s", group->directory);
    if (!logs)
        return CADRE_ENOMEM;
    snprintf(call, sizeof call, WORKER_ENV_CALL "=%d", worker_call());
    const char *extra[] = {name, call, path, attempt, temporary, key, logs, NULL};
    char **environment = NULL, **argv = NULL;
    int status = launch_environment(extra, &environment);
    free(logs);
    if (status == CADRE_OK)
        status = build_argv(group, &argv);
    if (status == CADRE_OK)
        status = group_open_log(group, 0, &own->log_fd);
    if (status == CADRE_OK) {
        uv_stdio_container_t stdio[3] = {
            {.flags = UV_IGNORE}, {.flags = UV_INHERIT_FD, .data.fd = own->log_fd}, {.flags = UV_INHERIT_FD, .data.fd = own->log_fd}};
        uv_process_options_t options = {.file = argv[0], .args = argv, .env = environment, .stdio = stdio, .stdio_count = 3, .exit_cb = on_process_exit, .flags = UV_PROCESS_DETACHED};
        own->process.data = own;
        int failed = uv_spawn(group->loop, &own->process, &options);
        own->handles++;
        own->running = failed == 0;
        if (failed) {
            uv_close((uv_handle_t *)&own->process, on_handle_closed);
            status = base_error(CADRE_ESYSTEM, "start mpirun: %s", uv_strerror(failed));
        }
    }
    launch_free_argv(environment);
    launch_free_argv(argv);
    return status;
}

static int mpirun_start(trainer_launcher *base, trainer_group *group)
{
    struct mpirun_group *own = base_calloc(1, sizeof *own);
    if (!own)
        return CADRE_ENOMEM;
    own->group = group;
    own->log_fd = -1;
    group->launch_data = own;
    static const char *const needed[][2] = {{"mpirun", "openmpi-bin"}, {"setpriv", "util-linux"}};
    int status = CADRE_OK;
    for (int i = 0; i < 2 && status == CADRE_OK; i++)
        if (!is_installed(needed[i][0]))
            status = base_error(CADRE_ENOTSUP, "the mpirun launcher needs %s: apt-get install %s, or use the fork launcher", needed[i][0], needed[i][1]);
    if (status == CADRE_OK)
        status = door_open(group, &own->door);
    if (status == CADRE_OK)
        status = run_mpirun((struct mpirun_launcher *)base, own);
    for (int rank = 0; status == CADRE_OK && rank < group->world; rank++)
        group->workers[rank].started = true;
    return status;
}

static void mpirun_signal(trainer_launcher *base, trainer_group *group, int signal_number)
{
    struct mpirun_group *own = current(group);
    (void)base;
    if (!own)
        return;
    if (signal_number != SIGKILL) {
        if (own->running)
            kill(own->process.pid, signal_number); /* SIGUSR1 is passed on to every rank */
        return;
    }
    for (int rank = 0; rank < group->world; rank++) /* the ranks first: a killed mpirun cannot end them */
        if (group->workers[rank].pid > 0 && group->workers[rank].fd >= 0) /* else it is gone, and its number may be another's */
            kill(group->workers[rank].pid, SIGKILL);
    if (own->running)
        kill(-own->process.pid, SIGKILL);
}

static void mpirun_release(trainer_launcher *base, trainer_group *group)
{
    struct mpirun_group *own = current(group);
    (void)base;
    if (!own)
        return;
    door_close(own->door);
    base_close(own->log_fd);
    group->launch_data = NULL;
    own->released = true;
    if (own->handles == 0)
        free(own);
}

static void mpirun_close(trainer_launcher *base)
{
    struct mpirun_launcher *launcher = (struct mpirun_launcher *)base;
    free(launcher->name);
    free(launcher);
}

int launch_mpirun_new(uv_loop_t *loop, const char *trainer_name, trainer_launcher **out)
{
    (void)loop;
    struct mpirun_launcher *launcher = base_calloc(1, sizeof *launcher);
    char *name = base_strdup(trainer_name);
    if (!launcher || !name) {
        free(launcher);
        free(name);
        return CADRE_ENOMEM;
    }
    launcher->base = (trainer_launcher){.name = "mpirun", .start = mpirun_start, .signal = mpirun_signal, .release = mpirun_release, .close = mpirun_close};
    launcher->name = name;
    *out = &launcher->base;
    return CADRE_OK;
}
