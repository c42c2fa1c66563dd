/* Which gradient lies where: a pure function of the parameter list, the same on every rank. */
#ifndef TRAINER_TORCH_LAYOUT_H
#define TRAINER_TORCH_LAYOUT_H

#include "cadre/collectives.h"
#include "ctorch.h"

struct layout_entry {
    const char *name; /* borrowed from the module */
    ct_tensor *param; /* borrowed from the module */
    int bucket;
    size_t offset;    /* elements from the bucket's beginning */
    uint64_t hash;    /* of name, dtype, shape and strides */
};

struct layout_bucket {
    cadre_dtype dtype;
    size_t count; /* elements, padding included; the last bucket has one more for the wish to leave */
    int first, last;
    uint64_t hash; /* of what lies in it and where, which does not depend on the parts */
};

struct layout {
    struct layout_entry *entries; /* reverse order of the parameters: about the order in which gradients come */
    int count;
    struct layout_bucket *buckets;
    int bucket_count;
};

/** CADRE_ENOTSUP: a parameter that cannot be reduced. Unless `parts` is 0 every bucket is cut into so many of equal size, and carries no
 *  wish. Free with layout_free, also after a failure. */
int layout_make(ct_module *model, size_t bucket_nbytes, size_t parts, struct layout *layout);
void layout_free(struct layout *layout);

/** Collective. Are all ranks' layouts alike? `status` is what making the own one came to; a failure on any rank is a failure on all. */
int layout_compare(const struct layout *layout, cadre_comm *comm, int status);

/** The collectives' name for a tensor's dtype; CADRE_ENOTSUP names the tensor when it has none or is not dense memory of the host. */
int layout_dtype(const char *name, const ct_tensor *tensor, cadre_dtype *dtype);

#endif
