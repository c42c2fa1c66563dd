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
    const char *path;
    checkpoint_record record;
    int count;                  /* files of tensors */
    safetensors_index *indices; /* one each */
    unsigned char *bytes;       /* of one whole file; NULL when none is kept */
    int held;                   /* which that is */
};

/* Where some bytes of a tensor lie. */
struct place {
    int file;
    const safetensors_tensor *tensor;
    uint64_t begin;
};

static void reading_free(struct reading *reading)
{
    for (int i = 0; reading->indices && i < reading->count; i++)
        safetensors_index_free(&reading->indices[i]);
    free(reading->indices);
    checkpoint_record_free(&reading->record);
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
static int check_hash(int fd, const char *path, const char *name, const checkpoint_file *file, unsigned char *bytes, bool keep)
{
    state_hash *hash;
    int status = state_hash_new(&hash);
    if (status != CADRE_OK)
        return status;
    for (uint64_t at = 0; status == CADRE_OK && at < file->nbytes;) {
        uint64_t left = file->nbytes - at;
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
    if (status == CADRE_OK && strcmp(digits, file->hash) != 0)
        status = base_error(CADRE_ECORRUPT, "%s is not what was written: its hash is %s, not %s", name, digits, file->hash);
    return status;
}

/* Check a file against its line in the record. `bytes` (may be NULL) becomes its content, `index` (may be NULL) its tensors. */
static int check_file(const struct reading *reading, const char *name, const checkpoint_file *file, unsigned char **bytes, safetensors_index *index)
{
    int fd = -1;
    struct stat info;
    uint64_t nbytes = file->nbytes;
    unsigned char *buffer = NULL;
    char *path = base_path_join(reading->path, name);
    int status = path ? missing_is_damage(base_open(path, O_RDONLY, 0, &fd)) : CADRE_ENOMEM;
    if (status == CADRE_OK && fstat(fd, &info) != 0)
        status = base_errno(errno, "read %s", path);
    else if (status == CADRE_OK && (!S_ISREG(info.st_mode) || (uint64_t)info.st_size != nbytes))
        status = base_error(CADRE_ECORRUPT, "%s has %lld bytes, %" PRIu64 " were written", name, (long long)info.st_size, nbytes);
    if (status == CADRE_OK) {
        buffer = base_malloc(bytes || nbytes < CHUNK ? (size_t)nbytes : CHUNK);
        status = buffer ? check_hash(fd, path, name, file, buffer, bytes != NULL) : CADRE_ENOMEM;
    }
    if (status == CADRE_OK && index)
        status = bytes ? safetensors_parse(buffer, (size_t)nbytes, nbytes, index) : safetensors_read(fd, path, index);
    base_close(fd);
    free(path);
    if (status == CADRE_OK && bytes)
        *bytes = buffer;
    else
        free(buffer);
    return status;
}

/* A sharded one is looked at file by file, and read again when its turn comes: no rank holds more than one. */
static int check_files(struct reading *reading, bool keep)
{
    const checkpoint_record *record = &reading->record;
    char name[CHECKPOINT_NAME];
    int count = record->shards ? record->shards : 1;
    reading->indices = base_calloc((size_t)count, sizeof *reading->indices);
    if (!reading->indices)
        return CADRE_ENOMEM;
    reading->count = count;
    reading->held = 0;
    int status = record->shards ? check_file(reading, CHECKPOINT_INDEX, &record->index, NULL, NULL) : CADRE_OK;
    for (int i = 0; status == CADRE_OK && i < count; i++) {
        checkpoint_file_name(i, record->shards, name);
        status = check_file(reading, name, &record->files[i], keep && count == 1 ? &reading->bytes : NULL, &reading->indices[i]);
    }
    return status;
}

/* The bytes of a file's tensors, which are what was checked. */
static int hold(struct reading *reading, int file)
{
    char name[CHECKPOINT_NAME];
    if (reading->bytes && reading->held == file)
        return CADRE_OK;
    free(reading->bytes);
    reading->bytes = NULL;
    reading->held = file;
    checkpoint_file_name(file, reading->record.shards, name);
    return check_file(reading, name, &reading->record.files[file], &reading->bytes, NULL);
}

enum { ANY_FILE = -1 };

static bool find_tensor(const struct reading *reading, int file, const char *name, struct place *place)
{
    int last = file == ANY_FILE ? reading->count - 1 : file;
    for (int i = file == ANY_FILE ? 0 : file; i <= last; i++) {
        place->file = i;
        place->tensor = safetensors_find(&reading->indices[i], name);
        if (place->tensor) {
            place->begin = reading->indices[i].data_offset + place->tensor->begin;
            return true;
        }
    }
    return false;
}

/* A local entry's row, and its length: of [world, nbytes], or a tensor of its own. False when it is not there in that form. */
static bool find_row(const struct reading *reading, int file, const char *name, int row, struct place *place, uint64_t *nbytes)
{
    char own[CHECKPOINT_ROW_NAME];
    int dims = reading->record.shards ? 1 : 2;
    if (strlen(name) + 16 > sizeof own)
        return false;
    if (reading->record.shards)
        checkpoint_row_name(name, row, own);
    if (!find_tensor(reading, file, reading->record.shards ? own : name, place) || strcmp(place->tensor->dtype, "U8") != 0 || place->tensor->dims != dims ||
        (dims == 2 && place->tensor->shape[0] != reading->record.info.world))
        return false;
    *nbytes = (uint64_t)place->tensor->shape[dims - 1];
    place->begin += dims == 2 ? (uint64_t)row * *nbytes : 0;
    return true;
}

static int check_locals(const struct reading *reading)
{
    const json_t *locals = reading->record.locals;
    int world = reading->record.info.world;
    for (size_t i = 0; i < json_array_size(locals); i++) {
        const char *name = json_string_value(json_array_get(locals, i));
        struct place place;
        uint64_t nbytes = 0, first = 0;
        bool fits = true;
        for (int row = 0; fits && row < (reading->record.shards ? world : 1); row++) {
            fits = find_row(reading, ANY_FILE, name, row, &place, &nbytes) && (row == 0 || nbytes == first);
            first = nbytes;
        }
        if (!fits)
            return base_error(CADRE_ECORRUPT, "the local entry \"%s\" does not have a row for each of %d ranks", name, world);
    }
    return CADRE_OK;
}

static int check_names(const struct reading *reading)
{
    if (reading->record.shards && reading->record.info.world % reading->record.shards != 0)
        return base_error(CADRE_ECORRUPT, "it has %d files of %d ranks", reading->record.shards, reading->record.info.world);
    for (int i = 1; i < reading->count; i++)
        for (size_t k = 0; k < reading->indices[i].count; k++) {
            struct place place;
            const char *name = reading->indices[i].tensors[k].name;
            if (find_tensor(reading, ANY_FILE, name, &place) && place.file != i)
                return base_error(CADRE_ECORRUPT, "the tensor \"%s\" is in two files", name);
        }
    return CADRE_OK;
}

static int open_checkpoint(const char *path, bool keep, struct reading *out)
{
    struct reading reading = {.path = path};
    struct stat info;
    if (stat(path, &info) != 0)
        return base_errno(errno, "checkpoint %s", path);
    if (!S_ISDIR(info.st_mode))
        return base_error(CADRE_ECORRUPT, "checkpoint %s: it is no directory", path);
    char *record = base_path_join(path, CHECKPOINT_RECORD);
    int status = record ? read_record(record, &reading.record) : CADRE_ENOMEM;
    if (status == CADRE_OK)
        status = check_files(&reading, keep);
    if (status == CADRE_OK)
        status = check_names(&reading);
    if (status == CADRE_OK)
        status = check_locals(&reading);
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
    struct place place;
    if (!find_tensor(reading, ANY_FILE, entry->name, &place))
        return base_error(CADRE_EMISMATCH, "it has no tensor \"%s\", which the state has", entry->name);
    bool local = checkpoint_record_is_local(&reading->record, entry->name);
    const char *dtype = state_dtype_name(entry->dtype);
    const safetensors_tensor *tensor = place.tensor;
    if (!local && strcmp(tensor->dtype, dtype) == 0 && tensor->dims == entry->dims &&
        memcmp(tensor->shape, entry->shape, (size_t)entry->dims * sizeof *entry->shape) == 0)
        return CADRE_OK;
    print_shape(tensor->dtype, tensor->dims, tensor->shape, there);
    print_shape(dtype, entry->dims, entry->shape, here);
    return base_error(CADRE_EMISMATCH, "\"%s\" is %s%s there and %s in the state", entry->name, local ? "local, " : "",
                      there, here);
}

static uint64_t larger(uint64_t a, uint64_t b) { return a > b ? a : b; }
static uint64_t smaller(uint64_t a, uint64_t b) { return a < b ? a : b; }

/* Is there a length of which `nbytes` on each of `ranks` are shards? All above the first number and up to the second. */
static void lengths_of(uint64_t nbytes, int ranks, uint64_t *above, uint64_t *most)
{
    *above = nbytes ? (nbytes - CADRE_STATE_SHARD_ALIGN) * (uint64_t)ranks : 0;
    *most = nbytes * (uint64_t)ranks;
}

/* Shards there and here can be of the same array. */
static int check_cut(const struct reading *reading, const state_entry *entry, uint64_t there, int world)
{
    uint64_t above[2], most[2];
    int saved = reading->record.info.world;
    if (there % CADRE_STATE_SHARD_ALIGN == 0 && (there == 0) == (entry->nbytes == 0)) {
        lengths_of(there, saved, &above[0], &most[0]);
        lengths_of(entry->nbytes, world, &above[1], &most[1]);
        if (there == 0 || larger(above[0], above[1]) < smaller(most[0], most[1]))
            return CADRE_OK;
    }
    return base_error(CADRE_EMISMATCH, "\"%s\" is in shards of %" PRIu64 " bytes on %d ranks there and of %zu on %d in the state: these are not of one length", entry->name,
                      there, saved, entry->nbytes, world);
}

static int check_local(const struct reading *reading, const state_entry *entry, int rows, int world)
{
    struct place place;
    uint64_t nbytes;
    if (!checkpoint_record_is_local(&reading->record, entry->name) || !find_row(reading, ANY_FILE, entry->name, 0, &place, &nbytes))
        return base_error(CADRE_EMISMATCH, "it has no local entry \"%s\", which the state has", entry->name);
    if (entry->cut && rows > 1)
        return base_error(CADRE_ENOTSUP, "\"%s\" is in shards, and logical workers have none", entry->name);
    if (entry->cut)
        return check_cut(reading, entry, nbytes, world);
    if (nbytes * (uint64_t)rows == entry->nbytes)
        return CADRE_OK;
    return base_error(CADRE_EMISMATCH, "the local entry \"%s\" has %" PRIu64 " bytes a rank there and %zu in the state", entry->name, nbytes, entry->nbytes / (size_t)rows);
}

static int check_entry(const struct reading *reading, const state_entry *entry, int rows, int world)
{
    state_scalar value;
    if (entry->kind == STATE_TENSOR)
        return check_tensor(reading, entry);
    if (entry->kind == STATE_LOCAL)
        return check_local(reading, entry, rows, world);
    if (checkpoint_record_scalar(&reading->record, entry->name, entry->kind, &value))
        return CADRE_OK;
    return base_error(CADRE_EMISMATCH, "it has no scalar \"%s\" of type %s, which the state has", entry->name,
                      entry->kind == STATE_INT64 ? "int64" : "double");
}

/* Put together this rank's shard from those of a file. */
static int load_shard(struct reading *reading, int file, const state_entry *entry, int rank, unsigned char *shard)
{
    struct place place;
    uint64_t each = 0, begin = (uint64_t)rank * entry->nbytes, end = begin + entry->nbytes;
    int world = reading->record.info.world, status = CADRE_OK;
    for (int row = 0; row < world && status == CADRE_OK; row++) {
        if (!find_row(reading, file, entry->name, row, &place, &each))
            continue;
        uint64_t first = larger((uint64_t)row * each, begin), last = smaller((uint64_t)(row + 1) * each, end);
        if (first >= last)
            continue;
        status = hold(reading, file);
        if (status == CADRE_OK)
            memcpy(shard + (first - begin), reading->bytes + place.begin + (first - (uint64_t)row * each), (size_t)(last - first));
    }
    return status;
}

/* What lies in one file: tensors go where they belong, this rank's rows to `locals`. */
static int load_file(struct reading *reading, int file, const cadre_state *state, int rank, unsigned char *locals)
{
    int rows = state_rows(state), status = CADRE_OK;
    for (int i = 0; status == CADRE_OK && i < state->impl->count; i++) {
        const state_entry *entry = &state->impl->entries[i];
        struct place place;
        uint64_t nbytes;
        if (entry->kind == STATE_TENSOR && find_tensor(reading, file, entry->name, &place)) {
            status = hold(reading, file);
            if (status == CADRE_OK)
                status = state_entry_load(entry, reading->bytes + place.begin);
        }
        if (entry->kind == STATE_LOCAL && entry->cut)
            status = load_shard(reading, file, entry, rank, locals);
        for (int row = rank * rows; entry->kind == STATE_LOCAL && !entry->cut && status == CADRE_OK && row < (rank + 1) * rows; row++) {
            if (row >= reading->record.info.world || !find_row(reading, file, entry->name, row, &place, &nbytes))
                continue;
            status = hold(reading, file);
            if (status == CADRE_OK)
                memcpy(locals + (size_t)(row - rank * rows) * nbytes, reading->bytes + place.begin, nbytes);
        }
        locals += entry->kind == STATE_LOCAL ? entry->nbytes : 0;
    }
    return status;
}

static int load_entries(struct reading *reading, cadre_state *state, int rank)
{
    bool was_there = (rank + 1) * state_rows(state) <= reading->record.info.world;
    unsigned char *locals = base_calloc(state_local_nbytes(state) + 1, 1);
    int status = locals ? CADRE_OK : CADRE_ENOMEM;
    for (int file = 0; status == CADRE_OK && file < reading->count; file++)
        status = load_file(reading, file, state, rank, locals);
    const unsigned char *at = locals;
    for (int i = 0; status == CADRE_OK && i < state->impl->count; i++) {
        const state_entry *entry = &state->impl->entries[i];
        state_scalar value;
        if (entry->kind == STATE_LOCAL) {
            status = was_there || entry->cut ? state_entry_load(entry, at) : CADRE_OK;
            at += entry->nbytes;
        } else if (entry->kind != STATE_TENSOR) {
            checkpoint_record_scalar(&reading->record, entry->name, entry->kind, &value);
            memcpy(entry->data, &value, sizeof value);
        }
    }
    free(locals);
    return status;
}

static int load_all(struct reading *reading, cadre_state *state, int rank, int world)
{
    int status = CADRE_OK;
    for (int i = 0; status == CADRE_OK && i < state->impl->count; i++)
        status = check_entry(reading, &state->impl->entries[i], state_rows(state), world);
    if (status == CADRE_OK)
        status = load_entries(reading, state, rank);
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
    status = load_all(&reading, state, rank, world);
    if (status != CADRE_OK)
        base_wrap(status, "checkpoint %s", path);
    else if (state_has_own(state) && (rank + 1) * state_rows(state) > reading.record.info.world)
        base_log(CADRE_LOG_WARN, "state",
                 "checkpoint %s was made by %d ranks: rank %d of %d keeps its own local entries", path,
                 reading.record.info.world, rank, world);
    if (status == CADRE_OK && info)
        *info = reading.record.info;
    reading_free(&reading);
    return status;
}

int cadre_checkpoint_load(const char *path, cadre_state *state) { return checkpoint_restore(path, state, 0, 1, NULL); }
