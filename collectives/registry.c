/* Which backends there are. A new one is a line here. */
#include "backend.h"

static const collectives_backend *const backends[] = {&collectives_self, &collectives_nccl, &collectives_shm,
                                                      &collectives_hier, &collectives_mpi,  NULL};

const collectives_backend *const *collectives_registry(void) { return backends; }

void cadre_backends(cadre_backend_fn *fn, void *user)
{
    cadre_oob two = {.size = sizeof two, .rank = 0, .world = 2};
    cadre_oob one = {.size = sizeof one, .rank = 0, .world = 1};
    for (int i = 0; backends[i]; i++) {
        collectives_place place = {.oob = backends[i] == &collectives_self ? &one : &two, .asked_by_name = true};
        char why[COLLECTIVES_WHY] = "";
        int score = backends[i]->score(&place, why);
        fn(backends[i]->name, score, why, user);
    }
}
