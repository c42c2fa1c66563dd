/* The nccl backend's set-up, memory, end and table. */
#include "nccl.h"

#include "base/clock.h"
#include "base/mem.h"

#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { END_SECONDS = 5, QUIET_SECONDS = 2 };

/* Where a rank is, as shm sees it: ranks with equal cards can share memory, and share the machine's GPUs. */
static void nccl_card(unsigned char card[COLLECTIVES_CARD]) { collectives_shm.card(card); }

static int nccl_score(const collectives_place *place, char why[COLLECTIVES_WHY])
{
    if (!place->asked_by_name && !place->device) {
        snprintf(why, COLLECTIVES_WHY, "not asked for (neither by name nor by a device)");
        return 0;
    }
    return collectives_nccl_libraries(why) ? 80 : 0;
}

int collectives_nccl_words(nccl *n, nccl_result result, char *text, size_t nbytes)
{
    const char *more = n->lib->nccl.last_error(n->comm);
    snprintf(text, nbytes, "NCCL: %s%s%s", n->lib->nccl.error_string(result), more && *more ? ": " : "",
             more ? more : "");
    for (char *at = text; *at; at++)
        if (*at == '\n')
            *at = ' ';
    return result == NCCL_REMOTE_ERROR ? CADRE_EPEER : CADRE_ESYSTEM; /* never CADRE_EINVAL: that breaks nothing */
}

void collectives_nccl_pause(int64_t waited_ns)
{
    if (waited_ns < 50000)
        return;
    if (waited_ns < 1000000)
        sched_yield();
    else
        base_sleep_ns(waited_ns < 20000000 ? 20000 : 200000);
}

/* ---- the end ----------------------------------------------------------------------------------------------------- */

/* NCCL's own end may hang where a peer has died, so it has a thread of its own, which is left behind then. */
struct ending {
    const nccl_libraries *lib;
    nccl_comm comm;
    int device;
    bool gently;
    atomic_int done, holders;
};

static void let_go(struct ending *ending)
{
    if (atomic_fetch_sub(&ending->holders, 1) == 1)
        free(ending);
}

/* Whoever ends in good order waits until its peers have read what they need from it. */
static bool quiet(const struct ending *ending)
{
    const struct nccl_library *lib = &ending->lib->nccl;
    int64_t until = base_now_ns() + QUIET_SECONDS * 1000000000ll;
    nccl_result result = lib->finalize(ending->comm);
    while (result == NCCL_SUCCESS || result == NCCL_IN_PROGRESS) {
        nccl_result state = NCCL_SUCCESS;
        if (lib->async_error(ending->comm, &state) != NCCL_SUCCESS || base_now_ns() > until)
            return false;
        if (state != NCCL_IN_PROGRESS)
            return state == NCCL_SUCCESS;
        base_sleep_ns(100000);
    }
    return false;
}

static void *end_comm(void *user)
{
    struct ending *ending = user;
    ending->lib->cuda.set_device(ending->device);
    if (ending->gently && quiet(ending))
        ending->lib->nccl.destroy(ending->comm);
    else
        ending->lib->nccl.abort(ending->comm);
    atomic_store(&ending->done, 1);
    let_go(ending);
    return NULL;
}

void collectives_nccl_end(nccl *n, bool gently)
{
    if (!n->comm)
        return;
    struct ending *ending = calloc(1, sizeof *ending); /* not base_calloc: this has to work after a failure */
    pthread_t thread;
    if (!ending) {
        n->stuck = true;
        n->comm = NULL;
        return;
    }
    *ending = (struct ending){.lib = n->lib, .comm = n->comm, .device = n->device, .gently = gently, .holders = 2};
    n->comm = NULL;
    if (pthread_create(&thread, NULL, end_comm, ending) != 0) {
        end_comm(ending);
    } else {
        pthread_detach(thread);
        int64_t begun = base_now_ns();
        while (!atomic_load(&ending->done) && base_now_ns() - begun < END_SECONDS * 1000000000ll)
            base_sleep_ns(100000);
        n->stuck = !atomic_load(&ending->done);
    }
    let_go(ending);
}

/* Is the GPU through with everything, so that the end can be one in good order? It may have a moment for that. */
static bool settled(nccl *n)
{
    int64_t begun = base_now_ns();
    bool left = true;
    while (atomic_load(&n->board->alarm) == NCCL_ALARM_NONE && n->comm && !collectives_nccl_check(n, &left) && left &&
           base_now_ns() - begun < QUIET_SECONDS * 1000000000ll)
        collectives_nccl_pause(base_now_ns() - begun);
    return !left && atomic_load(&n->board->alarm) == NCCL_ALARM_NONE;
}

static void nccl_free(void *self)
{
    nccl *n = self;
    if (!n)
        return;
    collectives_nccl_unwatch(n);
    int before = n->lib ? collectives_nccl_on_device(n) : 0;
    collectives_nccl_end(n, n->board && settled(n));
    if (!n->stuck && n->lib) { /* else CUDA would wait for kernels that do not end */
        collectives_nccl_drop(n);
        for (struct nccl_region *region = n->regions, *next; region; region = next) {
            next = region->next;
            n->lib->cuda.free(region->raw);
            free(region);
        }
        if (n->stream)
            n->lib->cuda.stream_free(n->stream);
    }
    if (n->lib)
        collectives_nccl_off_device(n, before);
    cadre_comm_free(n->host);
    collectives_nccl_board_free(n);
    pthread_mutex_destroy(&n->lock);
    free(n);
}

/* ---- the beginning ----------------------------------------------------------------------------------------------- */

/* "cuda:1" is that device; "cuda" the rank's number among those of its host, counted around. */
static int choose_device(nccl *n, const collectives_place *place)
{
    const char *device = place->device;
    char *end = NULL;
    if (device && strncmp(device, "cuda:", 5) == 0) {
        long number = strtol(device + 5, &end, 10);
        if (end == device + 5 || *end || number < 0 || number >= n->lib->devices)
            return base_error(CADRE_EINVAL, "device \"%s\": this process may use cuda:0 to cuda:%d", device,
                              n->lib->devices - 1);
        n->device = (int)number;
    } else {
        int before = 0;
        for (int r = 0; r < n->rank; r++)
            before += collectives_same_host(place, r, n->rank);
        n->device = before % n->lib->devices;
    }
    return CADRE_OK;
}

struct nccl_hello {
    char bus[32];
    int32_t version;
};

/* NCCL's own refusal comes late and in riddles. */
static int check_devices(const collectives_place *place, const struct nccl_hello *all)
{
    const char *shared = getenv("NCCL_MULTI_RANK_GPU_ENABLE"), *host = getenv("NCCL_HOSTID");
    bool may_share = (host && *host) || (all[0].version >= NCCL_SHARED_GPU && shared && strcmp(shared, "1") == 0);
    for (int r = 0; r < place->oob->world; r++) {
        if (all[r].version / 100 != all[0].version / 100)
            return base_error(CADRE_EMISMATCH, "rank 0 has NCCL %d, rank %d has %d: they must be of one version",
                              (int)all[0].version, r, (int)all[r].version);
        for (int s = 0; s < r && !may_share; s++)
            if (collectives_same_host(place, r, s) && strcmp(all[r].bus, all[s].bus) == 0)
                return base_error(
                    CADRE_ENOTSUP,
                    "ranks %d and %d are both on GPU %s: give each rank a GPU of its own (to try it, NCCL "
                    "2.30 and later share one with NCCL_MULTI_RANK_GPU_ENABLE=1, earlier ones with another "
                    "NCCL_HOSTID for each rank)",
                    s, r, all[r].bus);
    }
    return CADRE_OK;
}

static int meet_devices(nccl *n, const collectives_place *place)
{
    struct nccl_hello mine = {.version = n->lib->nccl_version};
    struct nccl_hello *all = base_calloc((size_t)n->world, sizeof *all);
    int status = all ? choose_device(n, place) : CADRE_ENOMEM;
    if (!status) {
        cuda_error error = n->lib->cuda.set_device(n->device);
        if (error == CUDA_SUCCESS_)
            error = n->lib->cuda.bus_id(mine.bus, sizeof mine.bus, n->device);
        if (error != CUDA_SUCCESS_)
            status = base_error(CADRE_ESYSTEM, "GPU %d: %s", n->device, n->lib->cuda.error_string(error));
    }
    status = collectives_agree(place->oob, place->timeout_s, status, "device");
    if (!status)
        status = collectives_gather(place->oob, &mine, all, sizeof mine, place->timeout_s);
    if (!status)
        status = check_devices(place, all);
    free(all);
    return status;
}

static int make_stream(nccl *n)
{
    int least = 0, greatest = 0;
    cuda_error error = n->lib->cuda.priorities(&least, &greatest);
    if (error == CUDA_SUCCESS_)
        error = n->lib->cuda.stream_new(&n->stream, CUDA_STREAM_NON_BLOCKING, greatest);
    return error == CUDA_SUCCESS_ ? CADRE_OK
                                  : base_error(CADRE_ESYSTEM, "make a stream: %s", n->lib->cuda.error_string(error));
}

/* Rank 0's id goes to all; then all call NCCL, which meets in the background. */
static int connect_ranks(nccl *n, const collectives_place *place, nccl_unique_id *ids)
{
    struct nccl_config config = NCCL_CONFIG_NON_BLOCKING;
    nccl_unique_id mine = {{0}};
    nccl_result result = n->rank == 0 ? n->lib->nccl.get_unique_id(&mine) : NCCL_SUCCESS;
    char text[512];
    int status = CADRE_OK;
    if (result != NCCL_SUCCESS) {
        status = collectives_nccl_words(n, result, text, sizeof text);
        base_error(status, "%s", text);
    }
    status = collectives_agree(place->oob, place->timeout_s, status, "unique id");
    if (!status)
        status = collectives_gather(place->oob, &mine, ids, sizeof mine, place->timeout_s);
    if (status)
        return status;
    int64_t begun = base_now_ns();
    collectives_op op = {.kind = COLLECTIVES_BARRIER,
                         .label = "connecting",
                         .started_ns = begun,
                         .stall_ns = INT64_MAX,
                         .deadline_ns = begun + (int64_t)(place->timeout_s * 1e9)};
    collectives_nccl_enter(n);
    result = n->lib->nccl.init_rank(&n->comm, n->world, ids[0], n->rank, &config);
    while (!status && (result == NCCL_SUCCESS || result == NCCL_IN_PROGRESS)) {
        nccl_result asked = n->lib->nccl.async_error(n->comm, &result);
        if (asked != NCCL_SUCCESS && asked != NCCL_IN_PROGRESS)
            result = asked;
        if (result == NCCL_SUCCESS)
            return CADRE_OK;
        if (result == NCCL_IN_PROGRESS) {
            status = collectives_nccl_look(n, &op, 1);
            collectives_nccl_pause(base_now_ns() - begun);
        }
    }
    if (status)
        return status;
    status = collectives_nccl_words(n, result, text, sizeof text);
    return collectives_nccl_fail(n, "connecting", status, text);
}

static int nccl_init(const collectives_place *place, void **self)
{
    char why[COLLECTIVES_WHY];
    const cadre_oob *oob = place->oob;
    nccl *n = base_calloc(1, sizeof *n);
    nccl_unique_id *ids = base_calloc((size_t)oob->world, sizeof *ids);
    int status = n && ids ? CADRE_OK : CADRE_ENOMEM, before = 0;
    if (n)
        pthread_mutex_init(&n->lock, NULL);
    if (!status) {
        n->rank = oob->rank;
        n->world = oob->world;
        n->lib = collectives_nccl_libraries(why);
        if (!n->lib)
            status = base_error(CADRE_ENOTSUP, "%s", why);
        else
            n->lib->cuda.get_device(&before);
    }
    status = collectives_agree(oob, place->timeout_s, status, "set-up");
    if (!status)
        status = cadre_comm_new(oob, &(cadre_comm_options){.timeout_s = place->timeout_s}, &n->host);
    if (!status)
        status = collectives_nccl_board_new(n, place, strcmp(n->host->backend->name, "shm") == 0);
    if (!status)
        status = meet_devices(n, place);
    if (!status)
        status = collectives_agree(oob, place->timeout_s, make_stream(n), "stream");
    if (!status)
        status = collectives_agree(oob, place->timeout_s, connect_ranks(n, place, ids), "communicator");
    if (!status)
        status = collectives_agree(oob, place->timeout_s, collectives_nccl_watch(n), "watcher");
    if (n && n->lib)
        n->lib->cuda.set_device(before);
    free(ids);
    if (status)
        nccl_free(n);
    else
        *self = n;
    return status;
}

/* ---- memory ------------------------------------------------------------------------------------------------------ */

/* An out-of-band all-gather over the companion, inside the operation `op`. */
struct inner {
    nccl *n;
    collectives_op *op;
};

static int inner_all_gather(void *user, const void *mine, void *all, size_t nbytes, double timeout_s)
{
    struct inner *inner = user;
    collectives_op op = *inner->op;
    (void)timeout_s; /* op has a deadline */
    op.kind = COLLECTIVES_ALL_GATHER;
    op.dtype = CADRE_INT32;
    op.input = mine;
    op.output = all;
    op.count = nbytes / 4;
    return collectives_nccl_operate(inner->n, &op);
}

static int take_memory(nccl *n, collectives_op *op, size_t nbytes, struct nccl_region *region)
{
    enum { ALIGN = 4096 }; /* more than cudaMalloc promises */
    cuda_error error = n->lib->cuda.malloc(&region->raw, nbytes + ALIGN);
    if (error != CUDA_SUCCESS_) {
        n->lib->cuda.take_error();
        return base_error(error == CUDA_OUT_OF_MEMORY ? CADRE_ENOMEM : CADRE_ESYSTEM, "%zu bytes of GPU memory: %s",
                          nbytes, n->lib->cuda.error_string(error));
    }
    region->memory = (char *)region->raw + (ALIGN - (uintptr_t)region->raw % ALIGN) % ALIGN;
    return collectives_nccl_clear(n, op, region->memory, nbytes);
}

static int nccl_alloc(void *self, collectives_op *op, size_t nbytes, void **memory)
{
    nccl *n = self;
    struct inner inner = {.n = n, .op = op};
    cadre_oob oob = {
        .size = sizeof oob, .rank = n->rank, .world = n->world, .all_gather = inner_all_gather, .user = &inner};
    int before = collectives_nccl_on_device(n);
    struct nccl_region *region = base_calloc(1, sizeof *region);
    pthread_mutex_lock(&n->lock);
    int status = collectives_nccl_finish(n); /* or the memory would wait behind what the stream has, and for peers */
    if (!status)
        status = region ? take_memory(n, op, nbytes, region) : CADRE_ENOMEM;
    pthread_mutex_unlock(&n->lock);
    status = collectives_agree(&oob, 0, status, "alloc");
    if (!status) {
        region->next = n->regions;
        n->regions = region;
        *memory = region->memory;
    } else if (region) {
        if (region->raw)
            n->lib->cuda.free(region->raw);
        free(region);
    }
    collectives_nccl_off_device(n, before);
    return status;
}

static void nccl_dealloc(void *self, void *memory)
{
    nccl *n = self;
    struct nccl_region **link = &n->regions;
    while (*link && (*link)->memory != memory)
        link = &(*link)->next;
    struct nccl_region *region = *link;
    if (!region)
        return;
    *link = region->next;
    int before = collectives_nccl_on_device(n);
    pthread_mutex_lock(&n->lock);
    collectives_nccl_finish(n); /* the GPU may still use it */
    pthread_mutex_unlock(&n->lock);
    if (!n->stuck)
        n->lib->cuda.free(region->raw);
    collectives_nccl_off_device(n, before);
    free(region);
}

static int nccl_operate(void *self, collectives_op *op) { return collectives_nccl_operate(self, op); }
static int nccl_start(void *self, collectives_op *op) { return collectives_nccl_start(self, op); }
static int nccl_test(void *self, collectives_op *op, bool *done) { return collectives_nccl_test(self, op, done); }
static int nccl_wait(void *self, collectives_op *op) { return collectives_nccl_wait(self, op); }
static int nccl_barrier(void *self, collectives_op *op)
{
    int status = collectives_nccl_synchronize(self);
    return status ? status : collectives_nccl_operate(self, op);
}
static int nccl_synchronize(void *self, collectives_op *op)
{
    (void)op; /* each of them has a deadline of its own */
    return collectives_nccl_synchronize(self);
}
static void nccl_abort(void *self) { collectives_nccl_cancel(self); }
static int nccl_device(void *self) { return ((nccl *)self)->device; }
static void nccl_set_stream(void *self, void *stream) { ((nccl *)self)->caller = stream; }

const collectives_backend collectives_nccl = {
    .abi = COLLECTIVES_ABI,
    .size = sizeof(collectives_backend),
    .name = "nccl",
    .card = nccl_card,
    .score = nccl_score,
    .init = nccl_init,
    .alloc = nccl_alloc,
    .dealloc = nccl_dealloc,
    .all_reduce = nccl_operate,
    .reduce_scatter = nccl_operate,
    .all_gather = nccl_operate,
    .broadcast = nccl_operate,
    .barrier = nccl_barrier,
    .start = nccl_start,
    .test = nccl_test,
    .wait = nccl_wait,
    .abort = nccl_abort,
    .free = nccl_free,
    .queues = true,
    .device = nccl_device,
    .set_stream = nccl_set_stream,
    .synchronize = nccl_synchronize,
};
