/*
 * One IDX array (http://yann.lecun.com/exdb/mnist/, "the IDX file format") read whole into memory, plain or gzip, told
 * apart by their first bytes. All that the file says of itself is checked against its size before anything is allocated
 * for it.
 */
#ifndef DATA_IDX_READ_H
#define DATA_IDX_READ_H

#include <stddef.h>
#include <stdint.h>

enum { DATA_IDX_MAX_DIMS = 4 };

typedef struct data_idx_array {
    int dims; /* 1 to DATA_IDX_MAX_DIMS */
    int64_t shape[DATA_IDX_MAX_DIMS];
    size_t nbytes;        /* product of the shape */
    unsigned char *bytes; /* row-major */
} data_idx_array;

/** Read the file at `path`. CADRE_ENOENT, CADRE_ECORRUPT, CADRE_ENOMEM, ...; `out` is untouched then. */
int data_idx_read_file(const char *path, data_idx_array *out);

/** The same from memory; `name` stands for the path in messages. */
int data_idx_read_memory(const void *bytes, size_t nbytes, const char *name, data_idx_array *out);

void data_idx_array_free(data_idx_array *array);

#endif
