/*
 * "auto", the default: the searcher for who does not want to choose one. It looks at the space, at what is planned and
 * at how many results there are, has one of the other searchers suggest, and says which and why (cadre_searcher_note;
 * the tuner writes it into the store).
 *
 * - random, where the space has grids, which it walks, or only one point;
 * - bohb, where a scheduler stops or pauses trials by what they report: it alone learns from those;
 * - else first gp: few results go furthest there, whatever the space is;
 * - where more than four trials have run at once, every fourth suggestion tpe's as soon as it has a model: gp alone
 *   makes too much of the same before it hears of it (with every third, eight at once lost 0.21 of what is gained over
 *   random after 50 trials, with every fourth 0.18; 100 seeds);
 * - where nothing is continuous, after 100 results gp and tpe in turn: on eight tables of trainings (bench/search) the
 *   regret after 200 trials is smaller than gp's alone in 50 of 240 runs and larger in 30; begun after 50 results, that
 *   costs more after 100 trials than it gains;
 * - after 200 results cmaes, where all dimensions are numbers that are always there, not all in steps: begun around
 *   the best of what is known, it costs nothing however many results there are, goes on to many digits, and looks
 *   elsewhere when it has;
 * - after 200 results tpe, where there are choices, conditions or steps alone.
 *
 * What gp costs grows with the results and with the dimensions. It hands over so early that all its suggestions
 * together cost some seconds (2.0 in 8 dimensions, 5.8 in 32, 2.5 in 100): before 200 results where there are more, or
 * where so many trials are planned that each must be a cheap one. No clock is looked at: how fast a machine is changes
 * no suggestion.
 * Noise is gp's own business, which fits it. Measured with noise of 0.03, 0.1 and 0.3 of what there is to be gained
 * (bench/search/results/noise.txt): after 200 trials the regret is 0.63, 0.78 and 0.96 times tpe's alone and 0.59, 1.00
 * and 1.20 times that of cmaes; a rough function would look as noisy as the last.
 *
 * Each of them is told everything that happened, as if the trials of the others came from elsewhere, and none before it
 * has to suggest something: auto keeps one log of what happened, and who is to suggest first hears the rest of it. So a
 * searcher that is not used costs nothing, and a failed allocation anywhere leaves a log that is read on from the same
 * place.
 */
#include "base/error.h"
#include "base/mem.h"
#include "base/rng.h"
#include "tuner/search/search.h"
#include "tuner/space.h"

#include <inttypes.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The searchers that it knows. */
typedef enum auto_who { AUTO_GP, AUTO_TPE, AUTO_CMAES, AUTO_BOHB, AUTO_RANDOM, AUTO_MEMBERS } auto_who;

static const cadre_searcher_table *const tables[AUTO_MEMBERS] = {
    &cadre_searcher_gp, &cadre_searcher_tpe, &cadre_searcher_cmaes, &cadre_searcher_bohb, &cadre_searcher_random};

typedef struct auto_event {
    enum { AUTO_STARTED, AUTO_REPORTED, AUTO_TOLD } what;
    int asked;             /* AUTO_STARTED: who suggested it; -1: none of them */
    int64_t row;           /* the trial */
    cadre_outcome outcome; /* AUTO_TOLD; of AUTO_REPORTED the value and the step */
} auto_event;

typedef struct auto_member {
    const cadre_searcher_table *table;
    void *self;    /* NULL: not needed so far */
    int64_t heard; /* events */
} auto_member;

typedef struct auto_search {
    const cadre_space *space;
    uint64_t seed;
    int64_t handover;
    bool walks, stops_early;
    int numbers, continuous, choices, conditional; /* dimensions; a conditional one counts as what it is, too */
    auto_member member[AUTO_MEMBERS];
    const struct auto_phase *phase; /* of the last suggestion; NULL: there was none */
    int64_t asked;
    int64_t ended, failed;   /* complete and pruned trials, and the others */
    int64_t running, widest; /* trials now, and at most so far */
    int64_t events, event_room, rows, row_room;
    auto_event *event;
    int64_t *number; /* of each row: trials in the order in which they were heard of */
    double *x;       /* [rows * ndims] */
    char note[200];
} auto_search;

static void auto_free(void *self)
{
    auto_search *search = self;
    for (int m = 0; m < AUTO_MEMBERS; m++)
        if (search->member[m].self)
            search->member[m].table->free(search->member[m].self);
    free(search->event);
    free(search->number);
    free(search->x);
    free(search);
}

/* What there is to be searched. */
static int look_at_space(auto_search *search)
{
    const cadre_space *space = search->space;
    int64_t combinations;
    for (int d = 0; d < space->count; d++) {
        const cadre_dim *dim = &space->dims[d];
        bool number = dim->kind != CADRE_DIM_CATEGORICAL;
        search->choices += !number && dim->count > 1;
        search->numbers += number && dim->high > dim->low;
        search->continuous += number && dim->step == 0 && dim->high > dim->low;
        search->conditional += dim->conditions > 0;
    }
    int status = cadre_space_grid_size(space, SEARCH_LARGEST_GRID, &combinations);
    search->walks = !status && combinations > 1;
    return status;
}

/* After how many results gp hands over. One suggestion costs some 25 ms at 200 results in 8 dimensions, and that grows
 * with the dimensions and faster than the results. */
static int64_t handover(const auto_search *search, int64_t trials)
{
    enum { RESULTS = 200, CHEAP = 1000, CHEAP_RESULTS = 100, DIMS = 32, LEAST = 50 };
    int64_t results = trials > CHEAP ? CHEAP_RESULTS : RESULTS;
    int dims = search->numbers + search->choices;
    if (dims > DIMS)
        results = results * DIMS / dims;
    return results > LEAST ? results : LEAST;
}

static int auto_create(const cadre_searcher_args *args, void **self)
{
    static const search_option known[] = {
        {"handover", SEARCH_OPTION_INT64, offsetof(cadre_auto_options, handover), 1, 1e12},
        {0},
    };
    cadre_auto_options options = {.size = sizeof options};
    int status = search_options_read(args, "auto", known, &options, sizeof options);
    if (status)
        return status;
    auto_search *search = base_calloc(1, sizeof *search);
    if (!search)
        return CADRE_ENOMEM;
    search->space = args->space;
    search->seed = args->seed;
    search->stops_early = args->plan.stops_early;
    status = look_at_space(search);
    if (status) {
        auto_free(search);
        return status;
    }
    search->handover = options.handover ? options.handover : handover(search, args->plan.trials);
    for (int m = 0; m < AUTO_MEMBERS; m++)
        search->member[m].table = tables[m];
    *self = search;
    return CADRE_OK;
}

/* ---- the log ----------------------------------------------------------------------------------------------------- */

#define GROW(array, elements)                                                                                          \
    ((grown = base_realloc(array, (size_t)(elements) * sizeof *(array) + 1)) ? ((array) = grown, true) : false)

/* For one more event, and one more trial. */
static int make_room(auto_search *search)
{
    void *grown;
    if (search->events + 1 >= search->event_room) {
        int64_t room = 2 * search->event_room + 64;
        if (!GROW(search->event, room))
            return CADRE_ENOMEM;
        search->event_room = room;
    }
    if (search->rows == search->row_room) {
        int64_t room = 2 * search->row_room + 64;
        if (!GROW(search->number, room) || !GROW(search->x, room * search->space->count))
            return CADRE_ENOMEM;
        search->row_room = room;
    }
    return CADRE_OK;
}

static double *row(const auto_search *search, int64_t at) { return search->x + at * search->space->count; }

static int64_t add_row(auto_search *search, int64_t number, const double *x)
{
    memcpy(row(search, search->rows), x, (size_t)search->space->count * sizeof *x);
    search->number[search->rows] = number;
    return search->rows++;
}

/* The row of a trial, or -1. Their numbers grow. */
static int64_t find_row(const auto_search *search, int64_t number)
{
    int64_t low = 0, high = search->rows;
    while (low < high) {
        int64_t middle = low + (high - low) / 2;
        if (search->number[middle] == number)
            return middle;
        if (search->number[middle] < number)
            low = middle + 1;
        else
            high = middle;
    }
    return -1;
}

static void log_event(auto_search *search, auto_event event)
{
    search->event[search->events++] = event;
    search->running += event.what == AUTO_STARTED;
    search->widest = search->running > search->widest ? search->running : search->widest;
}

/* Everything that a member has not heard yet. */
static int catch_up(auto_search *search, int m)
{
    auto_member *member = &search->member[m];
    for (int status = CADRE_OK; member->heard < search->events; member->heard++) {
        const auto_event *event = &search->event[member->heard];
        int64_t number = search->number[event->row];
        const double *x = row(search, event->row);
        if (event->what == AUTO_STARTED && event->asked != m && member->table->running)
            status = member->table->running(member->self, number, x);
        else if (event->what == AUTO_REPORTED && member->table->report)
            status = member->table->report(member->self, number, event->outcome.last_step, event->outcome.value);
        else if (event->what == AUTO_TOLD)
            status = member->table->tell(member->self, number, x, &event->outcome);
        if (status)
            return status;
    }
    return CADRE_OK;
}

/* ---- choosing ---------------------------------------------------------------------------------------------------- */

/* Who suggests, one after the other in turn, and why. */
typedef struct auto_phase {
    int count;
    auto_who who[4];
    const char *name, *why;
} auto_phase;

/* What auto_ask compares is their addresses. */
static const auto_phase grids = {1, {AUTO_RANDOM}, "random", "the space has grids, which are walked"};
static const auto_phase nothing = {1, {AUTO_RANDOM}, "random", "there is nothing to be searched"};
static const auto_phase stopped = {1, {AUTO_BOHB}, "bohb", "a scheduler stops trials early, and it learns from those"};
static const auto_phase few = {1, {AUTO_GP}, "gp", "few results go furthest there"};
static const auto_phase steps = {
    2, {AUTO_GP, AUTO_TPE}, "gp and tpe in turn", "there are only steps and choices, which one alone tries too few of"};
static const auto_phase crowd = {4,
                                 {AUTO_GP, AUTO_GP, AUTO_GP, AUTO_TPE},
                                 "gp and tpe in turn",
                                 "many trials at once, of which one alone makes too much of the same"};
static const auto_phase numbers = {1, {AUTO_CMAES}, "cmaes", "numbers alone, and many results to begin from"};
static const auto_phase mixed = {1, {AUTO_TPE}, "tpe", "choices, conditions or steps alone, and many results"};

enum { STEPS_FROM = 100, CROWD = 5, CROWD_FROM = 10 };

static const auto_phase *choose(const auto_search *search)
{
    if (search->walks)
        return &grids;
    if (search->numbers + search->choices == 0)
        return &nothing;
    if (search->stops_early)
        return &stopped;
    /* Failed trials teach little and cost gp as much. */
    if (search->ended >= search->handover || search->ended + search->failed >= 2 * search->handover)
        return search->choices || search->conditional || !search->continuous ? &mixed : &numbers;
    if (!search->continuous && search->ended >= STEPS_FROM)
        return &steps;
    return search->widest >= CROWD && search->ended >= CROWD_FROM ? &crowd : &few;
}

static void write_note(auto_search *search, const auto_phase *phase)
{
    snprintf(search->note, sizeof search->note,
             "%s, after %" PRId64 " results: %s (%d numbers, %d of them continuous, %d choices, %d conditional)",
             phase->name, search->ended, phase->why, search->numbers, search->continuous, search->choices,
             search->conditional);
}

static int auto_ask(void *self, int64_t number, double *x)
{
    auto_search *search = self;
    const auto_phase *phase = choose(search);
    int who = (int)phase->who[search->asked % phase->count];
    auto_member *member = &search->member[who];
    int status = make_room(search);
    if (status)
        return status;
    if (!member->self) {
        cadre_searcher_args args = {.space = search->space, .seed = search->seed, .samples = -1};
        status = member->table->create(&args, &member->self);
        if (status)
            return status;
    }
    status = catch_up(search, who);
    if (!status)
        status = member->table->ask(member->self, number, x);
    if (status)
        return status;
    log_event(search, (auto_event){.what = AUTO_STARTED, .asked = who, .row = add_row(search, number, x)});
    search->asked++;
    search->note[0] = 0;
    if (search->phase != phase)
        write_note(search, phase);
    search->phase = phase;
    return CADRE_OK;
}

static int auto_running(void *self, int64_t number, const double *x)
{
    auto_search *search = self;
    int status = make_room(search);
    if (status)
        return status;
    log_event(search, (auto_event){.what = AUTO_STARTED, .asked = -1, .row = add_row(search, number, x)});
    return CADRE_OK;
}

static int auto_report(void *self, int64_t number, int64_t step, double value)
{
    auto_search *search = self;
    int64_t at = find_row(search, number);
    if (!search->stops_early || at < 0) /* else nobody listens */
        return CADRE_OK;
    int status = make_room(search);
    if (!status)
        log_event(search,
                  (auto_event){.what = AUTO_REPORTED, .row = at, .outcome = {.value = value, .last_step = step}});
    return status;
}

static int auto_tell(void *self, int64_t number, const double *x, const cadre_outcome *outcome)
{
    auto_search *search = self;
    int status = make_room(search);
    if (status)
        return status;
    int64_t at = find_row(search, number);
    search->running -= at >= 0; /* else it comes from elsewhere */
    log_event(search,
              (auto_event){.what = AUTO_TOLD, .row = at >= 0 ? at : add_row(search, number, x), .outcome = *outcome});
    search->ended += outcome->end != CADRE_ENDED_FAILED;
    search->failed += outcome->end == CADRE_ENDED_FAILED;
    return CADRE_OK;
}

static const char *auto_note(void *self) { return ((auto_search *)self)->note; }

const cadre_searcher_table cadre_searcher_auto = {
    .abi = CADRE_SEARCHER_ABI,
    .size = sizeof(cadre_searcher_table),
    .name = "auto",
    .create = auto_create,
    .ask = auto_ask,
    .tell = auto_tell,
    .running = auto_running,
    .report = auto_report,
    .free = auto_free,
    .note = auto_note,
};
