/* The ways in which fit can run a trainer. Each takes an opened run to its end and answers as cadre_trainer_fit does. */
#ifndef TRAINER_FIT_H
#define TRAINER_FIT_H

#include "launch/zygote.h"
#include "link.h"
#include "run.h"

/** Workers in processes of their own, under this one as the controller. `zygote` (fd -1: none) is taken over. */
int fit_controlled(trainer_run *run, zygote *zygote);
/** One worker, in this process. */
int fit_inproc(trainer_run *run);
/** This process is one of the ranks that mpirun or srun started; rank 0 records. Opens the run itself. */
int fit_attached(const cadre_trainer *trainer, double begun, cadre_result *result);

/** The checks of a trainer's options, but for what the machine must have for them. CADRE_EINVAL names the option. */
int fit_check(const cadre_trainer *trainer);

/** Can run.timeline be written? Before anything is begun; what is there stays. NULL is fine. */
int fit_check_timeline(const char *path);
/** What is there goes when the run is opened, and before any rank opens the file: they meet only later. NULL is fine. */
void fit_drop_timeline(const char *path);

/** Cores that this process may use, and GPUs that the machine has. */
int fit_cores(void);
int fit_gpus(void);

/** May `world` processes stand for so many logical workers? Sums over a process's own must be whole branches of the tree over all. */
bool fit_logical(int logical, int world);

/** Threads that each of `world` workers gets on a machine of which this process may use so many cores. */
int fit_threads(const cadre_trainer *trainer, int world);
/** The same when they have `cores` in all. */
int fit_threads_of(const cadre_trainer *trainer, int world, double cores);

/** A link that hands messages straight to the run. */
int fit_link_direct(trainer_link *link, trainer_run *run);

#endif
