/*
 * The tree-structured Parzen estimator from inside: tpe.c is the searcher and its history, tpe_model.c makes two
 * mixtures of kernels from that, tpe_density.c evaluates them.
 */
#ifndef TUNER_SEARCH_TPE_H
#define TUNER_SEARCH_TPE_H

#include "base/rng.h"
#include "tuner/search/search.h"
#include "tuner/space.h"

/* One dimension of a mixture's kernels: arrays with one element a kernel. A kernel that does not have the dimension has
 * inverse 0 there, and in its place stands the uniform density (offset alone). */
typedef struct tpe_column {
    const double
        *centre; /* in the dimension's own scale, logarithms for log; the index of a categorical one, -1 for none */
    const double *inverse; /* of the bandwidth; not used for categorical ones */
    const double *offset;  /* the logarithm of what the kernel is multiplied by */
    double same, other;    /* of a categorical one: log probability of the kernel's own choice, and of each other */
} tpe_column;

typedef struct tpe_mixture {
    int kernels; /* the prior, which is one more, not counted */
    const tpe_column *column;
    const double *
        bias; /* offsets of the dimensions that are always there, summed; -INFINITY for a kernel that does not belong */
    const double *weight;
    double weights; /* their sum over those that belong, and the prior's 1 */
} tpe_mixture;

typedef struct tpe_dim {
    const cadre_dim *dim;
    double low, high; /* where the density lives: tuner_dim_range */
    double width;     /* what bandwidths are measured by */
    double prior_centre, prior_sd;
    bool always;    /* without conditions: its offset is part of the bias */
    double uniform; /* log of the uniform density, or of one choice's share */
} tpe_dim;

/* Points whose density is wanted. */
typedef struct tpe_points {
    int count;
    int ndims;
    double *at;           /* [point * ndims + dim] in the dimension's scale, NaN: not there */
    double *left, *right; /* edges of a stepped dimension's cell, likewise */
} tpe_points;

/** log density of each of at most TPE_MAX_POINTS points under the mixture, into out[count]. */
enum { TPE_BLOCK = 256, TPE_MAX_POINTS = 64 };
void tpe_log_density(const tpe_dim *dims, const tpe_mixture *mixture, const tpe_points *points, double *out);

/** log of the standard normal mass between a < b, at any distance from 0. */
double tpe_log_mass(double a, double b);
/** log of what a kernel's density is multiplied by: truncated to [low, high], per unit (continuous) or as a mass
 * (stepped). */
double tpe_offset(const tpe_dim *dim, double centre, double sd);
/** A draw from the normal (centre, sd) truncated to [low, high], which holds the centre. */
double tpe_draw_normal(base_rng *rng, double centre, double sd, double low, double high);

/* ---- history and model --------------------------------------------------------------------------------------------
 */

typedef enum tpe_state { TPE_RUNNING, TPE_COMPLETE, TPE_PRUNED, TPE_FAILED } tpe_state;

typedef struct tpe_history {
    int ndims, count, room; /* trials in the order of their numbers */
    int64_t *number;
    unsigned char *state;
    double *value;      /* of complete and pruned trials */
    int64_t *last_step; /* of pruned ones */
    int ranked;         /* complete and pruned trials, best first */
    int *rank;
    struct tpe_track {  /* a dimension */
        double *centre; /* by trial; 0 where it is not there */
        unsigned char *there;
        int sorted; /* trials that have it, by centre */
        int *order;
        double *sd, *inverse, *offset; /* by trial, of the last model */
    } * track;
} tpe_history;

typedef struct tpe_model {
    tpe_dim *dims;
    int good_room;
    int *good;              /* the good trials, in the order of their numbers */
    unsigned char *is_good; /* by trial */
    int room;               /* of is_good, bias and weight */
    double *bias, *weight;  /* of the bad mixture */
    tpe_column *bad_column, *good_column;
    double *good_store; /* what the good mixture's columns point to */
    tpe_mixture bad, good_mixture;
} tpe_model;

/** Split the history after its best `good` trials and make both mixtures. */
int tpe_model_update(tpe_model *model, tpe_history *history, int good);
/** Draw a point from the good mixture, natural units. */
void tpe_model_draw(const tpe_model *model, const cadre_space *space, base_rng *rng, double *x);
/** A natural value in a dimension's scale. */
double tpe_scaled(const tpe_dim *dim, double value);

#endif
