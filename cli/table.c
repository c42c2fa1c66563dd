#include "cli.h"

#include "base/mem.h"
#include "base/terminal.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct cli_table {
    char **cells;
    size_t count, columns;
    bool *right;
    bool short_of_memory;
};

/* What a terminal would obey becomes spaces, other than `but`. */
static void make_plain(char *text, const char *but)
{
    for (char *at = text; *at; at++)
        if (!strchr(but, *at))
            memset(at, ' ', (size_t)base_terminal_control(at));
}

void cli_vprint(FILE *out, const char *fmt, va_list args)
{
    va_list again;
    va_copy(again, args);
    int length = vsnprintf(NULL, 0, fmt, args);
    char *text = length < 0 ? NULL : base_malloc((size_t)length + 1);
    if (text)
        vsnprintf(text, (size_t)length + 1, fmt, again);
    va_end(again);
    if (!text) {
        fputs("cadre: out of memory\n", stderr); /* cli_fail comes by here */
        return;
    }
    make_plain(text, "\n");
    fputs(text, out);
    free(text);
}

void cli_print(const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    cli_vprint(stdout, fmt, args);
    va_end(args);
}

static void add_cell(cli_table *table, char *text)
{
    if (text && (table->count & (table->count - 1)) == 0) { /* grows at powers of two */
        char **larger = base_realloc(table->cells, (table->count ? 2 * table->count : 1) * sizeof *larger);
        if (larger)
            table->cells = larger;
        else {
            free(text);
            text = NULL;
        }
    }
    if (!text) {
        table->short_of_memory = true;
        return;
    }
    make_plain(text, "");
    table->cells[table->count++] = text;
}

void cli_table_free(cli_table *table)
{
    if (!table)
        return;
    for (size_t i = 0; i < table->count; i++)
        free(table->cells[i]);
    free(table->cells);
    free(table->right);
    free(table);
}

cli_table *cli_table_new(const char *heads)
{
    cli_table *table = base_calloc(1, sizeof *table);
    if (!table)
        return NULL;
    size_t columns = 1;
    for (const char *at = heads; *at; at++)
        columns += *at == '|';
    table->right = base_calloc(columns, sizeof *table->right);
    if (!table->right) {
        cli_table_free(table);
        return NULL;
    }
    while (table->columns < columns) {
        size_t length = strcspn(heads, "|");
        bool right = *heads == '>';
        table->right[table->columns++] = right;
        cli_cell(table, "%.*s", (int)length - right, heads + right);
        heads += length + 1;
    }
    return table;
}

void cli_cell(cli_table *table, const char *fmt, ...)
{
    char text[1200];
    va_list args;
    va_start(args, fmt);
    vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    add_cell(table, base_strdup(text));
}

/* Columns a text takes on a terminal: characters, not bytes. */
static int width_of(const char *text)
{
    int width = 0;
    for (; *text; text++)
        width += ((unsigned char)*text & 0xc0) != 0x80;
    return width;
}

static void print_aligned(const cli_table *table, int *widths, int indent)
{
    for (size_t i = 0; i < table->count; i++) {
        int width = width_of(table->cells[i]);
        if (width > widths[i % table->columns])
            widths[i % table->columns] = width;
    }
    for (size_t i = 0; i < table->count; i++) {
        size_t column = i % table->columns;
        bool end = column + 1 == table->columns;
        int padding = widths[column] - width_of(table->cells[i]);
        if (column == 0)
            printf("%*s", indent, "");
        if (table->right[column])
            printf("%*s%s", padding, "", table->cells[i]);
        else
            printf("%s%*s", table->cells[i], end ? 0 : padding, "");
        fputs(end ? "\n" : "  ", stdout);
    }
}

void cli_table_print(cli_table *table, int indent)
{
    if (!table)
        return;
    int *widths = base_calloc(table->columns, sizeof *widths);
    if (table->short_of_memory || !widths)
        cli_fail("out of memory");
    else if (isatty(STDOUT_FILENO))
        print_aligned(table, widths, indent);
    else
        for (size_t i = 0; i < table->count; i++)
            printf("%s%c", table->cells[i], (i + 1) % table->columns ? '\t' : '\n');
    free(widths);
    cli_table_free(table);
}

void cli_table_print_titled(cli_table *table, const char *title)
{
    if (!table || table->count == table->columns) {
        cli_table_free(table);
        return;
    }
    printf("\n%s\n", title);
    cli_table_print(table, 2);
}

const char *cli_value_text(double value, char text[32])
{
    snprintf(text, 32, "%.6g", value);
    return text;
}

const char *cli_time_text(const char *utc, char text[32])
{
    snprintf(text, 32, "%.19s", *utc ? utc : "-");
    return text;
}
