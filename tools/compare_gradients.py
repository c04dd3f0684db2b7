#!/usr/bin/env python3
"""Compares projected gradients of two arithmetics on one model and task:

    compare_gradients.py MODEL TASK.qzt [--qzo build/qzo] [--probes 1000] [--eps 1e-3] [--batch 16]
        [--backends cpu cpu-bf16 ...]

All take one step of as many samples as there are probes: seeds and examples are the same, since
they are functions of the trial's settings alone. The gradients come from the journals. Cosine: of
the two vectors of gradients. Difference: root mean square of theirs over that of the first's
gradients. Gain: of the least squares fit second = gain * first. Where differences are independent
noise, cosine^2 = 1 / (1 + difference^2).
"""
import csv
import io
import json
import math
import subprocess
import sys
import tempfile
from pathlib import Path

import command_line


ROOT = Path(__file__).resolve().parent.parent


def said(command):
    """What a command prints; one that fails has said why, and ends this program too."""
    try:
        return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    except OSError as error:
        sys.exit(f"compare_gradients: {command[0]}: {error.strerror}")
    except subprocess.CalledProcessError as error:
        sys.exit(f"compare_gradients: exit code {error.returncode}: {' '.join(command)}")


def gradients(arguments, backend, folder):
    """(mean loss, gradient) of every probe, by sample."""
    out = str(folder / backend)
    threads = ["--threads", str(arguments.threads)] if arguments.threads else []
    said([arguments.qzo, "run", str(folder / "sweep.yaml"), "--out", out, "--backend", backend,
          "--quiet", "--log-level", "warn", *threads])
    text = said([arguments.qzo, "journal", out, "1", "--csv"])
    rows = sorted(csv.DictReader(io.StringIO(text)), key=lambda row: int(row["sample"]))
    return [(0.5 * (float(row["loss_plus"]) + float(row["loss_minus"])), float(row["gradient"]))
            for row in rows]


def compare(first, second):
    a, b = [g for _, g in first], [g for _, g in second]
    aa, bb = sum(x * x for x in a), sum(x * x for x in b)
    ab = sum(x * y for x, y in zip(a, b))
    difference = sum((x - y) ** 2 for x, y in zip(a, b))
    by_size = sorted(abs(x - y) for x, y in zip(a, b))
    loss_offset = [y - x for (x, _), (y, _) in zip(first, second)]
    return {"probes": len(a), "cosine": ab / math.sqrt(aa * bb), "gain": ab / aa,
            "rms_first": math.sqrt(aa / len(a)), "rms_second": math.sqrt(bb / len(b)),
            "difference": math.sqrt(difference / aa),
            "difference_median": by_size[len(a) // 2], "difference_largest": by_size[-1],
            "other_sign": sum(x * y < 0 for x, y in zip(a, b)) / len(a),
            "loss_first": sum(l for l, _ in first) / len(a),
            "loss_offset_mean": sum(loss_offset) / len(a),
            "loss_offset_largest": max(map(abs, loss_offset))}


def main():
    parser = command_line.parser_of(__doc__)
    parser.add_argument("model")
    parser.add_argument("task")
    parser.add_argument("--qzo", default=str(ROOT / "build/qzo"))
    parser.add_argument("--probes", type=command_line.whole(1), default=1000)
    parser.add_argument("--eps", default="1e-3")
    parser.add_argument("--batch", type=command_line.whole(1), default=16)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--backends", nargs="+", default=["cpu", "cpu-bf16"],
                        help="the first, and those that are compared with it")
    arguments = parser.parse_args()
    if len(arguments.backends) < 2:
        parser.error(f"--backends: expected two or more, found {arguments.backends[0]}")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "sweep.yaml").write_text(
            f"model: {Path(arguments.model).resolve()}\ntask: {Path(arguments.task).resolve()}\n"
            f"train: {{ steps: 1, batch: {arguments.batch}, eps: {arguments.eps}, "
            f"samples_per_step: {arguments.probes}, evaluate_every: 0 }}\n"
            "parameters: { learning_rate: { value: 1e-7 } }\n")
        first, *others = (gradients(arguments, b, folder) for b in arguments.backends)
    result = {"model": arguments.model, "eps": arguments.eps, "backends": arguments.backends}
    if len(others) == 1:
        result |= compare(first, others[0])
    else:
        result["against_first"] = {backend: compare(first, other)
                                   for backend, other in zip(arguments.backends[1:], others)}
    json.dump(result, sys.stdout, indent=2)
    print()


if __name__ == "__main__":
    main()
