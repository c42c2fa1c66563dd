/* What CMA-ES keeps of trials: lists of candidates, and the points that were tried. */
#include "base/error.h"
#include "base/mem.h"
#include "tuner/search/cma.h"
#include "tuner/search/search.h"

#include <stdlib.h>
#include <string.h>

cma_rank cma_rank_of(const cadre_outcome *outcome)
{
    return (cma_rank){outcome->end, outcome->end == CADRE_ENDED_PRUNED ? outcome->last_step : 0,
                      outcome->end == CADRE_ENDED_FAILED ? INFINITY : outcome->value};
}

int cma_rank_compare(const cma_rank *a, const cma_rank *b)
{
    static const int order[] = {[CADRE_ENDED_COMPLETE] = 0, [CADRE_ENDED_PRUNED] = 1, [CADRE_ENDED_FAILED] = 2};
    if (a->end != b->end)
        return order[a->end] - order[b->end];
    if (a->step != b->step)
        return a->step > b->step ? -1 : 1;
    return (a->value > b->value) - (a->value < b->value);
}

void cma_list_free(cma_list *list)
{
    free(list->g);
    free(list->pick);
    free(list->number);
    free(list->batch);
    free(list->rank);
    *list = (cma_list){0};
}

#define GROW(array, elements)                                                                                          \
    ((grown = base_realloc(array, (elements) * sizeof *(array) + 1)) ? ((array) = grown, true) : false)

int cma_list_make_room(cma_list *list, int64_t count)
{
    void *grown;
    if (count <= list->room)
        return CADRE_OK;
    size_t room = (size_t)(count > 2 * list->room ? count : 2 * list->room);
    if (!GROW(list->g, room * (size_t)list->n) || !GROW(list->pick, room * (size_t)list->choices) ||
        !GROW(list->number, room) || !GROW(list->batch, room) || !GROW(list->rank, room))
        return CADRE_ENOMEM;
    list->room = (int64_t)room;
    return CADRE_OK;
}

int64_t cma_list_add(cma_list *list, const double *g, const int *pick, int64_t number, int64_t batch, cma_rank rank)
{
    int64_t at = list->count++;
    memcpy(list->g + at * list->n, g, (size_t)list->n * sizeof *g);
    memcpy(list->pick + at * list->choices, pick, (size_t)list->choices * sizeof *pick);
    list->number[at] = number;
    list->batch[at] = batch;
    list->rank[at] = rank;
    return at;
}

void cma_list_remove(cma_list *list, int64_t at)
{
    int64_t last = --list->count;
    memmove(list->g + at * list->n, list->g + last * list->n, (size_t)list->n * sizeof *list->g);
    memmove(list->pick + at * list->choices, list->pick + last * list->choices,
            (size_t)list->choices * sizeof *list->pick);
    list->number[at] = list->number[last];
    list->batch[at] = list->batch[last];
    list->rank[at] = list->rank[last];
}

/* ---- points seen ------------------------------------------------------------------------------------------------- */

void cma_seen_free(cma_seen *seen)
{
    free(seen->hash);
    free(seen->told);
    free(seen->rank);
    *seen = (cma_seen){0};
}

static int64_t place(const cma_seen *seen, uint64_t hash)
{
    uint64_t mask = (uint64_t)seen->room - 1, at = hash & mask;
    while (seen->hash[at] && seen->hash[at] != hash)
        at = (at + 1) & mask;
    return (int64_t)at;
}

int cma_seen_make_room(cma_seen *seen)
{
    if (seen->room && 2 * (seen->count + 1) <= seen->room)
        return CADRE_OK;
    size_t room = seen->room ? 2 * (size_t)seen->room : 64;
    cma_seen larger = {seen->count, (int64_t)room, base_calloc(room, sizeof(uint64_t)), base_calloc(room, sizeof(bool)),
                       base_calloc(room, sizeof(cma_rank))};
    if (!larger.hash || !larger.told || !larger.rank) {
        cma_seen_free(&larger);
        return CADRE_ENOMEM;
    }
    for (int64_t i = 0; i < seen->room; i++)
        if (seen->hash[i]) {
            int64_t at = place(&larger, seen->hash[i]);
            larger.hash[at] = seen->hash[i];
            larger.told[at] = seen->told[i];
            larger.rank[at] = seen->rank[i];
        }
    cma_seen_free(seen);
    *seen = larger;
    return CADRE_OK;
}

int64_t cma_seen_find(cma_seen *seen, const double *x, int ndims, bool add)
{
    uint64_t hash = search_hash_point(x, ndims);
    int64_t at = seen->room ? place(seen, hash) : -1;
    if (at >= 0 && seen->hash[at] == hash)
        return at;
    if (!add)
        return -1;
    seen->hash[at] = hash;
    seen->told[at] = false;
    seen->count++;
    return at;
}
