#include "mem.h"

#include "error.h"
#include "fault.h"
#include "number.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void *checked(void *memory, size_t nbytes)
{
    if (!memory)
        base_error(CADRE_ENOMEM, "out of memory for %zu bytes", nbytes);
    return memory;
}

void *base_malloc(size_t nbytes)
{
    return checked(BASE_FAULT("alloc") ? NULL : malloc(nbytes ? nbytes : 1), nbytes);
}

void *base_calloc(size_t count, size_t size)
{
    return checked(BASE_FAULT("alloc") ? NULL : calloc(count ? count : 1, size ? size : 1), count * size);
}

void *base_realloc(void *old, size_t nbytes)
{
    return checked(BASE_FAULT("alloc") ? NULL : realloc(old, nbytes ? nbytes : 1), nbytes);
}

char *base_strdup(const char *text)
{
    size_t nbytes = strlen(text) + 1;
    char *copy = base_malloc(nbytes);
    return copy ? memcpy(copy, text, nbytes) : NULL;
}

char *base_sprintf(const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    va_list again;
    va_copy(again, args);
    int length = base_number_vformat(NULL, 0, fmt, args);
    va_end(args);
    char *text = length < 0 ? NULL : base_malloc((size_t)length + 1);
    if (text)
        base_number_vformat(text, (size_t)length + 1, fmt, again);
    va_end(again);
    return text;
}
