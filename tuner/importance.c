/*
 * PED-ANOVA: Watanabe, Bansal, Hutter, "PED-ANOVA: Efficiently Quantifying Hyperparameter Importance in Arbitrary Subspaces", IJCAI 2023 (arXiv 2304.10255),
 * section 4: a parameter's importance is the Pearson divergence between its density among the best tenth of the trials and among all, both one-dimensional Parzen
 * estimates on a grid of 50 cells with Scott's bandwidth (as in Optuna's PedAnovaImportanceEvaluator). Taken rather than fANOVA (Hutter, Hoos, Leyton-Brown, ICML
 * 2014) for three reasons: it needs no forest to be trusted with few trials, it takes linear time, and it asks only which trials are the best, so that pruned ones,
 * whose values cannot be compared, take part. What it does not tell is how parameters act together.
 *
 * Where it departs:
 * - What as many trials drawn by lot would score is taken off, the mean of DRAWS draws; how often lots score as much is the `chance`. Few trials make any
 *   parameter look important: the best tenth of 30 is three points.
 * - The best are a tenth of the trials, but at least five, or half of them.
 * - A parameter that only some trials have is measured among those, the best of them against all of them, and weighs as many as have it of the best of all.
 * - Pruned trials are there, behind all complete ones.
 */
#include "tuner/importance.h"

#include "base/mem.h"
#include "base/rng.h"
#include "cadre/status.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { CELLS = 50, DRAWS = 100, LEAST_TOP = 5 };
static const double TOP = 0.1;

struct work {
    const importance_trials *trials;
    int *order;     /* trials, best first */
    int *cell;      /* of the trials that have the parameter, in that order; likewise */
    int *lot;       /* the same, to be shuffled */
    double *counts; /* by cell */
    double *density[2];
    int cells;
};

/* ---- cells ------------------------------------------------------------------------------------------------------ */

static double scaled(const importance_param *param, double value) { return param->log && param->low > 0 ? log(fmax(value, param->low)) : value; }

static int cells_of(const importance_param *param)
{
    if (param->choices > 0)
        return param->choices;
    if (!(param->high > param->low))
        return 1;
    double steps = param->step > 0 ? floor((param->high - param->low) / param->step + 0.5) + 1 : INFINITY;
    return steps < CELLS ? (int)steps : CELLS;
}

static int cell_of(const importance_param *param, int cells, double value)
{
    double at = value;
    if (param->choices == 0) {
        double low = scaled(param, param->low), high = scaled(param, param->high);
        bool on_steps = param->step > 0 && !param->log && cells < CELLS;
        at = on_steps ? (value - param->low) / param->step + 0.5 : (scaled(param, value) - low) / (high - low) * cells;
    }
    return at >= cells ? cells - 1 : at > 0 ? (int)at : 0;
}

/* ---- densities -------------------------------------------------------------------------------------------------- */

/* Scott's rule, in cells. */
static double bandwidth(const double *counts, int cells, double n)
{
    double mean = 0, squares = 0, sum = 0;
    int low = -1, high = -1;
    for (int i = 0; i < cells; i++)
        mean += counts[i] * i / n;
    for (int i = 0; i < cells; i++) {
        squares += counts[i] * (i - mean) * (i - mean);
        sum += counts[i];
        low = low < 0 && sum >= n / 4 ? i : low;
        high = high < 0 && sum >= 3 * n / 4 ? i : high;
    }
    double spread = sqrt(squares / fmax(n - 1, 1));
    return fmax(1.059 * fmin((high - low) / 1.34, spread) * pow(n, -0.2), 0.5 / 1.64); /* nine tenths of a kernel in one cell at the narrowest */
}

static double normal_below(double z) { return 0.5 * erfc(-z * M_SQRT1_2); }

/* Smoothed shares of the cells, with a uniform kernel beside those of the trials. */
static void smooth(const importance_param *param, const double *counts, int cells, double n, double *out)
{
    for (int i = 0; i < cells; i++)
        out[i] = 1.0 / cells + (param->choices > 0 ? counts[i] : 0);
    double sd = param->choices > 0 ? 0 : bandwidth(counts, cells, n), edge[CELLS + 1];
    for (int i = 0; i < cells && param->choices == 0; i++) {
        if (counts[i] == 0)
            continue;
        for (int k = 0; k <= cells; k++)
            edge[k] = normal_below((k - 0.5 - i) / sd);
        for (int k = 0; k < cells; k++)
            out[k] += counts[i] * (edge[k + 1] - edge[k]) / (edge[cells] - edge[0]);
    }
    for (int i = 0; i < cells; i++)
        out[i] /= n + 1;
}

static double divergence(struct work *work, const importance_param *param, const int *cell, int top)
{
    memset(work->counts, 0, (size_t)work->cells * sizeof *work->counts);
    for (int i = 0; i < top; i++)
        work->counts[cell[i]]++;
    smooth(param, work->counts, work->cells, top, work->density[1]);
    double sum = 0;
    for (int i = 0; i < work->cells; i++) {
        double all = work->density[0][i], ratio = work->density[1][i] / all - 1;
        sum += all * ratio * ratio;
    }
    return sum;
}

/* ---- the trials ------------------------------------------------------------------------------------------------- */

/* Best first: complete before pruned. */
static int by_value(const void *a, const void *b, void *context)
{
    const importance_trials *trials = context;
    int i = *(const int *)a, k = *(const int *)b;
    bool late_i = trials->pruned && trials->pruned[i], late_k = trials->pruned && trials->pruned[k];
    double x = trials->value[i], y = trials->value[k];
    if (late_i != late_k)
        return late_i - late_k;
    return x != y ? (x > y) - (x < y) : i - k;
}

/* How many of `n` in that order are the best: with the equals of the last, and no pruned ones. */
static int best_of(const importance_trials *trials, const int *order, int n)
{
    int top = (int)fmax(ceil(TOP * n), fmin(LEAST_TOP, n / 2)), complete = 0;
    while (complete < n && !(trials->pruned && trials->pruned[order[complete]]))
        complete++;
    while (top < complete && trials->value[order[top]] == trials->value[order[top - 1]])
        top++;
    return top < complete ? top : complete;
}

static bool has(const importance_trials *trials, int trial, int param) { return !isnan(trials->x[(size_t)trial * (size_t)trials->params + (size_t)param]); }

/* A parameter's divergence beyond chance, weighed by how many of the best have it; `have` and `top`: of the trials that have it, and their best. */
static double score(struct work *work, int param, int have, int top, double *chance)
{
    const importance_param *p = &work->trials->param[param];
    base_rng rng;
    double by_lot = 0;
    int as_good = 0;
    *chance = 1;
    work->cells = cells_of(p);
    if (work->cells < 2 || top < 2 || 2 * top > have)
        return 0;
    memset(work->counts, 0, (size_t)work->cells * sizeof *work->counts);
    for (int i = 0; i < have; i++)
        work->counts[work->cell[i]]++;
    smooth(p, work->counts, work->cells, have, work->density[0]);
    double found = divergence(work, p, work->cell, top);
    base_rng_init(&rng, 1, (uint64_t)param);
    memcpy(work->lot, work->cell, (size_t)have * sizeof *work->lot);
    for (int draw = 0; draw < DRAWS; draw++) {
        for (int i = 0; i < top; i++) { /* the first `top` of a shuffle */
            int other = i + (int)base_rng_below(&rng, (uint64_t)(have - i)), kept = work->lot[i];
            work->lot[i] = work->lot[other];
            work->lot[other] = kept;
        }
        double drawn = divergence(work, p, work->lot, top);
        by_lot += drawn / DRAWS;
        as_good += drawn >= found;
    }
    *chance = (as_good + 1.0) / (DRAWS + 1);
    return fmax(found - by_lot, 0);
}

static void score_all(struct work *work, int top, importance_score *scores, double *sum)
{
    const importance_trials *trials = work->trials;
    for (int d = 0; d < trials->params; d++) {
        int have = 0, of_best = 0;
        for (int i = 0; i < trials->trials; i++) {
            int trial = work->order[i];
            if (!has(trials, trial, d))
                continue;
            const importance_param *param = &trials->param[d];
            work->lot[have] = trial;
            work->cell[have++] = cell_of(param, cells_of(param), trials->x[(size_t)trial * (size_t)trials->params + (size_t)d]);
            of_best += i < top;
        }
        scores[d] = (importance_score){.chance = 1, .trials = have};
        if (have >= IMPORTANCE_LEAST)
            scores[d].share = score(work, d, have, best_of(trials, work->lot, have), &scores[d].chance) * of_best / top;
        *sum += scores[d].share;
    }
}

static int most_cells(const importance_trials *trials)
{
    int most = CELLS;
    for (int d = 0; d < trials->params; d++)
        most = trials->param[d].choices > most ? trials->param[d].choices : most;
    return most;
}

int importance_of(const importance_trials *trials, importance_score *scores, int *top, importance_verdict *verdict)
{
    size_t n = (size_t)trials->trials + 1, cells = (size_t)most_cells(trials);
    int *numbers = base_malloc(3 * n * sizeof *numbers);
    double *room = base_malloc(3 * cells * sizeof *room), sum = 0;
    if (!numbers || !room) {
        free(numbers);
        free(room);
        return CADRE_ENOMEM;
    }
    struct work work = {.trials = trials, .order = numbers, .cell = numbers + n, .lot = numbers + 2 * n, .counts = room, .density = {room + cells, room + 2 * cells}};
    for (int i = 0; i < trials->trials; i++)
        work.order[i] = i;
    qsort_r(work.order, (size_t)trials->trials, sizeof *work.order, by_value, (void *)(uintptr_t)trials);
    for (int d = 0; d < trials->params; d++)
        scores[d] = (importance_score){.chance = 1};
    *top = best_of(trials, work.order, trials->trials);
    if (trials->trials < IMPORTANCE_LEAST || *top < 2)
        *verdict = IMPORTANCE_TOO_FEW;
    else if (2 * *top > trials->trials)
        *verdict = IMPORTANCE_CONSTANT;
    else {
        score_all(&work, *top, scores, &sum);
        *verdict = sum > 0 ? IMPORTANCE_FOUND : IMPORTANCE_NONE;
    }
    for (int d = 0; d < trials->params && sum > 0; d++)
        scores[d].share /= sum;
    free(numbers);
    free(room);
    return CADRE_OK;
}

/* ---- why ---------------------------------------------------------------------------------------------------------- */

static int by_number(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Of complete trials the mean value, weighed by how near their parameter is to `at`: a normal kernel, one choice exactly. NaN: none is near. */
static double mean_near(const importance_trials *trials, int param, double at)
{
    const importance_param *p = &trials->param[param];
    double range = scaled(p, p->high) - scaled(p, p->low), weights = 0, sum = 0;
    for (int i = 0; i < trials->trials; i++) {
        if ((trials->pruned && trials->pruned[i]) || !has(trials, i, param) || !isfinite(trials->value[i]))
            continue;
        double x = trials->x[(size_t)i * (size_t)trials->params + (size_t)param];
        double z = range > 0 ? (scaled(p, x) - scaled(p, at)) / (0.05 * range) : 0; /* a twentieth of the range */
        double weight = p->choices > 0 ? x == at : exp(-0.5 * z * z);
        weights += weight;
        sum += weight * trials->value[i];
    }
    return weights > 0.1 ? sum / weights : NAN;
}

static double most_frequent(const double *values, int count) /* in order */
{
    int best = 0, best_run = 0;
    for (int i = 0, run = 0; i < count; i++) {
        run = i > 0 && values[i] == values[i - 1] ? run + 1 : 1;
        if (run > best_run) {
            best_run = run;
            best = i;
        }
    }
    return values[best];
}

bool importance_why(const importance_trials *trials, int trial, int param, importance_reason *reason)
{
    int count = 0, below = 0, above = 0;
    double own = trials->x[(size_t)trial * (size_t)trials->params + (size_t)param];
    double *others = isnan(own) ? NULL : base_malloc(((size_t)trials->trials + 1) * sizeof *others);
    if (!others)
        return false;
    for (int i = 0; i < trials->trials; i++) {
        if (i == trial || !has(trials, i, param))
            continue;
        double x = others[count++] = trials->x[(size_t)i * (size_t)trials->params + (size_t)param];
        below += trials->param[param].choices > 0 ? x != own : x < own;
        above += trials->param[param].choices == 0 && x > own;
    }
    qsort(others, (size_t)count, sizeof *others, by_number);
    bool told = below + above > 0;
    if (told) {
        double typical = trials->param[param].choices > 0 ? most_frequent(others, count) : others[count / 2];
        *reason = (importance_reason){(double)below / count, (double)above / count, typical, mean_near(trials, param, own), mean_near(trials, param, typical)};
    }
    free(others);
    return told;
}
