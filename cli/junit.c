/*
 * JUnit's XML of a sweep: a test case a trial. A failed trial and those that tried it again are one case, under the first one's name: as Maven's
 * Surefire has it, it has passed, with a flakyFailure for each try before, when the last try ended well, and has failed when none did.
 */
#include "cli.h"

#include "base/buffer.h"
#include "base/error.h"
#include "base/mem.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct tally {
    int tests, failures, skipped;
    double seconds;
};

/* Text of XML 1.0: no control characters, and nothing that is not UTF-8. */
static int put_xml(base_buffer *out, const char *text)
{
    json_t *plain = cli_json_text(text); /* replaces what is not UTF-8 */
    int status = plain ? CADRE_OK : CADRE_ENOMEM;
    for (const char *at = plain ? json_string_value(plain) : ""; status == CADRE_OK && *at; at++) {
        const char *named = *at == '&' ? "&amp;" : *at == '<' ? "&lt;" : *at == '>' ? "&gt;" : *at == '"' ? "&quot;" : NULL;
        unsigned char byte = (unsigned char)*at;
        bool forbidden = byte < 0x20 || byte == 0x7f || (byte == 0xef && (unsigned char)at[1] == 0xbf && (unsigned char)at[2] >= 0xbe);
        if (forbidden && byte == 0xef)
            at += 2; /* U+FFFE and U+FFFF are no characters of XML */
        status = named ? base_buffer_append(out, named, strlen(named)) : base_buffer_append(out, forbidden ? "?" : at, 1);
    }
    json_decref(plain);
    return status;
}

/* ATTRIBUTE="text" after what is there. */
static int put_attribute(base_buffer *out, const char *before, const char *text)
{
    int status = base_buffer_printf(out, "%s=\"", before);
    if (status == CADRE_OK)
        status = put_xml(out, text);
    return status == CADRE_OK ? base_buffer_printf(out, "\"") : status;
}

static int open_case(base_buffer *out, const char *suite, const char *name, double seconds)
{
    int status = put_attribute(out, "  <testcase classname", suite);
    if (status == CADRE_OK)
        status = put_attribute(out, " name", name);
    return status == CADRE_OK ? base_buffer_printf(out, " time=\"%.3f\">", seconds) : status;
}

/* <ELEMENT message="..."/> within a case; nothing for NULL. */
static int put_element(base_buffer *out, const char *element, const char *type, const char *message)
{
    if (!element)
        return CADRE_OK;
    int status = base_buffer_printf(out, "<%s", element);
    if (status == CADRE_OK)
        status = put_attribute(out, " message", message);
    if (status == CADRE_OK && type)
        status = put_attribute(out, " type", type);
    return status == CADRE_OK ? base_buffer_printf(out, "/>") : status;
}

static int close_case(base_buffer *out) { return base_buffer_printf(out, "</testcase>\n"); }

static int put_case(base_buffer *out, const char *suite, const char *name, const char *element, const char *message)
{
    int status = open_case(out, suite, name, 0);
    if (status == CADRE_OK)
        status = put_element(out, element, NULL, message);
    return status == CADRE_OK ? close_case(out) : status;
}

/* ---- trials ---- */

/* The next try of the same line after trials[at]; -1: it was the last one. */
static int next_try(const cli_run *run, int at)
{
    const tracking_trial *row = &run->trials[at].row;
    int64_t first = row->first_try >= 0 ? row->first_try : row->number;
    for (int i = at + 1; row->state == TRACKING_FAIL && i < run->count; i++)
        if (run->trials[i].row.first_try == first)
            return i;
    return -1;
}

/* Whether trials[at] is a case of its own: no earlier failed one has it as its next try. (Other programs write first_try, too.) */
static bool begins_line(const cli_run *run, int at)
{
    int64_t first = run->trials[at].row.first_try;
    for (int i = 0; first >= 0 && i < at; i++)
        if ((run->trials[i].row.number == first || run->trials[i].row.first_try == first) && next_try(run, i) == at)
            return false;
    return true;
}

/* The element that tells how a line of tries ended, by its last one; NULL: it has passed. */
static const char *verdict(const cli_run *run, const tracking_trial *row, char message[600])
{
    snprintf(message, 600, "%s", row->reason);
    if (row->state == TRACKING_PRUNED)
        snprintf(message, 600, "pruned after %" PRId64 " reports, %s %.6g", row->last_report, run->metric, row->value);
    else if (row->state == TRACKING_RUNNING || row->state == TRACKING_WAITING)
        snprintf(message, 600, "not finished");
    return row->state == TRACKING_COMPLETE ? NULL : row->state == TRACKING_FAIL ? "failure" : "skipped";
}

/* A line of tries that begins with trials[at]. Surefire's first failure is the failure, the later ones are rerunFailures. */
static int put_line(base_buffer *out, const cli_run *run, int at, struct tally *tally)
{
    char params[300], name[400], message[600], tried[700];
    const tracking_trial *first = &run->trials[at].row;
    int last = at;
    double seconds = cli_trial_seconds(first);
    for (int next = at; (next = next_try(run, next)) >= 0; last = next)
        seconds += cli_trial_seconds(&run->trials[next].row);
    const char *element = verdict(run, &run->trials[last].row, message);
    bool failed = element && strcmp(element, "failure") == 0;
    cli_params_text(run->trials[at].params, params, sizeof params);
    snprintf(name, sizeof name, "trial %" PRId64 ": %s", first->number, params);
    int status = open_case(out, run->name, name, seconds);
    if (status == CADRE_OK)
        status = put_element(out, element, NULL, failed ? first->reason : message);
    for (int try = failed ? next_try(run, at) : at; status == CADRE_OK && try >= 0 && (failed || try != last); try = next_try(run, try)) {
        snprintf(tried, sizeof tried, "trial %" PRId64 ": %s", run->trials[try].row.number, run->trials[try].row.reason);
        status = put_element(out, failed ? "rerunFailure" : "flakyFailure", "failed", tried);
    }
    tally->tests++;
    tally->failures += failed;
    tally->skipped += element && !failed;
    tally->seconds += seconds;
    return status == CADRE_OK ? close_case(out) : status;
}

static int put_suite(base_buffer *out, const char *name, const struct tally *tally, bool error, const base_buffer *cases)
{
    int status = base_buffer_printf(out, "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n");
    if (status == CADRE_OK)
        status = put_attribute(out, "<testsuite name", name);
    if (status == CADRE_OK)
        status = base_buffer_printf(out, " tests=\"%d\" failures=\"%d\" errors=\"%d\" skipped=\"%d\" time=\"%.3f\">\n", tally->tests, tally->failures, error,
                                    tally->skipped, tally->seconds);
    if (status == CADRE_OK && cases->length)
        status = base_buffer_append(out, cases->data, cases->length);
    return status == CADRE_OK ? base_buffer_printf(out, "</testsuite>\n") : status;
}

int cli_junit(base_buffer *out, const cli_outcome *outcome, const char *name, const cli_run *run)
{
    base_buffer cases = {0};
    struct tally tally = {.tests = 1};
    int status = CADRE_OK;
    char missed[300];
    for (int i = 0; run && status == CADRE_OK && i < run->count; i++)
        if (begins_line(run, i))
            status = put_line(&cases, run, i, &tally);
    bool has_best = run && run->best >= 0;
    if (status == CADRE_OK && (outcome->has_below || outcome->has_above)) {
        bool met = cli_outcome_met(outcome, run ? run->metric : "the metric", has_best, has_best ? run->trials[run->best].row.value : 0, missed);
        tally.tests++;
        tally.failures += !met;
        status = put_case(&cases, name, "target", met ? NULL : "failure", missed);
    }
    if (status == CADRE_OK)
        status = put_case(&cases, name, "sweep", outcome->error ? "error" : NULL, outcome->error ? outcome->error : "");
    if (status == CADRE_OK)
        status = put_suite(out, name, &tally, outcome->error != NULL, &cases);
    base_buffer_free(&cases);
    return status;
}
