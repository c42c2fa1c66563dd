/* `cadre report`: a report from a script, and the answer to it as an exit code. */
#include "cli.h"

#include "base/mem.h"
#include "tuner/command.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

/* NAME=NUMBER into the report. */
static int add(json_t *report, const char *word)
{
    const char *equals = strchr(word, '=');
    char *end, *name;
    if (!equals || equals == word)
        return cli_misuse("report", "\"%s\" is not METRIC=VALUE", word);
    double value = strtod(equals + 1, &end);
    if (end == equals + 1 || *end)
        return cli_misuse("report", "%s: the value is no number", word);
    if (!(name = base_sprintf("%.*s", (int)(equals - word), word)))
        return cli_fail("out of memory");
    int failed;
    if (json_object_get(report, name))
        failed = 2;
    else if (strcmp(name, "step") == 0)
        failed = value < 1 || value != floor(value) || value > 9e15 ? 3 : json_object_set_new(report, name, json_integer((json_int_t)value));
    else
        failed = json_object_set_new(report, name, isfinite(value) ? json_real(value) : json_string(isnan(value) ? "nan" : value > 0 ? "inf" : "-inf"));
    free(name);
    if (failed == 2)
        return cli_misuse("report", "%.*s is there twice", (int)(equals - word), word);
    if (failed == 3)
        return cli_misuse("report", "%s: a step is a whole number of at least 1", word);
    return failed ? cli_misuse("report", "%.*s is no plain text", (int)(equals - word), word) : CLI_DONE;
}

static int descriptor(const char *name)
{
    const char *text = getenv(name);
    char *end;
    long fd = text ? strtol(text, &end, 10) : -1;
    return text && *text && !*end && fd >= 0 && fd < 1024 && fcntl((int)fd, F_GETFD) >= 0 ? (int)fd : -1;
}

/* The next line; one byte at a time, since what follows is somebody else's. False: there is none. */
static bool read_line(int fd, char *line, size_t nbytes, bool wait)
{
    size_t used = 0;
    for (;;) {
        struct pollfd ready = {.fd = fd, .events = POLLIN};
        if (!wait && used == 0 && poll(&ready, 1, 0) <= 0)
            return false;
        char c;
        ssize_t got = read(fd, &c, 1);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0 && errno == EAGAIN) {
            poll(&ready, 1, -1);
            continue;
        }
        if (got <= 0)
            return false;
        if (c == '\n')
            break;
        if (used + 1 < nbytes)
            line[used++] = c;
    }
    line[used] = '\0';
    return true;
}

static int send_report(int report, int control, const char *text)
{
    char answer[512];
    bool stop = false;
    while (read_line(control, answer, sizeof answer, false)) /* answers that nobody has read */
        stop |= strcmp(answer, "stop") == 0;
    size_t length = strlen(text);
    for (size_t sent = 0; sent < length;) {
        ssize_t wrote = write(report, text + sent, length - sent);
        if (wrote < 0 && errno != EINTR)
            return stop ? CLI_STOP : cli_fail("cannot report: %s", strerror(errno));
        sent += wrote > 0 ? (size_t)wrote : 0;
    }
    if (!read_line(control, answer, sizeof answer, true))
        return stop ? CLI_STOP : cli_fail("nobody answers the report: the tuner is gone");
    if (strncmp(answer, "ignored ", 8) == 0)
        return stop ? CLI_STOP : cli_fail("the report was ignored: %s", answer + 8);
    return stop || strcmp(answer, "stop") == 0 ? CLI_STOP : CLI_DONE;
}

/* Reports of one trial go one after the other, or one would read another's answer. */
static int take_turn(void)
{
    const char *directory = getenv("CADRE_TRIAL_DIR");
    char *path = directory ? base_sprintf("%s/.report", directory) : NULL;
    int fd = path ? open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600) : -1;
    free(path);
    if (fd >= 0)
        flock(fd, LOCK_EX);
    return fd;
}

int cli_report(int argc, char **argv)
{
    bool checkpoint = false;
    const char *words[CADRE_MAX_METRICS + 1];
    const cli_option known[] = {{"--checkpoint", &checkpoint, NULL}, {NULL, NULL, NULL}};
    int count = cli_options("report", argc, argv, known, words, CADRE_MAX_METRICS + 1);
    if (count < 0)
        return CLI_MISUSED;
    if (count == 0)
        return cli_misuse("report", "what? cadre report loss=0.3 step=5");
    json_t *report = json_object();
    int code = report ? CLI_DONE : cli_fail("out of memory");
    for (int i = 0; code == CLI_DONE && i < count; i++)
        code = add(report, words[i]);
    if (code == CLI_DONE && json_object_size(report) == 1 && json_object_get(report, "step"))
        code = cli_misuse("report", "a step alone is no report: name a metric");
    if (code == CLI_DONE && checkpoint)
        json_object_set_new(report, "checkpoint", json_true());
    int out = descriptor("CADRE_REPORT_FD"), in = descriptor("CADRE_CONTROL_FD");
    if (code == CLI_DONE && (out < 0 || in < 0))
        code = cli_fail("not in a trial: CADRE_REPORT_FD and CADRE_CONTROL_FD do not name open descriptors");
    char *json = code == CLI_DONE ? json_dumps(report, JSON_COMPACT) : NULL, *line = json ? base_sprintf("%s\n", json) : NULL;
    if (code == CLI_DONE && !line)
        code = cli_fail("out of memory");
    if (code == CLI_DONE) {
        int turn = take_turn();
        code = send_report(out, in, line);
        if (turn >= 0)
            close(turn);
    }
    free(line);
    free(json);
    json_decref(report);
    return code;
}
