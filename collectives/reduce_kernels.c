/*
 * The kernels, one for each type and operation. Compiled once for the plain instruction set and, on x86, once for AVX2;
 * KERNELS names the table. No fused multiply-add, so all machines get the same bits.
 *
 * Work goes in blocks that stay in the first-level cache: the tree is evaluated for a block into `sum`, finished (mean,
 * rounding) and written to every copy. Two arrays, the commonest case, take one pass without `sum`.
 */
#include "bfloat16.h"
#include "reduce.h"

#ifndef KERNELS
#define KERNELS collectives_kernels_plain
#endif

enum { BLOCK = 1024 };

/* Lanes are independent of each other even where an output is one of the inputs: same index, same address. */
#if defined(__clang__)
#define LANES _Pragma("clang loop vectorize(assume_safety)")
#else
#define LANES _Pragma("GCC ivdep")
#endif

/* The left part of a tree over n: the largest power of two below n. */
static int left_part(int n)
{
    int h = 1;
    while (h * 2 < n)
        h *= 2;
    return h;
}

#define AS_IS(x) (x)

#define ADD(a, b, T, U)           ((a) + (b))
#define MULTIPLY(a, b, T, U)      ((a) * (b))
#define WRAP_ADD(a, b, T, U)      ((T)((U)(a) + (U)(b)))
#define WRAP_MULTIPLY(a, b, T, U) ((T)((U)(a) * (U)(b)))
/* A NaN on either side wins. */
#define LESSER(a, b, T, U)  (((int)((a) < (b)) | (int)((a) != (a))) ? (a) : (b))
#define GREATER(a, b, T, U) (((int)((a) > (b)) | (int)((a) != (a))) ? (a) : (b))

#define FINISH_NONE(x, T, n) (x)
#define FINISH_MEAN(x, T, n) ((T)((x) / (T)(n)))

#define KERNEL(NAME, STORED, T, U, LOAD, STORE, COMBINE, FINISH)                                                       \
    static void NAME##_tree(T *restrict sum, const STORED *const *from, int n, size_t at, size_t count)                \
    {                                                                                                                  \
        const STORED *a = from[0] + at;                                                                                \
        if (n == 1) {                                                                                                  \
            LANES for (size_t i = 0; i < count; i++) sum[i] = LOAD(a[i]);                                              \
            return;                                                                                                    \
        }                                                                                                              \
        const STORED *b = from[1] + at;                                                                                \
        if (n == 2) {                                                                                                  \
            LANES for (size_t i = 0; i < count; i++) sum[i] = COMBINE(LOAD(a[i]), LOAD(b[i]), T, U);                   \
            return;                                                                                                    \
        }                                                                                                              \
        T right[BLOCK];                                                                                                \
        int h = left_part(n);                                                                                          \
        NAME##_tree(sum, from, h, at, count);                                                                          \
        NAME##_tree(right, from + h, n - h, at, count);                                                                \
        LANES for (size_t i = 0; i < count; i++) sum[i] = COMBINE(sum[i], right[i], T, U);                             \
    }                                                                                                                  \
    static void NAME##_two(STORED *x, STORED *y, const STORED *a, const STORED *b, size_t count)                       \
    {                                                                                                                  \
        LANES for (size_t i = 0; i < count; i++)                                                                       \
        {                                                                                                              \
            STORED value = STORE(FINISH(COMBINE(LOAD(a[i]), LOAD(b[i]), T, U), T, 2));                                 \
            x[i] = value;                                                                                              \
            y[i] = value;                                                                                              \
        }                                                                                                              \
    }                                                                                                                  \
    static void NAME##_two_into_one(STORED *x, const STORED *a, const STORED *b, size_t count)                         \
    {                                                                                                                  \
        LANES for (size_t i = 0; i < count; i++) x[i] = STORE(FINISH(COMBINE(LOAD(a[i]), LOAD(b[i]), T, U), T, 2));    \
    }                                                                                                                  \
    static void NAME(void *const *to, int copies, const void *const *from, int world, size_t count)                    \
    {                                                                                                                  \
        if (world == 2 && copies <= 2) {                                                                               \
            if (copies == 2)                                                                                           \
                NAME##_two(to[0], to[1], from[0], from[1], count);                                                     \
            else                                                                                                       \
                NAME##_two_into_one(to[0], from[0], from[1], count);                                                   \
            return;                                                                                                    \
        }                                                                                                              \
        for (size_t at = 0; at < count; at += BLOCK) {                                                                 \
            T sum[BLOCK];                                                                                              \
            size_t some = count - at < BLOCK ? count - at : BLOCK;                                                     \
            NAME##_tree(sum, (const STORED *const *)from, world, at, some);                                            \
            STORED *x = (STORED *)to[0] + at;                                                                          \
            LANES for (size_t i = 0; i < some; i++) x[i] = STORE(FINISH(sum[i], T, world));                            \
            for (int c = 1; c < copies; c++)                                                                           \
                memcpy((STORED *)to[c] + at, x, some * sizeof *x);                                                     \
        }                                                                                                              \
    }

#define KERNELS_OF(TYPE, STORED, T, U, LOAD, STORE, PLUS, TIMES)                                                       \
    KERNEL(TYPE##_sum, STORED, T, U, LOAD, STORE, PLUS, FINISH_NONE)                                                   \
    KERNEL(TYPE##_mean, STORED, T, U, LOAD, STORE, PLUS, FINISH_MEAN)                                                  \
    KERNEL(TYPE##_min, STORED, T, U, LOAD, STORE, LESSER, FINISH_NONE)                                                 \
    KERNEL(TYPE##_max, STORED, T, U, LOAD, STORE, GREATER, FINISH_NONE)                                                \
    KERNEL(TYPE##_product, STORED, T, U, LOAD, STORE, TIMES, FINISH_NONE)

KERNELS_OF(float32, float, float, float, AS_IS, AS_IS, ADD, MULTIPLY)
KERNELS_OF(float64, double, double, double, AS_IS, AS_IS, ADD, MULTIPLY)
KERNELS_OF(bfloat16, uint16_t, float, float, load_bf16, store_bf16, ADD, MULTIPLY)
KERNELS_OF(int32, int32_t, int32_t, uint32_t, AS_IS, AS_IS, WRAP_ADD, WRAP_MULTIPLY)
KERNELS_OF(int64, int64_t, int64_t, uint64_t, AS_IS, AS_IS, WRAP_ADD, WRAP_MULTIPLY)

#define ROW(TYPE)                                                                                                      \
    {                                                                                                                  \
        TYPE##_sum, TYPE##_mean, TYPE##_min, TYPE##_max, TYPE##_product                                                \
    }

collectives_kernel *const KERNELS[COLLECTIVES_DTYPES][COLLECTIVES_OPS] = {ROW(float32), ROW(float64), ROW(bfloat16),
                                                                          ROW(int32), ROW(int64)};
