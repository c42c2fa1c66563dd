/* The tree of modules. */
#ifndef CTORCH_MODULE_H
#define CTORCH_MODULE_H

#include "internal.h"

struct ct_module {
    struct Tensor {
        std::string name;
        std::unique_ptr<ct_tensor> handle;
    };
    struct Child {
        std::string name;
        ct_module *module;
    };
    struct Entry {
        std::string name;
        ct_tensor *tensor;
    };

    ct_module *parent = nullptr;
    std::vector<Tensor> parameters, buffers;
    std::vector<Child> children;
    bool training = true;

    ct_module() = default;
    ct_module(const ct_module &) = delete;
    ct_module &operator=(const ct_module &) = delete;
    virtual ~ct_module();
    virtual at::Tensor forward(const at::Tensor &x) = 0;
    virtual void set_training(bool on);
    /* Whether anything may be added. */
    virtual bool fixed() const { return false; }

    at::Tensor &add_parameter(std::string name, at::Tensor value, bool requires_grad = true);
    at::Tensor &add_buffer(std::string name, at::Tensor value);
    /* Takes the child over once it returns. */
    void add_child(std::string name, ct_module *child);

    /* Names and tensors of the whole tree, made on first use. */
    struct Listing {
        std::vector<Entry> parameters, buffers, state;
    };
    const Listing &listing() const;

  private:
    mutable std::unique_ptr<Listing> listing_;
    void changed() noexcept;
    void check_name(const std::string &name) const;
    void collect(const std::string &prefix, Listing &into) const;
};

namespace ct {

/* init.cpp: torch.nn.init */
void kaiming_uniform(at::Tensor &weight, double a);
void kaiming_normal(at::Tensor &weight, bool fan_out);
/* U(-1/sqrt(fan_in), 1/sqrt(fan_in)) of the weight, as torch.nn's layers draw their biases. */
void uniform_bias(at::Tensor &bias, const at::Tensor &weight);

} // namespace ct

#endif
