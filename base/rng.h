/*
 * Random numbers that are a function of (seed, stream, counter): the same key gives the same numbers on every machine,
 * whatever was drawn elsewhere. Philox4x32-10 (Salmon, Moraes, Dror, Shaw, "Parallel Random Numbers: As Easy as 1, 2, 3",
 * SC'11, section 4.3): the key is the seed, the counter's upper half the stream.
 */
#ifndef BASE_RNG_H
#define BASE_RNG_H

#include <stdint.h>

typedef struct base_rng {
    uint64_t seed;
    uint64_t stream;
    uint64_t counter; /* blocks drawn so far */
    uint32_t block[4];
    uint32_t left; /* words of block not handed out yet */
} base_rng;

/** Start the stream `stream` of `seed`. */
void base_rng_init(base_rng *rng, uint64_t seed, uint64_t stream);

uint32_t base_rng_u32(base_rng *rng);
uint64_t base_rng_u64(base_rng *rng);

/** Uniform in [0, 1), 53 bits. */
double base_rng_uniform(base_rng *rng);

/** Uniform in [0, n), without bias; 0 for n = 0. */
uint64_t base_rng_below(base_rng *rng, uint64_t n);

/** Standard normal (Box-Muller, the cosine branch: two uniforms a number, so that a draw has a fixed place). */
double base_rng_normal(base_rng *rng);

/** Mix numbers into one stream number (for keys like epoch and index). */
uint64_t base_rng_mix(uint64_t a, uint64_t b);

#endif
