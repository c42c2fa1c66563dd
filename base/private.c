#include "private.h"

#include "error.h"

#include <errno.h>
#include <stdbool.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

int base_private_peer(int fd, pid_t *pid)
{
    struct ucred peer;
    socklen_t size = sizeof peer;
    if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) != 0)
        return base_errno(errno, "ask who is on the other side of a socket");
    if (peer.uid != geteuid())
        return base_error(CADRE_EACCES, "the other side of the socket is a process of user %ld, this one is of user %ld", (long)peer.uid, (long)geteuid());
    if (pid)
        *pid = peer.pid;
    return CADRE_OK;
}

static bool is_trusted(const struct stat *info) { return info->st_uid == geteuid() || info->st_uid == 0; }

int base_private_directory(const char *path)
{
    struct stat named, info;
    if (lstat(path, &named) != 0 || stat(path, &info) != 0)
        return base_errno(errno, "look at %s", path);
    if (S_ISLNK(named.st_mode) && !is_trusted(&named))
        return base_error(CADRE_EACCES, "%s is a symbolic link that user %ld has made: choose another directory", path, (long)named.st_uid);
    if (!S_ISDIR(info.st_mode))
        return base_error(CADRE_EEXIST, "%s is there, but is no directory", path);
    if (info.st_uid != geteuid())
        return base_error(CADRE_EACCES, "%s belongs to user %ld, this process is of user %ld: choose another directory, or give it to this user (chown)",
                          path, (long)info.st_uid, (long)geteuid());
    if (info.st_mode & S_IWOTH)
        return base_error(CADRE_EACCES, "everybody may write in %s: take that away (chmod o-w), or choose another directory", path);
    return CADRE_OK;
}

int base_private_parent(const char *path)
{
    struct stat info;
    if (stat(path, &info) != 0)
        return base_errno(errno, "look at %s", path);
    if (!S_ISDIR(info.st_mode))
        return base_error(CADRE_EEXIST, "%s is no directory", path);
    if (!is_trusted(&info))
        return base_error(CADRE_EACCES, "%s belongs to user %ld, who could exchange what is made in it", path, (long)info.st_uid);
    if ((info.st_mode & (S_IWGRP | S_IWOTH)) && !(info.st_mode & S_ISVTX))
        return base_error(CADRE_EACCES, "others may exchange what is made in %s: it is writable for them and has no sticky bit", path);
    return CADRE_OK;
}
