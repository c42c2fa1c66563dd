/* What the machine has, from files the system keeps: no library, no driver and no other program is needed to ask. */
#include "cli.h"

#include <ctype.h>
#include <dirent.h>
#include <glob.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>
#include <unistd.h>

/* What stands behind "key" and a colon in the file's first such line; false when there is none. */
static bool read_field(const char *path, const char *key, char *text, size_t nbytes)
{
    char line[1024];
    FILE *file = fopen(path, "r");
    bool found = false;
    while (file && !found && fgets(line, sizeof line, file)) {
        char *colon = strchr(line, ':');
        if (strncmp(line, key, strlen(key)) != 0 || !colon)
            continue;
        char *value = colon + 1 + strspn(colon + 1, " \t");
        value[strcspn(value, "\n")] = '\0';
        snprintf(text, nbytes, "%s", value);
        found = true;
    }
    if (file)
        fclose(file);
    return found;
}

static double gib_of(const char *key)
{
    char text[64];
    return read_field("/proc/meminfo", key, text, sizeof text) ? strtod(text, NULL) / (1 << 20) : 0;
}

static int usable_cores(void)
{
    cpu_set_t set;
    return sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set) : (int)sysconf(_SC_NPROCESSORS_ONLN);
}

/* /dev/nvidia0, 1, ...: there in containers too, where the driver's own list often is not. */
static int count_devices(void)
{
    int count = 0;
    DIR *directory = opendir("/dev");
    for (struct dirent *entry; directory && (entry = readdir(directory));)
        if (strncmp(entry->d_name, "nvidia", 6) == 0 && isdigit((unsigned char)entry->d_name[6]))
            count++;
    if (directory)
        closedir(directory);
    return count;
}

static void look_at_gpus(cli_machine *machine)
{
    glob_t found = {0};
    size_t used = 0;
    glob("/proc/driver/nvidia/gpus/*/information", 0, NULL, &found);
    for (size_t i = 0; i < found.gl_pathc; i++) {
        char name[128];
        if (read_field(found.gl_pathv[i], "Model", name, sizeof name) && used < sizeof machine->gpu_names)
            used += (size_t)snprintf(machine->gpu_names + used, sizeof machine->gpu_names - used, "%s%s",
                                     used ? ", " : "", name);
    }
    int devices = count_devices();
    machine->gpus = devices ? devices : (int)found.gl_pathc;
    globfree(&found);
    char line[256] = "";
    FILE *file = fopen("/proc/driver/nvidia/version", "r");
    if (file && fgets(line, sizeof line,
                      file)) { /* "NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.183.01  Sun May ..." */
        const char *at = strstr(line, "Module");
        at = at ? strpbrk(at, "0123456789") : NULL;
        snprintf(machine->gpu_driver, sizeof machine->gpu_driver, "%.*s", at ? (int)strcspn(at, " \n") : 0,
                 at ? at : "");
    }
    if (file)
        fclose(file);
}

void cli_machine_look(cli_machine *machine)
{
    struct utsname name;
    memset(machine, 0, sizeof *machine);
    if (uname(&name) == 0) {
        snprintf(machine->host, sizeof machine->host, "%s", name.nodename);
        snprintf(machine->system, sizeof machine->system, "%s %s %s", name.sysname, name.release, name.machine);
    }
    if (!read_field("/proc/cpuinfo", "model name", machine->processor, sizeof machine->processor))
        snprintf(machine->processor, sizeof machine->processor, "not known");
    machine->cores_online = (int)sysconf(_SC_NPROCESSORS_ONLN);
    machine->cores_usable = usable_cores();
    machine->memory_gib = gib_of("MemTotal");
    machine->available_gib = gib_of("MemAvailable");
    look_at_gpus(machine);
}
