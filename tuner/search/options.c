#include "base/error.h"
#include "tuner/search/search.h"

#include <jansson.h>
#include <stdio.h>
#include <string.h>

static const search_option *find(const search_option *options, const char *name)
{
    for (; options->name; options++)
        if (options->kind != SEARCH_OPTION_VALUE && strcmp(options->name, name) == 0)
            return options;
    return NULL;
}

static double get(const search_option *option, const void *from)
{
    const char *at = (const char *)from + option->offset;
    int small;
    int64_t large;
    double number;
    switch (option->kind) {
    case SEARCH_OPTION_INT:
    case SEARCH_OPTION_ENUM:
        return memcpy(&small, at, sizeof small), small;
    case SEARCH_OPTION_INT64:
        return memcpy(&large, at, sizeof large), (double)large;
    default:
        return memcpy(&number, at, sizeof number), number;
    }
}

static void set(const search_option *option, void *into, double value)
{
    char *at = (char *)into + option->offset;
    int small = (int)value;
    int64_t large = (int64_t)value;
    if (option->kind == SEARCH_OPTION_INT || option->kind == SEARCH_OPTION_ENUM)
        memcpy(at, &small, sizeof small);
    else if (option->kind == SEARCH_OPTION_INT64)
        memcpy(at, &large, sizeof large);
    else
        memcpy(at, &value, sizeof value);
}

static int check(const search_option *option, const char *searcher, double value)
{
    if (value == 0 || (value >= option->low && value <= option->high))
        return CADRE_OK;
    return base_error(CADRE_EINVAL, "%s: %s is %.15g, not in %.15g to %.15g", searcher, option->name, value,
                      option->low, option->high);
}

/* The value of an enum by its name. */
static int read_name(const search_option *option, const char *searcher, const json_t *value, double *number)
{
    const char *name = json_string_value(value);
    char names[256] = "";
    for (const search_option *one = option + 1; one->name && one->kind == SEARCH_OPTION_VALUE; one++) {
        if (name && strcmp(name, one->name) == 0) {
            *number = one->low;
            return CADRE_OK;
        }
        snprintf(names + strlen(names), sizeof names - strlen(names), "%s%s", *names ? ", " : "", one->name);
    }
    return base_error(CADRE_EINVAL, "%s: %s is one of %s", searcher, option->name, names);
}

static int read_json(const char *json, const char *searcher, const search_option *options, void *into)
{
    json_error_t where;
    json_t *object = json_loads(json, JSON_REJECT_DUPLICATES, &where), *value;
    const char *name;
    int status = CADRE_OK;
    if (!json_is_object(object)) {
        status = base_error(CADRE_EINVAL, "%s: its options: line %d, column %d: %s", searcher, where.line, where.column,
                            object ? "not an object" : where.text);
        json_decref(object);
        return status;
    }
    json_object_foreach(object, name, value)
    {
        const search_option *option = find(options, name);
        double number = json_number_value(value);
        if (!option)
            status = base_error(CADRE_EINVAL, "%s: there is no option \"%s\"", searcher, name);
        else if (option->kind == SEARCH_OPTION_ENUM)
            status = read_name(option, searcher, value, &number);
        else if (option->kind == SEARCH_OPTION_DOUBLE ? !json_is_number(value) : !json_is_integer(value))
            status = base_error(CADRE_EINVAL, "%s: %s is not a %s", searcher, name,
                                option->kind == SEARCH_OPTION_DOUBLE ? "number" : "whole number");
        else
            status = check(option, searcher, number);
        if (status)
            break;
        set(option, into, number);
    }
    json_decref(object);
    return status;
}

int search_options_read(const cadre_searcher_args *args, const char *searcher, const search_option *options, void *into,
                        size_t size)
{
    if (args->options) {
        size_t given;
        memcpy(&given, args->options, sizeof given);
        if (given < sizeof given || given > 4096)
            return base_error(CADRE_EINVAL, "%s: its options do not begin with their size", searcher);
        memcpy(into, args->options, given < size ? given : size);
        memcpy(into, &size, sizeof size);
    }
    for (const search_option *option = options; option->name; option++) {
        int status = option->kind == SEARCH_OPTION_VALUE ? CADRE_OK : check(option, searcher, get(option, into));
        if (status)
            return status;
    }
    return args->json ? read_json(args->json, searcher, options, into) : CADRE_OK;
}
