/* The inside of libcadre_mpi.so. */
#ifndef COLLECTIVES_MPI_MODULE_H
#define COLLECTIVES_MPI_MODULE_H

#include "table.h"

#include <mpi.h>
#include <stdatomic.h>

/* Messages under way to and from every rank: requests[r] receives from rank r, requests[world + r] sends to it. */
struct exchange {
    MPI_Comm mpi;
    int rank, world, tag;
    MPI_Request *requests;
};

extern const collectives_host *collectives_host_table;
extern const collectives_backend collectives_mpi_inside; /* ops.c */

/* The private copy of MPI_COMM_WORLD, MPI_COMM_NULL before join. */
MPI_Comm collectives_mpi_world(void);

/* A tag for one communicator (and the two above it), the same on all ranks. Collective. */
int collectives_mpi_agree_on_tag(const collectives_place *place, int *tag);

int collectives_mpi_exchange_new(struct exchange *x, MPI_Comm mpi, int tag);
void collectives_mpi_exchange_free(struct exchange *x);
int collectives_mpi_send(struct exchange *x, int to, const void *data, size_t nbytes);
int collectives_mpi_receive(struct exchange *x, int from, void *data, size_t nbytes);
/* Look whether all is there. */
int collectives_mpi_look(struct exchange *x, bool *complete);
/* Give up what is under way. */
void collectives_mpi_drop(struct exchange *x);
/* "rank 1, rank 3; there: ranks 0, 2": whom we still wait for. false: it has all come by now. */
bool collectives_mpi_missing(struct exchange *x, char *text, size_t nbytes);
/* Be idle for a moment that grows with the time waited. */
void collectives_mpi_pause(int64_t waited_ns, int *tries);

#endif
