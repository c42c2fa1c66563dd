/*
 * The safetensors format (github.com/huggingface/safetensors, "Format"): the header's length (u64, little endian), a
 * JSON object of name -> {dtype, shape, data_offsets} and "__metadata__" of strings, padded with spaces to 8 bytes;
 * then the tensors' bytes, row-major, little endian, one after the other without holes. Nothing that is read is
 * trusted.
 */
#ifndef TRAINER_STATE_SAFETENSORS_H
#define TRAINER_STATE_SAFETENSORS_H

#include "base/buffer.h"
#include "cadre/state.h"

#include <stdint.h>

enum { SAFETENSORS_HEADER_LIMIT = 100000000 /* bytes of JSON; the reference implementation's limit */ };

typedef struct safetensors_tensor {
    const char *name;
    const char *dtype; /* "F32": also types that a state does not have, as long as their size is known */
    int dims;
    int64_t shape[CADRE_STATE_MAX_DIMS];
    uint64_t begin, end; /* bytes from the start of the data */
} safetensors_tensor;

typedef struct safetensors_index {
    safetensors_tensor *tensors; /* sorted by name */
    size_t count;
    uint64_t data_offset; /* where the data starts in the file: a multiple of 8 when written here */
    uint64_t data_nbytes;
    void *json; /* keeps the names */
} safetensors_index;

/** Append the header for `count` tensors whose begin and end follow each other from 0 (CADRE_EINVAL otherwise).
 * `metadata` is pairs of strings, ended by NULL, or NULL. The data is to be written right behind it. */
int safetensors_header(const safetensors_tensor *tensors, size_t count, const char *const *metadata, base_buffer *out);

/**
 * Check and index a file of `file_nbytes` whose first `nbytes` (all of the header at least) are at `bytes`.
 * CADRE_ECORRUPT says what is wrong; CADRE_ENOTSUP a type of unknown size or more than CADRE_STATE_MAX_DIMS dimensions.
 * The index is free of the bytes.
 */
int safetensors_parse(const void *bytes, size_t nbytes, uint64_t file_nbytes, safetensors_index *out);
/** The same from a file that is open for reading; `path` names it in errors. */
int safetensors_read(int fd, const char *path, safetensors_index *out);
void safetensors_index_free(safetensors_index *index);

/** The tensor of that name, or NULL. */
const safetensors_tensor *safetensors_find(const safetensors_index *index, const char *name);

#endif
