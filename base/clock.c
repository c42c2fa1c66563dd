#include "clock.h"

#include <errno.h>
#include <stdio.h>
#include <time.h>

int64_t base_now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

double base_now(void) { return (double)base_now_ns() * 1e-9; }

int64_t base_utc_us(void)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return (int64_t)now.tv_sec * 1000000 + now.tv_nsec / 1000;
}

void base_utc_format(int64_t us, char text[BASE_UTC_TEXT])
{
    const int64_t first = INT64_C(-62135596800) * 1000000, last = INT64_C(253402300800) * 1000000 - 1;
    us = us < first ? first : us > last ? last : us; /* years 1 to 9999: more do not fit the form */
    int64_t fraction = us % 1000000 < 0 ? us % 1000000 + 1000000 : us % 1000000;
    time_t seconds = (time_t)((us - fraction) / 1000000);
    struct tm parts;
    gmtime_r(&seconds, &parts);
    snprintf(text, BASE_UTC_TEXT, "%04u-%02u-%02u %02u:%02u:%02u.%06u", (unsigned)(parts.tm_year + 1900) % 10000,
             (unsigned)(parts.tm_mon + 1), (unsigned)parts.tm_mday, (unsigned)parts.tm_hour, (unsigned)parts.tm_min,
             (unsigned)parts.tm_sec, (unsigned)fraction);
}

void base_sleep_ns(int64_t ns)
{
    struct timespec left = {.tv_sec = (time_t)(ns / 1000000000), .tv_nsec = (long)(ns % 1000000000)};
    while (nanosleep(&left, &left) != 0 && errno == EINTR)
        ;
}
