#include "oom.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The value of the line "name N"; -1: the file or the line is not there. */
static int64_t read_counter(const char *path, const char *name)
{
    char line[160];
    size_t length = strlen(name);
    int64_t value = -1;
    FILE *file = fopen(path, "re");
    while (file && value < 0 && fgets(line, sizeof line, file))
        if (strncmp(line, name, length) == 0 && line[length] == ' ')
            value = strtoll(line + length, NULL, 10);
    if (file)
        fclose(file);
    return value;
}

/* A line of /proc/self/cgroup, "4:memory:/path" or (version 2) "0::/path", as the file that counts. */
static bool counter_file(const char *line, char *path, size_t nbytes)
{
    const char *controllers = strchr(line, ':'), *place = controllers ? strchr(controllers + 1, ':') : NULL;
    if (!place || strcmp(place, ":/") == 0) /* the root has no limit of its own */
        return false;
    bool second = place == controllers + 1;
    if (!second && (strncmp(controllers, ":memory:", 8) != 0))
        return false;
    return snprintf(path, nbytes, "/sys/fs/cgroup%s%s/%s", second ? "" : "/memory", place + 1, second ? "memory.events" : "memory.oom_control") < (int)nbytes;
}

int64_t trainer_oom_kills(void)
{
    char line[1024], path[1200];
    int64_t kills = -1;
    FILE *file = fopen("/proc/self/cgroup", "re");
    while (file && kills < 0 && fgets(line, sizeof line, file)) {
        line[strcspn(line, "\n")] = '\0';
        if (counter_file(line, path, sizeof path))
            kills = read_counter(path, "oom_kill");
    }
    if (file)
        fclose(file);
    return kills >= 0 ? kills : read_counter("/proc/vmstat", "oom_kill");
}
