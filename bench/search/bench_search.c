/*
 * Our side of the search bench: a searcher on the problems of problems.c, one run a seed, and the time of a suggestion.
 *
 *   bench_search --out results.csv [--searcher tpe] [--options JSON] [--label NAME] [--data DIR] [--seeds 30]
 *                [--first 0] [--only PROBLEM] [--trials 200] [--parallel 1] [--noise 0]
 *   bench_search --speed [--searcher tpe] [--dims 5]
 *
 * With --parallel 8 a trial's config is chosen before the seven trials before it have been told. With --noise 0.1 what
 * is told has normal noise, of 0.1 times what there is to be gained (the median of random points less the optimum); the
 * regret is then the true one of the config that was told to be the best.
 * The results file is the one that run_optuna.py writes too; runs that are in it already are passed over.
 */
#include "base/clock.h"
#include "base/rng.h"
#include "cadre/search.h"
#include "problems.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { TRIALS = 200, MOST_TRIALS = 400, EVERY = 25, PARALLEL = 64 };

typedef struct arguments {
    const char *out, *searcher, *options, *label, *data, *only;
    int seeds, first, trials, dims, speed, parallel;
    double noise;
} arguments;

static void die(const char *what)
{
    fprintf(stderr, "bench_search: %s: %s\n", what, cadre_error_message());
    exit(1);
}

static int split(char *text, const char **words)
{
    int count = 0;
    for (char *word = strtok(text, ","); word; word = strtok(NULL, ","))
        words[count++] = word;
    return count;
}

static cadre_space *space_of(const bench_problem *problem)
{
    cadre_param params[3 * BENCH_MAX_DIMS + 1];
    const char *words[BENCH_MAX_DIMS][8], *values[BENCH_MAX_DIMS];
    char choices[BENCH_MAX_DIMS][128];
    int n = 0;
    for (int i = 0; i < problem->ndims; i++) {
        const bench_dim *dim = &problem->dims[i];
        cadre_param param = {.name = dim->name, .low = dim->low, .high = dim->high, .q = dim->step};
        if (dim->kind == 'c') {
            snprintf(choices[i], sizeof choices[i], "%s", dim->choices);
            param.kind = CADRE_PARAM_CHOICE;
            param.count = split(choices[i], words[i]);
            param.values = words[i];
        } else if (dim->kind == 'i') {
            param.kind = dim->log ? CADRE_PARAM_LOGRANDINT : CADRE_PARAM_RANDINT;
            param.high += 1; /* not included there */
        } else {
            param.kind = dim->log ? CADRE_PARAM_LOGUNIFORM : dim->step > 0 ? CADRE_PARAM_QUNIFORM : CADRE_PARAM_UNIFORM;
        }
        if (dim->parent) {
            values[i] = words[dim->parent - 1][dim->parent_value];
            params[n++] = (cadre_param){.kind = CADRE_PARAM_WHEN,
                                        .name = problem->dims[dim->parent - 1].name,
                                        .values = &values[i],
                                        .count = 1};
        }
        params[n++] = param;
        if (dim->parent)
            params[n++] = (cadre_param){.kind = CADRE_PARAM_WHEN_END};
    }
    params[n] = (cadre_param){.kind = CADRE_PARAM_END};
    cadre_space *space;
    if (cadre_space_new(params, &space))
        die(problem->name);
    return space;
}

static int is_less(const void *a, const void *b)
{
    return (*(const double *)a > *(const double *)b) - (*(const double *)a < *(const double *)b);
}

/* What there is to be gained over a random point. */
static double gain(const bench_problem *problem, const cadre_space *space, int which)
{
    enum { POINTS = 501 };
    double x[BENCH_MAX_DIMS], value[POINTS];
    for (int i = 0; i < POINTS; i++) {
        cadre_space_sample(space, 1, (uint64_t)i, x);
        value[i] = bench_problem_value(which, x);
    }
    qsort(value, POINTS, sizeof *value, is_less);
    return value[POINTS / 2] - problem->optimum;
}

static void run(const arguments *args, int which, int seed, double *regret)
{
    const bench_problem *problem = bench_problem_at(which);
    cadre_space *space = space_of(problem);
    cadre_search search = {.name = args->searcher, .json = args->options};
    cadre_searcher *searcher;
    if (cadre_searcher_new(space, &search, (uint64_t)seed, &searcher))
        die(args->searcher);
    double x[BENCH_MAX_DIMS], best = INFINITY, best_told = INFINITY, value[PARALLEL];
    double deviation = args->noise > 0 ? args->noise * gain(problem, space, which) : 0;
    base_rng noise;
    base_rng_init(&noise, (uint64_t)seed, (uint64_t)which);
    int64_t number[PARALLEL];
    int asked = 0, told = 0;
    for (int trial = 1; trial <= args->trials; trial++) {
        int status = cadre_searcher_ask(searcher, &number[asked % PARALLEL], x);
        if (status < 0)
            die("ask");
        if (status == CADRE_OK) { /* else exhausted: the best stays */
            double truth = bench_problem_value(which, x), told_as = truth;
            if (deviation > 0)
                told_as += deviation * base_rng_normal(&noise);
            if (told_as < best_told) {
                best_told = told_as;
                best = truth;
            }
            value[asked % PARALLEL] = told_as;
            asked++;
        }
        for (; told <= asked - args->parallel; told++) {
            cadre_outcome outcome = {.end = CADRE_ENDED_COMPLETE, .value = value[told % PARALLEL]};
            if (cadre_searcher_tell(searcher, number[told % PARALLEL], &outcome))
                die("tell");
        }
        if (trial % EVERY == 0)
            regret[trial / EVERY - 1] = best - problem->optimum;
    }
    cadre_searcher_free(searcher);
    cadre_space_free(space);
}

static int is_there(const char *path, const char *start)
{
    FILE *file = fopen(path, "r");
    char line[512];
    int found = 0;
    while (file && !found && fgets(line, sizeof line, file))
        found = strncmp(line, start, strlen(start)) == 0;
    if (file)
        fclose(file);
    return found;
}

/* The same for all runs of up to TRIALS. */
static int columns(const arguments *args) { return (args->trials > TRIALS ? args->trials : TRIALS) / EVERY; }

static void record(const arguments *args, int which, int seed)
{
    char start[256];
    double regret[MOST_TRIALS / EVERY];
    snprintf(start, sizeof start, "%s,%s,%d,", bench_problem_name(which), args->label, seed);
    if (is_there(args->out, start))
        return;
    run(args, which, seed, regret);
    FILE *file = fopen(args->out, "a");
    if (!file)
        die(args->out);
    fputs(start, file);
    for (int i = 0; i < columns(args); i++) {
        if ((i + 1) * EVERY <= args->trials)
            fprintf(file, "%.6g", regret[i]);
        fputs(i + 1 < columns(args) ? "," : "\n", file);
    }
    fclose(file);
}

static void write_header(const arguments *args, const char *path)
{
    if (is_there(path, "problem,"))
        return;
    FILE *file = fopen(path, "a");
    if (!file)
        die(path);
    fputs("problem,searcher,seed", file);
    for (int i = 1; i <= columns(args); i++)
        fprintf(file, ",r%d", i * EVERY);
    fputs("\n", file);
    fclose(file);
}

/* Mean time of an ask and a tell over the hundred trials after the n-th. */
static double suggestion_ms(const arguments *args, int n, int ndims)
{
    static const char *const names[] = {"a", "b", "c", "d", "e", "f", "g", "h"};
    cadre_param params[9];
    for (int i = 0; i < ndims; i++)
        params[i] = (cadre_param)CADRE_UNIFORM(names[i], 0, 1);
    params[ndims] = (cadre_param)CADRE_END;
    cadre_space *space;
    cadre_searcher *searcher;
    cadre_search search = {.name = args->searcher, .json = args->options};
    if (cadre_space_new(params, &space) || cadre_searcher_new(space, &search, 1, &searcher))
        die("speed");
    double x[8];
    int64_t number;
    for (int i = 0; i < n; i++) {
        cadre_space_sample(space, 2, (uint64_t)i, x);
        cadre_outcome outcome = {.value = x[0] * x[0] + x[1]};
        if (cadre_searcher_add(searcher, x, &outcome, &number))
            die("add");
    }
    int64_t start = base_now_ns();
    for (int i = 0; i < 100; i++) {
        if (cadre_searcher_ask(searcher, &number, x))
            die("ask");
        cadre_outcome outcome = {.value = x[0] * x[0] + x[1]};
        if (cadre_searcher_tell(searcher, number, &outcome))
            die("tell");
    }
    double ms = (double)(base_now_ns() - start) / 1e6 / 100;
    cadre_searcher_free(searcher);
    cadre_space_free(space);
    return ms;
}

static arguments parse(int argc, char **argv)
{
    arguments args = {.searcher = "tpe", .seeds = 30, .trials = TRIALS, .dims = 5, .parallel = 1};
    for (int i = 1; i < argc; i++) {
        const char *value = i + 1 < argc ? argv[i + 1] : "";
        if (strcmp(argv[i], "--speed") == 0) {
            args.speed = 1;
            continue;
        }
        if (strcmp(argv[i], "--out") == 0)
            args.out = value;
        else if (strcmp(argv[i], "--searcher") == 0)
            args.searcher = value;
        else if (strcmp(argv[i], "--options") == 0)
            args.options = value;
        else if (strcmp(argv[i], "--label") == 0)
            args.label = value;
        else if (strcmp(argv[i], "--data") == 0)
            args.data = value;
        else if (strcmp(argv[i], "--only") == 0)
            args.only = value;
        else if (strcmp(argv[i], "--seeds") == 0)
            args.seeds = atoi(value);
        else if (strcmp(argv[i], "--parallel") == 0)
            args.parallel = atoi(value) < 1 ? 1 : atoi(value) > PARALLEL ? PARALLEL : atoi(value);
        else if (strcmp(argv[i], "--trials") == 0)
            args.trials = atoi(value) < MOST_TRIALS ? atoi(value) : MOST_TRIALS;
        else if (strcmp(argv[i], "--noise") == 0)
            args.noise = atof(value);
        else if (strcmp(argv[i], "--dims") == 0)
            args.dims = atoi(value) > 8 ? 8 : atoi(value) < 2 ? 2 : atoi(value);
        else if (strcmp(argv[i], "--first") == 0)
            args.first = atoi(value);
        else {
            fprintf(stderr, "bench_search: unknown argument %s\n", argv[i]);
            exit(2);
        }
        i++;
    }
    return args;
}

int main(int argc, char **argv)
{
    arguments args = parse(argc, argv);
    if (args.speed) {
        for (int n = 100; n <= 10000; n = n == 100 ? 300 : n == 300 ? 1000 : 10 * n)
            printf("%s: %5d trials, %d floats: %.3f ms a suggestion\n", args.searcher, n, args.dims,
                   suggestion_ms(&args, n, args.dims));
        return 0;
    }
    if (!args.out) {
        fprintf(stderr, "bench_search: --out FILE or --speed\n");
        return 2;
    }
    char label[64];
    int used =
        snprintf(label, sizeof label, args.parallel > 1 ? "cadre-%s-%d" : "cadre-%s", args.searcher, args.parallel);
    if (args.noise > 0)
        snprintf(label + used, sizeof label - (size_t)used, "-noise%g", args.noise);
    args.label = args.label ? args.label : label;
    int count = bench_problems_load(args.data);
    if (count < 0) {
        fprintf(stderr, "bench_search: the tables below %s do not read\n", args.data);
        return 1;
    }
    write_header(&args, args.out);
    for (int seed = args.first; seed < args.first + args.seeds; seed++)
        for (int i = 0; i < count; i++)
            if (!args.only || strcmp(args.only, bench_problem_name(i)) == 0)
                record(&args, i, seed);
    return 0;
}
