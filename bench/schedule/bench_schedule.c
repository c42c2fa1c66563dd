/*
 * Early stopping on the learning curves of LCBench: random search under each scheduler with a budget counted in epochs over all trials.
 * Printed is the mean over six data sets of the median over seeds of (best known - best seen), in points of validation accuracy.
 *
 *     bench_schedule DIRECTORY [SEEDS]        DIRECTORY has lcbench.f32 and lcbench_layout.json
 */
#include "lcbench.h"

#include "base/rng.h"
#include "cadre/schedule.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { BUDGETS = 3, LAST = 2600, MAX_TRIALS = LAST };
static const int budgets[BUDGETS] = {520, 1040, LAST};

struct run {
    const lcbench *bench;
    const lcbench_task *task;
    cadre_scheduler scheduler;
    void *self;
    double params[MAX_TRIALS][LCBENCH_PARAMS];
    int epochs[MAX_TRIALS];
    int trials, spent;
    double best;
    double regret[BUDGETS];
};

static double log_between(base_rng *rng, double low, double high) { return exp(log(low) + base_rng_uniform(rng) * (log(high) - log(low))); }

static void draw(base_rng *rng, double params[LCBENCH_PARAMS])
{
    params[0] = floor(log_between(rng, 16, 513));
    params[1] = log_between(rng, 1e-4, 1e-1);
    params[2] = 0.1 + base_rng_uniform(rng) * 0.89;
    params[3] = 1e-5 + base_rng_uniform(rng) * (0.1 - 1e-5);
    params[4] = 1 + (double)base_rng_below(rng, 5);
    params[5] = floor(log_between(rng, 64, 1025));
    params[6] = base_rng_uniform(rng);
}

/* Train one more epoch; false when the budget is spent. */
static int train_epoch(struct run *run, int trial, cadre_decision *decision)
{
    if (run->spent == LAST)
        return 0;
    double out[LCBENCH_OUTPUTS];
    int epoch = ++run->epochs[trial];
    lcbench_evaluate(run->bench, run->task->row, run->params[trial], epoch, out);
    run->best = out[1] > run->best ? out[1] : run->best;
    run->spent++;
    for (int i = 0; i < BUDGETS; i++)
        if (run->spent == budgets[i])
            run->regret[i] = run->task->best - run->best;
    cadre_schedule_report report = {.trial = trial, .time = epoch, .value = -out[1], .elapsed_s = epoch};
    *decision = run->scheduler.table->on_report(run->self, &report);
    if (epoch == LCBENCH_EPOCHS)
        *decision = CADRE_DECIDE_COMPLETE;
    return 1;
}

static void run_one(struct run *run, uint64_t seed)
{
    const cadre_scheduler_table *table = run->scheduler.table;
    run->trials = run->spent = 0;
    run->best = 0;
    if (table->create(run->scheduler.options, seed, &run->self) != CADRE_OK) {
        fprintf(stderr, "%s\n", cadre_error_message());
        exit(1);
    }
    while (run->spent < LAST) {
        int64_t trial = table->next ? table->next(run->self) : -1;
        if (trial < 0) {
            base_rng rng;
            trial = run->trials++;
            base_rng_init(&rng, seed, (uint64_t)trial);
            draw(&rng, run->params[trial]);
            run->epochs[trial] = 0;
            if (table->on_trial_add)
                table->on_trial_add(run->self, trial);
        }
        cadre_decision decision = CADRE_DECIDE_GO_ON;
        while (decision == CADRE_DECIDE_GO_ON && train_epoch(run, (int)trial, &decision))
            ;
        if (decision != CADRE_DECIDE_PAUSE && table->on_trial_end)
            table->on_trial_end(run->self, trial, decision == CADRE_DECIDE_COMPLETE ? CADRE_ENDED_COMPLETE : CADRE_ENDED_PRUNED);
    }
    table->free(run->self);
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

int main(int argc, char **argv)
{
    int seeds = argc > 2 ? atoi(argv[2]) : 30;
    lcbench *bench = argc > 1 ? lcbench_open(argv[1]) : NULL;
    struct run *run = malloc(sizeof *run);
    double *regrets = calloc((size_t)(seeds > 0 ? seeds : 1) * BUDGETS, sizeof *regrets);
    if (!bench || !run || !regrets || seeds < 1) {
        fprintf(stderr, "usage: bench_schedule DIRECTORY [SEEDS]\n");
        return 2;
    }
    const struct {
        const char *name;
        cadre_scheduler scheduler;
    } rows[] = {
        {"random, fifo", {&cadre_scheduler_fifo, NULL}},
        {"random, median", CADRE_MEDIAN(.grace_period = 1)},
        {"random, asha stopping", CADRE_ASHA(.max_t = LCBENCH_EPOCHS, .reduction_factor = 3)},
        {"random, asha promotion", CADRE_ASHA(.max_t = LCBENCH_EPOCHS, .reduction_factor = 3, .promotion = true)},
    };
    printf("%-26s %8d %8d %8d   (epochs; %d seeds)\n", "points below the best", budgets[0], budgets[1], budgets[2], seeds);
    for (size_t row = 0; row < sizeof rows / sizeof *rows; row++) {
        double mean[BUDGETS] = {0};
        for (int task = 0; task < 6; task++) {
            *run = (struct run){.bench = bench, .task = &lcbench_tasks[task], .scheduler = rows[row].scheduler};
            for (int seed = 0; seed < seeds; seed++) {
                run_one(run, (uint64_t)seed + 1);
                for (int i = 0; i < BUDGETS; i++)
                    regrets[i * seeds + seed] = run->regret[i];
            }
            for (int i = 0; i < BUDGETS; i++) {
                qsort(regrets + i * seeds, (size_t)seeds, sizeof *regrets, by_value);
                mean[i] += (regrets[i * seeds + (seeds - 1) / 2] + regrets[i * seeds + seeds / 2]) / 12;
            }
        }
        printf("%-26s %8.1f %8.1f %8.1f\n", rows[row].name, mean[0], mean[1], mean[2]);
        fflush(stdout);
    }
    free(regrets);
    free(run);
    lcbench_close(bench);
    return 0;
}
