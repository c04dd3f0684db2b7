#!/usr/bin/env python3
"""How a step's time grows with ranks and perturbations: measures, predicts, compares.

    tools/scaling_model.py measure MODEL TASK --out POINTS.json [--batch N] [--rounds N]
                                                   again: more rounds of the same
    tools/scaling_model.py compare POINTS.json     measured against predicted, a table
    tools/scaling_model.py predict [--pair-ms ...]  a table up to 4096 ranks; --help has the symbols

The model (docs/scaling.md derives it). A step of S perturbations on R ranks, of which C at a time
have a core or a GPU, over P trainable values:

    fixed + max(1, R / C) * (ceil(2 S / R) * pair / 2 + S * update) + exchange(R) + imbalance(R)

pair, update and exchange are seconds of two evaluations, of applying one record, of one gather.

`compare` takes fixed and pair from one rank alone, update from the kernel's own measurement and
exchange from that of `qzo doctor`; nothing is fitted to the points that it predicts. It ends with
exit code 1 where a prediction is off by more than RATIO_MAX.
"""
import argparse
import json
import math
import os
import re
import subprocess
import sys
from pathlib import Path

PROGRAM = str(Path(__file__).resolve().parent.parent / "build" / "qzo")
# Strong: 8 perturbations for all; weak: 2 per rank. 1 and 3 do not divide: pairs are split.
STRONG, WEAK_PER_RANK = 8, 2
RECORDS = 16  # of the update that is measured: enough to hide what it costs to start
STEPS = 400  # of which the fastest counts: other work on the machine only makes steps slower
RATIO_MAX = 1.15  # of prediction and measurement, either way; docs/scaling.md says what is in it


# --- measuring ------------------------------------------------------------------------------------

def run_json(given, ranks, words):
    command = ["mpirun", "-n", str(ranks), given.qzo, *words, "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        sys.exit(f"{' '.join(command)}: exit code {done.returncode}\n{done.stderr[-1000:]}")
    return json.loads(done.stdout)


def exchange_seconds(given, ranks):
    """Of one gather of records among ranks that have nothing else to do, as qzo doctor sees it."""
    if ranks == 1:
        return 0.0
    for finding in run_json(given, ranks, ["doctor", "--threads", "1"])["findings"]:
        found = re.match(r"([0-9.e+-]+) us", finding["found"])
        if finding["name"] == "exchange" and found:
            return 1e-6 * float(found.group(1))
    return sys.exit("qzo doctor measured no exchange")


def measure(given):
    wanted = sorted({(1, samples) for samples in (1, 2, 4, 8)}
                    | {(ranks, samples) for ranks in given.ranks
                       for samples in (1, 3, WEAK_PER_RANK * ranks, STRONG)})
    points = {key: math.inf for key in wanted}
    update, exchange, first, rounds = math.inf, {}, None, given.rounds
    if given.out.exists():  # more rounds of the same
        before = json.loads(given.out.read_text(encoding="utf-8"))
        if (before["model"], before["batch"]) != (Path(given.model).name, given.batch):
            sys.exit(f"{given.out} has points of another model or batch")
        points |= {(p["ranks"], p["samples"]): p["seconds"] for p in before["points"]}
        update, rounds = before["update_seconds"], rounds + before["rounds"]
        exchange = {int(ranks): s for ranks, s in before["exchange_seconds"].items()}
    for _ in range(given.rounds):
        for ranks, samples in wanted:
            bench = run_json(given, ranks, [
                "bench", given.model, "--task", given.task, "--backend", "cpu", "--threads", "1",
                "--rows", "16", "--batch", str(given.batch), "--samples", str(samples),
                "--records", str(RECORDS), "--steps", str(STEPS)])
            first = first or bench
            points[ranks, samples] = min(points[ranks, samples], bench["step"]["seconds_best"])
            if ranks == 1:
                update = min([update] + [o["seconds"] / RECORDS for o in bench["operations"]
                                         if o["name"].startswith("update") and
                                         "gaussian" in o["name"]])
        for ranks in given.ranks:
            exchange[ranks] = min(exchange.get(ranks, math.inf), exchange_seconds(given, ranks))
    given.out.write_text(json.dumps({
        "model": Path(given.model).name, "task": Path(given.task).name, "batch": given.batch,
        "arithmetic": first["arithmetic"], "trainable_values": first["trainable_values"],
        "cores": os.cpu_count(), "rounds": rounds, "update_seconds": update,
        "exchange_seconds": {str(ranks): seconds for ranks, seconds in exchange.items()},
        "points": [{"ranks": ranks, "samples": samples, "seconds": seconds}
                   for (ranks, samples), seconds in points.items()]}, indent=1) + "\n",
        encoding="utf-8")


# --- the model ------------------------------------------------------------------------------------

def units_of_busiest(ranks, samples):
    """Evaluations of the rank that has most: a pair is two, and may be split."""
    return math.ceil(2 * samples / ranks)


def step_seconds(constants, ranks, samples):
    """(evaluations, update, exchange, imbalance) of a step, and what is fixed."""
    crowd = max(1.0, ranks / constants["cores"])
    work = units_of_busiest(ranks, samples) * constants["pair"] / 2
    # The largest of R normal deviates lies about sqrt(2 ln R) standard deviations out.
    late = constants["jitter"] * work * math.sqrt(2 * math.log(ranks))
    directions = min(samples, constants["pool"])
    return (crowd * work, crowd * directions * constants["update"],
            constants["exchange"](ranks), late, constants["fixed"])


def line_fit(points):
    """(offset, slope) of seconds over samples that are least wrong in proportion."""
    weights = [1 / p["seconds"] ** 2 for p in points]
    total = sum(weights)
    mean_x = sum(w * p["samples"] for w, p in zip(weights, points)) / total
    mean_y = sum(w * p["seconds"] for w, p in zip(weights, points)) / total
    slope = (sum(w * (p["samples"] - mean_x) * (p["seconds"] - mean_y)
                 for w, p in zip(weights, points))
             / sum(w * (p["samples"] - mean_x) ** 2 for w, p in zip(weights, points)))
    return mean_y - slope * mean_x, slope


def compare(given):
    data = json.loads(given.points.read_text(encoding="utf-8"))
    fixed, slope = line_fit([p for p in data["points"] if p["ranks"] == 1])
    exchange = {int(ranks): seconds for ranks, seconds in data["exchange_seconds"].items()}
    constants = {"cores": data["cores"], "fixed": max(fixed, 0.0), "jitter": 0.0, "pool": math.inf,
                 "update": data["update_seconds"], "pair": slope - data["update_seconds"],
                 "exchange": lambda ranks: exchange.get(ranks, 0.0)}
    print(f"{data['trainable_values']} values, {data['cores']} cores: "
          f"pair {1e3 * constants['pair']:.3f} ms, update of one record "
          f"{1e3 * constants['update']:.4f} ms, fixed {1e3 * constants['fixed']:.3f} ms")
    print("\n| ranks | perturbations | measured, ms | predicted, ms | predicted over measured |")
    print("| --- | --- | --- | --- | --- |")
    worst = 1.0
    for point in data["points"]:
        predicted = sum(step_seconds(constants, point["ranks"], point["samples"]))
        ratio = predicted / point["seconds"]
        worst = max(worst, ratio, 1 / ratio)
        print(f"| {point['ranks']} | {point['samples']} | {1e3 * point['seconds']:.2f} | "
              f"{1e3 * predicted:.2f} | {ratio:.2f} |")
    if worst > RATIO_MAX:
        sys.exit(f"a prediction is off by a factor of {worst:.2f}, at most {RATIO_MAX}")


def gpu_exchange(given):
    """A ring of nodes: NCCL's own cost model as design notes quote it; or log2 R hops of MPI."""
    def ring(ranks):
        if ranks == 1:
            return 0.0
        per_node = min(ranks, given.per_node)
        between = (ranks - 1) // per_node
        return 1e-6 * (given.ring_base_us + (ranks - 1 - between) * given.hop_inside_us
                       + between * given.hop_between_us)

    def doubling(ranks):
        return 1e-6 * given.hop_mpi_us * math.log2(ranks)
    return ring if given.transport == "nccl" else doubling


def predict(given):
    values = given.values
    update = {"gaussian": 1 / given.normals_per_s, "rademacher": 1 / given.signs_per_s}
    constants = {"cores": math.inf, "fixed": 0.0, "jitter": given.jitter,
                 "pool": given.seed_pool or math.inf,
                 "update": values * update[given.directions], "pair": 1e-3 * given.pair_ms,
                 "exchange": gpu_exchange(given)}
    print("| ranks | perturbations | evaluations, ms | update | exchange | imbalance | step | "
          "efficiency |\n| --- | --- | --- | --- | --- | --- | --- | --- |")
    ranks = 1
    while ranks <= given.ranks_max:
        samples = max(1, math.ceil(given.samples_per_rank * ranks)) if given.samples == 0 \
            else given.samples
        parts = step_seconds(constants, ranks, samples)
        # Against ranks that evaluate and do nothing else.
        ideal = samples * constants["pair"] / ranks
        cells = " | ".join(f"{1e3 * part:.3g}" for part in (*parts[:4], sum(parts)))
        print(f"| {ranks} | {samples} | {cells} | {ideal / sum(parts):.2f} |")
        ranks *= given.factor


def add_predict(commands):
    predicted = commands.add_parser("predict", help="a table up to --ranks-max", formatter_class=(
        argparse.ArgumentDefaultsHelpFormatter))
    add = predicted.add_argument
    add("--samples", type=int, default=0, help="perturbations of a step; 0: --samples-per-rank")
    add("--samples-per-rank", type=float, default=1.0, help="0.5: each pair on two ranks")
    add("--ranks-max", type=int, default=4096)
    add("--factor", type=int, default=4, help="from one row's ranks to the next's")
    add("--values", type=float, default=50.6e6, help="trainable values, P")
    add("--pair-ms", type=float, default=67.0, help="two evaluations on one GPU (assumed)")
    add("--normals-per-s", type=float, default=2e11, help="gaussian z applied on a GPU (assumed)")
    add("--signs-per-s", type=float, default=5e11, help="Rademacher z (assumed)")
    add("--directions", choices=("gaussian", "rademacher"), default="gaussian")
    add("--seed-pool", type=int, default=0, help="distinct directions at most (not in qzo); 0: any")
    add("--jitter", type=float, default=0.01, help="standard deviation of a rank's time (assumed)")
    add("--transport", choices=("nccl", "mpi"), default="nccl")
    add("--per-node", type=int, default=8, help="GPUs of a node")
    add("--ring-base-us", type=float, default=6.6, help="NCCL's cost model")
    add("--hop-inside-us", type=float, default=0.6, help="NCCL's cost model: NVLink")
    add("--hop-between-us", type=float, default=3.7, help="NCCL's cost model: network")
    add("--hop-mpi-us", type=float, default=5.0, help="one message between nodes (assumed)")
    predicted.set_defaults(action=predict)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(required=True)
    measured = commands.add_parser("measure", help="times whole steps on this machine's ranks")
    measured.add_argument("model")
    measured.add_argument("task")
    measured.add_argument("--out", type=Path, required=True)
    measured.add_argument("--batch", type=int, default=4)
    measured.add_argument("--rounds", type=int, default=3, help="the best of so many is kept")
    measured.add_argument("--ranks", type=lambda text: [int(word) for word in text.split(",")],
                          default=[2])
    measured.add_argument("--qzo", default=PROGRAM, help="the program")
    measured.set_defaults(action=measure)
    compared = commands.add_parser("compare", help="predictions against measured points")
    compared.add_argument("points", type=Path)
    compared.set_defaults(action=compare)
    add_predict(commands)
    given = parser.parse_args()
    given.action(given)


if __name__ == "__main__":
    main()
