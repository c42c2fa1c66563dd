/* Errors in a train function: leave it with a status, past `done`, where all is freed. */
#ifndef EXAMPLES_TRY_H
#define EXAMPLES_TRY_H

#include "cadre/status.h"
#include "ctorch.h"

/* A call of Cadre's; CADRE_STOP is no error and stays in `status`. */
#define TRY(call)                                                                                                      \
    do {                                                                                                               \
        if ((status = (call)) < 0)                                                                                     \
            goto done;                                                                                                 \
    } while (0)

/* A call of ctorch's, whose words become ours. */
#define TRY_TORCH(call)                                                                                                \
    do {                                                                                                               \
        if ((call) != CT_OK) {                                                                                         \
            status = cadre_fail(CADRE_ETORCH, "%s", ct_error_message());                                               \
            goto done;                                                                                                 \
        }                                                                                                              \
    } while (0)

#endif
