/* Setting the calling thread's error message. base_error() states a failure, base_wrap() puts what was being done before it. */
#ifndef BASE_ERROR_H
#define BASE_ERROR_H

#include "cadre/status.h"

#include <stdarg.h>

#define BASE_ERROR_MAX 1024 /* longest message in bytes, its end included; longer ones are cut */

#if defined(__GNUC__)
#define BASE_PRINTF(fmt, args) __attribute__((format(printf, fmt, args)))
#else
#define BASE_PRINTF(fmt, args)
#endif

/** Set the message and return `status`. Newlines in it become spaces. */
int base_error(int status, const char *fmt, ...) BASE_PRINTF(2, 3);
int base_verror(int status, const char *fmt, va_list args);

/** Put "prefix: " before the message there is and return `status`. */
int base_wrap(int status, const char *fmt, ...) BASE_PRINTF(2, 3);

/** The status that an errno value stands for, and a message "what: strerror". */
int base_errno(int errnum, const char *fmt, ...) BASE_PRINTF(2, 3);
int base_status_of_errno(int errnum);

#endif
