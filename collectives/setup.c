/*
 * Making a communicator. Three rounds of the out-of-band all-gather at least, each by all ranks whatever went wrong on
 * one: who asks for what (hello), how each backend would do (verdict), and the stages of the chosen backend's init.
 */
#include "base/mem.h"
#include "comm.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { BACKENDS_MAX = 8, NAME_BYTES = 24 };

struct hello {
    uint32_t magic;
    int32_t status; /* of what this rank has done so far */
    char backend[NAME_BYTES];
    unsigned char cards[BACKENDS_MAX][COLLECTIVES_CARD];
};

struct verdict {
    int32_t score[BACKENDS_MAX];
    char why[BACKENDS_MAX][COLLECTIVES_WHY];
};

struct agreement {
    int32_t status;
    char text[BASE_ERROR_MAX / 2];
};

static const uint32_t hello_magic = 0xcad7e000u + COLLECTIVES_ABI;

int collectives_gather(const cadre_oob *oob, const void *mine, void *all, size_t nbytes, double timeout_s)
{
    if (oob->world == 1) {
        memcpy(all, mine, nbytes);
        return CADRE_OK;
    }
    return oob->all_gather(oob->user, mine, all, nbytes, timeout_s);
}

int collectives_agree(const cadre_oob *oob, double timeout_s, int status, const char *stage)
{
    return collectives_agree_among(oob, NULL, timeout_s, status, stage);
}

int collectives_agree_among(const cadre_oob *oob, const int *ranks, double timeout_s, int status, const char *stage)
{
    /* Not base_malloc: a rank that failed for want of memory still has to tell the others. */
    struct agreement mine = {.status = status}, *all = malloc((size_t)oob->world * sizeof *all);
    if (!all)
        return base_error(CADRE_ENOMEM, "%s: out of memory", stage);
    if (status)
        snprintf(mine.text, sizeof mine.text, "%s", cadre_error_message());
    int failed = collectives_gather(oob, &mine, all, sizeof mine, timeout_s);
    if (failed)
        status = status ? base_error(status, "%s: %s", stage, mine.text) : base_wrap(failed, "%s", stage);
    for (int r = 0; !failed && r < oob->world; r++) {
        if (!all[r].status)
            continue;
        all[r].text[sizeof all[r].text - 1] = '\0';
        status = base_error(all[r].status, "%s: rank %d: %s", stage, ranks ? ranks[r] : r, all[r].text);
        break;
    }
    free(all);
    return status;
}

static int count_backends(void)
{
    int n = 0;
    while (collectives_registry()[n])
        n++;
    return n;
}

/* All ranks see the same hellos, so all come to the same answer. `*asked` is the index of the backend asked for, -1:
 * any. */
static int judge_hellos(const struct hello *all, int world, int *asked)
{
    *asked = -1;
    for (int r = 0; r < world; r++) {
        if (all[r].magic != hello_magic)
            return base_error(CADRE_EVERSION, "rank %d runs another version of the collectives than rank 0", r);
        if (all[r].status)
            return base_error(all[r].status, "rank %d: %s", r, cadre_status_text(all[r].status));
        if (strncmp(all[r].backend, all[0].backend, NAME_BYTES) != 0)
            return base_error(CADRE_EMISMATCH, "rank %d asks for backend '%.*s', rank 0 for '%.*s'", r, NAME_BYTES,
                              all[r].backend[0] ? all[r].backend : "any", NAME_BYTES,
                              all[0].backend[0] ? all[0].backend : "any");
    }
    if (!all[0].backend[0])
        return CADRE_OK;
    char known[128] = "";
    for (int b = 0; collectives_registry()[b]; b++) {
        if (strncmp(all[0].backend, collectives_registry()[b]->name, NAME_BYTES) == 0) {
            *asked = b;
            return CADRE_OK;
        }
        size_t used = strlen(known);
        snprintf(known + used, sizeof known - used, "%s%s", b ? ", " : "", collectives_registry()[b]->name);
    }
    return base_error(CADRE_ENOTSUP, "there is no backend '%.*s' (there are %s)", NAME_BYTES, all[0].backend, known);
}

/* The backend whose lowest score over the ranks is highest; -1 with the message set when all are 0. */
static int choose(const struct verdict *all, int world, int backends, int asked)
{
    int best = -1, best_score = 0;
    char reasons[BASE_ERROR_MAX] = "";
    for (int b = 0; b < backends; b++) {
        if (asked >= 0 && b != asked)
            continue;
        int lowest = INT_MAX, by = 0;
        for (int r = 0; r < world; r++)
            if (all[r].score[b] < lowest) {
                lowest = all[r].score[b];
                by = r;
            }
        if (lowest > best_score) {
            best = b;
            best_score = lowest;
        }
        size_t used = strlen(reasons);
        if (lowest <= 0 && all[by].why[b][0])
            snprintf(reasons + used, sizeof reasons - used, "%s%s: rank %d: %.*s", used ? "; " : "",
                     collectives_registry()[b]->name, by, COLLECTIVES_WHY, all[by].why[b]);
    }
    if (best < 0)
        base_error(CADRE_ENOTSUP, "no backend works here: %s", reasons);
    return best;
}

static void fill_hello(struct hello *mine, const char *backend, int status)
{
    memset(mine, 0, sizeof *mine);
    mine->magic = hello_magic;
    mine->status = status;
    snprintf(mine->backend, sizeof mine->backend, "%s", backend ? backend : "");
    for (int b = 0; collectives_registry()[b]; b++)
        if (collectives_registry()[b]->card)
            collectives_registry()[b]->card(mine->cards[b]);
}

struct scratch {
    struct hello mine;
    struct verdict verdict;
    unsigned char (*cards[BACKENDS_MAX])[COLLECTIVES_CARD];
    struct hello *hellos;
    struct verdict *verdicts;
};

static void scratch_free(struct scratch *s)
{
    if (!s)
        return;
    for (int b = 0; b < BACKENDS_MAX; b++)
        free(s->cards[b]);
    free(s->hellos);
    free(s->verdicts);
    free(s);
}

static struct scratch *scratch_new(int world)
{
    struct scratch *s = calloc(1, sizeof *s);
    bool whole = s && (s->hellos = calloc((size_t)world, sizeof *s->hellos)) &&
                 (s->verdicts = calloc((size_t)world, sizeof *s->verdicts));
    for (int b = 0; whole && b < BACKENDS_MAX; b++)
        whole = (s->cards[b] = calloc((size_t)world, COLLECTIVES_CARD)) != NULL;
    if (whole)
        return s;
    scratch_free(s);
    base_error(CADRE_ENOMEM, "out of memory for the setup of %d ranks", world);
    return NULL;
}

static void take_scores(struct scratch *s, const collectives_place *place, int asked)
{
    for (int b = 0; collectives_registry()[b]; b++) {
        collectives_place its = *place;
        its.cards = (const unsigned char(*)[COLLECTIVES_CARD])s->cards[b];
        for (int r = 0; r < place->oob->world; r++)
            memcpy(s->cards[b][r], s->hellos[r].cards[b], COLLECTIVES_CARD);
        its.asked_by_name = b == asked;
        if (asked >= 0 && b != asked)
            continue;
        if (place->device && !collectives_registry()[b]->device && asked < 0)
            continue; /* not even worth a word */
        if (place->device && !collectives_registry()[b]->device)
            snprintf(s->verdict.why[b], COLLECTIVES_WHY, "works on host memory, not on %.40s", place->device);
        else
            s->verdict.score[b] = collectives_registry()[b]->score(&its, s->verdict.why[b]);
    }
}

static int set_up(cadre_comm *comm, const cadre_oob *oob, const cadre_comm_options *options, int status,
                  double timeout_s)
{
    struct scratch *s = scratch_new(oob->world);
    if (!s)
        return CADRE_ENOMEM;
    collectives_place place = {.oob = oob, .timeout_s = timeout_s, .device = options ? options->device : NULL};
    int asked, chosen;
    fill_hello(&s->mine, options ? options->backend : NULL, status);
    status = collectives_gather(oob, &s->mine, s->hellos, sizeof s->mine, timeout_s);
    if (status) {
        base_wrap(status, "meeting the other ranks");
        goto out;
    }
    status = judge_hellos(s->hellos, oob->world, &asked);
    if (status)
        goto out;
    take_scores(s, &place, asked);
    status = collectives_gather(oob, &s->verdict, s->verdicts, sizeof s->verdict, timeout_s);
    if (status) {
        base_wrap(status, "choosing a backend");
        goto out;
    }
    chosen = choose(s->verdicts, oob->world, count_backends(), asked);
    if (chosen < 0) {
        status = CADRE_ENOTSUP;
        goto out;
    }
    comm->backend = collectives_registry()[chosen];
    place.cards = (const unsigned char(*)[COLLECTIVES_CARD])s->cards[chosen];
    place.asked_by_name = chosen == asked;
    status = comm->backend->init(&place, &comm->self);
    if (status)
        base_wrap(status, "%s", comm->backend->name);
out:
    scratch_free(s);
    return status;
}

static int check_arguments(const cadre_oob *oob, const cadre_comm_options *options, cadre_comm **out)
{
    if (!oob || !out || oob->size < sizeof *oob)
        return base_error(CADRE_EINVAL, "cadre_comm_new: oob is missing, or its size is not set");
    if (oob->world < 1 || oob->rank < 0 || oob->rank >= oob->world)
        return base_error(CADRE_EINVAL, "cadre_comm_new: rank %d of %d", oob->rank, oob->world);
    if (oob->world > 1 && !oob->all_gather)
        return base_error(CADRE_EINVAL, "cadre_comm_new: %d ranks need an all_gather", oob->world);
    if (options && options->size && options->size < sizeof *options)
        return base_error(CADRE_EINVAL, "cadre_comm_new: options of size %zu", options->size);
    if (options &&
        (!(options->timeout_s >= 0) || !(options->stall_s >= 0) || options->timeout_s > 1e9 || options->stall_s > 1e9))
        return base_error(CADRE_EINVAL, "cadre_comm_new: a time is negative or over 1e9 seconds");
    if (options && options->device && strcmp(options->device, "cuda") != 0 && strncmp(options->device, "cuda:", 5) != 0)
        return base_error(CADRE_EINVAL,
                          "cadre_comm_new: device \"%.40s\": there are \"cuda\" and \"cuda:N\", and NULL "
                          "for host memory",
                          options->device);
    return CADRE_OK;
}

/* Seconds from the environment, where the options leave it open. */
static double default_stall_s(void)
{
    const char *text = getenv("CADRE_STALL_S");
    char *end;
    double seconds = text && *text ? strtod(text, &end) : 0;
    return seconds > 0 && seconds <= 1e9 && !*end ? seconds : 30;
}

int cadre_comm_new(const cadre_oob *oob, const cadre_comm_options *options, cadre_comm **out)
{
    int status = check_arguments(oob, options, out);
    if (status)
        return status;
    double timeout_s = options && options->timeout_s > 0 ? options->timeout_s : 1800;
    cadre_comm none = {0}, *comm = base_calloc(1, sizeof *comm);
    status = set_up(comm ? comm : &none, oob, options, comm ? CADRE_OK : CADRE_ENOMEM, timeout_s);
    if (status) {
        free(comm);
        return base_wrap(status, "communicator of %d ranks", oob->world);
    }
    comm->rank = oob->rank;
    comm->world = oob->world;
    comm->timeout_s = timeout_s;
    comm->stall_s = options && options->stall_s > 0 ? options->stall_s : default_stall_s();
    *out = comm;
    return CADRE_OK;
}
