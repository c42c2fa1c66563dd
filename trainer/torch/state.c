/* Modules, optimisers and the random state as entries of a cadre_state. */
#include "inside.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int failed(const char *what) { return cadre_fail(CADRE_ETORCH, "%s: %s", what, ct_error_message()); }

static int save_tensor(void *user, void *buffer, size_t nbytes)
{
    return ct_tensor_copy_to_memory(user, buffer, nbytes) == CT_OK ? CADRE_OK : failed("save a tensor");
}

static int load_tensor(void *user, const void *buffer, size_t nbytes)
{
    return ct_tensor_copy_from_memory(user, buffer, nbytes) == CT_OK ? CADRE_OK : failed("restore a tensor");
}

static int state_dtype(const char *name, ct_dtype dtype, cadre_state_dtype *out)
{
    static const struct {
        ct_dtype from;
        cadre_state_dtype to;
    } known[] = {{CT_FLOAT32, CADRE_STATE_F32}, {CT_FLOAT64, CADRE_STATE_F64}, {CT_BFLOAT16, CADRE_STATE_BF16}, {CT_INT32, CADRE_STATE_I32},
                 {CT_INT64, CADRE_STATE_I64},   {CT_UINT8, CADRE_STATE_U8},    {CT_BOOL, CADRE_STATE_BOOL}};
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (known[i].from == dtype) {
            *out = known[i].to;
            return CADRE_OK;
        }
    return cadre_fail(CADRE_ENOTSUP, "\"%s\" is of a dtype that is not saved", name);
}

static int add_tensor(cadre_state *state, const char *prefix, const char *name, ct_tensor *tensor)
{
    char full[256];
    int64_t shape[CADRE_STATE_MAX_DIMS];
    int64_t dims = ct_tensor_ndim(tensor);
    cadre_state_dtype dtype = CADRE_STATE_F32;
    if (dims > CADRE_STATE_MAX_DIMS || snprintf(full, sizeof full, "%s.%s", prefix, name) >= (int)sizeof full)
        return cadre_fail(CADRE_ENOTSUP, "\"%s.%s\" has too many dimensions or too long a name to be saved", prefix, name);
    int status = state_dtype(full, ct_tensor_dtype(tensor), &dtype);
    if (status != CADRE_OK)
        return status;
    for (int64_t dim = 0; dim < dims; dim++)
        shape[dim] = ct_tensor_size(tensor, dim);
    cadre_state_source source = {.save = save_tensor, .load = load_tensor, .user = tensor};
    return cadre_state_add_source(state, full, dtype, (int)dims, shape, &source);
}

int cadre_state_add_module(cadre_state *state, const char *prefix, ct_module *model)
{
    if (!state || !prefix || !model)
        return cadre_fail(CADRE_EINVAL, "cadre_state_add_module: an argument is NULL");
    int status = CADRE_OK;
    for (size_t i = 0; status == CADRE_OK && i < ct_module_state_count(model); i++) {
        const char *name;
        ct_tensor *tensor;
        status = ct_module_state_at(model, i, &name, &tensor) == CT_OK ? add_tensor(state, prefix, name, tensor) : failed("read the model");
    }
    return status;
}

int cadre_state_add_optim(cadre_state *state, const char *prefix, ct_optim *optim)
{
    if (!state || !prefix || !optim)
        return cadre_fail(CADRE_EINVAL, "cadre_state_add_optim: an argument is NULL");
    int status = CADRE_OK;
    for (size_t i = 0; status == CADRE_OK && i < ct_optim_state_count(optim); i++) {
        const char *name;
        ct_tensor *tensor;
        status = ct_optim_state_at(optim, i, &name, &tensor) == CT_OK ? add_tensor(state, prefix, name, tensor) : failed("read the optimiser");
    }
    return status;
}

int cadre_state_add_sharded_optim(cadre_state *state, const char *prefix, ct_optim *optim)
{
    if (!state || !prefix || !optim)
        return cadre_fail(CADRE_EINVAL, "cadre_state_add_sharded_optim: an argument is NULL");
    int status = CADRE_OK;
    for (size_t i = 0; status == CADRE_OK && i < ct_optim_state_count(optim); i++) {
        const char *name;
        ct_tensor *tensor;
        char full[256];
        if (ct_optim_state_at(optim, i, &name, &tensor) != CT_OK)
            return failed("read the optimiser");
        if (!strchr(name, '.')) { /* of no parameter: the counts of steps, the same on all ranks */
            status = add_tensor(state, prefix, name, tensor);
            continue;
        }
        if (snprintf(full, sizeof full, "%s.%s", prefix, name) >= (int)sizeof full)
            return cadre_fail(CADRE_ENOTSUP, "\"%s.%s\" is too long a name to be saved", prefix, name);
        cadre_state_source source = {.save = save_tensor, .load = load_tensor, .user = tensor};
        status = cadre_state_add_shard_source(state, full, ct_tensor_nbytes(tensor), &source);
    }
    return status;
}

static int save_rng(void *user, void *buffer, size_t nbytes)
{
    (void)user;
    if (ddp_has_several_generators()) /* the others would begin anew after a restart */
        return cadre_fail(CADRE_ENOTSUP, "it is one logical worker's of several: add them by cadre_state_add_logical_rng");
    return ct_rng_get_state(buffer, nbytes) == CT_OK ? CADRE_OK : failed("save the random state");
}

static int load_rng(void *user, const void *buffer, size_t nbytes)
{
    (void)user;
    return ct_rng_set_state(buffer, nbytes) == CT_OK ? CADRE_OK : failed("restore the random state");
}

int cadre_state_add_torch_rng(cadre_state *state, const char *name)
{
    cadre_state_source source = {.save = save_rng, .load = load_rng};
    return cadre_state_add_local_source(state, name, ct_rng_state_size(), &source);
}

uint64_t cadre_module_hash(const ct_module *model)
{
    uint64_t hash = 1469598103934665603u;
    for (size_t i = 0; model && i < ct_module_parameter_count(model); i++) {
        const char *name;
        ct_tensor *tensor;
        if (ct_module_parameter_at(model, i, &name, &tensor) != CT_OK)
            return 0;
        size_t nbytes = ct_tensor_nbytes(tensor);
        unsigned char *bytes = malloc(nbytes ? nbytes : 1);
        if (!bytes || ct_tensor_copy_to_memory(tensor, bytes, nbytes) != CT_OK) {
            free(bytes);
            return 0;
        }
        for (size_t k = 0; k < nbytes; k++)
            hash = (hash ^ bytes[k]) * 1099511628211u; /* FNV-1a */
        free(bytes);
    }
    return hash;
}
