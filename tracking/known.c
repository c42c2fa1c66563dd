/*
 * What the store knows without asking its file: experiments and trials in use, names of metrics, the next ids. Right
 * because only this process writes. Ids are given out here and not by SQLite, so that the journal gives the same ones
 * when it is replayed.
 */
#include "base/error.h"
#include "base/mem.h"
#include "tracking/internal.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

/* Where `name` is, or belongs. */
static size_t place_of_name(const tracking_store *store, const char *name, bool *found)
{
    size_t low = 0, high = store->name_count;
    *found = false;
    while (low < high && !*found) {
        size_t middle = low + (high - low) / 2;
        int order = strcmp(store->names[middle].name, name);
        *found = order == 0;
        if (order < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return high;
}

static size_t place_of_trial(const tracking_store *store, int64_t id)
{
    size_t low = 0, high = store->trial_count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (store->trials[middle].id < id)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

/* Lists grow at powers of two. */
static int reserve(void **list, size_t count, size_t size)
{
    if (count & (count - 1) && count)
        return CADRE_OK;
    void *larger = base_realloc(*list, (count ? 2 * count : 1) * size);
    if (!larger)
        return CADRE_ENOMEM;
    *list = larger;
    return CADRE_OK;
}

int tracking_remember_experiment(tracking_store *store, const tracking_known_experiment *experiment)
{
    void *experiments = store->experiments;
    int status = reserve(&experiments, (size_t)store->experiment_count, sizeof *store->experiments);
    store->experiments = experiments;
    if (status == CADRE_OK)
        store->experiments[store->experiment_count++] = *experiment;
    return status;
}

int tracking_remember_trial(tracking_store *store, const tracking_known_trial *trial)
{
    void *trials = store->trials;
    int status = reserve(&trials, store->trial_count, sizeof *store->trials);
    store->trials = trials;
    if (status != CADRE_OK)
        return status;
    size_t at = place_of_trial(store, trial->id);
    memmove(store->trials + at + 1, store->trials + at, (store->trial_count - at) * sizeof *store->trials);
    store->trials[at] = *trial;
    store->trial_count++;
    return CADRE_OK;
}

static int remember_name(tracking_store *store, int64_t id, const char *name)
{
    bool found;
    size_t at = place_of_name(store, name, &found);
    void *names = store->names;
    int status = reserve(&names, store->name_count, sizeof *store->names);
    store->names = names;
    char *copy = status == CADRE_OK ? base_strdup(name) : NULL;
    if (!copy)
        return CADRE_ENOMEM;
    memmove(store->names + at + 1, store->names + at, (store->name_count - at) * sizeof *store->names);
    store->names[at] = (tracking_known_name){.id = id, .name = copy};
    store->name_count++;
    return CADRE_OK;
}

int tracking_know_name(tracking_store *store, const char *name, int64_t *id)
{
    bool found = false;
    size_t at = name ? place_of_name(store, name, &found) : 0;
    if (found) {
        *id = store->names[at].id;
        return CADRE_OK;
    }
    int status = tracking_check_name(store, name, "a metric");
    if (status != CADRE_OK)
        return status;
    /* Gathered first: a name that is known must be in the file, or in the journal, before a row that means it. */
    size_t mark = tracking_journal_mark(store);
    int64_t next = store->last_name_id + 1;
    status = tracking_put(store, TRACKING_SQL_NAME_ADD, TRACKING_ARGS(tracking_int(next), tracking_text(name)));
    if (status == CADRE_OK)
        status = remember_name(store, next, name);
    if (status != CADRE_OK) {
        tracking_journal_back(store, mark);
        return status;
    }
    store->last_name_id = next;
    *id = next;
    return CADRE_OK;
}

/* The objective's name as Optuna has it: the first of a list of names. */
static int know_objective(tracking_store *store, const char *names_json, int64_t *id)
{
    json_t *names = names_json ? json_loads(names_json, 0, NULL) : NULL;
    const char *name = json_string_value(json_array_get(names, 0));
    int status = name && *name ? tracking_know_name(store, name, id) : CADRE_OK;
    json_decref(names);
    return status;
}

int tracking_know_experiment(tracking_store *store, int64_t id, tracking_known_experiment **out)
{
    for (int i = 0; i < store->experiment_count; i++)
        if (store->experiments[i].id == id) {
            *out = &store->experiments[i];
            return CADRE_OK;
        }
    sqlite3_stmt *statement;
    bool row = false;
    int status = tracking_query(store, TRACKING_SQL_STUDY_KNOW, TRACKING_ARGS(tracking_int(id)), &statement);
    if (status == CADRE_OK)
        status = tracking_step(store, statement, &row);
    if (status != CADRE_OK)
        return status;
    if (!row)
        return base_error(CADRE_ENOENT, "store %s has no experiment with id %lld", store->path, (long long)id);
    char direction[16];
    tracking_column_text(statement, 1, direction, sizeof direction);
    tracking_known_experiment known = {
        .id = id,
        .trials = sqlite3_column_int64(statement, 2),
        .events = tracking_column_count(statement, 3),
        .direction = strcmp(direction, "MAXIMIZE") == 0 ? TRACKING_MAXIMIZE : TRACKING_MINIMIZE,
    };
    char *names = NULL;
    if (sqlite3_column_type(statement, 0) != SQLITE_NULL) {
        names = base_strdup((const char *)sqlite3_column_text(statement, 0));
        status = names ? CADRE_OK : CADRE_ENOMEM;
    }
    sqlite3_reset(statement);
    if (status == CADRE_OK)
        status = know_objective(store, names, &known.objective);
    if (status == CADRE_OK)
        status = tracking_remember_experiment(store, &known);
    free(names);
    if (status == CADRE_OK)
        *out = &store->experiments[store->experiment_count - 1];
    return status;
}

int tracking_know_trial(tracking_store *store, int64_t id, tracking_known_trial **out)
{
    size_t at = place_of_trial(store, id);
    if (at < store->trial_count && store->trials[at].id == id) {
        *out = &store->trials[at];
        return CADRE_OK;
    }
    sqlite3_stmt *statement;
    bool row = false;
    int status = tracking_query(store, TRACKING_SQL_TRIAL_KNOW, TRACKING_ARGS(tracking_int(id)), &statement);
    if (status == CADRE_OK)
        status = tracking_step(store, statement, &row);
    if (status != CADRE_OK)
        return status;
    if (!row)
        return base_error(CADRE_ENOENT, "store %s has no trial with id %lld", store->path, (long long)id);
    char state[16];
    tracking_column_text(statement, 2, state, sizeof state);
    tracking_known_trial known = {
        .id = id,
        .experiment = sqlite3_column_int64(statement, 0),
        .number = tracking_column_count(statement, 1),
        .last_report = tracking_column_count(statement, 3),
        .finished = strcmp(state, "RUNNING") != 0 && strcmp(state, "WAITING") != 0,
    };
    sqlite3_reset(statement);
    status = tracking_remember_trial(store, &known);
    if (status == CADRE_OK)
        *out = &store->trials[at];
    return status;
}

int tracking_know_open_trial(tracking_store *store, int64_t id, tracking_known_trial **out)
{
    tracking_known_trial *trial;
    int status = tracking_check_writer(store);
    if (status == CADRE_OK)
        status = tracking_know_trial(store, id, &trial);
    if (status != CADRE_OK)
        return status;
    if (trial->finished)
        return base_error(CADRE_ESTATE, "store %s: trial %lld is finished and is not written any more", store->path,
                          (long long)trial->number);
    *out = trial;
    return CADRE_OK;
}

int tracking_known_open(tracking_store *store)
{
    sqlite3_stmt *statement;
    bool row = false;
    int status = tracking_query(store, TRACKING_SQL_NEXT_IDS, NULL, 0, &statement);
    if (status == CADRE_OK)
        status = tracking_step(store, statement, &row);
    if (status != CADRE_OK || !row)
        return status;
    int64_t *const last[] = {&store->last_experiment_id, &store->last_trial_id, &store->last_checkpoint_id, &store->last_name_id};
    for (int i = 0; i < 4; i++) {
        *last[i] = sqlite3_column_int64(statement, i);
        if (*last[i] < 0 || *last[i] > TRACKING_COUNT_MAX)
            status = base_error(CADRE_ECORRUPT, "store %s: a row has the id %lld, which was never given out", store->path, (long long)*last[i]);
    }
    sqlite3_reset(statement);
    if (status != CADRE_OK)
        return status;
    status = tracking_query(store, TRACKING_SQL_NAMES, NULL, 0, &statement);
    while (status == CADRE_OK && (status = tracking_step(store, statement, &row)) == CADRE_OK && row) {
        const char *name = (const char *)sqlite3_column_text(statement, 1);
        status = name ? remember_name(store, sqlite3_column_int64(statement, 0), name)
                      : base_error(CADRE_ENOMEM, "out of memory");
        if (status != CADRE_OK)
            sqlite3_reset(statement);
    }
    return status;
}

void tracking_known_free(tracking_store *store)
{
    for (size_t i = 0; i < store->name_count; i++)
        free(store->names[i].name);
    free(store->names);
    free(store->trials);
    free(store->experiments);
}
