/*
 * Every point is tried several times and the searcher is told once, the mean: for objectives with noise. A group goes
 * on inside under the number of its first trial.
 */
#include "base/mem.h"
#include "tuner/search/search.h"

#include <stdlib.h>
#include <string.h>

typedef struct group {
    int64_t number;
    int asked, told, complete, pruned;
    double complete_sum, pruned_sum;
    int64_t last_step; /* the furthest of the pruned ones */
} group;

typedef struct member {
    int64_t number;
    int group;
} member;

typedef struct repeater {
    search_layer inner;
    size_t ndims;
    int repeats;
    int groups, group_room;
    group *group;
    int members, member_room; /* in the order of their numbers */
    member *member;
    double *x; /* of the newest group */
} repeater;

static int make_room(repeater *repeat)
{
    if (repeat->groups == repeat->group_room) {
        int room = repeat->group_room ? 2 * repeat->group_room : 16;
        group *groups = base_realloc(repeat->group, (size_t)room * sizeof *groups);
        if (!groups)
            return CADRE_ENOMEM;
        repeat->group = groups;
        repeat->group_room = room;
    }
    if (repeat->members == repeat->member_room) {
        int room = repeat->member_room ? 2 * repeat->member_room : 16;
        member *members = base_realloc(repeat->member, (size_t)room * sizeof *members);
        if (!members)
            return CADRE_ENOMEM;
        repeat->member = members;
        repeat->member_room = room;
    }
    return CADRE_OK;
}

static int repeat_ask(void *self, int64_t number, double *x)
{
    repeater *repeat = self;
    int status = make_room(repeat);
    if (status)
        return status;
    if (!repeat->groups || repeat->group[repeat->groups - 1].asked == repeat->repeats) {
        status = repeat->inner.table->ask(repeat->inner.self, number, x);
        if (status)
            return status;
        memcpy(repeat->x, x, repeat->ndims * sizeof *x);
        repeat->group[repeat->groups++] = (group){.number = number};
    }
    repeat->group[repeat->groups - 1].asked++;
    repeat->member[repeat->members++] = (member){number, repeat->groups - 1};
    memcpy(x, repeat->x, repeat->ndims * sizeof *x);
    return CADRE_OK;
}

static group *group_of(repeater *repeat, int64_t number)
{
    for (int low = 0, high = repeat->members; low < high;) {
        int middle = low + (high - low) / 2;
        if (repeat->member[middle].number == number)
            return &repeat->group[repeat->member[middle].group];
        if (repeat->member[middle].number < number)
            low = middle + 1;
        else
            high = middle;
    }
    return NULL;
}

static int repeat_tell(void *self, int64_t number, const double *x, const cadre_outcome *outcome)
{
    repeater *repeat = self;
    group *found = group_of(repeat, number);
    if (!found) /* a result from elsewhere */
        return repeat->inner.table->tell(repeat->inner.self, number, x, outcome);
    group after = *found;
    after.told++;
    if (outcome->end == CADRE_ENDED_COMPLETE) {
        after.complete++;
        after.complete_sum += outcome->value;
    } else if (outcome->end == CADRE_ENDED_PRUNED) {
        after.last_step = !after.pruned || outcome->last_step > after.last_step ? outcome->last_step : after.last_step;
        after.pruned++;
        after.pruned_sum += outcome->value;
    }
    int status = CADRE_OK;
    if (after.told == repeat->repeats) {
        cadre_outcome mean = {.end = CADRE_ENDED_FAILED, .value = NAN};
        if (after.complete)
            mean = (cadre_outcome){CADRE_ENDED_COMPLETE, after.complete_sum / after.complete, 0};
        else if (after.pruned)
            mean = (cadre_outcome){CADRE_ENDED_PRUNED, after.pruned_sum / after.pruned, after.last_step};
        status = repeat->inner.table->tell(repeat->inner.self, after.number, x, &mean);
    }
    if (!status)
        *found = after;
    return status;
}

static int repeat_running(void *self, int64_t number, const double *x)
{
    repeater *repeat = self;
    return repeat->inner.table->running ? repeat->inner.table->running(repeat->inner.self, number, x) : CADRE_OK;
}

static void repeat_free(void *self)
{
    repeater *repeat = self;
    repeat->inner.table->free(repeat->inner.self);
    free(repeat->group);
    free(repeat->member);
    free(repeat->x);
    free(repeat);
}

static const cadre_searcher_table table = {
    .abi = CADRE_SEARCHER_ABI,
    .size = sizeof(cadre_searcher_table),
    .name = "repeat",
    .ask = repeat_ask,
    .tell = repeat_tell,
    .running = repeat_running,
    .free = repeat_free,
};

int search_repeat_new(search_layer inner, int ndims, int repeats, search_layer *out)
{
    repeater *repeat = base_calloc(1, sizeof *repeat);
    double *x = base_malloc((size_t)ndims * sizeof *x);
    if (!repeat || !x) {
        free(repeat);
        free(x);
        return CADRE_ENOMEM;
    }
    repeat->inner = inner;
    repeat->ndims = (size_t)ndims;
    repeat->repeats = repeats;
    repeat->x = x;
    *out = (search_layer){&table, repeat};
    return CADRE_OK;
}
