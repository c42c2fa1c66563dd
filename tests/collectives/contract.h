/*
 * What every collectives backend has to fulfil. A backend's own test is a table of cmocka tests, each of which runs
 * these as the ranks of some world; see test_shm.c.
 */
#ifndef TEST_CONTRACT_H
#define TEST_CONTRACT_H

#include "ranks.h"

#include <stdbool.h>

/* How a backend differs from one that reduces host memory bit for bit: set before the ranks are started. */
extern struct contract_traits {
    /* Memory of cadre_comm_alloc is not the host's (so that all ranks must use it, or none): copy to and from it. */
    void (*copy)(void *to, const void *from, size_t nbytes);
    void (*hurry)(cadre_comm *comm, double timeout_s); /* change a communicator's timeout; NULL: the front's is all */
    bool within_rounding;                              /* reductions there are taken in another order */
    bool another_order; /* wherever the memory is; but the same on every rank and every time */
    bool sample;        /* every other type and size will do */
} contract_traits;

/* All that works: every operation, type, size and placement, compared bit for bit with a scalar reference. */
void contract_results(const cadre_oob *oob, const char *backend);
/* All that fails: arguments, a missing rank, disagreement, abort, the broken state after them. */
void contract_failures(const cadre_oob *oob, const char *backend);

#endif
