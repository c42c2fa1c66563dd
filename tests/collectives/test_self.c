/* The contract, for the self backend. */
#include "contract.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static void check(const cadre_oob *oob, void *user)
{
    (void)user;
    contract_results(oob, "self");
    contract_failures(oob, "self");
}

static void test_contract(void **state)
{
    (void)state;
    watchdog("self", 60);
    ranks_run(THREADS, 1, -1, check, NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_contract)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
