#include "base/number.h"

#include <locale.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static pthread_once_t once = PTHREAD_ONCE_INIT;
static locale_t plain; /* without memory 0, with which uselocale() changes nothing */

static void make_plain(void) { plain = newlocale(LC_ALL_MASK, "C", (locale_t)0); }

static locale_t enter(void)
{
    pthread_once(&once, make_plain);
    return uselocale(plain);
}

double base_number_parse(const char *text, char **end)
{
    locale_t before = enter();
    double value = strtod(text, end);
    uselocale(before);
    return value;
}

int base_number_vformat(char *text, size_t nbytes, const char *fmt, va_list args)
{
    locale_t before = enter();
    int length = vsnprintf(text, nbytes, fmt, args);
    uselocale(before);
    return length;
}

int base_number_format(char *text, size_t nbytes, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    int length = base_number_vformat(text, nbytes, fmt, args);
    va_end(args);
    return length;
}

void base_number_text(double value, char text[32])
{
    for (int digits = 15; digits <= 17; digits++) {
        base_number_format(text, 30, "%.*g", digits, value);
        if (base_number_parse(text, NULL) == value)
            break;
    }
    if (!strpbrk(text, ".en")) /* inf and nan have an n */
        strcat(text, ".0");
}
