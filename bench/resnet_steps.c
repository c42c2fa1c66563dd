#include "bench/resnet_steps.h"

#include "examples/resnet.h"
#include "examples/try.h"

int resnet_steps_make(resnet_steps *steps, cadre_comm *comm, int depth, int batch, bool channels_last, bool bfloat16)
{
    int status = CADRE_OK;
    *steps = (resnet_steps){.bfloat16 = bfloat16};
    ct_set_num_threads(1);
    ct_manual_seed(1);
    steps->model = resnet_new(depth, 1, 10);
    if (!steps->model)
        return cadre_fail(CADRE_ETORCH, "%s", ct_error_message());
    if (channels_last)
        TRY_TORCH(ct_module_to_memory_format(steps->model, CT_CHANNELS_LAST));
    TRY(cadre_ddp_new(&steps->ddp, steps->model, comm, NULL));
    TRY_TORCH(ct_sgd_new(steps->model, &(ct_sgd_options){.lr = 0.01, .momentum = 0.9, .weight_decay = 5e-4}, &steps->optim));
    ct_manual_seed(2 + (uint64_t)cadre_comm_rank(comm));
    for (int i = 0; i < RESNET_STEPS_BATCHES; i++) {
        TRY_TORCH(ct_tensor_randn(CT_SHAPE(batch, 1, 28, 28), CT_FLOAT32, NULL, &steps->images[i]));
        TRY_TORCH(ct_tensor_randint(0, 10, CT_SHAPE(batch), CT_INT64, NULL, &steps->labels[i]));
    }
done:
    return status;
}

int resnet_steps_next(resnet_steps *steps)
{
    int status = CADRE_OK;
    double value;
    ct_tensor *logits, *loss;
    ct_scope_begin();
    if (steps->bfloat16)
        TRY_TORCH(ct_autocast_push("cpu", CT_BFLOAT16));
    ct_status passed = ct_module_forward(steps->model, steps->images[steps->done % RESNET_STEPS_BATCHES], &logits);
    if (steps->bfloat16)
        ct_autocast_pop();
    TRY_TORCH(passed);
    TRY_TORCH(ct_to_dtype(logits, CT_FLOAT32, &logits));
    TRY_TORCH(ct_cross_entropy(logits, steps->labels[steps->done % RESNET_STEPS_BATCHES], 0.0, &loss));
    TRY_TORCH(ct_tensor_item(loss, &value));
    TRY_TORCH(ct_optim_zero_grad(steps->optim, true));
    TRY(cadre_ddp_backward(steps->ddp, loss));
    TRY_TORCH(ct_optim_step(steps->optim));
    steps->done++;
done:
    ct_scope_end();
    return status;
}

void resnet_steps_free(resnet_steps *steps)
{
    for (int i = 0; i < RESNET_STEPS_BATCHES; i++) {
        ct_tensor_free(steps->images[i]);
        ct_tensor_free(steps->labels[i]);
    }
    cadre_ddp_free(steps->ddp);
    ct_optim_free(steps->optim);
    ct_module_free(steps->model);
}
