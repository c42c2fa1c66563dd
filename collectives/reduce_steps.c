/* What a reduction in two steps needs around the kernels. Compiled like them. */
#include "bfloat16.h"
#include "reduce.h"

void collectives_widen(float *restrict to, const void *restrict from, size_t count)
{
    const uint16_t *stored = from;
    for (size_t i = 0; i < count; i++)
        to[i] = load_bf16(stored[i]);
}

void collectives_narrow(void *restrict to, const float *restrict from, size_t count)
{
    uint16_t *stored = to;
    for (size_t i = 0; i < count; i++)
        stored[i] = store_bf16(from[i]);
}

#define DIVIDE(T)                                                                                                      \
    do {                                                                                                               \
        T *values = data, n = (T)by;                                                                                   \
        for (size_t i = 0; i < count; i++)                                                                             \
            values[i] /= n;                                                                                            \
    } while (0)

void collectives_divide(void *data, size_t count, cadre_dtype dtype, int by)
{
    switch (dtype) {
    case CADRE_FLOAT32:
        DIVIDE(float);
        break;
    case CADRE_FLOAT64:
        DIVIDE(double);
        break;
    case CADRE_INT32:
        DIVIDE(int32_t);
        break;
    case CADRE_INT64:
        DIVIDE(int64_t);
        break;
    default:
        break;
    }
}
