/*
 * The contract, for the hier backend, as a rank of mpirun: "test_collectives_hier LANES" makes hosts of LANES ranks
 * each out of this machine; without, hosts are what they are. And who gets which backend without asking.
 */
#include "contract.h"

#include "base/fault.h"
#include "base/log.h"
#include "collectives/comm.h"
#include "collectives/mpi_oob.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

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

/* "strike kill|stop RANK FILE": that happens to the rank, and the others write into the file what they are told. mpirun
 * ends the others when one dies, after a second in which they may ignore so. */
static void strike(const cadre_oob *oob, bool stop, int victim, const char *path)
{
    enum { COUNT = 1 << 20 };
    cadre_comm *comm = NULL;
    cadre_comm_options options = {.size = sizeof options, .backend = "hier", .timeout_s = 60};
    float *data = calloc(COUNT, sizeof *data);
    signal(SIGTERM, SIG_IGN);
    CHECK(data && cadre_comm_new(oob, &options, &comm) == CADRE_OK);
    comm->timeout_s = stop ? 3 : 30;
    if (oob->rank == victim) {
        signal(SIGTERM, SIG_DFL); /* which comes with SIGCONT */
        base_fault_set(stop ? "collective:20:stop" : "collective:20:kill");
    }
    int status = CADRE_OK;
    for (int i = 0; i < 100 && !status; i++)
        status = cadre_all_reduce(comm, data, COUNT, CADRE_FLOAT32, CADRE_SUM);
    FILE *file = fopen(path, "a");
    CHECK(file);
    fprintf(file, "%s\n", cadre_error_message());
    fclose(file);
    CHECK(status == (stop ? CADRE_ETIMEDOUT : CADRE_EPEER));
    sleep(3); /* the others write theirs */
    collectives_mpi_leave(false);
}

int main(int argc, char **argv)
{
    cadre_oob oob;
    int rank, world, lanes = argc > 1 ? atoi(argv[1]) : 0;
    watchdog("the contract, hier", 250);
    cadre_log_set(cadre_log_stderr, NULL, CADRE_LOG_WARN);
    CHECK(collectives_mpi_present(&rank, &world));
    CHECK(collectives_mpi_join(&oob) == CADRE_OK);
    if (argc == 5 && strcmp(argv[1], "strike") == 0)
        strike(&oob, strcmp(argv[2], "stop") == 0, atoi(argv[3]), argv[4]);
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
        contract_traits.another_order = true;
        set_host(rank % (world / lanes)); /* as mpirun --map-by node has it */
        expect(&oob, "hier");
        set_host(rank == world - 1);
        expect(&oob, "hier");
        if (argc <= 2)
            contract_results(&oob, "hier");
    }
    collectives_mpi_leave(true);
    return 0;
}
