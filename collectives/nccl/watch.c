/*
 * The thread that watches a communicator's works. The host goes on when an operation is issued, so nobody else looks at
 * what comes of it while the program computes, or sleeps in CUDA until it is done: the deadline, a peer that died, an
 * error that NCCL met in the background. What it finds aborts NCCL, and the next call on the communicator returns it.
 */
#include "nccl.h"

#include "base/error.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <time.h>

enum { WATCH_NS = 20000000 };

/* Until there is something to look at, or time to look at it again. */
static void rest(nccl *n, bool left)
{
    struct timespec until;
    n->idle = !left;
    if (left) {
        clock_gettime(CLOCK_MONOTONIC, &until);
        until.tv_nsec += WATCH_NS;
        until.tv_sec += until.tv_nsec / 1000000000;
        until.tv_nsec %= 1000000000;
        pthread_cond_timedwait(&n->wake, &n->lock, &until);
    } else {
        pthread_cond_wait(&n->wake, &n->lock);
    }
    n->idle = false;
}

static void *watch(void *user)
{
    nccl *n = user;
    bool left = true; /* of what was called before this thread ran */
    n->lib->cuda.set_device(n->device);
    pthread_mutex_lock(&n->lock);
    while (!n->leaving) {
        rest(n, left);
        if (!n->leaving && collectives_nccl_check(n, &left) != CADRE_OK)
            left = false; /* nothing more to look for */
    }
    pthread_mutex_unlock(&n->lock);
    return NULL;
}

void collectives_nccl_wake(nccl *n)
{
    if (n->idle)
        pthread_cond_signal(&n->wake);
    n->idle = false;
}

int collectives_nccl_watch(nccl *n)
{
    pthread_condattr_t attributes;
    sigset_t all, before;
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&n->wake, &attributes);
    pthread_condattr_destroy(&attributes);
    sigfillset(&all); /* the program's signals are for its own threads */
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int error = pthread_create(&n->watcher, NULL, watch, n);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (error)
        return base_errno(error, "start the thread that watches the GPU's operations");
    n->watched = true;
    return CADRE_OK;
}

void collectives_nccl_unwatch(nccl *n)
{
    if (!n->watched)
        return;
    pthread_mutex_lock(&n->lock);
    n->leaving = true;
    pthread_cond_signal(&n->wake);
    pthread_mutex_unlock(&n->lock);
    pthread_join(n->watcher, NULL);
    pthread_cond_destroy(&n->wake);
    n->watched = false;
}
