/* What CI wants to know of a sweep: a summary in Markdown, whether a target was met; junit.c has JUnit's XML. */
#include "cli.h"

#include "base/buffer.h"
#include "base/error.h"
#include "base/io.h"
#include "base/mem.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { SUMMARY_ROWS = 10 };

bool cli_outcome_met(const cli_outcome *outcome, const char *metric, bool has_best, double best, char text[300])
{
    text[0] = '\0';
    if ((outcome->has_below || outcome->has_above) && !has_best)
        snprintf(text, 300, "no trial finished with a value of %s", metric);
    else if (outcome->has_below && best < outcome->below)
        snprintf(text, 300, "the best %s is %.6g, below %.6g", metric, best, outcome->below);
    else if (outcome->has_above && best > outcome->above)
        snprintf(text, 300, "the best %s is %.6g, above %.6g", metric, best, outcome->above);
    return !*text;
}

static double seconds_of(const char *utc)
{
    struct tm tm = {0};
    double fraction = 0;
    if (sscanf(utc, "%d-%d-%d %d:%d:%d%lf", &tm.tm_year, &tm.tm_mon, &tm.tm_mday, &tm.tm_hour, &tm.tm_min, &tm.tm_sec, &fraction) < 6)
        return 0;
    tm.tm_year -= 1900;
    tm.tm_mon--;
    return (double)timegm(&tm) + fraction;
}

double cli_trial_seconds(const tracking_trial *row)
{
    double seconds = *row->ended && *row->started ? seconds_of(row->ended) - seconds_of(row->started) : 0;
    return seconds > 0 ? seconds : 0;
}

/* ---- Markdown ---- */

/* Text that does not end a table's cell. */
static int put_markdown(base_buffer *out, const char *text)
{
    int status = CADRE_OK;
    for (; status == CADRE_OK && *text; text++)
        status = base_buffer_printf(out, *text == '|' || *text == '\\' || *text == '`' || *text == '<' || *text == '*' || *text == '_' ? "\\%c" : "%c",
                                    (unsigned char)*text < 0x20 ? ' ' : *text);
    return status;
}

static const cli_run *sorted_run;

static int by_value(const void *a, const void *b)
{
    const cli_trial *x = *(const cli_trial *const *)a, *y = *(const cli_trial *const *)b;
    bool has_x = x->row.has_value && !isnan(x->row.value), has_y = y->row.has_value && !isnan(y->row.value);
    if (has_x != has_y)
        return has_x ? -1 : 1;
    if (x->row.state != y->row.state)
        return x->row.state < y->row.state ? -1 : 1; /* complete before pruned before failed */
    if (!has_x || x->row.value == y->row.value)
        return x->row.number < y->row.number ? -1 : 1;
    return (x->row.value > y->row.value) == sorted_run->maximize ? -1 : 1;
}

static int put_row(base_buffer *out, const cli_trial *trial)
{
    char params[400], value[32] = "";
    const tracking_trial *row = &trial->row;
    cli_params_text(trial->params, params, sizeof params);
    if (row->has_value)
        cli_value_text(row->value, value);
    int status = base_buffer_printf(out, "| %lld | %s | %s | %lld | %.1f | ", (long long)row->number, cli_state_name(row->state), value, (long long)row->last_report, cli_trial_seconds(row));
    if (status == CADRE_OK)
        status = put_markdown(out, params);
    if (status == CADRE_OK)
        status = base_buffer_printf(out, "%s", *row->reason ? ": " : "");
    if (status == CADRE_OK)
        status = put_markdown(out, row->reason);
    return status == CADRE_OK ? base_buffer_printf(out, " |\n") : status;
}

static int put_counts(base_buffer *out, const cli_run *run)
{
    int complete = 0, pruned = 0, failed = 0;
    char params[400];
    for (int i = 0; i < run->count; i++) {
        complete += run->trials[i].row.state == TRACKING_COMPLETE;
        pruned += run->trials[i].row.state == TRACKING_PRUNED;
        failed += run->trials[i].row.state == TRACKING_FAIL;
    }
    int status = base_buffer_printf(out, "%d trials: %d complete, %d pruned, %d failed, %d not finished\n\n", run->count, complete, pruned, failed,
                                    run->count - complete - pruned - failed);
    if (status != CADRE_OK || run->best < 0)
        return status;
    const cli_trial *best = &run->trials[run->best];
    cli_params_text(best->params, params, sizeof params);
    status = base_buffer_printf(out, "**Best:** ");
    if (status == CADRE_OK)
        status = put_markdown(out, run->metric);
    if (status == CADRE_OK)
        status = base_buffer_printf(out, " **%.6g** (trial %lld) with ", best->row.value, (long long)best->row.number);
    if (status == CADRE_OK)
        status = put_markdown(out, params);
    return status == CADRE_OK ? base_buffer_printf(out, "\n\n") : status;
}

static int put_rows(base_buffer *out, const cli_run *run)
{
    const cli_trial **order = base_calloc((size_t)run->count + 1, sizeof *order);
    if (!order)
        return CADRE_ENOMEM;
    for (int i = 0; i < run->count; i++)
        order[i] = &run->trials[i];
    sorted_run = run;
    qsort(order, (size_t)run->count, sizeof *order, by_value);
    int status = base_buffer_printf(out, "| trial | state | value | reports | seconds | parameters |\n|---|---|---|---|---|---|\n");
    for (int i = 0; status == CADRE_OK && i < run->count && i < SUMMARY_ROWS; i++)
        status = put_row(out, order[i]);
    free(order);
    return status;
}

static int make_summary(base_buffer *out, const cli_outcome *outcome, const char *name, const cli_run *run)
{
    char missed[300] = "";
    bool has_best = run && run->best >= 0;
    int status = base_buffer_printf(out, "## ");
    if (status == CADRE_OK)
        status = put_markdown(out, name);
    if (status == CADRE_OK)
        status = base_buffer_printf(out, "\n\n");
    if (status == CADRE_OK && outcome->error) {
        status = base_buffer_printf(out, "**");
        if (status == CADRE_OK)
            status = put_markdown(out, outcome->error);
        if (status == CADRE_OK)
            status = base_buffer_printf(out, "**\n\n");
    }
    if (status == CADRE_OK && !cli_outcome_met(outcome, run ? run->metric : "the metric", has_best, has_best ? run->trials[run->best].row.value : 0, missed)) {
        status = base_buffer_printf(out, "**Target missed:** ");
        if (status == CADRE_OK)
            status = put_markdown(out, missed);
        if (status == CADRE_OK)
            status = base_buffer_printf(out, "\n\n");
    }
    if (status == CADRE_OK && run)
        status = put_counts(out, run);
    return status == CADRE_OK && run && run->count ? put_rows(out, run) : status;
}

/* ---- both ---- */

int cli_outcome_check(const cli_outcome *outcome, const char *command)
{
    const char *const files[] = {outcome->junit, outcome->summary};
    for (size_t i = 0; i < 2; i++) {
        if (!files[i])
            continue;
        int fd = open(files[i], O_WRONLY | O_CLOEXEC), failed = fd < 0 ? errno : 0;
        if (fd >= 0)
            close(fd);
        const char *slash = strrchr(files[i], '/');
        char *directory = slash ? base_sprintf("%.*s", (int)(slash - files[i]) + 1, files[i]) : base_strdup(".");
        if (failed == ENOENT && *files[i] && directory) /* it would be a new one */
            failed = access(directory, W_OK | X_OK) == 0 ? 0 : errno;
        free(directory);
        if (failed)
            return cli_misuse(command, "cannot write %s: %s", files[i], strerror(failed));
    }
    return CLI_DONE;
}

static int write_one(const char *file, const cli_outcome *outcome, const char *name, const cli_run *run,
                     int (*make)(struct base_buffer *, const cli_outcome *, const char *, const cli_run *))
{
    base_buffer text = {0};
    if (!file)
        return CLI_DONE;
    int status = make(&text, outcome, name, run);
    FILE *out = status == CADRE_OK ? fopen(file, "we") : NULL;
    bool written = out && fwrite(text.data, 1, text.length, out) == text.length;
    written = out && fclose(out) == 0 && written;
    base_buffer_free(&text);
    return written ? CLI_DONE : cli_fail("cannot write %s: %s", file, strerror(errno));
}

int cli_outcome_write(const cli_outcome *outcome, const char *name, const char *path)
{
    cli_run run = {.best = -1};
    bool there = path && base_exists(path);
    if (!outcome->junit && !outcome->summary)
        return CLI_DONE;
    char *own = there ? base_strdup(path) : NULL;
    int code = own ? cli_run_open_at(&run, own) : CLI_DONE;
    if (code == CLI_DONE && own)
        code = cli_run_read(&run);
    const cli_run *read = own && code == CLI_DONE ? &run : NULL;
    int junit = write_one(outcome->junit, outcome, name, read, cli_junit);
    int summary = write_one(outcome->summary, outcome, name, read, make_summary);
    cli_run_close(&run);
    return code ? code : junit ? junit : summary;
}
