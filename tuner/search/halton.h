/*
 * Halton's sequence, scrambled: coordinate d is the number of the point written backwards behind the point, in the base
 * of the d-th prime: of the first b^k points every interval [i / b^k, (i + 1) / b^k) holds exactly one.
 *
 * Halton, "On the efficiency of certain quasi-random sequences of points in evaluating multi-dimensional integrals",
 * Numer. Math. 2 (1960). As it is, coordinates of large bases go in step with one another (the first fifty points of
 * bases 47 and 53 lie on a line), so each digit is permuted at random, by a permutation that depends on the digits
 * before it (Owen's scrambling, as in sobol.h, in base b; Owen, "A randomized Halton algorithm in R", arXiv 1706.02808,
 * has one permutation for all digits of a place).
 */
#ifndef TUNER_SEARCH_HALTON_H
#define TUNER_SEARCH_HALTON_H

#include <stdint.h>

typedef struct halton {
    int ndims;
    uint64_t seed;
    uint32_t *base;    /* the first primes */
    uint32_t *shuffle; /* room for a permutation of the largest */
} halton;

/** For points of `ndims` coordinates. CADRE_ENOMEM; nothing is left behind then. */
int halton_init(halton *sequence, int ndims, uint64_t seed);
void halton_free(halton *sequence);

/** Coordinate `dim` of the i-th point without scrambling. */
double halton_plain(const halton *sequence, int dim, uint64_t i);

/** The i-th scrambled point into u[ndims], each in (0, 1). One thread at a time. */
void halton_point(halton *sequence, uint64_t i, double *u);

#endif
