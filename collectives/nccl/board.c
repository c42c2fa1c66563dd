/*
 * How the ranks of one host see each other while their GPUs work: a page that all have mapped, with how many operations
 * each has called, and the first error in words. NCCL itself says neither who is missing nor that a rank of the host
 * has died. Over several hosts there is no such page, and a rank knows of itself alone.
 */
#include "nccl.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "collectives/shm/shm.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { LOOK_NS = 20000000 };

static size_t board_bytes(int world) { return sizeof(struct nccl_board) + (size_t)world * sizeof(struct nccl_seat); }

static int share(nccl *n, const collectives_place *place)
{
    int world = n->world;
    shm_card *cards = base_calloc((size_t)world, sizeof *cards);
    void **base = base_calloc((size_t)world, sizeof *base);
    int status = collectives_agree(place->oob, place->timeout_s, cards && base ? CADRE_OK : CADRE_ENOMEM, "board");
    if (!status)
        status = collectives_shm_share(place->oob, place->ranks, place->timeout_s,
                                       n->rank == 0 ? board_bytes(world) : 0, cards, base);
    if (!status) {
        n->board = base[0];
        n->board_shared = true;
    }
    free(cards);
    free(base);
    return status;
}

int collectives_nccl_board_new(nccl *n, const collectives_place *place, bool one_host)
{
    n->pidfds = base_malloc((size_t)n->world * sizeof *n->pidfds);
    for (int r = 0; n->pidfds && r < n->world; r++)
        n->pidfds[r] = -1;
    if (!one_host && n->pidfds)
        n->board = base_calloc(1, board_bytes(n->world));
    int status = n->pidfds && (one_host || n->board) ? CADRE_OK : CADRE_ENOMEM;
    status = collectives_agree(place->oob, place->timeout_s, status, "board");
    if (!status && one_host)
        status = share(n, place);
    if (status)
        return status;
    atomic_store(&n->board->seats[n->rank].pid, (int32_t)getpid());
    if (n->rank == 0 || !one_host)
        atomic_store(&n->board->canceller, -1);
    status = collectives_agree(place->oob, place->timeout_s, CADRE_OK, "board"); /* all pids are there */
#if defined(SYS_pidfd_open)
    for (int r = 0; !status && one_host && r < n->world; r++) {
        pid_t pid = atomic_load(&n->board->seats[r].pid);
        if (pid != getpid())
            n->pidfds[r] = (int)syscall(SYS_pidfd_open, pid, 0); /* without, the deadline has to find it */
    }
#endif
    return status;
}

void collectives_nccl_board_free(nccl *n)
{
    if (n->board)
        atomic_store(&n->board->seats[n->rank].left, 1);
    for (int r = 0; n->pidfds && r < n->world; r++)
        if (n->pidfds[r] >= 0)
            close(n->pidfds[r]);
    free(n->pidfds);
    if (n->board_shared)
        collectives_shm_unmap(n->board);
    else
        free(n->board);
}

void collectives_nccl_enter(nccl *n) { atomic_store(&n->board->seats[n->rank].entered, ++n->entered); }

static void raise_alarm(nccl *n, uint32_t alarm)
{
    uint32_t none = NCCL_ALARM_NONE;
    atomic_compare_exchange_strong(&n->board->alarm, &none, alarm);
}

void collectives_nccl_cancel(nccl *n)
{
    int32_t nobody = -1;
    atomic_compare_exchange_strong(&n->board->canceller, &nobody, n->rank);
    raise_alarm(n, NCCL_ALARM_CANCELLED);
    if (n->host->backend->abort)
        n->host->backend->abort(n->host->self);
}

int collectives_nccl_alarmed(nccl *n, const char *what)
{
    struct nccl_board *board = n->board;
    uint32_t alarm = atomic_load(&board->alarm);
    if (alarm == NCCL_ALARM_NONE)
        return CADRE_OK;
    /* All ranks of a host have to, or NCCL waits in the kernels of those who have not. */
    collectives_nccl_end(n, false);
    if (n->broken) /* the watching thread has found it, and this is the first call since */
        return base_error(n->broken, "%s", n->broken_text);
    if (alarm == NCCL_ALARM_CANCELLED)
        return base_error(CADRE_ECANCELED, "%s: cancelled by cadre_comm_abort on rank %d", what,
                          (int)atomic_load(&board->canceller));
    for (int tries = 0; tries < 100 && !atomic_load(&board->recorded); tries++)
        base_sleep_ns(100000); /* its writer is between two stores, or was killed there */
    if (!atomic_load(&board->recorded))
        return base_error(CADRE_EPEER, "%s: another rank failed and could not say why", what);
    return base_error(board->status, "%s: rank %d failed first: %s", what, board->rank, board->text);
}

bool collectives_nccl_tell(nccl *n, int status, const char *text)
{
    struct nccl_board *board = n->board;
    uint32_t unclaimed = 0;
    bool first = atomic_compare_exchange_strong(&board->claimed, &unclaimed, 1);
    if (first) {
        board->status = status;
        board->rank = n->rank;
        snprintf(board->text, sizeof board->text, "%s", text);
        atomic_store(&board->recorded, 1);
    }
    raise_alarm(n, NCCL_ALARM_FAILED);
    return first;
}

int collectives_nccl_fail(nccl *n, const char *what, int status, const char *text)
{
    char words[BASE_ERROR_MAX - 64]; /* more may come behind */
    snprintf(words, sizeof words, "%s: %s", what, text);
    bool first = collectives_nccl_tell(n, status, words);
    if (n->host && n->host->backend->abort)
        n->host->backend->abort(n->host->self); /* those who wait there come here and find the words */
    if (!first)
        return collectives_nccl_alarmed(n, what);
    collectives_nccl_end(n, false);
    n->broken = status;
    snprintf(n->broken_text, sizeof n->broken_text, "%s%s", words,
             n->stuck ? " (and NCCL could not be aborted: end this process)" : "");
    return base_error(status, "%s", n->broken_text);
}

static bool has_entered(const nccl *n, int rank, uint64_t number)
{
    return atomic_load(&n->board->seats[rank].entered) >= number;
}

/* The first rank that is dead; -1: none. One that has called the operation and has since freed its communicator may go.
 */
static int find_dead(const nccl *n, uint64_t number)
{
    for (int r = 0; r < n->world; r++) {
        struct pollfd fd = {.fd = n->pidfds[r], .events = POLLIN};
        if (n->pidfds[r] < 0 || poll(&fd, 1, 0) <= 0 || !fd.revents)
            continue;
        if (!has_entered(n, r, number) || !atomic_load(&n->board->seats[r].left))
            return r;
    }
    return -1;
}

static void name_missing(const nccl *n, uint64_t number, char *text, size_t nbytes)
{
    size_t used = 0;
    int left = 0;
    text[0] = '\0';
    for (int r = 0; n->board_shared && r < n->world; r++) {
        if (has_entered(n, r, number))
            continue;
        if (used + 40 > nbytes)
            left++;
        else
            used += (size_t)snprintf(text + used, nbytes - used, "%srank %d (pid %d)", used ? ", " : "", r,
                                     (int)atomic_load(&n->board->seats[r].pid));
    }
    if (left)
        snprintf(text + used, nbytes - used, ", %d more", left);
    else if (!n->board_shared)
        snprintf(text, nbytes, "the others (on several hosts it is not known whom)");
    else if (!used)
        snprintf(text, nbytes, "the GPUs: all ranks have called it");
}

/* NCCL's view: what went wrong in the background, with remote ranks for example. */
static int ask_nccl(nccl *n, const char *what)
{
    char text[512];
    nccl_result result = NCCL_SUCCESS, asked;
    if (!n->comm)
        return CADRE_OK;
    asked = n->lib->nccl.async_error(n->comm, &result);
    if (asked != NCCL_SUCCESS && asked != NCCL_IN_PROGRESS)
        result = asked;
    if (result == NCCL_SUCCESS || result == NCCL_IN_PROGRESS)
        return CADRE_OK;
    int status = collectives_nccl_words(n, result, text, sizeof text);
    return collectives_nccl_fail(n, what, status, text);
}

int collectives_nccl_look(nccl *n, collectives_op *op, uint64_t number)
{
    char what[COLLECTIVES_TEXT], missing[400], text[512];
    int64_t now = base_now_ns();
    collectives_describe(op, what);
    int status = collectives_nccl_alarmed(n, what);
    if (!status)
        status = ask_nccl(n, what);
    if (status)
        return status;
    if (now >= n->next_look_ns) {
        n->next_look_ns = now + LOOK_NS;
        int dead = find_dead(n, number);
        if (dead >= 0) {
            snprintf(text, sizeof text, "rank %d (pid %d) died", dead, (int)atomic_load(&n->board->seats[dead].pid));
            return collectives_nccl_fail(n, what, CADRE_EPEER, text);
        }
    }
    double waited = (double)(now - op->started_ns) / 1e9;
    if (now >= op->deadline_ns) {
        name_missing(n, number, missing, sizeof missing);
        snprintf(text, sizeof text, "deadline passed: after %.1f s still waiting for %s", waited, missing);
        return collectives_nccl_fail(n, what, CADRE_ETIMEDOUT, text);
    }
    if (now >= op->stall_ns) {
        op->stall_ns = INT64_MAX;
        name_missing(n, number, missing, sizeof missing);
        base_log(CADRE_LOG_WARN, "collectives", "%s: after %.1f s still waiting for %s", what, waited, missing);
    }
    return CADRE_OK;
}
