/* `cadre logs`: what the workers of a run printed. */
#include "cli.h"

#include "base/error.h"
#include "base/io.h"
#include "base/mem.h"
#include "base/terminal.h"
#include "trainer/group.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { RANKS_MAX = 4096, LOOK_MS = 200, TAIL_BYTES = 4 << 20 };

struct log {
    FILE *file;
    int rank;
    char *line; /* as far as it has come, without its end */
    size_t length, room;
};

struct logs {
    struct log *log;
    int count;
    bool names; /* each line begins with its rank */
};

static char *log_path(const char *store_path, int64_t trial, int rank)
{
    const char *slash = strrchr(store_path, '/');
    int length = slash ? (int)(slash - store_path) : 1;
    return base_sprintf("%.*s/trial-%05" PRId64 "/rank%d.log", length, slash ? store_path : ".", trial, rank);
}

/* ---- the tail of one attempt's ---- */

/* Is the line the mark of an attempt? Answers its number, else -1. */
static int attempt_of(const char *line)
{
    int attempt, end = 0;
    return sscanf(line, GROUP_LOG_MARK "%n", &attempt, &end) == 1 && end > 0 && line[end] == '\0' ? attempt : -1;
}

/* As a terminal would be left by it: of a progress bar the last state, and nothing that moves the cursor. */
static void print_ring(char *const *ring, int64_t seen, int lines)
{
    for (int64_t i = seen > lines ? seen - lines : 0; i < seen; i++) {
        char *line = ring[i % lines], *back;
        for (size_t end = strlen(line); end > 0 && line[end - 1] == '\r'; end--)
            line[end - 1] = '\0';
        if ((back = strrchr(line, '\r')))
            line = back + 1;
        for (char *at = line; *at; at++)
            if (*at != '\t')
                memset(at, '?', (size_t)base_terminal_control(at));
        printf("    %.300s\n", line);
    }
}

void cli_log_tail(const char *path, int64_t trial_number, int rank, int attempt, int lines)
{
    char *name = log_path(path, trial_number, rank), *line = NULL;
    FILE *file = name ? fopen(name, "re") : NULL;
    char **ring = file ? base_calloc((size_t)lines, sizeof *ring) : NULL;
    size_t room = 0;
    int64_t seen = 0;
    int at = 0;
    if (ring && fseek(file, -TAIL_BYTES, SEEK_END) != 0) /* shorter than that */
        rewind(file);
    else
        at = -1; /* somewhere within an attempt that is not known */
    for (ssize_t got; ring && (got = getline(&line, &room, file)) >= 0;) {
        line[got > 0 && line[got - 1] == '\n' ? got - 1 : got] = '\0';
        int begins = attempt_of(line);
        at = begins >= 0 ? begins : at;
        if (begins >= 0 || at != attempt)
            continue;
        free(ring[seen % lines]);
        ring[seen % lines] = base_strdup(line);
        if (!ring[seen++ % lines])
            break;
    }
    if (ring && seen > 0) {
        printf("  the end of %s:\n", name);
        print_ring(ring, seen, lines);
    }
    for (int i = 0; ring && i < lines; i++)
        free(ring[i]);
    free(ring);
    free(line);
    free(name);
    if (file)
        fclose(file);
}

/* ---- all of it ---- */

static void print_line(const struct logs *logs, struct log *log)
{
    if (logs->names)
        printf("rank %d: ", log->rank);
    fwrite(log->line, 1, log->length, stdout);
    putchar('\n');
    log->length = 0;
}

static bool keep(struct log *log, const char *text, size_t nbytes)
{
    if (log->length + nbytes > log->room) {
        size_t room = 2 * (log->length + nbytes) + 256;
        char *line = base_realloc(log->line, room);
        if (!line)
            return false;
        log->line = line;
        log->room = room;
    }
    memcpy(log->line + log->length, text, nbytes);
    log->length += nbytes;
    return true;
}

/* Print the whole lines that are there now; false when nothing was. `all`: an unfinished one, too. */
static bool print_what_is_there(const struct logs *logs, struct log *log, bool all)
{
    char text[65536];
    bool any = false;
    clearerr(log->file); /* the end of a file that grows */
    for (size_t got; (got = fread(text, 1, sizeof text, log->file)) > 0;) {
        any = true;
        for (char *at = text, *end = text + got; at < end;) {
            char *stop = memchr(at, '\n', (size_t)(end - at));
            if (!keep(log, at, (size_t)((stop ? stop : end) - at)))
                return false;
            if (stop)
                print_line(logs, log);
            at = stop ? stop + 1 : end;
        }
    }
    if (all && log->length)
        print_line(logs, log);
    return any;
}

/* Go back so many lines from the end. */
static void seek_back(struct log *log, long lines)
{
    char text[4096];
    long long at = fseeko(log->file, 0, SEEK_END) == 0 ? (long long)ftello(log->file) : 0;
    long ends = 0;
    for (bool last = true; at > 0;) {
        size_t part = at < (long long)sizeof text ? (size_t)at : sizeof text;
        at -= (long long)part;
        if (fseeko(log->file, (off_t)at, SEEK_SET) != 0 || fread(text, 1, part, log->file) != part)
            break;
        for (size_t i = part; i-- > 0; last = false)
            if (text[i] == '\n' && !last && ++ends >= lines) {
                fseeko(log->file, (off_t)(at + (long long)i + 1), SEEK_SET);
                return;
            }
    }
    rewind(log->file);
}

/* The logs there are, or one rank's; more may come to be while a run is followed. */
static int open_logs(struct logs *logs, const char *store_path, int64_t trial, long only, long last)
{
    bool more = true;
    for (int rank = only >= 0 ? (int)only : logs->count; more && rank < RANKS_MAX && (only < 0 || logs->count == 0); rank++) {
        char *path = log_path(store_path, trial, rank);
        FILE *file = path ? fopen(path, "re") : NULL;
        int failed = errno;
        more = file != NULL;
        struct log *log = file ? base_realloc(logs->log, (size_t)(logs->count + 1) * sizeof *log) : NULL;
        if (log) {
            logs->log = log;
            log[logs->count++] = (struct log){.file = file, .rank = rank};
            if (last >= 0)
                seek_back(&log[logs->count - 1], last);
        } else if (file) {
            fclose(file);
        } else if (path && failed != ENOENT) {
            base_errno(failed, "%s", path);
            free(path);
            return CADRE_EIO;
        }
        free(path);
    }
    logs->names = logs->count > 1;
    return CADRE_OK;
}

static int follow(struct logs *logs, const char *store_path, int64_t trial, long only)
{
    char owner[512];
    for (bool on = true; on;) {
        on = tracking_lock_held(store_path, owner, sizeof owner); /* looked at first: what is printed to the end is read after it */
        int status = open_logs(logs, store_path, trial, only, -1);
        if (status != CADRE_OK)
            return status;
        bool any = false;
        for (int i = 0; i < logs->count; i++)
            any |= print_what_is_there(logs, &logs->log[i], false);
        if (fflush(stdout) != 0)
            return CADRE_OK; /* nobody reads on */
        if (on && !any)
            nanosleep(&(struct timespec){.tv_nsec = LOOK_MS * 1000000L}, NULL);
    }
    return CADRE_OK;
}

static int find_trial(const cli_run *run, long wanted, int64_t *number)
{
    tracking_trial last;
    int status = tracking_last_trial(run->store, run->id, &last);
    if (status == CADRE_ENOENT)
        return base_error(CADRE_ENOENT, "%s has no trial yet", run->path);
    if (status == CADRE_OK && wanted > last.number)
        return base_error(CADRE_ENOENT, "%s has no trial %ld: the newest is %" PRId64, run->path, wanted, last.number);
    *number = wanted >= 0 ? wanted : last.number;
    return status;
}

static int print_logs(const char *store_path, int64_t trial, long rank, long last, bool following)
{
    struct logs logs = {0};
    int status = open_logs(&logs, store_path, trial, rank, last);
    if (status == CADRE_OK && logs.count == 0 && !following)
        status = rank >= 0 ? base_error(CADRE_ENOENT, "trial %" PRId64 " has no log of rank %ld", trial, rank)
                           : base_error(CADRE_ENOENT, "trial %" PRId64 " has no logs: it was started by mpirun or runs in the program itself, which has what it prints, or it has not begun", trial);
    for (int i = 0; status == CADRE_OK && i < logs.count; i++)
        print_what_is_there(&logs, &logs.log[i], !following);
    if (status == CADRE_OK && following)
        status = follow(&logs, store_path, trial, rank);
    for (int i = 0; i < logs.count; i++) {
        if (status == CADRE_OK && logs.log[i].length)
            print_line(&logs, &logs.log[i]);
        fclose(logs.log[i].file);
        free(logs.log[i].line);
    }
    free(logs.log);
    return status;
}

int cli_logs(int argc, char **argv)
{
    const char *name = NULL, *storage = "runs", *trial_text = NULL, *rank_text = NULL, *last_text = NULL;
    bool following = false;
    long trial = -1, rank = -1, last = -1;
    const cli_option known[] = {
        {"--trial", NULL, &trial_text}, {"--rank", NULL, &rank_text}, {"--last", NULL, &last_text}, {"--storage", NULL, &storage},
        {"-f", &following, NULL}, {"--follow", &following, NULL}, {NULL, NULL, NULL},
    };
    int words = cli_options("logs", argc, argv, known, &name, 1);
    if (words < 0 || (trial_text && !cli_number("logs", "--trial", trial_text, 0, &trial)) || (rank_text && !cli_number("logs", "--rank", rank_text, 0, &rank)) ||
        (last_text && !cli_number("logs", "--last", last_text, 0, &last)))
        return CLI_MISUSED;
    if (words == 0)
        return cli_misuse("logs", "which run? Name an experiment, its directory, or its cadre.db");
    cli_run run;
    int64_t number = 0;
    int code = cli_run_open(&run, name, storage);
    if (code == CLI_DONE && find_trial(&run, trial, &number) != CADRE_OK)
        code = cli_fail("%s", cadre_error_message());
    char *path = code == CLI_DONE ? base_strdup(run.path) : NULL;
    cli_run_close(&run); /* a run that is followed for long needs no reader in its store */
    if (code == CLI_DONE && (!path || print_logs(path, number, rank, last, following) != CADRE_OK))
        code = cli_fail("%s", cadre_error_message());
    free(path);
    return code;
}
