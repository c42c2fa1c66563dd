/*
 * Data: datasets, the sampler that shares their samples out over ranks, and the loader that fills batches ahead of the training.
 *
 * Which samples make up which batch is a function of seed, epoch, batch size and world alone, and augmentation one of seed, epoch and
 * sample index: neither depends on threads, timing or how often the run was interrupted.
 */
#ifndef CADRE_DATA_H
#define CADRE_DATA_H

#include "cadre/state.h"
#include "cadre/status.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* ---- datasets ---------------------------------------------------------------------------------------------------------- */

/** A dataset is two callbacks. A sample is `sample_floats` float32 values and one int64 label. Plain struct; copied by the loader, which calls
 *  `get` from its prefetch thread (one at a time). */
typedef struct cadre_dataset {
    /** Samples in it, from 0; asked once by a loader. */
    int64_t (*count)(void *user);
    /** Write sample `index` in [0, count) to `values` and `label`. Answers CADRE_OK or an error, and keeps the message of the cadre call that gave it. */
    int (*get)(void *user, int64_t index, float *values, int64_t *label);
    void *user;
    int channels, height, width; /* sample_floats = channels * height * width, row-major */
} cadre_dataset;

/** Images and labels of an IDX pair (MNIST and its kin), whole in memory as bytes; get() gives (byte / 255 - mean) / std. */
typedef struct cadre_idx cadre_idx;

/**
 * Read an IDX pair from `directory`: train-images-idx3-ubyte and train-labels-idx1-ubyte (train true) or t10k-..., each plain or with ".gz". Also takes
 * the names with "." for "-idx". Checked before use: magic, dimensions, length, equal counts, nothing behind the end (CADRE_ECORRUPT names file and
 * fault); CADRE_ENOENT lists what was looked for. 4-dimensional images (idx4: count, channels, height, width) are taken too. No size that a
 * header promises is allocated unless the file can hold it. Starts no thread; forked children share the memory.
 */
CADRE_API int cadre_idx_open(const char *directory, bool train, cadre_idx **out);
CADRE_API void cadre_idx_free(cadre_idx *idx);
/** A dataset over it, borrowed: `idx` must outlive it. Not for two threads at once; the dataset's `get` is. Values are normalised with the given mean and std per channel value (Fashion-MNIST: 0.2860, 0.3530), in
 *  float32 and in that order, which gives the bits torchvision gives. CADRE_EINVAL: std is not above 0. */
CADRE_API int cadre_idx_dataset(cadre_idx *idx, float mean, float std, cadre_dataset *out);
CADRE_API int64_t cadre_idx_count(const cadre_idx *idx);
/** Highest label + 1. */
CADRE_API int cadre_idx_classes(const cadre_idx *idx);

/* ---- sampler ------------------------------------------------------------------------------------------------------------ */

/**
 * Shares the samples of an epoch out over ranks. The epoch's order is a permutation (Fisher-Yates over Philox) that depends on seed and
 * epoch alone; global batch k is its samples [k * B, (k + 1) * B), B = batch_size * world, and rank r takes the r-th of its `world` equal
 * runs. The last, short batch is dropped (drop_last) or split as evenly as it goes, lower ranks first; then a rank may get none. After a seek to
 * a position of another batch size or world the batches are cut from there on, so that the rest of the epoch is still gone through once.
 * Holds 8 bytes a sample when it shuffles. Not for two threads at once.
 * The position is the number of samples consumed by all ranks together, so that it means the same for any world.
 */
typedef struct cadre_sampler {
    int64_t count;    /* samples in the dataset */
    int64_t batch_size; /* per rank */
    int rank, world;
    bool shuffle, drop_last;
    uint64_t seed;
    int64_t epoch;
    int64_t consumed; /* by all ranks, in this epoch */
    int64_t base;     /* where the last seek put it: batches are cut from there */
    int parts;        /* neighbouring logical workers whose share this rank takes as one; 0: 1. Set it after cadre_sampler_init; batch_size is for all */
    int64_t *order;   /* the epoch's permutation; NULL: not made, or not shuffled */
} cadre_sampler;

/** At the beginning of epoch 0. CADRE_EINVAL: rank not in [0, world), batch_size or world below 1, or numbers that overflow. */
CADRE_API int cadre_sampler_init(cadre_sampler *sampler, int64_t count, int64_t batch_size, int rank, int world, bool shuffle,
                                 bool drop_last, uint64_t seed);
CADRE_API void cadre_sampler_done(cadre_sampler *sampler);
/** Go to `consumed` samples into `epoch`, from 0 to their number. CADRE_EINVAL. */
CADRE_API int cadre_sampler_seek(cadre_sampler *sampler, int64_t epoch, int64_t consumed);
/** This rank's part of the next global batch: up to batch_size indices and their number. Returns CADRE_STOP at the epoch's end, until the next
 *  seek, with the outputs untouched. CADRE_ENOMEM (the epoch's first call shuffles). */
CADRE_API int cadre_sampler_next(cadre_sampler *sampler, int64_t *indices, int64_t *taken);
/** Global batches in an epoch. */
CADRE_API int64_t cadre_sampler_batches(const cadre_sampler *sampler);

/* ---- augmentation --------------------------------------------------------------------------------------------------------- */

/** What is done to a training image, in this order; zero is nothing. Each draws from a random stream of its own: turning one on changes
 *  nothing about the others. */
typedef struct cadre_augment {
    int crop_padding;     /* pixels of zeros put around, then a random crop of the old size (4 is usual) */
    bool flip;            /* left-right, with probability 1/2 */
    int shift;            /* by up to so many pixels each way, edges filled with `fill` */
    double rotate;        /* by up to so many degrees each way, about the centre, bilinear, `fill` from outside; at most 360 */
    int erase;            /* a square hole of zeros of this side, its centre anywhere (Cutout, DeVries & Taylor 2017) */
    double noise;         /* standard deviation of Gaussian noise */
    float fill;           /* what comes in from outside (the value of a black pixel after normalisation) */
} cadre_augment;

/** Apply to one image of channels * height * width floats, in place; `scratch` has the same size. Same key, same result. Allocates nothing. Any thread. */
CADRE_API void cadre_augment_apply(const cadre_augment *augment, uint64_t seed, int64_t epoch, int64_t index, float *image,
                                   float *scratch, int channels, int height, int width);

/* ---- loader ----------------------------------------------------------------------------------------------------------------- */

typedef struct cadre_batch {
    const float *values;   /* count x channels x height x width, row-major */
    const int64_t *labels; /* count */
    const int64_t *indices;
    int64_t count;         /* samples in it; 0 is possible for the last batch of a rank */
    int64_t number;        /* global batch in the epoch, from 0 */
} cadre_batch;

typedef struct cadre_loader_options {
    size_t size;         /* sizeof of the caller, 0: this version */
    int64_t batch_size;  /* per rank; 0: 64 */
    int rank, world;     /* world 0: 1 */
    bool shuffle, drop_last;
    uint64_t seed;
    cadre_augment augment;
    int prefetch;        /* batches made ahead on a thread; 0: 2; negative: none, batches are made in cadre_loader_next */
    bool channels_last;  /* fill values as count x height x width x channels */
    int parts;           /* logical workers of this rank (cadre_session_logical_count): a batch has the samples of all of them, one after the other;
                            batch_size is for all; 0: 1 */
} cadre_loader_options;

typedef struct cadre_loader cadre_loader;

/**
 * `dataset` is copied, its `user` borrowed. Options may be NULL. No thread is started before the first batch is asked for, so a loader may be made
 * before a fork; and none is left when CADRE_STOP or an error has been handed out, so a program may fork between epochs. The thread takes no
 * signals. CADRE_EINVAL, CADRE_EVERSION (options this library does not know), CADRE_ENOMEM. A loader is for one thread at a time.
 */
CADRE_API int cadre_loader_new(const cadre_dataset *dataset, const cadre_loader_options *options, cadre_loader **out);
/** Stops the thread, within the time of one `get`. */
CADRE_API void cadre_loader_free(cadre_loader *loader);
/** Begin `epoch`: from its beginning, or, after a restore into the middle of that same epoch, from the saved position. Also leaves
 *  an epoch before its end. CADRE_EINVAL: the saved position is not in the dataset. */
CADRE_API int cadre_loader_begin(cadre_loader *loader, int64_t epoch);
/** The next batch, or CADRE_STOP at the epoch's end. The batch is borrowed until the next begin, next or free. An error of `get`
 *  comes out here in its place, "sample 7: " and its message, and again until the next begin. Without a begin, epoch 0 or the restored one. */
CADRE_API int cadre_loader_next(cadre_loader *loader, cadre_batch *batch);
/** What the index-th of `parts` logical workers has of a batch, borrowed as that is: they differ by one sample at most, lower ones have it. */
CADRE_API cadre_batch cadre_batch_part(const cadre_batch *batch, int parts, int index, int64_t sample_floats);
/** Batches in an epoch, the same on every rank. */
CADRE_API int64_t cadre_loader_batches(const cadre_loader *loader);
/** Samples that all ranks together have consumed in this epoch: those of batches handed out, not of those made ahead. */
CADRE_API int64_t cadre_loader_consumed(const cadre_loader *loader);
/** Save epoch and position with `state` under "<name>.epoch" and "<name>.consumed", and go on from there after a restore. The loader must outlive the state. */
CADRE_API int cadre_loader_add_state(cadre_loader *loader, cadre_state *state, const char *name);

#ifdef __cplusplus
}
#endif
#endif
