/* The same for what needs libtorch: one step of a linear module whose gradients are in step with nobody else's. */
#include <cadre/cadre.h>
#include <cadre/ddp.h>
#include <ctorch.h>

#include <stdio.h>

int main(void)
{
    cadre_comm *comm = NULL;
    cadre_ddp *ddp = NULL;
    cadre_oob alone = {.size = sizeof alone, .rank = 0, .world = 1};
    ct_module *model = ct_nn_linear(3, 1, true);
    ct_tensor *input = NULL, *output = NULL, *loss = NULL;
    double value = -1;
    int good = model && cadre_comm_new(&alone, NULL, &comm) == CADRE_OK && cadre_ddp_new(&ddp, model, comm, NULL) == CADRE_OK &&
               ct_tensor_ones(CT_SHAPE(2, 3), CT_FLOAT32, NULL, &input) == CT_OK && ct_module_forward(model, input, &output) == CT_OK &&
               ct_sum(output, &loss) == CT_OK && cadre_ddp_backward(ddp, loss) == CADRE_OK && ct_tensor_item(loss, &value) == CT_OK;
    if (!good)
        fprintf(stderr, "first_torch: %s %s\n", cadre_error_message(), ct_error_message());
    printf("loss %g with libtorch %s\n", value, ct_torch_version());
    ct_tensor_free(loss);
    ct_tensor_free(output);
    ct_tensor_free(input);
    cadre_ddp_free(ddp);
    ct_module_free(model);
    cadre_comm_free(comm);
    return !good;
}
