/* `cadre show`: one run for people. show_json.c has it for scripts. */
#include "cli.h"

#include "base/buffer.h"
#include "base/error.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { LAST_REPORTS = 10 };

const char *cli_state_name(tracking_state state)
{
    switch (state) {
    case TRACKING_RUNNING:
        return "running";
    case TRACKING_COMPLETE:
        return "complete";
    case TRACKING_PRUNED:
        return "pruned";
    case TRACKING_WAITING:
        return "waiting";
    default:
        return "failed";
    }
}

bool cli_is_best(const tracking_checkpoint *list, int count, int at, tracking_direction direction)
{
    if (!list[at].has_score)
        return false;
    for (int i = 0; i < count; i++) {
        if (!list[i].has_score || i == at)
            continue;
        double ahead = direction == TRACKING_MAXIMIZE ? list[i].score - list[at].score : list[at].score - list[i].score;
        if (ahead > 0 || (ahead == 0 && i < at))
            return false;
    }
    return true;
}

/* ---- params and attempts ---- */

static int add_param(const char *name, const char *json, void *user)
{
    cli_cell(user, "%s", name);
    cli_cell(user, "%s", json);
    return CADRE_OK;
}

/* In the list numbers are rounded, or a line of five would not fit a screen; `--trial N` and `cadre best` have all digits. */
static int append_param(const char *name, const char *json, void *user)
{
    base_buffer *line = user;
    char number[32];
    json_t *value = json_loads(json, JSON_DECODE_ANY, NULL);
    const char *text = json_is_real(value) ? cli_value_text(json_real_value(value), number) : json;
    int status = base_buffer_printf(line, "%s%s=%s", line->length ? " " : "", name, text);
    json_decref(value);
    return status;
}

static const char LOST[] = "lost: the controller ended without a word";

/* How an attempt ended, in a few words: "killed: rank 1 on node7, signal 9: by the kernel". */
static void ending_of(const tracking_attempt_row *row, char *text, size_t nbytes)
{
    size_t used = (size_t)snprintf(text, nbytes, "%s", row->cause);
#define ADD(...) used = used < nbytes ? used + (size_t)snprintf(text + used, nbytes - used, __VA_ARGS__) : used
    if (row->rank >= 0)
        ADD(": rank %d", row->rank);
    if (*row->host)
        ADD("%s %s", row->rank >= 0 ? " on" : ": on", row->host);
    if (row->signal)
        ADD(", signal %d", row->signal);
    else if (row->exit_code)
        ADD(", exit code %d", row->exit_code);
    if (*row->detail)
        ADD(": %s", row->detail);
#undef ADD
}

struct attempts {
    cli_table *table;
    bool held; /* a controller has the run */
};

static int add_attempt(const tracking_attempt_row *row, void *user)
{
    const struct attempts *attempts = user;
    cli_table *table = attempts->table;
    char started[32], ended[32], how[1024];
    ending_of(row, how, sizeof how);
    cli_cell(table, "%d", row->attempt);
    cli_cell(table, "%d", row->num_workers);
    cli_cell(table, "%s%s%s", row->launcher, *row->backend ? ", " : "", row->backend);
    cli_cell(table, "%" PRId64, row->restored_report);
    cli_cell(table, "%s", cli_time_text(row->started, started));
    cli_cell(table, "%s", cli_time_text(row->ended, ended));
    cli_cell(table, "%s", *how ? how : attempts->held ? "-" : LOST); /* nobody is there to write it down */
    return CADRE_OK;
}

/* ---- metrics: a row a report, a column a name ---- */

enum { MAX_NAMES = 64 };

struct metrics {
    char *names[MAX_NAMES];
    int name_count;
    int64_t first; /* report from which on they are shown */
    cli_table *table;
    int64_t report, step;
    double values[MAX_NAMES];
    bool has[MAX_NAMES];
};

static int note_name(int64_t report, int64_t step, const char *name, double value, void *user)
{
    struct metrics *metrics = user;
    (void)step;
    (void)value;
    if (report < metrics->first)
        return CADRE_OK;
    for (int i = 0; i < metrics->name_count; i++)
        if (strcmp(metrics->names[i], name) == 0)
            return CADRE_OK;
    if (metrics->name_count < MAX_NAMES && (metrics->names[metrics->name_count] = strdup(name)))
        metrics->name_count++;
    return CADRE_OK;
}

static void flush_report(struct metrics *metrics)
{
    char value[32];
    if (metrics->report < metrics->first || !metrics->report)
        return;
    cli_cell(metrics->table, "%" PRId64, metrics->report);
    cli_cell(metrics->table, "%" PRId64, metrics->step);
    for (int i = 0; i < metrics->name_count; i++)
        cli_cell(metrics->table, "%s", metrics->has[i] ? cli_value_text(metrics->values[i], value) : "-");
}

static int add_metric(int64_t report, int64_t step, const char *name, double value, void *user)
{
    struct metrics *metrics = user;
    if (report != metrics->report) {
        flush_report(metrics);
        metrics->report = report;
        metrics->step = step;
        memset(metrics->has, 0, sizeof metrics->has);
    }
    for (int i = 0; i < metrics->name_count; i++)
        if (strcmp(metrics->names[i], name) == 0) {
            metrics->values[i] = value;
            metrics->has[i] = true;
        }
    return CADRE_OK;
}

static int show_metrics(tracking_store *store, const tracking_trial *trial, const cli_show_options *options)
{
    struct metrics metrics = {0};
    base_buffer heads = {0};
    int64_t last = options->last >= 0 ? options->last : LAST_REPORTS;
    metrics.first = options->all || trial->last_report < last ? 1 : trial->last_report - last + 1;
    int status = tracking_each_metric(store, trial->id, note_name, &metrics);
    if (status == CADRE_OK)
        status = base_buffer_printf(&heads, ">REPORT|>STEP");
    for (int i = 0; status == CADRE_OK && i < metrics.name_count; i++) {
        for (char *bar = metrics.names[i]; (bar = strchr(bar, '|'));)
            *bar = '/'; /* what separates the heads */
        status = base_buffer_printf(&heads, "|>%s", metrics.names[i]);
    }
    if (status == CADRE_OK && metrics.name_count && (metrics.table = cli_table_new((const char *)heads.data))) {
        status = tracking_each_metric(store, trial->id, add_metric, &metrics);
        flush_report(&metrics);
        if (metrics.first > 1)
            printf("\nmetrics (the last %" PRId64 " of %" PRId64 " reports; --all has all)\n", last,
                   trial->last_report);
        else
            printf("\nmetrics\n");
        cli_table_print(metrics.table, 2);
    }
    for (int i = 0; i < metrics.name_count; i++)
        free(metrics.names[i]);
    base_buffer_free(&heads);
    return status;
}

/* ---- checkpoints and events ---- */

/* What saving behind the training cost, by the events. */
struct costs {
    const tracking_checkpoint *list;
    int count;
    double *stall_s, *write_s; /* beside the list; NaN: not known */
};

static int note_cost(const tracking_event_row *row, void *user)
{
    struct costs *costs = user;
    json_t *value = strcmp(row->kind, "checkpoint") == 0 ? json_loads(row->json, 0, NULL) : NULL;
    const char *path = value ? json_string_value(json_object_get(value, "path")) : NULL;
    for (int i = 0; path && i < costs->count; i++)
        if (strcmp(costs->list[i].path, path) == 0) {
            costs->stall_s[i] = json_number_value(json_object_get(value, "stall_s"));
            costs->write_s[i] = json_number_value(json_object_get(value, "write_s"));
        }
    json_decref(value);
    return CADRE_OK;
}

static void cost_cell(cli_table *table, double seconds)
{
    if (isnan(seconds))
        cli_cell(table, "-");
    else
        cli_cell(table, "%.1f ms", 1e3 * seconds);
}

static int show_checkpoints(tracking_store *store, const tracking_trial *trial, tracking_direction direction)
{
    tracking_checkpoint *list = NULL;
    int count = 0;
    char score[32];
    int status = tracking_checkpoints(store, trial->id, &list, &count);
    struct costs costs = {list, count, calloc((size_t)count + 1, sizeof(double)), calloc((size_t)count + 1, sizeof(double))};
    if (!costs.stall_s || !costs.write_s)
        status = CADRE_ENOMEM;
    for (int i = 0; status == CADRE_OK && i < count; i++)
        costs.stall_s[i] = costs.write_s[i] = NAN;
    if (status == CADRE_OK && count)
        status = tracking_each_event(store, trial->experiment, trial->id, note_cost, &costs);
    cli_table *table =
        status == CADRE_OK && count ? cli_table_new("CHECKPOINT|>ATTEMPT|>REPORT|>STEP|>BYTES|>SCORE|>STALL|>WRITE|MARK") : NULL;
    for (int i = 0; table && i < count; i++) {
        bool best = cli_is_best(list, count, i, direction), last = i + 1 == count;
        cli_cell(table, "%s", list[i].path);
        cli_cell(table, "%d", list[i].attempt);
        cli_cell(table, "%" PRId64, list[i].report);
        cli_cell(table, "%" PRId64, list[i].step);
        cli_cell(table, "%" PRId64, list[i].nbytes);
        cli_cell(table, "%s", list[i].has_score ? cli_value_text(list[i].score, score) : "-");
        cost_cell(table, costs.stall_s[i]);
        cost_cell(table, costs.write_s[i]);
        cli_cell(table, "%s", best && last ? "best, last" : best ? "best" : last ? "last" : "");
    }
    cli_table_print_titled(table, "checkpoints");
    free(costs.stall_s);
    free(costs.write_s);
    free(list);
    return status;
}

static int add_event(const tracking_event_row *row, void *user)
{
    cli_cell(user, "%" PRId64, row->sequence);
    cli_cell(user, "%s", row->time);
    if (row->trial_number >= 0)
        cli_cell(user, "%" PRId64, row->trial_number);
    else
        cli_cell(user, "-");
    cli_cell(user, "%s", row->kind);
    cli_cell(user, "%s", strcmp(row->json, "null") == 0 ? "" : row->json);
    return CADRE_OK;
}

static int show_events(tracking_store *store, int64_t experiment, int64_t trial)
{
    cli_table *table = cli_table_new(">EVENT|TIME (UTC)|>TRIAL|KIND|VALUE");
    if (!table)
        return CADRE_ENOMEM;
    int status = tracking_each_event(store, experiment, trial, add_event, table);
    cli_table_print_titled(table, "events");
    return status;
}

/* ---- trials ---- */

static const char *detail_of(const tracking_trial *trial, bool held)
{
    if (!held && trial->state == TRACKING_RUNNING && strcmp(trial->detail, "running") == 0)
        return LOST;
    return *trial->reason ? trial->reason : trial->detail;
}

/* Below the table of attempts: what those that failed printed last, and how long nothing was trained after them. */
struct failures {
    const char *path;
    int64_t trial_number;
};

enum { LOG_LINES = 5 };

static int show_log(const tracking_attempt_row *row, void *user)
{
    const struct failures *failures = user;
    bool failed = strcmp(row->cause, "failed") == 0 || strcmp(row->cause, "killed") == 0 || strcmp(row->cause, "hung") == 0;
    if (failed && row->rank >= 0)
        cli_log_tail(failures->path, failures->trial_number, row->rank, row->attempt, strcmp(row->cause, "hung") == 0 ? 4 * LOG_LINES : LOG_LINES);
    return CADRE_OK;
}

static int show_recovery(const tracking_event_row *row, void *user)
{
    json_t *value = strcmp(row->kind, "recovered") == 0 ? json_loads(row->json, 0, NULL) : NULL;
    (void)user;
    if (value)
        printf("  attempt %lld trained again %.2f s after the failure was noticed\n", (long long)json_integer_value(json_object_get(value, "attempt")),
               json_number_value(json_object_get(value, "seconds")));
    json_decref(value);
    return CADRE_OK;
}

static int show_failures(tracking_store *store, const char *path, int64_t experiment, const tracking_trial *trial)
{
    struct failures failures = {path, trial->number};
    int status = tracking_each_attempt(store, trial->id, show_log, &failures);
    return status == CADRE_OK && trial->attempts > 1 ? tracking_each_event(store, experiment, trial->id, show_recovery, NULL) : status;
}

static int show_trial(tracking_store *store, const char *path, const tracking_trial *trial, tracking_direction direction,
                      const cli_show_options *options, bool held)
{
    char started[32], ended[32], value[32];
    const char *detail = detail_of(trial, held);
    cli_print("\ntrial %" PRId64 ": %s%s%s%s, value %s, from %s to %s\n", trial->number, cli_state_name(trial->state),
           *detail ? " (" : "", detail, *detail ? ")" : "",
           trial->has_value ? cli_value_text(trial->value, value) : "-", cli_time_text(trial->started, started),
           cli_time_text(trial->ended, ended));
    cli_table *params = cli_table_new("PARAM|VALUE");
    cli_table *attempts = cli_table_new(">ATTEMPT|>WORKERS|LAUNCHER|>FROM REPORT|STARTED (UTC)|ENDED (UTC)|CAUSE");
    int status = params && attempts ? tracking_each_param(store, trial->id, add_param, params) : CADRE_ENOMEM;
    if (status == CADRE_OK)
        status = tracking_each_attempt(store, trial->id, add_attempt, &(struct attempts){attempts, held});
    if (status == CADRE_OK) {
        cli_table_print_titled(params, "params");
        cli_table_print_titled(attempts, "attempts");
        params = attempts = NULL;
        status = show_failures(store, path, trial->experiment, trial);
    }
    if (status == CADRE_OK) {
        status = show_metrics(store, trial, options);
    }
    if (status == CADRE_OK)
        status = show_checkpoints(store, trial, direction);
    cli_table_free(params);
    cli_table_free(attempts);
    return status;
}

struct trials {
    tracking_store *store;
    cli_table *table;
    int64_t wanted; /* number, -1: any */
    bool held;      /* a controller has the experiment */
    tracking_trial last;
    int count;
};

static int add_trial(const tracking_trial *trial, void *user)
{
    struct trials *trials = user;
    char started[32], ended[32], value[32];
    base_buffer params = {0};
    if (trials->wanted >= 0 && trial->number != trials->wanted)
        return CADRE_OK;
    trials->last = *trial;
    trials->count++;
    int status = tracking_each_param(trials->store, trial->id, append_param, &params);
    cli_cell(trials->table, "%" PRId64, trial->number);
    cli_cell(trials->table, "%s", cli_state_name(trial->state));
    cli_cell(trials->table, "%s", trial->has_value ? cli_value_text(trial->value, value) : "-");
    cli_cell(trials->table, "%" PRId64, trial->last_report);
    cli_cell(trials->table, "%d", trial->attempts);
    cli_cell(trials->table, "%s", cli_time_text(trial->started, started));
    cli_cell(trials->table, "%s", cli_time_text(trial->ended, ended));
    cli_cell(trials->table, "%s", params.length ? (const char *)params.data : "");
    cli_cell(trials->table, "%s", detail_of(trial, trials->held));
    base_buffer_free(&params);
    return status;
}

/* owner: who has the run; NULL: nobody. */
static void show_head(const char *path, const tracking_experiment_row *row, const char *owner)
{
    char value[32], when[32];
    cli_print("experiment %s (%s)\n", row->name, path);
    cli_print("%s%s, last activity %s UTC\n",
              owner          ? "running: "
              : row->running ? "interrupted"
                             : "ended",
              owner ? owner : "", cli_time_text(row->last_activity, when));
    printf("trials: %" PRId64 " running, %" PRId64 " complete, %" PRId64 " pruned, %" PRId64 " failed\n", row->running,
           row->complete, row->pruned, row->failed);
    if (*row->metric)
        cli_print("objective: %s %s", row->direction == TRACKING_MAXIMIZE ? "maximize" : "minimize", row->metric);
    if (*row->metric && row->has_best)
        printf(", best%s %s (trial %" PRId64 ")", row->best_so_far ? " so far" : "", cli_value_text(row->best, value),
               row->best_number);
    if (*row->metric)
        putchar('\n');
}

static int show_experiment(tracking_store *store, const char *path, const tracking_experiment_row *row,
                           const cli_show_options *options)
{
    char owner[512];
    struct trials trials = {
        .store = store,
        .table = cli_table_new(">TRIAL|STATE|>VALUE|>REPORTS|>ATTEMPTS|STARTED (UTC)|ENDED (UTC)|PARAMS|DETAIL"),
        .wanted = options->trial,
        .held = tracking_lock_held(path, owner, sizeof owner),
    };
    if (!trials.table)
        return CADRE_ENOMEM;
    int status = tracking_each_trial(store, row->id, add_trial, &trials);
    if (status == CADRE_OK && options->trial >= 0 && !trials.count)
        status = base_error(CADRE_ENOENT, "experiment %s has no trial %ld", row->name, options->trial);
    if (status == CADRE_OK)
        show_head(path, row, trials.held ? owner : NULL);
    if (status == CADRE_OK && trials.count == 1)
        status = show_trial(store, path, &trials.last, row->direction, options, trials.held);
    else if (status == CADRE_OK && trials.count) {
        putchar('\n');
        cli_table_print(trials.table, 0);
        trials.table = NULL;
        status = cli_importance_print(store, row);
    }
    if (status == CADRE_OK && options->events)
        status = show_events(store, row->id, options->trial >= 0 ? trials.last.id : 0);
    cli_table_free(trials.table);
    return status;
}

/* ---- the file: mostly one experiment ---- */

struct show {
    tracking_store *store;
    const char *path;
    const cli_show_options *options;
    json_t *array;
    int shown;
    bool only_named; /* one of several is named as the run: only that one */
};

static int note_named(const tracking_experiment_row *row, void *user)
{
    struct show *show = user;
    show->only_named = show->only_named || strcmp(row->name, show->options->run) == 0;
    return CADRE_OK;
}

static int show_one(const tracking_experiment_row *row, void *user)
{
    struct show *show = user;
    if (show->only_named && strcmp(row->name, show->options->run) != 0)
        return CADRE_OK;
    if (show->array) {
        json_t *value = cli_experiment_json(show->store, show->path, row, show->options);
        return value && json_array_append_new(show->array, value) == 0 ? CADRE_OK : CADRE_ENOMEM;
    }
    if (show->shown++)
        putchar('\n');
    return show_experiment(show->store, show->path, row, show->options);
}

static int show_store(const char *path, const cli_show_options *options)
{
    struct show show = {.path = path, .options = options, .array = options->json ? json_array() : NULL};
    int status = tracking_open_reader(path, &show.store);
    if (status == CADRE_OK)
        status = tracking_each_experiment(show.store, note_named, &show);
    if (status == CADRE_OK)
        status = tracking_each_experiment(show.store, show_one, &show);
    tracking_close(show.store);
    int code = CLI_DONE;
    if (status != CADRE_OK)
        code = cli_fail("%s", cadre_error_message());
    else if (options->json) /* the usual one experiment stands alone */
        code =
            cli_json_print(json_incref(json_array_size(show.array) == 1 ? json_array_get(show.array, 0) : show.array));
    json_decref(show.array);
    return code;
}

int cli_show(int argc, char **argv)
{
    cli_show_options options = {.storage = "runs", .last = -1, .trial = -1};
    const char *last = NULL, *trial = NULL;
    const cli_option known[] = {
        {"--json", &options.json, NULL},
        {"--all", &options.all, NULL},
        {"--events", &options.events, NULL},
        {"--storage", NULL, &options.storage},
        {"--last", NULL, &last},
        {"--trial", NULL, &trial},
        {NULL, NULL, NULL},
    };
    int words = cli_options("show", argc, argv, known, &options.run, 1);
    if (words < 0)
        return CLI_MISUSED;
    if (words == 0)
        return cli_misuse("show", "which run? Name an experiment, its directory, or its cadre.db");
    if ((last && !cli_number("show", "--last", last, 0, &options.last)) ||
        (trial && !cli_number("show", "--trial", trial, 0, &options.trial)))
        return CLI_MISUSED;
    char *path = cli_find_store(options.run, options.storage);
    if (!path)
        return CLI_FAILED;
    int code = show_store(path, &options);
    free(path);
    return code;
}
