/*
 * Messages between workers and controller: JSON objects, one a frame. "t" is the kind, "a" the attempt; a message of another attempt
 * is dropped. Doubles that JSON cannot say are the strings "nan", "inf", "-inf".
 *
 *   worker to controller                                   controller to worker
 *     hello     rank pid host                                start    world config directory threads restore report sync gpus leave_ms ...
 *     gather    seq data (hexadecimal)                       gathered seq data[]
 *     ready     backend                                      stop
 *     beat      step
     alive     (a collective is through: not hung, but no step either)
 *     report    report step metrics [checkpoint | saving]    ack      status [message] [stop]
 *     checkpoint  the same without metrics; "behind", of an earlier report: stall_us write_us, not answered
 *     full      (no space for a checkpoint)                  freed    freed (1: try again)
 *     progress  epoch epochs step steps samples metrics
 *     done      status message second (1: because another rank failed)
 */
#ifndef TRAINER_MESSAGE_H
#define TRAINER_MESSAGE_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/** A new message of this kind and attempt; NULL: no memory. */
json_t *message_new(const char *kind, int attempt);
/** Read and check the outer form: an object with a string "t" and an integer "a". CADRE_EPROTO. */
int message_parse(const void *bytes, size_t nbytes, json_t **out);
/** As text, in a new string; free() it. */
char *message_text(const json_t *message);

const char *message_kind(const json_t *message);
bool message_is(const json_t *message, const char *kind);
int message_attempt(const json_t *message);

void message_set_int(json_t *message, const char *key, int64_t value);
void message_set_text(json_t *message, const char *key, const char *value);
int64_t message_int(const json_t *message, const char *key, int64_t fallback);
const char *message_string(const json_t *message, const char *key, const char *fallback);

/** Doubles both ways. */
json_t *message_double(double value);
bool message_read_double(const json_t *value, double *out);

/** Bytes as hexadecimal and back; message_read_bytes answers false unless there are exactly `nbytes`. */
json_t *message_bytes(const void *bytes, size_t nbytes);
bool message_read_bytes(const json_t *value, void *bytes, size_t nbytes);

#endif
