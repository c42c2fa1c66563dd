/* `cadre tune` on a terminal: the live table in a narrow window, Ctrl-C once and twice. */
#include "shell.h"
#include "tests/tracking/helpers.h"

#include <errno.h>
#include <pty.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static char screen[1 << 18];
static size_t length;

static int setup(void **state)
{
    (void)state;
    snprintf(place, sizeof place, "%s", helpers_directory());
    script("slow", "for i in 1 2 3 4 5 6; do cadre report loss=$i || exit 0; sleep 0.2; done\n");
    script("deaf", "trap '' INT TERM USR1\nwhile :; do cadre report loss=1; sleep 0.1; done\n");
    length = 0;
    screen[0] = '\0';
    setenv("TERM", "xterm", 1);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    helpers_remove();
    return 0;
}

/* Start it in a window of so many columns. */
static pid_t begin(const char *line, unsigned short columns, int *terminal)
{
    struct winsize size = {.ws_row = 12, .ws_col = columns};
    char command[2048];
    snprintf(command, sizeof command, "cd '%s' && PATH=\"$(dirname '%s'):$PATH\" && exec %s", place, getenv("CADRE_CLI"), line);
    pid_t pid = forkpty(terminal, NULL, NULL, &size);
    if (pid == 0) {
        execl("/bin/sh", "sh", "-c", command, (char *)NULL);
        _exit(127);
    }
    assert_true(pid > 0);
    return pid;
}

/* Read on until the words are there; false: it has ended. */
static bool read_until(int terminal, const char *words)
{
    while (!words || !strstr(screen, words)) {
        assert_true(length + 1 < sizeof screen);
        ssize_t got = read(terminal, screen + length, sizeof screen - 1 - length);
        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0)
            return false; /* EIO: the other side is closed */
        length += (size_t)got;
        screen[length] = '\0';
    }
    return true;
}

static int finish(pid_t pid, int terminal)
{
    int status;
    read_until(terminal, NULL);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    close(terminal);
    assert_true(WIFEXITED(status));
    return WEXITSTATUS(status);
}

/* The widest line that was drawn, up to what comes after the table. */
static int widest(void)
{
    const char *end = strstr(screen, "6 trials in ");
    int column = 0, most = 0;
    for (const char *at = screen; at < end; at++) {
        if (*at == '\033') {
            at += strcspn(at, "ABCDHJKm");
            continue;
        }
        column = *at == '\n' || *at == '\r' ? 0 : column + 1;
        most = column > most ? column : most;
    }
    return most;
}

#define WIDE "--learning_rate '~loguniform(1e-5, 1e-1)' --weight_decay '~loguniform(1e-5, 1e-1)' --nesterov '~choice(true, false)' --batch '~choice(100000, 200000)'"

static void test_width(void **state)
{
    (void)state;
    int terminal;
    for (unsigned short columns = 40; columns <= 80; columns += 40) {
        char line[600];
        snprintf(line, sizeof line, "cadre tune --name w%d -n 6 --metric loss --min -j 2 -- ./slow " WIDE, columns);
        length = 0;
        pid_t pid = begin(line, columns, &terminal);
        assert_int_equal(finish(pid, terminal), 0);
        assert_non_null(strstr(screen, "6 trials in "));
        assert_non_null(strstr(screen, "\033[3A\033[J")); /* two trials and a line above them are drawn over */
        assert_int_equal(widest(), columns - 1);
        const char *best = strstr(screen, "best: trial "); /* which is not cut */
        assert_true(best && (strstr(best, "nesterov true") || strstr(best, "nesterov false")));
        assert_non_null(strstr(best, "00000"));
    }
}

/* Where nothing can be drawn over it is as in a file: a line a trial. */
static void test_dumb(void **state)
{
    (void)state;
    int terminal;
    setenv("TERM", "dumb", 1);
    pid_t pid = begin("cadre tune --name dumb -n 3 --metric loss --min -j 2 -- ./slow " WIDE, 100, &terminal);
    assert_int_equal(finish(pid, terminal), 0);
    assert_null(strchr(screen, '\033'));
    assert_non_null(strstr(screen, "3 trials in "));
    int lines = 0;
    for (const char *at = screen; (at = strstr(at, "complete  loss 6 after 6")); at++)
        lines++;
    assert_int_equal(lines, 3);
}

static void test_once(void **state)
{
    (void)state;
    int terminal;
    pid_t pid = begin("cadre tune --name once -n 1000 --metric loss --min -j 2 -- ./slow " WIDE, 100, &terminal);
    assert_true(read_until(terminal, "loss "));
    assert_int_equal(write(terminal, "\003", 1), 1);
    assert_int_equal(finish(pid, terminal), 130);
    assert_non_null(strstr(screen, "interrupted: the trials are asked to save and leave; Ctrl-C once more ends them at once"));
    assert_non_null(strstr(screen, "to be resumed"));
    assert_non_null(strstr(screen, "go on with \"cadre resume once\""));
}

/* Programs that do not listen have half a minute; not after a second Ctrl-C. */
static void test_twice(void **state)
{
    (void)state;
    int terminal;
    char path[500];
    pid_t pid = begin("cadre tune --name twice -n 100 --metric loss --min -j 2 -- ./deaf " WIDE, 100, &terminal);
    assert_true(read_until(terminal, "loss 1 after "));
    assert_int_equal(write(terminal, "\003", 1), 1);
    assert_true(read_until(terminal, "leaving"));
    assert_int_equal(write(terminal, "\003", 1), 1);
    assert_int_equal(finish(pid, terminal), 130);
    assert_non_null(strstr(screen, "2 to be resumed"));
    snprintf(path, sizeof path, "%s/runs/twice/cadre.db", place);
    assert_int_equal(helpers_int(path, "SELECT count(*) FROM cadre_attempts WHERE ended IS NOT NULL AND cause = 'stopped'"), 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_width, setup, teardown),
        cmocka_unit_test_setup_teardown(test_dumb, setup, teardown),
        cmocka_unit_test_setup_teardown(test_once, setup, teardown),
        cmocka_unit_test_setup_teardown(test_twice, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
