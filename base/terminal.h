/* Whether a line on the screen can be drawn over. */
#ifndef BASE_TERMINAL_H
#define BASE_TERMINAL_H

#include <stdbool.h>

/** Standard output is a terminal that knows how to: not one of TERM=dumb, an editor's window say, or without TERM. */
bool base_terminal_is_live(void);

#endif
