/*
 * A state: what a checkpoint saves and a restore fills, by name. Entries refer to memory of the program (or to callbacks);
 * nothing is copied until a checkpoint is taken. Tensors and bytes are written to a safetensors file, scalars to JSON.
 *
 * All ranks add the same entries in the same order. Replicated entries are saved by rank 0; local ones (random states, say) by every
 * rank, and each rank gets its own back. One thread at a time per state.
 */
#ifndef CADRE_STATE_H
#define CADRE_STATE_H

#include "cadre/status.h"

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct cadre_state {
    int64_t epoch; /* epochs finished; saved and restored; the program counts */
    int64_t step;  /* optimiser steps done; likewise */
    struct cadre_state_impl *impl;
} cadre_state;

/** Element types, by their safetensors names. */
typedef enum cadre_state_dtype {
    CADRE_STATE_F64, CADRE_STATE_F32, CADRE_STATE_F16, CADRE_STATE_BF16, CADRE_STATE_I64, CADRE_STATE_I32,
    CADRE_STATE_I16, CADRE_STATE_I8, CADRE_STATE_U8, CADRE_STATE_BOOL,
} cadre_state_dtype;

enum { CADRE_STATE_MAX_DIMS = 8 };

/** A new state with no entries, epoch and step 0. */
CADRE_API int cadre_state_new(cadre_state **out);
CADRE_API void cadre_state_free(cadre_state *state);

/** A row-major tensor in the program's memory, which must live as long as the state. `dims` 0 is a scalar tensor; a 0 in `shape`, an
 *  empty one, is fine. Names are copied and must be new (CADRE_EEXIST) and UTF-8, not empty, not "__metadata__", free of control
 *  characters and at most 200 bytes (CADRE_EINVAL). */
CADRE_API int cadre_state_add_tensor(cadre_state *state, const char *name, cadre_state_dtype dtype, int dims,
                                     const int64_t *shape, void *data);

/** The same for memory that is not plain: `save` writes the nbytes of the row-major tensor to `buffer`, `load` reads them. The buffer
 *  need not be aligned. Both answer a status (with cadre_fail's message if they like) and are called in the thread that saves
 *  or restores. `release` (may be NULL) is called with `user` when the state is freed; when adding fails it is not called. */
typedef struct cadre_state_source {
    int (*save)(void *user, void *buffer, size_t nbytes);
    int (*load)(void *user, const void *buffer, size_t nbytes);
    void (*release)(void *user);
    void *user;
} cadre_state_source;
CADRE_API int cadre_state_add_source(cadre_state *state, const char *name, cadre_state_dtype dtype, int dims,
                                     const int64_t *shape, const cadre_state_source *source);

/** Scalars; the pointers are borrowed until the state is freed. Doubles come back bit for bit, NaN and infinity too. */
CADRE_API int cadre_state_add_int64(cadre_state *state, const char *name, int64_t *value);
CADRE_API int cadre_state_add_double(cadre_state *state, const char *name, double *value);

/** Bytes that differ from rank to rank; every rank saves and gets back its own `nbytes` (the same number on all). */
CADRE_API int cadre_state_add_local(cadre_state *state, const char *name, void *data, size_t nbytes);
CADRE_API int cadre_state_add_local_source(cadre_state *state, const char *name, size_t nbytes, const cadre_state_source *source);

/** This rank's shard of one array of bytes that is cut over the ranks (a sharded optimiser's moments): bytes [rank * nbytes, (rank + 1) * nbytes) of it.
 *  A shard is the array's length over the number of ranks, rounded up to CADRE_STATE_SHARD_ALIGN bytes; what is too much at the end is zeros. Any number of
 *  ranks gets it back: each its new shard, put together from the old ones. Not with logical workers. */
enum { CADRE_STATE_SHARD_ALIGN = 64 };
CADRE_API int cadre_state_add_shard_source(cadre_state *state, const char *name, size_t nbytes, const cadre_state_source *source);

/** Number of entries, for tests and printing. */
CADRE_API int cadre_state_count(const cadre_state *state);

#ifdef __cplusplus
}
#endif
#endif
