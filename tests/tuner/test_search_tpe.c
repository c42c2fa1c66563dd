/* TPE from inside: kernels and mixtures against numbers by hand and a slow reference; and what it makes of its history.
 */
#include "tuner/search/tpe.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

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

/* ---- the normal distribution ------------------------------------------------------------------------------------- */

static void masses_at_any_distance(void **state)
{
    (void)state;
    /* log of: 0.6826894921370859, 0.15730535589982697 = Phi(2) - Phi(1) + ..., from tables of Phi */
    near(tpe_log_mass(-1, 1), log(0.6826894921370859), 1e-14);
    near(tpe_log_mass(0, 1), log(0.3413447460685429), 1e-14);
    near(tpe_log_mass(1, 2), log(0.1359051219832779), 1e-13);
    near(tpe_log_mass(-2, -1), log(0.1359051219832779), 1e-13);
    /* log Q(z) from tables: Q(10) = 7.6198530241605e-24, Q(40): log is -804.6084420137538 */
    near(tpe_log_mass(10, INFINITY), log(7.619853024160527e-24), 1e-13);
    near(tpe_log_mass(40, INFINITY), -804.6084420137538, 1e-13);
    near(tpe_log_mass(-INFINITY, -40), -804.6084420137538, 1e-13);
    /* a narrow cell far out: density times width */
    near(tpe_log_mass(50, 50 + 1e-6), -0.5 * 50 * 50 - 0.91893853320467274 + log(1e-6) - 25e-6, 1e-8);
    for (double z = 4; z < 45; z += 0.01) /* no jump where one formula hands over to the next */
        assert_true(tpe_log_mass(z, z + 1) > tpe_log_mass(z + 0.01, z + 1.01));
}

static void truncated_draws_follow(void **state)
{
    enum { DRAWS = 20000 };
    (void)state;
    static const struct {
        double centre, sd, low, high;
    } cases[] = {{0.5, 1, 0, 1}, {0, 0.1, 0, 1}, {1, 0.1, 0, 1}, {0.3, 0.01, 0, 1}, {-2, 3, -2, 40}, {5, 1e-9, 0, 10}};
    for (size_t c = 0; c < sizeof cases / sizeof *cases; c++) {
        double centre = cases[c].centre, sd = cases[c].sd;
        double a = erfc(-(cases[c].low - centre) / sd * M_SQRT1_2) / 2,
               b = erfc(-(cases[c].high - centre) / sd * M_SQRT1_2) / 2;
        int counts[50] = {0};
        base_rng rng;
        base_rng_init(&rng, 4, c);
        for (int i = 0; i < DRAWS; i++) {
            double value = tpe_draw_normal(&rng, centre, sd, cases[c].low, cases[c].high);
            assert_true(value >= cases[c].low && value <= cases[c].high);
            double share = (erfc(-(value - centre) / sd * M_SQRT1_2) / 2 - a) / (b - a);
            counts[(int)fmin(share * 50, 49)]++;
        }
        double chi = 0;
        for (int i = 0; i < 50; i++)
            chi += (counts[i] - DRAWS / 50.0) * (counts[i] - DRAWS / 50.0) / (DRAWS / 50.0);
        assert_true(chi < 74.92); /* the 99 % quantile with 49 degrees of freedom */
    }
}

/* ---- a model of a history ---------------------------------------------------------------------------------------- */

typedef struct fixture {
    cadre_space *space;
    tpe_history history;
    tpe_model model;
} fixture;

static fixture set_up(const cadre_param *params)
{
    fixture f = {.space = make(params)};
    assert_int_equal(tpe_history_init(&f.history, f.space->count), CADRE_OK);
    assert_int_equal(tpe_model_init(&f.model, f.space), CADRE_OK);
    return f;
}

static void tear_down(fixture *f)
{
    tpe_history_free(&f->history);
    tpe_model_free(&f->model);
    cadre_space_free(f->space);
}

static void happened(fixture *f, const double *x, double value)
{
    assert_int_equal(tpe_history_add(&f->history, f->model.dims, f->history.count, x), CADRE_OK);
    tpe_history_end(&f->history, f->history.count - 1, &(cadre_outcome){.value = value});
}

/* One point as tpe.c places it. */
typedef struct placed {
    double at[16], left[16], right[16];
    int value[16];
    tpe_points points;
} placed;

static void place(const fixture *f, const double *x, placed *out)
{
    out->points = (tpe_points){1, f->space->count, out->at, out->left, out->right, out->value};
    for (int d = 0; d < f->space->count; d++) {
        const tpe_dim *dim = &f->model.dims[d];
        double half = dim->dim->step / 2;
        out->at[d] = out->left[d] = out->right[d] = tpe_scaled(dim, x[d]);
        if (half > 0 && !isnan(x[d])) {
            out->left[d] = tpe_scaled(dim, x[d] - half);
            out->right[d] = tpe_scaled(dim, x[d] + half);
            out->value[d] = (int)nearbyint((x[d] - dim->dim->low) / dim->dim->step);
        }
    }
}

static double log_density(const fixture *f, const tpe_mixture *mixture, const double *x)
{
    placed p;
    double out;
    place(f, x, &p);
    tpe_log_density(f->model.dims, mixture, &p.points, &out);
    return out;
}

static double phi(double z) { return 0.5 * erfc(-z * M_SQRT1_2); }

/*
 * By hand. Range [0, 1]; good: one trial at 0.2, of weight w; bad: trials at 0.5 and 0.9. The good one is alone, so its
 * gap is 0.8, to the far bound; the bad ones have the gap of 0.4 between them. The prior is a normal at 0.5 with
 * deviation 1.
 *
 * - The good trial at x = 0.3: phi(0.1 / 0.8) / 0.8 / (Phi(1) - Phi(-0.25)) = 0.3958377 / 0.8 / (0.8413447 - 0.4012937)
 *   = 1.1244084; the prior: phi(-0.2) / (Phi(0.5) - Phi(-0.5)) = 0.3910427 / 0.3829249 = 1.0211993, of weight 1/2.
 * - The bad ones: phi(-0.5) / 0.4 / (Phi(1.25) - Phi(-1.25)) = 0.3520653 / 0.4 / 0.7887005 = 1.1159665, and
 *   phi(-1.5) / 0.4 / (Phi(0.25) - Phi(-2.25)) = 0.1295176 / 0.4 / 0.5864819 = 0.5520955; with the prior, of weight 1:
 *   (1.1159665 + 0.5520955 + 1.0211993) / 3 = 0.8964204.
 */
static void densities_by_hand(void **state)
{
    (void)state;
    fixture f = set_up(PARAMS(CADRE_UNIFORM("x", 0, 1)));
    happened(&f, (double[]){0.5}, 2);
    happened(&f, (double[]){0.2}, 1);
    happened(&f, (double[]){0.9}, 3);
    assert_int_equal(tpe_model_update(&f.model, &f.history, 1), CADRE_OK);
    double w = f.model.good_mixture.weight[0];
    near(log_density(&f, &f.model.good_mixture, (double[]){0.3}), log((1.1244084 * w + 0.5 * 1.0211993) / (w + 0.5)),
         1e-6);
    near(log_density(&f, &f.model.bad, (double[]){0.3}), log(0.8964204), 1e-6);
    tear_down(&f);
}

/* ---- the slow reference: densities straight from their definition, trial by trial -------------------------------- */

/* Neighbours in the order of (centre, number): trials at the same place are neighbours too. */
static double slow_bandwidth(const fixture *f, int d, int trial)
{
    const tpe_dim *dim = &f->model.dims[d];
    const tpe_track *track = &f->history.track[d];
    double mine = track->centre[trial], left = -INFINITY, right = INFINITY;
    int kernels = 0;
    for (int i = 0; i < f->history.count; i++) {
        if (f->model.is_good[i] != f->model.is_good[trial] || track->sd[i] == 0)
            continue;
        kernels++;
        bool before = track->centre[i] < mine || (track->centre[i] == mine && i < trial);
        if (i != trial && before)
            left = fmax(left, track->centre[i]);
        if (i != trial && !before)
            right = fmin(right, track->centre[i]);
    }
    double gap = kernels == 1 ? fmax(mine - dim->low, dim->high - mine)
                              : fmax(isfinite(left) ? mine - left : 0, isfinite(right) ? right - mine : 0);
    double step = dim->dim->step, value = exp(mine);
    if (dim->dim->log && step > 0)
        step = log((value + step / 2) / fmax(value - step / 2, value / 2));
    double least = fmin(fmax(dim->width / fmin(100, 1.5 * (kernels + 2)), 0.5 * step), dim->width);
    return fmin(fmax(gap, least), dim->width);
}

static double slow_factor(const fixture *f, const placed *p, int d, double centre, double sd)
{
    const tpe_dim *dim = &f->model.dims[d];
    double whole = phi((dim->high - centre) / sd) - phi((dim->low - centre) / sd);
    if (dim->dim->step > 0)
        return (phi((p->right[d] - centre) / sd) - phi((p->left[d] - centre) / sd)) / whole;
    double z = (p->at[d] - centre) / sd;
    return exp(-0.5 * z * z) / sqrt(2 * M_PI) / sd / whole;
}

static double slow_density(const fixture *f, const tpe_mixture *mixture, bool good, const double *x)
{
    placed p;
    place(f, x, &p);
    int members = 0;
    for (int i = 0; i < f->history.count; i++)
        members += f->model.is_good[i] == good;
    double total = 0, weights = 0;
    for (int i = -1; i < f->history.count; i++) {
        if (i >= 0 && f->model.is_good[i] != good)
            continue;
        double product = 1, weight = good ? 0.5 : 1;
        for (int k = 0; i >= 0 && good && k < f->model.good_count; k++)
            weight = f->model.good[k] == i ? mixture->weight[k] : weight;
        if (i >= 0 && !good)
            weight = mixture->weight[i];
        for (int d = 0; d < f->space->count; d++) {
            const tpe_dim *dim = &f->model.dims[d];
            double centre = i < 0 ? NAN : f->history.track[d].centre[i];
            bool choice = dim->dim->kind == CADRE_DIM_CATEGORICAL;
            bool there = i >= 0 && (choice ? centre >= 0 : f->history.track[d].sd[i] > 0);
            if (isnan(x[d]) || dim->point)
                continue;
            if (choice && there) {
                double prior = 1.0 / (members + 1);
                product *= ((centre == x[d]) + prior) / (1 + prior * dim->dim->count);
            } else if (there) {
                product *= slow_factor(f, &p, d, centre, slow_bandwidth(f, d, i));
            } else if (i < 0 && !choice) {
                product *= slow_factor(f, &p, d, dim->prior_centre, dim->prior_sd);
            } else {
                product *= exp(dim->uniform);
            }
        }
        total += weight * product;
        weights += weight;
    }
    return log(total / weights);
}

static void densities_agree_with_the_reference(void **state)
{
    (void)state;
    fixture f =
        set_up(PARAMS(CADRE_UNIFORM("a", -2, 3), CADRE_LOGUNIFORM("b", 1e-5, 1), CADRE_CHOICE("c", "x", "y", "z"),
                      CADRE_RANDINT("d", 0, 1000), CADRE_LOGRANDINT("e", 1, 4000), CADRE_RANDN("f", 1, 2),
                      CADRE_WHEN("c", "x", CADRE_UNIFORM("g", 0, 1), CADRE_CHOICE("h", "p", "q"),
                                 CADRE_RANDINT("i", 0, 500), CADRE_RANDINT("j", 0, 7)),
                      CADRE_RANDINT("k", 4, 5), CADRE_QUNIFORM("l", 0, 1, 0.125), CADRE_QRANDN("m", 0, 1, 1)));
    double x[16];
    for (int n = 0; n < 320; n++) {
        cadre_space_sample(f.space, 3, (uint64_t)n, x);
        for (int good = 1; n % 20 == 19 && good <= 25 && good < n; good += 6) {
            assert_int_equal(tpe_model_update(&f.model, &f.history, good), CADRE_OK);
            near(log_density(&f, &f.model.good_mixture, x), slow_density(&f, &f.model.good_mixture, true, x), 1e-9);
            near(log_density(&f, &f.model.bad, x), slow_density(&f, &f.model.bad, false, x), 1e-9);
        }
        happened(&f, x, x[0] * x[0] + fabs(log10(x[1]) + 2) + x[2]);
    }
    tear_down(&f);
}

/* What is drawn from the good mixture has its density: shares of cells against their integrals. */
static void draws_have_the_density(void **state)
{
    enum { DRAWS = 20000, CELLS = 20 };
    (void)state;
    fixture f = set_up(PARAMS(CADRE_LOGUNIFORM("a", 1e-3, 1), CADRE_CHOICE("c", "x", "y", "z")));
    double x[2];
    for (int n = 0; n < 60; n++) {
        cadre_space_sample(f.space, 3, (uint64_t)n, x);
        happened(&f, x, fabs(log10(x[0]) + 1) + x[1]);
    }
    assert_int_equal(tpe_model_update(&f.model, &f.history, 6), CADRE_OK);
    double counts[3][CELLS] = {{0}}, chi = 0, total = 0;
    base_rng rng;
    base_rng_init(&rng, 1, 1);
    for (int i = 0; i < DRAWS; i++) {
        tpe_model_draw(&f.model, f.space, &rng, x);
        counts[(int)x[1]][(int)fmin((log10(x[0]) + 3) / 3 * CELLS, CELLS - 1)]++;
    }
    for (int c = 0; c < 3; c++)
        for (int i = 0; i < CELLS; i++) {
            double expected = 0, width = log(1e3) / CELLS;
            for (int k = 0; k < 200; k++) /* the density is per unit of the logarithm */
                expected += DRAWS * width / 200 *
                            exp(log_density(&f, &f.model.good_mixture,
                                            (double[]){exp(log(1e-3) + (i + (k + 0.5) / 200) * width), c}));
            total += expected;
            chi += (counts[c][i] - expected) * (counts[c][i] - expected) / expected;
        }
    near(total, DRAWS, 1e-4);
    assert_true(chi < 87.2); /* the 99 % quantile with 59 degrees of freedom */
    tear_down(&f);
}

/* ---- the searcher ------------------------------------------------------------------------------------------------ */

static void trials_are_ranked(void **state)
{
    (void)state;
    fixture f = set_up(PARAMS(CADRE_UNIFORM("x", 0, 1)));
    const cadre_outcome outcomes[] = {{.value = 3},
                                      {.value = -1},
                                      {CADRE_ENDED_PRUNED, 0.5, 4},
                                      {CADRE_ENDED_PRUNED, 0.1, 2},
                                      {CADRE_ENDED_PRUNED, 0.2, 4},
                                      {.end = CADRE_ENDED_FAILED},
                                      {.value = INFINITY},
                                      {.value = 3}};
    for (int i = 0; i < 8; i++) {
        assert_int_equal(tpe_history_add(&f.history, f.model.dims, 10 * i, (double[]){0.1 * i}), CADRE_OK);
        assert_int_equal(tpe_history_find(&f.history, 10 * i), i);
        tpe_history_end(&f.history, i, &outcomes[i]);
    }
    assert_int_equal(tpe_history_find(&f.history, 11), -1);
    const int rank[] = {1, 0, 7, 6, 4, 2, 3}; /* complete, then pruned by how far; the failed one has no rank */
    assert_int_equal(f.history.ranked, 7);
    assert_memory_equal(f.history.rank, rank, sizeof rank);
    assert_true(tpe_history_seen(&f.history, (double[]){0.1 * 3}));
    assert_true(tpe_history_seen(&f.history, (double[]){-0.0}));
    assert_false(tpe_history_seen(&f.history, (double[]){0.35}));
    tear_down(&f);
}

static double best_of(const char *name, uint64_t seed, int trials)
{
    cadre_space *space =
        make(PARAMS(CADRE_LOGUNIFORM("lr", 1e-6, 1), CADRE_UNIFORM("m", 0, 1), CADRE_CHOICE("opt", "a", "b", "c"),
                    CADRE_WHEN("opt", "b", CADRE_UNIFORM("beta", 0, 1))));
    cadre_searcher *searcher;
    assert_int_equal(cadre_searcher_new(space, &(cadre_search){.name = name}, seed, &searcher), CADRE_OK);
    double x[4], best = INFINITY;
    int64_t number;
    for (int i = 0; i < trials; i++) {
        assert_int_equal(cadre_searcher_ask(searcher, &number, x), CADRE_OK);
        double value = pow(log10(x[0]) + 3, 2) + pow(x[1] - 0.3, 2) + (x[2] == 1 ? pow(x[3] - 0.7, 2) : 0.5);
        best = fmin(best, value);
        assert_int_equal(cadre_searcher_tell(searcher, number, &(cadre_outcome){.value = value}), CADRE_OK);
    }
    cadre_searcher_free(searcher);
    cadre_space_free(space);
    return best;
}

static void it_finds_what_chance_does_not(void **state)
{
    (void)state;
    int won = 0;
    for (uint64_t seed = 0; seed < 20; seed++)
        won += best_of("tpe", seed, 100) < best_of("random", seed, 100);
    assert_true(won >= 18);
}

/* Eight at once must not all go to one place: what runs counts as bad. */
static void running_trials_repel(void **state)
{
    (void)state;
    cadre_space *space = make(PARAMS(CADRE_UNIFORM("x", 0, 1)));
    double spread[2];
    for (int told = 0; told < 2; told++) {
        cadre_searcher *searcher;
        assert_int_equal(cadre_searcher_new(space, &CADRE_SEARCH_TPE, 1, &searcher), CADRE_OK);
        int64_t number;
        double x, sum = 0, squares = 0;
        for (int i = 0; i < 40; i++) {
            x = (i + 0.5) / 40;
            assert_int_equal(cadre_searcher_add(searcher, &x, &(cadre_outcome){.value = fabs(x - 0.5)}, &number),
                             CADRE_OK);
        }
        for (int i = 0; i < 30; i++) {
            assert_int_equal(cadre_searcher_ask(searcher, &number, &x), CADRE_OK);
            sum += x;
            squares += x * x;
            if (told)
                cadre_searcher_tell(searcher, number, &(cadre_outcome){.value = fabs(x - 0.5)});
        }
        spread[told] = sqrt(squares / 30 - sum / 30 * sum / 30);
        cadre_searcher_free(searcher);
    }
    assert_true(spread[0] > 1.5 * spread[1]);
    cadre_space_free(space);
}

/* A region that crashes is left, though it has no value: of two sides that are as good, the one that does not is tried.
 */
static void failures_repel(void **state)
{
    (void)state;
    cadre_space *space = make(PARAMS(CADRE_UNIFORM("x", 0, 1)));
    cadre_searcher *searcher;
    assert_int_equal(cadre_searcher_new(space, &CADRE_SEARCH_TPE, 1, &searcher), CADRE_OK);
    int64_t number;
    double x;
    int left = 0, right = 0;
    for (int i = 0; i < 40; i++) {
        x = (i + 0.5) / 40;
        cadre_outcome outcome = {.value = fabs(x - 0.5)};
        assert_int_equal(cadre_searcher_add(searcher, &x, &outcome, &number), CADRE_OK);
        x = 0.3 + 0.2 * (i + 0.25) / 40;
        outcome.end = CADRE_ENDED_FAILED;
        assert_int_equal(cadre_searcher_add(searcher, &x, &outcome, &number), CADRE_OK);
    }
    for (int i = 0; i < 20; i++) {
        assert_int_equal(cadre_searcher_ask(searcher, &number, &x), CADRE_OK);
        left += x > 0.3 && x < 0.5;
        right += x >= 0.5 && x < 0.7;
    }
    assert_true(right > 2 * left);
    cadre_searcher_free(searcher);
    cadre_space_free(space);
}

/* A small discrete space is covered, not asked for the same point again and again. */
static void points_are_not_repeated(void **state)
{
    (void)state;
    cadre_space *space = make(PARAMS(CADRE_RANDINT("a", 0, 8), CADRE_CHOICE("b", "w", "x", "y", "z")));
    cadre_searcher *searcher;
    assert_int_equal(cadre_searcher_new(space, &CADRE_SEARCH_TPE, 1, &searcher), CADRE_OK);
    int64_t number;
    double x[2];
    int found[8][4] = {{0}}, different = 0;
    for (int i = 0; i < 40; i++) {
        assert_int_equal(cadre_searcher_ask(searcher, &number, x), CADRE_OK);
        different += !found[(int)x[0]][(int)x[1]]++;
        assert_int_equal(cadre_searcher_tell(searcher, number, &(cadre_outcome){.value = x[0] + x[1]}), CADRE_OK);
    }
    assert_true(different >= 29); /* chance alone, with which it starts: 23 */
    cadre_searcher_free(searcher);
    cadre_space_free(space);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(masses_at_any_distance),
        cmocka_unit_test(truncated_draws_follow),
        cmocka_unit_test(densities_by_hand),
        cmocka_unit_test(densities_agree_with_the_reference),
        cmocka_unit_test(draws_have_the_density),
        cmocka_unit_test(trials_are_ranked),
        cmocka_unit_test(it_finds_what_chance_does_not),
        cmocka_unit_test(running_trials_repel),
        cmocka_unit_test(failures_repel),
        cmocka_unit_test(points_are_not_repeated),
    };
    return cmocka_run_group_tests_name("search_tpe", tests, NULL, NULL);
}
