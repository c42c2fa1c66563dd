/*
 * Quasi-random search: the points of a scrambled sequence in turn, "sobol" (sobol.h) or "halton" (halton.h). It fills
 * the space more evenly than independent draws and so is never far from a grid of every size; it learns nothing from
 * results.
 *
 * One coordinate a dimension, through the dimension's quantile function: a normal one, ints, steps, logarithms as they
 * are meant, a choice by floor(u * count). A dimension that is not there keeps its coordinate: in each branch what is
 * there is filled evenly. The i-th ask gets the i-th point; trials from elsewhere use none up.
 */
#include "base/error.h"
#include "base/mem.h"
#include "base/rng.h"
#include "tuner/search/halton.h"
#include "tuner/search/search.h"
#include "tuner/search/sobol.h"
#include "tuner/space.h"

#include <stdlib.h>

typedef struct qmc {
    const cadre_space *space;
    sobol sobol; /* one of these */
    halton halton;
    uint64_t asked;
} qmc;

static int create(const cadre_searcher_args *args, const char *name, qmc **out)
{
    static const search_option none[] = {{0}};
    struct {
        size_t size;
    } options = {sizeof options};
    int status = search_options_read(args, name, none, &options, sizeof options);
    if (status)
        return status;
    qmc *search = base_calloc(1, sizeof *search);
    if (!search)
        return CADRE_ENOMEM;
    search->space = args->space;
    *out = search;
    return CADRE_OK;
}

static void qmc_free(void *self)
{
    qmc *search = self;
    sobol_free(&search->sobol);
    halton_free(&search->halton);
    free(search);
}

static int sobol_create(const cadre_searcher_args *args, void **self)
{
    qmc *search;
    int status = create(args, "sobol", &search);
    if (status)
        return status;
    status = sobol_init(&search->sobol, args->space->count, base_rng_mix(args->seed, SEARCH_STREAM_QMC));
    if (status)
        qmc_free(search);
    else
        *self = search;
    return status;
}

static int halton_create(const cadre_searcher_args *args, void **self)
{
    qmc *search;
    int status = create(args, "halton", &search);
    if (status)
        return status;
    status = halton_init(&search->halton, args->space->count, base_rng_mix(args->seed, SEARCH_STREAM_QMC));
    if (status)
        qmc_free(search);
    else
        *self = search;
    return status;
}

static int qmc_ask(void *self, int64_t number, double *x)
{
    qmc *search = self;
    const cadre_space *space = search->space;
    (void)number;
    if (search->sobol.direction)
        sobol_point(&search->sobol, search->asked++, x);
    else
        halton_point(&search->halton, search->asked++, x);
    for (int k = 0; k < space->count; k++) {
        int d = space->order[k];
        x[d] = cadre_space_active(space, x, d) ? cadre_dim_from_unit(&space->dims[d], x[d]) : NAN;
    }
    return CADRE_OK;
}

static int qmc_tell(void *self, int64_t number, const double *x, const cadre_outcome *outcome)
{
    (void)self, (void)number, (void)x, (void)outcome;
    return CADRE_OK;
}

const cadre_searcher_table cadre_searcher_sobol = {
    .abi = CADRE_SEARCHER_ABI,
    .size = sizeof(cadre_searcher_table),
    .name = "sobol",
    .create = sobol_create,
    .ask = qmc_ask,
    .tell = qmc_tell,
    .free = qmc_free,
};

const cadre_searcher_table cadre_searcher_halton = {
    .abi = CADRE_SEARCHER_ABI,
    .size = sizeof(cadre_searcher_table),
    .name = "halton",
    .create = halton_create,
    .ask = qmc_ask,
    .tell = qmc_tell,
    .free = qmc_free,
};
