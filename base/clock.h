/* Time. Durations and deadlines are on the monotonic clock; what is written down is UTC. */
#ifndef BASE_CLOCK_H
#define BASE_CLOCK_H

#include <stddef.h>
#include <stdint.h>

/** Nanoseconds on the monotonic clock; never goes back, means nothing across machines. */
int64_t base_now_ns(void);

/** Seconds on the same clock. */
double base_now(void);

/** Microseconds since 1970-01-01 UTC. */
int64_t base_utc_us(void);

#define BASE_UTC_TEXT 27 /* bytes of "YYYY-MM-DD HH:MM:SS.ffffff", its end included */

/** Write `us` as "YYYY-MM-DD HH:MM:SS.ffffff" (UTC, the form Optuna reads); what is outside the years 1 to 9999 becomes
 *  their nearest end. */
void base_utc_format(int64_t us, char text[BASE_UTC_TEXT]);

/** Sleep for `ns` nanoseconds, through signals. */
void base_sleep_ns(int64_t ns);

#endif
