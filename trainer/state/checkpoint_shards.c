/*
 * A checkpoint that each rank writes its part of. The files have the names that others know: state-00001-of-00004.safetensors, and an index,
 * state.safetensors.index.json, that says which tensor is in which (as Hugging Face's transformers and accelerate write and read it). state.json
 * has the hashes of all; it is written last, and then the directory gets its name.
 */
#include "checkpoint.h"

#include "base/error.h"
#include "base/fault.h"
#include "base/io.h"
#include "base/mem.h"
#include "text.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

void checkpoint_file_name(int index, int count, char name[CHECKPOINT_NAME])
{
    if (count == 0)
        snprintf(name, CHECKPOINT_NAME, CHECKPOINT_TENSORS);
    else
        snprintf(name, CHECKPOINT_NAME, "state-%05d-of-%05d.safetensors", index + 1, count);
}

/* Ranks of one attempt write to one directory; an older attempt's is another one. */
static char *temporary_of(const char *path, int attempt) { return base_sprintf("%s.tmp-%d", path, attempt); }

static char *path_of_file(const char *directory, int index, int count)
{
    char name[CHECKPOINT_NAME];
    checkpoint_file_name(index, count, name);
    return base_path_join(directory, name);
}

int checkpoint_shard_write(const char *path, int attempt, const state_snapshot *snapshot, const void *locals, checkpoint_file *out)
{
    if (!path || !snapshot || snapshot->shards < 1)
        return base_error(CADRE_EINVAL, "a shard needs a path and a share of a state");
    checkpoint_file written = {0};
    char *parent = checkpoint_parent(path), *temporary = temporary_of(path, attempt);
    char *file = temporary ? path_of_file(temporary, snapshot->shard, snapshot->shards) : NULL;
    int status = parent && file ? checkpoint_make_durable(parent) : CADRE_ENOMEM;
    if (status == CADRE_OK)
        status = base_mkdirs(temporary, 0777);
    if (status == CADRE_OK) {
        status = checkpoint_tensors_write(file, snapshot, locals, 1, &written);
        if (status == CADRE_OK) {
            int fault = BASE_FAULT("checkpoint_shard");
            status = fault ? base_errno(fault > 0 ? fault : EIO, "write %s", file) : CADRE_OK;
        }
        if (status != CADRE_OK)
            unlink(file);
    }
    free(file);
    free(temporary);
    free(parent);
    if (status != CADRE_OK)
        return checkpoint_failed(status, path);
    *out = written;
    return CADRE_OK;
}

/* Each rank has said that its file is down; is it in this directory, too? */
static int look_for_files(const char *directory, const checkpoint_file *files, int count)
{
    int status = CADRE_OK;
    for (int i = 0; status == CADRE_OK && i < count; i++) {
        struct stat info;
        char name[CHECKPOINT_NAME];
        char *file = path_of_file(directory, i, count);
        checkpoint_file_name(i, count, name);
        if (!file)
            status = CADRE_ENOMEM;
        else if (stat(file, &info) != 0 || (uint64_t)info.st_size != files[i].nbytes)
            status = base_error(CADRE_EIO, "%s, which rank %d wrote, is not there as it was written: all ranks need one file system", name, i);
        free(file);
    }
    return status;
}

/* Where a tensor is; CADRE_EINVAL when the name is taken. */
static int note_place(json_t *map, const char *name, const char *file)
{
    if (json_object_get(map, name))
        return base_error(CADRE_EINVAL, "two tensors are called \"%s\": a local entry's rows have names like that", name);
    return json_object_set_new(map, name, json_string(file)) == 0 ? CADRE_OK : base_error(CADRE_ENOMEM, "out of memory for " CHECKPOINT_INDEX);
}

static int fill_map(const state_snapshot *snapshot, json_t *map, uint64_t *total)
{
    char file[CHECKPOINT_NAME], name[CHECKPOINT_ROW_NAME];
    int rows = snapshot->rows, status = CADRE_OK;
    for (int i = 0; status == CADRE_OK && i < snapshot->count; i++) {
        const state_entry *entry = &snapshot->entries[i];
        if (entry->kind == STATE_TENSOR) {
            checkpoint_file_name(entry->shard, snapshot->shards, file);
            status = note_place(map, entry->name, file);
            *total += entry->nbytes;
        }
        for (int row = 0; entry->kind == STATE_LOCAL && status == CADRE_OK && row < snapshot->shards * rows; row++) {
            checkpoint_row_name(entry->name, row, name);
            checkpoint_file_name(row / rows, snapshot->shards, file);
            status = note_place(map, name, file);
            *total += entry->nbytes / (size_t)rows;
        }
    }
    return status;
}

static int render_index(const state_snapshot *snapshot, base_buffer *text)
{
    json_t *map = json_object(), *root = NULL;
    uint64_t total = 0;
    int status = map ? fill_map(snapshot, map, &total) : CADRE_ENOMEM;
    if (status == CADRE_OK)
        root = json_pack("{s:{s:I}, s:O}", "metadata", "total_size", (json_int_t)total, "weight_map", map);
    if (status == CADRE_OK)
        status = root ? state_json_print(root, JSON_INDENT(2), text) : base_error(CADRE_ENOMEM, "out of memory for " CHECKPOINT_INDEX);
    json_decref(root);
    json_decref(map);
    return status;
}

static int write_index(const char *path, const state_snapshot *snapshot, checkpoint_file *out)
{
    base_buffer text = {0};
    state_hash *hash = NULL;
    int status = render_index(snapshot, &text);
    if (status == CADRE_OK)
        status = state_hash_new(&hash);
    if (status == CADRE_OK) {
        state_hash_update(hash, text.data, text.length);
        state_hash_text(hash, out->hash);
        out->nbytes = text.length;
        status = checkpoint_text_write(path, &text);
    }
    state_hash_free(hash);
    base_buffer_free(&text);
    return status;
}

/* What rank 0 adds, and the name; on failure what it added is gone. */
static int commit(const char *temporary, const char *path, const char *parent, const state_snapshot *snapshot, checkpoint_record *record)
{
    char *index = base_path_join(temporary, CHECKPOINT_INDEX), *text = base_path_join(temporary, CHECKPOINT_RECORD);
    int status = index && text ? look_for_files(temporary, record->files, record->shards) : CADRE_ENOMEM;
    bool began = status == CADRE_OK;
    if (began)
        status = write_index(index, snapshot, &record->index);
    if (status == CADRE_OK)
        status = checkpoint_record_write(text, snapshot, record);
    if (status == CADRE_OK)
        status = base_fsync_dir(temporary);
    if (status == CADRE_OK)
        status = checkpoint_publish(temporary, path, parent);
    if (status != CADRE_OK && began) {
        unlink(index);
        unlink(text);
    }
    free(index);
    free(text);
    return status;
}

int checkpoint_shards_commit(const char *path, const state_snapshot *snapshot, const checkpoint_file *files,
                             const cadre_checkpoint_info *meta, cadre_checkpoint_info *out)
{
    struct stat info;
    checkpoint_record record = {.shards = snapshot->shards, .info = {.epoch = snapshot->epoch, .step = snapshot->step, .report = meta->report,
                                                                     .attempt = meta->attempt, .world = snapshot->shards * snapshot->rows}};
    char *parent = checkpoint_parent(path), *temporary = temporary_of(path, meta->attempt);
    record.files = base_calloc((size_t)snapshot->shards, sizeof *record.files);
    int status = parent && temporary && record.files ? CADRE_OK : CADRE_ENOMEM;
    int fault = status == CADRE_OK ? BASE_FAULT("checkpoint_commit") : 0;
    if (fault)
        status = base_errno(fault > 0 ? fault : EIO, "write %s", temporary);
    if (status == CADRE_OK && lstat(path, &info) == 0)
        status = base_error(CADRE_EEXIST, "something of that name is there already");
    if (status == CADRE_OK) {
        memcpy(record.files, files, (size_t)snapshot->shards * sizeof *files);
        status = commit(temporary, path, parent, snapshot, &record);
    }
    free(record.files);
    free(temporary);
    free(parent);
    if (status != CADRE_OK)
        return checkpoint_failed(status, path);
    if (out)
        *out = record.info;
    return CADRE_OK;
}

int checkpoint_shards_drop(const char *path, int attempt)
{
    char *temporary = temporary_of(path, attempt);
    int status = temporary ? base_remove_tree(temporary) : CADRE_ENOMEM;
    free(temporary);
    return status;
}
