/*
 * Any history told to the tuner's mind, and so to every searcher, scheduler and stopping rule: values that are not numbers, times that go back,
 * results from elsewhere, ends that nobody expects. What is suggested is a point of the space, what is counted adds up, and the same history
 * gives the same again. The first bytes say who hears it.
 */
#include "input.h"
#include "tuner/core.h"

#include <math.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t nbytes);

static const cadre_param mixed[] = {CADRE_LOGUNIFORM("lr", 1e-4, 1e-1), CADRE_QRANDINT("width", 8, 64, 8), CADRE_CHOICE("optimizer", "sgd", "adam", "lion"),
                                    CADRE_WHEN("optimizer", "sgd", CADRE_UNIFORM("momentum", 0, 1)), CADRE_RANDN("shift", 0, 2), CADRE_END};
static const cadre_param wide[] = {CADRE_UNIFORM("x", -1e300, 1e300), CADRE_UNIFORM("y", 1, 1 + 1e-15), CADRE_LOGUNIFORM("z", 1e-300, 1e300), CADRE_END};
static const cadre_param small[] = {CADRE_CHOICE_BOOL("on"), CADRE_RANDINT("n", 0, 2), CADRE_END};
static const cadre_param *const spaces[] = {mixed, wide, small};

struct told {
    tuner_core *core;
    const cadre_space *space;
    uint64_t sum; /* of all that was answered */
    int asks;     /* that are left */
};

static void note(struct told *told, const void *bytes, size_t nbytes)
{
    for (size_t i = 0; i < nbytes; i++)
        told->sum = (told->sum ^ ((const unsigned char *)bytes)[i]) * 0x100000001b3;
}

static void note_int(struct told *told, int64_t value) { note(told, &value, sizeof value); }

/* The nth trial that is in one of the states; -1: there is none. */
static int64_t pick(const struct told *told, fuzz_input *in, bool paused)
{
    int64_t count = core_count(told->core), from = count ? fuzz_one_of(in, 256) % count : 0;
    for (int64_t i = 0; i < count; i++) {
        int64_t number = (from + i) % count;
        core_state state = core_get(told->core, number)->state;
        if (state == CORE_RUNNING || (paused && state == CORE_PAUSED))
            return number;
    }
    return -1;
}

static void next(struct told *told)
{
    core_job job = CORE_LATER;
    int64_t number = -1, before = core_count(told->core);
    if (told->asks-- <= 0)
        return;
    int status = core_next(told->core, &job, &number);
    note_int(told, status);
    if (status != CADRE_OK)
        return;
    note_int(told, job);
    if (job == CORE_LATER || job == CORE_DONE)
        return;
    note_int(told, number);
    must(number >= 0 && number < core_count(told->core));
    if (job != CORE_START && job != CORE_RETRY)
        return;
    const double *x = core_get(told->core, number)->x;
    must(number == before && cadre_space_check(told->space, x) == CADRE_OK);
    for (int i = 0; i < cadre_space_count(told->space); i++)
        note(told, isnan(x[i]) ? &(double){0} : &x[i], sizeof *x);
}

static void report(struct told *told, fuzz_input *in)
{
    int64_t number = pick(told, in, false);
    unsigned how = fuzz_byte(in);
    if (number < 0 || core_get(told->core, number)->decision != CADRE_DECIDE_GO_ON)
        return;
    int64_t last = core_get(told->core, number)->reports;
    int64_t count = how % 4 ? last + 1 : fuzz_int(in);
    count = count < 0 ? 0 : count > INT64_C(1) << 53 ? INT64_C(1) << 53 : count; /* as a replay has it */
    double time = how % 8 < 6 ? (double)count : fuzz_double(in), value = fuzz_double(in), trial_s = how < 192 ? (double)count : fuzz_double(in);
    note_int(told, core_report(told->core, number, count, time, value, trial_s, trial_s));
}

static void add(struct told *told, fuzz_input *in)
{
    double x[8];
    bool strange = fuzz_byte(in) % 8 == 0;
    cadre_space_sample(told->space, 1, fuzz_byte(in), x);
    int which = fuzz_one_of(in, cadre_space_count(told->space) + 1);
    if (which < cadre_space_count(told->space))
        x[which] = fuzz_double(in);
    cadre_trial_end end = (cadre_trial_end)fuzz_one_of(in, 4);
    double value = fuzz_double(in);
    note_int(told, core_add(told->core, strange ? NULL : x, end, value, fuzz_int(in)));
}

static void event(struct told *told, fuzz_input *in)
{
    int64_t number, count = 0;
    switch (fuzz_one_of(in, 10)) {
    case 0:
    case 1:
    case 2:
        next(told);
        break;
    case 3:
    case 4:
    case 5:
        report(told, in);
        break;
    case 6:
        if ((number = pick(told, in, true)) >= 0)
            note_int(told, core_end(told->core, number, (cadre_trial_end)((int)fuzz_byte(in) % 5 - 1)));
        break;
    case 7:
        if ((number = pick(told, in, false)) >= 0)
            core_paused(told->core, number);
        break;
    case 8:
        add(told, in);
        break;
    default:
        if ((number = pick(told, in, true)) >= 0 && fuzz_byte(in) % 2)
            core_set_value(told->core, number, fuzz_double(in), core_get(told->core, number)->reports);
        else
            note_int(told, core_retry_failed(told->core, fuzz_byte(in) % 2, &count));
    }
    int64_t running = 0;
    for (number = 0; number < core_count(told->core); number++)
        running += core_get(told->core, number)->state == CORE_RUNNING;
    must(running == core_running(told->core) && core_best(told->core) >= -1 && core_best(told->core) < core_count(told->core));
}

static uint64_t tell(fuzz_input in)
{
    static const cadre_stop stops[] = {{0}, {.max_iterations = 3, .trial_plateau_std = 0.01}, {.experiment_plateau_std = 0.01, .plateau_top = 2},
                                       {.has_target = true, .target = 0.5}, {.time_budget_s = 100}};
    const cadre_scheduler schedulers[] = {{NULL, NULL},
                                          CADRE_ASHA(.max_t = 9, .reduction_factor = 3, .brackets = 2),
                                          CADRE_ASHA(.max_t = 9, .reduction_factor = 3, .promotion = true, .delayed = true),
                                          CADRE_HYPERBAND(.max_t = 9, .promotion = true),
                                          CADRE_PERCENTILE(.percentile = 25, .n_startup_trials = -1, .n_warmup_steps = 1, .interval_steps = 2),
                                          CADRE_MEDIAN(.min_samples_required = 1)};
    const char *name = cadre_searcher_name(fuzz_one_of(&in, 9));
    cadre_search search = {.name = name, .samples = -1};
    if (strcmp(name, "grid") == 0)
        search.json = "{\"resolution\": 3}";
    else if (strcmp(name, "tpe") == 0 || strcmp(name, "bohb") == 0 || strcmp(name, "gp") == 0)
        search.json = "{\"startup\": 3}";
    unsigned around = fuzz_byte(&in);
    search.repeats = around % 8 == 1 ? 2 : 0;
    search.max_concurrent = around % 8 == 2 ? 2 : 0;
    struct told told = {.asks = strcmp(name, "gp") == 0 || strcmp(name, "auto") == 0 ? 16 : 64};
    cadre_space *space = NULL;
    must(cadre_space_new(spaces[around / 8 % 3], &space) == CADRE_OK);
    core_spec spec = {.space = space, .search = &search, .scheduler = schedulers[fuzz_one_of(&in, 6)], .stop = &stops[fuzz_one_of(&in, 5)],
                      .maximize = around >= 128, .limit = 50, .seed = around};
    told.space = space;
    int status = core_new(&spec, &told.core);
    for (int i = 0; status == CADRE_OK && i < 400 && in.left; i++)
        event(&told, &in);
    if (status == CADRE_OK)
        core_free(told.core);
    cadre_space_free(space);
    return told.sum;
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t nbytes)
{
    fuzz_input in = {bytes, nbytes};
    must(tell(in) == tell(in));
    return 0;
}
