/* Texts that JSON holds, and reading it. */
#ifndef TRAINER_STATE_TEXT_H
#define TRAINER_STATE_TEXT_H

#include "base/buffer.h"

#include <jansson.h>
#include <stdbool.h>

/** Whether `text` is UTF-8 as RFC 3629 has it: no overlong forms, no surrogates, nothing beyond U+10FFFF. */
bool state_utf8_valid(const char *text);

/** Whether reading JSON failed for want of memory. (Not sure when false: jansson takes a failure inside a word for a
 * wrong word.) */
bool state_json_no_memory(const json_error_t *where);

/** Append `json` as text, with json_dumps' flags. Not json_dumps: that one overlooks a want of memory at a key and
 * leaves the key out. CADRE_ENOMEM, also when `json` is NULL; the buffer is as it was then. */
int state_json_print(const json_t *json, size_t flags, base_buffer *out);

#endif
