/* What the subcommands share. A failure is one line on stderr, and an exit code that tells which kind it was. */
#ifndef CLI_CLI_H
#define CLI_CLI_H

#include "tracking/view.h"

#include <jansson.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>

enum {
    CLI_DONE = 0,
    CLI_FAILED = 1,
    CLI_MISUSED = 2,       /* called wrongly, or with a bad sweep file */
    CLI_NONE_FINISHED = 3, /* no trial finished */
    CLI_TARGET_MISSED = 4, /* --fail-below, --fail-above */
    CLI_FAILED_FAST = 5,   /* a trial failed, and fail_fast was asked for */
    CLI_INTERRUPTED = 130, /* Ctrl-C or SIGTERM; can be resumed */
    CLI_STOP = 3,          /* of `cadre report`: the trial is to end */
};

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
int cli_tune(int argc, char **argv);
int cli_resume(int argc, char **argv);
int cli_best(int argc, char **argv);
int cli_export(int argc, char **argv);
int cli_rm(int argc, char **argv);
int cli_report(int argc, char **argv);
int cli_bench(int argc, char **argv);
int cli_logs(int argc, char **argv);

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
/** Print to stdout what has words from a store in it: control characters but newlines become spaces, as a terminal would obey them. */
void cli_print(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
/** The same to any file. */
void cli_vprint(FILE *out, const char *fmt, va_list args) __attribute__((format(printf, 2, 0)));
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
/** Write with jansson's `flags`, each number in the fewest digits that read back as the same; false: it failed. */
bool cli_json_write(const json_t *value, size_t flags, FILE *out);
/** Print with line ends and free; CLI_FAILED when there is no memory (NULL) or stdout is broken. */
int cli_json_print(json_t *value);

/* ---- find.c ---- */

/** Call `found` for each cadre.db in and one level below `directory`, by name. A negative status: the directory cannot
 * be read. */
int cli_each_store(const char *directory, int (*found)(const char *path, void *user), void *user);
/** The store that `run` means: a file, a directory with cadre.db in it, or a name below `storage`. NULL when none is
 * there, which is said; free() it. */
char *cli_find_store(const char *run, const char *storage);

/* ---- run.c: one experiment, for reading ---- */

typedef struct cli_trial {
    tracking_trial row;
    json_t *params; /* in their order */
} cli_trial;

typedef struct cli_run {
    char *path; /* of the store */
    tracking_store *store;
    int64_t id;
    char *name, *metric; /* metric "" when it is not known */
    bool maximize;
    int experiments; /* in that store */
    cli_trial *trials;
    int count, room;
    int best; /* among trials: complete before pruned; -1: none has a value */
} cli_run;

/** Open the run's experiment: the one named like its directory, or the only one. A failure is said; close it after one,
 * too. */
int cli_run_open(cli_run *run, const char *name, const char *storage);
/** The same by the store's path; takes it over. */
int cli_run_open_at(cli_run *run, char *path);
/** Read all trials and find the best. */
int cli_run_read(cli_run *run);
void cli_run_close(cli_run *run);
/** "lr=0.1 optimizer=adam", cut where it is long. */
void cli_params_text(const json_t *params, char *text, size_t nbytes);
/** A param's value as text; free() it. */
char *cli_param_value(const json_t *value);

/* ---- outcome.c and junit.c: what CI wants to know of a sweep ---- */

typedef struct cli_outcome {
    const char *junit, *summary; /* files to write; NULL: none */
    const char *error;           /* the sweep's own failure, in a line; NULL: none */
    bool has_below, has_above;
    double below, above; /* the best value may not be below, above */
} cli_outcome;

/** Whether the best value is as good as was asked for; `text` says what is wrong. */
bool cli_outcome_met(const cli_outcome *outcome, const char *metric, bool has_best, double best, char text[300]);
/** Can the files be written? CLI_MISUSED when not, which is said: better before a sweep than after it. */
int cli_outcome_check(const cli_outcome *outcome, const char *command);
/** Write the files; `path` is the store's, NULL or missing when the sweep did not come so far. */
int cli_outcome_write(const cli_outcome *outcome, const char *name, const char *path);
/** How long a trial took, from its beginning to its end; 0 while it has none. */
double cli_trial_seconds(const tracking_trial *row);
struct base_buffer;
/** Append JUnit's XML; `run` is NULL when nothing was begun. */
int cli_junit(struct base_buffer *out, const cli_outcome *outcome, const char *name, const cli_run *run);

/* ---- tune_line.c: a sweep in one line ---- */

struct sweep_node;
/** Put command and params into the tree from the words of a command line: an argument "~distribution(...)" after an
 * option --NAME, "--NAME=~distribution(...)", or "NAME~distribution(...)". */
int cli_line_params(struct sweep_node *tree, char **words, int count);
/** Whether a "~distribution(" stands in any of the words. */
bool cli_line_mentions(char *const *words, int count);

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

/* ---- importance.c: what mattered ---- */

/** Print which parameters set the best trials apart, and why the best one is; nothing where no parameter was searched. */
int cli_importance_print(tracking_store *store, const tracking_experiment_row *experiment);
/** The same as JSON, null where no parameter was searched; NULL: it failed. */
json_t *cli_importance_json(tracking_store *store, const tracking_experiment_row *experiment);

/* ---- logs.c: what workers printed ---- */

/** Print the last `lines` lines that rank `rank` wrote to its log in that attempt, each after "    "; nothing where there is none. `path`: of the store. */
void cli_log_tail(const char *path, int64_t trial_number, int rank, int attempt, int lines);

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
