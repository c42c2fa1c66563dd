/*
 * Triangles by rows. The matrices are small (a few hundred rows), so that they stay in the cache and plain loops over
 * rows come within reach of a tuned BLAS, which would bring threads of its own into a library that forks.
 */
#include "tuner/search/gp.h"

#include <string.h>

/* Sums are kept in so many running sums: the order of additions is the program's and not the compiler's. */
enum { LANES = 16 };

GP_WIDE double gp_dot(int n, const double *a, const double *b)
{
    double sum[LANES] = {0}, rest = 0;
    int i = 0;
    for (; i + LANES <= n; i += LANES)
        for (int k = 0; k < LANES; k++)
            sum[k] += a[i + k] * b[i + k];
    for (; i < n; i++)
        rest += a[i] * b[i];
    for (int half = LANES / 2; half > 0; half /= 2)
        for (int k = 0; k < half; k++)
            sum[k] += sum[k + half];
    return sum[0] + rest;
}

bool gp_cholesky(int n, int stride, double *a)
{
    for (int i = 0; i < n; i++) {
        double *row = a + (size_t)i * (size_t)stride;
        for (int j = 0; j < i; j++) {
            const double *other = a + (size_t)j * (size_t)stride;
            row[j] = (row[j] - gp_dot(j, row, other)) / other[j];
        }
        double left = row[i] - gp_dot(i, row, row);
        if (!(left > 0) || !isfinite(left))
            return false;
        row[i] = sqrt(left);
    }
    return true;
}

/* row += sum of four others, times their factors. */
GP_WIDE static void add_four(int n, const double *a, const double *b, const double *c, const double *d,
                             const double factor[4], double *row)
{
    for (int j = 0; j < n; j++)
        row[j] += factor[0] * a[j] + factor[1] * b[j] + factor[2] * c[j] + factor[3] * d[j];
}

GP_WIDE static void add_one(int n, const double *a, double factor, double *row)
{
    for (int j = 0; j < n; j++)
        row[j] += factor * a[j];
}

/* Rows of the inverse are zero beyond the diagonal up to the next multiple of four: rows are added four at a time. */
void gp_invert(int n, int stride, const double *l, double *inverse)
{
    for (int i = 0; i < n; i++) {
        const double *factors = l + (size_t)i * (size_t)stride;
        double *row = inverse + (size_t)i * (size_t)stride;
        memset(row, 0, (size_t)stride * sizeof *row);
        int k = 0;
        for (; k + 4 <= i; k += 4) {
            const double *a = inverse + (size_t)k * (size_t)stride;
            add_four(k + 4, a, a + stride, a + 2 * stride, a + 3 * stride, factors + k, row);
        }
        for (; k < i; k++)
            add_one(k + 1, inverse + (size_t)k * (size_t)stride, factors[k], row);
        double scale = -1 / factors[i];
        for (int j = 0; j < i; j++)
            row[j] *= scale;
        row[i] = 1 / factors[i];
    }
}

void gp_square(int n, int stride, const double *inverse, double *out)
{
    for (int i = 0; i < n; i++)
        memset(out + (size_t)i * (size_t)stride, 0, (size_t)(i + 1) * sizeof *out);
    int k = 0;
    for (; k + 4 <= n; k += 4) {
        const double *a = inverse + (size_t)k * (size_t)stride, *b = a + stride, *c = b + stride, *d = c + stride;
        for (int i = 0; i < k + 4; i++)
            add_four(i + 1, a, b, c, d, (double[]){a[i], b[i], c[i], d[i]}, out + (size_t)i * (size_t)stride);
    }
    for (; k < n; k++) {
        const double *a = inverse + (size_t)k * (size_t)stride;
        for (int i = 0; i <= k; i++)
            add_one(i + 1, a, a[i], out + (size_t)i * (size_t)stride);
    }
}

void gp_multiply(int n, int stride, const double *inverse, const double *v, double *out)
{
    for (int i = 0; i < n; i++)
        out[i] = gp_dot(i + 1, inverse + (size_t)i * (size_t)stride, v);
}

void gp_multiply_transposed(int n, int stride, const double *inverse, const double *v, double *out)
{
    memset(out, 0, (size_t)n * sizeof *out);
    int k = 0;
    for (; k + 4 <= n; k += 4) {
        const double *a = inverse + (size_t)k * (size_t)stride;
        add_four(k + 4, a, a + stride, a + 2 * stride, a + 3 * stride, v + k, out);
    }
    for (; k < n; k++)
        add_one(k + 1, inverse + (size_t)k * (size_t)stride, v[k], out);
}

/* Two rows at a time, so that every vector that is read is used twice. */
GP_WIDE void gp_lengths(int n, int stride, const double *inverse, const double *v, double *out)
{
    double total[GP_BLOCK] = {0};
    for (int i = 0; i < n; i += 2) {
        const double *row = inverse + (size_t)i * (size_t)stride, *next = i + 1 < n ? row + stride : row;
        double a[GP_BLOCK] = {0}, b[GP_BLOCK] = {0};
        for (int j = 0; j <= i; j++)
            for (int k = 0; k < GP_BLOCK; k++) {
                a[k] += row[j] * v[j * GP_BLOCK + k];
                b[k] += next[j] * v[j * GP_BLOCK + k];
            }
        for (int k = 0; k < GP_BLOCK; k++) {
            total[k] += a[k] * a[k];
            if (i + 1 < n) {
                double last = b[k] + next[i + 1] * v[(i + 1) * GP_BLOCK + k];
                total[k] += last * last;
            }
        }
    }
    memcpy(out, total, sizeof total);
}
