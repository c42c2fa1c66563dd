/*
 * Memory that several ranks have mapped. A memfd, opened by the peers as /proc/<pid>/fd/<n>: it has no name, so nothing
 * is left behind whoever is killed when. Where that way is barred (hidepid, a process that is not dumpable), a file in
 * /dev/shm that is unlinked as soon as all have opened it.
 *
 * Ranks that are threads of one process share one mapping: a table of the process's mappings counts its users.
 */
#include "base/error.h"
#include "base/fault.h"
#include "base/io.h"
#include "base/mem.h"
#include "shm.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

enum { HUGE_PAGE = 2 << 20 };

struct mapping {
    struct mapping *next;
    void *base;
    size_t nbytes;
    uint64_t device, inode;
    int users;
};

static pthread_mutex_t table_lock = PTHREAD_MUTEX_INITIALIZER;
static struct mapping *table;

/* Have the pages there before they are needed, large ones if possible. Only makes things faster: what fails here is
 * found by fallocate. */
static void warm(void *base, size_t nbytes)
{
    if (nbytes >= HUGE_PAGE)
        madvise(base, nbytes, MADV_HUGEPAGE);
#if defined(MADV_POPULATE_WRITE)
    madvise(base, nbytes, MADV_POPULATE_WRITE);
#endif
}

static int map_fd(int fd, size_t nbytes, uint64_t device, uint64_t inode, void **out)
{
    struct mapping *entry = base_calloc(1, sizeof *entry);
    if (!entry)
        return CADRE_ENOMEM;
    void *base = mmap(NULL, nbytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (base == MAP_FAILED) {
        free(entry);
        return base_errno(errno, "map %zu bytes of shared memory", nbytes);
    }
    *entry = (struct mapping){.base = base, .nbytes = nbytes, .device = device, .inode = inode, .users = 1};
    pthread_mutex_lock(&table_lock);
    entry->next = table;
    table = entry;
    pthread_mutex_unlock(&table_lock);
    warm(base, nbytes);
    *out = base;
    return CADRE_OK;
}

void collectives_shm_unmap(void *base)
{
    if (!base)
        return;
    pthread_mutex_lock(&table_lock);
    struct mapping **link = &table;
    while (*link && (*link)->base != base)
        link = &(*link)->next;
    struct mapping *entry = *link;
    if (entry && --entry->users == 0) {
        *link = entry->next;
        munmap(entry->base, entry->nbytes);
        free(entry);
    }
    pthread_mutex_unlock(&table_lock);
}

static void *share_within_process(const shm_card *card)
{
    void *base = NULL;
    pthread_mutex_lock(&table_lock);
    for (struct mapping *entry = table; entry && !base; entry = entry->next) {
        if (entry->device == card->device && entry->inode == card->inode) {
            entry->users++;
            base = entry->base;
        }
    }
    pthread_mutex_unlock(&table_lock);
    return base;
}

static int open_new(shm_card *card, bool in_file, int *fd)
{
    if (!in_file) {
        if (BASE_FAULT("memfd"))
            return base_error(CADRE_ENOTSUP, "memfd_create: made to fail");
        *fd = memfd_create("cadre", MFD_CLOEXEC);
        return *fd < 0 ? base_errno(errno, "memfd_create") : CADRE_OK;
    }
    unsigned long long tag;
    if (getrandom(&tag, sizeof tag, 0) != sizeof tag)
        return base_errno(errno, "getrandom");
    snprintf(card->path, sizeof card->path, "/dev/shm/cadre-comm-%016llx", tag);
    int status = base_open(card->path, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW, 0600, fd);
    if (status)
        card->path[0] = '\0';
    return status;
}

int collectives_shm_make(shm_card *card, size_t nbytes, bool in_file, void **base)
{
    int fd, status = collectives_shm_room(nbytes);
    struct stat info;
    *card = (shm_card){.fd = -1};
    if (!status)
        status = open_new(card, in_file, &fd);
    if (status)
        return status;
    if (ftruncate(fd, (off_t)nbytes) != 0 || fstat(fd, &info) != 0) {
        status = base_errno(errno, "size %zu bytes of shared memory", nbytes);
        goto close_fd;
    }
    card->pid = (int32_t)getpid();
    card->fd = fd;
    card->nbytes = nbytes;
    card->device = info.st_dev;
    card->inode = info.st_ino;
    status = map_fd(fd, nbytes, card->device, card->inode, base);
    if (status)
        goto close_fd;
    int err = posix_fallocate(fd, 0, (off_t)nbytes);
    if (err) {
        status = base_errno(err, "reserve %zu bytes of shared memory", nbytes);
        if (err == ENOMEM)
            status = CADRE_ENOSPC;
        collectives_shm_unmap(*base);
        *base = NULL;
        goto close_fd;
    }
    return CADRE_OK;

close_fd:
    if (card->path[0])
        unlink(card->path);
    base_close(fd);
    *card = (shm_card){.fd = -1};
    return status;
}

int collectives_shm_map(const shm_card *card, void **base)
{
    if (card->pid == getpid() && (*base = share_within_process(card)) != NULL)
        return CADRE_OK;
    char path[80];
    int fd;
    struct stat info;
    if (card->path[0])
        snprintf(path, sizeof path, "%s", card->path);
    else
        snprintf(path, sizeof path, "/proc/%d/fd/%d", (int)card->pid, (int)card->fd);
    int status = base_open(path, O_RDWR | O_NOFOLLOW * (card->path[0] != 0), 0, &fd);
    if (status)
        return status;
    if (fstat(fd, &info) != 0 || info.st_dev != card->device || info.st_ino != card->inode ||
        (uint64_t)info.st_size < card->nbytes)
        status = base_error(CADRE_EPROTO, "%s is not the memory that was shared", path);
    else
        status = map_fd(fd, card->nbytes, card->device, card->inode, base);
    base_close(fd);
    return status;
}

static int share_one_way(const cadre_oob *oob, const int *ranks, double timeout_s, size_t nbytes, bool in_file,
                         shm_card *cards, void **base)
{
    shm_card mine = {.fd = -1};
    memset(base, 0, (size_t)oob->world * sizeof *base);
    mine.pid = (int32_t)getpid();
    int status = nbytes ? collectives_shm_make(&mine, nbytes, in_file, &base[oob->rank]) : CADRE_OK;
    status = collectives_agree_among(oob, ranks, timeout_s, status, "shared memory");
    if (!status)
        status = collectives_gather(oob, &mine, cards, sizeof mine, timeout_s);
    if (!status) {
        for (int r = 0; r < oob->world && !status; r++)
            if (r != oob->rank && cards[r].nbytes)
                status = collectives_shm_map(&cards[r], &base[r]);
        status = collectives_agree_among(oob, ranks, timeout_s, status, "map the shared memory");
    }
    if (mine.path[0])
        unlink(mine.path);
    base_close(mine.fd);
    for (int r = 0; status && r < oob->world; r++) {
        collectives_shm_unmap(base[r]);
        base[r] = NULL;
    }
    return status;
}

int collectives_shm_share(const cadre_oob *oob, const int *ranks, double timeout_s, size_t nbytes, shm_card *cards,
                          void **base)
{
    /* The status is the same on all ranks, so all try the other way or none does. */
    int status = share_one_way(oob, ranks, timeout_s, nbytes, false, cards, base);
    if (status == CADRE_EACCES || status == CADRE_ENOENT || status == CADRE_ESYSTEM || status == CADRE_ENOTSUP)
        status = share_one_way(oob, ranks, timeout_s, nbytes, true, cards, base);
    return status;
}
