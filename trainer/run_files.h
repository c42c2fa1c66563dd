/* The files of a run beside its store: checkpoint directories and result.json, one line a report. */
#ifndef TRAINER_RUN_FILES_H
#define TRAINER_RUN_FILES_H

#include "run.h"

/** Does the checkpoint lie in this trial's directory? A trial that takes up another one's lists that one's checkpoints, too. */
bool run_files_own(const trainer_run *run, const tracking_checkpoint *checkpoint);
/** Rename a checkpoint that cannot be used to damaged-..., for whoever wants to look into it. Fine when it is not there. */
int run_files_put_aside(const trainer_run *run, const tracking_checkpoint *checkpoint);
/** Remove what a lost attempt left behind: checkpoints that were never recorded, and temporary names. */
int run_files_sweep(trainer_run *run);
/** Drop the lines of result.json after report `report`. */
int run_files_roll_back(trainer_run *run, int64_t report);
int run_files_append_result(trainer_run *run, int64_t report, int64_t step, const cadre_metric *metrics, int count);
/** Let go of result.json, which stays open from report to report. */
void run_files_close_result(trainer_run *run);
/** Delete the checkpoints that checkpoint.keep does not keep; first from the record, then (the trial's own) from the disk. */
int run_files_prune(trainer_run *run);

/** The disk is full: remove the oldest checkpoint that can be spared (not the newest, the best, or a pinned one), and say so. `*freed`: there was one. */
int run_files_free_space(trainer_run *run, bool *freed);
/** Fill best_checkpoint and last_checkpoint of the result. */
int run_files_result_checkpoints(trainer_run *run);

#endif
