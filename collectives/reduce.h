/* The sums themselves: many arrays into one, in the order that cadre/collectives.h lays down. */
#ifndef COLLECTIVES_REDUCE_H
#define COLLECTIVES_REDUCE_H

#include "cadre/collectives.h"

/*
 * Reduce `count` elements of the `world` arrays in `from` and write the result to each of the `copies` arrays in `to`.
 * An array of `to` may be an array of `from` (same address), but may not overlap one otherwise. world >= 1.
 */
void collectives_reduce(void *const *to, int copies, const void *const *from, int world, size_t count,
                        cadre_dtype dtype, cadre_op op);

/* What other ranks are to read; see stream.c. Is a line that another core has read dear to write again? */
bool collectives_writing_is_dear(void);
/* For tests: 0 or 1 whatever the processor is, -1 by the processor. Before there are threads. */
void collectives_force_dear(int dear);
/* Where it is: memcpy past the caches. */
void collectives_stream(void *restrict to, const void *restrict from, size_t nbytes);
/* Where it is not: ask for lines just before they are written, best COLLECTIVES_CLAIM bytes at a time. */
enum { COLLECTIVES_CLAIM = 1024 };
void collectives_claim(const void *memory, size_t nbytes);

/*
 * For a reduction in two steps, within hosts and between them: bfloat16 goes as float32 in between, and a mean is
 * divided at the end, so the bits are those of one step. `by` > 0; `dtype` is no bfloat16.
 */
void collectives_widen(float *to, const void *from, size_t count);
void collectives_narrow(void *to, const float *from, size_t count);
void collectives_divide(void *data, size_t count, cadre_dtype dtype, int by);

/* One kernel: as above with the type and operation fixed. */
typedef void collectives_kernel(void *const *to, int copies, const void *const *from, int world, size_t count);

enum { COLLECTIVES_DTYPES = 5, COLLECTIVES_OPS = 5 };
extern collectives_kernel *const collectives_kernels_plain[COLLECTIVES_DTYPES][COLLECTIVES_OPS];
#if defined(CADRE_HAVE_AVX2)
extern collectives_kernel *const collectives_kernels_avx2[COLLECTIVES_DTYPES][COLLECTIVES_OPS];
#endif

#endif
