#include "job.h"

#include "base/fault.h"
#include "cadre/log.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include <uv.h>

/* ---- a fault that strikes once in the whole run, whatever process and attempt comes first ------------------------------------------- */

enum { CONTROLLER = -2 };

static struct {
    char point[48], action[16];
    bool on; /* "+" behind the action: from then on each time */
    int at, rank, passed, own_rank;
    const char *marker; /* who can remove this file strikes; NULL: each time */
} plan = {.rank = -1, .own_rank = -1};

int __wrap_base_fault_hit(const char *point);
void __wrap_base_fault_set_rank(int rank);
const char *__real_base_network_filesystem(const char *path);
const char *__wrap_base_network_filesystem(const char *path);

void __wrap_base_fault_set_rank(int rank) { plan.own_rank = rank; }

int __wrap_base_fault_hit(const char *point)
{
    if (strcmp(point, plan.point) != 0 || (plan.rank == CONTROLLER ? plan.own_rank >= 0 : plan.rank >= 0 && plan.rank != plan.own_rank) ||
        ++plan.passed < plan.at)
        return 0;
    if (plan.marker && unlink(plan.marker) != 0)
        return 0;
    if (!plan.marker && !plan.on && plan.passed > plan.at)
        return 0;
    if (strcmp(plan.action, "kill") == 0)
        raise(SIGKILL);
    if (strcmp(plan.action, "segv") == 0) {
        signal(SIGSEGV, SIG_DFL);
        raise(SIGSEGV);
    }
    if (strcmp(plan.action, "stop") == 0)
        raise(SIGSTOP);
    if (strcmp(plan.action, "exit") == 0)
        _exit(3);
    if (strcmp(plan.action, "slow") == 0) { /* long enough for something else to happen meanwhile */
        struct timespec left = {.tv_nsec = 400000000};
        while (nanosleep(&left, &left) != 0 && errno == EINTR)
            ;
    }
    static const struct {
        const char *action;
        int value;
    } answers[] = {{"enospc", ENOSPC}, {"eio", EIO}, {"oom", ENOMEM}, {"short", -1}};
    for (size_t i = 0; i < sizeof answers / sizeof *answers; i++)
        if (strcmp(plan.action, answers[i].action) == 0)
            return answers[i].value;
    return 0;
}

/* "point:N:action[+][@rank]", rank -2 being the controller */
static void make_plan(const char *text)
{
    if (sscanf(text, "%47[^:]:%d:%15[^@]@%d", plan.point, &plan.at, plan.action, &plan.rank) < 3)
        abort();
    char *plus = strchr(plan.action, '+');
    if (plus)
        *plus = '\0';
    plan.on = plus != NULL;
    base_fault_armed = true;
}

static const char *network;

const char *__wrap_base_network_filesystem(const char *path) { return network ? network : __real_base_network_filesystem(path); }

/* ---- options --------------------------------------------------------------------------------------------------------------------------- */

static int launcher_of(const char *name)
{
    static const char *const names[] = {"auto", "fork", "inproc", "mpirun"};
    for (int i = 0; i < 4; i++)
        if (strcmp(name, names[i]) == 0)
            return i;
    return atoi(name);
}

static struct {
    bool thread, ignore_children;
    int repeat;
    const char *first; /* a run before the one that counts */
} ways = {.repeat = 1};

static bool take_trainer(cadre_trainer *trainer, const char *key, char *value)
{
    if (strcmp(key, "name") == 0)
        trainer->run.name = value;
    else if (strcmp(key, "storage") == 0)
        trainer->run.storage = value;
    else if (strcmp(key, "metric") == 0)
        trainer->run.metric = value;
    else if (strcmp(key, "resume") == 0)
        trainer->run.resume = atoi(value);
    else if (strcmp(key, "progress") == 0)
        trainer->run.progress = atoi(value);
    else if (strcmp(key, "workers") == 0)
        trainer->scaling.num_workers = atoi(value);
    else if (strcmp(key, "least") == 0)
        trainer->scaling.min_workers = atoi(value);
    else if (strcmp(key, "regrow") == 0)
        trainer->scaling.regrow_s = atof(value);
    else if (strcmp(key, "cores") == 0)
        trainer->scaling.cores_per_worker = atoi(value);
    else if (strcmp(key, "gpus") == 0)
        trainer->scaling.gpus_per_worker = atof(value);
    else if (strcmp(key, "launcher") == 0)
        trainer->scaling.launcher = (cadre_launcher)launcher_of(value);
    else if (strcmp(key, "backend") == 0)
        trainer->scaling.backend = value;
    else if (strcmp(key, "timeout") == 0)
        trainer->scaling.timeout_s = atof(value);
    else if (strcmp(key, "failures") == 0)
        trainer->failure.max_failures = atoi(value);
    else if (strcmp(key, "hang") == 0)
        trainer->failure.hang_timeout_s = atof(value);
    else if (strcmp(key, "grace") == 0)
        trainer->failure.grace_s = atof(value);
    else if (strcmp(key, "on_nan") == 0)
        trainer->failure.on_nan = (cadre_on_nan)atoi(value);
    else if (strcmp(key, "budget") == 0)
        trainer->run.time_budget_s = atof(value);
    else if (strcmp(key, "keep") == 0)
        trainer->checkpoint.keep = atoi(value);
    else if (strcmp(key, "score") == 0)
        trainer->checkpoint.score_metric = value;
    else if (strcmp(key, "mode") == 0)
        trainer->checkpoint.score_mode = (cadre_mode)(strcmp(value, "min") == 0 ? CADRE_MIN : strcmp(value, "max") == 0 ? CADRE_MAX : atoi(value));
    else if (strcmp(key, "behind") == 0)
        trainer->checkpoint.write_behind = atoi(value);
    else if (strcmp(key, "sharded") == 0)
        trainer->checkpoint.sharded = atoi(value);
    else if (strcmp(key, "every") == 0)
        trainer->checkpoint.every_steps = atoll(value);
    else
        return false;
    return true;
}

static bool take_own(job_options *options, const char *key, char *value)
{
    if (strcmp(key, "out") == 0)
        options->out = value;
    else if (strcmp(key, "final") == 0)
        options->final = value;
    else if (strcmp(key, "act") == 0)
        options->act = value;
    else if (strcmp(key, "act_rank") == 0)
        options->act_rank = atoi(value);
    else if (strcmp(key, "act_attempt") == 0)
        options->act_attempt = atoi(value);
    else if (strcmp(key, "act_step") == 0)
        options->act_step = atoll(value);
    else if (strcmp(key, "epochs") == 0)
        options->epochs = atoll(value);
    else if (strcmp(key, "steps") == 0)
        options->steps = atoll(value);
    else if (strcmp(key, "sleep_us") == 0)
        options->sleep_us = atoll(value);
    else if (strcmp(key, "save") == 0)
        options->save = atoi(value);
    else if (strcmp(key, "restore") == 0)
        options->restore = atoi(value);
    else if (strcmp(key, "bare") == 0)
        options->bare = atoi(value);
    else if (strcmp(key, "stepping") == 0)
        options->stepping = atoi(value);
    else
        return false;
    return true;
}

static void enter_cgroup(const char *directory)
{
    char path[600];
    snprintf(path, sizeof path, "%s/cgroup.procs", directory);
    FILE *file = fopen(path, "w");
    if (!file || fprintf(file, "%d", (int)getpid()) < 0 || fclose(file) != 0)
        exit(65);
}

static bool take_way(const char *key, char *value)
{
    if (strcmp(key, "fault") == 0)
        make_plan(value);
    else if (strcmp(key, "marker") == 0)
        plan.marker = value;
    else if (strcmp(key, "network") == 0)
        network = value;
    else if (strcmp(key, "thread") == 0)
        ways.thread = atoi(value);
    else if (strcmp(key, "first") == 0)
        ways.first = value;
    else if (strcmp(key, "repeat") == 0)
        ways.repeat = atoi(value);
    else if (strcmp(key, "ignore_children") == 0)
        ways.ignore_children = atoi(value);
    else if (strcmp(key, "cgroup") == 0)
        enter_cgroup(value);
    else if (strcmp(key, "uid") == 0)
        return setuid((uid_t)atoi(value)) == 0;
    else
        return false;
    return true;
}

/* ---- the run ---------------------------------------------------------------------------------------------------------------------------- */

int job_count_fds(void)
{
    DIR *directory = opendir("/proc/self/fd");
    int count = -1; /* the directory's own */
    for (struct dirent *entry; (entry = readdir(directory));)
        count += entry->d_name[0] != '.';
    closedir(directory);
    return count;
}

static void *sleep_on(void *user)
{
    sigset_t all;
    sigfillset(&all);
    pthread_sigmask(SIG_BLOCK, &all, NULL);
    pause();
    return user;
}

static void write_answer(const char *path, int status, const char *message, const cadre_result *result, int fds_before)
{
    int fds = job_count_fds() - fds_before;
    FILE *file = fopen(path, "w");
    if (!file)
        abort();
    fprintf(file, "status %s\nmessage %s\nattempts %d\nreports %lld\nstopped %d\ntrial %lld\npath %s\nbest %s\nlast %s\nfds %d\n", cadre_status_name(status),
            status < 0 ? message : "", result->attempts, (long long)result->reports, result->stopped, (long long)result->trial, result->path,
            result->best_checkpoint, result->last_checkpoint, fds);
    fprintf(file, "wall %g\ntimes %d\n", result->wall_s, result->wall_s > 0 && (result->start_s > 0) == (result->reports > 0) && result->start_s <= result->wall_s);
    for (int i = 0; i < result->num_metrics; i++)
        fprintf(file, "metric-%s %a\n", result->metrics[i].name, cadre_result_metric(result, result->metrics[i].name));
    if (fclose(file) != 0)
        abort();
}

static void caught(int number) { (void)number; }

/* What the program had set for itself must be so again after fit. */
static void set_handlers(void)
{
    signal(SIGINT, caught);
    signal(SIGTERM, caught);
    signal(SIGUSR1, caught);
    signal(SIGCHLD, ways.ignore_children ? SIG_IGN : caught);
}

static bool handlers_stand(void)
{
    struct sigaction now[4];
    sigaction(SIGINT, NULL, &now[0]);
    sigaction(SIGTERM, NULL, &now[1]);
    sigaction(SIGCHLD, NULL, &now[2]);
    sigaction(SIGUSR1, NULL, &now[3]);
    return now[0].sa_handler == caught && now[1].sa_handler == caught && now[3].sa_handler == caught && now[2].sa_handler == (ways.ignore_children ? SIG_IGN : caught);
}

static void read_words(job_options *options, int count, char **words)
{
    for (int i = 0; i < count; i++) {
        char *value = strchr(words[i], '=');
        if (!value)
            exit(64);
        *value = '\0';
        if (!take_trainer(&options->trainer, words[i], value + 1) && !take_own(options, words[i], value + 1) && !take_way(words[i], value + 1)) {
            fprintf(stderr, "job: unknown option %s\n", words[i]);
            exit(64);
        }
        *value = '='; /* the command line stays as it is: executed workers get it */
    }
}

int main(int argc, char **argv)
{
    job_options options = {.act_rank = -1, .act_attempt = -1, .epochs = 3, .steps = 5, .save = true, .restore = true, .stepping = true};
    options.trainer = (cadre_trainer){.train = job_train, .user = &options, .scaling = {.on_resize = job_resize}};
    read_words(&options, argc - 1, argv + 1);
    cadre_log_set(cadre_log_stderr, NULL, CADRE_LOG_WARN);
    cadre_config *config = NULL;
    if (cadre_config_new(&config) != CADRE_OK || cadre_config_set_double(config, "start", 0.5) != CADRE_OK || cadre_config_set_string(config, "kind", "\xc3\xbc") != CADRE_OK)
        return 65;
    options.trainer.config = config;
    pthread_t thread;
    if (ways.thread)
        pthread_create(&thread, NULL, sleep_on, NULL);
    uv_loop_t loop; /* libuv opens a pipe for signals once and for good */
    uv_loop_init(&loop);
    uv_loop_close(&loop);
    set_handlers();
    int fds = job_count_fds(), status = CADRE_OK;
    cadre_result result = {0};
    if (ways.first) {
        cadre_trainer first = options.trainer;
        first.run.name = ways.first;
        status = cadre_trainer_fit(&first, NULL);
        options.epochs++; /* what comes between is so in the workers, too */
    }
    for (int i = 0; i < ways.repeat && status == CADRE_OK; i++)
        status = cadre_trainer_fit(&options.trainer, &result);
    const char *rank = getenv("OMPI_COMM_WORLD_RANK");
    if (options.out && (!rank || atoi(rank) == 0))
        write_answer(options.out, status, cadre_error_message(), &result, fds);
    cadre_config_free(config);
    if (ways.thread) {
        pthread_cancel(thread);
        pthread_join(thread, NULL);
    }
    if (!handlers_stand()) {
        fprintf(stderr, "job: the program's signal handlers are lost\n");
        return 66;
    }
    return status < 0 ? 1 : 0;
}
