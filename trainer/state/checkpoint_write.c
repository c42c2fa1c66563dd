/* Writing: everything goes into a directory of a temporary name, is synced, and gets its final name in one step. */
#include "checkpoint.h"

#include "base/error.h"
#include "base/fault.h"
#include "base/io.h"
#include "base/mem.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

int checkpoint_text_write(const char *path, const base_buffer *text)
{
    int fd = -1;
    int status = base_open(path, O_WRONLY | O_CREAT | O_EXCL, 0666, &fd);
    if (status == CADRE_OK)
        status = base_write_all(fd, text->data, text->length, path);
    if (status == CADRE_OK)
        status = base_fsync(fd, path);
    base_close(fd);
    return status;
}

int checkpoint_record_write(const char *path, const state_snapshot *snapshot, checkpoint_record *record)
{
    base_buffer text = {0};
    record->info.nbytes = (int64_t)record->index.nbytes;
    for (int i = 0; i < (record->shards ? record->shards : 1); i++)
        record->info.nbytes += (int64_t)record->files[i].nbytes;
    int status = checkpoint_record_render(record, snapshot, &text);
    if (status == CADRE_OK)
        status = checkpoint_text_write(path, &text);
    base_buffer_free(&text);
    return status;
}

char *checkpoint_parent(const char *path)
{
    const char *slash = strrchr(path, '/');
    if (!slash)
        return base_strdup(".");
    while (slash > path && slash[-1] == '/')
        slash--;
    return base_sprintf("%.*s", slash == path ? 1 : (int)(slash - path), path);
}

/* A checkpoint is not durable in a directory that is not. */
int checkpoint_make_durable(const char *path)
{
    if (base_exists(path))
        return CADRE_OK;
    char *parent = checkpoint_parent(path);
    if (!parent)
        return CADRE_ENOMEM;
    int status = checkpoint_make_durable(parent);
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
        status = checkpoint_tensors_write(tensors, snapshot, locals, world, record->files);
    if (status == CADRE_OK)
        status = checkpoint_record_write(text, snapshot, record);
    if (status == CADRE_OK)
        status = base_fsync_dir(directory);
    free(text);
    free(tensors);
    return status;
}

int checkpoint_publish(const char *temporary, const char *path, const char *parent)
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
    char *parent = checkpoint_parent(path);
    char *temporary = base_sprintf("%s.tmp-%ld", path, (long)getpid());
    int status = parent && temporary ? checkpoint_make_durable(parent) : CADRE_ENOMEM;
    if (status == CADRE_OK) {
        status = fill(temporary, snapshot, locals, world, record);
        if (status == CADRE_OK)
            status = checkpoint_publish(temporary, path, parent);
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

int checkpoint_failed(int status, const char *path)
{
    if (status == CADRE_ENOSPC)
        return base_error(status, "checkpoint %s: no space left: free some or lower checkpoint.keep", path);
    return base_wrap(status, "checkpoint %s", path);
}

int checkpoint_write(const char *path, const state_snapshot *snapshot, const void *locals, int world,
                     const cadre_checkpoint_info *meta, cadre_checkpoint_info *out)
{
    if (!path || !*path || !snapshot || snapshot->shards || world < 1 || world > CHECKPOINT_WORLD_LIMIT)
        return base_error(CADRE_EINVAL, "a checkpoint needs a path, a snapshot and 1 to %d ranks",
                          CHECKPOINT_WORLD_LIMIT);
    checkpoint_file file = {0};
    checkpoint_record record = {.files = &file, .info = {.epoch = snapshot->epoch, .step = snapshot->step, .world = world * snapshot->rows}};
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
    if (status != CADRE_OK)
        return checkpoint_failed(status, path);
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
