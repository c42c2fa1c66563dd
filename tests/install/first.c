/* A program outside the source tree: two forked workers that report, and what is left of it. */
#include <cadre/cadre.h>

#include <stdio.h>

static int train(cadre_session *session, const cadre_config *config, void *user)
{
    int rank = cadre_session_rank(session);
    (void)user;
    for (int epoch = 1; epoch <= 3; epoch++) {
        double ranks = rank + 1;
        int status = cadre_all_reduce(cadre_session_comm(session), &ranks, 1, CADRE_FLOAT64, CADRE_SUM);
        if (status == CADRE_OK)
            status = cadre_report(session, CADRE_METRICS({"sum", ranks * cadre_config_double(config, "factor", 1), CADRE_REDUCE_NONE, 0}), NULL);
        if (status != CADRE_OK)
            return status < 0 ? status : CADRE_OK;
    }
    return CADRE_OK;
}

int main(void)
{
    cadre_config *config;
    cadre_result result;
    if (cadre_config_new(&config) != CADRE_OK || cadre_config_set_double(config, "factor", 2) != CADRE_OK)
        return 1;
    cadre_trainer trainer = {.train = train, .config = config, .scaling = {.num_workers = 2}, .run = {.name = "first"}};
    int status = cadre_trainer_fit(&trainer, &result);
    cadre_config_free(config);
    if (status != CADRE_OK) {
        fprintf(stderr, "first: %s\n", cadre_error_message());
        return 1;
    }
    printf("%lld reports, sum %g\n", (long long)result.reports, cadre_result_metric(&result, "sum"));
    return result.reports == 3 && cadre_result_metric(&result, "sum") == 6 ? 0 : 1;
}
