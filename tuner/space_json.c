/* The space as text: Optuna's distributions, its own JSON, a hash of that, and what has changed since. */
#include "base/error.h"
#include "base/number.h"
#include "tuner/space.h"

#include <inttypes.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int tuner_put_double(base_buffer *out, double value)
{
    char text[32];
    base_number_text(value, text);
    return base_buffer_printf(out, "%s", text);
}

int tuner_put_string(base_buffer *out, const char *text)
{
    int status = base_buffer_append(out, "\"", 1);
    for (const unsigned char *at = (const unsigned char *)text; *at && !status; at++)
        if (*at == '"' || *at == '\\')
            status = base_buffer_printf(out, "\\%c", *at);
        else if (*at < 0x20)
            status = base_buffer_printf(out, "\\u%04x", *at);
        else
            status = base_buffer_append(out, at, 1);
    return status ? status : base_buffer_append(out, "\"", 1);
}

int tuner_put_value(base_buffer *out, const cadre_value *value)
{
    switch (value->kind) {
    case CADRE_VALUE_STRING:
        return tuner_put_string(out, value->string);
    case CADRE_VALUE_INT:
        return base_buffer_printf(out, "%" PRId64, value->integer);
    case CADRE_VALUE_DOUBLE:
        return tuner_put_double(out, value->number);
    default:
        return base_buffer_printf(out, "%s", value->boolean ? "true" : "false");
    }
}

static int put_choices(base_buffer *out, const cadre_dim *dim)
{
    int status = base_buffer_printf(out, "[");
    for (int i = 0; i < dim->count && !status; i++) {
        status = i ? base_buffer_printf(out, ", ") : CADRE_OK;
        if (!status)
            status = tuner_put_value(out, &dim->choices[i]);
    }
    return status ? status : base_buffer_printf(out, "]");
}

static int put_number(base_buffer *out, const char *before, const cadre_dim *dim, double value)
{
    int status = base_buffer_printf(out, "%s", before);
    if (status)
        return status;
    return dim->kind == CADRE_DIM_INT ? base_buffer_printf(out, "%.0f", value) : tuner_put_double(out, value);
}

static int put_distribution(base_buffer *out, const cadre_dim *dim)
{
    if (dim->kind == CADRE_DIM_CATEGORICAL) {
        int status = base_buffer_printf(out, "{\"name\": \"CategoricalDistribution\", \"attributes\": {\"choices\": ");
        if (!status)
            status = put_choices(out, dim);
        return status ? status : base_buffer_printf(out, "}}");
    }
    double step = dim->log ? dim->kind == CADRE_DIM_INT : dim->step; /* Optuna has no step on a log scale */
    int status = base_buffer_printf(out, "{\"name\": \"%sDistribution\", \"attributes\": {\"step\": ",
                                    dim->kind == CADRE_DIM_INT ? "Int" : "Float");
    if (!status)
        status = step > 0 ? put_number(out, "", dim, step) : base_buffer_printf(out, "null");
    if (!status)
        status = put_number(out, ", \"low\": ", dim, dim->low);
    if (!status)
        status = put_number(out, ", \"high\": ", dim, dim->high);
    return status ? status : base_buffer_printf(out, ", \"log\": %s}}", dim->log ? "true" : "false");
}

static char *finish(base_buffer *out, int status)
{
    if (!status)
        status = base_buffer_append(out, "", 1);
    if (!status)
        return (char *)out->data;
    base_buffer_free(out);
    return NULL;
}

char *cadre_dim_distribution(const cadre_dim *dim)
{
    base_buffer out = {0};
    return finish(&out, put_distribution(&out, dim));
}

static int put_conditions(base_buffer *out, const cadre_space *space, const tuner_entry *entry)
{
    int status = base_buffer_printf(out, ", \"when\": [");
    for (int i = 0; i < entry->conditions && !status; i++) {
        const cadre_condition *condition = &entry->condition[i];
        const cadre_dim *parent = &space->dims[condition->parent];
        status = base_buffer_printf(out, i ? ", {" : "{");
        if (!status)
            status = tuner_put_string(out, parent->name);
        if (!status)
            status = base_buffer_printf(out, ": [");
        for (int j = 0; j < condition->count && !status; j++) {
            status = base_buffer_printf(out, j ? ", " : "");
            if (!status)
                status = parent->choices ? tuner_put_value(out, &parent->choices[(int)condition->values[j]])
                                         : put_number(out, "", parent, condition->values[j]);
        }
        if (!status && condition->count == 0) /* a range may be without end, for which JSON has no number */
            status = base_buffer_printf(out, "\"%.17g to %.17g\"", condition->low, condition->high);
        if (!status)
            status = base_buffer_printf(out, "]}");
    }
    return status ? status : base_buffer_printf(out, "]");
}

static const char *kind_name(cadre_param_kind kind)
{
    static const char *const names[] = {"end",         "uniform", "quniform", "loguniform", "qloguniform",
                                        "randn",       "qrandn",  "randint",  "qrandint",   "lograndint",
                                        "qlograndint", "choice",  "grid",     "constant",   "sample_from"};
    return names[kind];
}

static int put_entry(base_buffer *out, const cadre_space *space, const tuner_entry *entry)
{
    const cadre_dim *dim = entry->dim >= 0 ? &space->dims[entry->dim] : NULL;
    int status = base_buffer_printf(out, "{\"kind\": \"%s\"", kind_name(entry->kind));
    if (!status && entry->kind == CADRE_PARAM_CONSTANT) {
        status = base_buffer_printf(out, ", \"value\": ");
        if (!status)
            status = tuner_put_value(out, &entry->constant);
    } else if (!status && dim && dim->choices) {
        status = base_buffer_printf(out, ", \"values\": ");
        if (!status)
            status = put_choices(out, dim);
    } else if (!status && dim) {
        status = put_number(out, dim->normal ? ", \"mean\": " : ", \"low\": ", dim, dim->normal ? dim->mean : dim->low);
        if (!status)
            status =
                put_number(out, dim->normal ? ", \"sd\": " : ", \"high\": ", dim, dim->normal ? dim->sd : dim->high);
        if (!status && dim->step > 0)
            status = put_number(out, ", \"step\": ", dim, dim->step);
    }
    if (!status && entry->conditions)
        status = put_conditions(out, space, entry);
    return status ? status : base_buffer_printf(out, "}");
}

char *cadre_space_to_json(const cadre_space *space)
{
    base_buffer out = {0};
    int status = base_buffer_printf(&out, "{");
    for (int i = 0; i < space->entries && !status; i++) {
        status = base_buffer_printf(&out, i ? ", " : "");
        if (!status)
            status = tuner_put_string(&out, space->entry[i].name);
        if (!status)
            status = base_buffer_printf(&out, ": ");
        if (!status)
            status = put_entry(&out, space, &space->entry[i]);
    }
    if (!status)
        status = base_buffer_printf(&out, "}");
    return finish(&out, status);
}

uint64_t cadre_space_hash(const cadre_space *space)
{
    char *text = cadre_space_to_json(space);
    uint64_t hash = 0xcbf29ce484222325u; /* FNV-1a */
    for (const char *at = text; at && *at; at++)
        hash = (hash ^ (unsigned char)*at) * 0x100000001b3u;
    free(text);
    return hash;
}

/* ---- what has changed -------------------------------------------------------------------------------------------- */

static int put_json(base_buffer *out, const json_t *value)
{
    char *text = value ? json_dumps(value, JSON_ENCODE_ANY | JSON_REAL_PRECISION(15)) : strdup("nothing");
    int status = text ? base_buffer_printf(out, "%s", text) : base_error(CADRE_ENOMEM, "out of memory");
    free(text);
    return status;
}

static int put_change(base_buffer *out, const char *name, const char *key, const json_t *was, const json_t *is)
{
    if (was && is && json_equal(was, is))
        return CADRE_OK;
    int status = base_buffer_printf(out, "%s%s: %s was ", out->length ? "; " : "", name, key);
    if (!status)
        status = put_json(out, was);
    if (!status)
        status = base_buffer_printf(out, ", is ");
    return status ? status : put_json(out, is);
}

static int compare(base_buffer *out, json_t *before, json_t *after)
{
    const char *name, *key;
    json_t *is, *value;
    int status = CADRE_OK;
    json_object_foreach(before, name, value) if (!status && !json_object_get(after, name)) status =
        base_buffer_printf(out, "%s%s is gone", out->length ? "; " : "", name);
    json_object_foreach(after, name, is)
    {
        json_t *was = json_object_get(before, name);
        if (!was && !status)
            status = base_buffer_printf(out, "%s%s is new", out->length ? "; " : "", name);
        if (!was || status)
            continue;
        if (!json_is_object(was))
            return base_error(CADRE_EINVAL, "a space's JSON: %s is not an object", name);
        json_object_foreach(is, key, value) if (!status) status =
            put_change(out, name, key, json_object_get(was, key), value);
        json_object_foreach(was, key, value) if (!status && !json_object_get(is, key)) status =
            put_change(out, name, key, value, NULL);
    }
    return status;
}

/* Draws follow the order of the list, so an order is a change too. */
static int compare_order(base_buffer *out, json_t *before, json_t *after)
{
    void *was = json_object_iter(before), *is = json_object_iter(after);
    for (; was && is; was = json_object_iter_next(before, was), is = json_object_iter_next(after, is))
        if (strcmp(json_object_iter_key(was), json_object_iter_key(is)) != 0)
            return base_buffer_printf(out, "the order: %s stands where %s stood", json_object_iter_key(is),
                                      json_object_iter_key(was));
    return CADRE_OK;
}

int cadre_space_changes(const cadre_space *space, const char *before, char **changes)
{
    char *now = cadre_space_to_json(space);
    if (!now)
        return CADRE_ENOMEM;
    json_error_t where;
    json_t *was = json_loads(before, JSON_REJECT_DUPLICATES, &where);
    json_t *is = json_loads(now, 0, NULL);
    base_buffer out = {0};
    int status = CADRE_OK;
    if (!json_is_object(was))
        status = base_error(CADRE_EINVAL, "a space's JSON: line %d, column %d: %s", where.line, where.column,
                            was ? "not an object" : where.text);
    else if (!is)
        status = base_error(CADRE_ENOMEM, "out of memory");
    else
        status = compare(&out, was, is);
    if (!status && !out.length)
        status = compare_order(&out, was, is);
    if (!status) {
        char *text = out.length ? finish(&out, CADRE_OK) : NULL;
        if (out.length && !text)
            status = CADRE_ENOMEM;
        else
            *changes = text;
    } else {
        base_buffer_free(&out);
    }
    json_decref(was);
    json_decref(is);
    free(now);
    return status;
}
