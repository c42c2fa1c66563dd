/*
 * BOHB: Falkner, Klein, Hutter, "BOHB: Robust and Efficient Hyperparameter Optimization at Scale", ICML 2018: a model by Parzen densities that is fed by what
 * trials report on their way, for schedulers that stop most trials early. The scheduler beside it is ASHA or HyperBand.
 *
 * Where it departs, each with points below the best after 520, 1,040 and 2,600 epochs on LCBench's curves (the six data sets of bench/schedule, ASHA delayed from 3,
 * medians of 10 seeds; as it is: 5.0, 3.2, 1.4):
 * - BOHB's model knows only the trials of the largest budget that has enough of them (so: 4.9, 3.4, 1.7; under delayed HyperBand, where most trials end at a first
 *   epoch that says nothing, 7.6, 4.8, 2.7 against 7.2, 4.8, 2.2). Here it knows all: bohb_rank.c brings them into one order, which regards a value at a step as far
 *   as values at that step have been found to foretell the end. Where all trials run to their end, that is TPE's order.
 * - There is no third of random suggestions (so: 6.0, 4.0, 1.5): the prior of the good mixture wanders enough.
 * - Densities and suggestions are TPE's (tpe.c), not those of statsmodels' KDE.
 * - Trials that run or pause take part with what they have reported; those that have not reported are bad, and so are failed ones.
 */
#include "tuner/search/bohb.h"

#include "base/mem.h"

#include <stdlib.h>

typedef struct bohb {
    tpe_suggester suggester;
    tpe_history history;
    bohb_ranks ranks;
} bohb;

static void bohb_free(void *self)
{
    bohb *search = self;
    tpe_history_free(&search->history);
    tpe_suggester_free(&search->suggester);
    bohb_ranks_free(&search->ranks);
    free(search);
}

static int bohb_create(const cadre_searcher_args *args, void **self)
{
    cadre_tpe_options options;
    int status = tpe_options_read(args, "bohb", &options);
    if (status)
        return status;
    bohb *search = base_calloc(1, sizeof *search);
    if (!search)
        return CADRE_ENOMEM;
    bohb_ranks_init(&search->ranks);
    status = tpe_suggester_init(&search->suggester, args->space, args->seed, &options);
    if (!status)
        status = tpe_history_init(&search->history, args->space->count);
    if (status) {
        bohb_free(search);
        return status;
    }
    *self = search;
    return CADRE_OK;
}

static int bohb_running(void *self, int64_t number, const double *x)
{
    bohb *search = self;
    int room = search->history.room; /* the history doubles its room when it is full */
    int status = bohb_ranks_reserve(&search->ranks, search->history.count < room ? room : room ? 2 * room : 64);
    if (!status)
        status = tpe_history_add(&search->history, search->suggester.model.dims, number, x);
    if (!status)
        bohb_ranks_add(&search->ranks, search->history.count - 1);
    return status;
}

static int bohb_report(void *self, int64_t number, int64_t step, double value)
{
    bohb *search = self;
    int trial = tpe_history_find(&search->history, number);
    return trial < 0 ? CADRE_OK : bohb_ranks_report(&search->ranks, trial, step, value);
}

static int bohb_tell(void *self, int64_t number, const double *x, const cadre_outcome *outcome)
{
    bohb *search = self;
    int status = CADRE_OK, trial = tpe_history_find(&search->history, number);
    if (trial < 0) {
        status = bohb_running(self, number, x);
        trial = search->history.count - 1;
    }
    /* A pruned trial from elsewhere: its last report is all that is known of it. */
    if (!status && outcome->end == CADRE_ENDED_PRUNED && search->ranks.trials[trial].level < 0)
        status = bohb_ranks_report(&search->ranks, trial, outcome->last_step, outcome->value);
    if (!status)
        bohb_ranks_end(&search->ranks, trial, outcome);
    return status;
}

static int bohb_ask(void *self, int64_t number, double *x)
{
    bohb *search = self;
    tpe_suggester *suggester = &search->suggester;
    tpe_history *history = &search->history;
    int status = CADRE_OK;
    history->ranked = bohb_ranks_order(&search->ranks, history->rank);
    if (history->ranked < suggester->startup)
        cadre_space_sample(suggester->space, suggester->seed, base_rng_mix((uint64_t)number, SEARCH_STREAM_SAMPLE), x);
    else
        status = tpe_suggest(suggester, history, number, x);
    return status ? status : bohb_running(self, number, x);
}

const cadre_searcher_table cadre_searcher_bohb = {
    .abi = CADRE_SEARCHER_ABI,
    .size = sizeof(cadre_searcher_table),
    .name = "bohb",
    .create = bohb_create,
    .ask = bohb_ask,
    .tell = bohb_tell,
    .running = bohb_running,
    .report = bohb_report,
    .free = bohb_free,
};
