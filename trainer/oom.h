/* Did the kernel end processes for want of memory? A SIGKILL says nothing of its sender, the kernel's counters do. */
#ifndef TRAINER_OOM_H
#define TRAINER_OOM_H

#include <stdint.h>

/**
 * How many processes the kernel's OOM killer has ended so far: those of this process's memory cgroup where it has one of its own, else all of
 * the machine's. -1: it cannot be known. Compare two answers.
 */
int64_t trainer_oom_kills(void);

#endif
