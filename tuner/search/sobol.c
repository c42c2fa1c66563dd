#include "tuner/search/sobol.h"

#include "base/error.h"
#include "base/mem.h"
#include "base/rng.h"

#include <stdlib.h>

/* The directions of one dimension: from the initial numbers by the polynomial's recurrence (Joe and Kuo, section 2). */
static const uint16_t *directions(const uint16_t *row, uint32_t *v)
{
    uint32_t polynomial = *row++;
    int degree = 0;
    while (polynomial >> (degree + 1))
        degree++;
    for (int k = 0; k < SOBOL_BITS; k++) {
        if (k < degree) {
            v[k] = (uint32_t)row[k] << (SOBOL_BITS - 1 - k);
            continue;
        }
        v[k] = v[k - degree] ^ v[k - degree] >> degree;
        for (int j = 1; j < degree; j++)
            if (polynomial >> (degree - j) & 1)
                v[k] ^= v[k - j];
    }
    return row + degree;
}

int sobol_init(sobol *sequence, int ndims, uint64_t seed)
{
    int rows = ndims < 1 ? 1 : ndims < SOBOL_DIMS ? ndims : SOBOL_DIMS;
    uint32_t *v = base_calloc((size_t)rows * SOBOL_BITS, sizeof *v);
    if (!v)
        return CADRE_ENOMEM;
    for (int k = 0; k < SOBOL_BITS; k++)
        v[k] = 1U << (SOBOL_BITS - 1 - k);
    const uint16_t *row = sobol_table;
    for (int d = 1; d < rows; d++)
        row = directions(row, v + (size_t)d * SOBOL_BITS);
    *sequence = (sobol){ndims, seed, v};
    return CADRE_OK;
}

void sobol_free(sobol *sequence)
{
    free(sequence->direction);
    sequence->direction = NULL;
}

uint32_t sobol_plain(const sobol *sequence, int dim, uint32_t i)
{
    const uint32_t *v = sequence->direction + (size_t)dim * SOBOL_BITS;
    uint32_t x = 0;
    for (; i; i >>= 1, v++)
        x ^= i & 1 ? *v : 0;
    return x;
}

static uint32_t reversed(uint32_t x)
{
    x = x >> 16 | x << 16;
    x = (x & 0x00ff00ff) << 8 | (x >> 8 & 0x00ff00ff);
    x = (x & 0x0f0f0f0f) << 4 | (x >> 4 & 0x0f0f0f0f);
    x = (x & 0x33333333) << 2 | (x >> 2 & 0x33333333);
    return (x & 0x55555555) << 1 | (x >> 1 & 0x55555555);
}

/*
 * Owen's scrambling of all 32 digits at once. Additions, and multiplications by odd or by x times even, carry upward
 * only: a bit is changed by lower ones alone, which in the reversed word are the digits before it. The constants are
 * those that N. Vegdahl found to mix better than the papers' ("Building a Better LK Hash", 2021).
 */
static uint32_t scrambled(uint32_t x, uint32_t seed)
{
    x = reversed(x);
    x ^= x * 0x3d20adeaU;
    x += seed;
    x *= seed >> 16 | 1;
    x ^= x * 0x05526c56U;
    x ^= x * 0x53a22864U;
    return reversed(x);
}

void sobol_point(const sobol *sequence, uint64_t i, double *u)
{
    uint32_t index = (uint32_t)i;
    for (int d = 0; d < sequence->ndims; d++) {
        uint64_t key = base_rng_mix(sequence->seed, (uint64_t)d);
        if (d >= SOBOL_DIMS && d % SOBOL_DIMS == 0)
            index = scrambled((uint32_t)i, (uint32_t)(key >> 32));
        uint32_t x = scrambled(sobol_plain(sequence, d % SOBOL_DIMS, index), (uint32_t)key);
        u[d] = (x + 0.5) * 0x1p-32;
    }
}
