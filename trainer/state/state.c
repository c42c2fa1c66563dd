#include "state.h"

#include "base/error.h"
#include "base/mem.h"
#include "text.h"

#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

enum { NAME_MAX_BYTES = 200 };

static const struct {
    const char *name;
    size_t nbytes;
} dtypes[] = {
    [CADRE_STATE_F64] = {"F64", 8},   [CADRE_STATE_F32] = {"F32", 4}, [CADRE_STATE_F16] = {"F16", 2},
    [CADRE_STATE_BF16] = {"BF16", 2}, [CADRE_STATE_I64] = {"I64", 8}, [CADRE_STATE_I32] = {"I32", 4},
    [CADRE_STATE_I16] = {"I16", 2},   [CADRE_STATE_I8] = {"I8", 1},   [CADRE_STATE_U8] = {"U8", 1},
    [CADRE_STATE_BOOL] = {"BOOL", 1},
};

static bool dtype_known(cadre_state_dtype dtype)
{
    return (int)dtype >= 0 && (size_t)dtype < sizeof dtypes / sizeof *dtypes;
}

size_t state_dtype_nbytes(cadre_state_dtype dtype) { return dtypes[dtype].nbytes; }
const char *state_dtype_name(cadre_state_dtype dtype) { return dtypes[dtype].name; }

struct whole_state { /* face and inside in one allocation */
    cadre_state face;
    struct cadre_state_impl impl;
};

int cadre_state_new(cadre_state **out)
{
    if (!out)
        return base_error(CADRE_EINVAL, "cadre_state_new: there is nowhere to put it");
    struct whole_state *whole = base_calloc(1, sizeof *whole);
    if (!whole)
        return CADRE_ENOMEM;
    whole->face.impl = &whole->impl;
    *out = &whole->face;
    return CADRE_OK;
}

void cadre_state_free(cadre_state *state)
{
    if (!state)
        return;
    struct cadre_state_impl *impl = state->impl;
    for (int i = impl->count - 1; i >= 0; i--) {
        if (impl->entries[i].source.release)
            impl->entries[i].source.release(impl->entries[i].source.user);
        free(impl->entries[i].name);
    }
    free(impl->entries);
    free(state);
}

static int check_name(const cadre_state *state, const char *name)
{
    if (!state)
        return base_error(CADRE_EINVAL, "a state entry needs a state");
    size_t length = name ? strlen(name) : 0;
    if (length == 0 || length > NAME_MAX_BYTES)
        return base_error(CADRE_EINVAL, "a state entry needs a name of 1 to %d bytes, not %zu", NAME_MAX_BYTES, length);
    if (strcmp(name, "__metadata__") == 0)
        return base_error(CADRE_EINVAL, "the name __metadata__ is taken by safetensors");
    for (const char *at = name; *at; at++)
        if ((unsigned char)*at < 0x20 || *at == 0x7F)
            return base_error(CADRE_EINVAL, "state entry \"%s\": the name has a control character", name);
    if (!state_utf8_valid(name))
        return base_error(CADRE_EINVAL, "state entry \"%s\": the name is not UTF-8", name);
    for (int i = 0; i < state->impl->count; i++)
        if (strcmp(state->impl->entries[i].name, name) == 0)
            return base_error(CADRE_EEXIST, "state entry \"%s\" is there already", name);
    return CADRE_OK;
}

static int append(cadre_state *state, const char *name, state_entry entry)
{
    int status = check_name(state, name);
    if (status != CADRE_OK)
        return status;
    if (!entry.source.save && !entry.data && entry.nbytes)
        return base_error(CADRE_EINVAL, "state entry \"%s\" has no memory", name);
    struct cadre_state_impl *impl = state->impl;
    if (impl->count == impl->capacity) {
        int capacity = impl->capacity ? impl->capacity * 2 : 16;
        state_entry *entries = base_realloc(impl->entries, (size_t)capacity * sizeof *entries);
        if (!entries)
            return CADRE_ENOMEM;
        impl->entries = entries;
        impl->capacity = capacity;
    }
    entry.name = base_strdup(name);
    if (!entry.name)
        return CADRE_ENOMEM;
    impl->entries[impl->count++] = entry;
    return CADRE_OK;
}

static int describe_tensor(const char *name, cadre_state_dtype dtype, int dims, const int64_t *shape,
                           state_entry *entry)
{
    if (!dtype_known(dtype) || dims < 0 || dims > CADRE_STATE_MAX_DIMS || (dims && !shape))
        return base_error(CADRE_EINVAL, "state entry \"%s\": type %d and %d dimensions (at most %d) are no tensor",
                          name ? name : "", (int)dtype, dims, CADRE_STATE_MAX_DIMS);
    *entry = (state_entry){.kind = STATE_TENSOR, .dtype = dtype, .dims = dims, .nbytes = dtypes[dtype].nbytes};
    bool empty = false;
    for (int i = 0; i < dims; i++) {
        if (shape[i] < 0)
            return base_error(CADRE_EINVAL, "state entry \"%s\": dimension %d is negative", name ? name : "", i);
        entry->shape[i] = shape[i];
        empty = empty || shape[i] == 0;
    }
    for (int i = 0; i < dims && !empty; i++)
        if (__builtin_mul_overflow(entry->nbytes, (size_t)shape[i], &entry->nbytes) || entry->nbytes > INT64_MAX / 2)
            return base_error(CADRE_EINVAL, "state entry \"%s\": the shape is larger than any memory",
                              name ? name : "");
    if (empty)
        entry->nbytes = 0;
    return CADRE_OK;
}

static int check_source(const char *name, const cadre_state_source *source)
{
    if (!source || !source->save || !source->load)
        return base_error(CADRE_EINVAL, "state entry \"%s\": a source needs save and load", name ? name : "");
    return CADRE_OK;
}

int cadre_state_add_tensor(cadre_state *state, const char *name, cadre_state_dtype dtype, int dims,
                           const int64_t *shape, void *data)
{
    state_entry entry;
    int status = describe_tensor(name, dtype, dims, shape, &entry);
    if (status != CADRE_OK)
        return status;
    entry.data = data;
    return append(state, name, entry);
}

int cadre_state_add_source(cadre_state *state, const char *name, cadre_state_dtype dtype, int dims,
                           const int64_t *shape, const cadre_state_source *source)
{
    state_entry entry;
    int status = describe_tensor(name, dtype, dims, shape, &entry);
    if (status == CADRE_OK)
        status = check_source(name, source);
    if (status != CADRE_OK)
        return status;
    entry.source = *source;
    return append(state, name, entry);
}

int cadre_state_add_int64(cadre_state *state, const char *name, int64_t *value)
{
    return append(state, name, (state_entry){.kind = STATE_INT64, .nbytes = sizeof *value, .data = value});
}

int cadre_state_add_double(cadre_state *state, const char *name, double *value)
{
    return append(state, name, (state_entry){.kind = STATE_DOUBLE, .nbytes = sizeof *value, .data = value});
}

static int add_local(cadre_state *state, const char *name, size_t nbytes, void *data, cadre_state_source source, bool cut)
{
    if (nbytes > INT64_MAX / 2)
        return base_error(CADRE_EINVAL, "state entry \"%s\" is larger than any memory", name ? name : "");
    state_entry entry = {.kind = STATE_LOCAL, .dtype = CADRE_STATE_U8, .dims = 1, .nbytes = nbytes, .cut = cut};
    entry.shape[0] = (int64_t)nbytes;
    entry.data = data;
    entry.source = source;
    return append(state, name, entry);
}

int cadre_state_add_local(cadre_state *state, const char *name, void *data, size_t nbytes)
{
    return add_local(state, name, nbytes, data, (cadre_state_source){0}, false);
}

int cadre_state_add_local_source(cadre_state *state, const char *name, size_t nbytes, const cadre_state_source *source)
{
    int status = check_source(name, source);
    return status == CADRE_OK ? add_local(state, name, nbytes, NULL, *source, false) : status;
}

int cadre_state_add_shard_source(cadre_state *state, const char *name, size_t nbytes, const cadre_state_source *source)
{
    int status = check_source(name, source);
    if (status == CADRE_OK && nbytes % CADRE_STATE_SHARD_ALIGN != 0)
        status = base_error(CADRE_EINVAL, "state entry \"%s\": a shard of %zu bytes is no multiple of %d", name ? name : "", nbytes,
                            (int)CADRE_STATE_SHARD_ALIGN);
    return status == CADRE_OK ? add_local(state, name, nbytes, NULL, *source, true) : status;
}

int cadre_state_count(const cadre_state *state) { return state ? state->impl->count : 0; }

/* A callback's answer as a status with a message, "save state entry "x": ...", whatever it answered. */
static int answered(int status, const char *verb, const char *name)
{
    if (status == CADRE_OK)
        return CADRE_OK;
    if (status > 0 || strcmp(cadre_status_name(status), "unknown") == 0)
        status = base_error(CADRE_EINVAL, "its source answered %d, which is no status", status);
    else if (!*cadre_error_message())
        base_error(status, "%s", cadre_status_text(status));
    return base_wrap(status, "%s state entry \"%s\"", verb, name);
}

int state_entry_save(const state_entry *entry, void *buffer)
{
    if (entry->source.save) {
        base_error(CADRE_OK, "%s", ""); /* so that no older failure is taken for the source's */
        return answered(entry->source.save(entry->source.user, buffer, entry->nbytes), "save", entry->name);
    }
    if (entry->nbytes)
        memcpy(buffer, entry->data, entry->nbytes);
    return CADRE_OK;
}

int state_entry_load(const state_entry *entry, const void *buffer)
{
    if (entry->source.save) {
        base_error(CADRE_OK, "%s", "");
        return answered(entry->source.load(entry->source.user, buffer, entry->nbytes), "load", entry->name);
    }
    if (entry->nbytes)
        memcpy(entry->data, buffer, entry->nbytes);
    return CADRE_OK;
}

uint64_t state_layout_hash(const cadre_state *state)
{
    uint64_t hash = 0;
    for (int i = 0; i < cadre_state_count(state); i++) {
        const state_entry *entry = &state->impl->entries[i];
        int64_t numbers[3 + CADRE_STATE_MAX_DIMS] = {entry->kind, entry->dtype, entry->dims};
        memcpy(numbers + 3, entry->shape, sizeof entry->shape);
        hash = XXH3_64bits_withSeed(entry->name, strlen(entry->name), hash + 1);
        hash = XXH3_64bits_withSeed(numbers, sizeof numbers, hash);
    }
    return hash;
}
