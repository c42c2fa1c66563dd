/* The trials that the search knows, and the set of points that it has been to. */
#include "base/mem.h"
#include "tuner/search/gp.h"
#include "tuner/search/search.h"

#include <stdlib.h>
#include <string.h>

void gp_history_free(gp_history *history)
{
    free(history->number);
    free(history->state);
    free(history->value);
    free(history->x);
    free(history->seen);
}

/* Where the hash is or would be. */
static uint64_t *seen_at(uint64_t *set, int room, uint64_t hash)
{
    uint64_t at = hash & (uint64_t)(room - 1);
    while (set[at] && set[at] != hash)
        at = (at + 1) & (uint64_t)(room - 1);
    return &set[at];
}

bool gp_history_seen(const gp_history *history, const double *x)
{
    uint64_t hash = search_hash_point(x, history->ndims);
    return history->seen_room && *seen_at(history->seen, history->seen_room, hash) == hash;
}

static int grow_seen(gp_history *history, int room)
{
    uint64_t *set = base_calloc((size_t)room, sizeof *set);
    if (!set)
        return CADRE_ENOMEM;
    for (int i = 0; i < history->seen_room; i++)
        if (history->seen[i])
            *seen_at(set, room, history->seen[i]) = history->seen[i];
    free(history->seen);
    history->seen = set;
    history->seen_room = room;
    return CADRE_OK;
}

#define GROW(array, count) ((grown = base_realloc(array, (count) * sizeof *(array))) ? ((array) = grown, true) : false)

int gp_history_reserve(gp_history *history)
{
    void *grown;
    if (history->count < history->room)
        return CADRE_OK;
    size_t room = history->room ? 2 * (size_t)history->room : 64;
    if (!GROW(history->number, room) || !GROW(history->state, room) || !GROW(history->value, room) ||
        !GROW(history->x, room * (size_t)(history->ndims + 1)) || grow_seen(history, 2 * (int)room))
        return CADRE_ENOMEM;
    history->room = (int)room;
    return CADRE_OK;
}

int gp_history_add(gp_history *history, int64_t number, const double *x)
{
    int status = gp_history_reserve(history);
    if (status)
        return status;
    int trial = history->count++;
    history->number[trial] = number;
    history->state[trial] = GP_RUNNING;
    history->value[trial] = NAN;
    memcpy(history->x + (size_t)trial * (size_t)history->ndims, x, (size_t)history->ndims * sizeof *x);
    uint64_t hash = search_hash_point(x, history->ndims);
    *seen_at(history->seen, history->seen_room, hash) = hash;
    return CADRE_OK;
}

int gp_history_find(const gp_history *history, int64_t number)
{
    for (int low = 0, high = history->count; low < high;) {
        int middle = low + (high - low) / 2;
        if (history->number[middle] == number)
            return middle;
        if (history->number[middle] < number)
            low = middle + 1;
        else
            high = middle;
    }
    return -1;
}

void gp_history_end(gp_history *history, int trial, const cadre_outcome *outcome)
{
    history->value[trial] = outcome->value;
    history->state[trial] = outcome->end == CADRE_ENDED_COMPLETE ? GP_COMPLETE
                            : outcome->end == CADRE_ENDED_PRUNED ? GP_PRUNED
                                                                 : GP_FAILED;
    if (outcome->value == INFINITY || isnan(outcome->value))
        history->state[trial] = GP_FAILED;
    history->told += history->state[trial] != GP_FAILED;
}
