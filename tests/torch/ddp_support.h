/* What the tests of ddp share: a small model, its loss, its gradients as numbers. */
#ifndef TEST_TORCH_DDP_SUPPORT_H
#define TEST_TORCH_DDP_SUPPORT_H

#include "cadre/cadre.h"
#include "cadre/ddp.h"
#include "examples/try.h"

#define EXPECT(condition)                                                                                              \
    do {                                                                                                               \
        if (!(condition)) {                                                                                            \
            status = cadre_fail(CADRE_ETRAIN, "line %d: %s is not so", __LINE__, #condition);                          \
            goto done;                                                                                                 \
        }                                                                                                              \
    } while (0)

/* 12 inputs, two hidden layers, 5 classes; small enough to follow, with more than one bucket on request. */
ct_module *make_model(uint64_t seed, ct_dtype dtype);
/* Of six random inputs. */
int make_loss(ct_module *model, ct_dtype dtype, uint64_t seed, ct_tensor **loss);
/* All gradients one after the other, as doubles; count is what the model has. */
int read_gradients(ct_module *model, double *values, size_t room, size_t *count);
/* And all parameters. */
int read_parameters(ct_module *model, double *values, size_t room, size_t *count);

enum { ROOM = 2000 };

#endif
