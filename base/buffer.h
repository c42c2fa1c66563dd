/* A growing byte buffer. Zero-initialise it; an append that finds no memory leaves it as it was. */
#ifndef BASE_BUFFER_H
#define BASE_BUFFER_H

#include <stddef.h>

typedef struct base_buffer {
    unsigned char *data;
    size_t length;   /* bytes in use */
    size_t capacity; /* bytes allocated */
} base_buffer;

/** Make room for `more` bytes behind what is there. CADRE_ENOMEM. */
int base_buffer_reserve(base_buffer *buffer, size_t more);
int base_buffer_append(base_buffer *buffer, const void *bytes, size_t nbytes);
/** Append formatted text (its end is written but not counted in length). */
int base_buffer_printf(base_buffer *buffer, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/** Drop the first `nbytes`. */
void base_buffer_consume(base_buffer *buffer, size_t nbytes);
void base_buffer_free(base_buffer *buffer);

#endif
