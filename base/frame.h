/*
 * Message framing on a stream socket: a frame is its payload's length (4 bytes, little endian), then the payload. The length
 * is checked against a limit before anything is allocated for it.
 */
#ifndef BASE_FRAME_H
#define BASE_FRAME_H

#include "buffer.h"

#include <stdbool.h>
#include <stdint.h>

enum { BASE_FRAME_LIMIT = 4 << 20 /* payload bytes; what is larger is refused as malformed */ };

/** Append a frame with this payload to `buffer`. CADRE_EINVAL when it is over the limit. */
int base_frame_append(base_buffer *buffer, const void *payload, size_t nbytes);

/**
 * Look at the first frame in `buffer`. When it is whole, `*payload` (borrowed from the buffer) and `*nbytes` are set and `*whole` is
 * true; consume nbytes + 4 afterwards. CADRE_EPROTO: its length is over the limit, the connection is to be closed.
 */
int base_frame_next(const base_buffer *buffer, const unsigned char **payload, size_t *nbytes, bool *whole);

/** Send one frame on a blocking or non-blocking socket, waiting until `deadline_ns` (base_now_ns; INT64_MAX: for ever). */
int base_frame_send(int fd, const void *payload, size_t nbytes, int64_t deadline_ns);

/**
 * Receive until `buffer` starts with a whole frame. CADRE_ETIMEDOUT, CADRE_ECLOSED (the other side is gone),
 * CADRE_EPROTO. `deadline_ns` in the past polls once.
 */
int base_frame_receive(int fd, base_buffer *buffer, int64_t deadline_ns);

#endif
