#include "measure.h"

#include "bench/bench.h"
#include "cadre/cadre.h"

#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { MOST_TIMED = 100000 };

/* Shared by all processes: when each trial was decided on, and when it was at its first line. */
static struct stamps {
    double decided[MOST_TIMED], begun[MOST_TIMED];
} *stamps;

static int complain(const char *what)
{
    fprintf(stderr, "bench_tuner: %s\n", what);
    return -1;
}

/* ---- without a tuner ---- */

static int fork_and_wait(int64_t count)
{
    for (int64_t i = 0; i < count; i++) {
        pid_t pid = fork();
        if (pid == 0)
            _exit(0);
        if (pid < 0 || waitpid(pid, NULL, 0) != pid)
            return complain("fork failed");
    }
    return 0;
}

int measure_bare(int64_t count, int at_once, measurement *out)
{
    pid_t lanes[16];
    double begun = bench_now();
    at_once = at_once < 16 ? at_once : 16;
    for (int i = 1; i < at_once; i++) {
        lanes[i] = fork();
        if (lanes[i] == 0)
            _exit(fork_and_wait(count / at_once) != 0);
    }
    int status = fork_and_wait(count / at_once), wait_status;
    for (int i = 1; i < at_once; i++)
        if (lanes[i] < 0 || waitpid(lanes[i], &wait_status, 0) != lanes[i] || wait_status != 0)
            status = complain("fork failed");
    *out = (measurement){.seconds = bench_now() - begun, .count = count / at_once * at_once};
    return status;
}

static int map_stamps(void)
{
    stamps = bench_share(sizeof *stamps);
    return stamps ? 0 : -1;
}

static void summarise_stamps(int64_t count, measurement *out)
{
    double *times = stamps->begun; /* not needed any more */
    for (int64_t i = 0; i < count; i++)
        times[i] -= stamps->decided[i];
    qsort(times, (size_t)count, sizeof *times, bench_by_value);
    out->median_ms = 1e3 * times[count / 2];
    out->p99_ms = 1e3 * times[count * 99 / 100];
    out->count = count;
}

int measure_bare_start(int64_t count, measurement *out)
{
    if (map_stamps() != 0)
        return -1;
    for (int64_t i = 0; i < count; i++) {
        stamps->decided[i] = bench_now();
        pid_t pid = fork();
        if (pid == 0) {
            stamps->begun[i] = bench_now();
            _exit(0);
        }
        if (pid < 0 || waitpid(pid, NULL, 0) != pid)
            return complain("fork failed");
    }
    summarise_stamps(count, out);
    return 0;
}

/* ---- what the store has afterwards ---- */

static double peak_mib(void)
{
    char line[256];
    long kib = 0;
    FILE *file = fopen("/proc/self/status", "r");
    while (file && fgets(line, sizeof line, file))
        if (sscanf(line, "VmHWM: %ld", &kib) == 1)
            break;
    if (file)
        fclose(file);
    return (double)kib / 1024;
}

static int64_t count_rows(const char *storage, const char *query)
{
    char path[1200];
    sqlite3 *db = NULL;
    sqlite3_stmt *statement = NULL;
    int64_t count = -1;
    snprintf(path, sizeof path, "%s/bench/cadre.db", storage);
    if (sqlite3_open_v2(path, &db, SQLITE_OPEN_READONLY, NULL) == SQLITE_OK && sqlite3_prepare_v2(db, query, -1, &statement, NULL) == SQLITE_OK &&
        sqlite3_step(statement) == SQLITE_ROW)
        count = sqlite3_column_int64(statement, 0);
    sqlite3_finalize(statement);
    sqlite3_close(db);
    return count;
}

static const char COMPLETE[] = "SELECT count(*) FROM trials WHERE state = 'COMPLETE'";
/* Reports 1 to N of each trial, each with its metric and its intermediate value. */
static const char REPORTS[] = "SELECT count(*) FROM cadre_reports r JOIN cadre_metrics m USING (trial_id, report) JOIN trial_intermediate_values v ON "
                              "v.trial_id = r.trial_id AND v.step = r.step AND v.intermediate_value = r.report WHERE m.value = r.report";

/* ---- trials ---- */

static int train_nothing(cadre_session *session, const cadre_config *config, void *user)
{
    (void)user;
    int status = cadre_report(session, CADRE_METRICS(CADRE_METRIC("value", cadre_config_double(config, "x", 0))), NULL);
    return status < 0 ? status : CADRE_OK;
}

static int train_timed(cadre_session *session, const cadre_config *config, void *user)
{
    int64_t trial = cadre_config_int(config, "trial", 0);
    stamps->begun[trial] = bench_now();
    return train_nothing(session, config, user);
}

static int train_reports(cadre_session *session, const cadre_config *config, void *user)
{
    int64_t reports = *(const int64_t *)user;
    int status = CADRE_OK;
    (void)config;
    for (int64_t i = 1; i <= reports && status == CADRE_OK; i++)
        status = cadre_report(session, CADRE_METRICS(CADRE_METRIC("value", (double)i)), NULL);
    return status < 0 ? status : CADRE_OK;
}

static int simulate(const cadre_config *config, int64_t trial, int64_t report, double *value, double *seconds, void *user)
{
    (void)trial;
    (void)report;
    (void)user;
    *value = cadre_config_double(config, "x", 0);
    *seconds = 1;
    return CADRE_STOP;
}

static int fit(cadre_tuner *tuner, cadre_trainer *trainer, const char *storage, measurement *out)
{
    static const cadre_param space[] = {CADRE_UNIFORM("x", 0, 1), CADRE_END};
    trainer->run = (cadre_run_config){.name = "bench", .storage = storage};
    tuner->trainer = trainer;
    tuner->metric = "value";
    if (!tuner->space)
        tuner->space = space;
    double begun = bench_now();
    int status = cadre_tuner_fit(tuner, NULL);
    out->seconds = bench_now() - begun;
    out->peak_mib = peak_mib();
    return status == CADRE_OK ? 0 : complain(cadre_error_message());
}

int measure_trials(const char *storage, int64_t count, int slots, measurement *out)
{
    cadre_trainer trainer = {.train = train_nothing};
    cadre_tuner tuner = {.num_samples = count, .cores = slots, .search = CADRE_SEARCH_RANDOM};
    int status = fit(&tuner, &trainer, storage, out);
    out->count = count_rows(storage, COMPLETE);
    return status;
}

int measure_sim(const char *storage, int64_t count, measurement *out)
{
    cadre_trainer trainer = {.train = train_nothing};
    cadre_tuner tuner = {.num_samples = count, .sim = simulate, .search = CADRE_SEARCH_RANDOM};
    int status = fit(&tuner, &trainer, storage, out);
    out->count = count_rows(storage, COMPLETE);
    return status;
}

int measure_reports(const char *storage, int trials, int64_t reports, measurement *out)
{
    cadre_trainer trainer = {.train = train_reports, .user = &reports};
    cadre_tuner tuner = {.num_samples = trials, .cores = trials, .search = CADRE_SEARCH_RANDOM};
    int status = fit(&tuner, &trainer, storage, out);
    out->count = count_rows(storage, REPORTS);
    return status;
}

/* ---- from the decision to the first line ---- */

static int make_stamper(const cadre_searcher_args *args, void **self)
{
    (void)args;
    *self = NULL;
    return CADRE_OK;
}

static int ask_stamped(void *self, int64_t number, double *x)
{
    (void)self;
    x[0] = (double)number;
    stamps->decided[number] = bench_now();
    return CADRE_OK;
}

static int tell_nothing(void *self, int64_t number, const double *x, const cadre_outcome *outcome)
{
    (void)self;
    (void)number;
    (void)x;
    (void)outcome;
    return CADRE_OK;
}

static void free_nothing(void *self) { (void)self; }

int measure_start(const char *storage, int64_t count, measurement *out)
{
    static const cadre_param space[] = {CADRE_RANDINT("trial", 0, MOST_TIMED), CADRE_END};
    static const cadre_searcher_table stamper = {.abi = CADRE_SEARCHER_ABI, .size = sizeof stamper, .name = "stamper", .create = make_stamper,
                                                 .ask = ask_stamped, .tell = tell_nothing, .free = free_nothing};
    if (map_stamps() != 0)
        return -1;
    cadre_trainer trainer = {.train = train_timed};
    cadre_tuner tuner = {.num_samples = count, .cores = 1, .space = space, .search = {.table = &stamper}};
    if (fit(&tuner, &trainer, storage, out) != 0)
        return -1;
    summarise_stamps(count, out);
    return 0;
}
