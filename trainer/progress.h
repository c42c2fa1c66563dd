/* What a run shows while it goes on: a live line on a terminal, else a line a report. */
#ifndef TRAINER_PROGRESS_H
#define TRAINER_PROGRESS_H

#include "cadre/trainer.h"

#include <jansson.h>
#include <stdbool.h>

typedef struct trainer_progress {
    bool on, live;     /* live: stdout is a terminal */
    bool line_open;    /* the live line stands without a newline */
    double last_time;  /* of the last rate sample, base_now() */
    int64_t last_samples;
    int64_t last_steps;
    double rate, step_rate; /* samples/s and steps/s, smoothed; 0: not known yet */
    double attempt_began;
    int64_t epoch, epochs, step, steps;
    char unit[24];
} trainer_progress;

void progress_init(trainer_progress *progress, cadre_progress_mode mode);
/** A new attempt: rates begin anew. */
void progress_attempt(trainer_progress *progress);
/** A worker's progress message. */
void progress_update(trainer_progress *progress, const json_t *message);
/** A report was recorded. */
void progress_report(trainer_progress *progress, int64_t step, const cadre_metric *metrics, int count);
/** A line of its own, whatever the live line shows. Nothing when progress is off. */
void progress_say(trainer_progress *progress, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void progress_end(trainer_progress *progress);

#endif
