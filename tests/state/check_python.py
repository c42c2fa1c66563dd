"""The other side of check_python.sh: reads a checkpoint of sample.c, writes a file for it. Byte i of tensor t is (7 i + 31 t) mod 256."""
import json
import os
import sys

import numpy as np
import safetensors
from safetensors.numpy import load_file, save_file

# In the order in which sample.c adds them.
TENSORS = [("u8", "U8", [5]), ("f64", "F64", [2, 3]), ("f32", "F32", [4, 1, 2]), ("f16", "F16", [3]), ("bf16", "BF16", [3]),
           ("i64", "I64", [2]), ("i32", "I32", []), ("i16", "I16", [2, 2]), ("i8", "I8", [7]), ("bool", "BOOL", [2]),
           ("empty", "F32", [0, 3]), ("naïve \"name\"", "F32", [1])]
NUMPY = {"U8": "u1", "F64": "f8", "F32": "f4", "F16": "f2", "I64": "i8", "I32": "i4", "I16": "i2", "I8": "i1", "BOOL": "?"}
SIZE = {"BF16": 2} | {k: np.dtype(v).itemsize for k, v in NUMPY.items()}


def expected(index):
    name, dtype, shape = TENSORS[index]
    nbytes = int(np.prod(shape)) * SIZE[dtype]
    data = bytes((7 * i + 31 * index) % 256 for i in range(nbytes))
    return bytes(b % 2 for b in data) if dtype == "BOOL" else data


def read(path):
    file = os.path.join(path, "state.safetensors")
    with open(file, "rb") as stream:
        raw = dict(safetensors.deserialize(stream.read()))
    for index, (name, dtype, shape) in enumerate(TENSORS):
        entry = raw.pop(name)
        assert entry["dtype"] == dtype and entry["shape"] == shape, (name, entry)
        assert bytes(entry["data"]) == expected(index), name
    local = raw.pop("own")
    assert (local["dtype"], local["shape"], bytes(local["data"])) == ("U8", [1, 3], b"abc"), local
    assert not raw, raw
    with safetensors.safe_open(file, framework="np") as opened:
        assert opened.metadata()["format"] == "pt"
        for index, (name, dtype, shape) in enumerate(TENSORS):
            if dtype == "BF16":  # numpy has none
                continue
            want = np.frombuffer(expected(index), dtype=NUMPY[dtype]).reshape(shape)
            got = opened.get_tensor(name)
            assert got.dtype == want.dtype and got.shape == want.shape and got.tobytes() == want.tobytes(), name
    with open(os.path.join(path, "state.json"), encoding="utf-8") as stream:
        record = json.load(stream)
    assert record["epoch"] == 3 and record["scalars"] == {"lr": 0.1, "count": -(2 ** 63)}, record


def read_shards(path):
    """As a reader of such an index does it: what it knows of the files is what stands there."""
    with open(os.path.join(path, "state.safetensors.index.json"), encoding="utf-8") as stream:
        index = json.load(stream)
    files = set(index["weight_map"].values())
    assert files == {f"state-{i:05}-of-00003.safetensors" for i in (1, 2, 3)}, files
    raw = {}
    for file in files:
        with open(os.path.join(path, file), "rb") as stream:
            entries = dict(safetensors.deserialize(stream.read()))
        assert all(index["weight_map"][name] == file for name in entries), file
        raw |= entries
    assert set(raw) == set(index["weight_map"])
    assert index["metadata"]["total_size"] == sum(len(entry["data"]) for entry in raw.values())
    for i, (name, dtype, shape) in enumerate(TENSORS):
        entry = raw.pop(name)
        assert (entry["dtype"], entry["shape"], bytes(entry["data"])) == (dtype, shape, expected(i)), name
    for row in range(3):
        local = raw.pop(f"own[{row}]")
        assert (local["dtype"], local["shape"], bytes(local["data"])) == ("U8", [3], b"abc"), local
    assert not raw, raw


def write(path):
    arrays = {name: np.frombuffer(expected(i), dtype=NUMPY[dtype]).reshape(shape)
              for i, (name, dtype, shape) in enumerate(TENSORS) if dtype != "BF16"}
    save_file(arrays, path, metadata={"format": "np"})
    assert set(load_file(path)) == set(arrays)


if __name__ == "__main__":
    {"read": read, "read_shards": read_shards, "write": write}[sys.argv[1]](sys.argv[2])
