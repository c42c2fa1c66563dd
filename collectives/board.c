/*
 * Messages of round n lie in half n % 2: a rank that writes round n + 2 has seen every rank's n + 1, so all have read
 * n. Pages that no message reaches are never made.
 */
#include "board.h"

#include "base/clock.h"
#include "base/error.h"

#include <stdatomic.h>
#include <string.h>
#include <sys/mman.h>

enum { MESSAGE_MAX = 65536, GONE = INT32_MAX, PAUSE_NS = 50000 };

struct place {
    _Alignas(64) _Atomic uint32_t posted; /* rounds; GONE: no more will come */
    unsigned char messages[2][MESSAGE_MAX];
};

struct collectives_board {
    int world;
    size_t nbytes;
    struct place places[];
};

int collectives_board_new(int world, collectives_board **out)
{
    if (world < 1 || world > 4096)
        return base_error(CADRE_EINVAL, "%d ranks cannot be had (1 to 4096)", world);
    size_t nbytes = sizeof(collectives_board) + (size_t)world * sizeof(struct place);
    collectives_board *board =
        mmap(NULL, nbytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (board == MAP_FAILED)
        return base_error(CADRE_ENOMEM, "out of memory for %d ranks to meet", world);
    board->world = world;
    board->nbytes = nbytes;
    *out = board;
    return CADRE_OK;
}

static int await(struct place *place, int rank, uint32_t round, double deadline)
{
    uint32_t posted;
    while ((posted = atomic_load(&place->posted)) < round) {
        if (base_now() > deadline)
            return base_error(CADRE_ETIMEDOUT, "rank %d has not come", rank);
        base_sleep_ns(PAUSE_NS);
    }
    return posted == GONE ? base_error(CADRE_EPEER, "rank %d is gone", rank) : CADRE_OK;
}

static int gather(void *user, const void *mine, void *all, size_t nbytes, double timeout_s)
{
    collectives_seat *seat = user;
    collectives_board *board = seat->board;
    if (nbytes > MESSAGE_MAX)
        return base_error(CADRE_EINVAL, "a message of %zu bytes (%d at most)", nbytes, MESSAGE_MAX);
    uint32_t round = ++seat->round;
    memcpy(board->places[seat->rank].messages[round % 2], mine, nbytes);
    atomic_store(&board->places[seat->rank].posted, round);
    double deadline = base_now() + timeout_s;
    for (int r = 0; r < board->world; r++) {
        int status = await(&board->places[r], r, round, deadline);
        if (status)
            return status;
        memcpy((unsigned char *)all + (size_t)r * nbytes, board->places[r].messages[round % 2], nbytes);
    }
    return CADRE_OK;
}

void collectives_board_sit(collectives_board *board, int rank, collectives_seat *seat, cadre_oob *oob)
{
    *seat = (collectives_seat){.board = board, .rank = rank};
    *oob = (cadre_oob){.size = sizeof *oob, .rank = rank, .world = board->world, .all_gather = gather, .user = seat};
}

void collectives_board_gone(collectives_board *board, int rank) { atomic_store(&board->places[rank].posted, GONE); }

void collectives_board_free(collectives_board *board)
{
    if (board)
        munmap(board, board->nbytes);
}
