/* The numbers each rank brings, and the scalar, tree-ordered result there has to be. */
#ifndef TEST_REFERENCE_H
#define TEST_REFERENCE_H

#include "cadre/collectives.h"

#include <stdbool.h>

/* Fill `count` elements with what rank `rank` has at positions from `first` on. */
void reference_input(void *data, int rank, size_t first, size_t count, cadre_dtype dtype);
/* Fill with the reduction over `world` ranks of those. */
void reference_reduced(void *data, int world, size_t first, size_t count, cadre_dtype dtype, cadre_op op);
/* Is it the same but for rounding? Inputs are below 2048 in size; a NaN may be lost in a minimum or maximum. */
bool reference_close(const void *got, const void *wanted, size_t count, cadre_dtype dtype, cadre_op op);

#endif
