#include "message.h"

#include "base/error.h"
#include "base/mem.h"

#include <limits.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

json_t *message_new(const char *kind, int attempt)
{
    json_t *message = json_pack("{s:s, s:i}", "t", kind, "a", attempt);
    if (!message)
        base_error(CADRE_ENOMEM, "out of memory for a message");
    return message;
}

int message_parse(const void *bytes, size_t nbytes, json_t **out)
{
    json_error_t error;
    json_t *message = json_loadb(bytes, nbytes, JSON_REJECT_DUPLICATES, &error);
    if (!message)
        return base_error(CADRE_EPROTO, "a message that is no JSON: %s", error.text);
    if (!json_is_string(json_object_get(message, "t")) || !json_is_integer(json_object_get(message, "a"))) {
        json_decref(message);
        return base_error(CADRE_EPROTO, "a message without kind or attempt");
    }
    *out = message;
    return CADRE_OK;
}

char *message_text(const json_t *message)
{
    char *text = json_dumps(message, JSON_COMPACT);
    if (!text)
        base_error(CADRE_ENOMEM, "out of memory for a message");
    return text;
}

const char *message_kind(const json_t *message) { return message_string(message, "t", ""); }

bool message_is(const json_t *message, const char *kind) { return strcmp(message_kind(message), kind) == 0; }

int message_attempt(const json_t *message)
{
    int64_t attempt = message_int(message, "a", -1);
    return attempt >= 0 && attempt <= INT_MAX ? (int)attempt : -1;
}

void message_set_int(json_t *message, const char *key, int64_t value)
{
    json_object_set_new(message, key, json_integer(value));
}

/* What comes from a program (error texts, host names) need not be UTF-8; JSON must be. */
static json_t *text_of(const char *value)
{
    json_t *text = json_string(value);
    if (text)
        return text;
    char *plain = base_strdup(value);
    if (!plain)
        return NULL;
    for (char *at = plain; *at; at++)
        if ((unsigned char)*at >= 0x80)
            *at = '?';
    text = json_string(plain);
    free(plain);
    return text;
}

void message_set_text(json_t *message, const char *key, const char *value)
{
    json_object_set_new(message, key, text_of(value));
}

int64_t message_int(const json_t *message, const char *key, int64_t fallback)
{
    const json_t *value = json_object_get(message, key);
    return json_is_integer(value) ? json_integer_value(value) : fallback;
}

const char *message_string(const json_t *message, const char *key, const char *fallback)
{
    const json_t *value = json_object_get(message, key);
    return json_is_string(value) ? json_string_value(value) : fallback;
}

json_t *message_double(double value)
{
    if (isnan(value))
        return json_string("nan");
    if (isinf(value))
        return json_string(value > 0 ? "inf" : "-inf");
    return json_real(value);
}

bool message_read_double(const json_t *value, double *out)
{
    if (json_is_number(value)) {
        *out = json_number_value(value);
        return true;
    }
    const char *text = json_is_string(value) ? json_string_value(value) : "";
    if (strcmp(text, "nan") == 0)
        *out = NAN;
    else if (strcmp(text, "inf") == 0)
        *out = INFINITY;
    else if (strcmp(text, "-inf") == 0)
        *out = -INFINITY;
    else
        return false;
    return true;
}

json_t *message_bytes(const void *bytes, size_t nbytes)
{
    static const char digits[] = "0123456789abcdef";
    const unsigned char *from = bytes;
    char *text = base_malloc(2 * nbytes + 1);
    if (!text)
        return NULL;
    for (size_t i = 0; i < nbytes; i++) {
        text[2 * i] = digits[from[i] >> 4];
        text[2 * i + 1] = digits[from[i] & 15];
    }
    text[2 * nbytes] = '\0';
    json_t *value = json_stringn(text, 2 * nbytes);
    free(text);
    return value;
}

static int digit_value(char digit)
{
    if (digit >= '0' && digit <= '9')
        return digit - '0';
    return digit >= 'a' && digit <= 'f' ? digit - 'a' + 10 : -1;
}

bool message_read_bytes(const json_t *value, void *bytes, size_t nbytes)
{
    if (!json_is_string(value) || json_string_length(value) != 2 * nbytes)
        return false;
    const char *text = json_string_value(value);
    unsigned char *to = bytes;
    for (size_t i = 0; i < nbytes; i++) {
        int high = digit_value(text[2 * i]), low = digit_value(text[2 * i + 1]);
        if (high < 0 || low < 0)
            return false;
        to[i] = (unsigned char)(high << 4 | low);
    }
    return true;
}
