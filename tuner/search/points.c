/* Points that the user wants tried first; then the searcher's own. */
#include "base/error.h"
#include "base/mem.h"
#include "base/rng.h"
#include "tuner/search/search.h"
#include "tuner/space.h"

#include <stdlib.h>
#include <string.h>

typedef struct pointer {
    search_layer inner;
    const cadre_space *space;
    uint64_t seed;
    int ndims, count, next;
    double *x; /* count points, NaN where the user left the value open */
} pointer;

static int points_ask(void *self, int64_t number, double *x)
{
    pointer *points = self;
    const search_layer *inner = &points->inner;
    if (points->next == points->count)
        return inner->table->ask(inner->self, number, x);
    const double *given = points->x + (size_t)points->next * (size_t)points->ndims;
    memcpy(x, given, (size_t)points->ndims * sizeof *x);
    tuner_space_fill(points->space, points->seed, base_rng_mix((uint64_t)number, SEARCH_STREAM_POINTS), x);
    int status = inner->table->running ? inner->table->running(inner->self, number, x) : CADRE_OK;
    if (!status)
        points->next++;
    return status;
}

static int points_tell(void *self, int64_t number, const double *x, const cadre_outcome *outcome)
{
    pointer *points = self;
    return points->inner.table->tell(points->inner.self, number, x, outcome);
}

static int points_running(void *self, int64_t number, const double *x)
{
    pointer *points = self;
    return points->inner.table->running ? points->inner.table->running(points->inner.self, number, x) : CADRE_OK;
}

static int points_report(void *self, int64_t number, int64_t step, double value)
{
    pointer *points = self;
    return points->inner.table->report ? points->inner.table->report(points->inner.self, number, step, value)
                                       : CADRE_OK;
}

static void points_free(void *self)
{
    pointer *points = self;
    points->inner.table->free(points->inner.self);
    free(points->x);
    free(points);
}

static const cadre_searcher_table table = {
    .abi = CADRE_SEARCHER_ABI,
    .size = sizeof(cadre_searcher_table),
    .name = "points",
    .ask = points_ask,
    .tell = points_tell,
    .running = points_running,
    .report = points_report,
    .free = points_free,
};

int search_points_new(search_layer inner, const cadre_space *space, uint64_t seed, const cadre_config *const *configs,
                      search_layer *out)
{
    int count = 0, ndims = cadre_space_count(space), status = CADRE_OK;
    while (configs[count])
        count++;
    pointer *points = base_calloc(1, sizeof *points);
    double *x = base_malloc((size_t)count * (size_t)ndims * sizeof *x);
    if (!points || !x)
        status = CADRE_ENOMEM;
    for (int i = 0; i < count && !status; i++) {
        status = cadre_space_point(space, configs[i], x + (size_t)i * (size_t)ndims);
        if (status)
            base_wrap(status, "point %d to try first", i + 1);
    }
    if (status) {
        free(points);
        free(x);
        return status;
    }
    *points = (pointer){.inner = inner, .space = space, .seed = seed, .ndims = ndims, .count = count, .x = x};
    *out = (search_layer){&table, points};
    return CADRE_OK;
}
