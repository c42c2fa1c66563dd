/*
 * Sobol's sequence, scrambled: points that fill the unit cube evenly. Of the first 2^k points of each coordinate every
 * interval [i / 2^k, (i + 1) / 2^k) holds exactly one, and in several coordinates together they form a digital (t, m,
 * s)-net.
 *
 * Sobol, "On the distribution of points in a cube and the approximate evaluation of integrals", USSR Comp. Math. 7
 * (1967); direction numbers of Joe and Kuo (sobol_table.c). Scrambled after Owen, "Randomly Permuted (t,m,s)-Nets and
 * (t,s)-Sequences", 1995: each binary digit is flipped or not as the digits before it say. The flips come from a hash
 * (Laine and Karras, "Stratified Sampling for Stochastic Transparency", 2011; Burley, "Practical Hash-based Owen
 * Scrambling", JCGT 9(4), 2020).
 */
#ifndef TUNER_SEARCH_SOBOL_H
#define TUNER_SEARCH_SOBOL_H

#include <stdint.h>

enum {
    SOBOL_DIMS =
        1024, /* of the table; what is beyond uses them again, with the points in another order (Burley, section 4) */
    SOBOL_BITS = 32,
};

typedef struct sobol {
    int ndims;
    uint64_t seed;
    uint32_t *direction; /* [dimension of the table][bit] */
} sobol;

/** For points of `ndims` coordinates. CADRE_ENOMEM; nothing is left behind then. */
int sobol_init(sobol *sequence, int ndims, uint64_t seed);
void sobol_free(sobol *sequence);

/** Coordinate `dim`, below SOBOL_DIMS, of the i-th point as it is without scrambling, as a multiple of 2^-32. */
uint32_t sobol_plain(const sobol *sequence, int dim, uint32_t i);

/** The i-th scrambled point into u[ndims], each in (0, 1). After 2^32 points they come again. Any thread, any order. */
void sobol_point(const sobol *sequence, uint64_t i, double *u);

extern const uint16_t sobol_table[];

#endif
