/* Numbers as text that reads alike wherever the program runs: one that has called setlocale() would write 0,5 into JSON and read no 0.5. */
#ifndef BASE_NUMBER_H
#define BASE_NUMBER_H

#include <stdarg.h>
#include <stddef.h>

/** The shortest text that reads back as the same double, with a point or an exponent. */
void base_number_text(double value, char text[32]);
/** strtod() of the C locale. */
double base_number_parse(const char *text, char **end);
/** snprintf() of the C locale. */
int base_number_format(char *text, size_t nbytes, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
int base_number_vformat(char *text, size_t nbytes, const char *fmt, va_list args);

#endif
