/* At most so many trials at once: for searchers that would rather know results before they go on. */
#include "base/mem.h"
#include "tuner/search/search.h"

#include <stdlib.h>

typedef struct limiter {
    search_layer inner;
    int most, count;
    int64_t running[]; /* numbers asked through here and not told; told ones may come from elsewhere too */
} limiter;

static int limit_ask(void *self, int64_t number, double *x)
{
    limiter *limit = self;
    if (limit->count == limit->most)
        return CADRE_LATER;
    int status = limit->inner.table->ask(limit->inner.self, number, x);
    if (!status)
        limit->running[limit->count++] = number;
    return status;
}

static int limit_tell(void *self, int64_t number, const double *x, const cadre_outcome *outcome)
{
    limiter *limit = self;
    int status = limit->inner.table->tell(limit->inner.self, number, x, outcome);
    for (int i = 0; i < limit->count && !status; i++)
        if (limit->running[i] == number)
            limit->running[i] = limit->running[--limit->count];
    return status;
}

static int limit_running(void *self, int64_t number, const double *x)
{
    limiter *limit = self;
    return limit->inner.table->running ? limit->inner.table->running(limit->inner.self, number, x) : CADRE_OK;
}

static int limit_report(void *self, int64_t number, int64_t step, double value)
{
    limiter *limit = self;
    return limit->inner.table->report ? limit->inner.table->report(limit->inner.self, number, step, value) : CADRE_OK;
}

static void limit_free(void *self)
{
    limiter *limit = self;
    limit->inner.table->free(limit->inner.self);
    free(limit);
}

static const cadre_searcher_table table = {
    .abi = CADRE_SEARCHER_ABI,
    .size = sizeof(cadre_searcher_table),
    .name = "limit",
    .ask = limit_ask,
    .tell = limit_tell,
    .running = limit_running,
    .report = limit_report,
    .free = limit_free,
};

int search_limit_new(search_layer inner, int most, search_layer *out)
{
    limiter *limit = base_calloc(1, sizeof *limit + (size_t)most * sizeof *limit->running);
    if (!limit)
        return CADRE_ENOMEM;
    limit->inner = inner;
    limit->most = most;
    *out = (search_layer){&table, limit};
    return CADRE_OK;
}
