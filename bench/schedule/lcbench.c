#include "lcbench.h"

#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { WIDTH = 128, EMBEDDING = 24, INPUT = 32, GATED = 455, BLOCKS = 3 };

const lcbench_task lcbench_tasks[LCBENCH_TASKS] = {{"7593", 35, 85.781},  {"34539", 33, 99.037},  {"126026", 2, 99.388},
                                       {"167168", 10, 88.071}, {"189873", 28, 93.502}, {"189906", 30, 92.342}};

struct norm {
    const float *weight, *bias, *mean, *var;
};

struct lcbench {
    float *weights;
    const float *embedding, *first_weight, *first_bias, *head_weight, *head_bias;
    struct norm norms[BLOCKS + 1];
    const float *weight0[BLOCKS], *bias0[BLOCKS], *weight1[BLOCKS], *bias1[BLOCKS];
};

static const float *find(const json_t *layout, const float *weights, const char *fmt, int block)
{
    char name[64];
    snprintf(name, sizeof name, fmt, block);
    size_t index;
    json_t *entry;
    json_array_foreach(layout, index, entry)
    {
        const char *found = json_string_value(json_array_get(entry, 0));
        if (found && strcmp(found, name) == 0)
            return weights + json_integer_value(json_array_get(entry, 2));
    }
    fprintf(stderr, "lcbench: the layout has no %s\n", name);
    exit(1);
}

static float *read_weights(const char *path)
{
    FILE *file = fopen(path, "rb");
    if (!file || fseek(file, 0, SEEK_END) != 0) {
        perror(path);
        return NULL;
    }
    size_t nbytes = (size_t)ftell(file);
    float *weights = malloc(nbytes);
    rewind(file);
    if (!weights || fread(weights, 1, nbytes, file) != nbytes) {
        perror(path);
        free(weights);
        weights = NULL;
    }
    fclose(file);
    return weights;
}

static void place(lcbench *b, const json_t *layout)
{
    b->embedding = find(layout, b->weights, "embds_fct.0.weight", 0);
    b->first_weight = find(layout, b->weights, "first_layer.weight", 0);
    b->first_bias = find(layout, b->weights, "first_layer.bias", 0);
    b->head_weight = find(layout, b->weights, "head.weight", 0);
    b->head_bias = find(layout, b->weights, "head.bias", 0);
    for (int i = 0; i <= BLOCKS; i++) {
        const char *prefix = i < BLOCKS ? "layers.%d.norm" : "last_normalization";
        char name[4][64];
        static const char *const parts[] = {"weight", "bias", "running_mean", "running_var"};
        for (int k = 0; k < 4; k++)
            snprintf(name[k], sizeof name[k], "%s.%s", prefix, parts[k]);
        b->norms[i] = (struct norm){find(layout, b->weights, name[0], i), find(layout, b->weights, name[1], i),
                                    find(layout, b->weights, name[2], i), find(layout, b->weights, name[3], i)};
    }
    for (int i = 0; i < BLOCKS; i++) {
        b->weight0[i] = find(layout, b->weights, "layers.%d.linear0.weight", i);
        b->bias0[i] = find(layout, b->weights, "layers.%d.linear0.bias", i);
        b->weight1[i] = find(layout, b->weights, "layers.%d.linear1.weight", i);
        b->bias1[i] = find(layout, b->weights, "layers.%d.linear1.bias", i);
    }
}

lcbench *lcbench_open(const char *directory)
{
    char path[1024];
    snprintf(path, sizeof path, "%s/lcbench_layout.json", directory);
    json_error_t error;
    json_t *layout = json_load_file(path, 0, &error);
    if (!layout) {
        fprintf(stderr, "%s: %s\n", path, error.text);
        return NULL;
    }
    lcbench *b = calloc(1, sizeof *b);
    snprintf(path, sizeof path, "%s/lcbench.f32", directory);
    if (b && (b->weights = read_weights(path)))
        place(b, layout);
    json_decref(layout);
    if (b && !b->weights) {
        free(b);
        b = NULL;
    }
    return b;
}

void lcbench_close(lcbench *bench)
{
    if (bench)
        free(bench->weights);
    free(bench);
}

/* y = W x + b. */
static void linear(const float *weight, const float *bias, const float *x, int in, int out, float *y)
{
    for (int o = 0; o < out; o++) {
        const float *row = weight + (size_t)o * (size_t)in;
        float lanes[8] = {0}; /* independent sums, which a compiler may put side by side */
        int i = 0;
        for (; i + 8 <= in; i += 8)
            for (int k = 0; k < 8; k++)
                lanes[k] += row[i + k] * x[i + k];
        float sum = bias[o];
        for (int k = 0; k < 8; k++)
            sum += lanes[k];
        for (; i < in; i++)
            sum += row[i] * x[i];
        y[o] = sum;
    }
}

static void normalise(const struct norm *norm, const float *x, float *y)
{
    for (int i = 0; i < WIDTH; i++)
        y[i] = (x[i] - norm->mean[i]) / sqrtf(norm->var[i] + 1e-5f) * norm->weight[i] + norm->bias[i];
}

static double scaled_log(double value, double shift, double scale) { return (log(value + 1e-12) + shift) / scale; }

void lcbench_evaluate(const lcbench *bench, int row, const double params[LCBENCH_PARAMS], double epoch, double out[LCBENCH_OUTPUTS])
{
    float x[INPUT], h[WIDTH], z[WIDTH], y[2 * GATED], head[LCBENCH_OUTPUTS];
    memcpy(x, bench->embedding + row * EMBEDDING, EMBEDDING * sizeof *x);
    const double inputs[8] = {log(epoch + 1e-12) / 3.9512436,
                              (params[0] - 16) / 495,
                              scaled_log(params[1], 9.2093115, 6.896975),
                              (params[2] - .10000386) / .88225144,
                              scaled_log(params[3], 9.9164562, 7.6138458),
                              (params[4] - 1) / 3,
                              (params[5] - 64) / 960,
                              (params[6] - .00053575326) / .99941206};
    for (int i = 0; i < 8; i++)
        x[EMBEDDING + i] = (float)inputs[i];
    linear(bench->first_weight, bench->first_bias, x, INPUT, WIDTH, h);
    for (int block = 0; block < BLOCKS; block++) {
        normalise(&bench->norms[block], h, z);
        linear(bench->weight0[block], bench->bias0[block], z, WIDTH, 2 * GATED, y);
        for (int i = 0; i < GATED; i++)
            y[i] *= y[GATED + i] > 0 ? y[GATED + i] : 0;
        linear(bench->weight1[block], bench->bias1[block], y, GATED, WIDTH, z);
        for (int i = 0; i < WIDTH; i++)
            h[i] += z[i];
    }
    normalise(&bench->norms[BLOCKS], h, z);
    for (int i = 0; i < WIDTH; i++)
        z[i] = z[i] > 0 ? z[i] : 0;
    linear(bench->head_weight, bench->head_bias, z, WIDTH, LCBENCH_OUTPUTS, head);
    double s[LCBENCH_OUTPUTS];
    for (int i = 0; i < LCBENCH_OUTPUTS; i++)
        s[i] = 1 / (1 + exp(-(double)head[i]));
    out[0] = 46790.668 * s[0] + 1.421e-4;
    out[1] = exp(32.233849 * s[1] - 27.631021) - 1e-12;
    out[2] = 34.480179 * s[2] + .018199017;
    out[3] = exp(27.624672 * s[3] - 27.630814) - 1e-12;
    out[4] = 5.5484247 * s[4] + .3263174;
    out[5] = exp(27.626204 * s[5] - 27.631021) - 1e-12;
}
