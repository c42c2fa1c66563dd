/* What the subcommands share. Exit codes: 0 done, 1 it failed (one line on stderr says how), 2 it was called wrongly.
 */
#ifndef CLI_CLI_H
#define CLI_CLI_H

#include "tracking/view.h"

#include <jansson.h>
#include <stdbool.h>

enum { CLI_DONE = 0, CLI_FAILED = 1, CLI_MISUSED = 2 };

/* ---- main.c: options ---- */

typedef struct cli_option {
    const char *name;   /* "--json" */
    bool *flag;         /* set when it is there, for one without a value */
    const char **value; /* its value ("--last 5" or "--last=5"), for one with */
} cli_option;

/**
 * Take options, ended by one without a name, out of the words; the other words go to `words`. Answers how many those
 * are; -1: called wrongly, which is said. "--" ends the options.
 */
int cli_options(const char *command, int argc, char **argv, const cli_option *options, const char **words,
                int max_words);
/** A number of at least `least`; false: it is none, which is said. */
bool cli_number(const char *command, const char *option, const char *text, long least, long *number);
/** "cadre: MESSAGE" on stderr; answers CLI_FAILED. */
int cli_fail(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
/** The same about a wrong call; answers CLI_MISUSED. */
int cli_misuse(const char *command, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* ---- subcommands: argv[0] is the subcommand's name ---- */

int cli_ls(int argc, char **argv);
int cli_show(int argc, char **argv);
int cli_info(int argc, char **argv);

/* ---- table.c: columns that are aligned on a terminal, separated by tabs when piped ---- */

typedef struct cli_table cli_table;

/** `heads`: the columns' names separated by '|'; one that begins with '>' is aligned to the right. NULL: no memory. */
cli_table *cli_table_new(const char *heads);
/** The next cell, row by row; control characters become spaces. */
void cli_cell(cli_table *table, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/** Also after memory ran out, which print says. NULL is fine. */
void cli_table_free(cli_table *table);
/** Print to stdout and free. `indent` spaces before each line on a terminal. */
void cli_table_print(cli_table *table, int indent);
/** The same below a line with its title, and nothing at all when it has no rows. */
void cli_table_print_titled(cli_table *table, const char *title);
/** A number as short as it can be while six digits are right. */
const char *cli_value_text(double value, char text[32]);
/** UTC text without its fraction of a second; "-" for "". */
const char *cli_time_text(const char *utc, char text[32]);

/* ---- json.c ---- */

/** A number, or "NaN", "Infinity", "-Infinity", which JSON has no numbers for. */
json_t *cli_json_real(double value);
/** Text, with "?" for what is not UTF-8. */
json_t *cli_json_text(const char *text);
/** The value of JSON text, null when it is none. */
json_t *cli_json_value(const char *text);
/** Print with line ends and free; CLI_FAILED when there is no memory (NULL) or stdout is broken. */
int cli_json_print(json_t *value);

/* ---- find.c ---- */

/** Call `found` for each cadre.db in and one level below `directory`, by name. A negative status: the directory cannot
 * be read. */
int cli_each_store(const char *directory, int (*found)(const char *path, void *user), void *user);
/** The store that `run` means: a file, a directory with cadre.db in it, or a name below `storage`. NULL when none is
 * there, which is said; free() it. */
char *cli_find_store(const char *run, const char *storage);

/* ---- show.c and show_json.c ---- */

typedef struct cli_show_options {
    const char *run, *storage;
    bool all, events, json;
    long last;  /* reports shown at most, -1: not said */
    long trial; /* number, -1: not said */
} cli_show_options;

const char *cli_state_name(tracking_state state); /* "running" */
/** Whether checkpoint `at` is the best by its score; the oldest of equals. */
bool cli_is_best(const tracking_checkpoint *list, int count, int at, tracking_direction direction);
json_t *cli_experiment_json(tracking_store *store, const char *path, const tracking_experiment_row *experiment,
                            const cli_show_options *options);

/* ---- machine.c: what the machine has ---- */

typedef struct cli_machine {
    char host[256], system[256], processor[256];
    int cores_online, cores_usable; /* usable: what this process may run on */
    double memory_gib, available_gib;
    int gpus;
    char gpu_names[512], gpu_driver[128]; /* "" when not known */
} cli_machine;

void cli_machine_look(cli_machine *machine);

#endif
