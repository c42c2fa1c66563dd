/*
 * The log: what the library has to say while it works. Nothing is printed unless the program asks for it; only a worker
 * that a trainer started has warnings in its own log (trial-NNNNN/rankN.log) if the program asks for nothing.
 */
#ifndef CADRE_LOG_H
#define CADRE_LOG_H

#include "cadre/status.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef enum cadre_log_level { CADRE_LOG_DEBUG = 0, CADRE_LOG_INFO = 1, CADRE_LOG_WARN = 2, CADRE_LOG_ERROR = 3 } cadre_log_level;

/** Receives one line (no newline; borrowed for the call). May be called from any thread; must not call cadre functions. */
typedef void cadre_log_fn(cadre_log_level level, const char *room, const char *line, void *user);

/** Send lines of `level` and above to `fn`; NULL drops them (the default). Call it before other threads start. */
CADRE_API void cadre_log_set(cadre_log_fn *fn, void *user, cadre_log_level level);

/** A ready-made cadre_log_fn: "cadre: warning: collectives: ..." to stderr. */
CADRE_API void cadre_log_stderr(cadre_log_level level, const char *room, const char *line, void *user);

#ifdef __cplusplus
}
#endif
#endif
