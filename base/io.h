/*
 * Guarded file input and output: every call goes on after EINTR and short transfers, names the file in its error, and passes
 * a fault point ("open", "read", "write", "fsync", "rename", "mkdir").
 */
#ifndef BASE_IO_H
#define BASE_IO_H

#include "buffer.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

/** Open `path`; the descriptor is closed on exec. CADRE_ENOENT, CADRE_EACCES, ... */
int base_open(const char *path, int flags, mode_t mode, int *fd);
/** Close `fd` unless it is negative. */
void base_close(int fd);

/** Write all of `nbytes`; `path` only names the file in errors. CADRE_ENOSPC, CADRE_EIO. */
int base_write_all(int fd, const void *bytes, size_t nbytes, const char *path);
/** Read exactly `nbytes`; CADRE_ECORRUPT when the file ends before. */
int base_read_all(int fd, void *bytes, size_t nbytes, const char *path);
/** Append the whole file to `buffer`; CADRE_EINVAL when it has more than `limit` bytes. */
int base_read_file(const char *path, size_t limit, base_buffer *buffer);

/** fsync a file, or a directory by its path (which makes a rename in it durable). */
int base_fsync(int fd, const char *path);
int base_fsync_dir(const char *path);
int base_rename(const char *from, const char *to);

/** Write a file whole or not at all: temporary name beside it, fsync, rename, fsync of the directory. Mode 0600. */
int base_write_file(const char *path, const void *bytes, size_t nbytes);

/** Make a directory and its missing parents; fine when it is there. New ones get `mode`. */
int base_mkdirs(const char *path, mode_t mode);
/** Remove a file or a whole directory tree; fine when it is not there. Does not follow links. */
int base_remove_tree(const char *path);

bool base_exists(const char *path);
/** Join two path parts with one "/" into a new string; free() it. NULL: no memory. */
char *base_path_join(const char *directory, const char *name);

/** The network or user-space file system that holds `path` ("nfs", "lustre", "fuse", ...), or NULL when it is a local one. */
const char *base_network_filesystem(const char *path);

#endif
