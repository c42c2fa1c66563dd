"""The training of bench_train.c in PyTorch DDP over Gloo: ddp.py FOLDER DEPTH BATCH WORKERS FORMAT DTYPE, and the same two fifos."""

import contextlib
import os
import pathlib
import socket
import sys
import time

import torch
import torch.distributed as dist
from torch.nn import functional
from torch.nn.parallel import DistributedDataParallel

from resnet_torch import resnet

BATCHES = 4


def train(rank, workers, folder, depth, batch, channels_last, bfloat16):
    torch.set_num_threads(1)
    torch.manual_seed(1)
    model = resnet(depth)
    if channels_last:
        model = model.to(memory_format=torch.channels_last)
    model = DistributedDataParallel(model)
    optim = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9, weight_decay=5e-4)
    torch.manual_seed(2 + rank)
    images = [torch.randn(batch, 1, 28, 28) for _ in range(BATCHES)]
    labels = [torch.randint(0, 10, (batch,)) for _ in range(BATCHES)]
    if channels_last:
        images = [x.to(memory_format=torch.channels_last) for x in images]
    done = 0

    def step():
        nonlocal done
        with torch.autocast("cpu", dtype=torch.bfloat16) if bfloat16 else contextlib.nullcontext():
            loss = functional.cross_entropy(model(images[done % BATCHES]), labels[done % BATCHES])
        loss.item()
        optim.zero_grad(set_to_none=True)
        loss.backward()
        optim.step()
        done += 1

    begun = time.monotonic()
    step()
    if rank == 0:
        took, go = open(folder / "took", "w"), open(folder / "go")
        print(begun - started, time.monotonic() - started, file=took, flush=True)
    while True:
        count = torch.tensor([int(go.readline() or 0) if rank == 0 else 0])
        dist.broadcast(count, 0)
        if count <= 0:
            break
        dist.barrier()
        begun, cpu_begun = time.monotonic(), time.process_time()
        for _ in range(count):
            step()
        dist.barrier()
        if rank == 0:
            print(time.monotonic() - begun, time.process_time() - cpu_begun, file=took, flush=True)


def main():
    folder, depth, batch, workers = pathlib.Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    children, rank = [], 0
    for other in range(1, workers):
        child = os.fork()
        if child == 0:
            rank, children = other, []
            break
        children.append(child)
    dist.init_process_group("gloo", rank=rank, world_size=workers)
    train(rank, workers, folder, depth, batch, sys.argv[5] == "channels_last", sys.argv[6] == "bfloat16")
    dist.destroy_process_group()
    for child in children:
        os.waitpid(child, 0)


started = time.monotonic()
main()
