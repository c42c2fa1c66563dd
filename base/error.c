#include "error.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

static _Thread_local char message[BASE_ERROR_MAX];

const char *cadre_error_message(void) { return message; }

const char *cadre_status_name(int status)
{
    switch (status) {
#define NAME_CASE(name, value, text)                                                                                   \
    case value:                                                                                                        \
        return #name;
        CADRE_STATUS_MAP(NAME_CASE)
#undef NAME_CASE
    default:
        return "unknown";
    }
}

const char *cadre_status_text(int status)
{
    switch (status) {
#define TEXT_CASE(name, value, text)                                                                                   \
    case value:                                                                                                        \
        return text;
        CADRE_STATUS_MAP(TEXT_CASE)
#undef TEXT_CASE
    default:
        return "unknown status";
    }
}

/* A message is one line whatever a file name or a foreign library put into it. */
static void keep_on_one_line(char *text)
{
    for (; *text; text++)
        if ((unsigned char)*text < 0x20)
            *text = ' ';
}

int base_verror(int status, const char *fmt, va_list args)
{
    char fresh[BASE_ERROR_MAX]; /* the arguments may point into the old message */
    vsnprintf(fresh, sizeof fresh, fmt, args);
    keep_on_one_line(fresh);
    memcpy(message, fresh, sizeof message);
    return status;
}

int base_error(int status, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    base_verror(status, fmt, args);
    va_end(args);
    return status;
}

int cadre_fail(int status, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    base_verror(status, fmt, args);
    va_end(args);
    return status;
}

int base_wrap(int status, const char *fmt, ...)
{
    char joined[BASE_ERROR_MAX];
    va_list args;
    va_start(args, fmt);
    int used = vsnprintf(joined, sizeof joined, fmt, args);
    va_end(args);
    if (used < 0)
        return status;
    if ((size_t)used < sizeof joined)
        snprintf(joined + used, sizeof joined - (size_t)used, ": %s", message);
    keep_on_one_line(joined);
    memcpy(message, joined, sizeof message);
    return status;
}

int base_status_of_errno(int errnum)
{
    switch (errnum) {
    case 0:
        return CADRE_OK;
    case EINVAL:
        return CADRE_EINVAL;
    case ENOMEM:
        return CADRE_ENOMEM;
    case ENOSPC:
    case EDQUOT:
        return CADRE_ENOSPC;
    case ENOENT:
    case ENOTDIR:
        return CADRE_ENOENT;
    case EEXIST:
        return CADRE_EEXIST;
    case EACCES:
    case EPERM:
    case EROFS:
        return CADRE_EACCES;
    case ETIMEDOUT:
        return CADRE_ETIMEDOUT;
    case EPIPE:
    case ECONNRESET:
    case ECONNREFUSED:
        return CADRE_ECLOSED;
    case EIO:
        return CADRE_EIO;
    default:
        return CADRE_ESYSTEM;
    }
}

int base_errno(int errnum, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    char what[BASE_ERROR_MAX];
    vsnprintf(what, sizeof what, fmt, args);
    va_end(args);
    return base_error(base_status_of_errno(errnum), "%s: %s", what, strerror(errnum));
}
