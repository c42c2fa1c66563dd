/* From the list of parameters to a compiled space: three passes, lines, conditions, order, each with its complaints. */
#include "base/error.h"
#include "base/mem.h"
#include "base/number.h"
#include "tuner/space.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define EXACT 9007199254740992.0 /* 2^53: whole numbers up to here are exact in a double */

static int copy_value(tuner_arena *arena, const cadre_param *param, int i, cadre_value *out)
{
    *out = (cadre_value){.kind = param->of};
    if (param->mixed)
        *out = param->mixed[i];
    else if (param->of == CADRE_VALUE_STRING)
        out->string = ((const char *const *)param->values)[i];
    else if (param->of == CADRE_VALUE_INT)
        out->integer = ((const int64_t *)param->values)[i];
    else if (param->of == CADRE_VALUE_DOUBLE)
        out->number = ((const double *)param->values)[i];
    else
        out->boolean = ((const bool *)param->values)[i];
    if (out->kind == CADRE_VALUE_DOUBLE && !isfinite(out->number))
        return base_error(CADRE_EINVAL, "%s: value %d is not a finite number", param->name, i + 1);
    if (out->kind != CADRE_VALUE_STRING)
        return CADRE_OK;
    if (!out->string)
        return base_error(CADRE_EINVAL, "%s: value %d is NULL", param->name, i + 1);
    out->string = tuner_arena_string(arena, out->string);
    return out->string ? CADRE_OK : CADRE_ENOMEM;
}

bool tuner_values_equal(const cadre_value *a, const cadre_value *b)
{
    if (a->kind != b->kind)
        return false;
    switch (a->kind) {
    case CADRE_VALUE_STRING:
        return strcmp(a->string, b->string) == 0;
    case CADRE_VALUE_INT:
        return a->integer == b->integer;
    case CADRE_VALUE_DOUBLE:
        return a->number == b->number;
    default:
        return a->boolean == b->boolean;
    }
}

bool tuner_value_matches(const cadre_value *value, const char *text)
{
    if (value->kind == CADRE_VALUE_STRING)
        return strcmp(value->string, text) == 0;
    if (value->kind == CADRE_VALUE_BOOL)
        return strcmp(value->boolean ? "true" : "false", text) == 0;
    char *end;
    double number = base_number_parse(text, &end);
    return end != text && !*end && number == (value->kind == CADRE_VALUE_INT ? (double)value->integer : value->number);
}

static int compile_choices(cadre_space *space, const cadre_param *param, cadre_dim *dim)
{
    const char *what = param->kind == CADRE_PARAM_GRID ? "grid" : "choice";
    if (param->count <= 0 || !(param->values || param->mixed))
        return base_error(CADRE_EINVAL, "%s: %s of nothing", param->name, what);
    if (param->count > CADRE_MAX_CHOICES) /* each trial's row in the store has them all */
        return base_error(CADRE_EINVAL, "%s: %s of %d values; %d at most: draw a number by randint and look the value up by it", param->name, what, param->count,
                          CADRE_MAX_CHOICES);
    cadre_value *choices = tuner_arena_take(&space->arena, (size_t)param->count, sizeof *choices);
    if (!choices)
        return CADRE_ENOMEM;
    for (int i = 0; i < param->count; i++) {
        int status = copy_value(&space->arena, param, i, &choices[i]);
        if (status)
            return status;
        for (int j = 0; j < i; j++)
            if (tuner_values_equal(&choices[i], &choices[j]))
                return base_error(CADRE_EINVAL, "%s: %s has the same value at %d and %d", param->name, what, j + 1,
                                  i + 1);
    }
    dim->kind = CADRE_DIM_CATEGORICAL;
    dim->choices = choices;
    dim->count = param->count;
    dim->high = param->count - 1;
    dim->step = 1;
    return CADRE_OK;
}

static int compile_normal(const cadre_param *param, cadre_dim *dim)
{
    if (!(param->high > 0))
        return base_error(CADRE_EINVAL, "%s: standard deviation %.15g is not above 0", param->name, param->high);
    dim->normal = true;
    dim->mean = param->low;
    dim->sd = param->high;
    dim->low = dim->mean - 6 * dim->sd;
    dim->high = dim->mean + 6 * dim->sd;
    if (dim->step > 0) {
        dim->low = ceil(dim->low / dim->step) * dim->step;
        dim->high = floor(dim->high / dim->step) * dim->step;
        if (dim->low > dim->high)
            return base_error(CADRE_EINVAL, "%s: no multiple of %.15g within six standard deviations of %.15g",
                              param->name, dim->step, dim->mean);
    }
    return isfinite(dim->low) && isfinite(dim->high)
               ? CADRE_OK
               : base_error(CADRE_EINVAL, "%s: a standard deviation of %.15g is too large", param->name, dim->sd);
}

/* Kinds by what they have: ints, a logarithm, a step. */
static bool is_int(cadre_param_kind kind) { return kind >= CADRE_PARAM_RANDINT && kind <= CADRE_PARAM_QLOGRANDINT; }
static bool is_log(cadre_param_kind kind)
{
    return kind == CADRE_PARAM_LOGUNIFORM || kind == CADRE_PARAM_QLOGUNIFORM || kind == CADRE_PARAM_LOGRANDINT ||
           kind == CADRE_PARAM_QLOGRANDINT;
}
static bool is_stepped(cadre_param_kind kind)
{
    return kind == CADRE_PARAM_QUNIFORM || kind == CADRE_PARAM_QLOGUNIFORM || kind == CADRE_PARAM_QRANDN ||
           kind == CADRE_PARAM_QRANDINT || kind == CADRE_PARAM_QLOGRANDINT;
}

static int check_whole(const char *name, const char *what, double value)
{
    if (value != floor(value))
        return base_error(CADRE_EINVAL, "%s: %s %.15g is not a whole number", name, what, value);
    if (fabs(value) > EXACT)
        return base_error(CADRE_EINVAL, "%s: %s %.15g is beyond 2^53", name, what, value);
    return CADRE_OK;
}

static int check_step(const cadre_param *param, cadre_dim *dim)
{
    double steps = (dim->high - dim->low) / dim->step, whole = floor(steps + 0.5);
    if (fabs(steps - whole) > 1e-8 * fmax(1, whole))
        return base_error(CADRE_EINVAL, "%s: step %.15g does not divide %.15g to %.15g", param->name, dim->step,
                          dim->low, dim->high);
    if (whole > EXACT)
        return base_error(CADRE_EINVAL, "%s: step %.15g is too small for %.15g to %.15g", param->name, dim->step,
                          dim->low, dim->high);
    return CADRE_OK;
}

static int compile_ints(const cadre_param *param, cadre_dim *dim)
{
    int status = check_whole(param->name, "low", dim->low);
    if (!status)
        status = check_whole(param->name, "high", dim->high);
    if (!status && is_stepped(param->kind))
        status = check_whole(param->name, "step", dim->step);
    if (status)
        return status;
    dim->kind = CADRE_DIM_INT;
    if (!is_stepped(param->kind) || dim->step == 1) { /* as in Ray, high is out then */
        if (dim->low == dim->high)
            return base_error(CADRE_EINVAL, "%s: no whole number in [%.15g, %.15g), whose high is not included",
                              param->name, dim->low, dim->high);
        dim->high -= 1;
        dim->step = 1;
    }
    return CADRE_OK;
}

static int compile_numbers(const cadre_param *param, cadre_dim *dim)
{
    const char *name = param->name;
    bool normal = param->kind == CADRE_PARAM_RANDN || param->kind == CADRE_PARAM_QRANDN;
    if (!isfinite(param->low) || !isfinite(param->high))
        return base_error(CADRE_EINVAL, "%s: %s is not a finite number", name,
                          normal ? "mean or standard deviation" : "a bound");
    if (is_stepped(param->kind) && !(param->q > 0 && isfinite(param->q)))
        return base_error(CADRE_EINVAL, "%s: step %.15g is not above 0", name, param->q);
    dim->low = param->low;
    dim->high = param->high;
    dim->step = is_stepped(param->kind) ? param->q : 0;
    dim->log = is_log(param->kind);
    if (normal)
        return compile_normal(param, dim);
    if (dim->low > dim->high)
        return base_error(CADRE_EINVAL, "%s: low %.15g is greater than high %.15g", name, dim->low, dim->high);
    if (dim->log && dim->low <= 0)
        return base_error(CADRE_EINVAL, "%s: a logarithmic scale needs low > 0, it is %.15g", name, dim->low);
    if (!isfinite(dim->high - dim->low))
        return base_error(CADRE_EINVAL, "%s: %.15g to %.15g is too wide", name, dim->low, dim->high);
    int status = is_int(param->kind) ? compile_ints(param, dim) : CADRE_OK;
    return status || dim->step == 0 ? status : check_step(param, dim);
}

static int compile_line(cadre_space *space, const cadre_param *param, tuner_entry *entry)
{
    if (!param->name || !*param->name)
        return base_error(CADRE_EINVAL, "a parameter without a name");
    for (int i = 0; i < space->entries; i++)
        if (strcmp(space->entry[i].name, param->name) == 0)
            return base_error(CADRE_EINVAL, "%s: there are two parameters of that name", param->name);
    *entry = (tuner_entry){.kind = param->kind, .dim = -1, .sample = param->sample, .user = param->user};
    entry->name = tuner_arena_string(&space->arena, param->name);
    if (!entry->name)
        return CADRE_ENOMEM;
    if (param->kind == CADRE_PARAM_SAMPLE_FROM)
        return param->sample ? CADRE_OK : base_error(CADRE_EINVAL, "%s: sample_from without a function", param->name);
    if (param->kind == CADRE_PARAM_CONSTANT) {
        if (param->count != 1 || !(param->values || param->mixed))
            return base_error(CADRE_EINVAL, "%s: a constant has one value", param->name);
        return copy_value(&space->arena, param, 0, &entry->constant);
    }
    if (param->kind < CADRE_PARAM_UNIFORM || param->kind > CADRE_PARAM_SAMPLE_FROM)
        return base_error(CADRE_EINVAL, "%s: parameter of unknown kind %d", param->name, (int)param->kind);
    cadre_dim *dim = &space->dims[space->count];
    *dim = (cadre_dim){.name = entry->name, .param = param->kind};
    entry->dim = space->count;
    int status = param->kind == CADRE_PARAM_CHOICE || param->kind == CADRE_PARAM_GRID
                     ? compile_choices(space, param, dim)
                     : compile_numbers(param, dim);
    if (!status)
        space->count++;
    return status;
}

static int condition_value(const cadre_dim *parent, const char *text, double *out)
{
    if (!text)
        return base_error(CADRE_EINVAL, "condition on %s: a value is NULL", parent->name);
    for (int i = 0; i < parent->count; i++)
        if (tuner_value_matches(&parent->choices[i], text)) {
            *out = i;
            return CADRE_OK;
        }
    if (parent->kind == CADRE_DIM_CATEGORICAL)
        return base_error(CADRE_EINVAL, "condition on %s: it cannot be \"%s\"", parent->name, text);
    if (parent->step == 0)
        return base_error(CADRE_EINVAL, "condition on %s: it is continuous, which no single value fits; give a range",
                          parent->name);
    char *end;
    *out = base_number_parse(text, &end);
    if (end == text || *end || !(*out >= parent->low && *out <= parent->high) ||
        fabs(tuner_dim_nearest(parent, *out) - *out) > 1e-9 * parent->step)
        return base_error(CADRE_EINVAL, "condition on %s: it cannot be \"%s\"", parent->name, text);
    *out = tuner_dim_nearest(parent, *out);
    return CADRE_OK;
}

static int compile_condition(cadre_space *space, const cadre_param *param, cadre_condition *out)
{
    int parent = param->name ? cadre_space_find(space, param->name) : -1;
    if (parent < 0) {
        for (int i = 0; i < space->entries; i++)
            if (param->name && strcmp(space->entry[i].name, param->name) == 0)
                return base_error(CADRE_EINVAL, "condition on %s, which is %s", param->name,
                                  space->entry[i].kind == CADRE_PARAM_CONSTANT ? "a constant" : "computed");
        return base_error(CADRE_EINVAL, "condition on %s: there is no parameter of that name",
                          param->name ? param->name : "(null)");
    }
    const cadre_dim *dim = &space->dims[parent];
    *out = (cadre_condition){.parent = parent, .low = param->low, .high = param->high};
    if (param->kind == CADRE_PARAM_WHEN_BETWEEN) {
        if (dim->kind == CADRE_DIM_CATEGORICAL)
            return base_error(CADRE_EINVAL, "condition on %s: a choice has no range", dim->name);
        return param->low <= param->high && param->low <= dim->high && param->high >= dim->low
                   ? CADRE_OK
                   : base_error(CADRE_EINVAL, "condition on %s: it is never in %.15g to %.15g", dim->name, param->low,
                                param->high);
    }
    if (param->count <= 0 || !param->values)
        return base_error(CADRE_EINVAL, "condition on %s: no value is given", dim->name);
    double *values = tuner_arena_take(&space->arena, (size_t)param->count, sizeof *values);
    if (!values)
        return CADRE_ENOMEM;
    for (int i = 0; i < param->count; i++) {
        int status = condition_value(dim, ((const char *const *)param->values)[i], &values[i]);
        if (status)
            return status;
    }
    out->values = values;
    out->count = param->count;
    return CADRE_OK;
}

static bool opens(cadre_param_kind kind) { return kind == CADRE_PARAM_WHEN || kind == CADRE_PARAM_WHEN_BETWEEN; }

/* Whose condition the one at line i is: the first that stands under it. */
static const char *conditional(const cadre_param *params, int i, int lines)
{
    while (i < lines && opens(params[i].kind))
        i++;
    return i < lines ? params[i].name : NULL;
}

/* The second walk over the list: every line gets the conditions that are open at it. */
static int attach_conditions(cadre_space *space, const cadre_param *params, int lines)
{
    cadre_condition *open = tuner_arena_take(&space->arena, (size_t)lines + 1, sizeof *open);
    int depth = 0, at = 0, status = open ? CADRE_OK : CADRE_ENOMEM;
    for (int i = 0; i < lines && !status; i++) {
        if (opens(params[i].kind)) {
            status = compile_condition(space, &params[i], &open[depth++]);
            if (status && conditional(params, i, lines))
                status = base_wrap(status, "%s", conditional(params, i, lines));
        } else if (params[i].kind == CADRE_PARAM_WHEN_END) {
            if (depth-- == 0)
                return base_error(CADRE_EINVAL, "the end of a condition that was not opened");
        } else {
            tuner_entry *entry = &space->entry[at++];
            if (depth == 0)
                continue;
            entry->condition = tuner_arena_take(&space->arena, (size_t)depth, sizeof *open);
            if (!entry->condition)
                return CADRE_ENOMEM;
            memcpy(entry->condition, open, (size_t)depth * sizeof *open);
            entry->conditions = depth;
            if (entry->dim >= 0) {
                space->dims[entry->dim].condition = entry->condition;
                space->dims[entry->dim].conditions = depth;
            }
        }
    }
    if (!status && depth)
        return base_error(CADRE_EINVAL, "a condition is not closed");
    return status;
}

/* Parents before children; what is left over in the end goes round in a circle. */
static int put_in_order(cadre_space *space)
{
    space->order = tuner_arena_take(&space->arena, (size_t)space->count + 1, sizeof *space->order);
    bool *placed = tuner_arena_take(&space->arena, (size_t)space->count + 1, sizeof *placed);
    if (!space->order || !placed)
        return CADRE_ENOMEM;
    for (int done = 0; done < space->count;) {
        int before = done;
        for (int i = 0; i < space->count; i++) {
            bool ready = !placed[i];
            for (int j = 0; ready && j < space->dims[i].conditions; j++)
                ready = placed[space->dims[i].condition[j].parent];
            if (!ready)
                continue;
            placed[i] = true;
            space->order[done++] = i;
        }
        for (int i = 0; done == before && i < space->count; i++)
            if (!placed[i])
                return base_error(CADRE_EINVAL, "%s: its condition goes round in a circle", space->dims[i].name);
    }
    return CADRE_OK;
}

static int compile(cadre_space *space, const cadre_param *params)
{
    int lines = 0, status = CADRE_OK;
    while (params[lines].kind != CADRE_PARAM_END)
        lines++;
    space->dims = tuner_arena_take(&space->arena, (size_t)lines + 1, sizeof *space->dims);
    space->entry = tuner_arena_take(&space->arena, (size_t)lines + 1, sizeof *space->entry);
    if (!space->dims || !space->entry)
        return CADRE_ENOMEM;
    for (int i = 0; i < lines && !status; i++) {
        if (opens(params[i].kind) || params[i].kind == CADRE_PARAM_WHEN_END)
            continue;
        if (space->entries == CADRE_MAX_PARAMS)
            return base_error(CADRE_EINVAL, "a space has at most %d parameters", CADRE_MAX_PARAMS);
        status = compile_line(space, &params[i], &space->entry[space->entries]);
        space->entries++;
    }
    if (!status)
        status = attach_conditions(space, params, lines);
    return status ? status : put_in_order(space);
}

int cadre_space_new(const cadre_param *params, cadre_space **out)
{
    if (!params)
        return base_error(CADRE_EINVAL, "no parameters");
    cadre_space *space = base_calloc(1, sizeof *space);
    if (!space)
        return CADRE_ENOMEM;
    int status = compile(space, params);
    if (status) {
        cadre_space_free(space);
        return status;
    }
    *out = space;
    return CADRE_OK;
}
