/*
 * Grid search: every combination of a space, as often as it has samples, the last dimension of the space's order fastest, conditions
 * respected: a dimension that is not there does not multiply.
 */
#include "base/mem.h"
#include "tuner/search/search.h"
#include "tuner/space_grid.h"

#include <stddef.h>
#include <stdlib.h>
#include <string.h>

typedef struct grid_search {
    tuner_grid grid;
    int64_t count, asked; /* of this round */
    int64_t rounds;       /* that are left; negative: no end */
} grid_search;

static int make_grid(const cadre_searcher_args *args, tuner_grid *grid, int64_t *count)
{
    static const search_option known[] = {
        {"resolution", SEARCH_OPTION_INT, offsetof(cadre_grid_options, resolution), 1, 1e6},
        {"limit", SEARCH_OPTION_INT64, offsetof(cadre_grid_options, limit), 1, 1e12},
        {0},
    };
    cadre_grid_options options = {.size = sizeof options};
    int status = search_options_read(args, "grid", known, &options, sizeof options);
    if (!status)
        status = tuner_grid_new(args->space, true, options.resolution, grid);
    if (status)
        return status;
    status = tuner_grid_count(grid, options.limit ? options.limit : SEARCH_LARGEST_GRID, count);
    if (status)
        tuner_grid_free(grid);
    return status;
}

int search_grid_count(const cadre_searcher_args *args, int64_t *count)
{
    tuner_grid grid;
    int status = make_grid(args, &grid, count);
    if (!status)
        tuner_grid_free(&grid);
    return status;
}

static int grid_create(const cadre_searcher_args *args, void **self)
{
    grid_search *search = base_calloc(1, sizeof *search);
    int status = search ? make_grid(args, &search->grid, &search->count) : CADRE_ENOMEM;
    if (status) {
        free(search);
        return status;
    }
    search->rounds = args->samples ? args->samples : 1;
    *self = search;
    return CADRE_OK;
}

static int grid_ask(void *self, int64_t number, double *x)
{
    grid_search *search = self;
    (void)number;
    if (search->asked == search->count) {
        if (search->rounds == 1)
            return CADRE_STOP;
        search->rounds -= search->rounds > 0;
        search->asked = 0;
        tuner_grid_first(&search->grid);
    }
    if (search->asked++)
        tuner_grid_next(&search->grid);
    memcpy(x, search->grid.x, (size_t)search->grid.space->count * sizeof *x);
    return CADRE_OK;
}

static int grid_tell(void *self, int64_t number, const double *x, const cadre_outcome *outcome)
{
    (void)self, (void)number, (void)x, (void)outcome;
    return CADRE_OK;
}

static void grid_free(void *self)
{
    grid_search *search = self;
    tuner_grid_free(&search->grid);
    free(search);
}

const cadre_searcher_table cadre_searcher_grid = {
    .abi = CADRE_SEARCHER_ABI,
    .size = sizeof(cadre_searcher_table),
    .name = "grid",
    .create = grid_create,
    .ask = grid_ask,
    .tell = grid_tell,
    .free = grid_free,
};
