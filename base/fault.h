/*
 * Fault knobs for tests: the nth allocation, the nth write, named crash points.
 *
 * The environment variable CADRE_FAULT holds a comma-separated list of POINT:N[:ACTION]; at the Nth passage (from 1) of
 * that point, in each process, the action is taken: fail (default; the operation reports an error), enospc, eio, short
 * (a short write), kill (SIGKILL to itself), segv, stop (SIGSTOP to itself), exit (exit code 3), oom (an allocation that
 * fails). N followed by "+" means from the Nth on. RANK restricts by a suffix "@rank". Without the variable a point costs one
 * predictable branch.
 */
#ifndef BASE_FAULT_H
#define BASE_FAULT_H

#include <stdbool.h>

/** errno to pretend at this passage, or 0; kill, segv, stop and exit do not return. -1 means "write short". */
#define BASE_FAULT(point) (__builtin_expect(base_fault_armed, 0) ? base_fault_hit(point) : 0)

extern bool base_fault_armed;
int base_fault_hit(const char *point);

/** Arm from `spec` (as CADRE_FAULT); NULL disarms. Counters start again. For tests in the same process. */
void base_fault_set(const char *spec);

/** This process is rank `rank` from now on (for "@rank"), attempt `attempt`: counts start again. */
void base_fault_set_rank(int rank);

#endif
