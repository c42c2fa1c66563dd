/* fit: an experiment's beginning and end. */
#include "tuner.h"

#include "base/clock.h"
#include "base/error.h"
#include "base/io.h"
#include "base/mem.h"
#include "base/terminal.h"
#include "collectives/mpi_oob.h"
#include "search/search.h"
#include "tracking/view.h"
#include "trainer/fit.h"
#include "trainer/launch/launch.h"
#include "trainer/worker.h"

#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

double tuner_elapsed(const tuner *tuner)
{
    return tuner->options->sim ? tuner->virtual_s : tuner->spent_s + base_now() - tuner->begun;
}

void tuner_fail(tuner *tuner, int status)
{
    if (tuner->status != CADRE_OK)
        return;
    tuner->status = status;
    snprintf(tuner->message, sizeof tuner->message, "%s", cadre_error_message());
    core_close(tuner->core, "an error");
}

/* ---- options ----------------------------------------------------------------------------------------------------------------------- */

static int check(const cadre_tuner *options)
{
    if (!options->trainer)
        return base_error(CADRE_EINVAL, "tuner.trainer is NULL: say how a trial is trained");
    if (!options->metric || !*options->metric)
        return base_error(CADRE_EINVAL, "tuner.metric is empty: name the metric to be made best");
    if (!options->space)
        return base_error(CADRE_EINVAL, "tuner.space is NULL: give the parameters to be searched");
    if (options->num_samples < -1)
        return base_error(CADRE_EINVAL, "tuner.num_samples is %lld: give 1 or more, or -1 for no limit", (long long)options->num_samples);
    const cadre_stop *stop = &options->stop;
    if (options->num_samples == -1 && !(stop->time_budget_s > 0) && !stop->has_target && !(stop->experiment_plateau_std > 0) && !stop->rule)
        return base_error(CADRE_EINVAL, "tuner.num_samples is -1 and no rule of tuner.stop would ever end it: set time_budget_s, a target or a plateau");
    if (options->max_concurrent < 0)
        return base_error(CADRE_EINVAL, "tuner.max_concurrent is %d: give 1 or more, or 0 for as many as fit", options->max_concurrent);
    if (!(options->cores >= 0) || !(options->gpus >= 0) || !(options->cores_per_trial >= 0))
        return base_error(CADRE_EINVAL, "tuner.cores, gpus and cores_per_trial may not be negative");
    if ((unsigned)options->resume > CADRE_TUNE_RESTART_ERRORED)
        return base_error(CADRE_EINVAL, "tuner.resume is %d, which is none of cadre_tuner_resume", (int)options->resume);
    if (options->trainer->scaling.launcher == CADRE_LAUNCH_INPROC)
        return base_error(CADRE_EINVAL, "the inproc launcher runs one trial inside the program itself: a tuner needs fork or mpirun");
    if (options->trainer->scaling.min_workers)
        return base_error(CADRE_EINVAL, "scaling.min_workers is %d: a tuner's trials have their number of workers throughout: leave it 0",
                          options->trainer->scaling.min_workers);
    return options->sim ? CADRE_OK : fit_check(options->trainer);
}

/* One trial must fit, or the experiment would wait for ever. */
static int give_out_slots(tuner *tuner)
{
    const cadre_tuner *options = tuner->options;
    const cadre_scaling_config *scaling = &options->trainer->scaling;
    int world = scaling->num_workers ? scaling->num_workers : 1;
    double cores = options->cores > 0 ? options->cores : fit_cores();
    double gpus = options->gpus > 0 ? options->gpus : fit_gpus();
    tuner->cores_each = options->cores_per_trial > 0 ? options->cores_per_trial : (double)(scaling->cores_per_worker > 0 ? scaling->cores_per_worker : 1) * world;
    if (tuner->cores_each > cores && options->cores_per_trial <= 0 && scaling->cores_per_worker <= 0)
        tuner->cores_each = cores; /* more workers than cores were asked for: one such trial at a time */
    slots_init(&tuner->slots, cores, (int)gpus);
    tuner_slots look = tuner->slots;
    tuner_share share;
    if (!slots_take(&look, tuner->cores_each, scaling->gpus_per_worker * world, &share))
        return base_error(CADRE_EINVAL, "a trial takes %g cores and %g GPUs, but there are %g cores and %g GPUs to give out", tuner->cores_each,
                          scaling->gpus_per_worker * world, cores, gpus);
    return CADRE_OK;
}

/* ---- the experiment ------------------------------------------------------------------------------------------------------------------ */

static bool judges(const cadre_scheduler_table *scheduler) { return scheduler && scheduler != &cadre_scheduler_fifo; }

/* Trials at once. */
static int places(const tuner *tuner)
{
    enum { MOST = 1024 };
    const cadre_tuner *options = tuner->options;
    const cadre_scaling_config *scaling = &options->trainer->scaling;
    int most = options->max_concurrent > 0 ? options->max_concurrent : options->sim ? 1 : MOST, count = 0;
    tuner_slots look = tuner->slots;
    tuner_share share;
    if (options->sim)
        return most;
    while (count < most && slots_take(&look, tuner->cores_each, scaling->gpus_per_worker * (scaling->num_workers ? scaling->num_workers : 1), &share))
        count++;
    return count;
}

/* What the searcher is told at the experiment's beginning. */
static int make_plan(tuner *tuner)
{
    const cadre_tuner *options = tuner->options;
    tuner->search.plan = (cadre_search_plan){.parallel = places(tuner), .stops_early = judges(options->scheduler.table)};
    return search_trials(tuner->space, &options->search, options->num_samples ? options->num_samples : 1, &tuner->search.plan.trials);
}

static int make_core(tuner *tuner)
{
    const cadre_tuner *options = tuner->options;
    const cadre_searcher_table *table;
    int64_t limit;
    int status = search_choose(&tuner->search, &table);
    if (status == CADRE_OK)
        status = search_trials(tuner->space, &tuner->search, options->num_samples ? options->num_samples : 1, &limit);
    if (status != CADRE_OK)
        return status;
    core_spec spec = {
        .space = tuner->space, .search = &tuner->search, .scheduler = options->scheduler, .stop = &options->stop, .maximize = tuner->maximize,
        .limit = limit, .seed = options->seed,
    };
    core_free(tuner->core);
    tuner->core = NULL;
    status = core_new(&spec, &tuner->core);
    if (status != CADRE_OK)
        return status;
    const cadre_stop *stop = &options->stop;
    bool rules = stop->max_iterations > 0 || stop->trial_plateau_std > 0 || stop->has_target || stop->rule;
    tuner->sync = judges(options->scheduler.table) || rules;
    /* auto listens where the experiment began with a scheduler, whatever this life has */
    tuner->log_reports = tuner->sync || (table->report && (table != &cadre_searcher_auto || tuner->search.plan.stops_early));
    return CADRE_OK;
}

/* The space as it was when the experiment began; another one would make other suggestions of the same past. */
static int check_space(tuner *tuner, bool fresh)
{
    char *now = cadre_space_to_json(tuner->space), *before = NULL, *changes = NULL;
    int status = now ? CADRE_OK : CADRE_ENOMEM;
    if (status == CADRE_OK && fresh)
        status = tracking_experiment_set(tuner->store, tuner->experiment, "space", now);
    else if (status == CADRE_OK)
        status = tracking_experiment_get(tuner->store, tuner->experiment, "space", &before);
    if (status == CADRE_OK && before)
        status = cadre_space_changes(tuner->space, before, &changes);
    if (status == CADRE_OK && changes)
        status = base_error(CADRE_EINVAL, "the space has changed since %s began: %s", tuner->directory, changes);
    free(changes);
    free(before);
    free(now);
    return status;
}

static int check_seed(tuner *tuner, bool fresh)
{
    char text[32], *before = NULL;
    snprintf(text, sizeof text, "%llu", (unsigned long long)tuner->options->seed);
    if (fresh)
        return tracking_experiment_set(tuner->store, tuner->experiment, "seed", text);
    int status = tracking_experiment_get(tuner->store, tuner->experiment, "seed", &before);
    if (status == CADRE_OK && before && strcmp(before, text) != 0)
        status = base_error(CADRE_EINVAL, "%s was begun with seed %s, this is seed %s", tuner->directory, before, text);
    free(before);
    return status;
}

/* ---- which searcher ---- */

static int record_search(tuner *tuner)
{
    const cadre_searcher_table *table;
    int status = search_choose(&tuner->search, &table);
    const cadre_search_plan *plan = &tuner->search.plan;
    json_t *record = status == CADRE_OK ? json_pack("{s:s, s:I, s:i, s:b}", "name", table->name, "trials", (json_int_t)plan->trials, "parallel",
                                                    plan->parallel, "stops_early", (int)plan->stops_early)
                                        : NULL;
    char *text = record ? json_dumps(record, JSON_COMPACT) : NULL;
    if (status == CADRE_OK)
        status = text ? tracking_experiment_set(tuner->store, tuner->experiment, "search", text) : base_error(CADRE_ENOMEM, "out of memory for the experiment");
    free(text);
    json_decref(record);
    return status;
}

/* The searcher and the plan that the experiment began with: who did not choose one goes on with that, and a new plan would be another past. */
static int recall_search(tuner *tuner, const char *text)
{
    json_t *record = json_loads(text, 0, NULL);
    const char *name = json_string_value(json_object_get(record, "name"));
    const cadre_searcher_table *table = NULL;
    int status = CADRE_OK;
    if (!name)
        status = base_error(CADRE_ECORRUPT, "%s: which searcher it was begun with does not read", tuner->directory);
    else if (!tuner->search.table && !tuner->search.name && !(tuner->search.table = cadre_searcher_by_name(name)))
        status = base_error(CADRE_EINVAL, "%s was begun with searcher %s, which is none of Cadre's: give it again", tuner->directory, name);
    if (status == CADRE_OK)
        status = search_choose(&tuner->search, &table);
    if (status == CADRE_OK && strcmp(table->name, name) != 0)
        status = base_error(CADRE_EINVAL, "%s was begun with searcher %s, this is %s", tuner->directory, name, table->name);
    tuner->search.plan = (cadre_search_plan){
        .trials = json_integer_value(json_object_get(record, "trials")),
        .parallel = (int)json_integer_value(json_object_get(record, "parallel")),
        .stops_early = json_is_true(json_object_get(record, "stops_early")),
    };
    json_decref(record);
    return status;
}

static int settle_search(tuner *tuner, bool fresh)
{
    char *seed = NULL, *record = NULL;
    if (fresh)
        return record_search(tuner);
    int status = tracking_experiment_get(tuner->store, tuner->experiment, "search", &record);
    if (status == CADRE_OK && record) {
        status = recall_search(tuner, record);
    } else if (status == CADRE_OK && (status = tracking_experiment_get(tuner->store, tuner->experiment, "seed", &seed)) == CADRE_OK) {
        /* Without a record it is of a time when random search was the default and no searcher had a plan; unless it is no tuner's at all. */
        if (seed && !tuner->search.table && !tuner->search.name)
            tuner->search.table = &cadre_searcher_random;
        if (seed)
            tuner->search.plan = (cadre_search_plan){0};
        status = record_search(tuner);
    }
    free(record);
    free(seed);
    return status == CADRE_OK ? make_core(tuner) : status;
}

/* max_failures is for all lives. */
static int count_failure(const tracking_attempt_row *row, void *user)
{
    tuner_trial *trial = user;
    trial->failures += strcmp(row->cause, "failed") == 0 || strcmp(row->cause, "killed") == 0 || strcmp(row->cause, "hung") == 0;
    return CADRE_OK;
}

/* The rows that the replayed core's trials have in the store. */
static int find_row(const tracking_trial *row, void *user)
{
    tuner *tuner = user;
    tuner_trial *trial;
    if (row->number < 0)
        return base_error(CADRE_ECORRUPT, "%s: a trial has no number", tuner->directory);
    if (row->number >= core_count(tuner->core))
        return CADRE_OK; /* of another program */
    int status = trial_know_row(tuner, row->number, row->id);
    core_state state = core_get(tuner->core, row->number)->state;
    if (status != CADRE_OK || (state != CORE_RUNNING && state != CORE_PAUSED))
        return status;
    status = trial_get(tuner, row->number, &trial);
    if (status != CADRE_OK)
        return status;
    trial->attempts = row->attempts;
    status = row->attempts > 0 ? tracking_each_attempt(tuner->store, row->id, count_failure, trial) : CADRE_OK;
    if (status == CADRE_OK && row->attempts > 0 && strcmp(row->detail, "running") == 0)
        return tracking_attempt_end(tuner->store, row->id, row->attempts - 1, "lost", -1, "", 0, 0, "the controller ended without a word");
    return status;
}

/* What is there is taken up; failed trials are put in line on request. */
static int take_up(tuner *tuner)
{
    const cadre_tuner *options = tuner->options;
    int64_t count = 0;
    int status = tuner_replay(tuner);
    if (status == CADRE_OK)
        status = tracking_each_trial(tuner->store, tuner->experiment, find_row, tuner);
    if (options->stop.time_budget_s > 0 && tuner->spent_s >= options->stop.time_budget_s)
        core_close(tuner->core, "time budget spent");
    if (status == CADRE_OK)
        status = tuner_take_in_others(tuner);
    tuner->to_resume = core_count(tuner->core);
    tuner->virtual_s = tuner->spent_s;
    if (status != CADRE_OK)
        return status;
    if (options->resume != CADRE_TUNE_RESUME_ERRORED && options->resume != CADRE_TUNE_RESTART_ERRORED)
        return CADRE_OK;
    bool from_beginning = options->resume == CADRE_TUNE_RESTART_ERRORED;
    status = core_retry_failed(tuner->core, from_beginning, &count);
    return status == CADRE_OK && count > 0 ? event_retry_failed(tuner, from_beginning) : status;
}

static int open_experiment(tuner *tuner)
{
    const cadre_tuner *options = tuner->options;
    const cadre_run_config *run = &options->trainer->run;
    const char *name = run->name ? run->name : "run", *storage = run->storage ? run->storage : "runs";
    int status = run_prepare_directory(storage, name, options->resume != CADRE_TUNE_NEW, &tuner->directory);
    char *path = status == CADRE_OK ? base_path_join(tuner->directory, "cadre.db") : NULL;
    if (status == CADRE_OK)
        status = path ? tracking_open(path, &tuner->store) : CADRE_ENOMEM;
    free(path);
    if (status == CADRE_OK)
        status = tracking_experiment(tuner->store, name, options->metric, tuner->maximize ? TRACKING_MAXIMIZE : TRACKING_MINIMIZE, &tuner->experiment);
    if (status != CADRE_OK)
        return status;
    tracking_trial last;
    int found = tracking_last_trial(tuner->store, tuner->experiment, &last);
    bool fresh = found == CADRE_ENOENT;
    if (!fresh && found != CADRE_OK)
        return found;
    if (!fresh && options->resume == CADRE_TUNE_NEW)
        return base_error(CADRE_EEXIST, "%s has %lld trials already: resume it, or choose another name", tuner->directory, (long long)last.number + 1);
    status = check_space(tuner, fresh);
    if (status == CADRE_OK)
        status = settle_search(tuner, fresh);
    if (status == CADRE_OK)
        status = check_seed(tuner, fresh);
    if (status == CADRE_OK && !fresh)
        status = take_up(tuner);
    if (status == CADRE_OK)
        status = tracking_commit(tuner->store, true);
    tuner->to_rest = status == CADRE_OK;
    return status;
}

int tuner_unblock(tuner *tuner, bool *freed)
{
    tuner_trial *trial;
    int64_t number = core_find(tuner->core, CORE_PAUSED, 0);
    *freed = number >= 0;
    if (number < 0)
        return base_error(CADRE_ESTATE, "the searcher waits for results, but no trial runs or is paused");
    int status = trial_get(tuner, number, &trial);
    return status == CADRE_OK ? trial_end(trial, CADRE_ENDED_PRUNED, "") : status;
}

static int end_in_state(tuner *tuner, core_state state)
{
    int status = CADRE_OK;
    for (int64_t number = -1; status == CADRE_OK && (number = core_find(tuner->core, state, number + 1)) >= 0;) {
        tuner_trial *trial;
        status = trial_get(tuner, number, &trial);
        if (status == CADRE_OK && state == CORE_RUNNING)
            status = trial_recall(trial);
        if (status != CADRE_OK)
            break;
        bool told = state == CORE_RUNNING && core_get(tuner->core, number)->decision != CADRE_DECIDE_GO_ON;
        status = told ? trial_obey(trial) : state == CORE_RUNNING ? trial_cut_short(trial) : trial_end(trial, CADRE_ENDED_PRUNED, "");
        if (core_get(tuner->core, number)->state != CORE_PAUSED)
            trial_forget(tuner, number);
    }
    return status;
}

/* The experiment has had all its trials, or a rule has ended it: what waits for a place that never comes ends, too. */
static int end_left_over(tuner *tuner)
{
    if (tuner->interrupted || tuner->status != CADRE_OK || tuner->running > 0)
        return CADRE_OK;
    int status = end_in_state(tuner, CORE_RUNNING);
    return status == CADRE_OK ? end_in_state(tuner, CORE_PAUSED) : status;
}

static void fill_result(tuner *tuner, cadre_tuner_result *result)
{
    snprintf(result->path, sizeof result->path, "%s", tuner->directory ? tuner->directory : "");
    result->best = -1;
    result->best_value = NAN;
    if (!tuner->core)
        return;
    result->trials = core_count(tuner->core);
    for (int64_t i = 0; i < result->trials; i++) {
        core_state state = core_get(tuner->core, i)->state;
        result->complete += state == CORE_COMPLETE;
        result->pruned += state == CORE_PRUNED;
        result->failed += state == CORE_FAILED;
        result->paused += state == CORE_PAUSED || state == CORE_RUNNING;
    }
    result->best = core_best(tuner->core);
    result->wall_s = base_now() - tuner->begun;
    result->interrupted = tuner->interrupted;
    snprintf(result->stop_reason, sizeof result->stop_reason, "%s", core_closed(tuner->core) ? core_closed(tuner->core) : "");
    tuner_trial *best;
    if (result->best < 0 || trial_get(tuner, result->best, &best) != CADRE_OK)
        return;
    result->best_value = core_get(tuner->core, result->best)->value;
    char *config = cadre_config_to_json(best->config);
    if (config)
        (void)cadre_config_from_json(config, &result->best_config);
    free(config);
    tracking_checkpoint *list = NULL;
    int count = 0;
    if (tracking_checkpoints(tuner->store, tuner->rows[result->best], &list, &count) == CADRE_OK && count > 0)
        snprintf(result->best_checkpoint, sizeof result->best_checkpoint, "%s/%s", tuner->directory, list[count - 1].path);
    free(list);
}

static void close_experiment(tuner *tuner)
{
    for (int64_t i = 0; i < tuner->capacity; i++)
        trial_free(tuner->trials[i]);
    free(tuner->trials);
    free(tuner->rows);
    free(tuner->active);
    tracking_close(tuner->store);
    core_free(tuner->core);
    for (int i = 0; tuner->distributions && i < cadre_space_count(tuner->space); i++)
        free(tuner->distributions[i]);
    free(tuner->distributions);
    cadre_space_free(tuner->space);
    free(tuner->directory);
}

static int run_experiment(tuner *tuner, zygote *zygote, cadre_tuner_result *result)
{
    int status = give_out_slots(tuner);
    if (status == CADRE_OK)
        status = cadre_space_new(tuner->options->space, &tuner->space);
    tuner->search = tuner->options->search;
    tuner->search.samples = -1; /* the limit is the core's: it may be another one in the experiment's next life */
    if (status == CADRE_OK)
        status = make_plan(tuner);
    if (status == CADRE_OK)
        status = make_core(tuner);
    if (status == CADRE_OK)
        status = open_experiment(tuner);
    if (status == CADRE_OK && !tuner->options->sim)
        fit_drop_timeline(tuner->options->trainer->run.timeline);
    if (status == CADRE_OK)
        status = tuner->options->sim ? tuner_simulate(tuner) : tuner_loop(tuner, zygote);
    if (status == CADRE_OK)
        status = end_left_over(tuner);
    if (tuner->to_rest) {
        int noted = event_rest(tuner);
        status = status == CADRE_OK ? noted : status;
    }
    if (tuner->store) {
        int committed = tracking_commit(tuner->store, true);
        status = status == CADRE_OK ? committed : status;
    }
    char message[BASE_ERROR_MAX];
    snprintf(message, sizeof message, "%s", cadre_error_message());
    if (tuner->core && tuner->store)
        table_summary(tuner);
    fill_result(tuner, result);
    return status == CADRE_OK ? CADRE_OK : base_error(status, "%s", message);
}

static int run_forked(int rank, int attempt, int control_fd, void *user) { return worker_run(user, rank, attempt, control_fd, NULL); }

static int start(const cadre_tuner *options, cadre_tuner_result *result)
{
    tuner tuner = {.options = options, .begun = base_now(), .maximize = options->mode != CADRE_MIN, .live = base_terminal_is_live()};
    zygote zygote = {.fd = -1};
    const char *what;
    int rank, world;
    if (worker_is_executed(options->trainer->run.name ? options->trainer->run.name : "run")) {
        int code = worker_run_executed(options->trainer);
        fflush(NULL);
        _exit(code);
    }
    if (worker_is_underway())
        return CADRE_OK; /* of a later call of fit */
    if (collectives_mpi_present(&rank, &world))
        return base_error(CADRE_ENOTSUP, "a tuner starts its own workers: start the program without mpirun or srun, and set scaling.launcher to CADRE_LAUNCH_MPIRUN for trials under MPI");
    int status = options->sim ? CADRE_OK : fit_check_timeline(options->trainer->run.timeline);
    if (status != CADRE_OK)
        return status;
    worker_prepare(); /* once for all that the zygote forks */
    if (!options->sim && options->trainer->scaling.launcher != CADRE_LAUNCH_MPIRUN && !launch_cannot_fork(&what))
        status = zygote_start(&zygote, run_forked, (void *)(uintptr_t)options->trainer);
    if (status == CADRE_OK)
        status = run_experiment(&tuner, &zygote, result);
    char message[BASE_ERROR_MAX];
    snprintf(message, sizeof message, "%s", cadre_error_message());
    zygote_stop(&zygote);
    close_experiment(&tuner);
    if (status != CADRE_OK)
        return base_error(status, "%s", message);
    if (result->complete + result->pruned == 0 && result->failed > 0)
        return base_error(CADRE_ETRAIN, "no trial finished: all %lld failed", (long long)result->failed);
    return CADRE_OK;
}

int cadre_tuner_fit_sized(const cadre_tuner *tuner, size_t tuner_size, cadre_tuner_result *result, size_t result_size)
{
    cadre_tuner own = {0};
    cadre_tuner_result full = {.best = -1};
    if (!tuner || tuner_size == 0 || tuner_size > sizeof own)
        return base_error(CADRE_EINVAL, tuner ? "the program was built with a newer Cadre than it runs with" : "cadre_tuner_fit: tuner is NULL");
    memcpy(&own, tuner, tuner_size);
    int status = check(&own);
    if (status == CADRE_OK)
        status = start(&own, &full);
    if (result)
        memcpy(result, &full, result_size < sizeof full ? result_size : sizeof full);
    else
        cadre_config_free(full.best_config);
    return status;
}
