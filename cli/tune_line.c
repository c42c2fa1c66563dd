/* A sweep in one line: parameters that stand in the command itself. */
#include "cli.h"

#include "base/error.h"
#include "base/mem.h"
#include "tuner/sweep_tree.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

/* ~name( */
static bool is_drawn(const char *at)
{
    if (*at++ != '~')
        return false;
    const char *word = at;
    while (isalnum((unsigned char)*at) || *at == '_')
        at++;
    return at > word && at[strspn(at, " ")] == '(';
}

static bool is_name(const char *text, size_t length)
{
    if (!length || !(isalpha((unsigned char)text[0]) || text[0] == '_'))
        return false;
    for (size_t i = 0; i < length; i++)
        if (!isalnum((unsigned char)text[i]) && !strchr("_-.", text[i]))
            return false;
    return true;
}

/* The name that a word's distribution defines, in a new string, and the text before the placeholder. NULL and `at` NULL: it has none. */
static char *name_of(const char *word, const char *before, const char **at, size_t *prefix)
{
    const char *tilde = word;
    while ((tilde = strchr(tilde, '~')) && !is_drawn(tilde))
        tilde++;
    *at = tilde;
    *prefix = 0;
    if (!tilde)
        return NULL;
    const char *name = before;
    size_t length = before ? strlen(before) : 0;
    if (tilde > word && tilde[-1] == '=') { /* --lr=~... and lr=~... */
        name = word;
        length = (size_t)(tilde - word) - 1;
        *prefix = (size_t)(tilde - word);
    } else if (tilde > word) {
        name = word;
        length = (size_t)(tilde - word);
    } else if (!before || *before != '-') {
        return NULL;
    }
    while (length && *name == '-') {
        name++;
        length--;
    }
    return is_name(name, length) ? base_sprintf("%.*s", (int)length, name) : NULL;
}

static int take_word(sweep_node *command, sweep_node *params, const char *word, const char *before)
{
    const char *at;
    size_t prefix;
    char *name = name_of(word, before, &at, &prefix);
    if (!at)
        return sweep_append(command, sweep_string("the command", word));
    if (!name)
        return base_error(CADRE_EINVAL, "\"%.60s\" defines a parameter without a name: put it after an option, or write NAME~%.40s", word, at + 1);
    int status = CADRE_OK;
    if (sweep_get(params, name))
        status = base_error(CADRE_EINVAL, "\"%.60s\": there is a parameter %s already", word, name);
    char *origin = base_sprintf("%.60s", at), *filled = base_sprintf("%.*s{%s}", (int)prefix, word, name);
    if (status == CADRE_OK)
        status = origin && filled ? sweep_set(params, name, sweep_string(origin, at + 1)) : CADRE_ENOMEM;
    if (status == CADRE_OK)
        status = sweep_append(command, sweep_string("the command", filled));
    free(origin);
    free(filled);
    free(name);
    return status;
}

bool cli_line_mentions(char *const *words, int count)
{
    for (int i = 0; i < count; i++)
        for (const char *tilde = words[i]; (tilde = strchr(tilde, '~')); tilde++)
            if (is_drawn(tilde))
                return true;
    return false;
}

int cli_line_params(sweep_node *tree, char **words, int count)
{
    sweep_node *command = sweep_list("the command"), *params = sweep_map("the command");
    int status = command && params ? CADRE_OK : CADRE_ENOMEM;
    for (int i = 0; status == CADRE_OK && i < count; i++)
        status = take_word(command, params, words[i], i ? words[i - 1] : NULL);
    if (status == CADRE_OK && !params->count)
        status = base_error(CADRE_EINVAL, "the command has no parameter to be searched: write --lr '~loguniform(1e-4, 1e-1)'");
    if (status != CADRE_OK) {
        sweep_free(command);
        sweep_free(params);
        return status;
    }
    status = sweep_set(tree, "command", command);
    if (status != CADRE_OK) {
        sweep_free(params);
        return status;
    }
    return sweep_set(tree, "params", params);
}
