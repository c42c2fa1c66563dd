/* Reading: nothing of a checkpoint is used before all of it has been checked, and what was checked is what is used. */
#include "checkpoint.h"

#include "base/error.h"
#include "base/io.h"
#include "base/log.h"
#include "base/mem.h"
#include "hash.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum { CHUNK = 4 << 20 /* read and hashed while it is in the cache */ };

/* A checkpoint that has been checked. */
struct reading {
    checkpoint_record record;
    safetensors_index index;
    unsigned char *bytes; /* of the whole tensor file; NULL when they are not kept */
};

static void reading_free(struct reading *reading)
{
    checkpoint_record_free(&reading->record);
    safetensors_index_free(&reading->index);
    free(reading->bytes);
}

/* A file that is missing in a checkpoint is damage, not absence. */
static int missing_is_damage(int status) { return status == CADRE_ENOENT ? CADRE_ECORRUPT : status; }

static int read_record(const char *path, checkpoint_record *record)
{
    base_buffer text = {0};
    int status = base_read_file(path, CHECKPOINT_RECORD_LIMIT, &text);
    if (status == CADRE_EINVAL)
        status = CADRE_ECORRUPT; /* too large */
    if (status == CADRE_OK) {
        status = checkpoint_record_parse((const char *)text.data, text.length, record);
        if (status != CADRE_OK)
            base_wrap(status, CHECKPOINT_RECORD);
    }
    base_buffer_free(&text);
    return missing_is_damage(status);
}

/* Read the file once and hash it; `bytes` takes all of it, or one chunk after the other when it is not kept. */
static int check_hash(int fd, const char *path, const checkpoint_record *record, unsigned char *bytes, bool keep)
{
    state_hash *hash;
    int status = state_hash_new(&hash);
    if (status != CADRE_OK)
        return status;
    for (uint64_t at = 0; status == CADRE_OK && at < record->tensors_nbytes;) {
        uint64_t left = record->tensors_nbytes - at;
        size_t part = left < CHUNK ? (size_t)left : CHUNK;
        unsigned char *to = keep ? bytes + at : bytes;
        status = base_read_all(fd, to, part, path);
        if (status == CADRE_OK)
            state_hash_update(hash, to, part);
        at += part;
    }
    char digits[STATE_HASH_TEXT];
    state_hash_text(hash, digits);
    state_hash_free(hash);
    if (status == CADRE_OK && strcmp(digits, record->tensors_hash) != 0)
        status = base_error(CADRE_ECORRUPT, CHECKPOINT_TENSORS " is not what was written: its hash is %s, not %s",
                            digits, record->tensors_hash);
    return status;
}

static int read_tensors(const char *path, bool keep, struct reading *reading)
{
    int fd = -1;
    struct stat info;
    uint64_t nbytes = reading->record.tensors_nbytes;
    int status = base_open(path, O_RDONLY, 0, &fd);
    if (status != CADRE_OK)
        return missing_is_damage(status);
    if (fstat(fd, &info) != 0)
        status = base_errno(errno, "read %s", path);
    else if (!S_ISREG(info.st_mode) || (uint64_t)info.st_size != nbytes)
        status = base_error(CADRE_ECORRUPT, CHECKPOINT_TENSORS " has %lld bytes, %" PRIu64 " were written",
                            (long long)info.st_size, nbytes);
    unsigned char *bytes = NULL;
    if (status == CADRE_OK) {
        bytes = base_malloc(keep || nbytes < CHUNK ? (size_t)nbytes : CHUNK);
        status = bytes ? check_hash(fd, path, &reading->record, bytes, keep) : CADRE_ENOMEM;
    }
    if (status == CADRE_OK)
        status = keep ? safetensors_parse(bytes, (size_t)nbytes, nbytes, &reading->index)
                      : safetensors_read(fd, path, &reading->index);
    base_close(fd);
    if (status == CADRE_OK && keep)
        reading->bytes = bytes;
    else
        free(bytes);
    return status;
}

/* Rows of a local entry, [world, nbytes]; NULL when it is not there in that form. */
static const safetensors_tensor *find_local(const struct reading *reading, const char *name)
{
    const safetensors_tensor *tensor = safetensors_find(&reading->index, name);
    bool fits = tensor && checkpoint_record_is_local(&reading->record, name) && strcmp(tensor->dtype, "U8") == 0 &&
                tensor->dims == 2 && tensor->shape[0] == reading->record.info.world;
    return fits ? tensor : NULL;
}

static int check_locals(const struct reading *reading)
{
    for (size_t i = 0; i < json_array_size(reading->record.locals); i++) {
        const char *name = json_string_value(json_array_get(reading->record.locals, i));
        if (!find_local(reading, name))
            return base_error(CADRE_ECORRUPT, "the local entry \"%s\" does not have a row for each of %d ranks", name,
                              reading->record.info.world);
    }
    return CADRE_OK;
}

static int open_checkpoint(const char *path, bool keep, struct reading *out)
{
    struct reading reading = {0};
    struct stat info;
    if (stat(path, &info) != 0)
        return base_errno(errno, "checkpoint %s", path);
    if (!S_ISDIR(info.st_mode))
        return base_error(CADRE_ECORRUPT, "checkpoint %s: it is no directory", path);
    char *record = base_path_join(path, CHECKPOINT_RECORD);
    char *tensors = base_path_join(path, CHECKPOINT_TENSORS);
    int status = record && tensors ? read_record(record, &reading.record) : CADRE_ENOMEM;
    if (status == CADRE_OK)
        status = read_tensors(tensors, keep, &reading);
    if (status == CADRE_OK)
        status = check_locals(&reading);
    free(tensors);
    free(record);
    if (status != CADRE_OK) {
        reading_free(&reading);
        return base_wrap(status, "checkpoint %s", path);
    }
    *out = reading;
    return CADRE_OK;
}

int cadre_checkpoint_verify(const char *path, cadre_checkpoint_info *info)
{
    struct reading reading;
    if (!path)
        return base_error(CADRE_EINVAL, "cadre_checkpoint_verify: it needs a path");
    int status = open_checkpoint(path, false, &reading);
    if (status != CADRE_OK)
        return status;
    if (info)
        *info = reading.record.info;
    reading_free(&reading);
    return CADRE_OK;
}

enum { SHAPE_TEXT = 256 };

static void print_shape(const char *dtype, int dims, const int64_t *shape, char text[SHAPE_TEXT])
{
    int used = snprintf(text, SHAPE_TEXT, "%s [", dtype);
    for (int i = 0; i < dims; i++) /* 8 extents of at most 19 digits always fit */
        used += snprintf(text + used, (size_t)(SHAPE_TEXT - used), "%s%" PRId64, i ? ", " : "", shape[i]);
    snprintf(text + used, (size_t)(SHAPE_TEXT - used), "]");
}

static int check_tensor(const struct reading *reading, const state_entry *entry)
{
    char here[SHAPE_TEXT], there[SHAPE_TEXT];
    const safetensors_tensor *tensor = safetensors_find(&reading->index, entry->name);
    if (!tensor)
        return base_error(CADRE_EMISMATCH, "it has no tensor \"%s\", which the state has", entry->name);
    bool local = checkpoint_record_is_local(&reading->record, entry->name);
    const char *dtype = state_dtype_name(entry->dtype);
    if (!local && strcmp(tensor->dtype, dtype) == 0 && tensor->dims == entry->dims &&
        memcmp(tensor->shape, entry->shape, (size_t)entry->dims * sizeof *entry->shape) == 0)
        return CADRE_OK;
    print_shape(tensor->dtype, tensor->dims, tensor->shape, there);
    print_shape(dtype, entry->dims, entry->shape, here);
    return base_error(CADRE_EMISMATCH, "\"%s\" is %s%s there and %s in the state", entry->name, local ? "local, " : "",
                      there, here);
}

static int check_local(const struct reading *reading, const state_entry *entry, int rows)
{
    const safetensors_tensor *tensor = find_local(reading, entry->name);
    if (!tensor)
        return base_error(CADRE_EMISMATCH, "it has no local entry \"%s\", which the state has", entry->name);
    if (tensor->shape[1] * rows == entry->shape[0])
        return CADRE_OK;
    return base_error(CADRE_EMISMATCH, "the local entry \"%s\" has %" PRId64 " bytes a rank there and %zu in the state",
                      entry->name, tensor->shape[1], entry->nbytes / (size_t)rows);
}

static int check_entry(const struct reading *reading, const state_entry *entry, int rows)
{
    state_scalar value;
    if (entry->kind == STATE_TENSOR)
        return check_tensor(reading, entry);
    if (entry->kind == STATE_LOCAL)
        return check_local(reading, entry, rows);
    if (checkpoint_record_scalar(&reading->record, entry->name, entry->kind, &value))
        return CADRE_OK;
    return base_error(CADRE_EMISMATCH, "it has no scalar \"%s\" of type %s, which the state has", entry->name,
                      entry->kind == STATE_INT64 ? "int64" : "double");
}

static int load_entry(const struct reading *reading, const state_entry *entry, int rank, int rows)
{
    state_scalar value;
    const unsigned char *data = reading->bytes + reading->index.data_offset;
    if (entry->kind == STATE_TENSOR)
        return state_entry_load(entry, data + safetensors_find(&reading->index, entry->name)->begin);
    if (entry->kind == STATE_LOCAL && (rank + 1) * rows > reading->record.info.world)
        return CADRE_OK;
    if (entry->kind == STATE_LOCAL)
        return state_entry_load(entry, data + find_local(reading, entry->name)->begin + (size_t)rank * entry->nbytes);
    checkpoint_record_scalar(&reading->record, entry->name, entry->kind, &value);
    memcpy(entry->data, &value, sizeof value);
    return CADRE_OK;
}

static int load_all(const struct reading *reading, cadre_state *state, int rank)
{
    int status = CADRE_OK;
    for (int i = 0; status == CADRE_OK && i < state->impl->count; i++)
        status = check_entry(reading, &state->impl->entries[i], state_rows(state));
    for (int i = 0; status == CADRE_OK && i < state->impl->count; i++)
        status = load_entry(reading, &state->impl->entries[i], rank, state_rows(state));
    if (status == CADRE_OK) {
        state->epoch = reading->record.info.epoch;
        state->step = reading->record.info.step;
    }
    return status;
}

int checkpoint_restore(const char *path, cadre_state *state, int rank, int world, cadre_checkpoint_info *info)
{
    struct reading reading;
    if (!path || !state || rank < 0 || rank >= world)
        return base_error(CADRE_EINVAL, "restoring needs a path, a state, and a rank within its world");
    int status = open_checkpoint(path, true, &reading);
    if (status != CADRE_OK)
        return status;
    status = load_all(&reading, state, rank);
    if (status != CADRE_OK)
        base_wrap(status, "checkpoint %s", path);
    else if (state_local_nbytes(state) && (rank + 1) * state_rows(state) > reading.record.info.world)
        base_log(CADRE_LOG_WARN, "state",
                 "checkpoint %s was made by %d ranks: rank %d of %d keeps its own local entries", path,
                 reading.record.info.world, rank, world);
    if (status == CADRE_OK && info)
        *info = reading.record.info;
    reading_free(&reading);
    return status;
}

int cadre_checkpoint_load(const char *path, cadre_state *state) { return checkpoint_restore(path, state, 0, 1, NULL); }
