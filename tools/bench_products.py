#!/usr/bin/env python3
"""Times qzo's matrix products beside PyTorch's (oneDNN, MKL), at one model's shapes, in one run:

    bench_products.py MODEL [--dtype float32|bfloat16] [--qzo build/qzo] [--rows 512] [--threads 1]
        [--cpu-limit avx2|avx512|amx] [--rounds 3]

qzo's time is that of `qzo bench`: codes are read, perturbed, decoded and multiplied. PyTorch's is
of torch.nn.functional.linear on weights decoded before. Both sides take turns, and the best time of
each counts, because noise only adds. To limit PyTorch to AVX2, set ATEN_CPU_CAPABILITY=avx2
ONEDNN_MAX_CPU_ISA=AVX2 MKL_ENABLE_INSTRUCTIONS=AVX2. Needs torch (tools/requirements-oracle.txt).
"""
import json
import re
import subprocess
import sys
import time

import torch

import command_line

BACKENDS = {"float32": "cpu", "bfloat16": "cpu-bf16"}
PERIOD_SECONDS = 1.0


def time_qzo(arguments):
    command = [arguments.qzo, "bench", arguments.model, "--backend", BACKENDS[arguments.dtype],
               "--rows", str(arguments.rows), "--threads", str(arguments.threads), "--cpu-limit",
               arguments.cpu_limit, "--json"]
    result = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
    seconds = {}
    for operation in result["operations"]:
        shape = re.match(r"linear (\d+) x (\d+) ", operation["name"])
        if shape:
            seconds[int(shape[1]), int(shape[2])] = operation["seconds"]
    return seconds, result["arithmetic"], result["peak_gflops"]


def time_torch(arguments, shape):
    dtype = getattr(torch, arguments.dtype)
    x = torch.randn(arguments.rows, shape[1]).to(dtype)
    weight = torch.randn(shape).to(dtype)
    best, begin = float("inf"), time.perf_counter()
    while time.perf_counter() - begin < PERIOD_SECONDS:
        start = time.perf_counter()
        torch.nn.functional.linear(x, weight)
        best = min(best, time.perf_counter() - start)
    return best


def main():
    parser = command_line.parser_of(__doc__)
    parser.add_argument("model")
    parser.add_argument("--dtype", choices=BACKENDS, default="float32")
    parser.add_argument("--qzo", default="build/qzo")
    parser.add_argument("--rows", type=int, default=512)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--cpu-limit", default="amx")
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    ours, theirs = {}, {}
    for _ in range(arguments.rounds):
        seconds, arithmetic, peak = time_qzo(arguments)
        for shape, value in seconds.items():
            ours[shape] = min(value, ours.get(shape, value))
            value = time_torch(arguments, shape)
            theirs[shape] = min(value, theirs.get(shape, value))
    products = []
    for shape in ours:
        flops = 2.0 * arguments.rows * shape[0] * shape[1]
        products.append({"out": shape[0], "in": shape[1], "qzo_gflops": flops / ours[shape] / 1e9,
                         "torch_gflops": flops / theirs[shape] / 1e9,
                         "ratio": theirs[shape] / ours[shape]})
    json.dump({"arithmetic": arithmetic, "torch": torch.__version__, "rows": arguments.rows,
               "threads": arguments.threads, "cpu_limit": arguments.cpu_limit,
               "peak_gflops": peak, "products": products}, sys.stdout, indent=2)
    print()


if __name__ == "__main__":
    main()
