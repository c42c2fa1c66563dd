/* The part of a sweep about parameters: texts ("loguniform(1e-4, 1e-1)"), lists (choices), single values, and maps. */
#include "tuner/sweep.h"

#include "base/buffer.h"
#include "base/error.h"
#include "base/mem.h"

#include <ctype.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int push(sweep *sweep, const cadre_param *param)
{
    cadre_param *params = base_realloc(sweep->params, ((size_t)sweep->param_count + 2) * sizeof *params);
    if (!params)
        return CADRE_ENOMEM;
    sweep->params = params;
    params[sweep->param_count++] = *param;
    params[sweep->param_count] = (cadre_param){.kind = CADRE_PARAM_END};
    return CADRE_OK;
}

/* Keep a block that params refer to until the sweep is closed; takes it over. */
static int keep(sweep *sweep, void *block)
{
    char **borrowed = block ? base_realloc(sweep->borrowed, ((size_t)sweep->borrowed_count + 1) * sizeof *borrowed) : NULL;
    if (!borrowed) {
        free(block);
        return CADRE_ENOMEM;
    }
    sweep->borrowed = borrowed;
    borrowed[sweep->borrowed_count++] = block;
    return CADRE_OK;
}

/* Written without quotes, in a file. */
static bool unquoted(const sweep_node *node) { return node->kind == SWEEP_STRING && node->line && !node->quote; }

/* "lr: column 12: ..." of a text that stands in the file in one piece is at column 12 of that. */
static int parse_error(int status, const sweep_node *text, const char *name)
{
    const char *message = cadre_error_message();
    size_t length = strlen(name);
    char *end = NULL;
    if (strncmp(message, name, length) != 0 || strncmp(message + length, ": column ", 9) != 0)
        return sweep_wrap(status, text);
    long column = strtol(message + length + 9, &end, 10);
    bool list = text->kind == SWEEP_LIST; /* the text was made of it: nobody has seen its columns */
    if (*end != ':' || (!list && (!text->plain || !text->line)))
        return sweep_wrap(status, text);
    char rest[BASE_ERROR_MAX];
    snprintf(rest, sizeof rest, "%s%s", name, end);
    if (list)
        return sweep_error(status, text, "%s", rest);
    sweep_node at = *text;
    at.column += (int)column - 1 + text->quote;
    return sweep_error(status, &at, "%s", rest);
}

static int parse_text(const char *name, const char *text, const sweep_node *node, sweep *sweep)
{
    cadre_param param;
    if (unquoted(node) && !strpbrk(text, ",)"))
        return sweep_error(CADRE_EINVAL, node, "%s: \"%.60s\" has no ')': within {...} and [...] a distribution is quoted, \"uniform(0, 1)\"", name, text);
    int status = cadre_param_parse(name, text, &param);
    if (status != CADRE_OK)
        return status == CADRE_EINVAL ? parse_error(status, node, name) : status;
    status = push(sweep, &param);
    if (status != CADRE_OK)
        cadre_param_clear(&param);
    return status;
}

/* A scalar as cadre_param_parse reads values: strings in quotes. */
static int put_value(base_buffer *out, const sweep_node *value)
{
    if (value->kind != SWEEP_STRING)
        return base_buffer_printf(out, "%s", value->text);
    int status = base_buffer_printf(out, "\"");
    for (const char *at = value->text; status == CADRE_OK && *at; at++)
        status = base_buffer_printf(out, *at == '"' || *at == '\\' ? "\\%c" : "%c", *at);
    return status == CADRE_OK ? base_buffer_printf(out, "\"") : status;
}

/* name(: what a distribution looks like. */
static bool is_distribution(const char *text)
{
    const char *at = text;
    while (isalnum((unsigned char)*at) || *at == '_')
        at++;
    return at > text && at[strspn(at, " \t")] == '(';
}

/* "uniform 0, 1": nobody wants that as a text. */
static bool lacks_brackets(const char *text)
{
    static const char *const ends[] = {"uniform", "randint", "randn"};
    size_t length = strcspn(text, " \t");
    for (size_t i = 0; i < sizeof ends / sizeof *ends; i++)
        if (text[length] && length >= strlen(ends[i]) && strncmp(text + length - strlen(ends[i]), ends[i], strlen(ends[i])) == 0)
            return true;
    return false;
}

/* DISTRIBUTION(arguments) from a list. */
static int parse_list(const char *name, const char *distribution, const sweep_node *list, sweep *sweep)
{
    base_buffer text = {0};
    if (list->kind != SWEEP_LIST)
        return sweep_error(CADRE_EINVAL, list, "%s: %.60s takes a list, not %s", name, distribution, sweep_kind_name(list));
    if (list->count > CADRE_MAX_CHOICES)
        return sweep_error(CADRE_EINVAL, list, "%s: a list of %d values; %d at most: draw a number by randint and look the value up by it", name, list->count, CADRE_MAX_CHOICES);
    int status = base_buffer_printf(&text, "%s(", distribution);
    for (int i = 0; status == CADRE_OK && i < list->count; i++) {
        const sweep_node *value = list->items[i];
        if (!value->text || value->kind == SWEEP_NULL)
            status = sweep_error(CADRE_EINVAL, value, "%s: a value is a number, a text, true or false, not %s", name, sweep_kind_name(value));
        else if (unquoted(value) && is_distribution(value->text))
            status = sweep_error(CADRE_EINVAL, value, "%s: a list is a choice of values: %.60s needs quotes there", name, value->text);
        if (status == CADRE_OK && i)
            status = base_buffer_printf(&text, ", ");
        if (status == CADRE_OK)
            status = put_value(&text, value);
    }
    if (status == CADRE_OK)
        status = base_buffer_printf(&text, ")");
    if (status == CADRE_OK)
        status = parse_text(name, (const char *)text.data, list, sweep);
    base_buffer_free(&text);
    return status;
}

static int push_constant(const char *name, const sweep_node *value, sweep *sweep)
{
    struct {
        cadre_value value;
        char name[];
    } *own;
    size_t name_size = strlen(name) + 1, text_size = value->text ? strlen(value->text) + 1 : 0;
    if (!value->text || value->kind == SWEEP_NULL)
        return sweep_error(CADRE_EINVAL, value, "%s: a constant is a number, a text, true or false, not %s", name, sweep_kind_name(value));
    own = base_calloc(1, sizeof *own + name_size + text_size);
    if (!own)
        return CADRE_ENOMEM;
    char *text = own->name + name_size;
    memcpy(own->name, name, name_size);
    memcpy(text, value->text, text_size);
    static const cadre_value_kind kinds[] = {[SWEEP_STRING] = CADRE_VALUE_STRING, [SWEEP_INT] = CADRE_VALUE_INT,
                                             [SWEEP_DOUBLE] = CADRE_VALUE_DOUBLE, [SWEEP_BOOL] = CADRE_VALUE_BOOL};
    own->value = (cadre_value){.kind = kinds[value->kind], .string = text, .integer = value->integer, .number = value->number, .boolean = value->boolean};
    const cadre_param param = {.kind = CADRE_PARAM_CONSTANT, .name = own->name, .mixed = &own->value, .count = 1};
    int status = keep(sweep, own);
    return status == CADRE_OK ? push(sweep, &param) : status;
}

/* ---- conditions ---- */

static int open_range(const char *parent, const sweep_node *map, sweep *sweep)
{
    char *name = base_strdup(parent);
    cadre_param when = {.kind = CADRE_PARAM_WHEN_BETWEEN, .name = name, .low = -INFINITY, .high = INFINITY};
    int status = keep(sweep, name);
    if (status == CADRE_OK)
        status = sweep_check_keys(map, "a range", "min max");
    if (status == CADRE_OK)
        status = sweep_take_number(map, "min", -INFINITY, &when.low);
    if (status == CADRE_OK)
        status = sweep_take_number(map, "max", -INFINITY, &when.high);
    return status == CADRE_OK ? push(sweep, &when) : status;
}

/* {parent: value}, {parent: [value, value]}, {parent: {min: 2}}. */
static int open_condition(const char *parent, const sweep_node *value, sweep *sweep)
{
    if (value->kind == SWEEP_MAP)
        return open_range(parent, value, sweep);
    int count = value->kind == SWEEP_LIST ? value->count : 1;
    const char **values = base_calloc((size_t)count + 1, sizeof *values);
    int status = keep(sweep, values);
    char *name = status == CADRE_OK ? base_strdup(parent) : NULL;
    if (status == CADRE_OK)
        status = keep(sweep, name);
    for (int i = 0; status == CADRE_OK && i < count; i++) {
        const sweep_node *one = value->kind == SWEEP_LIST ? value->items[i] : value;
        char *text = one->text ? base_strdup(one->text) : NULL;
        if (!one->text)
            return sweep_error(CADRE_EINVAL, one, "a condition's value is a number, a text, true or false, not %s", sweep_kind_name(one));
        status = keep(sweep, text);
        values[i] = text;
    }
    if (status != CADRE_OK)
        return status;
    return push(sweep, &(cadre_param){.kind = CADRE_PARAM_WHEN, .name = name, .of = CADRE_VALUE_STRING, .values = values, .count = count});
}

static int open_conditions(const sweep_node *when, const char *name, sweep *sweep)
{
    if (when->kind != SWEEP_MAP || !when->count)
        return sweep_error(CADRE_EINVAL, when, "%s: when is a map of parameters and their values", name);
    int status = CADRE_OK;
    for (int i = 0; status == CADRE_OK && i < when->count; i++)
        status = open_condition(when->keys[i], when->items[i], sweep);
    return status;
}

/* ---- one parameter ---- */

static int build_map(const char *name, const sweep_node *map, sweep *sweep);

static int build_one(const char *name, const sweep_node *node, sweep *sweep)
{
    if (node->kind == SWEEP_MAP)
        return build_map(name, node, sweep);
    if (node->kind == SWEEP_LIST)
        return parse_list(name, "choice", node, sweep);
    if (node->kind == SWEEP_STRING && is_distribution(node->text))
        return parse_text(name, node->text, node, sweep);
    if (unquoted(node) && lacks_brackets(node->text))
        return sweep_error(CADRE_EINVAL, node, "%s: \"%.60s\" is a text: a distribution is written uniform(0, 1), a text like this in quotes", name, node->text);
    return push_constant(name, node, sweep);
}

/* What a condition compares with is written as it would be on paper: a blame by name alone would find the parent instead. */
static int check_condition(const sweep_node *when, const sweep_node *params)
{
    for (int i = 0; i < when->count; i++)
        if (!sweep_get(params, when->keys[i]))
            return sweep_error_key(CADRE_EINVAL, when->items[i], "condition on %.60s: there is no parameter of that name", when->keys[i]);
    return CADRE_OK;
}

static int build_map(const char *name, const sweep_node *map, sweep *sweep)
{
    const sweep_node *when = sweep_get(map, "when"), *body = NULL;
    const char *kind = NULL;
    int status = CADRE_OK;
    for (int i = 0; i < map->count; i++) {
        if (map->items[i] == when)
            continue;
        if (body)
            return sweep_error_key(CADRE_EINVAL, map->items[i], "%s: %.60s beside %.60s: give one of them", name, map->keys[i], kind);
        body = map->items[i];
        kind = map->keys[i];
    }
    if (!body)
        return sweep_error(CADRE_EINVAL, map, "%s: say what it is drawn from: distribution: \"uniform(0, 1)\", uniform: [0, 1], "
                                              "values: [...], grid: [...], or value: 1", name);
    if (when)
        status = open_conditions(when, name, sweep);
    if (status == CADRE_OK && strcmp(kind, "value") == 0)
        status = push_constant(name, body, sweep);
    else if (status == CADRE_OK && strcmp(kind, "values") == 0)
        status = parse_list(name, "choice", body, sweep);
    else if (status == CADRE_OK && strcmp(kind, "distribution") == 0)
        status = body->kind == SWEEP_STRING ? parse_text(name, body->text, body, sweep)
                                            : sweep_error(CADRE_EINVAL, body, "%s: distribution is a text: \"uniform(0, 1)\"", name);
    else if (status == CADRE_OK) {
        sweep_node place = *body;
        if (place.key_line) {
            place.line = place.key_line;
            place.column = place.key_column;
        }
        char known[80];
        snprintf(known, sizeof known, "%.60s(", kind);
        if (!is_distribution(known))
            return sweep_error(CADRE_EINVAL, &place, "%s: unknown key \"%.60s\"", name, kind);
        status = body->kind == SWEEP_LIST ? parse_list(name, kind, body->line ? &place : body, sweep) : parse_list(name, kind, body, sweep);
    }
    for (int i = 0; status == CADRE_OK && when && i < when->count; i++)
        status = push(sweep, &(cadre_param){.kind = CADRE_PARAM_WHEN_END});
    return status;
}

int sweep_build_params(sweep_node *tree, sweep *sweep)
{
    sweep_node *params = sweep_get(tree, "params");
    if (!params)
        return sweep_error(CADRE_EINVAL, tree, "params is missing: name what is to be searched");
    if (params->kind != SWEEP_MAP || !params->count)
        return sweep_error(CADRE_EINVAL, params, "params is a map of parameters, not %s", params->kind == SWEEP_MAP ? "empty" : sweep_kind_name(params));
    int status = CADRE_OK;
    for (int i = 0; status == CADRE_OK && i < params->count; i++) {
        const sweep_node *when = sweep_get(params->items[i], "when");
        if (!*params->keys[i])
            return sweep_error_key(CADRE_EINVAL, params->items[i], "a parameter without a name");
        status = build_one(params->keys[i], params->items[i], sweep);
        if (status == CADRE_OK && when)
            status = check_condition(when, params);
    }
    return status;
}
