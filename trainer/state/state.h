/* The inside of a state: its entries, and copying them out of and into the program's memory. */
#ifndef TRAINER_STATE_STATE_H
#define TRAINER_STATE_STATE_H

#include "cadre/state.h"

#include <stdbool.h>

typedef enum state_kind { STATE_TENSOR, STATE_LOCAL, STATE_INT64, STATE_DOUBLE } state_kind;

typedef union state_scalar {
    int64_t integer;
    double real;
} state_scalar;

typedef struct state_entry {
    char *name;
    state_kind kind;
    cadre_state_dtype dtype; /* a local one is U8 */
    int dims;
    int64_t shape[CADRE_STATE_MAX_DIMS];
    size_t nbytes;
    void *data;                /* the program's memory; NULL when there is a source (source.save is set) */
    cadre_state_source source; /* zeros when there is memory */
    state_scalar value;        /* of a scalar, in a snapshot only */
    int shard;                 /* of a tensor, in a snapshot only: the rank that has it; 0 when one has all */
    bool cut;                  /* of a local one: its rows are one array, and a row a shard of it */
} state_entry;

struct cadre_state_impl {
    state_entry *entries;
    int count;
    int capacity;
    int rows; /* of a local entry on this rank: one for each logical worker; 0: 1 */
};

/** What was in the replicated entries at one moment, in memory of its own. Tensors lie in `data` in the order of
 * `entries`, larger elements first, so that each is aligned; then come the local entries (without data), then the
 * scalars. */
typedef struct state_snapshot {
    int64_t epoch, step;
    int rows; /* of a local entry on each rank, 1 or more */
    int shard, shards; /* the share of rank `shard` of so many: `data` has its tensors alone; 0: all */
    state_entry *entries; /* names owned; data borrowed from the buffer below */
    int count;
    unsigned char *data;
    size_t nbytes;   /* of all tensors */
    size_t capacity; /* of `data` */
} state_snapshot;

/**
 * Copy all replicated entries. `*snapshot` is NULL or an earlier snapshot, whose memory is used again (a fresh 100 MB
 * costs more in page faults than the copying). Calls the sources' save in the calling thread. On failure the error
 * names the entry and
 * `*snapshot` is unusable except for another taking or freeing.
 */
int state_snapshot_take(cadre_state *state, state_snapshot **snapshot);
/**
 * The same for rank `rank` of `world`, of the tensors that are its share. Shares are whole tensors, about equally many bytes each (the largest first,
 * each to who has least so far: Graham, "Bounds on Multiprocessing Timing Anomalies", 1969, section 5); equal states give equal shares.
 */
int state_snapshot_take_share(cadre_state *state, int rank, int world, state_snapshot **snapshot);
void state_snapshot_free(state_snapshot *snapshot);

/** A rank stands for so many workers: each local entry has a row of equal length for each of them, one after the other. */
void state_set_rows(cadre_state *state, int rows);
int state_rows(const cadre_state *state);

/** Bytes of all tensors: the same on all ranks. */
size_t state_tensor_nbytes(const cadre_state *state);
/** Whether there are local entries that come back to their own rank alone. */
bool state_has_own(const cadre_state *state);
/** Bytes of all local entries of a rank: the same on all ranks; 0 when there are none. */
size_t state_local_nbytes(const cadre_state *state);
/** Pack the local entries of this rank, in order and without gaps, into `buffer` of state_local_nbytes. */
int state_pack_local(cadre_state *state, void *buffer);

/** A hash of names, kinds, types and shapes, in order: equal on ranks that have added the same entries. */
uint64_t state_layout_hash(const cadre_state *state);

/** Read one entry's bytes out of the program, or write them into it. The buffer need not be aligned. */
int state_entry_save(const state_entry *entry, void *buffer);
int state_entry_load(const state_entry *entry, const void *buffer);

/** Bytes of one element. */
size_t state_dtype_nbytes(cadre_state_dtype dtype);
/** The safetensors name, "F32". */
const char *state_dtype_name(cadre_state_dtype dtype);

#endif
