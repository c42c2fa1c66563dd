/* Allocation with a fault knob ("alloc"). All return NULL with the error message set when there is no memory. */
#ifndef BASE_MEM_H
#define BASE_MEM_H

#include <stddef.h>

void *base_malloc(size_t nbytes);
/** `count` zeroed elements of `size` bytes; the product may not overflow. */
void *base_calloc(size_t count, size_t size);
void *base_realloc(void *old, size_t nbytes);
char *base_strdup(const char *text);
/** printf into a new string; free() it. */
char *base_sprintf(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

#endif
