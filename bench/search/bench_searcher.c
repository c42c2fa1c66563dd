/* Ask and tell for Python's ctypes: a searcher of ours over a box, for benches whose problems live there (run_bbob.py).
 */
#include "cadre/search.h"

#include <stdio.h>
#include <stdlib.h>

#define EXPORT __attribute__((visibility("default")))

typedef struct bench_searcher {
    cadre_space *space;
    cadre_searcher *searcher;
    int64_t number;
} bench_searcher;

EXPORT void bench_searcher_free(bench_searcher *bench)
{
    cadre_searcher_free(bench->searcher);
    cadre_space_free(bench->space);
    free(bench);
}

/** NULL: cadre_error_message is on stderr. */
EXPORT bench_searcher *bench_searcher_new(const char *name, const char *json, int ndims, double low, double high,
                                          uint64_t seed)
{
    cadre_param *params = calloc((size_t)ndims + 1, sizeof *params);
    char(*names)[16] = calloc((size_t)ndims, sizeof *names);
    bench_searcher *bench = calloc(1, sizeof *bench);
    if (!params || !names || !bench)
        abort();
    for (int i = 0; i < ndims; i++) {
        snprintf(names[i], sizeof names[i], "x%d", i);
        params[i] = (cadre_param){.kind = CADRE_PARAM_UNIFORM, .name = names[i], .low = low, .high = high};
    }
    params[ndims] = (cadre_param){.kind = CADRE_PARAM_END};
    int status = cadre_space_new(params, &bench->space);
    if (!status)
        status = cadre_searcher_new(bench->space, &(cadre_search){.name = name, .json = json}, seed, &bench->searcher);
    free(params);
    free(names);
    if (!status)
        return bench;
    fprintf(stderr, "bench_searcher: %s\n", cadre_error_message());
    bench_searcher_free(bench);
    return NULL;
}

EXPORT int bench_searcher_ask(bench_searcher *bench, double *x)
{
    return cadre_searcher_ask(bench->searcher, &bench->number, x);
}

/** What came of the last ask. */
EXPORT int bench_searcher_tell(bench_searcher *bench, double value)
{
    return cadre_searcher_tell(bench->searcher, bench->number,
                               &(cadre_outcome){.end = CADRE_ENDED_COMPLETE, .value = value});
}
