/* What benches share: a clock, the machine's load, quantiles, memory for forked processes, a folder to work in. */
#ifndef BENCH_BENCH_H
#define BENCH_BENCH_H

#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

/** Seconds by a clock that never goes back. */
static inline double bench_now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + 1e-9 * (double)time.tv_nsec;
}

/** The machine's load over the last minute; -1: nobody knows. */
static inline double bench_load(void)
{
    double load;
    return getloadavg(&load, 1) == 1 ? load : -1;
}

/** The order of doubles, for qsort. */
static inline int bench_by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/** The value below which so large a part of the values is, which keep their order; NAN: no memory. */
static inline double bench_quantile(const double *values, int count, double part)
{
    double *sorted = malloc((size_t)count * sizeof *sorted), at = part * (count - 1);
    int below = (int)at, above = below + 1 < count ? below + 1 : below;
    if (!sorted)
        return NAN;
    memcpy(sorted, values, (size_t)count * sizeof *sorted);
    qsort(sorted, (size_t)count, sizeof *sorted, bench_by_value);
    double value = sorted[below] + (at - below) * (sorted[above] - sorted[below]);
    free(sorted);
    return value;
}

static inline double bench_median(const double *values, int count) { return bench_quantile(values, count, 0.5); }

/** Zeroed memory that processes forked from now on have in common with this one; NULL after a message. */
static inline void *bench_share(size_t nbytes)
{
    void *memory = mmap(NULL, nbytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (memory != MAP_FAILED)
        return memory;
    perror("mmap");
    return NULL;
}

enum { BENCH_FOLDER = 1024 };

/** A new folder bench-NAME-XXXXXX in the directory; false after a message. */
static inline bool bench_folder_make(char folder[BENCH_FOLDER], const char *directory, const char *name)
{
    snprintf(folder, BENCH_FOLDER, "%s/bench-%s-XXXXXX", directory, name);
    if (mkdtemp(folder))
        return true;
    perror(folder);
    return false;
}

/** It and all that is in it; false after a message: it is left behind. */
static inline bool bench_folder_remove(const char *folder)
{
    char command[BENCH_FOLDER + 100];
    snprintf(command, sizeof command, "rm -rf '%s'", folder);
    if (system(command) == 0)
        return true;
    fprintf(stderr, "%s is left behind\n", folder);
    return false;
}

#endif
