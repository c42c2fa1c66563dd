#include "layout.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { ALIGN_BYTES = 64 };

int layout_dtype(const char *name, const ct_tensor *tensor, cadre_dtype *dtype)
{
    switch (ct_tensor_dtype(tensor)) {
    case CT_FLOAT32:
        *dtype = CADRE_FLOAT32;
        break;
    case CT_FLOAT64:
        *dtype = CADRE_FLOAT64;
        break;
    case CT_BFLOAT16:
        *dtype = CADRE_BFLOAT16;
        break;
    case CT_INT32:
        *dtype = CADRE_INT32;
        break;
    case CT_INT64:
        *dtype = CADRE_INT64;
        break;
    default:
        return cadre_fail(CADRE_ENOTSUP, "ddp: \"%s\" is %s, which is not reduced", name, ct_dtype_name(ct_tensor_dtype(tensor)));
    }
    if (!ct_tensor_is_dense(tensor))
        return cadre_fail(CADRE_ENOTSUP, "ddp: \"%s\" has holes in its memory: make it contiguous", name);
    return CADRE_OK;
}

static uint64_t mix(uint64_t hash, uint64_t value)
{
    for (int i = 0; i < 8; i++)
        hash = (hash ^ (value >> 8 * i & 255)) * 1099511628211u; /* FNV-1a */
    return hash;
}

static uint64_t hash_parameter(const char *name, const ct_tensor *param)
{
    uint64_t hash = 1469598103934665603u;
    for (const char *at = name; *at; at++)
        hash = mix(hash, (unsigned char)*at);
    hash = mix(hash, (uint64_t)ct_tensor_dtype(param));
    for (int64_t dim = 0; dim < ct_tensor_ndim(param); dim++) {
        hash = mix(hash, (uint64_t)ct_tensor_size(param, dim));
        hash = mix(hash, (uint64_t)ct_tensor_stride(param, dim));
    }
    return hash;
}

/* Put the entry into the open bucket, or into a new one when that is full or of another dtype. */
static void place(struct layout *layout, int index, cadre_dtype dtype, size_t bucket_nbytes)
{
    size_t size = cadre_dtype_size(dtype), aligned = ALIGN_BYTES / size;
    struct layout_bucket *bucket = layout->bucket_count ? &layout->buckets[layout->bucket_count - 1] : NULL;
    if (!bucket || bucket->dtype != dtype || bucket->count * size >= bucket_nbytes) {
        bucket = &layout->buckets[layout->bucket_count++];
        *bucket = (struct layout_bucket){.dtype = dtype, .first = index, .hash = 1469598103934665603u};
    }
    struct layout_entry *entry = &layout->entries[index];
    entry->bucket = layout->bucket_count - 1;
    entry->offset = bucket->count;
    bucket->last = index;
    bucket->hash = mix(mix(bucket->hash, entry->hash), entry->offset);
    bucket->count += ((size_t)ct_tensor_numel(entry->param) + aligned - 1) / aligned * aligned;
}

int layout_make(ct_module *model, size_t bucket_nbytes, size_t parts, struct layout *layout)
{
    size_t total = ct_module_parameter_count(model);
    *layout = (struct layout){.entries = calloc(total + 1, sizeof *layout->entries), .buckets = calloc(total + 1, sizeof *layout->buckets)};
    if (!layout->entries || !layout->buckets)
        return cadre_fail(CADRE_ENOMEM, "out of memory for the gradient layout");
    for (size_t i = total; i-- > 0;) {
        const char *name;
        ct_tensor *param;
        cadre_dtype dtype;
        if (ct_module_parameter_at(model, i, &name, &param) != CT_OK)
            return cadre_fail(CADRE_ETORCH, "read the model's parameters: %s", ct_error_message());
        if (!ct_tensor_requires_grad(param))
            continue;
        int status = layout_dtype(name, param, &dtype);
        if (status != CADRE_OK)
            return status;
        if (dtype == CADRE_INT32 || dtype == CADRE_INT64)
            return cadre_fail(CADRE_ENOTSUP, "ddp: parameter \"%s\" is an integer", name);
        int index = layout->count++;
        layout->entries[index] = (struct layout_entry){.name = name, .param = param, .hash = hash_parameter(name, param)};
        place(layout, index, dtype, bucket_nbytes);
    }
    if (layout->bucket_count && parts == 0)
        layout->buckets[layout->bucket_count - 1].count++;
    for (int i = 0; i < layout->bucket_count && parts > 0; i++) {
        size_t step = parts * (ALIGN_BYTES / cadre_dtype_size(layout->buckets[i].dtype));
        layout->buckets[i].count = (layout->buckets[i].count + step - 1) / step * step;
    }
    return CADRE_OK;
}

void layout_free(struct layout *layout)
{
    free(layout->entries);
    free(layout->buckets);
    *layout = (struct layout){0};
}

static void describe(const struct layout_entry *entry, char *text, size_t size)
{
    int used = snprintf(text, size, "\"%s\" %s [", entry->name, ct_dtype_name(ct_tensor_dtype(entry->param)));
    for (int64_t dim = 0; dim < ct_tensor_ndim(entry->param) && used > 0 && (size_t)used < size; dim++)
        used += snprintf(text + used, size - (size_t)used, "%s%lld", dim ? ", " : "", (long long)ct_tensor_size(entry->param, dim));
    if (used > 0 && (size_t)used < size)
        snprintf(text + used, size - (size_t)used, "]");
}

/* The ranks differ: find where, counting from the model's first parameter. All ranks come here together. */
static int name_difference(const struct layout *layout, cadre_comm *comm, int64_t shortest, int odd_rank)
{
    int world = cadre_comm_world(comm);
    int64_t *mine = calloc((size_t)shortest + 1, sizeof *mine), *all = calloc((size_t)(shortest * world) + 1, sizeof *all);
    int status = mine && all ? CADRE_OK : cadre_fail(CADRE_ENOMEM, "out of memory to compare the models");
    for (int64_t i = 0; status == CADRE_OK && i < shortest; i++)
        mine[i] = (int64_t)layout->entries[layout->count - 1 - i].hash;
    if (status == CADRE_OK)
        status = cadre_all_gather(comm, mine, all, (size_t)shortest, CADRE_INT64);
    int64_t at = shortest;
    for (int64_t i = shortest - 1; status == CADRE_OK && i >= 0; i--)
        for (int rank = 1; rank < world; rank++)
            if (all[rank * shortest + i] != all[i]) {
                at = i;
                odd_rank = rank;
            }
    free(mine);
    free(all);
    if (status != CADRE_OK)
        return status;
    char text[256] = "there are none left";
    if (at < layout->count)
        describe(&layout->entries[layout->count - 1 - at], text, sizeof text);
    return cadre_fail(CADRE_EMISMATCH, "rank %d's model differs from rank 0's at parameter %lld (here, on rank %d: %s): all ranks must build the same model",
                      odd_rank, (long long)at, cadre_comm_rank(comm), text);
}

int layout_compare(const struct layout *layout, cadre_comm *comm, int status)
{
    enum { CARD = 3 };
    int world = cadre_comm_world(comm);
    uint64_t hash = 1469598103934665603u;
    for (int i = 0; i < layout->count && status == CADRE_OK; i++)
        hash = mix(mix(hash, layout->entries[i].hash), (uint64_t)layout->entries[i].bucket);
    int64_t mine[CARD] = {status, layout->count, (int64_t)hash};
    char message[512];
    snprintf(message, sizeof message, "%s", status ? cadre_error_message() : "");
    int64_t *all = calloc((size_t)world, sizeof mine);
    if (!all)
        return cadre_fail(CADRE_ENOMEM, "out of memory to compare the models");
    int gathered = cadre_all_gather(comm, mine, all, CARD, CADRE_INT64);
    int64_t shortest = all[1];
    int failed = -1, odd = -1;
    for (int rank = world - 1; gathered == CADRE_OK && rank >= 0; rank--) {
        failed = all[rank * CARD] != CADRE_OK ? rank : failed;
        odd = all[rank * CARD + 2] != all[2] ? rank : odd;
        shortest = all[rank * CARD + 1] < shortest ? all[rank * CARD + 1] : shortest;
    }
    int failed_status = failed >= 0 ? (int)all[failed * CARD] : CADRE_OK;
    free(all);
    if (gathered != CADRE_OK)
        return gathered;
    if (status != CADRE_OK)
        return cadre_fail(status, "%s", message);
    if (failed >= 0)
        return cadre_fail(failed_status, "ddp could not be set up on rank %d (%s)", failed, cadre_status_text(failed_status));
    return odd >= 0 ? name_difference(layout, comm, shortest, odd) : CADRE_OK;
}
