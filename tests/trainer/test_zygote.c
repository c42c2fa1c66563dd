/* The zygote by itself: many workers at once, their exits, their helpers, and either side's death. */
#include "support.h"

#include "trainer/launch/zygote.h"

#include "cadre/status.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

static int channel[2];

static void open_channel(void) { assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, channel), 0); }

static void close_channel(void)
{
    close(channel[0]);
    close(channel[1]);
}

/* What a worker does depends on its attempt: 0 leaves with its rank, 1 waits, 2 leaves a helper and waits, 3 leaves a helper and goes, 4 tells how it finds itself. */
static int work(int rank, int attempt, int control_fd, void *user)
{
    (void)user;
    if (attempt == 0)
        return rank % 100;
    if (attempt >= 2 && attempt <= 3 && fork() == 0) {
        (void)!write(control_fd, "h", 1);
        for (;;)
            pause();
    }
    if (attempt == 3)
        return 0;
    if (attempt == 4) {
        sigset_t mask;
        struct sigaction now;
        sigprocmask(SIG_SETMASK, NULL, &mask);
        bool fine = sigismember(&mask, SIGUSR2) && !sigismember(&mask, SIGCHLD) && !sigismember(&mask, SIGHUP);
        sigaction(SIGCHLD, NULL, &now);
        fine = fine && now.sa_handler == SIG_IGN;
        sigaction(SIGTERM, NULL, &now);
        fine = fine && now.sa_handler == SIG_DFL && getpgid(0) != getpgid(getppid()) && (fcntl(STDIN_FILENO, F_GETFL) & O_ACCMODE) == O_RDONLY;
        return fine ? 0 : 1;
    }
    (void)!write(control_fd, "w", 1);
    for (;;)
        pause();
}

static zygote_event next(zygote *zygote)
{
    zygote_event event;
    bool got = false;
    while (!got) {
        struct pollfd ready = {.fd = zygote->fd, .events = POLLIN};
        if (poll(&ready, 1, 10000) != 1)
            fail_msg("the zygote says nothing");
        assert_int_equal(zygote_next(zygote, &event, &got), CADRE_OK);
    }
    return event;
}

static void hear_from(int count)
{
    char byte;
    for (int i = 0; i < count; i++) {
        struct pollfd ready = {.fd = channel[0], .events = POLLIN};
        if (poll(&ready, 1, 10000) != 1 || read(channel[0], &byte, 1) != 1)
            fail_msg("a worker says nothing");
    }
}

/* More than the socket between the two holds, dying while others are asked for. */
static void many(void **state)
{
    (void)state;
    zygote zygote;
    enum { COUNT = 700 };
    static bool seen[COUNT];
    memset(seen, 0, sizeof seen);
    open_channel();
    assert_int_equal(zygote_start(&zygote, work, NULL), CADRE_OK);
    fcntl(zygote.fd, F_SETFL, O_NONBLOCK); /* as libuv makes it */
    int exits = 0;
    for (int rank = 0; rank < COUNT; rank++) {
        zygote_event event;
        bool got = true;
        assert_int_equal(zygote_spawn(&zygote, rank % 7, rank, 0, channel[1], -1), CADRE_OK);
        while (rank > COUNT / 2 && got) { /* nobody listens for the first half */
            assert_int_equal(zygote_next(&zygote, &event, &got), CADRE_OK);
            if (got) {
                assert_int_equal(event.kind, ZYGOTE_EXITED);
                assert_false(seen[event.rank]);
                seen[event.rank] = true;
                exits++;
            }
        }
    }
    for (; exits < COUNT; exits++) {
        zygote_event event = next(&zygote);
        assert_int_equal(event.kind, ZYGOTE_EXITED);
        assert_int_equal(event.group, event.rank % 7);
        assert_true(WIFEXITED(event.wait_status) && WEXITSTATUS(event.wait_status) == event.rank % 100);
        assert_false(seen[event.rank]);
        seen[event.rank] = true;
    }
    zygote_stop(&zygote);
    zygote_stop(&zygote); /* fine when there is none */
    close_channel();
}

static void groups(void **state)
{
    (void)state;
    zygote zygote;
    open_channel();
    assert_int_equal(zygote_start(&zygote, work, NULL), CADRE_OK);
    for (int rank = 0; rank < 3; rank++) {
        assert_int_equal(zygote_spawn(&zygote, 1, rank, 2, channel[1], -1), CADRE_OK);
        assert_int_equal(zygote_spawn(&zygote, 2, rank, 1, channel[1], -1), CADRE_OK);
    }
    hear_from(9);
    assert_int_equal(zygote_signal(&zygote, 9, SIGKILL), CADRE_OK); /* a group that is not there */
    assert_int_equal(zygote_signal(&zygote, 1, SIGTERM), CADRE_OK);
    for (int i = 0; i < 3; i++) {
        zygote_event event = next(&zygote);
        assert_int_equal(event.group, 1);
        assert_true(WIFSIGNALED(event.wait_status) && WTERMSIG(event.wait_status) == SIGTERM);
    }
    assert_int_equal(zygote_spawn(&zygote, 3, 0, 3, channel[1], -1), CADRE_OK); /* goes, and leaves a helper */
    zygote_event event = next(&zygote);
    assert_int_equal(event.group, 3);
    struct pollfd quiet = {.fd = zygote.fd, .events = POLLIN};
    assert_int_equal(poll(&quiet, 1, 50), 0); /* group 2 goes on */
    zygote_stop(&zygote);
    close_channel();
}

/* Signals that go to everybody do not reach it; workers find things as the program had them. */
static void signals(void **state)
{
    (void)state;
    zygote zygote;
    sigset_t mask, was;
    sigemptyset(&mask);
    sigaddset(&mask, SIGUSR2);
    sigprocmask(SIG_BLOCK, &mask, &was);
    signal(SIGCHLD, SIG_IGN);
    open_channel();
    assert_int_equal(zygote_start(&zygote, work, NULL), CADRE_OK);
    assert_int_equal(zygote_spawn(&zygote, 1, 0, 4, channel[1], -1), CADRE_OK);
    zygote_event event = next(&zygote);
    assert_int_equal(event.wait_status, 0);
    kill(zygote.pid, SIGTERM);
    kill(zygote.pid, SIGINT);
    kill(zygote.pid, SIGHUP);
    kill(zygote.pid, SIGPIPE);
    assert_int_equal(zygote_spawn(&zygote, 1, 5, 0, channel[1], -1), CADRE_OK);
    event = next(&zygote);
    assert_int_equal(WEXITSTATUS(event.wait_status), 5);
    zygote_stop(&zygote);
    signal(SIGCHLD, SIG_DFL);
    sigprocmask(SIG_SETMASK, &was, NULL);
    close_channel();
}

static void deaths(void **state)
{
    (void)state;
    zygote zygote;
    zygote_event event;
    bool got = true;
    open_channel();
    assert_int_equal(zygote_start(&zygote, work, NULL), CADRE_OK);
    assert_int_equal(zygote_spawn(&zygote, 1, 0, 1, channel[1], -1), CADRE_OK);
    hear_from(1);
    kill(zygote.pid, SIGKILL);
    while (got && zygote_next(&zygote, &event, &got) == CADRE_OK)
        poll(&(struct pollfd){.fd = zygote.fd, .events = POLLIN}, 1, 1000), got = true;
    assert_int_equal(zygote_next(&zygote, &event, &got), CADRE_ECLOSED);
    assert_int_not_equal(zygote_spawn(&zygote, 1, 0, 1, channel[1], -1), CADRE_OK);
    zygote_stop(&zygote); /* its worker is gone, too: the teardown looks */

    pid_t controller = fork();
    if (controller == 0) { /* dies with a copy of itself holding the socket open */
        if (zygote_start(&zygote, work, NULL) != CADRE_OK || zygote_spawn(&zygote, 1, 0, 2, channel[1], -1) != CADRE_OK)
            _exit(1);
        if (fork() == 0) {
            close(channel[0]);
            close(channel[1]);
            sleep(2);
            _exit(0);
        }
        hear_from(2);
        raise(SIGKILL);
    }
    int wait_status;
    assert_int_equal(waitpid(controller, &wait_status, 0), controller);
    assert_true(WIFSIGNALED(wait_status));
    int gone = 0;
    for (int i = 0; i < 1000 && gone < 3; i++) { /* zygote, worker and helper, long before the copy */
        gone += waitpid(-1, NULL, WNOHANG) > 0;
        usleep(1000);
    }
    assert_int_equal(gone, 3);
    close_channel();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(many, scratch_make, scratch_remove),
        cmocka_unit_test_setup_teardown(groups, scratch_make, scratch_remove),
        cmocka_unit_test_setup_teardown(signals, scratch_make, scratch_remove),
        cmocka_unit_test_setup_teardown(deaths, scratch_make, scratch_remove),
    };
    return cmocka_run_group_tests_name("trainer: zygote", tests, NULL, NULL);
}
