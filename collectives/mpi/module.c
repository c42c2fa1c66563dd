/*
 * libcadre_mpi.so: joining and leaving MPI, and messages with a deadline.
 *
 * All traffic goes over one private copy of MPI_COMM_WORLD; communicators of ours are told apart by tags, since making
 * and freeing an MPI communicator is collective and our clean-up must not wait for anyone.
 */
#include "module.h"

#include <limits.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { OOB_TAG = 1, AMONG_TAG = 2 };

const collectives_host *collectives_host_table;
static MPI_Comm private_world = MPI_COMM_NULL;
static bool initialised_here;

MPI_Comm collectives_mpi_world(void) { return private_world; }

static int mpi_error(int code, const char *what)
{
    char words[MPI_MAX_ERROR_STRING] = "", text[MPI_MAX_ERROR_STRING + 128];
    int length, kind = code;
    MPI_Error_string(code, words, &length);
    MPI_Error_class(code, &kind);
    snprintf(text, sizeof text, "%s: %s", what, words);
    return collectives_host_table->error(kind == MPI_ERR_TRUNCATE ? CADRE_EMISMATCH : CADRE_ESYSTEM, text);
}

int collectives_mpi_exchange_new(struct exchange *x, MPI_Comm mpi, int tag)
{
    *x = (struct exchange){.mpi = mpi, .tag = tag};
    MPI_Comm_rank(mpi, &x->rank);
    MPI_Comm_size(mpi, &x->world);
    x->requests = malloc(2 * (size_t)x->world * sizeof *x->requests);
    if (!x->requests)
        return collectives_host_table->error(CADRE_ENOMEM, "out of memory for MPI requests");
    for (int i = 0; i < 2 * x->world; i++)
        x->requests[i] = MPI_REQUEST_NULL;
    return CADRE_OK;
}

void collectives_mpi_exchange_free(struct exchange *x)
{
    if (x->requests)
        collectives_mpi_drop(x);
    free(x->requests);
    x->requests = NULL;
}

int collectives_mpi_send(struct exchange *x, int to, const void *data, size_t nbytes)
{
    int code = MPI_Isend(data, (int)nbytes, MPI_BYTE, to, x->tag, x->mpi, &x->requests[x->world + to]);
    return code == MPI_SUCCESS ? CADRE_OK : mpi_error(code, "MPI_Isend");
}

int collectives_mpi_receive(struct exchange *x, int from, void *data, size_t nbytes)
{
    int code = MPI_Irecv(data, (int)nbytes, MPI_BYTE, from, x->tag, x->mpi, &x->requests[from]);
    return code == MPI_SUCCESS ? CADRE_OK : mpi_error(code, "MPI_Irecv");
}

int collectives_mpi_look(struct exchange *x, bool *complete)
{
    int all = 0, code = MPI_Testall(2 * x->world, x->requests, &all, MPI_STATUSES_IGNORE);
    *complete = all != 0;
    if (code == MPI_ERR_IN_STATUS) /* one of them failed; which, is only told one by one */
        for (int i = 0; i < 2 * x->world && code == MPI_ERR_IN_STATUS; i++) {
            int done, one = MPI_Test(&x->requests[i], &done, MPI_STATUS_IGNORE);
            if (one != MPI_SUCCESS)
                code = one;
        }
    return code == MPI_SUCCESS ? CADRE_OK : mpi_error(code, "MPI_Testall");
}

/* A message that cannot be taken back may still be read from the user's memory: after a failure a process is meant to
 * leave, not to go on. */
void collectives_mpi_drop(struct exchange *x)
{
    int finalized = 0;
    MPI_Finalized(&finalized);
    for (int i = 0; !finalized && i < 2 * x->world; i++) {
        if (x->requests[i] == MPI_REQUEST_NULL)
            continue;
        if (i < x->world)
            MPI_Cancel(&x->requests[i]);
        MPI_Request_free(&x->requests[i]);
    }
}

static bool is_done(MPI_Request *request)
{
    int done = 1;
    MPI_Test(request, &done, MPI_STATUS_IGNORE);
    return done;
}

bool collectives_mpi_missing(struct exchange *x, char *text, size_t nbytes)
{
    size_t used = 0;
    bool any = false;
    char present[128] = "";
    bool *there = calloc((size_t)x->world, sizeof *there);
    text[0] = '\0';
    for (int half = 0; half < 2 && !any; half++) /* who does not send; failing that, who does not take */
        for (int r = 0; r < x->world; r++) {
            bool done = is_done(&x->requests[half * x->world + r]);
            any = any || !done;
            if (there)
                there[r] = done;
            if (!done && used + 24 + sizeof present < nbytes)
                used += (size_t)snprintf(text + used, nbytes - used, "%srank %d", used ? ", " : "", r);
        }
    if (there)
        collectives_host_table->name_ranks(there, x->world, NULL, present, sizeof present);
    snprintf(text + used, nbytes - used, "; there: %s", present);
    free(there);
    return any;
}

void collectives_mpi_pause(int64_t waited_ns, int *tries)
{
    if (++*tries < 200)
        return;
    *tries = 190; /* from here on every tenth look */
    if (waited_ns < 2000000)
        sched_yield();
    else
        collectives_host_table->sleep_ns(waited_ns < 100000000 ? 50000 : 1000000);
}

static int join(int *rank, int *world)
{
    int flag = 0, provided = 0, code = MPI_SUCCESS;
    if (private_world == MPI_COMM_NULL) {
        MPI_Finalized(&flag);
        if (flag)
            return collectives_host_table->error(CADRE_ESTATE, "MPI has been finalised already");
        MPI_Initialized(&flag);
        if (!flag) {
            code = MPI_Init_thread(NULL, NULL, MPI_THREAD_FUNNELED, &provided);
            initialised_here = code == MPI_SUCCESS;
        }
        if (code == MPI_SUCCESS)
            code = MPI_Comm_dup(MPI_COMM_WORLD, &private_world);
        if (code != MPI_SUCCESS)
            return mpi_error(code, "MPI_Init_thread");
        MPI_Comm_set_errhandler(private_world, MPI_ERRORS_RETURN);
    }
    MPI_Comm_rank(private_world, rank);
    MPI_Comm_size(private_world, world);
    return CADRE_OK;
}

static int wait_for_all(struct exchange *x, double timeout_s)
{
    int64_t begun = collectives_host_table->now_ns(), waited = 0;
    int tries = 0;
    for (;;) {
        bool complete;
        int status = collectives_mpi_look(x, &complete);
        if (status || complete)
            return status;
        waited = collectives_host_table->now_ns() - begun;
        if ((double)waited > timeout_s * 1e9) {
            char missing[400], text[512];
            if (!collectives_mpi_missing(x, missing, sizeof missing))
                continue;
            snprintf(text, sizeof text, "deadline passed: after %.1f s still waiting for %s", timeout_s, missing);
            return collectives_host_table->error(CADRE_ETIMEDOUT, text);
        }
        collectives_mpi_pause(waited, &tries);
    }
}

/* Among the ranks that `ranks` names, NULL: the first `count`. */
static int gather(int tag, const int *ranks, int count, const void *mine, void *all, size_t nbytes, double timeout_s)
{
    struct exchange x;
    if (nbytes > INT_MAX)
        return collectives_host_table->error(CADRE_EINVAL, "the message is too long");
    int status = collectives_mpi_exchange_new(&x, private_world, tag);
    for (int i = 0; !status && i < count; i++) {
        char *place = (char *)all + (size_t)i * nbytes;
        int rank = ranks ? ranks[i] : i;
        if (rank == x.rank)
            memcpy(place, mine, nbytes);
        else
            status = collectives_mpi_receive(&x, rank, place, nbytes);
        if (!status && rank != x.rank)
            status = collectives_mpi_send(&x, rank, mine, nbytes);
    }
    if (!status)
        status = wait_for_all(&x, timeout_s);
    collectives_mpi_exchange_free(&x);
    return status;
}

static int oob_all_gather(void *user, const void *mine, void *all, size_t nbytes, double timeout_s)
{
    int world;
    (void)user;
    MPI_Comm_size(private_world, &world);
    return gather(OOB_TAG, NULL, world, mine, all, nbytes, timeout_s);
}

static int gather_among(const int *ranks, int count, const void *mine, void *all, size_t nbytes, double timeout_s)
{
    return gather(AMONG_TAG, ranks, count, mine, all, nbytes, timeout_s);
}

static int open_exchange(int tag, struct exchange **out)
{
    struct exchange *x = malloc(sizeof *x);
    int status = x ? collectives_mpi_exchange_new(x, private_world, tag) : CADRE_ENOMEM;
    if (status) {
        free(x);
        return collectives_host_table->error(status, "out of memory for MPI requests");
    }
    *out = x;
    return CADRE_OK;
}

static void close_exchange(struct exchange *x)
{
    if (x)
        collectives_mpi_exchange_free(x);
    free(x);
}

static int arrived(struct exchange *x)
{
    int index = MPI_UNDEFINED, flag = 0;
    MPI_Testany(x->world, x->requests, &index, &flag, MPI_STATUS_IGNORE);
    return flag && index != MPI_UNDEFINED ? index : -1;
}

static bool received(struct exchange *x, int rank) { return is_done(&x->requests[rank]); }
static bool sent(struct exchange *x, int rank) { return is_done(&x->requests[x->world + rank]); }

static void leave(bool ok)
{
    int flag = 0;
    MPI_Finalized(&flag);
    if (private_world == MPI_COMM_NULL || flag)
        return;
    if (!ok)
        MPI_Abort(MPI_COMM_WORLD, 1);
    MPI_Comm_free(&private_world);
    if (initialised_here)
        MPI_Finalize();
}

static const collectives_mpi_messages messages = {
    .agree_on_tag = collectives_mpi_agree_on_tag,
    .gather_among = gather_among,
    .open = open_exchange,
    .close = close_exchange,
    .send = collectives_mpi_send,
    .receive = collectives_mpi_receive,
    .look = collectives_mpi_look,
    .arrived = arrived,
    .received = received,
    .sent = sent,
};

static const collectives_mpi_table table = {
    .abi = COLLECTIVES_ABI,
    .size = sizeof(collectives_mpi_table),
    .backend = &collectives_mpi_inside,
    .messages = &messages,
    .join = join,
    .all_gather = oob_all_gather,
    .leave = leave,
};

const collectives_mpi_table *cadre_mpi_backend(const collectives_host *host)
{
    if (!host || host->abi != COLLECTIVES_ABI || host->size != sizeof *host)
        return NULL;
    collectives_host_table = host;
    return &table;
}
