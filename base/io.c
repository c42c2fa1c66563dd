#include "io.h"

#include "error.h"
#include "fault.h"
#include "mem.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

/* The errno of a fault that struck; a "short" one of a call that cannot be short is a plain failure. */
static int fault_errno(int fault) { return fault > 0 ? fault : EIO; }

int base_open(const char *path, int flags, mode_t mode, int *fd)
{
    int fault = BASE_FAULT("open");
    int opened = -1;
    if (!fault)
        do
            opened = open(path, flags | O_CLOEXEC, mode);
        while (opened < 0 && errno == EINTR);
    if (opened < 0)
        return base_errno(fault ? fault_errno(fault) : errno, "open %s", path);
    *fd = opened;
    return CADRE_OK;
}

void base_close(int fd)
{
    if (fd >= 0)
        close(fd); /* never again on EINTR: on Linux the descriptor is gone */
}

int base_write_all(int fd, const void *bytes, size_t nbytes, const char *path)
{
    const char *next = bytes;
    int fault = BASE_FAULT("write");
    if (fault == -1) { /* a short write: half arrives, then the disk is full */
        if (write(fd, next, nbytes / 2) < 0)
            return base_errno(errno, "write %s", path);
        fault = ENOSPC;
    }
    if (fault)
        return base_errno(fault, "write %s", path);
    while (nbytes) {
        ssize_t done = write(fd, next, nbytes);
        if (done < 0 && errno == EINTR)
            continue;
        if (done < 0)
            return base_errno(errno, "write %s", path);
        next += done;
        nbytes -= (size_t)done;
    }
    return CADRE_OK;
}

int base_read_all(int fd, void *bytes, size_t nbytes, const char *path)
{
    char *next = bytes;
    int fault = BASE_FAULT("read");
    if (fault)
        return base_errno(fault_errno(fault), "read %s", path);
    while (nbytes) {
        ssize_t done = read(fd, next, nbytes);
        if (done < 0 && errno == EINTR)
            continue;
        if (done < 0)
            return base_errno(errno, "read %s", path);
        if (done == 0)
            return base_error(CADRE_ECORRUPT, "read %s: it ends %zu bytes too early", path, nbytes);
        next += done;
        nbytes -= (size_t)done;
    }
    return CADRE_OK;
}

int base_read_file(const char *path, size_t limit, base_buffer *buffer)
{
    int fd;
    int status = base_open(path, O_RDONLY, 0, &fd);
    if (status != CADRE_OK)
        return status;
    size_t start = buffer->length;
    while (status == CADRE_OK) {
        status = base_buffer_reserve(buffer, 65536);
        if (status != CADRE_OK)
            break;
        ssize_t done = BASE_FAULT("read") ? (errno = EIO, -1) : read(fd, buffer->data + buffer->length, 65536);
        if (done < 0 && errno == EINTR)
            continue;
        if (done < 0)
            status = base_errno(errno, "read %s", path);
        else if (done == 0)
            break;
        else
            buffer->length += (size_t)done;
        if (buffer->length - start > limit)
            status = base_error(CADRE_EINVAL, "read %s: larger than the %zu bytes allowed", path, limit);
    }
    if (status != CADRE_OK)
        buffer->length = start;
    base_close(fd);
    return status;
}

int base_fsync(int fd, const char *path)
{
    int fault = BASE_FAULT("fsync");
    int failed;
    if (fault)
        return base_errno(fault_errno(fault), "sync %s", path);
    do
        failed = fsync(fd);
    while (failed && errno == EINTR);
    return failed ? base_errno(errno, "sync %s", path) : CADRE_OK;
}

int base_fsync_dir(const char *path)
{
    int fd;
    int status = base_open(path, O_RDONLY | O_DIRECTORY, 0, &fd);
    if (status != CADRE_OK)
        return status;
    status = base_fsync(fd, path);
    base_close(fd);
    return status;
}

int base_rename(const char *from, const char *to)
{
    int fault = BASE_FAULT("rename");
    if (fault || rename(from, to) != 0)
        return base_errno(fault ? fault_errno(fault) : errno, "rename %s to %s", from, to);
    return CADRE_OK;
}

int base_write_file(const char *path, const void *bytes, size_t nbytes)
{
    char *temporary = base_sprintf("%s.tmp", path);
    char *directory = base_strdup(path);
    int fd = -1;
    int status = temporary && directory ? CADRE_OK : CADRE_ENOMEM;
    if (status == CADRE_OK)
        status = base_open(temporary, O_WRONLY | O_CREAT | O_TRUNC, 0600, &fd);
    if (status == CADRE_OK) {
        status = base_write_all(fd, bytes, nbytes, path);
        if (status == CADRE_OK)
            status = base_fsync(fd, path);
        base_close(fd);
        if (status == CADRE_OK)
            status = base_rename(temporary, path);
        if (status == CADRE_OK)
            status = base_fsync_dir(dirname(directory));
        else
            unlink(temporary);
    }
    free(directory);
    free(temporary);
    return status;
}

int base_mkdirs(const char *path, mode_t mode)
{
    if (!*path)
        return base_error(CADRE_EINVAL, "a directory needs a name");
    char *copy = base_strdup(path);
    if (!copy)
        return CADRE_ENOMEM;
    int status = CADRE_OK;
    for (char *at = copy + 1; status == CADRE_OK; at++) {
        if (*at != '/' && *at != '\0')
            continue;
        char kept = *at;
        *at = '\0';
        int fault = BASE_FAULT("mkdir");
        struct stat info;
        if (fault || (mkdir(copy, mode) != 0 && !(errno == EEXIST && stat(copy, &info) == 0 && S_ISDIR(info.st_mode))))
            status = !fault && errno == EEXIST ? base_error(CADRE_EEXIST, "make the directory %s: it is there, but is no directory", copy)
                                                : base_errno(fault ? fault_errno(fault) : errno, "make the directory %s", copy);
        *at = kept;
        if (kept == '\0')
            break;
    }
    free(copy);
    return status;
}

static int remove_at(int parent, const char *name, const char *path)
{
    if (unlinkat(parent, name, 0) == 0 || errno == ENOENT)
        return CADRE_OK;
    if (errno != EISDIR && errno != EPERM && errno != ENOTEMPTY)
        return base_errno(errno, "remove %s", path);
    int fd = openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    DIR *directory = fd >= 0 ? fdopendir(fd) : NULL;
    if (!directory) {
        int status = base_errno(errno, "remove %s", path);
        base_close(fd);
        return status;
    }
    int status = CADRE_OK;
    for (struct dirent *entry; status == CADRE_OK && (entry = readdir(directory));)
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0)
            status = remove_at(fd, entry->d_name, path);
    closedir(directory);
    if (status == CADRE_OK && unlinkat(parent, name, AT_REMOVEDIR) != 0 && errno != ENOENT)
        status = base_errno(errno, "remove %s", path);
    return status;
}

int base_remove_tree(const char *path) { return remove_at(AT_FDCWD, path, path); }

bool base_exists(const char *path)
{
    struct stat info;
    return stat(path, &info) == 0;
}

char *base_path_join(const char *directory, const char *name)
{
    size_t length = strlen(directory);
    return base_sprintf("%s%s%s", directory, length && directory[length - 1] == '/' ? "" : "/", name);
}

const char *base_network_filesystem(const char *path)
{
    static const struct {
        unsigned long magic;
        const char *name;
    } known[] = {
        {0x6969, "nfs"},          {0xFF534D42, "cifs"},     {0xFE534D42, "smb2"},  {0x517B, "smb"},
        {0x0BD00BD0, "lustre"},   {0x47504653, "gpfs"},     {0x19830326, "beegfs"}, {0x65735546, "fuse"},
        {0x00C36400, "ceph"},     {0x01021997, "9p"},       {0x5346414F, "afs"},   {0x7461636F, "ocfs2"},
        {0x01161970, "gfs2"},     {0x20030528, "orangefs"}, {0xAAD7AAEA, "panfs"}, {0x013111A8, "ibrix"},
    };
    struct statfs info;
    if (statfs(path, &info) != 0)
        return NULL;
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if ((unsigned long)(unsigned int)info.f_type == known[i].magic)
            return known[i].name;
    return NULL;
}
