#include "door.h"

#include "base/clock.h"
#include "base/error.h"
#include "base/frame.h"
#include "base/io.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/private.h"
#include "trainer/message.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>
#include <xxhash.h>

enum { MORE_CALLERS = 64, AT_ONCE = 32, HELLO_LIMIT = 4096, MENTIONED = 10, KEY_BYTES = 16, BASE_MAX = 40, TICK_MS = 1000 };
static const double HELLO_S = 30; /* on a machine that swaps, too */

/* A connection that has not said hello yet. */
struct caller {
    uv_poll_t poll;
    door *door;
    int fd;
    pid_t pid;
    double since;
    base_buffer input;
    struct caller *next;
};

struct door {
    trainer_group *group;
    uv_poll_t listener;
    uv_timer_t timer;
    int fd;
    bool open, deaf; /* deaf: no descriptor is left for a caller; the timer tries again */
    char directory[BASE_MAX + 56], key[2 * KEY_BYTES + 1];
    struct caller *callers; /* the newest first */
    int count, refused;
    int handles; /* open libuv handles; it is freed with the last */
    bool closed;
};

static void refuse(door *door, const char *fmt, ...) BASE_PRINTF(2, 3);

/* Each in one line, as long as they are not very many. */
static void refuse(door *door, const char *fmt, ...)
{
    char why[300];
    va_list args;
    va_start(args, fmt);
    vsnprintf(why, sizeof why, fmt, args);
    va_end(args);
    if (++door->refused <= MENTIONED)
        base_log(CADRE_LOG_WARN, "trainer", "a connection that is no worker of this group was refused: %s%s", why,
                 door->refused == MENTIONED ? " (more of them are not mentioned)" : "");
}

static void let_go(door *door)
{
    if (--door->handles == 0 && door->closed)
        free(door);
}

static void on_handle_closed(uv_handle_t *handle) { let_go(handle->data); }

static void on_caller_closed(uv_handle_t *handle)
{
    struct caller *caller = (struct caller *)((char *)handle - offsetof(struct caller, poll));
    door *door = caller->door;
    base_buffer_free(&caller->input);
    free(caller);
    let_go(door);
}

/* It is no caller any more; its descriptor is the one's who asks. */
static int take_fd(struct caller *caller)
{
    door *door = caller->door;
    for (struct caller **at = &door->callers; *at; at = &(*at)->next)
        if (*at == caller) {
            *at = caller->next;
            break;
        }
    door->count--;
    uv_poll_stop(&caller->poll);
    uv_close((uv_handle_t *)&caller->poll, on_caller_closed);
    return caller->fd;
}

static void turn_away(struct caller *caller, const char *why)
{
    refuse(caller->door, "%s", why);
    close(take_fd(caller));
}

/* ---- the hello --------------------------------------------------------------------------------------------------------------- */

/* Take what has come, no more than a hello may have. CADRE_ETIMEDOUT: it is not whole yet. */
static int receive_hello(struct caller *caller, const unsigned char **payload, size_t *nbytes)
{
    bool whole;
    int status = base_buffer_reserve(&caller->input, HELLO_LIMIT + 4 - caller->input.length);
    if (status != CADRE_OK)
        return status;
    ssize_t got = recv(caller->fd, caller->input.data + caller->input.length, HELLO_LIMIT + 4 - caller->input.length, MSG_DONTWAIT);
    if (got < 0 && (errno == EAGAIN || errno == EINTR))
        return CADRE_ETIMEDOUT;
    if (got < 0)
        return base_errno(errno, "read its hello");
    if (got == 0)
        return base_error(CADRE_ECLOSED, "it left without a hello");
    caller->input.length += (size_t)got;
    status = base_frame_next(&caller->input, payload, nbytes, &whole);
    if (status != CADRE_OK || whole)
        return status;
    return caller->input.length < HELLO_LIMIT + 4 ? CADRE_ETIMEDOUT : base_error(CADRE_EPROTO, "its first message is longer than a hello");
}

/* Why a message is no hello of a worker that is waited for; NULL: it is one. */
static const char *wrong_with(const door *door, const json_t *message)
{
    const trainer_group *group = door->group;
    int64_t rank = message_int(message, "rank", -1);
    if (!message_is(message, "hello"))
        return "its first message is no hello";
    if (strcmp(message_string(message, "key", ""), door->key) != 0)
        return "its hello has not the key of this group";
    if (message_attempt(message) != group->attempt)
        return "its hello is of another attempt";
    if (rank < 0 || rank >= group->world)
        return "its hello is of a rank that there is not";
    if (group->workers[rank].greeted || group->workers[rank].exited || group->workers[rank].fd >= 0)
        return "its hello is of a rank that has called already";
    return group->ending || group->ended ? "the group is at its end" : NULL;
}

static void on_caller(uv_poll_t *poll, int poll_status, int events)
{
    struct caller *caller = (struct caller *)((char *)poll - offsetof(struct caller, poll));
    trainer_group *group = caller->door->group;
    const unsigned char *payload;
    size_t nbytes;
    json_t *message = NULL;
    (void)poll_status;
    (void)events;
    int status = receive_hello(caller, &payload, &nbytes);
    if (status == CADRE_ETIMEDOUT)
        return;
    if (status == CADRE_OK)
        status = message_parse(payload, nbytes, &message);
    const char *wrong = status == CADRE_OK ? wrong_with(caller->door, message) : cadre_error_message();
    int64_t rank = message_int(message, "rank", -1);
    json_decref(message);
    if (wrong) {
        turn_away(caller, wrong);
        return;
    }
    base_buffer first = caller->input;
    caller->input = (base_buffer){0};
    group->workers[rank].pid = caller->pid;
    group_connect_with(group, (int)rank, take_fd(caller), &first);
    base_buffer_free(&first);
}

/* ---- listening ---------------------------------------------------------------------------------------------------------------- */

static struct caller *oldest(const door *door)
{
    struct caller *last = door->callers;
    while (last && last->next)
        last = last->next;
    return last;
}

static void listen_on(door *door, bool on);

static int add_caller(door *door, int fd)
{
    pid_t pid = 0;
    int status = base_private_peer(fd, &pid);
    struct caller *caller = status == CADRE_OK ? base_calloc(1, sizeof *caller) : NULL;
    if (!caller)
        return status == CADRE_OK ? CADRE_ENOMEM : status;
    int failed = uv_poll_init(door->group->loop, &caller->poll, fd);
    if (failed) {
        free(caller);
        return base_error(CADRE_ESYSTEM, "watch it: %s", uv_strerror(failed));
    }
    caller->door = door;
    caller->fd = fd;
    caller->pid = pid;
    caller->since = base_now();
    caller->next = door->callers;
    door->callers = caller;
    door->count++;
    door->handles++;
    uv_poll_start(&caller->poll, UV_READABLE, on_caller);
    return CADRE_OK;
}

/* One that waits to be heard; false: there is none, or nothing to hear it with. */
static bool accept_one(door *door)
{
    int fd = accept4(door->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (fd < 0) {
        if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM)
            listen_on(door, false); /* or the loop would turn for nothing else */
        return false;
    }
    if (add_caller(door, fd) != CADRE_OK) {
        refuse(door, "%s", cadre_error_message());
        close(fd);
    } else if (door->count > door->group->world + MORE_CALLERS) {
        turn_away(oldest(door), "too many connections say nothing");
    }
    return true;
}

static void on_connection(uv_poll_t *poll, int poll_status, int events)
{
    (void)poll_status;
    (void)events;
    for (int i = 0; i < AT_ONCE && accept_one(poll->data); i++)
        ;
}

static void listen_on(door *door, bool on)
{
    door->deaf = !on;
    if (on)
        uv_poll_start(&door->listener, UV_READABLE, on_connection);
    else
        uv_poll_stop(&door->listener);
}

static void on_tick(uv_timer_t *timer)
{
    door *door = timer->data;
    double now = base_now();
    for (struct caller *last; (last = oldest(door)) && now - last->since > HELLO_S;)
        turn_away(last, "it said no hello in time");
    if (door->deaf)
        listen_on(door, true);
}

/* ---- the directory -------------------------------------------------------------------------------------------------------------- */

/* The directories of one run have a common beginning: only one controller at a time has the run, so what is there was left by a killed one. */
static void name_prefix(const trainer_group *group, char *prefix, size_t nbytes)
{
    snprintf(prefix, nbytes, "cadre-%08x-", (unsigned)XXH3_64bits(group->directory, strlen(group->directory)));
}

static void sweep(const char *base, const char *prefix)
{
    DIR *directory = opendir(base);
    for (struct dirent *entry; directory && (entry = readdir(directory));) {
        struct stat info;
        if (strncmp(entry->d_name, prefix, strlen(prefix)) != 0 || fstatat(dirfd(directory), entry->d_name, &info, AT_SYMLINK_NOFOLLOW) != 0 ||
            !S_ISDIR(info.st_mode) || info.st_uid != geteuid())
            continue;
        char *path = base_path_join(base, entry->d_name);
        if (!path || base_remove_tree(path) != CADRE_OK)
            base_log(CADRE_LOG_WARN, "trainer", "%s", cadre_error_message());
        free(path);
    }
    if (directory)
        closedir(directory);
}

static int make_directory(door *door)
{
    const char *base = getenv("XDG_RUNTIME_DIR");
    if (!base || *base != '/' || strlen(base) > BASE_MAX || base_private_parent(base) != CADRE_OK)
        base = "/tmp";
    int status = base_private_parent(base);
    if (status != CADRE_OK)
        return status;
    char prefix[40];
    name_prefix(door->group, prefix, sizeof prefix);
    sweep(base, prefix);
    snprintf(door->directory, sizeof door->directory, "%s/%sXXXXXX", base, prefix);
    if (!mkdtemp(door->directory)) { /* mode 0700, and a name that nobody had */
        status = base_errno(errno, "make the private directory %s", door->directory);
        door->directory[0] = '\0';
    }
    return status;
}

static int make_key(door *door)
{
    unsigned char bytes[KEY_BYTES];
    if (getrandom(bytes, sizeof bytes, 0) != (ssize_t)sizeof bytes)
        return base_errno(errno, "draw a key");
    for (int i = 0; i < KEY_BYTES; i++)
        snprintf(door->key + 2 * i, 3, "%02x", bytes[i]);
    return CADRE_OK;
}

static int listen_in(door *door)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int length = snprintf(address.sun_path, sizeof address.sun_path, "%s/controller", door->directory);
    if (length < 0 || length >= (int)sizeof address.sun_path)
        return base_error(CADRE_EINVAL, "the path of the controller's socket is too long: %s", door->directory);
    door->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (door->fd < 0 || bind(door->fd, (struct sockaddr *)&address, sizeof address) != 0 || listen(door->fd, SOMAXCONN) != 0)
        return base_errno(errno, "listen at %s", address.sun_path);
    int failed = uv_poll_init(door->group->loop, &door->listener, door->fd);
    if (failed)
        return base_error(CADRE_ESYSTEM, "watch %s: %s", address.sun_path, uv_strerror(failed));
    uv_timer_init(door->group->loop, &door->timer);
    door->listener.data = door->timer.data = door;
    door->open = true;
    door->handles = 2;
    uv_timer_start(&door->timer, on_tick, TICK_MS, TICK_MS);
    listen_on(door, true);
    return CADRE_OK;
}

int door_open(trainer_group *group, door **out)
{
    door *made = base_calloc(1, sizeof *made);
    *out = made;
    if (!made)
        return CADRE_ENOMEM;
    made->group = group;
    made->fd = -1;
    int status = make_key(made);
    if (status == CADRE_OK)
        status = make_directory(made);
    return status == CADRE_OK ? listen_in(made) : status;
}

const char *door_directory(const door *door) { return door->directory; }

const char *door_key(const door *door) { return door->key; }

void door_close(door *door)
{
    if (!door)
        return;
    while (door->callers)
        close(take_fd(door->callers));
    if (door->open) {
        uv_poll_stop(&door->listener);
        uv_close((uv_handle_t *)&door->listener, on_handle_closed);
        uv_close((uv_handle_t *)&door->timer, on_handle_closed);
    }
    base_close(door->fd);
    if (door->directory[0])
        base_remove_tree(door->directory);
    door->closed = true;
    if (door->handles == 0)
        free(door);
}
