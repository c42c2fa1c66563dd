/* Writing: everything goes into a directory of a temporary name, is synced, and gets its final name in one step. */
#include "checkpoint.h"

#include "base/error.h"
#include "base/fault.h"
#include "base/io.h"
#include "base/mem.h"
#include "hash.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

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

static int build_header(const state_snapshot *snapshot, int world, base_buffer *header, uint64_t *data_nbytes)
{
    static const char *const metadata[] = {"format", "pt", "writer", "cadre", NULL};
    safetensors_tensor *tensors = base_calloc((size_t)snapshot->count, sizeof *tensors);
    if (!tensors)
        return CADRE_ENOMEM;
    size_t count = 0;
    uint64_t at = 0;
    int status = CADRE_OK;
    for (int i = 0; status == CADRE_OK && i < snapshot->count; i++) {
        const state_entry *entry = &snapshot->entries[i];
        if (entry->kind != STATE_TENSOR && entry->kind != STATE_LOCAL)
            continue;
        safetensors_tensor *tensor = &tensors[count++];
        uint64_t nbytes = entry->nbytes;
        *tensor = (safetensors_tensor){.name = entry->name, .dtype = state_dtype_name(entry->dtype), .begin = at};
        tensor->dims = entry->dims;
        memcpy(tensor->shape, entry->shape, sizeof entry->shape);
        if (entry->kind == STATE_LOCAL) {
            tensor->dims = 2;
            int rows = snapshot->rows > 1 ? snapshot->rows : 1;
            tensor->shape[0] = (int64_t)world * rows;
            tensor->shape[1] = (int64_t)entry->nbytes / rows;
            if (entry->nbytes % (size_t)rows)
                status = base_error(CADRE_EINVAL, "the local entry \"%s\" has %zu bytes, not the same for each of %d workers", entry->name, entry->nbytes, rows);
            if (__builtin_mul_overflow(nbytes, (uint64_t)world, &nbytes))
                nbytes = UINT64_MAX;
        }
        if (__builtin_add_overflow(at, nbytes, &at) || at > INT64_MAX / 2)
            status = base_error(CADRE_EINVAL, "the state is larger than any file");
        tensor->end = at;
    }
    if (status == CADRE_OK)
        status = safetensors_header(tensors, count, metadata, header);
    free(tensors);
    *data_nbytes = at;
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

static int write_tensors(const char *path, const state_snapshot *snapshot, const void *locals, int world,
                         checkpoint_record *record)
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
        status = put_locals(&output, snapshot, locals, world);
    if (status == CADRE_OK)
        status = base_fsync(output.fd, path);
    if (status == CADRE_OK) {
        state_hash_text(output.hash, record->tensors_hash);
        record->tensors_nbytes = output.nbytes;
        record->info.nbytes = (int64_t)output.nbytes;
    }
    base_close(output.fd);
    state_hash_free(output.hash);
    base_buffer_free(&header);
    return status;
}

static int write_record(const char *path, const state_snapshot *snapshot, checkpoint_record *record)
{
    base_buffer text = {0};
    int fd = -1;
    int status = checkpoint_record_render(record, snapshot, &text);
    if (status == CADRE_OK)
        status = base_open(path, O_WRONLY | O_CREAT | O_EXCL, 0666, &fd);
    if (status == CADRE_OK)
        status = base_write_all(fd, text.data, text.length, path);
    if (status == CADRE_OK)
        status = base_fsync(fd, path);
    base_close(fd);
    base_buffer_free(&text);
    return status;
}

/* The directory that holds `path`, in a new string. */
static char *parent_of(const char *path)
{
    const char *slash = strrchr(path, '/');
    if (!slash)
        return base_strdup(".");
    while (slash > path && slash[-1] == '/')
        slash--;
    return base_sprintf("%.*s", slash == path ? 1 : (int)(slash - path), path);
}

/* Make `path` and what is missing above it, each synced into its parent: a checkpoint is not durable in a directory
 * that is not. */
static int make_durable_directory(const char *path)
{
    if (base_exists(path))
        return CADRE_OK;
    char *parent = parent_of(path);
    if (!parent)
        return CADRE_ENOMEM;
    int status = make_durable_directory(parent);
    if (status == CADRE_OK)
        status = base_mkdirs(path, 0777);
    if (status == CADRE_OK)
        status = base_fsync_dir(parent);
    free(parent);
    return status;
}

static int fill(const char *directory, const state_snapshot *snapshot, const void *locals, int world,
                checkpoint_record *record)
{
    char *tensors = base_path_join(directory, CHECKPOINT_TENSORS);
    char *text = base_path_join(directory, CHECKPOINT_RECORD);
    int status = tensors && text ? base_remove_tree(directory) : CADRE_ENOMEM; /* a dead process may have had our id */
    if (status == CADRE_OK)
        status = base_mkdirs(directory, 0777);
    if (status == CADRE_OK)
        status = write_tensors(tensors, snapshot, locals, world, record);
    if (status == CADRE_OK)
        status = write_record(text, snapshot, record);
    if (status == CADRE_OK)
        status = base_fsync_dir(directory);
    free(text);
    free(tensors);
    return status;
}

/* Give the directory its name and make that last. When it fails neither name is left. */
static int publish(const char *temporary, const char *path, const char *parent)
{
    int status = base_rename(temporary, path);
    if (status != CADRE_OK)
        return status;
    int fault = BASE_FAULT("checkpoint_renamed");
    status = fault ? base_errno(fault > 0 ? fault : EIO, "rename %s to %s", temporary, path) : base_fsync_dir(parent);
    if (status != CADRE_OK && rename(path, temporary) != 0)
        base_remove_tree(path);
    return status;
}

static int write_beside(const char *path, const state_snapshot *snapshot, const void *locals, int world,
                        checkpoint_record *record)
{
    struct stat info;
    if (lstat(path, &info) == 0)
        return base_error(CADRE_EEXIST, "something of that name is there already");
    char *parent = parent_of(path);
    char *temporary = base_sprintf("%s.tmp-%ld", path, (long)getpid());
    int status = parent && temporary ? make_durable_directory(parent) : CADRE_ENOMEM;
    if (status == CADRE_OK) {
        status = fill(temporary, snapshot, locals, world, record);
        if (status == CADRE_OK)
            status = publish(temporary, path, parent);
        if (status != CADRE_OK) {
            char cause[BASE_ERROR_MAX];
            memcpy(cause, cadre_error_message(), strlen(cadre_error_message()) + 1);
            base_remove_tree(temporary);
            base_error(status, "%s", cause);
        }
    }
    free(temporary);
    free(parent);
    return status;
}

int checkpoint_write(const char *path, const state_snapshot *snapshot, const void *locals, int world,
                     const cadre_checkpoint_info *meta, cadre_checkpoint_info *out)
{
    if (!path || !*path || !snapshot || world < 1 || world > CHECKPOINT_WORLD_LIMIT)
        return base_error(CADRE_EINVAL, "a checkpoint needs a path, a snapshot and 1 to %d ranks",
                          CHECKPOINT_WORLD_LIMIT);
    checkpoint_record record = {.info = {.epoch = snapshot->epoch, .step = snapshot->step, .world = world * (snapshot->rows > 1 ? snapshot->rows : 1)}};
    if (meta) {
        record.info.report = meta->report;
        record.info.attempt = meta->attempt;
    }
    char *trimmed = base_strdup(path);
    if (!trimmed)
        return CADRE_ENOMEM;
    for (size_t length = strlen(trimmed); length > 1 && trimmed[length - 1] == '/'; length--)
        trimmed[length - 1] = '\0';
    int status = write_beside(trimmed, snapshot, locals, world, &record);
    free(trimmed);
    if (status == CADRE_ENOSPC)
        return base_error(status, "checkpoint %s: no space left: free some or lower checkpoint.keep", path);
    if (status != CADRE_OK)
        return base_wrap(status, "checkpoint %s", path);
    if (out)
        *out = record.info;
    return CADRE_OK;
}

static bool is_leftover(const char *name)
{
    const char *mark = strstr(name, ".tmp-");
    return mark && mark[5] && strspn(mark + 5, "0123456789") == strlen(mark + 5);
}

int checkpoint_sweep(const char *directory)
{
    DIR *open = opendir(directory);
    if (!open)
        return errno == ENOENT ? CADRE_OK : base_errno(errno, "read the directory %s", directory);
    int status = CADRE_OK;
    for (struct dirent *entry; status == CADRE_OK && (entry = readdir(open));) {
        if (!is_leftover(entry->d_name))
            continue;
        char *path = base_path_join(directory, entry->d_name);
        status = path ? base_remove_tree(path) : CADRE_ENOMEM;
        free(path);
    }
    closedir(open);
    return status;
}

int cadre_checkpoint_save(const char *path, cadre_state *state)
{
    if (!path || !state)
        return base_error(CADRE_EINVAL, "cadre_checkpoint_save: it needs a path and a state");
    state_snapshot *snapshot = NULL;
    void *locals = base_malloc(state_local_nbytes(state));
    int status = locals ? state_snapshot_take(state, &snapshot) : CADRE_ENOMEM;
    if (status == CADRE_OK)
        status = state_pack_local(state, locals);
    if (status == CADRE_OK)
        status = checkpoint_write(path, snapshot, locals, 1, NULL, NULL);
    else
        base_wrap(status, "checkpoint %s", path);
    state_snapshot_free(snapshot);
    free(locals);
    return status;
}
