/* What the experiment shows: a live table on a terminal, else a line a finished trial. */
#include "tuner.h"

#include "base/clock.h"
#include "trainer/state/config.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

enum { ROWS = 15 };
static const double DRAW_S = 0.5;

static bool shown(const tuner *tuner) { return tuner->options->trainer->run.progress == CADRE_PROGRESS_AUTO; }

/* "lr 0.0031  optimizer adamw" */
static void config_text(const tuner_trial *trial, char *text, size_t size)
{
    const cadre_config *config = trial->config;
    size_t used = 0;
    text[0] = '\0';
    for (int i = 0; i < cadre_config_count(config) && used < size; i++) {
        const char *name = cadre_config_name(config, i);
        char value[256] = "";
        switch (state_config_kind_of(config, name)) {
        case STATE_CONFIG_INT: snprintf(value, sizeof value, "%lld", (long long)cadre_config_int(config, name, 0)); break;
        case STATE_CONFIG_BOOL: snprintf(value, sizeof value, "%s", cadre_config_bool(config, name, false) ? "true" : "false"); break;
        case STATE_CONFIG_STRING: snprintf(value, sizeof value, "%s", cadre_config_string(config, name, "")); break;
        default: snprintf(value, sizeof value, "%.4g", cadre_config_double(config, name, NAN));
        }
        int wrote = snprintf(text + used, size - used, "%s%s %s", i ? "  " : "", name, value);
        used += wrote > 0 ? (size_t)wrote : 0;
    }
}

/* The cursor may stand behind a "^C". */
void table_clear(tuner *tuner)
{
    if (tuner->table_lines > 0)
        printf("\r\033[%dA\033[J", tuner->table_lines);
    tuner->table_lines = 0;
}

/* Columns and rows of the terminal as it is now. */
static void measure(int *columns, int *rows)
{
    struct winsize size;
    bool known = ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0 && size.ws_row > 0;
    *columns = known ? size.ws_col : 80;
    *rows = known ? size.ws_row : 24;
}

/* One line of the screen. `cut`: no wider than a terminal, or what is drawn over it later would miss a part of it. */
static void put_line(char *text, bool cut)
{
    int columns, rows, column = 0;
    measure(&columns, &rows);
    for (unsigned char *at = (unsigned char *)text; *at; at++) {
        if (*at < 0x20 || *at == 0x7f)
            *at = ' ';
        column += (*at & 0xc0) != 0x80; /* a character, not one more byte of it */
        if (cut && column == columns) {
            *at = '\0';
            break;
        }
    }
    puts(text);
}

static void line_of(const tuner *tuner, const tuner_trial *trial, const char *state, double seconds)
{
    char config[512], text[1200], value[100] = "";
    const core_trial *seen = core_get(tuner->core, trial->number);
    config_text(trial, config, sizeof config);
    if (seen->reports > 0)
        snprintf(value, sizeof value, " %.60s %.5g after %lld", tuner->options->metric, seen->value, (long long)seen->reports);
    snprintf(text, sizeof text, "trial %-5lld %-9s%s  %.1f s  %s%s%s", (long long)trial->number, state, value, seconds, trial->reason,
             trial->reason[0] ? "  " : "", config);
    put_line(text, tuner->live);
}

static void head_line(const tuner *tuner)
{
    char text[300];
    int64_t running = core_running(tuner->core), done = core_count(tuner->core) - running, best = core_best(tuner->core);
    int used = snprintf(text, sizeof text, "%lld trials, %lld running, %.0f s", (long long)done, (long long)running, tuner_elapsed(tuner));
    if (best >= 0)
        snprintf(text + used, sizeof text - (size_t)used, ", best %.60s %.5g (trial %lld)", tuner->options->metric, core_get(tuner->core, best)->value,
                 (long long)best);
    put_line(text, true);
}

void table_draw(tuner *tuner, bool now)
{
    if (!shown(tuner) || !tuner->live || (!now && base_now() - tuner->drawn < DRAW_S))
        return;
    int columns, rows, lines = 1;
    tuner->drawn = base_now();
    table_clear(tuner);
    measure(&columns, &rows);
    head_line(tuner);
    for (int i = 0; i < tuner->running && lines <= ROWS && lines + 1 < rows; i++, lines++) {
        const tuner_trial *trial = tuner->active[i];
        line_of(tuner, trial, trial->stopping ? "leaving" : "running", trial->ran_s + base_now() - trial->begun);
    }
    tuner->table_lines = lines;
    fflush(stdout);
}

void table_interrupted(tuner *tuner)
{
    if (!shown(tuner) || !tuner->live)
        return;
    table_clear(tuner);
    puts("\rinterrupted: the trials are asked to save and leave; Ctrl-C once more ends them at once");
    table_draw(tuner, true);
}

void table_trial_ended(tuner *tuner, const tuner_trial *trial, cadre_trial_end end)
{
    static const char *const names[] = {"complete", "pruned", "failed"};
    if (!shown(tuner))
        return;
    table_clear(tuner);
    line_of(tuner, trial, names[end], trial->ran_s);
    table_draw(tuner, true);
}

void table_summary(tuner *tuner)
{
    if (!shown(tuner))
        return;
    table_clear(tuner);
    int64_t counts[5] = {0}, best = core_best(tuner->core);
    for (int64_t i = 0; i < core_count(tuner->core); i++)
        counts[core_get(tuner->core, i)->state]++;
    printf("%lld trials in %.1f s: %lld complete, %lld pruned, %lld failed", (long long)core_count(tuner->core), tuner_elapsed(tuner),
           (long long)counts[CORE_COMPLETE], (long long)counts[CORE_PRUNED], (long long)counts[CORE_FAILED]);
    if (counts[CORE_PAUSED] + counts[CORE_RUNNING])
        printf(", %lld to be resumed", (long long)(counts[CORE_PAUSED] + counts[CORE_RUNNING]));
    if (core_closed(tuner->core))
        printf(" (%s)", core_closed(tuner->core));
    putchar('\n');
    if (best >= 0) {
        char config[2000] = "", text[2400];
        tuner_trial *trial;
        if (trial_get(tuner, best, &trial) == CADRE_OK)
            config_text(trial, config, sizeof config);
        snprintf(text, sizeof text, "best: trial %lld, %.200s %.6g, with %s", (long long)best, tuner->options->metric,
                 core_get(tuner->core, best)->value, config);
        put_line(text, false);
    }
    fflush(stdout);
}
