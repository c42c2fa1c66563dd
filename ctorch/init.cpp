/* Initial values, as torch.nn.init draws them: same order of floating operations, same use of the generator. */
#include "module.h"

#include <c10/core/GradMode.h>

#include <cmath>

namespace {

double fan(const at::Tensor &weight, bool out)
{
    if (weight.dim() < 2)
        ct::fail(CT_EINVAL, "a weight of fewer than two dimensions has no fan");
    double field = 1;
    for (int64_t i = 2; i < weight.dim(); i++)
        field *= static_cast<double>(weight.size(i));
    const double result = static_cast<double>(weight.size(out ? 0 : 1)) * field;
    if (result == 0)
        ct::fail(CT_EINVAL, "the weight is empty");
    return result;
}

} // namespace

namespace ct {

void kaiming_uniform(at::Tensor &weight, double a)
{
    c10::NoGradGuard no_grad;
    const double gain = std::sqrt(2.0 / (1 + a * a));
    const double bound = std::sqrt(3.0) * (gain / std::sqrt(fan(weight, false)));
    weight.uniform_(-bound, bound);
}

void kaiming_normal(at::Tensor &weight, bool fan_out)
{
    c10::NoGradGuard no_grad;
    weight.normal_(0, std::sqrt(2.0) / std::sqrt(fan(weight, fan_out)));
}

void uniform_bias(at::Tensor &bias, const at::Tensor &weight)
{
    c10::NoGradGuard no_grad;
    const double bound = 1 / std::sqrt(fan(weight, false));
    bias.uniform_(-bound, bound);
}

} // namespace ct

ct_status ct_init_kaiming_uniform(ct_tensor *weight, double a)
{
    CT_TRY
    {
        ct::kaiming_uniform(ct::in(weight, "weight"), a);
        return CT_OK;
    }
    CT_CATCH(status)
}

ct_status ct_init_kaiming_normal(ct_tensor *weight, bool fan_out)
{
    CT_TRY
    {
        ct::kaiming_normal(ct::in(weight, "weight"), fan_out);
        return CT_OK;
    }
    CT_CATCH(status)
}
