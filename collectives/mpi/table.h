/* What libcadre_mpi.so gives to the library that loads it. It exports one symbol and links none of the library's code.
 */
#ifndef COLLECTIVES_MPI_TABLE_H
#define COLLECTIVES_MPI_TABLE_H

#include "collectives/backend.h"

struct exchange; /* messages under way to and from every rank */

/* Messages for a backend that is not in the module (hier). Used on the thread that initialised MPI. */
typedef struct collectives_mpi_messages {
    /* A tag that nobody else uses, and the two above it. Collective over place->oob. */
    int (*agree_on_tag)(const collectives_place *place, int *tag);
    /* An all-gather among these ranks, of which this is one. */
    int (*gather_among)(const int *ranks, int count, const void *mine, void *all, size_t nbytes, double timeout_s);
    int (*open)(int tag, struct exchange **x);
    void (*close)(struct exchange *x); /* gives up what is under way */
    /* At most one message each way and rank at a time, of at most INT_MAX bytes. */
    int (*send)(struct exchange *x, int to, const void *data, size_t nbytes);
    int (*receive)(struct exchange *x, int from, void *data, size_t nbytes);
    int (*look)(struct exchange *x, bool *complete);
    /* A rank from which a message has come, -1: none. Its place is free again. */
    int (*arrived)(struct exchange *x);
    /* Whether the message from, the message to this rank is done (or there is none). */
    bool (*received)(struct exchange *x, int rank);
    bool (*sent)(struct exchange *x, int rank);
} collectives_mpi_messages;

typedef struct collectives_mpi_table {
    int abi;                            /* COLLECTIVES_ABI */
    size_t size;                        /* sizeof(collectives_mpi_table) */
    const collectives_backend *backend; /* card, score and name are the loader's */
    const collectives_mpi_messages *messages;
    int (*join)(int *rank, int *world);
    int (*all_gather)(void *user, const void *mine, void *all, size_t nbytes, double timeout_s);
    void (*leave)(bool ok);
} collectives_mpi_table;

/* The symbol. `host` must live as long as the process. */
typedef const collectives_mpi_table *collectives_mpi_entry(const collectives_host *host);
CADRE_API collectives_mpi_entry cadre_mpi_backend;

#endif
