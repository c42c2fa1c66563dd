/* The contract, for the mpi backend, as a rank of mpirun; and that shm wins on one host unless mpi is asked for by
 * name. */
#include "contract.h"

#include "base/log.h"
#include "collectives/mpi_oob.h"

#include <string.h>

int main(void)
{
    cadre_oob oob;
    cadre_comm *comm = NULL;
    watchdog("the contract, mpi", 250);
    cadre_log_set(cadre_log_stderr, NULL, CADRE_LOG_WARN);
    CHECK(collectives_mpi_present(NULL, NULL));
    CHECK(collectives_mpi_join(&oob) == CADRE_OK);
    contract_results(&oob, "mpi");
    contract_failures(&oob, "mpi");
    contract_results(&oob, "shm");
    CHECK(cadre_comm_new(&oob, NULL, &comm) == CADRE_OK);
    CHECK(strcmp(cadre_comm_backend(comm), "shm") == 0);
    cadre_comm_free(comm);
    collectives_mpi_leave(true);
    return 0;
}
