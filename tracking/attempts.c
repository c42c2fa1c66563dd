/* Attempts and events: what was started, how it ended, and what happened in which order. */
#include "base/clock.h"
#include "base/error.h"
#include "tracking/internal.h"

#include <stdlib.h>

int tracking_attempt_begin(tracking_store *store, int64_t trial, int attempt, int num_workers, const char *launcher,
                           const char *backend, int64_t restored_report, int64_t restored_checkpoint)
{
    tracking_known_trial *known;
    tracking_known_experiment *experiment;
    int status = tracking_know_open_trial(store, trial, &known);
    if (status == CADRE_OK)
        status = tracking_know_experiment(store, known->experiment, &experiment);
    if (status != CADRE_OK)
        return status;
    char now[BASE_UTC_TEXT];
    base_utc_format(base_utc_us(), now);
    size_t mark = tracking_journal_mark(store);
    if (known->last_report > restored_report)
        status = tracking_put_reports_gone(store, trial, restored_report + 1, INT64_MAX, experiment->objective);
    if (status == CADRE_OK)
        status = tracking_put(store, TRACKING_SQL_ATTEMPT_ADD,
                              TRACKING_ARGS(tracking_int(trial), tracking_int(attempt), tracking_int(num_workers),
                                            tracking_text(launcher ? launcher : ""),
                                            tracking_text(backend ? backend : ""), tracking_int(restored_report),
                                            tracking_int(restored_checkpoint), tracking_text(now)));
    if (status != CADRE_OK)
        tracking_journal_back(store, mark);
    else if (known->last_report > restored_report)
        known->last_report = restored_report;
    return status;
}

int tracking_attempt_backend(tracking_store *store, int64_t trial, int attempt, const char *backend)
{
    tracking_known_trial *known;
    int status = tracking_check_writer(store);
    if (status == CADRE_OK)
        status = tracking_know_trial(store, trial, &known);
    if (status == CADRE_OK)
        status = tracking_put(store, TRACKING_SQL_ATTEMPT_BACKEND,
                              TRACKING_ARGS(tracking_int(trial), tracking_int(attempt), tracking_text(backend)));
    return status;
}

int tracking_attempt_end(tracking_store *store, int64_t trial, int attempt, const char *cause, int rank,
                         const char *host, int exit_code, int signal, const char *detail)
{
    /* Also after the trial is finished: its last attempt may end behind the last report. */
    tracking_known_trial *known;
    int status = tracking_check_writer(store);
    if (status == CADRE_OK)
        status = tracking_know_trial(store, trial, &known);
    if (status != CADRE_OK)
        return status;
    char now[BASE_UTC_TEXT];
    base_utc_format(base_utc_us(), now);
    char *line = tracking_one_line(detail);
    char *place = tracking_one_line(host);
    status =
        line && place
            ? tracking_put(store, TRACKING_SQL_ATTEMPT_END,
                           TRACKING_ARGS(tracking_int(trial), tracking_int(attempt), tracking_text(now),
                                         tracking_text(cause ? cause : ""), tracking_int(rank), tracking_text(place),
                                         tracking_int(exit_code), tracking_int(signal), tracking_text(line)))
            : CADRE_ENOMEM;
    free(line);
    free(place);
    return status;
}

int tracking_event(tracking_store *store, int64_t experiment, int64_t trial, const char *kind, const char *json,
                   int64_t *sequence)
{
    tracking_known_experiment *known;
    int status = tracking_check_writer(store);
    if (status == CADRE_OK)
        status = tracking_know_experiment(store, experiment, &known);
    if (status == CADRE_OK)
        status = tracking_check_name(store, kind, "an event's kind");
    if (status == CADRE_OK)
        status = tracking_check_json(store, json ? json : "null", "an event's value");
    if (status == CADRE_OK)
        status = tracking_put(store, TRACKING_SQL_EVENT_ADD,
                              TRACKING_ARGS(tracking_int(experiment), tracking_int(known->events + 1),
                                            tracking_int(trial), tracking_int(base_utc_us()), tracking_text(kind),
                                            tracking_text(json ? json : "null")));
    if (status != CADRE_OK)
        return status;
    known->events++;
    if (sequence)
        *sequence = known->events;
    return CADRE_OK;
}
