/*
 * Searchers: which config to try next. Ask and tell: the loop asks for a point, runs it as a trial, and tells what came
 * of it; a searcher never calls the trial.
 *
 *     cadre_searcher *searcher;
 *     cadre_searcher_new(space, &CADRE_SEARCH_TPE, seed, &searcher);
 *     while ((status = cadre_searcher_ask(searcher, &number, x)) == CADRE_OK)
 *         cadre_searcher_tell(searcher, number, &(cadre_outcome){.end = CADRE_ENDED_COMPLETE, .value = loss(x)});
 *
 * Values reach a searcher so that lower is better: who maximises turns the sign before telling (the tuner's loop does).
 * A searcher keeps nothing on disk: it is rebuilt by asking and telling again, in the same order and with the same
 * seed, and then goes on as if it had never been gone. Its randomness is a function of the seed and the number of the
 * ask alone. A searcher is used by one thread at a time.
 */
#ifndef CADRE_SEARCH_H
#define CADRE_SEARCH_H

#include "cadre/schedule.h"
#include "cadre/space.h"

#ifdef __cplusplus
extern "C" {
#endif

/** An answer to ask that is not an error: not now; ask again after something has been told. No number is used up.
 * (CADRE_STOP: never again.) */
enum { CADRE_LATER = 2 };

/** What came of a trial. */
typedef struct cadre_outcome {
    cadre_trial_end end;
    double value; /* the objective, lower is better; of a pruned trial its last report; NaN makes a complete or pruned
                     trial count as failed */
    int64_t last_step; /* of a pruned trial: how far it came */
} cadre_outcome;

/** What the searcher may count on, so far as it is known; zero: nothing. It is the same whenever the searcher is built again. */
typedef struct cadre_search_plan {
    int64_t trials;    /* planned in all; 0: not known; negative: no limit */
    int parallel;      /* at once; 0: not known */
    bool stops_early;  /* a scheduler stops or pauses trials by what they report */
} cadre_search_plan;

/** What a searcher is made from. Borrowed; the space outlives the searcher, the rest is not kept. */
typedef struct cadre_searcher_args {
    const cadre_space *space;
    uint64_t seed;
    const void *options; /* the searcher's own struct, or NULL for the defaults */
    const char *json;    /* its options as a JSON object, over those; or NULL */
    int64_t samples;     /* how often a searcher that has an end comes to it; 0: once; negative: never */
    cadre_search_plan plan;
} cadre_searcher_args;

enum { CADRE_SEARCHER_ABI = 1 };

/** A kind of searcher. Who writes one fills a table like this and passes it where CADRE_TPE() would stand. Points are
 * as cadre/space.h has them. */
typedef struct cadre_searcher_table {
    uint32_t abi; /* CADRE_SEARCHER_ABI */
    size_t size;  /* sizeof(cadre_searcher_table) */
    const char *name;
    /** Make one; nothing is left behind on failure. CADRE_EINVAL names the option or the dimension that it cannot do.
     */
    int (*create)(const cadre_searcher_args *args, void **self);
    /**
     * The point of trial `number` into x (room for every dimension). CADRE_OK, CADRE_STOP: the space is exhausted,
     * CADRE_LATER: not before another tell, or an error. Numbers grow; they may leave gaps (another searcher's trials,
     * a wrapper's). What is asked and not yet told is running.
     */
    int (*ask)(void *self, int64_t number, double *x);
    /** Trial `number` at x ended. It need not have been asked here: results from elsewhere are told the same way. Each
     * number is told at most once. */
    int (*tell)(void *self, int64_t number, const double *x, const cadre_outcome *outcome);
    /** Trial `number` at x runs, though it was not asked here (a point that the user gave). NULL: it wants to know at
     * tell only. */
    int (*running)(void *self, int64_t number, const double *x);
    /** Trial `number` reported `value` at `step`. NULL: it has no use for it. */
    int (*report)(void *self, int64_t number, int64_t step, double value);
    void (*free)(void *self);
    /** A line for people on how it came to its last suggestion, "" for nothing new to say; valid until the next call. NULL:
     * it never has anything to say. */
    const char *(*note)(void *self);
} cadre_searcher_table;

/** Independent draws. The grids of the space are walked, round after round. No options. */
CADRE_API extern const cadre_searcher_table cadre_searcher_random;

/** Every combination of the space, the last dimension fastest, as often as cadre_search.samples says; then CADRE_STOP. A
 * continuous dimension needs `resolution`. */
typedef struct cadre_grid_options {
    size_t size;    /* sizeof(cadre_grid_options) */
    int resolution; /* points of a continuous dimension, at equal shares of its distribution; 0: such a dimension is
                       refused */
    int64_t limit;  /* a larger grid is refused; 0: 1,000,000 */
} cadre_grid_options;
CADRE_API extern const cadre_searcher_table cadre_searcher_grid;

/** Tree-structured Parzen estimator; tuner/search/tpe.c tells which. */
typedef struct cadre_tpe_options {
    size_t size;    /* sizeof(cadre_tpe_options) */
    int startup;    /* random trials first, counted when complete or pruned; 0: 10 */
    int candidates; /* points drawn from the good density, of which the best is taken; 0: 24 */
    double gamma;   /* share of the trials that counts as good; 0: 0.15 */
    int max_good;   /* at most so many of them; 0: 25 */
} cadre_tpe_options;
CADRE_API extern const cadre_searcher_table cadre_searcher_tpe;

/** TPE that also learns from what trials report before their end, for schedulers that stop or pause most of them: with ASHA or HyperBand it is BOHB;
 * tuner/search/bohb.c. Its options are TPE's. */
CADRE_API extern const cadre_searcher_table cadre_searcher_bohb;

/** What a Gaussian process takes the objective for. */
typedef enum cadre_gp_noise {
    CADRE_GP_ANY = 0,           /* as noisy as it looks; a point is not tried again while there are others */
    CADRE_GP_DETERMINISTIC = 1, /* the same value at the same point */
    CADRE_GP_NOISY = 2,         /* a point may be tried again */
} cadre_gp_noise;

/** Gaussian-process search; tuner/search/gp.c tells which. For up to some hundred trials, each of which costs more than
 * a suggestion does: milliseconds at 100 trials, up to 100 ms at 300 and beyond. */
typedef struct cadre_gp_options {
    size_t size;    /* sizeof(cadre_gp_options) */
    int startup;    /* evenly spread trials first; complete and pruned ones count, and running ones, when two have ended; 0: 10 */
    int noise;      /* cadre_gp_noise */
    int candidates; /* points that are looked at for each suggestion; 0: 512 */
    int starts;     /* local searches from the best of them; 0: 5 */
    int max_trials; /* of which the model is made, when there are more; 0: 300 */
} cadre_gp_options;
CADRE_API extern const cadre_searcher_table cadre_searcher_gp;

/** Scrambled quasi-random sequences, which fill the space more evenly than random draws; tuner/search/qmc.c. No options. */
CADRE_API extern const cadre_searcher_table cadre_searcher_sobol;
CADRE_API extern const cadre_searcher_table cadre_searcher_halton;

/** How CMA-ES goes on when a run has converged. */
typedef enum cadre_cmaes_restarts {
    CADRE_CMAES_BIPOP = 0, /* larger and larger generations, and small runs between them */
    CADRE_CMAES_NONE,      /* it does not */
    CADRE_CMAES_IPOP,      /* larger and larger generations */
} cadre_cmaes_restarts;

/** Covariance matrix adaptation; tuner/search/cma.c tells which. */
typedef struct cadre_cmaes_options {
    size_t size;   /* sizeof(cadre_cmaes_options) */
    int popsize;   /* candidates of a generation; 0: 4 + 3 ln(dimensions) */
    double sigma;  /* first standard deviation, as a share of each range (on its scale); 0: 1/6 */
    int startup;   /* so many points of a Sobol sequence first, of which the best tenth says where to begin; 0: none, it
                      begins in the middle */
    cadre_cmaes_restarts restarts; /* in JSON "bipop", "none", "ipop" */
    int lr_adapt;                  /* 1: learning rates that fall with noise */
} cadre_cmaes_options;
CADRE_API extern const cadre_searcher_table cadre_searcher_cmaes;

/** The default: has the others suggest, one after the other, as the space, the plan and the results are; tuner/search/auto.c tells how. The grids
 * of the space are walked as random search does it. */
typedef struct cadre_auto_options {
    size_t size;      /* sizeof(cadre_auto_options) */
    int64_t handover; /* the first searcher hands over after so many results; 0: as the space is */
} cadre_auto_options;
CADRE_API extern const cadre_searcher_table cadre_searcher_auto;

/** Which searcher, and what is put around it. Zero is `auto`. Borrowed during cadre_searcher_new only. */
typedef struct cadre_search {
    const cadre_searcher_table *table; /* NULL: the one of `name` */
    const char *name;                  /* of the registry, cadre_searcher_name: "tpe", "auto", ...; NULL: "auto" */
    const void *options;
    const char *json;
    int max_concurrent; /* at most so many trials run at once, then CADRE_LATER; 0: no limit */
    int64_t samples;    /* how often the grid searcher walks its grid; 0: once; negative: for ever. The tuner's num_samples decides there */
    int repeats;        /* every point is tried so often, and the searcher is told the mean; 0 and 1: once */
    const cadre_config *const
        *points; /* configs to try first, a list that NULL ends, or NULL; what a config leaves out is drawn at random */
    cadre_search_plan plan; /* the tuner knows it better: its own is taken there */
} cadre_search;

/* Whole ones: `.search = CADRE_TPE(.startup = 20)`. */
#define CADRE_SEARCH_RANDOM ((cadre_search){.table = &cadre_searcher_random})
#define CADRE_SEARCH_GRID   CADRE_GRID_SEARCH()
#define CADRE_SEARCH_TPE    CADRE_TPE()
#define CADRE_SEARCH_BOHB   CADRE_BOHB()
#define CADRE_SEARCH_GP     CADRE_GP()
#define CADRE_SEARCH_SOBOL  ((cadre_search){.table = &cadre_searcher_sobol})
#define CADRE_SEARCH_CMAES  CADRE_CMAES()
#define CADRE_SEARCH_AUTO   CADRE_AUTO()
#define CADRE_SEARCH_HALTON ((cadre_search){.table = &cadre_searcher_halton})
#define CADRE_GRID_SEARCH(...)                                                                                         \
    ((cadre_search){.table = &cadre_searcher_grid,                                                                     \
                    .options = &(const cadre_grid_options){.size = sizeof(cadre_grid_options), __VA_ARGS__}})
#define CADRE_TPE(...)                                                                                                 \
    ((cadre_search){.table = &cadre_searcher_tpe,                                                                      \
                    .options = &(const cadre_tpe_options){.size = sizeof(cadre_tpe_options), __VA_ARGS__}})
#define CADRE_GP(...)                                                                                                  \
    ((cadre_search){.table = &cadre_searcher_gp,                                                                       \
                    .options = &(const cadre_gp_options){.size = sizeof(cadre_gp_options), __VA_ARGS__}})

#define CADRE_BOHB(...)                                                                                                \
    ((cadre_search){.table = &cadre_searcher_bohb,                                                                     \
                    .options = &(const cadre_tpe_options){.size = sizeof(cadre_tpe_options), __VA_ARGS__}})

#define CADRE_CMAES(...)                                                                                               \
    ((cadre_search){.table = &cadre_searcher_cmaes,                                                                    \
                    .options = &(const cadre_cmaes_options){.size = sizeof(cadre_cmaes_options), __VA_ARGS__}})

#define CADRE_AUTO(...)                                                                                                \
    ((cadre_search){.table = &cadre_searcher_auto,                                                                     \
                    .options = &(const cadre_auto_options){.size = sizeof(cadre_auto_options), __VA_ARGS__}})

/** The table of that name; NULL when there is none. Static. */
CADRE_API const cadre_searcher_table *cadre_searcher_by_name(const char *name);
/** The i-th name of the registry; NULL beyond the last. */
CADRE_API const char *cadre_searcher_name(int i);

typedef struct cadre_searcher cadre_searcher;

/** Make a searcher over a space, which must outlive it. CADRE_EINVAL, CADRE_ENOENT for a name that the registry does
 * not have (the message lists them), CADRE_EVERSION for a table of another ABI. */
CADRE_API int cadre_searcher_new(const cadre_space *space, const cadre_search *search, uint64_t seed,
                                 cadre_searcher **out);
CADRE_API void cadre_searcher_free(cadre_searcher *searcher);

/** A new trial: its number (0, 1, 2, ...) and its point (room for every dimension). CADRE_OK, CADRE_STOP, CADRE_LATER
 * or an error; outputs are untouched unless CADRE_OK. */
CADRE_API int cadre_searcher_ask(cadre_searcher *searcher, int64_t *number, double *x);
/** A trial at x begins that was not asked for (one that is tried again): it takes the next number and is told as the
 * others are. CADRE_EINVAL when x is not a point of the space. */
CADRE_API int cadre_searcher_begin(cadre_searcher *searcher, const double *x, int64_t *number);
/** Trial `number` ended. CADRE_ESTATE when it was not asked for or has been told. */
CADRE_API int cadre_searcher_tell(cadre_searcher *searcher, int64_t number, const cadre_outcome *outcome);
/** Trial `number`, still running, reported. */
CADRE_API int cadre_searcher_report(cadre_searcher *searcher, int64_t number, int64_t step, double value);
/** A result from elsewhere: takes the next number. CADRE_EINVAL when x is not a point of the space; with NULL for x the
 * number is taken and nobody is told. */
CADRE_API int cadre_searcher_add(cadre_searcher *searcher, const double *x, const cadre_outcome *outcome,
                                 int64_t *number);
/** What the searcher has to say about its last suggestion: a line, valid until the next call; "" for nothing. */
CADRE_API const char *cadre_searcher_note(const cadre_searcher *searcher);
/** Trials asked and not told. */
CADRE_API int64_t cadre_searcher_running(const cadre_searcher *searcher);

#ifdef __cplusplus
}
#endif
#endif
