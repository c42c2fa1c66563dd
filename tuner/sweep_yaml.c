/* YAML into a tree, by libyaml's events. What YAML has for documents that only machines write is refused. */
#include "tuner/sweep_tree.h"

#include "base/buffer.h"
#include "base/error.h"
#include "base/io.h"
#include "base/mem.h"
#include "cadre/space.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <yaml.h>

enum { DEEPEST = 16 };

struct level {
    sweep_node *node;
    char *key; /* of a map, when its value comes next */
    int key_line, key_column;
};

struct reader {
    const char *origin;
    yaml_parser_t parser;
    struct level levels[DEEPEST];
    int depth;
    sweep_node *root;
    bool documents; /* one has begun */
};

static int complain(const struct reader *reader, const yaml_mark_t *mark, const char *what)
{
    return base_error(CADRE_EINVAL, "%s:%zu:%zu: %s", reader->origin, mark->line + 1, mark->column + 1, what);
}

/* Where libyaml says only that "no token can begin". A mark counts characters, not bytes. */
static bool is_tab(const yaml_mark_t *mark, const char *text, size_t nbytes)
{
    size_t line = 0, column = 0;
    for (size_t i = 0; i < nbytes && line <= mark->line; i++) {
        if (line == mark->line && column == mark->column)
            return text[i] == '\t';
        column += (text[i] & 0xc0) != 0x80;
        if (text[i] == '\n') {
            line++;
            column = 0;
        }
    }
    return false;
}

/* libyaml's own words; where its reader fails (text that is not UTF-8) it tells bytes instead of a place. */
static int parser_error(const struct reader *reader, const char *text, size_t nbytes)
{
    const yaml_parser_t *parser = &reader->parser;
    const char *problem = parser->problem ? parser->problem : "not YAML";
    if (parser->error == YAML_MEMORY_ERROR)
        return base_error(CADRE_ENOMEM, "out of memory for %s", reader->origin);
    if (parser->error != YAML_READER_ERROR) {
        char words[300];
        if (is_tab(&parser->problem_mark, text, nbytes))
            return complain(reader, &parser->problem_mark, "a tab: YAML indents by spaces");
        snprintf(words, sizeof words, "%s%s%s", parser->context ? parser->context : "", parser->context ? ": " : "", problem);
        return complain(reader, &parser->problem_mark, words);
    }
    yaml_mark_t mark = {0, 0, 0};
    for (size_t i = 0; i < parser->problem_offset && i < nbytes; i++) {
        mark.column++;
        if (text[i] == '\n') {
            mark.line++;
            mark.column = 0;
        }
    }
    return complain(reader, &mark, problem);
}

/* A finished node goes to where it belongs: the root, a list, or under the key that was read before. */
static int place(struct reader *reader, sweep_node *node, const yaml_mark_t *mark)
{
    if (reader->depth == 0) {
        reader->root = node;
        return CADRE_OK;
    }
    struct level *level = &reader->levels[reader->depth - 1];
    if (level->node->kind == SWEEP_LIST)
        return sweep_append(level->node, node);
    if (!level->key) { /* this is one */
        int status = CADRE_OK;
        if (!node->text)
            status = complain(reader, mark, "a key is plain text");
        else if (level->node->count == CADRE_MAX_PARAMS)
            status = base_error(CADRE_EINVAL, "%s:%zu:%zu: a map of more than %d keys", reader->origin, mark->line + 1, mark->column + 1, CADRE_MAX_PARAMS);
        else if (sweep_get(level->node, node->text))
            status = base_error(CADRE_EINVAL, "%s:%zu:%zu: the key \"%.60s\" is there twice", reader->origin,
                                mark->line + 1, mark->column + 1, node->text);
        else if (!(level->key = base_strdup(node->text)))
            status = CADRE_ENOMEM;
        level->key_line = node->line;
        level->key_column = node->column;
        sweep_free(node);
        return status;
    }
    node->key_line = level->key_line;
    node->key_column = level->key_column;
    int status = sweep_set(level->node, level->key, node);
    free(level->key);
    level->key = NULL;
    return status;
}

static int take_scalar(struct reader *reader, const yaml_event_t *event)
{
    const char *text = (const char *)event->data.scalar.value;
    bool plain = event->data.scalar.style == YAML_PLAIN_SCALAR_STYLE;
    if (event->data.scalar.anchor || event->data.scalar.tag)
        return complain(reader, &event->start_mark, "anchors and tags are not for sweep files");
    if (strlen(text) != event->data.scalar.length)
        return complain(reader, &event->start_mark, "a text with a zero byte");
    sweep_node *node = plain ? sweep_scalar(reader->origin, text) : sweep_string(reader->origin, text);
    if (!node)
        return CADRE_ENOMEM;
    node->line = (int)event->start_mark.line + 1;
    node->column = (int)event->start_mark.column + 1;
    node->quote = plain ? 0 : 1;
    node->plain = event->start_mark.line == event->end_mark.line &&
                  event->end_mark.column - event->start_mark.column == strlen(text) + 2 * (size_t)node->quote;
    return place(reader, node, &event->start_mark);
}

static int open_node(struct reader *reader, const yaml_event_t *event, bool map, bool marked)
{
    if (marked)
        return complain(reader, &event->start_mark, "anchors and tags are not for sweep files");
    if (reader->depth == DEEPEST)
        return complain(reader, &event->start_mark, "nested too deeply");
    if (reader->depth && reader->levels[reader->depth - 1].node->kind == SWEEP_MAP && !reader->levels[reader->depth - 1].key)
        return complain(reader, &event->start_mark, "a key is plain text");
    sweep_node *node = map ? sweep_map(reader->origin) : sweep_list(reader->origin);
    if (!node)
        return CADRE_ENOMEM;
    node->line = (int)event->start_mark.line + 1;
    node->column = (int)event->start_mark.column + 1;
    reader->levels[reader->depth++] = (struct level){.node = node};
    return CADRE_OK;
}

static int close_node(struct reader *reader, const yaml_event_t *event)
{
    sweep_node *node = reader->levels[--reader->depth].node;
    return place(reader, node, &event->start_mark);
}

static int take_event(struct reader *reader, const yaml_event_t *event)
{
    switch (event->type) {
    case YAML_DOCUMENT_START_EVENT:
        if (reader->documents)
            return complain(reader, &event->start_mark, "a second document: one sweep a file");
        reader->documents = true;
        return CADRE_OK;
    case YAML_ALIAS_EVENT:
        return complain(reader, &event->start_mark, "aliases are not for sweep files");
    case YAML_SCALAR_EVENT:
        return take_scalar(reader, event);
    case YAML_SEQUENCE_START_EVENT:
        return open_node(reader, event, false, event->data.sequence_start.anchor || event->data.sequence_start.tag);
    case YAML_MAPPING_START_EVENT:
        return open_node(reader, event, true, event->data.mapping_start.anchor || event->data.mapping_start.tag);
    case YAML_SEQUENCE_END_EVENT:
    case YAML_MAPPING_END_EVENT:
        return close_node(reader, event);
    default:
        return CADRE_OK;
    }
}

int sweep_parse_yaml(const char *text, size_t nbytes, const char *origin, sweep_node **out)
{
    struct reader reader = {.origin = origin};
    int status = CADRE_OK;
    if (nbytes > SWEEP_LIMIT)
        return base_error(CADRE_EINVAL, "%s: more than %d bytes", origin, SWEEP_LIMIT);
    if (nbytes >= 3 && memcmp(text, "\xef\xbb\xbf", 3) == 0) { /* a byte order mark, as Windows writes it */
        text += 3;
        nbytes -= 3;
    }
    if (!yaml_parser_initialize(&reader.parser))
        return base_error(CADRE_ENOMEM, "out of memory for %s", origin);
    yaml_parser_set_encoding(&reader.parser, YAML_UTF8_ENCODING);
    yaml_parser_set_input_string(&reader.parser, (const unsigned char *)text, nbytes);
    for (bool done = false; status == CADRE_OK && !done;) {
        yaml_event_t event;
        if (!yaml_parser_parse(&reader.parser, &event)) {
            status = parser_error(&reader, text, nbytes);
            break;
        }
        status = take_event(&reader, &event);
        done = event.type == YAML_STREAM_END_EVENT;
        yaml_event_delete(&event);
    }
    yaml_parser_delete(&reader.parser);
    if (status == CADRE_OK && (!reader.root || reader.root->kind != SWEEP_MAP))
        status = base_error(CADRE_EINVAL, "%s:1:1: a sweep is a map: \"name: ...\", \"params: ...\"", origin);
    while (reader.depth > 0) {
        struct level *level = &reader.levels[--reader.depth];
        sweep_free(level->node);
        free(level->key);
    }
    if (status != CADRE_OK) {
        sweep_free(reader.root);
        return status;
    }
    *out = reader.root;
    return CADRE_OK;
}

int sweep_read_yaml(const char *path, sweep_node **out)
{
    base_buffer text = {0};
    struct stat info;
    if (stat(path, &info) == 0 && S_ISDIR(info.st_mode))
        return base_error(CADRE_EINVAL, "%s is a directory, not a sweep file", path);
    int status = base_read_file(path, SWEEP_LIMIT, &text);
    if (status == CADRE_OK)
        status = sweep_parse_yaml(text.data ? (const char *)text.data : "", text.length, path, out);
    base_buffer_free(&text);
    return status;
}
