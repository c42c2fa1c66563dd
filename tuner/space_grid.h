/* Walking combinations of a space like an odometer, conditions included. */
#ifndef TUNER_SPACE_GRID_H
#define TUNER_SPACE_GRID_H

#include "tuner/space.h"

/* Which dimensions are walked and how: `points` values each, 0 for a dimension that is not walked. */
typedef struct tuner_grid {
    const cadre_space *space;
    int *points;
    int *digit; /* the combination it stands at; -1 where a dimension is not there */
    double *x;  /* its values; NaN for what is not there or not walked */
} tuner_grid;

/** Walk the grid dimensions only, or (all) every dimension, continuous ones at `resolution` points. CADRE_EINVAL names
 * a continuous dimension when that is 0. */
int tuner_grid_new(const cadre_space *space, bool all, int resolution, tuner_grid *out);
void tuner_grid_free(tuner_grid *grid);
/** To the first combination. */
void tuner_grid_first(tuner_grid *grid);
/** To the next; false behind the last. */
bool tuner_grid_next(tuner_grid *grid);
/** The number of combinations; CADRE_EINVAL when there are more than `limit`. Leaves the grid at its first. */
int tuner_grid_count(tuner_grid *grid, int64_t limit, int64_t *out);

#endif
