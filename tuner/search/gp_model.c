/* The process: the factored covariance of the points, and what follows from it at others. */
#include "base/mem.h"
#include "tuner/search/gp.h"

#include <stdlib.h>
#include <string.h>

int gp_model_init(gp_model *model, const gp_space *space)
{
    *model = (gp_model){.kernel.space = space};
    size_t axes = (size_t)space->axes, parameters = 2 * axes + 3;
    model->kernel.w = base_calloc(2 * axes + 1, sizeof *model->kernel.w);
    model->theta = base_calloc(4 * parameters, sizeof *model->theta);
    model->scratch = base_calloc(gp_minimise_room((int)parameters), sizeof *model->scratch);
    if (!model->kernel.w || !model->theta || !model->scratch)
        return CADRE_ENOMEM;
    model->kernel.v = model->kernel.w + axes;
    model->best = model->theta + parameters;
    model->low = model->best + parameters;
    model->high = model->low + parameters;
    return CADRE_OK;
}

static void free_points(gp_model *model)
{
    free(model->points.at);
    free(model->y);
    free(model->l);
    free(model->inverse);
    free(model->square);
    free(model->alpha);
    free(model->row);
    model->points.at = model->y = model->l = model->inverse = model->square = model->alpha = model->row = NULL;
    model->room = 0;
}

void gp_model_free(gp_model *model)
{
    free_points(model);
    free(model->kernel.w);
    free(model->theta);
    free(model->scratch);
}

int gp_model_reserve(gp_model *model, int count)
{
    if (count <= model->room)
        return CADRE_OK;
    int room = count < 64 ? 64 : count + count / 2;
    room = (room + GP_ALIGN - 1) / GP_ALIGN * GP_ALIGN;
    size_t n = (size_t)room;
    free_points(model);
    model->points.at = base_calloc(n * (size_t)(model->kernel.space->columns + 1), sizeof(double));
    model->y = base_calloc(n, sizeof(double));
    model->l = base_calloc(n * n, sizeof(double));
    model->inverse = base_calloc(n * n, sizeof(double));
    model->square = base_calloc(n * n, sizeof(double));
    model->alpha = base_calloc(n, sizeof(double));
    model->row = base_calloc(n * (GP_BLOCK + 8) + 4 * GP_BLOCK, sizeof(double));
    if (!model->points.at || !model->y || !model->l || !model->inverse || !model->square || !model->alpha ||
        !model->row) {
        free_points(model);
        return CADRE_ENOMEM;
    }
    model->room = model->stride = model->points.stride = room;
    return CADRE_OK;
}

/* The lower triangle of the covariance of `n` points into l. */
static void fill(gp_model *model, int n)
{
    const gp_kernel *kernel = &model->kernel;
    gp_kernel_prepare(kernel, model->points.at, model->points.stride, n);
    for (int i = 0; i < n; i++) {
        double *row = model->l + (size_t)i * (size_t)model->stride;
        gp_kernel_row(kernel, model->points.at + i, model->points.stride, &model->points, i, model->row, row);
        row[i] = kernel->mean + kernel->joint + kernel->alone + kernel->noise;
    }
}

bool gp_model_try(gp_model *model, int n)
{
    fill(model, n);
    if (!gp_cholesky(n, model->stride, model->l))
        return false;
    gp_invert(n, model->stride, model->l, model->inverse);
    return true;
}

void gp_model_factor(gp_model *model)
{
    model->points.count = model->all;
    /* Enough noise makes any covariance a diagonal one. */
    while (!gp_model_try(model, model->all) && model->kernel.noise < 1e6)
        model->kernel.noise = fmax(10 * model->kernel.noise, 1e-10);
    double *half = model->row;
    gp_multiply(model->count, model->stride, model->inverse, model->y, half);
    gp_multiply_transposed(model->count, model->stride, model->inverse, half, model->alpha);
    for (int i = model->count; i < model->all; i++)
        model->alpha[i] = 0; /* as if those that run came out as is expected */
}

void gp_model_predict(gp_model *model, double *columns, double *mean, double *variance)
{
    const gp_kernel *kernel = &model->kernel;
    double *rows = model->row, *scratch = rows + (size_t)model->room * GP_BLOCK;
    const gp_points block = {.count = GP_BLOCK, .stride = GP_BLOCK, .at = columns};
    gp_kernel_prepare(kernel, columns, GP_BLOCK, GP_BLOCK);
    for (int k = 0; k < GP_BLOCK; k++)
        mean[k] = 0;
    for (int i = 0; i < model->all; i++) {
        double *row = rows + i * GP_BLOCK;
        gp_kernel_row(kernel, model->points.at + i, model->points.stride, &block, GP_BLOCK, scratch, row);
        for (int k = 0; k < GP_BLOCK; k++)
            mean[k] += model->alpha[i] * row[k];
    }
    gp_lengths(model->all, model->stride, model->inverse, rows, variance);
    double prior = kernel->mean + kernel->joint + kernel->alone;
    for (int k = 0; k < GP_BLOCK; k++)
        variance[k] = fmax(prior - variance[k], 0);
}
