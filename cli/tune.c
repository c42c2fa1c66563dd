/* `cadre tune` and `cadre resume`: sweeps over any program. */
#include "cli.h"

#include "base/error.h"
#include "base/io.h"
#include "base/mem.h"
#include "cadre/tuner.h"
#include "trainer/fit.h"
#include "trainer/run.h"
#include "trainer/state/text.h"
#include "tuner/search/search.h"
#include "tuner/sweep.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define SWEEP_ATTRIBUTE "sweep"

struct tune {
    const char *command; /* "tune" or "resume" */
    sweep_node *tree;
    sweep *sweep;
    cli_outcome outcome;
    cadre_tuner_resume resume;
    bool quiet;
    double spent_s; /* that a resumed sweep has run in its lives before */
};

/* ---- options ---- */

enum { TEXT, SCALAR, EITHER };

/* An option that puts its value into the tree. */
struct setting {
    const char *option, *key;
    int kind; /* EITHER: a name, or a map "{...}" */
};

static int set_option(sweep_node *tree, const struct setting *setting, const char *value)
{
    sweep_node *node = NULL;
    if (setting->kind == EITHER && *value == '{') {
        int status = sweep_parse_yaml(value, strlen(value), setting->option, &node);
        return status == CADRE_OK ? sweep_set(tree, setting->key, node) : status;
    }
    return sweep_set(tree, setting->key, setting->kind == SCALAR ? sweep_scalar(setting->option, value) : sweep_string(setting->option, value));
}

/* The one under `stop`, which goes before, would hide it. */
static int set_budget(sweep_node *tree, const char *value)
{
    sweep_node *stop = sweep_get(tree, "stop");
    int status = sweep_set(tree, "time_budget", sweep_scalar("--time-budget", value));
    if (status == CADRE_OK && stop && stop->kind == SWEEP_MAP && sweep_get(stop, "time_budget"))
        status = sweep_set(stop, "time_budget", sweep_scalar("--time-budget", value));
    return status;
}

static bool take_limit(const char *command, const char *option, const char *text, bool *has, double *limit)
{
    char *end;
    if (!text)
        return true;
    *limit = strtod(text, &end);
    *has = *text && !*end && !isnan(*limit);
    if (!*has)
        cli_misuse(command, "%s needs a number, not \"%s\"", option, text);
    return *has;
}

/* ---- the store's part ---- */

static int open_store(const sweep *sweep, bool resume, tracking_store **store, int64_t *experiment)
{
    char *directory = NULL;
    int status = run_prepare_directory(sweep->storage ? sweep->storage : "runs", sweep->name, resume, &directory);
    char *path = status == CADRE_OK ? base_path_join(directory, "cadre.db") : NULL;
    if (status == CADRE_OK)
        status = path ? tracking_open(path, store) : CADRE_ENOMEM;
    if (status == CADRE_OK)
        status = tracking_experiment(*store, sweep->name, sweep->metric, sweep->mode == CADRE_MIN ? TRACKING_MINIMIZE : TRACKING_MAXIMIZE, experiment);
    tracking_trial last;
    if (status == CADRE_OK && !resume && tracking_last_trial(*store, *experiment, &last) == CADRE_OK)
        status = base_error(CADRE_EEXIST, "%s has %lld trials already: go on with \"cadre resume %s\", or choose another name", directory,
                            (long long)last.number + 1, sweep->name);
    free(path);
    free(directory);
    return status;
}

/* The sweep goes into the experiment's record before it begins, so that its name is all that resuming it takes. */
static int record_sweep(const struct tune *tune)
{
    tracking_store *store = NULL;
    int64_t experiment = 0;
    char *json = sweep_tree_json(tune->tree);
    int status = json ? open_store(tune->sweep, tune->resume != CADRE_TUNE_NEW, &store, &experiment) : CADRE_ENOMEM;
    if (status == CADRE_OK)
        status = tracking_experiment_set(store, experiment, SWEEP_ATTRIBUTE, json);
    if (status == CADRE_OK)
        status = tracking_commit(store, true);
    char message[BASE_ERROR_MAX];
    snprintf(message, sizeof message, "%s", cadre_error_message());
    tracking_close(store);
    free(json);
    return status == CADRE_OK ? CADRE_OK : base_error(status, "%s", message);
}

/* ---- running ---- */

/* Before anything is begun: is the program there? */
static int find_program(struct tune *tune)
{
    command_spec *command = &tune->sweep->command;
    if (command->directory && access(command->directory, X_OK) != 0)
        return base_error(CADRE_ENOENT, "directory %s is not there", command->directory);
    if (!command->words || strchr(command->words[0], '{'))
        return CADRE_OK;
    int status = command_find(command->words[0], command->directory, &command->program);
    const sweep_node *words = sweep_get(tune->tree, "command");
    return status != CADRE_OK && words->items[0]->line ? sweep_wrap(status, words->items[0]) : status; /* where it is written */
}

/* Nor does a trial begin for which the machine is too small. */
static int find_place(const struct tune *tune)
{
    const double cores = fit_cores(), gpus = fit_gpus();
    if (tune->sweep->cores > cores)
        return sweep_error(CADRE_EINVAL, sweep_get(tune->tree, "cores"), "a trial takes %g cores, but there are %g here", tune->sweep->cores, cores);
    if (tune->sweep->gpus > gpus)
        return sweep_error(CADRE_EINVAL, sweep_get(tune->tree, "gpus"), "a trial takes %g GPUs, but there are %g here", tune->sweep->gpus, gpus);
    return CADRE_OK;
}

static int exit_code(const struct tune *tune, int status, const cadre_tuner_result *result, const char *message)
{
    char missed[300];
    if (result->interrupted) {
        if (!tune->quiet)
            fprintf(stderr, "cadre: interrupted; go on with \"cadre resume %s\"\n", tune->sweep->name);
        return CLI_INTERRUPTED;
    }
    if (status != CADRE_OK) {
        cli_fail("%s", message);
        if (status == CADRE_ETRAIN)
            return tune->sweep->fail_fast && result->failed > 0 ? CLI_FAILED_FAST : CLI_NONE_FINISHED;
        return status == CADRE_EINVAL ? CLI_MISUSED : CLI_FAILED;
    }
    if (result->complete + result->pruned == 0) {
        cli_fail("no trial finished");
        return CLI_NONE_FINISHED;
    }
    if (!cli_outcome_met(&tune->outcome, tune->sweep->metric, result->best >= 0, result->best_value, missed)) {
        cli_fail("%s", missed);
        return CLI_TARGET_MISSED;
    }
    return CLI_DONE;
}

static int begin(struct tune *tune, cadre_tuner_result *result)
{
    cadre_trainer trainer;
    cadre_tuner tuner;
    int status = record_sweep(tune);
    if (status != CADRE_OK)
        return status;
    sweep_options(tune->sweep, &trainer, &tuner);
    tuner.resume = tune->resume;
    trainer.run.progress = tune->quiet ? CADRE_PROGRESS_NONE : CADRE_PROGRESS_AUTO;
    return cadre_tuner_fit(&tuner, result);
}

static int run(struct tune *tune)
{
    cadre_tuner_result result = {.best = -1, .best_value = NAN};
    char message[BASE_ERROR_MAX];
    int status = begin(tune, &result);
    snprintf(message, sizeof message, "%s", status == CADRE_OK ? "" : cadre_error_message());
    int code = exit_code(tune, status, &result, message);
    if (code == CLI_NONE_FINISHED && !*message)
        snprintf(message, sizeof message, "no trial finished");
    tune->outcome.error = result.interrupted ? "interrupted" : *message ? message : NULL;
    const char *storage = tune->sweep->storage ? tune->sweep->storage : "runs";
    char *path = base_sprintf("%s/%s/cadre.db", storage, tune->sweep->name);
    bool begun = status == CADRE_OK || result.trials > 0; /* else the store is another sweep's, or there is nothing in it */
    int written = cli_outcome_write(&tune->outcome, tune->sweep->name, begun ? path : NULL);
    free(path);
    cadre_config_free(result.best_config);
    tune->outcome.error = NULL;
    return code == CLI_DONE ? written : code;
}

/* What cannot even begin is told to CI as well. */
static int refuse(struct tune *tune, const char *name, int status)
{
    char message[BASE_ERROR_MAX];
    snprintf(message, sizeof message, "%s", cadre_error_message());
    int code = cli_fail("%s", message);
    tune->outcome.error = message;
    (void)cli_outcome_write(&tune->outcome, name, NULL);
    tune->outcome.error = NULL;
    return status == CADRE_EINVAL || status == CADRE_ENOENT || status == CADRE_EACCES ? CLI_MISUSED : code;
}

static void close_tune(struct tune *tune)
{
    sweep_close(tune->sweep);
    sweep_free(tune->tree);
}

/* ---- tune ---- */

/* Where it runs is a part of the sweep: resuming it from elsewhere runs it there. */
static int settle_directory(sweep_node *tree)
{
    sweep_node *given = sweep_get(tree, "directory");
    if (given && (!given->text || *given->text == '/'))
        return CADRE_OK;
    if (given && !*given->text)
        return CADRE_OK; /* refused with the rest */
    char *full = realpath(given ? given->text : ".", NULL);
    if (!full)
        return given ? sweep_error(CADRE_EINVAL, given, "directory %.100s is not there", given->text) : base_error(CADRE_ENOENT, "the current directory is gone");
    int status = sweep_set(tree, "directory", sweep_string("directory", full));
    free(full);
    return status;
}

/* A file that does not name its experiment names it by its own name. */
static int settle_name(sweep_node *tree, const char *file)
{
    if (!file || sweep_get(tree, "name"))
        return CADRE_OK;
    const char *base = strrchr(file, '/') ? strrchr(file, '/') + 1 : file;
    size_t length = strlen(base);
    const char *dot = strrchr(base, '.');
    if (dot && dot > base)
        length = (size_t)(dot - base);
    char *name = base_sprintf("%.*s", (int)length, base);
    int status = name ? sweep_set(tree, "name", sweep_string(file, name)) : CADRE_ENOMEM;
    free(name);
    return status;
}

static const struct setting settings[] = {
    {"--name", "name", TEXT},
    {"--storage", "storage", TEXT},
    {"--metric", "metric", TEXT},
    {"-n", "num_samples", SCALAR},
    {"--num-samples", "num_samples", SCALAR},
    {"--search", "search", EITHER},
    {"--scheduler", "scheduler", EITHER},
    {"--stop", "stop", EITHER},
    {"-j", "max_concurrent", SCALAR},
    {"--max-concurrent", "max_concurrent", SCALAR},
    {"--cores", "cores", SCALAR},
    {"--gpus", "gpus", SCALAR},
    {"--seed", "seed", SCALAR},
    {"--max-failures", "max_failures", SCALAR},
    {"--hang-timeout", "hang_timeout", SCALAR},
};
enum { SETTINGS = sizeof settings / sizeof *settings };

struct flags {
    bool max, min, fail_fast, check;
    const char *below, *above, *budget;
    const char *values[SETTINGS];
};

static int build_tree(struct tune *tune, const char *file, const struct flags *flags, char **words, int count)
{
    int status = file ? sweep_read_yaml(file, &tune->tree) : (tune->tree = sweep_map("tune")) ? CADRE_OK : CADRE_ENOMEM;
    if (status == CADRE_OK && !file)
        status = cli_line_params(tune->tree, words, count);
    for (int i = 0; status == CADRE_OK && i < SETTINGS; i++)
        if (flags->values[i])
            status = set_option(tune->tree, &settings[i], flags->values[i]);
    if (status == CADRE_OK && flags->budget)
        status = set_budget(tune->tree, flags->budget);
    if (status == CADRE_OK && (flags->max || flags->min))
        status = sweep_set(tune->tree, "mode", sweep_string("--max", flags->max ? "max" : "min"));
    if (status == CADRE_OK && flags->fail_fast)
        status = sweep_set(tune->tree, "fail_fast", sweep_scalar("--fail-fast", "true"));
    if (status == CADRE_OK)
        status = settle_name(tune->tree, file);
    return status == CADRE_OK ? settle_directory(tune->tree) : status;
}

/* The words of a command line may be anything; the store holds UTF-8. */
static int check_texts(const sweep_node *node)
{
    if (node->text && !state_utf8_valid(node->text))
        return sweep_error(CADRE_EINVAL, node, "\"%.60s\" is not UTF-8", node->text);
    int status = CADRE_OK;
    for (int i = 0; status == CADRE_OK && i < node->count; i++)
        status = check_texts(node->items[i]);
    return status;
}

static int tune_with(struct tune *tune, const char *file, const struct flags *flags, char **words, int count)
{
    int status = build_tree(tune, file, flags, words, count);
    if (status == CADRE_OK)
        status = check_texts(tune->tree);
    if (status == CADRE_OK)
        status = sweep_new(tune->tree, &tune->sweep);
    if (status == CADRE_OK)
        status = find_program(tune);
    if (status == CADRE_OK)
        status = find_place(tune);
    if (status != CADRE_OK)
        return refuse(tune, tune->sweep ? tune->sweep->name : file ? file : "sweep", status);
    if (!flags->check)
        return run(tune);
    int params = sweep_get(tune->tree, "params")->count;
    printf("%s: %d parameter%s, %s search, in order\n", tune->sweep->name, params, params == 1 ? "" : "s",
           tune->sweep->search.name ? tune->sweep->search.name : SEARCH_DEFAULT);
    return CLI_DONE;
}

int cli_tune(int argc, char **argv)
{
    struct tune tune = {.command = "tune"};
    struct flags flags = {0};
    const char *file = NULL;
    cli_option known[SETTINGS + 11] = {
        {"--max", &flags.max, NULL}, {"--min", &flags.min, NULL}, {"--fail-fast", &flags.fail_fast, NULL}, {"--check", &flags.check, NULL},
        {"--quiet", &tune.quiet, NULL}, {"--junit", NULL, &tune.outcome.junit}, {"--summary", NULL, &tune.outcome.summary},
        {"--fail-below", NULL, &flags.below}, {"--fail-above", NULL, &flags.above}, {"--time-budget", NULL, &flags.budget},
    };
    for (int i = 0; i < SETTINGS; i++)
        known[10 + i] = (cli_option){settings[i].option, NULL, &flags.values[i]};
    int own = 1;
    while (own < argc && strcmp(argv[own], "--") != 0)
        own++;
    if (own == argc && cli_line_mentions(argv + 1, argc - 1))
        return cli_misuse("tune", "the command stands after \"--\": cadre tune [options] -- COMMAND --lr '~uniform(0, 1)'");
    int words = cli_options("tune", own, argv, known, &file, 1), count = own < argc ? argc - own - 1 : 0;
    if (words < 0 || !take_limit("tune", "--fail-below", flags.below, &tune.outcome.has_below, &tune.outcome.below) ||
        !take_limit("tune", "--fail-above", flags.above, &tune.outcome.has_above, &tune.outcome.above))
        return CLI_MISUSED;
    if (flags.max && flags.min)
        return cli_misuse("tune", "--max and --min: give one of them");
    if (words && count)
        return cli_misuse("tune", "a sweep file and a command: give one of them");
    if (!words && !count)
        return cli_misuse("tune", "what? Name a sweep file, or a command after --");
    if (cli_outcome_check(&tune.outcome, "tune") != CLI_DONE)
        return CLI_MISUSED;
    int code = tune_with(&tune, words ? file : NULL, &flags, argv + own + 1, count);
    close_tune(&tune);
    return code;
}

/* ---- resume ---- */

/* Storage and name from where the store is: it may have been moved since. */
static int place(sweep_node *tree, const char *path)
{
    char *full = realpath(path, NULL);
    if (!full)
        return base_error(CADRE_ENOENT, "%s is gone", path);
    *strrchr(full, '/') = '\0';
    char *name = strrchr(full, '/');
    *name++ = '\0';
    int status = sweep_set(tree, "name", sweep_string("the store's directory", name));
    if (status == CADRE_OK)
        status = sweep_set(tree, "storage", sweep_string("the store's directory", *full ? full : "/"));
    free(full);
    return status;
}

static int load_tree(struct tune *tune, const cli_run *run)
{
    char *json = NULL;
    int status = tracking_experiment_get(run->store, run->id, SWEEP_ATTRIBUTE, &json);
    if (status == CADRE_OK && !json)
        status = base_error(CADRE_EINVAL, "%s was not begun by \"cadre tune\": resume it with the program that began it", run->path);
    if (status == CADRE_OK)
        status = sweep_parse_json(json, "the sweep of the store", &tune->tree);
    if (status == CADRE_OK && tune->tree->kind != SWEEP_MAP)
        status = base_error(CADRE_ECORRUPT, "%s: the sweep in it is none", run->path);
    free(json);
    return status == CADRE_OK ? place(tune->tree, run->path) : status;
}

static int add_samples(struct tune *tune, long more)
{
    char text[32];
    sweep_close(tune->sweep);
    tune->sweep = NULL;
    int status = sweep_new(tune->tree, &tune->sweep);
    if (status != CADRE_OK || more == 0 || tune->sweep->num_samples < 0)
        return status;
    snprintf(text, sizeof text, "%lld", (long long)tune->sweep->num_samples + more);
    status = sweep_set(tune->tree, "num_samples", sweep_scalar("-n", text));
    sweep_close(tune->sweep);
    tune->sweep = NULL;
    return status == CADRE_OK ? sweep_new(tune->tree, &tune->sweep) : status;
}

/* Every event says how long the sweep had run by then, over all its lives. */
static int note_time(const tracking_event_row *row, void *user)
{
    double seconds, *most = user;
    const char *at = row->json ? strstr(row->json, "\"experiment_s\": ") : NULL;
    if (at && (seconds = strtod(at + 16, NULL)) > *most)
        *most = seconds;
    return CADRE_OK;
}

/* Nothing would come of it, without a word. */
static void say_when_spent(const struct tune *tune)
{
    double budget = tune->sweep->stop.time_budget_s;
    if (!tune->quiet && budget > 0 && tune->spent_s >= budget)
        fprintf(stderr, "cadre: %s has run for %.1f s, its time budget is %g s in all: no trial goes on (--time-budget TIME gives it a larger one)\n", tune->sweep->name,
                tune->spent_s, budget);
}

static int load(struct tune *tune, const char *name, const char *storage)
{
    cli_run run;
    char owner[512];
    int code = cli_run_open(&run, name, storage);
    if (code == CLI_DONE && tracking_lock_held(run.path, owner, sizeof owner))
        code = cli_fail("%s is running: %s", run.path, owner);
    if (code == CLI_DONE && (load_tree(tune, &run) != CADRE_OK || tracking_each_event(run.store, run.id, 0, note_time, &tune->spent_s) != CADRE_OK))
        code = cli_fail("%s", cadre_error_message());
    cli_run_close(&run);
    return code;
}

int cli_resume(int argc, char **argv)
{
    struct tune tune = {.command = "resume", .resume = CADRE_TUNE_RESUME};
    const char *name = NULL, *storage = "runs", *more_text = NULL, *below = NULL, *above = NULL, *concurrent = NULL, *budget = NULL;
    bool errored = false, restart = false;
    long more = 0;
    const cli_option known[] = {
        {"-n", NULL, &more_text}, {"--more", NULL, &more_text}, {"--errored", &errored, NULL}, {"--restart-errored", &restart, NULL},
        {"-j", NULL, &concurrent}, {"--max-concurrent", NULL, &concurrent}, {"--time-budget", NULL, &budget}, {"--storage", NULL, &storage},
        {"--quiet", &tune.quiet, NULL}, {"--junit", NULL, &tune.outcome.junit}, {"--summary", NULL, &tune.outcome.summary},
        {"--fail-below", NULL, &below}, {"--fail-above", NULL, &above}, {NULL, NULL, NULL},
    };
    int words = cli_options("resume", argc, argv, known, &name, 1);
    if (words < 0 || (more_text && !cli_number("resume", "-n", more_text, 1, &more)) ||
        !take_limit("resume", "--fail-below", below, &tune.outcome.has_below, &tune.outcome.below) ||
        !take_limit("resume", "--fail-above", above, &tune.outcome.has_above, &tune.outcome.above))
        return CLI_MISUSED;
    if (words == 0)
        return cli_misuse("resume", "which run? Name an experiment, its directory, or its cadre.db");
    if (errored && restart)
        return cli_misuse("resume", "--errored and --restart-errored: give one of them");
    if (cli_outcome_check(&tune.outcome, "resume") != CLI_DONE)
        return CLI_MISUSED;
    tune.resume = errored ? CADRE_TUNE_RESUME_ERRORED : restart ? CADRE_TUNE_RESTART_ERRORED : CADRE_TUNE_RESUME;
    int code = load(&tune, name, storage);
    int status = CADRE_OK;
    if (code == CLI_DONE && concurrent)
        status = sweep_set(tune.tree, "max_concurrent", sweep_scalar("--max-concurrent", concurrent));
    if (code == CLI_DONE && status == CADRE_OK && budget)
        status = set_budget(tune.tree, budget);
    if (code == CLI_DONE && status == CADRE_OK)
        status = add_samples(&tune, more);
    if (code == CLI_DONE && status == CADRE_OK)
        status = find_program(&tune);
    if (code == CLI_DONE && status == CADRE_OK)
        status = find_place(&tune);
    if (code == CLI_DONE && status == CADRE_OK)
        say_when_spent(&tune);
    if (code == CLI_DONE)
        code = status == CADRE_OK ? run(&tune) : refuse(&tune, name, status);
    close_tune(&tune);
    return code;
}
