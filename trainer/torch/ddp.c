#include "inside.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int broadcast_parameters(cadre_ddp *ddp)
{
    int status = CADRE_OK;
    for (size_t i = 0; status == CADRE_OK && i < ct_module_parameter_count(ddp->model); i++) {
        const char *name;
        ct_tensor *tensor;
        if (ct_module_parameter_at(ddp->model, i, &name, &tensor) != CT_OK)
            return ddp_torch_failed("sync parameters");
        status = ddp_broadcast_tensor(ddp, name, tensor);
    }
    return status == CADRE_OK ? ddp_sync_buffers(ddp, CADRE_BUFFERS_BROADCAST) : status;
}

/* All parameters are where the communicator reduces. */
static int check_device(const cadre_ddp *ddp, const struct layout *layout)
{
    char device[32] = "cpu";
    if (cadre_comm_device(ddp->comm) >= 0)
        snprintf(device, sizeof device, "cuda:%d", cadre_comm_device(ddp->comm));
    for (int i = 0; i < layout->count; i++)
        if (strcmp(ct_tensor_device(layout->entries[i].param), device) != 0)
            return cadre_fail(CADRE_ENOTSUP, "ddp: parameter \"%s\" is on %s, the communicator (%s) reduces on %s", layout->entries[i].name,
                              ct_tensor_device(layout->entries[i].param), cadre_comm_backend(ddp->comm), device);
    return CADRE_OK;
}

/* The gradients stay as they are, and a rounded copy travels. */
static int make_wire(cadre_ddp *ddp, struct bucket *bucket, const char *device)
{
    int64_t count = (int64_t)bucket->count;
    int status = cadre_comm_alloc(ddp->comm, bucket->count * cadre_dtype_size(CADRE_BFLOAT16), &bucket->wire);
    if (status != CADRE_OK)
        return status;
    if (ct_tensor_borrow_on(bucket->memory, &count, 1, CT_FLOAT32, device, &bucket->flat) != CT_OK || ct_tensor_keep(bucket->flat) != CT_OK ||
        ct_tensor_borrow_on(bucket->wire, &count, 1, CT_BFLOAT16, device, &bucket->wire_flat) != CT_OK || ct_tensor_keep(bucket->wire_flat) != CT_OK)
        return ddp_torch_failed("make the wire's buckets");
    return CADRE_OK;
}

static int make_bucket(cadre_ddp *ddp, int index, const struct layout *layout)
{
    struct bucket *bucket = &ddp->buckets[index];
    const struct layout_bucket *plan = &layout->buckets[index];
    bucket->dtype = plan->dtype;
    bucket->count = plan->count;
    bucket->slots = plan->last - plan->first + 1;
    snprintf(bucket->label, sizeof bucket->label, "bucket %d (%.70s ... %.70s)", index, layout->entries[plan->first].name, layout->entries[plan->last].name);
    int status = cadre_comm_alloc(ddp->comm, plan->count * cadre_dtype_size(plan->dtype), &bucket->memory);
    if (status != CADRE_OK)
        return status;
    ddp->bucket_count++;
    if (ddp->options.wire == CADRE_WIRE_BFLOAT16 && plan->dtype == CADRE_FLOAT32)
        status = make_wire(ddp, bucket, ct_tensor_device(layout->entries[plan->first].param));
    return status;
}

static int make_slot(cadre_ddp *ddp, int index, const struct layout_entry *entry)
{
    struct slot *slot = &ddp->slots[index];
    struct bucket *bucket = &ddp->buckets[entry->bucket];
    *slot = (struct slot){.ddp = ddp, .name = entry->name, .param = entry->param, .bucket = entry->bucket};
    ddp->slot_count++;
    char *place = (char *)bucket->memory + entry->offset * cadre_dtype_size(bucket->dtype);
    if (ct_tensor_borrow_like(slot->param, place, &slot->view) != CT_OK || ct_tensor_keep(slot->view) != CT_OK ||
        ct_tensor_bind_grad(slot->param, slot->view) != CT_OK || ct_grad_hook(slot->param, ddp_on_gradient, slot, &slot->hook) != CT_OK)
        return ddp_torch_failed("bind the gradients to their buckets");
    return CADRE_OK;
}

static int make_buckets(cadre_ddp *ddp, const struct layout *layout)
{
    int status = CADRE_OK;
    ddp->buckets = calloc((size_t)layout->bucket_count + 1, sizeof *ddp->buckets);
    ddp->slots = calloc((size_t)layout->count + 1, sizeof *ddp->slots);
    ddp->used = calloc(2 * (size_t)layout->count + 1, sizeof *ddp->used);
    if (!ddp->buckets || !ddp->slots || !ddp->used)
        return cadre_fail(CADRE_ENOMEM, "out of memory for the gradient buckets");
    for (int i = 0; i < layout->bucket_count && status == CADRE_OK; i++)
        status = make_bucket(ddp, i, layout);
    if (status == CADRE_OK && ddp->sharded)
        status = ddp_make_shards(ddp, layout);
    for (int i = 0; i < layout->count && status == CADRE_OK; i++)
        status = make_slot(ddp, i, &layout->entries[i]);
    if (status == CADRE_OK && ddp->options.logical)
        status = ddp_make_logical(ddp);
    if (status == CADRE_OK && ddp->options.buffers == CADRE_BUFFERS_MEAN)
        status = ddp_make_buffers(ddp);
    return status;
}

/* One rank's communicator has no memory on a GPU. */
static bool is_on_host(const ct_module *model)
{
    const char *name;
    ct_tensor *tensor;
    return ct_module_parameter_at(model, 0, &name, &tensor) == CT_OK && strcmp(ct_tensor_device(tensor), "cpu") == 0;
}

/* What was asked for, as far as the caller's version of the struct goes. */
static int take_options(cadre_ddp *ddp, const cadre_ddp_options *options)
{
    if (options)
        memcpy(&ddp->options, options, options->size && options->size < sizeof *options ? options->size : sizeof *options);
    if (!ddp->options.bucket_nbytes)
        ddp->options.bucket_nbytes = 25u << 20;
    if (ddp->options.wire < CADRE_WIRE_SAME || ddp->options.wire > CADRE_WIRE_BFLOAT16)
        return cadre_fail(CADRE_EINVAL, "cadre_ddp_new: %d is no wire", (int)ddp->options.wire);
    if (ddp->options.buffers < CADRE_BUFFERS_OWN || ddp->options.buffers > CADRE_BUFFERS_MEAN)
        return cadre_fail(CADRE_EINVAL, "cadre_ddp_new: %d is no way to treat buffers", (int)ddp->options.buffers);
    int status = ddp_check_logical(ddp);
    if (status != CADRE_OK)
        return status;
    if (ddp->options.sharded && ddp->options.find_unused)
        return cadre_fail(CADRE_ENOTSUP, "cadre_ddp_new: a sharded optimiser steps whole buckets, so find_unused has no meaning with it");
    ddp->sharded = ddp->options.sharded && (cadre_comm_world(ddp->comm) > 1 || is_on_host(ddp->model));
    ddp->overlap = ddp->options.overlap || cadre_comm_device(ddp->comm) >= 0;
    ddp->wish_apart = ddp->sharded || (cadre_comm_world(ddp->comm) > 1 && cadre_comm_device(ddp->comm) >= 0);
    return CADRE_OK;
}

int cadre_ddp_new(cadre_ddp **out, ct_module *model, cadre_comm *comm, const cadre_ddp_options *options)
{
    if (!out || !model || !comm)
        return cadre_fail(CADRE_EINVAL, "cadre_ddp_new: %s is NULL", !out ? "out" : !model ? "model" : "comm");
    cadre_ddp *ddp = calloc(1, sizeof *ddp);
    struct layout layout = {0};
    if (!ddp)
        return cadre_fail(CADRE_ENOMEM, "out of memory for ddp");
    ddp->comm = comm;
    ddp->model = model;
    int status = take_options(ddp, options), world = cadre_comm_world(comm);
    if (status == CADRE_OK && (world > 1 || ddp->options.logical || ddp->sharded)) {
        status = layout_make(model, ddp->options.bucket_nbytes, ddp->sharded ? (size_t)world : 0, &layout);
        if (status == CADRE_OK)
            status = check_device(ddp, &layout);
        status = layout_compare(&layout, comm, status);
        if (status == CADRE_OK)
            status = broadcast_parameters(ddp);
        if (status == CADRE_OK)
            status = make_buckets(ddp, &layout);
        layout_free(&layout);
    }
    if (status != CADRE_OK) {
        cadre_ddp_free(ddp);
        return status;
    }
    *out = ddp;
    return CADRE_OK;
}

void cadre_ddp_free(cadre_ddp *ddp)
{
    if (!ddp)
        return;
    for (int i = 0; i < ddp->bucket_count; i++) /* of a pass that failed; what is in the bucket is lost with it */
        cadre_wait(ddp->comm, &ddp->buckets[i].request);
    for (int i = 0; i < ddp->slot_count; i++) {
        ct_hook_free(ddp->slots[i].hook);
        ct_tensor_bind_grad(ddp->slots[i].param, NULL);
        ct_tensor_zero_grad(ddp->slots[i].param, true); /* or it would point into the bucket that goes now */
        ct_tensor_free(ddp->slots[i].view);
    }
    ddp_free_shards(ddp);
    ddp_free_logical(ddp);
    for (int i = 0; i < ddp->bucket_count; i++) {
        ct_tensor_free(ddp->buckets[i].flat);
        ct_tensor_free(ddp->buckets[i].wire_flat);
        cadre_comm_dealloc(ddp->comm, ddp->buckets[i].wire);
        cadre_comm_dealloc(ddp->comm, ddp->buckets[i].memory);
    }
    ct_tensor_free(ddp->buffers_flat);
    cadre_comm_dealloc(ddp->comm, ddp->buffers_memory);
    free(ddp->used);
    free(ddp->slots);
    free(ddp->buckets);
    free(ddp);
}
