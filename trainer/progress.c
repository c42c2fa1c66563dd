#include "progress.h"

#include "base/clock.h"
#include "base/terminal.h"
#include "message.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

void progress_init(trainer_progress *progress, cadre_progress_mode mode)
{
    *progress = (trainer_progress){.on = mode == CADRE_PROGRESS_AUTO, .live = base_terminal_is_live()};
    snprintf(progress->unit, sizeof progress->unit, "samples");
}

void progress_attempt(trainer_progress *progress)
{
    progress->last_time = progress->attempt_began = base_now();
    progress->last_samples = 0;
    progress->last_steps = 0;
    progress->rate = progress->step_rate = 0;
    progress->epoch = progress->step = 0;
}

/* End the live line, so that what follows stands on its own. */
static void clear_line(trainer_progress *progress)
{
    if (progress->line_open)
        fputs("\r\033[K", stdout);
    progress->line_open = false;
}

void progress_say(trainer_progress *progress, const char *fmt, ...)
{
    if (!progress->on)
        return;
    clear_line(progress);
    va_list args;
    va_start(args, fmt);
    vprintf(fmt, args);
    va_end(args);
    putchar('\n');
    fflush(stdout);
}

void progress_end(trainer_progress *progress)
{
    if (progress->on)
        clear_line(progress);
    fflush(stdout);
}

static void append(char *line, size_t size, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
static void append(char *line, size_t size, const char *fmt, ...)
{
    size_t used = strlen(line);
    va_list args;
    va_start(args, fmt);
    vsnprintf(line + used, size - used, fmt, args);
    va_end(args);
}

static void append_duration(char *line, size_t size, double seconds)
{
    int64_t whole = (int64_t)(fmin(seconds, 1e9) + 0.5);
    if (whole >= 3600)
        append(line, size, "%lld:%02lld:%02lld", (long long)(whole / 3600), (long long)(whole / 60 % 60), (long long)(whole % 60));
    else
        append(line, size, "%lld:%02lld", (long long)(whole / 60), (long long)(whole % 60));
}

/* Steps since the training began, epochs done counted in. */
static int64_t steps_done(const trainer_progress *progress)
{
    return (progress->epoch > 0 ? progress->epoch - 1 : 0) * progress->steps + progress->step;
}

/* Smoothed speed from what was done since the last look. */
static double smoothed(double rate, double fresh) { return rate > 0 ? 0.8 * rate + 0.2 * fresh : fresh; }

static void measure(trainer_progress *progress, int64_t samples)
{
    double now = base_now(), passed = now - progress->last_time;
    int64_t steps = steps_done(progress);
    if (passed <= 0 || samples <= progress->last_samples)
        return;
    progress->rate = smoothed(progress->rate, (double)(samples - progress->last_samples) / passed);
    if (progress->last_steps > 0 && steps > progress->last_steps)
        progress->step_rate = smoothed(progress->step_rate, (double)(steps - progress->last_steps) / passed);
    progress->last_time = now;
    progress->last_samples = samples;
    progress->last_steps = steps;
}

static void append_metrics(char *line, size_t size, const json_t *metrics)
{
    size_t index;
    json_t *metric;
    json_array_foreach(metrics, index, metric)
    {
        double value;
        const char *name = json_string_value(json_array_get(metric, 0));
        if (name && message_read_double(json_array_get(metric, 1), &value))
            append(line, size, "  %s %.4g", name, value);
    }
}

/* What the program counts, as far as it can be multiplied. */
static int64_t count_of(const json_t *message, const char *key, int64_t most)
{
    int64_t count = message_int(message, key, 0);
    return count < 0 ? 0 : count < most ? count : most;
}

void progress_update(trainer_progress *progress, const json_t *message)
{
    if (!progress->on)
        return;
    progress->epoch = count_of(message, "epoch", INT32_MAX);
    progress->epochs = count_of(message, "epochs", INT32_MAX);
    progress->step = count_of(message, "step", INT32_MAX);
    progress->steps = count_of(message, "steps", INT32_MAX);
    snprintf(progress->unit, sizeof progress->unit, "%s", message_string(message, "unit", "samples"));
    measure(progress, count_of(message, "samples", INT64_C(1) << 53));
    if (!progress->live)
        return;

    char line[512] = "";
    if (progress->epochs)
        append(line, sizeof line, "epoch %lld/%lld  ", (long long)progress->epoch, (long long)progress->epochs);
    if (progress->steps)
        append(line, sizeof line, "step %lld/%lld  ", (long long)progress->step, (long long)progress->steps);
    append(line, sizeof line, "%.0f %s/s", progress->rate, progress->unit);
    append_metrics(line, sizeof line, json_object_get(message, "metrics"));
    int64_t steps_left = progress->epochs * progress->steps - steps_done(progress);
    if (progress->step_rate > 0 && steps_left >= 0) {
        append(line, sizeof line, "  ");
        append_duration(line, sizeof line, (double)steps_left / progress->step_rate);
        append(line, sizeof line, " left");
    }
    struct winsize window;
    size_t width = ioctl(STDOUT_FILENO, TIOCGWINSZ, &window) == 0 && window.ws_col > 1 ? window.ws_col - 1u : 119;
    if (strlen(line) > width) { /* a wrapped line cannot be drawn over */
        while (width > 0 && ((unsigned char)line[width] & 0xc0) == 0x80)
            width--; /* not within a character */
        line[width] = '\0';
    }
    printf("\r%s\033[K", line);
    fflush(stdout);
    progress->line_open = true;
}

void progress_report(trainer_progress *progress, int64_t step, const cadre_metric *metrics, int count)
{
    if (!progress->on)
        return;
    char line[1024] = "";
    append(line, sizeof line, "report %lld", (long long)step);
    for (int i = 0; i < count; i++)
        append(line, sizeof line, "  %s %.4g", metrics[i].name, metrics[i].value);
    if (progress->rate > 0)
        append(line, sizeof line, "  %.0f %s/s", progress->rate, progress->unit);
    append(line, sizeof line, "  ");
    append_duration(line, sizeof line, base_now() - progress->attempt_began);
    progress_say(progress, "%s", line);
}
