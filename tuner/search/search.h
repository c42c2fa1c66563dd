/* What searchers and their wrappers share. */
#ifndef TUNER_SEARCH_SEARCH_H
#define TUNER_SEARCH_SEARCH_H

#include "cadre/search.h"

#include <math.h>

/* Streams of random numbers by purpose, mixed with the number of the ask. */
enum {
    SEARCH_STREAM_SAMPLE = 1,
    SEARCH_STREAM_POINTS = 2,
    SEARCH_STREAM_TPE = 3,
    SEARCH_STREAM_QMC = 4,
    SEARCH_STREAM_CMA = 5,
    SEARCH_STREAM_GP = 16,
};

#define SEARCH_DEFAULT "auto" /* who does not choose one */

/* A searcher as a wrapper sees it. */
typedef struct search_layer {
    const cadre_searcher_table *table;
    void *self;
} search_layer;

/** Each makes a layer around `inner`, which it owns from then on (not on failure). */
int search_limit_new(search_layer inner, int most, search_layer *out);
int search_repeat_new(search_layer inner, int ndims, int repeats, search_layer *out);
int search_points_new(search_layer inner, const cadre_space *space, uint64_t seed, const cadre_config *const *points,
                      search_layer *out);

enum { SEARCH_LARGEST_GRID = 1000000 }; /* combinations, unless the grid searcher's `limit` says otherwise */

/** The combinations that the grid searcher would walk; its errors. */
int search_grid_count(const cadre_searcher_args *args, int64_t *count);

/** The searcher that is meant; CADRE_ENOENT and CADRE_EVERSION as cadre_searcher_new. */
int search_choose(const cadre_search *search, const cadre_searcher_table **out);
/** Whether the searcher walks the grids of the space, so that a sample is a walk. */
bool search_walks(const cadre_searcher_table *table);

/**
 * How many trials `num_samples` (negative: no limit, and so is the answer) comes to. As in Ray a sample of a space with
 * grids is a walk over all their combinations, where the searcher walks (auto, random, grid); points to try first come in addition then, and all
 * of it as often as repeats says. Else a sample is a trial.
 */
int search_trials(const cadre_space *space, const cadre_search *search, int64_t num_samples, int64_t *trials);

/* One option of a searcher: its name, and where it stands in the struct. */
typedef struct search_option {
    const char *name;
    enum {
        SEARCH_OPTION_INT,
        SEARCH_OPTION_INT64,
        SEARCH_OPTION_DOUBLE,
        SEARCH_OPTION_ENUM, /* in JSON a name: what it may be stands in the lines that follow, */
        SEARCH_OPTION_VALUE /* each with the name, and the value as `low` */
    } kind;
    size_t offset;
    double low, high; /* what it may be, besides 0 */
} search_option;

/**
 * Fill `into` (zeroed, `size` bytes, which begins with a size_t of its size) from the caller's struct, which may be
 * shorter, and from JSON over it. `options` ends with a NULL name. CADRE_EINVAL names the option.
 */
int search_options_read(const cadre_searcher_args *args, const char *searcher, const search_option *options, void *into,
                        size_t size);

/** A hash of a point's bits, never 0, by which searchers know where they have been: every NaN and both zeros count as one. */
uint64_t search_hash_point(const double *x, int ndims);

/* A set of points; zero is the empty one, and free(seen.hash) its end. */
typedef struct search_seen {
    uint64_t *hash; /* 0 is a free place */
    int room;
} search_seen;

/** Room for so many points in all. CADRE_ENOMEM leaves all as it was. */
int search_seen_grow(search_seen *seen, int points);
/** There is room for it. */
void search_seen_add(search_seen *seen, const double *x, int ndims);
bool search_seen_has(const search_seen *seen, const double *x, int ndims);

#endif
