#include "saver.h"

#include "base/clock.h"
#include "base/error.h"
#include "base/mem.h"
#include "cadre/timeline.h"
#include "trainer/state/checkpoint.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>

static void write_now(saver *saver)
{
    double begun = base_now();
    int64_t moment = cadre_timeline_begin();
    saver->status = checkpoint_write(saver->path, saver->snapshot, saver->locals, saver->meta.world, &saver->meta, &saver->info);
    if (saver->status != CADRE_OK)
        snprintf(saver->message, sizeof saver->message, "%s", cadre_error_message());
    saver->write_s += base_now() - begun;
    cadre_timeline_end_beside(moment, "checkpoint", saver->name);
}

static void let_go(saver *saver)
{
    free(saver->locals);
    free(saver->path);
    saver->locals = saver->path = NULL;
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

int saver_save(saver *saver, cadre_state *state, void *locals, const char *directory, int64_t number, const cadre_checkpoint_info *info, bool behind)
{
    double begun = base_now();
    int64_t moment = cadre_timeline_begin();
    saver->stall_s = saver->write_s = 0;
    let_go(saver);
    snprintf(saver->name, sizeof saver->name, "checkpoint-%06lld", (long long)number);
    saver->path = base_sprintf("%s/%s", directory, saver->name);
    saver->locals = locals;
    saver->meta = *info;
    int status = saver->path ? state_snapshot_take(state, &saver->snapshot) : CADRE_ENOMEM;
    if (status != CADRE_OK)
        return status;
    if (!behind || start(saver) != 0) /* without a thread it takes its time, and is saved all the same */
        write_now(saver);
    saver->behind = behind;
    saver->stall_s += base_now() - begun;
    cadre_timeline_end(moment, "checkpoint", "checkpoint");
    return behind || saver->status == CADRE_OK ? CADRE_OK : base_error(saver->status, "%s", saver->message);
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
    return saver->status == CADRE_OK ? CADRE_OK : base_error(saver->status, "%s", saver->message);
}

int saver_again(saver *saver)
{
    double begun = base_now();
    write_now(saver);
    saver->stall_s += base_now() - begun;
    return saver->status == CADRE_OK ? CADRE_OK : base_error(saver->status, "%s", saver->message);
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
