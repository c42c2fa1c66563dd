#include "frame.h"

#include "clock.h"
#include "error.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>

static void put_length(unsigned char header[4], size_t nbytes)
{
    for (int i = 0; i < 4; i++)
        header[i] = (unsigned char)(nbytes >> 8 * i);
}

int base_frame_append(base_buffer *buffer, const void *payload, size_t nbytes)
{
    if (nbytes > BASE_FRAME_LIMIT)
        return base_error(CADRE_EINVAL, "a message of %zu bytes is over the limit of %d", nbytes, BASE_FRAME_LIMIT);
    int status = base_buffer_reserve(buffer, nbytes + 4);
    if (status != CADRE_OK)
        return status;
    put_length(buffer->data + buffer->length, nbytes);
    if (nbytes)
        memcpy(buffer->data + buffer->length + 4, payload, nbytes);
    buffer->length += nbytes + 4;
    return CADRE_OK;
}

int base_frame_next(const base_buffer *buffer, const unsigned char **payload, size_t *nbytes, bool *whole)
{
    *whole = false;
    if (buffer->length < 4)
        return CADRE_OK;
    uint32_t length = 0;
    for (int i = 0; i < 4; i++)
        length |= (uint32_t)buffer->data[i] << 8 * i;
    if (length > BASE_FRAME_LIMIT)
        return base_error(CADRE_EPROTO, "a message announces %u bytes, the limit is %d", length, BASE_FRAME_LIMIT);
    if (buffer->length - 4 < length)
        return CADRE_OK;
    *payload = buffer->data + 4;
    *nbytes = length;
    *whole = true;
    return CADRE_OK;
}

/* Wait until fd is ready; CADRE_ETIMEDOUT at the deadline. */
static int wait_ready(int fd, short events, int64_t deadline_ns)
{
    for (;;) {
        int64_t left = deadline_ns == INT64_MAX ? -1 : deadline_ns - base_now_ns();
        int timeout_ms = left < 0 ? (deadline_ns == INT64_MAX ? -1 : 0) : (int)(left / 1000000 > 60000 ? 60000 : left / 1000000 + 1);
        struct pollfd ready = {.fd = fd, .events = events};
        int count = poll(&ready, 1, timeout_ms);
        if (count > 0)
            return CADRE_OK;
        if (count < 0 && errno != EINTR)
            return base_errno(errno, "wait for a message");
        if (count == 0 && deadline_ns != INT64_MAX && base_now_ns() >= deadline_ns)
            return base_error(CADRE_ETIMEDOUT, "no message before the deadline");
    }
}

int base_frame_send(int fd, const void *payload, size_t nbytes, int64_t deadline_ns)
{
    if (nbytes > BASE_FRAME_LIMIT)
        return base_error(CADRE_EINVAL, "a message of %zu bytes is over the limit of %d", nbytes, BASE_FRAME_LIMIT);
    unsigned char header[4];
    put_length(header, nbytes);
    size_t sent = 0;
    while (sent < nbytes + 4) {
        struct iovec parts[2];
        int count = 0;
        if (sent < 4)
            parts[count++] = (struct iovec){header + sent, 4 - sent};
        size_t skip = sent < 4 ? 0 : sent - 4;
        if (nbytes > skip)
            parts[count++] = (struct iovec){(char *)(uintptr_t)payload + skip, nbytes - skip};
        struct msghdr message = {.msg_iov = parts, .msg_iovlen = (size_t)count};
        ssize_t done = sendmsg(fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (done >= 0) {
            sent += (size_t)done;
            continue;
        }
        if (errno == EINTR)
            continue;
        if (errno != EAGAIN && errno != EWOULDBLOCK)
            return base_errno(errno, "send a message");
        int status = wait_ready(fd, POLLOUT, deadline_ns);
        if (status != CADRE_OK)
            return status;
    }
    return CADRE_OK;
}

int base_frame_receive(int fd, base_buffer *buffer, int64_t deadline_ns)
{
    for (;;) {
        const unsigned char *payload;
        size_t nbytes;
        bool whole;
        int status = base_frame_next(buffer, &payload, &nbytes, &whole);
        if (status != CADRE_OK || whole)
            return status;
        status = base_buffer_reserve(buffer, 65536);
        if (status != CADRE_OK)
            return status;
        ssize_t done = recv(fd, buffer->data + buffer->length, buffer->capacity - buffer->length, MSG_DONTWAIT);
        if (done > 0) {
            buffer->length += (size_t)done;
            continue;
        }
        if (done == 0)
            return base_error(CADRE_ECLOSED, "the other side closed the connection");
        if (errno == EINTR)
            continue;
        if (errno != EAGAIN && errno != EWOULDBLOCK)
            return base_errno(errno, "receive a message");
        status = wait_ready(fd, POLLIN, deadline_ns);
        if (status != CADRE_OK)
            return status;
    }
}
