/* Taking a state's content out of the program, so that writing it can go on behind the training. */
#include "state.h"

#include "base/error.h"
#include "base/mem.h"

#include <stdlib.h>
#include <string.h>

static void drop_entries(state_snapshot *snapshot)
{
    for (int i = 0; i < snapshot->count; i++)
        free(snapshot->entries[i].name);
    free(snapshot->entries);
    snapshot->entries = NULL;
    snapshot->count = 0;
}

void state_snapshot_free(state_snapshot *snapshot)
{
    if (!snapshot)
        return;
    drop_entries(snapshot);
    free(snapshot->data);
    free(snapshot);
}

/* Where an entry stands in the file: tensors by falling element size, then locals, then scalars. */
static int place_of(const state_entry *entry)
{
    if (entry->kind != STATE_TENSOR)
        return entry->kind == STATE_LOCAL ? 4 : 5;
    size_t nbytes = state_dtype_nbytes(entry->dtype);
    return nbytes == 8 ? 0 : nbytes == 4 ? 1 : nbytes == 2 ? 2 : 3;
}

/* Describe the entries in file order. The count grows with each so that what is there can be freed at any point. */
static int copy_entries(const struct cadre_state_impl *impl, state_snapshot *snapshot)
{
    drop_entries(snapshot);
    snapshot->entries = base_calloc((size_t)impl->count, sizeof *snapshot->entries);
    if (!snapshot->entries)
        return CADRE_ENOMEM;
    for (int place = 0; place <= 5; place++)
        for (int i = 0; i < impl->count; i++) {
            const state_entry *from = &impl->entries[i];
            if (place_of(from) != place)
                continue;
            state_entry *to = &snapshot->entries[snapshot->count];
            *to = *from;
            to->name = base_strdup(from->name);
            if (!to->name)
                return CADRE_ENOMEM;
            snapshot->count++;
        }
    return CADRE_OK;
}

static bool is_own(const state_snapshot *snapshot, const state_entry *entry)
{
    return entry->kind == STATE_TENSOR && entry->shard == snapshot->shard;
}

/* By falling size; equal ones in their order, so that all ranks find the same. */
static int by_size(const void *left, const void *right)
{
    const state_entry *a = *(state_entry *const *)left, *b = *(state_entry *const *)right;
    return a->nbytes != b->nbytes ? (a->nbytes < b->nbytes ? 1 : -1) : a < b ? -1 : a > b;
}

static int share_out(state_snapshot *snapshot)
{
    int count = 0, shards = snapshot->shards;
    for (int i = 0; i < snapshot->count; i++)
        snapshot->entries[i].shard = 0;
    if (shards <= 1)
        return CADRE_OK;
    state_entry **tensors = base_calloc((size_t)snapshot->count, sizeof *tensors);
    uint64_t *loads = base_calloc((size_t)shards, sizeof *loads);
    int status = tensors && loads ? CADRE_OK : CADRE_ENOMEM;
    for (int i = 0; status == CADRE_OK && i < snapshot->count; i++)
        if (snapshot->entries[i].kind == STATE_TENSOR)
            tensors[count++] = &snapshot->entries[i];
    if (status == CADRE_OK && count)
        qsort(tensors, (size_t)count, sizeof *tensors, by_size);
    for (int i = 0; status == CADRE_OK && i < count; i++) {
        int least = 0;
        for (int shard = 1; shard < shards; shard++)
            least = loads[shard] < loads[least] ? shard : least;
        tensors[i]->shard = least;
        loads[least] += tensors[i]->nbytes;
    }
    free(tensors);
    free(loads);
    return status;
}

static int make_room(state_snapshot *snapshot)
{
    size_t nbytes = 0;
    for (int i = 0; i < snapshot->count; i++)
        if (is_own(snapshot, &snapshot->entries[i]) &&
            __builtin_add_overflow(nbytes, snapshot->entries[i].nbytes, &nbytes))
            return base_error(CADRE_ENOMEM, "the state is larger than any memory");
    if (nbytes > snapshot->capacity || !snapshot->data) {
        free(snapshot->data);
        snapshot->capacity = 0;
        snapshot->data = base_malloc(nbytes);
        if (!snapshot->data)
            return CADRE_ENOMEM;
        snapshot->capacity = nbytes;
    }
    snapshot->nbytes = nbytes;
    return CADRE_OK;
}

/* Copy one entry's content to `at`, and cut the copy off from the program. */
static int take_entry(state_entry *entry, bool own, unsigned char *at)
{
    int status = CADRE_OK;
    if (own)
        status = state_entry_save(entry, at);
    else if (entry->kind == STATE_INT64)
        memcpy(&entry->value.integer, entry->data, sizeof entry->value.integer);
    else if (entry->kind == STATE_DOUBLE)
        memcpy(&entry->value.real, entry->data, sizeof entry->value.real);
    entry->data = own ? at : NULL;
    entry->source = (cadre_state_source){0};
    return status;
}

static int take(cadre_state *state, int rank, int world, state_snapshot **inout)
{
    if (!state)
        return base_error(CADRE_EINVAL, "a snapshot needs a state");
    state_snapshot *snapshot = *inout ? *inout : base_calloc(1, sizeof *snapshot);
    if (!snapshot)
        return CADRE_ENOMEM;
    snapshot->shard = rank;
    snapshot->shards = world;
    int status = copy_entries(state->impl, snapshot);
    if (status == CADRE_OK)
        status = share_out(snapshot);
    if (status == CADRE_OK)
        status = make_room(snapshot);
    unsigned char *at = snapshot->data;
    for (int i = 0; status == CADRE_OK && i < snapshot->count; i++) {
        state_entry *entry = &snapshot->entries[i];
        bool own = is_own(snapshot, entry);
        status = take_entry(entry, own, at);
        at += own ? entry->nbytes : 0;
    }
    if (status != CADRE_OK) {
        if (!*inout)
            state_snapshot_free(snapshot);
        return status;
    }
    snapshot->rows = state_rows(state);
    snapshot->epoch = state->epoch;
    snapshot->step = state->step;
    *inout = snapshot;
    return CADRE_OK;
}

int state_snapshot_take(cadre_state *state, state_snapshot **snapshot) { return take(state, 0, 0, snapshot); }

int state_snapshot_take_share(cadre_state *state, int rank, int world, state_snapshot **snapshot)
{
    if (rank < 0 || rank >= world)
        return base_error(CADRE_EINVAL, "a share needs a rank within its world");
    return take(state, rank, world, snapshot);
}

static size_t nbytes_of(const cadre_state *state, state_kind kind)
{
    size_t nbytes = 0;
    for (int i = 0; i < cadre_state_count(state); i++)
        if (state->impl->entries[i].kind == kind)
            nbytes += state->impl->entries[i].nbytes;
    return nbytes;
}

void state_set_rows(cadre_state *state, int rows) { state->impl->rows = rows; }

int state_rows(const cadre_state *state) { return state->impl->rows ? state->impl->rows : 1; }

size_t state_tensor_nbytes(const cadre_state *state) { return nbytes_of(state, STATE_TENSOR); }

size_t state_local_nbytes(const cadre_state *state) { return nbytes_of(state, STATE_LOCAL); }

bool state_has_own(const cadre_state *state)
{
    for (int i = 0; i < state->impl->count; i++)
        if (state->impl->entries[i].kind == STATE_LOCAL && !state->impl->entries[i].cut)
            return true;
    return false;
}

int state_pack_local(cadre_state *state, void *buffer)
{
    unsigned char *at = buffer;
    for (int i = 0; i < cadre_state_count(state); i++) {
        const state_entry *entry = &state->impl->entries[i];
        if (entry->kind != STATE_LOCAL)
            continue;
        int status = state_entry_save(entry, at);
        if (status != CADRE_OK)
            return status;
        at += entry->nbytes;
    }
    return CADRE_OK;
}
