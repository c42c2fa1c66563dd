#include "reference.h"

#include <math.h>
#include <string.h>

static uint64_t mix(uint64_t x)
{
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
    return x ^ (x >> 31);
}

static uint64_t draw(int rank, size_t i) { return mix(mix((uint64_t)rank + 1) + i * 0x9e3779b97f4a7c15u); }

static float widen(uint16_t half)
{
    uint32_t bits = (uint32_t)half << 16;
    float value;
    memcpy(&value, &bits, 4);
    return value;
}

/* Written apart from the library's: by comparing the two candidates. */
static uint16_t narrow(float value)
{
    uint32_t bits;
    memcpy(&bits, &value, 4);
    if (isnan(value))
        return (uint16_t)((bits >> 16) | 0x40);
    uint32_t below = bits >> 16, rest = bits & 0xffff;
    if (rest > 0x8000 || (rest == 0x8000 && (below & 1)))
        below++;
    return (uint16_t)below;
}

/* Sizes differ widely, so that another order of additions gives other bits. Now and then a NaN, on one rank. */
static double real_at(int rank, size_t i)
{
    uint64_t bits = draw(rank, i);
    if (rank == 0 && i % 1009 == 5)
        return NAN;
    double value = ((double)(bits >> 11) / 9007199254740992.0 - 0.5) * (double)(1u << bits % 12);
    return value;
}

void reference_input(void *data, int rank, size_t first, size_t count, cadre_dtype dtype)
{
    for (size_t k = 0; k < count; k++) {
        size_t i = first + k;
        switch (dtype) {
        case CADRE_FLOAT32:
            ((float *)data)[k] = (float)real_at(rank, i);
            break;
        case CADRE_FLOAT64:
            ((double *)data)[k] = real_at(rank, i);
            break;
        case CADRE_BFLOAT16:
            ((uint16_t *)data)[k] = narrow((float)real_at(rank, i));
            break;
        case CADRE_INT32:
            ((int32_t *)data)[k] = (int32_t)draw(rank, i);
            break;
        case CADRE_INT64:
            ((int64_t *)data)[k] = (int64_t)draw(rank, i);
            break;
        }
    }
}

static int left_of(int n)
{
    int h = 1;
    while (h < n - h)
        h += h;
    return h;
}

#define PLAIN_ADD(a, b) ((a) + (b))
#define PLAIN_MUL(a, b) ((a) * (b))
#define ADD32(a, b)     ((int32_t)((uint32_t)(a) + (uint32_t)(b)))
#define MUL32(a, b)     ((int32_t)((uint32_t)(a) * (uint32_t)(b)))
#define ADD64(a, b)     ((int64_t)((uint64_t)(a) + (uint64_t)(b)))
#define MUL64(a, b)     ((int64_t)((uint64_t)(a) * (uint64_t)(b)))

#define TREE(NAME, T, STORED, WIDEN, ADD, MUL)                                                                         \
    static T NAME(int lo, int n, size_t i, cadre_dtype dtype, cadre_op op)                                             \
    {                                                                                                                  \
        if (n == 1) {                                                                                                  \
            STORED stored;                                                                                             \
            reference_input(&stored, lo, i, 1, dtype);                                                                 \
            return WIDEN(stored);                                                                                      \
        }                                                                                                              \
        int h = left_of(n);                                                                                            \
        T a = NAME(lo, h, i, dtype, op), b = NAME(lo + h, n - h, i, dtype, op);                                        \
        switch (op) {                                                                                                  \
        case CADRE_PRODUCT:                                                                                            \
            return MUL(a, b);                                                                                          \
        case CADRE_MIN:                                                                                                \
            return a != a ? a : b != b ? b : a < b ? a : b;                                                            \
        case CADRE_MAX:                                                                                                \
            return a != a ? a : b != b ? b : a > b ? a : b;                                                            \
        default:                                                                                                       \
            return ADD(a, b);                                                                                          \
        }                                                                                                              \
    }

#define SAME(x) (x)
TREE(tree_float, float, float, SAME, PLAIN_ADD, PLAIN_MUL)
TREE(tree_double, double, double, SAME, PLAIN_ADD, PLAIN_MUL)
TREE(tree_half, float, uint16_t, widen, PLAIN_ADD, PLAIN_MUL)
TREE(tree_int, int32_t, int32_t, SAME, ADD32, MUL32)
TREE(tree_long, int64_t, int64_t, SAME, ADD64, MUL64)

void reference_reduced(void *data, int world, size_t first, size_t count, cadre_dtype dtype, cadre_op op)
{
    for (size_t k = 0; k < count; k++) {
        size_t i = first + k;
        int mean = op == CADRE_MEAN ? world : 1;
        switch (dtype) {
        case CADRE_FLOAT32:
            ((float *)data)[k] = tree_float(0, world, i, dtype, op) / (float)mean;
            break;
        case CADRE_FLOAT64:
            ((double *)data)[k] = tree_double(0, world, i, dtype, op) / (double)mean;
            break;
        case CADRE_BFLOAT16:
            ((uint16_t *)data)[k] = narrow(tree_half(0, world, i, dtype, op) / (float)mean);
            break;
        case CADRE_INT32:
            ((int32_t *)data)[k] = tree_int(0, world, i, dtype, op) / mean;
            break;
        case CADRE_INT64:
            ((int64_t *)data)[k] = tree_long(0, world, i, dtype, op) / mean;
            break;
        }
    }
}

static double value_at(const void *data, size_t i, cadre_dtype dtype)
{
    switch (dtype) {
    case CADRE_FLOAT32:
        return ((const float *)data)[i];
    case CADRE_FLOAT64:
        return ((const double *)data)[i];
    case CADRE_BFLOAT16:
        return widen(((const uint16_t *)data)[i]);
    case CADRE_INT32:
        return ((const int32_t *)data)[i];
    default:
        return (double)((const int64_t *)data)[i];
    }
}

bool reference_close(const void *got, const void *wanted, size_t count, cadre_dtype dtype, cadre_op op)
{
    double epsilon = dtype == CADRE_FLOAT64 ? 0x1p-52 : dtype == CADRE_FLOAT32 ? 0x1p-23 : 0x1p-8;
    bool real = dtype <= CADRE_BFLOAT16, order = op == CADRE_MIN || op == CADRE_MAX;
    size_t size = cadre_dtype_size(dtype);
    for (size_t i = 0; i < count; i++) {
        if (memcmp((const char *)got + i * size, (const char *)wanted + i * size, size) == 0)
            continue;
        double a = value_at(got, i, dtype), b = value_at(wanted, i, dtype);
        if (isnan(b)                      ? real && (order || isnan(a))
            : real && op == CADRE_PRODUCT ? fabs(a - b) <= 8 * epsilon * fabs(b)
            : real && !order              ? fabs(a - b) <= 16 * 2048 * epsilon
                                          : op == CADRE_MEAN && fabs(a - b) <= 1)
            continue;
        return false;
    }
    return true;
}
