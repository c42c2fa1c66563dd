/* Eigenvectors of a symmetric matrix: small enough that a BLAS, whose threads would forbid forking, is not worth it. */
#ifndef TUNER_SEARCH_EIGEN_H
#define TUNER_SEARCH_EIGEN_H

#include <stdbool.h>

/**
 * a[n * n], symmetric, of which the lower triangle is read, becomes its eigenvectors: row k is the one of value[k] (in
 * no order). `spare` is room for 3 n numbers. False when a number is not finite or it does not converge; then `a` holds
 * nothing of use.
 */
bool eigen_symmetric(int n, double *a, double *value, double *spare);

#endif
