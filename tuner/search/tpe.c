/*
 * The tree-structured Parzen estimator: Bergstra, Bardenet, Bengio, Kegl, "Algorithms for Hyper-Parameter
 * Optimization", NIPS 2011; multivariate, as Optuna 5 has it by default (samplers/_tpe), and with what Watanabe,
 * "Tree-Structured Parzen Estimator", arXiv 2304.11127, found to matter.
 *
 * The best ceil(0.15 n) trials, 25 at most, are good, the others bad. Each side is a mixture of product kernels, one a
 * trial (a truncated normal per number, its mass on the steps of a stepped one, a smeared peak per choice), and a wide
 * prior. 24 points are drawn from the good mixture; the one with the largest ratio of good to bad density is suggested.
 * Pruned trials come after all complete ones, the furthest first. Trials still running are bad ("constant liar").
 *
 * Where it departs from Optuna, each for what bench/search showed on its problems and on others like them:
 * - 0.15 instead of 0.1 of the trials are good (Watanabe's advice), and a good trial counts by its rank, log(n + 1) -
 *   log(rank), instead of by its age; the good prior weighs a half.
 * - Kernels may be narrower while trials are few: TPE_CLIP.
 * - A point that was tried is not suggested again, and kernels over steps are at least half a step wide: on a coarse
 * grid Optuna spends most of its later trials on points that it has been to.
 * - Every fourth suggestion takes each dimension by itself, as the original estimator does, so that good values of
 *   different trials come together where dimensions are independent; the joint mixture alone stays in the valley it is
 * in.
 * - Conditions: one mixture over the whole tree of dimensions. A kernel that does not have a dimension that a point has
 *   counts there as the uniform density; Optuna leaves such dimensions to independent one-dimensional estimators. The
 * best two trials of every branch are good, so that each branch is searched and not only drawn from.
 * - Failed trials are bad, so that a region that crashes is left; Optuna forgets them.
 * - A normal dimension's prior is its distribution, and its width for bandwidths four standard deviations.
 */
#include "tuner/search/tpe.h"

#include "base/mem.h"

#include <stddef.h>
#include <stdlib.h>

typedef struct tpe {
    tpe_suggester suggester;
    tpe_history history;
} tpe;

static void tpe_free(void *self)
{
    tpe *search = self;
    tpe_history_free(&search->history);
    tpe_suggester_free(&search->suggester);
    free(search);
}

int tpe_options_read(const cadre_searcher_args *args, const char *searcher, cadre_tpe_options *options)
{
    static const search_option known[] = {
        {"startup", SEARCH_OPTION_INT, offsetof(cadre_tpe_options, startup), 1, 1e9},
        {"candidates", SEARCH_OPTION_INT, offsetof(cadre_tpe_options, candidates), 1, TPE_MAX_POINTS},
        {"gamma", SEARCH_OPTION_DOUBLE, offsetof(cadre_tpe_options, gamma), 1e-6, 1},
        {"max_good", SEARCH_OPTION_INT, offsetof(cadre_tpe_options, max_good), 1, 1e6},
        {0},
    };
    *options = (cadre_tpe_options){.size = sizeof *options};
    return search_options_read(args, searcher, known, options, sizeof *options);
}

static int tpe_create(const cadre_searcher_args *args, void **self)
{
    cadre_tpe_options options;
    int status = tpe_options_read(args, "tpe", &options);
    if (status)
        return status;
    tpe *search = base_calloc(1, sizeof *search);
    if (!search)
        return CADRE_ENOMEM;
    status = tpe_suggester_init(&search->suggester, args->space, args->seed, &options);
    if (!status)
        status = tpe_history_init(&search->history, args->space->count);
    if (status) {
        tpe_free(search);
        return status;
    }
    *self = search;
    return CADRE_OK;
}

static int tpe_tell(void *self, int64_t number, const double *x, const cadre_outcome *outcome)
{
    tpe *search = self;
    int trial = tpe_history_find(&search->history, number);
    if (trial < 0) {
        int status = tpe_history_add(&search->history, search->suggester.model.dims, number, x);
        if (status)
            return status;
        trial = search->history.count - 1;
    }
    tpe_history_end(&search->history, trial, outcome);
    return CADRE_OK;
}

static int tpe_running(void *self, int64_t number, const double *x)
{
    tpe *search = self;
    return tpe_history_add(&search->history, search->suggester.model.dims, number, x);
}

static int tpe_ask(void *self, int64_t number, double *x)
{
    tpe *search = self;
    tpe_suggester *suggester = &search->suggester;
    int status = CADRE_OK;
    if (search->history.ranked < suggester->startup)
        cadre_space_sample(suggester->space, suggester->seed, base_rng_mix((uint64_t)number, SEARCH_STREAM_SAMPLE), x);
    else
        status = tpe_suggest(suggester, &search->history, number, x);
    return status ? status : tpe_history_add(&search->history, suggester->model.dims, number, x);
}

const cadre_searcher_table cadre_searcher_tpe = {
    .abi = CADRE_SEARCHER_ABI,
    .size = sizeof(cadre_searcher_table),
    .name = "tpe",
    .create = tpe_create,
    .ask = tpe_ask,
    .tell = tpe_tell,
    .running = tpe_running,
    .free = tpe_free,
};
