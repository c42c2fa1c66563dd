/*
 * A sweep file as it was read: a tree of maps, lists and scalars that still knows where each of them stood, so that
 * whoever finds something wrong with one can say so: "sweep.yaml:7:3: unknown key "metrik"". Options of the command line
 * put their values into the same tree, and are named instead of a place.
 */
#ifndef TUNER_SWEEP_TREE_H
#define TUNER_SWEEP_TREE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef enum sweep_kind { SWEEP_MAP, SWEEP_LIST, SWEEP_STRING, SWEEP_INT, SWEEP_DOUBLE, SWEEP_BOOL, SWEEP_NULL } sweep_kind;

typedef struct sweep_node sweep_node;
struct sweep_node {
    sweep_kind kind;
    char *text; /* of a scalar, as it was written (without quotes); NULL for maps and lists */
    int64_t integer;
    double number; /* of ints, too */
    bool boolean;
    bool plain; /* a scalar that was written in one line without quotes: columns within it are columns of the file */
    int quote;  /* columns before its text: 1 when it was quoted */
    char *origin; /* the file, or the option */
    int line, column; /* from 1; line 0: no place in a file */
    char **keys;      /* of a map; where each stands: the value's `key_line`, `key_column` */
    int key_line, key_column;
    sweep_node **items;
    int count, room;
};

enum { SWEEP_LIMIT = 1 << 20 /* bytes of a sweep file */ };

/** Read YAML (a part of it: no anchors, aliases, tags, several documents, or keys twice). `origin` names the file in
 * messages. CADRE_EINVAL: "origin:line:column: ...". */
int sweep_parse_yaml(const char *text, size_t nbytes, const char *origin, sweep_node **out);
/** The same from a file; CADRE_ENOENT, CADRE_EACCES, CADRE_EINVAL. */
int sweep_read_yaml(const char *path, sweep_node **out);
/** Back from what sweep_tree_json made. */
int sweep_parse_json(const char *json, const char *origin, sweep_node **out);

/** New nodes for options: all NULL when there is no memory. */
sweep_node *sweep_map(const char *origin);
sweep_node *sweep_list(const char *origin);
sweep_node *sweep_string(const char *origin, const char *text);
/** A scalar as YAML would read the plain text. */
sweep_node *sweep_scalar(const char *origin, const char *text);
/** Put `value` (owned from here on, also on failure; NULL: CADRE_ENOMEM) under `key`, replacing what is there. */
int sweep_set(sweep_node *map, const char *key, sweep_node *value);
int sweep_append(sweep_node *list, sweep_node *value);
/** The value of that key; NULL: there is none, or this is no map. */
sweep_node *sweep_get(const sweep_node *map, const char *key);
void sweep_free(sweep_node *node);

/** The tree as JSON in one line; free() it. NULL: no memory. */
char *sweep_tree_json(const sweep_node *node);

/** A failure at this node: base_error with its place before the message. */
int sweep_error(int status, const sweep_node *node, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
/** The same at the key of a value. */
int sweep_error_key(int status, const sweep_node *value, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
/** Put the place before the message that is set. */
int sweep_wrap(int status, const sweep_node *node);
/** The value among the map's whose key begins the message that is set, or stands in it as a word; else the map itself. */
const sweep_node *sweep_blame(const sweep_node *map);
/** The word of `known` (separated by blanks) that `word` may have been meant for, and its length; 0: none is near. */
int sweep_nearest(const char *word, size_t length, const char *known, const char **found);
/** Every key must be one of `known` (words separated by blanks). */
int sweep_check_keys(const sweep_node *map, const char *what, const char *known);
/** "a map", "a text": with its article. */
const char *sweep_kind_name(const sweep_node *node);

#endif
