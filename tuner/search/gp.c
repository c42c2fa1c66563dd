/*
 * Gaussian-process search: Snoek, Larochelle, Adams, "Practical Bayesian Optimization of Machine Learning Algorithms",
 * NIPS 2012, with the parts that were found to matter since: log expected improvement (Ament et al., arXiv 2310.20708),
 * priors of lengthscales that grow with the dimension (Hvarfner et al., arXiv 2402.02229), and targets that outliers
 * and failures do not spoil (what Vizier's pipeline is for: Song et al., arXiv 2408.11527).
 *
 * After `startup` points of a scrambled Sobol sequence, of which two have to have ended, every suggestion is the point
 * of the largest log expected improvement under a process with Matern-5/2 kernels over the unit cube, logarithms taken,
 * steps and choices as they are (gp.h tells how), whose hyperparameters are those of the largest posterior density.
 * Trials still running are taken to come out as predicted ("kriging believer"), so that they take away the doubt, and
 * what is expected of them has to be improved on. Pruned trials count as at least middling, failed ones as bad as the
 * worst: a region that crashes is left. Of more trials than max_trials, the better half of that number and an even
 * sample of the others are modelled, so that a suggestion's cost is bounded. All algebra is this thread's.
 *
 * Where it departs from Optuna's GPSampler. Figures are ratios of median regrets on bench/search's functions, with the
 * departure over without it, geometric means after 50 and 100 trials; 3 or 4 seeds, so that they tell a direction:
 * - The kernel is a sum of one over all axes together and of one over each axis alone (Duvenaud, Nickisch, Rasmussen,
 *   "Additive Gaussian Processes", NIPS 2011): what each axis does by itself is learned from few trials, and valleys in
 *   which it is not the best that was tried are found. 0.43 and 0.29; on the tables 0.93 at 50, and at 100 it found the
 *   very best config less often.
 * - Values are warped where that describes them better: gp_warp.c. 0.57 and 0.63 on six functions.
 * - When little is left to be gained near the best, every other suggestion looks elsewhere: GP_LITTLE in gp.h. 1.06 and
 *   0.20 on six functions.
 * - Improvement is measured from the best target as the model has it, without noise, not from the best value: luck has
 *   not to be surpassed. On the suite, which has no noise, 1.5 and 0.83, on its tables 1.0 and 1.1: neither way.
 * - A point that was tried is suggested again only if the objective is said to be noisy. 0.70 and 0.40 on four tables.
 * - Trials still running count as starting ones. With eight at once the first 17 would all be Sobol points otherwise:
 *   auto then lost 0.24 of what it gains over random after 50 trials, and 0.21 with this (100 seeds; one by one nothing
 *   changes).
 * - Conditional dimensions are modelled, "not there" being a place of its own (gp_axis); Optuna draws them at random.
 *   The one conditional problem ends where the floor of regrets is.
 */
#include "tuner/search/gp.h"

#include "base/error.h"
#include "base/mem.h"

#include <stddef.h>
#include <stdlib.h>
#include <string.h>

enum { BASES = 5 };

typedef struct gp {
    uint64_t seed;
    cadre_gp_options options;
    gp_space space;
    gp_history history;
    gp_model model;
    gp_search search;
    int room; /* of what follows */
    int *chosen, *order;
    unsigned char *state;
    double *value, *sorted;
    const double *base[BASES];
    gp_warp_kind warp;
    int warp_at;      /* ended trials when the warp was last chosen */
    double *theta_of; /* by warp */
    bool fitted_of[GP_WARPS];
    double stretch; /* what a unit of target is worth at the best value */
    double *beyond; /* a point */
} gp;

static void gp_free(void *self)
{
    gp *search = self;
    gp_history_free(&search->history);
    gp_search_free(&search->search);
    gp_model_free(&search->model);
    gp_space_free(&search->space);
    free(search->chosen);
    free(search->order);
    free(search->state);
    free(search->value);
    free(search->theta_of);
    free(search->beyond);
    free(search);
}

static int set_up(gp *search, const cadre_space *space)
{
    int status = gp_space_init(&search->space, space, search->seed);
    if (!status)
        status = gp_model_init(&search->model, &search->space);
    if (status)
        return status;
    search->history.ndims = space->count;
    search->theta_of = base_calloc((size_t)gp_fit_parameters(&search->model) * GP_WARPS, sizeof(double));
    search->beyond = base_calloc((size_t)space->count + 1, sizeof(double));
    if (!search->theta_of || !search->beyond)
        return CADRE_ENOMEM;
    search->model.fixed_noise = search->options.noise == CADRE_GP_DETERMINISTIC;
    search->search = (gp_search){.space = &search->space,
                                 .model = &search->model,
                                 .history = &search->history,
                                 .candidates = search->options.candidates,
                                 .starts = search->options.starts,
                                 .base = search->base};
    return CADRE_OK;
}

static int gp_create(const cadre_searcher_args *args, void **self)
{
    static const search_option known[] = {
        {"startup", SEARCH_OPTION_INT, offsetof(cadre_gp_options, startup), 1, 1e6},
        {"candidates", SEARCH_OPTION_INT, offsetof(cadre_gp_options, candidates), 1, 1e5},
        {"starts", SEARCH_OPTION_INT, offsetof(cadre_gp_options, starts), 1, 1000},
        {"max_trials", SEARCH_OPTION_INT, offsetof(cadre_gp_options, max_trials), 8, 2000},
        {"noise", SEARCH_OPTION_INT, offsetof(cadre_gp_options, noise), CADRE_GP_DETERMINISTIC, CADRE_GP_NOISY},
        {0},
    };
    cadre_gp_options options = {.size = sizeof options};
    int status = search_options_read(args, "gp", known, &options, sizeof options);
    if (status)
        return status;
    gp *search = base_calloc(1, sizeof *search);
    if (!search)
        return CADRE_ENOMEM;
    options.startup = options.startup ? options.startup : 10;
    options.candidates = options.candidates ? options.candidates : 512;
    options.starts = options.starts ? options.starts : 5;
    options.max_trials = options.max_trials ? options.max_trials : 300;
    search->seed = args->seed;
    search->options = options;
    status = set_up(search, args->space);
    if (status) {
        gp_free(search);
        return status;
    }
    *self = search;
    return CADRE_OK;
}

static int gp_tell(void *self, int64_t number, const double *x, const cadre_outcome *outcome)
{
    gp *search = self;
    int trial = gp_history_find(&search->history, number);
    if (trial < 0) {
        int status = gp_history_add(&search->history, number, x);
        if (status)
            return status;
        trial = search->history.count - 1;
    }
    gp_history_end(&search->history, trial, outcome);
    return CADRE_OK;
}

static int gp_running(void *self, int64_t number, const double *x)
{
    gp *search = self;
    return gp_history_add(&search->history, number, x);
}

/* ---- which trials are modelled ---------------------------------------------------------------------------------- */

static int make_room(gp *search)
{
    int count = search->history.count;
    if (count > search->room) {
        size_t room = 2 * (size_t)count;
        int *chosen = base_realloc(search->chosen, room * sizeof *chosen);
        search->chosen = chosen ? chosen : search->chosen;
        int *order = base_realloc(search->order, room * sizeof *order);
        search->order = order ? order : search->order;
        unsigned char *state = base_realloc(search->state, room);
        search->state = state ? state : search->state;
        double *value = base_realloc(search->value, 2 * room * sizeof *value);
        search->value = value ? value : search->value;
        if (!chosen || !order || !state || !value)
            return CADRE_ENOMEM;
        search->room = (int)room;
    }
    search->sorted = search->value + search->room;
    int status =
        gp_model_reserve(&search->model, count < search->options.max_trials ? count : search->options.max_trials);
    return status ? status : gp_search_reserve(&search->search);
}

static bool is_better(const gp_history *history, int a, int b)
{
    if (history->state[a] != history->state[b])
        return history->state[a] < history->state[b];
    if (history->state[a] != GP_FAILED && history->value[a] != history->value[b])
        return history->value[a] < history->value[b];
    return a < b;
}

/* The history sorted by merit, merged by halves: the same order everywhere. */
static void sort(const gp_history *history, int *order, int *scratch, int n)
{
    if (n < 2)
        return;
    int half = n / 2, i = 0, j = half, k = 0;
    sort(history, order, scratch, half);
    sort(history, order + half, scratch, n - half);
    while (i < half && j < n)
        scratch[k++] = is_better(history, order[j], order[i]) ? order[j++] : order[i++];
    while (i < half)
        scratch[k++] = order[i++];
    memcpy(order, scratch, (size_t)k * sizeof *order);
}

/*
 * Ended trials, the better half of `max_trials` by merit and the others at even steps over the rest; then those that
 * run, the latest ones, a quarter at most. Into the model's points; the number of ended ones.
 */
static void choose(gp *search)
{
    const gp_history *history = &search->history;
    int ended = 0, running = 0, most = search->options.max_trials, taken = 0;
    for (int i = 0; i < history->count; i++)
        if (history->state[i] == GP_RUNNING)
            running++;
        else
            search->order[ended++] = i;
    sort(history, search->order, search->chosen, ended);
    running = running < most / 4 ? running : most / 4;
    int room = most - running;
    if (ended <= room) {
        memcpy(search->chosen, search->order, (size_t)ended * sizeof *search->order);
        taken = ended;
    } else {
        int best = room / 2, others = room - best, rest = ended - best;
        memcpy(search->chosen, search->order, (size_t)best * sizeof *search->order);
        for (int i = 0; i < others; i++)
            search->chosen[best + i] = search->order[best + (int)((int64_t)i * rest / others)];
        taken = room;
    }
    search->model.count = taken;
    for (int i = history->count - 1, left = running; i >= 0 && left > 0; i--)
        if (history->state[i] == GP_RUNNING) {
            search->chosen[taken++] = i;
            left--;
        }
    search->model.all = taken;
    for (int i = 0; i < taken; i++) {
        int trial = search->chosen[i];
        gp_encode(&search->space, history->x + (size_t)trial * (size_t)history->ndims, search->model.points.at + i,
                  search->model.points.stride);
        search->state[i] = history->state[trial];
        search->value[i] = history->value[trial];
    }
    search->search.bases = 0;
    for (int i = 0; i < ended && search->search.bases < BASES; i++)
        if (history->state[search->order[i]] != GP_FAILED)
            search->base[search->search.bases++] = history->x + (size_t)search->order[i] * (size_t)history->ndims;
}

/* ---- asking ----------------------------------------------------------------------------------------------------- */

/* Evaluations of a fit: an evaluation costs the cube of the trials, and a fit goes on at the next suggestion. */
static int evaluations(const gp *search)
{
    int most = 2400 / search->model.count;
    return most > 40 ? 40 : most < 6 ? 6 : most;
}

/* Fit under one warp; how well it describes the values, lower is better. A warp's first fit begins at the last one. */
static double fit(gp *search, gp_warp_kind kind, bool restart, int evaluations)
{
    gp_model *model = &search->model;
    size_t parameters = (size_t)gp_fit_parameters(model);
    double *theta = search->theta_of + (size_t)kind * parameters;
    gp_scale scale = gp_warp(kind, model->count, search->state, search->value, search->sorted, model->y);
    search->stretch = scale.stretch;
    if (search->fitted_of[kind])
        memcpy(model->theta, theta, parameters * sizeof *theta);
    double value = gp_fit(model, restart, evaluations);
    memcpy(theta, model->theta, parameters * sizeof *theta);
    search->fitted_of[kind] = true;
    return value - scale.slopes;
}

/* The linear map, unless another one describes the values better by so much (the logarithm of a likelihood ratio). */
static const double handicap = 5;

/* Which warp is decided now and then; starts other than the fit before, too. */
static void make_model(gp *search)
{
    enum { FEW = 40, MANY = 100 };
    int told = search->history.told, most = evaluations(search);
    bool restart = told < FEW || told % (told < MANY ? 8 : 32) == 0;
    double best = fit(search, search->warp, restart, search->model.fitted ? most : 40);
    if (told >= search->warp_at + (told < FEW ? 5 : told / 8)) {
        gp_warp_kind was = search->warp;
        best += was == GP_WARP_LINEAR ? 0 : handicap;
        for (int kind = 0; kind < GP_WARPS; kind++) {
            if (kind == (int)was)
                continue;
            double value = fit(search, (gp_warp_kind)kind, false, most);
            value += kind == GP_WARP_LINEAR ? 0 : handicap;
            if (value < best) {
                best = value;
                search->warp = (gp_warp_kind)kind;
            }
        }
        search->warp_at = told;
        fit(search, search->warp, false, 1); /* back to its targets */
    }
    gp_model_factor(&search->model);
}

static void draw_new(gp *search, base_rng *rng, double *x)
{
    enum { DRAWS = 32 };
    for (int draw = 0; draw < DRAWS; draw++) {
        cadre_space_sample(search->space.space, search->seed, base_rng_u64(rng), x);
        if (!gp_history_seen(&search->history, x))
            return;
    }
}

/* What has to be improved on: the best target as the model has it, without its noise, and what is expected of the
 * trials that run. */
static double best_target(gp *search)
{
    gp_model *model = &search->model;
    double best = INFINITY, noise = model->kernel.noise;
    for (int i = 0; i < model->count; i++)
        if (search->state[i] != GP_FAILED)
            best = fmin(best, model->y[i] - (model->fixed_noise ? 0 : noise * model->alpha[i]));
    for (int i = model->count; i < model->all; i += GP_BLOCK) {
        double mean[GP_BLOCK], variance[GP_BLOCK];
        for (int k = 0; k < GP_BLOCK; k++)
            for (int c = 0; c < search->space.columns; c++)
                search->search.columns[c * GP_BLOCK + k] =
                    model->points.at[c * model->points.stride + (i + k < model->all ? i + k : i)];
        gp_model_predict(model, search->search.columns, mean, variance);
        for (int k = 0; k < GP_BLOCK; k++)
            best = fmin(best, mean[k]);
    }
    return best;
}

/* The median of the first complete trials, which were spread evenly, less the best: what there is to be gained. */
static double spread(gp *search)
{
    const gp_history *history = &search->history;
    double best = INFINITY, *first = search->sorted;
    int count = 0;
    for (int i = 0; i < history->count; i++) {
        double value = history->value[i];
        if (history->state[i] != GP_COMPLETE)
            continue;
        best = fmin(best, value);
        int at = count < search->options.startup ? count++ : -1;
        for (; at > 0 && first[at - 1] > value; at--)
            first[at] = first[at - 1];
        if (at >= 0)
            first[at] = value;
    }
    return count ? first[count / 2] - best : 0;
}

static int suggest(gp *search, int64_t number, base_rng *rng, double *x)
{
    int status = make_room(search);
    if (status)
        return status;
    choose(search);
    make_model(search);
    gp_search *points = &search->search;
    points->rng = rng;
    points->first = (uint64_t)number * (uint64_t)search->options.candidates;
    points->repeats = search->options.noise == CADRE_GP_NOISY;
    points->goal = (gp_goal){best_target(search), 1};
    double promise = gp_search_maximise(points, x);
    if (promise == -INFINITY) {
        draw_new(search, rng, x);
    } else if (number % 2 && exp(promise) * search->stretch < GP_LITTLE * spread(search)) {
        points->goal.widen = GP_WIDEN;
        if (gp_search_maximise(points, search->beyond) > -INFINITY)
            memcpy(x, search->beyond, (size_t)search->history.ndims * sizeof *x);
    }
    return CADRE_OK;
}

/* With many trials at once the results of the first ones are not waited for: what is known then is better than another
 * point by chance. One by one this is when `startup` results are there. */
static bool is_starting(const gp *search)
{
    enum { FEWEST = 2 };
    const gp_history *history = &search->history;
    return history->told < search->options.startup &&
           (history->told < FEWEST || history->told + history->running < search->options.startup);
}

static int gp_ask(void *self, int64_t number, double *x)
{
    gp *search = self;
    int status = gp_history_reserve(&search->history); /* before a fit, which is not to be made twice */
    if (status)
        return status;
    base_rng rng;
    base_rng_init(&rng, search->seed, base_rng_mix((uint64_t)number, SEARCH_STREAM_GP));
    if (is_starting(search) || search->space.axes == 0) {
        gp_even_point(&search->space, (uint64_t)number, x);
        if (gp_history_seen(&search->history, x))
            draw_new(search, &rng, x);
    } else {
        status = suggest(search, number, &rng, x);
    }
    return status ? status : gp_history_add(&search->history, number, x);
}

const cadre_searcher_table cadre_searcher_gp = {
    .abi = CADRE_SEARCHER_ABI,
    .size = sizeof(cadre_searcher_table),
    .name = "gp",
    .create = gp_create,
    .ask = gp_ask,
    .tell = gp_tell,
    .running = gp_running,
    .free = gp_free,
};
