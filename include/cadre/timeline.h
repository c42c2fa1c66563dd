/*
 * A timeline: what each rank did when, as a Chrome trace that Perfetto (ui.perfetto.dev) and chrome://tracing open. A run has one when
 * run.timeline names a file: all ranks write into it, and it is valid JSON at any moment. Cadre records the backward pass, every bucket, the
 * optimiser (cadre_ddp_step), waiting for data, reports and checkpoints; a program adds what it likes:
 *
 *     int64_t begun = cadre_timeline_begin();
 *     ... the forward pass ...
 *     cadre_timeline_end(begun, "train", "forward");
 *
 * Any thread. Without a timeline a pair of these calls costs some nanoseconds.
 */
#ifndef CADRE_TIMELINE_H
#define CADRE_TIMELINE_H

#include "cadre/status.h"

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/** The moment, for cadre_timeline_end; 0 when nothing is recorded. */
CADRE_API int64_t cadre_timeline_begin(void);
/** A span from `begun` until now. Nothing when `begun` is 0. Both words are copied; the name is cut at 200 bytes. */
CADRE_API void cadre_timeline_end(int64_t begun, const char *category, const char *name);
/** The same on a row of its own below the rank's main one, for what goes on beside it. */
CADRE_API void cadre_timeline_end_beside(int64_t begun, const char *category, const char *name);

#ifdef __cplusplus
}
#endif
#endif
