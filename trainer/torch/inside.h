/* What the files of ddp share. */
#ifndef TRAINER_TORCH_INSIDE_H
#define TRAINER_TORCH_INSIDE_H

#include "cadre/ddp.h"
#include "layout.h"

#include <stdbool.h>
#include <stdint.h>

/* One gradient's place. */
struct slot {
    cadre_ddp *ddp;
    const char *name; /* borrowed from the module */
    ct_tensor *param; /* borrowed from the module */
    ct_tensor *view;  /* of the bucket, in the parameter's shape and strides */
    ct_hook *hook;
    int bucket;
    bool ready;  /* its gradient has come in this pass */
    bool unused; /* no rank had a gradient for it in the last pass */
};

struct bucket {
    void *memory;     /* the gradients: of the communicator, or ordinary memory when they travel in another dtype */
    void *wire;       /* what travels then, of the communicator; else NULL */
    void *parameters; /* sharded: the parameters in the same places, of the communicator; else NULL */
    size_t count;     /* elements, padding and the last bucket's wish included */
    cadre_dtype dtype;
    ct_tensor *flat, *wire_flat; /* of all elements, where there is a wire */
    ct_tensor *part;             /* sharded: this rank's part of the gradients */
    ct_tensor *shard;            /* sharded: and of the parameters; borrowed from the shards' module */
    int slots, ready;
    cadre_request *request; /* on its way */
    double started;
    int64_t begun; /* the same for the timeline */
    char label[200]; /* "bucket 1 (fc.weight ... layer3.0.conv1.weight)" */
};

struct cadre_ddp {
    cadre_comm *comm;
    ct_module *model;
    struct cadre_ddp_options options;
    struct slot *slots; /* in the order of the buckets: reverse order of the parameters */
    int slot_count;
    struct bucket *buckets;
    int bucket_count;
    int next;        /* bucket to be reduced next */
    bool no_sync;    /* gradients only add up */
    bool sharded;    /* options.sharded, and there are shards */
    bool overlap;    /* buckets are started, and waited for at the end of the pass */
    bool wish_apart; /* the wish to leave does not ride in the last bucket */
    int32_t *used;   /* one a slot: room to tell the others */
    struct ddp_logical *logical; /* logical.c; NULL: a process is a worker */
    ct_module *shards;
    ct_tensor *buffers_flat; /* all floating buffers one after the other, to be averaged */
    void *buffers_memory;
    cadre_ddp_statistics stats;
    int status;
    char message[512];
};

int ddp_torch_failed(const char *what);
double ddp_now(void);

/* Around what a rank does for the exchange alone: it goes into waited_s and late_s. */
struct ddp_wait {
    double begun, late;
};
struct ddp_wait ddp_wait_begin(const cadre_ddp *ddp);
void ddp_wait_end(cadre_ddp *ddp, struct ddp_wait wait);

/* buffers.c */
int ddp_make_buffers(cadre_ddp *ddp);
int ddp_sync_buffers(cadre_ddp *ddp, enum cadre_ddp_buffers how);
int ddp_broadcast_tensor(cadre_ddp *ddp, const char *name, ct_tensor *tensor);

/* shard.c */
int ddp_make_shards(cadre_ddp *ddp, const struct layout *layout);
void ddp_free_shards(cadre_ddp *ddp);
/* The shards' gradients are this pass's. */
int ddp_show_shards(cadre_ddp *ddp);

/* logical.c */
/* CADRE_EINVAL: the session's group has logical workers, and the options others or none. */
int ddp_check_logical(const cadre_ddp *ddp);
int ddp_make_logical(cadre_ddp *ddp);
/* Is libtorch's generator only one of this process's? */
bool ddp_has_several_generators(void);
void ddp_free_logical(cadre_ddp *ddp);
/* CADRE_ESTATE unless cadre_ddp_logical was called for the pass under way. */
int ddp_logical_begun(const cadre_ddp *ddp);
/* A pass is through that is not the last: its gradients are put by. */
int ddp_logical_keep(cadre_ddp *ddp);
/* In the last one: add to the bucket what was put by; make its sum over all the mean; the pass is through. */
void ddp_logical_fold(cadre_ddp *ddp, int bucket);
void ddp_logical_scale(cadre_ddp *ddp, int bucket);
int ddp_logical_end(cadre_ddp *ddp);

/* pass.c */
ct_status ddp_on_gradient(const ct_tensor *param, ct_tensor *grad, void *slot);

#endif
