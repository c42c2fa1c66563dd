/* bfloat16: the upper half of a float32. */
#ifndef COLLECTIVES_BFLOAT16_H
#define COLLECTIVES_BFLOAT16_H

#include <stdint.h>
#include <string.h>

static inline float load_bf16(uint16_t stored)
{
    uint32_t bits = (uint32_t)stored << 16;
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

/* Round to nearest, ties to even; a NaN stays one (quiet, its upper payload kept). */
static inline uint16_t store_bf16(float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    uint32_t rounded = (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16;
    uint32_t quiet = (bits >> 16) | 0x40u;
    return (uint16_t)((bits & 0x7fffffffu) > 0x7f800000u ? quiet : rounded);
}

#endif
