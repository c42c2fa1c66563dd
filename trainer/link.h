/*
 * A worker's link to whoever records: a socket to the controller, or, in a process that is both (inproc, rank 0 of an attached run), a direct call.
 */
#ifndef TRAINER_LINK_H
#define TRAINER_LINK_H

#include "base/buffer.h"

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

typedef struct trainer_link {
    /** Send a message (borrowed). CADRE_ECLOSED: nobody is there any more. */
    int (*send)(struct trainer_link *link, const json_t *message);
    /** The next message (new reference) for this attempt. CADRE_ETIMEDOUT at `deadline_ns` (in the past: polls), CADRE_ECLOSED. */
    int (*receive)(struct trainer_link *link, int64_t deadline_ns, json_t **message);
    int attempt; /* messages of other attempts are dropped */
    bool second_hand; /* the training failed because another rank did; for the last word */
    int exit_code, signal; /* of a program that the worker trained by and that failed; likewise */

    int fd;             /* socket links */
    base_buffer input;  /* socket links: bytes received, not yet looked at */
    json_t *waiting;    /* messages received while another was waited for, oldest first (array) */
    void *user;         /* direct links */
} trainer_link;

/** A link over a connected socket, which it owns from now on. */
int trainer_link_socket(trainer_link *link, int fd);
/** The link of a rank that has nobody to report to: sends vanish, nothing ever comes. */
int trainer_link_null(trainer_link *link);
void trainer_link_close(trainer_link *link);

/** Put a message (borrowed) in front of those to be received: direct links answer this way. */
int trainer_link_push(trainer_link *link, json_t *message);

/** Wait for a message of this kind, keeping others that come in between for later. */
int trainer_link_await(trainer_link *link, const char *kind, int64_t deadline_ns, json_t **message);

#endif
