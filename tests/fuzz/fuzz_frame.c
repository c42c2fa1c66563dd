/* Any bytes as a stream of frames, arriving in pieces: the same frames as when they arrive at once, and no more memory
 * than the limit. The first byte says how long the pieces are. */
#include "base/frame.h"
#include "cadre/status.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t nbytes);

/* Take the whole frames off the front; appends what was in them to `seen`, each behind a mark. Returns false at a
 * malformed one. */
static bool drain(base_buffer *buffer, base_buffer *seen)
{
    for (;;) {
        const unsigned char *payload = NULL;
        size_t length = 0;
        bool whole = false;
        if (base_frame_next(buffer, &payload, &length, &whole) != CADRE_OK)
            return false;
        if (!whole)
            return true;
        if (length > BASE_FRAME_LIMIT || payload < buffer->data || payload + length > buffer->data + buffer->length)
            abort();
        base_frame_append(seen, payload, length);
        base_buffer_consume(buffer, length + 4);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t nbytes)
{
    if (nbytes == 0)
        return 0;
    size_t piece = (size_t)bytes[0] + 1;
    base_buffer at_once = {0}, in_pieces = {0}, seen = {0}, seen_again = {0};
    base_buffer_append(&at_once, bytes + 1, nbytes - 1);
    bool good = drain(&at_once, &seen), still_good = true;
    for (size_t at = 1; still_good && at < nbytes; at += piece) {
        base_buffer_append(&in_pieces, bytes + at, nbytes - at < piece ? nbytes - at : piece);
        still_good = drain(&in_pieces, &seen_again);
    }
    if (good != still_good || seen.length != seen_again.length ||
        (seen.length &&
         (memcmp(seen.data, seen_again.data, seen.length) != 0 || memcmp(seen.data, bytes + 1, seen.length) != 0)))
        abort();
    base_buffer_free(&at_once);
    base_buffer_free(&in_pieces);
    base_buffer_free(&seen);
    base_buffer_free(&seen_again);
    return 0;
}
