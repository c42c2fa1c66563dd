/* Gloo by way of PyTorch, as one more way to all-reduce: each rank has a Python process of its own, idle between
 * operations. */
#ifndef BENCH_GLOO_H
#define BENCH_GLOO_H

#include "cadre/collectives.h"

#include <stdbool.h>

/** Start it on all ranks. false: not there, which rank 0 says. `script` is gloo_rank.py. Collective. */
bool gloo_start(const cadre_oob *oob, const char *script);
/** One all-reduce of `count` float32; the seconds it took on this rank. Negative: it is gone. */
double gloo_all_reduce(size_t count);
void gloo_stop(void);

#endif
