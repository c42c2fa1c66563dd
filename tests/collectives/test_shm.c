/* The contract, for the shm backend: ranks as processes and as threads. */
#include "contract.h"

#include "collectives/reduce.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static void check(const cadre_oob *oob, void *user)
{
    (void)user;
    contract_results(oob, "shm");
    contract_failures(oob, "shm");
}

static void run(enum ranks_kind kind, int world)
{
    char what[64];
    snprintf(what, sizeof what, "the contract, shm, %d %s", world, kind == THREADS ? "threads" : "processes");
    watchdog(what, 300);
    ranks_run(kind, world, -1, check, NULL);
}

#define CASE(kind, world)                                                                                              \
    static void test_##kind##_##world(void **state)                                                                    \
    {                                                                                                                  \
        (void)state;                                                                                                   \
        run(kind, world);                                                                                              \
    }
CASE(PROCESSES, 2)
#if !defined(__SANITIZE_THREAD__) /* which sees nothing between processes, and takes its time */
CASE(PROCESSES, 1)
CASE(PROCESSES, 3)
CASE(PROCESSES, 4)
#endif
CASE(THREADS, 1)
CASE(THREADS, 2)
CASE(THREADS, 3)
CASE(THREADS, 4)
CASE(THREADS, 7)

static void check_results(const cadre_oob *oob, void *user)
{
    (void)user;
    contract_results(oob, "shm");
}

/* As on a processor of the other kind, which copies another way. */
static void test_other_copies(void **state)
{
    (void)state;
    collectives_force_dear(!collectives_writing_is_dear());
    watchdog("the contract, shm, other copies", 300);
    for (int world = 2; world <= 3; world++)
        ranks_run(THREADS, world, -1, check_results, NULL);
    collectives_force_dear(-1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#if !defined(__SANITIZE_THREAD__)
        cmocka_unit_test(test_PROCESSES_1),
        cmocka_unit_test(test_PROCESSES_3),
        cmocka_unit_test(test_PROCESSES_4),
#endif
        cmocka_unit_test(test_PROCESSES_2),
        cmocka_unit_test(test_THREADS_1),
        cmocka_unit_test(test_THREADS_2),
        cmocka_unit_test(test_THREADS_3),
        cmocka_unit_test(test_THREADS_4),
        cmocka_unit_test(test_THREADS_7),
        cmocka_unit_test(test_other_copies),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
