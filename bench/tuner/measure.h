/* What the tuner's bench measures. Each function is called in a process of its own and answers 0, or -1 with a line on stderr. */
#ifndef BENCH_TUNER_MEASURE_H
#define BENCH_TUNER_MEASURE_H

#include <stdint.h>

typedef struct measurement {
    double seconds;       /* of all of it, opening and closing the store included */
    int64_t count;        /* trials or reports that are in the store afterwards */
    double peak_mib;      /* VmHWM of the process that called fit */
    double median_ms, p99_ms;
} measurement;

/** `count` processes that do nothing, `at_once` at a time, forked, ended and waited for by plain loops. */
int measure_bare(int64_t count, int at_once, measurement *out);
/** From before a fork to the child's first line. */
int measure_bare_start(int64_t count, measurement *out);
/** `count` trials that report once and end, on `slots` slots. `storage` must be there. */
int measure_trials(const char *storage, int64_t count, int slots, measurement *out);
/** The same under the launcher sim. */
int measure_sim(const char *storage, int64_t count, measurement *out);
/** From the searcher's ask to the first line of the train function, one trial at a time. */
int measure_start(const char *storage, int64_t count, measurement *out);
/** `trials` trials at once that report `reports` times each in a tight loop. */
int measure_reports(const char *storage, int trials, int64_t reports, measurement *out);

#endif
