#include "tuner/sweep.h"

#include "base/error.h"
#include "base/mem.h"
#include "trainer/run.h"
#include "trainer/state/config.h"
#include "tuner/search/search.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define KEYS                                                                                                           \
    "name storage metric mode command shell directory params search scheduler stop num_samples max_concurrent cores "  \
    "gpus seed time_budget max_failures fail_fast hang_timeout grace env"

/* ---- taking values ---- */

static int wrong(const sweep_node *node, const char *key, const char *wanted)
{
    if (node->text && node->kind != SWEEP_NULL && *node->text)
        return sweep_error(CADRE_EINVAL, node, "%s is %s, not \"%.60s\"", key, wanted, node->text);
    return sweep_error(CADRE_EINVAL, node, "%s is %s, not %s", key, wanted, node->kind == SWEEP_STRING ? "empty" : sweep_kind_name(node));
}

int sweep_take_text(const sweep_node *map, const char *key, char **out)
{
    const sweep_node *node = sweep_get(map, key);
    if (!node)
        return CADRE_OK;
    if (!node->text || node->kind == SWEEP_NULL || !*node->text)
        return sweep_error(CADRE_EINVAL, node, "%s is a text, not %s", key, node->text ? "empty" : sweep_kind_name(node));
    *out = base_strdup(node->text);
    return *out ? CADRE_OK : CADRE_ENOMEM;
}

int sweep_take_int(const sweep_node *map, const char *key, int64_t low, int64_t high, int64_t *out)
{
    const sweep_node *node = sweep_get(map, key);
    if (!node)
        return CADRE_OK;
    if (node->kind != SWEEP_INT)
        return wrong(node, key, "a whole number");
    if (node->integer < low || node->integer > high)
        return sweep_error(CADRE_EINVAL, node, "%s is %lld, not in %lld to %lld", key, (long long)node->integer,
                           (long long)low, (long long)high);
    *out = node->integer;
    return CADRE_OK;
}

int sweep_take_number(const sweep_node *map, const char *key, double low, double *out)
{
    const sweep_node *node = sweep_get(map, key);
    if (!node)
        return CADRE_OK;
    if (node->kind != SWEEP_INT && node->kind != SWEEP_DOUBLE)
        return wrong(node, key, "a number");
    if (node->number < low)
        return sweep_error(CADRE_EINVAL, node, "%s is %.15g, less than %.15g", key, node->number, low);
    *out = node->number;
    return CADRE_OK;
}

int sweep_take_positive(const sweep_node *map, const char *key, double *out)
{
    double number = 1;
    int status = sweep_take_number(map, key, 0, &number);
    if (status == CADRE_OK && number == 0)
        return sweep_error(CADRE_EINVAL, sweep_get(map, key), "%s is 0: give more", key);
    if (status == CADRE_OK && sweep_get(map, key))
        *out = number;
    return status;
}

int sweep_take_bool(const sweep_node *map, const char *key, bool *out)
{
    const sweep_node *node = sweep_get(map, key);
    if (node && node->kind != SWEEP_BOOL)
        return wrong(node, key, "true or false");
    *out = node ? node->boolean : *out;
    return CADRE_OK;
}

bool sweep_duration(const char *text, double *seconds)
{
    char *end;
    double number = strtod(text, &end);
    if (end == text || !isfinite(number) || !(number > 0) || text[strspn(text, "0123456789.eE+ -smhd")])
        return false;
    end += strspn(end, " ");
    static const struct {
        const char *unit;
        double seconds;
    } units[] = {{"", 1}, {"s", 1}, {"m", 60}, {"h", 3600}, {"d", 86400}};
    for (size_t i = 0; i < sizeof units / sizeof *units; i++)
        if (strcmp(end, units[i].unit) == 0) {
            *seconds = number * units[i].seconds;
            return true;
        }
    return false;
}

int sweep_take_seconds(const sweep_node *map, const char *key, double *out)
{
    const sweep_node *node = sweep_get(map, key);
    if (!node)
        return CADRE_OK;
    if (!node->text || !sweep_duration(node->text, out))
        return wrong(node, key, "a time (seconds, or 10m, 1.5h)");
    return CADRE_OK;
}

/* ---- the command ---- */

static int build_words(sweep_node *list, command_spec *command)
{
    if (list->kind == SWEEP_STRING)
        return sweep_error(CADRE_EINVAL, list, "command is a list of words: [./prog, --lr, \"{lr}\"]; a line for the shell "
                                               "goes under shell");
    if (list->kind == SWEEP_LIST && !list->count)
        return sweep_error(CADRE_EINVAL, list, "command is a list of words, not empty");
    if (list->kind != SWEEP_LIST)
        return wrong(list, "command", "a list of words");
    command->words = base_calloc((size_t)list->count + 1, sizeof *command->words);
    if (!command->words)
        return CADRE_ENOMEM;
    for (int i = 0; i < list->count; i++) {
        sweep_node *word = list->items[i];
        if (!word->text)
            return sweep_error(CADRE_EINVAL, word, "a word of the command is a text, not %s", sweep_kind_name(word));
        word->kind = SWEEP_STRING; /* 007 and 1e3 are passed on as they are written */
        if (!(command->words[i] = base_strdup(word->text)))
            return CADRE_ENOMEM;
    }
    if (!*command->words[0])
        return sweep_error(CADRE_EINVAL, list->items[0], "the command's first word is empty");
    return CADRE_OK;
}

static int build_env(sweep_node *map, command_spec *command)
{
    if (map->kind != SWEEP_MAP)
        return sweep_error(CADRE_EINVAL, map, "env is a map of names and values, not %s", sweep_kind_name(map));
    command->env = base_calloc((size_t)map->count + 1, sizeof *command->env);
    if (!command->env)
        return CADRE_ENOMEM;
    for (int i = 0; i < map->count; i++) {
        sweep_node *value = map->items[i];
        if (!value->text)
            return sweep_error(CADRE_EINVAL, value, "env: %.60s is a text, not %s", map->keys[i], sweep_kind_name(value));
        if (!*map->keys[i] || strchr(map->keys[i], '='))
            return sweep_error_key(CADRE_EINVAL, value, "env: \"%.60s\" is no name of a variable", map->keys[i]);
        value->kind = SWEEP_STRING;
        if (!(command->env[i] = base_sprintf("%s=%s", map->keys[i], value->text)))
            return CADRE_ENOMEM;
    }
    return CADRE_OK;
}

static int build_command(sweep_node *tree, sweep *sweep)
{
    command_spec *command = &sweep->command;
    sweep_node *words = sweep_get(tree, "command"), *shell = sweep_get(tree, "shell"), *env = sweep_get(tree, "env");
    if (words && shell)
        return sweep_error_key(CADRE_EINVAL, shell, "command and shell: give one of them");
    if (!words && !shell)
        return sweep_error(CADRE_EINVAL, tree, "command is missing: say which program a trial runs");
    int status = words ? build_words(words, command) : sweep_take_text(tree, "shell", &command->shell);
    if (status == CADRE_OK && env)
        status = build_env(env, command);
    if (status == CADRE_OK)
        status = sweep_take_text(tree, "directory", &command->directory);
    return status;
}

/* ---- the whole ---- */

static int need(const sweep_node *tree, const char *value, const char *what)
{
    return value ? CADRE_OK : sweep_error(CADRE_EINVAL, tree, "%s", what);
}

static int build_head(sweep_node *tree, sweep *sweep)
{
    char *mode = NULL;
    int status = sweep_check_keys(tree, "a sweep", KEYS);
    if (status == CADRE_OK)
        status = sweep_take_text(tree, "name", &sweep->name);
    if (status == CADRE_OK)
        status = need(tree, sweep->name, "name is missing: name the experiment (--name NAME)");
    if (status == CADRE_OK && (status = run_check_name(sweep->name)) != CADRE_OK)
        status = sweep_error(status, sweep_get(tree, "name"), "%s", cadre_error_message() + strlen("run."));
    if (status == CADRE_OK)
        status = sweep_take_text(tree, "storage", &sweep->storage);
    if (status == CADRE_OK)
        status = sweep_take_text(tree, "metric", &sweep->metric);
    if (status == CADRE_OK)
        status = need(tree, sweep->metric, "metric is missing: name the metric to be made best (--metric NAME)");
    if (status == CADRE_OK)
        status = sweep_take_text(tree, "mode", &mode);
    if (status == CADRE_OK)
        status = need(tree, mode, "mode is missing: max or min (--max, --min)");
    if (status == CADRE_OK && strcmp(mode, "max") != 0 && strcmp(mode, "min") != 0)
        status = sweep_error(CADRE_EINVAL, sweep_get(tree, "mode"), "mode is \"%.60s\", not max or min", mode);
    if (status == CADRE_OK)
        sweep->mode = strcmp(mode, "max") == 0 ? CADRE_MAX : CADRE_MIN;
    free(mode);
    return status;
}

static int build_numbers(sweep_node *tree, sweep *sweep)
{
    int64_t samples = 0, concurrent = 0, failures = 0, seed = 0;
    const sweep_node *timeout = sweep_get(tree, "hang_timeout");
    sweep->hang_timeout_s = -1; /* a program may be silent for hours */
    int status = sweep_take_int(tree, "num_samples", -1, INT64_C(1) << 40, &samples);
    if (status == CADRE_OK && samples == 0 && sweep_get(tree, "num_samples"))
        status = sweep_error(CADRE_EINVAL, sweep_get(tree, "num_samples"), "num_samples is 0: give 1 or more, or -1 for no limit");
    if (status == CADRE_OK)
        status = sweep_take_int(tree, "max_concurrent", 1, 100000, &concurrent);
    if (status == CADRE_OK)
        status = sweep_take_int(tree, "max_failures", -1, 1000000, &failures);
    if (status == CADRE_OK)
        status = sweep_take_int(tree, "seed", 0, INT64_MAX, &seed);
    if (status == CADRE_OK)
        status = sweep_take_number(tree, "cores", 0, &sweep->cores);
    if (status == CADRE_OK)
        status = sweep_take_number(tree, "gpus", 0, &sweep->gpus);
    if (status == CADRE_OK)
        status = sweep_take_bool(tree, "fail_fast", &sweep->fail_fast);
    if (status == CADRE_OK && timeout)
        status = sweep_take_seconds(tree, "hang_timeout", &sweep->hang_timeout_s);
    if (status == CADRE_OK)
        status = sweep_take_seconds(tree, "grace", &sweep->grace_s);
    if (status == CADRE_OK)
        status = sweep_take_seconds(tree, "time_budget", &sweep->stop.time_budget_s);
    sweep->num_samples = samples;
    sweep->max_concurrent = (int)concurrent;
    sweep->max_failures = (int)failures;
    sweep->seed = (uint64_t)seed;
    sweep->command.grace_s = sweep->grace_s;
    return status;
}

/* How many samples when nobody said: one, which is every combination once for those that walk grids; as many trials for the others. */
static int settle_samples(const sweep_node *tree, sweep *sweep, const cadre_space *space)
{
    const cadre_searcher_table *table;
    int64_t grid = 1;
    if (sweep->num_samples)
        return CADRE_OK;
    int status = search_choose(&sweep->search, &table);
    if (status != CADRE_OK)
        return status;
    if (search_walks(table)) {
        sweep->num_samples = 1;
        return CADRE_OK;
    }
    status = cadre_space_grid_size(space, SEARCH_LARGEST_GRID, &grid);
    if (status != CADRE_OK)
        return sweep_wrap(status, sweep_get(tree, "params"));
    sweep->num_samples = grid;
    return CADRE_OK;
}

/* The parameter that the message is about, or the condition of it. */
static const sweep_node *blame_param(const sweep_node *params)
{
    const sweep_node *param = sweep_blame(params), *when = sweep_get(param, "when");
    return when && strstr(cadre_error_message(), ": condition on ") ? sweep_blame(when) : param;
}

static int build(sweep_node *tree, sweep *sweep)
{
    cadre_space *space = NULL;
    int status = build_head(tree, sweep);
    if (status == CADRE_OK)
        status = build_command(tree, sweep);
    if (status == CADRE_OK)
        status = build_numbers(tree, sweep);
    if (status == CADRE_OK)
        status = sweep_build_params(tree, sweep);
    if (status == CADRE_OK) {
        status = cadre_space_new(sweep->params, &space);
        if (status != CADRE_OK)
            status = sweep_wrap(status, blame_param(sweep_get(tree, "params")));
    }
    if (status == CADRE_OK)
        status = sweep_build_search(tree, sweep, space);
    if (status == CADRE_OK)
        status = settle_samples(tree, sweep, space);
    cadre_space_free(space);
    const sweep_node *params = sweep_get(tree, "params");
    if (status == CADRE_OK && !(sweep->command.names = base_calloc((size_t)params->count + 1, sizeof *sweep->command.names)))
        status = CADRE_ENOMEM;
    for (int i = 0; status == CADRE_OK && i < params->count; i++)
        if (!(sweep->command.names[i] = base_strdup(params->keys[i])))
            status = CADRE_ENOMEM;
    return status;
}

int sweep_new(sweep_node *tree, sweep **out)
{
    sweep *made = base_calloc(1, sizeof *made);
    if (!made)
        return CADRE_ENOMEM;
    int status = build(tree, made);
    if (status != CADRE_OK) {
        sweep_close(made);
        return status;
    }
    *out = made;
    return CADRE_OK;
}

static void free_list(char **list)
{
    for (char **at = list; at && *at; at++)
        free(*at);
    free(list);
}

void sweep_close(sweep *sweep)
{
    if (!sweep)
        return;
    for (int i = 0; i < sweep->param_count; i++)
        cadre_param_clear(&sweep->params[i]);
    for (int i = 0; i < sweep->borrowed_count; i++)
        free(sweep->borrowed[i]);
    for (cadre_config **at = sweep->points; at && *at; at++)
        cadre_config_free(*at);
    free(sweep->points);
    free(sweep->borrowed);
    free(sweep->params);
    free((char *)(uintptr_t)sweep->search.name);
    free((char *)(uintptr_t)sweep->search.json);
    free_list(sweep->command.words);
    free_list(sweep->command.env);
    free_list((char **)(uintptr_t)sweep->command.names);
    free(sweep->command.shell);
    free(sweep->command.program);
    free(sweep->command.directory);
    free(sweep->name);
    free(sweep->storage);
    free(sweep->metric);
    free(sweep->time_attr);
    free(sweep);
}

/* The worker asks the program in its own steps (command.c); the controller comes after the last of them. */
static double grace_of_group(const sweep *sweep) { return 2 * (sweep->grace_s > 0 ? sweep->grace_s : COMMAND_GRACE_S) + 1; }

void sweep_options(const sweep *sweep, cadre_trainer *trainer, cadre_tuner *tuner)
{
    *trainer = (cadre_trainer){
        .train = command_train,
        .user = (void *)(uintptr_t)&sweep->command,
        .scaling = {.num_workers = 1, .gpus_per_worker = sweep->gpus},
        .run = {.name = sweep->name, .storage = sweep->storage, .progress = CADRE_PROGRESS_AUTO, .metric = sweep->metric},
        .failure = {.max_failures = sweep->max_failures, .hang_timeout_s = sweep->hang_timeout_s, .grace_s = grace_of_group(sweep)},
        .checkpoint = {.keep = 2},
    };
    *tuner = (cadre_tuner){
        .trainer = trainer,
        .metric = sweep->metric,
        .mode = sweep->mode,
        .space = sweep->params,
        .search = sweep->search,
        .scheduler = sweep->scheduler,
        .stop = sweep->stop,
        .time_attr = sweep->time_attr,
        .num_samples = sweep->num_samples,
        .max_concurrent = sweep->max_concurrent,
        .cores_per_trial = sweep->cores,
        .seed = sweep->seed,
        .fail_fast = sweep->fail_fast,
    };
    if (sweep->scheduler.table == &cadre_scheduler_asha || sweep->scheduler.table == &cadre_scheduler_median)
        tuner->scheduler.options = &sweep->schedule;
}
