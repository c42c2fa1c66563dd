/*
 * Early stopping on the learning curves of LCBench, through the tuner itself under its launcher sim: searchers under schedulers, one trial at a
 * time, with a budget counted in epochs over all trials. Printed is the mean over six data sets of the median over seeds of (best known - best seen),
 * in points of validation accuracy.
 *
 *     bench_schedule --data DIRECTORY [--seeds N] [--first SEED] [--row NAME]
 *
 * DIRECTORY has lcbench.f32 and lcbench_layout.json; 30 seeds from 1 on; all rows.
 */
#include "lcbench.h"

#include "base/io.h"
#include "bench/bench.h"
#include "cadre/tuner.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { BUDGETS = 3, LAST = 2600 };
static const int budgets[BUDGETS] = {520, 1040, LAST};

static const cadre_hyperband_options bands = {.max_t = LCBENCH_EPOCHS, .promotion = true}, delayed_bands = {.max_t = LCBENCH_EPOCHS, .promotion = true, .delayed = true};
static const cadre_asha_options delayed_asha = {.max_t = LCBENCH_EPOCHS, .grace_period = 3, .reduction_factor = 3, .promotion = true, .delayed = true};

/* Rows as in docs/performance.md. */
struct row {
    const char *name;
    cadre_scheduler scheduler;
    const char *search; /* NULL: random */
};
static const struct row rows[] = {
    {"random, fifo", {&cadre_scheduler_fifo, NULL}, NULL},
    {"random, median", {&cadre_scheduler_median, &(const cadre_median_options){.grace_period = 1}}, NULL},
    {"random, asha stopping", {&cadre_scheduler_asha, &(const cadre_asha_options){.max_t = LCBENCH_EPOCHS, .reduction_factor = 3}}, NULL},
    {"random, asha promotion", {&cadre_scheduler_asha, &(const cadre_asha_options){.max_t = LCBENCH_EPOCHS, .reduction_factor = 3, .promotion = true}}, NULL},
    {"tpe, fifo", {&cadre_scheduler_fifo, NULL}, "tpe"},
    {"gp, fifo", {&cadre_scheduler_fifo, NULL}, "gp"},
    {"tpe, hyperband", {&cadre_scheduler_hyperband, &bands}, "tpe"},
    {"bohb, hyperband", {&cadre_scheduler_hyperband, &bands}, "bohb"},
    {"bohb, hyperband delayed", {&cadre_scheduler_hyperband, &delayed_bands}, "bohb"},
    {"bohb, asha delayed from 3", {&cadre_scheduler_asha, &delayed_asha}, "bohb"},
};

static const cadre_param space[] = {
    CADRE_LOGRANDINT("batch", 16, 513), CADRE_LOGUNIFORM("lr", 1e-4, 1e-1),    CADRE_UNIFORM("momentum", 0.1, 0.99), CADRE_UNIFORM("decay", 1e-5, 0.1),
    CADRE_RANDINT("layers", 1, 6),      CADRE_LOGRANDINT("units", 64, 1025), CADRE_UNIFORM("dropout", 0, 1),       CADRE_END,
};

struct run {
    const lcbench *bench;
    const lcbench_task *task;
    int spent;
    double best, regret[BUDGETS];
};

/* One more epoch of a trial. */
static int train_epoch(const cadre_config *config, int64_t trial, int64_t report, double *value, double *seconds, void *user)
{
    const struct run *run = user;
    double out[LCBENCH_OUTPUTS], params[LCBENCH_PARAMS];
    (void)trial;
    for (int i = 0; i < LCBENCH_PARAMS; i++)
        params[i] = cadre_config_double(config, space[i].name, 0);
    lcbench_evaluate(run->bench, run->task->row, params, (double)report, out);
    *value = out[1];
    *seconds = 1;
    return report == LCBENCH_EPOCHS ? CADRE_STOP : CADRE_OK;
}

/* The tuner's rule for ending, which sees every report: it keeps the account and ends all when the budget is spent. */
static int count_epoch(int64_t trial, int64_t report, double value, void *user)
{
    struct run *run = user;
    (void)trial;
    (void)report;
    run->best = value > run->best ? value : run->best;
    run->spent++;
    for (int i = 0; i < BUDGETS; i++)
        if (run->spent == budgets[i])
            run->regret[i] = run->task->best - run->best;
    return run->spent >= LAST ? 2 : 0;
}

static int run_one(struct run *run, const struct row *row, uint64_t seed, const char *storage)
{
    cadre_trainer trainer = {.run = {.name = "curves", .storage = storage}};
    cadre_tuner tuner = {
        .trainer = &trainer, .metric = "val_accuracy", .space = space, .scheduler = row->scheduler, .search = {.name = row->search ? row->search : "random"}, .num_samples = -1, .max_concurrent = 1, .seed = seed,
        .stop = {.rule = count_epoch, .user = run}, .sim = train_epoch, .sim_user = run,
    };
    run->spent = 0;
    run->best = 0;
    int status = cadre_tuner_fit(&tuner, NULL);
    if (status == CADRE_OK && run->spent != LAST)
        status = cadre_fail(CADRE_ESTATE, "%d epochs were trained, not %d", run->spent, LAST);
    char path[160];
    snprintf(path, sizeof path, "%s/curves", storage);
    return status == CADRE_OK ? base_remove_tree(path) : status;
}

/* Mean over the tasks of the median over seeds. */
static int run_row(const lcbench *bench, const struct row *row, int first, int seeds, const char *storage, double mean[BUDGETS])
{
    double *regrets = calloc((size_t)seeds * BUDGETS, sizeof *regrets);
    int status = regrets ? CADRE_OK : CADRE_ENOMEM;
    memset(mean, 0, BUDGETS * sizeof *mean);
    for (int task = 0; status == CADRE_OK && task < LCBENCH_TASKS; task++) {
        struct run run = {.bench = bench, .task = &lcbench_tasks[task]};
        for (int seed = 0; status == CADRE_OK && seed < seeds; seed++) {
            status = run_one(&run, row, (uint64_t)(first + seed), storage);
            for (int i = 0; i < BUDGETS; i++)
                regrets[i * seeds + seed] = run.regret[i];
        }
        for (int i = 0; i < BUDGETS; i++)
            mean[i] += bench_median(regrets + i * seeds, seeds) / LCBENCH_TASKS;
    }
    free(regrets);
    return status;
}

int main(int argc, char **argv)
{
    const char *data = NULL, *only = NULL;
    int seeds = 30, first = 1;
    for (int i = 1; i + 1 < argc; i += 2) {
        data = strcmp(argv[i], "--data") == 0 ? argv[i + 1] : data;
        only = strcmp(argv[i], "--row") == 0 ? argv[i + 1] : only;
        seeds = strcmp(argv[i], "--seeds") == 0 ? atoi(argv[i + 1]) : seeds;
        first = strcmp(argv[i], "--first") == 0 ? atoi(argv[i + 1]) : first;
    }
    if (!data || seeds < 1) {
        fprintf(stderr, "usage: bench_schedule --data DIRECTORY [--seeds N] [--first SEED] [--row NAME]\n");
        return 2;
    }
    lcbench *bench = lcbench_open(data);
    char storage[] = "/tmp/bench-schedule-XXXXXX";
    if (!bench || !mkdtemp(storage))
        return 1;
    FILE *table = fdopen(dup(STDOUT_FILENO), "w"); /* the tuner's own lines, one a trial, are not wanted */
    int status = table && freopen("/dev/null", "w", stdout) ? CADRE_OK : cadre_fail(CADRE_EIO, "cannot open /dev/null");
    if (status == CADRE_OK)
        fprintf(table, "%-26s %8d %8d %8d   (epochs; %d seeds)\n", "points below the best", budgets[0], budgets[1], budgets[2], seeds);
    for (size_t row = 0; status == CADRE_OK && row < sizeof rows / sizeof *rows; row++) {
        double mean[BUDGETS];
        if (only && strcmp(only, rows[row].name) != 0)
            continue;
        status = run_row(bench, &rows[row], first, seeds, storage, mean);
        if (status == CADRE_OK)
            fprintf(table, "%-26s %8.1f %8.1f %8.1f\n", rows[row].name, mean[0], mean[1], mean[2]);
        fflush(table);
    }
    if (status != CADRE_OK)
        fprintf(stderr, "bench_schedule: %s\n", cadre_error_message());
    (void)base_remove_tree(storage);
    lcbench_close(bench);
    return status == CADRE_OK ? 0 : 1;
}
