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

/** What float32 gradients travel as. Others travel as they are. */
typedef enum cadre_ddp_wire {
    CADRE_WIRE_SAME = 0,
    CADRE_WIRE_BFLOAT16, /* rounded to bfloat16, summed in float32, the mean rounded again: half the bytes, three digits */
} cadre_ddp_wire;

/** What becomes of buffers (batch norm's running statistics), which every rank moves by its own images. */
typedef enum cadre_ddp_buffers {
    CADRE_BUFFERS_OWN = 0,   /* each keeps its own, until cadre_ddp_sync_buffers gives all rank 0's */
    CADRE_BUFFERS_BROADCAST, /* all take rank 0's after every pass, as PyTorch's DDP does before the next */
    CADRE_BUFFERS_MEAN,      /* floating ones become the mean of all ranks' after every pass, others rank 0's */
} cadre_ddp_buffers;

typedef struct cadre_ddp_options {
    size_t size;          /* sizeof of the caller; 0: this version */
    size_t bucket_nbytes; /* a bucket is closed when it has so many bytes; 0: 25 MiB */
    cadre_ddp_wire wire;
    cadre_ddp_buffers buffers;
    bool find_unused; /* parameters may get no gradient in a pass; costs a small exchange a pass. See cadre_ddp_unused */
    bool sharded;     /* see cadre_ddp_shards */
    bool overlap; /* start a bucket's sync and go on with the backward pass, also in host memory (where nothing goes on by itself, and it
                     mostly does not pay); on GPUs that is so anyway */
    int logical;           /* logical workers of this process (cadre_session_logical_count); 0: none, the process is the worker. See cadre_ddp_logical */
    uint64_t logical_seed; /* libtorch's generator of worker r, of all, begins as by ct_manual_seed(logical_seed + r) */
} cadre_ddp_options;

/**
 * Collective. Take `model`'s parameters in step from here on: all ranks begin with rank 0's parameters and buffers, and each backward pass
 * leaves every rank with the mean of all ranks' gradients. `options` may be NULL. Model and communicator are borrowed and must outlive it; the set of
 * parameters, their dtype and layout may not change meanwhile. Parameters that do not require gradients are left out.
 * CADRE_EMISMATCH: the ranks' models differ (names the first parameter that does); CADRE_ENOTSUP: a parameter's dtype or device.
 */
CADRE_API int cadre_ddp_new(cadre_ddp **out, ct_module *model, cadre_comm *comm, const cadre_ddp_options *options);
/** Local, but for buckets that are under way after a pass that failed: they are waited for. Gradients are the module's own again. NULL is
 *  fine. */
CADRE_API void cadre_ddp_free(cadre_ddp *ddp);

/**
 * Collective. The backward pass from `loss` (one element) and the sync of all gradients; when it returns they are in step. The same as ct_backward()
 * followed by cadre_ddp_sync(). CADRE_ETORCH, and the errors of the communicator.
 */
CADRE_API int cadre_ddp_backward(cadre_ddp *ddp, const ct_tensor *loss);
/** Collective. After ct_backward(): wait until all gradients are in step. CADRE_ESTATE: parameters got no gradient (names the first): every
 *  one must take part in every pass, unless the options have find_unused. */
CADRE_API int cadre_ddp_sync(cadre_ddp *ddp);

/**
 * Gradient accumulation. While on, backward passes add to this rank's gradients and nothing is exchanged; the first pass after it is off
 * again syncs what has added up (the mean over ranks of each rank's sum, as under no_sync() of PyTorch's DDP: divide the loss by the number of
 * passes for the mean). Local, but all ranks must do the same. Not between ct_backward() and cadre_ddp_sync() (CADRE_ESTATE).
 */
CADRE_API int cadre_ddp_no_sync(cadre_ddp *ddp, bool on);

/**
 * Logical workers, for the same bits whatever the number of processes (scaling.logical_workers): a step is one forward and backward pass for each that
 * this process stands for, on its part of the batch, and this call, with 0, 1, ... in turn, comes before each. The last cadre_ddp_backward
 * syncs: the gradients are the mean over all workers, summed in one order. Threads are to be the same number everywhere, and layers with state to be
 * updated in the forward pass keep the first worker's. Without `logical` in the options there is one, and nothing is done.
 * The program draws random numbers in the passes alone (between them libtorch's generator is some worker's).
 * CADRE_ESTATE: out of turn; by cadre_ddp_new CADRE_ENOTSUP: with bfloat16 parameters, on a GPU, or with wire, find_unused, sharded, overlap or mean
 * buffers; CADRE_EINVAL: `logical` is not what the session's group has.
 */
CADRE_API int cadre_ddp_logical(cadre_ddp *ddp, int index);

/**
 * With find_unused: the index-th parameter for which no rank had a gradient in the last pass; NULL past the end. They keep no gradient, and
 * optimisers leave them alone; what some rank used gets its mean (with zeros of the others) on all. Borrowed from the module.
 */
CADRE_API const char *cadre_ddp_unused(const cadre_ddp *ddp, size_t index);

/** Since cadre_ddp_new, on this rank. */
typedef struct cadre_ddp_statistics {
    int64_t passes, buckets; /* passes that were synced; buckets that were exchanged in them */
    int64_t nbytes;          /* that this rank gave into them */
    double backward_s;       /* in backward passes, without what is in waited_s */
    double waited_s;         /* in which this rank did nothing but exchange gradients or wait for them: buckets in the backward pass and
                                after it, conversion for the wire, what find_unused and buffers need, the gathering of cadre_ddp_step. On
                                a GPU: the host's time; its stream waits behind it (cadre_wait) */
    double hidden_s;         /* that buckets were under way while the backward pass went on (summed over buckets) */
    double late_s;           /* of waited_s: until the last rank had come to an exchange, its backward pass being slower
                                (cadre_comm_late_s); the rest is the exchange itself */
} cadre_ddp_statistics;
CADRE_API int cadre_ddp_stats(const cadre_ddp *ddp, cadre_ddp_statistics *out);

/**
 * Sharded optimisers (ZeRO-1), when the options have `sharded`: each rank holds the optimiser's state of 1/world of the elements. The module
 * returned has this rank's part of every bucket as flat parameters: make the optimiser over it (SGD, Adam, AdamW: any that treats elements
 * alike), zero gradients with ct_module_zero_grad(model, true), and step with cadre_ddp_step, which also gathers the parameters. Gradients of the
 * model itself are not to be looked at after the sync; those of the shards are the means. Without `sharded`, or with one rank on a GPU, it is the
 * model itself, so that a program is the same for all. Borrowed; valid while ddp is, and the optimiser must go before it.
 */
CADRE_API ct_module *cadre_ddp_shards(cadre_ddp *ddp);
/** Collective. ct_optim_step, and with shards the gathering of the parameters. */
CADRE_API int cadre_ddp_step(cadre_ddp *ddp, ct_optim *optim);

/**
 * After the sync: scale all gradients so that their common 2-norm is at most `max_norm` (as torch.nn.utils.clip_grad_norm_). Local (sharded:
 * collective), with the same result on all ranks. `norm` (may be NULL) gets the norm before.
 */
CADRE_API int cadre_ddp_clip_grad_norm(cadre_ddp *ddp, double max_norm, double *norm);

/** Collective. Every rank gets rank 0's buffers (batch norm's running statistics), or their mean if the options have it so: before a validation
 *  that all ranks share. */
CADRE_API int cadre_ddp_sync_buffers(cadre_ddp *ddp);

/** A hash of all parameters' bits, to see that ranks or runs agree. */
CADRE_API uint64_t cadre_module_hash(const ct_module *model);

/* ---- what a checkpoint needs ------------------------------------------------------------------------------------------- */

/** Add all parameters and buffers as "<prefix>.<name>" ("model.fc.weight"). The module must outlive the state. */
CADRE_API int cadre_state_add_module(cadre_state *state, const char *prefix, ct_module *model);
/** Add the optimiser's buffers and step counts as "<prefix>.<name>". The optimiser must outlive the state. */
CADRE_API int cadre_state_add_optim(cadre_state *state, const char *prefix, ct_optim *optim);
/** The same for an optimiser over shards (cadre_ddp_shards): each rank saves its own, and any number of ranks gets them back, cut anew. The buckets have to be
 *  what they were (the model's parameters and bucket_nbytes), or their names are not found. */
CADRE_API int cadre_state_add_sharded_optim(cadre_state *state, const char *prefix, ct_optim *optim);
/** The generators of this process's logical workers (before its first pass); without any, libtorch's as below. `ddp` must outlive the state. */
CADRE_API int cadre_state_add_logical_rng(cadre_state *state, const char *name, cadre_ddp *ddp);
/** Add libtorch's CPU generator, which dropout and the like draw from; every rank keeps its own. */
CADRE_API int cadre_state_add_torch_rng(cadre_state *state, const char *name);

#ifdef __cplusplus
}
#endif
#endif
