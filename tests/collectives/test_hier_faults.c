/*
 * The hier backend when things go wrong, over a double of MPI (mpi_double.c): ranks killed and stopped in every
 * operation, hosts that disagree, and set-ups that fail half-way. Two hosts of two ranks where nothing else is said.
 */
#include "base/clock.h"
#include "base/fault.h"
#include "collectives/backend.h"
#include "contract.h"
#include "mpi_double.h"
#include "ranks.h"
#include "strikes.h"

#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <unistd.h>

#include <cmocka.h>

static const char *hosts; /* each rank's; inherited by those who are forked */
static bool everything;
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
enum { FEWER = 2 };
#else
enum { FEWER = 1 };
#endif

static void prepare(int world)
{
    char number[16];
    int fd = memfd_create("mpi double", 0);
    CHECK(fd >= 0 && ftruncate(fd, (off_t)mpi_double_bytes(world)) == 0);
    snprintf(number, sizeof number, "%d", fd);
    CHECK(setenv("CADRE_MPI_DOUBLE", number, 1) == 0);
}

static void enter(const cadre_oob *oob)
{
    char text[32];
    snprintf(text, sizeof text, "%d", oob->rank);
    CHECK(setenv("OMPI_COMM_WORLD_RANK", text, 1) == 0);
    snprintf(text, sizeof text, "%d", oob->world);
    CHECK(setenv("OMPI_COMM_WORLD_SIZE", text, 1) == 0);
    snprintf(text, sizeof text, "host-%c", hosts[oob->rank]);
    CHECK(setenv("CADRE_HOST_ID", text, 1) == 0);
}

static cadre_comm *join(const cadre_oob *oob, double timeout_s)
{
    cadre_comm *comm = NULL;
    cadre_comm_options options = {.size = sizeof options, .backend = "hier", .timeout_s = timeout_s};
    CHECK(cadre_comm_new(oob, &options, &comm) == CADRE_OK);
    return comm;
}

/* ---- ranks killed and stopped ---- */

/* With nobody beside it to see it die, the other hosts know by the deadline. */
static bool sees_death(int rank, int victim)
{
    (void)rank;
    for (int r = 0; hosts[r]; r++)
        if (r != victim && hosts[r] == hosts[victim])
            return true;
    return false;
}

static uint32_t lot(uint32_t number)
{
    number *= 0x9e3779b1u;
    number = (number ^ number >> 15) * 0x85ebca77u;
    return number ^ number >> 13;
}

/* One of `one_of` scenes, picked as by lot but always the same; or all. */
static void strike_all(bool stop, int world, int last_step, unsigned one_of)
{
    struct strike_place place = {
        .backend = "hier", .world = world, .prepare = prepare, .enter = enter, .sees_death = sees_death};
    static struct strike list[2000];
    int count = 0;
    uint32_t number = 0;
    for (int operation = 0; operation < STRIKE_OPERATIONS; operation++)
        for (int step = 1; step <= last_step; step++)
            for (int victim = 0; victim < world; victim++)
                if (lot(++number) % (one_of * FEWER) == 0 || everything)
                    list[count++] = (struct strike){&place, operation, step, victim, stop};
    assert_true(count > 0);
    strikes_run(list, count, stop ? 5 : 3);
}

static void test_killed(void **state)
{
    (void)state;
    strike_all(false, 4, 8, 5);
}

static void test_stopped(void **state)
{
    (void)state;
    strike_all(true, 4, 6, 9);
}

static void test_uneven_hosts(void **state)
{
    (void)state;
    hosts = "aab";
    strike_all(false, 3, 6, 9);
    strike_all(true, 3, 6, 13);
    hosts = "abca";
    strike_all(false, 4, 6, 17);
    strike_all(true, 4, 6, 23);
}

/* ---- ranks dealt out in other ways ---- */

static void contract(const cadre_oob *oob, void *user)
{
    (void)user;
    enter(oob);
    contract_results(oob, "hier");
}

static void test_layouts(void **state)
{
    static const char *const layouts[] = {"abab", "abcbb"};
    (void)state;
    for (size_t i = 0; i < sizeof layouts / sizeof layouts[0]; i++) {
        char what[64];
        hosts = layouts[i];
        contract_traits.another_order = true;
        contract_traits.sample = !everything;
        snprintf(what, sizeof what, "ranks on hosts %s", hosts);
        watchdog(what, 200);
        prepare((int)strlen(hosts));
        ranks_run(PROCESSES, (int)strlen(hosts), -1, contract, NULL);
    }
}

/* Those of a host as messages have them, whatever their numbers. */
static void test_names(void **state)
{
    static const bool all[] = {true, true, true, true, true}, some[] = {false, true, true, false, true};
    static const int dealt[] = {1, 3, 4, 5, 7};
    int scattered[60];
    bool many[60];
    char text[128];
    (void)state;
    collectives_name_ranks(some, 5, NULL, text, sizeof text);
    assert_string_equal(text, "ranks 1-2, 4");
    collectives_name_ranks(all, 5, dealt, text, sizeof text);
    assert_string_equal(text, "ranks 1, 3-5, 7");
    collectives_name_ranks(some, 1, dealt, text, sizeof text);
    assert_string_equal(text, "none");
    for (int r = 0; r < 60; r++) {
        scattered[r] = 100 + 2 * r;
        many[r] = true;
    }
    collectives_name_ranks(many, 60, scattered, text, sizeof text);
    assert_non_null(strstr(text, "ranks 100, 102, 104"));
    assert_non_null(strstr(text, " more"));
}

/* ---- ranks that come late ---- */

/* Late is who comes later than others of the host. Another host is waited for in the operation's own time, and so is,
 * by a rank that only lays down and takes, the one that exchanges messages. */
static void late(const cadre_oob *oob, void *user)
{
    const size_t large = 1 << 20;
    (void)user;
    enter(oob);
    float *data = calloc(large, sizeof *data);
    cadre_comm *comm = join(oob, 60);
    CHECK(data);
    for (int who = 2; who > 0; who--) {
        CHECK(cadre_barrier(comm) == CADRE_OK);
        double before = cadre_comm_late_s(comm);
        if (oob->rank == who)
            base_sleep_ns(1200000000);
        CHECK(cadre_all_reduce(comm, data, large, CADRE_FLOAT32, CADRE_SUM) == CADRE_OK);
        double more = cadre_comm_late_s(comm) - before;
        CHECK(who == 1 && oob->rank == 0 ? more > 0.6 : more < 0.6);
    }
    cadre_comm_free(comm);
    free(data);
}

static void test_late(void **state)
{
    (void)state;
    hosts = "aab";
    watchdog("ranks that come late", 60);
    prepare(3);
    ranks_run(PROCESSES, 3, -1, late, NULL);
}

/* ---- hosts that disagree ---- */

enum { CASES = 10 };

/* `odd`: this rank's host is the one that does something else. */
static int disagree(cadre_comm *comm, int what, bool odd, float *data, float *more)
{
    const size_t large = 200000;
    void *memory = NULL;
    switch (what) {
    case 0:
        return cadre_all_reduce(comm, data, odd ? 5 : 6, CADRE_FLOAT32, CADRE_SUM);
    case 1:
        return cadre_all_reduce(comm, data, odd ? large : large - 2, CADRE_FLOAT32, CADRE_SUM);
    case 2:
        return cadre_all_reduce(comm, data, large, CADRE_FLOAT32, odd ? CADRE_MAX : CADRE_SUM);
    case 3:
        return cadre_all_reduce(comm, data, 6, odd ? CADRE_INT32 : CADRE_FLOAT32, CADRE_SUM);
    case 4:
        return odd ? cadre_barrier(comm) : cadre_broadcast(comm, data, large, CADRE_FLOAT32, 0);
    case 5:
        return cadre_broadcast(comm, data, 6, CADRE_FLOAT32, odd ? 3 : 0);
    case 6:
        return odd ? cadre_all_gather(comm, data, more, 6, CADRE_FLOAT32)
                   : cadre_all_reduce(comm, data, 6, CADRE_FLOAT32, CADRE_SUM);
    case 7:
        return odd ? cadre_reduce_scatter(comm, data, more, large / 4, CADRE_FLOAT32, CADRE_SUM)
                   : cadre_all_gather(comm, data, more, large / 4, CADRE_FLOAT32);
    case 8:
        return cadre_comm_alloc(comm, odd ? 9000 : 8000, &memory);
    default:
        return odd ? cadre_comm_alloc(comm, 9000, &memory) : cadre_barrier(comm);
    }
}

static void disagreeing(const cadre_oob *oob, void *user)
{
    const int what = *(int *)user;
    enter(oob);
    float *data = calloc(200000, sizeof *data), *more = calloc(200000, sizeof *more);
    CHECK(data && more);
    for (int host = 0; host < 2; host++) {
        cadre_comm *comm = join(oob, 30);
        CHECK(cadre_barrier(comm) == CADRE_OK);
        int status = disagree(comm, what, oob->rank / 2 == host, data, more);
        const char *words = strstr(cadre_error_message(), " calls ");
        CHECK(status == CADRE_EMISMATCH && words);
        CHECK(strstr(cadre_error_message(), "rank 0 calls ") || strstr(cadre_error_message(), "rank 1 calls "));
        CHECK(strstr(words, ", rank 2 ") || strstr(words, ", rank 3 "));
        CHECK(cadre_barrier(comm) == CADRE_ESTATE);
        cadre_comm_free(comm);
    }
    /* One rank against those of its own host and the others: the words are of the calls, not of their parts. */
    cadre_comm *comm = join(oob, 30);
    CHECK(cadre_all_reduce(comm, data, oob->rank == 2 ? 60000 : 60002, CADRE_FLOAT32, CADRE_SUM) == CADRE_EMISMATCH);
    CHECK(strstr(cadre_error_message(), "all_reduce of 60000 float32"));
    cadre_comm_free(comm);
    free(data);
    free(more);
}

static void test_disagree(void **state)
{
    (void)state;
    for (int what = 0; what < CASES; what++) {
        watchdog("hosts that disagree", 100);
        prepare(4);
        ranks_run(PROCESSES, 4, -1, disagreeing, &what);
    }
}

/* ---- set-ups that fail ---- */

/* All ranks have the same answer, and a later attempt works. */
static bool attempt(const cadre_oob *oob, const char *fault, int victim, int expected)
{
    cadre_comm *comm = NULL;
    cadre_comm_options options = {.size = sizeof options, .backend = "hier", .timeout_s = 60};
    char wanted[32];
    snprintf(wanted, sizeof wanted, "rank %d", victim);
    base_fault_set(oob->rank == victim ? fault : NULL);
    int status = cadre_comm_new(oob, &options, &comm);
    base_fault_set(NULL);
    if (!status) {
        CHECK(cadre_barrier(comm) == CADRE_OK);
        cadre_comm_free(comm);
        return true;
    }
    CHECK(status == expected && !comm);
    CHECK(strstr(cadre_error_message(), wanted));
    return false;
}

static void half_made(const cadre_oob *oob, void *user)
{
    (void)user;
    enter(oob);
    for (int victim = 0; victim < 4; victim++) {
        int nth = 0;
        bool made = false;
        while (!made) {
            char fault[32];
            snprintf(fault, sizeof fault, "alloc:%d", ++nth);
            made = attempt(oob, fault, victim, CADRE_ENOMEM);
        }
        CHECK(nth > 10); /* those there are, one after the other */
        for (nth = 1, made = false; !made; nth++) {
            char fault[32];
            snprintf(fault, sizeof fault, "shm_alloc:%d:enospc", nth);
            made = attempt(oob, fault, victim, CADRE_ENOSPC);
        }
        CHECK(nth > 2);
    }
}

static void test_half_made(void **state)
{
    (void)state;
    watchdog("set-ups that fail", 200);
    prepare(4);
    ranks_run(PROCESSES, 4, -1, half_made, NULL);
}

/* On one host there is no room; and memory asked for later that one host does not have. */
static void small_dev_shm(const cadre_oob *oob, void *user)
{
    (void)user;
    enter(oob);
    cadre_comm *comm = NULL;
    cadre_comm_options options = {.size = sizeof options, .backend = "hier", .timeout_s = 60};
    void *memory = NULL;
    if (hosts[oob->rank] == 'b')
        base_fault_set("memfd:1+");
    if (oob->rank == 2 && (unshare(CLONE_NEWNS) != 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0 ||
                           mount("tmpfs", "/dev/shm", "tmpfs", 0, "size=256k") != 0))
        base_fault_set("memfd:1+,shm_alloc:1:enospc"); /* not root: made up */
    CHECK(cadre_comm_new(oob, &options, &comm) == CADRE_ENOSPC && !comm);
    CHECK(strstr(cadre_error_message(), "rank 2"));
    base_fault_set(NULL);
    comm = join(oob, 60);
    if (oob->rank == 3)
        base_fault_set("shm_alloc:1:enospc");
    CHECK(cadre_comm_alloc(comm, 8 << 20, &memory) == CADRE_ENOSPC && !memory);
    CHECK(strstr(cadre_error_message(), "rank 3") && strstr(cadre_error_message(), "8388608 bytes"));
    CHECK(cadre_barrier(comm) == CADRE_OK);
    CHECK(cadre_comm_alloc(comm, 8 << 20, &memory) == CADRE_OK);
    cadre_comm_dealloc(comm, memory);
    cadre_comm_free(comm);
}

static void test_small_dev_shm(void **state)
{
    (void)state;
    watchdog("a small /dev/shm", 60);
    prepare(4);
    ranks_run(PROCESSES, 4, -1, small_dev_shm, NULL);
}

/* A rank dies while it is made: the others do not wait for ever, and say whom they miss. */
struct death {
    const char *fault;
    int victim;
};

static void dying(const cadre_oob *oob, void *user)
{
    const struct death *death = user;
    cadre_comm *comm = NULL;
    cadre_comm_options options = {.size = sizeof options, .backend = "hier", .timeout_s = 1.5};
    char wanted[32];
    snprintf(wanted, sizeof wanted, "rank %d", death->victim);
    enter(oob);
    if (oob->rank == death->victim)
        base_fault_set(death->fault);
    double begun = base_now();
    int status = cadre_comm_new(oob, &options, &comm);
    CHECK(oob->rank != death->victim);
    CHECK((status == CADRE_ETIMEDOUT || status == CADRE_EPEER) && !comm);
    CHECK(strstr(cadre_error_message(), wanted));
    CHECK(base_now() - begun < 20);
}

static int die(int i, void *user)
{
    struct death *death = (struct death *)user + i;
    char what[96];
    snprintf(what, sizeof what, "rank %d, %s in the set-up", death->victim, death->fault);
    watchdog(what, 60);
    prepare(4);
    return ranks_try(PROCESSES, 4, death->victim, dying, death);
}

static void test_dying(void **state)
{
    static const char *const faults[] = {"alloc:1:kill",  "alloc:3:kill",  "alloc:6:kill",     "alloc:9:kill",
                                         "alloc:11:kill", "alloc:13:kill", "alloc:14:kill",    "shm_alloc:1:kill",
                                         "memfd:1:kill",  "alloc:12:stop", "collective:1:kill"};
    struct death list[4 * sizeof faults / sizeof faults[0]];
    int count = 0;
    (void)state;
    watchdog("deaths in a set-up", 300);
    for (int i = 0; i < (int)(sizeof faults / sizeof faults[0]); i++)
        for (int victim = 0; victim < 4; victim++)
            if (everything || (i + victim) % 2 == 0)
                list[count++] = (struct death){faults[i], victim};
    ranks_apart(count, 6, die, list);
}

static int two_hosts_of_two(void **state)
{
    (void)state;
    hosts = "aabb";
    return 0;
}

#define ON_HOSTS(test) cmocka_unit_test_setup(test, two_hosts_of_two)

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_names), ON_HOSTS(test_layouts),       ON_HOSTS(test_late),  ON_HOSTS(test_disagree),
        ON_HOSTS(test_half_made),     ON_HOSTS(test_small_dev_shm), ON_HOSTS(test_dying), ON_HOSTS(test_killed),
        ON_HOSTS(test_stopped),       ON_HOSTS(test_uneven_hosts),
    };
    for (int i = 1; i < argc; i++) { /* "all", the name of a test */
        if (strcmp(argv[i], "all") == 0)
            everything = true;
        else
            cmocka_set_test_filter(argv[i]);
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
