/* The shm backend when things go wrong: ranks killed and stopped at every point of every operation, and too little
 * memory. */
#include "base/clock.h"
#include "base/fault.h"
#include "base/log.h"
#include "ranks.h"
#include "strikes.h"

#include <dirent.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

enum { VICTIM = 1, LARGE = 1 << 20 };

static cadre_comm *join(const cadre_oob *oob, double timeout_s)
{
    cadre_comm *comm = NULL;
    cadre_comm_options options = {.backend = "shm", .timeout_s = timeout_s, .stall_s = 0.1};
    CHECK(cadre_comm_new(oob, &options, &comm) == CADRE_OK);
    return comm;
}

static int strikes(bool stop, struct strike *list, const struct strike_place *place)
{
    int count = 0;
    for (int operation = 0; operation < STRIKE_OPERATIONS; operation++)
        for (int step = 1; step <= 4; step += stop ? 2 : 1)
            list[count++] = (struct strike){place, operation, step, VICTIM, stop};
    return count;
}

static void test_killed(void **state)
{
    static struct strike list[4 * STRIKE_OPERATIONS];
    (void)state;
    for (int world = 2; world <= 3; world++) {
        struct strike_place place = {.backend = "shm", .world = world};
        strikes_run(list, strikes(false, list, &place), 2);
    }
}

static void test_stopped(void **state)
{
    static struct strike list[4 * STRIKE_OPERATIONS];
    struct strike_place place = {.backend = "shm", .world = 3};
    (void)state;
    strikes_run(list, strikes(true, list, &place), 4);
}

static int leftovers(void)
{
    int found = 0;
    DIR *directory = opendir("/dev/shm");
    struct dirent *entry;
    while (directory && (entry = readdir(directory)))
        found += strncmp(entry->d_name, "cadre-comm-", 11) == 0;
    if (directory)
        closedir(directory);
    return found;
}

static void test_nothing_left_behind(void **state)
{
    (void)state;
    assert_int_equal(leftovers(), 0);
}

/* One rank cannot get its memory: all hear so, in words, and go on with what they have. */
static void short_of_memory(const cadre_oob *oob, void *user)
{
    cadre_comm *comm = join(oob, 30);
    void *memory = NULL;
    bool by_limit = *(bool *)user;
    if (oob->rank == VICTIM) {
        struct rlimit limit = {1 << 20, RLIM_INFINITY};
        if (by_limit)
            CHECK(setrlimit(RLIMIT_FSIZE, &limit) == 0);
        else
            base_fault_set("shm_alloc:1:enospc");
    }
    CHECK(cadre_comm_alloc(comm, 8 << 20, &memory) == CADRE_ENOSPC && !memory);
    CHECK(strstr(cadre_error_message(), "rank 1") && strstr(cadre_error_message(), "8388608 bytes"));
    CHECK(cadre_barrier(comm) == CADRE_OK);
    CHECK(cadre_comm_alloc(comm, (size_t)1 << 45, &memory) == CADRE_ENOSPC);
    CHECK(cadre_comm_alloc(comm, 4096, &memory) == CADRE_OK);
    cadre_comm_dealloc(comm, memory);
    cadre_comm_free(comm);
}

static void test_short_of_memory(void **state)
{
    (void)state;
    for (int by_limit = 0; by_limit < 2; by_limit++) {
        bool limit = by_limit;
        watchdog("short of memory", 60);
        ranks_run(PROCESSES, 3, -1, short_of_memory, &limit);
    }
}

/* Every rank fails, with the reason of the one that could not. */
static void failed_setup(const cadre_oob *oob, void *user)
{
    cadre_comm *comm = NULL;
    cadre_comm_options options = {.backend = "shm", .timeout_s = 30};
    (void)user;
    if (oob->rank == 0)
        base_fault_set("shm_alloc:1:enospc");
    CHECK(cadre_comm_new(oob, &options, &comm) == CADRE_ENOSPC && !comm);
    CHECK(strstr(cadre_error_message(), "rank 0"));
    if (oob->rank == 0)
        base_fault_set(NULL);
    for (int nth = 1; nth < 12; nth++) { /* the nth allocation of one rank fails, whichever that is */
        char fault[32];
        snprintf(fault, sizeof fault, "alloc:%d", nth);
        if (oob->rank == VICTIM)
            base_fault_set(fault);
        int status = cadre_comm_new(oob, &options, &comm);
        CHECK(status == CADRE_OK || status == CADRE_ENOMEM);
        if (oob->rank == VICTIM)
            base_fault_set(NULL);
        if (!status) {
            CHECK(cadre_barrier(comm) == CADRE_OK);
            cadre_comm_free(comm);
        }
        comm = NULL;
    }
}

static void test_failed_setup(void **state)
{
    (void)state;
    watchdog("failed setup", 60);
    ranks_run(PROCESSES, 3, -1, failed_setup, NULL);
}

/* Where memory without a name cannot be had, files in /dev/shm do it. */
static void by_files(const cadre_oob *oob, void *user)
{
    (void)user;
    if (oob->rank == VICTIM || oob->rank == 0)
        base_fault_set("memfd:1+");
    cadre_comm *comm = join(oob, 30);
    void *memory = NULL;
    CHECK(cadre_comm_alloc(comm, LARGE, &memory) == CADRE_OK);
    int64_t *numbers = memory;
    numbers[LARGE / 8 - 1] = 1;
    CHECK(cadre_all_reduce(comm, numbers, LARGE / 8, CADRE_INT64, CADRE_SUM) == CADRE_OK);
    CHECK(numbers[LARGE / 8 - 1] == oob->world && numbers[0] == 0);
    cadre_comm_dealloc(comm, memory);
    cadre_comm_free(comm);
}

static void test_by_files(void **state)
{
    (void)state;
    watchdog("files in /dev/shm", 60);
    ranks_run(PROCESSES, 3, -1, by_files, NULL);
}

/* The ranks call different things: all are told who and what. */
static void disagree(const cadre_oob *oob, void *user)
{
    (void)user;
    for (int what = 0; what < 4; what++) {
        cadre_comm *comm = join(oob, 30);
        float data[32] = {0};
        bool odd = oob->rank == VICTIM;
        int status;
        switch (what) {
        case 0:
            status = cadre_all_reduce(comm, data, odd ? 5 : 6, CADRE_FLOAT32, CADRE_SUM);
            break;
        case 1:
            status = cadre_all_reduce(comm, data, 6, CADRE_FLOAT32, odd ? CADRE_MAX : CADRE_SUM);
            break;
        case 2:
            status = odd ? cadre_barrier(comm) : cadre_broadcast(comm, data, 6, CADRE_FLOAT32, 0);
            break;
        default:
            status = cadre_broadcast(comm, data, 6, CADRE_FLOAT32, odd ? 0 : 1);
        }
        CHECK(status == CADRE_EMISMATCH && strstr(cadre_error_message(), "rank 1"));
        cadre_comm_free(comm);
    }
    cadre_comm *comm = join(oob, 30);
    void *memory = NULL;
    CHECK(cadre_comm_alloc(comm, oob->rank == VICTIM ? 9000 : 8000, &memory) == CADRE_EMISMATCH || memory == NULL);
    cadre_comm_free(comm);
}

static void test_disagree(void **state)
{
    (void)state;
    watchdog("disagreement", 60);
    ranks_run(THREADS, 3, -1, disagree, NULL);
}

/* One aborts, by a signal; all leave soon. */
static cadre_comm *to_abort;
static void on_signal(int signal)
{
    (void)signal;
    cadre_comm_abort(to_abort);
}

static void cancelled(const cadre_oob *oob, void *user)
{
    (void)user;
    to_abort = join(oob, 30);
    double begun = base_now();
    if (oob->rank == VICTIM) {
        base_sleep_ns(100000000);
        signal(SIGUSR1, on_signal);
        raise(SIGUSR1);
        CHECK(cadre_barrier(to_abort) == CADRE_ECANCELED);
    } else {
        CHECK(cadre_barrier(to_abort) == CADRE_ECANCELED);
        CHECK(strstr(cadre_error_message(), "rank 1"));
    }
    CHECK(base_now() - begun < 5);
    cadre_comm_free(to_abort);
}

static void test_cancelled(void **state)
{
    (void)state;
    watchdog("cancelled", 60);
    ranks_run(PROCESSES, 3, -1, cancelled, NULL);
}

/* Many more ranks than cores get through, and in step. */
static void crowd(const cadre_oob *oob, void *user)
{
    (void)user;
    cadre_comm *comm = join(oob, 60);
    int64_t *plain = calloc(LARGE / 8, sizeof *plain);
    for (int i = 0; i < 300; i++) {
        int64_t one = 1;
        CHECK(cadre_all_reduce(comm, &one, 1, CADRE_INT64, CADRE_SUM) == CADRE_OK && one == oob->world);
    }
    for (int i = 0; i < 3; i++)
        CHECK(cadre_all_reduce(comm, plain, LARGE / 8, CADRE_INT64, CADRE_SUM) == CADRE_OK);
    free(plain);
    cadre_comm_free(comm);
}

static void test_crowd(void **state)
{
    (void)state;
    watchdog("twelve processes", 100);
    ranks_run(PROCESSES, 12, -1, crowd, NULL);
    watchdog("sixteen threads", 100);
    ranks_run(THREADS, 16, -1, crowd, NULL);
}

static atomic_int warnings;
static void count_warning(cadre_log_level level, const char *room, const char *line, void *user)
{
    (void)user;
    (void)room;
    if (level == CADRE_LOG_WARN && strstr(line, "all_reduce of bucket 7: after 0.1 s still waiting for rank 1 (pid ") &&
        strstr(line, "); there: ranks 0, 2-3"))
        warnings++;
}

static void stall(const cadre_oob *oob, void *user)
{
    float data = 1;
    (void)user;
    cadre_comm *comm = join(oob, 30);
    cadre_log_set(count_warning, NULL, CADRE_LOG_WARN);
    cadre_comm_label(comm, "bucket 7");
    if (oob->rank == VICTIM)
        base_sleep_ns(600000000);
    CHECK(cadre_all_reduce(comm, &data, 1, CADRE_FLOAT32, CADRE_SUM) == CADRE_OK && data == 4);
    CHECK(warnings == (oob->rank == VICTIM ? 0 : 1));
    cadre_comm_free(comm);
}

static void test_stall(void **state)
{
    (void)state;
    watchdog("a stall", 60);
    ranks_run(PROCESSES, 4, -1, stall, NULL);
}

/* The same by the environment, and at the deadline an error in the same words. */
static void stall_by_environment(const cadre_oob *oob, void *user)
{
    (void)user;
    cadre_comm *comm = NULL;
    cadre_comm_options options = {.backend = "shm", .timeout_s = 1};
    CHECK(cadre_comm_new(oob, &options, &comm) == CADRE_OK);
    cadre_log_set(count_warning, NULL, CADRE_LOG_WARN);
    cadre_comm_label(comm, "bucket 7");
    float data = 1;
    if (oob->rank != VICTIM) {
        CHECK(cadre_all_reduce(comm, &data, 1, CADRE_FLOAT32, CADRE_SUM) == CADRE_ETIMEDOUT);
        CHECK(warnings == 1);
        CHECK(strstr(cadre_error_message(), "bucket 7: deadline passed: after 1.") &&
              strstr(cadre_error_message(), "s still waiting for rank 1 (pid ") &&
              strstr(cadre_error_message(), "); there: ranks 0, 2-3"));
    } else {
        base_sleep_ns(1500000000);
    }
    cadre_comm_free(comm);
}

static void test_stall_by_environment(void **state)
{
    (void)state;
    watchdog("a stall", 60);
    assert_int_equal(setenv("CADRE_STALL_S", "0.1", 1), 0);
    ranks_run(PROCESSES, 4, -1, stall_by_environment, NULL);
    unsetenv("CADRE_STALL_S");
}

/* A /dev/shm that is too small for the files in it: words, not SIGBUS. */
static void small_dev_shm(const cadre_oob *oob, void *user)
{
    (void)user;
    base_fault_set("memfd:1+");
    cadre_comm *comm = join(oob, 30);
    void *memory = NULL;
    CHECK(cadre_comm_alloc(comm, 32 << 20, &memory) == CADRE_ENOSPC && !memory);
    CHECK(strstr(cadre_error_message(), "reserve 33554432 bytes of shared memory"));
    CHECK(cadre_comm_alloc(comm, LARGE, &memory) == CADRE_OK);
    memset(memory, 1, LARGE);
    CHECK(cadre_barrier(comm) == CADRE_OK);
    cadre_comm_dealloc(comm, memory);
    cadre_comm_free(comm);
}

static void test_small_dev_shm(void **state)
{
    (void)state;
    watchdog("a small /dev/shm", 60);
    pid_t child = fork(); /* with a view of its own of what is mounted */
    assert_true(child >= 0);
    if (child == 0) {
        if (unshare(CLONE_NEWNS) != 0 || mount("none", "/", "", MS_REC | MS_PRIVATE, NULL) != 0 ||
            mount("tmpfs", "/dev/shm", "tmpfs", 0, "size=24m") != 0)
            _exit(77);
        ranks_run(PROCESSES, 2, -1, small_dev_shm, NULL);
        _exit(0);
    }
    int ended = 0;
    waitpid(child, &ended, 0);
    if (WIFEXITED(ended) && WEXITSTATUS(ended) == 77)
        skip(); /* not root */
    assert_int_equal(ended, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_failed_setup),
        cmocka_unit_test(test_short_of_memory),
        cmocka_unit_test(test_disagree),
        cmocka_unit_test(test_by_files),
        cmocka_unit_test(test_cancelled),
        cmocka_unit_test(test_stall),
        cmocka_unit_test(test_stall_by_environment),
        cmocka_unit_test(test_small_dev_shm),
        cmocka_unit_test(test_crowd),
        cmocka_unit_test(test_killed),
        cmocka_unit_test(test_stopped),
        cmocka_unit_test(test_nothing_left_behind),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
