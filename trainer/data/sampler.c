#include "cadre/data.h"

#include "base/error.h"
#include "base/mem.h"
#include "base/rng.h"
#include "keys.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

int cadre_sampler_init(cadre_sampler *sampler, int64_t count, int64_t batch_size, int rank, int world, bool shuffle,
                       bool drop_last, uint64_t seed)
{
    if (!sampler || count < 0)
        return base_error(CADRE_EINVAL, "sampler over %" PRId64 " samples", count);
    if (world < 1 || rank < 0 || rank >= world)
        return base_error(CADRE_EINVAL, "sampler for rank %d of %d; ranks go from 0 to world - 1", rank, world);
    if (batch_size < 1 || batch_size > INT64_MAX / world || (uint64_t)count > SIZE_MAX / sizeof(int64_t))
        return base_error(CADRE_EINVAL,
                          "sampler with batches of %" PRId64 " on each of %d ranks over %" PRId64 " samples",
                          batch_size, world, count);
    *sampler = (cadre_sampler){.count = count,
                               .batch_size = batch_size,
                               .rank = rank,
                               .world = world,
                               .shuffle = shuffle,
                               .drop_last = drop_last,
                               .seed = seed};
    return CADRE_OK;
}

void cadre_sampler_done(cadre_sampler *sampler)
{
    if (!sampler)
        return;
    free(sampler->order);
    sampler->order = NULL;
}

static int64_t global_batch(const cadre_sampler *sampler) { return sampler->batch_size * sampler->world; }

/* Where no batch follows any more. */
static int64_t epoch_end(const cadre_sampler *sampler)
{
    return sampler->drop_last ? sampler->count - (sampler->count - sampler->base) % global_batch(sampler) : sampler->count;
}

int cadre_sampler_seek(cadre_sampler *sampler, int64_t epoch, int64_t consumed)
{
    if (epoch < 0 || consumed < 0 || consumed > sampler->count)
        return base_error(CADRE_EINVAL, "sampler: no position %" PRId64 " in epoch %" PRId64 " of %" PRId64 " samples",
                          consumed, epoch, sampler->count);
    if (epoch != sampler->epoch)
        cadre_sampler_done(sampler); /* that was the other epoch's order; made anew when it is needed */
    sampler->epoch = epoch;
    sampler->base = sampler->consumed = consumed;
    return CADRE_OK;
}

/* Fisher-Yates, from the end down (Durstenfeld, CACM 7(7), 1964). */
static int make_order(cadre_sampler *sampler)
{
    int64_t *order = base_malloc((size_t)sampler->count * sizeof *order);
    if (!order)
        return base_wrap(CADRE_ENOMEM, "shuffle %" PRId64 " samples", sampler->count);
    base_rng rng;
    base_rng_init(&rng, sampler->seed, base_rng_mix((uint64_t)sampler->epoch, DATA_KEY_SAMPLER));
    for (int64_t i = 0; i < sampler->count; i++)
        order[i] = i;
    for (int64_t i = sampler->count - 1; i > 0; i--) {
        int64_t j = (int64_t)base_rng_below(&rng, (uint64_t)i + 1);
        int64_t kept = order[i];
        order[i] = order[j];
        order[j] = kept;
    }
    sampler->order = order;
    return CADRE_OK;
}

int cadre_sampler_next(cadre_sampler *sampler, int64_t *indices, int64_t *taken)
{
    if (sampler->consumed >= epoch_end(sampler))
        return CADRE_STOP;
    if (sampler->shuffle && !sampler->order) {
        int status = make_order(sampler);
        if (status != CADRE_OK)
            return status;
    }
    int64_t left = sampler->count - sampler->consumed;
    int64_t size = left < global_batch(sampler) ? left : global_batch(sampler);
    int64_t parts = sampler->parts > 1 ? sampler->parts : 1, workers = parts * sampler->world, lowest = parts * sampler->rank;
    int64_t share = size / workers;
    int64_t more = size % workers; /* so many of the lower workers take one more */
    int64_t first = sampler->consumed + share * lowest + (lowest < more ? lowest : more);
    int64_t mine = share * parts + (more <= lowest ? 0 : more - lowest < parts ? more - lowest : parts);
    if (sampler->shuffle)
        memcpy(indices, sampler->order + first, (size_t)mine * sizeof *indices);
    else
        for (int64_t i = 0; i < mine; i++)
            indices[i] = first + i;
    sampler->consumed += size;
    *taken = mine;
    return CADRE_OK;
}

int64_t cadre_sampler_batches(const cadre_sampler *sampler)
{
    int64_t whole = sampler->count / global_batch(sampler);
    return whole + (!sampler->drop_last && sampler->count % global_batch(sampler) != 0);
}
