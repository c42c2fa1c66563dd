#include "buffer.h"

#include "error.h"
#include "mem.h"
#include "number.h"

#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int base_buffer_reserve(base_buffer *buffer, size_t more)
{
    if (more <= buffer->capacity - buffer->length)
        return CADRE_OK;
    if (more > SIZE_MAX / 2 - buffer->length)
        return base_error(CADRE_ENOMEM, "a buffer of %zu bytes cannot be", more);
    size_t capacity = buffer->capacity ? buffer->capacity : 256;
    while (capacity - buffer->length < more)
        capacity *= 2;
    unsigned char *data = base_realloc(buffer->data, capacity);
    if (!data)
        return CADRE_ENOMEM;
    buffer->data = data;
    buffer->capacity = capacity;
    return CADRE_OK;
}

int base_buffer_append(base_buffer *buffer, const void *bytes, size_t nbytes)
{
    int status = base_buffer_reserve(buffer, nbytes);
    if (status == CADRE_OK && nbytes) {
        memcpy(buffer->data + buffer->length, bytes, nbytes);
        buffer->length += nbytes;
    }
    return status;
}

int base_buffer_printf(base_buffer *buffer, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    int length = base_number_vformat(NULL, 0, fmt, args);
    va_end(args);
    if (length < 0)
        return base_error(CADRE_EINVAL, "text that cannot be formatted");
    int status = base_buffer_reserve(buffer, (size_t)length + 1);
    if (status != CADRE_OK)
        return status;
    va_start(args, fmt);
    base_number_vformat((char *)buffer->data + buffer->length, (size_t)length + 1, fmt, args);
    va_end(args);
    buffer->length += (size_t)length;
    return CADRE_OK;
}

void base_buffer_consume(base_buffer *buffer, size_t nbytes)
{
    if (nbytes > buffer->length)
        nbytes = buffer->length;
    buffer->length -= nbytes;
    if (buffer->length)
        memmove(buffer->data, buffer->data + nbytes, buffer->length);
}

void base_buffer_free(base_buffer *buffer)
{
    free(buffer->data);
    *buffer = (base_buffer){0};
}
