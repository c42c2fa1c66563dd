#include "cli.h"

#include "base/number.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

json_t *cli_json_real(double value)
{
    if (isfinite(value))
        return json_real(value);
    return json_string(isnan(value) ? "NaN" : value > 0 ? "Infinity" : "-Infinity");
}

json_t *cli_json_text(const char *text)
{
    json_t *value = json_string(text);
    if (value)
        return value;
    char copy[1200]; /* only names from outside get here: from Optuna, or a file system */
    snprintf(copy, sizeof copy, "%s", text);
    for (char *at = copy; *at; at++)
        if ((unsigned char)*at >= 0x80)
            *at = '?';
    return json_string(copy);
}

json_t *cli_json_value(const char *text)
{
    json_t *value = json_loads(text, JSON_DECODE_ANY | JSON_ALLOW_NUL, NULL);
    return value ? value : json_null();
}

bool cli_json_write(const json_t *value, size_t flags, FILE *out)
{
    char *text = value ? json_dumps(value, flags | JSON_ENCODE_ANY | JSON_REAL_PRECISION(17)) : NULL, number[32];
    for (const char *at = text; at && *at;) {
        size_t length = strcspn(at, "\"-0123456789"); /* what is neither a text nor a number */
        fwrite(at, 1, length, out);
        at += length;
        length = strspn(at, "-0123456789.e+");
        if (*at == '"')
            for (length = 1; at[length] != '"'; length += at[length] == '\\' ? 2 : 1)
                ;
        if (*at == '"') {
            fwrite(at, 1, ++length, out);
        } else if (memchr(at, '.', length) || memchr(at, 'e', length)) {
            base_number_text(base_number_parse(at, NULL), number); /* 0.1, not 0.10000000000000001 */
            fputs(number, out);
        } else {
            fwrite(at, 1, length, out);
        }
        at += length;
    }
    free(text);
    return text && !ferror(out);
}

int cli_json_print(json_t *value)
{
    bool printed = cli_json_write(value, JSON_INDENT(2), stdout);
    json_decref(value);
    if (!printed)
        return cli_fail("cannot print the JSON");
    putchar('\n');
    return CLI_DONE;
}
