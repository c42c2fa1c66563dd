/*
 * Data-parallel training of a ctorch module: its gradients are averaged over all ranks while the backward pass runs. (Li et al.,
 * "PyTorch Distributed: Experiences on Accelerating Data Parallel Training", VLDB 2020, section 3.2, is the model: buckets in reverse order
 * of the parameters, reduced as soon as they are full.)
 *
 * Needs libtorch: link cadre_torch. All functions marked "collective" are called by every rank of the communicator in the same order, from one thread.
 */
#ifndef CADRE_DDP_H
#define CADRE_DDP_H

#include "cadre/collectives.h"
#include "cadre/state.h"
#include "ctorch.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct cadre_ddp cadre_ddp;

typedef struct cadre_ddp_options {
    size_t size;          /* sizeof of the caller; 0: this version */
    size_t bucket_nbytes; /* a bucket is closed when it has so many bytes; 0: 25 MiB */
} cadre_ddp_options;

/**
 * Collective. Take `model`'s parameters in step from here on: all ranks begin with rank 0's parameters and buffers, and each backward pass
 * leaves every rank with the mean of all ranks' gradients. `options` may be NULL. Model and communicator are borrowed and must outlive it; the set of
 * parameters, their dtype and layout may not change meanwhile. Parameters that do not require gradients are left out.
 * CADRE_EMISMATCH: the ranks' models differ (names the first parameter that does); CADRE_ENOTSUP: a parameter's dtype or device.
 */
CADRE_API int cadre_ddp_new(cadre_ddp **out, ct_module *model, cadre_comm *comm, const cadre_ddp_options *options);
/** Local. Gradients are the module's own again. NULL is fine. */
CADRE_API void cadre_ddp_free(cadre_ddp *ddp);

/**
 * Collective. The backward pass from `loss` (one element) and the sync of all gradients; when it returns they are in step. The same as ct_backward()
 * followed by cadre_ddp_sync(). CADRE_ETORCH, and the errors of the communicator.
 */
CADRE_API int cadre_ddp_backward(cadre_ddp *ddp, const ct_tensor *loss);
/** Collective. After ct_backward(): wait until all gradients are in step. CADRE_ESTATE: parameters got no gradient (names the first): every
 *  one must take part in every pass. */
CADRE_API int cadre_ddp_sync(cadre_ddp *ddp);

/**
 * After the sync: scale all gradients so that their common 2-norm is at most `max_norm` (as torch.nn.utils.clip_grad_norm_). Local, with the same
 * result on all ranks. `norm` (may be NULL) gets the norm before.
 */
CADRE_API int cadre_ddp_clip_grad_norm(cadre_ddp *ddp, double max_norm, double *norm);

/** Collective. Every rank gets rank 0's buffers (batch norm's running statistics): before a validation that all ranks share. */
CADRE_API int cadre_ddp_sync_buffers(cadre_ddp *ddp);

/** A hash of all parameters' bits, to see that ranks or runs agree. */
CADRE_API uint64_t cadre_module_hash(const ct_module *model);

/* ---- what a checkpoint needs ------------------------------------------------------------------------------------------- */

/** Add all parameters and buffers as "<prefix>.<name>" ("model.fc.weight"). The module must outlive the state. */
CADRE_API int cadre_state_add_module(cadre_state *state, const char *prefix, ct_module *model);
/** Add the optimiser's buffers and step counts as "<prefix>.<name>". The optimiser must outlive the state. */
CADRE_API int cadre_state_add_optim(cadre_state *state, const char *prefix, ct_optim *optim);
/** Add libtorch's CPU generator, which dropout and the like draw from; every rank keeps its own. */
CADRE_API int cadre_state_add_torch_rng(cadre_state *state, const char *name);

#ifdef __cplusplus
}
#endif
#endif
