/* Writes a small TorchScript model: linear, batch norm, dropout, linear. */
#include <ATen/ops/ones.h>
#include <ATen/ops/randn.h>
#include <ATen/ops/zeros.h>
#include <torch/csrc/jit/api/module.h>

#include <cstdio>
#include <exception>

int main(int argc, char **argv)
{
    if (argc != 2)
        return 2;
    try {
        at::manual_seed(5);
        torch::jit::Module first("First"), model("Model");
        first.register_attribute("training", c10::BoolType::get(), true);
        model.register_attribute("training", c10::BoolType::get(), true);
        first.register_parameter("weight", at::randn({8, 4}).mul_(0.5).set_requires_grad(true), false);
        first.register_parameter("bias", at::zeros({8}).set_requires_grad(true), false);
        first.register_buffer("running_mean", at::zeros({8}));
        first.register_buffer("running_var", at::ones({8}));
        first.define(R"(
def forward(self, x):
    y = torch.addmm(self.bias, x, torch.t(self.weight))
    return torch.batch_norm(y, None, None, self.running_mean, self.running_var, self.training, 0.1, 1e-5, False)
)");
        model.register_module("first", first);
        model.register_parameter("weight", at::randn({2, 8}).mul_(0.3).set_requires_grad(true), false);
        model.define(R"(
def forward(self, x):
    y = torch.relu(self.first.forward(x))
    return torch.matmul(y, torch.t(self.weight))
)");
        model.save(argv[1]);
    } catch (const std::exception &e) {
        std::fprintf(stderr, "%s\n", e.what());
        return 1;
    }
    return 0;
}
