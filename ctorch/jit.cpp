/* TorchScript files as modules. */
#include "module.h"

#include <torch/csrc/jit/api/module.h>
#include <torch/csrc/jit/serialization/import.h>

#include <cerrno>
#include <cstring>
#include <fcntl.h>
#include <unistd.h>

namespace {

/* The script module as a tree of ours: the handles share the script's tensors, so what is done to one is done to both. */
struct ScriptNode : ct_module {
    at::Tensor forward(const at::Tensor &) override
    {
        ct::fail(CT_ENOTSUP, "only the whole script can be run, not a part of it");
    }
    bool fixed() const override { return true; }

    void mirror(const torch::jit::Module &script)
    {
        for (const auto &p : script.named_parameters(/*recurse=*/false))
            add_parameter(p.name, p.value, p.value.requires_grad());
        for (const auto &b : script.named_buffers(/*recurse=*/false))
            add_buffer(b.name, b.value);
        for (const auto &c : script.named_children()) {
            auto child = std::make_unique<ScriptNode>();
            child->mirror(c.value);
            add_child(c.name, child.get());
            child.release();
        }
    }
};

struct Script : ScriptNode {
    torch::jit::Module script;

    explicit Script(torch::jit::Module s) : script(std::move(s))
    {
        mirror(script);
        training = script.is_training();
    }
    at::Tensor forward(const at::Tensor &x) override
    {
        const c10::IValue result = script.forward({x});
        if (!result.isTensor())
            ct::fail(CT_ENOTSUP, "the script's forward gives no tensor but a %s", result.tagKind().c_str());
        return result.toTensor();
    }
    void set_training(bool on) override
    {
        script.train(on);
        ct_module::set_training(on);
    }
};

} // namespace

ct_module *ct_module_load_script(const char *path, const char *device)
{
    CT_TRY
    {
        const c10::Device target = ct::device(device);
        const int descriptor = open(&ct::need(path, "path"), O_RDONLY | O_CLOEXEC);
        if (descriptor < 0)
            ct::fail(CT_EIO, "%s: %s", path, std::strerror(errno));
        close(descriptor);
        return new Script(torch::jit::load(std::string(path), target));
    }
    CT_CATCH(nullptr)
}
