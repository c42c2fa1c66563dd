#include "ddp_support.h"

ct_module *make_model(uint64_t seed, ct_dtype dtype)
{
    ct_set_num_threads(1);
    ct_manual_seed(seed);
    ct_module *model = CT_SEQUENTIAL(ct_nn_linear(12, 33, true), ct_nn_tanh(), ct_nn_linear(33, 17, true), ct_nn_tanh(), ct_nn_linear(17, 5, true));
    if (model)
        ct_module_to_dtype(model, dtype);
    return model;
}

int make_loss(ct_module *model, ct_dtype dtype, uint64_t seed, ct_tensor **loss)
{
    int status = CADRE_OK;
    ct_tensor *x, *labels, *logits;
    ct_manual_seed(seed);
    TRY_TORCH(ct_tensor_randn(CT_SHAPE(6, 12), CT_FLOAT32, NULL, &x));
    TRY_TORCH(ct_tensor_randint(0, 5, CT_SHAPE(6), CT_INT64, NULL, &labels));
    TRY_TORCH(ct_to_dtype(x, dtype, &x));
    TRY_TORCH(ct_module_forward(model, x, &logits));
    TRY_TORCH(ct_cross_entropy(logits, labels, 0.0, loss));
done:
    return status;
}

int read_gradients(ct_module *model, double *values, size_t room, size_t *count)
{
    int status = CADRE_OK;
    *count = 0;
    for (size_t i = 0; i < ct_module_parameter_count(model); i++) {
        const char *name;
        ct_tensor *param, *grad = NULL, *wide = NULL;
        TRY_TORCH(ct_module_parameter_at(model, i, &name, &param));
        TRY_TORCH(ct_tensor_grad(param, &grad));
        EXPECT(grad != NULL);
        size_t numel = (size_t)ct_tensor_numel(grad);
        EXPECT(*count + numel <= room);
        TRY_TORCH(ct_to_dtype(grad, CT_FLOAT64, &wide));
        TRY_TORCH(ct_tensor_copy_to_memory(wide, values + *count, numel * sizeof *values));
        *count += numel;
    }
done:
    return status;
}

int read_parameters(ct_module *model, double *values, size_t room, size_t *count)
{
    int status = CADRE_OK;
    *count = 0;
    for (size_t i = 0; i < ct_module_parameter_count(model); i++) {
        const char *name;
        ct_tensor *param, *wide = NULL;
        TRY_TORCH(ct_module_parameter_at(model, i, &name, &param));
        size_t numel = (size_t)ct_tensor_numel(param);
        EXPECT(*count + numel <= room);
        TRY_TORCH(ct_to_dtype(param, CT_FLOAT64, &wide));
        TRY_TORCH(ct_tensor_copy_to_memory(wide, values + *count, numel * sizeof *values));
        ct_tensor_free(wide);
        *count += numel;
    }
done:
    return status;
}
