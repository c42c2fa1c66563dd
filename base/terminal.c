#include "base/terminal.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

bool base_terminal_is_live(void)
{
    const char *kind = getenv("TERM");
    return kind && *kind && strcmp(kind, "dumb") != 0 && isatty(STDOUT_FILENO);
}

int base_terminal_control(const char *at)
{
    const unsigned char *c = (const unsigned char *)at;
    if (c[0] == 0xc2 && c[1] >= 0x80 && c[1] <= 0x9f)
        return 2;
    return c[0] == 0x7f || (c[0] && c[0] < 0x20);
}
