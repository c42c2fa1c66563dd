#include "cadre/ddp.h"

#include "layout.h"

#include <math.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* One gradient's place. */
struct slot {
    cadre_ddp *ddp;
    const char *name;  /* borrowed from the module */
    ct_tensor *param;  /* borrowed from the module */
    ct_tensor *view;   /* of the bucket, in the parameter's shape and strides */
    ct_hook *hook;
    int bucket;
    bool ready; /* its gradient has come in this pass */
};

struct bucket {
    void *memory;    /* of the communicator */
    size_t count;    /* elements, padding and the last bucket's wish included */
    cadre_dtype dtype;
    int slots, ready;
    char label[200]; /* "bucket 1 (fc.weight ... layer3.0.conv1.weight)" */
};

struct cadre_ddp {
    cadre_comm *comm;
    ct_module *model;
    struct slot *slots; /* in the order of the buckets: reverse order of the parameters */
    int slot_count;
    struct bucket *buckets;
    int bucket_count;
    int next; /* bucket to be reduced next */
    int status;
    char message[512];
};

static int torch_failed(const char *what) { return cadre_fail(CADRE_ETORCH, "%s: %s", what, ct_error_message()); }

/* ---- the pass --------------------------------------------------------------------------------------------------------------- */

static double read_element(const struct bucket *bucket, size_t index)
{
    switch (bucket->dtype) {
    case CADRE_FLOAT64:
        return ((const double *)bucket->memory)[index];
    case CADRE_FLOAT32:
        return ((const float *)bucket->memory)[index];
    default: /* bfloat16: any bit but the sign's makes it more than nothing */
        return ((const uint16_t *)bucket->memory)[index] & 0x7fff;
    }
}

static void write_flag(struct bucket *bucket, size_t index, bool flag)
{
    switch (bucket->dtype) {
    case CADRE_FLOAT64:
        ((double *)bucket->memory)[index] = flag;
        break;
    case CADRE_FLOAT32:
        ((float *)bucket->memory)[index] = flag;
        break;
    default:
        ((uint16_t *)bucket->memory)[index] = flag ? 0x3f80 : 0;
    }
}

/* The last bucket's last element carries the wish to leave along. */
static int reduce_bucket(cadre_ddp *ddp, int index)
{
    struct bucket *bucket = &ddp->buckets[index];
    bool last = index == ddp->bucket_count - 1;
    if (last)
        write_flag(bucket, bucket->count - 1, cadre_comm_wish(ddp->comm));
    cadre_comm_label(ddp->comm, bucket->label);
    int status = cadre_all_reduce(ddp->comm, bucket->memory, bucket->count, bucket->dtype, CADRE_MEAN);
    cadre_comm_label(ddp->comm, NULL);
    if (status == CADRE_OK && last)
        cadre_comm_set_agreed(ddp->comm, read_element(bucket, bucket->count - 1) > 0);
    return status;
}

static int fail_pass(cadre_ddp *ddp, int status)
{
    ddp->status = status;
    snprintf(ddp->message, sizeof ddp->message, "%s", cadre_error_message());
    return status;
}

static int name_missing(const cadre_ddp *ddp)
{
    int missing = 0;
    const char *first = "";
    for (int i = ddp->slot_count - 1; i >= 0; i--) /* in the model's own order */
        if (!ddp->slots[i].ready) {
            first = missing++ ? first : ddp->slots[i].name;
        }
    return cadre_fail(CADRE_ESTATE, "%d parameters got no gradient in the backward pass, the first is \"%s\": every parameter must take part in every pass",
                      missing, first);
}

static ct_status on_gradient(const ct_tensor *param, ct_tensor *grad, void *user)
{
    struct slot *slot = user;
    cadre_ddp *ddp = slot->ddp;
    struct bucket *bucket = &ddp->buckets[slot->bucket];
    (void)param;
    (void)grad; /* it is written into the bucket already */
    if (ddp->status != CADRE_OK)
        return CT_ESTATE;
    if (slot->ready) {
        fail_pass(ddp, name_missing(ddp));
        return CT_ESTATE;
    }
    slot->ready = true;
    bucket->ready++;
    while (ddp->next < ddp->bucket_count && ddp->buckets[ddp->next].ready == ddp->buckets[ddp->next].slots) {
        int status = reduce_bucket(ddp, ddp->next++);
        if (status != CADRE_OK) {
            fail_pass(ddp, status);
            return CT_ESTATE;
        }
    }
    return CT_OK;
}

static void begin_pass(cadre_ddp *ddp)
{
    for (int i = 0; i < ddp->slot_count; i++)
        ddp->slots[i].ready = false;
    for (int i = 0; i < ddp->bucket_count; i++)
        ddp->buckets[i].ready = 0;
    ddp->next = 0;
}

int cadre_ddp_sync(cadre_ddp *ddp)
{
    if (!ddp)
        return cadre_fail(CADRE_EINVAL, "cadre_ddp_sync: ddp is NULL");
    if (ddp->status != CADRE_OK)
        return cadre_fail(ddp->status, "%s", ddp->message);
    if (ddp->next < ddp->bucket_count)
        return fail_pass(ddp, name_missing(ddp));
    begin_pass(ddp);
    return CADRE_OK;
}

int cadre_ddp_backward(cadre_ddp *ddp, const ct_tensor *loss)
{
    if (!ddp)
        return cadre_fail(CADRE_EINVAL, "cadre_ddp_backward: ddp is NULL");
    if (ct_backward(loss, 1.0) != CT_OK && ddp->status == CADRE_OK)
        return torch_failed("backward pass");
    return cadre_ddp_sync(ddp);
}

/* ---- clipping ------------------------------------------------------------------------------------------------------------------ */

static int square_sum(const ct_tensor *grad, double *sum)
{
    int64_t count = ct_tensor_numel(grad);
    const void *data = ct_tensor_data(grad);
    *sum = 0;
    if (ct_tensor_dtype(grad) == CT_FLOAT64) {
        for (int64_t i = 0; i < count; i++)
            *sum += ((const double *)data)[i] * ((const double *)data)[i];
    } else if (ct_tensor_dtype(grad) == CT_FLOAT32) {
        for (int64_t i = 0; i < count; i++)
            *sum += (double)((const float *)data)[i] * ((const float *)data)[i];
    } else {
        return cadre_fail(CADRE_ENOTSUP, "clip gradients of %s: float32 and float64 are possible", ct_dtype_name(ct_tensor_dtype(grad)));
    }
    return CADRE_OK;
}

int cadre_ddp_clip_grad_norm(cadre_ddp *ddp, double max_norm, double *norm)
{
    if (!ddp || !(max_norm > 0))
        return cadre_fail(CADRE_EINVAL, "cadre_ddp_clip_grad_norm: max_norm is %g: give a positive number", max_norm);
    double total = 0;
    size_t count = ct_module_parameter_count(ddp->model);
    for (int pass = 0; pass < 2; pass++) {
        double scale = max_norm / (sqrt(total) + 1e-6);
        if (pass == 1 && !(scale < 1))
            break;
        for (size_t i = 0; i < count; i++) {
            const char *name;
            ct_tensor *param, *grad = NULL;
            if (ct_module_parameter_at(ddp->model, i, &name, &param) != CT_OK || ct_tensor_grad(param, &grad) != CT_OK)
                return torch_failed("clip gradients");
            if (!grad)
                continue;
            double sum = 0;
            int status = pass == 0 ? square_sum(grad, &sum) : ct_mul_scalar_(grad, scale) == CT_OK ? CADRE_OK : torch_failed("clip gradients");
            ct_tensor_free(grad);
            if (status != CADRE_OK)
                return status;
            total += sum;
        }
    }
    if (norm)
        *norm = sqrt(total);
    return CADRE_OK;
}

/* ---- making -------------------------------------------------------------------------------------------------------------------- */

/* All ranks take over rank 0's values. Memory goes as it lies: the layouts have been compared. */
static int broadcast_tensor(cadre_ddp *ddp, const char *name, ct_tensor *tensor)
{
    cadre_dtype dtype;
    int status = layout_dtype(name, tensor, &dtype);
    if (status != CADRE_OK || ct_tensor_numel(tensor) == 0)
        return status;
    return cadre_broadcast(ddp->comm, ct_tensor_data(tensor), (size_t)ct_tensor_numel(tensor), dtype, 0);
}

int cadre_ddp_sync_buffers(cadre_ddp *ddp)
{
    if (!ddp)
        return cadre_fail(CADRE_EINVAL, "cadre_ddp_sync_buffers: ddp is NULL");
    int status = CADRE_OK;
    for (size_t i = 0; status == CADRE_OK && i < ct_module_buffer_count(ddp->model) && cadre_comm_world(ddp->comm) > 1; i++) {
        const char *name;
        ct_tensor *tensor;
        if (ct_module_buffer_at(ddp->model, i, &name, &tensor) != CT_OK)
            return torch_failed("sync buffers");
        status = broadcast_tensor(ddp, name, tensor);
    }
    return status;
}

static int broadcast_parameters(cadre_ddp *ddp)
{
    int status = CADRE_OK;
    for (size_t i = 0; status == CADRE_OK && i < ct_module_parameter_count(ddp->model); i++) {
        const char *name;
        ct_tensor *tensor;
        if (ct_module_parameter_at(ddp->model, i, &name, &tensor) != CT_OK)
            return torch_failed("sync parameters");
        status = broadcast_tensor(ddp, name, tensor);
    }
    return status == CADRE_OK ? cadre_ddp_sync_buffers(ddp) : status;
}

static int make_buckets(cadre_ddp *ddp, const struct layout *layout)
{
    ddp->buckets = calloc((size_t)layout->bucket_count + 1, sizeof *ddp->buckets);
    ddp->slots = calloc((size_t)layout->count + 1, sizeof *ddp->slots);
    if (!ddp->buckets || !ddp->slots)
        return cadre_fail(CADRE_ENOMEM, "out of memory for the gradient buckets");
    for (int i = 0; i < layout->bucket_count; i++) {
        struct bucket *bucket = &ddp->buckets[i];
        const struct layout_bucket *plan = &layout->buckets[i];
        bucket->dtype = plan->dtype;
        bucket->count = plan->count;
        bucket->slots = plan->last - plan->first + 1;
        snprintf(bucket->label, sizeof bucket->label, "bucket %d (%.70s ... %.70s)", i, layout->entries[plan->first].name, layout->entries[plan->last].name);
        int status = cadre_comm_alloc(ddp->comm, plan->count * cadre_dtype_size(plan->dtype), &bucket->memory);
        if (status != CADRE_OK)
            return status;
        ddp->bucket_count++;
    }
    for (int i = 0; i < layout->count; i++) {
        const struct layout_entry *entry = &layout->entries[i];
        struct slot *slot = &ddp->slots[i];
        struct bucket *bucket = &ddp->buckets[entry->bucket];
        *slot = (struct slot){.ddp = ddp, .name = entry->name, .param = entry->param, .bucket = entry->bucket};
        ddp->slot_count++;
        char *place = (char *)bucket->memory + entry->offset * cadre_dtype_size(bucket->dtype);
        if (ct_tensor_borrow_like(slot->param, place, &slot->view) != CT_OK || ct_tensor_keep(slot->view) != CT_OK ||
            ct_tensor_bind_grad(slot->param, slot->view) != CT_OK || ct_grad_hook(slot->param, on_gradient, slot, &slot->hook) != CT_OK)
            return torch_failed("bind the gradients to their buckets");
    }
    return CADRE_OK;
}

int cadre_ddp_new(cadre_ddp **out, ct_module *model, cadre_comm *comm, const cadre_ddp_options *options)
{
    if (!out || !model || !comm)
        return cadre_fail(CADRE_EINVAL, "cadre_ddp_new: %s is NULL", !out ? "out" : !model ? "model" : "comm");
    size_t bucket_nbytes = options && options->bucket_nbytes ? options->bucket_nbytes : 25u << 20;
    cadre_ddp *ddp = calloc(1, sizeof *ddp);
    struct layout layout = {0};
    if (!ddp)
        return cadre_fail(CADRE_ENOMEM, "out of memory for ddp");
    ddp->comm = comm;
    ddp->model = model;
    int status = CADRE_OK;
    if (cadre_comm_world(comm) > 1) {
        status = layout_make(model, bucket_nbytes, &layout);
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
    for (int i = 0; i < ddp->slot_count; i++) {
        ct_hook_free(ddp->slots[i].hook);
        ct_tensor_bind_grad(ddp->slots[i].param, NULL);
        ct_tensor_zero_grad(ddp->slots[i].param, true); /* or it would point into the bucket that goes now */
        ct_tensor_free(ddp->slots[i].view);
    }
    for (int i = 0; i < ddp->bucket_count; i++)
        cadre_comm_dealloc(ddp->comm, ddp->buckets[i].memory);
    free(ddp->slots);
    free(ddp->buckets);
    free(ddp);
}
