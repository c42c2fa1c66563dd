"""Train what the program `reference` trained, in PyTorch DDP (Gloo, two processes), and compare.

reference.py PROGRAM WORK-FOLDER. Exits 77 without PyTorch: 0 when all agrees.
"""

import os
import pathlib
import shutil
import socket
import subprocess
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "bench" / "train"))
import torch
import torch.distributed as dist
from torch.nn import functional
from torch.nn.parallel import DistributedDataParallel

from resnet_torch import resnet

WORLD, BATCH, SIDE = 2, 4, 16
# name, dtype, steps, clip, how far losses and weights may be apart, relatively
CASES = [
    ("float64", torch.float64, 50, 0.0, 1e-9),
    ("float64 clipped", torch.float64, 50, 1.0, 1e-9),
    ("float32", torch.float32, 5, 0.0, 1e-4),
]


def read(folder, name):
    return torch.frombuffer(bytearray((folder / name).read_bytes()), dtype=torch.float64)


def split(flat, state):
    out, at = {}, 0
    for name, tensor in state.items():
        out[name] = flat[at:at + tensor.numel()].view(tensor.shape)
        at += tensor.numel()
    assert at == flat.numel(), f"{flat.numel()} values there, {at} expected"
    return out


def apart(a, b):
    a, b = a.double(), b.double()
    return ((a - b).norm() / b.norm().clamp(min=1e-12)).item()


def train(rank, folder, dtype, steps, clip):
    """What DDP does with the same beginning and the same batches: losses, norms and the model's final state."""
    torch.set_num_threads(1)
    model = resnet(8).to(dtype)
    model.load_state_dict(split(read(folder, "init-0"), model.state_dict()))
    ddp = DistributedDataParallel(model)
    optim = torch.optim.SGD(ddp.parameters(), lr=0.05, momentum=0.9, weight_decay=5e-4)
    images = read(folder, f"images-{rank}").view(steps, BATCH, 1, SIDE, SIDE).to(dtype)
    labels = read(folder, f"labels-{rank}").view(steps, BATCH).long()
    losses, norms = [], []
    for step in range(steps):
        loss = functional.cross_entropy(ddp(images[step]), labels[step])
        losses.append(loss.item())
        optim.zero_grad(set_to_none=True)
        loss.backward()
        if clip:
            norms.append(torch.nn.utils.clip_grad_norm_(ddp.parameters(), clip).item())
        optim.step()
    return losses, norms, model.state_dict()


def compare(rank, folder, case):
    name, dtype, steps, clip, bar = case
    losses, norms, state = train(rank, folder, dtype, steps, clip)
    ours = split(read(folder, f"final-{rank}"), state)
    worst_loss = max(abs(a - b) / abs(b) for a, b in zip(read(folder, f"losses-{rank}").tolist(), losses))
    buffers = ("running_mean", "running_var", "num_batches_tracked")
    if rank > 0:  # DDP hands out rank 0's statistics before each step, Cadre before a validation
        state = {key: value for key, value in state.items() if not key.endswith(buffers)}
    worst_weight = max(apart(ours[key], value) for key, value in state.items())
    worst_norm = 0.0
    if clip:
        worst_norm = max(abs(a - b) / abs(b) for a, b in zip(read(folder, f"norms-{rank}").tolist(), norms))
    fine = worst_loss <= bar and worst_weight <= bar and worst_norm <= bar
    print(f"{name}, rank {rank}: {steps} steps, loss {losses[0]:.4f} to {losses[-1]:.4f}; apart by {worst_loss:.2e} (loss), "
          f"{worst_weight:.2e} (weights), {worst_norm:.2e} (norm); bar {bar:.0e}: {'fine' if fine else 'TOO FAR'}", flush=True)
    return fine


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def worker(rank, port, work):
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    dist.init_process_group("gloo", rank=rank, world_size=WORLD)
    fine = all([compare(rank, work / str(number), case) for number, case in enumerate(CASES)])
    dist.barrier()
    dist.destroy_process_group()
    return fine


def main():
    program, work = sys.argv[1], pathlib.Path(sys.argv[2])
    shutil.rmtree(work, ignore_errors=True)
    for number, (_, dtype, steps, clip, _) in enumerate(CASES):
        (work / str(number)).mkdir(parents=True)
        subprocess.run([program, str(work / str(number)), str(dtype).removeprefix("torch."), str(steps), str(clip)], check=True)
    port = free_port()
    child = os.fork()
    if child == 0:
        os._exit(0 if worker(1, port, work) else 1)
    fine = worker(0, port, work)
    _, status = os.waitpid(child, 0)
    if fine and status == 0:
        shutil.rmtree(work)
    sys.exit(0 if fine and status == 0 else 1)


main()
