/* The texts between a command and its worker: the command line with a config's values, and lines of reports. */
#include "tuner/command.h"

#include "base/buffer.h"
#include "base/error.h"
#include "base/io.h"
#include "base/mem.h"
#include "trainer/message.h"
#include "trainer/state/config.h"
#include "tuner/space.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* ---- values ---- */

static char *take_text(base_buffer *buffer, int status)
{
    if (status == CADRE_OK)
        status = base_buffer_append(buffer, "", 1);
    if (status != CADRE_OK) {
        base_buffer_free(buffer);
        return NULL;
    }
    return (char *)buffer->data;
}

char *command_value(const cadre_config *config, const char *name)
{
    base_buffer text = {0};
    switch (state_config_kind_of(config, name)) {
    case STATE_CONFIG_STRING:
        return base_strdup(cadre_config_string(config, name, ""));
    case STATE_CONFIG_INT:
        return base_sprintf("%lld", (long long)cadre_config_int(config, name, 0));
    case STATE_CONFIG_BOOL:
        return base_strdup(cadre_config_bool(config, name, false) ? "true" : "false");
    default:
        return take_text(&text, tuner_put_double(&text, cadre_config_double(config, name, 0)));
    }
}

char *command_quote(const char *text)
{
    static const char plain[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-+=.,/:@%";
    base_buffer out = {0};
    if (*text && !text[strspn(text, plain)])
        return base_strdup(text);
    int status = base_buffer_printf(&out, "'");
    for (const char *at = text; status == CADRE_OK && *at; at++)
        status = *at == '\'' ? base_buffer_printf(&out, "'\\''") : base_buffer_append(&out, at, 1);
    if (status == CADRE_OK)
        status = base_buffer_printf(&out, "'");
    return take_text(&out, status);
}

/* ---- placeholders ---- */

static const char *find_placeholder(const char *text, const char *name)
{
    size_t length = strlen(name);
    for (const char *at = text; (at = strchr(at, '{')); at++)
        if (strncmp(at + 1, name, length) == 0 && at[1 + length] == '}')
            return at;
    return NULL;
}

bool command_mentions(const char *text, const char *name) { return find_placeholder(text, name) != NULL; }

static bool is_name_in(const char *at, size_t length, const char *const *names)
{
    for (; names && *names; names++)
        if (strlen(*names) == length && strncmp(*names, at, length) == 0)
            return true;
    return false;
}

/* The text with its placeholders replaced. `*absent`: one of them has no value in this config. */
static char *fill(const char *text, const cadre_config *config, const char *const *names, bool quoted, bool *absent)
{
    base_buffer out = {0};
    int status = CADRE_OK;
    *absent = false;
    while (status == CADRE_OK && *text) {
        size_t before = strcspn(text, "{");
        status = base_buffer_append(&out, text, before);
        text += before;
        if (status != CADRE_OK || !*text)
            break;
        size_t length = strcspn(text + 1, "{}");
        bool ours = text[1 + length] == '}' && is_name_in(text + 1, length, names);
        if (!ours) {
            status = base_buffer_append(&out, text++, 1);
            continue;
        }
        char *name = base_sprintf("%.*s", (int)length, text + 1);
        char *value = name ? base_strdup("") : NULL;
        if (name && state_config_kind_of(config, name) == STATE_CONFIG_NONE)
            *absent = true;
        else if (name) {
            free(value);
            value = command_value(config, name);
        }
        char *shown = value && quoted ? command_quote(value) : value;
        status = shown ? base_buffer_append(&out, shown, strlen(shown)) : CADRE_ENOMEM;
        if (shown != value)
            free(shown);
        free(value);
        free(name);
        text += length + 2;
    }
    return take_text(&out, status);
}

void command_free_words(char **words)
{
    for (char **at = words; at && *at; at++)
        free(*at);
    free(words);
}

static bool mentioned(char *const *words, const char *name)
{
    for (; *words; words++)
        if (command_mentions(*words, name))
            return true;
    return false;
}

/* "--lr VALUE" for what has no placeholder. */
static int append_rest(char *const *words, const cadre_config *config, char **out, size_t *count)
{
    for (int i = 0; i < cadre_config_count(config); i++) {
        const char *name = cadre_config_name(config, i);
        if (mentioned(words, name))
            continue;
        if (!(out[(*count)++] = base_sprintf("--%s", name)) || !(out[(*count)++] = command_value(config, name)))
            return CADRE_ENOMEM;
    }
    return CADRE_OK;
}

int command_words(char *const *words, const cadre_config *config, const char *const *names, char ***out)
{
    size_t room = 1, count = 0;
    while (words[room - 1])
        room++;
    char **made = base_calloc(room + 2 * (size_t)cadre_config_count(config), sizeof *made);
    if (!made)
        return CADRE_ENOMEM;
    int status = CADRE_OK;
    for (size_t i = 0; status == CADRE_OK && words[i]; i++) {
        bool absent;
        char *word = fill(words[i], config, names, false, &absent);
        if (!word) {
            status = CADRE_ENOMEM;
        } else if (absent) {
            free(word);
            bool option = *words[i] == '{' && i && words[i - 1][0] == '-' && !strchr(words[i - 1], '{');
            if (option && count) {
                free(made[--count]);
                made[count] = NULL;
            }
        } else {
            made[count++] = word;
        }
    }
    if (status == CADRE_OK)
        status = append_rest(words, config, made, &count);
    if (status != CADRE_OK) {
        command_free_words(made);
        return status;
    }
    *out = made;
    return CADRE_OK;
}

int command_shell(const char *line, const cadre_config *config, const char *const *names, char **out)
{
    bool absent;
    char *made = fill(line, config, names, true, &absent);
    if (!made)
        return CADRE_ENOMEM;
    *out = made;
    return CADRE_OK;
}

/* ---- finding the program ---- */

static int look_at(char *path, const char *word, char **out)
{
    struct stat info;
    int status = CADRE_OK;
    if (!path)
        return CADRE_ENOMEM;
    if (stat(path, &info) != 0)
        status = base_errno(errno, "the command %s", word);
    else if (!S_ISREG(info.st_mode))
        status = base_error(CADRE_EACCES, "the command %s is no file", word);
    else if (access(path, X_OK) != 0)
        status = base_error(CADRE_EACCES, "the command %s cannot be executed (chmod +x?)", word);
    if (status != CADRE_OK)
        free(path);
    else
        *out = path;
    return status;
}

int command_find(const char *word, const char *directory, char **out)
{
    if (strchr(word, '/'))
        return look_at(*word == '/' || !directory ? base_strdup(word) : base_path_join(directory, word), word, out);
    const char *path = getenv("PATH");
    int denied = CADRE_ENOENT;
    for (const char *at = path ? path : "/bin:/usr/bin"; ; at++) {
        size_t length = strcspn(at, ":");
        char *place = length ? base_sprintf("%.*s/%s", (int)length, at, word) : base_strdup(word);
        int status = look_at(place, word, out);
        if (status == CADRE_OK || status == CADRE_ENOMEM)
            return status;
        denied = status == CADRE_EACCES ? status : denied;
        at += length;
        if (!*at)
            break;
    }
    return denied == CADRE_ENOENT ? base_error(CADRE_ENOENT, "the command %s is not there (looked along PATH)", word)
                                  : base_error(denied, "the command %s cannot be executed", word);
}

/* ---- lines of reports ---- */

/* Python writes NaN and Infinity, which JSON does not have: as texts, which message_read_double takes. */
static char *tame(const char *line, size_t nbytes)
{
    static const struct {
        const char *from, *to;
    } words[] = {{"NaN", "\"nan\""}, {"-Infinity", "\"-inf\""}, {"Infinity", "\"inf\""}};
    base_buffer out = {0};
    int status = CADRE_OK;
    bool inside = false;
    for (size_t i = 0; status == CADRE_OK && i < nbytes;) {
        size_t k = 3;
        for (k = 0; !inside && k < 3; k++)
            if (strlen(words[k].from) <= nbytes - i && memcmp(line + i, words[k].from, strlen(words[k].from)) == 0)
                break;
        if (!inside && k < 3) {
            status = base_buffer_append(&out, words[k].to, strlen(words[k].to));
            i += strlen(words[k].from);
            continue;
        }
        size_t step = inside && line[i] == '\\' && i + 1 < nbytes ? 2 : 1;
        inside = line[i] == '"' ? !inside : inside;
        status = base_buffer_append(&out, line + i, step);
        i += step;
    }
    return take_text(&out, status);
}

static int take_member(command_report *report, const char *name, const json_t *value)
{
    double number;
    if (strcmp(name, "step") == 0) {
        if (!json_is_integer(value) || json_integer_value(value) < 1)
            return base_error(CADRE_EINVAL, "step is not a whole number of at least 1");
        report->step = json_integer_value(value);
    } else if (strcmp(name, "checkpoint") == 0) {
        if (!json_is_boolean(value))
            return base_error(CADRE_EINVAL, "checkpoint is neither true nor false");
        report->checkpoint = json_is_true(value);
    } else if (!*name || strlen(name) > 100) {
        return base_error(CADRE_EINVAL, "a metric's name has %zu bytes, 1 to 100 are possible", strlen(name));
    } else if (json_is_boolean(value) || message_read_double(value, &number)) {
        if (report->count == CADRE_MAX_METRICS)
            return base_error(CADRE_EINVAL, "more than %d metrics", CADRE_MAX_METRICS);
        number = json_is_boolean(value) ? json_is_true(value) : number;
        for (const char *at = name; *at; at++)
            if ((unsigned char)*at < 0x20 || *at == 0x7f)
                return base_error(CADRE_EINVAL, "a metric's name has a control character");
        report->metrics[report->count++] = (cadre_metric){name, number, CADRE_REDUCE_NONE, 0};
    } else if (!*report->skipped) {
        snprintf(report->skipped, sizeof report->skipped, "%.100s", name);
    }
    return CADRE_OK;
}

int command_line_read(const char *line, size_t nbytes, command_report *out)
{
    command_report report = {0};
    json_error_t where;
    const char *name;
    json_t *value;
    if (memchr(line, '\0', nbytes))
        return base_error(CADRE_EINVAL, "it has a zero byte");
    char *text = tame(line, nbytes);
    if (!text)
        return CADRE_ENOMEM;
    json_t *object = json_loads(text, JSON_REJECT_DUPLICATES, &where);
    free(text);
    if (!json_is_object(object)) {
        int status = object ? base_error(CADRE_EINVAL, "it is no JSON object")
                            : base_error(CADRE_EINVAL, "column %d: it is no JSON object", where.column);
        json_decref(object);
        return status;
    }
    int status = CADRE_OK;
    json_object_foreach(object, name, value) if (status == CADRE_OK) status = take_member(&report, name, value);
    if (status == CADRE_OK && !report.count)
        status = base_error(CADRE_EINVAL, "it has no metric%s%s", *report.skipped ? "; no number: " : "", report.skipped);
    if (status != CADRE_OK) {
        json_decref(object);
        return status;
    }
    report.owner = object;
    *out = report;
    return CADRE_OK;
}

void command_line_free(command_report *report)
{
    json_decref(report->owner);
    *report = (command_report){0};
}
