/*
 * Reports a second through one store: 64 trials report in turn, two metrics each, committed in groups as a controller
 * does. bench_tracking [reports [rate]]: with a rate, reports come evenly at so many a second, and the commits' times
 * are what matters.
 */
#include "base/clock.h"
#include "base/io.h"
#include "tracking/store.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum { TRIALS = 64 };

int main(int argc, char **argv)
{
    long reports = argc > 1 ? atol(argv[1]) : 200000;
    double rate = argc > 2 ? atof(argv[2]) : 0;
    char path[] = "/tmp/cadre-bench-XXXXXX", file[64];
    tracking_store *store;
    int64_t experiment, trials[TRIALS], number;
    if (!mkdtemp(path))
        return 1;
    snprintf(file, sizeof file, "%s/cadre.db", path);
    int status = tracking_open(file, &store);
    if (status == CADRE_OK)
        status = tracking_experiment(store, "bench", "loss", TRACKING_MINIMIZE, &experiment);
    for (int i = 0; status == CADRE_OK && i < TRIALS; i++)
        status = tracking_trial_add(store, experiment, NULL, 0, 0, &trials[i], &number);
    int64_t slowest = 0, committing = 0;
    long commits = 0;
    double start = base_now();
    for (long i = 0; status == CADRE_OK && i < reports; i++) {
        while (rate > 0 && base_now() - start < (double)i / rate && tracking_commit_due_ms(store) != 0)
            base_sleep_ns(200000);
        tracking_metric metrics[] = {{"loss", 1.0 / (double)(i + 1)}, {"accuracy", (double)i / (double)reports}};
        status = tracking_report(store, trials[i % TRIALS], 0, i / TRIALS + 1, i / TRIALS + 1, metrics, 2);
        if (status == CADRE_OK && tracking_commit_due_ms(store) == 0) {
            int64_t before = base_now_ns();
            status = tracking_commit(store, false);
            int64_t took = base_now_ns() - before;
            slowest = took > slowest ? took : slowest;
            committing += took;
            commits++;
        }
    }
    if (status == CADRE_OK)
        status = tracking_commit(store, true);
    double seconds = base_now() - start;
    if (status != CADRE_OK)
        fprintf(stderr, "%s\n", cadre_error_message());
    else
        printf("%ld reports with 2 metrics each in %.2f s: %.0f reports/s; %ld commits take %.0f %% of it, the slowest "
               "%.1f ms\n",
               reports, seconds, (double)reports / seconds, commits + 1, (double)committing * 1e-7 / seconds,
               (double)slowest * 1e-6);
    tracking_close(store);
    base_remove_tree(path);
    return status != CADRE_OK;
}
