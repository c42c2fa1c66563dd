/*
 * Gaussian-process search from inside: gp.c is the searcher, gp_history.c the trials it knows, gp_warp.c makes targets
 * of their values, gp_space.c columns of numbers of their points; gp_kernel.c, gp_algebra.c and gp_model.c are the
 * process, gp_fit.c finds its hyperparameters with gp_minimise.c, gp_acquisition.c says what a point promises, and
 * gp_search.c looks for the one that promises most.
 */
#ifndef TUNER_SEARCH_GP_H
#define TUNER_SEARCH_GP_H

#include "base/rng.h"
#include "tuner/search/search.h"
#include "tuner/search/sobol.h"
#include "tuner/space.h"

enum {
    GP_BLOCK = 16, /* points that are predicted at once */
    GP_MEMORY = 8, /* pairs that L-BFGS remembers */
    GP_ALIGN = 8,  /* rows of matrices begin at multiples of so many numbers */
    GP_FIT_STARTS = 2,
};

/* When an expected improvement is less than this share of what the first trials were spread over, every other
 * suggestion is one for which deviations are taken so many times as wide: what is left to be gained near the best is
 * not worth all trials. */
#define GP_LITTLE 1e-3
#define GP_WIDEN  4

/* Vector code for processors that have it, chosen when the library is loaded. (Clang's clones cannot be called from
 * another file. What chooses runs before the thread sanitizer is there.) */
#if defined(__x86_64__) && defined(__gnu_linux__) && !defined(__clang__) && !defined(__SANITIZE_THREAD__)
#define GP_WIDE __attribute__((target_clones("avx512f", "avx2", "default")))
#else
#define GP_WIDE
#endif

/* ---- space ------------------------------------------------------------------------------------------------------ */

/*
 * A dimension as the kernel sees it. A number is its share u of the range, [0, 1], logarithms taken; a choice its
 * index, equal or not. A dimension that is there under conditions only: a number lies on an arc of one radian around
 * the origin, (cos u, sin u), and at the origin itself when it is not there, so that "not there" is as far from every
 * value as the range is wide (the embedding of Hutter and Osborne, arXiv 1310.5738); a choice that is not there is one
 * more value, -1.
 */
typedef struct gp_axis {
    int dim;     /* of the space */
    int column;  /* its first */
    int columns; /* 1, or 2 for a number under conditions */
    int powers;  /* of a number that is always there: two columns that gp_kernel_prepare fills; else 0 */
    bool choice;
    bool continuous; /* a number without steps */
    double steps;    /* values of a stepped number */
} gp_axis;

typedef struct gp_space {
    const cadre_space *space;
    int axes, columns; /* dimensions of one value only are none */
    gp_axis *axis;
    sobol even;
} gp_space;

/* Points in columns: [column * stride + point]. */
typedef struct gp_points {
    int count, stride;
    double *at;
} gp_points;

int gp_space_init(gp_space *space, const cadre_space *of, uint64_t seed);
void gp_space_free(gp_space *space);
/** The columns of a point x of the space to out[column * stride]. */
void gp_encode(const gp_space *space, const double *x, double *out, int stride);
/** The columns of one number that is there. */
void gp_encode_unit(const gp_axis *axis, double u, double *out, int stride);
/** The u of a number, [0, 1]; NaN when it is not there. */
double gp_unit(const gp_space *space, const gp_axis *axis, const double *x);
/** Make x a point after some of its values have been set: what is not there becomes NaN, and what is newly there takes
 * its value from `like` (a point, or NULL) or else a draw. */
void gp_settle(const gp_space *space, const double *like, base_rng *rng, double *x);
/** The i-th point of a scrambled Sobol sequence, which fills the space evenly. */
void gp_even_point(const gp_space *space, uint64_t i, double *x);

/* ---- history ---------------------------------------------------------------------------------------------------- */

typedef enum gp_state { GP_RUNNING, GP_COMPLETE, GP_PRUNED, GP_FAILED } gp_state;

typedef struct gp_history {
    int ndims, count, room; /* trials, in the order of their numbers */
    int64_t *number;
    unsigned char *state;
    double *value;
    double *x; /* [trial * ndims + dim] */
    int told;  /* complete and pruned ones */
    int running;
    search_seen seen;
} gp_history;

void gp_history_free(gp_history *history);
/** Room for one more trial. CADRE_ENOMEM leaves all as it was. */
int gp_history_reserve(gp_history *history);
/** A new trial at x, running. CADRE_ENOMEM leaves all as it was. */
int gp_history_add(gp_history *history, int64_t number, const double *x);
/** The index of a trial, or -1. */
int gp_history_find(const gp_history *history, int64_t number);
void gp_history_end(gp_history *history, int trial, const cadre_outcome *outcome);
/** Whether some trial was or is at x. */
bool gp_history_seen(const gp_history *history, const double *x);

/* ---- targets ---------------------------------------------------------------------------------------------------- */

/* What happens to values before they are modelled: see gp_warp.c. */
typedef enum gp_warp_kind { GP_WARP_LINEAR, GP_WARP_ROOT, GP_WARP_LOG, GP_WARP_LOG_FINE, GP_WARPS } gp_warp_kind;

/* What a warp has done. */
typedef struct gp_scale {
    double slopes;  /* sum of the logarithms of the warp's slopes, by which likelihoods under different warps compare */
    double stretch; /* what a unit of target is worth at the best value, in units of value */
} gp_scale;

/**
 * Targets of n ended trials into y: lower is better, mean 0 and standard deviation 1 (all 0 when they are all equal).
 * `value` is not read for failed ones. `sorted` is scratch of n.
 */
gp_scale gp_warp(gp_warp_kind kind, int n, const unsigned char *state, const double *value, double *sorted, double *y);

/* ---- algebra ---------------------------------------------------------------------------------------------------- */

/* Square matrices by rows, of which the lower triangle is used; `stride` numbers a row, a multiple of GP_ALIGN. */

/** a = l l' in place; false when a is not positive definite. */
bool gp_cholesky(int n, int stride, double *a);
/** The inverse of a lower triangle. */
void gp_invert(int n, int stride, const double *l, double *inverse);
/** inverse' inverse, the lower triangle: the inverse of what was factored. */
void gp_square(int n, int stride, const double *inverse, double *out);
/** out = inverse v, and out = inverse' v, over the lower triangle of n rows. */
void gp_multiply(int n, int stride, const double *inverse, const double *v, double *out);
void gp_multiply_transposed(int n, int stride, const double *inverse, const double *v, double *out);
/** For GP_BLOCK vectors at once, v[row * GP_BLOCK + i]: the squared lengths of inverse v. */
void gp_lengths(int n, int stride, const double *inverse, const double *v, double *out);
double gp_dot(int n, const double *a, const double *b);

/* ---- kernel ----------------------------------------------------------------------------------------------------- */

/*
 * k(a, b) = mean + joint M(sum_d w_d (a_d - b_d)^2) + alone / D sum_d M(v_d (a_d - b_d)^2), with M(q) the Matern-5/2
 * function of the squared distance q.
 */
typedef struct gp_kernel {
    const gp_space *space;
    double mean, joint, alone; /* variances */
    double noise;              /* variance, on the diagonal */
    double *w, *v;             /* one over the squared lengthscale, by axis */
} gp_kernel;

/** What the other three need of points in columns besides their place, which depends on the lengthscales: see
 * gp_kernel.c. */
void gp_kernel_prepare(const gp_kernel *kernel, double *columns, int stride, int count);
/** k(point, points[i]) for i < count into out. `scratch` has room for 2 * count. `point` has its columns `stride`
 * apart. */
void gp_kernel_row(const gp_kernel *kernel, const double *point, int stride, const gp_points *points, int count,
                   double *scratch, double *out);
/** Add to gradient[0..]: sum over i of weight[i] times the derivatives of k(point, points[i]) by log joint, log alone,
 * then by the logarithms of the lengthscales, of the joint part and of each axis alone. Scratch of 4 * count. */
void gp_kernel_derivatives(const gp_kernel *kernel, const double *point, int stride, const gp_points *points, int count,
                           const double *weight, double *scratch, double *gradient);
/** gradient[axis] = sum over i of weight[i] times the derivative of k(point, points[i]) by u of every continuous axis
 * that is there (the others are left alone). Scratch of 4 * count. */
void gp_kernel_slope(const gp_kernel *kernel, const double *point, const gp_points *points, int count,
                     const double *weight, double *scratch, double *gradient);

/* ---- minimising ------------------------------------------------------------------------------------------------- */

/** The function's value at x and its gradient; INFINITY where it has none. */
typedef double gp_function(void *context, const double *x, double *gradient);

typedef struct gp_minimise_options {
    int evaluations; /* at most */
    double gradient; /* done when no component of the projected gradient is larger */
    double decrease; /* done when a step gains less */
    double first;    /* length of the first step, at most */
} gp_minimise_options;

/** Numbers of scratch that gp_minimise needs for n variables. */
size_t gp_minimise_room(int n);
/** A local minimum in the box [low, high], from x (in it), into x; its value. */
double gp_minimise(gp_function *function, void *context, int n, const double *low, const double *high,
                   const gp_minimise_options *options, double *scratch, double *x);

/* ---- model ------------------------------------------------------------------------------------------------------ */

typedef struct gp_model {
    gp_kernel kernel;
    int room, stride; /* points that there is room for */
    int count;        /* points with a target */
    int all;          /* and those that run, which come after */
    gp_points points;
    double *y;
    double *l, *inverse, *square; /* factor, its inverse, the covariance's inverse */
    double *alpha;
    double *row;                       /* scratch: GP_BLOCK rows, and 8 more and 4 blocks */
    double *scratch;                   /* of gp_minimise */
    double *theta, *low, *high, *best; /* hyperparameters: see gp_fit.c */
    bool fitted;                       /* theta is from a fit before */
    bool fixed_noise;
} gp_model;

int gp_model_init(gp_model *model, const gp_space *space);
void gp_model_free(gp_model *model);
/** Room for so many points. CADRE_ENOMEM leaves all as it was, but for the points. */
int gp_model_reserve(gp_model *model, int count);
/** Factor the covariance of the first `n` points into l and inverse; false when it is not positive definite. */
bool gp_model_try(gp_model *model, int n);
/** Factor the covariance of the points under the kernel's hyperparameters, and find alpha. Raises the noise where it
 * must. */
void gp_model_factor(gp_model *model);
/** Mean and variance of the objective's target at GP_BLOCK points in columns (stride GP_BLOCK). */
void gp_model_predict(gp_model *model, double *columns, double *mean, double *variance);

/** Hyperparameters of the largest posterior density into the kernel; the negative logarithm of that density. */
double gp_fit(gp_model *model, bool restart, int evaluations);
/** The negative logarithm of the posterior density at theta, and its gradient. */
double gp_fit_objective(void *model, const double *theta, double *gradient);
int gp_fit_parameters(const gp_model *model);
/** Where a fit starts that does not go on from one before: 0, from all axes together; 1, from each alone. */
void gp_fit_defaults(const gp_model *model, int start, double *theta);
/** Theta into the kernel. */
void gp_fit_set(gp_model *model, const double *theta);

/* ---- acquisition ------------------------------------------------------------------------------------------------ */

/** log(phi(z) + z Phi(z)), exact at any z, and its derivative. */
double gp_log_h(double z, double *slope);
/* What counts as an improvement: what is below `best`, deviations being taken `widen` times as wide as they are. */
typedef struct gp_goal {
    double best, widen;
} gp_goal;

/** log expected improvement of GP_BLOCK points in columns. */
void gp_log_ei(gp_model *model, gp_goal goal, double *columns, double *out);
/** The same of one point (its columns side by side), and its derivatives by u of the continuous axes. */
double gp_log_ei_slope(gp_model *model, gp_goal goal, double *columns, double *gradient);

/* ---- search ----------------------------------------------------------------------------------------------------- */

typedef struct gp_search {
    const gp_space *space;
    gp_model *model;
    const gp_history *history;
    bool repeats; /* a point may be suggested again */
    int candidates, starts;
    uint64_t first; /* even point */
    gp_goal goal;
    int bases; /* points that are good already, best first: borrowed from the history */
    const double **base;
    base_rng *rng;
    double *pool, *value; /* candidates and what they promise */
    double *columns;      /* of GP_BLOCK points */
    double *points;       /* neighbours, GP_BLOCK of them */
    double *variables;    /* of a local search: u, bounds, scratch */
} gp_search;

int gp_search_reserve(gp_search *search);
void gp_search_free(gp_search *search);
/** The point that promises most into x, and what it promises; -INFINITY, and x untouched, when none is new. */
double gp_search_maximise(gp_search *search, double *x);

#endif
