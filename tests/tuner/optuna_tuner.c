/*
 * Tuners whose stores Optuna is to read: all kinds of dimensions, complete, pruned and failed trials.
 *
 *     optuna_tuner STORAGE NAME TRIALS PAUSE_MS (new|resume)
 *     optuna_tuner --trial X KIND        a trial of `cadre tune`
 */
#include "cadre/tuner.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { REPORTS = 6 };

static int train(cadre_session *session, const cadre_config *config, void *user)
{
    const int *pause_ms = user;
    double lr = cadre_config_double(config, "lr", 1), momentum = cadre_config_double(config, "momentum", 0.5);
    int64_t layers = cadre_config_int(config, "layers", 1);
    int status = CADRE_OK;
    if (cadre_config_int(config, "width", 0) >= 48)
        return cadre_fail(CADRE_EINVAL, "a width of 48 or more does not fit");
    for (int report = 1; report <= REPORTS && status == CADRE_OK; report++) {
        usleep((useconds_t)*pause_ms * 1000);
        double loss = fabs(log10(lr) + 2) + 0.1 * fabs((double)layers - 3) + 0.1 * fabs(momentum - 0.9) + 1.0 / report;
        status = cadre_report(session, CADRE_METRICS({"loss", loss, CADRE_REDUCE_NONE, 0}, {"accuracy", 1 / (1 + loss), CADRE_REDUCE_NONE, 0}), NULL);
    }
    return status < 0 ? status : CADRE_OK;
}

static int run_trial(char **argv)
{
    const char *report = getenv("CADRE_REPORT_FD");
    double x = atof(argv[2]);
    if (x > 0.5)
        return 1;
    return report && dprintf(atoi(report), "{\"loss\": %.17g}\n", x * x + (strcmp(argv[3], "b") == 0)) > 0 ? 0 : 1;
}

int main(int argc, char **argv)
{
    if (argc == 4 && strcmp(argv[1], "--trial") == 0)
        return run_trial(argv);
    if (argc != 6)
        return 2;
    const cadre_param space[] = {
        CADRE_LOGUNIFORM("lr", 1e-4, 1e-1),
        CADRE_RANDINT("layers", 1, 7),
        CADRE_LOGRANDINT("units", 8, 1025),
        CADRE_QRANDINT("width", 8, 64, 8),
        CADRE_QUNIFORM("dropout", 0, 0.5, 0.125),
        CADRE_RANDN("noise", 0, 2),
        CADRE_CHOICE("optimizer", "sgd", "adamw"),
        CADRE_CHOICE_BOOL("nesterov"),
        CADRE_WHEN("optimizer", "sgd", CADRE_UNIFORM("momentum", 0, 0.99)),
        CADRE_CONSTANT_INT("epochs", 6),
        CADRE_CONSTANT("data", "a.csv"),
        CADRE_END,
    };
    int pause_ms = atoi(argv[4]);
    cadre_trainer trainer = {.train = train, .user = &pause_ms, .run = {.name = argv[2], .storage = argv[1]}};
    cadre_tuner tuner = {.trainer = &trainer, .metric = "loss", .mode = CADRE_MIN, .space = space, .search = CADRE_TPE(.startup = 5),
                         .scheduler = CADRE_ASHA(.max_t = REPORTS, .reduction_factor = 2), .num_samples = atoi(argv[3]), .cores = 2, .seed = 3,
                         .resume = strcmp(argv[5], "resume") == 0 ? CADRE_TUNE_RESUME : CADRE_TUNE_NEW};
    cadre_tuner_result result = {0};
    int status = cadre_tuner_fit(&tuner, &result);
    cadre_config_free(result.best_config);
    if (status != CADRE_OK)
        fprintf(stderr, "optuna_tuner: %s\n", cadre_error_message());
    return status == CADRE_OK ? 0 : 1;
}
