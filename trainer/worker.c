#include "worker.h"

#include "base/clock.h"
#include "base/error.h"
#include "base/fault.h"
#include "base/io.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/private.h"
#include "base/timeline.h"
#include "group.h"
#include "message.h"
#include "session.h"

#include <errno.h>
#if defined(__GLIBC__)
#include <execinfo.h>
#endif
#include <fcntl.h>
#include <limits.h>
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

enum { START_TIMEOUT_S = 300 };

/* ---- the out-of-band all-gather over the control channel --------------------------------------------------------------- */

struct channel {
    trainer_link *link;
    int rank, world;
    int64_t sequence;
};

static int read_gathered(const json_t *message, void *all, int world, size_t nbytes)
{
    const json_t *list = json_object_get(message, "data");
    if (json_array_size(list) != (size_t)world)
        return base_error(CADRE_EPROTO, "the controller gathered %zu parts of %d", json_array_size(list), world);
    for (int i = 0; i < world; i++)
        if (!message_read_bytes(json_array_get(list, (size_t)i), (char *)all + (size_t)i * nbytes, nbytes))
            return base_error(CADRE_EMISMATCH, "rank %d gave another number of bytes than this one's %zu", i, nbytes);
    return CADRE_OK;
}

static int gather_over_link(void *user, const void *mine, void *all, size_t nbytes, double timeout_s)
{
    struct channel *channel = user;
    json_t *message = message_new("gather", channel->link->attempt);
    if (!message)
        return CADRE_ENOMEM;
    message_set_int(message, "seq", ++channel->sequence);
    message_set_int(message, "rank", channel->rank);
    json_object_set_new(message, "data", message_bytes(mine, nbytes));
    int status = channel->link->send(channel->link, message);
    json_decref(message);
    int64_t deadline = base_now_ns() + (int64_t)(timeout_s * 1e9);
    json_t *answer = NULL;
    if (status == CADRE_OK)
        status = trainer_link_await(channel->link, "gathered", deadline, &answer);
    if (status == CADRE_ETIMEDOUT)
        return base_error(status, "not all ranks came to set up the group within %.0f s", timeout_s);
    if (status == CADRE_OK && message_int(answer, "seq", 0) != channel->sequence)
        status = base_error(CADRE_EPROTO, "the ranks set up the group in different orders");
    if (status == CADRE_OK)
        status = read_gathered(answer, all, channel->world, nbytes);
    json_decref(answer);
    return status;
}

/* ---- the core --------------------------------------------------------------------------------------------------------------- */

static volatile sig_atomic_t alone; /* in the program's own process, where nobody else makes it leave */

static void note_leave_request(int signal_number)
{
    if (alone && session_leave_signal && signal_number == SIGTERM) {
        signal(SIGTERM, SIG_DFL);
        raise(SIGTERM);
    }
    session_leave_signal = 1;
}

/* The controller asks a group that hangs where it is. The thread that trains is mostly the one that gets the signal; its stack goes to the log. */
static void write_stack(int signal_number)
{
    static const char head[] = "cadre: no progress; this is where the worker is:\n";
    int kept = errno;
    (void)signal_number;
    if (write(STDERR_FILENO, head, sizeof head - 1) < 0)
        return;
#if defined(__GLIBC__)
    void *frames[64];
    backtrace_symbols_fd(frames, backtrace(frames, 64), STDERR_FILENO);
#endif
    errno = kept;
}

void worker_prepare(void)
{
#if defined(__GLIBC__)
    static bool loaded;
    void *frame[1]; /* the first call loads what it needs, which a signal handler may not do */
    loaded = loaded || backtrace(frame, 1) > 0;
#endif
}

void worker_take_signals(void)
{
    struct sigaction leave = {.sa_handler = note_leave_request, .sa_flags = SA_RESTART};
    sigaction(SIGUSR1, &leave, NULL);
    sigaction(SIGTERM, &leave, NULL);
    worker_prepare();
    sigaction(SIGUSR2, &(struct sigaction){.sa_handler = write_stack, .sa_flags = SA_RESTART}, NULL);
    signal(SIGPIPE, SIG_IGN);
}

static const int BORROWED[WORKER_SIGNALS] = {SIGINT, SIGTERM, SIGUSR1, SIGUSR2, SIGPIPE};

void worker_borrow_signals(worker_signals *kept, bool is_alone)
{
    for (int i = 0; i < WORKER_SIGNALS; i++)
        sigaction(BORROWED[i], NULL, &kept->was[i]);
    session_leave_signal = 0;
    alone = is_alone;
    worker_take_signals();
}

void worker_give_back_signals(const worker_signals *kept)
{
    for (int i = 0; i < WORKER_SIGNALS; i++)
        sigaction(BORROWED[i], &kept->was[i], NULL);
    alone = 0;
}

/* Each rank gets its own devices before anything opens CUDA; with less than one each, neighbours share. */
static void give_gpus(const cadre_trainer *trainer, const json_t *start, int rank)
{
    double each = trainer->scaling.gpus_per_worker;
    const json_t *given = json_object_get(start, "gpus"); /* the devices of the whole group; without, the machine's first ones */
    if (each <= 0)
        return;
    int first = (int)floor(rank * each + 1e-9), count = each < 1 ? 1 : (int)each;
    char list[256] = "";
    for (int i = 0; i < count; i++) {
        const json_t *device = json_array_get(given, (size_t)(first + i));
        int number = device ? (int)json_integer_value(device) : first + i;
        snprintf(list + strlen(list), sizeof list - strlen(list), "%s%d", i ? "," : "", number);
    }
    setenv("CUDA_VISIBLE_DEVICES", list, 1);
}

/* Which backend it became is worth a record. */
static int say_ready(trainer_link *link, int rank, const cadre_comm *comm)
{
    json_t *message = rank == 0 ? message_new("ready", link->attempt) : NULL;
    if (!message)
        return rank == 0 ? CADRE_ENOMEM : CADRE_OK;
    message_set_text(message, "backend", cadre_comm_backend(comm));
    int status = link->send(link, message);
    json_decref(message);
    return status;
}

/* Its failure is said and is not the run's. */
static void open_timeline(const cadre_trainer *trainer, const cadre_session *session)
{
    char title[96], host[48] = "?";
    if (!trainer->run.timeline)
        return;
    gethostname(host, sizeof host - 1);
    const char *trial = strrchr(session->directory, '/');
    snprintf(title, sizeof title, "%.15s, rank %d, attempt %d, %s", trial ? trial + 1 : session->directory, session->rank, session->attempt, host);
    if (base_timeline_open(trainer->run.timeline, title, session->rank) != CADRE_OK)
        base_log(CADRE_LOG_WARN, "trainer", "%s", cadre_error_message());
}

static void close_timeline(void)
{
    char text[BASE_ERROR_MAX];
    snprintf(text, sizeof text, "%s", cadre_error_message()); /* of the train function */
    if (base_timeline_close() != CADRE_OK)
        base_log(CADRE_LOG_WARN, "trainer", "%s", cadre_error_message());
    if (*text)
        base_error(CADRE_OK, "%s", text);
}

int worker_train(const cadre_trainer *trainer, const json_t *start, const cadre_oob *oob, trainer_link *link)
{
    cadre_comm_options options = {.size = sizeof options, .backend = trainer->scaling.backend, .timeout_s = trainer->scaling.timeout_s,
                                  .device = trainer->scaling.device};
    cadre_comm *comm = NULL;
    cadre_config *config = NULL;
    cadre_session session;
    mode_t mask = umask(077); /* what a run leaves is its owner's alone */
    worker_take_signals();
    give_gpus(trainer, start, oob->rank);
    int status = cadre_comm_new(oob, &options, &comm);
    if (status != CADRE_OK) {
        umask(mask);
        return base_wrap(status, "set up the worker group");
    }
    status = cadre_config_from_json(message_string(start, "config", "{}"), &config);
    if (status == CADRE_OK)
        status = session_init(&session, start, oob->rank, link, comm);
    if (status == CADRE_OK) {
        session.on_resize = trainer->scaling.on_resize;
        session.user = trainer->user;
        status = say_ready(link, oob->rank, comm);
    }
    if (status == CADRE_OK) {
        base_fault_set_rank(oob->rank);
        BASE_FAULT("train");
        open_timeline(trainer, &session);
        status = trainer->train(&session, config, trainer->user);
        if (status < 0 && !*cadre_error_message())
            base_error(status, "the train function returned %d (%s)", status, cadre_status_text(status));
        if (status >= 0) { /* what it saved last may still be on its way */
            int saved = session_end_saving(&session);
            status = saved != CADRE_OK ? saved : session.agreed_to_stop ? CADRE_STOP : CADRE_OK;
        }
        link->second_hand = status < 0 && status == session.others_failure;
        close_timeline();
        BASE_FAULT("trained");
        session_done(&session);
    }
    cadre_config_free(config);
    cadre_comm_free(comm);
    umask(mask); /* the process may be the user's own */
    return status;
}

/* ---- over a socket -------------------------------------------------------------------------------------------------------------- */

static int say_hello(trainer_link *link, int rank, const char *key)
{
    char host[256] = "?";
    gethostname(host, sizeof host - 1);
    json_t *message = message_new("hello", link->attempt);
    if (!message)
        return CADRE_ENOMEM;
    message_set_int(message, "rank", rank);
    message_set_int(message, "pid", getpid());
    message_set_text(message, "host", host);
    if (key)
        message_set_text(message, "key", key);
    int status = link->send(link, message);
    json_decref(message);
    return status;
}

static void say_done(trainer_link *link, int status)
{
    char text[BASE_ERROR_MAX];
    snprintf(text, sizeof text, "%s", status < 0 ? cadre_error_message() : "");
    if (status < 0)
        fprintf(stderr, "cadre: %s\n", text); /* into the worker's log, too */
    json_t *message = message_new("done", link->attempt);
    if (message) {
        message_set_int(message, "status", status);
        message_set_text(message, "message", text);
        message_set_int(message, "second", link->second_hand);
        if (status < 0 && (link->exit_code || link->signal)) {
            message_set_int(message, "exit", link->exit_code);
            message_set_int(message, "signal", link->signal);
        }
        (void)link->send(link, message);
    }
    json_decref(message);
}

/* What the rest is sized by and counts from: a controller of another version, or a rank that another program was started with. */
static int check_start(const json_t *start, int rank)
{
    enum { MOST = 1 << 20 };
    static const char *const counts[] = {"report", "step", "next"};
    int64_t world = message_int(start, "world", 1), rows = message_int(start, "rows", 1);
    if (world < 1 || world > MOST || rank < 0 || rank >= world)
        return base_error(CADRE_EPROTO, "the controller starts %lld workers, and this is rank %d", (long long)world, rank);
    if (rows < 1 || rows > MOST)
        return base_error(CADRE_EPROTO, "the controller gives rank %d the part of %lld logical workers", rank, (long long)rows);
    for (size_t i = 0; i < sizeof counts / sizeof *counts; i++) {
        int64_t count = message_int(start, counts[i], 1);
        if (count < 0 || count > INT64_C(1) << 60)
            return base_error(CADRE_EPROTO, "the controller starts rank %d with \"%s\" %lld", rank, counts[i], (long long)count);
    }
    return CADRE_OK;
}

int worker_run(const cadre_trainer *trainer, int rank, int attempt, int fd, const char *key)
{
    worker_take_signals(); /* as early as may be: before, they end it */
    setvbuf(stdout, NULL, _IOLBF, 0); /* what is printed is in the log at once, whatever comes next */
    if (!base_log_heard())
        cadre_log_set(cadre_log_stderr, NULL, CADRE_LOG_WARN); /* its stderr is its log: who waits for whom belongs there */
    trainer_link link;
    int status = trainer_link_socket(&link, fd);
    if (status != CADRE_OK)
        return 1;
    link.attempt = attempt;
    json_t *start = NULL;
    status = say_hello(&link, rank, key);
    if (status == CADRE_OK)
        status = trainer_link_await(&link, "start", base_now_ns() + START_TIMEOUT_S * INT64_C(1000000000), &start);
    if (status == CADRE_OK)
        status = check_start(start, rank);
    if (status == CADRE_OK) {
        struct channel channel = {.link = &link, .rank = rank, .world = (int)message_int(start, "world", 1)};
        cadre_oob oob = {.size = sizeof oob, .rank = rank, .world = channel.world, .all_gather = gather_over_link, .user = &channel};
        link.attempt = message_attempt(start);
        status = worker_train(trainer, start, &oob, &link);
    }
    say_done(&link, status);
    json_decref(start);
    trainer_link_close(&link);
    fflush(NULL);
    return status < 0 ? 1 : 0;
}

/* ---- executed workers --------------------------------------------------------------------------------------------------------- */

static int calls;

static int env_int(const char *name, int fallback)
{
    const char *text = getenv(name);
    return text && *text ? atoi(text) : fallback;
}

bool worker_is_executed(const char *trainer_name)
{
    const char *name = getenv(WORKER_ENV_TRAINER);
    calls++;
    return name && strcmp(name, trainer_name) == 0 && env_int(WORKER_ENV_CALL, calls) == calls;
}

bool worker_is_underway(void) { return getenv(WORKER_ENV_TRAINER) != NULL; }

int worker_call(void) { return calls; }

static int connect_to(const char *path, int *fd)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    if (strlen(path) >= sizeof address.sun_path)
        return base_error(CADRE_EINVAL, "the controller's socket path is too long: %s", path);
    strcpy(address.sun_path, path);
    *fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (*fd < 0 || connect(*fd, (struct sockaddr *)&address, sizeof address) != 0)
        return base_errno(errno, "connect to the controller at %s", path);
    return base_private_peer(*fd, NULL);
}

/* mpirun would mix what its ranks print: each has its own log. Where that fails they print through mpirun after all. */
static void open_own_log(const char *directory, int rank, int attempt)
{
    int fd = -1;
    char *path = base_sprintf("%s/rank%d.log", directory, rank);
    if (path && base_open(path, O_WRONLY | O_CREAT | O_APPEND, 0600, &fd) == CADRE_OK) {
        if (attempt > 0 && rank > 0) /* rank 0's is mpirun's, too, and has the mark */
            (void)dprintf(fd, GROUP_LOG_MARK "\n", attempt);
        dup2(fd, STDOUT_FILENO);
        dup2(fd, STDERR_FILENO);
    }
    base_close(fd);
    free(path);
}

int worker_run_executed(const cadre_trainer *trainer)
{
    prctl(PR_SET_PDEATHSIG, SIGKILL); /* killing mpirun would orphan ranks that have not called MPI_Init */
    int rank = env_int(WORKER_ENV_RANK, env_int("OMPI_COMM_WORLD_RANK", env_int("PMIX_RANK", 0)));
    int fd = env_int(WORKER_ENV_FD, -1);
    int attempt = env_int(WORKER_ENV_ATTEMPT, 0);
    const char *path = getenv(WORKER_ENV_SOCKET), *given = getenv(WORKER_ENV_KEY);
    char key[80] = "";
    snprintf(key, sizeof key, "%s", given ? given : "");
    if (fd >= 0)
        fcntl(fd, F_SETFD, FD_CLOEXEC); /* a helper process that lives on must not hold the channel open */
    int status = fd >= 0 ? CADRE_OK : path ? connect_to(path, &fd) : base_error(CADRE_EINVAL, "no way to the controller");
    if (status != CADRE_OK) {
        char host[256] = "?";
        gethostname(host, sizeof host - 1);
        fprintf(stderr, "cadre: rank %d on %s: %s (with the mpirun launcher every rank is on the controller's host; for several start the program itself by mpirun)\n",
                rank, host, cadre_error_message());
        return 1;
    }
    const char *logs = getenv(WORKER_ENV_LOGS);
    if (logs)
        open_own_log(logs, rank, attempt);
    static const char *const names[] = {WORKER_ENV_TRAINER, WORKER_ENV_CALL, WORKER_ENV_FD, WORKER_ENV_SOCKET, WORKER_ENV_KEY, WORKER_ENV_LOGS, WORKER_ENV_RANK, WORKER_ENV_ATTEMPT};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        unsetenv(names[i]); /* a program that the worker starts is no worker */
    return worker_run(trainer, rank, attempt, fd, key);
}
