#include "slots.h"

#include <math.h>

static const double SLACK = 1e-9; /* thirds do not add up to one */

void slots_init(tuner_slots *slots, double cores, int gpus)
{
    *slots = (tuner_slots){.cores = cores, .gpu_count = gpus < SLOTS_MAX_GPUS ? gpus : SLOTS_MAX_GPUS};
    for (int i = 0; i < slots->gpu_count; i++)
        slots->gpu_free[i] = 1;
}

static bool take_part(tuner_slots *slots, double part, tuner_share *share)
{
    int best = -1;
    for (int i = 0; i < slots->gpu_count; i++)
        if (slots->gpu_free[i] + SLACK >= part && (best < 0 || slots->gpu_free[i] < slots->gpu_free[best]))
            best = i;
    if (best < 0)
        return false;
    share->gpu[0] = best;
    share->gpu_count = 1;
    return true;
}

static bool take_whole(const tuner_slots *slots, int count, tuner_share *share)
{
    for (int i = 0; i < slots->gpu_count && share->gpu_count < count; i++)
        if (slots->gpu_free[i] + SLACK >= 1)
            share->gpu[share->gpu_count++] = i;
    return share->gpu_count == count;
}

bool slots_take(tuner_slots *slots, double cores, double gpus, tuner_share *share)
{
    tuner_share own = {.cores = cores, .gpus = gpus < 1 ? gpus : 1};
    if (slots->cores + SLACK < cores)
        return false;
    if (gpus > 0 && !(gpus < 1 ? take_part(slots, gpus, &own) : take_whole(slots, (int)ceil(gpus - SLACK), &own)))
        return false;
    slots->cores -= cores;
    for (int i = 0; i < own.gpu_count; i++)
        slots->gpu_free[own.gpu[i]] -= own.gpus;
    *share = own;
    return true;
}

void slots_give_back(tuner_slots *slots, const tuner_share *share)
{
    slots->cores += share->cores;
    for (int i = 0; i < share->gpu_count; i++)
        slots->gpu_free[share->gpu[i]] += share->gpus;
}
