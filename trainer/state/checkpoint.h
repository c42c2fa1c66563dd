/*
 * Checkpoints from the inside, for the session: what rank 0 writes and every rank reads. The directory's form is in
 * cadre/checkpoint.h.
 */
#ifndef TRAINER_STATE_CHECKPOINT_H
#define TRAINER_STATE_CHECKPOINT_H

#include "base/buffer.h"
#include "cadre/checkpoint.h"
#include "safetensors.h"
#include "state.h"

#include <jansson.h>

#define CHECKPOINT_TENSORS "state.safetensors"
#define CHECKPOINT_RECORD  "state.json"

enum {
    CHECKPOINT_VERSION = 1,
    CHECKPOINT_WORLD_LIMIT = 1 << 20,
    CHECKPOINT_RECORD_LIMIT = 64 << 20, /* bytes of state.json */
};

/**
 * Write a snapshot to a new directory at `path` (CADRE_EEXIST when something is there; its parent is made if need be).
 * `locals` is what state_pack_local gave on each rank, one after the other (NULL when there are no local entries). Of
 * `meta` (NULL: zeros) report and attempt are taken; `out` (may be NULL) gets all. Reads nothing but its arguments, so
 * it may run in any thread, one writer a path.
 *
 * On failure nothing is left at `path` nor beside it; the error names path and cause. Fault points: "checkpoint_write"
 * when half of the tensors' bytes are written, "checkpoint_renamed" when the directory has its name but that is not
 * synced yet.
 */
int checkpoint_write(const char *path, const state_snapshot *snapshot, const void *locals, int world,
                     const cadre_checkpoint_info *meta, cadre_checkpoint_info *out);

/** Remove what dead writers left in `directory`: entries named "*.tmp-<number>". Only while no checkpoint is being
 * written there, such as when an attempt starts. Fine when the directory is not there. */
int checkpoint_sweep(const char *directory);

/**
 * Verify the checkpoint at `path`, check that all entries of `state` fit (CADRE_EMISMATCH names the first that does
 * not), then load them and epoch and step. Every rank calls it. A local entry comes from row `rank`; a rank that the
 * checkpoint's world did not have keeps its own and says so in the log. Nothing is changed on failure, except that when
 * a source's load fails entries before it are loaded.
 */
int checkpoint_restore(const char *path, cadre_state *state, int rank, int world, cadre_checkpoint_info *info);

/* ---- state.json (checkpoint_record.c)
 * ---------------------------------------------------------------------------------- */

typedef struct checkpoint_record {
    cadre_checkpoint_info info; /* nbytes includes both files once it is read or written */
    uint64_t tensors_nbytes;
    char tensors_hash[33];
    json_t *root;
    json_t *scalars; /* borrowed from root: name to integer or real (a string of hex digits when it is not finite) */
    json_t *locals;  /* borrowed from root: list of the names of local entries */
} checkpoint_record;

/** Append the text of state.json; fills record->info.hash and adds the text's size to record->info.nbytes. Takes
 * tensors_nbytes, tensors_hash and info from the record, scalars and the names of locals from the snapshot. */
int checkpoint_record_render(checkpoint_record *record, const state_snapshot *snapshot, base_buffer *out);
/** Check the text's own hash, then read it. CADRE_ECORRUPT, CADRE_EVERSION. */
int checkpoint_record_parse(const char *text, size_t nbytes, checkpoint_record *out);
/** The same without the hash: what is left to go wrong is for the fuzzer to find. */
int checkpoint_record_parse_body(const char *text, size_t nbytes, checkpoint_record *out);
void checkpoint_record_free(checkpoint_record *record);

/** The scalar of that name, if it is there in the kind asked for. */
bool checkpoint_record_scalar(const checkpoint_record *record, const char *name, state_kind kind, state_scalar *out);
bool checkpoint_record_is_local(const checkpoint_record *record, const char *name);

#endif
