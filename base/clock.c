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
    time_t seconds = (time_t)(us / 1000000);
    struct tm parts;
    gmtime_r(&seconds, &parts);
    size_t used = strftime(text, BASE_UTC_TEXT, "%Y-%m-%d %H:%M:%S", &parts);
    snprintf(text + used, BASE_UTC_TEXT - used, ".%06u", (unsigned)(us % 1000000));
}

void base_sleep_ns(int64_t ns)
{
    struct timespec left = {.tv_sec = (time_t)(ns / 1000000000), .tv_nsec = (long)(ns % 1000000000)};
    while (nanosleep(&left, &left) != 0 && errno == EINTR)
        ;
}
