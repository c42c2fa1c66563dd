/*
 * A trial of any program: a worker that runs a command and carries its reports. The program writes a line of JSON a
 * report, {"loss": 0.3, "step": 5, "checkpoint": true}, to the descriptor that CADRE_REPORT_FD names and may read the
 * answer from the one of CADRE_CONTROL_FD: "continue", "stop", or "ignored REASON" for a line that was no report.
 * "checkpoint": true says that it has saved into CADRE_CHECKPOINT_DIR what it needs to go on after this report.
 *
 * A program that is to leave is told so by a line "stop"; then, each after its deadline, by SIGUSR1, SIGTERM and SIGKILL
 * to its process group. It shares that with its worker, so that whatever ends the worker ends the program and all that
 * it started.
 */
#ifndef TUNER_COMMAND_H
#define TUNER_COMMAND_H

#include "cadre/trainer.h"

enum { COMMAND_GRACE_S = 30 /* that a program has to leave in, unless it is said */ };

typedef struct command_spec {
    char **words;    /* of the command, ended by NULL; or */
    char *shell;     /* a line for /bin/sh; {NAME} becomes the parameter's value, quoted */
    char *program;   /* words[0] as found by command_find; NULL: it has a placeholder, or there is a shell */
    char *directory; /* where it runs; NULL: where the controller was started */
    char **env;      /* "NAME=value", ended by NULL; or NULL */
    const char **names; /* of all parameters, ended by NULL */
    double grace_s;  /* between "stop" and SIGUSR1, and again before SIGTERM; 0: 30 */
} command_spec;

enum { COMMAND_LINE_LIMIT = 64 << 10 /* bytes of a report */ };

/** The train function; `user` is a command_spec. */
int command_train(cadre_session *session, const cadre_config *config, void *user);

/** The file that `word` means, as execvp would look for it, from `directory` (NULL: here): a new string. CADRE_ENOENT,
 * CADRE_EACCES (it is there but cannot be executed). */
int command_find(const char *word, const char *directory, char **out);

/** Whether the text has a placeholder for this parameter. */
bool command_mentions(const char *text, const char *name);

/**
 * The words with this config's values in place of the placeholders: {lr} becomes the value of "lr". A word with the
 * placeholder of a parameter that this config does not have (its condition does not hold) is left out, and so is the
 * option before it when the word begins with the placeholder. Parameters that no word has a placeholder for follow as
 * "--NAME VALUE". `names`, ended by NULL: all parameters; braces around anything else are left as they are. Free with
 * command_free_words.
 */
int command_words(char *const *words, const cadre_config *config, const char *const *names, char ***out);
void command_free_words(char **words);
/** The same in a shell line: values are quoted where they need it, absent ones become ''. Nothing is appended. */
int command_shell(const char *line, const cadre_config *config, const char *const *names, char **out);
/** A config's value as text, in a new string. */
char *command_value(const cadre_config *config, const char *name);
/** Text as one word of a shell; a new string. */
char *command_quote(const char *text);

/** One line of a report. `metrics` borrows its names from `*owner` (give it back with command_line_free). `step` is 0
 * when the line has none. CADRE_EINVAL: it is no report. */
typedef struct command_report {
    cadre_metric metrics[CADRE_MAX_METRICS + 1];
    int count;
    int64_t step;
    bool checkpoint;
    char skipped[120]; /* a member that is no number and was passed over; "" for none */
    void *owner;
} command_report;
int command_line_read(const char *line, size_t nbytes, command_report *out);
void command_line_free(command_report *report);

#endif
