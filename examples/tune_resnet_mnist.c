/*
 * Search for good hyperparameters of a small ResNet on a part of Fashion-MNIST: TPE suggests, ASHA stops the poor ones early, every trial runs in a
 * worker process of its own, and all of it is in one store.
 *
 *     ./tune_resnet_mnist --trials 16              two trials at a time on two cores
 *     ./tune_resnet_mnist --trials 16 --resume     goes on where it was stopped
 *
 * Read it from the bottom: main() says what is searched, train() runs one trial. examples/resnet_mnist.c explains the training itself.
 */
#include "cadre/cadre.h"
#include "ctorch.h"
#include "resnet.h"
#include "try.h"

#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct options {
    const char *data, *storage, *name;
    int64_t trials, images;
    int epochs, resume, quiet;
    uint64_t seed;
};

struct trial {
    const struct options *options;
    cadre_idx *train_files, *test_files;
    cadre_dataset train_all, test_all;
    cadre_loader *train, *test;
    ct_module *model;
    ct_optim *optim;
};

/* The first images of each set are enough to tell good hyperparameters from bad ones. */
static int64_t train_count(void *user) { return ((struct trial *)user)->options->images; }
static int64_t test_count(void *user) { return ((struct trial *)user)->options->images / 4; }
static int train_get(void *user, int64_t index, float *values, int64_t *label)
{
    struct trial *t = user;
    return t->train_all.get(t->train_all.user, index, values, label);
}
static int test_get(void *user, int64_t index, float *values, int64_t *label)
{
    struct trial *t = user;
    return t->test_all.get(t->test_all.user, index, values, label);
}

static int open_data(struct trial *t, int64_t batch)
{
    int status;
    TRY(cadre_idx_open(t->options->data, true, &t->train_files));
    TRY(cadre_idx_open(t->options->data, false, &t->test_files));
    TRY(cadre_idx_dataset(t->train_files, 0.2860f, 0.3530f, &t->train_all));
    TRY(cadre_idx_dataset(t->test_files, 0.2860f, 0.3530f, &t->test_all));
    cadre_dataset train = t->train_all, test = t->test_all;
    train.count = train_count;
    train.get = train_get;
    test.count = test_count;
    test.get = test_get;
    train.user = test.user = t;
    TRY(cadre_loader_new(&train, &(cadre_loader_options){.batch_size = batch, .shuffle = true, .drop_last = true, .seed = t->options->seed}, &t->train));
    TRY(cadre_loader_new(&test, &(cadre_loader_options){.batch_size = 250}, &t->test));
done:
    return status;
}

/* What the config of this trial says. */
static int make_model(struct trial *t, const cadre_config *config, int threads)
{
    int status = CADRE_OK;
    double lr = cadre_config_double(config, "lr", 0.1), decay = cadre_config_double(config, "weight_decay", 5e-4);
    ct_set_num_threads(threads);
    ct_manual_seed(t->options->seed);
    t->model = resnet_new(8, 1, cadre_idx_classes(t->train_files));
    if (!t->model)
        return cadre_fail(CADRE_ETORCH, "%s", ct_error_message());
    TRY_TORCH(ct_module_to_memory_format(t->model, CT_CHANNELS_LAST));
    if (strcmp(cadre_config_string(config, "optimizer", "sgd"), "adamw") == 0)
        TRY_TORCH(ct_adamw_new(t->model, &(ct_adam_options){.lr = lr, .weight_decay = decay}, &t->optim));
    else
        TRY_TORCH(ct_sgd_new(t->model, &(ct_sgd_options){.lr = lr, .weight_decay = decay, .momentum = cadre_config_double(config, "momentum", 0.9)}, &t->optim));
done:
    return status;
}

/* Loss and number of recognised images of one batch; with `learn`, also a step. */
static int run_batch(struct trial *t, const cadre_batch *batch, bool learn, int64_t *correct)
{
    int status = CADRE_OK;
    ct_tensor *images, *labels, *logits, *loss, *best, *equal, *count;
    ct_scope_begin();
    TRY_TORCH(ct_tensor_borrow_memory((void *)batch->values, CT_SHAPE(batch->count, 1, 28, 28), CT_FLOAT32, NULL, NULL, &images));
    TRY_TORCH(ct_tensor_borrow_memory((void *)batch->labels, CT_SHAPE(batch->count), CT_INT64, NULL, NULL, &labels));
    TRY_TORCH(ct_module_forward(t->model, images, &logits));
    if (learn) {
        TRY_TORCH(ct_cross_entropy(logits, labels, 0.0, &loss));
        TRY_TORCH(ct_optim_zero_grad(t->optim, true));
        TRY_TORCH(ct_backward(loss, 1.0));
        TRY_TORCH(ct_optim_step(t->optim));
    } else {
        TRY_TORCH(ct_argmax(logits, 1, false, &best));
        TRY_TORCH(ct_eq(best, labels, &equal));
        TRY_TORCH(ct_sum(equal, &count));
        TRY_TORCH(ct_tensor_item_int64(count, correct));
    }
done:
    ct_scope_end();
    return status;
}

static int run_epoch(struct trial *t, cadre_loader *loader, int64_t epoch, bool learn, double *accuracy)
{
    int status;
    int64_t correct = 0, seen = 0, hits = 0;
    cadre_batch batch;
    TRY(cadre_loader_begin(loader, epoch));
    while ((status = cadre_loader_next(loader, &batch)) == CADRE_OK) {
        TRY(run_batch(t, &batch, learn, &hits));
        correct += hits;
        seen += batch.count;
    }
    *accuracy = seen ? (double)correct / (double)seen : 0;
done:
    return status < 0 ? status : CADRE_OK;
}

/* One trial: an epoch, a report, and the scheduler says whether it is worth another. */
static int train(cadre_session *session, const cadre_config *config, void *user)
{
    struct trial t = {.options = user};
    int status;
    TRY(open_data(&t, cadre_config_int(config, "batch", 64)));
    TRY(make_model(&t, config, cadre_session_threads(session)));
    for (int64_t epoch = 0; epoch < t.options->epochs && status == CADRE_OK; epoch++) {
        double accuracy, unused;
        ct_module_train(t.model, true);
        TRY(run_epoch(&t, t.train, epoch, true, &unused));
        ct_module_train(t.model, false);
        ct_no_grad_push();
        status = run_epoch(&t, t.test, 0, false, &accuracy);
        ct_no_grad_pop();
        TRY(status);
        TRY(cadre_report(session, CADRE_METRICS(CADRE_METRIC("accuracy", accuracy)), NULL)); /* CADRE_STOP ends the loop */
    }
done:
    ct_optim_free(t.optim);
    ct_module_free(t.model);
    cadre_loader_free(t.train);
    cadre_loader_free(t.test);
    cadre_idx_free(t.train_files);
    cadre_idx_free(t.test_files);
    return status < 0 ? status : CADRE_OK;
}

static const char help[] = "Search the hyperparameters of a small ResNet on Fashion-MNIST.\n\n"
                           "  --trials N     (default 16)\n"
                           "  --epochs N     of a trial that is not stopped (default 9)\n"
                           "  --images N     training images used (default 4000)\n"
                           "  --data DIR     IDX files (default: Debian's dataset-fashion-mnist)\n"
                           "  --name NAME    of the experiment (default tune-resnet)\n"
                           "  --storage DIR  (default runs)\n"
                           "  --seed N       (default 1)\n"
                           "  --resume       go on with the experiment of that name\n"
                           "  --quiet        print the result alone\n";

static _Noreturn void mistake(const char *what)
{
    fprintf(stderr, "tune_resnet_mnist: %s: unknown option, or its value is missing (--help lists the options)\n", what);
    exit(2);
}

static int64_t number(const char *option, const char *text)
{
    char *end;
    long long value = strtoll(text, &end, 10);
    if (*end || end == text || value < 1) {
        fprintf(stderr, "tune_resnet_mnist: --%s %s: give a whole number from 1 on (--help lists the options)\n", option, text);
        exit(2);
    }
    return value;
}

static struct options read_options(int argc, char **argv)
{
    struct options o = {.data = "/usr/share/datasets/fashion-mnist", .storage = "runs", .name = "tune-resnet", .trials = 16, .images = 4000, .epochs = 9, .seed = 1};
    static const struct option table[] = {{"trials", 1, 0, 't'}, {"epochs", 1, 0, 'e'}, {"images", 1, 0, 'i'}, {"data", 1, 0, 'd'}, {"name", 1, 0, 'n'},
                                          {"storage", 1, 0, 's'}, {"seed", 1, 0, 'r'}, {"resume", 0, 0, 'R'}, {"quiet", 0, 0, 'q'}, {"help", 0, 0, 'h'}, {0, 0, 0, 0}};
    opterr = 0;
    for (int found; (found = getopt_long(argc, argv, "", table, NULL)) != -1;)
        switch (found) {
        case 't': o.trials = number("trials", optarg); break;
        case 'e': o.epochs = (int)number("epochs", optarg); break;
        case 'i': o.images = number("images", optarg); break;
        case 'd': o.data = optarg; break;
        case 'n': o.name = optarg; break;
        case 's': o.storage = optarg; break;
        case 'r': o.seed = (uint64_t)number("seed", optarg); break;
        case 'R': o.resume = 1; break;
        case 'q': o.quiet = 1; break;
        case 'h': fputs(help, stdout); exit(0);
        default: mistake(argv[optind - 1]);
        }
    if (optind < argc)
        mistake(argv[optind]);
    return o;
}

int main(int argc, char **argv)
{
    struct options o = read_options(argc, argv);
    cadre_trainer trainer = {
        .train = train,
        .user = &o,
        .run = {.name = o.name, .storage = o.storage, .progress = o.quiet ? CADRE_PROGRESS_NONE : CADRE_PROGRESS_AUTO},
    };
    cadre_tuner tuner = {
        .trainer = &trainer,
        .metric = "accuracy",
        .num_samples = o.trials,
        .seed = o.seed,
        .space = (cadre_param[]){
            CADRE_LOGUNIFORM("lr", 1e-4, 1.0),
            CADRE_LOGUNIFORM("weight_decay", 1e-6, 1e-2),
            CADRE_CHOICE_INT("batch", 32, 64, 128),
            CADRE_CHOICE("optimizer", "sgd", "adamw"),
            CADRE_WHEN("optimizer", "sgd", CADRE_UNIFORM("momentum", 0.0, 0.99)),
            CADRE_END,
        },
        .search = {.name = "tpe"},
        .scheduler = CADRE_ASHA(.max_t = o.epochs, .reduction_factor = 3),
        .resume = o.resume ? CADRE_TUNE_RESUME : CADRE_TUNE_NEW,
    };
    cadre_tuner_result result;
    if (cadre_tuner_fit(&tuner, &result) != CADRE_OK) {
        fprintf(stderr, "tune_resnet_mnist: %s\n", cadre_error_message());
        return 1;
    }
    char *config = result.best_config ? cadre_config_to_json(result.best_config) : NULL;
    if (config)
        printf("best of %lld trials: accuracy %.2f %% with %s\n", (long long)result.trials, 100 * result.best_value, config);
    if (result.interrupted)
        printf("stopped; go on with the same command and --resume\n");
    else if (!o.quiet)
        printf("see it with: cadre show %s%s%s\n", o.name, strcmp(o.storage, "runs") ? " --storage " : "", strcmp(o.storage, "runs") ? o.storage : "");
    free(config);
    cadre_config_free(result.best_config);
    return result.interrupted ? 130 : 0; /* as a shell has it */
}
