/*
 * Our half of the comparison with PyTorch DDP: reference FOLDER DTYPE STEPS CLIP. Two forked workers train a ResNet-8 on made-up images and
 * write to FOLDER, as rows of doubles: init (the model's state before the first step, as state_dict orders it), and per rank
 * images-R, labels-R, losses-R and final-R. reference.py trains the same and compares.
 */
#include "cadre/cadre.h"
#include "cadre/ddp.h"
#include "examples/resnet.h"
#include "examples/try.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { BATCH = 4, SIDE = 16, CLASSES = 10, PIXELS = BATCH * SIDE * SIDE };

struct plan {
    const char *folder;
    ct_dtype dtype;
    int steps;
    double clip;
};

static int append(const struct plan *plan, const char *what, int rank, const double *values, size_t count)
{
    char path[1024];
    snprintf(path, sizeof path, "%s/%s-%d", plan->folder, what, rank);
    FILE *file = fopen(path, "ab");
    if (!file)
        return cadre_fail(CADRE_EIO, "open %s", path);
    size_t written = fwrite(values, sizeof *values, count, file);
    return fclose(file) == 0 && written == count ? CADRE_OK : cadre_fail(CADRE_EIO, "write %s", path);
}

static int write_state(const struct plan *plan, const char *what, int rank, const ct_module *model)
{
    int status = CADRE_OK;
    for (size_t i = 0; i < ct_module_state_count(model); i++) {
        ct_tensor *tensor, *wide = NULL;
        double *values = NULL;
        TRY_TORCH(ct_module_state_at(model, i, NULL, &tensor));
        TRY_TORCH(ct_to_dtype(tensor, CT_FLOAT64, &wide));
        size_t count = (size_t)ct_tensor_numel(wide);
        values = malloc(count * sizeof *values);
        if (!values || ct_tensor_copy_to_memory(wide, values, count * sizeof *values) != CT_OK)
            status = cadre_fail(CADRE_ENOMEM, "copy a tensor");
        if (status == CADRE_OK)
            status = append(plan, what, rank, values, count);
        free(values);
        ct_tensor_free(wide);
        TRY(status);
    }
done:
    return status;
}

/* Images are noise around a pattern of their class, so that there is something to learn. */
static int make_batch(const struct plan *plan, int rank, ct_tensor **images, ct_tensor **labels)
{
    double pixels[PIXELS], classes[BATCH];
    int64_t numbers[BATCH];
    int status = CADRE_OK;
    ct_tensor *noise, *drawn;
    TRY_TORCH(ct_tensor_randn(CT_SHAPE(PIXELS), CT_FLOAT64, NULL, &noise));
    TRY_TORCH(ct_tensor_randint(0, CLASSES, CT_SHAPE(BATCH), CT_INT64, NULL, &drawn));
    TRY_TORCH(ct_tensor_copy_to_memory(noise, pixels, sizeof pixels));
    TRY_TORCH(ct_tensor_copy_to_memory(drawn, numbers, sizeof numbers));
    for (int i = 0; i < PIXELS; i++)
        pixels[i] = (float)(pixels[i] + sin((double)(i % (SIDE * SIDE)) * (double)(1 + numbers[i / (SIDE * SIDE)]) / 7));
    for (int i = 0; i < BATCH; i++)
        classes[i] = (double)numbers[i];
    TRY(append(plan, "images", rank, pixels, PIXELS));
    TRY(append(plan, "labels", rank, classes, BATCH));
    TRY_TORCH(ct_tensor_from_memory(pixels, sizeof pixels, CT_SHAPE(BATCH, 1, SIDE, SIDE), CT_FLOAT64, images));
    TRY_TORCH(ct_to_dtype(*images, plan->dtype, images));
    TRY_TORCH(ct_tensor_from_memory(numbers, sizeof numbers, CT_SHAPE(BATCH), CT_INT64, labels));
done:
    return status;
}

static int one_step(const struct plan *plan, int rank, ct_module *model, cadre_ddp *ddp, ct_optim *optim)
{
    int status = CADRE_OK;
    double value;
    ct_tensor *images, *labels, *logits, *loss;
    ct_scope_begin();
    TRY(make_batch(plan, rank, &images, &labels));
    TRY_TORCH(ct_module_forward(model, images, &logits));
    TRY_TORCH(ct_cross_entropy(logits, labels, 0.0, &loss));
    TRY_TORCH(ct_tensor_item(loss, &value));
    TRY(append(plan, "losses", rank, &value, 1));
    TRY_TORCH(ct_optim_zero_grad(optim, true));
    TRY(cadre_ddp_backward(ddp, loss));
    if (plan->clip > 0) {
        double norm;
        TRY(cadre_ddp_clip_grad_norm(ddp, plan->clip, &norm));
        TRY(append(plan, "norms", rank, &norm, 1));
    }
    TRY_TORCH(ct_optim_step(optim));
done:
    ct_scope_end();
    return status;
}

static int train(cadre_session *session, const cadre_config *config, void *user)
{
    const struct plan *plan = user;
    int rank = cadre_session_rank(session), status = CADRE_OK;
    ct_module *model = NULL;
    ct_optim *optim = NULL;
    cadre_ddp *ddp = NULL;
    (void)config;
    ct_set_num_threads(1);
    ct_manual_seed(7 + (uint64_t)rank); /* different on purpose: ddp makes them alike */
    model = resnet_new(8, 1, CLASSES);
    if (!model)
        return cadre_fail(CADRE_ETORCH, "%s", ct_error_message());
    TRY_TORCH(ct_module_to_dtype(model, plan->dtype));
    TRY(cadre_ddp_new(&ddp, model, cadre_session_comm(session), NULL));
    if (rank == 0)
        TRY(write_state(plan, "init", rank, model));
    TRY_TORCH(ct_sgd_new(model, &(ct_sgd_options){.lr = 0.05, .momentum = 0.9, .weight_decay = 5e-4}, &optim));
    for (int i = 0; i < plan->steps; i++) {
        TRY(one_step(plan, rank, model, ddp, optim));
        TRY(cadre_step(session, NULL));
    }
    TRY(write_state(plan, "final", rank, model));
done:
    cadre_ddp_free(ddp);
    ct_optim_free(optim);
    ct_module_free(model);
    return status;
}

int main(int argc, char **argv)
{
    if (argc != 5) {
        fprintf(stderr, "usage: reference FOLDER float32|float64 STEPS CLIP\n");
        return 2;
    }
    struct plan plan = {argv[1], strcmp(argv[2], "float64") == 0 ? CT_FLOAT64 : CT_FLOAT32, atoi(argv[3]), atof(argv[4])};
    cadre_trainer trainer = {
        .train = train, .user = &plan, .scaling = {.num_workers = 2}, .run = {.name = "reference", .storage = plan.folder}};
    if (cadre_trainer_fit(&trainer, NULL) != CADRE_OK) {
        fprintf(stderr, "reference: %s\n", cadre_error_message());
        return 1;
    }
    return 0;
}
