/*
 * Logical workers: one process makes the passes of several, one after the other, so that a run's bits do not depend on how many processes it has.
 *
 * What the number of processes could change, and what is done about it:
 *   the order of sums    the gradients of worker i go into the same binary tree over all workers in which the communicator adds up ranks: a process has a
 *                        whole branch, adds it up like a counter counts (pass i closes as many levels as i ends in ones), and the rest is its all-reduce
 *   the mean             is the sum times 1 / workers, whoever took it
 *   random numbers       each worker has a generator of its own
 *   batch norm           normalises by the worker's own batch anyway; of the running statistics the first worker's are kept, as data-parallel training
 *                        has it
 */
#include "inside.h"

#include <stdlib.h>
#include <string.h>

enum { LEVELS = 8 /* 256 workers a process */ };

struct ddp_logical {
    int count, total; /* here, and in all processes */
    int at;           /* whose pass is next, or under way */
    bool begun;       /* cadre_ddp_logical was called for it */
    int levels;
    void **partial;   /* levels for each bucket */
    unsigned char *generators; /* one state each */
    size_t generator_nbytes;
    int drawing;               /* whose generator is libtorch's now */
    unsigned char *buffers;    /* the model's, as the first worker left them */
    size_t buffers_nbytes;
};

/* How many there are in this process that stand for several workers: libtorch's generator is then one worker's alone. */
static int several;

bool ddp_has_several_generators(void) { return several > 0; }

static int no_memory(void) { return cadre_fail(CADRE_ENOMEM, "out of memory for logical workers"); }

static unsigned char *generator(struct ddp_logical *own, int index) { return own->generators + (size_t)index * own->generator_nbytes; }

/* Every worker begins with a state of its own; libtorch's generator is the first one's. */
static int make_generators(cadre_ddp *ddp)
{
    struct ddp_logical *own = ddp->logical;
    own->generator_nbytes = ct_rng_state_size();
    own->generators = malloc((size_t)own->count * own->generator_nbytes);
    if (!own->generators)
        return no_memory();
    for (int i = own->count - 1; i >= 0; i--)
        if (ct_manual_seed(ddp->options.logical_seed + (uint64_t)cadre_comm_rank(ddp->comm) * (uint64_t)own->count + (uint64_t)i) != CT_OK ||
            ct_rng_get_state(generator(own, i), own->generator_nbytes) != CT_OK)
            return ddp_torch_failed("seed the logical workers");
    return CADRE_OK;
}

static int make_room(cadre_ddp *ddp)
{
    struct ddp_logical *own = ddp->logical;
    for (int count = own->count; count > 1; count /= 2)
        own->levels++;
    own->partial = calloc((size_t)ddp->bucket_count * (size_t)own->levels + 1, sizeof *own->partial);
    for (int i = 0; own->partial && i < ddp->bucket_count * own->levels; i++) {
        const struct bucket *bucket = &ddp->buckets[i / own->levels];
        if (!(own->partial[i] = malloc(bucket->count * cadre_dtype_size(bucket->dtype))))
            return no_memory();
    }
    for (size_t i = 0; i < ct_module_buffer_count(ddp->model); i++) {
        const char *name;
        ct_tensor *tensor;
        if (ct_module_buffer_at(ddp->model, i, &name, &tensor) != CT_OK)
            return ddp_torch_failed("buffers");
        own->buffers_nbytes += ct_tensor_nbytes(tensor);
    }
    own->buffers = malloc(own->buffers_nbytes + 1);
    return own->partial && own->buffers ? CADRE_OK : no_memory();
}

int ddp_check_logical(const cadre_ddp *ddp)
{
    int wanted = cadre_comm_logical(ddp->comm);
    if (wanted == 0 || wanted == ddp->options.logical)
        return CADRE_OK;
    return cadre_fail(CADRE_EINVAL, "cadre_ddp_new: scaling.logical_workers gives this process %d of them, the options have %d: set .logical = cadre_session_logical_count(session)",
                      wanted, ddp->options.logical);
}

int ddp_make_logical(cadre_ddp *ddp)
{
    const cadre_ddp_options *options = &ddp->options;
    if (options->logical < 1 || options->logical > 1 << LEVELS || (options->logical & (options->logical - 1)))
        return cadre_fail(CADRE_EINVAL, "cadre_ddp_new: %d logical workers: give a power of two up to %d", options->logical, 1 << LEVELS);
    const char *unfit = options->wire ? "wire: what travels is rounded" : options->find_unused ? "find_unused" : options->sharded ? "sharded: a rank has a part of the sums" :
                        options->overlap ? "overlap" : options->buffers == CADRE_BUFFERS_MEAN ? "buffers = CADRE_BUFFERS_MEAN: the mean is over processes" : NULL;
    if (unfit)
        return cadre_fail(CADRE_ENOTSUP, "cadre_ddp_new: logical workers do not go with .%s", unfit);
    if (cadre_comm_device(ddp->comm) >= 0)
        return cadre_fail(CADRE_ENOTSUP, "cadre_ddp_new: logical workers add up in host memory, and the communicator (%s) reduces on a GPU", cadre_comm_backend(ddp->comm));
    for (int i = 0; i < ddp->bucket_count; i++)
        if (ddp->buckets[i].dtype == CADRE_BFLOAT16)
            return cadre_fail(CADRE_ENOTSUP, "cadre_ddp_new: parameters of bfloat16 are rounded at each sum: no logical workers with them");
    ddp->logical = calloc(1, sizeof *ddp->logical);
    if (!ddp->logical)
        return no_memory();
    ddp->logical->count = options->logical;
    several += options->logical > 1;
    ddp->logical->total = options->logical * cadre_comm_world(ddp->comm);
    int status = make_room(ddp);
    return status == CADRE_OK ? make_generators(ddp) : status;
}

void ddp_free_logical(cadre_ddp *ddp)
{
    struct ddp_logical *own = ddp->logical;
    if (!own)
        return;
    several -= own->count > 1;
    for (int i = 0; own->partial && i < ddp->bucket_count * own->levels; i++)
        free(own->partial[i]);
    free(own->partial);
    free(own->generators);
    free(own->buffers);
    free(own);
    ddp->logical = NULL;
}

/* ---- a pass --------------------------------------------------------------------------------------------------------------------- */

static int copy_buffers(cadre_ddp *ddp, bool in)
{
    unsigned char *at = ddp->logical->buffers;
    for (size_t i = 0; i < ct_module_buffer_count(ddp->model); i++) {
        const char *name;
        ct_tensor *tensor;
        if (ct_module_buffer_at(ddp->model, i, &name, &tensor) != CT_OK)
            return ddp_torch_failed("buffers");
        size_t nbytes = ct_tensor_nbytes(tensor);
        if ((in ? ct_tensor_copy_to_memory(tensor, at, nbytes) : ct_tensor_copy_from_memory(tensor, at, nbytes)) != CT_OK)
            return ddp_torch_failed("buffers");
        at += nbytes;
    }
    return CADRE_OK;
}

/* libtorch's generator becomes this worker's. */
static int draw_as(struct ddp_logical *own, int index)
{
    if (index == own->drawing)
        return CADRE_OK;
    if (ct_rng_get_state(generator(own, own->drawing), own->generator_nbytes) != CT_OK || ct_rng_set_state(generator(own, index), own->generator_nbytes) != CT_OK)
        return ddp_torch_failed("change generators");
    own->drawing = index;
    return CADRE_OK;
}

int cadre_ddp_logical(cadre_ddp *ddp, int index)
{
    if (!ddp)
        return cadre_fail(CADRE_EINVAL, "cadre_ddp_logical: ddp is NULL");
    struct ddp_logical *own = ddp->logical;
    if (!own)
        return index == 0 ? CADRE_OK : cadre_fail(CADRE_EINVAL, "cadre_ddp_logical: %d, but the options have no logical workers", index);
    if (index != own->at || own->begun)
        return cadre_fail(CADRE_ESTATE, "cadre_ddp_logical: worker %d, but it is worker %d's turn to %s", index, own->at, own->begun ? "go backward" : "begin");
    int status = index == 1 ? copy_buffers(ddp, true) : CADRE_OK;
    if (status == CADRE_OK)
        status = draw_as(own, index);
    own->begun = status == CADRE_OK;
    ddp->no_sync = index < own->count - 1;
    return status;
}

/* memory = left + memory: the lower workers' branch stands left. */
static void add(void *memory, const void *left, size_t count, cadre_dtype dtype)
{
    if (dtype == CADRE_FLOAT64) {
        double *to = memory;
        for (size_t i = 0; i < count; i++)
            to[i] = ((const double *)left)[i] + to[i];
    } else {
        float *to = memory;
        for (size_t i = 0; i < count; i++)
            to[i] = ((const float *)left)[i] + to[i];
    }
}

void ddp_logical_fold(cadre_ddp *ddp, int index)
{
    const struct ddp_logical *own = ddp->logical;
    const struct bucket *bucket = &ddp->buckets[index];
    for (int level = 0; own->at >> level & 1; level++)
        add(bucket->memory, own->partial[index * own->levels + level], bucket->count, bucket->dtype);
}

void ddp_logical_scale(cadre_ddp *ddp, int index)
{
    const struct bucket *bucket = &ddp->buckets[index];
    double part = 1.0 / ddp->logical->total;
    if (bucket->dtype == CADRE_FLOAT64)
        for (size_t i = 0; i < bucket->count; i++)
            ((double *)bucket->memory)[i] *= part;
    else
        for (size_t i = 0; i < bucket->count; i++)
            ((float *)bucket->memory)[i] *= (float)part;
}

int ddp_logical_keep(cadre_ddp *ddp)
{
    struct ddp_logical *own = ddp->logical;
    for (int i = 0; i < ddp->bucket_count; i++) {
        const struct bucket *bucket = &ddp->buckets[i];
        int level = 0;
        ddp_logical_fold(ddp, i);
        while (own->at >> level & 1)
            level++;
        memcpy(own->partial[i * own->levels + level], bucket->memory, bucket->count * cadre_dtype_size(bucket->dtype));
    }
    own->at++;
    own->begun = false;
    return ct_module_zero_grad(ddp->model, true) == CT_OK ? CADRE_OK : ddp_torch_failed("between two logical workers");
}

int ddp_logical_begun(const cadre_ddp *ddp)
{
    return ddp->logical->begun ? CADRE_OK : cadre_fail(CADRE_ESTATE, "the pass of logical worker %d: call cadre_ddp_logical before it", ddp->logical->at);
}

int ddp_logical_end(cadre_ddp *ddp)
{
    struct ddp_logical *own = ddp->logical;
    int status = own->count > 1 ? copy_buffers(ddp, false) : CADRE_OK;
    own->at = 0;
    own->begun = false;
    return status;
}

/* ---- state ---------------------------------------------------------------------------------------------------------------------------- */

static int save_generators(void *user, void *buffer, size_t nbytes)
{
    struct ddp_logical *own = user;
    if (ct_rng_get_state(generator(own, own->drawing), own->generator_nbytes) != CT_OK)
        return ddp_torch_failed("save the random states");
    memcpy(buffer, own->generators, nbytes);
    return CADRE_OK;
}

static int load_generators(void *user, const void *buffer, size_t nbytes)
{
    struct ddp_logical *own = user;
    memcpy(own->generators, buffer, nbytes);
    return ct_rng_set_state(generator(own, own->drawing), own->generator_nbytes) == CT_OK ? CADRE_OK : ddp_torch_failed("restore the random states");
}

int cadre_state_add_logical_rng(cadre_state *state, const char *name, cadre_ddp *ddp)
{
    if (!state || !name || !ddp)
        return cadre_fail(CADRE_EINVAL, "cadre_state_add_logical_rng: an argument is NULL");
    if (!ddp->logical)
        return cadre_state_add_torch_rng(state, name);
    cadre_state_source source = {.save = save_generators, .load = load_generators, .user = ddp->logical};
    return cadre_state_add_local_source(state, name, (size_t)ddp->logical->count * ddp->logical->generator_nbytes, &source);
}
