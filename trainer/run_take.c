/* What workers say, into the record. */
#include "run_inside.h"

#include "base/clock.h"
#include "base/error.h"
#include "base/number.h"
#include "base/fault.h"
#include "message.h"
#include "run_files.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int read_metrics(const json_t *message, cadre_metric *metrics, tracking_metric *rows, int *count)
{
    const json_t *list = json_object_get(message, "metrics");
    size_t size = json_array_size(list);
    if (size == 0 || size > CADRE_MAX_METRICS)
        return base_error(CADRE_EPROTO, "a report with %zu metrics", size);
    for (size_t i = 0; i < size; i++) {
        const json_t *pair = json_array_get(list, i);
        const char *name = json_string_value(json_array_get(pair, 0));
        if (!name || !message_read_double(json_array_get(pair, 1), &metrics[i].value))
            return base_error(CADRE_EPROTO, "a report with a malformed metric");
        metrics[i].name = rows[i].name = name;
        rows[i].value = metrics[i].value;
    }
    *count = (int)size;
    return CADRE_OK;
}

static int take_report(trainer_run *run, const json_t *message, cadre_metric *metrics, int *count)
{
    tracking_metric rows[CADRE_MAX_METRICS];
    int64_t report = message_int(message, "report", 0), step = message_int(message, "step", 0);
    BASE_FAULT("take"); /* it was reported, nothing of it is recorded */
    int status = read_metrics(message, metrics, rows, count);
    if (status == CADRE_OK && report != run->report + 1)
        status = base_error(CADRE_EPROTO, "report %lld came after report %lld", (long long)report, (long long)run->report);
    if (status == CADRE_OK && !run->objective_known) {
        run_set_objective(run, metrics[0].name);
        status = tracking_set_objective(run->store, run->experiment, run->objective, run_direction(run));
    }
    if (status == CADRE_OK)
        status = run_files_append_result(run, report, step, metrics, *count); /* first, since a full disk is told here */
    if (status != CADRE_OK)
        return status;
    status = tracking_report(run->store, run->trial, run->attempt, report, step, rows, *count);
    if (status != CADRE_OK) {
        char message[BASE_ERROR_MAX];
        snprintf(message, sizeof message, "%s", cadre_error_message());
        run_files_roll_back(run, run->report);
        return base_error(status, "%s", message);
    }
    run->report = report;
    run->step = step;
    run_keep_report(run, metrics, *count);
    progress_report(&run->progress, step, metrics, *count);
    return CADRE_OK;
}

/* A checkpoint that came behind later reports is of an earlier one, and has that one's score. */
static void take_from_behind(trainer_run *run, const json_t *message, tracking_checkpoint *checkpoint)
{
    checkpoint->step = message_int(message, "step", run->step);
    checkpoint->has_score = checkpoint->report == run->saving_report && run->saving_has_score;
    checkpoint->score = run->saving_score;
    run->saving_report = 0;
}

static int note_saving(trainer_run *run, const json_t *message, const tracking_checkpoint *checkpoint)
{
    char json[1200];
    base_number_format(json, sizeof json, "{\"path\":\"%s\",\"stall_s\":%.6f,\"write_s\":%.6f}", checkpoint->path, 1e-6 * (double)message_int(message, "stall_us", 0),
             1e-6 * (double)message_int(message, "write_us", 0));
    return tracking_event(run->store, run->experiment, run->trial, "checkpoint", json, NULL);
}

static void note_score(trainer_run *run, const cadre_metric *metrics, int count)
{
    const cadre_metric *score = run_find_metric(metrics, count, run->trainer->checkpoint.score_metric);
    run->saving_report = run->report;
    run->saving_has_score = score != NULL;
    run->saving_score = score ? score->value : 0;
}

static int take_checkpoint(trainer_run *run, const json_t *message, const cadre_metric *metrics, int count)
{
    const json_t *body = json_object_get(message, "checkpoint");
    bool behind = message_int(message, "behind", 0) != 0;
    int64_t report = behind ? message_int(message, "report", run->report) : run->report;
    tracking_checkpoint checkpoint = {.attempt = run->attempt, .report = report, .step = run->step};
    const char *path = message_string(body, "path", ""), *hash = message_string(body, "hash", "");
    if (strncmp(path, "checkpoint-", 11) != 0 || path[11 + strspn(path + 11, "0123456789")] || strlen(hash) != sizeof checkpoint.hash - 1 ||
        report < 0 || report > run->report)
        return base_error(CADRE_EPROTO, "a malformed checkpoint message");
    snprintf(checkpoint.path, sizeof checkpoint.path, "trial-%05lld/%s", (long long)run->trial_number, path);
    snprintf(checkpoint.hash, sizeof checkpoint.hash, "%s", hash);
    checkpoint.nbytes = message_int(body, "nbytes", 0);
    const cadre_metric *score = run_find_metric(metrics, count, run->trainer->checkpoint.score_metric);
    if (score) {
        checkpoint.has_score = true;
        checkpoint.score = score->value;
    }
    if (behind)
        take_from_behind(run, message, &checkpoint);
    BASE_FAULT("record"); /* the files are there, the record is not */
    int status = tracking_checkpoint_add(run->store, run->trial, &checkpoint);
    if (status == CADRE_OK && behind)
        status = note_saving(run, message, &checkpoint);
    if (status == CADRE_OK)
        status = tracking_commit(run->store, true);
    if (status == CADRE_OK)
        status = run_files_prune(run);
    return status;
}

/* What failure.on_nan says to a report that is recorded. Its checkpoint would bring the NaN back, and is not. */
static int look_for_nan(trainer_run *run, const cadre_metric *metrics, int count)
{
    cadre_on_nan policy = run->trainer->failure.on_nan;
    for (int i = 0; policy != CADRE_NAN_RECORD && i < count; i++)
        if (isnan(metrics[i].value)) {
            if (policy == CADRE_NAN_FAIL)
                run->refused = CADRE_ETRAIN;
            run->gave_up = true;
            return base_error(CADRE_ETRAIN, "metric \"%s\" is NaN at report %lld, step %lld", metrics[i].name, (long long)run->report, (long long)run->step);
        }
    return CADRE_OK;
}

/* The first step after a failure: how long nothing was trained, from the moment the failure was noticed. */
static int note_recovery(trainer_run *run)
{
    char json[96];
    base_number_format(json, sizeof json, "{\"attempt\":%d,\"seconds\":%.6f}", run->attempt, base_now() - run->lost_at);
    run->lost_at = 0;
    return tracking_event(run->store, run->experiment, run->trial, "recovered", json, NULL);
}

/* A checkpoint that could not be written behind the training, which goes on: an event, and a line for who looks on. */
static int note_unsaved(trainer_run *run, const json_t *message)
{
    const char *path = message_string(message, "path", "a checkpoint"), *words = message_string(message, "message", "");
    json_t *json = json_pack("{s:s, s:s}", "path", path, "message", words);
    char *text = json ? json_dumps(json, JSON_COMPACT) : NULL;
    json_decref(json);
    if (!text)
        return base_error(CADRE_ENOMEM, "out of memory for an event");
    progress_say(&run->progress, "%s; training goes on without it", words);
    int status = run->trial ? tracking_event(run->store, run->experiment, run->trial, "checkpoint_failed", text, NULL) : CADRE_OK;
    free(text);
    return status;
}

static json_t *acknowledge(const trainer_run *run, int status)
{
    json_t *reply = message_new("ack", run->attempt);
    if (reply) {
        message_set_int(reply, "status", status);
        if (status != CADRE_OK)
            message_set_text(reply, "message", cadre_error_message());
    }
    return reply;
}

/* A worker that has no room for its checkpoint waits for what can be done about it. */
static int free_space(trainer_run *run, json_t **reply)
{
    bool freed = false;
    int status = run->trial ? run_files_free_space(run, &freed) : CADRE_OK;
    *reply = message_new("freed", run->attempt);
    if (!*reply)
        return CADRE_ENOMEM;
    message_set_int(*reply, "freed", freed);
    return status;
}

int run_take(trainer_run *run, const json_t *message, json_t **reply)
{
    *reply = NULL;
    bool report = message_is(message, "report"), checkpoint = message_is(message, "checkpoint");
    bool step = report || checkpoint || message_is(message, "beat");
    if (run->first_step == 0 && step)
        run->result.start_s = run->first_step = base_now() - run->begun;
    int recorded = step && run->lost_at > 0 && run->trial && run->attempt_open && message_attempt(message) == run->attempt ? note_recovery(run) : CADRE_OK;
    if (recorded != CADRE_OK)
        return recorded;
    if (message_is(message, "progress"))
        progress_update(&run->progress, message);
    if (message_is(message, "ready") && run->attempt_recorded && message_attempt(message) == run->attempt)
        return tracking_attempt_backend(run->store, run->trial, run->attempt, message_string(message, "backend", ""));
    if (message_is(message, "full") && message_attempt(message) == run->attempt)
        return free_space(run, reply);
    if (message_is(message, "unsaved") && message_attempt(message) == run->attempt && run->attempt_open)
        return note_unsaved(run, message);
    if (!report && !checkpoint)
        return CADRE_OK;
    if (message_attempt(message) != run->attempt || !run->attempt_open)
        return CADRE_OK; /* of an attempt that is over */

    cadre_metric metrics[CADRE_MAX_METRICS];
    int count = 0;
    int status = run_record_attempt(run);
    if (status == CADRE_OK && report)
        status = take_report(run, message, metrics, &count);
    if (status == CADRE_OK && report)
        status = look_for_nan(run, metrics, count);
    if (status == CADRE_OK && report && message_int(message, "saving", 0))
        note_score(run, metrics, count);
    if (status == CADRE_OK && report && run->on_report)
        status = run->on_report(run->user, run->report, metrics, count);
    if (json_object_get(message, "checkpoint")) {
        if (status == CADRE_OK && !run->gave_up)
            status = take_checkpoint(run, message, metrics, count);
        if (!message_int(message, "behind", 0)) /* nobody waits for what comes behind: an error ends the attempt */
            *reply = acknowledge(run, status);
    }
    if (status != CADRE_OK && status != CADRE_EPROTO && status != CADRE_ETRAIN && run->refused == CADRE_OK)
        run->refused = status;
    return status;
}
