/* The command line of resnet_mnist. */
#ifndef EXAMPLE_OPTIONS_H
#define EXAMPLE_OPTIONS_H

#include "cadre/trainer.h"

struct options {
    const char *data; /* directory of IDX files */
    const char *dtype; /* "float32", "bfloat16", "float64", or "auto": what is fastest here */
    int depth, epochs, batch, workers, logical;
    int contiguous; /* images as N x C x H x W in memory instead of N x H x W x C */
    int64_t limit;  /* use only so many training images; 0: all */
    double lr, momentum, weight_decay, clip;
    uint64_t seed;
    const char *name, *storage, *backend, *launcher, *timeline, *device, *wire;
    int sharded; /* each worker keeps a part of the optimiser's state */
    int resume, quiet, max_failures, keep, every_steps;
};

/** Read the command line; exits after --help (0) or a mistake (2, with one line that names it). */
struct options options_read(int argc, char **argv);

#endif
