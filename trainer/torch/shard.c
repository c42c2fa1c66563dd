/*
 * Sharded optimisers: each rank keeps the optimiser's state of its part of every bucket alone, steps that part, and all
 * gather the parameters. (Rajbhandari et al., "ZeRO: Memory Optimizations Toward Training Trillion Parameter Models", SC
 * 2020, section 5.1, P_os; gradients are reduced to their owners only, but their memory stays whole.)
 *
 * An optimiser that treats every element alike does not see whose element it is, so a part is one flat parameter of a
 * module of its own, over the memory of the parameters that lie there.
 */
#include "inside.h"

#include "cadre/timeline.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static ct_dtype torch_dtype(cadre_dtype dtype) { return dtype == CADRE_FLOAT64 ? CT_FLOAT64 : dtype == CADRE_BFLOAT16 ? CT_BFLOAT16 : CT_FLOAT32; }

/* `hash` is in the name that the optimiser's state is saved by: what lies in the bucket is the same then. */
static int make_shard(cadre_ddp *ddp, int index, uint64_t hash, const char *device)
{
    struct bucket *bucket = &ddp->buckets[index];
    int64_t each = (int64_t)(bucket->count / (size_t)cadre_comm_world(ddp->comm));
    size_t first = (size_t)cadre_comm_rank(ddp->comm) * (size_t)each * cadre_dtype_size(bucket->dtype);
    ct_dtype dtype = torch_dtype(bucket->dtype);
    char name[48];
    ct_tensor *shard = NULL;
    snprintf(name, sizeof name, "bucket%d-%08x", index, (unsigned)(hash ^ hash >> 32));
    bool fine = ct_tensor_borrow_on((char *)bucket->parameters + first, &each, 1, dtype, device, &shard) == CT_OK &&
                ct_module_add_parameter(ddp->shards, name, shard, NULL) == CT_OK &&
                ct_tensor_borrow_on((char *)bucket->memory + first, &each, 1, dtype, device, &bucket->part) == CT_OK &&
                ct_tensor_keep(bucket->part) == CT_OK;
    ct_tensor_free(shard);
    return fine ? CADRE_OK : ddp_torch_failed("make the shards");
}

/* Move every parameter into the bucket's memory, in its own shape and strides. */
static int move_parameters(cadre_ddp *ddp, const struct layout *layout)
{
    for (int i = 0; i < layout->count; i++) {
        const struct layout_entry *entry = &layout->entries[i];
        struct bucket *bucket = &ddp->buckets[entry->bucket];
        char *place = (char *)bucket->parameters + entry->offset * cadre_dtype_size(bucket->dtype);
        ct_tensor *view = NULL;
        bool fine = ct_tensor_borrow_like(entry->param, place, &view) == CT_OK && ct_copy_(view, entry->param) == CT_OK &&
                    ct_tensor_set_data(entry->param, view) == CT_OK;
        ct_tensor_free(view);
        if (!fine)
            return ddp_torch_failed("move the parameters together");
    }
    return CADRE_OK;
}

int ddp_make_shards(cadre_ddp *ddp, const struct layout *layout)
{
    char device[32] = "cpu";
    if (layout->count)
        snprintf(device, sizeof device, "%s", ct_tensor_device(layout->entries[0].param));
    ddp->shards = ct_nn_module(NULL, NULL);
    if (!ddp->shards)
        return ddp_torch_failed("make the shards");
    for (int i = 0; i < ddp->bucket_count; i++) {
        struct bucket *bucket = &ddp->buckets[i];
        int status = cadre_comm_alloc(ddp->comm, bucket->count * cadre_dtype_size(bucket->dtype), &bucket->parameters);
        if (status == CADRE_OK)
            status = make_shard(ddp, i, layout->buckets[i].hash, device);
        if (status != CADRE_OK)
            return status;
    }
    for (int i = 0; i < ddp->bucket_count; i++) { /* handles move while parameters are added */
        const char *name;
        if (ct_module_parameter_at(ddp->shards, (size_t)i, &name, &ddp->buckets[i].shard) != CT_OK)
            return ddp_torch_failed("make the shards");
    }
    ct_no_grad_push();
    int status = move_parameters(ddp, layout);
    ct_no_grad_pop();
    return status;
}

void ddp_free_shards(cadre_ddp *ddp)
{
    ct_no_grad_push();
    for (int i = 0; i < ddp->slot_count && ddp->shards; i++) { /* parameters get memory of their own again */
        ct_tensor *copy = NULL, *plain = NULL;
        if (ct_detach(ddp->slots[i].param, &plain) == CT_OK && ct_tensor_clone(plain, &copy) == CT_OK)
            ct_tensor_set_data(ddp->slots[i].param, copy);
        ct_tensor_free(plain);
        ct_tensor_free(copy);
    }
    ct_no_grad_pop();
    ct_module_free(ddp->shards);
    for (int i = 0; i < ddp->bucket_count; i++) {
        ct_tensor_free(ddp->buckets[i].part);
        cadre_comm_dealloc(ddp->comm, ddp->buckets[i].parameters);
    }
}

int ddp_show_shards(cadre_ddp *ddp)
{
    for (int i = 0; i < ddp->bucket_count; i++)
        if (ct_tensor_set_grad(ddp->buckets[i].shard, ddp->buckets[i].part) != CT_OK)
            return ddp_torch_failed("gradients of the shards");
    return CADRE_OK;
}

ct_module *cadre_ddp_shards(cadre_ddp *ddp) { return ddp && ddp->shards ? ddp->shards : ddp ? ddp->model : NULL; }

int cadre_ddp_step(cadre_ddp *ddp, ct_optim *optim)
{
    if (!ddp || !optim)
        return cadre_fail(CADRE_EINVAL, "cadre_ddp_step: %s is NULL", ddp ? "optim" : "ddp");
    int64_t begun = cadre_timeline_begin();
    if (ct_optim_step(optim) != CT_OK)
        return ddp_torch_failed("optimiser");
    cadre_timeline_end(begun, "train", "optimizer");
    int status = CADRE_OK;
    struct ddp_wait wait = ddp_wait_begin(ddp);
    for (int i = 0; i < ddp->bucket_count && ddp->shards && status == CADRE_OK; i++) {
        struct bucket *bucket = &ddp->buckets[i];
        size_t each = bucket->count / (size_t)cadre_comm_world(ddp->comm);
        char *own = (char *)bucket->parameters + (size_t)cadre_comm_rank(ddp->comm) * each * cadre_dtype_size(bucket->dtype);
        cadre_comm_label(ddp->comm, bucket->label);
        begun = cadre_timeline_begin();
        status = cadre_all_gather(ddp->comm, own, bucket->parameters, each, bucket->dtype);
        cadre_timeline_end(begun, "gather", bucket->label);
        cadre_comm_label(ddp->comm, NULL);
    }
    ddp_wait_end(ddp, wait);
    return status;
}
