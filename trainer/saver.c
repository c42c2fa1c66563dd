#include "saver.h"

#include "base/clock.h"
#include "base/error.h"
#include "base/log.h"
#include "base/mem.h"
#include "cadre/timeline.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>

static int write_whole(saver *saver)
{
    return checkpoint_write(saver->path, saver->snapshot, saver->locals, saver->meta.world, &saver->meta, &saver->info);
}

static int write_share(saver *saver)
{
    return checkpoint_shard_write(saver->path, saver->meta.attempt, saver->snapshot, saver->locals, &saver->file);
}

static int commit_shares(saver *saver)
{
    return checkpoint_shards_commit(saver->path, saver->snapshot, saver->files, &saver->meta, &saver->info);
}

static void write_now(saver *saver)
{
    double begun = base_now();
    int64_t moment = cadre_timeline_begin();
    saver->status = saver->work(saver);
    if (saver->status != CADRE_OK)
        snprintf(saver->message, sizeof saver->message, "%s", cadre_error_message());
    saver->write_s += base_now() - begun;
    cadre_timeline_end_beside(moment, "checkpoint", saver->name);
}

static void let_go(saver *saver)
{
    free(saver->locals);
    free(saver->path);
    free(saver->files);
    saver->locals = saver->path = NULL;
    saver->files = NULL;
}

static void *write_behind(void *user)
{
    saver *saver = user;
    write_now(saver);
    atomic_store(&saver->done, true);
    return NULL;
}

/* Signals are for the thread that trains, but for those that a thread brings upon itself. */
static int start(saver *saver)
{
    static const int own[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT};
    sigset_t all, before;
    sigfillset(&all);
    for (size_t i = 0; i < sizeof own / sizeof *own; i++)
        sigdelset(&all, own[i]);
    atomic_store(&saver->done, false);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int failed = pthread_create(&saver->thread, NULL, write_behind, saver);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    saver->running = failed == 0;
    return failed;
}

static int outcome(const saver *saver) { return saver->status == CADRE_OK ? CADRE_OK : base_error(saver->status, "%s", saver->message); }

/* Write, and if behind answer before it is done. */
static int work(saver *saver, int (*what)(struct saver *saver), bool behind)
{
    saver->work = what;
    saver->behind = behind;
    if (behind && start(saver) == 0)
        return CADRE_OK;
    write_now(saver); /* without a thread it takes its time, and is saved all the same */
    return behind ? CADRE_OK : outcome(saver);
}

void saver_fail(saver *saver, int status)
{
    saver->taken = false;
    saver->status = status;
    snprintf(saver->message, sizeof saver->message, "%s", cadre_error_message());
}

int saver_save(saver *saver, cadre_state *state, void *locals, const saver_order *order)
{
    double begun = base_now();
    int64_t moment = cadre_timeline_begin();
    saver->stall_s = saver->write_s = 0;
    let_go(saver);
    snprintf(saver->name, sizeof saver->name, "checkpoint-%06lld", (long long)order->number);
    saver->path = base_sprintf("%s/%s", order->directory, saver->name);
    saver->locals = locals;
    saver->meta = order->info;
    int status = saver->path ? CADRE_OK : CADRE_ENOMEM;
    if (status == CADRE_OK && order->shards)
        status = state_snapshot_take_share(state, order->rank, order->shards, &saver->snapshot);
    else if (status == CADRE_OK)
        status = state_snapshot_take(state, &saver->snapshot);
    saver->taken = status == CADRE_OK;
    if (saver->taken)
        status = work(saver, order->shards ? write_share : write_whole, order->behind);
    saver->stall_s += base_now() - begun;
    cadre_timeline_end(moment, "checkpoint", "checkpoint");
    if (!saver->taken)
        saver_fail(saver, status);
    return status;
}

int saver_commit(saver *saver, checkpoint_file *files, bool behind)
{
    double begun = base_now();
    free(saver->files);
    saver->files = files;
    int status = work(saver, commit_shares, behind);
    saver->stall_s += base_now() - begun;
    return status;
}

void saver_drop(const saver *saver)
{
    char words[BASE_ERROR_MAX];
    snprintf(words, sizeof words, "%s", cadre_error_message());
    if (saver->path && checkpoint_shards_drop(saver->path, saver->meta.attempt) != CADRE_OK)
        base_log(CADRE_LOG_WARN, "trainer", "%s", cadre_error_message()); /* the sweep of the next attempt tries again */
    base_error(CADRE_OK, "%s", words);
}

int saver_finish(saver *saver, bool wait, bool *finished)
{
    *finished = false;
    if (!saver->behind || (saver->running && !wait && !atomic_load(&saver->done)))
        return CADRE_OK;
    double begun = base_now();
    if (saver->running)
        pthread_join(saver->thread, NULL);
    saver->running = saver->behind = false;
    saver->stall_s += base_now() - begun;
    *finished = true;
    return outcome(saver);
}

int saver_again(saver *saver)
{
    if (!saver->taken)
        return outcome(saver);
    double begun = base_now();
    write_now(saver);
    saver->stall_s += base_now() - begun;
    return outcome(saver);
}

void saver_close(saver *saver)
{
    if (saver->running)
        pthread_join(saver->thread, NULL);
    saver->running = false;
    let_go(saver);
    state_snapshot_free(saver->snapshot);
    saver->snapshot = NULL;
}
