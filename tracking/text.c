/* Checks on text before it enters the store: one bad name or value would make Optuna refuse the whole study. */
#include "base/error.h"
#include "base/mem.h"
#include "base/terminal.h"
#include "tracking/internal.h"

#include <jansson.h>
#include <string.h>

/* Bytes of the UTF-8 character at `text`; 0 when it is none (overlong forms, surrogates and what is past U+10FFFF
 * included). */
static size_t character(const unsigned char *text)
{
    if (text[0] < 0x80)
        return 1;
    size_t length = text[0] >= 0xf0 ? 4 : text[0] >= 0xe0 ? 3 : 2;
    if (text[0] < 0xc2 || text[0] > 0xf4)
        return 0;
    for (size_t i = 1; i < length; i++)
        if ((text[i] & 0xc0) != 0x80)
            return 0;
    if ((text[0] == 0xe0 && text[1] < 0xa0) || (text[0] == 0xed && text[1] > 0x9f) ||
        (text[0] == 0xf0 && text[1] < 0x90) || (text[0] == 0xf4 && text[1] > 0x8f))
        return 0;
    return length;
}

bool tracking_utf8_ok(const char *text)
{
    const unsigned char *at = (const unsigned char *)text;
    while (*at) {
        size_t length = character(at);
        if (!length)
            return false;
        at += length;
    }
    return true;
}

char *tracking_one_line(const char *text)
{
    char *copy = base_strdup(text ? text : "");
    if (!copy)
        return NULL;
    for (unsigned char *at = (unsigned char *)copy; *at;) {
        size_t length = character(at);
        if (!length)
            *at = '?';
        else
            memset(at, ' ', (size_t)base_terminal_control((char *)at));
        at += length ? length : 1;
    }
    return copy;
}

int tracking_check_name(const tracking_store *store, const char *name, const char *what)
{
    enum { LONGEST = 512 };
    if (!name || !*name)
        return base_error(CADRE_EINVAL, "store %s: %s needs a name", store->path, what);
    if (strlen(name) > LONGEST)
        return base_error(CADRE_EINVAL, "store %s: the name of %s is longer than %d bytes", store->path, what, LONGEST);
    if (!tracking_utf8_ok(name))
        return base_error(CADRE_EINVAL, "store %s: the name of %s is not UTF-8", store->path, what);
    return CADRE_OK;
}

/* ---- JSON of the plainest kind is looked through without building anything: every report may be an event ---- */

static const char *skip_space(const char *at) { return at + strspn(at, " \t\r\n"); }

static const char *skip_digits(const char *at, size_t most)
{
    size_t digits = strspn(at, "0123456789");
    return digits >= 1 && digits <= most ? at + digits : NULL;
}

/* No more digits than any reader bears. */
static const char *skip_number(const char *at)
{
    at += *at == '-';
    if (at[0] == '0' && at[1] >= '0' && at[1] <= '9')
        return NULL;
    at = skip_digits(at, 15);
    if (at && *at == '.')
        at = skip_digits(at + 1, 30);
    if (at && (*at == 'e' || *at == 'E')) {
        at++;
        at = skip_digits(at + (*at == '+' || *at == '-'), 2);
    }
    return at;
}

static const char *skip_string(const char *at)
{
    for (at++; *at != '"'; at++)
        if (*at < 0x20 || *at > 0x7e || *at == '\\')
            return NULL;
    return at + 1;
}

/* Behind the value at `at`, or NULL: it is not that plain, or no JSON. */
static const char *skip_plain(const char *at, int depth)
{
    static const char *const words[] = {"true", "false", "null"};
    for (size_t i = 0; i < sizeof words / sizeof *words; i++)
        if (strncmp(at, words[i], strlen(words[i])) == 0)
            return at + strlen(words[i]);
    if (*at == '"')
        return skip_string(at);
    if (*at != '{' && *at != '[')
        return skip_number(at);
    char end = *at == '{' ? '}' : ']';
    at = skip_space(at + 1);
    if (*at == end)
        return at + 1;
    for (;;) {
        if (end == '}') {
            at = *at == '"' ? skip_string(at) : NULL;
            at = at ? skip_space(at) : NULL;
            if (!at || *at != ':')
                return NULL;
            at = skip_space(at + 1);
        }
        at = depth > 0 ? skip_plain(at, depth - 1) : NULL;
        at = at ? skip_space(at) : NULL;
        if (!at || *at != ',')
            return at && *at == end ? at + 1 : NULL;
        at = skip_space(at + 1);
    }
}

int tracking_check_json(const tracking_store *store, const char *json, const char *what)
{
    json_error_t error;
    const char *end = json ? skip_plain(skip_space(json), 16) : NULL;
    if (end && !*skip_space(end))
        return CADRE_OK;
    json_t *value = json ? json_loads(json, JSON_DECODE_ANY | JSON_ALLOW_NUL, &error) : NULL;
    if (!value)
        return base_error(CADRE_EINVAL, "store %s: %s is not JSON%s%s", store->path, what, json ? ": " : "",
                          json ? error.text : "");
    json_decref(value);
    return CADRE_OK;
}
