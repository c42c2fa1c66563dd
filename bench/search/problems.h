/*
 * The problems of the search bench: closed functions, and tables of real trainings. Everything is minimised; a regret
 * is the best value so far less the known optimum.
 *
 * They stand alone, without any searcher's words for a space, so that the Python side of the bench loads this very code
 * (problems as a shared library, through ctypes) and both sides minimise the same numbers.
 */
#ifndef BENCH_PROBLEMS_H
#define BENCH_PROBLEMS_H

#define BENCH_MAX_DIMS 12

typedef struct bench_dim {
    const char *name;
    char kind; /* 'f' float, 'i' int, 'c' one of `choices` */
    double low, high;
    double step;         /* 0: none */
    int log;             /* 1: on a logarithmic scale */
    const char *choices; /* "a,b,c" for 'c' */
    int parent;          /* there only when dimension parent-1 has ... ; 0: always there */
    int parent_value;    /* ... this choice */
} bench_dim;

typedef struct bench_problem {
    const char *name;
    int ndims;
    bench_dim dims[BENCH_MAX_DIMS];
    double optimum;
    double (*value)(const struct bench_problem *problem, const double *x);
    float *table; /* of a table problem, owned */
    double best, median;
} bench_problem;

/** Read the tables below `data` (NULL: functions only). The number of problems there are now, or -1 when a table does
 * not read. */
int bench_problems_load(const char *data);
int bench_problem_count(void);
/** The i-th problem, borrowed; NULL beyond the last. */
const bench_problem *bench_problem_at(int i);
/** The value at x: a number for each dimension, an index for a choice, anything for one that is not there. Thread-safe.
 */
double bench_problem_value(int i, const double *x);

/* For ctypes, which would rather not know the struct: one field each. */
const char *bench_problem_name(int i);
int bench_problem_ndims(int i);
double bench_problem_optimum(int i);
const bench_dim *bench_problem_dim(int i, int dim);

#endif
