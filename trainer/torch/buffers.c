/* Buffers (batch norm's running statistics): rank 0's for all, or the mean of all. */
#include "inside.h"

#include <stdlib.h>
#include <string.h>

/* All ranks take over rank 0's values. Memory goes as it lies: the layouts have been compared. */
int ddp_broadcast_tensor(cadre_ddp *ddp, const char *name, ct_tensor *tensor)
{
    cadre_dtype dtype;
    int status = layout_dtype(name, tensor, &dtype);
    if (status != CADRE_OK || ct_tensor_numel(tensor) == 0)
        return status;
    return cadre_broadcast(ddp->comm, ct_tensor_data(tensor), (size_t)ct_tensor_numel(tensor), dtype, 0);
}

static bool is_floating(const ct_tensor *tensor)
{
    ct_dtype dtype = ct_tensor_dtype(tensor);
    return dtype == CT_FLOAT32 || dtype == CT_FLOAT64 || dtype == CT_BFLOAT16;
}

int ddp_make_buffers(cadre_ddp *ddp)
{
    int64_t total = 0;
    const char *name;
    ct_tensor *tensor, *like = NULL;
    for (size_t i = 0; i < ct_module_buffer_count(ddp->model); i++) {
        if (ct_module_buffer_at(ddp->model, i, &name, &tensor) != CT_OK)
            return ddp_torch_failed("buffers");
        if (is_floating(tensor)) {
            total += ct_tensor_numel(tensor);
            like = tensor;
        }
    }
    if (total == 0)
        return CADRE_OK;
    int status = cadre_comm_alloc(ddp->comm, (size_t)total * sizeof(float), &ddp->buffers_memory);
    if (status == CADRE_OK &&
        (ct_tensor_borrow_on(ddp->buffers_memory, &total, 1, CT_FLOAT32, ct_tensor_device(like), &ddp->buffers_flat) != CT_OK ||
         ct_tensor_keep(ddp->buffers_flat) != CT_OK))
        status = ddp_torch_failed("buffers");
    return status;
}

/* Copy the floating buffers into the flat tensor, or out of it. */
static int copy_all(cadre_ddp *ddp, bool in)
{
    int64_t at = 0;
    for (size_t i = 0; i < ct_module_buffer_count(ddp->model); i++) {
        const char *name;
        ct_tensor *tensor, *part = NULL, *shaped = NULL;
        int64_t sizes[8], dims;
        if (ct_module_buffer_at(ddp->model, i, &name, &tensor) != CT_OK)
            return ddp_torch_failed("buffers");
        if (!is_floating(tensor))
            continue;
        dims = ct_tensor_ndim(tensor);
        if (dims > 8)
            return cadre_fail(CADRE_ENOTSUP, "ddp: buffer \"%s\" has %d dimensions", name, (int)dims);
        for (int64_t dim = 0; dim < dims; dim++)
            sizes[dim] = ct_tensor_size(tensor, dim);
        bool fine = ct_narrow(ddp->buffers_flat, 0, at, ct_tensor_numel(tensor), &part) == CT_OK &&
                    ct_view(part, sizes, (size_t)dims, &shaped) == CT_OK &&
                    (in ? ct_copy_(shaped, tensor) : ct_copy_(tensor, shaped)) == CT_OK;
        ct_tensor_free(part);
        ct_tensor_free(shaped);
        if (!fine)
            return ddp_torch_failed("buffers");
        at += ct_tensor_numel(tensor);
    }
    return CADRE_OK;
}

int ddp_sync_buffers(cadre_ddp *ddp, enum cadre_ddp_buffers how)
{
    int status = CADRE_OK;
    bool mean = how == CADRE_BUFFERS_MEAN;
    if (cadre_comm_world(ddp->comm) == 1)
        return CADRE_OK;
    for (size_t i = 0; status == CADRE_OK && i < ct_module_buffer_count(ddp->model); i++) {
        const char *name;
        ct_tensor *tensor;
        if (ct_module_buffer_at(ddp->model, i, &name, &tensor) != CT_OK)
            return ddp_torch_failed("sync buffers");
        if (!mean || !is_floating(tensor)) /* counts are the same everywhere, or rank 0's are as good as any */
            status = ddp_broadcast_tensor(ddp, name, tensor);
    }
    if (status != CADRE_OK || !mean || !ddp->buffers_flat)
        return status;
    ct_no_grad_push();
    status = copy_all(ddp, true);
    if (status == CADRE_OK)
        status = cadre_all_reduce(ddp->comm, ddp->buffers_memory, (size_t)ct_tensor_numel(ddp->buffers_flat), CADRE_FLOAT32, CADRE_MEAN);
    if (status == CADRE_OK)
        status = copy_all(ddp, false);
    ct_no_grad_pop();
    return status;
}

int cadre_ddp_sync_buffers(cadre_ddp *ddp)
{
    if (!ddp)
        return cadre_fail(CADRE_EINVAL, "cadre_ddp_sync_buffers: ddp is NULL");
    return ddp_sync_buffers(ddp, ddp->options.buffers == CADRE_BUFFERS_MEAN ? CADRE_BUFFERS_MEAN : CADRE_BUFFERS_BROADCAST);
}
