/* What the session and ddp tell each other by way of the communicator: the wish to leave, which rides on other traffic,
 * and logical workers. */
#include "comm.h"

void cadre_comm_set_wish(cadre_comm *comm, bool wish) { comm->wish = wish; }

bool cadre_comm_wish(const cadre_comm *comm) { return comm->wish; }

void cadre_comm_set_agreed(cadre_comm *comm, bool any) { comm->agreed = any ? 2 : 1; }

int cadre_comm_take_agreed(cadre_comm *comm)
{
    int agreed = comm->agreed;
    comm->agreed = 0;
    return agreed - 1;
}

void cadre_comm_set_logical(cadre_comm *comm, int workers) { comm->logical = workers; }

int cadre_comm_logical(const cadre_comm *comm) { return comm->logical; }
