/*
 * Checkpoints from the inside, for the session: what rank 0 writes and every rank reads. The directory's form is in
 * cadre/checkpoint.h.
 */
#ifndef TRAINER_STATE_CHECKPOINT_H
#define TRAINER_STATE_CHECKPOINT_H

#include "base/buffer.h"
#include "cadre/checkpoint.h"
#include "hash.h"
#include "safetensors.h"
#include "state.h"

#include <jansson.h>

#define CHECKPOINT_TENSORS "state.safetensors"
#define CHECKPOINT_INDEX   "state.safetensors.index.json"
#define CHECKPOINT_RECORD  "state.json"

enum {
    CHECKPOINT_VERSION = 2,       /* that is read; a checkpoint in one file is written as version 1, a sharded one as 2 */
    CHECKPOINT_WORLD_LIMIT = 1 << 20,
    CHECKPOINT_RECORD_LIMIT = 64 << 20, /* bytes of state.json */
    CHECKPOINT_NAME = 64,         /* bytes of a file's name */
    CHECKPOINT_ROW_NAME = 224,    /* bytes of a row's name, its end included */
};

/** What was written to a file: how a reader knows it again. */
typedef struct checkpoint_file {
    uint64_t nbytes;
    char hash[STATE_HASH_TEXT];
} checkpoint_file;

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

/* ---- sharded: each rank writes its own file (checkpoint_shards.c)
 * ---------------------------------------------------------------------------------- */

/**
 * Write this rank's share (of state_snapshot_take_share) of the checkpoint that is to be at `path`, and sync it: a file in a directory of a
 * temporary name, which all ranks share; `attempt` tells it from another attempt's. `locals` is what state_pack_local gave on this rank. Any
 * thread, all ranks at once. On failure the file is gone. Fault points: "checkpoint_write" when half of the tensors' bytes are written,
 * "checkpoint_shard" when the file is synced and nobody knows.
 */
int checkpoint_shard_write(const char *path, int attempt, const state_snapshot *snapshot, const void *locals, checkpoint_file *out);

/**
 * On rank 0, when every rank's file is down: look whether they are there (CADRE_EIO names one that is not), write index and record, and rename.
 * `snapshot` is rank 0's share, `files` has one for each rank. Of `meta` report and attempt are taken. On failure the shards are as they were, so
 * that it can be tried again. Fault points: "checkpoint_commit" before all, "checkpoint_renamed".
 */
int checkpoint_shards_commit(const char *path, const state_snapshot *snapshot, const checkpoint_file *files,
                             const cadre_checkpoint_info *meta, cadre_checkpoint_info *out);

/** Remove what there is of a checkpoint that is given up. No rank may be writing. */
int checkpoint_shards_drop(const char *path, int attempt);

/** The name of file `index` of `count`; count 0: of the only one. */
void checkpoint_file_name(int index, int count, char name[CHECKPOINT_NAME]);
/** A local entry's row in a shard is a tensor of its own, "name[row]". */
void checkpoint_row_name(const char *name, int64_t row, char text[CHECKPOINT_ROW_NAME]);

/* ---- the steps of writing (checkpoint_tensors.c, checkpoint_write.c)
 * ---------------------------------------------------------------------------------- */

/** Write and sync a new safetensors file with what the snapshot has; `locals` is of `world` ranks (of a share: of its own rank). */
int checkpoint_tensors_write(const char *path, const state_snapshot *snapshot, const void *locals, int world, checkpoint_file *out);
/** Write and sync a new file. */
int checkpoint_text_write(const char *path, const base_buffer *text);
/** The directory that holds `path`, in a new string; NULL: no memory. */
char *checkpoint_parent(const char *path);
/** Make `path` and what is missing above it, each synced into its parent. */
int checkpoint_make_durable(const char *path);
/** Give the directory its name and make that last. When it fails neither name is left, or the temporary one is. */
int checkpoint_publish(const char *temporary, const char *path, const char *parent);
/** What a caller is told of a failure. */
int checkpoint_failed(int status, const char *path);

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
    cadre_checkpoint_info info; /* nbytes includes all files once it is read or written */
    checkpoint_file *files;     /* of tensors; free() */
    int shards;                 /* so many files, and the index; 0: the one file */
    checkpoint_file index;      /* of the shards */
    json_t *root;
    json_t *scalars; /* borrowed from root: name to integer or real (a string of hex digits when it is not finite) */
    json_t *locals;  /* borrowed from root: list of the names of local entries */
} checkpoint_record;

/** Append the text of state.json; fills record->info.hash and adds the text's size to record->info.nbytes. Takes
 * files, shards, index and info from the record, scalars and the names of locals from the snapshot. */
int checkpoint_record_render(checkpoint_record *record, const state_snapshot *snapshot, base_buffer *out);
/** Write and sync it as a new file, and count all of the checkpoint's files in record->info.nbytes. */
int checkpoint_record_write(const char *path, const state_snapshot *snapshot, checkpoint_record *record);
/** Check the text's own hash, then read it. CADRE_ECORRUPT, CADRE_EVERSION. */
int checkpoint_record_parse(const char *text, size_t nbytes, checkpoint_record *out);
/** The same without the hash: what is left to go wrong is for the fuzzer to find. */
int checkpoint_record_parse_body(const char *text, size_t nbytes, checkpoint_record *out);
void checkpoint_record_free(checkpoint_record *record);

/** The scalar of that name, if it is there in the kind asked for. */
bool checkpoint_record_scalar(const checkpoint_record *record, const char *name, state_kind kind, state_scalar *out);
bool checkpoint_record_is_local(const checkpoint_record *record, const char *name);

#endif
