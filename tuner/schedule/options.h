/* A scheduler's options as its caller's version of the struct had them. */
#ifndef TUNER_SCHEDULE_OPTIONS_H
#define TUNER_SCHEDULE_OPTIONS_H

#include <stddef.h>
#include <string.h>

/** `into`, which is zero, gets what `given` has of it (NULL: nothing); both begin with their size, 0 for the whole. */
static inline void schedule_options(const void *given, size_t size, void *into)
{
    size_t told = 0;
    if (given)
        memcpy(&told, given, sizeof told);
    if (given)
        memcpy(into, given, told && told < size ? told : size);
}

#endif
