/*
 * An operation's first messages. Every rank greets the ranks of its lane on the other hosts with a letter: which call
 * it makes, and the first data it has for them, where that is small. Before the letters are read, nothing that others
 * send goes to the user's buffers, only to memory of this backend; so hosts that disagree are found and do not write
 * into each other's buffers. Within a host the shm communicator compares the same calls.
 *
 * Which operations put data into their letters is the same on all ranks that agree (hier_operate). Letters have
 * messages of their own, and a receiver has room for the largest, so that those of ranks that disagree fit, too.
 */
#include "hier.h"

#include "base/error.h"

#include <string.h>

static struct hier_letter *letter(void *base, int host)
{
    return (struct hier_letter *)(void *)((char *)base + (size_t)host * sizeof(struct hier_letter));
}

/* One way each, once an operation. */
static int greet(hier *h, const collectives_op *op, int host, const void *data, size_t nbytes)
{
    struct hier_letter *out = letter(h->outbox, host);
    int rank = hier_rank_on(h, host);
    h->greeted[host] = true;
    out->call = h->call;
    if (nbytes)
        memcpy(out->data, data, nbytes);
    int status = h->messages->receive(h->letters, rank, letter(h->inbox, host), sizeof(struct hier_letter));
    if (!status)
        status = h->messages->send(h->letters, rank, out, offsetof(struct hier_letter, data) + nbytes);
    return status ? hier_broken(h, op, status) : CADRE_OK;
}

void hier_begin(hier *h, const struct shm_call *call, bool with_data)
{
    h->call = *call;
    h->with_data = with_data;
    h->met = false;
    h->stepped = false;
    h->grace_ns = HIER_GRACE_NS;
    memset(h->greeted, 0, (size_t)h->hosts * sizeof *h->greeted);
    memset(h->parcels, 0, (size_t)h->hosts * sizeof *h->parcels);
}

int hier_greet(hier *h, const collectives_op *op)
{
    int status = CADRE_OK;
    for (int g = 0; g < h->hosts && h->lane < h->lanes && !status; g++)
        if (g != h->host && !h->greeted[g])
            status = greet(h, op, g, NULL, 0);
    return status;
}

int hier_meet(hier *h, collectives_op *op)
{
    char text[2 * COLLECTIVES_TEXT];
    if (h->met || h->lane >= h->lanes)
        return CADRE_OK;
    int status = hier_greet(h, op);
    if (!status)
        status = hier_await(h, op, h->letters);
    for (int g = 0; g < h->hosts && !status; g++) {
        const struct hier_letter *in = letter(h->inbox, g);
        bool own_first = g > h->host;
        if (g != h->host &&
            !(own_first ? collectives_shm_same(h->rank, &h->call, hier_rank_on(h, g), &in->call, text, sizeof text)
                        : collectives_shm_same(hier_rank_on(h, g), &in->call, h->rank, &h->call, text, sizeof text)))
            status = collectives_shm_fail(h->within, op, CADRE_EMISMATCH, text);
    }
    if (status)
        return status;
    h->met = true;
    for (int g = 0; g < h->hosts; g++)
        if (h->parcels[g].nbytes)
            memcpy(h->parcels[g].to, letter(h->inbox, g)->data, h->parcels[g].nbytes);
    return CADRE_OK;
}

int hier_trade(hier *h, collectives_op *op, struct exchange *x, int host, struct hier_parcel in, const void *out,
               size_t out_bytes)
{
    int rank = hier_rank_on(h, host), status = CADRE_OK;
    if (h->with_data && !h->met) {
        h->parcels[host] = in;
        return greet(h, op, host, out, out_bytes);
    }
    if (!h->greeted[host])
        status = greet(h, op, host, NULL, 0);
    if (!status && in.nbytes)
        status = h->messages->receive(x, rank, in.to, in.nbytes);
    if (!status && out_bytes)
        status = h->messages->send(x, rank, out, out_bytes);
    return status ? hier_broken(h, op, status) : CADRE_OK;
}
