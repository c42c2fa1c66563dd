/*
 * A file system under SQLite that fails when it is told to: the nth operation that changes something (write, sync,
 * truncate, making or removing a file, growing the log's index) reports a full or a broken disk, once or from then on.
 */
#ifndef TESTS_TRACKING_FAULT_VFS_H
#define TESTS_TRACKING_FAULT_VFS_H

#include <stdbool.h>

/** Make it SQLite's default for connections opened from now on. Nothing fails until it is armed. */
void fault_vfs_install(void);
enum { FAULT_VFS_KILL = -1 };

/** Fail the `nth` operation from now (from 1) with the SQLite code `rc`; 0: none. `from_then`: and all after it. FAULT_VFS_KILL: this process is killed
 * at it, a write being half done. */
void fault_vfs_arm(long nth, int rc, bool from_then);
/** Operations passed since it was armed. */
long fault_vfs_passed(void);

#endif
