/* One parameter from text: name '(' value (',' value)* ')'. */
#include "base/error.h"
#include "base/mem.h"
#include "base/number.h"
#include "tuner/space.h"

#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { LONGEST = 1 << 20 }; /* bytes of a distribution's text: nobody writes more, and a length fits an int */

typedef struct parser {
    const char *name; /* of the parameter, for messages */
    const char *text, *at;
    tuner_arena *arena;
    cadre_value *values;
    int *columns; /* where each value began */
    int count, room;
} parser;

static int column(const parser *p, const char *at) { return (int)(at - p->text) + 1; }

static int complain(const parser *p, const char *at, const char *what)
{
    return base_error(CADRE_EINVAL, "%s: column %d: %s", p->name, column(p, at), what);
}

static void skip_blanks(parser *p)
{
    while (*p->at == ' ' || *p->at == '\t')
        p->at++;
}

static const struct {
    const char *name;
    cadre_param_kind kind;
    int least, most; /* values; most -1: any number of any kind */
} distributions[] = {
    {"uniform", CADRE_PARAM_UNIFORM, 2, 2},       {"quniform", CADRE_PARAM_QUNIFORM, 3, 3},
    {"loguniform", CADRE_PARAM_LOGUNIFORM, 2, 2}, {"qloguniform", CADRE_PARAM_QLOGUNIFORM, 3, 3},
    {"randn", CADRE_PARAM_RANDN, 0, 2},           {"qrandn", CADRE_PARAM_QRANDN, 3, 3},
    {"randint", CADRE_PARAM_RANDINT, 2, 2},       {"qrandint", CADRE_PARAM_QRANDINT, 3, 3},
    {"lograndint", CADRE_PARAM_LOGRANDINT, 2, 2}, {"qlograndint", CADRE_PARAM_QLOGRANDINT, 3, 3},
    {"choice", CADRE_PARAM_CHOICE, 0, -1},        {"grid", CADRE_PARAM_GRID, 0, -1},
    {"grid_search", CADRE_PARAM_GRID, 0, -1},
};
#define DISTRIBUTIONS ((int)(sizeof distributions / sizeof *distributions))

static int find_distribution(parser *p, int *which)
{
    const char *start = p->at;
    while (isalnum((unsigned char)*p->at) || *p->at == '_')
        p->at++;
    size_t length = (size_t)(p->at - start);
    for (int i = 0; i < DISTRIBUTIONS; i++)
        if (strlen(distributions[i].name) == length && strncmp(distributions[i].name, start, length) == 0) {
            *which = i;
            return CADRE_OK;
        }
    return base_error(CADRE_EINVAL,
                      "%s: column %d: there is no distribution \"%.*s\"; there are uniform, quniform, loguniform, "
                      "qloguniform, randn, qrandn, "
                      "randint, qrandint, lograndint, qlograndint, choice and grid",
                      p->name, column(p, start), (int)(length > 40 ? 40 : length), start);
}

static int quoted(parser *p, cadre_value *out)
{
    const char *start = p->at;
    char quote = *p->at++;
    char *to = tuner_arena_take(p->arena, strlen(p->at) + 1, 1);
    if (!to)
        return CADRE_ENOMEM;
    *out = (cadre_value){.kind = CADRE_VALUE_STRING, .string = to};
    while (*p->at && *p->at != quote) {
        if (*p->at == '\\' && p->at[1])
            p->at++;
        *to++ = *p->at++;
    }
    if (!*p->at)
        return complain(p, start, "the quote is not closed");
    p->at++;
    return CADRE_OK;
}

/* What a bare word is: true and false, a whole number, a number, else a string. */
static int bare(parser *p, cadre_value *out)
{
    const char *start = p->at;
    while (*p->at && *p->at != ',' && *p->at != ')' && *p->at != '(' && *p->at != '"' && *p->at != '\'')
        p->at++;
    if (*p->at == '(' || *p->at == '"' || *p->at == '\'')
        return complain(p, p->at, "this character needs quotes around its value");
    size_t length = (size_t)(p->at - start);
    while (length && (start[length - 1] == ' ' || start[length - 1] == '\t'))
        length--;
    if (!length)
        return complain(p, start, "a value is missing");
    char *word = tuner_arena_take(p->arena, length + 1, 1);
    if (!word)
        return CADRE_ENOMEM;
    memcpy(word, start, length);
    char *end;
    errno = 0;
    long long integer = strtoll(word, &end, 10);
    if (!*end && !errno) {
        *out = (cadre_value){.kind = CADRE_VALUE_INT, .integer = integer};
        return CADRE_OK;
    }
    double number = base_number_parse(word, &end);
    bool digits = word[strspn(word, "+-.")] >= '0' && word[strspn(word, "+-.")] <= '9'; /* not inf, nan */
    if (!*end && digits && !strpbrk(word, "xX"))
        *out = (cadre_value){.kind = CADRE_VALUE_DOUBLE, .number = number};
    else if (strcmp(word, "true") == 0 || strcmp(word, "false") == 0)
        *out = (cadre_value){.kind = CADRE_VALUE_BOOL, .boolean = *word == 't'};
    else
        *out = (cadre_value){.kind = CADRE_VALUE_STRING, .string = word};
    return CADRE_OK;
}

static int push(parser *p, const cadre_value *value, const char *start)
{
    if (p->count == p->room) {
        int room = p->room ? 2 * p->room : 8;
        cadre_value *values = tuner_arena_take(p->arena, (size_t)room, sizeof *values);
        int *columns = tuner_arena_take(p->arena, (size_t)room, sizeof *columns);
        if (!values || !columns)
            return CADRE_ENOMEM;
        if (p->count) {
            memcpy(values, p->values, (size_t)p->count * sizeof *values);
            memcpy(columns, p->columns, (size_t)p->count * sizeof *columns);
        }
        p->values = values;
        p->columns = columns;
        p->room = room;
    }
    p->columns[p->count] = column(p, start);
    p->values[p->count++] = *value;
    return CADRE_OK;
}

static int parse_values(parser *p)
{
    skip_blanks(p);
    if (*p->at != '(')
        return complain(p, p->at, "'(' expected");
    p->at++;
    skip_blanks(p);
    if (*p->at == ')') {
        p->at++;
        return CADRE_OK;
    }
    for (;;) {
        skip_blanks(p);
        const char *start = p->at;
        cadre_value value = {0};
        int status = *p->at == '"' || *p->at == '\'' ? quoted(p, &value) : bare(p, &value);
        if (!status)
            status = push(p, &value, start);
        if (status)
            return status;
        skip_blanks(p);
        if (*p->at == ')')
            break;
        if (!*p->at)
            return complain(p, p->at, "the ')' is missing");
        if (*p->at != ',')
            return complain(p, p->at, "',' or ')' expected");
        p->at++;
    }
    p->at++;
    return CADRE_OK;
}

static int number_at(const parser *p, int i, double *out)
{
    const cadre_value *value = &p->values[i];
    if (value->kind != CADRE_VALUE_INT && value->kind != CADRE_VALUE_DOUBLE)
        return complain(p, p->text + p->columns[i] - 1, "a number expected");
    *out = value->kind == CADRE_VALUE_INT ? (double)value->integer : value->number;
    return CADRE_OK;
}

static int fill_param(const parser *p, int which, cadre_param *out)
{
    out->kind = distributions[which].kind;
    if (distributions[which].most < 0) {
        out->mixed = p->values;
        out->count = p->count;
        return p->count
                   ? CADRE_OK
                   : base_error(CADRE_EINVAL, "%s: column %d: %s of nothing", p->name, 1, distributions[which].name);
    }
    if (p->count < distributions[which].least || p->count > distributions[which].most || p->count == 1)
        return base_error(CADRE_EINVAL, "%s: column %d: %s takes %d numbers, not %d", p->name,
                          column(p, p->at) - 1, distributions[which].name, distributions[which].most, p->count);
    if (out->kind == CADRE_PARAM_RANDN)
        out->high = 1;
    double *places[] = {&out->low, &out->high, &out->q};
    int status = CADRE_OK;
    for (int i = 0; i < p->count && !status; i++)
        status = number_at(p, i, places[i]);
    return status;
}

static int parse(parser *p, cadre_param *out)
{
    int which = 0;
    skip_blanks(p);
    int status = find_distribution(p, &which);
    if (!status)
        status = parse_values(p);
    skip_blanks(p);
    if (!status && *p->at)
        status = complain(p, p->at, "nothing more expected");
    return status ? status : fill_param(p, which, out);
}

int cadre_param_parse(const char *name, const char *text, cadre_param *out)
{
    if (!name || !*name || !text)
        return base_error(CADRE_EINVAL, "a parameter needs a name and a text");
    if (strlen(text) > LONGEST)
        return base_error(CADRE_EINVAL, "%s: a distribution of more than %d bytes", name, LONGEST);
    tuner_arena *arena = base_calloc(1, sizeof *arena);
    if (!arena)
        return CADRE_ENOMEM;
    parser p = {.name = name, .text = text, .at = text, .arena = arena};
    cadre_param param = {.owned = arena};
    param.name = tuner_arena_string(arena, name);
    int status = param.name ? parse(&p, &param) : CADRE_ENOMEM;
    if (status) {
        tuner_arena_free(arena);
        free(arena);
        return status;
    }
    *out = param;
    return CADRE_OK;
}

void cadre_param_clear(cadre_param *param)
{
    if (!param || !param->owned)
        return;
    tuner_arena *arena = param->owned;
    tuner_arena_free(arena);
    free(arena);
    *param = (cadre_param){.kind = CADRE_PARAM_END};
}
