/* fit: which way a trainer runs, and the checks before it does. */
#include "fit.h"

#include "base/clock.h"
#include "base/error.h"
#include "base/mem.h"
#include "collectives/mpi_oob.h"
#include "launch/launch.h"
#include "worker.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

int fit_cores(void)
{
    cpu_set_t set;
    return sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set) : 1;
}

bool fit_logical(int logical, int world)
{
    int rows = logical / world;
    return logical % world == 0 && rows > 0 && (rows & (rows - 1)) == 0;
}

int fit_threads_of(const cadre_trainer *trainer, int world, double cores)
{
    if (trainer->scaling.cores_per_worker > 0)
        return trainer->scaling.cores_per_worker;
    if (trainer->scaling.logical_workers)
        return 1; /* how many there are changes how sums are made */
    int share = (int)cores / (world > 0 ? world : 1);
    return share > 0 ? share : 1;
}

int fit_threads(const cadre_trainer *trainer, int world) { return fit_threads_of(trainer, world, fit_cores()); }

int fit_gpus(void)
{
    DIR *directory = opendir("/proc/driver/nvidia/gpus");
    int count = 0;
    for (struct dirent *entry; directory && (entry = readdir(directory));)
        count += entry->d_name[0] != '.';
    if (directory)
        closedir(directory);
    return count;
}

/* Every option is checked before anything is made. */
int fit_check(const cadre_trainer *trainer)
{
    const cadre_scaling_config *scaling = &trainer->scaling;
    if (!trainer->train)
        return base_error(CADRE_EINVAL, "trainer.train is NULL: give the function that trains");
    if (scaling->num_workers < 0 || scaling->num_workers > 4096)
        return base_error(CADRE_EINVAL, "scaling.num_workers is %d: give 1 to 4096, or 0 for the default", scaling->num_workers);
    int workers = scaling->num_workers ? scaling->num_workers : 1;
    if (scaling->logical_workers && (scaling->logical_workers < 0 || !fit_logical(scaling->logical_workers, workers)))
        return base_error(CADRE_EINVAL, "scaling.logical_workers is %d: give %d (num_workers) times a power of two, or 0", scaling->logical_workers, workers);
    if (scaling->logical_workers && scaling->device && strcmp(scaling->device, "cpu") != 0)
        return base_error(CADRE_EINVAL, "scaling.device is \"%s\": logical workers add up in host memory, leave it NULL or scaling.logical_workers 0", scaling->device);
    if (scaling->min_workers < 0 || scaling->min_workers > (scaling->num_workers ? scaling->num_workers : 1))
        return base_error(CADRE_EINVAL, "scaling.min_workers is %d: give 1 to num_workers (%d), or 0 for a fixed number", scaling->min_workers,
                          scaling->num_workers ? scaling->num_workers : 1);
    if (isnan(scaling->regrow_s))
        return base_error(CADRE_EINVAL, "scaling.regrow_s is not a number: give seconds, 0 for the default, or a negative number for never");
    if (scaling->cores_per_worker < 0)
        return base_error(CADRE_EINVAL, "scaling.cores_per_worker is %d: give a positive number, or 0 to share the cores out", scaling->cores_per_worker);
    if (!(scaling->gpus_per_worker >= 0) || !isfinite(scaling->gpus_per_worker) ||
        (scaling->gpus_per_worker > 1 && scaling->gpus_per_worker != floor(scaling->gpus_per_worker)))
        return base_error(CADRE_EINVAL, "scaling.gpus_per_worker is %g: give a whole number or a part of one", scaling->gpus_per_worker);
    if (scaling->launcher < CADRE_LAUNCH_AUTO || scaling->launcher > CADRE_LAUNCH_MPIRUN)
        return base_error(CADRE_EINVAL, "scaling.launcher is %d: there is no such launcher", (int)scaling->launcher);
    if (scaling->launcher == CADRE_LAUNCH_INPROC && scaling->num_workers > 1)
        return base_error(CADRE_EINVAL, "scaling.num_workers is %d, but the inproc launcher has one worker: leave it 0 or use another", scaling->num_workers);
    if (trainer->failure.max_failures < -1)
        return base_error(CADRE_EINVAL, "failure.max_failures is %d: give 0 or more, or -1 for no limit", trainer->failure.max_failures);
    if (trainer->checkpoint.keep < 0)
        return base_error(CADRE_EINVAL, "checkpoint.keep is %d: give 1 or more, or 0 to keep all", trainer->checkpoint.keep);
    if (trainer->checkpoint.every_steps < 0)
        return base_error(CADRE_EINVAL, "checkpoint.every_steps is %lld: give 1 or more, or 0 for none", (long long)trainer->checkpoint.every_steps);
    if (trainer->checkpoint.sharded < 0 || trainer->checkpoint.sharded > 1)
        return base_error(CADRE_EINVAL, "checkpoint.sharded is %d: give 1 (each rank writes its share) or 0 (rank 0 writes all)", trainer->checkpoint.sharded);
    if (trainer->checkpoint.write_behind < -1 || trainer->checkpoint.write_behind > 1)
        return base_error(CADRE_EINVAL, "checkpoint.write_behind is %d: give 1 (behind the training), -1 (never) or 0 (large ones)", trainer->checkpoint.write_behind);
    if (!(scaling->timeout_s >= 0))
        return base_error(CADRE_EINVAL, "scaling.timeout_s is %g: give seconds, or 0 for the default", scaling->timeout_s);
    if (isnan(trainer->failure.hang_timeout_s))
        return base_error(CADRE_EINVAL, "failure.hang_timeout_s is not a number: give seconds, 0 for the default, or a negative number for never");
    if (!(trainer->failure.grace_s >= 0))
        return base_error(CADRE_EINVAL, "failure.grace_s is %g: give seconds, or 0 for the default", trainer->failure.grace_s);
    if (trainer->failure.on_nan < CADRE_NAN_RECORD || trainer->failure.on_nan > CADRE_NAN_RESTORE)
        return base_error(CADRE_EINVAL, "failure.on_nan is %d: give CADRE_NAN_RECORD, CADRE_NAN_FAIL or CADRE_NAN_RESTORE", (int)trainer->failure.on_nan);
    if (!(trainer->run.time_budget_s >= 0))
        return base_error(CADRE_EINVAL, "run.time_budget_s is %g: give seconds, or 0 for no limit", trainer->run.time_budget_s);
    int score_mode = (int)trainer->checkpoint.score_mode;
    if (score_mode != 0 && score_mode != CADRE_MIN && score_mode != CADRE_MAX)
        return base_error(CADRE_EINVAL, "checkpoint.score_mode is %d: give CADRE_MAX (or 0) or CADRE_MIN", score_mode);
    if (trainer->run.resume != CADRE_RESUME_NEW && trainer->run.resume != CADRE_RESUME_LAST)
        return base_error(CADRE_EINVAL, "run.resume is %d: give CADRE_RESUME_NEW or CADRE_RESUME_LAST", (int)trainer->run.resume);
    if (trainer->run.progress != CADRE_PROGRESS_NONE && trainer->run.progress != CADRE_PROGRESS_AUTO)
        return base_error(CADRE_EINVAL, "run.progress is %d: give CADRE_PROGRESS_NONE or CADRE_PROGRESS_AUTO", (int)trainer->run.progress);
    return CADRE_OK;
}

/* A tuner has its own number of GPUs to give out. */
static int check_gpus(const cadre_scaling_config *scaling)
{
    double world = scaling->num_workers ? scaling->num_workers : 1;
    if (scaling->gpus_per_worker > 0 && scaling->gpus_per_worker * world > fit_gpus() + 1e-9)
        return base_error(CADRE_EINVAL, "scaling asks for %g GPUs, this machine has %d", scaling->gpus_per_worker * world, fit_gpus());
    return CADRE_OK;
}

static int run_forked(int rank, int attempt, int control_fd, void *user) { return worker_run(user, rank, attempt, control_fd, NULL); }

static int fit_launched(const cadre_trainer *trainer, double begun, cadre_result *result)
{
    zygote zygote = {.fd = -1};
    bool inproc = trainer->scaling.launcher == CADRE_LAUNCH_INPROC;
    const char *what;
    int status = CADRE_OK;
    worker_prepare(); /* once for all that the zygote forks */
    if (!inproc && trainer->scaling.launcher != CADRE_LAUNCH_MPIRUN && !launch_cannot_fork(&what))
        status = zygote_start(&zygote, run_forked, (void *)(uintptr_t)trainer); /* older than the store, the loop and any thread */
    trainer_run run = {0};
    if (status == CADRE_OK)
        status = run_open(&run, trainer, begun, false);
    if (status != CADRE_OK) {
        char message[BASE_ERROR_MAX];
        snprintf(message, sizeof message, "%s", cadre_error_message());
        zygote_stop(&zygote);
        return base_error(status, "%s", message);
    }
    fit_drop_timeline(trainer->run.timeline);
    status = inproc ? fit_inproc(&run) : fit_controlled(&run, &zygote);
    char message[BASE_ERROR_MAX];
    snprintf(message, sizeof message, "%s", cadre_error_message());
    run_close(&run);
    *result = run.result;
    return status < 0 ? base_error(status, "%s", message) : CADRE_OK;
}

int fit_check_timeline(const char *path)
{
    struct stat old;
    if (!path)
        return CADRE_OK;
    bool there = stat(path, &old) == 0;
    if (there && !S_ISREG(old.st_mode))
        return base_error(CADRE_EINVAL, "run.timeline \"%s\" is not a plain file", path);
    int fd = open(path, O_WRONLY | O_CLOEXEC | (there ? 0 : O_CREAT | O_EXCL), 0600);
    if (fd < 0)
        return base_errno(errno, "run.timeline \"%s\"", path);
    close(fd);
    if (!there)
        unlink(path);
    return CADRE_OK;
}

void fit_drop_timeline(const char *path)
{
    if (path)
        unlink(path);
}

int cadre_trainer_fit_sized(const cadre_trainer *trainer, size_t trainer_size, cadre_result *result, size_t result_size)
{
    double begun = base_now();
    cadre_trainer own = {0};
    cadre_result full = {0};
    if (!trainer || trainer_size == 0 || trainer_size > sizeof own)
        return base_error(CADRE_EINVAL, trainer ? "the program was built with a newer Cadre than it runs with" : "cadre_trainer_fit: trainer is NULL");
    memcpy(&own, trainer, trainer_size); /* fields that an older program does not know are zero, their default */
    int rank, world;
    int status = fit_check(&own);
    if (status == CADRE_OK)
        status = check_gpus(&own.scaling);
    if (status == CADRE_OK) {
        const char *name = own.run.name ? own.run.name : "run";
        if (worker_is_executed(name)) {
            int code = worker_run_executed(&own);
            fflush(NULL);
            _exit(code);
        }
        bool attached = own.scaling.launcher == CADRE_LAUNCH_AUTO && collectives_mpi_present(&rank, &world);
        if (!worker_is_underway() && (!attached || rank == 0))
            status = fit_check_timeline(own.run.timeline);
        if (worker_is_underway())
            status = CADRE_OK;
        else if (attached)
            status = fit_attached(&own, begun, &full); /* the other ranks wait for this one: each says in its log that there is no timeline */
        else if (status == CADRE_OK)
            status = fit_launched(&own, begun, &full);
    }
    if (result)
        memcpy(result, &full, result_size < sizeof full ? result_size : sizeof full);
    return status;
}

double cadre_result_metric(const cadre_result *result, const char *name)
{
    for (int i = 0; result && name && i < result->num_metrics; i++)
        if (strcmp(result->metrics[i].name, name) == 0)
            return result->metrics[i].value;
    return NAN;
}
