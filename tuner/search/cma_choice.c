/*
 * Choices beside the numbers: Hamano, Saito, Nomura, Uchida, Shirakawa, "CatCMA: Stochastic Optimization for
 * Mixed-Category Problems", GECCO 2024, arXiv 2405.09962. Each choice has a categorical distribution, moved along the
 * natural gradient by the weights that the mean is moved by, as far as ASNG's signal to noise ratio allows (Akimoto et
 * al. 2019); its margin keeps every value possible. A choice that a candidate does not have is not moved by it.
 */
#include "base/error.h"
#include "base/mem.h"
#include "tuner/search/cma.h"

#include <stdlib.h>
#include <string.h>

static const double ALPHA = 1.5;

int cma_choices_init(cma_choices *choices, const cma_coords *coords)
{
    *choices = (cma_choices){.count = coords->choices};
    if (!(choices->values = base_calloc((size_t)coords->choices + 1, sizeof *choices->values)))
        return CADRE_ENOMEM;
    for (int i = 0; i < coords->choices; i++) {
        choices->values[i] = coords->space->dims[coords->choice[i]].count;
        choices->widest = choices->values[i] > choices->widest ? choices->values[i] : choices->widest;
    }
    size_t cells = (size_t)choices->count * (size_t)choices->widest + 1;
    choices->q = base_calloc(cells, sizeof(double));
    choices->gradient = base_calloc(cells, sizeof(double));
    choices->along = base_calloc(cells, sizeof(double));
    choices->s = base_calloc(cells, sizeof(double));
    return choices->q && choices->gradient && choices->along && choices->s ? CADRE_OK : CADRE_ENOMEM;
}

void cma_choices_free(cma_choices *choices)
{
    free(choices->values);
    free(choices->q);
    free(choices->gradient);
    free(choices->along);
    free(choices->s);
    *choices = (cma_choices){0};
}

void cma_choices_start(cma_choices *choices)
{
    for (int i = 0; i < choices->count; i++)
        for (int v = 0; v < choices->widest; v++)
            choices->q[i * choices->widest + v] = v < choices->values[i] ? 1.0 / choices->values[i] : 0;
    memset(choices->s, 0, (size_t)choices->count * (size_t)choices->widest * sizeof(double));
    choices->delta = choices->Delta = 1;
    choices->gamma = 0;
}

void cma_choices_draw(const cma_choices *choices, base_rng *rng, int *pick)
{
    for (int i = 0; i < choices->count; i++) {
        const double *q = choices->q + i * choices->widest;
        double u = base_rng_uniform(rng);
        pick[i] = 0;
        while (pick[i] + 1 < choices->values[i] && u >= q[pick[i]])
            u -= q[pick[i]++];
    }
}

/* Section 4.3 of the paper: the best value keeps away from 1 so far that all choices stay as they are in 73 of 100
 * candidates. */
static void keep_possible(const cma_choices *choices)
{
    for (int i = 0; i < choices->count; i++) {
        double *q = choices->q + i * choices->widest, sum = 0;
        int values = choices->values[i];
        double least = (1 - pow(0.73, 1.0 / choices->count)) / (values - 1);
        for (int v = 0; v < values; v++)
            sum += q[v] = fmax(q[v], least);
        double over = sum - 1, above = sum - values * least;
        for (int v = 0; v < values; v++)
            q[v] -= above > 0 ? over * (q[v] - least) / above : 0;
    }
}

/* The gradient times the root of Fisher's matrix, for the values but the last; its length. */
static double length_in_fisher(const cma_choices *choices, double *out)
{
    double squares = 0;
    for (int i = 0; i < choices->count; i++) {
        const double *q = choices->q + i * choices->widest, *gradient = choices->gradient + i * choices->widest;
        int last = choices->values[i] - 1;
        for (int v = 0; v < last; v++) {
            double along = gradient[v] / sqrt(q[v]) + sqrt(q[v]) * gradient[last] / (q[last] + sqrt(q[last]));
            squares += along * along;
            out[i * choices->widest + v] = along;
        }
    }
    return sqrt(squares);
}

static void adapt(cma_choices *choices, const double *along, double length)
{
    double degrees = 0, squares = 0;
    for (int i = 0; i < choices->count; i++)
        degrees += choices->values[i] - 1;
    choices->delta = 1 / choices->Delta;
    double beta = choices->delta / sqrt(degrees), keep = 1 - beta, take = sqrt(beta * (2 - beta));
    for (int i = 0; i < choices->count * choices->widest; i++) {
        choices->s[i] = keep * choices->s[i] + take * along[i] / length;
        squares += choices->s[i] * choices->s[i];
    }
    choices->gamma = keep * keep * choices->gamma + beta * (2 - beta);
    choices->Delta = fmin(fmax(choices->Delta * exp(beta * (choices->gamma - squares / ALPHA)), 1), 1e6);
}

void cma_choices_update(cma_choices *choices, int lambda, const int *pick, const double *pull)
{
    size_t cells = (size_t)choices->count * (size_t)choices->widest;
    if (choices->count == 0)
        return;
    memset(choices->gradient, 0, cells * sizeof(double));
    for (int k = 0; k < lambda; k++)
        for (int i = 0; pull[k] > 0 && i < choices->count; i++) {
            int own = pick[k * choices->count + i];
            double *gradient = choices->gradient + i * choices->widest, *q = choices->q + i * choices->widest;
            for (int v = 0; own >= 0 && v < choices->values[i]; v++)
                gradient[v] += pull[k] * ((v == own) - q[v]);
        }
    double *along = choices->along, length = length_in_fisher(choices, along);
    if (length < 1e-30)
        return;
    for (size_t i = 0; i < cells; i++)
        choices->q[i] += choices->delta / length * choices->gradient[i];
    adapt(choices, along, length);
    keep_possible(choices);
}

void cma_choices_lean(cma_choices *choices, const int *pick, double by)
{
    for (int i = 0; i < choices->count; i++)
        for (int v = 0; pick[i] >= 0 && v < choices->values[i]; v++)
            choices->q[i * choices->widest + v] += by * ((v == pick[i]) - choices->q[i * choices->widest + v]);
    keep_possible(choices);
}
