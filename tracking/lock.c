#include "tracking/lock.h"

#include "base/clock.h"
#include "base/error.h"
#include "base/io.h"
#include "base/mem.h"

#include <errno.h>
#include <fcntl.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { OWNER_MAX = 512 };

static void describe_self(char *text, size_t nbytes)
{
    char host[256] = "unknown-host", buffer[1024], since[BASE_UTC_TEXT];
    struct passwd entry, *user = NULL;
    gethostname(host, sizeof host - 1);
    getpwuid_r(geteuid(), &entry, buffer, sizeof buffer, &user);
    base_utc_format(base_utc_us(), since);
    since[19] = '\0'; /* whole seconds do */
    if (user)
        snprintf(text, nbytes, "pid %ld on %s (user %s, since %s UTC)\n", (long)getpid(), host, user->pw_name, since);
    else
        snprintf(text, nbytes, "pid %ld on %s (user %ld, since %s UTC)\n", (long)getpid(), host, (long)geteuid(),
                 since);
}

/* What the file says, for people: cut at the first byte that is not plain text, since anyone may have written it. */
static void read_owner(int fd, char *text, size_t nbytes)
{
    char content[OWNER_MAX];
    ssize_t length = pread(fd, content, sizeof content - 1, 0);
    content[length > 0 ? length : 0] = '\0';
    for (char *at = content; *at; at++)
        if ((unsigned char)*at < 0x20 || (unsigned char)*at == 0x7f)
            *at = '\0';
    snprintf(text, nbytes, "%s", *content ? content : "another process");
}

static bool still_at(const char *lock_path, int fd)
{
    struct stat there, ours;
    return stat(lock_path, &there) == 0 && fstat(fd, &ours) == 0 && there.st_dev == ours.st_dev &&
           there.st_ino == ours.st_ino;
}

static int try_once(const char *lock_path, const char *shown, int *fd, bool *taken)
{
    struct flock whole = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    int opened;
    int status = base_open(lock_path, O_RDWR | O_CREAT, 0600, &opened);
    if (status != CADRE_OK)
        return base_wrap(status, "store %s", shown);
    if (fcntl(opened, F_OFD_SETLK, &whole) != 0) {
        if (errno == EAGAIN || errno == EACCES) {
            char owner[OWNER_MAX];
            read_owner(opened, owner, sizeof owner);
            status = base_error(CADRE_EBUSY, "store %s is in use by %s", shown, owner);
        } else
            status = base_errno(errno, "store %s: lock %s", shown, lock_path);
        base_close(opened);
        return status;
    }
    /* The owner before removes the file as it leaves: a lock on a file that is no longer there keeps nobody out. */
    *taken = still_at(lock_path, opened);
    if (*taken)
        *fd = opened;
    else
        base_close(opened);
    return CADRE_OK;
}

int tracking_lock_take(const char *path, const char *shown, int *fd)
{
    char *lock_path = base_sprintf("%s.lock", path);
    if (!lock_path)
        return CADRE_ENOMEM;
    bool taken = false;
    int status = CADRE_OK;
    int locked = -1;
    while (status == CADRE_OK && !taken)
        status = try_once(lock_path, shown, &locked, &taken);
    free(lock_path);
    if (status != CADRE_OK)
        return status;
    char text[OWNER_MAX];
    describe_self(text, sizeof text);
    /* The text is for people only: a full disk may leave it empty, the lock holds all the same. */
    if (ftruncate(locked, 0) != 0 || pwrite(locked, text, strlen(text), 0) < 0)
        errno = 0;
    *fd = locked;
    return CADRE_OK;
}

void tracking_lock_release(const char *path, int fd)
{
    char *lock_path = base_sprintf("%s.lock", path);
    if (lock_path && still_at(lock_path, fd))
        unlink(lock_path); /* before the lock goes, so that nobody's newer file is hit */
    free(lock_path);
    base_close(fd);
}

bool tracking_lock_held(const char *path, char *owner, size_t nbytes)
{
    char lock_path[4096];
    int length = snprintf(lock_path, sizeof lock_path, "%s.lock", path);
    if (length < 0 || (size_t)length >= sizeof lock_path)
        return false;
    int fd = open(lock_path, O_RDONLY | O_CLOEXEC | O_NONBLOCK); /* somebody may have put a pipe there */
    if (fd < 0)
        return false;
    struct flock whole = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    bool held = fcntl(fd, F_OFD_GETLK, &whole) == 0 && whole.l_type != F_UNLCK;
    if (held && owner)
        read_owner(fd, owner, nbytes);
    base_close(fd);
    return held;
}
