/*
 * "auto": the searcher for who does not want to choose one. It looks at the space and at how many results there are,
 * has one of the other searchers suggest, and says which and why (cadre_searcher_note; the tuner writes it into the
 * store).
 *
 * - first gp: few results go furthest there, whatever the space is;
 * - where nothing is continuous, after 40 results gp and tpe in turn: of 12 runs of 200 trials on four tables of
 *   trainings they found the best config in 9, gp alone in 7, tpe alone in 5;
 * - after 200 results cmaes, where all dimensions are numbers that are always there, not all in steps: begun around
 *   the best of what is known, it costs nothing however many results there are, goes on to many digits, and looks
 *   elsewhere when it has;
 * - after 200 results tpe, where there are choices, conditions or steps alone.
 *
 * The number of trials that are planned and noise do not count so far: the first may change between two lives of an
 * experiment, and the second is gp's own business.
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
typedef enum auto_who { AUTO_GP, AUTO_TPE, AUTO_CMAES, AUTO_MEMBERS } auto_who;

static const cadre_searcher_table *const tables[AUTO_MEMBERS] = {&cadre_searcher_gp, &cadre_searcher_tpe,
                                                                 &cadre_searcher_cmaes};

typedef struct auto_event {
    enum { AUTO_STARTED, AUTO_TOLD } what;
    int asked;             /* AUTO_STARTED: who suggested it; -1: none of them */
    int64_t row;           /* the trial */
    cadre_outcome outcome; /* AUTO_TOLD */
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
    int numbers, continuous, choices, conditional; /* dimensions; a conditional one counts as what it is, too */
    auto_member member[AUTO_MEMBERS];
    const struct auto_phase *phase; /* of the last suggestion; NULL: there was none */
    int64_t asked;
    int64_t ended; /* complete and pruned trials */
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
    search->handover = options.handover;
    for (int d = 0; d < args->space->count; d++) {
        const cadre_dim *dim = &args->space->dims[d];
        search->choices += dim->kind == CADRE_DIM_CATEGORICAL;
        search->numbers += dim->kind != CADRE_DIM_CATEGORICAL;
        search->continuous += dim->kind != CADRE_DIM_CATEGORICAL && dim->step == 0 && dim->high > dim->low;
        search->conditional += dim->conditions > 0;
    }
    for (int m = 0; m < AUTO_MEMBERS; m++)
        search->member[m].table = tables[m];
    *self = search;
    return CADRE_OK;
}

/* ---- the log ------------------------------------------------------------------------------------------------------ */

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

/* The row of a trial, or -1. Trials that are told of began not long ago. */
static int64_t find_row(const auto_search *search, int64_t number)
{
    int64_t at = search->rows - 1;
    while (at >= 0 && search->number[at] != number)
        at--;
    return at;
}

static void log_event(auto_search *search, auto_event event) { search->event[search->events++] = event; }

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
        else if (event->what == AUTO_TOLD)
            status = member->table->tell(member->self, number, x, &event->outcome);
        if (status)
            return status;
    }
    return CADRE_OK;
}

/* ---- choosing ----------------------------------------------------------------------------------------------------- */

/* Who suggests, one after the other in turn, and why. */
typedef struct auto_phase {
    int count;
    auto_who who[2];
    const char *name, *why;
} auto_phase;

/* What auto_ask compares is their addresses. */
static const auto_phase few = {1, {AUTO_GP}, "gp", "few results go furthest there"};
static const auto_phase steps = {
    2, {AUTO_GP, AUTO_TPE}, "gp and tpe in turn", "there are only steps and choices, which one alone tries too few of"};
static const auto_phase numbers = {1, {AUTO_CMAES}, "cmaes", "numbers alone, and many results to begin from"};
static const auto_phase mixed = {1, {AUTO_TPE}, "tpe", "choices, conditions or steps alone, and many results"};

enum { STEPS_FROM = 40, HANDOVER = 200 };

static const auto_phase *choose(const auto_search *search)
{
    if (search->ended >= (search->handover ? search->handover : HANDOVER))
        return search->choices || search->conditional || !search->continuous ? &mixed : &numbers;
    return search->continuous || search->ended < STEPS_FROM ? &few : &steps;
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
        cadre_searcher_args args = {.space = search->space, .seed = search->seed};
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

static int auto_tell(void *self, int64_t number, const double *x, const cadre_outcome *outcome)
{
    auto_search *search = self;
    int status = make_room(search);
    if (status)
        return status;
    int64_t at = find_row(search, number);
    log_event(search,
              (auto_event){.what = AUTO_TOLD, .row = at >= 0 ? at : add_row(search, number, x), .outcome = *outcome});
    search->ended += outcome->end != CADRE_ENDED_FAILED;
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
    .free = auto_free,
    .note = auto_note,
};
