/* The worker of a command: starts it, carries its reports, and sees to it that it leaves. */
#include "tuner/command.h"

#include "base/buffer.h"
#include "base/clock.h"
#include "base/error.h"
#include "base/io.h"
#include "base/mem.h"
#include "trainer/session.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/pidfd.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

/* A program that has not read "stop" after so long does not listen; one told by a signal gets so long before the next one. */
static const double UNREAD_S = 1.0, TERM_S = 5.0;
enum { REPORT_FD = 3, CONTROL_FD = 4, MAX_WARNINGS = 20, WAIT_MS = 1000, WAIT_WITHOUT_PIDFD_MS = 20 };

struct relay {
    cadre_session *session;
    const command_spec *spec;
    cadre_state *state;
    pid_t pid;
    int pid_fd, report_fd, control_fd; /* ours; -1: none */
    int wait_status;
    bool exited;
    base_buffer input;
    bool skipping; /* the rest of a line that was too long */
    int64_t lines;
    int warnings;
    int stage;       /* of leaving: 0 goes on, 1 told, 2 SIGUSR1, 3 SIGTERM, 4 SIGKILL sent */
    double told, deadline;
};

/* ---- starting ---- */

static void close_fd(int *fd)
{
    if (*fd >= 0)
        close(*fd);
    *fd = -1;
}

struct child {
    const char *path, *directory;
    char **argv, **environment;
    int report_fd, control_fd, error_fd;
    pid_t parent;
};

/* Between fork and exec: only calls that are safe there. Says an errno through error_fd when it cannot go on. */
static void become(const struct child *child)
{
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != child->parent)
        _exit(127);
    static const int reset[] = {SIGPIPE, SIGUSR1, SIGTERM, SIGINT, SIGHUP, SIGCHLD};
    for (size_t i = 0; i < sizeof reset / sizeof *reset; i++)
        signal(reset[i], SIG_DFL);
    /* First out of the way of 3 and 4, whichever they are now. */
    int report = fcntl(child->report_fd, F_DUPFD_CLOEXEC, 10), control = fcntl(child->control_fd, F_DUPFD_CLOEXEC, 10);
    int error = fcntl(child->error_fd, F_DUPFD_CLOEXEC, 10);
    if (report >= 0 && control >= 0 && error >= 0 && dup2(report, REPORT_FD) >= 0 && dup2(control, CONTROL_FD) >= 0 &&
        (!child->directory || chdir(child->directory) == 0))
        execve(child->path, child->argv, child->environment);
    int failed = errno;
    if (write(error, &failed, sizeof failed) < 0)
        _exit(126);
    _exit(127);
}

static int put_env(char **list, int *count, const char *name, const char *value)
{
    list[*count] = base_sprintf("%s=%s", name, value);
    return list[(*count)++] ? CADRE_OK : CADRE_ENOMEM;
}

static bool same_name(const char *a, const char *b)
{
    size_t length = strcspn(a, "=");
    return strncmp(a, b, length) == 0 && b[length] == '=';
}

/* Ours, then the sweep's, then what the program inherits and neither has set. */
static int make_environment(const struct relay *relay, const cadre_config *config, const char *checkpoint, char ***out)
{
    extern char **environ;
    int count = 0, inherited = 0, given = 0;
    while (environ[inherited])
        inherited++;
    while (relay->spec->env && relay->spec->env[given])
        given++;
    char **list = base_calloc((size_t)(inherited + given) + 8, sizeof *list), *json = cadre_config_to_json(config);
    const char *directory = cadre_session_directory(relay->session), *base = strrchr(directory, '/');
    char trial[32], report[8], control[8];
    snprintf(report, sizeof report, "%d", REPORT_FD);
    snprintf(control, sizeof control, "%d", CONTROL_FD);
    snprintf(trial, sizeof trial, "%lld", strtoll(base + strcspn(base, "0123456789"), NULL, 10));
    const char *const ours[][2] = {{"CADRE_TRIAL", trial}, {"CADRE_CONFIG", json}, {"CADRE_TRIAL_DIR", directory},
                                   {"CADRE_CHECKPOINT_DIR", checkpoint}, {"CADRE_REPORT_FD", report}, {"CADRE_CONTROL_FD", control}};
    int status = list && json ? CADRE_OK : CADRE_ENOMEM;
    for (size_t i = 0; status == CADRE_OK && i < sizeof ours / sizeof *ours; i++)
        status = put_env(list, &count, ours[i][0], ours[i][1]);
    for (int i = 0; status == CADRE_OK && i < given + inherited; i++) {
        const char *one = i < given ? relay->spec->env[i] : environ[i - given];
        bool there = strncmp(one, "CADRE_WORKER_", 13) == 0 || !strchr(one, '=');
        for (int k = 0; !there && k < count; k++)
            there = same_name(one, list[k]);
        if (!there && !(list[count++] = base_strdup(one)))
            status = CADRE_ENOMEM;
    }
    free(json);
    if (status != CADRE_OK) {
        command_free_words(list);
        return status;
    }
    *out = list;
    return CADRE_OK;
}

static int make_argv(const command_spec *spec, const cadre_config *config, char ***argv, char **path)
{
    if (spec->shell) {
        char *line = NULL, **words = base_calloc(4, sizeof *words);
        int status = words ? command_shell(spec->shell, config, spec->names, &line) : CADRE_ENOMEM;
        if (status == CADRE_OK) {
            words[0] = base_strdup("sh");
            words[1] = base_strdup("-c");
            words[2] = line;
            *path = base_strdup("/bin/sh");
        }
        *argv = words;
        return status != CADRE_OK ? status : words[0] && words[1] && *path ? CADRE_OK : CADRE_ENOMEM;
    }
    int status = command_words(spec->words, config, spec->names, argv);
    if (status == CADRE_OK && !(*argv)[0])
        return base_error(CADRE_EINVAL, "nothing is left of the command: its parameters have no values in this trial");
    if (status == CADRE_OK && spec->program)
        return (*path = base_strdup(spec->program)) ? CADRE_OK : CADRE_ENOMEM;
    return status == CADRE_OK ? command_find((*argv)[0], spec->directory, path) : status;
}

static int fork_child(struct relay *relay, struct child *child)
{
    int report[2] = {-1, -1}, control[2] = {-1, -1}, error[2] = {-1, -1}, failed = 0;
    if (pipe2(report, O_CLOEXEC) != 0 || pipe2(control, O_CLOEXEC) != 0 || pipe2(error, O_CLOEXEC) != 0)
        failed = errno;
    child->report_fd = report[1];
    child->control_fd = control[0];
    child->error_fd = error[1];
    child->parent = getpid();
    fflush(NULL);
    pid_t pid = failed ? -1 : fork();
    if (pid == 0)
        become(child);
    failed = pid < 0 && !failed ? errno : failed;
    close_fd(&report[1]);
    close_fd(&control[0]);
    close_fd(&error[1]);
    int why = 0;
    ssize_t got = 0;
    while (pid > 0 && (got = read(error[0], &why, sizeof why)) < 0 && errno == EINTR)
        ;
    close_fd(&error[0]);
    if (pid > 0 && got == (ssize_t)sizeof why) {
        waitpid(pid, NULL, 0);
        failed = why;
    }
    if (failed) {
        close_fd(&report[0]);
        close_fd(&control[1]);
        return base_errno(failed, "cannot run %s", child->argv[0]);
    }
    relay->pid = pid;
    relay->pid_fd = pidfd_open(pid, 0);
    relay->report_fd = report[0];
    relay->control_fd = control[1];
    fcntl(relay->report_fd, F_SETFL, O_NONBLOCK);
    fcntl(relay->control_fd, F_SETFL, O_NONBLOCK); /* a program that never reads its answers must not hold us up */
    return CADRE_OK;
}

static int start(struct relay *relay, const cadre_config *config)
{
    struct child child = {.directory = relay->spec->directory};
    char *checkpoint = base_path_join(cadre_session_directory(relay->session), "checkpoint"), *path = NULL;
    int status = checkpoint ? base_mkdirs(checkpoint, 0700) : CADRE_ENOMEM;
    if (status == CADRE_OK)
        status = make_argv(relay->spec, config, &child.argv, &path);
    if (status == CADRE_OK)
        status = make_environment(relay, config, checkpoint, &child.environment);
    child.path = path;
    if (status == CADRE_OK)
        status = fork_child(relay, &child);
    command_free_words(child.argv);
    command_free_words(child.environment);
    free(path);
    free(checkpoint);
    return status == CADRE_OK ? status : base_wrap(status < 0 ? CADRE_ETRAIN : status, "start the command");
}

/* ---- leaving ---- */

static void answer(struct relay *relay, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* One line, whole or not at all: no longer than a pipe takes in one piece. */
static void answer(struct relay *relay, const char *fmt, ...)
{
    char line[300];
    va_list args;
    va_start(args, fmt);
    int length = vsnprintf(line, sizeof line - 1, fmt, args);
    va_end(args);
    if (length >= (int)sizeof line - 1)
        length = (int)sizeof line - 2;
    line[length++] = '\n';
    if (relay->control_fd >= 0 && write(relay->control_fd, line, (size_t)length) < 0 && errno == EPIPE)
        close_fd(&relay->control_fd);
}

static double grace_of(const struct relay *relay) { return relay->spec->grace_s > 0 ? relay->spec->grace_s : COMMAND_GRACE_S; }

static void tell_to_stop(struct relay *relay)
{
    if (relay->stage)
        return;
    relay->stage = 1;
    relay->session->agreed_to_stop = true; /* however it ends now, it ended because it was asked to */
    relay->told = base_now();
    relay->deadline = relay->told + grace_of(relay);
    answer(relay, "stop");
}

/* Has the program read all that was written for it? */
static bool unread(const struct relay *relay)
{
    int bytes = 0;
    return relay->control_fd < 0 || ioctl(relay->control_fd, FIONREAD, &bytes) != 0 || bytes > 0;
}

/* The worker is in the process group as well: USR1 and TERM only raise a flag in it, KILL is for the program alone
 * here; what it leaves behind is ended with the worker. */
static void next_stage(struct relay *relay)
{
    double now = base_now();
    bool deaf = relay->stage == 1 && now >= relay->told + UNREAD_S && unread(relay);
    if (relay->exited || relay->stage == 0 || (now < relay->deadline && !deaf))
        return;
    relay->stage++;
    if (relay->stage == 2) {
        kill(0, SIGUSR1);
        relay->deadline = now + grace_of(relay);
    } else if (relay->stage == 3) {
        kill(0, SIGTERM);
        relay->deadline = now + TERM_S;
    } else {
        kill(relay->pid, SIGKILL);
        relay->deadline = now + TERM_S;
    }
}

/* ---- reports ---- */

static void warn(struct relay *relay, const char *what, const char *more)
{
    if (++relay->warnings <= MAX_WARNINGS)
        fprintf(stderr, "cadre: warning: report line %lld %s%s\n", (long long)relay->lines, what, more);
    if (relay->warnings == MAX_WARNINGS)
        fprintf(stderr, "cadre: warning: that is the last bad report line that is mentioned\n");
}

/* A bad line is a warning; only what the record refuses is an error. */
static int take_line(struct relay *relay, const char *line, size_t nbytes)
{
    command_report report;
    relay->lines++;
    while (nbytes && (line[nbytes - 1] == '\r' || line[nbytes - 1] == ' '))
        nbytes--;
    if (!nbytes)
        return CADRE_OK;
    int status = command_line_read(line, nbytes, &report);
    if (status == CADRE_ENOMEM)
        return status;
    if (status == CADRE_OK && report.step && report.step <= relay->session->step) {
        base_error(CADRE_EINVAL, "step %lld is not after step %lld", (long long)report.step, (long long)relay->session->step);
        command_line_free(&report);
        status = CADRE_EINVAL;
    }
    if (status != CADRE_OK) {
        warn(relay, "is ignored: ", cadre_error_message());
        answer(relay, "ignored %.200s", cadre_error_message());
        return CADRE_OK;
    }
    if (*report.skipped)
        warn(relay, "has a value that is no number, which is ignored: ", report.skipped);
    int64_t step = report.step ? report.step : relay->session->step + 1;
    status = cadre_report_at(relay->session, step, report.metrics, report.checkpoint ? relay->state : NULL);
    command_line_free(&report);
    if (status == CADRE_STOP && relay->stage == 0)
        tell_to_stop(relay);
    else if (status >= 0)
        answer(relay, status == CADRE_STOP ? "stop" : "continue");
    return status < 0 ? status : CADRE_OK;
}

static int take_lines(struct relay *relay)
{
    int status = CADRE_OK;
    unsigned char *end;
    while (status == CADRE_OK && relay->input.length && (end = memchr(relay->input.data, '\n', relay->input.length))) {
        size_t nbytes = (size_t)(end - relay->input.data);
        if (relay->skipping)
            relay->skipping = false;
        else
            status = take_line(relay, (const char *)relay->input.data, nbytes);
        base_buffer_consume(&relay->input, nbytes + 1);
    }
    if (status == CADRE_OK && relay->input.length > COMMAND_LINE_LIMIT) {
        if (!relay->skipping) {
            relay->lines++;
            warn(relay, "is ignored: it has more than 65536 bytes", "");
            answer(relay, "ignored a line of more than %d bytes", COMMAND_LINE_LIMIT);
        }
        relay->skipping = true;
        base_buffer_consume(&relay->input, relay->input.length);
    }
    return status;
}

/* `*more`: there may be more to read at once. */
static int read_reports(struct relay *relay, bool *more)
{
    ssize_t got;
    *more = false;
    int status = base_buffer_reserve(&relay->input, 16384);
    if (status != CADRE_OK)
        return status;
    do
        got = read(relay->report_fd, relay->input.data + relay->input.length, 16384);
    while (got < 0 && errno == EINTR);
    if (got == 0)
        close_fd(&relay->report_fd);
    if (got <= 0)
        return CADRE_OK;
    *more = true;
    relay->input.length += (size_t)got;
    return take_lines(relay);
}

/* What the program has written before it ended, also a last line without an end. */
static int drain(struct relay *relay)
{
    int status = CADRE_OK;
    bool more = true;
    while (status == CADRE_OK && more && relay->report_fd >= 0)
        status = read_reports(relay, &more);
    if (status == CADRE_OK && relay->input.length && !relay->skipping)
        status = take_line(relay, (const char *)relay->input.data, relay->input.length);
    return status;
}

/* ---- the loop ---- */

static void look_for_exit(struct relay *relay)
{
    pid_t gone;
    do
        gone = waitpid(relay->pid, &relay->wait_status, WNOHANG);
    while (gone < 0 && errno == EINTR);
    relay->exited = gone == relay->pid;
}

static int wait_ms(const struct relay *relay)
{
    int ms = relay->pid_fd >= 0 ? WAIT_MS : WAIT_WITHOUT_PIDFD_MS;
    return relay->stage == 0 || ms < 100 ? ms : 100;
}

static int run(struct relay *relay)
{
    int status = CADRE_OK;
    while (status == CADRE_OK && !relay->exited) {
        struct pollfd ready[3] = {{.fd = relay->report_fd, .events = POLLIN}, {.fd = relay->session->link->fd, .events = POLLIN}, {.fd = relay->pid_fd, .events = POLLIN}};
        bool more;
        if (poll(ready, 3, wait_ms(relay)) > 0 && ready[0].revents)
            status = read_reports(relay, &more);
        if (status == CADRE_OK)
            status = session_poll(relay->session);
        if (status == CADRE_OK && (relay->session->stop_asked || (session_leave_signal && relay->stage == 0)))
            tell_to_stop(relay);
        next_stage(relay);
        look_for_exit(relay);
    }
    return status == CADRE_OK ? drain(relay) : status;
}

static int judge(struct relay *relay)
{
    int status = relay->wait_status;
    if (relay->stage || relay->session->agreed_to_stop)
        return CADRE_OK; /* it was told to leave, and so it did */
    trainer_link *link = relay->session->link;
    link->exit_code = WIFEXITED(status) ? WEXITSTATUS(status) : 0;
    link->signal = WIFSIGNALED(status) ? WTERMSIG(status) : 0;
    if (WIFSIGNALED(status))
        return base_error(CADRE_ETRAIN, "the command was ended by signal %d (%s)", WTERMSIG(status), strsignal(WTERMSIG(status)));
    if (WEXITSTATUS(status) != 0)
        return base_error(CADRE_ETRAIN, "the command exited with code %d", WEXITSTATUS(status));
    return CADRE_OK;
}

static int relay_run(struct relay *relay, const cadre_config *config)
{
    int status = start(relay, config);
    if (status != CADRE_OK)
        return status;
    status = run(relay);
    if (!relay->exited) { /* the controller is gone, or the record failed */
        char words[BASE_ERROR_MAX];
        snprintf(words, sizeof words, "%s", cadre_error_message());
        kill(relay->pid, SIGKILL);
        waitpid(relay->pid, &relay->wait_status, 0);
        return base_error(status, "%s", words);
    }
    return status == CADRE_OK ? judge(relay) : status;
}

int command_train(cadre_session *session, const cadre_config *config, void *user)
{
    struct relay relay = {.session = session, .spec = user, .pid_fd = -1, .report_fd = -1, .control_fd = -1};
    int64_t saves = 0; /* what the program keeps is in its own directory; here it is only that it has */
    int status = cadre_state_new(&relay.state);
    if (status == CADRE_OK)
        status = cadre_state_add_int64(relay.state, "saves", &saves);
    if (status == CADRE_OK)
        status = cadre_session_restore(session, relay.state);
    if (status == CADRE_OK)
        status = cadre_step(session, NULL); /* it has begun: from here on silence counts */
    if (status == CADRE_OK)
        status = relay_run(&relay, config);
    close_fd(&relay.pid_fd);
    close_fd(&relay.report_fd);
    close_fd(&relay.control_fd);
    base_buffer_free(&relay.input);
    cadre_state_free(relay.state);
    return status;
}
