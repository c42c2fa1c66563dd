#include "reduce.h"

size_t cadre_dtype_size(cadre_dtype dtype)
{
    switch (dtype) {
    case CADRE_FLOAT32:
    case CADRE_INT32:
        return 4;
    case CADRE_FLOAT64:
    case CADRE_INT64:
        return 8;
    case CADRE_BFLOAT16:
        return 2;
    }
    return 0;
}

const char *cadre_dtype_name(cadre_dtype dtype)
{
    switch (dtype) {
    case CADRE_FLOAT32:
        return "float32";
    case CADRE_FLOAT64:
        return "float64";
    case CADRE_BFLOAT16:
        return "bfloat16";
    case CADRE_INT32:
        return "int32";
    case CADRE_INT64:
        return "int64";
    }
    return "unknown";
}

/* Not function multiversioning: its resolvers run before a sanitizer's runtime is up. */
void collectives_reduce(void *const *to, int copies, const void *const *from, int world, size_t count,
                        cadre_dtype dtype, cadre_op op)
{
#if defined(CADRE_HAVE_AVX2)
    if (__builtin_cpu_supports("avx2")) {
        collectives_kernels_avx2[dtype][op](to, copies, from, world, count);
        return;
    }
#endif
    collectives_kernels_plain[dtype][op](to, copies, from, world, count);
}
