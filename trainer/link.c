#include "link.h"

#include "base/clock.h"
#include "base/error.h"
#include "base/frame.h"
#include "message.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* A controller that takes nothing for so long is as good as gone. */
enum { SEND_TIMEOUT_S = 120 };

int trainer_link_push(trainer_link *link, json_t *message)
{
    return json_array_append(link->waiting, message) == 0 ? CADRE_OK : base_error(CADRE_ENOMEM, "out of memory for a message");
}

static json_t *take_waiting(trainer_link *link, size_t index)
{
    json_t *message = json_incref(json_array_get(link->waiting, index));
    json_array_remove(link->waiting, index);
    return message;
}

static int socket_send(trainer_link *link, const json_t *message)
{
    char *text = message_text(message);
    if (!text)
        return CADRE_ENOMEM;
    int status = base_frame_send(link->fd, text, strlen(text), base_now_ns() + SEND_TIMEOUT_S * INT64_C(1000000000));
    free(text);
    return status == CADRE_OK ? status : base_wrap(status, "the controller does not answer");
}

static int socket_receive(trainer_link *link, int64_t deadline_ns, json_t **message)
{
    if (json_array_size(link->waiting)) {
        *message = take_waiting(link, 0);
        return CADRE_OK;
    }
    for (;;) {
        int status = base_frame_receive(link->fd, &link->input, deadline_ns);
        if (status != CADRE_OK)
            return status;
        const unsigned char *payload;
        size_t nbytes;
        bool whole;
        base_frame_next(&link->input, &payload, &nbytes, &whole);
        json_t *received = NULL;
        status = message_parse(payload, nbytes, &received);
        base_buffer_consume(&link->input, nbytes + 4);
        if (status != CADRE_OK)
            return status;
        if (message_attempt(received) == link->attempt || message_is(received, "start")) {
            *message = received;
            return CADRE_OK;
        }
        json_decref(received);
    }
}

static int init(trainer_link *link)
{
    memset(link, 0, sizeof *link);
    link->fd = -1;
    link->waiting = json_array();
    return link->waiting ? CADRE_OK : base_error(CADRE_ENOMEM, "out of memory for a link");
}

int trainer_link_socket(trainer_link *link, int fd)
{
    int status = init(link);
    link->fd = fd;
    link->send = socket_send;
    link->receive = socket_receive;
    return status;
}

static int null_send(trainer_link *link, const json_t *message)
{
    (void)link;
    (void)message;
    return CADRE_OK;
}

static int null_receive(trainer_link *link, int64_t deadline_ns, json_t **message)
{
    (void)deadline_ns;
    if (json_array_size(link->waiting) == 0)
        return base_error(CADRE_ETIMEDOUT, "no message before the deadline");
    *message = take_waiting(link, 0);
    return CADRE_OK;
}

int trainer_link_null(trainer_link *link)
{
    int status = init(link);
    link->send = null_send;
    link->receive = null_receive;
    return status;
}

void trainer_link_close(trainer_link *link)
{
    if (link->fd >= 0)
        close(link->fd);
    base_buffer_free(&link->input);
    json_decref(link->waiting);
    memset(link, 0, sizeof *link);
    link->fd = -1;
}

int trainer_link_await(trainer_link *link, const char *kind, int64_t deadline_ns, json_t **message)
{
    for (size_t i = 0; i < json_array_size(link->waiting); i++)
        if (message_is(json_array_get(link->waiting, i), kind)) {
            *message = take_waiting(link, i);
            return CADRE_OK;
        }
    json_t *others = json_array();
    int status = others ? CADRE_OK : base_error(CADRE_ENOMEM, "out of memory for a link");
    json_t *received = NULL;
    while (status == CADRE_OK) {
        status = link->receive(link, deadline_ns, &received);
        if (status != CADRE_OK)
            break;
        if (message_is(received, kind)) {
            *message = received;
            break;
        }
        json_array_append_new(others, received);
    }
    json_array_extend(link->waiting, others);
    json_decref(others);
    return status;
}
