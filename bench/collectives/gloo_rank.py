"""One rank of Gloo for bench_allreduce: reads counts, writes the seconds of an all-reduce of so many float32."""
import os
import sys
import time

os.sched_setaffinity(0, range(os.cpu_count()))  # Open MPI binds its ranks, PyTorch's launcher does not
try:
    import torch
    import torch.distributed as dist

    torch.set_num_threads(1)
    dist.init_process_group("gloo")
except Exception as error:  # said by who started us
    print(error, file=sys.stderr)
    sys.exit(1)
print("ready", flush=True)
data = torch.zeros(0)
for line in sys.stdin:
    count = int(line)
    if len(data) < count:
        data = torch.zeros(count)
    part = data[:count]
    part.fill_(1.0 + dist.get_rank())  # written anew before every operation, as the others do
    dist.barrier()
    begun = time.perf_counter()
    dist.all_reduce(part)
    print(time.perf_counter() - begun, flush=True)
os._exit(0)
