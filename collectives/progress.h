/* For who watches over a rank: an operation that is through is a sign of life. */
#ifndef COLLECTIVES_PROGRESS_H
#define COLLECTIVES_PROGRESS_H

#include "cadre/collectives.h"

/** `call` (NULL: nobody) is called after every operation that succeeds, on the thread that waited for it. It may not use the communicator. */
void collectives_on_progress(cadre_comm *comm, void (*call)(void *user), void *user);

#endif
