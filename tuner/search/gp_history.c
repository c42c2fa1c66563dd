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
    free(history->seen.hash);
}

bool gp_history_seen(const gp_history *history, const double *x)
{
    return search_seen_has(&history->seen, x, history->ndims);
}

#define GROW(array, count) ((grown = base_realloc(array, (count) * sizeof *(array))) ? ((array) = grown, true) : false)

int gp_history_reserve(gp_history *history)
{
    void *grown;
    if (history->count < history->room)
        return CADRE_OK;
    size_t room = history->room ? 2 * (size_t)history->room : 64;
    if (!GROW(history->number, room) || !GROW(history->state, room) || !GROW(history->value, room) ||
        !GROW(history->x, room * (size_t)(history->ndims + 1)) || search_seen_grow(&history->seen, (int)room))
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
    history->running++;
    memcpy(history->x + (size_t)trial * (size_t)history->ndims, x, (size_t)history->ndims * sizeof *x);
    search_seen_add(&history->seen, x, history->ndims);
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
    history->running -= history->state[trial] == GP_RUNNING;
    history->value[trial] = outcome->value;
    history->state[trial] = outcome->end == CADRE_ENDED_COMPLETE ? GP_COMPLETE
                            : outcome->end == CADRE_ENDED_PRUNED ? GP_PRUNED
                                                                 : GP_FAILED;
    if (outcome->value == INFINITY || isnan(outcome->value))
        history->state[trial] = GP_FAILED;
    history->told += history->state[trial] != GP_FAILED;
}
