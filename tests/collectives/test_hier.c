/*
 * The contract, for the hier backend, as a rank of mpirun: "test_collectives_hier LANES" makes hosts of LANES ranks
 * each out of this machine; without, hosts are what they are. And who gets which backend without asking.
 */
#include "contract.h"

#include "base/log.h"
#include "collectives/mpi_oob.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void set_host(int host)
{
    char name[32];
    snprintf(name, sizeof name, "host-%d", host);
    CHECK(setenv("CADRE_HOST_ID", name, 1) == 0);
}

static void expect(const cadre_oob *oob, const char *backend)
{
    cadre_comm *comm = NULL;
    CHECK(cadre_comm_new(oob, NULL, &comm) == CADRE_OK);
    CHECK(strcmp(cadre_comm_backend(comm), backend) == 0);
    CHECK(cadre_barrier(comm) == CADRE_OK);
    cadre_comm_free(comm);
}

static void refused(const cadre_oob *oob, const char *why)
{
    cadre_comm *comm = NULL;
    cadre_comm_options options = {.size = sizeof options, .backend = "hier"};
    CHECK(cadre_comm_new(oob, &options, &comm) == CADRE_ENOTSUP && !comm);
    CHECK(strstr(cadre_error_message(), why));
}

int main(int argc, char **argv)
{
    cadre_oob oob;
    int rank, world, lanes = argc > 1 ? atoi(argv[1]) : 0;
    watchdog("the contract, hier", 250);
    cadre_log_set(cadre_log_stderr, NULL, CADRE_LOG_WARN);
    CHECK(collectives_mpi_present(&rank, &world));
    CHECK(collectives_mpi_join(&oob) == CADRE_OK);
    if (lanes)
        set_host(rank / lanes);
    contract_results(&oob, "hier");
    if (argc <= 2) /* failures are deadlines passing, which takes its time: "LANES results" is without */
        contract_failures(&oob, "hier");
    expect(&oob, lanes == 1 ? "mpi" : "hier");
    if (lanes > 1) {
        set_host(0);
        expect(&oob, "shm");
        refused(&oob, "all ranks are on one host");
        set_host(rank % (world / lanes)); /* as mpirun --map-by node has it */
        expect(&oob, "mpi");
        refused(&oob, "they need equally many");
        set_host(rank == world - 1);
        expect(&oob, "mpi");
        refused(&oob, "they need equally many");
    }
    collectives_mpi_leave(true);
    return 0;
}
