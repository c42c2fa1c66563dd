/* Training steps of a ResNet on random batches that lie in memory, as examples/resnet_mnist.c makes them: what bench_train and bench_cost measure. */
#ifndef BENCH_RESNET_STEPS_H
#define BENCH_RESNET_STEPS_H

#include "cadre/collectives.h"
#include "cadre/ddp.h"
#include "ctorch.h"

#include <stdbool.h>
#include <stdint.h>

enum { RESNET_STEPS_BATCHES = 4 };

typedef struct resnet_steps {
    ct_module *model;
    ct_optim *optim;
    cadre_ddp *ddp;
    ct_tensor *images[RESNET_STEPS_BATCHES], *labels[RESNET_STEPS_BATCHES];
    bool bfloat16; /* the forward pass */
    int64_t done;
} resnet_steps;

/** One thread, batches of 28 x 28 pixels. A status of Cadre's; resnet_steps_free either way. */
int resnet_steps_make(resnet_steps *steps, cadre_comm *comm, int depth, int batch, bool channels_last, bool bfloat16);
/** Forward, backward with gradient sync, optimiser. */
int resnet_steps_next(resnet_steps *steps);
void resnet_steps_free(resnet_steps *steps);

#endif
