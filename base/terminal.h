/* What a terminal can do, and what it must not be told. */
#ifndef BASE_TERMINAL_H
#define BASE_TERMINAL_H

#include <stdbool.h>

/** Standard output is a terminal that knows how to: not one of TERM=dumb, an editor's window say, or without TERM. */
bool base_terminal_is_live(void);

/** Bytes of the control character at `at`, which a terminal would obey: 1 (C0, DEL), 2 (C1 as UTF-8), or 0: it is none. The text's end is none. */
int base_terminal_control(const char *at);

#endif
