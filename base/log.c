#include "log.h"

#include <stdarg.h>
#include <stdio.h>

static cadre_log_fn *sink;
static void *sink_user;
static cadre_log_level threshold;

void cadre_log_set(cadre_log_fn *fn, void *user, cadre_log_level level)
{
    sink = fn;
    sink_user = user;
    threshold = level;
}

void cadre_log_stderr(cadre_log_level level, const char *room, const char *line, void *user)
{
    static const char *const names[] = {"debug: ", "", "warning: ", "error: "};
    (void)user;
    fprintf(stderr, "cadre: %s%s: %s\n", names[level], room, line);
}

bool base_log_heard(void) { return sink != NULL; }

void base_log(cadre_log_level level, const char *room, const char *fmt, ...)
{
    if (!sink || level < threshold)
        return;
    char line[1024];
    va_list args;
    va_start(args, fmt);
    vsnprintf(line, sizeof line, fmt, args);
    va_end(args);
    sink(level, room, line, sink_user);
}
