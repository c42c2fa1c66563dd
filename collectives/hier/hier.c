/* The hier backend's set-up, memory and table. */
#include "hier.h"

#include "base/clock.h"
#include "base/error.h"
#include "base/mem.h"
#include "collectives/mpi_oob.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int hier_score(const collectives_place *place, char why[COLLECTIVES_WHY])
{
    if (collectives_mpi.score(place, why) == 0)
        return 0;
    if (!place->cards) {
        snprintf(why, COLLECTIVES_WHY, "ranks on several hosts: shm within, MPI between them");
        return 30;
    }
    struct hier_layout layout;
    if (!hier_survey(place, &layout, why))
        return 0;
    if (layout.hosts == 1) {
        snprintf(why, COLLECTIVES_WHY, "all ranks are on one host: shm does that");
        return 0;
    }
    if (layout.lanes < layout.most)
        snprintf(why, COLLECTIVES_WHY, "%d hosts with %d to %d ranks", layout.hosts, layout.lanes, layout.most);
    else
        snprintf(why, COLLECTIVES_WHY, "%d hosts with %d ranks each", layout.hosts, layout.lanes);
    return layout.most > 1 ? 30 : 10; /* with one rank a host mpi does the same */
}

static void hier_free(void *self)
{
    hier *h = self;
    if (!h)
        return;
    bool told = true; /* an alarm that is not gone yet is still read from `said`: that is left behind then */
    for (int r = 0; h->alarms && h->said->status && r < h->world; r++)
        told = told && (h->host_of[r] == h->host || h->messages->sent(h->alarms, r));
    for (int i = 0; i < 2; i++)
        if (h->pieces[i])
            h->messages->close(h->pieces[i]);
    if (h->letters)
        h->messages->close(h->letters);
    if (h->alarms)
        h->messages->close(h->alarms);
    if (h->within)
        collectives_shm.free(h->within);
    free(h->host_of);
    free(h->ranks);
    free(h->scratch);
    free(h->inbox);
    free(h->outbox);
    free(h->greeted);
    free(h->parcels);
    free(h->heard);
    if (told)
        free(h->said);
    free(h);
}

/* ---- set-up ---- */

/* An alloc is so many rounds, each of which may take as long as any in the set-up. */
enum { ALLOC_ROUNDS = 4 };

/* What the host's ranks need from outside. */
static int gather_within(void *user, const void *mine, void *all, size_t nbytes, double timeout_s)
{
    const hier *h = user;
    return h->messages->gather_among(h->ranks + h->layout.begin[h->host], h->locals, mine, all, nbytes, timeout_s);
}

static int make_room(hier *h)
{
    size_t small = (size_t)h->hosts * HIER_SMALL;
    h->half_bytes = small > HIER_PIECE ? small : HIER_PIECE;
    h->scratch = base_malloc(2 * h->half_bytes);
    h->heard = base_calloc((size_t)h->world, sizeof *h->heard);
    h->said = base_calloc(1, sizeof *h->said);
    h->inbox = base_calloc((size_t)h->hosts, sizeof(struct hier_letter));
    h->outbox = base_calloc((size_t)h->hosts, sizeof(struct hier_letter));
    h->greeted = base_calloc((size_t)h->hosts, sizeof *h->greeted);
    h->parcels = base_calloc((size_t)h->hosts, sizeof *h->parcels);
    bool all = h->scratch && h->heard && h->said && h->inbox && h->outbox && h->greeted && h->parcels;
    return all ? CADRE_OK : CADRE_ENOMEM;
}

static int open_messages(hier *h, int tag)
{
    int status = h->messages->open(tag, &h->pieces[0]);
    if (!status)
        status = h->messages->open(tag, &h->pieces[1]);
    if (!status)
        status = h->messages->open(tag + 1, &h->letters);
    if (!status)
        status = h->messages->open(tag + 2, &h->alarms);
    return status ? status : hier_listen(h);
}

/* The host's own communicator, and memory in it. */
static int make_within(hier *h, const collectives_place *place)
{
    const int *ranks = h->ranks + h->layout.begin[h->host];
    cadre_oob oob = {.size = sizeof oob, .rank = h->lane, .world = h->locals, .all_gather = gather_within, .user = h};
    unsigned char cards[SHM_RANKS_MAX][COLLECTIVES_CARD];
    collectives_place own = {.oob = &oob,
                             .cards = (const unsigned char(*)[COLLECTIVES_CARD])cards,
                             .timeout_s = place->timeout_s,
                             .asked_by_name = true,
                             .ranks = ranks};
    collectives_op op = {.kind = COLLECTIVES_ALLOC,
                         .count = HIER_PIECE,
                         .started_ns = base_now_ns(),
                         .stall_ns = INT64_MAX,
                         .deadline_ns = base_now_ns() + (int64_t)(ALLOC_ROUNDS * place->timeout_s * 1e9)};
    void *made = NULL, *work = NULL;
    for (int l = 0; l < h->locals; l++)
        memcpy(cards[l], place->cards[ranks[l]], COLLECTIVES_CARD);
    int status = collectives_shm.init(&own, &made);
    if (status)
        return status;
    h->within = made;
    status = collectives_shm.alloc(made, &op, HIER_PIECE, &work);
    h->work = work;
    h->works = status ? NULL : h->within->regions->base; /* the newest, and never given back */
    return status;
}

static int hier_init(const collectives_place *place, void **self)
{
    const cadre_oob *oob = place->oob;
    char why[COLLECTIVES_WHY];
    cadre_oob mpi = {0};
    int tag = 0, status = collectives_mpi_join(&mpi);
    status = collectives_agree(oob, place->timeout_s, status, "set-up");
    if (status)
        return status;
    hier *h = base_calloc(1, sizeof *h);
    status = h ? CADRE_OK : CADRE_ENOMEM;
    if (h) {
        h->messages = collectives_mpi_messages_of();
        h->rank = oob->rank;
        h->world = oob->world;
        hier_survey(place, &h->layout, why); /* as in score */
        status = hier_lay_out(h, place);
        if (!status)
            status = make_room(h);
    }
    status = collectives_agree(oob, place->timeout_s, status, "memory");
    if (!status) {
        status = h->messages->agree_on_tag(place, &tag);
        if (!status)
            status = open_messages(h, tag);
        status = collectives_agree(oob, place->timeout_s, status, "messages");
    }
    if (!status) /* who waits here must not give up before one that waits in there for a rank that is missing */
        status = collectives_agree(oob, 2 * place->timeout_s, make_within(h, place), "ranks of a host");
    if (!status)
        status = collectives_agree(oob, place->timeout_s, collectives_shm_roomy(place, &h->within->spin), "cores");
    if (status)
        hier_free(h);
    else
        *self = h;
    return status;
}

/* ---- memory: that of the host's communicator, when all hosts have it ---- */

struct inner {
    hier *h;
    collectives_op *op;
};

static int inner_all_gather(void *user, const void *mine, void *all, size_t nbytes, double timeout_s)
{
    struct inner *inner = user;
    (void)timeout_s; /* op has a deadline */
    collectives_op bytes = *inner->op;
    bytes.kind = COLLECTIVES_ALL_GATHER;
    bytes.dtype = CADRE_INT32;
    bytes.input = mine;
    bytes.output = all;
    bytes.count = nbytes / sizeof(int32_t);
    return hier_operate_as(inner->h, &bytes, collectives_shm_call(inner->op));
}

static int hier_alloc(void *self, collectives_op *op, size_t nbytes, void **memory)
{
    hier *h = self;
    struct inner inner = {.h = h, .op = op};
    cadre_oob oob = {
        .size = sizeof oob, .rank = h->rank, .world = h->world, .all_gather = inner_all_gather, .user = &inner};
    void *fresh = NULL;
    int status = collectives_shm.alloc(h->within, op, nbytes, &fresh);
    if (status && status != CADRE_ENOSPC && status != CADRE_ENOMEM)
        return hier_failed(h, status);
    int agreed = collectives_agree(&oob, 0, status, "alloc");
    if (agreed && fresh)
        collectives_shm.dealloc(h->within, fresh);
    if (!agreed)
        *memory = fresh;
    return agreed;
}

static void hier_dealloc(void *self, void *memory) { collectives_shm.dealloc(((hier *)self)->within, memory); }

static void hier_abort(void *self)
{
    hier *h = self;
    atomic_store(&h->aborted, 1);
    collectives_shm.abort(h->within);
}

const collectives_backend collectives_hier = {
    .abi = COLLECTIVES_ABI,
    .size = sizeof(collectives_backend),
    .name = "hier",
    .card = collectives_shm_card,
    .score = hier_score,
    .init = hier_init,
    .alloc = hier_alloc,
    .dealloc = hier_dealloc,
    .all_reduce = hier_operate,
    .reduce_scatter = hier_operate,
    .all_gather = hier_operate,
    .broadcast = hier_operate,
    .barrier = hier_operate,
    .abort = hier_abort,
    .free = hier_free,
};
