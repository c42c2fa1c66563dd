/*
 * The core's events in the store, and the core from them. Kinds: ask, retry, resume and promote (what core_next wanted), report, pause, end,
 * retry_failed (a request), enqueued (a trial whose point another program has chosen), other (a trial that another program has made), rest (the end of a life of the experiment). Each says when it was in "experiment_s", seconds over all lives.
 */
#include "tuner.h"

#include "base/error.h"
#include "base/mem.h"
#include "space.h"
#include "tracking/view.h"
#include "trainer/message.h"

#include <jansson.h>
#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

/* ---- writing ----------------------------------------------------------------------------------------------------------------------- */

/* A number as JSON has it; what it has not are the strings of message_double. */
static int put_number(base_buffer *text, const char *key, double value)
{
    int status = base_buffer_printf(text, ", \"%s\": ", key);
    if (status != CADRE_OK || isfinite(value))
        return status == CADRE_OK ? tuner_put_double(text, value) : status;
    return base_buffer_printf(text, "\"%s\"", isnan(value) ? "nan" : value > 0 ? "inf" : "-inf");
}

static int put_head(base_buffer *text, double experiment_s) { return base_buffer_printf(text, "{\"experiment_s\": %.3f", experiment_s); }

/* Close the object, write it down and free it. trial -1: the experiment's own. */
static int write_event(tuner *tuner, int64_t number, const char *kind, base_buffer *text, int status)
{
    if (status == CADRE_OK && number >= 0)
        status = base_buffer_printf(text, ", \"trial\": %lld", (long long)number);
    if (status == CADRE_OK)
        status = base_buffer_printf(text, "}");
    if (status == CADRE_OK)
        status = tracking_event(tuner->store, tuner->experiment, number >= 0 ? tuner->rows[number] : 0, kind, (const char *)text->data, NULL);
    base_buffer_free(text);
    return status;
}

static int put_point(tuner *tuner, int64_t number, base_buffer *text)
{
    const double *x = core_get(tuner->core, number)->x;
    int status = base_buffer_printf(text, ", \"x\": [");
    for (int i = 0; status == CADRE_OK && i < cadre_space_count(tuner->space); i++) {
        status = base_buffer_append(text, ", ", i ? 2 : 0);
        if (status == CADRE_OK)
            status = isnan(x[i]) ? base_buffer_append(text, "null", 4) : tuner_put_double(text, x[i]);
    }
    return status == CADRE_OK ? base_buffer_append(text, "]", 1) : status;
}

/* What the searcher says of its choice: for people, replaying does not look at it. */
static int put_note(tuner *tuner, base_buffer *text)
{
    const char *note = core_note(tuner->core);
    int status = *note ? base_buffer_printf(text, ", \"note\": ") : CADRE_OK;
    return status == CADRE_OK && *note ? tuner_put_string(text, note) : status;
}

int event_begin(tuner *tuner, core_job job, int64_t number)
{
    static const char *const kinds[] = {[CORE_START] = "ask", [CORE_RETRY] = "retry", [CORE_RESUME] = "resume", [CORE_PROMOTE] = "promote"};
    const core_trial *trial = core_get(tuner->core, number);
    base_buffer text = {0};
    int status = put_head(&text, tuner_elapsed(tuner));
    if (status == CADRE_OK && job == CORE_START)
        status = put_point(tuner, number, &text);
    if (status == CADRE_OK && job == CORE_START)
        status = put_note(tuner, &text);
    if (status == CADRE_OK && job == CORE_RETRY)
        status = base_buffer_printf(&text, ", \"of\": %lld, \"from_beginning\": %s", (long long)trial->retry_of, trial->from_beginning ? "true" : "false");
    return write_event(tuner, number, kinds[job], &text, status);
}

int event_pause(tuner *tuner, int64_t number)
{
    base_buffer text = {0};
    return write_event(tuner, number, "pause", &text, put_head(&text, tuner_elapsed(tuner)));
}

int event_report(tuner *tuner, int64_t number, int64_t report, double time, double value, double trial_s, double experiment_s)
{
    base_buffer text = {0};
    int status = put_head(&text, experiment_s);
    if (status == CADRE_OK)
        status = base_buffer_printf(&text, ", \"report\": %lld", (long long)report);
    if (status == CADRE_OK)
        status = put_number(&text, "time", time);
    if (status == CADRE_OK)
        status = put_number(&text, "value", value);
    if (status == CADRE_OK)
        status = put_number(&text, "trial_s", trial_s);
    return write_event(tuner, number, "report", &text, status);
}

int event_end(tuner *tuner, int64_t number, cadre_trial_end end)
{
    const core_trial *trial = core_get(tuner->core, number);
    base_buffer text = {0};
    int status = put_head(&text, tuner_elapsed(tuner));
    if (status == CADRE_OK)
        status = base_buffer_printf(&text, ", \"end\": %d, \"reports\": %lld", (int)end, (long long)trial->reports);
    if (status == CADRE_OK)
        status = put_number(&text, "value", trial->value);
    return write_event(tuner, number, "end", &text, status);
}

int event_retry_failed(tuner *tuner, bool from_beginning)
{
    base_buffer text = {0};
    int status = put_head(&text, tuner_elapsed(tuner));
    if (status == CADRE_OK)
        status = base_buffer_printf(&text, ", \"from_beginning\": %s", from_beginning ? "true" : "false");
    return write_event(tuner, -1, "retry_failed", &text, status);
}

int event_other(tuner *tuner, int64_t number, cadre_trial_end end, bool fits)
{
    const core_trial *trial = core_get(tuner->core, number);
    base_buffer text = {0};
    int status = put_head(&text, tuner_elapsed(tuner));
    if (status == CADRE_OK)
        status = base_buffer_printf(&text, ", \"end\": %d, \"reports\": %lld", (int)end, (long long)trial->reports);
    if (status == CADRE_OK)
        status = put_number(&text, "value", trial->value);
    if (status == CADRE_OK && fits)
        status = put_point(tuner, number, &text);
    return write_event(tuner, number, "other", &text, status);
}

int event_enqueued(tuner *tuner, int64_t number)
{
    base_buffer text = {0};
    int status = put_head(&text, tuner_elapsed(tuner));
    if (status == CADRE_OK)
        status = put_point(tuner, number, &text);
    return write_event(tuner, number, "enqueued", &text, status);
}

int event_rest(tuner *tuner)
{
    base_buffer text = {0};
    return write_event(tuner, -1, "rest", &text, put_head(&text, tuner_elapsed(tuner)));
}

/* ---- reading ----------------------------------------------------------------------------------------------------------------------- */

/* A number of reports as it may stand in an event: no more than can be counted on from. */
static int64_t count_of(const json_t *body, const char *key, int64_t fallback)
{
    const int64_t most = INT64_C(1) << 53;
    int64_t count = message_int(body, key, fallback);
    return count < 0 ? 0 : count < most ? count : most;
}

static int disagree(int64_t number, const char *what)
{
    return base_error(CADRE_EMISMATCH, "trial %lld: %s than when the experiment was begun: is the program, the space or the searcher another one?", (long long)number, what);
}

/* The core must ask for the same thing now. */
static int replay_next(tuner *tuner, core_job wanted, int64_t number, const json_t *body)
{
    core_job job = CORE_DONE;
    int64_t found = -1;
    int status = core_next(tuner->core, &job, &found);
    if (status != CADRE_OK)
        return status;
    if (job != wanted || found != number)
        return disagree(number, "another trial is chosen");
    if (wanted == CORE_RETRY && core_get(tuner->core, number)->retry_of != message_int(body, "of", -1))
        return disagree(number, "another failed trial is tried again");
    const json_t *point = json_object_get(body, "x");
    const double *x = core_get(tuner->core, number)->x;
    for (int i = 0; wanted == CORE_START && i < cadre_space_count(tuner->space); i++) {
        const json_t *value = json_array_get(point, (size_t)i);
        if (isnan(x[i]) ? !json_is_null(value) : !json_is_number(value) || json_number_value(value) != x[i])
            return disagree(number, "another config is suggested");
    }
    return CADRE_OK;
}

static int replay_report(tuner *tuner, int64_t number, const json_t *body, double value, double experiment_s)
{
    const core_trial *trial = core_get(tuner->core, number);
    double time = NAN;
    message_read_double(json_object_get(body, "time"), &time);
    if (trial->decision == CADRE_DECIDE_GO_ON)
        core_report(tuner->core, number, count_of(body, "report", trial->reports + 1), time, value, json_number_value(json_object_get(body, "trial_s")), experiment_s);
    return CADRE_OK;
}

/* An event of a trial that there is. */
static int replay_trial(tuner *tuner, const char *kind, int64_t number, const json_t *body, double experiment_s)
{
    core_state state = core_get(tuner->core, number)->state;
    double value = NAN;
    message_read_double(json_object_get(body, "value"), &value);
    bool fits = state == CORE_RUNNING || (state == CORE_PAUSED && strcmp(kind, "end") == 0);
    if (!fits)
        return base_error(CADRE_ECORRUPT, "trial %lld has a \"%s\" when it does not run", (long long)number, kind);
    if (strcmp(kind, "report") == 0)
        return replay_report(tuner, number, body, value, experiment_s);
    if (strcmp(kind, "pause") == 0) {
        core_paused(tuner->core, number);
        return CADRE_OK;
    }
    core_set_value(tuner->core, number, value, count_of(body, "reports", 0));
    return core_end(tuner->core, number, (cadre_trial_end)message_int(body, "end", CADRE_ENDED_FAILED));
}

/* A trial of another program: its result, or where it wanted one. */
static int replay_other(tuner *tuner, int64_t number, const json_t *body, bool enqueued)
{
    int64_t begun;
    const json_t *point = json_object_get(body, "x");
    size_t ndims = (size_t)cadre_space_count(tuner->space);
    double value = NAN, *x = base_malloc((ndims + 1) * sizeof *x);
    if (!x)
        return CADRE_ENOMEM;
    for (size_t i = 0; i < ndims; i++)
        x[i] = json_is_number(json_array_get(point, i)) ? json_number_value(json_array_get(point, i)) : NAN;
    message_read_double(json_object_get(body, "value"), &value);
    int status = number == core_count(tuner->core) ? CADRE_OK : base_error(CADRE_ECORRUPT, "trial %lld of another program comes out of turn", (long long)number);
    if (status == CADRE_OK && enqueued)
        status = core_begin(tuner->core, x, &begun);
    else if (status == CADRE_OK)
        status = core_add(tuner->core, point ? x : NULL, (cadre_trial_end)message_int(body, "end", CADRE_ENDED_FAILED), value, count_of(body, "reports", 0));
    free(x);
    return status;
}

static int replay_event(const tracking_event_row *row, void *user)
{
    static const struct {
        const char *kind;
        core_job job;
    } begins[] = {{"ask", CORE_START}, {"retry", CORE_RETRY}, {"resume", CORE_RESUME}, {"promote", CORE_PROMOTE}};
    tuner *tuner = user;
    const char *kind = row->kind;
    json_t *body = json_loads(row->json ? row->json : "{}", 0, NULL);
    int64_t number = message_int(body, "trial", -1), count = 0;
    double experiment_s = json_number_value(json_object_get(body, "experiment_s"));
    int status = CADRE_OK;
    tuner->spent_s = experiment_s > tuner->spent_s ? experiment_s : tuner->spent_s;
    for (size_t i = 0; i < sizeof begins / sizeof *begins; i++)
        if (strcmp(kind, begins[i].kind) == 0)
            status = replay_next(tuner, begins[i].job, number, body);
    if (strcmp(kind, "other") == 0 || strcmp(kind, "enqueued") == 0)
        status = replay_other(tuner, number, body, strcmp(kind, "enqueued") == 0);
    else if (strcmp(kind, "retry_failed") == 0)
        status = core_retry_failed(tuner->core, json_is_true(json_object_get(body, "from_beginning")), &count);
    else if (strcmp(kind, "report") == 0 || strcmp(kind, "pause") == 0 || strcmp(kind, "end") == 0)
        status = number >= 0 && number < core_count(tuner->core) ? replay_trial(tuner, kind, number, body, experiment_s)
                                                                  : base_error(CADRE_ECORRUPT, "an event of trial %lld, which was never begun", (long long)number);
    json_decref(body);
    return status;
}

int tuner_replay(tuner *tuner)
{
    core_replay(tuner->core, true);
    int status = tracking_each_event(tuner->store, tuner->experiment, 0, replay_event, tuner);
    core_replay(tuner->core, false);
    return status == CADRE_OK ? status : base_wrap(status, "take up %s", tuner->directory);
}
