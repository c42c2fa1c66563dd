/* A fuzzer's bytes, taken from the front; when none are left there are zeros. And what must be so, whatever they are. */
#ifndef FUZZ_INPUT_H
#define FUZZ_INPUT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

static inline void must(bool true_)
{
    if (!true_)
        abort();
}

typedef struct fuzz_input {
    const uint8_t *at;
    size_t left;
} fuzz_input;

static inline const uint8_t *fuzz_bytes(fuzz_input *in, size_t *nbytes)
{
    const uint8_t *at = in->at;
    *nbytes = *nbytes < in->left ? *nbytes : in->left;
    in->at += *nbytes;
    in->left -= *nbytes;
    return at;
}

static inline unsigned fuzz_byte(fuzz_input *in)
{
    size_t one = 1;
    const uint8_t *at = fuzz_bytes(in, &one);
    return one ? *at : 0;
}

/* One of `count` things. */
static inline int fuzz_one_of(fuzz_input *in, int count) { return (int)(fuzz_byte(in) % (unsigned)count); }

static inline uint32_t fuzz_word(fuzz_input *in)
{
    uint32_t word = fuzz_byte(in);
    for (int i = 1; i < 4; i++)
        word |= (uint32_t)fuzz_byte(in) << 8 * i;
    return word;
}

/* Any double: mostly a plain one, else one of those that break things, or any bits. */
static inline double fuzz_double(fuzz_input *in)
{
    static const double known[] = {0, -0.0, 1, -1, 0.5, 1e-3, 1e300, -1e300, 5e-324, 1.7976931348623157e308, 9007199254740993.0, 1e19, __builtin_inf(), -__builtin_inf()};
    unsigned kind = fuzz_byte(in);
    if (kind >= 128)
        return (kind - 192.0) / 16;
    if (kind < sizeof known / sizeof *known)
        return known[kind];
    if (kind < 32)
        return __builtin_nan("");
    uint64_t bits = (uint64_t)fuzz_word(in) << 32 | fuzz_word(in);
    double value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

static inline int64_t fuzz_int(fuzz_input *in)
{
    unsigned kind = fuzz_byte(in);
    if (kind >= 16)
        return (int64_t)kind - 32;
    if (kind < 4)
        return kind < 2 ? INT64_MAX - (int64_t)kind : INT64_MIN + (int64_t)kind - 2;
    if (kind < 8)
        return kind < 6 ? INT32_MAX + (int64_t)kind - 4 : INT32_MIN - (int64_t)kind + 6;
    return (int64_t)((uint64_t)fuzz_word(in) << 32 | fuzz_word(in));
}

#endif
