/* Clipping by the common norm of all gradients. */
#include "inside.h"

#include <math.h>
#include <string.h>

/* The sum of squares, in double on the host; on another device in its own way. */
static int square_sum(const ct_tensor *grad, double *sum)
{
    int64_t count = ct_tensor_numel(grad);
    const void *data = ct_tensor_data(grad);
    ct_tensor *square = NULL, *total = NULL;
    *sum = 0;
    if (strcmp(ct_tensor_device(grad), "cpu") != 0) {
        bool fine = ct_mul(grad, grad, &square) == CT_OK && ct_sum(square, &total) == CT_OK && ct_tensor_item(total, sum) == CT_OK;
        ct_tensor_free(square);
        ct_tensor_free(total);
        return fine ? CADRE_OK : ddp_torch_failed("clip gradients");
    }
    if (ct_tensor_dtype(grad) == CT_FLOAT64) {
        for (int64_t i = 0; i < count; i++)
            *sum += ((const double *)data)[i] * ((const double *)data)[i];
    } else if (ct_tensor_dtype(grad) == CT_FLOAT32) {
        for (int64_t i = 0; i < count; i++)
            *sum += (double)((const float *)data)[i] * ((const float *)data)[i];
    } else {
        return cadre_fail(CADRE_ENOTSUP, "clip gradients of %s: float32 and float64 are possible", ct_dtype_name(ct_tensor_dtype(grad)));
    }
    return CADRE_OK;
}

/* Over the shards' module where there is one: its parameters are this rank's part of all. */
static int each_gradient(const cadre_ddp *ddp, double scale, double *total)
{
    ct_module *module = ddp->shards ? ddp->shards : ddp->model;
    for (size_t i = 0; i < ct_module_parameter_count(module); i++) {
        const char *name;
        ct_tensor *param, *grad = NULL;
        if (ct_module_parameter_at(module, i, &name, &param) != CT_OK || ct_tensor_grad(param, &grad) != CT_OK)
            return ddp_torch_failed("clip gradients");
        if (!grad)
            continue;
        double sum = 0;
        int status = total ? square_sum(grad, &sum) : ct_mul_scalar_(grad, scale) == CT_OK ? CADRE_OK : ddp_torch_failed("clip gradients");
        ct_tensor_free(grad);
        if (status != CADRE_OK)
            return status;
        if (total)
            *total += sum;
    }
    return CADRE_OK;
}

int cadre_ddp_clip_grad_norm(cadre_ddp *ddp, double max_norm, double *norm)
{
    if (!ddp || !(max_norm > 0))
        return cadre_fail(CADRE_EINVAL, "cadre_ddp_clip_grad_norm: max_norm is %g: give a positive number", max_norm);
    double total = 0;
    int status = each_gradient(ddp, 1, &total);
    if (status == CADRE_OK && ddp->sharded)
        status = cadre_all_reduce(ddp->comm, &total, 1, CADRE_FLOAT64, CADRE_SUM);
    double scale = max_norm / (sqrt(total) + 1e-6);
    if (status == CADRE_OK && scale < 1)
        status = each_gradient(ddp, scale, NULL);
    if (status == CADRE_OK && norm)
        *norm = sqrt(total);
    return status;
}
