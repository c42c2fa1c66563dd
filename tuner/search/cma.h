/*
 * CMA-ES from inside: cma.c is the searcher and tells what it is made of, cma_coords.c the way between points and
 * coordinates, cma_strategy.c the distribution of numbers and its update, cma_choice.c that of choices, cma_margin.c
 * what keeps steps from being lost, cma_rate.c learning rates for noise, cma_restart.c when a run is over and what
 * comes next.
 */
#ifndef TUNER_SEARCH_CMA_H
#define TUNER_SEARCH_CMA_H

#include "base/rng.h"
#include "tuner/search/search.h"
#include "tuner/space.h"

/* ---- coordinates ------------------------------------------------------------------------------------------------- */

/* A number of the space as a coordinate: its range, logarithmic if it is so, is [0, 1]; a normal one has its mean at
 * 1/2 and a standard deviation of 1/6. What has one value only is no coordinate. */
typedef struct cma_coord {
    const cadre_dim *dim;
    int d;
    double origin, width; /* in the dimension's own scale */
    double low, high;     /* bounds of the coordinate */
} cma_coord;

typedef struct cma_coords {
    const cadre_space *space;
    double bent;      /* of the range: so far from a bound, on both sides, a coordinate is bent */
    int n;            /* numbers */
    cma_coord *coord; /* [n] */
    int choices;      /* dimensions that are choices of two values or more */
    int *choice;      /* [choices], their dimensions */
} cma_coords;

int cma_coords_init(cma_coords *coords, const cadre_space *space, double bent);
void cma_coords_free(cma_coords *coords);
/** The point at g[n] and pick[choices]; picks that are not there become -1. */
void cma_coords_point(const cma_coords *coords, const double *g, int *pick, double *x);
/** And back; a number that is not there becomes `otherwise[i]`. */
void cma_coords_of_point(const cma_coords *coords, const double *x, const double *otherwise, double *g, int *pick);
/** Edges of the step that coordinate i of g is in; -INFINITY and INFINITY beyond the first and last. */
void cma_coords_step(const cma_coord *coord, double g, double *left, double *right);
bool cma_coords_stepped(const cma_coord *coord);

/* ---- the distribution of numbers --------------------------------------------------------------------------------- */

typedef struct cma_rate cma_rate;

typedef struct cma_strategy {
    int n, lambda, mu, room;                  /* room: lambdas up to so large */
    double *weight;                           /* [lambda], of ranks; negative ones for the worse half */
    double mu_eff, cs, ds, cc, c1, c_mu, chi; /* as in Hansen's tutorial */
    double sigma;
    double *mean, *scale;  /* [n]; scale: by which the margin stretches a coordinate (A of CMA-ESwM) */
    double *c;             /* [n * n], lower triangle: covariance */
    double *axis, *length; /* eigenvectors by row, and roots of eigenvalues, of an earlier c */
    double *ps, *pc;       /* paths */
    int64_t generation, decomposed;
    double *spare;  /* 6 n numbers */
    cma_rate *rate; /* NULL: learning rates stay 1 */
} cma_strategy;

int cma_strategy_init(cma_strategy *strategy, int n, int lambda, bool adapt_rate);
void cma_strategy_free(cma_strategy *strategy);
/** The size of a generation, as long as nothing else is said. */
int cma_strategy_lambda(int dims);
/** Room for generations of lambda; CADRE_ENOMEM leaves all as it was. */
int cma_strategy_make_room(cma_strategy *strategy, int lambda);
/** A new run of lambda (for which there is room) around mean[n]. */
void cma_strategy_start(cma_strategy *strategy, int lambda, const double *mean, double sigma);
/** Take this covariance, lower triangle, for the first one, if it is one. */
void cma_strategy_set_covariance(cma_strategy *strategy, const double *c);
void cma_strategy_draw(const cma_strategy *strategy, base_rng *rng, double *g);
/**
 * One generation: y[lambda * n], the candidates less the mean, over sigma and scale, best first; after ties are shared
 * pull[lambda], the weights that move the mean (none below 0, their sum 1), and weight[lambda], those of the
 * covariance. What was not drawn from this distribution must have been shortened by cma_strategy_shorten.
 */
void cma_strategy_update(cma_strategy *strategy, const double *y, const double *pull, const double *weight);
/** Make y at most as long as candidates of the distribution are (Hansen, "Injecting External Solutions Into CMA-ES",
 * 2011). */
void cma_strategy_shorten(const cma_strategy *strategy, double *y);
/** Eigenvectors of c for the draws to come; false when c is no covariance any more. */
bool cma_strategy_decompose(cma_strategy *strategy);
/** Standard deviation of coordinate i. */
double cma_strategy_sd(const cma_strategy *strategy, int i);

/** Learning rates for the mean and the covariance that fall with noise: cma_rate.c. */
int cma_rate_new(int n, cma_rate **out);
void cma_rate_free(cma_rate *rate);
void cma_rate_start(cma_rate *rate);
void cma_rate_before(cma_rate *rate, const cma_strategy *strategy);
void cma_rate_after(cma_rate *rate, cma_strategy *strategy);

/** Hamano et al.: after an update, every stepped coordinate keeps a chance to leave its step. */
void cma_margin(cma_strategy *strategy, const cma_coords *coords);

/* ---- the distributions of choices -------------------------------------------------------------------------------- */

typedef struct cma_choices {
    int count, widest; /* choices; values of the widest */
    int *values;       /* [count] */
    double *q;         /* [count * widest], probabilities */
    double *gradient, *along, *s;
    double delta, Delta, gamma; /* of the step size's adaptation */
} cma_choices;

int cma_choices_init(cma_choices *choices, const cma_coords *coords);
void cma_choices_free(cma_choices *choices);
void cma_choices_start(cma_choices *choices);
void cma_choices_draw(const cma_choices *choices, base_rng *rng, int *pick);
/** One generation: pick[lambda * count], best first, and pull[lambda] as above. */
void cma_choices_update(cma_choices *choices, int lambda, const int *pick, const double *pull);
/** Lean towards the picks of one candidate, as results from elsewhere do. */
void cma_choices_lean(cma_choices *choices, const int *pick, double by);

/* ---- restarts ---------------------------------------------------------------------------------------------------- */

enum { CMA_KEPT = 2048 }; /* generations whose best and median are kept */

typedef struct cma_restart {
    int lambda0, doublings;
    double sigma0;
    bool small;                              /* the run at hand is one of BIPOP's small ones */
    int64_t spent, spent_large, spent_small; /* candidates of the run at hand, and of all before */
    int64_t last_large, small_most;          /* of the last large run; the most that this small one may spend */
    int64_t generations;                     /* of the run at hand */
    int stale;                               /* generations in a row in which nothing new was tried */
    int level;                               /* generations in a row whose better three quarters were all the same */
    double *best, *median;                   /* of generations: rings of CMA_KEPT */
    double *spare;
} cma_restart;

int cma_restart_init(cma_restart *restart, int lambda, double sigma0);
void cma_restart_free(cma_restart *restart);
/** Take down a generation. */
void cma_restart_note(cma_restart *restart, const cma_strategy *strategy, double best, double median, bool fresh,
                      bool level);
/** Whether the run is over. */
bool cma_restart_due(const cma_restart *restart, const cma_strategy *strategy, const cma_coords *coords);
/** The next run's size and width. */
void cma_restart_next(cma_restart *restart, cadre_cmaes_restarts kind, base_rng *rng, int *lambda, double *sigma);

/* ---- trials ------------------------------------------------------------------------------------------------------ */

/* What came of a candidate. Complete ones come before pruned ones, the furthest first, and failed ones are last. */
typedef struct cma_rank {
    cadre_trial_end end;
    int64_t step;
    double value;
} cma_rank;

cma_rank cma_rank_of(const cadre_outcome *outcome);
/** Below 0 when a is better, 0 when neither is. */
int cma_rank_compare(const cma_rank *a, const cma_rank *b);

/* Candidates with what came of them: g[i * n ...], pick[i * choices ...]. */
typedef struct cma_list {
    int n, choices;
    int64_t count, room;
    double *g;
    int *pick;
    int64_t *number; /* of the trial */
    int64_t *batch;  /* which distribution it was drawn from; -1: none of ours */
    cma_rank *rank;
} cma_list;

void cma_list_free(cma_list *list);
/** Room for `count` candidates in all; CADRE_ENOMEM leaves all as it was. */
int cma_list_make_room(cma_list *list, int64_t count);
/** Append one (for which there is room); its place. */
int64_t cma_list_add(cma_list *list, const double *g, const int *pick, int64_t number, int64_t batch, cma_rank rank);
/** Take one out; the last takes its place. */
void cma_list_remove(cma_list *list, int64_t at);

/* Every point that is or was tried, by its hash, with what came of it. */
typedef struct cma_seen {
    int64_t count, room;
    uint64_t *hash; /* 0: a free place */
    bool *told;
    cma_rank *rank;
} cma_seen;

void cma_seen_free(cma_seen *seen);
/** Room for one more. */
int cma_seen_make_room(cma_seen *seen);
/** The place of a point, or -1; `add`: a new place, running, for which there is room. */
int64_t cma_seen_find(cma_seen *seen, const double *x, int ndims, bool add);

#endif
