#include "zygote.h"

#include "base/error.h"

#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/lsan_interface.h>
#endif
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

enum { SEND_TIMEOUT_MS = 30000, STOP_TIMEOUT_MS = 5000 };

enum request_kind { REQUEST_SPAWN = 1, REQUEST_SIGNAL = 2 };

struct request {
    int32_t kind;
    int32_t group, rank, attempt;
    int32_t signal_number;
};

/* ---- the zygote's side ------------------------------------------------------------------------------------------------------- */

struct child {
    pid_t pid, process_group;
    int32_t group, rank;
};

struct state {
    int fd, signals;
    pid_t controller;
    sigset_t mask;                                     /* the program's own, for the workers */
    struct sigaction on_int, on_term, on_hup, on_pipe, on_child; /* likewise */
    struct child *children; /* living ones */
    int count, capacity;
    zygote_worker_fn *worker;
    void *user;
};

/* In the child: put on a worker's descriptors and run it. */
static void become_worker(struct state *state, const struct request *request, int control_fd, int log_fd, pid_t zygote_pid)
{
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != zygote_pid)
        _exit(1); /* the zygote died in between */
    sigaction(SIGINT, &state->on_int, NULL);
    sigaction(SIGTERM, &state->on_term, NULL);
    sigaction(SIGHUP, &state->on_hup, NULL);
    sigaction(SIGPIPE, &state->on_pipe, NULL);
    sigaction(SIGCHLD, &state->on_child, NULL);
    sigprocmask(SIG_SETMASK, &state->mask, NULL);
    close(state->fd);
    close(state->signals);
    int null = open("/dev/null", O_RDONLY | O_CLOEXEC);
    if (null >= 0) {
        dup2(null, STDIN_FILENO);
        close(null);
    }
    if (log_fd >= 0) {
        dup2(log_fd, STDOUT_FILENO);
        dup2(log_fd, STDERR_FILENO);
        close(log_fd);
    }
    fcntl(control_fd, F_SETFD, FD_CLOEXEC);
    int code = state->worker(request->rank, request->attempt, control_fd, state->user);
    fflush(NULL);
#ifdef __SANITIZE_ADDRESS__ /* which looks for leaks in exit alone */
    (void)__lsan_do_recoverable_leak_check(); /* what it finds is in the rank's log */
#endif
    _exit(code); /* not exit: what the program registered for its end is the controller's to run */
}

/* All workers of a group share a process group, led by the first of them. */
static pid_t process_group_of(const struct state *state, int32_t group)
{
    for (int i = 0; i < state->count; i++)
        if (state->children[i].group == group)
            return state->children[i].process_group;
    return 0;
}

static void tell(const struct state *state, zygote_event event)
{
    ssize_t sent;
    do
        sent = send(state->fd, &event, sizeof event, MSG_NOSIGNAL);
    while (sent < 0 && errno == EINTR);
}

static bool make_room(struct state *state)
{
    if (state->count < state->capacity)
        return true;
    int capacity = state->capacity ? 2 * state->capacity : 16;
    struct child *children = realloc(state->children, (size_t)capacity * sizeof *children);
    if (!children)
        return false;
    state->children = children;
    state->capacity = capacity;
    return true;
}

static void spawn(struct state *state, const struct request *request, int control_fd, int log_fd)
{
    pid_t self = getpid();
    pid_t process_group = process_group_of(state, request->group);
    pid_t pid = make_room(state) ? fork() : (errno = ENOMEM, -1);
    if (pid == 0) {
        if (setpgid(0, process_group) != 0)
            setpgid(0, 0); /* all others of the group are gone already */
        become_worker(state, request, control_fd, log_fd, self);
    }
    if (pid < 0) {
        tell(state, (zygote_event){ZYGOTE_NOT_SPAWNED, request->group, request->rank, errno, 0});
        return;
    }
    if (setpgid(pid, process_group) != 0 || !process_group) /* set on both sides: neither may be late */
        process_group = pid;
    state->children[state->count++] = (struct child){pid, process_group, request->group, request->rank};
}

static int living(const struct state *state, int32_t group)
{
    int count = 0;
    for (int i = 0; i < state->count; i++)
        count += state->children[i].group == group;
    return count;
}

static struct child *find_child(struct state *state, pid_t pid)
{
    for (int i = 0; i < state->count; i++)
        if (state->children[i].pid == pid)
            return &state->children[i];
    return NULL;
}

static void reap(struct state *state)
{
    siginfo_t dead;
    for (;;) {
        dead.si_pid = 0;
        if (waitid(P_ALL, 0, &dead, WEXITED | WNOHANG | WNOWAIT) != 0 || dead.si_pid == 0)
            return;
        struct child *child = find_child(state, dead.si_pid);
        /* The last of its group takes along what it started itself: while it is not waited for, the number of its process group is taken. */
        if (child && living(state, child->group) == 1)
            kill(-child->process_group, SIGKILL);
        int wait_status = 0;
        waitpid(dead.si_pid, &wait_status, 0);
        if (!child)
            continue;
        zygote_event event = {ZYGOTE_EXITED, child->group, child->rank, dead.si_pid, wait_status};
        *child = state->children[--state->count];
        tell(state, event);
    }
}

static void signal_group(const struct state *state, int32_t group, int signal_number)
{
    pid_t process_group = process_group_of(state, group);
    if (process_group > 0)
        kill(-process_group, signal_number);
    for (int i = 0; i < state->count; i++) /* those that could not join the process group */
        if (state->children[i].group == group && state->children[i].process_group != process_group)
            kill(state->children[i].pid, signal_number);
}

static void end_all(const struct state *state)
{
    for (int i = 0; i < state->count; i++) {
        kill(-state->children[i].process_group, SIGKILL);
        kill(state->children[i].pid, SIGKILL);
    }
    _exit(0);
}

/* One request with its descriptors; ends the zygote when the controller is gone. */
static void serve(struct state *state)
{
    struct request request;
    union {
        char bytes[CMSG_SPACE(2 * sizeof(int))];
        struct cmsghdr align;
    } control;
    struct iovec part = {&request, sizeof request};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = control.bytes, .msg_controllen = sizeof control.bytes};
    ssize_t got = recvmsg(state->fd, &message, MSG_CMSG_CLOEXEC);
    if (got < 0 && errno == EINTR)
        return;
    if (got != (ssize_t)sizeof request)
        end_all(state);
    int fds[2] = {-1, -1};
    struct cmsghdr *header = CMSG_FIRSTHDR(&message);
    if (header && header->cmsg_type == SCM_RIGHTS)
        memcpy(fds, CMSG_DATA(header), header->cmsg_len - CMSG_LEN(0) < sizeof fds ? header->cmsg_len - CMSG_LEN(0) : sizeof fds);
    if (request.kind == REQUEST_SPAWN && fds[0] < 0) /* it had no room for the descriptor */
        tell(state, (zygote_event){ZYGOTE_NOT_SPAWNED, request.group, request.rank, EMFILE, 0});
    else if (request.kind == REQUEST_SPAWN)
        spawn(state, &request, fds[0], fds[1]);
    else if (request.kind == REQUEST_SIGNAL)
        signal_group(state, request.group, request.signal_number);
    for (int i = 0; i < 2; i++)
        if (fds[i] >= 0)
            close(fds[i]);
}

/* A child has died (SIGCHLD), or the controller has (SIGHUP, asked for by prctl, since a forked copy of it may hold the socket open). */
static void take_signals(struct state *state)
{
    struct signalfd_siginfo drop;
    while (read(state->signals, &drop, sizeof drop) == (ssize_t)sizeof drop)
        ;
    if (getppid() != state->controller)
        end_all(state);
    reap(state);
}

static void ignore(int number, struct sigaction *was) { sigaction(number, &(struct sigaction){.sa_handler = SIG_IGN}, was); }

static void run_zygote(struct state *state)
{
    sigset_t taken;
    sigemptyset(&taken);
    sigaddset(&taken, SIGCHLD);
    sigaddset(&taken, SIGHUP);
    sigprocmask(SIG_SETMASK, &taken, &state->mask);
    sigaction(SIGHUP, &(struct sigaction){.sa_handler = SIG_DFL}, &state->on_hup);
    /* A program that ignores SIGCHLD would never hear of its children. */
    sigaction(SIGCHLD, &(struct sigaction){.sa_handler = SIG_DFL}, &state->on_child);
    /* What ends a whole service or job step is sent to every process of it: the controller and the workers know what to do. */
    ignore(SIGINT, &state->on_int);
    ignore(SIGTERM, &state->on_term);
    ignore(SIGPIPE, &state->on_pipe);
    prctl(PR_SET_PDEATHSIG, SIGHUP);
    if (getppid() != state->controller)
        _exit(1);
    prctl(PR_SET_NAME, "cadre-zygote");
    setpgid(0, 0); /* Ctrl-C is for the controller alone */
    state->signals = signalfd(-1, &taken, SFD_NONBLOCK | SFD_CLOEXEC);
    if (state->signals < 0)
        _exit(1);
    for (;;) {
        struct pollfd ready[2] = {{.fd = state->fd, .events = POLLIN}, {.fd = state->signals, .events = POLLIN}};
        if (poll(ready, 2, -1) < 0)
            continue;
        if (ready[1].revents)
            take_signals(state);
        if (ready[0].revents)
            serve(state);
    }
}

/* ---- the controller's side -------------------------------------------------------------------------------------------------- */

int zygote_start(zygote *zygote, zygote_worker_fn *worker, void *user)
{
    int pair[2];
    zygote->fd = -1;
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) != 0)
        return base_errno(errno, "make the zygote's socket");
    fflush(NULL); /* or the workers would print the program's unwritten lines again */
    pid_t self = getpid();
    zygote->pid = fork();
    if (zygote->pid == 0) {
        close(pair[0]);
        struct state state = {.fd = pair[1], .controller = self, .worker = worker, .user = user};
        run_zygote(&state);
    }
    int failed = errno;
    close(pair[1]);
    if (zygote->pid < 0) {
        close(pair[0]);
        return base_errno(failed, "fork the zygote");
    }
    zygote->fd = pair[0];
    return CADRE_OK;
}

void zygote_stop(zygote *zygote)
{
    if (zygote->fd < 0)
        return;
    close(zygote->fd);
    zygote->fd = -1;
    for (int passed_ms = 0; waitpid(zygote->pid, NULL, WNOHANG) == 0; passed_ms++) {
        if (passed_ms == STOP_TIMEOUT_MS)
            kill(zygote->pid, SIGKILL); /* stopped by somebody; its workers go with it */
        poll(NULL, 0, 1);
    }
}

static int request(zygote *zygote, const struct request *request, const int *fds, int fd_count)
{
    union {
        char bytes[CMSG_SPACE(2 * sizeof(int))];
        struct cmsghdr align;
    } control;
    memset(&control, 0, sizeof control);
    struct iovec part = {(void *)(uintptr_t)request, sizeof *request};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};
    if (fd_count) {
        message.msg_control = control.bytes;
        message.msg_controllen = CMSG_SPACE((size_t)fd_count * sizeof(int));
        struct cmsghdr *header = CMSG_FIRSTHDR(&message);
        header->cmsg_level = SOL_SOCKET;
        header->cmsg_type = SCM_RIGHTS;
        header->cmsg_len = CMSG_LEN((size_t)fd_count * sizeof(int));
        memcpy(CMSG_DATA(header), fds, (size_t)fd_count * sizeof(int));
    }
    ssize_t sent;
    do
        sent = sendmsg(zygote->fd, &message, MSG_NOSIGNAL);
    while (sent < 0 && (errno == EINTR || (errno == EAGAIN && (poll(&(struct pollfd){.fd = zygote->fd, .events = POLLOUT}, 1, SEND_TIMEOUT_MS) > 0 || errno == EINTR))));
    return sent == (ssize_t)sizeof *request ? CADRE_OK : base_errno(errno, "ask the zygote");
}

int zygote_spawn(zygote *zygote, int group, int rank, int attempt, int control_fd, int log_fd)
{
    int fds[2] = {control_fd, log_fd};
    return request(zygote, &(struct request){.kind = REQUEST_SPAWN, .group = group, .rank = rank, .attempt = attempt}, fds,
                   log_fd >= 0 ? 2 : 1);
}

int zygote_signal(zygote *zygote, int group, int signal_number)
{
    return request(zygote, &(struct request){.kind = REQUEST_SIGNAL, .group = group, .signal_number = signal_number}, NULL, 0);
}

int zygote_next(zygote *zygote, zygote_event *event, bool *got)
{
    *got = false;
    ssize_t size = recv(zygote->fd, event, sizeof *event, MSG_DONTWAIT);
    if (size < 0 && (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR))
        return CADRE_OK;
    if (size != (ssize_t)sizeof *event)
        return base_error(CADRE_ECLOSED, "the zygote, which forks the workers, is gone");
    *got = true;
    return CADRE_OK;
}
