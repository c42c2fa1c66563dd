/*
 * Random search (Bergstra and Bengio, "Random Search for Hyper-Parameter Optimization", JMLR 13, 2012), and the grid of
 * a space's grid parameters walked along with it, as Ray's BasicVariantGenerator does: its i-th point has combination i
 * modulo their number, everything else is drawn. Points are counted here, since their numbers have gaps.
 */
#include "base/mem.h"
#include "base/rng.h"
#include "tuner/search/search.h"
#include "tuner/space_grid.h"

#include <stdlib.h>

typedef struct random_search {
    const cadre_space *space;
    uint64_t seed;
    tuner_grid grid;
    int64_t combinations, asked;
} random_search;

static int random_create(const cadre_searcher_args *args, void **self)
{
    static const search_option none[] = {{0}};
    struct {
        size_t size;
    } options = {sizeof options};
    int status = search_options_read(args, "random", none, &options, sizeof options);
    if (status)
        return status;
    random_search *search = base_calloc(1, sizeof *search);
    if (!search)
        return CADRE_ENOMEM;
    search->space = args->space;
    search->seed = args->seed;
    status = tuner_grid_new(args->space, false, 0, &search->grid);
    if (!status) {
        status = tuner_grid_count(&search->grid, SEARCH_LARGEST_GRID, &search->combinations);
        if (status)
            tuner_grid_free(&search->grid);
    }
    if (status) {
        free(search);
        return status;
    }
    *self = search;
    return CADRE_OK;
}

static int random_ask(void *self, int64_t number, double *x)
{
    random_search *search = self;
    const cadre_space *space = search->space;
    cadre_space_sample(space, search->seed, base_rng_mix((uint64_t)number, SEARCH_STREAM_SAMPLE), x);
    if (search->combinations == 1)
        return CADRE_OK;
    if (search->asked++ && !tuner_grid_next(&search->grid))
        tuner_grid_first(&search->grid);
    base_rng rng; /* a dimension that the draw left out may be there under the grid's values */
    base_rng_init(&rng, search->seed, base_rng_mix((uint64_t)number, SEARCH_STREAM_SAMPLE));
    for (int i = 0; i < space->count; i++) {
        double drawn = cadre_dim_from_unit(&space->dims[i], base_rng_uniform(&rng));
        x[i] = search->grid.points[i] ? search->grid.x[i] : drawn;
    }
    for (int k = 0; k < space->count; k++)
        if (!cadre_space_active(space, x, space->order[k]))
            x[space->order[k]] = NAN;
    return CADRE_OK;
}

static int random_tell(void *self, int64_t number, const double *x, const cadre_outcome *outcome)
{
    (void)self, (void)number, (void)x, (void)outcome;
    return CADRE_OK;
}

static void random_free(void *self)
{
    random_search *search = self;
    tuner_grid_free(&search->grid);
    free(search);
}

const cadre_searcher_table cadre_searcher_random = {
    .abi = CADRE_SEARCHER_ABI,
    .size = sizeof(cadre_searcher_table),
    .name = "random",
    .create = random_create,
    .ask = random_ask,
    .tell = random_tell,
    .free = random_free,
};
