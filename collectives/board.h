/*
 * Ranks without a launcher: a board in shared memory on which forked processes of one machine, or threads, gather what
 * a backend needs from outside (cadre_oob). For the command line and benches.
 */
#ifndef COLLECTIVES_BOARD_H
#define COLLECTIVES_BOARD_H

#include "cadre/collectives.h"

typedef struct collectives_board collectives_board;

/* One rank's place at a board. It has to live as long as communicators made from its oob. */
typedef struct collectives_seat {
    collectives_board *board;
    int rank;
    uint32_t round; /* gathered so far */
} collectives_seat;

/** A board for `world` ranks; make it before they are forked. CADRE_EINVAL, CADRE_ENOMEM. */
int collectives_board_new(int world, collectives_board **out);
/** Take the place of `rank`; `seat` is filled, `oob` goes to cadre_comm_new. */
void collectives_board_sit(collectives_board *board, int rank, collectives_seat *seat, cadre_oob *oob);
/** A rank will not come (any more): who waits for it gets CADRE_EPEER. From any process. */
void collectives_board_gone(collectives_board *board, int rank);
/** Local: unmaps it here. NULL is fine. */
void collectives_board_free(collectives_board *board);

#endif
