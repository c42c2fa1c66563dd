/*
 * How long a fault is unnoticed, and how long nothing is trained because of it.
 *
 *     bench_faults [--faults N] [DIRECTORY]
 *
 * A forked group of two workers trains: a gradient sync and cadre_step in steps of some milliseconds, a checkpoint each
 * 50 steps. At random moments one of them, drawn anew each time, gets SIGKILL, N times (100); then the same with
 * SIGSTOP and a hang_timeout of 1 s. Measured from outside, by this program, which sends the signals:
 *
 *     noticed         from the signal to the end of the attempt as the controller puts it into the store
 *     training again  from the signal to the first step that the next attempt has finished on both ranks
 *     restart         the part of that after the fault was noticed
 *
 * For SIGSTOP less the timeout, which begins with the last sign of life before the signal. A run in which an attempt
 * ended for another reason, or other than N times, is an error. Stores go into a new folder in DIRECTORY (the current
 * one), which is removed. On a machine that others use, `chrt -r 1` in front gives it the cores all the same.
 */
#include "bench/bench.h"
#include "cadre/cadre.h"

#include <signal.h>
#include <sqlite3.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { WORKERS = 2, MOST_FAULTS = 10000, VALUES = 65536, EVERY_STEPS = 50, WORK = 200000 };
static const double HANG_TIMEOUT_S = 1;

/* Shared by the bench, the controller and its workers. Times are microseconds of CLOCK_REALTIME, as in the store. */
static struct board {
    atomic_bool over;
    atomic_int pids[MOST_FAULTS + 1][WORKERS];
    atomic_llong stepped[MOST_FAULTS + 1][WORKERS]; /* the attempt's first step was done */
    int64_t struck[MOST_FAULTS], ended[MOST_FAULTS];
} * board;

static char folder[BENCH_FOLDER];

static int64_t now_us(void)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return (int64_t)now.tv_sec * 1000000 + now.tv_nsec / 1000;
}

static int complain(const char *what)
{
    fprintf(stderr, "bench_faults: %s\n", what);
    return -1;
}

/* ---- what is trained ---- */

static int train(cadre_session *session, const cadre_config *config, void *user)
{
    (void)config;
    (void)user;
    int rank = cadre_session_rank(session), attempt = cadre_session_attempt(session);
    float *values = calloc(VALUES, sizeof *values);
    cadre_state *state = NULL;
    bool over = false;
    if (!values)
        return CADRE_ENOMEM;
    int status = cadre_state_new(&state);
    if (status == CADRE_OK)
        status = cadre_state_add_tensor(state, "values", CADRE_STATE_F32, 1, (int64_t[]){VALUES}, values);
    if (status == CADRE_OK)
        status = cadre_session_restore(session, state);
    for (int64_t step = 0; status == CADRE_OK && !over; step++) {
        values[0] = atomic_load(&board->over) ? 1 : 0; /* all ranks leave at the same step */
        for (int i = 0; i < WORK; i++)
            values[1 + i % (VALUES - 1)] += 1e-3f * (float)(rank + 1);
        status = cadre_all_reduce(cadre_session_comm(session), values, VALUES, CADRE_FLOAT32, CADRE_MEAN);
        over = values[0] > 0;
        if (status == CADRE_OK)
            status = cadre_step(session, state);
        if (status == CADRE_OK && step == 0 && attempt <= MOST_FAULTS) {
            atomic_store(&board->pids[attempt][rank], (int)getpid());
            atomic_store(&board->stepped[attempt][rank], now_us());
        }
    }
    cadre_state_free(state);
    free(values);
    return status < 0 ? status : CADRE_OK;
}

static int control(bool hangs)
{
    cadre_trainer trainer = {.train = train,
                             .scaling = {.num_workers = WORKERS},
                             .run = {.name = hangs ? "hangs" : "kills", .storage = folder},
                             .failure = {.max_failures = -1, .hang_timeout_s = hangs ? HANG_TIMEOUT_S : 0},
                             .checkpoint = {.keep = 1, .every_steps = EVERY_STEPS}};
    return cadre_trainer_fit(&trainer, NULL) == CADRE_OK ? 0 : complain(cadre_error_message());
}

/* ---- faults ---- */

static bool is_stepping(int attempt)
{
    for (int rank = 0; rank < WORKERS; rank++)
        if (atomic_load(&board->stepped[attempt][rank]) == 0)
            return false;
    return true;
}

static int await_steps(pid_t controller, int attempt)
{
    for (int waited = 0; !is_stepping(attempt); waited++) {
        if (waitpid(controller, NULL, WNOHANG) != 0)
            return complain("the controller has ended");
        if (waited > 60000)
            return complain("a minute without a step");
        usleep(1000);
    }
    return 0;
}

/* In the bench's own process. The controller is a child that is waited for here. */
static int strike(int faults, bool hangs)
{
    fflush(NULL);
    pid_t controller = fork();
    if (controller < 0)
        return complain("fork failed");
    if (controller == 0)
        _exit(control(hangs) != 0);
    int status = 0, wait_status = -1;
    for (int i = 0; status == 0 && i <= faults; i++) {
        status = await_steps(controller, i);
        if (status != 0 || i == faults)
            break;
        usleep((useconds_t)(20000 + rand() % 200000));
        board->struck[i] = now_us();
        kill(atomic_load(&board->pids[i][rand() % WORKERS]), hangs ? SIGSTOP : SIGKILL);
    }
    if (status != 0) {
        kill(controller, SIGKILL);
        return status;
    }
    atomic_store(&board->over, true);
    return waitpid(controller, &wait_status, 0) == controller && wait_status == 0 ? 0 : complain("the training failed");
}

static int read_ends(int faults, bool hangs)
{
    char path[1200];
    sqlite3 *db = NULL;
    sqlite3_stmt *statement = NULL;
    int found = 0, others = 0;
    snprintf(path, sizeof path, "%s/%s/cadre.db", folder, hangs ? "hangs" : "kills");
    if (sqlite3_open_v2(path, &db, SQLITE_OPEN_READONLY, NULL) == SQLITE_OK &&
        sqlite3_prepare_v2(db,
                           "SELECT attempt, CAST(strftime('%s', substr(ended, 1, 19)) AS INTEGER) * 1000000 + "
                           "CAST(substr(ended, 21, 6) AS INTEGER), cause "
                           "FROM cadre_attempts ORDER BY attempt",
                           -1, &statement, NULL) == SQLITE_OK)
        while (sqlite3_step(statement) == SQLITE_ROW) {
            const char *cause = (const char *)sqlite3_column_text(statement, 2);
            int attempt = sqlite3_column_int(statement, 0);
            if (attempt >= 0 && attempt < faults && cause && strcmp(cause, hangs ? "hung" : "killed") == 0) {
                board->ended[attempt] = sqlite3_column_int64(statement, 1);
                found++;
            } else {
                others++;
            }
        }
    sqlite3_finalize(statement);
    sqlite3_close(db);
    return found == faults && others == 1
               ? 0
               : complain(
                     "the store has other attempts than there were faults"); /* the one is the last, which ended well */
}

/* ---- printing ---- */

static void print_row(const char *what, double *ms, int count, double bar_ms)
{
    qsort(ms, (size_t)count, sizeof *ms, bench_by_value);
    printf("  %-44s p50 %8.1f ms   p99 %8.1f ms   most %8.1f ms", what, ms[count / 2], ms[count * 99 / 100],
           ms[count - 1]);
    printf(bar_ms > 0 ? "   bar <= %g ms\n" : "\n", bar_ms);
}

static void print(int faults, bool hangs)
{
    static double noticed[MOST_FAULTS], again[MOST_FAULTS], restart[MOST_FAULTS];
    double timeout_ms = hangs ? 1e3 * HANG_TIMEOUT_S : 0;
    for (int i = 0; i < faults; i++) {
        int64_t stepped = 0;
        for (int rank = 0; rank < WORKERS; rank++) {
            int64_t at = atomic_load(&board->stepped[i + 1][rank]);
            stepped = at > stepped ? at : stepped;
        }
        noticed[i] = 1e-3 * (double)(board->ended[i] - board->struck[i]) - timeout_ms;
        again[i] = 1e-3 * (double)(stepped - board->struck[i]) - timeout_ms;
        restart[i] = 1e-3 * (double)(stepped - board->ended[i]);
    }
    printf("%s, %d times%s\n", hangs ? "SIGSTOP" : "SIGKILL", faults, hangs ? ", after a hang_timeout of 1 s" : "");
    print_row("noticed", noticed, faults, hangs ? 10000 : 2000);
    print_row("training again", again, faults, hangs ? 0 : 1000);
    print_row("restart: from noticed to the first step", restart, faults, 1000);
    fflush(stdout);
}

static int measure(int faults, bool hangs)
{
    memset(board, 0, sizeof *board);
    int status = strike(faults, hangs);
    if (status == 0)
        status = read_ends(faults, hangs);
    if (status == 0)
        print(faults, hangs);
    return status;
}

int main(int argc, char **argv)
{
    int faults = 100;
    const char *directory = ".";
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--faults") == 0 && i + 1 < argc)
            faults = atoi(argv[++i]);
        else if (argv[i][0] != '-')
            directory = argv[i];
        else
            faults = 0;
    }
    if (faults < 1 || faults > MOST_FAULTS) {
        fprintf(stderr, "usage: bench_faults [--faults 1..%d] [DIRECTORY]\n", MOST_FAULTS);
        return 2;
    }
    board = bench_share(sizeof *board);
    if (!board || !bench_folder_make(folder, directory, "faults"))
        return 1;
    srand((unsigned)time(NULL));
    printf("two workers, load %.1f\n", bench_load());
    int status = measure(faults, false);
    if (status == 0)
        status = measure(faults, true);
    bench_folder_remove(folder);
    return status != 0;
}
