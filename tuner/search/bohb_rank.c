/*
 * One order for trials that came to different steps. Complete ones first, by their last value; then, from the furthest step down, those that came so far are
 * put among those that came further, by what all of them reported at that step: a trial that b of n others had beaten when it came to its step is put
 * behind b of them. So values are compared only at one step, and a rank stands for what a trial might have come to.
 *
 * How much a rank at a step says is learned from the trials that went on: r, the rank correlation (Spearman) between the values there and the places in
 * the list. The wanted place is drawn by 1 - r towards the middle, where it is neither good nor bad. Who goes on is mostly chosen by that very value, which makes r
 * look small; it is corrected for by the spread of all against the spread of those chosen (Thorndike, "Personnel Selection", 1949, case 2), and mixed with
 * R_PRIOR trials of r = 1.
 *
 * Levels are steps 1, 2, 3, ..., farther apart later, the same for all trials: a trial's value at a level is its first report from there on.
 */
#include "base/mem.h"
#include "tuner/search/bohb.h"

#include <stdlib.h>
#include <string.h>

static const double R_PRIOR = 5;

void bohb_ranks_init(bohb_ranks *ranks)
{
    *ranks = (bohb_ranks){.room = 0};
    double step = 1;
    for (int i = 0; i < BOHB_LEVELS; i++) {
        ranks->step[i] = (int64_t)fmin(step, 4e18);
        step = fmax(step + 1, floor(step * 1.2));
    }
}

void bohb_ranks_free(bohb_ranks *ranks)
{
    for (int i = 0; i < BOHB_LEVELS; i++) {
        free(ranks->level[i].trial);
        free(ranks->level[i].value);
    }
    free(ranks->trials);
    free(ranks->complete);
    free(ranks->list);
    free(ranks->merged);
    free(ranks->place);
    free(ranks->wanted);
}

#define GROW(array, room)                                                                                              \
    ((grown = base_realloc(array, (size_t)(room) * sizeof *(array))) ? ((array) = grown, true) : false)

int bohb_ranks_reserve(bohb_ranks *ranks, int room)
{
    void *grown;
    if (room <= ranks->room)
        return CADRE_OK;
    if (!GROW(ranks->trials, room) || !GROW(ranks->complete, room) || !GROW(ranks->list, room) || !GROW(ranks->merged, room) ||
        !GROW(ranks->place, room) || !GROW(ranks->wanted, room))
        return CADRE_ENOMEM;
    ranks->room = room;
    return CADRE_OK;
}

void bohb_ranks_add(bohb_ranks *ranks, int trial) { ranks->trials[trial] = (bohb_trial){.level = -1, .state = BOHB_OPEN}; }

/* Where a value goes in an order by `values[i]`, behind its equals. */
static int place_of(const double *values, int count, double value)
{
    int low = 0, high = count;
    while (low < high) {
        int middle = low + (high - low) / 2;
        if (values[middle] <= value)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static bool make_room(bohb_level *level)
{
    void *grown;
    int room = level->room ? 2 * level->room : 32;
    if (level->count < level->room)
        return true;
    if (!GROW(level->trial, room) || !GROW(level->value, room))
        return false;
    level->room = room;
    return true;
}

static void insert(bohb_level *level, int trial, double value)
{
    int at = place_of(level->value, level->count, value);
    memmove(level->trial + at + 1, level->trial + at, (size_t)(level->count - at) * sizeof *level->trial);
    memmove(level->value + at + 1, level->value + at, (size_t)(level->count - at) * sizeof *level->value);
    level->trial[at] = trial;
    level->value[at] = value;
    level->count++;
}

int bohb_ranks_report(bohb_ranks *ranks, int trial, int64_t step, double value)
{
    bohb_trial *own = &ranks->trials[trial];
    if (own->state != BOHB_OPEN || (own->level >= 0 && step <= own->step))
        return CADRE_OK; /* time goes on, or it is no time */
    value = isnan(value) ? INFINITY : value;
    int last = own->level;
    while (last + 1 < BOHB_LEVELS && (ranks->step[last + 1] <= step || last < 0)) /* steps below 1 count as 1 */
        if (!make_room(&ranks->level[++last]))
            return CADRE_ENOMEM;
    double before = own->level < 0 ? value : own->value; /* at levels that no report fell on */
    for (int k = own->level + 1; k <= last; k++)
        insert(&ranks->level[k], trial, k == last ? value : before);
    own->level = last;
    own->step = step;
    own->value = value;
    return CADRE_OK;
}

void bohb_ranks_end(bohb_ranks *ranks, int trial, const cadre_outcome *outcome)
{
    bohb_trial *own = &ranks->trials[trial];
    if (own->state != BOHB_OPEN || outcome->end == CADRE_ENDED_PRUNED)
        return;
    own->state = outcome->end == CADRE_ENDED_COMPLETE ? BOHB_COMPLETE : BOHB_FAILED;
    if (own->state == BOHB_FAILED)
        return;
    own->value = outcome->value;
    int at = ranks->complete_count++;
    for (; at > 0 && ranks->trials[ranks->complete[at - 1]].value > own->value; at--)
        ranks->complete[at] = ranks->complete[at - 1];
    ranks->complete[at] = trial;
}

/* ---- the order -------------------------------------------------------------------------------------------------- */

/* How well the values at a level foretell the places in the list, 0 to 1; `*found` of the list came there. */
static double correlation(const bohb_ranks *ranks, const bohb_level *level, int *found)
{
    double n = 0, x = 0, y = 0, xx = 0, yy = 0, xy = 0;
    for (int i = 0; i < level->count; i++) {
        int place = ranks->place[level->trial[i]];
        if (place < 0)
            continue;
        n++;
        x += i;
        y += place;
        xx += (double)i * i;
        yy += (double)place * place;
        xy += (double)i * place;
    }
    *found = (int)n;
    if (n < 2)
        return 1;
    double spread_x = (xx - x * x / n) / n, spread_y = (yy - y * y / n) / n;
    double r = spread_x > 0 && spread_y > 0 ? (xy - x * y / n) / n / sqrt(spread_x * spread_y) : 0;
    double wider = (double)level->count * level->count / 12 / fmax(spread_x, 1.0 / 12);
    if (wider > 1)
        r = r * sqrt(wider) / sqrt(1 + r * r * (wider - 1));
    return fmax((n * r + R_PRIOR) / (n + R_PRIOR), 0);
}

static bool belongs(const bohb_trial *trial, int level) { return trial->state == BOHB_OPEN && trial->level == level; }

/* Put the open trials that came to just this level into the list of `count`; its new count. */
static int merge(bohb_ranks *ranks, int number, int count)
{
    const bohb_level *level = &ranks->level[number];
    int found, beaten_by = 0, members = 0, at = 0;
    double r = correlation(ranks, level, &found), middle = count / 2.0, scale = found ? (double)count / found : 0;
    for (int i = 0; i < level->count; i++) {
        int trial = level->trial[i];
        if (ranks->place[trial] >= 0)
            beaten_by++;
        else if (belongs(&ranks->trials[trial], number))
            ranks->wanted[members++] = middle + r * (beaten_by * scale - middle);
    }
    if (!members)
        return count;
    members = 0;
    for (int i = 0; i < level->count; i++) { /* best first, so wanted places grow */
        int trial = level->trial[i];
        if (ranks->place[trial] >= 0 || !belongs(&ranks->trials[trial], number))
            continue;
        for (; at < count && at < ranks->wanted[members]; at++)
            ranks->merged[at + members] = ranks->list[at];
        ranks->merged[at + members++] = trial;
    }
    memcpy(ranks->merged + at + members, ranks->list + at, (size_t)(count - at) * sizeof *ranks->list);
    int *list = ranks->merged;
    ranks->merged = ranks->list;
    ranks->list = list;
    for (int i = 0; i < count + members; i++)
        ranks->place[list[i]] = i;
    return count + members;
}

int bohb_ranks_order(bohb_ranks *ranks, int *order)
{
    int count = ranks->complete_count;
    for (int i = 0; i < ranks->room; i++)
        ranks->place[i] = -1;
    for (int i = 0; i < count; i++) {
        ranks->list[i] = ranks->complete[i];
        ranks->place[ranks->list[i]] = i;
    }
    for (int k = BOHB_LEVELS - 1; k >= 0; k--)
        if (ranks->level[k].count)
            count = merge(ranks, k, count);
    if (count)
        memcpy(order, ranks->list, (size_t)count * sizeof *order);
    return count;
}
