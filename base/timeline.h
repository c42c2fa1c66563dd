/* The timeline's file (cadre/timeline.h). One per process. */
#ifndef BASE_TIMELINE_H
#define BASE_TIMELINE_H

#include "cadre/timeline.h"

/** Record into the file at `path` from here on, which other processes may have begun; `title` names this one ("rank 1"). A message
 *  when it cannot be opened. Not while another thread records. */
int base_timeline_open(const char *path, const char *title, int order);
/** Write what has been recorded. What goes wrong is kept for the close. */
void base_timeline_flush(void);
/** Flush and record no more. The first error since the opening: a timeline that is not whole is no reason for a run to fail before. */
int base_timeline_close(void);

#endif
