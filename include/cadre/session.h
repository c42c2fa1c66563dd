/*
 * The session: a worker's view of the training run it is part of. The train function gets one and is done with it when it returns.
 *
 * Functions marked "collective" are called by every rank equally often and in the same order. A session is used by one thread.
 * After an error of a collective function the train function should return that error: the group is then ended and, while
 * max_failures allows, started again from the last committed checkpoint.
 */
#ifndef CADRE_SESSION_H
#define CADRE_SESSION_H

#include "cadre/collectives.h"
#include "cadre/config.h"
#include "cadre/state.h"
#include "cadre/status.h"

#include <stddef.h>
#include <stdint.h>
#ifdef __cplusplus
#include <initializer_list>
#endif

#ifdef __cplusplus
extern "C" {
#endif

typedef struct cadre_session cadre_session;

CADRE_API int cadre_session_rank(const cadre_session *session);
CADRE_API int cadre_session_world(const cadre_session *session);
/**
 * Logical workers (scaling.logical_workers): how many there are in all (without, the world), how many this process stands for (without, 1), and the
 * rank among all of the index-th of them, from 0.
 */
CADRE_API int cadre_session_logical_world(const cadre_session *session);
CADRE_API int cadre_session_logical_count(const cadre_session *session);
CADRE_API int cadre_session_logical_rank(const cadre_session *session, int index);
/** Starts of this trial's worker group before this one: 0 on a first attempt. */
CADRE_API int cadre_session_attempt(const cadre_session *session);
/** Threads that a worker may use for its arithmetic (cores_per_worker, or the cores shared out evenly; at least 1). */
CADRE_API int cadre_session_threads(const cadre_session *session);
/** The communicator of the worker group. Borrowed. */
CADRE_API cadre_comm *cadre_session_comm(cadre_session *session);
/** The trial's directory, for files of the program's own. Borrowed. */
CADRE_API const char *cadre_session_directory(const cadre_session *session);

/**
 * Collective. Fill `state` from the checkpoint that this attempt goes on from; does nothing (CADRE_OK) where there is none, as on a
 * first attempt. Call it once, after all entries are added and before the first step. An attempt that has a checkpoint to go on from
 * and does not restore it cannot report (CADRE_ESTATE). CADRE_EMISMATCH when the state has another shape than was saved.
 */
CADRE_API int cadre_session_restore(cadre_session *session, cadre_state *state);

/** How the values of the ranks make one. */
typedef enum cadre_reduce {
    CADRE_REDUCE_NONE = 0, /* rank 0's value is recorded */
    CADRE_REDUCE_SUM,
    CADRE_REDUCE_MEAN,
    CADRE_REDUCE_MIN,
    CADRE_REDUCE_MAX,
    CADRE_REDUCE_RATIO, /* sum of the values over sum of the weights: {"accuracy", correct, CADRE_REDUCE_RATIO, seen} */
} cadre_reduce;

typedef struct cadre_metric {
    const char *name; /* at most 100 bytes */
    double value;     /* NaN and infinities are recorded as such */
    cadre_reduce reduce;
    double weight; /* for CADRE_REDUCE_RATIO */
} cadre_metric;

/**
 * Metrics in place: cadre_report(s, CADRE_METRICS(CADRE_METRIC("loss", loss), CADRE_METRIC_RATIO("accuracy", hits, seen)), state).
 * A plain {"loss", loss} will do, too; compilers warn of what it leaves out where -Wextra is on. In C++ they live to the end of the full expression.
 */
#ifdef __cplusplus
#define CADRE_METRICS(...) \
    (std::initializer_list<cadre_metric>{__VA_ARGS__, {NULL, 0, CADRE_REDUCE_NONE, 0}}.begin())
#else
#define CADRE_METRICS(...) ((const cadre_metric[]){__VA_ARGS__, {NULL, 0, CADRE_REDUCE_NONE, 0}})
#endif
/* clang-format off: one a line */
#define CADRE_METRIC(name, value)               {name, value, CADRE_REDUCE_NONE, 0}
#define CADRE_METRIC_SUM(name, value)           {name, value, CADRE_REDUCE_SUM, 0}
#define CADRE_METRIC_MEAN(name, value)          {name, value, CADRE_REDUCE_MEAN, 0}
#define CADRE_METRIC_MIN(name, value)           {name, value, CADRE_REDUCE_MIN, 0}
#define CADRE_METRIC_MAX(name, value)           {name, value, CADRE_REDUCE_MAX, 0}
#define CADRE_METRIC_RATIO(name, value, weight) {name, value, CADRE_REDUCE_RATIO, weight}
/* clang-format on */

enum { CADRE_MAX_METRICS = 64 };

/**
 * Collective. Record one report: `metrics`, ended by a NULL name, the same names on every rank; with `state` (NULL: none) also a checkpoint.
 * A report's step is its number, counted from 1 on over attempts. Returns CADRE_OK to go on or CADRE_STOP (the scheduler, the user or the
 * batch system want it to end): the state is saved then, and the train function should return CADRE_OK. The same answer on all ranks.
 * It does not wait for the record to be committed unless there is a checkpoint.
 * CADRE_EINVAL: no metrics, a bad name, too many; CADRE_EMISMATCH: the ranks report different things (says who and what);
 * CADRE_ENOSPC and other errors of the checkpoint; CADRE_ECLOSED: the controller is gone.
 */
CADRE_API int cadre_report(cadre_session *session, const cadre_metric *metrics, cadre_state *state);

/** The same with a step of the program's own, greater than that of the report before. */
CADRE_API int cadre_report_at(cadre_session *session, int64_t step, const cadre_metric *metrics, cadre_state *state);

/**
 * Collective. Call it after each optimiser step. CADRE_OK to go on, CADRE_STOP to leave: then `state` (may be NULL) has been saved and the train
 * function should return CADRE_OK. Also saves every checkpoint.every_steps steps. Nearly free: with ddp the wish to leave rides on the
 * gradient sync; without, it is one small all-reduce.
 */
CADRE_API int cadre_step(cadre_session *session, cadre_state *state);

/** What the progress line shows. Zero fields are not shown. */
typedef struct cadre_progress {
    int64_t epoch, epochs; /* epoch from 1 */
    int64_t step, steps;   /* within the epoch, from 1 */
    int64_t samples;       /* done so far in this attempt, by all ranks; gives samples/s */
    const char *unit;      /* what a sample is: "images"; NULL: "samples" */
    const cadre_metric *metrics; /* ended by a NULL name; may be NULL */
} cadre_progress;

/** Tell the progress line; not collective, only rank 0's is shown. Cheap: at most ten a second are sent. */
CADRE_API void cadre_session_progress(cadre_session *session, const cadre_progress *progress);

#ifdef __cplusplus
}
#endif
#endif
