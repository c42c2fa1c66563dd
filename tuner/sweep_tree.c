#include "tuner/sweep_tree.h"

#include "base/buffer.h"
#include "base/error.h"
#include "base/mem.h"

#include <errno.h>
#include <jansson.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- making ---- */

static sweep_node *node_new(sweep_kind kind, const char *origin)
{
    sweep_node *node = base_calloc(1, sizeof *node);
    if (!node)
        return NULL;
    node->kind = kind;
    node->origin = base_strdup(origin);
    if (!node->origin) {
        free(node);
        return NULL;
    }
    return node;
}

sweep_node *sweep_map(const char *origin) { return node_new(SWEEP_MAP, origin); }
sweep_node *sweep_list(const char *origin) { return node_new(SWEEP_LIST, origin); }

sweep_node *sweep_string(const char *origin, const char *text)
{
    sweep_node *node = node_new(SWEEP_STRING, origin);
    if (node && !(node->text = base_strdup(text))) {
        sweep_free(node);
        return NULL;
    }
    return node;
}

/* A decimal number, and nothing that strtod takes besides (hexadecimal, inf, nan). */
static bool looks_like_number(const char *text)
{
    if (*text == '+' || *text == '-')
        text++;
    const char *digits = *text == '.' ? text + 1 : text;
    return *digits >= '0' && *digits <= '9' && !text[strspn(text, "0123456789.eE+-")];
}

sweep_node *sweep_scalar(const char *origin, const char *text)
{
    sweep_node *node = sweep_string(origin, text);
    char *end;
    if (!node)
        return NULL;
    if (!*text || strcmp(text, "~") == 0 || strcmp(text, "null") == 0) {
        node->kind = SWEEP_NULL;
    } else if (strcmp(text, "true") == 0 || strcmp(text, "false") == 0) {
        node->kind = SWEEP_BOOL;
        node->boolean = *text == 't';
    } else if (looks_like_number(text)) {
        errno = 0;
        long long integer = strtoll(text, &end, 10);
        if (!*end && !errno) {
            node->kind = SWEEP_INT;
            node->integer = integer;
            node->number = (double)integer;
            return node;
        }
        node->number = strtod(text, &end);
        if (!*end && isfinite(node->number))
            node->kind = SWEEP_DOUBLE;
    }
    return node;
}

void sweep_free(sweep_node *node)
{
    if (!node)
        return;
    for (int i = 0; i < node->count; i++) {
        sweep_free(node->items[i]);
        if (node->keys)
            free(node->keys[i]);
    }
    free(node->items);
    free(node->keys);
    free(node->text);
    free(node->origin);
    free(node);
}

static int make_room(sweep_node *node)
{
    if (node->count < node->room)
        return CADRE_OK;
    int room = node->room ? 2 * node->room : 8;
    sweep_node **items = base_realloc(node->items, (size_t)room * sizeof *items);
    if (!items)
        return CADRE_ENOMEM;
    node->items = items;
    if (node->kind == SWEEP_MAP) {
        char **keys = base_realloc(node->keys, (size_t)room * sizeof *keys);
        if (!keys)
            return CADRE_ENOMEM;
        node->keys = keys;
    }
    node->room = room;
    return CADRE_OK;
}

int sweep_append(sweep_node *list, sweep_node *value)
{
    int status = value ? make_room(list) : CADRE_ENOMEM;
    if (status != CADRE_OK) {
        sweep_free(value);
        return status;
    }
    list->items[list->count++] = value;
    return CADRE_OK;
}

static int find_key(const sweep_node *map, const char *key)
{
    for (int i = 0; map && map->kind == SWEEP_MAP && i < map->count; i++)
        if (strcmp(map->keys[i], key) == 0)
            return i;
    return -1;
}

sweep_node *sweep_get(const sweep_node *map, const char *key)
{
    int at = find_key(map, key);
    return at >= 0 ? map->items[at] : NULL;
}

int sweep_set(sweep_node *map, const char *key, sweep_node *value)
{
    int at = find_key(map, key);
    if (value && at >= 0) {
        sweep_free(map->items[at]);
        map->items[at] = value;
        return CADRE_OK;
    }
    char *copy = value ? base_strdup(key) : NULL;
    int status = copy ? sweep_append(map, value) : CADRE_ENOMEM;
    if (status != CADRE_OK) {
        if (!copy)
            sweep_free(value);
        free(copy);
        return status;
    }
    map->keys[map->count - 1] = copy;
    return CADRE_OK;
}

/* ---- JSON both ways ---- */

static json_t *to_json(const sweep_node *node)
{
    json_t *made = NULL;
    switch (node->kind) {
    case SWEEP_MAP:
        made = json_object();
        for (int i = 0; made && i < node->count; i++)
            if (json_object_set_new(made, node->keys[i], to_json(node->items[i])) != 0)
                goto failed;
        return made;
    case SWEEP_LIST:
        made = json_array();
        for (int i = 0; made && i < node->count; i++)
            if (json_array_append_new(made, to_json(node->items[i])) != 0)
                goto failed;
        return made;
    case SWEEP_INT:
        return json_integer(node->integer);
    case SWEEP_DOUBLE:
        return json_real(node->number);
    case SWEEP_BOOL:
        return json_boolean(node->boolean);
    case SWEEP_NULL:
        return json_null();
    default:
        return json_string(node->text);
    }
failed:
    json_decref(made);
    return NULL;
}

struct dump {
    base_buffer text;
    int status; /* the first failure: jansson (2.14) does not look at what came of writing a key, and goes on without it */
};

static int dump_piece(const char *piece, size_t nbytes, void *user)
{
    struct dump *dump = user;
    if (dump->status == CADRE_OK)
        dump->status = base_buffer_append(&dump->text, piece, nbytes);
    return dump->status;
}

char *sweep_tree_json(const sweep_node *node)
{
    struct dump dump = {{0}, CADRE_OK};
    json_t *json = to_json(node);
    bool dumped = json && json_dump_callback(json, dump_piece, &dump, JSON_COMPACT | JSON_ENCODE_ANY | JSON_REAL_PRECISION(17)) == 0;
    json_decref(json);
    if (dumped && dump_piece("", 1, &dump) == CADRE_OK)
        return (char *)dump.text.data;
    base_buffer_free(&dump.text);
    base_error(CADRE_ENOMEM, "out of memory for the sweep");
    return NULL;
}

static sweep_node *from_json(const json_t *json, const char *origin)
{
    sweep_node *node = NULL;
    const char *key;
    json_t *value;
    size_t index;
    char number[40];
    switch (json_typeof(json)) {
    case JSON_OBJECT:
        node = sweep_map(origin);
        json_object_foreach((json_t *)(uintptr_t)json, key, value) if (node &&
                                                                       sweep_set(node, key, from_json(value, origin)))
        {
            sweep_free(node);
            return NULL;
        }
        return node;
    case JSON_ARRAY:
        node = sweep_list(origin);
        json_array_foreach(json, index, value) if (node && sweep_append(node, from_json(value, origin)))
        {
            sweep_free(node);
            return NULL;
        }
        return node;
    case JSON_STRING:
        return sweep_string(origin, json_string_value(json));
    case JSON_INTEGER:
        snprintf(number, sizeof number, "%lld", (long long)json_integer_value(json));
        return sweep_scalar(origin, number);
    case JSON_REAL:
        snprintf(number, sizeof number, "%.17g", json_real_value(json));
        if (!strpbrk(number, ".e"))
            strcat(number, ".0"); /* 1.0 in a choice is no 1 */
        node = sweep_scalar(origin, number);
        if (node)
            node->kind = SWEEP_DOUBLE;
        return node;
    case JSON_NULL:
        return sweep_scalar(origin, "null");
    default:
        return sweep_scalar(origin, json_is_true(json) ? "true" : "false");
    }
}

int sweep_parse_json(const char *json, const char *origin, sweep_node **out)
{
    json_error_t where;
    json_t *read = json_loads(json, JSON_REJECT_DUPLICATES, &where);
    if (!read)
        return base_error(CADRE_EINVAL, "%s:%d:%d: %s", origin, where.line, where.column, where.text);
    sweep_node *node = from_json(read, origin);
    json_decref(read);
    if (!node)
        return CADRE_ENOMEM;
    *out = node;
    return CADRE_OK;
}

/* ---- saying what is wrong ---- */

static int say(int status, const char *origin, int line, int column, const char *fmt, va_list args)
{
    char text[BASE_ERROR_MAX];
    vsnprintf(text, sizeof text, fmt, args);
    if (line)
        return base_error(status, "%s:%d:%d: %s", origin, line, column, text);
    return base_error(status, "%s: %s", origin, text);
}

int sweep_error(int status, const sweep_node *node, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    say(status, node->origin, node->line, node->column, fmt, args);
    va_end(args);
    return status;
}

int sweep_error_key(int status, const sweep_node *value, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    bool known = value->line && value->key_line;
    say(status, value->origin, known ? value->key_line : value->line, known ? value->key_column : value->column, fmt,
        args);
    va_end(args);
    return status;
}

int sweep_wrap(int status, const sweep_node *node)
{
    char text[BASE_ERROR_MAX];
    snprintf(text, sizeof text, "%s", cadre_error_message());
    return sweep_error(status, node, "%s", text);
}

static bool in_word(char c)
{
    return c == '_' || (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

static bool has_word(const char *text, const char *word)
{
    size_t length = strlen(word);
    for (const char *at = text; length && (at = strstr(at, word)); at++)
        if ((at == text || !in_word(at[-1])) && !in_word(at[length]))
            return true;
    return false;
}

const sweep_node *sweep_blame(const sweep_node *map)
{
    const char *message = cadre_error_message();
    const sweep_node *found = map;
    for (int i = 0; map->kind == SWEEP_MAP && i < map->count; i++) {
        size_t length = strlen(map->keys[i]);
        if (length && strncmp(message, map->keys[i], length) == 0 && message[length] == ':')
            return map->items[i];
        if (found == map && has_word(message, map->keys[i]))
            found = map->items[i];
    }
    return found;
}

/* Letters to change, add or leave out to make one word the other; words of more than 31 letters are far from any. */
static int distance(const char *a, size_t la, const char *b, size_t lb)
{
    int row[33];
    if (la > 31 || lb > 31)
        return 99;
    for (size_t j = 0; j <= lb; j++)
        row[j] = (int)j;
    for (size_t i = 1; i <= la; i++) {
        int before = row[0];
        row[0] = (int)i;
        for (size_t j = 1; j <= lb; j++) {
            int here = before + (a[i - 1] != b[j - 1]);
            before = row[j];
            here = row[j] + 1 < here ? row[j] + 1 : here;
            row[j] = row[j - 1] + 1 < here ? row[j - 1] + 1 : here;
        }
    }
    return row[lb];
}

int sweep_nearest(const char *word, size_t length, const char *known, const char **found)
{
    int nearest = 3, found_length = 0;
    for (const char *one = known; *one; one += strcspn(one, " "), one += *one == ' ') {
        size_t one_length = strcspn(one, " ");
        int far = distance(word, length, one, one_length);
        if (far < nearest) {
            nearest = far;
            *found = one;
            found_length = (int)one_length;
        }
    }
    return found_length;
}

static int unknown_key(const sweep_node *map, int at, const char *what, const char *known)
{
    const char *key = map->keys[at], *near;
    int near_length = sweep_nearest(key, strlen(key), known, &near);
    if (near_length)
        return sweep_error_key(CADRE_EINVAL, map->items[at], "unknown key \"%.60s\" in %s: did you mean \"%.*s\"?", key,
                               what, near_length, near);
    char list[300];
    size_t used = 0;
    for (const char *word = known; *word && used + 2 < sizeof list; word++) {
        if (*word == ' ')
            list[used++] = ',';
        list[used++] = *word;
    }
    list[used] = '\0';
    return sweep_error_key(CADRE_EINVAL, map->items[at], "unknown key \"%.60s\" in %s; there are %s", key, what, list);
}

int sweep_check_keys(const sweep_node *map, const char *what, const char *known)
{
    if (map->kind != SWEEP_MAP)
        return sweep_error(CADRE_EINVAL, map, "%s is a map, not %s", what, sweep_kind_name(map));
    for (int i = 0; i < map->count; i++) {
        size_t length = strlen(map->keys[i]);
        bool found = false;
        for (const char *at = known; !found && length && (at = strstr(at, map->keys[i])); at++)
            found = (at == known || at[-1] == ' ') && (at[length] == ' ' || !at[length]);
        if (!found || strchr(map->keys[i], ' '))
            return unknown_key(map, i, what, known);
    }
    return CADRE_OK;
}

const char *sweep_kind_name(const sweep_node *node)
{
    static const char *const names[] = {"a map", "a list", "a text", "a whole number", "a number", "true or false", "empty"};
    return names[node->kind];
}
