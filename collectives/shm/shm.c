/* The shm backend's set-up, memory and table. */
#include "shm.h"
#include "collectives/reduce.h"

#include "base/error.h"
#include "base/io.h"
#include "base/mem.h"

#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

struct place_card {
    char boot[40];       /* the kernel's boot id */
    char host[40];       /* containers may share a kernel, not a host name */
    char namespace_[32]; /* pids mean the same only within one pid namespace */
    int32_t user;
};
_Static_assert(sizeof(struct place_card) <= COLLECTIVES_CARD, "a card has to hold it");

void collectives_shm_card(unsigned char bytes[COLLECTIVES_CARD])
{
    struct place_card card;
    memset(&card, 0, sizeof card);
    FILE *file = fopen("/proc/sys/kernel/random/boot_id", "re");
    if (file) {
        if (fgets(card.boot, sizeof card.boot, file))
            card.boot[strcspn(card.boot, "\n")] = '\0';
        fclose(file);
    }
    const char *named = getenv("CADRE_HOST_ID"); /* several hosts on one machine, for tests */
    if (named && *named)
        snprintf(card.host, sizeof card.host, "%s", named);
    else
        gethostname(card.host, sizeof card.host - 1);
    if (readlink("/proc/self/ns/pid", card.namespace_, sizeof card.namespace_ - 1) < 0)
        card.namespace_[0] = '\0';
    card.user = (int32_t)geteuid();
    memcpy(bytes, &card, sizeof card);
}

static int cores(void)
{
    cpu_set_t set;
    return sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set) : (int)sysconf(_SC_NPROCESSORS_ONLN);
}

int collectives_shm_roomy(const collectives_place *place, bool *roomy)
{
    const cadre_oob *oob = place->oob;
    int count = 0;
    cpu_set_t mine, together, *all = calloc((size_t)oob->world, sizeof *all);
    if (!all)
        return base_error(CADRE_ENOMEM, "out of memory");
    if (sched_getaffinity(0, sizeof mine, &mine) != 0)
        CPU_ZERO(&mine);
    CPU_ZERO(&together);
    int status = collectives_gather(oob, &mine, all, sizeof mine, place->timeout_s);
    for (int r = 0; r < oob->world && !status; r++) {
        if (memcmp(place->cards[r], place->cards[oob->rank], sizeof((struct place_card *)0)->boot) != 0)
            continue;
        count++;
        CPU_OR(&together, &together, &all[r]);
    }
    free(all);
    if (!status)
        *roomy = count <= CPU_COUNT(&together);
    return status;
}

static int shm_score(const collectives_place *place, char why[COLLECTIVES_WHY])
{
    struct place_card first, other;
    int world = place->oob->world;
    if (world > SHM_RANKS_MAX) {
        snprintf(why, COLLECTIVES_WHY, "made for up to %d ranks, not %d", SHM_RANKS_MAX, world);
        return 0;
    }
    for (int r = 0; place->cards && r < world; r++) {
        memcpy(&first, place->cards[0], sizeof first);
        memcpy(&other, place->cards[r], sizeof other);
        if (strcmp(first.boot, other.boot) != 0 || strcmp(first.host, other.host) != 0) {
            snprintf(why, COLLECTIVES_WHY, "rank 0 is on host %s, rank %d on %s", first.host, r, other.host);
            return 0;
        }
        if (strcmp(first.namespace_, other.namespace_) != 0) {
            snprintf(why, COLLECTIVES_WHY, "ranks 0 and %d are in different containers (pid namespaces) of host %s", r,
                     first.host);
            return 0;
        }
        if (first.user != other.user) {
            snprintf(why, COLLECTIVES_WHY, "rank 0 runs as user %d, rank %d as %d", (int)first.user, r,
                     (int)other.user);
            return 0;
        }
    }
    snprintf(why, COLLECTIVES_WHY, "ranks on one host, %d cores", cores());
    return 50;
}

static void shm_free(void *self)
{
    shm *s = self;
    if (!s)
        return;
    while (s->regions) {
        struct shm_region *region = s->regions;
        s->regions = region->next;
        for (int r = 0; r < s->world; r++)
            collectives_shm_unmap(region->base[r]);
        free(region);
    }
    for (int r = 0; r < s->world; r++)
        base_close(s->peers[r].pidfd);
    collectives_shm_unmap(s->control);
    free(s);
}

static size_t control_bytes(int world)
{
    size_t nbytes = sizeof(struct shm_control) + (size_t)world * sizeof(struct shm_seat);
    return (nbytes + 4095) / 4096 * 4096;
}

/* The less often ranks wait for each other the better when they have to take turns on a core. In all some 24 MB at
 * most. */
static size_t decide_chunk(int world, bool roomy)
{
    size_t chunk = roomy ? 256 << 10 : 1 << 20;
    while (chunk > (64 << 10) && chunk * SHM_STAGES * (size_t)world > (24 << 20))
        chunk /= 2;
    return chunk;
}

struct setup {
    shm *s;
    shm_card *cards;
    void **base;
};

static int setup_new(struct setup *setup, int rank, int world)
{
    *setup = (struct setup){0};
    setup->s = base_calloc(1, sizeof *setup->s + (size_t)world * sizeof setup->s->peers[0]);
    setup->cards = base_calloc((size_t)world, sizeof *setup->cards);
    setup->base = base_calloc((size_t)world, sizeof *setup->base);
    if (!setup->s || !setup->cards || !setup->base)
        return CADRE_ENOMEM;
    setup->s->rank = rank;
    setup->s->world = world;
    for (int r = 0; r < world; r++)
        setup->s->peers[r].pidfd = -1;
    return CADRE_OK;
}

static int shm_init(const collectives_place *place, void **self)
{
    const cadre_oob *oob = place->oob;
    const int *ranks = place->ranks;
    struct setup setup;
    size_t chunk, head = control_bytes(oob->world);
    bool roomy = false;
    int status = setup_new(&setup, oob->rank, oob->world);
    status = collectives_agree_among(oob, ranks, place->timeout_s, status, "set-up");
    if (!status)
        status = collectives_agree_among(oob, ranks, place->timeout_s, collectives_shm_roomy(place, &roomy), "cores");
    if (status)
        goto out;
    chunk = decide_chunk(oob->world, roomy);
    setup.s->spin = roomy;
    setup.s->ranks = ranks;
    size_t nbytes = head + chunk * SHM_STAGES * (size_t)oob->world;
    status = collectives_shm_share(oob, ranks, place->timeout_s, oob->rank == 0 ? nbytes : 0, setup.cards, setup.base);
    if (status)
        goto out;
    shm *s = setup.s;
    s->control = setup.base[0];
    if (oob->rank == 0) {
        s->control->chunk = chunk;
        s->control->small = s->spin ? 4 << 10 : 16 << 10;
        s->control->dear = collectives_writing_is_dear();
        atomic_store(&s->control->canceller, -1);
    }
    for (int r = 0; r < oob->world; r++)
        s->peers[r].pid = setup.cards[r].pid;
    status = collectives_agree_among(oob, ranks, place->timeout_s, collectives_shm_meet(s), "watch the other ranks");
    if (status)
        goto out;
    s->chunk = s->control->chunk;
    s->stages = (char *)s->control + head;
    *self = s;
    setup.s = NULL;
out:
    shm_free(setup.s);
    free(setup.cards);
    free(setup.base);
    return status;
}

/* An out-of-band all-gather over the communicator itself, inside the operation `op`. */
struct inner {
    shm *s;
    collectives_op *op;
};

static int inner_all_gather(void *user, const void *mine, void *all, size_t nbytes, double timeout_s)
{
    struct inner *inner = user;
    (void)timeout_s; /* op has a deadline */
    struct shm_task task = {
        .kind = COLLECTIVES_ALL_GATHER, .dtype = CADRE_INT32, .size = 1, .input = mine, .output = all, .count = nbytes};
    return collectives_shm_run(inner->s, inner->op, task);
}

static int same_size(const shm *s, const shm_card *cards)
{
    for (int r = 1; r < s->world; r++)
        if (cards[r].nbytes != cards[0].nbytes)
            return base_error(CADRE_EMISMATCH, "rank %d allocates %llu bytes, rank %d %llu", collectives_shm_name(s, 0),
                              (unsigned long long)cards[0].nbytes, collectives_shm_name(s, r),
                              (unsigned long long)cards[r].nbytes);
    return CADRE_OK;
}

static int shm_alloc(void *self, collectives_op *op, size_t nbytes, void **memory)
{
    shm *s = self;
    struct inner inner = {.s = s, .op = op};
    cadre_oob oob = {
        .size = sizeof oob, .rank = s->rank, .world = s->world, .all_gather = inner_all_gather, .user = &inner};
    size_t rounded = (nbytes + 4095) / 4096 * 4096;
    struct shm_region *region = base_calloc(1, sizeof *region + (size_t)s->world * sizeof region->base[0]);
    shm_card *cards = base_calloc((size_t)s->world, sizeof *cards);
    int status = collectives_agree_among(&oob, s->ranks, 0, region && cards ? CADRE_OK : CADRE_ENOMEM, "alloc");
    if (!status)
        status = collectives_shm_share(&oob, s->ranks, 0, rounded, cards, region->base);
    if (!status) {
        status = same_size(s, cards);
        for (int r = 0; status && r < s->world; r++)
            collectives_shm_unmap(region->base[r]);
    }
    free(cards);
    if (status) {
        free(region);
        return status;
    }
    region->id = s->next_region++;
    region->nbytes = rounded;
    region->next = s->regions;
    s->regions = region;
    *memory = region->base[s->rank];
    return CADRE_OK;
}

static void shm_dealloc(void *self, void *memory)
{
    shm *s = self;
    struct shm_region **link = &s->regions;
    while (*link && (*link)->base[s->rank] != memory)
        link = &(*link)->next;
    struct shm_region *region = *link;
    if (!region)
        return;
    *link = region->next;
    for (int r = 0; r < s->world; r++)
        collectives_shm_unmap(region->base[r]);
    free(region);
}

static int shm_operate(void *self, collectives_op *op)
{
    return collectives_shm_run(self, op, collectives_shm_task(op));
}
static int shm_start(void *self, collectives_op *op) { return collectives_shm_begin(self, op); }
static int shm_test(void *self, collectives_op *op, bool *done) { return collectives_shm_test(self, op, done); }
static int shm_wait(void *self, collectives_op *op) { return collectives_shm_finish(self, op); }
static void shm_abort(void *self) { collectives_shm_cancel(self); }

const collectives_backend collectives_shm = {
    .abi = COLLECTIVES_ABI,
    .size = sizeof(collectives_backend),
    .name = "shm",
    .card = collectives_shm_card,
    .score = shm_score,
    .init = shm_init,
    .alloc = shm_alloc,
    .dealloc = shm_dealloc,
    .all_reduce = shm_operate,
    .reduce_scatter = shm_operate,
    .all_gather = shm_operate,
    .broadcast = shm_operate,
    .barrier = shm_operate,
    .start = shm_start,
    .test = shm_test,
    .wait = shm_wait,
    .abort = shm_abort,
    .free = shm_free,
};
