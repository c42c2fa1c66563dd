/*
 * Train a ResNet on Fashion-MNIST with several workers, their gradients in step.
 *
 *     ./resnet_mnist --workers 2              forks two workers
 *     mpirun -np 2 ./resnet_mnist             the ranks of mpirun are the workers
 *     ./resnet_mnist --resume                 goes on where the last run stopped
 *
 * Read it from the bottom: main() says what is to be run, train() runs in every worker.
 */
#include "cadre/cadre.h"
#include "cadre/ddp.h"
#include "options.h"
#include "resnet.h"
#include "try.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* What main() prepares: forked workers inherit it. */
struct program {
    struct options options;
    cadre_idx *train_files, *test_files;
};

enum { LOGICAL_MAX = 256 };

/* All that training needs, in one place. */
struct training {
    const struct options *options;
    cadre_session *session;
    ct_module *model;
    ct_optim *optim;
    cadre_ddp *ddp;
    cadre_dataset all; /* the training set, of which --limit may leave a part */
    cadre_loader *train, *test;
    cadre_state *state;
    int parts;       /* workers that this process stands for: 1 unless --logical-workers is given */
    double loss_sum[LOGICAL_MAX]; /* of each, over its images in this epoch */
    int64_t seen[LOGICAL_MAX];    /* images that went into it */
    ct_dtype dtype;
    char device[16]; /* "cpu", "cuda:0" */
};

/* The loss of one batch, and on request how many of its images are recognised. Call inside a scope: it frees what is made here. */
static int forward(struct training *t, const cadre_batch *batch, int64_t channels, int64_t height, int64_t width, ct_tensor **loss, int64_t *correct)
{
    int status = CADRE_OK;
    ct_tensor *images, *labels, *logits, *best, *equal, *count;
    TRY_TORCH(ct_tensor_borrow_memory((void *)batch->values, CT_SHAPE(batch->count, channels, height, width), CT_FLOAT32, NULL, NULL, &images));
    TRY_TORCH(ct_tensor_borrow_memory((void *)batch->labels, CT_SHAPE(batch->count), CT_INT64, NULL, NULL, &labels));
    TRY_TORCH(ct_to_device(images, t->device, &images)); /* on the CPU these are themselves */
    TRY_TORCH(ct_to_device(labels, t->device, &labels));
    if (t->dtype == CT_FLOAT64)
        TRY_TORCH(ct_to_dtype(images, CT_FLOAT64, &images));
    if (t->dtype == CT_BFLOAT16)
        TRY_TORCH(ct_autocast_push(t->device, CT_BFLOAT16));
    ct_status passed = ct_module_forward(t->model, images, &logits);
    if (t->dtype == CT_BFLOAT16)
        ct_autocast_pop();
    TRY_TORCH(passed);
    if (t->dtype == CT_BFLOAT16)
        TRY_TORCH(ct_to_dtype(logits, CT_FLOAT32, &logits));
    TRY_TORCH(ct_cross_entropy(logits, labels, 0.0, loss));
    if (correct) {
        TRY_TORCH(ct_argmax(logits, 1, false, &best));
        TRY_TORCH(ct_eq(best, labels, &equal));
        TRY_TORCH(ct_sum(equal, &count));
        TRY_TORCH(ct_tensor_item_int64(count, correct));
    }
done:
    return status;
}

/* Forward and backward of one worker's images; most processes stand for one worker. */
static int pass(struct training *t, const cadre_batch *batch, int part, double *loss_value)
{
    int status = CADRE_OK;
    ct_tensor *loss;
    cadre_batch mine = cadre_batch_part(batch, t->parts, part, 28 * 28);
    ct_scope_begin();
    TRY(cadre_ddp_logical(t->ddp, part));
    int64_t begun = cadre_timeline_begin();
    TRY(forward(t, &mine, 1, 28, 28, &loss, NULL));
    TRY_TORCH(ct_tensor_item(loss, loss_value));
    cadre_timeline_end(begun, "train", "forward");
    TRY(cadre_ddp_backward(t->ddp, loss));
    t->loss_sum[part] += *loss_value * (double)mine.count;
    t->seen[part] += mine.count;
done:
    ct_scope_end();
    return status;
}

/* One step: the gradients, averaged over all workers, and the update. */
static int step(struct training *t, const cadre_batch *batch, double lr, double *loss_value)
{
    int status = CADRE_OK;
    TRY_TORCH(ct_module_zero_grad(t->model, true));
    for (int part = 0; part < t->parts; part++)
        TRY(pass(t, batch, part, loss_value));
    if (t->options->clip > 0)
        TRY(cadre_ddp_clip_grad_norm(t->ddp, t->options->clip, NULL));
    TRY_TORCH(ct_optim_set_lr(t->optim, lr));
    TRY(cadre_ddp_step(t->ddp, t->optim));
done:
    return status;
}

static void show_progress(struct training *t, int64_t epoch, const cadre_batch *batch, double loss)
{
    cadre_session_progress(t->session, &(cadre_progress){
                                           .epoch = epoch + 1, .epochs = t->options->epochs,
                                           .step = batch->number + 1, .steps = cadre_loader_batches(t->train),
                                           .samples = t->state->step * t->options->batch * cadre_session_logical_world(t->session), .unit = "images",
                                           .metrics = CADRE_METRICS(CADRE_METRIC("loss", loss)),
                                       });
}

/* One pass over the training set; CADRE_STOP when the group was asked to leave. */
static int train_epoch(struct training *t, int64_t epoch)
{
    int status = CADRE_OK;
    int64_t total = t->options->epochs * cadre_loader_batches(t->train);
    cadre_batch batch;
    TRY(cadre_loader_begin(t->train, epoch));
    while ((status = cadre_loader_next(t->train, &batch)) == CADRE_OK) {
        double loss;
        TRY(step(t, &batch, ct_lr_one_cycle(t->options->lr, t->state->step, total, 0.3), &loss));
        t->state->step++;
        show_progress(t, epoch, &batch, loss);
        TRY(cadre_step(t->session, t->state));
        if (status == CADRE_STOP)
            return CADRE_STOP;
    }
    if (status == CADRE_STOP) /* the epoch's end */
        status = CADRE_OK;
done:
    return status;
}

/* This rank's share of the test set; the report adds the shares up. */
static int validate(struct training *t, int64_t *correct, int64_t *seen)
{
    int status = CADRE_OK;
    cadre_batch batch;
    *correct = *seen = 0;
    TRY(cadre_ddp_sync_buffers(t->ddp));
    ct_module_train(t->model, false);
    ct_no_grad_push();
    status = cadre_loader_begin(t->test, 0);
    while (status == CADRE_OK && (status = cadre_loader_next(t->test, &batch)) == CADRE_OK) {
        int64_t hits = 0;
        ct_tensor *loss;
        ct_scope_begin();
        int64_t begun = cadre_timeline_begin();
        if (batch.count > 0)
            status = forward(t, &batch, 1, 28, 28, &loss, &hits);
        cadre_timeline_end(begun, "validation", "forward");
        ct_scope_end();
        *correct += hits;
        *seen += batch.count;
    }
    if (status == CADRE_STOP)
        status = CADRE_OK;
    ct_no_grad_pop();
    ct_module_train(t->model, true);
done:
    return status;
}

/* Everything that must come back after an interruption for the run to go on as if there had been none. */
static int make_state(struct training *t)
{
    int status;
    TRY(cadre_state_new(&t->state));
    TRY(cadre_state_add_module(t->state, "model", t->model));
    TRY(t->options->sharded ? cadre_state_add_sharded_optim(t->state, "optim", t->optim) : cadre_state_add_optim(t->state, "optim", t->optim));
    TRY(cadre_state_add_logical_rng(t->state, "torch_rng", t->ddp));
    TRY(cadre_loader_add_state(t->train, t->state, "loader"));
    TRY(cadre_state_add_local(t->state, "loss_sum", t->loss_sum, (size_t)t->parts * sizeof *t->loss_sum));
    TRY(cadre_state_add_local(t->state, "seen", t->seen, (size_t)t->parts * sizeof *t->seen));
done:
    return status;
}

static ct_dtype choose_dtype(const char *name, bool gpu)
{
    if (!strcmp(name, "auto"))
        return gpu || ct_has_fast_bf16() ? CT_BFLOAT16 : CT_FLOAT32;
    return !strcmp(name, "bfloat16") ? CT_BFLOAT16 : !strcmp(name, "float64") ? CT_FLOAT64 : CT_FLOAT32;
}

/* A dataset of one's own is two callbacks; here, the beginning of another one. */
static int64_t limited_count(void *user)
{
    const struct training *t = user;
    int64_t count = t->all.count(t->all.user);
    return t->options->limit && t->options->limit < count ? t->options->limit : count;
}

static int limited_get(void *user, int64_t index, float *values, int64_t *label)
{
    const struct training *t = user;
    return t->all.get(t->all.user, index, values, label);
}

static int make_loaders(struct training *t, cadre_idx *train_files, cadre_idx *test_files)
{
    const struct options *o = t->options;
    const float mean = 0.2860f, std = 0.3530f; /* of Fashion-MNIST's pixels */
    int rank = cadre_session_rank(t->session), world = cadre_session_world(t->session), status;
    cadre_dataset train_set, test_set;
    TRY(cadre_idx_dataset(train_files, mean, std, &t->all));
    train_set = t->all;
    if (o->limit) {
        train_set.count = limited_count;
        train_set.get = limited_get;
        train_set.user = t;
    }
    TRY(cadre_idx_dataset(test_files, mean, std, &test_set));
    TRY(cadre_loader_new(&train_set, &(cadre_loader_options){
        .batch_size = (int64_t)o->batch * t->parts, .parts = t->parts, .rank = rank, .world = world, .shuffle = true, .drop_last = true, .seed = o->seed,
        .augment = {.crop_padding = 2, .flip = true, .fill = -mean / std}}, &t->train));
    if (cadre_loader_batches(t->train) == 0)
        return cadre_fail(CADRE_EINVAL, "%lld training images do not make one batch of %d x %d workers: lower --batch", (long long)train_set.count(train_set.user),
                          o->batch, world);
    TRY(cadre_loader_new(&test_set, &(cadre_loader_options){.batch_size = 250, .rank = rank, .world = world}, &t->test));
done:
    return status;
}

static int make_model(struct training *t, int classes)
{
    const struct options *o = t->options;
    int status;
    ct_set_num_threads(cadre_session_threads(t->session));
    ct_manual_seed(o->seed);
    int gpu = cadre_comm_device(cadre_session_comm(t->session)); /* the communicator has chosen one for each rank */
    snprintf(t->device, sizeof t->device, "cpu");
    if (gpu >= 0)
        snprintf(t->device, sizeof t->device, "cuda:%d", gpu);
    t->dtype = choose_dtype(o->dtype, gpu >= 0);
    t->model = resnet_new(o->depth, 1, classes);
    if (!t->model)
        return cadre_fail(CADRE_ETORCH, "%s", ct_error_message());
    if (t->dtype == CT_FLOAT64)
        TRY_TORCH(ct_module_to_dtype(t->model, CT_FLOAT64));
    TRY_TORCH(ct_module_to_device(t->model, t->device));
    TRY_TORCH(ct_module_to_memory_format(t->model, o->contiguous ? CT_CONTIGUOUS : CT_CHANNELS_LAST));
    cadre_ddp_options ddp = {.logical = o->logical ? t->parts : 0, .logical_seed = o->seed, .sharded = o->sharded,
                             .wire = strcmp(o->wire, "bfloat16") == 0 ? CADRE_WIRE_BFLOAT16 : CADRE_WIRE_SAME};
    TRY(cadre_ddp_new(&t->ddp, t->model, cadre_session_comm(t->session), &ddp)); /* gradients are in step from here on */
    TRY_TORCH(ct_sgd_new(cadre_ddp_shards(t->ddp), &(ct_sgd_options){.lr = o->lr, .momentum = o->momentum, .weight_decay = o->weight_decay > 0 ? o->weight_decay : -1}, &t->optim));
done:
    return status;
}

/* Runs in every worker. */
static int train(cadre_session *session, const cadre_config *config, void *user)
{
    const struct program *program = user;
    struct training t = {.options = &program->options, .session = session, .parts = cadre_session_logical_count(session)};
    int status;
    (void)config; /* it has the same as the options; a tuner would change it from trial to trial */

    TRY(make_loaders(&t, program->train_files, program->test_files));
    TRY(make_model(&t, cadre_idx_classes(program->train_files)));
    TRY(make_state(&t));
    TRY(cadre_session_restore(session, t.state)); /* nothing to do on a first attempt */

    for (int64_t epoch = t.state->epoch; epoch < t.options->epochs; epoch++) {
        int64_t correct, seen;
        TRY(train_epoch(&t, epoch));
        if (status == CADRE_STOP)
            break; /* saved on the way out */
        TRY(validate(&t, &correct, &seen));
        t.state->epoch = epoch + 1;
        double loss_sum = 0, images = 0;
        for (int part = 0; part < t.parts; part++) {
            loss_sum += t.loss_sum[part];
            images += (double)t.seen[part];
            t.loss_sum[part] = 0;
            t.seen[part] = 0;
        }
        TRY(cadre_report(session, CADRE_METRICS(CADRE_METRIC_RATIO("accuracy", (double)correct, (double)seen),
                                                CADRE_METRIC_RATIO("loss", loss_sum, images)), t.state));
        if (status == CADRE_STOP)
            break;
    }
    printf("weights %016llx\n", (unsigned long long)cadre_module_hash(t.model)); /* into the worker's log: all ranks have the same */
done:
    cadre_state_free(t.state);
    ct_optim_free(t.optim); /* before ddp, whose shards it may step */
    cadre_ddp_free(t.ddp);
    ct_module_free(t.model);
    cadre_loader_free(t.train);
    cadre_loader_free(t.test);
    return status < 0 ? status : CADRE_OK;
}

static cadre_config *make_config(const struct options *o)
{
    cadre_config *config = NULL;
    if (cadre_config_new(&config) == CADRE_OK) {
        cadre_config_set_int(config, "depth", o->depth);
        cadre_config_set_int(config, "epochs", o->epochs);
        cadre_config_set_int(config, "batch", o->batch);
        cadre_config_set_double(config, "lr", o->lr);
        cadre_config_set_double(config, "momentum", o->momentum);
        cadre_config_set_double(config, "weight_decay", o->weight_decay);
        cadre_config_set_string(config, "dtype", o->dtype);
        cadre_config_set_int(config, "seed", (int64_t)o->seed);
    }
    return config;
}

static cadre_launcher find_launcher(const char *name)
{
    return !strcmp(name, "fork") ? CADRE_LAUNCH_FORK : !strcmp(name, "inproc") ? CADRE_LAUNCH_INPROC : !strcmp(name, "mpirun") ? CADRE_LAUNCH_MPIRUN : CADRE_LAUNCH_AUTO;
}

int main(int argc, char **argv)
{
    struct program program = {.options = options_read(argc, argv)};
    const struct options o = program.options;
    cadre_config *config = make_config(&o);
    cadre_launcher launcher = find_launcher(o.launcher);
    bool started_by_mpirun = getenv("OMPI_COMM_WORLD_SIZE") || getenv("PMIX_RANK");
    int workers = o.workers >= 0 ? o.workers : launcher == CADRE_LAUNCH_INPROC || started_by_mpirun ? 0 : 2;
    cadre_trainer trainer = {
        .train = train,
        .user = &program,
        .config = config,
        .scaling = {.num_workers = workers, .logical_workers = o.logical, .launcher = launcher, .backend = o.backend,
                    .device = !strcmp(o.device, "cuda") ? "cuda" : NULL},
        .run = {.name = o.name, .storage = o.storage, .resume = o.resume ? CADRE_RESUME_LAST : CADRE_RESUME_NEW, .timeline = o.timeline,
                .progress = o.quiet ? CADRE_PROGRESS_NONE : CADRE_PROGRESS_AUTO, .metric = "accuracy"},
        .failure = {.max_failures = o.max_failures},
        .checkpoint = {.keep = o.keep, .score_metric = "accuracy", .every_steps = o.every_steps},
    };
    cadre_result result;
    int status = cadre_idx_open(o.data, true, &program.train_files);
    if (status == CADRE_OK)
        status = cadre_idx_open(o.data, false, &program.test_files);
    if (status == CADRE_OK)
        status = cadre_trainer_fit(&trainer, &result);
    cadre_idx_free(program.train_files);
    cadre_idx_free(program.test_files);
    cadre_config_free(config);
    if (status != CADRE_OK) {
        fprintf(stderr, "resnet_mnist: %s\n", cadre_error_message());
        return 1;
    }
    if (!o.quiet && result.path[0]) {
        if (result.stopped)
            printf("stopped; go on with the same command and --resume\n");
        else if (result.num_metrics == 0)
            printf("nothing left to do: this run has had all its epochs\n");
        else
            printf("test accuracy %.2f %%\n", 100 * cadre_result_metric(&result, "accuracy"));
        printf("experiment in %s, best checkpoint %s\nsee it with: cadre show %s%s%s\n", result.path,
               result.best_checkpoint[0] ? result.best_checkpoint : "none", o.name, strcmp(o.storage, "runs") ? " --storage " : "", strcmp(o.storage, "runs") ? o.storage : "");
    }
    return result.stopped ? 130 : 0; /* as a shell has it for what was interrupted */
}
