/* A pass: gradients come, buckets are reduced as soon as they are whole, in the same order on all ranks. */
#include "inside.h"

#include "cadre/timeline.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

int ddp_torch_failed(const char *what) { return cadre_fail(CADRE_ETORCH, "%s: %s", what, ct_error_message()); }

double ddp_now(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

struct ddp_wait ddp_wait_begin(const cadre_ddp *ddp)
{
    return (struct ddp_wait){.begun = ddp_now(), .late = cadre_comm_late_s(ddp->comm)};
}

void ddp_wait_end(cadre_ddp *ddp, struct ddp_wait wait)
{
    ddp->stats.waited_s += ddp_now() - wait.begun;
    ddp->stats.late_s += cadre_comm_late_s(ddp->comm) - wait.late;
}

/* ---- the wish to leave ----------------------------------------------------------------------------------------------------- */

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

static bool carries_wish(const cadre_ddp *ddp, int index) { return index == ddp->bucket_count - 1 && !ddp->wish_apart; }

/* Where it cannot ride in a bucket: on a GPU reading it would wait for the device, and in shards only one rank sees it. */
static int exchange_wish(cadre_ddp *ddp)
{
    int32_t wish = cadre_comm_wish(ddp->comm);
    int status = cadre_all_reduce(ddp->comm, &wish, 1, CADRE_INT32, CADRE_MAX);
    if (status == CADRE_OK)
        cadre_comm_set_agreed(ddp->comm, wish > 0);
    return status;
}

/* ---- buckets ------------------------------------------------------------------------------------------------------------------ */

/* What came back is the mean; make it the gradients. */
static int finish_bucket(cadre_ddp *ddp, int index)
{
    struct bucket *bucket = &ddp->buckets[index];
    if (bucket->wire && ct_copy_(bucket->flat, bucket->wire_flat) != CT_OK)
        return ddp_torch_failed("gradients from the wire");
    if (ddp->logical)
        ddp_logical_scale(ddp, index);
    if (carries_wish(ddp, index))
        cadre_comm_set_agreed(ddp->comm, read_element(bucket, bucket->count - 1) > 0);
    return CADRE_OK;
}

static int exchange_bucket(cadre_ddp *ddp, int index)
{
    struct bucket *bucket = &ddp->buckets[index];
    void *memory = bucket->wire ? bucket->wire : bucket->memory;
    cadre_dtype dtype = bucket->wire ? CADRE_BFLOAT16 : bucket->dtype;
    if (!ddp->sharded)
        return ddp->overlap ? cadre_all_reduce_start(ddp->comm, memory, bucket->count, dtype, CADRE_MEAN, &bucket->request)
                            : cadre_all_reduce(ddp->comm, memory, bucket->count, dtype, ddp->logical ? CADRE_SUM : CADRE_MEAN);
    size_t each = bucket->count / (size_t)cadre_comm_world(ddp->comm);
    char *own = (char *)memory + (size_t)cadre_comm_rank(ddp->comm) * each * cadre_dtype_size(dtype);
    return ddp->overlap ? cadre_reduce_scatter_start(ddp->comm, memory, own, each, dtype, CADRE_MEAN, &bucket->request)
                        : cadre_reduce_scatter(ddp->comm, memory, own, each, dtype, CADRE_MEAN);
}

static int launch_bucket(cadre_ddp *ddp, int index)
{
    struct bucket *bucket = &ddp->buckets[index];
    struct ddp_wait wait = ddp_wait_begin(ddp);
    if (ddp->logical)
        ddp_logical_fold(ddp, index);
    if (carries_wish(ddp, index))
        write_flag(bucket, bucket->count - 1, cadre_comm_wish(ddp->comm));
    if (bucket->wire && ct_copy_(bucket->wire_flat, bucket->flat) != CT_OK)
        return ddp_torch_failed("gradients to the wire");
    bucket->started = ddp_now();
    bucket->begun = cadre_timeline_begin();
    cadre_comm_label(ddp->comm, bucket->label);
    int status = exchange_bucket(ddp, index);
    cadre_comm_label(ddp->comm, NULL);
    ddp->stats.buckets++;
    ddp->stats.nbytes += (int64_t)(bucket->count * cadre_dtype_size(bucket->wire ? CADRE_BFLOAT16 : bucket->dtype));
    if (status == CADRE_OK && !bucket->request) {
        cadre_timeline_end(bucket->begun, "bucket", bucket->label);
        status = finish_bucket(ddp, index);
    }
    ddp_wait_end(ddp, wait);
    return status;
}

static int wait_for_buckets(cadre_ddp *ddp)
{
    int status = CADRE_OK;
    for (int i = 0; i < ddp->bucket_count && status == CADRE_OK; i++) {
        struct bucket *bucket = &ddp->buckets[i];
        if (!bucket->request)
            continue;
        struct ddp_wait wait = ddp_wait_begin(ddp);
        ddp->stats.hidden_s += wait.begun - bucket->started;
        status = cadre_wait(ddp->comm, &bucket->request);
        cadre_timeline_end_beside(bucket->begun, "bucket", bucket->label);
        if (status == CADRE_OK)
            status = finish_bucket(ddp, i);
        ddp_wait_end(ddp, wait);
    }
    return status;
}

/* ---- the pass ----------------------------------------------------------------------------------------------------------------- */

static int fail_pass(cadre_ddp *ddp, int status)
{
    ddp->status = status;
    snprintf(ddp->message, sizeof ddp->message, "%s", cadre_error_message());
    return status;
}

static int name_missing(const cadre_ddp *ddp)
{
    enum { NAMES = 3 };
    int missing = 0;
    char names[300] = "";
    for (int i = ddp->slot_count - 1; i >= 0; i--) /* in the model's own order */
        if (!ddp->slots[i].ready && missing++ < NAMES) {
            size_t used = strlen(names);
            snprintf(names + used, sizeof names - used, "%s\"%.90s\"", used ? ", " : "", ddp->slots[i].name);
        }
    return cadre_fail(CADRE_ESTATE,
                      "%d parameters got no gradient in the backward pass (%s%s): every parameter must take part in every pass, or ask for "
                      "find_unused",
                      missing, names, missing > NAMES ? ", ..." : "");
}

ct_status ddp_on_gradient(const ct_tensor *param, ct_tensor *grad, void *user)
{
    struct slot *slot = user;
    cadre_ddp *ddp = slot->ddp;
    struct bucket *bucket = &ddp->buckets[slot->bucket];
    (void)param;
    (void)grad; /* it is written into the bucket already */
    if (ddp->status != CADRE_OK)
        return CT_ESTATE;
    if (ddp->no_sync)
        return CT_OK;
    if (slot->ready) {
        fail_pass(ddp, name_missing(ddp));
        return CT_ESTATE;
    }
    slot->ready = true;
    bucket->ready++;
    while (ddp->next < ddp->bucket_count && ddp->buckets[ddp->next].ready == ddp->buckets[ddp->next].slots) {
        int status = launch_bucket(ddp, ddp->next++);
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

/* Those without a gradient here give zeros, and the buckets that waited for them go. */
static int send_the_rest(cadre_ddp *ddp)
{
    int status = CADRE_OK;
    for (int i = 0; i < ddp->slot_count; i++) {
        struct slot *slot = &ddp->slots[i];
        ct_tensor *grad = NULL;
        ddp->used[i] = 1;
        if (slot->ready)
            continue;
        if (ct_tensor_grad(slot->param, &grad) != CT_OK)
            return ddp_torch_failed("look for unused parameters");
        ddp->used[i] = grad != NULL; /* of passes before, without a sync */
        ct_tensor_free(grad);
        if (!ddp->used[i] && ct_zero_(slot->view) != CT_OK)
            return ddp_torch_failed("zero the gradients of unused parameters");
    }
    while (status == CADRE_OK && ddp->next < ddp->bucket_count)
        status = launch_bucket(ddp, ddp->next++);
    return status;
}

/* What some rank used has a gradient on all; what none did has none anywhere, and optimisers leave it alone. */
static int settle_unused(cadre_ddp *ddp)
{
    int32_t *mine = ddp->used, *all = ddp->used + ddp->slot_count;
    memcpy(all, mine, (size_t)ddp->slot_count * sizeof *all);
    int status = cadre_all_reduce(ddp->comm, all, (size_t)ddp->slot_count, CADRE_INT32, CADRE_MAX);
    for (int i = 0; i < ddp->slot_count && status == CADRE_OK; i++) {
        struct slot *slot = &ddp->slots[i];
        slot->unused = !all[i];
        if (all[i] && !mine[i] && ct_tensor_set_grad(slot->param, slot->view) != CT_OK)
            status = ddp_torch_failed("gradients of parameters that others use");
    }
    return status;
}

int cadre_ddp_sync(cadre_ddp *ddp)
{
    if (!ddp)
        return cadre_fail(CADRE_EINVAL, "cadre_ddp_sync: ddp is NULL");
    if (ddp->status != CADRE_OK)
        return cadre_fail(ddp->status, "%s", ddp->message);
    int status = ddp->logical ? ddp_logical_begun(ddp) : CADRE_OK;
    if (status != CADRE_OK)
        return status;
    if (ddp->no_sync)
        return ddp->logical ? ddp_logical_keep(ddp) : CADRE_OK;
    if (ddp->next < ddp->bucket_count && !ddp->options.find_unused)
        status = name_missing(ddp);
    else if (ddp->options.find_unused && ddp->slot_count)
        status = send_the_rest(ddp);
    if (status == CADRE_OK)
        status = wait_for_buckets(ddp);
    struct ddp_wait wait = ddp_wait_begin(ddp);
    if (status == CADRE_OK && ddp->options.find_unused && ddp->slot_count)
        status = settle_unused(ddp);
    if (status == CADRE_OK && ddp->wish_apart)
        status = exchange_wish(ddp);
    if (status == CADRE_OK && ddp->logical)
        status = ddp_logical_end(ddp);
    if (status == CADRE_OK && ddp->sharded)
        status = ddp_show_shards(ddp);
    if (status == CADRE_OK && ddp->options.buffers != CADRE_BUFFERS_OWN)
        status = ddp_sync_buffers(ddp, ddp->options.buffers);
    ddp_wait_end(ddp, wait);
    if (status != CADRE_OK)
        return fail_pass(ddp, status);
    ddp->stats.passes++;
    begin_pass(ddp);
    return CADRE_OK;
}

int cadre_ddp_backward(cadre_ddp *ddp, const ct_tensor *loss)
{
    if (!ddp)
        return cadre_fail(CADRE_EINVAL, "cadre_ddp_backward: ddp is NULL");
    double begun = ddp_now(), waited = ddp->stats.waited_s;
    int64_t moment = cadre_timeline_begin();
    if (ct_backward(loss, 1.0) != CT_OK && ddp->status == CADRE_OK)
        return ddp_torch_failed("backward pass");
    cadre_timeline_end(moment, "train", "backward");
    ddp->stats.backward_s += ddp_now() - begun - (ddp->stats.waited_s - waited);
    return cadre_ddp_sync(ddp);
}

int cadre_ddp_no_sync(cadre_ddp *ddp, bool on)
{
    if (!ddp)
        return cadre_fail(CADRE_EINVAL, "cadre_ddp_no_sync: ddp is NULL");
    if (ddp->logical)
        return cadre_fail(CADRE_ENOTSUP, "cadre_ddp_no_sync: not with logical workers, whose passes add up already");
    for (int i = 0; i < ddp->slot_count; i++)
        if (ddp->slots[i].ready)
            return cadre_fail(CADRE_ESTATE, "cadre_ddp_no_sync: in the middle of a pass: call cadre_ddp_sync first");
    ddp->no_sync = on;
    return CADRE_OK;
}

const char *cadre_ddp_unused(const cadre_ddp *ddp, size_t index)
{
    for (int i = ddp ? ddp->slot_count - 1 : -1; i >= 0; i--) /* in the model's own order */
        if (ddp->slots[i].unused && index-- == 0)
            return ddp->slots[i].name;
    return NULL;
}

int cadre_ddp_stats(const cadre_ddp *ddp, cadre_ddp_statistics *out)
{
    if (!ddp || !out)
        return cadre_fail(CADRE_EINVAL, "cadre_ddp_stats: %s is NULL", ddp ? "out" : "ddp");
    *out = ddp->stats;
    return CADRE_OK;
}
