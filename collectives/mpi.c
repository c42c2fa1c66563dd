/* The mpi backend as the library sees it: finds the module that holds it, loads it when it is wanted, and passes calls
 * on. */
#include "base/clock.h"
#include "base/error.h"
#include "base/log.h"
#include "mpi/table.h"
#include "mpi_oob.h"
#include "reduce.h"

#include <dlfcn.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char module_name[] = "libcadre_mpi.so";
static const collectives_mpi_table *loaded;

static bool number_of(const char *name, int *value)
{
    const char *text = getenv(name);
    char *end;
    if (!text || !*text)
        return false;
    long number = strtol(text, &end, 10);
    if (*end || number < 0 || number > INT_MAX)
        return false;
    *value = (int)number;
    return true;
}

bool collectives_mpi_present(int *rank, int *world)
{
    static const struct {
        const char *rank, *world, *only_with;
    } known[] = {
        {"OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE", NULL},
        {"PMI_RANK", "PMI_SIZE", NULL},
        {"PMIX_RANK", "PMIX_SIZE", NULL},
        /* A batch script has SLURM_PROCID, too, but no step of its own that srun has started (its step is "batch"). */
        {"SLURM_PROCID", "SLURM_STEP_NUM_TASKS", "SLURM_STEP_ID"},
        {"PMIX_RANK", "SLURM_STEP_NUM_TASKS", NULL},
    };
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++) {
        int r, w;
        if (known[i].only_with && !number_of(known[i].only_with, &r))
            continue;
        if (!number_of(known[i].rank, &r) || !number_of(known[i].world, &w) || r >= w)
            continue;
        if (rank)
            *rank = r;
        if (world)
            *world = w;
        return true;
    }
    return false;
}

static bool there(const char *directory, const char *more, char path[PATH_MAX])
{
    return snprintf(path, PATH_MAX, "%s%s/%s", directory, more, module_name) < PATH_MAX && access(path, R_OK) == 0;
}

static bool beside(const char *file, char path[PATH_MAX])
{
    char directory[PATH_MAX];
    snprintf(directory, sizeof directory, "%s", file);
    char *slash = strrchr(directory, '/');
    if (!slash)
        return false;
    *slash = '\0';
    return there(directory, "", path) || there(directory, "/../lib", path);
}

/* CADRE_MPI_MODULE, beside this library, beside the program, where it was installed. */
static bool find_module(char path[PATH_MAX])
{
    const char *named = getenv("CADRE_MPI_MODULE");
    if (named && *named) {
        snprintf(path, PATH_MAX, "%s", named);
        return access(path, R_OK) == 0;
    }
    Dl_info info;
    char program[PATH_MAX];
    if (dladdr(&loaded, &info) && info.dli_fname && beside(info.dli_fname, path))
        return true;
    ssize_t length = readlink("/proc/self/exe", program, sizeof program - 1);
    if (length > 0) {
        program[length] = '\0';
        if (beside(program, path))
            return true;
    }
    return there(CADRE_LIBDIR, "", path);
}

static int host_error(int status, const char *text) { return base_error(status, "%s", text); }
static void host_log(cadre_log_level level, const char *text) { base_log(level, "collectives", "%s", text); }

static const collectives_host host = {
    .abi = COLLECTIVES_ABI,
    .size = sizeof(collectives_host),
    .error = host_error,
    .log = host_log,
    .now_ns = base_now_ns,
    .sleep_ns = base_sleep_ns,
    .dtype_size = cadre_dtype_size,
    .describe = collectives_describe,
    .name_ranks = collectives_name_ranks,
    .reduce = collectives_reduce,
};

static int load(void)
{
    char path[PATH_MAX] = "";
    if (loaded)
        return CADRE_OK;
    if (!find_module(path))
        return base_error(CADRE_ENOTSUP, "%s is not there%s%s (build with libopenmpi-dev, or set CADRE_MPI_MODULE)",
                          module_name, path[0] ? ": " : "", path);
    /* Global, as MPI's own plugins look for its symbols. Never closed: MPI cannot be initialised a second time. */
    void *module = dlopen(path, RTLD_NOW | RTLD_GLOBAL);
    if (!module)
        return base_error(CADRE_ENOTSUP, "load %s: %s", path, dlerror());
    collectives_mpi_entry *entry;
    *(void **)&entry = dlsym(module, "cadre_mpi_backend");
    const collectives_mpi_table *table = entry ? entry(&host) : NULL;
    if (!table || table->abi != COLLECTIVES_ABI || table->size != sizeof *table)
        return base_error(CADRE_EVERSION, "%s is of another version (%d, wanted %d)", path, table ? table->abi : 0,
                          COLLECTIVES_ABI);
    loaded = table;
    return CADRE_OK;
}

int collectives_mpi_join(cadre_oob *out)
{
    if (!collectives_mpi_present(NULL, NULL))
        return base_error(CADRE_ENOTSUP, "this process was not started by mpirun or srun");
    cadre_oob oob = {.size = sizeof oob};
    int status = load();
    if (!status)
        status = loaded->join(&oob.rank, &oob.world);
    if (status)
        return base_wrap(status, "join the MPI ranks");
    oob.all_gather = loaded->all_gather;
    *out = oob;
    return CADRE_OK;
}

const collectives_mpi_messages *collectives_mpi_messages_of(void) { return loaded->messages; }

void collectives_mpi_leave(bool ok)
{
    if (loaded)
        loaded->leave(ok);
}

static int mpi_score(const collectives_place *place, char why[COLLECTIVES_WHY])
{
    char path[PATH_MAX] = "";
    int rank, world;
    if (!find_module(path)) {
        snprintf(why, COLLECTIVES_WHY, "%s is not there", module_name);
        return 0;
    }
    if (place->cards && !collectives_mpi_present(&rank, &world)) {
        snprintf(why, COLLECTIVES_WHY, "not started by mpirun or srun");
        return 0;
    }
    if (place->cards && (rank != place->oob->rank || world != place->oob->world)) {
        snprintf(why, COLLECTIVES_WHY, "rank %d of %d, but in MPI %d of %d", place->oob->rank, place->oob->world, rank,
                 world);
        return 0;
    }
    snprintf(why, COLLECTIVES_WHY, "%s", path);
    return 20;
}

static int mpi_init(const collectives_place *place, void **self)
{
    cadre_oob mpi = {0};
    int status = collectives_mpi_join(&mpi);
    status = collectives_agree(place->oob, place->timeout_s, status, "set-up");
    if (status)
        return status;
    void *made = NULL;
    status = collectives_agree(place->oob, place->timeout_s, loaded->backend->init(place, &made), "communicator");
    if (status)
        loaded->backend->free(made);
    else
        *self = made;
    return status;
}

/* The module's operations are called through this table, since the registry's must be constant. */
#define PASS(slot)                                                                                                     \
    static int mpi_##slot(void *self, collectives_op *op) { return loaded->backend->slot(self, op); }
PASS(all_reduce)
PASS(reduce_scatter)
PASS(all_gather)
PASS(broadcast)
PASS(barrier)
PASS(start)
PASS(wait)
static int mpi_test(void *self, collectives_op *op, bool *done) { return loaded->backend->test(self, op, done); }
static void mpi_abort(void *self) { loaded->backend->abort(self); }
static void mpi_free(void *self) { loaded->backend->free(self); }

const collectives_backend collectives_mpi = {
    .abi = COLLECTIVES_ABI,
    .size = sizeof(collectives_backend),
    .name = "mpi",
    .score = mpi_score,
    .init = mpi_init,
    .all_reduce = mpi_all_reduce,
    .reduce_scatter = mpi_reduce_scatter,
    .all_gather = mpi_all_gather,
    .broadcast = mpi_broadcast,
    .barrier = mpi_barrier,
    .start = mpi_start,
    .test = mpi_test,
    .wait = mpi_wait,
    .abort = mpi_abort,
    .free = mpi_free,
};
