/* `cadre export`: the trials as CSV or JSON lines, or the whole store for Optuna. */
#include "cli.h"

#include "base/buffer.h"
#include "base/error.h"
#include "base/io.h"
#include "base/mem.h"

#include <errno.h>
#include <math.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* ---- the last value of each metric, and all of them ---- */

struct values {
    json_t *last;    /* name to value */
    json_t *reports; /* list of {report, step, metrics} */
};

static int note_value(int64_t report, int64_t step, const char *name, double value, void *user)
{
    struct values *values = user;
    json_t *item = json_array_get(values->reports, json_array_size(values->reports) - 1);
    if (!item || json_integer_value(json_object_get(item, "report")) != report) {
        item = json_pack("{s:I, s:I, s:{}}", "report", (json_int_t)report, "step", (json_int_t)step, "metrics");
        if (!item || json_array_append_new(values->reports, item) != 0)
            return base_error(CADRE_ENOMEM, "out of memory");
    }
    int failed = json_object_set_new(json_object_get(item, "metrics"), name, cli_json_real(value));
    failed |= json_object_set_new(values->last, name, cli_json_real(value));
    return failed ? base_error(CADRE_ENOMEM, "out of memory") : CADRE_OK;
}

static int read_values(const cli_run *run, const cli_trial *trial, struct values *values)
{
    *values = (struct values){json_object(), json_array()};
    if (!values->last || !values->reports)
        return base_error(CADRE_ENOMEM, "out of memory");
    return tracking_each_metric(run->store, trial->row.id, note_value, values);
}

static void free_values(struct values *values)
{
    json_decref(values->last);
    json_decref(values->reports);
}

/* ---- CSV (RFC 4180) ---- */

static void put_cell(FILE *out, const char *text, bool first)
{
    if (!first)
        fputc(',', out);
    if (!text[strcspn(text, ",\"\r\n")]) {
        fputs(text, out);
        return;
    }
    fputc('"', out);
    for (; *text; text++) {
        if (*text == '"')
            fputc('"', out);
        fputc(*text, out);
    }
    fputc('"', out);
}

static void put_value(FILE *out, const json_t *value)
{
    char *text = value && !json_is_null(value) ? cli_param_value(value) : NULL;
    put_cell(out, text ? text : "", false);
    free(text);
}

static int note_names(json_t *names, const json_t *of)
{
    const char *name;
    json_t *value;
    json_object_foreach((json_t *)(uintptr_t)of, name, value) if (json_object_set_new(names, name, json_null()) != 0) return CADRE_ENOMEM;
    return CADRE_OK;
}

static void put_heads(FILE *out, const char *prefix, const json_t *names)
{
    const char *name;
    json_t *value;
    json_object_foreach((json_t *)(uintptr_t)names, name, value)
    {
        char *head = base_sprintf("%s%s", prefix, name);
        put_cell(out, head ? head : name, false);
        free(head);
    }
}

static int write_csv(const cli_run *run, FILE *out)
{
    json_t *params = json_object(), *metrics = json_object();
    const char *name;
    json_t *unused;
    struct values values;
    int status = params && metrics ? CADRE_OK : CADRE_ENOMEM;
    for (int i = 0; status == CADRE_OK && i < run->count; i++) {
        status = read_values(run, &run->trials[i], &values);
        if (status == CADRE_OK)
            status = note_names(params, run->trials[i].params);
        if (status == CADRE_OK)
            status = note_names(metrics, values.last);
        free_values(&values);
    }
    fputs("trial,state,value,reports,started,ended,reason", out);
    put_heads(out, "params.", params);
    put_heads(out, "metrics.", metrics);
    fputc('\n', out);
    for (int i = 0; status == CADRE_OK && i < run->count; i++) {
        const cli_trial *trial = &run->trials[i];
        const tracking_trial *row = &trial->row;
        status = read_values(run, trial, &values);
        fprintf(out, "%lld,%s", (long long)row->number, cli_state_name(row->state));
        json_t *value = row->has_value ? cli_json_real(row->value) : NULL;
        put_value(out, value);
        json_decref(value);
        fprintf(out, ",%lld,%s,%s", (long long)row->last_report, row->started, row->ended);
        put_cell(out, row->reason, false);
        json_object_foreach(params, name, unused) put_value(out, json_object_get(trial->params, name));
        json_object_foreach(metrics, name, unused) put_value(out, json_object_get(values.last, name));
        fputc('\n', out);
        free_values(&values);
    }
    json_decref(params);
    json_decref(metrics);
    return status;
}

/* ---- JSON lines ---- */

static int write_lines(const cli_run *run, FILE *out)
{
    int status = CADRE_OK;
    for (int i = 0; status == CADRE_OK && i < run->count; i++) {
        const cli_trial *trial = &run->trials[i];
        const tracking_trial *row = &trial->row;
        struct values values;
        status = read_values(run, trial, &values);
        json_t *line = status == CADRE_OK ? json_pack("{s:I, s:s, s:o, s:O, s:O, s:O, s:s, s:s, s:o}", "trial", (json_int_t)row->number, "state",
                                                      cli_state_name(row->state), "value", row->has_value ? cli_json_real(row->value) : json_null(),
                                                      "params", trial->params, "metrics", values.last, "reports", values.reports, "started",
                                                      row->started, "ended", row->ended, "reason", cli_json_text(row->reason))
                                          : NULL;
        if (status == CADRE_OK && !cli_json_write(line, JSON_COMPACT, out))
            status = base_error(CADRE_EIO, "cannot write the line of trial %lld", (long long)row->number);
        fputc('\n', out);
        json_decref(line);
        free_values(&values);
    }
    return status;
}

static int write_table(const cli_run *run, bool csv, const char *file)
{
    FILE *out = file ? fopen(file, "we") : stdout;
    if (!out)
        return cli_fail("cannot write %s: %s", file, strerror(errno));
    int status = csv ? write_csv(run, out) : write_lines(run, out);
    errno = 0; /* an error before, which stdio remembers, has left none behind */
    bool broken = fflush(out) != 0 || ferror(out);
    if (file)
        broken |= fclose(out) != 0;
    if (status != CADRE_OK)
        return cli_fail("%s", cadre_error_message());
    return broken ? cli_fail("cannot write %s%s%s", file ? file : "to standard output", errno ? ": " : "", errno ? strerror(errno) : "") : CLI_DONE;
}

/* ---- Optuna: the store is one already; a snapshot has its log folded in ---- */

static int snapshot(const char *path, const char *file)
{
    sqlite3 *db = NULL;
    sqlite3_stmt *statement = NULL;
    if (base_exists(file))
        return cli_fail("%s is there already", file);
    char *temporary = base_sprintf("%s.tmp-%d", file, (int)getpid());
    if (!temporary)
        return cli_fail("out of memory");
    int result = sqlite3_open_v2(path, &db, SQLITE_OPEN_READONLY, NULL);
    if (result == SQLITE_OK)
        result = sqlite3_busy_timeout(db, 10000);
    if (result == SQLITE_OK)
        result = sqlite3_prepare_v2(db, "VACUUM INTO ?", -1, &statement, NULL);
    if (result == SQLITE_OK)
        result = sqlite3_bind_text(statement, 1, temporary, -1, SQLITE_STATIC);
    if (result == SQLITE_OK && (result = sqlite3_step(statement)) == SQLITE_DONE)
        result = SQLITE_OK;
    int code = result == SQLITE_OK ? CLI_DONE : cli_fail("write %s: %s", file, db ? sqlite3_errmsg(db) : "out of memory");
    sqlite3_finalize(statement);
    sqlite3_close(db);
    if (code == CLI_DONE && base_rename(temporary, file) != CADRE_OK)
        code = cli_fail("%s", cadre_error_message());
    if (code != CLI_DONE)
        unlink(temporary);
    free(temporary);
    return code;
}

int cli_export(int argc, char **argv)
{
    const char *format = NULL, *file = NULL, *to = NULL, *storage = "runs", *words[2] = {0};
    const cli_option known[] = {{"--format", NULL, &format}, {"-o", NULL, &file}, {"--output", NULL, &file}, {"--to", NULL, &to},
                                {"--storage", NULL, &storage}, {NULL, NULL, NULL}};
    int count = cli_options("export", argc, argv, known, words, 2);
    if (count < 0)
        return CLI_MISUSED;
    if (count == 0)
        return cli_misuse("export", "which run? Name an experiment, its directory, or its cadre.db");
    if (to && strcmp(to, "optuna") != 0)
        return cli_misuse("export", "--to \"%s\": there is optuna", to);
    if (to && (count < 2 || format || file))
        return cli_misuse("export", count < 2 ? "--to optuna needs a file" : "--to optuna has no --format and no -o");
    if (!to && count == 2)
        return cli_misuse("export", "unexpected argument \"%s\"", words[1]);
    if (format && strcmp(format, "csv") != 0 && strcmp(format, "jsonl") != 0)
        return cli_misuse("export", "--format \"%s\": there are csv and jsonl", format);
    cli_run run;
    int code = cli_run_open(&run, words[0], storage);
    if (code == CLI_DONE && to)
        code = snapshot(run.path, words[1]);
    else if (code == CLI_DONE && (code = cli_run_read(&run)) == CLI_DONE)
        code = write_table(&run, !format || strcmp(format, "csv") == 0, file);
    cli_run_close(&run);
    return code;
}
