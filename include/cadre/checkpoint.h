/*
 * Checkpoints: a state on disk. A checkpoint is a directory:
 *
 *     state.safetensors   tensors and bytes; readable from Python (safetensors.torch.load_file)
 *     state.json          epoch, step, scalars, who made it, and the XXH3-128 hash of state.safetensors and of itself
 *
 * A sharded one (checkpoint.sharded), which each rank of its run wrote a part of, has in place of the first
 *
 *     state-00001-of-00004.safetensors, ...   each with whole tensors; row r of a local entry is a tensor of its own, "name[r]"
 *     state.safetensors.index.json            which tensor is in which file: "weight_map", as Hugging Face's libraries have it
 *
 * and is read by any number of ranks, as the other is. It is written under a temporary name, synced and renamed, so a directory with its final name is whole; the hashes are checked
 * before anything is restored.
 */
#ifndef CADRE_CHECKPOINT_H
#define CADRE_CHECKPOINT_H

#include "cadre/state.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct cadre_checkpoint_info {
    int64_t epoch, step;
    int64_t report;  /* the last report before it; 0: none */
    int attempt;     /* the attempt that made it */
    int world;       /* ranks that made it */
    int64_t nbytes;  /* on disk */
    char hash[33];   /* XXH3-128 of state.json with its hash left out, hexadecimal: names the content */
} cadre_checkpoint_info;

/** Read and verify without restoring anything. CADRE_ENOENT (nothing is at `path`), CADRE_ECORRUPT (what is there is damaged or no
 *  checkpoint), CADRE_EVERSION. `info` may be NULL. Any thread. */
CADRE_API int cadre_checkpoint_verify(const char *path, cadre_checkpoint_info *info);

/**
 * Verify, then fill `state` from the checkpoint at `path`, as rank 0 of 1. Every entry of the state must be there with the same type
 * and shape (CADRE_EMISMATCH names the first that is not); what the checkpoint has besides is left alone. Nothing is changed unless
 * all fits; only a source that fails to load can leave the entries before it loaded. The file is held in memory meanwhile.
 */
CADRE_API int cadre_checkpoint_load(const char *path, cadre_state *state);

/** Save `state` as rank 0 of 1 to a new directory at `path` (CADRE_EEXIST when something is there); missing parents are
 *  made. CADRE_ENOSPC, CADRE_EIO: then nothing of it is left. For use outside a training run; inside,
 *  cadre_report and cadre_step save. */
CADRE_API int cadre_checkpoint_save(const char *path, cadre_state *state);

#ifdef __cplusplus
}
#endif
#endif
