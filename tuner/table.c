/* What the experiment shows: a live table on a terminal, else a line a finished trial. */
#include "tuner.h"

#include "base/clock.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { ROWS = 15 };
static const double DRAW_S = 0.5;

static bool shown(const tuner *tuner) { return tuner->options->trainer->run.progress == CADRE_PROGRESS_AUTO; }

/* "lr 0.0031  optimizer adamw" */
static void config_text(const tuner_trial *trial, char *text, size_t size)
{
    size_t used = 0;
    text[0] = '\0';
    for (int i = 0; i < cadre_config_count(trial->config) && used < size; i++) {
        const char *name = cadre_config_name(trial->config, i);
        const char *string = cadre_config_string(trial->config, name, NULL);
        int wrote = string ? snprintf(text + used, size - used, "%s%s %s", i ? "  " : "", name, string)
                           : snprintf(text + used, size - used, "%s%s %.4g", i ? "  " : "", name, cadre_config_double(trial->config, name, NAN));
        used += wrote > 0 ? (size_t)wrote : 0;
    }
}

void table_clear(tuner *tuner)
{
    if (tuner->table_lines > 0)
        printf("\033[%dA\033[J", tuner->table_lines);
    tuner->table_lines = 0;
}

static void line_of(tuner *tuner, const tuner_trial *trial, const char *state, double seconds)
{
    char config[256], text[512];
    const core_trial *seen = core_get(tuner->core, trial->number);
    config_text(trial, config, sizeof config);
    int used = snprintf(text, sizeof text, "trial %-5lld %-9s", (long long)trial->number, state);
    if (seen->reports > 0)
        used += snprintf(text + used, sizeof text - (size_t)used, " %s %.5g after %lld", tuner->options->metric, seen->value, (long long)seen->reports);
    snprintf(text + used, sizeof text - (size_t)used, "  %.1f s  %s%s%s", seconds, config, trial->reason[0] ? "  " : "", trial->reason);
    printf(tuner->live ? "%.119s\n" : "%s\n", text);
}

void table_draw(tuner *tuner, bool now)
{
    if (!shown(tuner) || !tuner->live || (!now && base_now() - tuner->drawn < DRAW_S))
        return;
    tuner->drawn = base_now();
    table_clear(tuner);
    int64_t done = core_count(tuner->core) - core_running(tuner->core), best = core_best(tuner->core);
    int lines = 1;
    printf("%lld trials, %lld running, %.0f s", (long long)done, (long long)core_running(tuner->core), tuner_elapsed(tuner));
    if (best >= 0)
        printf(", best %s %.5g (trial %lld)", tuner->options->metric, core_get(tuner->core, best)->value, (long long)best);
    putchar('\n');
    for (int64_t i = 0; i < tuner->capacity && lines <= ROWS; i++) {
        const tuner_trial *trial = tuner->trials[i];
        if (!trial || !trial->group)
            continue;
        line_of(tuner, trial, "running", trial->ran_s + base_now() - trial->begun);
        lines++;
    }
    tuner->table_lines = lines;
    fflush(stdout);
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
        char config[512] = "";
        tuner_trial *trial = trial_get(tuner, best);
        if (trial)
            config_text(trial, config, sizeof config);
        printf("best: trial %lld, %s %.6g, with %s\n", (long long)best, tuner->options->metric, core_get(tuner->core, best)->value, config);
    }
    fflush(stdout);
}
