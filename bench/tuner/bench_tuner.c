/*
 * What the tuner costs, beside what the machine itself takes for the same processes, in the same run.
 *
 *     bench_tuner [--json] [--rounds N] [--scale X] [DIRECTORY]
 *
 * Stores go into a new folder in DIRECTORY (the current one), which is removed at the end. Each measurement is made in a process of its own, in
 * turn, N times (3); the medians are printed. X (1) scales how many trials and reports there are. run.sh runs this one and, where it is built,
 * bench_tuner_torch, the same with libtorch loaded. On a machine that others use, `chrt -r 1` in front gives it the cores all the same.
 */
#include "bench/bench.h"
#include "measure.h"

#ifdef BENCH_TORCH
#include "ctorch.h"
#endif

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

enum { MOST_ROUNDS = 25 };

#ifdef BENCH_TORCH
enum { torch = true };
#else
enum { torch = false };
#endif

static double scale = 1, load; /* load: of the machine before the first round */
static char folder[BENCH_FOLDER];

static int64_t scaled(int64_t count)
{
    int64_t some = (int64_t)((double)count * scale);
    return some > 20 ? some : 20;
}

static int bare(measurement *out) { return measure_bare(scaled(torch ? 1000 : 4000), 1, out); }
static int bare_two(measurement *out) { return measure_bare(scaled(torch ? 1000 : 4000), 2, out); }
static int trials(measurement *out) { return measure_trials(folder, scaled(10000), 2, out); }
static int sim(measurement *out) { return measure_sim(folder, scaled(100000), out); }
static int bare_start(measurement *out) { return measure_bare_start(scaled(500), out); }
static int start(measurement *out) { return measure_start(folder, scaled(500), out); }
static int one_reports(measurement *out) { return measure_reports(folder, 1, scaled(200000), out); }
static int eight_report(measurement *out) { return measure_reports(folder, 8, scaled(25000), out); }

typedef struct row {
    const char *name, *text;
    int (*run)(measurement *out);
    bool with_torch; /* also worth measuring where libtorch is loaded */
    const char *unit;
    double bar; /* at least; negative: at most; 0: none */
    int64_t count; /* in the store after the last round */
    double values[MOST_ROUNDS], p99[MOST_ROUNDS], peaks[MOST_ROUNDS];
} row;

enum { BARE, BARE_TWO, TRIALS, SIM, BARE_START, START, ONE, EIGHT, ROWS };
static row rows[ROWS] = {
    [BARE] = {.name = "bare", .text = "fork, exit and wait, one after another", .run = bare, .with_torch = true, .unit = "/s"},
    [BARE_TWO] = {.name = "bare_two", .text = "the same, two at once", .run = bare_two, .with_torch = true, .unit = "/s"},
    [TRIALS] = {.name = "trials", .text = "trials that do nothing, 2 slots", .run = trials, .with_torch = true, .unit = "/s", .bar = torch ? 150 : 300},
    [SIM] = {.name = "sim", .text = "trials under sim", .run = sim, .unit = "/s", .bar = 20000},
    [BARE_START] = {.name = "bare_start", .text = "fork to the child's first line", .run = bare_start, .with_torch = true, .unit = "ms"},
    [START] = {.name = "start", .text = "decision to the train function's first line", .run = start, .with_torch = true, .unit = "ms", .bar = torch ? -10 : 0},
    [ONE] = {.name = "reports_one", .text = "reports, one trial in a tight loop", .run = one_reports, .unit = "/s", .bar = 20000},
    [EIGHT] = {.name = "reports_eight", .text = "reports, eight trials at once", .run = eight_report, .unit = "/s", .bar = 20000},
};

/* ---- running ---- */

static int run_one(row *row, int round)
{
    measurement *shared = bench_share(sizeof *shared);
    if (!shared)
        return -1;
    fflush(NULL);
    pid_t pid = fork();
    if (pid == 0) {
        if (!freopen("/dev/null", "w", stdout)) /* the tuner's lines, one a trial */
            _exit(1);
        int status = row->run(shared);
        _exit(status != 0);
    }
    int wait_status = -1;
    if (pid < 0 || waitpid(pid, &wait_status, 0) != pid || wait_status != 0) {
        fprintf(stderr, "bench_tuner: %s failed\n", row->name);
        return -1;
    }
    row->count = shared->count;
    row->values[round] = shared->seconds > 0 && shared->median_ms == 0 ? (double)shared->count / shared->seconds : shared->median_ms;
    row->p99[round] = shared->p99_ms;
    row->peaks[round] = shared->peak_mib;
    munmap(shared, sizeof *shared);
    return 0;
}

static bool measured(const row *row) { return row->with_torch || !torch; }

static int run_round(int round)
{
    char experiment[BENCH_FOLDER + 10];
    snprintf(experiment, sizeof experiment, "%s/bench", folder);
    for (int i = 0; i < ROWS; i++)
        if (measured(&rows[i]) && (run_one(&rows[i], round) != 0 || !bench_folder_remove(experiment)))
            return -1;
    const int64_t wanted[ROWS] = {[TRIALS] = scaled(10000), [SIM] = scaled(100000), [ONE] = scaled(200000), [EIGHT] = 8 * scaled(25000)};
    for (int i = 0; i < ROWS; i++)
        if (measured(&rows[i]) && wanted[i] && rows[i].count != wanted[i]) {
            fprintf(stderr, "bench_tuner: %s: %lld are in the store of %lld\n", rows[i].name, (long long)rows[i].count, (long long)wanted[i]);
            return -1;
        }
    return 0;
}

/* ---- printing ---- */

/* The bare rate or time that a row's stands beside; NULL: none. */
static const row *limit_of(const row *row) { return row == &rows[TRIALS] ? &rows[BARE_TWO] : row == &rows[START] ? &rows[BARE_START] : NULL; }

static void print_table(int rounds)
{
    printf("%s, medians of %d rounds, load %.1f\n", torch ? "with libtorch loaded" : "without libtorch", rounds, load);
    for (int i = 0; i < ROWS; i++) {
        const row *row = &rows[i], *limit = limit_of(row);
        if (!measured(row))
            continue;
        double value = bench_median(row->values, rounds), bar = row->bar;
        printf("  %-44s %10.*f %s", row->text, *row->unit == 'm' ? 2 : 0, value, row->unit);
        if (*row->unit == 'm')
            printf("  (p99 %.2f)", bench_median(row->p99, rounds));
        if (limit)
            printf("  %.2f of bare", value / bench_median(limit->values, rounds));
        if (bar != 0)
            printf("  bar %s %g", bar > 0 ? ">=" : "<=", bar > 0 ? bar : -bar);
        printf("\n");
    }
    printf("  %-44s %10.1f MiB%s\n", "controller's peak memory, trials", bench_median(rows[TRIALS].peaks, rounds), torch ? "" : "  bar <= 64");
}

static void print_json(int rounds)
{
    printf("{\"torch\": %s, \"rounds\": %d, \"load\": %.2f, \"rows\": {", torch ? "true" : "false", rounds, load);
    const char *comma = "";
    for (int i = 0; i < ROWS; i++) {
        const row *row = &rows[i];
        if (!measured(row))
            continue;
        printf("%s\"%s\": {\"unit\": \"%s\", \"count\": %lld, \"median\": %.6g, \"p99_ms\": %.6g, \"peak_mib\": %.6g, \"bar\": %g, \"rounds\": [", comma,
               row->name, row->unit, (long long)row->count, bench_median(row->values, rounds), bench_median(row->p99, rounds), bench_median(row->peaks, rounds), row->bar);
        for (int k = 0; k < rounds; k++)
            printf("%s%.6g", k ? ", " : "", row->values[k]);
        printf("]}");
        comma = ", ";
    }
    printf("}}\n");
}

int main(int argc, char **argv)
{
    bool json = false;
    int rounds = 3;
    const char *directory = ".";
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--json") == 0)
            json = true;
        else if (strcmp(argv[i], "--rounds") == 0 && i + 1 < argc)
            rounds = atoi(argv[++i]);
        else if (strcmp(argv[i], "--scale") == 0 && i + 1 < argc)
            scale = atof(argv[++i]);
        else if (argv[i][0] != '-')
            directory = argv[i];
        else
            rounds = 0;
    }
    if (rounds < 1 || rounds > MOST_ROUNDS || !(scale > 0 && scale <= 10)) {
        fprintf(stderr, "usage: bench_tuner [--json] [--rounds 1..%d] [--scale X] [DIRECTORY]\n", MOST_ROUNDS);
        return 2;
    }
#ifdef BENCH_TORCH
    ct_manual_seed(1); /* so that libtorch is loaded and has been used */
#endif
    if (!bench_folder_make(folder, directory, "tuner"))
        return 1;
    int status = 0;
    load = bench_load();
    for (int round = 0; status == 0 && round < rounds; round++)
        status = run_round(round);
    bench_folder_remove(folder);
    if (status != 0)
        return 1;
    (json ? print_json : print_table)(rounds);
    return 0;
}
