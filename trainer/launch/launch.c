#include "launch.h"

#include "base/error.h"
#include "base/io.h"
#include "base/mem.h"

#include <dirent.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

extern char **environ;

void launch_free(trainer_launcher *launcher)
{
    if (launcher)
        launcher->close(launcher);
}

int launch_own_argv(char ***out)
{
    base_buffer line = {0};
    char exe[PATH_MAX];
    ssize_t length = readlink("/proc/self/exe", exe, sizeof exe - 1);
    int status = length > 0 ? base_read_file("/proc/self/cmdline", 16 << 20, &line) : base_error(CADRE_ESYSTEM, "find the program's own file");
    if (status != CADRE_OK)
        return status;
    exe[length] = '\0';
    size_t count = 0;
    for (size_t i = 0; i < line.length; i++)
        count += line.data[i] == '\0';
    char **argv = base_calloc(count + 2, sizeof *argv);
    for (size_t i = 0, at = 0; argv && i < count; i++) {
        argv[i] = base_strdup(i == 0 ? exe : (char *)line.data + at);
        at += strlen((char *)line.data + at) + 1;
        if (!argv[i]) {
            launch_free_argv(argv);
            argv = NULL;
        }
    }
    base_buffer_free(&line);
    if (!argv)
        return CADRE_ENOMEM;
    *out = argv;
    return CADRE_OK;
}

void launch_free_argv(char **argv)
{
    for (char **at = argv; at && *at; at++)
        free(*at);
    free(argv);
}

/* What one MPI launcher leaves in the environment makes the next one refuse to start. */
static bool is_scrubbed(const char *entry)
{
    static const char *const prefixes[] = {"OMPI_COMM_", "OMPI_UNIVERSE", "OMPI_APP", "OMPI_NUM_APP", "OMPI_FIRST", "OMPI_FILE", "OMPI_ARGV", "OMPI_COMMAND", "OMPI_MCA_orte_", "OMPI_MCA_ess", "OMPI_MCA_mpi_",
                                           "OMPI_MCA_initial", "PMIX_", "PMI_", "ORTE_", "PRTE_", "CADRE_WORKER_"};
    for (size_t i = 0; i < sizeof prefixes / sizeof *prefixes; i++)
        if (strncmp(entry, prefixes[i], strlen(prefixes[i])) == 0)
            return true;
    return false;
}

static bool is_replaced(const char *entry, const char *const *extra)
{
    size_t name = strcspn(entry, "=") + 1;
    for (; extra && *extra; extra++)
        if (strncmp(entry, *extra, name) == 0)
            return true;
    return false;
}

int launch_environment(const char *const *extra, char ***out)
{
    size_t count = 0;
    for (char **at = environ; *at; at++)
        count++;
    for (const char *const *at = extra; at && *at; at++)
        count++;
    char **environment = base_calloc(count + 1, sizeof *environment);
    if (!environment)
        return CADRE_ENOMEM;
    size_t used = 0;
    bool complete = true;
    for (char **at = environ; *at; at++)
        if (!is_scrubbed(*at) && !is_replaced(*at, extra))
            complete &= (environment[used++] = base_strdup(*at)) != NULL;
    for (const char *const *at = extra; at && *at; at++)
        complete &= (environment[used++] = base_strdup(*at)) != NULL;
    if (!complete) {
        launch_free_argv(environment);
        return CADRE_ENOMEM;
    }
    *out = environment;
    return CADRE_OK;
}

static int count_entries(const char *path)
{
    DIR *directory = opendir(path);
    int count = 0;
    for (struct dirent *entry; directory && (entry = readdir(directory));)
        count += entry->d_name[0] != '.';
    if (directory)
        closedir(directory);
    return count;
}

static bool has_cuda_open(void)
{
    DIR *directory = opendir("/proc/self/fd");
    bool found = false;
    for (struct dirent *entry; directory && !found && (entry = readdir(directory));) {
        char link[PATH_MAX], target[PATH_MAX];
        snprintf(link, sizeof link, "/proc/self/fd/%s", entry->d_name);
        ssize_t length = readlink(link, target, sizeof target - 1);
        if (length > 0) {
            target[length] = '\0';
            found = strncmp(target, "/dev/nvidia", 11) == 0;
        }
    }
    if (directory)
        closedir(directory);
    return found;
}

bool launch_cannot_fork(const char **what)
{
    *what = count_entries("/proc/self/task") > 1 ? "threads" : has_cuda_open() ? "CUDA" : NULL;
    return *what != NULL;
}
