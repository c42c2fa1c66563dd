/* The face of searchers: the registry, the wrappers' order, and the history by number. */
#include "base/error.h"
#include "base/mem.h"
#include "tuner/search/search.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The registry. A searcher is added by a line here. */
static const cadre_searcher_table *const registry[] = {
    &cadre_searcher_random,
    &cadre_searcher_grid,
    &cadre_searcher_tpe,
    &cadre_searcher_bohb,
    &cadre_searcher_gp,
    &cadre_searcher_sobol,
    &cadre_searcher_halton,
    &cadre_searcher_cmaes,
    &cadre_searcher_auto,
};
#define REGISTERED ((int)(sizeof registry / sizeof *registry))

typedef enum trial_state { TRIAL_RUNNING, TRIAL_TOLD } trial_state;

struct cadre_searcher {
    const cadre_space *space;
    search_layer layer; /* the outermost */
    search_layer inner; /* the searcher itself, which the layers own */
    int64_t count, room, running;
    size_t ndims;
    double *x; /* count points */
    unsigned char *state;
};

const cadre_searcher_table *cadre_searcher_by_name(const char *name)
{
    for (int i = 0; i < REGISTERED; i++)
        if (strcmp(registry[i]->name, name) == 0)
            return registry[i];
    return NULL;
}

const char *cadre_searcher_name(int i) { return i >= 0 && i < REGISTERED ? registry[i]->name : NULL; }

int search_choose(const cadre_search *search, const cadre_searcher_table **out)
{
    const char *name = search->name ? search->name : SEARCH_DEFAULT;
    *out = search->table ? search->table : cadre_searcher_by_name(name);
    if (!*out) {
        char names[256] = "";
        for (int i = 0; i < REGISTERED; i++)
            snprintf(names + strlen(names), sizeof names - strlen(names), "%s%s", i ? ", " : "", registry[i]->name);
        return base_error(CADRE_ENOENT, "there is no searcher \"%s\"; there are %s", name, names);
    }
    if ((*out)->abi != CADRE_SEARCHER_ABI || (*out)->size < sizeof **out)
        return base_error(CADRE_EVERSION,
                          "a searcher's table of ABI %" PRIu32 " and %zu bytes; %d and %zu are expected", (*out)->abi,
                          (*out)->size, CADRE_SEARCHER_ABI, sizeof **out);
    if (!(*out)->name || !(*out)->create || !(*out)->ask || !(*out)->tell || !(*out)->free)
        return base_error(CADRE_EINVAL, "a searcher's table without name, create, ask, tell or free");
    return CADRE_OK;
}

bool search_walks(const cadre_searcher_table *table)
{
    return table == &cadre_searcher_auto || table == &cadre_searcher_random || table == &cadre_searcher_grid;
}

int search_trials(const cadre_space *space, const cadre_search *search, int64_t num_samples, int64_t *trials)
{
    const cadre_searcher_table *table;
    int64_t grid = 1, points = 0, repeats = search->repeats > 1 ? search->repeats : 1;
    cadre_searcher_args args = {.space = space, .options = search->options, .json = search->json};
    int status = search_choose(search, &table);
    if (!status && table == &cadre_searcher_grid)
        status = search_grid_count(&args, &grid);
    else if (!status && search_walks(table))
        status = cadre_space_grid_size(space, SEARCH_LARGEST_GRID, &grid);
    if (status)
        return status;
    while (search->points && search->points[points])
        points++;
    bool walks = grid > 1 || table == &cadre_searcher_grid;
    if (walks && num_samples > INT64_MAX / grid / repeats - points)
        return base_error(CADRE_EINVAL, "num_samples is %" PRId64 " walks of a grid of %" PRId64 " combinations: that would never be done",
                          num_samples, grid);
    *trials = walks && num_samples > 0 ? (num_samples * grid + points) * repeats : num_samples;
    return CADRE_OK;
}

/* Innermost the searcher, then points to try first, repeats, and the limit, which so counts trials. */
static int wrap(cadre_searcher *searcher, const cadre_search *search, uint64_t seed)
{
    int status = CADRE_OK;
    if (search->points && search->points[0])
        status = search_points_new(searcher->layer, searcher->space, seed, search->points, &searcher->layer);
    if (!status && search->repeats > 1)
        status = search_repeat_new(searcher->layer, (int)searcher->ndims, search->repeats, &searcher->layer);
    if (!status && search->max_concurrent > 0)
        status = search_limit_new(searcher->layer, search->max_concurrent, &searcher->layer);
    return status;
}

int cadre_searcher_new(const cadre_space *space, const cadre_search *search, uint64_t seed, cadre_searcher **out)
{
    static const cadre_search plain;
    search = search ? search : &plain;
    if (search->repeats < 0 || search->max_concurrent < 0)
        return base_error(CADRE_EINVAL, "repeats and max_concurrent may not be negative");
    cadre_searcher *searcher = base_calloc(1, sizeof *searcher);
    if (!searcher)
        return CADRE_ENOMEM;
    searcher->space = space;
    searcher->ndims = (size_t)cadre_space_count(space);
    cadre_searcher_args args = {.space = space, .seed = seed, .options = search->options, .json = search->json, .samples = search->samples,
                                .plan = search->plan};
    const cadre_searcher_table *table;
    int status = search_choose(search, &table);
    void *self = NULL;
    if (!status) {
        status = table->create(&args, &self);
        status = status ? status < 0 ? status
                                     : base_error(CADRE_EINVAL, "searcher %s: create answered %d", table->name, status)
                        : 0;
    }
    if (!status) {
        searcher->layer = searcher->inner = (search_layer){table, self};
        status = wrap(searcher, search, seed);
    }
    if (status) {
        cadre_searcher_free(searcher);
        return status;
    }
    *out = searcher;
    return CADRE_OK;
}

void cadre_searcher_free(cadre_searcher *searcher)
{
    if (!searcher)
        return;
    if (searcher->layer.table)
        searcher->layer.table->free(searcher->layer.self);
    free(searcher->x);
    free(searcher->state);
    free(searcher);
}

static int make_room(cadre_searcher *searcher)
{
    if (searcher->count < searcher->room)
        return CADRE_OK;
    size_t room = searcher->room ? 2 * (size_t)searcher->room : 64;
    double *x = base_realloc(searcher->x, room * (searcher->ndims + 1) * sizeof *x);
    if (!x)
        return CADRE_ENOMEM;
    searcher->x = x;
    unsigned char *state = base_realloc(searcher->state, room);
    if (!state)
        return CADRE_ENOMEM;
    searcher->state = state;
    searcher->room = (int64_t)room;
    return CADRE_OK;
}

static double *point(cadre_searcher *searcher, int64_t number)
{
    return searcher->x + (size_t)number * searcher->ndims;
}

int cadre_searcher_ask(cadre_searcher *searcher, int64_t *number, double *x)
{
    int status = make_room(searcher);
    if (status)
        return status;
    double *fresh = point(searcher, searcher->count);
    for (size_t i = 0; i < searcher->ndims; i++)
        fresh[i] = NAN;
    status = searcher->layer.table->ask(searcher->layer.self, searcher->count, fresh);
    if (status)
        return status;
    status = cadre_space_check(searcher->space, fresh); /* also a user's searcher gives points of the space only */
    if (status)
        return base_wrap(status, "searcher %s", searcher->layer.table->name);
    memcpy(x, fresh, searcher->ndims * sizeof *x);
    searcher->state[searcher->count] = TRIAL_RUNNING;
    searcher->running++;
    *number = searcher->count++;
    return CADRE_OK;
}

int cadre_searcher_begin(cadre_searcher *searcher, const double *x, int64_t *number)
{
    const search_layer *layer = &searcher->layer;
    int status = cadre_space_check(searcher->space, x);
    if (!status)
        status = make_room(searcher);
    if (!status && layer->table->running)
        status = layer->table->running(layer->self, searcher->count, x);
    if (status)
        return status;
    memcpy(point(searcher, searcher->count), x, searcher->ndims * sizeof *x);
    searcher->state[searcher->count] = TRIAL_RUNNING;
    searcher->running++;
    *number = searcher->count++;
    return CADRE_OK;
}

static int tell(cadre_searcher *searcher, int64_t number, const cadre_outcome *outcome)
{
    cadre_outcome seen = *outcome;
    if (isnan(seen.value) || (unsigned)seen.end > CADRE_ENDED_FAILED)
        seen.end = CADRE_ENDED_FAILED;
    return searcher->layer.table->tell(searcher->layer.self, number, point(searcher, number), &seen);
}

int cadre_searcher_tell(cadre_searcher *searcher, int64_t number, const cadre_outcome *outcome)
{
    if (number < 0 || number >= searcher->count)
        return base_error(CADRE_ESTATE, "trial %" PRId64 " was not asked for", number);
    if (searcher->state[number] == TRIAL_TOLD)
        return base_error(CADRE_ESTATE, "trial %" PRId64 " has been told already", number);
    int status = tell(searcher, number, outcome);
    if (status)
        return status;
    searcher->state[number] = TRIAL_TOLD;
    searcher->running--;
    return CADRE_OK;
}

int cadre_searcher_report(cadre_searcher *searcher, int64_t number, int64_t step, double value)
{
    if (number < 0 || number >= searcher->count || searcher->state[number] != TRIAL_RUNNING)
        return base_error(CADRE_ESTATE, "trial %" PRId64 " is not running", number);
    const search_layer *layer = &searcher->layer;
    return layer->table->report ? layer->table->report(layer->self, number, step, value) : CADRE_OK;
}

int cadre_searcher_add(cadre_searcher *searcher, const double *x, const cadre_outcome *outcome, int64_t *number)
{
    int status = x ? cadre_space_check(searcher->space, x) : CADRE_OK;
    if (!status)
        status = make_room(searcher);
    if (status)
        return status;
    double *own = point(searcher, searcher->count);
    for (size_t i = 0; i < searcher->ndims; i++)
        own[i] = x ? x[i] : NAN;
    status = x ? tell(searcher, searcher->count, outcome) : CADRE_OK;
    if (status)
        return status;
    searcher->state[searcher->count] = TRIAL_TOLD;
    *number = searcher->count++;
    return CADRE_OK;
}

const char *cadre_searcher_note(const cadre_searcher *searcher)
{
    const search_layer *inner = &searcher->inner;
    const char *note = inner->table->note ? inner->table->note(inner->self) : NULL;
    return note ? note : "";
}

int64_t cadre_searcher_running(const cadre_searcher *searcher) { return searcher->running; }
