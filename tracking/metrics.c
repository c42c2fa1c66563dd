#include "base/clock.h"
#include "base/error.h"
#include "tracking/internal.h"

#include <math.h>

static int put_intermediate(tracking_store *store, int64_t trial, int64_t step, double value)
{
    const char *type = isnan(value) ? "NAN" : isfinite(value) ? "FINITE" : value > 0 ? "INF_POS" : "INF_NEG";
    return tracking_put(store, TRACKING_SQL_INTERMEDIATE_SET,
                        TRACKING_ARGS(tracking_int(trial), tracking_int(step),
                                      tracking_real(isfinite(value) ? value : NAN), tracking_text(type)));
}

/* Reports `first` to `last` are no more. An intermediate value that such a report wrote over an earlier one's, at the
 * same step, becomes the earlier one's again. */
int tracking_put_reports_gone(tracking_store *store, int64_t trial, int64_t first, int64_t last, int64_t objective)
{
    const tracking_arg args[] = {tracking_int(trial), tracking_int(first), tracking_int(last), tracking_int(objective)};
    int status = tracking_put(store, TRACKING_SQL_INTERMEDIATE_DROP, args, 3);
    if (status == CADRE_OK && objective)
        status = tracking_put(store, TRACKING_SQL_INTERMEDIATE_AGAIN, args, 4);
    if (status == CADRE_OK)
        status = tracking_put(store, TRACKING_SQL_METRICS_DROP, args, 3);
    if (status == CADRE_OK)
        status = tracking_put(store, TRACKING_SQL_REPORTS_DROP, args, 3);
    return status;
}

int tracking_report(tracking_store *store, int64_t trial, int attempt, int64_t report, int64_t step,
                    const tracking_metric *metrics, int count)
{
    tracking_known_trial *known;
    tracking_known_experiment *experiment;
    if (report < 1)
        return base_error(CADRE_EINVAL, "store %s: reports count from 1, not %lld", store->path, (long long)report);
    int status = tracking_know_open_trial(store, trial, &known);
    if (status == CADRE_OK)
        status = tracking_know_experiment(store, known->experiment, &experiment);
    if (status != CADRE_OK)
        return status;
    /* New names first: what comes after them may be taken back, they may not. */
    int64_t name = 0;
    for (int i = 0; status == CADRE_OK && i < count; i++)
        status = tracking_know_name(store, metrics[i].name, &name);
    if (status != CADRE_OK)
        return status;
    size_t mark = tracking_journal_mark(store);
    if (report <= known->last_report)
        status = tracking_put_reports_gone(store, trial, report, report, experiment->objective);
    if (status == CADRE_OK)
        status = tracking_put(store, TRACKING_SQL_REPORT_ADD,
                              TRACKING_ARGS(tracking_int(trial), tracking_int(report), tracking_int(step),
                                            tracking_int(attempt), tracking_int(base_utc_us())));
    for (int i = 0; status == CADRE_OK && i < count; i++) {
        status = tracking_know_name(store, metrics[i].name, &name);
        if (status == CADRE_OK)
            status = tracking_put(store, TRACKING_SQL_METRIC_ADD,
                                  TRACKING_ARGS(tracking_int(trial), tracking_int(report), tracking_int(name),
                                                tracking_real(metrics[i].value)));
        if (status == CADRE_OK && name == experiment->objective)
            status = put_intermediate(store, trial, step, metrics[i].value);
    }
    if (status != CADRE_OK)
        tracking_journal_back(store, mark);
    else if (report > known->last_report)
        known->last_report = report;
    return status;
}
