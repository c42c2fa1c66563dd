/* What run.c (a run's beginning, its attempts and its end) and run_take.c (what its workers say) share. */
#ifndef TRAINER_RUN_INSIDE_H
#define TRAINER_RUN_INSIDE_H

#include "run.h"

/** The metric of that name (NULL: none); NULL when the report does not have it. */
const cadre_metric *run_find_metric(const cadre_metric *metrics, int count, const char *name);
/** A report is the run's result so far. */
void run_keep_report(trainer_run *run, const cadre_metric *metrics, int count);
/** The attempt's row, and the trial's where it is not made yet: when there is something to record. */
int run_record_attempt(trainer_run *run);
void run_set_objective(trainer_run *run, const char *metric);
tracking_direction run_direction(const trainer_run *run);

#endif
