/* The core's events in the store, and the core from them. */
#include "tuner.h"

#include "base/error.h"
#include "tracking/view.h"
#include "trainer/message.h"

#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

static int write_event(tuner *tuner, int64_t number, const char *kind, json_t *body)
{
    char *text = body ? json_dumps(body, JSON_COMPACT) : NULL;
    json_decref(body);
    if (!text)
        return base_error(CADRE_ENOMEM, "out of memory for an event");
    int status = tracking_event(tuner->store, tuner->experiment, tuner->rows[number], kind, text, NULL);
    free(text);
    return status;
}

int event_ask(tuner *tuner, int64_t number)
{
    json_t *point = json_array();
    const double *x = core_get(tuner->core, number)->x;
    for (int i = 0; point && i < cadre_space_count(tuner->space); i++)
        json_array_append_new(point, isnan(x[i]) ? json_null() : json_real(x[i]));
    return write_event(tuner, number, "ask", json_pack("{s:I, s:o}", "trial", (json_int_t)number, "x", point));
}

int event_resume(tuner *tuner, int64_t number) { return write_event(tuner, number, "resume", json_pack("{s:I}", "trial", (json_int_t)number)); }

int event_pause(tuner *tuner, int64_t number) { return write_event(tuner, number, "pause", json_pack("{s:I}", "trial", (json_int_t)number)); }

int event_report(tuner *tuner, int64_t number, double time, double value, double trial_s, double experiment_s)
{
    return write_event(tuner, number, "report",
                       json_pack("{s:I, s:o, s:o, s:f, s:f}", "trial", (json_int_t)number, "time", message_double(time), "value", message_double(value),
                                 "trial_s", trial_s, "experiment_s", experiment_s));
}

int event_end(tuner *tuner, int64_t number, cadre_trial_end end)
{
    const core_trial *trial = core_get(tuner->core, number);
    return write_event(tuner, number, "end",
                       json_pack("{s:I, s:i, s:I, s:o}", "trial", (json_int_t)number, "end", (int)end, "reports", (json_int_t)trial->reports, "value",
                                 message_double(trial->value)));
}

static int disagree(int64_t number, const char *what)
{
    return base_error(CADRE_EMISMATCH, "trial %lld: %s than when the experiment was begun: is the program, the space or the searcher another one?", (long long)number, what);
}

/* The core must ask for the same thing now. */
static int replay_next(tuner *tuner, core_job wanted, int64_t number, const json_t *body)
{
    core_job job;
    int64_t found = -1;
    int status = core_next(tuner->core, &job, &found);
    if (status != CADRE_OK)
        return status;
    if (job != wanted || found != number)
        return disagree(number, "another trial is chosen");
    const json_t *point = json_object_get(body, "x");
    const double *x = core_get(tuner->core, number)->x;
    for (int i = 0; wanted == CORE_START && i < cadre_space_count(tuner->space); i++) {
        const json_t *value = json_array_get(point, (size_t)i);
        if (isnan(x[i]) ? !json_is_null(value) : !json_is_number(value) || json_number_value(value) != x[i])
            return disagree(number, "another config is suggested");
    }
    return CADRE_OK;
}

static int replay_event(const tracking_event_row *row, void *user)
{
    tuner *tuner = user;
    const char *kind = row->kind;
    json_t *body = json_loads(row->json ? row->json : "{}", 0, NULL);
    int64_t number = message_int(body, "trial", -1);
    double value = NAN, time = 0;
    int status = CADRE_OK;
    message_read_double(json_object_get(body, "value"), &value);
    message_read_double(json_object_get(body, "time"), &time);
    bool known = number >= 0 && number < core_count(tuner->core);
    if (strcmp(kind, "ask") == 0)
        status = replay_next(tuner, CORE_START, number, body);
    else if (strcmp(kind, "resume") == 0)
        status = replay_next(tuner, CORE_RESUME, number, body);
    else if (strcmp(kind, "report") == 0 && known) {
        double elapsed = json_number_value(json_object_get(body, "experiment_s"));
        core_report(tuner->core, number, time, value, json_number_value(json_object_get(body, "trial_s")), elapsed);
        tuner->spent_s = elapsed > tuner->spent_s ? elapsed : tuner->spent_s;
    } else if (strcmp(kind, "pause") == 0 && known)
        core_paused(tuner->core, number);
    else if (strcmp(kind, "end") == 0 && known) {
        core_set_value(tuner->core, number, value, message_int(body, "reports", 0));
        status = core_end(tuner->core, number, (cadre_trial_end)message_int(body, "end", CADRE_ENDED_FAILED));
    }
    json_decref(body);
    return status;
}

int tuner_replay(tuner *tuner)
{
    int status = tracking_each_event(tuner->store, tuner->experiment, 0, replay_event, tuner);
    return status == CADRE_OK ? status : base_wrap(status, "take up %s", tuner->directory);
}
