/* Cores and GPUs that trials take and give back; parts of one count. Bookkeeping only, but GPUs are given by number. */
#ifndef TUNER_SLOTS_H
#define TUNER_SLOTS_H

#include <stdbool.h>

enum { SLOTS_MAX_GPUS = 64 };

typedef struct tuner_slots {
    double cores;                    /* free ones */
    int gpu_count;
    double gpu_free[SLOTS_MAX_GPUS]; /* share of each that is free */
} tuner_slots;

/** What one trial holds. */
typedef struct tuner_share {
    double cores;
    double gpus;               /* of each device below: 1, or a part of a single one */
    int gpu[SLOTS_MAX_GPUS], gpu_count;
} tuner_share;

void slots_init(tuner_slots *slots, double cores, int gpus);
/** Take so much, if it is free now. A part of a GPU is taken from the fullest that has room, so that whole ones stay free. */
bool slots_take(tuner_slots *slots, double cores, double gpus, tuner_share *share);
void slots_give_back(tuner_slots *slots, const tuner_share *share);

#endif
