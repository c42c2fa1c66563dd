#include "zygote.h"

#include "base/error.h"

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
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    signal(SIGINT, SIG_DFL);
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
    zygote_event event = {.kind = ZYGOTE_SPAWNED, .group = request->group, .rank = request->rank};
    pid_t self = getpid();
    pid_t process_group = process_group_of(state, request->group);
    pid_t pid = make_room(state) ? fork() : (errno = ENOMEM, -1);
    if (pid == 0) {
        setpgid(0, process_group);
        become_worker(state, request, control_fd, log_fd, self);
    }
    if (pid < 0) {
        event.pid = -errno;
    } else {
        if (setpgid(pid, process_group) != 0 || !process_group) /* set on both sides: neither may be late */
            process_group = pid;
        state->children[state->count++] = (struct child){pid, process_group, request->group, request->rank};
        event.pid = pid;
    }
    tell(state, event);
}

static void reap(struct state *state)
{
    struct signalfd_siginfo drop;
    while (read(state->signals, &drop, sizeof drop) == (ssize_t)sizeof drop)
        ;
    int wait_status;
    for (pid_t pid; (pid = waitpid(-1, &wait_status, WNOHANG)) > 0;)
        for (int i = 0; i < state->count; i++)
            if (state->children[i].pid == pid) {
                struct child child = state->children[i];
                state->children[i] = state->children[--state->count];
                tell(state, (zygote_event){ZYGOTE_EXITED, child.group, child.rank, pid, wait_status});
                break;
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
    if (request.kind == REQUEST_SPAWN && fds[0] >= 0)
        spawn(state, &request, fds[0], fds[1]);
    else if (request.kind == REQUEST_SIGNAL)
        signal_group(state, request.group, request.signal_number);
    for (int i = 0; i < 2; i++)
        if (fds[i] >= 0)
            close(fds[i]);
}

static void run_zygote(struct state *state, pid_t controller)
{
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != controller)
        _exit(1);
    prctl(PR_SET_NAME, "cadre-zygote");
    setpgid(0, 0); /* Ctrl-C is for the controller alone */
    signal(SIGINT, SIG_IGN);
    signal(SIGPIPE, SIG_IGN);
    sigset_t child;
    sigemptyset(&child);
    sigaddset(&child, SIGCHLD);
    sigprocmask(SIG_SETMASK, &child, NULL);
    state->signals = signalfd(-1, &child, SFD_NONBLOCK | SFD_CLOEXEC);
    if (state->signals < 0)
        _exit(1);
    for (;;) {
        struct pollfd ready[2] = {{.fd = state->fd, .events = POLLIN}, {.fd = state->signals, .events = POLLIN}};
        if (poll(ready, 2, -1) < 0)
            continue;
        if (ready[1].revents)
            reap(state);
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
        struct state state = {.fd = pair[1], .worker = worker, .user = user};
        run_zygote(&state, self);
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
    while (waitpid(zygote->pid, NULL, 0) < 0 && errno == EINTR)
        ;
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
    while (sent < 0 && errno == EINTR);
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
