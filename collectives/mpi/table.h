/* What libcadre_mpi.so gives to the library that loads it. It exports one symbol and links none of the library's code.
 */
#ifndef COLLECTIVES_MPI_TABLE_H
#define COLLECTIVES_MPI_TABLE_H

#include "collectives/backend.h"

typedef struct collectives_mpi_table {
    int abi;                            /* COLLECTIVES_ABI */
    size_t size;                        /* sizeof(collectives_mpi_table) */
    const collectives_backend *backend; /* card, score and name are the loader's */
    int (*join)(int *rank, int *world);
    int (*all_gather)(void *user, const void *mine, void *all, size_t nbytes, double timeout_s);
    void (*leave)(bool ok);
} collectives_mpi_table;

/* The symbol. `host` must live as long as the process. */
typedef const collectives_mpi_table *collectives_mpi_entry(const collectives_host *host);
CADRE_API collectives_mpi_entry cadre_mpi_backend;

#endif
