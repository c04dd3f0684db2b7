"""Reads and writes safetensors files as raw NumPy arrays.

The safetensors package would do, but for two things: its NumPy side has no bfloat16, and it writes
the keys of __metadata__ in a random order, so that the same content gives other bytes each time.
Here the header is sorted, and equal content gives equal files. bfloat16 tensors are held as
`Tensor("BF16", uint16 array)` and go through unchanged.
"""
import json
import struct
from pathlib import Path
from typing import NamedTuple

import numpy as np

DTYPES = {
    "BOOL": np.bool_, "U8": np.uint8, "I8": np.int8, "I16": np.int16, "U16": np.uint16,
    "F16": np.float16, "BF16": np.uint16, "I32": np.int32, "U32": np.uint32, "F32": np.float32,
    "I64": np.int64, "U64": np.uint64, "F64": np.float64,
}
NAMES = {np.dtype(dtype): name for name, dtype in DTYPES.items() if name != "BF16"}


class Tensor(NamedTuple):
    """Bits of a tensor and the name of their type; `array` of BF16 is uint16."""

    dtype: str
    array: np.ndarray

    def as_float32(self):
        if self.dtype == "BF16":
            return (self.array.astype(np.uint32) << 16).view(np.float32)
        return self.array.astype(np.float32)


def tensor_of(array):
    array = np.ascontiguousarray(array)
    return Tensor(NAMES[array.dtype], array)


def read(path):
    """Returns ({name: Tensor}, metadata)."""
    data = Path(path).read_bytes()
    (header_bytes,) = struct.unpack_from("<Q", data)
    header = json.loads(data[8 : 8 + header_bytes])
    metadata = header.pop("__metadata__", {})
    tensors = {}
    for name, entry in header.items():
        begin, end = entry["data_offsets"]
        bits = np.frombuffer(data[8 + header_bytes + begin : 8 + header_bytes + end],
                             dtype=DTYPES[entry["dtype"]])
        tensors[name] = Tensor(entry["dtype"], bits.reshape(entry["shape"]))
    return tensors, metadata


def entries_of(tensors):
    """The header's entries in the order of the data, and how many bytes that is.

    Wide types come first, so that every tensor is aligned for its type.
    """
    order = sorted(tensors, key=lambda name: (-tensors[name].array.itemsize, name))
    entries, offset = {}, 0
    for name in order:
        array = tensors[name].array
        entries[name] = {"dtype": tensors[name].dtype, "shape": list(array.shape),
                         "data_offsets": [offset, offset + array.nbytes]}
        offset += array.nbytes
    return entries, offset


def payload_of(tensors):
    """The header's entries and the bytes after the header."""
    entries, _ = entries_of(tensors)
    return entries, b"".join(np.ascontiguousarray(tensors[name].array).tobytes()
                             for name in entries)


def write(path, tensors, metadata, holes=False):
    """Writes {name: Tensor or array}; the header is padded so that the payload is aligned to 8.

    holes: the file has its full length, but its data is a hole, which takes no room and reads as
    zeros.
    """
    tensors = {name: value if isinstance(value, Tensor) else tensor_of(value)
               for name, value in tensors.items()}
    entries, data_bytes = entries_of(tensors)
    header = {"__metadata__": dict(sorted(metadata.items())), **entries}
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=True).encode()
    text += b" " * (-len(text) % 8)
    with Path(path).open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        if holes:
            file.truncate(8 + len(text) + data_bytes)
        else:
            file.write(payload_of(tensors)[1])


def read_folder(folder):
    """All tensors of a Hugging Face folder, sharded or not."""
    folder = Path(folder)
    index = folder / "model.safetensors.index.json"
    names = ["model.safetensors"]
    if index.exists():
        names = sorted(set(json.loads(index.read_text())["weight_map"].values()))
    tensors = {}
    for name in names:
        tensors.update(read(folder / name)[0])
    return tensors


def write_folder(folder, tensors, shards=1):
    """model.safetensors, or `shards` files of about equal size and their index."""
    folder = Path(folder)
    if shards == 1:
        write(folder / "model.safetensors", tensors, {"format": "pt"})
        return
    names = sorted(tensors)
    total = sum(tensors[name].array.nbytes for name in names)
    weight_map, parts, done = {}, [{} for _ in range(shards)], 0
    for name in names:
        shard = min(done * shards // total, shards - 1)
        parts[shard][name] = tensors[name]
        weight_map[name] = f"model-{shard + 1:05d}-of-{shards:05d}.safetensors"
        done += tensors[name].array.nbytes
    for shard, part in enumerate(parts):
        write(folder / f"model-{shard + 1:05d}-of-{shards:05d}.safetensors", part,
              {"format": "pt"})
    index = {"metadata": {"total_size": total}, "weight_map": weight_map}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index, indent=2) + "\n")
