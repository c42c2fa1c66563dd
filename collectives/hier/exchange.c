/*
 * Waiting for messages from other hosts, and alarms: a rank that fails sends its words to all ranks of the other hosts,
 * each of which has a receive posted for them from the start; within the host the shm communicator's alarm does that.
 */
#include "hier.h"

#include "base/clock.h"
#include "base/error.h"
#include "base/fault.h"
#include "base/log.h"

#include <sched.h>
#include <stdio.h>
#include <string.h>

enum { YIELD_NS = 50000000, LONG_YIELD_NS = 10000000, CROWDED_NS = 1000000000, NAP_NS = 50000 };

int hier_listen(hier *h)
{
    int status = CADRE_OK;
    for (int r = 0; r < h->world && !status; r++)
        if (h->host_of[r] != h->host)
            status = h->messages->receive(h->alarms, r, &h->heard[r], sizeof h->heard[r]);
    return status;
}

int hier_failed(hier *h, int status)
{
    if (!status || h->alarmed)
        return status;
    h->alarmed = true;
    h->said->status = status;
    snprintf(h->said->text, sizeof h->said->text, "%s", cadre_error_message());
    for (int r = 0; r < h->world; r++)
        if (h->host_of[r] != h->host)
            h->messages->send(h->alarms, r, h->said, sizeof *h->said); /* what fails here, their deadline finds */
    return base_error(status, "%s", h->said->text);
}

/* "rank 2, rank 4; there: rank 0": of the own lane's ranks, which are those that messages go to and come from. */
static void name_missing(hier *h, struct exchange *x, char *text, size_t nbytes)
{
    size_t used = 0;
    int left = 0;
    const char *before = "";
    text[0] = '\0';
    for (int there = 0; there < 2; there++) {
        for (int g = 0; g < h->hosts; g++) {
            int rank = hier_rank_on(h, g);
            bool done = g == h->host || (h->messages->received(x, rank) && h->messages->sent(x, rank));
            if (done != there)
                continue;
            if (used + 48 > nbytes / 2 * (1 + (size_t)there)) /* each list has half of the room */
                left++;
            else
                used += (size_t)snprintf(text + used, nbytes - used, "%srank %d", before, rank);
            before = ", ";
        }
        if (left)
            used += (size_t)snprintf(text + used, nbytes - used, ", %d more", left);
        left = 0;
        before = "; there: ";
    }
}

/* An alarm from another host becomes one on this. */
static int heed_alarms(hier *h, collectives_op *op)
{
    char text[HIER_ALARM_BYTES + 64];
    int status = collectives_shm_alarmed(h->within, op);
    if (status)
        return status;
    int from = h->messages->arrived(h->alarms);
    if (from < 0)
        return CADRE_OK;
    h->heard[from].text[HIER_ALARM_BYTES - 1] = '\0';
    h->alarmed = true; /* whoever spoke told everyone */
    snprintf(text, sizeof text, "rank %d failed first: %s", from, h->heard[from].text);
    return collectives_shm_fail(h->within, op, h->heard[from].status < 0 ? h->heard[from].status : CADRE_EPEER, text);
}

static int look_around(hier *h, collectives_op *op, struct exchange *x, int64_t now)
{
    char missing[512], text[640], what[COLLECTIVES_TEXT];
    double waited = (double)(now - op->started_ns) / 1e9;
    int status = heed_alarms(h, op);
    if (status)
        return status;
    collectives_shm_elsewhere(h->within);
    if (now >= op->deadline_ns + h->grace_ns) {
        name_missing(h, x, missing, sizeof missing);
        snprintf(text, sizeof text, "deadline passed: after %.1f s still waiting for %s", waited, missing);
        return collectives_shm_fail(h->within, op, CADRE_ETIMEDOUT, text);
    }
    if (now >= op->stall_ns) {
        op->stall_ns = INT64_MAX;
        collectives_describe(op, what);
        name_missing(h, x, missing, sizeof missing);
        base_log(CADRE_LOG_WARN, "collectives", "%s: after %.1f s still waiting for %s", what, waited, missing);
    }
    return CADRE_OK;
}

int hier_broken(hier *h, const collectives_op *op, int status)
{
    char text[BASE_ERROR_MAX];
    snprintf(text, sizeof text, "%s", cadre_error_message());
    return collectives_shm_fail(h->within, op, status, text);
}

int hier_await(hier *h, collectives_op *op, struct exchange *x)
{
    int64_t begun = 0, next_look = 0, yielded = 0;

    BASE_FAULT("collective");
    for (;;) {
        bool complete;
        int status = h->messages->look(x, &complete);
        if (status)
            return hier_broken(h, op, status);
        if (complete)
            return CADRE_OK;
        if (atomic_load(&h->aborted))
            return collectives_shm_fail(h->within, op, CADRE_ECANCELED, "cancelled by cadre_comm_abort");
        int64_t now = base_now_ns();
        if (!begun) {
            begun = now;
            next_look = now + HIER_LOOK_NS;
        }
        if (now >= next_look) {
            next_look = now + HIER_LOOK_NS;
            status = look_around(h, op, x, now);
            if (status)
                return status;
        }
        /* Where a yield takes long, others have the core and the one who yields comes last; a sleeper does not. */
        if (yielded && now - yielded > LONG_YIELD_NS)
            h->crowded_until_ns = now + CROWDED_NS;
        yielded = now < h->crowded_until_ns || now - begun > YIELD_NS ? 0 : now;
        if (yielded)
            sched_yield();
        else
            base_sleep_ns(NAP_NS);
    }
}
