/* The trials that TPE knows, kept so that a model is made from them without sorting or moving anything. */
#include "base/mem.h"
#include "tuner/search/tpe.h"
#include "tuner/search/search.h"

#include <stdlib.h>
#include <string.h>

int tpe_history_init(tpe_history *history, int ndims)
{
    *history = (tpe_history){.ndims = ndims};
    history->track = base_calloc((size_t)ndims, sizeof *history->track);
    return history->track ? CADRE_OK : CADRE_ENOMEM;
}

void tpe_history_free(tpe_history *history)
{
    for (int d = 0; history->track && d < history->ndims; d++) {
        tpe_track *track = &history->track[d];
        free(track->centre);
        free(track->order);
        free(track->sd);
        free(track->inverse);
        free(track->offset);
        free(track->mass);
    }
    free(history->number);
    free(history->state);
    free(history->value);
    free(history->last_step);
    free(history->rank);
    free(history->track);
    free(history->seen.hash);
}

bool tpe_history_seen(const tpe_history *history, const double *x)
{
    return search_seen_has(&history->seen, x, history->ndims);
}

/* ---- trials ----------------------------------------------------------------------------------------------------- */

#define GROW(array, room)                                                                                              \
    ((grown = base_realloc(array, (size_t)(room) * sizeof *(array))) ? ((array) = grown, true) : false)

static bool grow_table(tpe_track *track, int values, int room)
{
    if (!values || track->stride >= room)
        return true;
    double *mass = base_malloc((size_t)values * (size_t)room * sizeof *mass);
    if (!mass)
        return false;
    for (int v = 0; v < values && track->mass; v++)
        memcpy(mass + (size_t)v * (size_t)room, track->mass + (size_t)v * (size_t)track->stride,
               (size_t)track->stride * sizeof *mass);
    free(track->mass);
    track->mass = mass;
    track->stride = room;
    return true;
}

static int make_room(tpe_history *history, const tpe_dim *dims)
{
    void *grown;
    if (history->count < history->room)
        return CADRE_OK;
    int room = history->room ? 2 * history->room : 64;
    bool good = GROW(history->number, room) && GROW(history->state, room) && GROW(history->value, room) &&
                GROW(history->last_step, room) && GROW(history->rank, room);
    for (int d = 0; d < history->ndims && good; d++) {
        tpe_track *track = &history->track[d];
        good = GROW(track->centre, room) && GROW(track->order, room) && GROW(track->sd, room) &&
               GROW(track->inverse, room) && GROW(track->offset, room) && grow_table(track, dims[d].values, room);
    }
    if (!good || search_seen_grow(&history->seen, room))
        return CADRE_ENOMEM;
    history->room = room;
    return CADRE_OK;
}

static void insert_sorted(tpe_track *track, int trial)
{
    int low = 0, high = track->sorted;
    while (low < high) {
        int middle = low + (high - low) / 2;
        if (track->centre[track->order[middle]] <= track->centre[trial])
            low = middle + 1;
        else
            high = middle;
    }
    memmove(track->order + low + 1, track->order + low, (size_t)(track->sorted - low) * sizeof *track->order);
    track->order[low] = trial;
    track->sorted++;
}

int tpe_history_add(tpe_history *history, const tpe_dim *dims, int64_t number, const double *x)
{
    int status = make_room(history, dims);
    if (status)
        return status;
    int trial = history->count++;
    history->number[trial] = number;
    history->state[trial] = TPE_RUNNING;
    for (int d = 0; d < history->ndims; d++) {
        tpe_track *track = &history->track[d];
        bool there = !isnan(x[d]), choice = dims[d].dim->kind == CADRE_DIM_CATEGORICAL;
        track->centre[trial] = there ? tpe_scaled(&dims[d], x[d]) : choice ? -1 : 0;
        track->sd[trial] = track->inverse[trial] = 0;
        track->offset[trial] = there ? 0 : dims[d].uniform;
        for (int v = 0; v < dims[d].values; v++)
            track->mass[(size_t)v * (size_t)track->stride + (size_t)trial] = dims[d].uniform;
        if (there && !choice)
            insert_sorted(track, trial);
    }
    search_seen_add(&history->seen, x, history->ndims);
    return CADRE_OK;
}

int tpe_history_find(const tpe_history *history, int64_t number)
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

/* Complete before pruned; complete by value; pruned by how far they came, then by value. Equal ones stay in the order
 * in which they were told. */
static bool is_better(const tpe_history *history, int a, int b)
{
    if (history->state[a] != history->state[b])
        return history->state[a] == TPE_COMPLETE;
    if (history->state[a] == TPE_PRUNED && history->last_step[a] != history->last_step[b])
        return history->last_step[a] > history->last_step[b];
    return history->value[a] < history->value[b];
}

void tpe_history_end(tpe_history *history, int trial, const cadre_outcome *outcome)
{
    history->value[trial] = outcome->value;
    history->last_step[trial] = outcome->last_step;
    history->state[trial] = outcome->end == CADRE_ENDED_COMPLETE ? TPE_COMPLETE
                            : outcome->end == CADRE_ENDED_PRUNED ? TPE_PRUNED
                                                                 : TPE_FAILED;
    if (history->state[trial] == TPE_FAILED)
        return;
    int low = 0, high = history->ranked;
    while (low < high) {
        int middle = low + (high - low) / 2;
        if (is_better(history, trial, history->rank[middle]))
            high = middle;
        else
            low = middle + 1;
    }
    memmove(history->rank + low + 1, history->rank + low, (size_t)(history->ranked - low) * sizeof *history->rank);
    history->rank[low] = trial;
    history->ranked++;
}
