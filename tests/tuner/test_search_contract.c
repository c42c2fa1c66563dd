#include "test_search_contract.h"

#include "base/fault.h"
#include "base/rng.h"

enum { DIMS = 12, TRIALS = 120 };

static cadre_space *make(const cadre_param *params)
{
    cadre_space *space;
    if (cadre_space_new(params, &space))
        fail_msg("%s", cadre_error_message());
    assert_in_range(cadre_space_count(space), 0, DIMS);
    return space;
}

/* Of every kind, conditional in several ways. */
static cadre_space *everything(bool finite)
{
    cadre_param params[] = {
        CADRE_LOGUNIFORM("lr", 1e-5, 1),
        CADRE_CHOICE("opt", "sgd", "adam", "rms"),
        CADRE_WHEN("opt", "sgd", CADRE_UNIFORM("momentum", 0, 1), CADRE_CHOICE_BOOL("nesterov")),
        CADRE_RANDINT("layers", 1, 4),
        CADRE_WHEN_BETWEEN("layers", 2, INFINITY, CADRE_LOGRANDINT("units", 8, 1025),
                           CADRE_WHEN_ANY("opt", CADRE_VALUES("adam", "rms"), CADRE_QUNIFORM("dropout", 0, 0.8, 0.05))),
        CADRE_QLOGRANDINT("batch", 8, 64, 8),
        CADRE_RANDN("scale", 1, 0.25),
        CADRE_QRANDN("offset", 0, 1, 0.5),
        CADRE_CONSTANT_INT("epochs", 3),
        CADRE_END,
    };
    cadre_param whole[] = {
        CADRE_CHOICE("opt", "sgd", "adam", "rms"),
        CADRE_WHEN("opt", "sgd", CADRE_QUNIFORM("momentum", 0, 1, 0.25), CADRE_CHOICE_BOOL("nesterov")),
        CADRE_RANDINT("layers", 1, 6),
        CADRE_WHEN_BETWEEN("layers", 2, INFINITY, CADRE_QLOGRANDINT("units", 8, 64, 8)),
        CADRE_END,
    };
    return make(finite ? whole : params);
}

static double value_of(const cadre_space *space, const double *x)
{
    double sum = 0;
    for (int i = 0; i < cadre_space_count(space); i++) {
        double u = isnan(x[i]) ? 0.3 : cadre_dim_to_unit(cadre_space_dim(space, i), x[i]);
        sum += (u - 0.6) * (u - 0.6) * (i + 1);
    }
    return sum;
}

static cadre_searcher *start(const search_case *row, const cadre_space *space, uint64_t seed)
{
    cadre_searcher *searcher;
    if (cadre_searcher_new(space, &row->search, seed, &searcher))
        fail_msg("%s", cadre_error_message());
    return searcher;
}

/* ---- events: written down by one searcher, given again to another ------------------------------------------------ */

typedef struct event {
    enum { ASKED, TOLD, REPORTED } kind;
    int status;
    int64_t number;
    double x[DIMS];
    cadre_outcome outcome;
} event;

static cadre_outcome outcome_of(const cadre_space *space, const double *x, int64_t number)
{
    cadre_outcome outcome = {.end = CADRE_ENDED_COMPLETE, .value = value_of(space, x)};
    if (number % 7 == 3)
        outcome = (cadre_outcome){CADRE_ENDED_PRUNED, outcome.value, number % 5};
    if (number % 11 == 5)
        outcome = (cadre_outcome){CADRE_ENDED_FAILED, NAN, 0};
    return outcome;
}

/* Up to four trials at once, of which one chosen at random reports and ends. */
static int64_t live(const cadre_space *space, cadre_searcher *searcher, int64_t trials, event *events)
{
    base_rng rng;
    base_rng_init(&rng, 99, 0);
    int64_t running[4], count = 0, asked = 0, n = 0;
    double x[4][DIMS];
    while (asked < trials) {
        event *e = &events[n];
        *e = (event){.kind = ASKED};
        if (count < 4) {
            e->status = cadre_searcher_ask(searcher, &e->number, e->x);
            assert_true(e->status >= 0);
            n++;
            if (e->status == CADRE_OK) {
                assert_int_equal(e->number, asked++);
                memcpy(x[count], e->x, sizeof e->x);
                running[count++] = e->number;
                continue;
            }
            if (e->status == CADRE_STOP && count == 0)
                break;
            assert_true(count > 0); /* "later" with nothing running would be for ever */
            e = &events[n];
        }
        uint64_t which = base_rng_below(&rng, (uint64_t)count);
        *e = (event){.kind = REPORTED, .number = running[which], .outcome = {.value = value_of(space, x[which])}};
        assert_int_equal(cadre_searcher_report(searcher, e->number, 1, e->outcome.value), CADRE_OK);
        e = &events[++n];
        *e = (event){.kind = TOLD, .number = running[which], .outcome = outcome_of(space, x[which], running[which])};
        assert_int_equal(cadre_searcher_tell(searcher, e->number, &e->outcome), CADRE_OK);
        n++;
        running[which] = running[--count];
        memcpy(x[which], x[count], sizeof x[count]);
        assert_int_equal(cadre_searcher_running(searcher), count);
    }
    return n;
}

static void replay(const cadre_space *space, cadre_searcher *searcher, const event *events, int64_t count)
{
    for (const event *e = events; e < events + count; e++) {
        double x[DIMS] = {0};
        int64_t number = -1;
        if (e->kind == ASKED) {
            assert_int_equal(cadre_searcher_ask(searcher, &number, x), e->status);
            if (e->status)
                continue;
            assert_int_equal(number, e->number);
            assert_memory_equal(x, e->x, (size_t)cadre_space_count(space) * sizeof *x);
        } else if (e->kind == TOLD) {
            assert_int_equal(cadre_searcher_tell(searcher, e->number, &e->outcome), CADRE_OK);
        } else {
            assert_int_equal(cadre_searcher_report(searcher, e->number, 1, e->outcome.value), CADRE_OK);
        }
    }
}

void search_contract_repeats(void **state)
{
    const search_case *row = *state;
    cadre_space *space = everything(row->finite);
    event *events = calloc(6 * TRIALS, sizeof *events), *others = calloc(6 * TRIALS, sizeof *others);
    cadre_searcher *one = start(row, space, 5), *two = start(row, space, 5), *other = start(row, space, 6);
    int64_t count = live(space, one, TRIALS, events);
    replay(space, two, events, count);
    live(space, other, TRIALS, others);
    int different = 0;
    for (int64_t i = 0; i < count; i++)
        different += memcmp(events[i].x, others[i].x, sizeof events[i].x) != 0;
    assert_true(row->finite || different > TRIALS / 2);
    cadre_searcher_free(one);
    cadre_searcher_free(two);
    cadre_searcher_free(other);
    cadre_space_free(space);
    free(events);
    free(others);
}

void search_contract_replays(void **state)
{
    const search_case *row = *state;
    cadre_space *space = everything(row->finite);
    event *events = calloc(6 * TRIALS, sizeof *events);
    cadre_searcher *searcher = start(row, space, 5);
    int64_t count = live(space, searcher, TRIALS, events);
    cadre_searcher_free(searcher);
    for (int64_t cut = 0; cut <= count; cut += 1 + count / 9) { /* gone at `cut`, built anew, and on to the end */
        searcher = start(row, space, 5);
        replay(space, searcher, events, cut);
        cadre_searcher_free(searcher);
        searcher = start(row, space, 5);
        replay(space, searcher, events, cut);
        replay(space, searcher, events + cut, count - cut);
        cadre_searcher_free(searcher);
    }
    cadre_space_free(space);
    free(events);
}

void search_contract_points(void **state)
{
    const search_case *row = *state;
    cadre_space *space = everything(row->finite);
    for (uint64_t seed = 0; seed < 5; seed++) {
        cadre_searcher *searcher = start(row, space, seed);
        for (int i = 0; i < 100; i++) {
            double x[DIMS];
            int64_t number;
            if (cadre_searcher_ask(searcher, &number, x))
                break;
            if (cadre_space_check(space, x))
                fail_msg("%s", cadre_error_message());
            cadre_config *config;
            assert_int_equal(cadre_space_config(space, x, 0, &config), CADRE_OK);
            cadre_config_free(config);
            cadre_outcome outcome = {.value = value_of(space, x)};
            assert_int_equal(cadre_searcher_tell(searcher, number, &outcome), CADRE_OK);
            assert_int_equal(cadre_searcher_tell(searcher, number, &outcome), CADRE_ESTATE);
            assert_int_equal(cadre_searcher_report(searcher, number, 1, 0), CADRE_ESTATE);
        }
        cadre_outcome outcome = {.value = 1};
        assert_int_equal(cadre_searcher_tell(searcher, 1000000, &outcome), CADRE_ESTATE);
        assert_int_equal(cadre_searcher_tell(searcher, -1, &outcome), CADRE_ESTATE);
        cadre_searcher_free(searcher);
    }
    cadre_space_free(space);
}

void search_contract_endures(void **state)
{
    enum { MANY = 3000, LATE = 16 };
    const search_case *row = *state;
    cadre_space *space = everything(row->finite);
    cadre_searcher *searcher = start(row, space, 1);
    static const double odd[] = {INFINITY, -INFINITY, NAN, 1e308, -1e308, 0, 1e-320};
    int64_t numbers[LATE], count = 0;
    double x[DIMS];
    for (int64_t i = 0; i < MANY; i++) {
        int64_t number;
        int status = cadre_searcher_ask(searcher, &number, x);
        if (status == CADRE_STOP && !count)
            break;
        assert_true(status >= 0);
        if (status == CADRE_OK)
            numbers[count++] = number;
        if (i % 17 == 0) { /* one from elsewhere */
            cadre_space_sample(space, 7, (uint64_t)i, x);
            assert_int_equal(cadre_searcher_add(searcher, x, &(cadre_outcome){.value = value_of(space, x)}, &number),
                             CADRE_OK);
        }
        if (count == LATE || status != CADRE_OK) {
            int64_t which = (i * 5) % count;
            cadre_outcome outcome = {(cadre_trial_end)(i % 3), i % 5 ? (double)(i % 100) : odd[i % 7], i % 4 - 1};
            assert_int_equal(cadre_searcher_tell(searcher, numbers[which], &outcome), CADRE_OK);
            numbers[which] = numbers[--count];
        }
    }
    x[0] = 1e9;
    assert_int_equal(cadre_searcher_add(searcher, x, &(cadre_outcome){0}, &numbers[0]), CADRE_EINVAL);
    assert_int_equal(cadre_searcher_add(searcher, NULL, &(cadre_outcome){0}, &numbers[0]), CADRE_OK); /* no point of the space */
    int status = cadre_searcher_ask(searcher, &numbers[1], x);
    assert_true(status == CADRE_OK ? numbers[1] == numbers[0] + 1 : status == CADRE_LATER || status == CADRE_STOP);
    cadre_searcher_free(searcher); /* with some still running */
    cadre_space_free(space);
}

static int drain(const search_case *row, const cadre_param *params, int most)
{
    cadre_space *space = make(params);
    cadre_searcher *searcher = start(row, space, 3);
    double x[DIMS] = {0};
    int64_t number;
    int asked = 0, status;
    while (asked < most && (status = cadre_searcher_ask(searcher, &number, x)) == CADRE_OK) {
        assert_int_equal(cadre_space_check(space, x), CADRE_OK);
        assert_int_equal(cadre_searcher_tell(searcher, number, &(cadre_outcome){.value = value_of(space, x)}),
                         CADRE_OK);
        asked++;
    }
    if (asked < most)
        for (int i = 0; i < 3; i++) /* the end is the end */
            assert_int_equal(cadre_searcher_ask(searcher, &number, x), CADRE_STOP);
    cadre_searcher_free(searcher);
    cadre_space_free(space);
    return asked;
}

void search_contract_small_spaces(void **state)
{
    const search_case *row = *state;
    int repeats = row->search.repeats > 1 ? row->search.repeats : 1;
    assert_int_equal(drain(row, (cadre_param[]){CADRE_END}, 30), row->finite ? repeats : 30);
    cadre_param one[] = {CADRE_RANDINT("a", 3, 4), CADRE_CHOICE("b", "x"), CADRE_QUNIFORM("c", 2, 2, 1), CADRE_END};
    assert_int_equal(drain(row, one, 30), row->finite ? repeats : 30);
    cadre_param forty[] = {CADRE_RANDINT("a", 0, 10), CADRE_CHOICE("b", "w", "x", "y", "z"), CADRE_END};
    assert_int_equal(drain(row, forty, 200), row->finite ? 40 * repeats : 200);
    if (row->finite)
        return;
    cadre_param narrow[] = {CADRE_UNIFORM("a", 1, 1),          CADRE_LOGUNIFORM("b", 2, 2),
                            CADRE_LOGRANDINT("c", 5, 6),       CADRE_UNIFORM("d", 1, 1 + 1e-15),
                            CADRE_UNIFORM("e", -1e300, 1e300), CADRE_END};
    assert_int_equal(drain(row, narrow, 60), 60);
}

/* Every step is tried until it is through, with one allocation failing at a time; the events must be those of an
 * undisturbed run. */
void search_contract_bears_no_memory(void **state)
{
    enum { STEPS = 40 };
    const search_case *row = *state;
    cadre_space *space = everything(row->finite);
    cadre_searcher *calm = start(row, space, 2), *disturbed = NULL;
    char fault[32];
    int failures = 0;
    for (int nth = 1; !disturbed; nth++) {
        snprintf(fault, sizeof fault, "alloc:%d", nth);
        base_fault_set(fault);
        int status = cadre_searcher_new(space, &row->search, 2, &disturbed);
        assert_true(status == CADRE_OK || status == CADRE_ENOMEM);
        failures += status != CADRE_OK;
    }
    for (int i = 0; i < STEPS; i++) {
        double expected[DIMS], x[DIMS];
        int64_t number, same;
        base_fault_set(NULL);
        if (cadre_searcher_ask(calm, &number, expected))
            break;
        cadre_outcome outcome = outcome_of(space, expected, number);
        cadre_searcher_tell(calm, number, &outcome);
        int status = CADRE_ENOMEM;
        for (int nth = 1; status; nth++) {
            snprintf(fault, sizeof fault, "alloc:%d", nth);
            base_fault_set(fault);
            status = cadre_searcher_ask(disturbed, &same, x);
            assert_true(status == CADRE_OK || status == CADRE_ENOMEM);
        }
        assert_int_equal(same, number);
        assert_memory_equal(x, expected, (size_t)cadre_space_count(space) * sizeof *x);
        for (int nth = (status = CADRE_ENOMEM, 1); status; nth++) {
            snprintf(fault, sizeof fault, "alloc:%d", nth);
            base_fault_set(fault);
            status = cadre_searcher_tell(disturbed, number, &outcome);
            assert_true(status == CADRE_OK || status == CADRE_ENOMEM);
        }
    }
    base_fault_set(NULL);
    assert_true(failures > 0);
    cadre_searcher_free(calm);
    cadre_searcher_free(disturbed);
    cadre_space_free(space);
}
