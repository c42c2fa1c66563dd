/*
 * Golub and Van Loan, "Matrix Computations", 4th edition: Householder tridiagonalisation (8.3.1), then QR steps with
 * implicit Wilkinson shifts (8.3.5). Vectors are kept as rows, so that every rotation works on two rows that lie in
 * memory as they are used.
 */
#include "tuner/search/eigen.h"

#include <float.h>
#include <math.h>

/* The reflection that takes a[k+1..n-1][k] to a multiple of the first unit vector: I - beta v v', v in place of the
 * column. */
static double reflect_column(int n, double *a, int k, double *off)
{
    double squares = 0, first = a[(k + 1) * n + k];
    for (int i = k + 2; i < n; i++)
        squares += a[i * n + k] * a[i * n + k];
    *off = first;
    if (squares == 0)
        return 0;
    double norm = sqrt(first * first + squares);
    *off = first > 0 ? -norm : norm;
    a[(k + 1) * n + k] = first - *off;
    return 2 / (squares + (first - *off) * (first - *off));
}

/* Both sides of the lower right block are reflected: A - v w' - w v'. */
static void reflect_block(int n, double *a, int k, double beta, double *w)
{
    for (int i = k + 1; i < n; i++) {
        double sum = 0;
        for (int j = k + 1; j < n; j++)
            sum += (j <= i ? a[i * n + j] : a[j * n + i]) * a[j * n + k];
        w[i] = beta * sum;
    }
    double along = 0;
    for (int i = k + 1; i < n; i++)
        along += w[i] * a[i * n + k];
    for (int i = k + 1; i < n; i++)
        w[i] -= beta * along / 2 * a[i * n + k];
    for (int i = k + 1; i < n; i++)
        for (int j = k + 1; j <= i; j++)
            a[i * n + j] -= a[i * n + k] * w[j] + w[i] * a[j * n + k];
}

/* Q', the transposed product of all reflections, in place of their vectors, which stand below the diagonal: from the
 * last one back, Q' (I - beta v v') row by row. */
static void gather(int n, double *a, const double *beta, double *v)
{
    a[(n - 1) * n + n - 1] = 1;
    for (int k = n - 2; k >= 0; k--) {
        for (int i = k + 1; i < n; i++) {
            v[i] = a[i * n + k];
            a[i * n + k] = a[k * n + i] = 0;
        }
        a[k * n + k] = 1;
        for (int row = k + 1; row < n && beta[k] > 0; row++) {
            double sum = 0;
            for (int j = k + 1; j < n; j++)
                sum += a[row * n + j] * v[j];
            for (int j = k + 1; j < n; j++)
                a[row * n + j] -= beta[k] * sum * v[j];
        }
    }
}

static void rotate_rows(int n, double *one, double *two, double c, double s)
{
    for (int j = 0; j < n; j++) {
        double x = one[j], y = two[j];
        one[j] = c * x + s * y;
        two[j] = c * y - s * x;
    }
}

/* One QR step on d[low..high], the bulge chased down. */
static void step(int n, double *a, double *d, double *e, int low, int high)
{
    double half = (d[high - 1] - d[high]) / 2, last = e[high - 1];
    double x = d[low] - (d[high] - last * last / (half + copysign(hypot(half, last), half))), z = e[low];
    for (int k = low; k < high; k++) {
        double r = hypot(x, z), c = r > 0 ? x / r : 1, s = r > 0 ? z / r : 0;
        if (k > low)
            e[k - 1] = r;
        double p = d[k], q = e[k], t = d[k + 1];
        d[k] = c * c * p + 2 * c * s * q + s * s * t;
        d[k + 1] = s * s * p - 2 * c * s * q + c * c * t;
        e[k] = c * s * (t - p) + (c * c - s * s) * q;
        if (k + 1 < high) {
            x = e[k];
            z = s * e[k + 1];
            e[k + 1] *= c;
        }
        rotate_rows(n, a + k * n, a + (k + 1) * n, c, s);
    }
}

static bool small(double e, double d1, double d2)
{
    return fabs(e) <= DBL_EPSILON / 2 * (fabs(d1) + fabs(d2)) || fabs(e) < DBL_MIN;
}

bool eigen_symmetric(int n, double *a, double *value, double *spare)
{
    double *off = spare, *w = spare + n, *beta = spare + 2 * n;
    for (int i = 0; i < n; i++)
        for (int j = 0; j <= i; j++)
            if (!isfinite(a[i * n + j]))
                return false;
    for (int k = 0; k < n; k++) {
        value[k] = a[k * n + k];
        beta[k] = k + 1 < n ? reflect_column(n, a, k, &off[k]) : 0;
        if (beta[k] > 0)
            reflect_block(n, a, k, beta[k], w);
    }
    if (n > 0)
        gather(n, a, beta, w);
    int left = 60 * n;
    for (int high = n - 1; high > 0;) {
        if (small(off[high - 1], value[high - 1], value[high])) {
            high--;
            continue;
        }
        int low = high - 1;
        while (low > 0 && !small(off[low - 1], value[low - 1], value[low]))
            low--;
        if (left-- == 0)
            return false;
        step(n, a, value, off, low, high);
    }
    return true;
}
