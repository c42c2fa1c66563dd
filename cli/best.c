/* `cadre best`: a config, ready to be pasted. */
#include "cli.h"

#include "tuner/command.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

static int print_flags(const json_t *params)
{
    const char *name, *blank = "";
    json_t *value;
    json_object_foreach((json_t *)(uintptr_t)params, name, value)
    {
        /* A name, too, may be somebody else's: what is pasted is options and nothing more. */
        char *plain = cli_param_value(value), *quoted = plain ? command_quote(plain) : NULL, *known = command_quote(name);
        if (quoted && known)
            printf("%s--%s %s", blank, known, quoted);
        bool printed = quoted && known;
        blank = " ";
        free(plain);
        free(quoted);
        free(known);
        if (!printed)
            return cli_fail("out of memory");
    }
    putchar('\n');
    return CLI_DONE;
}

/* Plain YAML for a text: letters first, and no word that means something else. */
static bool is_plain_key(const char *name)
{
    static const char *const words[] = {"null", "true", "false", "yes", "no", "on", "off", "y", "n", NULL};
    if (!name[0] || strchr("0123456789.-", name[0]) || name[strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ_0123456789.-")])
        return false;
    for (const char *const *word = words; *word; word++)
        if (strcasecmp(name, *word) == 0)
            return false;
    return true;
}

/* JSON's texts are YAML's; a number is written as flags have it. */
static int print_yaml(const json_t *params)
{
    const char *name;
    json_t *value;
    json_object_foreach((json_t *)(uintptr_t)params, name, value)
    {
        json_t *key = json_string(name);
        char *left = is_plain_key(name) ? strdup(name) : json_dumps(key, JSON_ENCODE_ANY);
        char *right = json_is_string(value) ? json_dumps(value, JSON_ENCODE_ANY) : cli_param_value(value);
        if (left && right)
            printf("%s: %s\n", left, right);
        json_decref(key);
        free(left);
        free(right);
        if (!left || !right)
            return cli_fail("out of memory");
    }
    return CLI_DONE;
}

static const cli_trial *choose(const cli_run *run, long number)
{
    for (int i = 0; number >= 0 && i < run->count; i++)
        if (run->trials[i].row.number == number)
            return &run->trials[i];
    return number < 0 && run->best >= 0 ? &run->trials[run->best] : NULL;
}

int cli_best(int argc, char **argv)
{
    bool json = false, yaml = false;
    const char *storage = "runs", *trial = NULL, *name = NULL;
    long number = -1;
    const cli_option known[] = {{"--json", &json, NULL}, {"--yaml", &yaml, NULL}, {"--trial", NULL, &trial}, {"--storage", NULL, &storage}, {NULL, NULL, NULL}};
    int words = cli_options("best", argc, argv, known, &name, 1);
    if (words < 0 || (trial && !cli_number("best", "--trial", trial, 0, &number)))
        return CLI_MISUSED;
    if (words == 0)
        return cli_misuse("best", "which run? Name an experiment, its directory, or its cadre.db");
    if (json && yaml)
        return cli_misuse("best", "--json and --yaml: give one of them");
    cli_run run;
    int code = cli_run_open(&run, name, storage);
    if (code == CLI_DONE)
        code = cli_run_read(&run);
    const cli_trial *best = code == CLI_DONE ? choose(&run, number) : NULL;
    if (code == CLI_DONE && !best)
        code = number >= 0 ? cli_fail("%s has no trial %ld", run.path, number) : cli_fail("no trial of %s has finished", run.path);
    else if (code == CLI_DONE)
        code = json ? cli_json_print(json_incref(best->params)) : yaml ? print_yaml(best->params) : print_flags(best->params);
    cli_run_close(&run);
    return code;
}
