#include "strikes.h"

#include "base/clock.h"
#include "base/fault.h"
#include "collectives/comm.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

enum { LARGE = 1 << 20, SMALL = 100 };
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
enum { DEADLINE_S = 5 };
#else
enum { DEADLINE_S = 3 };
#endif

static const char *const operations[STRIKE_OPERATIONS] = {
    "all_reduce, registered",
    "all_reduce",
    "small all_reduce",
    "reduce_scatter",
    "all_gather",
    "broadcast from it",
    "barrier",
    "all_reduce_start",
    "broadcast from another",
    "bfloat16 all_reduce",
    "alloc",
};

static int operate(cadre_comm *comm, const struct strike *strike, void *registered, void *plain, void *more)
{
    int world = cadre_comm_world(comm);
    cadre_request *request = NULL;
    void *memory = NULL;
    int status;
    switch (strike->operation) {
    case 0:
        return cadre_all_reduce(comm, registered, LARGE, CADRE_FLOAT32, CADRE_SUM);
    case 1:
        return cadre_all_reduce(comm, plain, LARGE, CADRE_FLOAT32, CADRE_SUM);
    case 2:
        return cadre_all_reduce(comm, plain, SMALL, CADRE_FLOAT32, CADRE_SUM);
    case 3:
        return cadre_reduce_scatter(comm, plain, more, LARGE / (size_t)world, CADRE_FLOAT32, CADRE_SUM);
    case 4:
        return cadre_all_gather(comm, plain, more, LARGE / (size_t)world, CADRE_FLOAT32);
    case 5:
        return cadre_broadcast(comm, plain, LARGE, CADRE_FLOAT32, strike->victim);
    case 6:
        return cadre_barrier(comm);
    case 7:
        status = cadre_all_reduce_start(comm, registered, LARGE, CADRE_FLOAT32, CADRE_SUM, &request);
        return status ? status : cadre_wait(comm, &request);
    case 8:
        return cadre_broadcast(comm, plain, LARGE, CADRE_FLOAT32, (strike->victim + 1) % world);
    case 9:
        return cadre_all_reduce(comm, plain, LARGE, CADRE_BFLOAT16, CADRE_SUM);
    default:
        status = cadre_comm_alloc(comm, 10000, &memory);
        cadre_comm_dealloc(comm, memory);
        return status;
    }
}

/* "rank 1 (pid 77) died", or among those that are missing: "waiting for rank 0, rank 1; there: rank 2". */
static void check_words(const struct strike *strike, bool died)
{
    char wanted[64], words[1024];
    snprintf(words, sizeof words, "%s", cadre_error_message());
    snprintf(wanted, sizeof wanted, died ? "rank %d (pid " : "rank %d", strike->victim);
    char *waiting = strstr(words, "waiting for "), *end = waiting ? strchr(waiting, ';') : NULL;
    CHECK(died || end);
    if (end)
        *end = '\0';
    const char *found = strstr(died ? words : waiting, wanted);
    CHECK(found && (!died || strstr(found, " died")));
}

static void rank(const cadre_oob *oob, void *user)
{
    const struct strike *strike = user;
    const struct strike_place *place = strike->place;
    if (place->enter)
        place->enter(oob);
    bool died = !strike->stop && (!place->sees_death || place->sees_death(oob->rank, strike->victim));
    cadre_comm *comm = NULL;
    cadre_comm_options options = {.backend = place->backend, .timeout_s = 60, .stall_s = 0.1};
    CHECK(cadre_comm_new(oob, &options, &comm) == CADRE_OK);
    void *registered, *plain = calloc(LARGE, sizeof(float)), *more = calloc(LARGE, sizeof(float));
    CHECK(plain && more && cadre_comm_alloc(comm, LARGE * sizeof(float), &registered) == CADRE_OK);
    comm->timeout_s = died ? 15 : DEADLINE_S; /* only now: to make all that takes long on a busy machine */
    char fault[64];
    snprintf(fault, sizeof fault, "collective:%d:%s@%d", strike->step, strike->stop ? "stop" : "kill", strike->victim);
    base_fault_set(fault);
    base_fault_set_rank(oob->rank);
    int status = CADRE_OK;
    double begun = 0;
    for (int i = 0; i < 50 && !status; i++) {
        begun = base_now();
        status = operate(comm, strike, registered, plain, more);
    }
    CHECK(oob->rank != strike->victim); /* which never comes here */
    CHECK(status == (died ? CADRE_EPEER : CADRE_ETIMEDOUT));
    CHECK(base_now() - begun < (died ? 10 : 20));
    check_words(strike, died);
    CHECK(cadre_barrier(comm) == CADRE_ESTATE);
    check_words(strike, died);
    cadre_comm_dealloc(comm, registered);
    cadre_comm_free(comm);
    free(plain);
    free(more);
}

static int strike(int i, void *user)
{
    struct strike own = ((const struct strike *)user)[i];
    char what[96];
    snprintf(what, sizeof what, "%s: rank %d of %d %s at step %d of %s", own.place->backend, own.victim,
             own.place->world, own.stop ? "stopped" : "killed", own.step, operations[own.operation]);
    watchdog(what, 100);
    if (own.place->prepare)
        own.place->prepare(own.place->world);
    return ranks_try(PROCESSES, own.place->world, own.victim, rank, &own);
}

void strikes_run(struct strike *strikes, int count, int at_once)
{
    watchdog("strikes", 100 + 10 * (unsigned)count);
    ranks_apart(count, at_once, strike, strikes);
}
