/* Checks on text before it enters the store: one bad name or value would make Optuna refuse the whole study. */
#include "base/error.h"
#include "base/mem.h"
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
        else if (*at < 0x20 || *at == 0x7f)
            *at = ' ';
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

int tracking_check_json(const tracking_store *store, const char *json, const char *what)
{
    json_error_t error;
    json_t *value = json ? json_loads(json, JSON_DECODE_ANY | JSON_ALLOW_NUL, &error) : NULL;
    if (!value)
        return base_error(CADRE_EINVAL, "store %s: %s is not JSON%s%s", store->path, what, json ? ": " : "",
                          json ? error.text : "");
    json_decref(value);
    return CADRE_OK;
}
