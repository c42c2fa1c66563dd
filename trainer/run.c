#include "run.h"

#include "base/clock.h"
#include "base/error.h"
#include "base/fault.h"
#include "base/io.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/number.h"
#include "base/private.h"
#include "cadre/checkpoint.h"
#include "message.h"
#include "run_files.h"
#include "run_inside.h"

#include <ctype.h>
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { DIRECTORY_MAX = 480 }; /* SQLite has 512 bytes for the path of a file */

/* Our note of a trial while an attempt is under way. */
static const char RUNNING[] = "running";

int run_check_name(const char *name)
{
    size_t length = strlen(name);
    bool fine = length > 0 && length <= 100 && name[0] != '.' && name[0] != '-';
    for (const char *at = name; *at; at++)
        fine = fine && (isalnum((unsigned char)*at) || strchr("._-", *at));
    if (!fine)
        return base_error(CADRE_EINVAL, "run.name \"%s\": use up to 100 letters, digits, '.', '_' and '-', not beginning with '.' or '-'", name);
    return CADRE_OK;
}

void run_set_objective(trainer_run *run, const char *metric)
{
    snprintf(run->objective, sizeof run->objective, "%s", metric);
    run->objective_known = true;
}

tracking_direction run_direction(const trainer_run *run)
{
    bool scored = run->trainer->run.metric || run->trainer->checkpoint.score_metric;
    return scored && run->trainer->checkpoint.score_mode != CADRE_MIN ? TRACKING_MAXIMIZE : TRACKING_MINIMIZE;
}

/* The directory of the experiment, refused before anything is made where a store cannot live. */
static int make_directory(const char *storage, const char *name, char **directory)
{
    char *given = base_path_join(storage, name), *full = NULL;
    if (!given)
        return CADRE_ENOMEM;
    int status = base_mkdirs(given, 0700);
    if (status == CADRE_OK)
        status = base_private_directory(given);
    if (status == CADRE_OK && base_private_parent(storage) != CADRE_OK) /* a directory that people share: said, not refused */
        base_log(CADRE_LOG_WARN, "trainer", "run.storage \"%s\": %s", storage, cadre_error_message());
    if (status == CADRE_OK) {
        full = realpath(given, NULL);
        if (!full)
            status = base_errno(errno, "find the directory %s", given);
        else if (strlen(full) > DIRECTORY_MAX || strlen(given) > DIRECTORY_MAX)
            status = base_error(CADRE_EINVAL, "the path is longer than %d bytes", DIRECTORY_MAX);
    }
    free(given);
    if (status != CADRE_OK) {
        free(full);
        return base_wrap(status, "run.storage \"%s\"", storage);
    }
    const char *network = base_network_filesystem(full);
    if (network) {
        free(full);
        return base_error(CADRE_ENOTSUP,
                          "run.storage \"%s\" is on a network file system (%s), where SQLite's locks do not hold: choose a local directory", storage,
                          network);
    }
    *directory = full;
    return CADRE_OK;
}

int run_prepare_directory(const char *storage, const char *name, bool resume, char **directory)
{
    int status = run_check_name(name);
    if (status != CADRE_OK)
        return status;
    if (resume) {
        char *path = base_sprintf("%s/%s/cadre.db", storage, name);
        bool there = path && base_exists(path);
        free(path);
        if (!there)
            return base_error(CADRE_ENOENT, "nothing to resume: there is no run \"%s\" in %s", name, storage);
    }
    return make_directory(storage, name, directory);
}

/* In a store of its own the record is on disk when this returns; in a shared one its owner commits for many at once. */
static int commit_durable(trainer_run *run)
{
    if (!run->wants_durable)
        return tracking_commit(run->store, true);
    *run->wants_durable = true;
    return CADRE_OK;
}

/* A value as JSON with the shortest digits that read back the same: 0.1, not 0.10000000000000001. */
static int value_text(const json_t *value, char **out)
{
    if (json_is_real(value)) {
        char digits[32];
        base_number_text(json_real_value(value), digits);
        *out = base_strdup(digits);
    } else {
        *out = json_dumps(value, JSON_ENCODE_ANY | JSON_COMPACT);
    }
    return *out ? CADRE_OK : base_error(CADRE_ENOMEM, "out of memory for the config");
}

static int record_config(const trainer_run *run, tracking_param **out, char ***values, int *count)
{
    const cadre_config *config = run->trainer->config;
    *count = cadre_config_count(config);
    *out = base_calloc((size_t)*count, sizeof **out);
    *values = base_calloc((size_t)*count, sizeof **values);
    char *text = config ? cadre_config_to_json(config) : base_strdup("{}");
    json_t *json = text ? json_loads(text, 0, NULL) : NULL;
    free(text);
    if (!*out || !*values || !json) {
        json_decref(json);
        return base_error(CADRE_ENOMEM, "out of memory for the config");
    }
    int status = CADRE_OK;
    for (int i = 0; status == CADRE_OK && i < *count; i++) {
        const char *name = cadre_config_name(config, i);
        status = value_text(json_object_get(json, name), &(*values)[i]);
        (*out)[i] = (tracking_param){.name = name, .json = (*values)[i]};
    }
    json_decref(json);
    return status;
}

static int make_trial(trainer_run *run)
{
    tracking_param *params = NULL;
    char **values = NULL;
    int count = 0;
    int status = record_config(run, &params, &values, &count);
    if (status == CADRE_OK)
        status = tracking_trial_add(run->store, run->experiment, params, count, run->parent, &run->trial, &run->trial_number);
    for (int i = 0; values && i < count; i++)
        free(values[i]);
    free(values);
    free(params);
    return status;
}

static int enter_trial_directory(trainer_run *run)
{
    free(run->trial_directory);
    run->trial_directory = base_sprintf("%s/trial-%05lld", run->directory, (long long)run->trial_number);
    run->result.trial = run->trial_number;
    if (!run->trial_directory)
        return CADRE_ENOMEM;
    return base_mkdirs(run->trial_directory, 0700);
}

/* An attempt that is under way by the record, while its controller is gone. */
static int close_lost_attempt(trainer_run *run, const tracking_trial *trial)
{
    if (strcmp(trial->detail, RUNNING) != 0 || trial->attempts == 0)
        return CADRE_OK;
    return tracking_attempt_end(run->store, trial->id, trial->attempts - 1, "lost", -1, "", 0, 0, "the controller ended without a word");
}

/* A trial that was interrupted and is not taken up: it has failed, and what its attempt left half done goes. */
static int abandon(trainer_run *run, const tracking_trial *trial)
{
    run->trial = trial->id;
    run->trial_number = trial->number;
    int status = close_lost_attempt(run, trial);
    if (status == CADRE_OK)
        status = tracking_trial_finish(run->store, trial->id, TRACKING_FAIL, false, 0, "interrupted, and a new run was begun");
    if (status == CADRE_OK)
        status = enter_trial_directory(run);
    if (status == CADRE_OK)
        status = run_files_sweep(run);
    if (status == CADRE_OK)
        status = run_files_roll_back(run, trial->last_report);
    run->trial = run->trial_number = 0;
    return status;
}

/*
 * Which trial is it? Interrupted: the same one goes on. Finished or failed: its rows are never written again (readers cache them), so
 * it is taken up as a new trial, made when there is something to record.
 */
static int settle_trial(trainer_run *run, bool resume_unfinished)
{
    tracking_trial last;
    int status = tracking_last_trial(run->store, run->experiment, &last);
    bool resume = run->trainer->run.resume == CADRE_RESUME_LAST;
    if (status == CADRE_ENOENT) {
        if (resume)
            return base_error(CADRE_ENOENT, "nothing to resume: %s has no trial yet", run->directory);
        status = make_trial(run);
    } else if (status != CADRE_OK) {
        return status;
    } else if (last.state == TRACKING_RUNNING && (resume || resume_unfinished)) {
        run->trial = last.id;
        run->trial_number = last.number;
        run->attempt = last.attempts;
        run->report = last.last_report;
        status = close_lost_attempt(run, &last);
    } else if (resume) {
        run->parent = last.id;
        run->trial_number = last.number + 1;
        run->parent_number = last.number;
        return enter_trial_directory(run);
    } else {
        if (last.state == TRACKING_RUNNING)
            status = abandon(run, &last);
        if (status == CADRE_OK)
            status = make_trial(run);
    }
    if (status == CADRE_OK)
        status = enter_trial_directory(run);
    return status;
}

int run_open(trainer_run *run, const cadre_trainer *trainer, double begun, bool resume_unfinished)
{
    *run = (trainer_run){.trainer = trainer, .begun = begun};
    progress_init(&run->progress, trainer->run.progress);
    const char *name = trainer->run.name ? trainer->run.name : "run";
    const char *storage = trainer->run.storage ? trainer->run.storage : "runs";
    int status = run_prepare_directory(storage, name, trainer->run.resume == CADRE_RESUME_LAST, &run->directory);
    if (status == CADRE_OK)
        snprintf(run->result.path, sizeof run->result.path, "%s/%s", storage, name);
    char *path = status == CADRE_OK ? base_path_join(run->directory, "cadre.db") : NULL;
    if (status == CADRE_OK)
        status = path ? tracking_open(path, &run->store) : CADRE_ENOMEM;
    free(path);
    if (status != CADRE_OK) {
        run_close(run);
        return status;
    }
    const char *metric = trainer->run.metric ? trainer->run.metric : trainer->checkpoint.score_metric;
    if (metric)
        run_set_objective(run, metric);
    status = tracking_experiment(run->store, name, metric, run_direction(run), &run->experiment);
    if (status == CADRE_OK)
        status = settle_trial(run, resume_unfinished);
    if (status == CADRE_OK)
        status = tracking_commit(run->store, true);
    if (status != CADRE_OK)
        run_close(run);
    return status;
}

int run_open_trial(trainer_run *run, const cadre_trainer *trainer, const run_shared *shared, int64_t trial, int64_t number, int attempts,
                   double begun)
{
    *run = (trainer_run){.trainer = trainer, .begun = begun, .store = shared->store, .experiment = shared->experiment, .trial = trial,
                         .trial_number = number, .attempt = attempts, .wants_durable = shared->wants_durable, .on_report = shared->on_report,
                         .user = shared->user};
    progress_init(&run->progress, CADRE_PROGRESS_NONE);
    run_set_objective(run, trainer->run.metric);
    run->directory = base_strdup(shared->directory);
    int status = run->directory ? enter_trial_directory(run) : CADRE_ENOMEM;
    if (status != CADRE_OK)
        run_close(run);
    return status;
}

const cadre_metric *run_find_metric(const cadre_metric *metrics, int count, const char *name)
{
    for (int i = 0; name && i < count; i++)
        if (strcmp(metrics[i].name, name) == 0)
            return &metrics[i];
    return NULL;
}

void run_keep_report(trainer_run *run, const cadre_metric *metrics, int count)
{
    cadre_result *result = &run->result;
    const cadre_metric *objective = run_find_metric(metrics, count, run->objective);
    if (objective) {
        run->objective_value = objective->value;
        run->has_objective_value = true;
    }
    result->reports = run->report;
    result->num_metrics = count;
    for (int i = 0; i < count; i++) {
        snprintf(result->metrics[i].name, sizeof result->metrics[i].name, "%s", metrics[i].name);
        result->metrics[i].value = metrics[i].value;
    }
}

/* ---- attempts ----------------------------------------------------------------------------------------------------------- */

/* The number in "trial-00000/checkpoint-000012". */
static int64_t number_of(const tracking_checkpoint *checkpoint)
{
    const char *dash = strrchr(checkpoint->path, '-');
    int64_t number = dash ? strtoll(dash + 1, NULL, 10) : 0;
    return number < INT32_MAX ? number : 0; /* not one of ours */
}

/* Is this a checkpoint that is gone or broken, rather than one that could be read another time? */
static bool is_damage(int status)
{
    return status == CADRE_ECORRUPT || status == CADRE_ENOENT || status == CADRE_EIO;
}

static int verify(trainer_run *run, const tracking_checkpoint *checkpoint)
{
    cadre_checkpoint_info info;
    int status = cadre_checkpoint_verify(run->restore_directory, &info);
    if (status == CADRE_OK && strcmp(info.hash, checkpoint->hash) != 0)
        status = base_error(CADRE_ECORRUPT, "checkpoint %s: not the one that was recorded", run->restore_directory);
    return status;
}

/* It is said, and leaves the record (not that of a finished trial), so that nothing counts on it. */
static int pass_over(trainer_run *run, const tracking_checkpoint *checkpoint, bool first)
{
    char why[512];
    snprintf(why, sizeof why, "%s", cadre_error_message());
    const char *next = first ? "there is none before it: training begins anew" : "the one before it is used";
    base_log(CADRE_LOG_WARN, "trainer", "%s; %s", why, next);
    progress_say(&run->progress, "%s; %s", why, next);
    int status = tracking_event(run->store, run->experiment, run->trial, "checkpoint_damaged", NULL, NULL);
    if (status == CADRE_OK && run->trial && run_files_own(run, checkpoint))
        status = run_files_put_aside(run, checkpoint);
    if (status == CADRE_OK && run->trial)
        status = tracking_checkpoint_remove(run->store, checkpoint->id);
    return status;
}

/* The newest checkpoint that is whole. The files decide, not the record: a damaged one is said and the one before tried. */
static int pick_restore(trainer_run *run)
{
    int64_t owner = run->trial ? run->trial : run->parent;
    tracking_checkpoint *list = NULL;
    int count = 0;
    run->has_restore = false;
    int status = owner ? tracking_checkpoints(run->store, owner, &list, &count) : CADRE_OK;
    for (int i = 0; status == CADRE_OK && i < count; i++) {
        int64_t number = number_of(&list[i]);
        run->next_checkpoint = run->next_checkpoint > number ? run->next_checkpoint : number;
    }
    for (int i = count - 1; status == CADRE_OK && i >= 0 && !run->has_restore; i--) {
        snprintf(run->restore_directory, sizeof run->restore_directory, "%s/%s", run->directory, list[i].path);
        int found = verify(run, &list[i]);
        if (found == CADRE_OK) {
            run->restore = list[i];
            run->has_restore = true;
        } else {
            status = is_damage(found) ? pass_over(run, &list[i], i == 0) : found;
        }
    }
    free(list);
    return status;
}

/* A trial that takes up another one lists the checkpoints up to where it goes on from: they are its own to fall back on. */
static int inherit_checkpoints(trainer_run *run)
{
    tracking_checkpoint *list = NULL;
    int count = 0;
    int status = run->parent && run->has_restore ? tracking_checkpoints(run->store, run->parent, &list, &count) : CADRE_OK;
    for (int i = 0; status == CADRE_OK && i < count && list[i].id <= run->restore.id; i++) {
        tracking_checkpoint copy = list[i];
        status = tracking_checkpoint_add(run->store, run->trial, &copy);
    }
    free(list);
    return status;
}

struct last_report {
    trainer_run *run;
    cadre_metric metrics[CADRE_MAX_METRICS];
    int count;
};

static int take_row(int64_t report, int64_t step, const char *name, double value, void *user)
{
    struct last_report *last = user;
    (void)step;
    if (report != last->run->report || last->count == CADRE_MAX_METRICS)
        return CADRE_OK;
    char *copy = base_strdup(name);
    last->metrics[last->count].name = copy;
    last->metrics[last->count].value = value;
    last->count += copy != NULL;
    return copy ? CADRE_OK : CADRE_ENOMEM;
}

/* What the last report before the attempt said: if it finds nothing left to do, that is the run's result. */
static int recall_report(trainer_run *run)
{
    struct last_report last = {.run = run};
    int64_t owner = run->trial ? run->trial : run->parent;
    int status = run->report > 0 ? tracking_each_metric(run->store, owner, take_row, &last) : CADRE_OK;
    run->has_objective_value = false;
    if (status == CADRE_OK && last.count && !run->objective_known)
        run_set_objective(run, last.metrics[0].name); /* names are numbered as they came */
    if (status == CADRE_OK)
        run_keep_report(run, last.metrics, last.count);
    for (int i = 0; i < last.count; i++)
        free((char *)(uintptr_t)last.metrics[i].name);
    return status;
}

int run_record_attempt(trainer_run *run)
{
    if (run->attempt_recorded)
        return CADRE_OK;
    int status = CADRE_OK;
    if (!run->trial) {
        status = make_trial(run);
        if (status == CADRE_OK)
            status = enter_trial_directory(run);
        if (status == CADRE_OK)
            status = inherit_checkpoints(run);
    }
    const char *backend = run->trainer->scaling.backend ? run->trainer->scaling.backend : "auto";
    if (status == CADRE_OK)
        status = tracking_attempt_begin(run->store, run->trial, run->attempt, run->world, run->launcher, backend,
                                        run->has_restore ? run->restore.report : 0, run->has_restore ? run->restore.id : 0);
    if (status == CADRE_OK)
        status = tracking_trial_note(run->store, run->trial, RUNNING);
    if (status == CADRE_OK)
        run->attempt_recorded = true;
    return status;
}

int run_attempt_begin(trainer_run *run, int world, const char *launcher)
{
    int status = pick_restore(run);
    if (status != CADRE_OK)
        return status;
    run->world = world;
    run->launcher = launcher;
    run->attempt_open = true;
    run->attempt_recorded = run->gave_up = false;
    run->saving_report = 0;
    run->report = run->has_restore ? run->restore.report : 0;
    run->step = run->has_restore ? run->restore.step : 0;
    status = recall_report(run);
    if (status == CADRE_OK)
        status = run_files_sweep(run);
    if (status == CADRE_OK)
        status = run_files_roll_back(run, run->trial ? run->report : 0);
    if (status == CADRE_OK && run->trial)
        status = run_record_attempt(run);
    if (status == CADRE_OK)
        status = commit_durable(run);
    if (status != CADRE_OK)
        return status;
    progress_attempt(&run->progress);
    if (run->has_restore)
        progress_say(&run->progress, "attempt %d goes on from %s", run->attempt, run->restore_directory);
    run->attempts_made++;
    return status;
}

json_t *run_start_message(trainer_run *run, int threads)
{
    json_t *message = message_new("start", run->attempt);
    if (!message)
        return NULL;
    char *config = run->trainer->config ? cadre_config_to_json(run->trainer->config) : base_strdup("{}");
    message_set_int(message, "world", run->world);
    message_set_int(message, "threads", threads);
    message_set_int(message, "rows", run->trainer->scaling.logical_workers ? run->trainer->scaling.logical_workers / run->world : 1);
    message_set_int(message, "logical", run->trainer->scaling.logical_workers > 0);
    message_set_int(message, "report", run->report);
    message_set_int(message, "step", run->step);
    message_set_int(message, "every", run->trainer->checkpoint.every_steps);
    message_set_int(message, "behind", run->trainer->checkpoint.write_behind);
    message_set_int(message, "sharded", run->world > 1 && run->trainer->checkpoint.sharded);
    double hang_s = run->trainer->failure.hang_timeout_s;
    if (hang_s > 0 && hang_s < 60) /* with longer ones they speak often enough */
        message_set_int(message, "hang_ms", (int64_t)ceil(1e3 * hang_s));
    if (run->trainer->run.time_budget_s > 0) {
        double left_s = run->trainer->run.time_budget_s - (base_now() - run->begun);
        message_set_int(message, "leave_ms", left_s > 0 ? (int64_t)ceil(1e3 * left_s) : 0);
    }
    message_set_int(message, "next", run->next_checkpoint + 1);
    message_set_text(message, "directory", run->trial_directory);
    message_set_text(message, "config", config ? config : "{}");
    if (run->has_restore)
        message_set_text(message, "restore", run->restore_directory);
    free(config);
    return message;
}

int run_attempt_end(trainer_run *run, const run_ending *ending)
{
    if (!run->attempt_open)
        return CADRE_OK;
    run->attempt_open = false;
    run_files_close_result(run);
    bool finished = strcmp(ending->cause, "finished") == 0 || strcmp(ending->cause, "stopped") == 0 || strcmp(ending->cause, "resized") == 0;
    run->lost_at = finished ? 0 : run->lost_at > 0 ? run->lost_at : base_now();
    int status = CADRE_OK;
    if (ending->rank >= 0 || strcmp(ending->cause, "killed") == 0) /* it failed before it reported anything: also worth a record */
        status = run_record_attempt(run);
    if (status == CADRE_OK && run->attempt_recorded)
        status = tracking_trial_note(run->store, run->trial, "");
    if (status == CADRE_OK && run->attempt_recorded)
        status = tracking_attempt_end(run->store, run->trial, run->attempt, ending->cause, ending->rank, ending->host,
                                      ending->exit_code, ending->signal, ending->detail);
    if (status == CADRE_OK)
        status = commit_durable(run);
    run->attempt++;
    return status;
}

int run_finish(trainer_run *run, int status, const char *reason)
{
    run->result.attempts = run->attempts_made;
    run->result.reports = run->report;
    run->result.stopped = status == CADRE_STOP;
    run->result.wall_s = base_now() - run->begun;
    progress_end(&run->progress);
    BASE_FAULT("finish"); /* all is done, the final state is not recorded */
    int recorded = run_files_result_checkpoints(run);
    if (!run->trial) { /* a finished run was taken up and had nothing left to do: its result stands */
        run->result.trial = run->parent_number;
        return recorded == CADRE_OK ? base_remove_tree(run->trial_directory) : recorded;
    }
    if (status < 0 && run->attempts_made == 0)
        return recorded; /* it could not even begin: the trial is as it was */
    if (recorded == CADRE_OK)
        recorded = run_files_sweep(run);
    if (recorded == CADRE_OK && status == CADRE_STOP)
        recorded = tracking_trial_note(run->store, run->trial, "paused");
    else if (recorded == CADRE_OK && status == CADRE_OK)
        recorded = tracking_trial_finish(run->store, run->trial, TRACKING_COMPLETE, run->has_objective_value, run->objective_value, "");
    else if (recorded == CADRE_OK && run->has_restore && status != CADRE_ETRAIN) /* what stands in the way may be mended: it can be resumed */
        recorded = tracking_trial_note(run->store, run->trial, "interrupted");
    else if (recorded == CADRE_OK)
        recorded = tracking_trial_finish(run->store, run->trial, TRACKING_FAIL, false, 0, reason);
    if (recorded == CADRE_OK)
        recorded = tracking_commit(run->store, true);
    return recorded;
}

int run_tick(trainer_run *run, int *due_ms)
{
    int status = CADRE_OK;
    if (tracking_commit_due_ms(run->store) == 0)
        status = tracking_commit(run->store, false);
    *due_ms = tracking_commit_due_ms(run->store);
    return status;
}

void run_close(trainer_run *run)
{
    run_files_close_result(run);
    if (!run->wants_durable)
        tracking_close(run->store);
    free(run->directory);
    free(run->trial_directory);
    run->store = NULL;
    run->directory = run->trial_directory = NULL;
}
