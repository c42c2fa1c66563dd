#include "base/rng.h"
#include "tuner/search/search.h"

#include <math.h>
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
