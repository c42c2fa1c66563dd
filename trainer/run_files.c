#include "run_files.h"

#include "base/error.h"
#include "base/io.h"
#include "base/log.h"
#include "base/mem.h"
#include "message.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static bool recorded(const trainer_run *run, const tracking_checkpoint *list, int count, const char *name)
{
    char path[sizeof list->path];
    snprintf(path, sizeof path, "trial-%05lld/%s", (long long)run->trial_number, name);
    for (int i = 0; i < count; i++)
        if (strcmp(list[i].path, path) == 0)
            return true;
    return false;
}

bool run_files_own(const trainer_run *run, const tracking_checkpoint *checkpoint)
{
    char prefix[48];
    snprintf(prefix, sizeof prefix, "trial-%05lld/checkpoint-", (long long)run->trial_number);
    size_t length = strlen(prefix);
    return strncmp(checkpoint->path, prefix, length) == 0 && !strchr(checkpoint->path + length, '/'); /* nor out of it again: it may be removed */
}

int run_files_put_aside(const trainer_run *run, const tracking_checkpoint *checkpoint)
{
    const char *number = strrchr(checkpoint->path, '-');
    char *from = base_path_join(run->directory, checkpoint->path);
    char *to = base_sprintf("%s/damaged%s", run->trial_directory, number ? number : "");
    int status = from && to ? CADRE_OK : CADRE_ENOMEM;
    if (status == CADRE_OK && base_exists(from)) {
        status = base_remove_tree(to);
        if (status == CADRE_OK)
            status = base_rename(from, to);
    }
    free(from);
    free(to);
    return status;
}

int run_files_sweep(trainer_run *run)
{
    tracking_checkpoint *list = NULL;
    int count = 0;
    int status = run->trial ? tracking_checkpoints(run->store, run->trial, &list, &count) : CADRE_OK; /* not made yet: nothing is recorded */
    DIR *directory = status == CADRE_OK ? opendir(run->trial_directory) : NULL;
    if (status == CADRE_OK && !directory)
        status = base_errno(errno, "read the directory %s", run->trial_directory);
    for (struct dirent *entry; status == CADRE_OK && (entry = readdir(directory));) {
        if (strncmp(entry->d_name, "checkpoint-", 11) != 0 || recorded(run, list, count, entry->d_name))
            continue;
        char *path = base_path_join(run->trial_directory, entry->d_name);
        status = path ? base_remove_tree(path) : CADRE_ENOMEM;
        free(path);
    }
    if (directory)
        closedir(directory);
    free(list);
    return status;
}

static char *result_path(const trainer_run *run) { return base_path_join(run->trial_directory, "result.json"); }

int run_files_roll_back(trainer_run *run, int64_t report)
{
    run_files_close_result(run);
    char *path = result_path(run);
    base_buffer lines = {0};
    int status = path ? CADRE_OK : CADRE_ENOMEM;
    if (status != CADRE_OK || !base_exists(path)) {
        free(path);
        return status;
    }
    status = base_read_file(path, SIZE_MAX / 4, &lines);
    size_t keep = 0;
    while (status == CADRE_OK && keep < lines.length) {
        const char *line = (const char *)lines.data + keep;
        const char *end = memchr(line, '\n', lines.length - keep);
        json_t *row = end ? json_loadb(line, (size_t)(end - line), 0, NULL) : NULL;
        bool stays = row && message_int(row, "report", INT64_MAX) <= report;
        json_decref(row);
        if (!stays)
            break; /* reports only grow, and a torn line is the last */
        keep = (size_t)(end + 1 - (const char *)lines.data);
    }
    if (status == CADRE_OK && keep < lines.length && truncate(path, (off_t)keep) != 0)
        status = base_errno(errno, "shorten %s", path);
    base_buffer_free(&lines);
    free(path);
    return status;
}

/* Opened once an attempt: some programs report as fast as they can. */
static int open_result(trainer_run *run)
{
    if (run->result_open)
        return CADRE_OK;
    char *path = result_path(run);
    int status = path ? base_open(path, O_WRONLY | O_CREAT | O_APPEND, 0600, &run->result_fd) : base_error(CADRE_ENOMEM, "out of memory for a report");
    free(path);
    if (status != CADRE_OK)
        return status;
    run->result_open = true;
    run->result_nbytes = lseek(run->result_fd, 0, SEEK_END);
    return CADRE_OK;
}

void run_files_close_result(trainer_run *run)
{
    if (run->result_open)
        base_close(run->result_fd);
    run->result_open = false;
}

int run_files_append_result(trainer_run *run, int64_t report, int64_t step, const cadre_metric *metrics, int count)
{
    json_t *row = json_pack("{s:I, s:I, s:i}", "report", (json_int_t)report, "step", (json_int_t)step, "attempt", run->attempt);
    json_t *values = json_object(); /* of their own: a metric may be called "step" */
    for (int i = 0; values && i < count; i++)
        json_object_set_new(values, metrics[i].name, message_double(metrics[i].value));
    if (row)
        json_object_set(row, "metrics", values);
    json_decref(values);
    char *text = row ? json_dumps(row, JSON_COMPACT) : NULL;
    char *line = text ? base_sprintf("%s\n", text) : NULL;
    int status = line ? open_result(run) : base_error(CADRE_ENOMEM, "out of memory for a report");
    if (status == CADRE_OK) {
        size_t nbytes = strlen(line);
        status = base_write_all(run->result_fd, line, nbytes, "result.json");
        if (status == CADRE_OK)
            run->result_nbytes += (int64_t)nbytes;
        else if (ftruncate(run->result_fd, run->result_nbytes) != 0)
            base_log(CADRE_LOG_WARN, "trainer", "%s/result.json ends with a torn line", run->trial_directory);
    }
    free(line);
    free(text);
    json_decref(row);
    return status == CADRE_OK ? status : base_wrap(status, "record a report in %s", run->trial_directory);
}

/* Is `a` worth more than `b`? By score where one is asked for (none and NaN last), else the newer. */
static bool better(const trainer_run *run, const tracking_checkpoint *a, const tracking_checkpoint *b)
{
    const cadre_checkpoint_config *config = &run->trainer->checkpoint;
    if (config->score_metric) {
        bool a_counts = a->has_score && !isnan(a->score), b_counts = b->has_score && !isnan(b->score);
        if (a_counts != b_counts)
            return a_counts;
        if (a_counts && a->score != b->score)
            return config->score_mode == CADRE_MIN ? a->score < b->score : a->score > b->score;
    }
    return a->id > b->id;
}

/* Pinned by the user: a file of that name lies in it. */
static bool pinned(const trainer_run *run, const tracking_checkpoint *checkpoint)
{
    char *path = base_sprintf("%s/%s/pinned", run->directory, checkpoint->path);
    bool there = path && base_exists(path);
    free(path);
    return there;
}

/* Kept are the newest, what is pinned and, as far as `keep` goes, the best. */
static bool kept(const trainer_run *run, const tracking_checkpoint *list, int count, int index)
{
    int keep = run->trainer->checkpoint.keep;
    if (keep <= 0 || index == count - 1 || pinned(run, &list[index]))
        return true;
    int ahead = 1; /* the newest has its place */
    for (int i = 0; i < count - 1; i++)
        ahead += i != index && better(run, &list[i], &list[index]);
    return ahead < keep;
}

int run_files_prune(trainer_run *run)
{
    tracking_checkpoint *list = NULL;
    int count = 0;
    int status = tracking_checkpoints(run->store, run->trial, &list, &count);
    int dropped = 0;
    for (int i = 0; status == CADRE_OK && i < count; i++)
        if (!kept(run, list, count, i)) {
            status = tracking_checkpoint_remove(run->store, list[i].id);
            dropped++;
        }
    if (status == CADRE_OK && dropped)
        status = tracking_commit(run->store, true);
    for (int i = 0; status == CADRE_OK && dropped && i < count; i++) {
        if (kept(run, list, count, i))
            continue;
        if (!run_files_own(run, &list[i]))
            continue;
        char *path = base_path_join(run->directory, list[i].path);
        if (!path || base_remove_tree(path) != CADRE_OK) /* the sweep of the next attempt tries again */
            base_log(CADRE_LOG_WARN, "trainer", "%s", cadre_error_message());
        free(path);
    }
    free(list);
    return status;
}

/* The oldest that can be spared: not the newest, not the best by its score, not pinned, not another trial's. -1: none. */
static int find_spare(const trainer_run *run, const tracking_checkpoint *list, int count)
{
    int best = count - 1;
    for (int i = 0; i < count; i++)
        best = better(run, &list[i], &list[best]) ? i : best;
    for (int i = 0; i < count - 1; i++)
        if (i != best && run_files_own(run, &list[i]) && !pinned(run, &list[i]))
            return i;
    return -1;
}

int run_files_free_space(trainer_run *run, bool *freed)
{
    tracking_checkpoint *list = NULL;
    int count = 0;
    *freed = false;
    int status = tracking_checkpoints(run->store, run->trial, &list, &count);
    int spare = status == CADRE_OK ? find_spare(run, list, count) : -1;
    if (spare >= 0) { /* the files first: the record needs room on the disk, too, and one without files is passed over */
        char *path = base_path_join(run->directory, list[spare].path);
        status = path ? base_remove_tree(path) : CADRE_ENOMEM;
        free(path);
        if (status == CADRE_OK)
            status = tracking_checkpoint_remove(run->store, list[spare].id);
        if (status == CADRE_OK)
            status = tracking_commit(run->store, true);
        *freed = status == CADRE_OK;
        base_log(CADRE_LOG_WARN, "trainer", "no space left: %s, the oldest that can be spared, is removed", list[spare].path);
        progress_say(&run->progress, "no space left: %s, the oldest that can be spared, is removed", list[spare].path);
    }
    free(list);
    return status;
}

int run_files_result_checkpoints(trainer_run *run)
{
    tracking_checkpoint *list = NULL;
    int count = 0;
    int status = tracking_checkpoints(run->store, run->trial ? run->trial : run->parent, &list, &count);
    if (status == CADRE_OK && count > 0) {
        int best = 0;
        for (int i = 1; i < count; i++)
            if (better(run, &list[i], &list[best]))
                best = i;
        snprintf(run->result.best_checkpoint, sizeof run->result.best_checkpoint, "%s/%s", run->result.path, list[best].path);
        snprintf(run->result.last_checkpoint, sizeof run->result.last_checkpoint, "%s/%s", run->result.path, list[count - 1].path);
    }
    free(list);
    return status;
}
