/*
 * Every public macro as programs write it, under the warnings that programs switch on: compiled only, by check.sh. The options of searchers and
 * schedulers, spaces and shapes are made of compound literals and named members, which C++17 has not: there it is those that all programs need.
 */
#include <cadre/cadre.h>
#include <ctorch.h>

#include <math.h>

int report(cadre_session *s, double loss, double hits, double seen);
int fit(const cadre_trainer *trainer);

int report(cadre_session *s, double loss, double hits, double seen)
{
    int status = cadre_report(s, CADRE_METRICS(CADRE_METRIC("loss", loss)), NULL);
    if (status == CADRE_OK)
        status = cadre_report(s, CADRE_METRICS({"loss", loss, CADRE_REDUCE_MEAN, 0}), NULL);
    if (status == CADRE_OK)
        status = cadre_report(s, CADRE_METRICS(CADRE_METRIC_MEAN("loss", loss), CADRE_METRIC_SUM("seen", seen), CADRE_METRIC_MIN("least", loss),
                                               CADRE_METRIC_MAX("most", loss), CADRE_METRIC_RATIO("accuracy", hits, seen)), NULL);
    return status;
}

#ifdef __cplusplus

int fit(const cadre_trainer *trainer)
{
    cadre_tuner tuner = {};
    cadre_tuner_result result = {};
    tuner.trainer = trainer;
    tuner.metric = "loss";
    return cadre_trainer_fit(trainer, nullptr) == CADRE_OK ? cadre_tuner_fit(&tuner, &result) : -1;
}

#else

static int seven(cadre_config *config, const char *name, uint64_t random, void *user)
{
    (void)random;
    (void)user;
    return cadre_config_set_int(config, name, 7);
}

int fit(const cadre_trainer *trainer)
{
    const cadre_param space[] = {
        CADRE_UNIFORM("a", 0, 1), CADRE_QUNIFORM("b", 0, 1, 0.5), CADRE_LOGUNIFORM("c", 1, 2), CADRE_QLOGUNIFORM("d", 1, 2, 0.5),
        CADRE_RANDN("e", 0, 1), CADRE_QRANDN("f", 0, 1, 0.5), CADRE_RANDINT("g", 0, 9), CADRE_QRANDINT("h", 0, 9, 3), CADRE_LOGRANDINT("i", 1, 9),
        CADRE_QLOGRANDINT("j", 1, 9, 2), CADRE_CHOICE("k", "x", "y"), CADRE_CHOICE_INT("l", 1, 2), CADRE_CHOICE_DOUBLE("m", 1, 2),
        CADRE_CHOICE_BOOL("n"), CADRE_GRID("o", "x"), CADRE_GRID_INT("p", 1, 2), CADRE_GRID_DOUBLE("q", 1, 2), CADRE_GRID_BOOL("r"),
        CADRE_CONSTANT("s", "x"), CADRE_CONSTANT_INT("t", 1), CADRE_CONSTANT_DOUBLE("u", 1), CADRE_CONSTANT_BOOL("v", true),
        CADRE_SAMPLE_FROM("w", seven, NULL),
        CADRE_WHEN("k", "x", CADRE_UNIFORM("x", 0, 1), CADRE_CHOICE_BOOL("y")),
        CADRE_WHEN_ANY("k", CADRE_VALUES("x", "y"), CADRE_UNIFORM("z", 0, 1)),
        CADRE_WHEN_BETWEEN("g", 2, INFINITY, CADRE_RANDINT("aa", 8, 65)),
        CADRE_END,
    };
    const cadre_search searches[] = {
        CADRE_SEARCH_RANDOM, CADRE_SEARCH_GRID, CADRE_SEARCH_TPE, CADRE_SEARCH_BOHB, CADRE_SEARCH_GP, CADRE_SEARCH_SOBOL, CADRE_SEARCH_HALTON,
        CADRE_SEARCH_CMAES, CADRE_SEARCH_AUTO, CADRE_GRID_SEARCH(.resolution = 3), CADRE_TPE(.startup = 5, .gamma = 0.1), CADRE_BOHB(.startup = 5),
        CADRE_GP(.starts = 2), CADRE_CMAES(.popsize = 9), CADRE_AUTO(.handover = 50),
    };
    const cadre_scheduler schedulers[] = {
        CADRE_ASHA(), CADRE_HYPERBAND(), CADRE_PERCENTILE(), CADRE_MEDIAN(), CADRE_ASHA(.max_t = 9, .promotion = true),
        CADRE_HYPERBAND(.max_t = 9), CADRE_PERCENTILE(.percentile = 25), CADRE_MEDIAN(.grace_period = 2),
    };
    cadre_tuner tuner = {.trainer = trainer, .metric = "loss", .mode = CADRE_MIN, .space = space, .search = searches[0], .scheduler = schedulers[0]};
    return cadre_trainer_fit(trainer, NULL) == CADRE_OK ? cadre_tuner_fit(&tuner, NULL) : -1;
}

ct_status shapes(ct_tensor **out);

ct_status shapes(ct_tensor **out)
{
    ct_module *model = CT_SEQUENTIAL(ct_nn_linear(1, 2, true), ct_nn_linear(2, 1, false));
    CT_CHECK(ct_tensor_randn(CT_SHAPE(2, 3), CT_FLOAT32, NULL, out));
    ct_module_free(model);
    return CT_OK;
}

#endif
