/* `cadre info`: what is built in and what the machine has. */
#include "cli.h"

#include "cadre/collectives.h"

#include <dlfcn.h>
#include <fcntl.h>
#include <link.h>
#include <sqlite3.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

struct library {
    const char *name;
    const char *const *files; /* tried in order, ended by NULL */
    bool built_in;            /* this build uses it, linked or opened when it is wanted */
    const char *purpose;
    char found[256]; /* its file; "" when it is not there */
};

/* Opened in a child: such libraries start threads and look for devices as soon as they are mapped. */
static void look_for(struct library *library)
{
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) != 0)
        return;
    pid_t child = fork();
    if (child == 0) {
        struct link_map *map;
        for (const char *const *file = library->files; *file; file++) {
            void *handle = dlopen(*file, RTLD_LAZY | RTLD_LOCAL);
            if (handle && dlinfo(handle, RTLD_DI_LINKMAP, &map) == 0 &&
                write(ends[1], map->l_name, strlen(map->l_name)) > 0)
                break;
        }
        _exit(0);
    }
    close(ends[1]);
    ssize_t length = child > 0 ? read(ends[0], library->found, sizeof library->found - 1) : 0;
    library->found[length > 0 ? length : 0] = '\0';
    close(ends[0]);
    if (child > 0)
        waitpid(child, NULL, 0);
}

static const char *const mpi_files[] = {"libmpi.so.40", "libmpi.so.12", "libmpi.so", NULL};
static const char *const torch_files[] = {"libtorch_cpu.so", "libtorch_cpu.so.1.13", NULL};
static const char *const nccl_files[] = {"libnccl.so.2", "libnccl.so", NULL};
static const char *const cuda_files[] = {"libcuda.so.1", NULL};

#ifdef CADRE_HAVE_MPI
enum { HAVE_MPI = 1 };
#else
enum { HAVE_MPI = 0 };
#endif
#ifdef CADRE_HAVE_TORCH
enum { HAVE_TORCH = 1 };
#else
enum { HAVE_TORCH = 0 };
#endif

struct backends {
    cli_table *table;
    json_t *array;
};

static void add_backend(const char *name, int score, const char *detail, void *user)
{
    struct backends *backends = user;
    if (backends->array) {
        json_array_append_new(backends->array,
                              json_pack("{s:s, s:b, s:i, s:o}", "name", name, "works", score > 0, "score", score,
                                        "detail", cli_json_text(detail ? detail : "")));
        return;
    }
    cli_cell(backends->table, "%s", name);
    cli_cell(backends->table, "%s", score > 0 ? "works" : "does not work");
    cli_cell(backends->table, "%s", detail ? detail : "");
}

static int print_json(const cli_machine *machine, const struct library *libraries, int count)
{
    struct backends backends = {.array = json_array()};
    json_t *found = json_object();
    cadre_backends(add_backend, &backends);
    for (int i = 0; i < count; i++)
        json_object_set_new(found, libraries[i].name,
                            json_pack("{s:b, s:o}", "built_in", libraries[i].built_in, "found",
                                      *libraries[i].found ? json_string(libraries[i].found) : json_null()));
    return cli_json_print(json_pack(
        "{s:s, s:s, s:{s:o, s:o, s:o, s:i, s:i, s:f, s:f, s:i, s:o, s:o}, s:o, s:o}", "version", CADRE_CLI_VERSION,
        "sqlite", sqlite3_libversion(), "machine", "host", cli_json_text(machine->host), "system",
        cli_json_text(machine->system), "processor", cli_json_text(machine->processor), "cores_online",
        machine->cores_online, "cores_usable", machine->cores_usable, "memory_gib", machine->memory_gib,
        "available_gib", machine->available_gib, "gpus", machine->gpus, "gpu_names", cli_json_text(machine->gpu_names),
        "gpu_driver", cli_json_text(machine->gpu_driver), "libraries", found, "backends", backends.array));
}

static void print_text(const cli_machine *machine, const struct library *libraries, int count)
{
    printf("cadre %s, SQLite %s\n\nmachine\n", CADRE_CLI_VERSION, sqlite3_libversion());
    cli_table *table = cli_table_new("WHAT|HERE");
    if (!table)
        return;
    cli_cell(table, "host");
    cli_cell(table, "%s", machine->host);
    cli_cell(table, "system");
    cli_cell(table, "%s", machine->system);
    cli_cell(table, "processor");
    cli_cell(table, "%s", machine->processor);
    cli_cell(table, "cores");
    cli_cell(table, "%d, %d usable by this process", machine->cores_online, machine->cores_usable);
    cli_cell(table, "memory");
    cli_cell(table, "%.1f GiB, %.1f GiB available", machine->memory_gib, machine->available_gib);
    cli_cell(table, "GPUs");
    cli_cell(table, "%d%s%s%s%s", machine->gpus, *machine->gpu_names ? ": " : "", machine->gpu_names,
             *machine->gpu_driver ? ", driver " : "", machine->gpu_driver);
    cli_table_print(table, 2);
    printf("\nlibraries\n");
    table = cli_table_new("LIBRARY|BUILT IN|FOUND HERE|FOR");
    for (int i = 0; table && i < count; i++) {
        cli_cell(table, "%s", libraries[i].name);
        cli_cell(table, "%s", libraries[i].built_in ? "yes" : "no");
        cli_cell(table, "%s", *libraries[i].found ? libraries[i].found : "no");
        cli_cell(table, "%s", libraries[i].purpose);
    }
    cli_table_print(table, 2);
    printf("\ncollectives\n");
    struct backends backends = {.table = cli_table_new("BACKEND|HERE|WHY")};
    if (backends.table)
        cadre_backends(add_backend, &backends);
    cli_table_print(backends.table, 2);
}

int cli_info(int argc, char **argv)
{
    bool json = false;
    if (cli_options("info", argc, argv, (const cli_option[]){{"--json", &json, NULL}, {NULL, NULL, NULL}}, NULL, 0) < 0)
        return CLI_MISUSED;
    struct library libraries[] = {
        {"MPI", mpi_files, HAVE_MPI, "workers on several hosts", ""},
        {"libtorch", torch_files, HAVE_TORCH, "ctorch, ddp and the torch examples", ""},
        {"CUDA driver", cuda_files, true, "GPUs", ""},
        {"NCCL", nccl_files, true, "gradients between GPUs", ""},
    };
    enum { LIBRARIES = sizeof libraries / sizeof *libraries };
    cli_machine machine;
    cli_machine_look(&machine);
    for (int i = 0; i < LIBRARIES; i++)
        look_for(&libraries[i]);
    if (json)
        return print_json(&machine, libraries, LIBRARIES);
    print_text(&machine, libraries, LIBRARIES);
    return CLI_DONE;
}
