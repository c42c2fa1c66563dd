/* What may be a name or a string where JSON holds it. */
#ifndef TRAINER_STATE_TEXT_H
#define TRAINER_STATE_TEXT_H

#include <stdbool.h>

/** Whether `text` is UTF-8 as RFC 3629 has it: no overlong forms, no surrogates, nothing beyond U+10FFFF. */
bool state_utf8_valid(const char *text);

#endif
