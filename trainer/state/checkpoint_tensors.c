/* A checkpoint's file of tensors: all that a snapshot has, or one rank's share of it. */
#include "checkpoint.h"

#include "base/error.h"
#include "base/fault.h"
#include "base/io.h"
#include "base/mem.h"
#include "hash.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { CHUNK = 4 << 20 /* written while the hash still has it in the cache */ };

/* A file being written and hashed at once. */
struct output {
    int fd;
    const char *path;
    state_hash *hash;
    uint64_t nbytes;
    uint64_t fault_at; /* "checkpoint_write" strikes when so many bytes are written */
};

static int pass_middle(const struct output *output)
{
    int fault = BASE_FAULT("checkpoint_write");
    return fault ? base_errno(fault > 0 ? fault : EIO, "write %s", output->path) : CADRE_OK;
}

static int put(struct output *output, const void *bytes, size_t nbytes)
{
    const unsigned char *next = bytes;
    while (nbytes) {
        size_t part = nbytes < CHUNK ? nbytes : CHUNK;
        if (output->nbytes < output->fault_at && part > output->fault_at - output->nbytes)
            part = (size_t)(output->fault_at - output->nbytes);
        int status = base_write_all(output->fd, next, part, output->path);
        if (status != CADRE_OK)
            return status;
        state_hash_update(output->hash, next, part);
        output->nbytes += part;
        next += part;
        nbytes -= part;
        if (output->nbytes == output->fault_at)
            status = pass_middle(output);
        if (status != CADRE_OK)
            return status;
    }
    return CADRE_OK;
}

void checkpoint_row_name(const char *name, int64_t row, char text[CHECKPOINT_ROW_NAME])
{
    snprintf(text, CHECKPOINT_ROW_NAME, "%s[%" PRId64 "]", name, row);
}

/* The tensors of a file, as they follow each other. */
struct listing {
    safetensors_tensor *tensors;
    char (*names)[CHECKPOINT_ROW_NAME]; /* of rows */
    size_t count, named;
    uint64_t at;
};

static int append(struct listing *listing, const char *name, const state_entry *entry, uint64_t nbytes, safetensors_tensor **out)
{
    safetensors_tensor *tensor = &listing->tensors[listing->count++];
    *tensor = (safetensors_tensor){.name = name, .dtype = state_dtype_name(entry->dtype), .dims = entry->dims, .begin = listing->at};
    memcpy(tensor->shape, entry->shape, sizeof entry->shape);
    if (__builtin_add_overflow(listing->at, nbytes, &listing->at) || listing->at > INT64_MAX / 2)
        return base_error(CADRE_EINVAL, "the state is larger than any file");
    tensor->end = listing->at;
    *out = tensor;
    return CADRE_OK;
}

/* One tensor of all ranks' rows; in a share one for each of the rank's own. */
static int append_local(struct listing *listing, const state_snapshot *snapshot, const state_entry *entry, int world)
{
    int rows = snapshot->rows;
    uint64_t nbytes = entry->nbytes;
    safetensors_tensor *tensor;
    if (entry->nbytes % (size_t)rows)
        return base_error(CADRE_EINVAL, "the local entry \"%s\" has %zu bytes, not the same for each of %d workers", entry->name, entry->nbytes, rows);
    int status = CADRE_OK;
    for (int row = 0; snapshot->shards && status == CADRE_OK && row < rows; row++) {
        char *name = listing->names[listing->named++];
        checkpoint_row_name(entry->name, (int64_t)snapshot->shard * rows + row, name);
        status = append(listing, name, entry, nbytes / (uint64_t)rows, &tensor);
        tensor->shape[0] /= rows;
    }
    if (snapshot->shards)
        return status;
    if (__builtin_mul_overflow(nbytes, (uint64_t)world, &nbytes))
        nbytes = UINT64_MAX;
    status = append(listing, entry->name, entry, nbytes, &tensor);
    tensor->dims = 2;
    tensor->shape[0] = (int64_t)world * rows;
    tensor->shape[1] = (int64_t)entry->nbytes / rows;
    return status;
}

static int build_header(const state_snapshot *snapshot, int world, base_buffer *header, uint64_t *data_nbytes)
{
    static const char *const metadata[] = {"format", "pt", "writer", "cadre", NULL};
    size_t rows = snapshot->shards ? (size_t)snapshot->rows : 1, most = 0;
    for (int i = 0; i < snapshot->count; i++)
        most += snapshot->entries[i].kind == STATE_LOCAL ? rows : 1;
    struct listing listing = {.tensors = base_calloc(most, sizeof *listing.tensors),
                              .names = base_calloc(snapshot->shards ? most : 0, sizeof *listing.names)};
    int status = listing.tensors && listing.names ? CADRE_OK : CADRE_ENOMEM;
    for (int i = 0; status == CADRE_OK && i < snapshot->count; i++) {
        const state_entry *entry = &snapshot->entries[i];
        safetensors_tensor *tensor;
        if (entry->kind == STATE_TENSOR && entry->shard == snapshot->shard)
            status = append(&listing, entry->name, entry, entry->nbytes, &tensor);
        else if (entry->kind == STATE_LOCAL)
            status = append_local(&listing, snapshot, entry, world);
    }
    if (status == CADRE_OK)
        status = safetensors_header(listing.tensors, listing.count, metadata, header);
    free(listing.tensors);
    free(listing.names);
    *data_nbytes = listing.at;
    return status;
}

/* A local entry's rows: rank after rank, each out of that rank's packed bytes. */
static int put_locals(struct output *output, const state_snapshot *snapshot, const unsigned char *locals, int world)
{
    size_t stride = 0, at = 0;
    for (int i = 0; i < snapshot->count; i++)
        if (snapshot->entries[i].kind == STATE_LOCAL)
            stride += snapshot->entries[i].nbytes;
    for (int i = 0; i < snapshot->count; i++) {
        const state_entry *entry = &snapshot->entries[i];
        if (entry->kind != STATE_LOCAL || entry->nbytes == 0)
            continue;
        if (!locals)
            return base_error(CADRE_EINVAL, "the bytes of the local entry \"%s\" were not given", entry->name);
        for (int rank = 0; rank < world; rank++) {
            int status = put(output, locals + (size_t)rank * stride + at, entry->nbytes);
            if (status != CADRE_OK)
                return status;
        }
        at += entry->nbytes;
    }
    return CADRE_OK;
}

int checkpoint_tensors_write(const char *path, const state_snapshot *snapshot, const void *locals, int world, checkpoint_file *out)
{
    struct output output = {.fd = -1, .path = path};
    base_buffer header = {0};
    uint64_t data_nbytes = 0;
    int status = build_header(snapshot, world, &header, &data_nbytes);
    if (status == CADRE_OK)
        status = state_hash_new(&output.hash);
    if (status == CADRE_OK)
        status = base_open(path, O_WRONLY | O_CREAT | O_EXCL, 0666, &output.fd);
    if (status == CADRE_OK) {
        output.fault_at = header.length + data_nbytes / 2;
        status = put(&output, header.data, header.length);
    }
    if (status == CADRE_OK)
        status = put(&output, snapshot->data, snapshot->nbytes);
    if (status == CADRE_OK)
        status = put_locals(&output, snapshot, locals, snapshot->shards ? 1 : world);
    if (status == CADRE_OK)
        status = base_fsync(output.fd, path);
    if (status == CADRE_OK) {
        state_hash_text(output.hash, out->hash);
        out->nbytes = output.nbytes;
    }
    base_close(output.fd);
    state_hash_free(output.hash);
    base_buffer_free(&header);
    return status;
}
