/* Writes the store that check_optuna.py reads: every kind of value, then a trial that reports until standard input
 * ends. */
#include "base/clock.h"
#include "tracking/store.h"

#include <math.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>

#define CHECK(call)                                                                                                    \
    do {                                                                                                               \
        if ((call) != CADRE_OK) {                                                                                      \
            fprintf(stderr, "%s: %s\n", #call, cadre_error_message());                                                 \
            return 1;                                                                                                  \
        }                                                                                                              \
    } while (0)

static int add_trial(tracking_store *store, int64_t experiment, const char *batch, const char *data, int64_t retry_of,
                     int64_t *trial)
{
    const tracking_param params[] = {
        {"lr",
         "{\"name\": \"FloatDistribution\", \"attributes\": {\"step\": null, \"low\": 0.0001, \"high\": 0.1, \"log\": "
         "true}}",
         0.05, "0.05"},
        {"layers",
         "{\"name\": \"IntDistribution\", \"attributes\": {\"log\": false, \"step\": 1, \"low\": 1, \"high\": 4}}", 3,
         "3"},
        {"optimizer", "{\"name\": \"CategoricalDistribution\", \"attributes\": {\"choices\": [\"sgd\", \"adam\"]}}", 1,
         "\"adam\""},
        {"batch", NULL, 0, batch}, /* constants, which differ from trial to trial */
        {"decay", NULL, 0, "1e-4"},
        {"data", NULL, 0, data},
    };
    CHECK(tracking_trial_add(store, experiment, params, 6, retry_of, trial, NULL));
    return 0;
}

static int report(tracking_store *store, int64_t trial, int64_t number, double loss)
{
    tracking_metric metrics[] = {{"accuracy", 1 - loss}, {"loss", loss}};
    CHECK(tracking_report(store, trial, 0, number, number, metrics, 2));
    return 0;
}

static int finished_trials(tracking_store *store, int64_t experiment)
{
    int64_t trial;
    if (add_trial(store, experiment, "32", "\"a.csv\"", 0, &trial) || report(store, trial, 1, 1.0) ||
        report(store, trial, 2, 0.75) || report(store, trial, 3, 0.5))
        return 1;
    CHECK(tracking_trial_finish(store, trial, TRACKING_COMPLETE, true, 0.5, ""));
    if (add_trial(store, experiment, "64", "\"b.csv\"", 0, &trial))
        return 1;
    CHECK(tracking_trial_finish(store, trial, TRACKING_COMPLETE, true, 0.25, ""));
    if (add_trial(store, experiment, "32", "\"a.csv\"", 0, &trial) || report(store, trial, 1, 0.75))
        return 1;
    CHECK(tracking_trial_finish(store, trial, TRACKING_PRUNED, true, 0.75, "rung 1"));
    if (add_trial(store, experiment, "32", "\"a.csv\"", 0, &trial) || report(store, trial, 1, INFINITY) ||
        report(store, trial, 2, NAN))
        return 1;
    int64_t failed = trial;
    CHECK(tracking_trial_finish(store, trial, TRACKING_COMPLETE, true, NAN, ""));
    if (add_trial(store, experiment, "32", "\"a.csv\"", failed, &trial))
        return 1;
    CHECK(tracking_trial_finish(store, trial, TRACKING_COMPLETE, true, INFINITY, ""));
    return 0;
}

static int live_trial(tracking_store *store, int64_t experiment)
{
    int64_t trial;
    if (add_trial(store, experiment, "0.5", "7", 0, &trial))
        return 1;
    CHECK(tracking_commit(store, true));
    puts("ready");
    fflush(stdout);
    struct pollfd input = {.fd = 0, .events = POLLIN};
    for (int64_t i = 1; poll(&input, 1, 5) == 0; i++) {
        if (report(store, trial, i, 1.0 / (double)i))
            return 1;
        if (tracking_commit_due_ms(store) == 0)
            CHECK(tracking_commit(store, false));
    }
    CHECK(tracking_trial_finish(store, trial, TRACKING_COMPLETE, true, 0.6, ""));
    return 0;
}

int main(int argc, char **argv)
{
    tracking_store *store;
    int64_t experiment, trial;
    if (argc < 2)
        return 2;
    CHECK(tracking_open(argv[1], &store));
    CHECK(tracking_experiment(store, "optuna", "loss", TRACKING_MINIMIZE, &experiment));
    if (argc > 2) {
        if (add_trial(store, experiment, "32", "\"a.csv\"", 0, &trial) || report(store, trial, 1, 0.9))
            return 1;
        CHECK(tracking_trial_finish(store, trial, TRACKING_COMPLETE, true, 0.9, ""));
    } else if (finished_trials(store, experiment) || live_trial(store, experiment))
        return 1;
    CHECK(tracking_commit(store, true));
    tracking_close(store);
    return 0;
}
