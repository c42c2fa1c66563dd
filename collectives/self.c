/* The self backend: one rank, so every operation is a copy at most. */
#include "backend.h"
#include "reduce.h"

#include <stdio.h>
#include <string.h>

static int self_score(const collectives_place *place, char why[COLLECTIVES_WHY])
{
    snprintf(why, COLLECTIVES_WHY, "one rank, nothing to exchange");
    if (place->oob->world == 1)
        return 100;
    snprintf(why, COLLECTIVES_WHY, "self is for one rank, not %d", place->oob->world);
    return 0;
}

static int self_init(const collectives_place *place, void **self)
{
    (void)place;
    *self = NULL;
    return CADRE_OK;
}

static int self_copy(void *self, collectives_op *op)
{
    (void)self;
    if (op->output != op->input)
        memcpy(op->output, op->input, op->count * cadre_dtype_size(op->dtype));
    return CADRE_OK;
}

static int self_nothing(void *self, collectives_op *op)
{
    (void)self;
    (void)op;
    return CADRE_OK;
}

static void self_free(void *self) { (void)self; }

const collectives_backend collectives_self = {
    .abi = COLLECTIVES_ABI,
    .size = sizeof(collectives_backend),
    .name = "self",
    .score = self_score,
    .init = self_init,
    .all_reduce = self_nothing,
    .reduce_scatter = self_copy,
    .all_gather = self_copy,
    .broadcast = self_nothing,
    .barrier = self_nothing,
    .free = self_free,
};
