/*
 * The owner's lock: a file beside the store, held by an open-file-description lock, so that it goes with the process
 * however that ends and a second open in the same process is refused too. Its text says who holds it.
 */
#ifndef TRACKING_LOCK_H
#define TRACKING_LOCK_H

#include <stdbool.h>
#include <stddef.h>

/** Take the lock of the store at `path`. `shown` is the store's path for messages. CADRE_EBUSY names the owner. */
int tracking_lock_take(const char *path, const char *shown, int *fd);
/** Give it back and remove its file. Not in a child that inherited `fd`: there the file stays, it is not the child's.
 */
void tracking_lock_release(const char *path, int fd);

/** Whether a process holds the lock of the store at `path`; `owner` (may be NULL) gets "pid 7 on host (user u, since
 * T)". Looks only: a process that wants the lock at that moment is not kept out. */
bool tracking_lock_held(const char *path, char *owner, size_t nbytes);

#endif
