#include "tuner/search/halton.h"

#include "base/error.h"
#include "base/mem.h"
#include "base/rng.h"

#include <stdbool.h>
#include <stdlib.h>

static void first_primes(uint32_t *prime, int count)
{
    int found = 0;
    for (uint32_t n = 2; found < count; n++) {
        bool divides = false;
        for (int k = 0; k < found && prime[k] * prime[k] <= n && !divides; k++)
            divides = n % prime[k] == 0;
        if (!divides)
            prime[found++] = n;
    }
}

int halton_init(halton *sequence, int ndims, uint64_t seed)
{
    size_t count = ndims < 1 ? 1 : (size_t)ndims;
    uint32_t *base = base_calloc(count, sizeof *base), *shuffle = NULL;
    if (base) {
        first_primes(base, (int)count);
        shuffle = base_calloc(base[count - 1], sizeof *shuffle);
    }
    if (!shuffle) {
        free(base);
        return CADRE_ENOMEM;
    }
    *sequence = (halton){ndims, seed, base, shuffle};
    return CADRE_OK;
}

void halton_free(halton *sequence)
{
    free(sequence->base);
    free(sequence->shuffle);
    sequence->base = sequence->shuffle = NULL;
}

double halton_plain(const halton *sequence, int dim, uint64_t i)
{
    double x = 0, share = 1, base = sequence->base[dim];
    for (; i; i /= sequence->base[dim])
        x += (share /= base) * (double)(i % sequence->base[dim]);
    return x;
}

/* Where the permutation that belongs to `key` takes a digit. Fisher and Yates from the front: the image of a digit is
 * known after as many draws, and most digits are 0. */
static uint32_t permuted(halton *sequence, uint32_t digit, uint32_t base, uint64_t key)
{
    base_rng rng;
    base_rng_init(&rng, sequence->seed, key);
    if (digit == 0)
        return (uint32_t)base_rng_below(&rng, base);
    uint32_t *image = sequence->shuffle;
    for (uint32_t k = 0; k < base; k++)
        image[k] = k;
    for (uint32_t k = 0; k <= digit; k++) {
        uint32_t other = k + (uint32_t)base_rng_below(&rng, base - k), kept = image[k];
        image[k] = image[other];
        image[other] = kept;
    }
    return image[digit];
}

void halton_point(halton *sequence, uint64_t i, double *u)
{
    for (int d = 0; d < sequence->ndims; d++) {
        uint32_t base = sequence->base[d];
        uint64_t key = base_rng_mix(0, (uint64_t)d), rest = i;
        double x = 0, share = 1;
        while (share > 0x1p-32) {
            uint32_t digit = (uint32_t)(rest % base);
            share /= base;
            x += share * permuted(sequence, digit, base, key);
            key = base_rng_mix(key, digit + 1);
            rest /= base;
        }
        u[d] = x + share / 2;
    }
}
