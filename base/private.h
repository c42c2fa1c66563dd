/* What another user of the machine may have put where we look: the other side of a socket, and directories that were there before us. */
#ifndef BASE_PRIVATE_H
#define BASE_PRIVATE_H

#include <sys/types.h>

/** Is the other side of this Unix socket a process of our user? `*pid` (may be NULL) becomes its id. CADRE_EACCES names the other user. */
int base_private_peer(int fd, pid_t *pid);

/**
 * May what we keep lie in the directory `path`? It must be ours, and none that everybody may write; where a symbolic link stands in its place, that
 * must be ours (or root's) as well, or another user decides where it leads. CADRE_EACCES says what is wrong.
 */
int base_private_directory(const char *path);

/** May a directory of our own be made in `path`, and will it stay there? Nobody but us and root may rename what is ours in it. CADRE_EACCES. */
int base_private_parent(const char *path);

#endif
