/* The launchers: each a way to start the workers of a group. */
#ifndef TRAINER_LAUNCH_LAUNCH_H
#define TRAINER_LAUNCH_LAUNCH_H

#include "trainer/group.h"
#include "zygote.h"

/** Workers forked by the zygote, which the launcher takes over. Watches it on `loop`. */
int launch_fork_new(uv_loop_t *loop, zygote *zygote, trainer_launcher **out);
/** The program executed anew for every worker: for programs that have threads or CUDA open by the time of fit. */
int launch_exec_new(uv_loop_t *loop, const char *trainer_name, trainer_launcher **out);
/** One mpirun a group, which executes the program anew. */
int launch_mpirun_new(uv_loop_t *loop, const char *trainer_name, trainer_launcher **out);
/** Let go of a launcher's handles; the loop must run once more before it is closed. NULL is fine. */
void launch_free(trainer_launcher *launcher);

/** The command line of this very program, "exe" replaced by its real path; free the array and its first string block with launch_free_argv. */
int launch_own_argv(char ***argv);
void launch_free_argv(char **argv);
/** The environment without what an MPI launcher or a trainer of ours put there, plus `extra` (ended by NULL, borrowed strings). */
int launch_environment(const char *const *extra, char ***environment);

/** Does this program already have threads or CUDA open, so that a fork could not go on from it? Says what. */
bool launch_cannot_fork(const char **what);

#endif
