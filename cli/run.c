/* One experiment of a store with all its trials, as best, export and the summaries want it. */
#include "cli.h"

#include "base/error.h"
#include "base/mem.h"
#include "base/number.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- the experiment ---- */

/* "first" of "runs/first/cadre.db"; NULL: no memory. */
static char *directory_name(const char *path)
{
    char *full = realpath(path, NULL), *name = NULL;
    char *slash = full ? strrchr(full, '/') : NULL;
    if (slash) {
        *slash = '\0';
        name = base_strdup(strrchr(full, '/') ? strrchr(full, '/') + 1 : "");
    }
    free(full);
    return name;
}

struct choice {
    cli_run *run;
    const char *wanted;
    bool found;
};

static int note_experiment(const tracking_experiment_row *row, void *user)
{
    struct choice *choice = user;
    cli_run *run = choice->run;
    bool named = choice->wanted && strcmp(row->name, choice->wanted) == 0;
    if (run->experiments++ && !named)
        return CADRE_OK;
    free(run->name);
    free(run->metric);
    choice->found = named;
    run->id = row->id;
    run->maximize = row->direction == TRACKING_MAXIMIZE;
    run->name = base_strdup(row->name);
    run->metric = base_strdup(row->metric);
    return run->name && run->metric ? CADRE_OK : CADRE_ENOMEM;
}

int cli_run_open_at(cli_run *run, char *path)
{
    *run = (cli_run){.path = path, .best = -1};
    char *wanted = directory_name(path);
    struct choice choice = {.run = run, .wanted = wanted};
    int status = tracking_open_reader(path, &run->store);
    if (status == CADRE_OK)
        status = tracking_each_experiment(run->store, note_experiment, &choice);
    if (status == CADRE_OK && run->experiments == 0)
        status = base_error(CADRE_ENOENT, "%s has no experiment yet", path);
    if (status == CADRE_OK && run->experiments > 1 && !choice.found)
        status = base_error(CADRE_EINVAL, "%s has %d experiments, none of them named \"%s\"", path, run->experiments, wanted ? wanted : "");
    free(wanted);
    return status == CADRE_OK ? CLI_DONE : cli_fail("%s", cadre_error_message());
}

int cli_run_open(cli_run *run, const char *name, const char *storage)
{
    *run = (cli_run){.best = -1};
    char *path = cli_find_store(name, storage);
    return path ? cli_run_open_at(run, path) : CLI_FAILED;
}

/* ---- trials ---- */

static int add_trial(const tracking_trial *row, void *user)
{
    cli_run *run = user;
    if (run->count == run->room) {
        int room = run->room ? 2 * run->room : 64;
        cli_trial *trials = base_realloc(run->trials, (size_t)room * sizeof *trials);
        if (!trials)
            return CADRE_ENOMEM;
        run->trials = trials;
        run->room = room;
    }
    run->trials[run->count++] = (cli_trial){.row = *row};
    return CADRE_OK;
}

static int add_param(const char *name, const char *json, void *user)
{
    return json_object_set_new(user, name, cli_json_value(json)) == 0 ? CADRE_OK : base_error(CADRE_ENOMEM, "out of memory");
}

static bool better(const cli_run *run, const cli_trial *a, const cli_trial *b)
{
    if (a->row.state != b->row.state)
        return a->row.state == TRACKING_COMPLETE;
    return run->maximize ? a->row.value > b->row.value : a->row.value < b->row.value;
}

int cli_run_read(cli_run *run)
{
    int status = tracking_each_trial(run->store, run->id, add_trial, run);
    for (int i = 0; status == CADRE_OK && i < run->count; i++) {
        cli_trial *trial = &run->trials[i];
        trial->params = json_object();
        status = trial->params ? tracking_each_param(run->store, trial->row.id, add_param, trial->params) : CADRE_ENOMEM;
        bool ended = trial->row.state == TRACKING_COMPLETE || trial->row.state == TRACKING_PRUNED;
        if (ended && trial->row.has_value && !isnan(trial->row.value) && (run->best < 0 || better(run, trial, &run->trials[run->best])))
            run->best = i;
    }
    return status == CADRE_OK ? CLI_DONE : cli_fail("%s", cadre_error_message());
}

void cli_run_close(cli_run *run)
{
    for (int i = 0; i < run->count; i++)
        json_decref(run->trials[i].params);
    free(run->trials);
    free(run->name);
    free(run->metric);
    tracking_close(run->store);
    free(run->path);
    *run = (cli_run){.best = -1};
}

/* ---- texts ---- */

char *cli_param_value(const json_t *value)
{
    if (json_is_string(value))
        return base_strdup(json_string_value(value));
    if (json_is_real(value)) {
        char text[32];
        base_number_text(json_real_value(value), text);
        return base_strdup(text);
    }
    return json_dumps(value, JSON_ENCODE_ANY | JSON_COMPACT);
}

void cli_params_text(const json_t *params, char *text, size_t nbytes)
{
    const char *name;
    json_t *value;
    size_t used = 0;
    text[0] = '\0';
    json_object_foreach((json_t *)(uintptr_t)params, name, value)
    {
        char *shown = cli_param_value(value);
        int wrote = snprintf(text + used, nbytes - used, "%s%s=%s", used ? " " : "", name, shown ? shown : "?");
        free(shown);
        used += wrote > 0 ? (size_t)wrote : 0;
        if (used >= nbytes)
            break;
    }
}
