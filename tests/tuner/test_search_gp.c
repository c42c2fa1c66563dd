/* Gaussian-process search: each part against a slow plain reference, and the whole on histories that are not nice. */
#include "test_search_contract.h"

#include "tuner/search/gp.h"

/* Fewer points and starts than by default: the contract asks thousands of times. */
static const search_case gp = {
    .search = {.name = "gp", .json = "{\"candidates\": 16, \"starts\": 1, \"max_trials\": 16}"}};

#define PARAMS(...) ((const cadre_param[]){__VA_ARGS__, CADRE_END})

static cadre_space *make(const cadre_param *params)
{
    cadre_space *space;
    if (cadre_space_new(params, &space))
        fail_msg("%s", cadre_error_message());
    return space;
}

static void near(double a, double b, double tolerance)
{
    if (!(fabs(a - b) <= tolerance * fmax(1, fabs(b))))
        fail_msg("%.17g is not %.17g", a, b);
}

/* ---- a model of random points of a space of every kind ----------------------------------------------------------- */

enum { POINTS = 40, RUNNING = 5, MOST = 100 };

typedef struct fixture {
    cadre_space *of;
    gp_space space;
    gp_model model;
    double x[POINTS + RUNNING][16];
} fixture;

static void set_up(fixture *f, const cadre_param *params, int count)
{
    f->of = make(params);
    assert_int_equal(gp_space_init(&f->space, f->of, 3), CADRE_OK);
    assert_int_equal(gp_model_init(&f->model, &f->space), CADRE_OK);
    assert_int_equal(gp_model_reserve(&f->model, count + RUNNING), CADRE_OK);
    f->model.count = count;
    f->model.all = count + RUNNING;
    for (int i = 0; i < count + RUNNING; i++) {
        cadre_space_sample(f->of, 1, (uint64_t)i, f->x[i]);
        gp_encode(&f->space, f->x[i], f->model.points.at + i, f->model.points.stride);
        f->model.y[i] = sin(i * 1.7) + cos(i * 0.3);
    }
}

static void set_up_everything(fixture *f)
{
    set_up(f,
           PARAMS(CADRE_LOGUNIFORM("lr", 1e-5, 1), CADRE_CHOICE("opt", "sgd", "adam", "rms"),
                  CADRE_WHEN("opt", "sgd", CADRE_UNIFORM("momentum", 0, 1), CADRE_CHOICE_BOOL("nesterov")),
                  CADRE_RANDINT("layers", 1, 4),
                  CADRE_WHEN_BETWEEN("layers", 2, INFINITY, CADRE_LOGRANDINT("units", 8, 1025)),
                  CADRE_QUNIFORM("dropout", 0, 0.8, 0.05), CADRE_RANDN("scale", 1, 0.25), CADRE_RANDINT("one", 3, 4)),
           POINTS);
    assert_int_equal(f->space.axes, 8);
}

static void tear_down(fixture *f)
{
    gp_model_free(&f->model);
    gp_space_free(&f->space);
    cadre_space_free(f->of);
}

static void set_theta(fixture *f, double *theta)
{
    gp_fit_defaults(&f->model, 0, theta);
    for (int i = 0; i < gp_fit_parameters(&f->model); i++)
        theta[i] += 0.3 * sin(i * 2.1);
    gp_fit_set(&f->model, theta);
}

/* The kernel from its definition, by the points themselves. */
static double matern(double q)
{
    double r = sqrt(5 * q);
    return (1 + r + r * r / 3) * exp(-r);
}

static double kernel_of(const gp_kernel *kernel, const double *a, const double *b)
{
    double all = 0, alone = 0;
    const gp_space *space = kernel->space;
    for (int k = 0; k < space->axes; k++) {
        const cadre_dim *dim = &space->space->dims[space->axis[k].dim];
        double x = a[space->axis[k].dim], y = b[space->axis[k].dim], square;
        bool there = !isnan(x), other = !isnan(y);
        if (there != other)
            square = 1;
        else if (!there || dim->kind == CADRE_DIM_CATEGORICAL)
            square = there && x != y;
        else
            square = cadre_dim_to_unit(dim, x) - cadre_dim_to_unit(dim, y), square *= square;
        if (there && other && dim->conditions && dim->kind != CADRE_DIM_CATEGORICAL)
            square = 2 - 2 * cos(sqrt(square));
        all += kernel->w[k] * square;
        alone += matern(kernel->v[k] * square) / space->axes;
    }
    return kernel->mean + kernel->joint * matern(all) + kernel->alone * alone;
}

static void the_kernel_is_what_it_says(void **state)
{
    (void)state;
    fixture f;
    set_up_everything(&f);
    double theta[32], row[MOST], scratch[4 * MOST];
    set_theta(&f, theta);
    gp_kernel_prepare(&f.model.kernel, f.model.points.at, f.model.points.stride, POINTS);
    for (int i = 0; i < POINTS; i++) {
        gp_kernel_row(&f.model.kernel, f.model.points.at + i, f.model.points.stride, &f.model.points, POINTS, scratch,
                      row);
        for (int j = 0; j < POINTS; j++)
            near(row[j], kernel_of(&f.model.kernel, f.x[i], f.x[j]), 1e-13);
    }
    tear_down(&f);
}

/* ---- the posterior, by Gauss's elimination ----------------------------------------------------------------------- */

static void solve(int n, const double *matrix, const double *right, double *out)
{
    double a[MOST][MOST + 1];
    for (int i = 0; i < n; i++) {
        memcpy(a[i], matrix + i * n, (size_t)n * sizeof(double));
        a[i][n] = right[i];
    }
    for (int k = 0; k < n; k++) {
        int pivot = k;
        for (int i = k + 1; i < n; i++)
            pivot = fabs(a[i][k]) > fabs(a[pivot][k]) ? i : pivot;
        for (int j = k; j <= n; j++) {
            double keep = a[k][j];
            a[k][j] = a[pivot][j];
            a[pivot][j] = keep;
        }
        for (int i = k + 1; i < n; i++)
            for (int j = n; j >= k; j--)
                a[i][j] -= a[i][k] / a[k][k] * a[k][j];
    }
    for (int i = n - 1; i >= 0; i--) {
        out[i] = a[i][n];
        for (int j = i + 1; j < n; j++)
            out[i] -= a[i][j] * out[j];
        out[i] /= a[i][i];
    }
}

static void covariance(const fixture *f, int n, double *out)
{
    for (int i = 0; i < n; i++)
        for (int j = 0; j < n; j++)
            out[i * n + j] = kernel_of(&f->model.kernel, f->x[i], f->x[j]) + (i == j ? f->model.kernel.noise : 0);
}

/* Mean from what has ended; variance as if what runs had ended too. */
static void posterior(const fixture *f, const double *x, double *mean, double *variance)
{
    double k[MOST], solved[MOST], matrix[(POINTS + RUNNING) * (POINTS + RUNNING)];
    int n = f->model.count, all = f->model.all;
    for (int i = 0; i < all; i++)
        k[i] = kernel_of(&f->model.kernel, f->x[i], x);
    covariance(f, n, matrix);
    solve(n, matrix, f->model.y, solved);
    *mean = 0;
    for (int i = 0; i < n; i++)
        *mean += k[i] * solved[i];
    covariance(f, all, matrix);
    solve(all, matrix, k, solved);
    *variance = kernel_of(&f->model.kernel, x, x);
    for (int i = 0; i < all; i++)
        *variance -= k[i] * solved[i];
}

static void the_posterior_is_that_of_the_book(void **state)
{
    (void)state;
    fixture f;
    set_up_everything(&f);
    double theta[32], columns[GP_BLOCK * 32] = {0}, x[GP_BLOCK][16], mean[GP_BLOCK], variance[GP_BLOCK];
    set_theta(&f, theta);
    gp_model_factor(&f.model);
    for (int i = 0; i < GP_BLOCK; i++) {
        cadre_space_sample(f.of, 2, (uint64_t)i, x[i]);
        gp_encode(&f.space, i == 3 ? f.x[7] : x[i], columns + i, GP_BLOCK);
    }
    gp_model_predict(&f.model, columns, mean, variance);
    for (int i = 0; i < GP_BLOCK; i++) {
        double expected_mean, expected_variance;
        posterior(&f, i == 3 ? f.x[7] : x[i], &expected_mean, &expected_variance);
        near(mean[i], expected_mean, 1e-9);
        near(variance[i], expected_variance, 1e-9);
    }
    tear_down(&f);
}

static void triangles_are_inverted(void **state)
{
    (void)state;
    enum { STRIDE = 48 };
    static double a[STRIDE * STRIDE], l[STRIDE * STRIDE], inverse[STRIDE * STRIDE], square[STRIDE * STRIDE];
    for (int n = 1; n < STRIDE; n += n < 10 ? 1 : 7) {
        for (int i = 0; i < n; i++)
            for (int j = 0; j <= i; j++)
                a[i * STRIDE + j] = a[j * STRIDE + i] = exp(-0.1 * (i - j) * (i - j)) + (i == j ? 0.1 : 0);
        memcpy(l, a, sizeof a);
        assert_true(gp_cholesky(n, STRIDE, l));
        gp_invert(n, STRIDE, l, inverse);
        gp_square(n, STRIDE, inverse, square);
        double block[STRIDE * GP_BLOCK], lengths[GP_BLOCK], v[STRIDE], out[STRIDE], back[STRIDE];
        for (int i = 0; i < n; i++) {
            for (int j = 0; j < n; j++) {
                double sum = 0;
                for (int k = 0; k < n; k++)
                    sum += a[i * STRIDE + k] * (j <= k ? square[k * STRIDE + j] : square[j * STRIDE + k]);
                near(sum, i == j, 1e-10);
            }
            for (int k = 0; k < GP_BLOCK; k++)
                block[i * GP_BLOCK + k] = sin(i + k);
            v[i] = sin(i + 5);
        }
        gp_multiply(n, STRIDE, inverse, v, out);
        gp_multiply_transposed(n, STRIDE, inverse, out, back);
        gp_lengths(n, STRIDE, inverse, block, lengths);
        near(lengths[5], gp_dot(n, out, out), 1e-12);
        for (int i = 0; i < n; i++) {
            double sum = 0;
            for (int k = 0; k < n; k++)
                sum += a[i * STRIDE + k] * back[k];
            near(sum, v[i], 1e-10);
        }
    }
    double negative[GP_ALIGN * 2] = {1, 0, 0, 0, 0, 0, 0, 0, 2, 1};
    assert_false(gp_cholesky(2, GP_ALIGN, negative));
}

/* ---- slopes, by differences ------------------------------------------------------------------------------------- */

static void the_fit_has_the_slopes_it_says(void **state)
{
    (void)state;
    fixture f;
    set_up_everything(&f);
    double theta[32], gradient[32], other[32];
    set_theta(&f, theta);
    gp_fit_objective(&f.model, theta, gradient);
    for (int i = 0; i < gp_fit_parameters(&f.model); i++) {
        double at = theta[i], step = 1e-4;
        theta[i] = at + step;
        double up = gp_fit_objective(&f.model, theta, other);
        theta[i] = at - step;
        double down = gp_fit_objective(&f.model, theta, other);
        theta[i] = at;
        near(gradient[i], (up - down) / (2 * step), 1e-6);
    }
    tear_down(&f);
}

static double density_of(fixture *f)
{
    double matrix[POINTS * POINTS], solved[MOST], value = 0;
    int n = f->model.count;
    covariance(f, n, matrix);
    solve(n, matrix, f->model.y, solved);
    for (int i = 0; i < n; i++)
        value += 0.5 * f->model.y[i] * solved[i];
    for (int k = 0; k < n; k++) { /* the determinant by elimination without pivots: it is positive definite */
        value += 0.5 * log(matrix[k * n + k]);
        for (int i = k + 1; i < n; i++)
            for (int j = n - 1; j >= k; j--)
                matrix[i * n + j] -= matrix[i * n + k] / matrix[k * n + k] * matrix[k * n + j];
    }
    return value;
}

/* What two settings differ by is what the plain likelihood and the densities of the priors differ by. */
static void the_fit_measures_likelihood(void **state)
{
    (void)state;
    fixture f;
    set_up_everything(&f);
    double one[32], two[32], gradient[32];
    int parameters = gp_fit_parameters(&f.model), axes = f.space.axes;
    set_theta(&f, one);
    memcpy(two, one, sizeof one);
    two[0] += 0.5;            /* the joint part's variance */
    two[parameters - 1] += 1; /* noise */
    two[2] += 0.4;            /* a joint lengthscale */
    two[2 + axes] -= 0.3;
    double change = gp_fit_objective(&f.model, two, gradient) - gp_fit_objective(&f.model, one, gradient);
    double density[2], *theta[2] = {one, two};
    for (int k = 0; k < 2; k++) {
        const double *at = theta[k];
        gp_fit_set(&f.model, at);
        double off = at[2] - (sqrt(2) + 0.5 * log(axes));
        density[k] = density_of(&f) - (at[0] - exp(at[0])) - (0.1 * at[parameters - 1] - 30 * exp(at[parameters - 1])) +
                     off * off / 6 + at[2] + at[2 + axes] * at[2 + axes] / 2 + at[2 + axes];
    }
    near(change, density[1] - density[0], 1e-9);
    tear_down(&f);
}

static void the_promise_has_the_slopes_it_says(void **state)
{
    (void)state;
    fixture f;
    set_up_everything(&f);
    double theta[32];
    set_theta(&f, theta);
    gp_model_factor(&f.model);
    for (int i = 0; i < 30; i++) {
        double x[16], columns[32], block[32 * GP_BLOCK] = {0}, gradient[16] = {0}, other[16], out[GP_BLOCK];
        cadre_space_sample(f.of, 3, (uint64_t)i, x);
        gp_encode(&f.space, x, columns, 1);
        gp_goal goal = {-1.5 - (i % 3) * 10, i % 2 ? 1 : 4};
        double value = gp_log_ei_slope(&f.model, goal, columns, gradient);
        for (int c = 0; c < f.space.columns; c++)
            block[c * GP_BLOCK] = columns[c];
        gp_log_ei(&f.model, goal, block, out);
        near(value, out[0], 1e-9);
        for (int a = 0; a < f.space.axes; a++) {
            double u = gp_unit(&f.space, &f.space.axis[a], x), step = 1e-5;
            if (!f.space.axis[a].continuous || isnan(u))
                continue;
            gp_encode_unit(&f.space.axis[a], u + step, columns, 1);
            double up = gp_log_ei_slope(&f.model, goal, columns, other);
            gp_encode_unit(&f.space.axis[a], u - step, columns, 1);
            double down = gp_log_ei_slope(&f.model, goal, columns, other);
            gp_encode_unit(&f.space.axis[a], u, columns, 1);
            near(gradient[a], (up - down) / (2 * step), 1e-5);
        }
    }
    tear_down(&f);
}

/* ---- expected improvement ---------------------------------------------------------------------------------------- */

static void log_h_is_exact_at_any_distance(void **state)
{
    (void)state;
    /* to 40 and 60 digits, by mpmath */
    static const double known[][3] = {
        {8, 2.07944154167983594, 0.124999999999999921},     {1, 0.08002621884930694, 0.77663872520173926},
        {0, -0.918938533204672742, 1.2533141373155003},     {-1, -2.48512102571264134, 1.90427123332969182},
        {-5, -16.7443011626609901, 5.36181624128808853},    {-19.9, -204.912887694921693, 19.9997542822109652},
        {-20.1, -208.932740416624592, 20.1987761245156667}, {-40, -808.29856835661996, 40.0499066576485182},
        {-1000, -500014.734452091158, 1000.00199999400004}, {-1e6, -500000000028.54996, 1000000.000002}};
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        double slope, value = gp_log_h(known[i][0], &slope);
        near(value, known[i][1], 1e-12);
        near(slope, known[i][2], 1e-9);
    }
}

static void improvement_by_quadrature(void **state)
{
    (void)state;
    static const double cases[][3] = {{0, 1, 0.3}, {2, 0.5, 1}, {-1, 0.2, -3}, {0.1, 3, -4}}; /* mean, sd, best */
    for (size_t c = 0; c < sizeof cases / sizeof *cases; c++) {
        double mean = cases[c][0], sd = cases[c][1], best = cases[c][2], sum = 0, slope;
        const int steps = 200000;
        for (int i = 0; i < steps; i++) { /* the midpoint rule below `best`, where something improves */
            double f = best - 40 * sd * (i + 0.5) / steps, z = (f - mean) / sd;
            sum += (best - f) * exp(-0.5 * z * z) / (sd * sqrt(2 * M_PI)) * 40 * sd / steps;
        }
        near(gp_log_h((best - mean) / sd, &slope) + log(sd), log(sum), 1e-7);
    }
}

/* ---- minimising -------------------------------------------------------------------------------------------------- */

static double rosenbrock(void *context, const double *x, double *gradient)
{
    int n = *(int *)context;
    double sum = 0;
    memset(gradient, 0, (size_t)n * sizeof *gradient);
    for (int i = 0; i + 1 < n; i++) {
        double a = x[i + 1] - x[i] * x[i], b = 1 - x[i];
        sum += 100 * a * a + b * b;
        gradient[i] += -400 * a * x[i] - 2 * b;
        gradient[i + 1] += 200 * a;
    }
    return sum;
}

static void minima_in_boxes(void **state)
{
    (void)state;
    int n = 6;
    double low[6], high[6], x[6] = {-1, 1, -1, 1, -1, 1}, gradient[6];
    double *scratch = calloc(gp_minimise_room(n), sizeof *scratch);
    const gp_minimise_options options = {.evaluations = 500, .gradient = 1e-6, .decrease = 0, .first = 0.1};
    for (int i = 0; i < n; i++) {
        low[i] = -2;
        high[i] = 2;
    }
    near(gp_minimise(rosenbrock, &n, n, low, high, &options, scratch, x), 0, 1e-9);
    for (int i = 0; i < n; i++)
        near(x[i], 1, 1e-4);
    high[2] = 0.5; /* held by a bound */
    for (int i = 0; i < n; i++)
        x[i] = -1;
    double found = gp_minimise(rosenbrock, &n, n, low, high, &options, scratch, x);
    near(x[2], 0.5, 1e-12);
    near(rosenbrock(&n, x, gradient), found, 1e-12);
    for (int i = 0; i < n; i++) {
        if (i != 2)
            near(gradient[i], 0, 1e-4);
    }
    assert_true(gradient[2] < 0);
    free(scratch);
}

/* ---- targets ----------------------------------------------------------------------------------------------------- */

static void targets_bear_anything(void **state)
{
    (void)state;
    enum { N = 9 };
    const double value[N] = {3, -1e300, 1e300, 5, 1, 4, 7, 2, 0};
    const double plain[N] = {3, 2.5, 9, 5, 1, 4, 7, 2, 0};
    unsigned char trial[N] = {GP_COMPLETE, GP_COMPLETE, GP_COMPLETE, GP_COMPLETE, GP_PRUNED,
                              GP_COMPLETE, GP_COMPLETE, GP_COMPLETE, GP_FAILED};
    double sorted[N], y[N];
    for (int kind = 0; kind < GP_WARPS; kind++)
        for (int odd = 0; odd < 2; odd++) {
            const double *of = odd ? value : plain;
            assert_true(isfinite(gp_warp((gp_warp_kind)kind, N, trial, of, sorted, y).slopes));
            double mean = 0, square = 0;
            for (int i = 0; i < N; i++) {
                mean += y[i] / N;
                square += y[i] * y[i] / N;
                for (int j = 0; j < N; j++)
                    if (trial[i] == GP_COMPLETE && trial[j] == GP_COMPLETE && of[i] < of[j])
                        assert_true(odd ? y[i] <= y[j] : y[i] < y[j]);
                assert_true(y[i] <= y[8]);
            }
            near(mean, 0, 1e-12);
            near(square, 1, 1e-12);
        }
    const double same[3] = {2, 2, 2};
    gp_warp(GP_WARP_LOG, 3, (unsigned char[]){GP_COMPLETE, GP_COMPLETE, GP_COMPLETE}, same, sorted, y);
    assert_true(y[0] == 0 && y[1] == 0 && y[2] == 0);
    gp_warp(GP_WARP_LOG, 3, (unsigned char[]){GP_FAILED, GP_FAILED, GP_FAILED}, same, sorted, y);
    assert_true(y[0] == 0 && y[1] == 0 && y[2] == 0);
}

/* ---- the whole --------------------------------------------------------------------------------------------------- */

static cadre_searcher *start(const cadre_space *space, const cadre_search *search, uint64_t seed)
{
    cadre_searcher *searcher;
    if (cadre_searcher_new(space, search, seed, &searcher))
        fail_msg("%s", cadre_error_message());
    return searcher;
}

typedef double objective(const double *x, int i);

static double all_fail(const double *x, int i) { return (void)x, (void)i, NAN; }
static double all_equal(const double *x, int i) { return (void)x, (void)i, 4.25; }
static double outliers(const double *x, int i) { return i % 4 == 1 ? 1e300 : i % 9 == 2 ? -INFINITY : x[0]; }
static double mostly_fail(const double *x, int i) { return i % 5 ? NAN : x[0]; }
static double infinite(const double *x, int i) { return (void)x, i % 2 ? INFINITY : 1; }

static void odd_histories_are_borne(void **state)
{
    (void)state;
    objective *const kinds[] = {all_fail, all_equal, outliers, mostly_fail, infinite};
    cadre_space *space = make(PARAMS(CADRE_UNIFORM("x", 0, 1), CADRE_CHOICE("opt", "a", "b", "c"),
                                     CADRE_WHEN("opt", "b", CADRE_LOGUNIFORM("beta", 1e-3, 1)),
                                     CADRE_UNIFORM("point", 2, 2), CADRE_RANDINT("one", 1, 2)));
    for (size_t k = 0; k < sizeof kinds / sizeof *kinds; k++)
        for (int noise = CADRE_GP_ANY; noise <= CADRE_GP_NOISY; noise++) {
            cadre_searcher *searcher = start(space, &CADRE_GP(.startup = 1, .noise = noise), 1);
            double x[5];
            int64_t number;
            for (int i = 0; i < 40; i++) {
                assert_int_equal(cadre_searcher_ask(searcher, &number, x), CADRE_OK);
                cadre_outcome outcome = {.value = kinds[k](x, i)};
                assert_int_equal(cadre_searcher_tell(searcher, number, &outcome), CADRE_OK);
                for (int twice = 0; twice < i % 3; twice++) /* the same point again */
                    assert_int_equal(cadre_searcher_add(searcher, x, &outcome, &number), CADRE_OK);
            }
            cadre_searcher_free(searcher);
        }
    cadre_space_free(space);
}

static void many_dimensions(void **state)
{
    (void)state;
    enum { DIMENSIONS = 50 };
    cadre_param params[DIMENSIONS + 1];
    char names[DIMENSIONS][8];
    for (int i = 0; i < DIMENSIONS; i++) {
        snprintf(names[i], sizeof names[i], "x%d", i);
        params[i] = (cadre_param)CADRE_UNIFORM(names[i], -1, 1);
    }
    params[DIMENSIONS] = (cadre_param)CADRE_END;
    cadre_space *space = make(params);
    cadre_searcher *searcher = start(space, &CADRE_SEARCH_GP, 1);
    double x[DIMENSIONS], first = INFINITY, best = INFINITY;
    int64_t number;
    for (int i = 0; i < 40; i++) {
        assert_int_equal(cadre_searcher_ask(searcher, &number, x), CADRE_OK);
        double value = 0;
        for (int d = 0; d < DIMENSIONS; d++)
            value += (x[d] - 0.3) * (x[d] - 0.3);
        best = fmin(best, value);
        first = i == 9 ? best : first;
        assert_int_equal(cadre_searcher_tell(searcher, number, &(cadre_outcome){.value = value}), CADRE_OK);
    }
    assert_true(best < 0.8 * first);
    cadre_searcher_free(searcher);
    cadre_space_free(space);
}

static double best_of(const char *name, uint64_t seed, int trials)
{
    cadre_space *space =
        make(PARAMS(CADRE_LOGUNIFORM("lr", 1e-6, 1), CADRE_UNIFORM("m", 0, 1), CADRE_CHOICE("opt", "a", "b", "c"),
                    CADRE_WHEN("opt", "b", CADRE_UNIFORM("beta", 0, 1), CADRE_RANDINT("k", 1, 30))));
    cadre_searcher *searcher = start(space, &(cadre_search){.name = name}, seed);
    double x[5], best = INFINITY;
    int64_t number;
    for (int i = 0; i < trials; i++) {
        assert_int_equal(cadre_searcher_ask(searcher, &number, x), CADRE_OK);
        double value = pow(log10(x[0]) + 3, 2) + pow(x[1] - 0.3, 2) +
                       (x[2] == 1 ? pow(x[3] - 0.7, 2) + pow(x[4] - 20, 2) / 100 : 0.5);
        best = fmin(best, value);
        assert_int_equal(cadre_searcher_tell(searcher, number, &(cadre_outcome){.value = value}), CADRE_OK);
    }
    cadre_searcher_free(searcher);
    cadre_space_free(space);
    return best;
}

/* In a conditional space; a hundredth of what chance reaches in as many trials. */
static void it_finds_what_chance_does_not(void **state)
{
    (void)state;
    int won = 0;
    for (uint64_t seed = 0; seed < 8; seed++)
        won += best_of("gp", seed, 50) < 0.01 * best_of("random", seed, 50);
    assert_true(won >= 5); /* a branch that had no luck at first may be left for long */
}

/* What runs is expected to come out as predicted, so the next point is elsewhere. */
static void running_trials_repel(void **state)
{
    (void)state;
    cadre_space *space = make(PARAMS(CADRE_UNIFORM("x", 0, 1), CADRE_UNIFORM("y", 0, 1)));
    cadre_searcher *searcher = start(space, &CADRE_SEARCH_GP, 1);
    double x[12][2], all[2], widest = 0;
    int64_t number;
    for (int i = 0; i < 16; i++) {
        assert_int_equal(cadre_searcher_ask(searcher, &number, all), CADRE_OK);
        double value = sin(37 * all[0]) + cos(41 * all[1]); /* too fine to be known from 16 points */
        assert_int_equal(cadre_searcher_tell(searcher, number, &(cadre_outcome){.value = value}), CADRE_OK);
    }
    for (int i = 0; i < 12; i++) {
        assert_int_equal(cadre_searcher_ask(searcher, &number, x[i]), CADRE_OK);
        for (int j = 0; j < i; j++) {
            double distance = hypot(x[i][0] - x[j][0], x[i][1] - x[j][1]);
            assert_true(distance > 1e-6);
            widest = fmax(widest, distance);
        }
    }
    assert_true(widest > 0.3);
    cadre_searcher_free(searcher);
    cadre_space_free(space);
}

/* The starting points are spread by the space alone: how many of the first ones are the same whatever the values are,
 * with so many trials at once of which `fail` come to nothing. */
static int starting_points(int at_once, int fail)
{
    cadre_space *space = make(PARAMS(CADRE_UNIFORM("x", 0, 1), CADRE_UNIFORM("y", 0, 1)));
    cadre_searcher *searchers[2] = {start(space, &CADRE_SEARCH_GP, 1), start(space, &CADRE_SEARCH_GP, 1)};
    int count = 0;
    for (int told = 0, same = 1; same && count < 40; count += same) {
        double x[2][2];
        int64_t number;
        for (int s = 0; s < 2; s++)
            assert_int_equal(cadre_searcher_ask(searchers[s], &number, x[s]), CADRE_OK);
        same = memcmp(x[0], x[1], sizeof x[0]) == 0;
        for (; told <= count - at_once + 1; told++)
            for (int s = 0; s < 2; s++) {
                cadre_outcome outcome = {.end = told < fail ? CADRE_ENDED_FAILED : CADRE_ENDED_COMPLETE,
                                         .value = s ? hypot(x[0][0], x[0][1]) : -hypot(x[0][0], x[0][1])};
                assert_int_equal(cadre_searcher_tell(searchers[s], told, &outcome), CADRE_OK);
            }
    }
    for (int s = 0; s < 2; s++)
        cadre_searcher_free(searchers[s]);
    cadre_space_free(space);
    return count;
}

static void running_trials_count_as_starting_ones(void **state)
{
    (void)state;
    assert_int_equal(starting_points(1, 0), 10);
    assert_int_equal(starting_points(1, 3), 13);
    assert_int_equal(starting_points(8, 0), 10);
    assert_int_equal(starting_points(8, 3), 13);
    assert_int_equal(starting_points(20, 0), 21); /* two have to have ended */
}

/* Noise as large as what there is to be gained: the later suggestions are near the minimum nonetheless. */
static void noise_is_borne(void **state)
{
    (void)state;
    cadre_space *space = make(PARAMS(CADRE_UNIFORM("x", 0, 1), CADRE_UNIFORM("y", 0, 1)));
    int near_it = 0;
    for (int noise = CADRE_GP_ANY; noise <= CADRE_GP_NOISY; noise += CADRE_GP_NOISY) {
        cadre_searcher *searcher = start(space, &CADRE_GP(.noise = noise), 1);
        double x[2];
        int64_t number;
        base_rng rng;
        base_rng_init(&rng, 11, 0);
        for (int i = 0; i < 60; i++) {
            assert_int_equal(cadre_searcher_ask(searcher, &number, x), CADRE_OK);
            double value = pow(x[0] - 0.3, 2) + pow(x[1] - 0.6, 2) + 0.1 * base_rng_normal(&rng);
            near_it += i >= 40 && hypot(x[0] - 0.3, x[1] - 0.6) < 0.25; /* a fifth of the square */
            assert_int_equal(cadre_searcher_tell(searcher, number, &(cadre_outcome){.value = value}), CADRE_OK);
        }
        cadre_searcher_free(searcher);
    }
    assert_true(near_it >= 24); /* of 40 */
    cadre_space_free(space);
}

/* A finite space is searched without going anywhere twice, and when it is exhausted the search goes on. */
static void no_point_twice(void **state)
{
    (void)state;
    cadre_space *space = make(PARAMS(CADRE_RANDINT("a", 0, 6), CADRE_CHOICE("b", "u", "v", "w", "x", "y")));
    cadre_searcher *searcher = start(space, &CADRE_SEARCH_GP, 1);
    bool seen[6][5] = {{false}};
    double x[2];
    int64_t number;
    for (int i = 0; i < 35; i++) {
        assert_int_equal(cadre_searcher_ask(searcher, &number, x), CADRE_OK);
        bool *at = &seen[(int)x[0]][(int)x[1]];
        assert_true(i >= 30 || !*at);
        *at = true;
        double value = fabs(x[0] - 4) + (x[1] == 2);
        assert_int_equal(cadre_searcher_tell(searcher, number, &(cadre_outcome){.value = value}), CADRE_OK);
    }
    cadre_searcher_free(searcher);
    cadre_space_free(space);
}

static void bad_options_are_refused(void **state)
{
    (void)state;
    cadre_space *space = make(PARAMS(CADRE_UNIFORM("x", 0, 1)));
    cadre_searcher *searcher = NULL;
    assert_int_equal(cadre_searcher_new(space, &CADRE_GP(.max_trials = 3), 1, &searcher), CADRE_EINVAL);
    assert_int_equal(cadre_searcher_new(space, &CADRE_GP(.noise = 7), 1, &searcher), CADRE_EINVAL);
    assert_int_equal(cadre_searcher_new(space, &(cadre_search){.name = "gp", .json = "{\"start\": 1}"}, 1, &searcher),
                     CADRE_EINVAL);
    assert_null(searcher);
    cadre_space_free(space);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_kernel_is_what_it_says),
        cmocka_unit_test(the_posterior_is_that_of_the_book),
        cmocka_unit_test(triangles_are_inverted),
        cmocka_unit_test(the_fit_has_the_slopes_it_says),
        cmocka_unit_test(the_fit_measures_likelihood),
        cmocka_unit_test(the_promise_has_the_slopes_it_says),
        cmocka_unit_test(log_h_is_exact_at_any_distance),
        cmocka_unit_test(improvement_by_quadrature),
        cmocka_unit_test(minima_in_boxes),
        cmocka_unit_test(targets_bear_anything),
        cmocka_unit_test(odd_histories_are_borne),
        cmocka_unit_test(many_dimensions),
        cmocka_unit_test(it_finds_what_chance_does_not),
        cmocka_unit_test(running_trials_repel),
        cmocka_unit_test(running_trials_count_as_starting_ones),
        cmocka_unit_test(noise_is_borne),
        cmocka_unit_test(no_point_twice),
        cmocka_unit_test(bad_options_are_refused),
        SEARCH_CONTRACT(gp),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
