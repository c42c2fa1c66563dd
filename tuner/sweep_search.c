/* The part of a sweep about searcher, scheduler and stoppers. */
#include "tuner/sweep.h"

#include "base/buffer.h"
#include "base/error.h"
#include "base/mem.h"
#include "tuner/schedule/stop.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* "tpe" or {name: tpe, ...}: the name's node. NULL: there is none, which is said in *status. */
static sweep_node *name_of(sweep_node *node, const char *key, int *status)
{
    sweep_node *name = node->kind == SWEEP_MAP ? sweep_get(node, "name") : node;
    *status = CADRE_OK;
    if (!name)
        *status = sweep_error(CADRE_EINVAL, node, "%s: name is missing", key);
    else if (name->kind != SWEEP_STRING)
        *status = sweep_error(CADRE_EINVAL, name, "%s is a name or a map with one, not %s", key, sweep_kind_name(name));
    return *status == CADRE_OK ? name : NULL;
}

/* ---- search ---- */

static bool of_all_searchers(const char *key)
{
    return strcmp(key, "name") == 0 || strcmp(key, "max_concurrent") == 0 || strcmp(key, "repeats") == 0 ||
           strcmp(key, "points") == 0;
}

/* What is the searcher's own, as JSON. */
static int own_options(const sweep_node *node, char **json)
{
    sweep_node *rest = sweep_map(node->origin);
    int status = rest ? CADRE_OK : CADRE_ENOMEM;
    for (int i = 0; status == CADRE_OK && node->kind == SWEEP_MAP && i < node->count; i++) {
        const sweep_node *value = node->items[i];
        if (of_all_searchers(node->keys[i]))
            continue;
        if (!value->text)
            status = sweep_error(CADRE_EINVAL, value, "search: %.60s is a single value, not %s", node->keys[i], sweep_kind_name(value));
        else
            status = sweep_set(rest, node->keys[i],
                               value->kind == SWEEP_STRING ? sweep_string(node->origin, value->text) : sweep_scalar(node->origin, value->text));
    }
    if (status == CADRE_OK && rest->count && !(*json = sweep_tree_json(rest)))
        status = CADRE_ENOMEM;
    sweep_free(rest);
    return status;
}

static int build_points(const sweep_node *list, sweep *sweep, const cadre_space *space)
{
    double *x = base_calloc((size_t)cadre_space_count(space) + 1, sizeof *x);
    int status = x ? CADRE_OK : CADRE_ENOMEM;
    if (status == CADRE_OK && list->kind != SWEEP_LIST)
        status = sweep_error(CADRE_EINVAL, list, "points is a list of configs, not %s", sweep_kind_name(list));
    if (status == CADRE_OK && !(sweep->points = base_calloc((size_t)list->count + 1, sizeof *sweep->points)))
        status = CADRE_ENOMEM;
    for (int i = 0; status == CADRE_OK && i < list->count; i++) {
        const sweep_node *point = list->items[i];
        if (point->kind != SWEEP_MAP) {
            status = sweep_error(CADRE_EINVAL, point, "a point is a map of parameters, not %s", sweep_kind_name(point));
            break;
        }
        for (int k = 0; status == CADRE_OK && k < point->count; k++)
            if (cadre_space_find(space, point->keys[k]) < 0)
                status = sweep_error_key(CADRE_EINVAL, point->items[k], "there is no parameter \"%.60s\" to be set", point->keys[k]);
        char *json = status == CADRE_OK ? sweep_tree_json(point) : NULL;
        if (status == CADRE_OK)
            status = json ? cadre_config_from_json(json, &sweep->points[i]) : CADRE_ENOMEM;
        if (status == CADRE_OK)
            status = cadre_space_point(space, sweep->points[i], x);
        if (json && status != CADRE_OK)
            status = sweep_wrap(status, sweep_blame(point));
        free(json);
    }
    free(x);
    sweep->search.points = (const cadre_config *const *)sweep->points;
    return status;
}

static int unknown_searcher(const sweep_node *name)
{
    base_buffer names = {0};
    for (int i = 0; cadre_searcher_name(i); i++)
        if (base_buffer_printf(&names, "%s%s", i ? ", " : "", cadre_searcher_name(i)) != CADRE_OK)
            break;
    int status = sweep_error(CADRE_EINVAL, name, "there is no searcher \"%.60s\"; there are %s", name->text,
                             names.data ? (const char *)names.data : "none");
    base_buffer_free(&names);
    return status;
}

static int build_search(sweep_node *node, sweep *sweep, const cadre_space *space)
{
    int64_t concurrent = 0, repeats = 0;
    char *json = NULL;
    int status = CADRE_OK;
    sweep_node *name = node ? name_of(node, "search", &status) : NULL;
    if (status == CADRE_OK && name && !cadre_searcher_by_name(name->text))
        status = unknown_searcher(name);
    if (status == CADRE_OK && name && !(sweep->search.name = base_strdup(name->text))) /* else the default, or what the sweep began with */
        status = CADRE_ENOMEM;
    if (status == CADRE_OK && node)
        status = own_options(node, &json);
    sweep->search.json = json;
    if (status == CADRE_OK)
        status = sweep_take_int(node, "max_concurrent", 1, 100000, &concurrent);
    if (status == CADRE_OK)
        status = sweep_take_int(node, "repeats", 1, 100000, &repeats);
    if (status == CADRE_OK && sweep_get(node, "points"))
        status = build_points(sweep_get(node, "points"), sweep, space);
    sweep->search.max_concurrent = (int)concurrent;
    sweep->search.repeats = (int)repeats;
    cadre_searcher *tried = NULL;
    if (status == CADRE_OK && (status = cadre_searcher_new(space, &sweep->search, sweep->seed, &tried)) != CADRE_OK && node)
        status = sweep_wrap(status, sweep_blame(node));
    cadre_searcher_free(tried);
    return status;
}

/* ---- scheduler ---- */

static int take_asha(const sweep_node *node, sweep *sweep)
{
    cadre_asha_options *asha = &sweep->schedule.asha;
    int64_t brackets = 0;
    int status = sweep_check_keys(node, "asha", "name time_attr max_t grace_period reduction_factor brackets promotion delayed");
    if (status == CADRE_OK)
        status = sweep_take_positive(node, "max_t", &asha->max_t);
    if (status == CADRE_OK)
        status = sweep_take_positive(node, "grace_period", &asha->grace_period);
    if (status == CADRE_OK)
        status = sweep_take_positive(node, "reduction_factor", &asha->reduction_factor);
    if (status == CADRE_OK)
        status = sweep_take_int(node, "brackets", 1, 64, &brackets);
    if (status == CADRE_OK)
        status = sweep_take_bool(node, "promotion", &asha->promotion);
    if (status == CADRE_OK)
        status = sweep_take_bool(node, "delayed", &asha->delayed);
    asha->brackets = (int)brackets;
    return status;
}

static int take_hyperband(const sweep_node *node, sweep *sweep)
{
    cadre_hyperband_options *hyperband = &sweep->schedule.hyperband;
    int64_t brackets = 0;
    int status = sweep_check_keys(node, "hyperband", "name time_attr max_t grace_period reduction_factor brackets promotion delayed");
    if (status == CADRE_OK)
        status = sweep_take_number(node, "max_t", 0, &hyperband->max_t);
    if (status == CADRE_OK)
        status = sweep_take_number(node, "grace_period", 0, &hyperband->grace_period);
    if (status == CADRE_OK)
        status = sweep_take_number(node, "reduction_factor", 0, &hyperband->reduction_factor);
    if (status == CADRE_OK)
        status = sweep_take_int(node, "brackets", 1, 64, &brackets);
    if (status == CADRE_OK)
        status = sweep_take_bool(node, "promotion", &hyperband->promotion);
    if (status == CADRE_OK)
        status = sweep_take_bool(node, "delayed", &hyperband->delayed);
    hyperband->brackets = (int)brackets;
    return status;
}

static int take_percentile(const sweep_node *node, sweep *sweep)
{
    cadre_percentile_options *percentile = &sweep->schedule.percentile;
    int64_t startup = 0, least = 0;
    int status = sweep_check_keys(node, "percentile", "name time_attr percentile n_startup_trials n_warmup_steps interval_steps n_min_trials");
    if (status == CADRE_OK)
        status = sweep_take_number(node, "percentile", 0, &percentile->percentile);
    if (status == CADRE_OK)
        status = sweep_take_int(node, "n_startup_trials", -1, 1000000, &startup);
    if (status == CADRE_OK)
        status = sweep_take_number(node, "n_warmup_steps", 0, &percentile->n_warmup_steps);
    if (status == CADRE_OK)
        status = sweep_take_number(node, "interval_steps", 0, &percentile->interval_steps);
    if (status == CADRE_OK)
        status = sweep_take_int(node, "n_min_trials", 1, 1000000, &least);
    percentile->n_startup_trials = (int)startup;
    percentile->n_min_trials = (int)least;
    return status;
}

static int take_median(const sweep_node *node, sweep *sweep)
{
    cadre_median_options *median = &sweep->schedule.median;
    int64_t samples = 0;
    int status = sweep_check_keys(node, "median", "name time_attr grace_period min_samples_required");
    if (status == CADRE_OK)
        status = sweep_take_positive(node, "grace_period", &median->grace_period);
    if (status == CADRE_OK)
        status = sweep_take_int(node, "min_samples_required", 1, 1000000, &samples);
    median->min_samples_required = (int)samples;
    return status;
}

static int take_fifo(const sweep_node *node, sweep *sweep)
{
    (void)sweep;
    return sweep_check_keys(node, "fifo", "name");
}

static const struct {
    const char *name;
    const cadre_scheduler_table *table;
    int (*take)(const sweep_node *node, sweep *sweep);
} schedulers[] = {
    {"fifo", &cadre_scheduler_fifo, take_fifo},
    {"asha", &cadre_scheduler_asha, take_asha},
    {"hyperband", &cadre_scheduler_hyperband, take_hyperband},
    {"percentile", &cadre_scheduler_percentile, take_percentile},
    {"median", &cadre_scheduler_median, take_median},
};
enum { SCHEDULERS = sizeof schedulers / sizeof *schedulers };

static int build_scheduler(sweep_node *node, sweep *sweep)
{
    int status = CADRE_OK, which = 0;
    sweep_node *name = node ? name_of(node, "scheduler", &status) : NULL;
    if (!name)
        return status;
    while (which < SCHEDULERS && strcmp(schedulers[which].name, name->text) != 0)
        which++;
    if (which == SCHEDULERS)
        return sweep_error(CADRE_EINVAL, name, "there is no scheduler \"%.60s\"; there are fifo, asha, hyperband, percentile, median", name->text);
    sweep->scheduler.table = schedulers[which].table;
    if (node->kind == SWEEP_MAP)
        status = schedulers[which].take(node, sweep);
    if (status == CADRE_OK)
        status = sweep_take_text(node, "time_attr", &sweep->time_attr);
    void *tried = NULL;
    if (status == CADRE_OK && (status = sweep->scheduler.table->create(&sweep->schedule, sweep->seed, &tried)) != CADRE_OK)
        return sweep_wrap(status, sweep_blame(node));
    if (tried)
        sweep->scheduler.table->free(tried);
    return status;
}

/* ---- stop ---- */

static int take_plateau(const sweep_node *node, const char *what, const char *keys, double *deviation, int *first_out,
                        const char *first, int *second_out, const char *second)
{
    int64_t a = 0, b = 0;
    double std = 0;
    if (!node)
        return CADRE_OK;
    int status = sweep_check_keys(node, what, keys);
    if (status == CADRE_OK && !sweep_get(node, "std"))
        status = sweep_error(CADRE_EINVAL, node, "%s: std is missing", what);
    if (status == CADRE_OK)
        status = sweep_take_positive(node, "std", &std);
    if (status == CADRE_OK)
        status = sweep_take_int(node, first, 2, 1000, &a);
    if (status == CADRE_OK)
        status = sweep_take_int(node, second, 0, 1000000, &b);
    *deviation = std;
    *first_out = (int)a;
    *second_out = (int)b;
    return status;
}

static int build_stop(sweep_node *node, sweep *sweep)
{
    cadre_stop *stop = &sweep->stop;
    if (!node)
        return CADRE_OK;
    int status = sweep_check_keys(node, "stop", "max_iterations target time_budget trial_plateau plateau");
    if (status == CADRE_OK)
        status = sweep_take_int(node, "max_iterations", 1, INT64_MAX, &stop->max_iterations);
    if (status == CADRE_OK)
        status = sweep_take_number(node, "target", -INFINITY, &stop->target);
    stop->has_target = sweep_get(node, "target") != NULL;
    if (status == CADRE_OK)
        status = sweep_take_seconds(node, "time_budget", &stop->time_budget_s);
    if (status == CADRE_OK)
        status = take_plateau(sweep_get(node, "trial_plateau"), "trial_plateau", "std window grace", &stop->trial_plateau_std,
                              &stop->plateau_window, "window", &stop->plateau_grace, "grace");
    if (status == CADRE_OK)
        status = take_plateau(sweep_get(node, "plateau"), "plateau", "std top patience", &stop->experiment_plateau_std,
                              &stop->plateau_top, "top", &stop->plateau_patience, "patience");
    tuner_stop *tried = NULL;
    if (status == CADRE_OK && (status = tuner_stop_new(stop, sweep->mode != CADRE_MIN, &tried)) != CADRE_OK)
        return sweep_wrap(status, node);
    tuner_stop_free(tried);
    return status;
}

int sweep_build_search(sweep_node *tree, sweep *sweep, const cadre_space *space)
{
    int status = build_search(sweep_get(tree, "search"), sweep, space);
    if (status == CADRE_OK)
        status = build_scheduler(sweep_get(tree, "scheduler"), sweep);
    if (status == CADRE_OK)
        status = build_stop(sweep_get(tree, "stop"), sweep);
    const cadre_stop *stop = &sweep->stop;
    if (status == CADRE_OK && sweep->num_samples == -1 && !(stop->time_budget_s > 0) && !stop->has_target && !(stop->experiment_plateau_std > 0))
        return sweep_error(CADRE_EINVAL, sweep_get(tree, "num_samples"),
                           "num_samples is -1 and nothing would ever end the sweep: set time_budget, stop.target or stop.plateau");
    return status;
}
