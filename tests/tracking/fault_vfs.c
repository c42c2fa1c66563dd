#include "fault_vfs.h"

#include <errno.h>
#include <signal.h>
#include <sqlite3.h>
#include <string.h>

static struct {
    sqlite3_vfs *real;
    long passed, at;
    int rc;
    bool from_then;
} layer;

struct file {
    sqlite3_file base;
    sqlite3_file *real; /* behind this struct, in the same memory */
};

static bool dies(void) { return layer.at && layer.rc == FAULT_VFS_KILL && layer.passed == layer.at; }

static int strike(void)
{
    layer.passed++;
    if (dies())
        raise(SIGKILL);
    bool now = layer.at && layer.rc != FAULT_VFS_KILL && (layer.passed == layer.at || (layer.from_then && layer.passed > layer.at));
    if (now)
        errno = (layer.rc & 0xff) == SQLITE_FULL ? ENOSPC : EIO; /* SQLite asks for it */
    return now ? layer.rc : SQLITE_OK;
}

#define REAL(file) (((struct file *)(file))->real)

static int file_close(sqlite3_file *file)
{
    return REAL(file)->pMethods ? REAL(file)->pMethods->xClose(REAL(file)) : SQLITE_OK;
}

static int file_read(sqlite3_file *file, void *bytes, int nbytes, sqlite3_int64 at)
{
    return REAL(file)->pMethods->xRead(REAL(file), bytes, nbytes, at);
}

static int file_write(sqlite3_file *file, const void *bytes, int nbytes, sqlite3_int64 at)
{
    if (layer.at == layer.passed + 1 && layer.rc == FAULT_VFS_KILL)
        REAL(file)->pMethods->xWrite(REAL(file), bytes, nbytes / 2, at);
    int rc = strike();
    if (rc != SQLITE_OK) { /* half of it arrives, as on a disk that fills up */
        REAL(file)->pMethods->xWrite(REAL(file), bytes, nbytes / 2, at);
        return rc;
    }
    return REAL(file)->pMethods->xWrite(REAL(file), bytes, nbytes, at);
}

static int file_truncate(sqlite3_file *file, sqlite3_int64 size)
{
    int rc = strike();
    return rc ? rc : REAL(file)->pMethods->xTruncate(REAL(file), size);
}

static int file_sync(sqlite3_file *file, int flags)
{
    int rc = strike();
    return rc ? rc : REAL(file)->pMethods->xSync(REAL(file), flags);
}

static int file_size(sqlite3_file *file, sqlite3_int64 *size)
{
    return REAL(file)->pMethods->xFileSize(REAL(file), size);
}
static int file_lock(sqlite3_file *file, int level) { return REAL(file)->pMethods->xLock(REAL(file), level); }
static int file_unlock(sqlite3_file *file, int level) { return REAL(file)->pMethods->xUnlock(REAL(file), level); }
static int file_reserved(sqlite3_file *file, int *out)
{
    return REAL(file)->pMethods->xCheckReservedLock(REAL(file), out);
}
static int file_control(sqlite3_file *file, int op, void *arg)
{
    return REAL(file)->pMethods->xFileControl(REAL(file), op, arg);
}
static int file_sector(sqlite3_file *file) { return REAL(file)->pMethods->xSectorSize(REAL(file)); }
static int file_traits(sqlite3_file *file) { return REAL(file)->pMethods->xDeviceCharacteristics(REAL(file)); }

static int file_shm_map(sqlite3_file *file, int page, int size, int extend, void volatile **out)
{
    int rc = extend ? strike() : SQLITE_OK;
    return rc ? rc : REAL(file)->pMethods->xShmMap(REAL(file), page, size, extend, out);
}

static int file_shm_lock(sqlite3_file *file, int offset, int count, int flags)
{
    return REAL(file)->pMethods->xShmLock(REAL(file), offset, count, flags);
}

static void file_shm_barrier(sqlite3_file *file) { REAL(file)->pMethods->xShmBarrier(REAL(file)); }
static int file_shm_unmap(sqlite3_file *file, int remove)
{
    return REAL(file)->pMethods->xShmUnmap(REAL(file), remove);
}

static const sqlite3_io_methods methods = {
    .iVersion = 2,
    .xClose = file_close,
    .xRead = file_read,
    .xWrite = file_write,
    .xTruncate = file_truncate,
    .xSync = file_sync,
    .xFileSize = file_size,
    .xLock = file_lock,
    .xUnlock = file_unlock,
    .xCheckReservedLock = file_reserved,
    .xFileControl = file_control,
    .xSectorSize = file_sector,
    .xDeviceCharacteristics = file_traits,
    .xShmMap = file_shm_map,
    .xShmLock = file_shm_lock,
    .xShmBarrier = file_shm_barrier,
    .xShmUnmap = file_shm_unmap,
};

static int vfs_open(sqlite3_vfs *vfs, sqlite3_filename name, sqlite3_file *opened, int flags, int *out_flags)
{
    struct file *file = (struct file *)opened;
    (void)vfs;
    memset(file, 0, sizeof *file);
    file->real = (sqlite3_file *)(file + 1);
    int rc = flags & SQLITE_OPEN_CREATE ? strike() : SQLITE_OK;
    if (rc == SQLITE_OK)
        rc = layer.real->xOpen(layer.real, name, file->real, flags, out_flags);
    else
        rc = SQLITE_CANTOPEN;
    if (rc == SQLITE_OK)
        file->base.pMethods = &methods;
    return rc;
}

static int vfs_delete(sqlite3_vfs *vfs, const char *name, int sync)
{
    (void)vfs;
    int rc = strike();
    return rc ? rc : layer.real->xDelete(layer.real, name, sync);
}

void fault_vfs_install(void)
{
    static sqlite3_vfs vfs;
    layer.real = sqlite3_vfs_find(NULL);
    vfs = *layer.real;
    vfs.szOsFile += (int)sizeof(struct file);
    vfs.zName = "faults";
    vfs.pNext = NULL;
    vfs.xOpen = vfs_open;
    vfs.xDelete = vfs_delete;
    sqlite3_vfs_register(&vfs, 1);
}

void fault_vfs_arm(long nth, int rc, bool from_then)
{
    layer.at = nth;
    layer.rc = rc;
    layer.from_then = from_then;
    layer.passed = 0;
}

long fault_vfs_passed(void) { return layer.passed; }
