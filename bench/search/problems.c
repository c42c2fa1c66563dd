#include "problems.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PI           3.14159265358979323846
#define COUNT(array) ((int)(sizeof(array) / sizeof *(array)))

/* The shift that takes the optimum off the centre: a low-discrepancy sequence over [-r, r]. */
static double shift(int i, double r)
{
    double whole;
    return r * (2 * modf((i + 1) * 0.6180339887498949, &whole) - 1);
}

static double branin(const bench_problem *p, const double *x)
{
    (void)p;
    double a = x[1] - 5.1 / (4 * PI * PI) * x[0] * x[0] + 5 / PI * x[0] - 6;
    return a * a + 10 * (1 - 1 / (8 * PI)) * cos(x[0]) + 10;
}

static double hartmann6(const bench_problem *p, const double *x)
{
    static const double alpha[4] = {1.0, 1.2, 3.0, 3.2};
    static const double A[4][6] = {
        {10, 3, 17, 3.5, 1.7, 8}, {0.05, 10, 17, 0.1, 8, 14}, {3, 3.5, 1.7, 10, 17, 8}, {17, 8, 0.05, 10, 0.1, 14}};
    static const double P[4][6] = {{0.1312, 0.1696, 0.5569, 0.0124, 0.8283, 0.5886},
                                   {0.2329, 0.4135, 0.8307, 0.3736, 0.1004, 0.9991},
                                   {0.2348, 0.1451, 0.3522, 0.2883, 0.3047, 0.6650},
                                   {0.4047, 0.8828, 0.8732, 0.5743, 0.1091, 0.0381}};
    (void)p;
    double sum = 0;
    for (int i = 0; i < 4; i++) {
        double inner = 0;
        for (int j = 0; j < 6; j++)
            inner += A[i][j] * (x[j] - P[i][j]) * (x[j] - P[i][j]);
        sum -= alpha[i] * exp(-inner);
    }
    return sum;
}

static double rosenbrock(const bench_problem *p, const double *x)
{
    double sum = 0;
    for (int i = 0; i + 1 < p->ndims; i++)
        sum += 100 * (x[i + 1] - x[i] * x[i]) * (x[i + 1] - x[i] * x[i]) + (1 - x[i]) * (1 - x[i]);
    return sum;
}

static double ackley(const bench_problem *p, const double *x)
{
    double squares = 0, cosines = 0;
    for (int i = 0; i < p->ndims; i++) {
        double z = x[i] - shift(i, 16);
        squares += z * z;
        cosines += cos(2 * PI * z);
    }
    return -20 * exp(-0.2 * sqrt(squares / p->ndims)) - exp(cosines / p->ndims) + 20 + exp(1);
}

static double rastrigin(const bench_problem *p, const double *x)
{
    double sum = 10 * p->ndims;
    for (int i = 0; i < p->ndims; i++) {
        double z = x[i] - shift(i, 2.56);
        sum += z * z - 10 * cos(2 * PI * z);
    }
    return sum;
}

static double styblinski(const bench_problem *p, const double *x)
{
    double sum = 0;
    for (int i = 0; i < p->ndims; i++)
        sum += pow(x[i], 4) - 16 * x[i] * x[i] + 5 * x[i];
    return sum / 2;
}

static double levy(const bench_problem *p, const double *x)
{
    double w = 1 + (x[0] - 1) / 4, sum = sin(PI * w) * sin(PI * w);
    for (int i = 0; i + 1 < p->ndims; i++) {
        w = 1 + (x[i] - 1) / 4;
        sum += (w - 1) * (w - 1) * (1 + 10 * pow(sin(PI * w + 1), 2));
    }
    w = 1 + (x[p->ndims - 1] - 1) / 4;
    return sum + (w - 1) * (w - 1) * (1 + pow(sin(2 * PI * w), 2));
}

static double ktablet(const bench_problem *p, const double *x)
{
    double sum = 0;
    for (int i = 0; i < p->ndims; i++) {
        double z = x[i] - shift(i, 2.56);
        sum += i < 3 ? z * z : 1e4 * z * z;
    }
    return sum;
}

static double mixednn(const bench_problem *p, const double *x)
{
    static const double best_lr[4] = {-0.7, -1.7, -2.9, -2.6}, by_opt[4] = {0.10, 0.04, 0.02, 0};
    static const double by_act[3] = {0.01, 0.05, 0};
    (void)p;
    double dropout = x[4];
    double a = log10(x[0]) - best_lr[(int)x[5]] + 0.1 * (x[3] - 4);
    double b = log10(x[1]) + 3 - (4 * dropout - 1);
    double c = (log2(x[2]) - 8) / 7;
    double e = (x[3] - 4) / 7;
    double g = dropout - 0.25;
    double off = by_opt[(int)x[5]] + by_act[(int)x[6]];
    return 1 - exp(-(off + 0.12 * fmin(a * a, 6) + 0.02 * b * b + 0.15 * c * c + 0.10 * e * e + 0.25 * g * g +
                     0.08 * fabs(c * e)));
}

enum { MODEL, K, P, C_LINEAR, C_RBF, C_POLY, GAMMA, DEGREE, COEF0 };

static double condsvm(const bench_problem *p, const double *x)
{
    (void)p;
    switch ((int)x[MODEL]) {
    case 3:
        return 0.12 + 0.02 * pow(log2(x[K]) - 3.3, 2) + 0.01 * pow(x[P] - 2, 2);
    case 0:
        return 0.15 + 0.02 * pow(log10(x[C_LINEAR]) + 0.5, 2);
    case 1: {
        double u = log10(x[C_RBF]) + log10(x[GAMMA]), v = log10(x[C_RBF]) - log10(x[GAMMA]) - 4;
        return 0.02 + 0.03 * pow(u + 0.8, 2) + 0.004 * v * v + 0.02 * (1 - cos(3 * u));
    }
    default:
        return 0.06 + 0.02 * pow(log10(x[C_POLY]) - 0.3 * x[DEGREE], 2) + 0.015 * pow(x[DEGREE] - 3, 2) +
               0.01 * pow(x[COEF0] - 1, 2);
    }
}

/* A table of -accuracy, scaled so that the best is 0 and the median 1. */
static double tabled(const bench_problem *p, const double *x)
{
    int row = 0;
    for (int i = 0; i < p->ndims; i++)
        row = row * (int)(p->dims[i].high + 1) + (int)x[i];
    return (p->best - p->table[row]) / (p->best - p->median);
}

#define FLOAT(name, low, high)                                                                                         \
    {                                                                                                                  \
        name, 'f', low, high, 0, 0, 0, 0, 0                                                                            \
    }
#define X(low, high) FLOAT("", low, high)

static bench_problem problems[32] = {
    {"branin2", 2, {X(-5, 10), X(0, 15)}, 0.39788735772973816, branin, 0, 0, 0},
    {"hartmann6", 6, {X(0, 1), X(0, 1), X(0, 1), X(0, 1), X(0, 1), X(0, 1)}, -3.322368011391339, hartmann6, 0, 0, 0},
    {"rosenbrock4", 4, {X(-5, 10)}, 0, rosenbrock, 0, 0, 0},
    {"ackley5s", 5, {X(-32.768, 32.768)}, 0, ackley, 0, 0, 0},
    {"rastrigin5s", 5, {X(-5.12, 5.12)}, 0, rastrigin, 0, 0, 0},
    {"styblinski8", 8, {X(-5, 5)}, -39.16616570377142 * 8, styblinski, 0, 0, 0},
    {"levy8", 8, {X(-10, 10)}, 0, levy, 0, 0, 0},
    {"ktablet10s", 10, {X(-5.12, 5.12)}, 0, ktablet, 0, 0, 0},
    {"mixednn7",
     7,
     {{"lr", 'f', 1e-5, 1, 0, 1, 0, 0, 0},
      {"wd", 'f', 1e-6, 0.1, 0, 1, 0, 0, 0},
      {"units", 'i', 8, 1024, 0, 1, 0, 0, 0},
      {"layers", 'i', 1, 8, 0, 0, 0, 0, 0},
      {"dropout", 'f', 0, 0.8, 0.05, 0, 0, 0, 0},
      {"opt", 'c', 0, 3, 0, 0, "sgd,momentum,adam,adamw", 0, 0},
      {"act", 'c', 0, 2, 0, 0, "relu,tanh,gelu", 0, 0}},
     0,
     mixednn,
     0,
     0,
     0},
    {"condsvm",
     9,
     {{"model", 'c', 0, 3, 0, 0, "linear,rbf,poly,knn", 0, 0},
      {"k", 'i', 1, 64, 0, 1, 0, 1, 3},
      {"p", 'f', 1, 5, 0, 0, 0, 1, 3},
      {"C_linear", 'f', 1e-4, 1e4, 0, 1, 0, 1, 0},
      {"C_rbf", 'f', 1e-4, 1e4, 0, 1, 0, 1, 1},
      {"C_poly", 'f', 1e-4, 1e4, 0, 1, 0, 1, 2},
      {"gamma", 'f', 1e-6, 100, 0, 1, 0, 1, 1},
      {"degree", 'i', 2, 7, 0, 0, 0, 1, 2},
      {"coef0", 'f', -1, 3, 0, 0, 0, 1, 2}},
     0.03428244342445213,
     condsvm,
     0,
     0,
     0},
};

#define FUNCTIONS 10
static int count = FUNCTIONS;

static const struct {
    const char *name;
    double best, median;
} tables[] = {
    {"australian", 0.9446693658828735, 0.898129940032959},
    {"blood_transfusion", 0.7466925382614136, 0.6237846612930298},
    {"car", 1.0, 0.9306980967521667},
    {"credit_g", 0.8852744102478027, 0.8115060329437256},
    {"kc1", 0.852441132068634, 0.5956428647041321},
    {"phoneme", 0.944469690322876, 0.8031420707702637},
    {"segment", 0.9685131311416626, 0.9090378880500793},
    {"vehicle", 0.9515701532363892, 0.8141723275184631},
};

static float *read_table(const char *data, const char *name)
{
    char path[4096];
    snprintf(path, sizeof path, "%s/hpobench_%s.f32", data, name);
    FILE *file = fopen(path, "rb");
    if (!file)
        return NULL;
    float *values = malloc(30000 * sizeof *values);
    if (values && fread(values, sizeof *values, 30000, file) != 30000) {
        free(values);
        values = NULL;
    }
    fclose(file);
    return values;
}

static int load_tables(const char *data)
{
    static char names[COUNT(tables)][64];
    static const char *const params[] = {"alpha", "batch_size", "depth", "learning_rate_init", "width"};
    static const int sizes[] = {10, 10, 3, 10, 10};
    for (int i = 0; i < COUNT(tables); i++) {
        float *table = read_table(data, tables[i].name);
        if (!table)
            return -1;
        snprintf(names[i], sizeof names[i], "hpobench:%s", tables[i].name);
        bench_problem *p = &problems[count++];
        *p = (bench_problem){.name = names[i], .ndims = 5, .value = tabled, .table = table};
        p->best = tables[i].best;
        p->median = tables[i].median;
        for (int j = 0; j < 5; j++)
            p->dims[j] = (bench_dim){.name = params[j], .kind = 'i', .high = sizes[j] - 1};
    }
    return 0;
}

int bench_problems_load(const char *data)
{
    static const char *const names[] = {"x0", "x1", "x2", "x3", "x4", "x5", "x6", "x7", "x8", "x9", "x10", "x11"};
    for (int i = 0; i < FUNCTIONS; i++)
        for (int j = 0; j < problems[i].ndims; j++) {
            if (!problems[i].dims[j].name) /* one given stands for all */
                problems[i].dims[j] = problems[i].dims[0];
            if (!problems[i].dims[j].name[0] || problems[i].dims[j].name == names[0])
                problems[i].dims[j].name = names[j];
        }
    if (data && count == FUNCTIONS && load_tables(data))
        return -1;
    return count;
}

int bench_problem_count(void) { return count; }
const bench_problem *bench_problem_at(int i) { return i >= 0 && i < count ? &problems[i] : NULL; }
double bench_problem_value(int i, const double *x) { return problems[i].value(&problems[i], x); }
const char *bench_problem_name(int i) { return problems[i].name; }
int bench_problem_ndims(int i) { return problems[i].ndims; }
double bench_problem_optimum(int i) { return problems[i].optimum; }
const bench_dim *bench_problem_dim(int i, int dim) { return &problems[i].dims[dim]; }
