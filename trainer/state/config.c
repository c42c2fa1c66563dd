#include "config.h"

#include "base/buffer.h"
#include "base/error.h"
#include "base/mem.h"
#include "text.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct value {
    char *name;
    state_config_kind kind;
    double real;
    int64_t integer; /* a bool is kept here too */
    char *string;
};

struct cadre_config {
    struct value *values;
    int count;
    int capacity;
};

int cadre_config_new(cadre_config **out)
{
    cadre_config *config = base_calloc(1, sizeof *config);
    if (!config)
        return CADRE_ENOMEM;
    *out = config;
    return CADRE_OK;
}

void cadre_config_free(cadre_config *config)
{
    if (!config)
        return;
    for (int i = 0; i < config->count; i++) {
        free(config->values[i].name);
        free(config->values[i].string);
    }
    free(config->values);
    free(config);
}

/* Configs have a few values; a search from the front beats anything cleverer. */
static struct value *find(const cadre_config *config, const char *name)
{
    if (!config || !name)
        return NULL;
    for (int i = 0; i < config->count; i++)
        if (strcmp(config->values[i].name, name) == 0)
            return &config->values[i];
    return NULL;
}

static int append(cadre_config *config, const char *name, struct value **out)
{
    if (config->count == config->capacity) {
        int capacity = config->capacity ? config->capacity * 2 : 8;
        struct value *values = base_realloc(config->values, (size_t)capacity * sizeof *values);
        if (!values)
            return CADRE_ENOMEM;
        config->values = values;
        config->capacity = capacity;
    }
    char *copy = base_strdup(name);
    if (!copy)
        return CADRE_ENOMEM;
    *out = &config->values[config->count++];
    **out = (struct value){.name = copy};
    return CADRE_OK;
}

/* Put `fresh` (whose name is to be copied, whose string is handed over on success) in the place of its name. */
static int set(cadre_config *config, const char *name, struct value fresh)
{
    if (!config || !name || !*name)
        return base_error(CADRE_EINVAL, "a config value needs a config and a name");
    if (!state_utf8_valid(name))
        return base_error(CADRE_EINVAL, "config: a name is not UTF-8");
    struct value *value = find(config, name);
    if (!value) {
        int status = append(config, name, &value);
        if (status != CADRE_OK)
            return status;
    }
    fresh.name = value->name;
    free(value->string);
    *value = fresh;
    return CADRE_OK;
}

int cadre_config_set_double(cadre_config *config, const char *name, double value)
{
    if (!isfinite(value))
        return base_error(CADRE_EINVAL,
                          "config: \"%s\" is %g, which JSON cannot hold: give a finite number or leave it out",
                          name ? name : "", value);
    return set(config, name, (struct value){.kind = STATE_CONFIG_DOUBLE, .real = value});
}

int cadre_config_set_int(cadre_config *config, const char *name, int64_t value)
{
    return set(config, name, (struct value){.kind = STATE_CONFIG_INT, .integer = value});
}

int cadre_config_set_bool(cadre_config *config, const char *name, bool value)
{
    return set(config, name, (struct value){.kind = STATE_CONFIG_BOOL, .integer = value});
}

int cadre_config_set_string(cadre_config *config, const char *name, const char *value)
{
    if (!value || !state_utf8_valid(value))
        return base_error(CADRE_EINVAL, "config: the string of \"%s\" is %s", name ? name : "",
                          value ? "not UTF-8" : "missing");
    char *copy = base_strdup(value);
    if (!copy)
        return CADRE_ENOMEM;
    int status = set(config, name, (struct value){.kind = STATE_CONFIG_STRING, .string = copy});
    if (status != CADRE_OK)
        free(copy);
    return status;
}

double cadre_config_double(const cadre_config *config, const char *name, double fallback)
{
    const struct value *value = find(config, name);
    if (value && value->kind == STATE_CONFIG_DOUBLE)
        return value->real;
    return value && value->kind == STATE_CONFIG_INT ? (double)value->integer : fallback;
}

int64_t cadre_config_int(const cadre_config *config, const char *name, int64_t fallback)
{
    const struct value *value = find(config, name);
    if (value && value->kind == STATE_CONFIG_INT)
        return value->integer;
    bool whole = value && value->kind == STATE_CONFIG_DOUBLE && value->real == trunc(value->real) &&
                 value->real >= -0x1p63 && value->real < 0x1p63;
    return whole ? (int64_t)value->real : fallback;
}

bool cadre_config_bool(const cadre_config *config, const char *name, bool fallback)
{
    const struct value *value = find(config, name);
    return value && value->kind == STATE_CONFIG_BOOL ? value->integer != 0 : fallback;
}

const char *cadre_config_string(const cadre_config *config, const char *name, const char *fallback)
{
    const struct value *value = find(config, name);
    return value && value->kind == STATE_CONFIG_STRING ? value->string : fallback;
}

int cadre_config_count(const cadre_config *config) { return config ? config->count : 0; }

const char *cadre_config_name(const cadre_config *config, int index)
{
    return config && index >= 0 && index < config->count ? config->values[index].name : NULL;
}

state_config_kind state_config_kind_of(const cadre_config *config, const char *name)
{
    const struct value *value = find(config, name);
    return value ? value->kind : STATE_CONFIG_NONE;
}

static json_t *value_to_json(const struct value *value)
{
    switch (value->kind) {
    case STATE_CONFIG_DOUBLE:
        return json_real(value->real);
    case STATE_CONFIG_INT:
        return json_integer(value->integer);
    case STATE_CONFIG_BOOL:
        return json_boolean(value->integer);
    default:
        return json_string(value->string);
    }
}

json_t *state_config_to_object(const cadre_config *config)
{
    json_t *object = json_object();
    for (int i = 0; object && i < cadre_config_count(config); i++)
        if (json_object_set_new(object, config->values[i].name, value_to_json(&config->values[i])) != 0) {
            json_decref(object);
            object = NULL;
        }
    if (!object)
        base_error(CADRE_ENOMEM, "out of memory for a config");
    return object;
}

/* The fewest digits that read back as the same number: 0.1 is better read than 0.10000000000000001. */
static size_t digits_of(double value)
{
    char text[40];
    for (int digits = 15; digits < 17; digits++) {
        snprintf(text, sizeof text, "%.*g", digits, value);
        if (strtod(text, NULL) == value)
            return (size_t)digits;
    }
    return 17;
}

static int print_json(base_buffer *text, json_t *json, size_t flags)
{
    int status = state_json_print(json, flags | JSON_ENCODE_ANY, text);
    json_decref(json);
    return status;
}

char *cadre_config_to_json(const cadre_config *config)
{
    base_buffer text = {0};
    int status = base_buffer_append(&text, "{", 1);
    for (int i = 0; status == CADRE_OK && i < cadre_config_count(config); i++) {
        const struct value *value = &config->values[i];
        if (i)
            status = base_buffer_append(&text, ", ", 2);
        if (status == CADRE_OK)
            status = print_json(&text, json_string(value->name), 0);
        if (status == CADRE_OK)
            status = base_buffer_append(&text, ": ", 2);
        size_t flags = value->kind == STATE_CONFIG_DOUBLE ? JSON_REAL_PRECISION(digits_of(value->real)) : 0;
        if (status == CADRE_OK)
            status = print_json(&text, value_to_json(value), flags);
    }
    if (status == CADRE_OK)
        status = base_buffer_append(&text, "}", 2);
    if (status != CADRE_OK)
        base_buffer_free(&text);
    return (char *)text.data;
}

static int set_from_json(cadre_config *config, const char *name, const json_t *value)
{
    switch (json_typeof(value)) {
    case JSON_REAL:
        return cadre_config_set_double(config, name, json_real_value(value));
    case JSON_INTEGER:
        return cadre_config_set_int(config, name, json_integer_value(value));
    case JSON_TRUE:
    case JSON_FALSE:
        return cadre_config_set_bool(config, name, json_is_true(value));
    case JSON_STRING:
        return cadre_config_set_string(config, name, json_string_value(value));
    default:
        return base_error(CADRE_EINVAL, "config: \"%s\" is %s: give a number, a string, true or false", name,
                          json_is_null(value)    ? "null"
                          : json_is_array(value) ? "an array"
                                                 : "an object");
    }
}

int state_config_from_object(const json_t *object, cadre_config **out)
{
    if (!json_is_object(object))
        return base_error(CADRE_EINVAL, "config: it is no JSON object");
    cadre_config *config;
    int status = cadre_config_new(&config);
    if (status != CADRE_OK)
        return status;
    const char *name;
    json_t *value;
    json_object_foreach((json_t *)(uintptr_t)object, name, value)
    {
        status = set_from_json(config, name, value);
        if (status != CADRE_OK) {
            cadre_config_free(config);
            return status;
        }
    }
    *out = config;
    return CADRE_OK;
}

int cadre_config_from_json(const char *json, cadre_config **out)
{
    if (!json || !out)
        return base_error(CADRE_EINVAL, "config: there is no JSON to read");
    json_error_t where;
    json_t *object = json_loads(json, JSON_REJECT_DUPLICATES, &where);
    if (!object && state_json_no_memory(&where))
        return base_error(CADRE_ENOMEM, "config: out of memory");
    if (!object)
        return base_error(CADRE_EINVAL, "config: line %d, column %d: %s", where.line, where.column, where.text);
    int status = state_config_from_object(object, out);
    json_decref(object);
    return status;
}
