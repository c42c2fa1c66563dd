#include "cli.h"

#include <math.h>
#include <stdio.h>
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

int cli_json_print(json_t *value)
{
    int failed = !value || json_dumpf(value, stdout, JSON_INDENT(2) | JSON_ENCODE_ANY | JSON_REAL_PRECISION(17)) != 0;
    json_decref(value);
    if (failed)
        return cli_fail("cannot print the JSON");
    putchar('\n');
    return CLI_DONE;
}
