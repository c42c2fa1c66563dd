/*
 * Joining the ranks that mpirun or srun has started this process as. MPI itself lives in a module that is loaded at run
 * time (libcadre_mpi.so), so a program that is not started that way never loads it.
 */
#ifndef COLLECTIVES_MPI_OOB_H
#define COLLECTIVES_MPI_OOB_H

#include "cadre/collectives.h"

#include <stdbool.h>

/**
 * Was this process started by mpirun or srun? Told by the environment alone (Open MPI, PMI, Slurm steps), without
 * loading MPI. rank and world may be NULL.
 */
bool collectives_mpi_present(int *rank, int *world);

/**
 * Load the module, MPI_Init_thread(FUNNELED) unless the program has done so, and fill `out`: rank and world of
 * MPI_COMM_WORLD, and an all-gather over it with a deadline. Collective. Call it, and every function of communicators
 * made from it, on the thread that initialised MPI. A second call gives the same again. CADRE_ENOTSUP with the reason.
 */
int collectives_mpi_join(cadre_oob *out);

struct collectives_mpi_messages; /* mpi/table.h */
/** Messages of the loaded module, after join. */
const struct collectives_mpi_messages *collectives_mpi_messages_of(void);

/**
 * The end. ok: MPI_Finalize, if join has initialised MPI (collective). Not ok: MPI_Abort, which ends this process and
 * the whole job and does not return: a rank that failed must not leave the others waiting for ever. Without join,
 * nothing.
 */
void collectives_mpi_leave(bool ok);

#endif
