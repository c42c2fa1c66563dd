"""Writes what PyTorch itself computes, for test_reference.c: records of a name's length, name, count, and float64 values.

Exit status 77: there is no torch here.
"""
import struct
import sys

try:
    import torch
except ImportError:
    sys.exit(77)
import torch.nn as nn
import torch.nn.functional as F

torch.set_num_threads(1)
out = open(sys.argv[1], "wb")


def record(name, value):
    values = (torch.tensor(value, dtype=torch.float64) if isinstance(value, list) else value).detach().double().contiguous().flatten().tolist()
    out.write(struct.pack("<q", len(name)) + name.encode() + struct.pack("<q", len(values)))
    out.write(struct.pack("<%dd" % len(values), *values))


# Layers' initial values
torch.manual_seed(7)
layers = {
    "conv": nn.Conv2d(3, 8, 3),
    "grouped": nn.Conv2d(4, 8, 5, groups=2, bias=False),
    "linear": nn.Linear(13, 6),
    "narrow": nn.Linear(2, 3, bias=False),
    "embedding": nn.Embedding(5, 7),
    "bn": nn.BatchNorm2d(4),
    "ln": nn.LayerNorm((3, 2)),
}
for name, layer in layers.items():
    for key, value in layer.state_dict().items():
        record("init.%s.%s" % (name, key), value)
w = torch.empty(6, 5, 3, 3)
nn.init.kaiming_normal_(w, mode="fan_out", nonlinearity="relu")
record("init.kaiming_normal", w)
nn.init.kaiming_uniform_(w, a=0.3)
record("init.kaiming_uniform", w)

# Optimisers, 50 steps on sum(c * (w - t)^2)
optimisers = {
    "sgd": lambda p: torch.optim.SGD(p, lr=0.05),
    "sgd_momentum": lambda p: torch.optim.SGD(p, lr=0.05, momentum=0.9, weight_decay=1e-3),
    "sgd_dampening": lambda p: torch.optim.SGD(p, lr=0.05, momentum=0.9, dampening=0.25, weight_decay=1e-3),
    "sgd_nesterov": lambda p: torch.optim.SGD(p, lr=0.05, momentum=0.9, nesterov=True),
    "adam": lambda p: torch.optim.Adam(p, lr=0.01, foreach=False),
    "adam_decay": lambda p: torch.optim.Adam(p, lr=0.01, betas=(0.8, 0.99), eps=1e-6, weight_decay=0.05, foreach=False),
    "adamw": lambda p: torch.optim.AdamW(p, lr=0.01, weight_decay=0.05, foreach=False),
}
for dtype, suffix in ((torch.float64, "64"), (torch.float32, "32")):
    for name, make in optimisers.items():
        torch.manual_seed(11)
        w, t, c = (torch.randn(9, 11, dtype=dtype) for _ in range(3))
        w.requires_grad_(True)
        optimiser = make([w])
        for step in range(50):
            optimiser.zero_grad(set_to_none=True)
            d = w - t
            (d * d * c).sum().backward()
            optimiser.step()
        record("optim.%s.%s" % (name, suffix), w)

# Schedules
p = [torch.zeros(1, requires_grad=True)]
o = torch.optim.SGD(p, lr=0.1)
s = torch.optim.lr_scheduler.OneCycleLR(o, max_lr=0.4, total_steps=40)
rates = []
for step in range(40):
    rates.append(o.param_groups[0]["lr"])
    o.step()
    if step < 39:
        s.step()
record("lr.one_cycle", rates)
o = torch.optim.SGD(p, lr=0.1)
s = torch.optim.lr_scheduler.CosineAnnealingLR(o, T_max=30, eta_min=0.01)
rates = []
for step in range(30):
    rates.append(o.param_groups[0]["lr"])
    o.step()
    s.step()
record("lr.cosine", rates)


# A small residual network, trained
class Block(nn.Module):
    def __init__(self, i, o, stride):
        super().__init__()
        self.conv1 = nn.Conv2d(i, o, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(o)
        self.conv2 = nn.Conv2d(o, o, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(o)
        self.shortcut = nn.Sequential(nn.Conv2d(i, o, 1, stride, bias=False), nn.BatchNorm2d(o))

    def forward(self, x):
        y = F.relu(self.bn1(self.conv1(x)))
        return F.relu(self.bn2(self.conv2(y)) + self.shortcut(x))


for dtype, suffix in ((torch.float64, "64"), (torch.float32, "32")):
    torch.manual_seed(3)
    net = nn.Sequential(
        nn.Conv2d(2, 8, 3, 1, 1, bias=False), nn.BatchNorm2d(8), nn.ReLU(), Block(8, 8, 1), Block(8, 16, 2),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 5)).to(dtype)
    x = torch.randn(12, 2, 9, 9).to(dtype)
    y = torch.randint(0, 5, (12,))
    o = torch.optim.SGD(net.parameters(), lr=0.05, momentum=0.9, weight_decay=1e-4)
    losses = []
    for step in range(10):
        o.zero_grad(set_to_none=True)
        loss = F.cross_entropy(net(x), y, label_smoothing=0.1)
        loss.backward()
        o.step()
        losses.append(loss.item())
    record("net.losses." + suffix, losses)
    for key, value in net.state_dict().items():
        record("net.%s.%s" % (key, suffix), value)
    net.eval()
    record("net.eval." + suffix, net(x))
out.close()
