/* The memory in which the ranks of mpi_double.c find each other's messages. */
#ifndef TEST_MPI_DOUBLE_H
#define TEST_MPI_DOUBLE_H

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

enum { MPI_DOUBLE_RANKS = 16, MPI_DOUBLE_SLOTS = 16, MPI_DOUBLE_BYTES = 2 << 20 };

enum { SLOT_FREE = 0, SLOT_SHORT, SLOT_LONG, SLOT_TAKEN };

struct double_slot {
    _Atomic unsigned state;
    int tag;
    uint64_t number; /* messages of this sender are counted */
    size_t nbytes;
    char data[MPI_DOUBLE_BYTES];
};

static inline size_t mpi_double_bytes(int world)
{
    return (size_t)world * (size_t)world * MPI_DOUBLE_SLOTS * sizeof(struct double_slot);
}

#endif
