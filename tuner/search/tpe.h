/*
 * The tree-structured Parzen estimator from inside: tpe.c is the searcher, tpe_history.c the trials it knows,
 * tpe_model.c makes two mixtures of kernels from those, tpe_density.c evaluates them, tpe_suggest.c makes a suggestion.
 */
#ifndef TUNER_SEARCH_TPE_H
#define TUNER_SEARCH_TPE_H

#include "base/rng.h"
#include "tuner/search/search.h"
#include "tuner/space.h"

enum {
    TPE_MAX_POINTS = 64, /* whose density is asked for at once */
    TPE_TABLE = 64,      /* stepped dimensions of up to so many values keep their kernels' masses in a table */
    TPE_BRANCH = 2,      /* good trials of each value of a choice that others are conditional on, at least */
    TPE_ALONE = 4,       /* every so many-th suggestion takes each dimension by itself */
    TPE_BLOCK = 256,     /* kernels that are worked on at once */
};

/* The magic clip: n kernels are at least width / min(100, TPE_CLIP (n + 2)) wide each (Optuna has 1), and in a stepped
 * dimension at least TPE_STEP steps, lest they know of no neighbour. */
#define TPE_CLIP 1.5
#define TPE_STEP 0.5

/* The weight of the good mixture's prior, where a trial of middling rank has 1; Optuna's, and the bad mixture's, is 1.
 */
#define TPE_GOOD_PRIOR 0.5

typedef struct tpe_dim {
    const cadre_dim *dim;
    double low, high;              /* where the density lives: tuner_dim_range */
    double width;                  /* what bandwidths are measured by */
    double prior_centre, prior_sd; /* of the wide kernel that is always there */
    double uniform;                /* log of the uniform density, or of one value's share */
    int values;                    /* of a stepped dimension with a table; 0: it has none */
    bool point;                    /* there is but one value: nothing to model */
    bool summed; /* always there and not tabled: its kernels' factors are part of the mixture's bias */
    bool parent; /* a choice that others are conditional on */
} tpe_dim;

/*
 * One dimension of a mixture's kernels: arrays with one element a kernel. A kernel that does not have the dimension
 * stands for the uniform density there.
 */
typedef struct tpe_column {
    const double *centre;  /* in the dimension's own scale; the index of a choice, -1 for none */
    const double *inverse; /* of the bandwidth; 0 for none */
    const double *offset;  /* log of what the kernel is multiplied by */
    const double *mass;    /* of a tabled dimension: [value * stride + kernel], log mass */
    int stride;
    double same, other; /* of a choice: log probability of the kernel's own, and of each other */
} tpe_column;

typedef struct tpe_mixture {
    int kernels; /* the prior, which is one more, not counted */
    const tpe_column *column;
    const double *bias;   /* offsets of the `summed` dimensions; -INFINITY for a kernel that does not belong */
    const double *weight; /* 0 for such a one */
    double prior;         /* the prior's weight */
    double weights;       /* the sum of all */
} tpe_mixture;

/* Points whose density is wanted: [point * ndims + dim]. */
typedef struct tpe_points {
    int count, ndims;
    double *at;           /* in the dimension's scale, NaN: not there */
    double *left, *right; /* edges of a stepped dimension's cell, likewise */
    int *value;           /* of a tabled dimension */
} tpe_points;

/** log density of the points, at most TPE_MAX_POINTS, under the mixture, into out[count]. */
void tpe_log_density(const tpe_dim *dims, const tpe_mixture *mixture, const tpe_points *points, double *out);

/** log of the standard normal mass between a < b, at any distance from 0. */
double tpe_log_mass(double a, double b);
/** log of what a kernel, truncated to [low, high], is multiplied by: per unit, or of a stepped dimension as a mass. */
double tpe_offset(const tpe_dim *dim, double centre, double sd);
/** log mass of a kernel in the cell [left, right] around `middle`, without its offset. */
double tpe_cell(double left, double middle, double right, double centre, double inverse);
/** A draw from the normal (centre, sd) truncated to [low, high], which holds the centre. */
double tpe_draw_normal(base_rng *rng, double centre, double sd, double low, double high);

/* ---- history ---------------------------------------------------------------------------------------------------- */

typedef enum tpe_state { TPE_RUNNING, TPE_COMPLETE, TPE_PRUNED, TPE_FAILED } tpe_state;

/* A dimension's column over all trials, from which the bad mixture reads in place. */
typedef struct tpe_track {
    double *centre; /* as in tpe_column */
    int sorted;     /* trials that have the dimension, in the order of their centres (not of choices) */
    int *order;
    double *sd, *inverse, *offset; /* of the last model; sd is 0 for a trial that none has seen yet */
    double *mass;
    int stride; /* of mass */
} tpe_track;

typedef struct tpe_history {
    int ndims, count, room; /* trials, in the order of their numbers */
    int64_t *number;
    unsigned char *state;
    double *value;      /* of complete and pruned trials */
    int64_t *last_step; /* of pruned ones */
    int ranked;         /* complete and pruned trials, best first */
    int *rank;
    tpe_track *track;
    search_seen seen;
} tpe_history;

int tpe_history_init(tpe_history *history, int ndims);
void tpe_history_free(tpe_history *history);
/** A new trial at x, running; its index. CADRE_ENOMEM leaves all as it was. */
int tpe_history_add(tpe_history *history, const tpe_dim *dims, int64_t number, const double *x);
/** The index of a trial, or -1. */
int tpe_history_find(const tpe_history *history, int64_t number);
void tpe_history_end(tpe_history *history, int trial, const cadre_outcome *outcome);
/** Whether some trial was or is at x. */
bool tpe_history_seen(const tpe_history *history, const double *x);

/* ---- model ------------------------------------------------------------------------------------------------------ */

typedef struct tpe_model {
    tpe_dim *dims;
    int good_count, good_room;
    int *good;              /* the good trials: the best, best first, then those that stand for their branch */
    int branches;           /* values of all choices that others are conditional on */
    int room;               /* of what follows */
    unsigned char *is_good; /* by trial */
    double *bias, *weight;  /* of the bad mixture */
    tpe_column *bad_column, *good_column;
    double *good_store; /* what the good mixture's columns point to */
    tpe_mixture bad, good_mixture;
    /* The same mixtures for one dimension at a time: no factors are summed over dimensions. */
    tpe_dim *dims_alone;
    double *bias_alone;
    tpe_mixture bad_alone, good_alone;
} tpe_model;

int tpe_model_init(tpe_model *model, const cadre_space *space);
void tpe_model_free(tpe_model *model);
/** Split the history behind its best `good` trials and make both mixtures. */
int tpe_model_update(tpe_model *model, tpe_history *history, int good);
/** Draw a point from the good mixture, in natural units. */
void tpe_model_draw(const tpe_model *model, const cadre_space *space, base_rng *rng, double *x);
/** Draw a value of one dimension from the good mixture, whatever the others are. */
double tpe_model_draw_alone(const tpe_model *model, int d, base_rng *rng);
/** A natural value in a dimension's scale. */
double tpe_scaled(const tpe_dim *dim, double value);

/* ---- suggesting ------------------------------------------------------------------------------------------------- */

typedef struct tpe_suggester {
    const cadre_space *space;
    uint64_t seed;
    int startup, max_good;
    double gamma;
    tpe_model model;
    tpe_points points;
    double *candidates; /* the points in natural units */
} tpe_suggester;

/** Options as read; zeroes are the defaults. To be freed also after it failed. */
int tpe_suggester_init(tpe_suggester *search, const cadre_space *space, uint64_t seed, const cadre_tpe_options *options);
void tpe_suggester_free(tpe_suggester *search);
/** The point of trial `number`, by the ranks that the history has. */
int tpe_suggest(tpe_suggester *search, tpe_history *history, int64_t number, double *x);
/** The options of a searcher that has TPE's. */
int tpe_options_read(const cadre_searcher_args *args, const char *searcher, cadre_tpe_options *options);

#endif
