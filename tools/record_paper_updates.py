#!/usr/bin/env python3
"""Records what the paper's program makes of fp16 scales, in PyTorch: record_paper_updates.py OUT.

    OUT/paper-updates.safetensors   the values after the steps named in CHECKED, bit for bit

The expressions are those of QZOTrainer in maifoundations/QZO at f843ddc (zo_perturb_parameters,
zo_step, zo_update), with the projected gradients given and z drawn by `qzo`'s own noise, which a
few lines of C around src/base/philox.h print, rounded to fp16. Prints how far values wander that
nothing pulls (learning rate 0), with z of PyTorch's own. Needs requirements-oracle.txt and a C
compiler; a minute.
"""
import argparse
import subprocess
import tempfile
from pathlib import Path

import numpy as np
import torch

import tensor_file

ROOT = Path(__file__).resolve().parent.parent
TENSOR_ID, NOISE_SEED, STEPS, COUNT = 71, 2025, 400, 160
EPS, RATE, CLIP, FLOOR = 1e-3, 1e-5, 100, 1e-7
CHECKED = (1, 2, 10, 100, STEPS)
DEAD_GRADIENTS = (3, 10, 30, 100)
DRIFT_STEPS, DRIFT_COUNT = (1000, 5000, 20000), 20000

NOISE_C = """
#include "base/noise.h"
#include <stdio.h>
#include <stdlib.h>
int main(int argc, char **argv) {
    (void)argc;
    int steps = atoi(argv[1]), count = atoi(argv[2]);
    float *z = malloc((size_t)count * sizeof *z);
    for (int step = 1; step <= steps; step++) {
        uint64_t seed = qzo_noise_seed(strtoull(argv[3], 0, 10), (uint64_t)step, 0);
        qzo_noise_fill(z, seed, (uint32_t)atoi(argv[4]), 0, count, QZO_DIRECTIONS_GAUSSIAN);
        fwrite(z, sizeof *z, (size_t)count, stdout);
    }
    return 0;
}
"""
COMPILE = ["cc", "-std=c17", "-O2", "-ffp-contract=off", "-fno-math-errno", "-D_GNU_SOURCE"]


def own_noise():
    """(STEPS, COUNT) in fp32, by the program's noise without its vector code."""
    with tempfile.TemporaryDirectory() as folder:
        source, program = Path(folder) / "noise.c", Path(folder) / "noise"
        source.write_text(NOISE_C)
        base = ROOT / "src" / "base"
        parts = [base / name for name in ("noise.c", "noise_avx2.c", "noise_avx512.c", "cpu.c",
                                          "status.c")]
        subprocess.run([*COMPILE, f"-I{ROOT / 'src'}", str(source),
                        *[str(part) for part in parts], "-lm", "-o", str(program)], check=True)
        found = subprocess.run([program, str(STEPS), str(COUNT), str(NOISE_SEED), str(TENSOR_ID)],
                               check=True, capture_output=True).stdout
    return torch.from_numpy(np.frombuffer(found, np.float32).reshape(STEPS, COUNT).copy())


def perturb(data, z, scaling_factor):
    return data + scaling_factor * z * EPS


def there_and_back(data, z):
    return perturb(perturb(perturb(data, z, 1), z, -2), z, 1)


def step_of(data, z, projected_grad, rate):
    projected_grad = min(max(-CLIP, projected_grad), CLIP)
    return torch.clamp(data - rate * (projected_grad * z), min=FLOOR)


def record(out):
    draw = np.random.default_rng(5)
    # From below the floor's reach to far above usual scales; negative ones meet the floor.
    initial = np.concatenate([draw.uniform(2e-4, 0.1, COUNT - 10), np.array(
        [1e-7, 1e-6, 5e-6, 6e-5, 1.0, 3.0, 100.0, 2e4, 6e4, 2e-3])]).astype(np.float16)
    gradients = (draw.normal(size=STEPS) * draw.choice((0.3, 10.0, 80.0), STEPS)).astype(np.float32)
    gradients[7] = 0.0
    tensors = {"initial": initial, "gradients": gradients}
    data, at_floor = torch.from_numpy(initial), 0
    for step, z in enumerate(own_noise().half(), start=1):
        if step == 1:
            tensors["plus"] = perturb(data, z, 1).numpy()
            tensors["minus"] = perturb(perturb(data, z, 1), z, -2).numpy()
        data = step_of(there_and_back(data, z), z, float(gradients[step - 1]), RATE)
        at_floor += int((data == torch.tensor(FLOOR).half()).sum())
        if step in CHECKED:
            tensors[f"after.{step}"] = data.numpy().copy()
    print(f"{STEPS} steps of {COUNT} values, {at_floor} times at the floor")
    notes = {"eps": repr(EPS), "rate": repr(RATE), "clip": repr(CLIP), "noise_seed":
             str(NOISE_SEED), "tensor_id": str(TENSOR_ID), "torch": torch.__version__}
    tensor_file.write(out / "paper-updates.safetensors", tensors, notes)


def print_drift():
    generator = torch.Generator().manual_seed(1)
    for start in (0.002, 0.004, 0.008):
        data = torch.full((DRIFT_COUNT,), start).half()
        first = data.float()
        for step in range(1, max(DRIFT_STEPS) + 1):
            z = torch.normal(0, 1, data.shape, generator=generator, dtype=torch.float32).half()
            data = step_of(there_and_back(data, z), z, 0.0, 0.0)
            if step in DRIFT_STEPS:
                moved = (data.float() - first) / first
                root = moved.square().mean().sqrt()
                print(f"scale {start}, {step} steps: {100 * root:.3f} % rms, "
                      f"mean {100 * moved.mean():.3f} %", flush=True)


def print_dead_zone():
    generator = torch.Generator().manual_seed(2)
    for start in (0.002, 0.004, 0.008):
        data = torch.full((100000,), start).half()
        z = torch.normal(0, 1, data.shape, generator=generator, dtype=torch.float32).half()
        still = [100 * (step_of(data, z, d, 1e-7) == data).float().mean() for d in DEAD_GRADIENTS]
        print(f"scale {start}, learning rate 1e-7, gradients {DEAD_GRADIENTS}: "
              + ", ".join(f"{share:.1f} %" for share in still) + " do not move")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--drift", action="store_true", help="print drift and dead zone; a minute")
    given = parser.parse_args()
    torch.set_num_threads(1)
    record(given.out)
    if given.drift:
        print_dead_zone()
        print_drift()


if __name__ == "__main__":
    main()
