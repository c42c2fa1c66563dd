/*
 * Learning curves of LCBench (Zimmer, Lindauer, Hutter, "Auto-PyTorch Tabular", TPAMI 2021) as a small network that stands for its data sets
 * (YAHPO Gym, Pfisterer et al., AutoML-Conf 2022): given a data set, a config and an epoch, the validation accuracy.
 */
#ifndef BENCH_SCHEDULE_LCBENCH_H
#define BENCH_SCHEDULE_LCBENCH_H

typedef struct lcbench lcbench;

enum { LCBENCH_PARAMS = 7, LCBENCH_OUTPUTS = 6, LCBENCH_EPOCHS = 52, LCBENCH_TASKS = 6 };

typedef struct lcbench_task {
    const char *name;
    int row;     /* of the embedding */
    double best; /* best known validation accuracy, percent */
} lcbench_task;
extern const lcbench_task lcbench_tasks[LCBENCH_TASKS];

/** Read lcbench.f32 and lcbench_layout.json from `directory`; NULL with a line on stderr. */
lcbench *lcbench_open(const char *directory);
void lcbench_close(lcbench *bench);

/** batch size, learning rate, momentum, weight decay, layers, units, dropout; outputs as in the layout: time, val_accuracy, val_cross_entropy,
 *  val_balanced_accuracy, test_cross_entropy, test_balanced_accuracy. */
void lcbench_evaluate(const lcbench *bench, int row, const double params[LCBENCH_PARAMS], double epoch, double out[LCBENCH_OUTPUTS]);

#endif
