/*
 * The loader: a ring of batches, filled by one thread (or in cadre_loader_next) and handed out in order.
 *
 * The thread lives for one epoch: it is started when a batch is first asked for and joined when the epoch's end, or an
 * error, has been handed out. So between epochs the process has no thread of ours and may fork. While it runs, sampler,
 * scratch and the slots from `taken` to `made` are its own; all else is the caller's. `epoch` and `consumed` never are
 * the thread's, since a checkpoint reads and a restore writes them.
 */
#include "cadre/data.h"

#include "base/error.h"
#include "base/mem.h"
#include "cadre/timeline.h"

#include <float.h>
#include <inttypes.h>
#include <limits.h>
#include <math.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

enum { ALIGNMENT = 64 /* of the values of a batch: a cache line, and what vector loads like */ };

typedef struct slot {
    void *memory; /* holds values, aligned */
    float *values;
    int64_t *labels, *indices;
    int64_t count, number;
    int64_t consumed; /* by all ranks when this batch has been handed out */
    int status;       /* CADRE_STOP behind the last batch, or an error; nothing follows such a slot */
} slot;

struct cadre_loader {
    cadre_dataset dataset;
    cadre_loader_options options;
    size_t sample_floats;
    cadre_sampler sampler;
    float *sample, *scratch; /* one sample each */
    slot *slots;
    int slot_count;

    int64_t epoch, consumed;         /* of what has been handed out */
    int64_t our_epoch, our_consumed; /* what we last set them to: where they differ a restore has been there */
    bool begun;

    bool running; /* the thread is to be joined */
    pthread_t thread;
    pthread_mutex_t lock; /* over made, freed and stop's waiters */
    pthread_cond_t changed_made, changed_freed;
    atomic_bool stop;
    int64_t made, taken, freed;   /* slots so far in this epoch; slot k is slots[k % slot_count] */
    char message[BASE_ERROR_MAX]; /* of the slot with an error */
};

/* A user's get need not set a message, and may answer what is no status; neither may pass for success or the epoch's
 * end. */
static int sample_failed(int status, int64_t index)
{
    if (status > 0)
        return base_error(CADRE_EINVAL, "sample %" PRId64 ": the dataset's get answered %d, which is no error code",
                          index, status);
    if (!*cadre_error_message())
        base_error(status, "%s", cadre_status_text(status));
    return base_wrap(status, "sample %" PRId64, index);
}

static void copy_channels_last(float *to, const float *from, const cadre_dataset *shape)
{
    size_t pixels = (size_t)shape->height * (size_t)shape->width;
    size_t channels = (size_t)shape->channels;
    for (size_t c = 0; c < channels; c++)
        for (size_t i = 0; i < pixels; i++)
            to[i * channels + c] = from[c * pixels + i];
}

static int make_sample(cadre_loader *loader, int64_t index, float *values, int64_t *label)
{
    const cadre_dataset *dataset = &loader->dataset;
    bool turned = loader->options.channels_last && dataset->channels > 1;
    float *image = turned ? loader->sample : values;
    int status = dataset->get(dataset->user, index, image, label);
    if (status != CADRE_OK)
        return sample_failed(status, index);
    cadre_augment_apply(&loader->options.augment, loader->options.seed, loader->sampler.epoch, index, image,
                        loader->scratch, dataset->channels, dataset->height, dataset->width);
    if (turned)
        copy_channels_last(values, image, dataset);
    return CADRE_OK;
}

/* Fill the slot with the sampler's next batch, or with the status that ends the epoch. */
static void make_batch(cadre_loader *loader, slot *to)
{
    int64_t global = loader->options.batch_size * loader->options.world;
    to->number = loader->sampler.consumed / global;
    base_error(CADRE_OK, "%s", ""); /* so that an old message does not pass for one of get's */
    to->status = cadre_sampler_next(&loader->sampler, to->indices, &to->count);
    to->consumed = loader->sampler.consumed;
    for (int64_t i = 0; to->status == CADRE_OK && i < to->count; i++)
        to->status =
            atomic_load(&loader->stop)
                ? CADRE_ECANCELED
                : make_sample(loader, to->indices[i], to->values + (size_t)i * loader->sample_floats, &to->labels[i]);
    if (to->status < 0)
        memcpy(loader->message, cadre_error_message(), sizeof loader->message);
}

static void *prefetch(void *argument)
{
    cadre_loader *loader = argument;
    slot *to;
    do {
        pthread_mutex_lock(&loader->lock);
        while (loader->made - loader->freed >= loader->slot_count && !atomic_load(&loader->stop))
            pthread_cond_wait(&loader->changed_freed, &loader->lock);
        to = &loader->slots[loader->made % loader->slot_count];
        pthread_mutex_unlock(&loader->lock);
        if (atomic_load(&loader->stop))
            break;
        make_batch(loader, to);
        pthread_mutex_lock(&loader->lock);
        loader->made++;
        pthread_cond_signal(&loader->changed_made);
        pthread_mutex_unlock(&loader->lock);
    } while (to->status == CADRE_OK);
    return NULL;
}

static int start_thread(cadre_loader *loader)
{
    sigset_t all, before;
    sigfillset(&all);
    atomic_store(&loader->stop, false);
    pthread_sigmask(SIG_SETMASK, &all, &before); /* the program's signals are for the program's threads */
    int failed = pthread_create(&loader->thread, NULL, prefetch, loader);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (failed)
        return base_errno(failed, "start the loader's thread (prefetch below 0 needs none)");
    pthread_setname_np(loader->thread, "cadre-loader");
    /* So that, woken, it does not push the training off its core: a call of next takes 10 us in place of 120. */
    pthread_setschedparam(loader->thread, SCHED_BATCH, &(struct sched_param){0});
    loader->running = true;
    return CADRE_OK;
}

/* Within the time of one get(). */
static void stop_thread(cadre_loader *loader)
{
    if (!loader->running)
        return;
    pthread_mutex_lock(&loader->lock);
    atomic_store(&loader->stop, true);
    pthread_cond_signal(&loader->changed_freed);
    pthread_mutex_unlock(&loader->lock);
    pthread_join(loader->thread, NULL);
    atomic_store(&loader->stop, false);
    loader->running = false;
}

static int check_options(const cadre_dataset *dataset, const cadre_loader_options *options)
{
    const cadre_augment *augment = &options->augment;
    if (!dataset->count || !dataset->get || dataset->channels < 1 || dataset->height < 1 || dataset->width < 1)
        return base_error(CADRE_EINVAL,
                          "loader: the dataset lacks a callback, or its samples of %d x %d x %d are empty",
                          dataset->channels, dataset->height, dataset->width);
    if (augment->crop_padding < 0 || augment->shift < 0 || augment->erase < 0)
        return base_error(CADRE_EINVAL,
                          "loader: augment.crop_padding, .shift and .erase are pixels, from 0 (%d, %d, %d)",
                          augment->crop_padding, augment->shift, augment->erase);
    if (!(augment->rotate >= 0 && augment->rotate <= 360) || !(augment->noise >= 0 && augment->noise <= FLT_MAX) ||
        !isfinite(augment->fill))
        return base_error(CADRE_EINVAL, "loader: augment.rotate %g, .noise %g or .fill %g is out of range",
                          augment->rotate, augment->noise, (double)augment->fill);
    return CADRE_OK;
}

/* A caller's options of another version: what it does not know is zero; what we do not know must be. */
static int take_options(cadre_loader_options *to, const cadre_loader_options *from)
{
    size_t size = from && from->size ? from->size : sizeof *to;
    *to = (cadre_loader_options){0};
    if (from)
        memcpy(to, from, size < sizeof *to ? size : sizeof *to);
    for (size_t i = sizeof *to; i < size; i++)
        if (((const unsigned char *)from)[i])
            return base_error(CADRE_EVERSION, "loader: options of a newer version are set; link with that version");
    to->size = sizeof *to;
    to->batch_size = to->batch_size ? to->batch_size : 64;
    to->world = to->world ? to->world : 1;
    to->prefetch = to->prefetch ? to->prefetch : 2;
    return CADRE_OK;
}

/* Floats of a sample and bytes of a batch, or EINVAL where they do not fit into a size_t. */
static int measure(const cadre_dataset *dataset, int64_t batch_size, size_t *sample_floats, size_t *batch_bytes)
{
    size_t floats = (size_t)dataset->channels;
    bool over = __builtin_mul_overflow(floats, (size_t)dataset->height, &floats) ||
                __builtin_mul_overflow(floats, (size_t)dataset->width, &floats);
    size_t bytes = 0;
    over = over || __builtin_mul_overflow(floats, sizeof(float), &bytes) ||
           __builtin_mul_overflow(bytes, (size_t)batch_size, &bytes) || bytes > PTRDIFF_MAX - ALIGNMENT;
    if (over || (size_t)batch_size > PTRDIFF_MAX / sizeof(int64_t))
        return base_error(CADRE_EINVAL, "loader: %" PRId64 " samples of %d x %d x %d do not fit into memory",
                          batch_size, dataset->channels, dataset->height, dataset->width);
    *sample_floats = floats;
    *batch_bytes = bytes;
    return CADRE_OK;
}

static int make_slot(slot *to, size_t batch_bytes, int64_t batch_size)
{
    to->memory = base_malloc(batch_bytes + ALIGNMENT);
    to->labels = base_calloc((size_t)batch_size, sizeof *to->labels);
    to->indices = base_calloc((size_t)batch_size, sizeof *to->indices);
    if (!to->memory || !to->labels || !to->indices)
        return CADRE_ENOMEM;
    uintptr_t address = (uintptr_t)to->memory;
    to->values = (float *)(void *)((char *)to->memory + (ALIGNMENT - address % ALIGNMENT));
    return CADRE_OK;
}

static int make_memory(cadre_loader *loader)
{
    size_t batch_bytes = 0;
    const cadre_loader_options *options = &loader->options;
    int status = measure(&loader->dataset, options->batch_size, &loader->sample_floats, &batch_bytes);
    if (status != CADRE_OK)
        return status;
    int64_t slots = options->prefetch < 0 ? 1 : (int64_t)options->prefetch + 1; /* one is with the caller */
    if (slots > INT_MAX)
        return base_error(CADRE_EINVAL, "loader: prefetch %d", options->prefetch);
    loader->sample = base_calloc(loader->sample_floats, sizeof(float));
    loader->scratch = base_calloc(loader->sample_floats, sizeof(float));
    loader->slots = base_calloc((size_t)slots, sizeof *loader->slots);
    if (!loader->sample || !loader->scratch || !loader->slots)
        return base_wrap(CADRE_ENOMEM, "loader");
    loader->slot_count = (int)slots;
    for (int i = 0; i < loader->slot_count; i++)
        if (make_slot(&loader->slots[i], batch_bytes, options->batch_size) != CADRE_OK)
            return base_wrap(CADRE_ENOMEM, "loader: batch %d of %d in memory", i + 1, loader->slot_count);
    return CADRE_OK;
}

int cadre_loader_new(const cadre_dataset *dataset, const cadre_loader_options *options, cadre_loader **out)
{
    cadre_loader_options taken;
    if (!dataset || !out)
        return base_error(CADRE_EINVAL, "loader: no dataset or no place for the answer");
    int status = take_options(&taken, options);
    if (status == CADRE_OK)
        status = check_options(dataset, &taken);
    if (status != CADRE_OK)
        return status;
    cadre_loader *loader = base_calloc(1, sizeof *loader);
    if (!loader)
        return CADRE_ENOMEM;
    loader->dataset = *dataset;
    loader->options = taken;
    atomic_init(&loader->stop, false);
    pthread_mutex_init(&loader->lock, NULL); /* these three cannot fail on Linux */
    pthread_cond_init(&loader->changed_made, NULL);
    pthread_cond_init(&loader->changed_freed, NULL);
    status = cadre_sampler_init(&loader->sampler, dataset->count(dataset->user), taken.batch_size, taken.rank,
                                taken.world, taken.shuffle, taken.drop_last, taken.seed);
    if (status == CADRE_OK && (taken.parts < 0 || (taken.parts > 1 && taken.batch_size % taken.parts)))
        status = base_error(CADRE_EINVAL, "loader: a batch of %" PRId64 " cannot be cut into %d equal parts", taken.batch_size, taken.parts);
    loader->sampler.parts = taken.parts;
    if (status == CADRE_OK)
        status = make_memory(loader);
    if (status == CADRE_OK)
        *out = loader;
    else
        cadre_loader_free(loader);
    return status;
}

void cadre_loader_free(cadre_loader *loader)
{
    if (!loader)
        return;
    stop_thread(loader);
    for (int i = 0; i < loader->slot_count; i++) {
        free(loader->slots[i].indices);
        free(loader->slots[i].labels);
        free(loader->slots[i].memory);
    }
    free(loader->slots);
    free(loader->scratch);
    free(loader->sample);
    cadre_sampler_done(&loader->sampler);
    pthread_cond_destroy(&loader->changed_freed);
    pthread_cond_destroy(&loader->changed_made);
    pthread_mutex_destroy(&loader->lock);
    free(loader);
}

static bool restored(const cadre_loader *loader)
{
    return loader->epoch != loader->our_epoch || loader->consumed != loader->our_consumed;
}

static void set_position(cadre_loader *loader, int64_t epoch, int64_t consumed)
{
    loader->epoch = loader->our_epoch = epoch;
    loader->consumed = loader->our_consumed = consumed;
}

static int go_to(cadre_loader *loader, int64_t epoch, int64_t consumed)
{
    stop_thread(loader);
    int status = cadre_sampler_seek(&loader->sampler, epoch, consumed);
    loader->begun = status == CADRE_OK;
    if (status != CADRE_OK)
        return base_wrap(status, "loader");
    loader->made = loader->taken = loader->freed = 0;
    set_position(loader, epoch, consumed);
    return CADRE_OK;
}

int cadre_loader_begin(cadre_loader *loader, int64_t epoch)
{
    return go_to(loader, epoch, restored(loader) && loader->epoch == epoch ? loader->consumed : 0);
}

/* Let go of the batch that the caller had, and see to it that slot `taken` is made. */
static int wait_for_slot(cadre_loader *loader)
{
    if (loader->options.prefetch < 0) {
        if (loader->made == loader->taken)
            make_batch(loader, &loader->slots[loader->made++ % loader->slot_count]);
        return CADRE_OK;
    }
    if (!loader->running && loader->made == 0) { /* in this order: `made` is the thread's while it runs */
        int status = start_thread(loader);
        if (status != CADRE_OK)
            return status;
    }
    pthread_mutex_lock(&loader->lock);
    loader->freed = loader->taken;
    pthread_cond_signal(&loader->changed_freed);
    while (loader->made == loader->taken)
        pthread_cond_wait(&loader->changed_made, &loader->lock);
    pthread_mutex_unlock(&loader->lock);
    return CADRE_OK;
}

int cadre_loader_next(cadre_loader *loader, cadre_batch *batch)
{
    int status = CADRE_OK;
    if (!loader->begun || restored(loader))
        status = go_to(loader, loader->epoch, loader->consumed);
    int64_t begun = cadre_timeline_begin();
    if (status == CADRE_OK)
        status = wait_for_slot(loader);
    cadre_timeline_end(begun, "data", "data");
    if (status != CADRE_OK)
        return status;
    const slot *from = &loader->slots[loader->taken % loader->slot_count];
    if (from->status != CADRE_OK) { /* stays there, so that the next call gives the same answer */
        stop_thread(loader);
        return from->status < 0 ? base_error(from->status, "%s", loader->message) : from->status;
    }
    loader->taken++;
    set_position(loader, loader->epoch, from->consumed);
    *batch = (cadre_batch){.values = from->values,
                           .labels = from->labels,
                           .indices = from->indices,
                           .count = from->count,
                           .number = from->number};
    return CADRE_OK;
}

cadre_batch cadre_batch_part(const cadre_batch *batch, int parts, int index, int64_t sample_floats)
{
    int64_t share = batch->count / parts, more = batch->count % parts;
    int64_t first = share * index + (index < more ? index : more);
    return (cadre_batch){.values = batch->values + first * sample_floats, .labels = batch->labels + first, .indices = batch->indices + first,
                         .count = share + (index < more), .number = batch->number};
}

int64_t cadre_loader_batches(const cadre_loader *loader) { return cadre_sampler_batches(&loader->sampler); }

int64_t cadre_loader_consumed(const cadre_loader *loader) { return loader->consumed; }

int cadre_loader_add_state(cadre_loader *loader, cadre_state *state, const char *name)
{
    if (!loader || !state || !name)
        return base_error(CADRE_EINVAL, "loader: no state or name to save its position under");
    char *epoch = base_sprintf("%s.epoch", name);
    char *consumed = epoch ? base_sprintf("%s.consumed", name) : NULL;
    int status = consumed ? CADRE_OK : CADRE_ENOMEM;
    if (status == CADRE_OK)
        status = cadre_state_add_int64(state, epoch, &loader->epoch);
    if (status == CADRE_OK)
        status = cadre_state_add_int64(state, consumed, &loader->consumed);
    free(consumed);
    free(epoch);
    return status;
}
