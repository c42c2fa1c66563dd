/* The part of `cadre show` about what mattered: tuner/importance.h has the scores, this the store's trials and the words. */
#include "cli.h"

#include "base/buffer.h"
#include "base/error.h"
#include "base/mem.h"
#include "tuner/importance.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- from the store ------------------------------------------------------------------------------------------------ */

struct param {
    char *name;
    char *distribution; /* the last one seen, to be parsed but once */
    json_t *choices;    /* NULL: a number */
    bool whole;         /* ints */
    importance_param scale;
};

/* A value of a trial, as it comes from the store. */
struct item {
    int trial, param;
    double value;
};

struct importance {
    struct param *params;
    int param_count, param_room;
    struct item *items;
    int item_count, item_room;
    int64_t *numbers; /* of the trials */
    double *values;
    bool *pruned;
    int count, room;
    bool maximize;
    int best; /* among the trials; -1: none */
    int64_t best_number;
    double *x;
    importance_param *scales;
    importance_score *scores;
    int *order; /* params, the most important first */
    int top;
    importance_verdict verdict;
    importance_trials trials;
};

static void drop(struct importance *i)
{
    for (int k = 0; k < i->param_count; k++) {
        free(i->params[k].name);
        free(i->params[k].distribution);
        json_decref(i->params[k].choices);
    }
    free(i->params);
    free(i->items);
    free(i->numbers);
    free(i->values);
    free(i->pruned);
    free(i->x);
    free(i->scales);
    free(i->scores);
    free(i->order);
}

#define GROW(array, room) ((grown = base_realloc(array, (size_t)(room) * sizeof *(array))) ? ((array) = grown, true) : false)

static int add_trial(const tracking_trial *row, void *user)
{
    struct importance *i = user;
    void *grown;
    if ((row->state != TRACKING_COMPLETE && row->state != TRACKING_PRUNED) || !row->has_value || isnan(row->value))
        return CADRE_OK;
    if (i->count == i->room) {
        int room = i->room ? 2 * i->room : 64;
        if (!GROW(i->numbers, room) || !GROW(i->values, room) || !GROW(i->pruned, room))
            return CADRE_ENOMEM;
        i->room = room;
    }
    if (row->number == i->best_number)
        i->best = i->count;
    i->numbers[i->count] = row->number;
    i->pruned[i->count] = row->state == TRACKING_PRUNED;
    i->values[i->count++] = i->maximize ? -row->value : row->value;
    return CADRE_OK;
}

static double number_of(const json_t *attributes, const char *key, double otherwise)
{
    const json_t *value = json_object_get(attributes, key);
    return json_is_number(value) ? json_number_value(value) : otherwise;
}

/* A distribution that has changed on the way widens the range; other choices start the parameter anew, which a sweep never does. */
static int read_distribution(struct param *param, const char *text, double value)
{
    if (param->distribution && strcmp(param->distribution, text) == 0)
        return CADRE_OK;
    char *kept = base_strdup(text);
    if (!kept)
        return CADRE_ENOMEM;
    json_t *json = json_loads(text, 0, NULL);
    const json_t *attributes = json_object_get(json, "attributes");
    const char *name = json_string_value(json_object_get(json, "name"));
    json_t *choices = json_object_get(attributes, "choices");
    bool first = !param->distribution;
    double low = number_of(attributes, "low", value), high = number_of(attributes, "high", value);
    if (json_is_array(choices)) {
        json_decref(param->choices);
        param->choices = json_incref(choices);
        param->scale = (importance_param){.choices = (int)json_array_size(choices)};
    } else {
        param->scale.low = first ? low : fmin(low, param->scale.low);
        param->scale.high = first ? high : fmax(high, param->scale.high);
        param->scale.step = number_of(attributes, "step", 0);
        param->scale.log = json_is_true(json_object_get(attributes, "log")) && param->scale.low > 0;
        param->whole = name && strcmp(name, "IntDistribution") == 0;
    }
    json_decref(json);
    free(param->distribution);
    param->distribution = kept;
    return CADRE_OK;
}

static int find_param(struct importance *i, const char *name)
{
    void *grown;
    for (int k = 0; k < i->param_count; k++)
        if (strcmp(i->params[k].name, name) == 0)
            return k;
    if (i->param_count == i->param_room) {
        int room = i->param_room ? 2 * i->param_room : 16;
        if (!GROW(i->params, room))
            return -1;
        i->param_room = room;
    }
    char *kept = base_strdup(name);
    if (!kept)
        return -1;
    i->params[i->param_count] = (struct param){.name = kept};
    return i->param_count++;
}

static int add_value(int64_t number, const char *name, double value, const char *distribution, void *user)
{
    struct importance *i = user;
    void *grown;
    int low = 0, high = i->count;
    while (low < high) { /* trials came by number */
        int middle = (low + high) / 2;
        if (i->numbers[middle] < number)
            low = middle + 1;
        else
            high = middle;
    }
    if (low == i->count || i->numbers[low] != number)
        return CADRE_OK;
    int param = find_param(i, name);
    if (param < 0)
        return CADRE_ENOMEM;
    if (i->item_count == i->item_room) {
        int room = i->item_room ? 2 * i->item_room : 256;
        if (!GROW(i->items, room))
            return CADRE_ENOMEM;
        i->item_room = room;
    }
    i->items[i->item_count++] = (struct item){low, param, value};
    return read_distribution(&i->params[param], distribution, value);
}

/* Constants are no parameters that could matter. */
static void leave_out_constants(struct importance *i)
{
    for (int k = 0; k < i->param_count; k++) {
        const importance_param *scale = &i->params[k].scale;
        if (scale->choices > 1 || (scale->choices == 0 && scale->high > scale->low))
            continue;
        for (int n = 0; n < i->item_count; n++)
            if (i->items[n].param == k)
                i->items[n--] = i->items[--i->item_count];
        free(i->params[k].name);
        free(i->params[k].distribution);
        json_decref(i->params[k].choices);
        memmove(i->params + k, i->params + k + 1, (size_t)(i->param_count - k - 1) * sizeof *i->params);
        i->param_count--;
        for (int n = 0; n < i->item_count; n++)
            i->items[n].param -= i->items[n].param > k;
        k--;
    }
}

static int find_scores(struct importance *i)
{
    size_t params = (size_t)i->param_count, cells = params * (size_t)i->count;
    i->x = base_malloc((cells + 1) * sizeof *i->x);
    i->scales = base_malloc((params + 1) * sizeof *i->scales);
    i->scores = base_malloc((params + 1) * sizeof *i->scores);
    i->order = base_malloc((params + 1) * sizeof *i->order);
    if (!i->x || !i->scales || !i->scores || !i->order)
        return CADRE_ENOMEM;
    for (size_t k = 0; k < cells; k++)
        i->x[k] = NAN;
    for (int n = 0; n < i->item_count; n++)
        i->x[(size_t)i->items[n].trial * params + (size_t)i->items[n].param] = i->items[n].value;
    for (size_t k = 0; k < params; k++)
        i->scales[k] = i->params[k].scale;
    i->trials = (importance_trials){i->count, i->param_count, i->scales, i->x, i->values, i->pruned};
    int status = importance_of(&i->trials, i->scores, &i->top, &i->verdict);
    for (int k = 0; status == CADRE_OK && k < i->param_count; k++) {
        int at = k;
        for (; at > 0 && i->scores[i->order[at - 1]].share < i->scores[k].share; at--)
            i->order[at] = i->order[at - 1];
        i->order[at] = k;
    }
    return status;
}

static int read_importance(tracking_store *store, const tracking_experiment_row *experiment, struct importance *i)
{
    *i = (struct importance){.maximize = experiment->direction == TRACKING_MAXIMIZE, .best = -1, .best_number = experiment->has_best ? experiment->best_number : -1};
    int status = tracking_each_trial(store, experiment->id, add_trial, i);
    if (status == CADRE_OK)
        status = tracking_each_distribution(store, experiment->id, add_value, i);
    if (status != CADRE_OK)
        return status;
    leave_out_constants(i);
    return find_scores(i);
}

/* ---- in words ------------------------------------------------------------------------------------------------------ */

static int put_value(base_buffer *out, const struct param *param, double value)
{
    char text[32];
    const json_t *choice = param->choices && value >= 0 && value < param->scale.choices ? json_array_get(param->choices, (size_t)value) : NULL;
    if (param->whole)
        return base_buffer_printf(out, "%.0f", value);
    if (!param->choices)
        return base_buffer_printf(out, "%.3g", value);
    if (json_is_string(choice))
        return base_buffer_printf(out, "%s", json_string_value(choice));
    if (json_is_boolean(choice))
        return base_buffer_printf(out, json_is_true(choice) ? "true" : "false");
    if (json_is_number(choice))
        return base_buffer_printf(out, "%s", cli_value_text(json_number_value(choice), text));
    return base_buffer_printf(out, "null");
}

/* "lr = 0.003, below 85 % of the others (trials near it come to 0.91 on average, those near the median 0.02 to 0.8)". */
static int put_reason(base_buffer *out, const struct importance *i, int param, const importance_reason *reason)
{
    const struct param *p = &i->params[param];
    double sign = i->maximize ? -1 : 1;
    int status = base_buffer_printf(out, "%s = ", p->name);
    if (status == CADRE_OK)
        status = put_value(out, p, i->x[(size_t)i->best * (size_t)i->param_count + (size_t)param]);
    if (status == CADRE_OK && p->choices)
        status = base_buffer_printf(out, ", as in %.0f %% of the others", 100 * (1 - reason->below));
    else if (status == CADRE_OK && reason->above >= reason->below)
        status = base_buffer_printf(out, ", below %.0f %% of the others", 100 * reason->above);
    else if (status == CADRE_OK)
        status = base_buffer_printf(out, ", above %.0f %% of the others", 100 * reason->below);
    if (status != CADRE_OK || isnan(reason->near_own) || isnan(reason->near_typical))
        return status;
    if (p->choices && reason->typical == i->x[(size_t)i->best * (size_t)i->param_count + (size_t)param])
        return base_buffer_printf(out, " (they come to %.3g on average)", sign * reason->near_own);
    status = base_buffer_printf(out, " (%s come to %.3g on average, those %s ", p->choices ? "they" : "trials near it", sign * reason->near_own,
                                p->choices ? "with" : "near the median");
    if (status == CADRE_OK)
        status = put_value(out, p, reason->typical);
    return status == CADRE_OK ? base_buffer_printf(out, " to %.3g)", sign * reason->near_typical) : status;
}

static const double SURE = 0.05;
enum { MOST_REASONS = 3 };

/* One sentence; "" where there is no best trial or no verdict. */
static int put_why(base_buffer *out, const struct importance *i)
{
    int told = 0, status = CADRE_OK;
    if (i->best < 0 || (i->verdict != IMPORTANCE_FOUND && i->verdict != IMPORTANCE_NONE))
        return base_buffer_append(out, "", 1);
    for (int k = 0; status == CADRE_OK && k < i->param_count && told < MOST_REASONS; k++) {
        int param = i->order[k];
        importance_reason reason;
        if (i->scores[param].chance > SURE || i->scores[param].share <= 0 || !importance_why(&i->trials, i->best, param, &reason))
            continue;
        status = told++ ? base_buffer_printf(out, "; ") : base_buffer_printf(out, "trial %" PRId64 " stands apart by ", i->best_number);
        if (status == CADRE_OK)
            status = put_reason(out, i, param, &reason);
    }
    if (status == CADRE_OK && !told)
        status = base_buffer_printf(out, "no parameter sets the best %d of %d trials apart more than chance would", i->top, i->count);
    if (status == CADRE_OK)
        status = base_buffer_append(out, "", 1);
    return status;
}

static int put_note(base_buffer *out, const struct importance *i)
{
    switch (i->verdict) {
    case IMPORTANCE_TOO_FEW:
        return base_buffer_printf(out, "too few trials with a value to tell: %d, and it takes %d, two of them complete", i->count, IMPORTANCE_LEAST);
    case IMPORTANCE_CONSTANT:
        return base_buffer_printf(out, "%d of %d trials are equally the best", i->top, i->count);
    default:
        return base_buffer_printf(out, "the best %d of %d trials against all, by PED-ANOVA", i->top, i->count);
    }
}

int cli_importance_print(tracking_store *store, const tracking_experiment_row *experiment)
{
    struct importance i;
    base_buffer note = {0}, why = {0};
    char share[32], chance[32];
    int status = read_importance(store, experiment, &i);
    if (status == CADRE_OK && i.param_count && i.count)
        status = put_note(&note, &i) == CADRE_OK ? put_why(&why, &i) : CADRE_ENOMEM;
    if (status == CADRE_OK && note.length) {
        printf("\nimportance: %.*s\n", (int)note.length, (const char *)note.data);
        cli_table *table = i.verdict == IMPORTANCE_FOUND || i.verdict == IMPORTANCE_NONE ? cli_table_new("PARAM|>IMPORTANCE|>BY CHANCE|>TRIALS") : NULL;
        for (int k = 0; table && k < i.param_count; k++) {
            const importance_score *score = &i.scores[i.order[k]];
            snprintf(share, sizeof share, "%.2f", score->share);
            snprintf(chance, sizeof chance, score->chance < 0.01 ? "< 1 %%" : "%.0f %%", 100 * score->chance);
            cli_cell(table, "%s", i.params[i.order[k]].name);
            cli_cell(table, "%s", share);
            cli_cell(table, "%s", chance);
            cli_cell(table, "%d", score->trials);
        }
        if (table)
            cli_table_print(table, 2);
        if (*(const char *)why.data)
            cli_print("why: %s\n", (const char *)why.data);
    }
    base_buffer_free(&note);
    base_buffer_free(&why);
    drop(&i);
    return status;
}

json_t *cli_importance_json(tracking_store *store, const tracking_experiment_row *experiment)
{
    static const char *const verdicts[] = {"found", "too few trials", "constant", "none"};
    struct importance i;
    base_buffer why = {0};
    json_t *object = NULL;
    int status = read_importance(store, experiment, &i);
    if (status == CADRE_OK)
        status = put_why(&why, &i);
    if (status == CADRE_OK && i.param_count == 0) {
        object = json_null();
    } else if (status == CADRE_OK) {
        json_t *params = json_array();
        for (int k = 0; k < i.param_count; k++) {
            const importance_score *score = &i.scores[i.order[k]];
            json_array_append_new(params, json_pack("{s:o, s:f, s:f, s:i}", "name", cli_json_text(i.params[i.order[k]].name), "importance", score->share,
                                                    "by_chance", score->chance, "trials", score->trials));
        }
        object = json_pack("{s:s, s:s, s:i, s:i, s:o, s:o}", "method", "PED-ANOVA", "verdict", verdicts[i.verdict], "trials", i.count, "best_trials", i.top,
                           "params", params, "why", *(const char *)why.data ? cli_json_text((const char *)why.data) : json_null());
    }
    base_buffer_free(&why);
    drop(&i);
    return object;
}
