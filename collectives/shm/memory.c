/*
 * Is there room? A shared mapping that the machine cannot back ends in SIGBUS, or in the out-of-memory killer, long
 * after it was made; so what can be known is asked first.
 */
#include "base/error.h"
#include "base/fault.h"
#include "shm.h"

#include <errno.h>
#include <stdio.h>
#include <sys/resource.h>

static bool memory_available(uint64_t *nbytes)
{
    FILE *file = fopen("/proc/meminfo", "re");
    char line[128];
    unsigned long long kilobytes;
    bool found = false;
    while (file && !found && fgets(line, sizeof line, file))
        found = sscanf(line, "MemAvailable: %llu kB", &kilobytes) == 1;
    if (file)
        fclose(file);
    if (found)
        *nbytes = (uint64_t)kilobytes * 1024;
    return found;
}

int collectives_shm_room(size_t nbytes)
{
    struct rlimit limit;
    uint64_t left;
    int fault = BASE_FAULT("shm_alloc");
    if (fault)
        return base_errno(fault > 0 ? fault : ENOSPC, "%zu bytes of shared memory", nbytes);
    if (getrlimit(RLIMIT_FSIZE, &limit) == 0 && limit.rlim_cur != RLIM_INFINITY && nbytes > limit.rlim_cur)
        return base_error(CADRE_ENOSPC,
                          "%zu bytes of shared memory are over this process's file size limit of %llu (ulimit -f)",
                          nbytes, (unsigned long long)limit.rlim_cur);
    if (memory_available(&left) && nbytes > left)
        return base_error(CADRE_ENOSPC, "%zu bytes of shared memory, but the machine has %llu available", nbytes,
                          (unsigned long long)left);
    return CADRE_OK;
}
