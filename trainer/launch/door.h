/*
 * Where executed workers call in: a Unix socket in a directory that is the group's alone (0700, and swept with it). A caller becomes a worker's
 * channel when it is a process of our user and its first frame is a hello with the group's key, of this attempt, for a rank that has not called
 * yet. Whoever is not is refused, in one line of the log, and nothing else happens: callers have so long for their hello, and so many of them are
 * heard at once that the workers always are.
 */
#ifndef TRAINER_LAUNCH_DOOR_H
#define TRAINER_LAUNCH_DOOR_H

#include "trainer/group.h"

typedef struct door door;

/** Make the directory and listen in it, on the group's loop. `*out` is set also on failure, for door_close (NULL: no memory). */
int door_open(trainer_group *group, door **out);
/** Borrowed, until it is closed. */
const char *door_directory(const door *door);
/** What a worker has to say in its hello: 128 random bits as text. It travels in the environment. */
const char *door_key(const door *door);
/** Turn away who is still there and remove the directory; the rest goes when the loop has let go of it. NULL is fine. */
void door_close(door *door);

#endif
