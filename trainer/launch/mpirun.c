/*
 * Launcher mpirun: one mpirun a group executes the program anew; the workers call in on a Unix socket in a private directory, where their user
 * id is checked. The directory is also the group's TMPDIR, so that what killed ranks leave behind is swept with it.
 */
#include "launch.h"

#include "base/error.h"
#include "base/frame.h"
#include "base/io.h"
#include "base/log.h"
#include "base/mem.h"
#include "trainer/message.h"
#include "trainer/worker.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

struct mpirun_launcher {
    trainer_launcher base;
    char *name;
};

/* A connection that has not said hello yet. */
struct caller {
    uv_poll_t poll;
    struct mpirun_group *own;
    int fd;
    base_buffer input;
    struct caller *next;
};

struct mpirun_group {
    trainer_group *group;
    uv_process_t process;
    uv_poll_t listener;
    int fd, log_fd;
    char directory[96];
    struct caller *callers;
    bool running, listening;
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

static void close_caller(struct caller *caller);

static void on_caller_closed(uv_handle_t *handle)
{
    struct caller *caller = (struct caller *)((char *)handle - offsetof(struct caller, poll));
    struct mpirun_group *own = caller->own;
    base_buffer_free(&caller->input);
    free(caller);
    if (--own->handles == 0 && own->released)
        free(own);
}

static void close_caller(struct caller *caller)
{
    for (struct caller **at = &caller->own->callers; *at; at = &(*at)->next)
        if (*at == caller) {
            *at = caller->next;
            break;
        }
    uv_poll_stop(&caller->poll);
    uv_close((uv_handle_t *)&caller->poll, on_caller_closed);
}

/* Its first frame must be a hello of this attempt; then the channel becomes that worker's, hello included. */
static void on_caller(uv_poll_t *poll, int status, int events)
{
    struct caller *caller = (struct caller *)((char *)poll - offsetof(struct caller, poll));
    trainer_group *group = caller->own->group;
    (void)status;
    (void)events;
    int received = base_frame_receive(caller->fd, &caller->input, 0);
    if (received == CADRE_ETIMEDOUT)
        return;
    const unsigned char *payload;
    size_t nbytes;
    bool whole = false;
    json_t *message = NULL;
    if (received == CADRE_OK)
        received = base_frame_next(&caller->input, &payload, &nbytes, &whole);
    if (received == CADRE_OK)
        received = message_parse(payload, nbytes, &message);
    int64_t rank = received == CADRE_OK ? message_int(message, "rank", -1) : -1;
    bool fine = received == CADRE_OK && message_is(message, "hello") && message_attempt(message) == group->attempt && rank >= 0 &&
                rank < group->world && group->workers[rank].fd < 0 && !group->ended;
    json_decref(message);
    if (!fine)
        base_log(CADRE_LOG_WARN, "trainer", "a connection that is no worker of this group was refused");
    int fd = caller->fd;
    base_buffer first = caller->input;
    caller->input = (base_buffer){0};
    close_caller(caller);
    if (fine)
        group_connect_with(group, (int)rank, fd, &first);
    else
        close(fd);
    base_buffer_free(&first);
}

static void on_connection(uv_poll_t *poll, int status, int events)
{
    struct mpirun_group *own = poll->data;
    (void)status;
    (void)events;
    int fd = accept4(own->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (fd < 0)
        return;
    struct ucred peer;
    socklen_t size = sizeof peer;
    struct caller *caller = NULL;
    if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) != 0 || peer.uid != getuid())
        base_log(CADRE_LOG_WARN, "trainer", "a connection of another user was refused");
    else
        caller = base_calloc(1, sizeof *caller);
    if (!caller || uv_poll_init(own->group->loop, &caller->poll, fd) != 0) {
        free(caller);
        close(fd);
        return;
    }
    caller->own = own;
    caller->fd = fd;
    caller->next = own->callers;
    own->callers = caller;
    own->handles++;
    caller->poll.data = own;
    uv_poll_start(&caller->poll, UV_READABLE, on_caller);
}

/* mpirun is gone, and with it every rank: those that have said their last word went well, for the others its status stands. When none has ever
 * called in, mpirun itself has not come so far, and its own words, in the log, say why. */
static void on_process_exit(uv_process_t *process, int64_t exit_status, int term_signal)
{
    struct mpirun_group *own = process->data;
    trainer_group *group = own->group;
    int wait_status = term_signal ? term_signal : exit_status > 128 ? (int)exit_status - 128 : (int)exit_status << 8;
    own->running = false;
    bool any = false;
    for (int rank = 0; rank < group->world; rank++)
        any |= group->workers[rank].greeted;
    if (!any && term_signal) { /* not its options: it may well begin the next time */
        char detail[128];
        snprintf(detail, sizeof detail, "mpirun was killed by signal %d (%s) before a rank called in", term_signal, strsignal(term_signal));
        group_kill(group, CADRE_ETRAIN, "killed", -1, detail);
    } else if (!any && wait_status) {
        char detail[512];
        snprintf(detail, sizeof detail, "mpirun ended with status %d before a rank called in; its words are in %s/rank0.log", (int)exit_status, group->directory);
        group_kill(group, CADRE_ESYSTEM, "failed", -1, detail);
    }
    for (int rank = 0; rank < group->world; rank++)
        group_exited(group, rank, wait_status);
    uv_close((uv_handle_t *)process, on_handle_closed);
}

/* The directories of one run have a common beginning: only one controller at a time has the run, so what is there was left by a killed one. */
static void name_prefix(const trainer_group *group, char *prefix, size_t nbytes)
{
    uint64_t hash = 1469598103934665603u; /* FNV-1a */
    for (const char *at = group->directory; *at; at++)
        hash = (hash ^ (unsigned char)*at) * 1099511628211u;
    snprintf(prefix, nbytes, "cadre-%08x-", (unsigned)(hash ^ hash >> 32));
}

static void sweep(const char *base, const char *prefix)
{
    DIR *directory = opendir(base);
    for (struct dirent *entry; directory && (entry = readdir(directory));) {
        struct stat info;
        if (strncmp(entry->d_name, prefix, strlen(prefix)) != 0 || fstatat(dirfd(directory), entry->d_name, &info, AT_SYMLINK_NOFOLLOW) != 0 ||
            !S_ISDIR(info.st_mode) || info.st_uid != getuid())
            continue;
        char *path = base_path_join(base, entry->d_name);
        if (!path || base_remove_tree(path) != CADRE_OK)
            base_log(CADRE_LOG_WARN, "trainer", "%s", cadre_error_message());
        free(path);
    }
    if (directory)
        closedir(directory);
}

static int listen_in(struct mpirun_group *own)
{
    const char *base = getenv("XDG_RUNTIME_DIR");
    if (!base || strlen(base) > 40 || !base_exists(base))
        base = "/tmp";
    char prefix[40];
    name_prefix(own->group, prefix, sizeof prefix);
    sweep(base, prefix);
    snprintf(own->directory, sizeof own->directory, "%s/%sXXXXXX", base, prefix);
    if (!mkdtemp(own->directory)) { /* mode 0700 */
        base_errno(errno, "make the private directory %s", own->directory);
        own->directory[0] = '\0';
        return CADRE_ESYSTEM;
    }
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    snprintf(address.sun_path, sizeof address.sun_path, "%s/controller", own->directory);
    own->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (own->fd < 0 || bind(own->fd, (struct sockaddr *)&address, sizeof address) != 0 || listen(own->fd, 128) != 0)
        return base_errno(errno, "listen at %s", address.sun_path);
    uv_poll_init(own->group->loop, &own->listener, own->fd);
    own->listener.data = own;
    own->listening = true;
    own->handles++;
    uv_poll_start(&own->listener, UV_READABLE, on_connection);
    return CADRE_OK;
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
    char name[160], call[48], path[160], attempt[48], temporary[160];
    snprintf(name, sizeof name, WORKER_ENV_TRAINER "=%s", launcher->name);
    snprintf(path, sizeof path, WORKER_ENV_SOCKET "=%s/controller", own->directory);
    snprintf(attempt, sizeof attempt, WORKER_ENV_ATTEMPT "=%d", group->attempt);
    snprintf(temporary, sizeof temporary, "TMPDIR=%s", own->directory);
    snprintf(call, sizeof call, WORKER_ENV_CALL "=%d", worker_call());
    const char *extra[] = {name, call, path, attempt, temporary, NULL};
    char **environment = NULL, **argv = NULL;
    int status = launch_environment(extra, &environment);
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
    own->fd = own->log_fd = -1;
    group->launch_data = own;
    static const char *const needed[][2] = {{"mpirun", "openmpi-bin"}, {"setpriv", "util-linux"}};
    int status = CADRE_OK;
    for (int i = 0; i < 2 && status == CADRE_OK; i++)
        if (!is_installed(needed[i][0]))
            status = base_error(CADRE_ENOTSUP, "the mpirun launcher needs %s: apt-get install %s, or use the fork launcher", needed[i][0], needed[i][1]);
    if (status == CADRE_OK)
        status = listen_in(own);
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
    if (!own || !own->running)
        return;
    if (signal_number != SIGKILL) {
        kill(own->process.pid, signal_number); /* SIGUSR1 is passed on to every rank */
        return;
    }
    for (int rank = 0; rank < group->world; rank++) /* the ranks first: a killed mpirun cannot end them */
        if (group->workers[rank].pid > 0 && group->workers[rank].fd >= 0) /* else it is gone, and its number may be another's */
            kill(group->workers[rank].pid, SIGKILL);
    kill(-own->process.pid, SIGKILL);
}

static void mpirun_release(trainer_launcher *base, trainer_group *group)
{
    struct mpirun_group *own = current(group);
    (void)base;
    if (!own)
        return;
    while (own->callers) {
        close(own->callers->fd);
        close_caller(own->callers);
    }
    if (own->listening) {
        uv_poll_stop(&own->listener);
        uv_close((uv_handle_t *)&own->listener, on_handle_closed);
    }
    base_close(own->fd);
    base_close(own->log_fd);
    if (own->directory[0])
        base_remove_tree(own->directory);
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
