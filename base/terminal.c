#include "base/terminal.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

bool base_terminal_is_live(void)
{
    const char *kind = getenv("TERM");
    return kind && *kind && strcmp(kind, "dumb") != 0 && isatty(STDOUT_FILENO);
}
