/* The points that a searcher has been to, a set of their hashes. */
#include "base/mem.h"
#include "base/rng.h"
#include "tuner/search/search.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

uint64_t search_hash_point(const double *x, int ndims)
{
    uint64_t hash = 1;
    for (int d = 0; d < ndims; d++) {
        uint64_t bits = 0x7ff8000000000000u; /* one NaN for all */
        double value = x[d] + 0.0;           /* and one zero */
        if (!isnan(value))
            memcpy(&bits, &value, sizeof bits);
        hash = base_rng_mix(hash, bits);
    }
    return hash ? hash : 1;
}

/* Where the hash is or would be. */
static uint64_t *place(const search_seen *seen, uint64_t hash)
{
    uint64_t mask = (uint64_t)seen->room - 1, at = hash & mask;
    while (seen->hash[at] && seen->hash[at] != hash)
        at = (at + 1) & mask;
    return &seen->hash[at];
}

int search_seen_grow(search_seen *seen, int points)
{
    int room = seen->room ? seen->room : 128;
    while (room < 2 * points)
        room *= 2;
    if (room == seen->room)
        return CADRE_OK;
    search_seen larger = {.hash = base_calloc((size_t)room, sizeof *larger.hash), .room = room};
    if (!larger.hash)
        return CADRE_ENOMEM;
    for (int i = 0; i < seen->room; i++)
        if (seen->hash[i])
            *place(&larger, seen->hash[i]) = seen->hash[i];
    free(seen->hash);
    *seen = larger;
    return CADRE_OK;
}

void search_seen_add(search_seen *seen, const double *x, int ndims)
{
    uint64_t hash = search_hash_point(x, ndims);
    *place(seen, hash) = hash;
}

bool search_seen_has(const search_seen *seen, const double *x, int ndims)
{
    uint64_t hash = search_hash_point(x, ndims);
    return seen->room && *place(seen, hash) == hash;
}
