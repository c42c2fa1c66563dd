/*
 * Writing what another core is to read. Where that core has read the same lines before, an ordinary store has to take
 * each line back from its cache first. On AMD's processors one after the other: measured on Zen 4, 26 ns a line of 64
 * bytes, ten times what the copy itself takes. Stores past the caches do not. On Intel's (Sapphire Rapids) many are
 * taken back at once, and going by way of the memory costs a quarter of an all-reduce of four ranks. More are on their
 * way when they are asked for before they are written, which shortens an all-reduce of two ranks by a fifth.
 */
#include "reduce.h"

#include <stdint.h>
#include <string.h>
#if defined(__SSE2__)
#include <emmintrin.h>
#endif

enum { LINE = 64, SMALL = 2048 };

static int forced = -1;

void collectives_force_dear(int dear) { forced = dear; }

bool collectives_writing_is_dear(void)
{
    if (forced >= 0)
        return forced;
#if defined(__SSE2__)
    return __builtin_cpu_is("amd");
#else
    return false;
#endif
}

void collectives_stream(void *restrict to, const void *restrict from, size_t nbytes)
{
#if defined(__SSE2__)
    if (nbytes >= SMALL) {
        size_t head = (LINE - (uintptr_t)to % LINE) % LINE, lines = (nbytes - head) / LINE;
        memcpy(to, from, head);
        __m128i *x = (__m128i *)(void *)((char *)to + head);
        const __m128i *a = (const __m128i *)(const void *)((const char *)from + head);
        for (size_t i = 0; i < lines; i++, x += 4, a += 4) {
            __m128i first = _mm_loadu_si128(a), second = _mm_loadu_si128(a + 1), third = _mm_loadu_si128(a + 2),
                    fourth = _mm_loadu_si128(a + 3);
            _mm_stream_si128(x, first);
            _mm_stream_si128(x + 1, second);
            _mm_stream_si128(x + 2, third);
            _mm_stream_si128(x + 3, fourth);
        }
        _mm_sfence(); /* before whoever reads them is told */
        size_t done = head + lines * LINE;
        to = (char *)to + done;
        from = (const char *)from + done;
        nbytes -= done;
    }
#endif
    memcpy(to, from, nbytes);
}

#if defined(__x86_64__)
__attribute__((target("prfchw")))
#endif
void collectives_claim(const void *memory, size_t nbytes)
{
    for (size_t at = 0; at < nbytes; at += LINE)
        __builtin_prefetch((const char *)memory + at, 1);
}
