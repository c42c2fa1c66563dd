/* Writing to the log (cadre/log.h): base_log(CADRE_LOG_WARN, "collectives", "rank %d waits", rank). */
#ifndef BASE_LOG_H
#define BASE_LOG_H

#include "cadre/log.h"

#include <stdbool.h>

/** Does the program listen? */
bool base_log_heard(void);

void base_log(cadre_log_level level, const char *room, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

#endif
