/*
 * Waiting for each other. One barrier, used over and over, numbered by epochs e = 1, 2, ...; every rank passes all of
 * them.
 *
 *   arrive:  n = ++count                          (atomic)
 *            if n = e * world: generation = e; if sleepers > 0: wake all
 *            arrived[rank] = e
 *   await:   while generation = e - 1: spin for a while, then
 *                ++sleepers; while generation = e - 1: sleep on generation while it is e - 1; --sleepers
 *
 * Why it holds (and tests/collectives/test_barrier_model.c tries every order of these steps). Nobody can arrive at e +
 * 1 before generation = e, so count reaches e * world exactly when all have arrived at e, and generation is e - 1 or e
 * for as long as anyone waits in e. No wake-up is lost: generation is written before sleepers is read, sleepers is
 * written before generation is read, all sequentially consistent, so either the writer sees the sleeper or the sleeper
 * sees the new generation; and the kernel compares the word once more under its own lock before it sleeps. What a rank
 * wrote before it arrived is seen by all who leave: count is a chain of acquire-release additions that ends in the
 * store to generation. A rank that is killed leaves at worst a sleeper too many (a wake-up for nobody), and since
 * arrived is written last, a dead rank whose arrived is e has done all of its part in e; one whose arrived is e - 1 is
 * to blame.
 *
 * Sleep never lasts longer than SHM_LOOK_NS, then the alarm, the deadline and the peers are looked at; so neither an
 * abort from a signal handler nor a death needs a wake-up.
 */
#include "base/clock.h"
#include "base/error.h"
#include "base/log.h"
#include "shm.h"

#include <errno.h>
#include <linux/futex.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

enum { SPIN_NS = 50000 };

static void relax(void)
{
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

static void futex_sleep(_Atomic uint32_t *word, uint32_t seen, int64_t ns)
{
    struct timespec time = {.tv_sec = ns / 1000000000, .tv_nsec = ns % 1000000000};
    syscall(SYS_futex, word, FUTEX_WAIT, seen, &time, NULL, 0); /* not PRIVATE: other processes wait on it */
}

static void futex_wake(_Atomic uint32_t *word) { syscall(SYS_futex, word, FUTEX_WAKE, INT32_MAX, NULL, NULL, 0); }

int collectives_shm_meet(shm *s)
{
    for (int r = 0; r < s->world; r++) {
        if (s->peers[r].pid == getpid())
            continue;
#if defined(SYS_pidfd_open)
        s->peers[r].pidfd = (int)syscall(SYS_pidfd_open, s->peers[r].pid, 0);
        if (s->peers[r].pidfd < 0 && errno == ESRCH)
            return base_error(CADRE_EPEER, "rank %d (pid %d) is dead", collectives_shm_name(s, r),
                              (int)s->peers[r].pid);
        if (s->peers[r].pidfd < 0 && errno != ENOSYS && errno != EPERM)
            return base_errno(errno, "watch rank %d (pid %d)", collectives_shm_name(s, r), (int)s->peers[r].pid);
#endif
    }
    return CADRE_OK;
}

/* Where there are no pidfds. A zombie is as dead as one that is gone. */
static bool dead_by_proc(pid_t pid)
{
    char path[64], text[512];
    snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
    FILE *file = fopen(path, "re");
    if (!file)
        return errno == ENOENT;
    size_t got = fread(text, 1, sizeof text - 1, file);
    fclose(file);
    text[got] = '\0';
    const char *state = strrchr(text, ')');
    return !state || (state[1] == ' ' && (state[2] == 'Z' || state[2] == 'X'));
}

/* The first rank that is dead and has not arrived; -1: none. Death is looked for first: what a dead rank has written is
 * final. */
static int find_dead(shm *s)
{
    struct pollfd fds[SHM_RANKS_MAX];
    for (int r = 0; r < s->world; r++)
        fds[r] = (struct pollfd){.fd = s->peers[r].pidfd, .events = POLLIN};
    if (poll(fds, (nfds_t)s->world, 0) < 0)
        memset(fds, 0, sizeof fds);
    for (int r = 0; r < s->world; r++) {
        bool own = s->peers[r].pid == getpid();
        bool dead = s->peers[r].pidfd >= 0 ? fds[r].revents != 0 : !own && dead_by_proc(s->peers[r].pid);
        if (dead && atomic_load(&s->control->seats[r].arrived) != (uint32_t)s->epoch)
            return r;
    }
    return -1;
}

/* "rank 1 (pid 77), rank 3 (pid 79); there: ranks 0, 2" */
static void name_missing(shm *s, char *text, size_t nbytes)
{
    bool there[SHM_RANKS_MAX] = {false};
    char present[128];
    size_t used = 0;
    int left = 0;
    text[0] = '\0';
    for (int r = 0; r < s->world; r++) {
        there[r] = atomic_load(&s->control->seats[r].arrived) == (uint32_t)s->epoch;
        if (there[r])
            continue;
        if (used + 40 + sizeof present > nbytes) {
            left++;
            continue;
        }
        used += (size_t)snprintf(text + used, nbytes - used, "%srank %d (pid %d)", used ? ", " : "",
                                 collectives_shm_name(s, r), (int)s->peers[r].pid);
    }
    if (left)
        used += (size_t)snprintf(text + used, nbytes - used, ", %d more", left);
    collectives_name_ranks(there, s->world, s->ranks, present, sizeof present);
    if (used < nbytes)
        snprintf(text + used, nbytes - used, "; there: %s", present);
}

void collectives_shm_elsewhere(shm *s) { atomic_store(&s->control->seats[s->rank].elsewhere_ns, base_now_ns()); }

/* Is everyone who is missing waiting elsewhere? */
static bool excused(shm *s, const collectives_op *op, int64_t now)
{
    if (now >= op->deadline_ns + SHM_PATIENCE_S * (int64_t)1000000000)
        return false;
    for (int r = 0; r < s->world; r++) {
        const struct shm_seat *seat = &s->control->seats[r];
        if (atomic_load(&seat->arrived) != (uint32_t)s->epoch && now - atomic_load(&seat->elsewhere_ns) > SHM_FRESH_NS)
            return false;
    }
    return true;
}

int collectives_shm_alarmed(shm *s, const collectives_op *op)
{
    struct shm_control *control = s->control;
    uint32_t alarm = atomic_load(&control->alarm);
    if (alarm == ALARM_NONE)
        return CADRE_OK;
    char what[COLLECTIVES_TEXT];
    collectives_describe(op, what);
    if (alarm == ALARM_CANCELLED)
        return base_error(CADRE_ECANCELED, "%s: cancelled by cadre_comm_abort on rank %d", what,
                          collectives_shm_name(s, (int)atomic_load(&control->canceller)));
    for (int tries = 0; tries < 100 && !atomic_load(&control->recorded); tries++)
        base_sleep_ns(100000); /* its writer is between two stores, or was killed there */
    if (!atomic_load(&control->recorded))
        return base_error(CADRE_EPEER, "%s: another rank failed and could not say why", what);
    return base_error(control->status, "%s: rank %d failed first: %s", what, collectives_shm_name(s, control->rank),
                      control->text);
}

static void raise_alarm(shm *s, uint32_t alarm)
{
    uint32_t none = ALARM_NONE;
    atomic_compare_exchange_strong(&s->control->alarm, &none, alarm);
    futex_wake(&s->control->generation);
}

void collectives_shm_cancel(shm *s)
{
    int32_t nobody = -1;
    atomic_compare_exchange_strong(&s->control->canceller, &nobody, s->rank);
    raise_alarm(s, ALARM_CANCELLED);
}

int collectives_shm_fail(shm *s, const collectives_op *op, int status, const char *text)
{
    struct shm_control *control = s->control;
    char what[COLLECTIVES_TEXT];
    collectives_describe(op, what);
    uint32_t unclaimed = 0;
    if (atomic_compare_exchange_strong(&control->claimed, &unclaimed, 1)) {
        control->status = status;
        control->rank = s->rank;
        snprintf(control->text, sizeof control->text, "%s: %s", what, text);
        atomic_store(&control->recorded, 1);
        raise_alarm(s, ALARM_FAILED);
        return base_error(status, "%s: %s", what, text);
    }
    raise_alarm(s, ALARM_FAILED);
    return collectives_shm_alarmed(s, op);
}

void collectives_shm_arrive(shm *s)
{
    struct shm_control *control = s->control;
    uint64_t epoch = ++s->epoch;
    if (atomic_fetch_add(&control->count, 1) + 1 == epoch * (uint64_t)s->world) {
        atomic_store(&control->generation, (uint32_t)epoch);
        if (atomic_load(&control->sleepers) > 0)
            futex_wake(&control->generation);
    }
    atomic_store_explicit(&control->seats[s->rank].arrived, (uint32_t)epoch, memory_order_release);
}

static bool complete(shm *s) { return atomic_load(&s->control->generation) != (uint32_t)s->epoch - 1; }

/* Everything but the barrier itself: alarm, deadline, the dead, the warning. */
static int look_around(shm *s, collectives_op *op, int64_t now, bool for_the_dead)
{
    char missing[512], text[640];
    int status = collectives_shm_alarmed(s, op);
    if (status)
        return status;
    int dead = for_the_dead ? find_dead(s) : -1;
    if (dead >= 0 && !complete(s)) {
        snprintf(text, sizeof text, "rank %d (pid %d) died", collectives_shm_name(s, dead), (int)s->peers[dead].pid);
        return collectives_shm_fail(s, op, CADRE_EPEER, text);
    }
    double waited = (double)(now - op->started_ns) / 1e9;
    if (now >= op->deadline_ns && !complete(s) && !excused(s, op, now)) {
        name_missing(s, missing, sizeof missing);
        snprintf(text, sizeof text, "deadline passed: after %.1f s still waiting for %s", waited, missing);
        return collectives_shm_fail(s, op, CADRE_ETIMEDOUT, text);
    }
    if (now >= op->stall_ns && !complete(s)) {
        char what[COLLECTIVES_TEXT];
        op->stall_ns = INT64_MAX;
        collectives_describe(op, what);
        name_missing(s, missing, sizeof missing);
        base_log(CADRE_LOG_WARN, "collectives", "%s: after %.1f s still waiting for %s", what, waited, missing);
    }
    return CADRE_OK;
}

static int sleep_until_complete(shm *s, collectives_op *op)
{
    struct shm_control *control = s->control;
    int64_t next_look = base_now_ns() + SHM_LOOK_NS;
    while (!complete(s)) {
        int64_t now = base_now_ns();
        bool look = now >= next_look;
        if (look)
            next_look = now + SHM_LOOK_NS;
        int status = look_around(s, op, now, look);
        if (status)
            return status;
        int64_t until = now < op->deadline_ns && op->deadline_ns < next_look ? op->deadline_ns : next_look;
        if (until > now)
            futex_sleep(&control->generation, (uint32_t)s->epoch - 1, until - now);
    }
    return CADRE_OK;
}

static bool spin_until_complete(shm *s, int64_t until)
{
    do {
        for (int i = 0; i < 64; i++) {
            if (complete(s))
                return true;
            relax();
        }
    } while (base_now_ns() < until);
    return false;
}

int collectives_shm_await(shm *s, collectives_op *op, int64_t *waited_ns)
{
    int status = CADRE_OK;
    if (complete(s))
        return CADRE_OK;
    int64_t begun = base_now_ns();
    if (!s->spin || !spin_until_complete(s, begun + SPIN_NS)) {
        atomic_fetch_add(&s->control->sleepers, 1);
        status = sleep_until_complete(s, op);
        atomic_fetch_sub(&s->control->sleepers, 1);
    }
    *waited_ns += base_now_ns() - begun;
    return status;
}

int collectives_shm_poll(shm *s, collectives_op *op, bool *done)
{
    *done = complete(s);
    if (*done)
        return CADRE_OK;
    int64_t now = base_now_ns();
    return look_around(s, op, now, now - op->started_ns > SHM_LOOK_NS);
}
