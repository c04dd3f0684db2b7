#!/usr/bin/env python3
"""Follows a trial with an independent program: MODEL TASK JOURNAL.csv SETTING=VALUE...

JOURNAL.csv is what `qzo journal --csv` prints; the settings are those of the trial. Seeds,
directions and the order of the examples are drawn again (Philox in NumPy, Box-Muller in float64),
the losses of every step are computed in PyTorch (llama_torch.py, float64) at masters that follow
the journal's factors k, and the factors are derived again from the journal's losses by the update
rule's formula as its source gives it. Exit code 1 and a line per finding where they differ.
Needs requirements-oracle.txt.
"""
import argparse
import csv
import itertools
import math
import statistics
import sys
from pathlib import Path

import numpy as np
import torch
import xxhash

from llama_torch import Llama, Split, classification_loss, option_scores

# Of a loss: LOSS_ERROR of docs/error-analysis.md (4e-7 for losses near 0.69 at the initial scales),
# and as much again for masters that differ by roundings and for the larger logits of moved scales.
LOSS_LIMIT = 1e-6
# k is rounded once to fp32 from a gradient that is rounded once.
FACTOR_LIMIT = 4 * 2.0**-24
NOISE, SEED, DATA = 0, 1, 2  # purposes of Philox
CLEAN = 32  # the flag of a loss without perturbation
GUIDED = 1 << 7  # ... the pair along the guiding vector

DEFAULTS = {
    "batch": "16", "samples_per_step": "1", "learning_rate": "1e-7", "eps": "1e-3", "clip": "100",
    "clip_factor": "3", "clip_memory": "100", "clip_quantile": "0.9", "moment_memory": "100",
    "momentum": "0.9", "curvature_power": "0.1", "guide_share": "0.5", "floor": "1e-7",
    "directions": "", "perturbation": "absolute", "update_rule": "plain",
    "batches": "shared", "seed": "0",
}


# --- what is drawn ---

def philox(key, counter, word2, purpose):
    """Philox4x32-10: (4, n) words of the 64-bit counters."""
    counter = np.atleast_1d(np.asarray(counter, np.uint64))
    low = np.uint64(0xFFFFFFFF)
    c = [counter & low, counter >> np.uint64(32), np.full_like(counter, word2),
         np.full_like(counter, purpose)]
    k0, k1 = key & 0xFFFFFFFF, key >> 32
    for _ in range(10):
        first, second = c[0] * np.uint64(0xD2511F53), c[2] * np.uint64(0xCD9E8D57)
        c = [(second >> np.uint64(32)) ^ c[1] ^ np.uint64(k0), second & low,
             (first >> np.uint64(32)) ^ c[3] ^ np.uint64(k1), first & low]
        k0, k1 = (k0 + 0x9E3779B9) & 0xFFFFFFFF, (k1 + 0xBB67AE85) & 0xFFFFFFFF
    return np.stack(c)


def seed_of(trial_seed, step, sample):
    words = philox(trial_seed, step, sample, SEED)
    return int(words[0, 0]) | int(words[1, 0]) << 32


def directions_of_tensor(kind, seed, name, count):
    tensor_id = xxhash.xxh32(name.encode()).intdigest()
    words = philox(seed, np.arange((count + 3) // 4), tensor_id, NOISE)
    if kind == "rademacher":
        return (1.0 - 2.0 * (words >> np.uint64(31)).astype(np.float64)).T.reshape(-1)[:count]
    u = (words[0::2].astype(np.float64) + 0.5) / 2**32
    top, rest = words[1::2] >> np.uint64(30), words[1::2] & np.uint64(0x3FFFFFFF)
    place = rest.astype(np.float64) / 2**30
    place = np.where(place >= 0.5, place - 1.0, place)  # within half a quarter turn
    radius, angle = np.sqrt(-2.0 * np.log(u)), (top.astype(np.float64) + place) * math.pi / 2
    pairs = np.stack((radius * np.cos(angle), radius * np.sin(angle)), 1)  # (2, 2, blocks)
    return pairs.reshape(4, -1).T.reshape(-1)[:count]


def order_of(data_seed, count):
    """The examples one after another: Fisher-Yates per epoch."""
    for epoch in itertools.count():
        places, words = list(range(count)), philox(data_seed, np.arange(count), epoch, DATA)[0]
        for i in range(count - 1, 0, -1):
            j = int(words[i]) * (i + 1) >> 32
            places[i], places[j] = places[j], places[i]
        yield from places


class Course:
    """The model and its masters along the journal."""

    def __init__(self, model, task, given):
        self.given, self.model = given, Llama(model, torch.float64)
        self.kind = given["directions"] or DIRECTIONS.get(given["update_rule"], "gaussian")
        self.split = Split(task, "train")
        self.masters = self.model.flat_scales().clone()
        self.initial = self.masters.clone()
        self.velocity = torch.zeros_like(self.masters)
        order = order_of(int(given["seed"]), self.split.count())
        size, samples = int(given["batch"]), int(given["samples_per_step"])
        self.own = given["batches"] == "per_sample" and samples > 1
        self.batches = (list(itertools.islice(order, size)) for _ in itertools.count())
        self.samples = samples

    def draw(self):
        """The batches of a step, one per sample."""
        if self.own:
            return [next(self.batches) for _ in range(self.samples)]
        return [next(self.batches)] * self.samples

    def direction(self, seed):
        parts = [directions_of_tensor(self.kind, seed, f"{name}.scales",
                                      self.model.scales[name].numel())
                 for name in self.model.modules()]
        z = torch.from_numpy(np.concatenate(parts))
        return self.initial * z if self.given["perturbation"] == "relative" else z

    def loss(self, shift, batch):
        self.model.set_flat_scales(self.masters + shift)
        with torch.no_grad():
            scores = option_scores(self.model, *self.split.batch(batch)[:2])
            return float(classification_loss(scores, self.split.batch(batch)[2]))

    def move(self, update):
        floor = float(self.given["floor"])
        if self.given["update_rule"] == "momentum":
            self.velocity = float(self.given["momentum"]) * self.velocity + update
            update = self.velocity
        self.masters = (self.masters + update).clamp(min=floor)


# --- update rules: the factors of a step from its losses; state in `state` ---

class Losses:
    """Of one step: plus and minus by sample, the clean one where the rule takes it, gradients."""

    def __init__(self, given, rows):
        eps = float(given["eps"])
        self.clean = [fp32(row["loss_plus"]) for row in rows if int(row["flags"]) & CLEAN]
        self.guided = [(fp32(row["loss_plus"]), fp32(row["loss_minus"])) for row in rows
                       if int(row["flags"]) & GUIDED]
        rows = [row for row in rows if not int(row["flags"]) & (CLEAN | GUIDED)]
        self.plus = [fp32(row["loss_plus"]) for row in rows]
        self.minus = [fp32(row["loss_minus"]) for row in rows]
        width = eps if given["update_rule"] in ONE_SIDED else 2 * eps
        self.gradients = [(plus - minus) / width for plus, minus in zip(self.plus, self.minus)]


def bounded(gradients, bound):
    return [max(-bound, min(bound, g)) for g in gradients]


def plain(given, state, losses):
    return bounded(losses.gradients, float(given["clip"]))


def mean_clip(given, state, losses):
    gradients = losses.gradients
    mean, seen = state.get("mean", 0.0), state.get("seen", 0)
    bound = float(given["clip"])
    if seen:
        bound = min(bound, float(given["clip_factor"]) * mean)
    for size in (min(abs(g), bound) for g in gradients):
        seen = min(seen + 1, int(given["clip_memory"]))
        mean += (size - mean) / seen
    state.update(mean=mean, seen=seen)
    return bounded(gradients, bound)


def quantile_clip(given, state, losses):
    gradients = losses.gradients
    last = state.setdefault("last", [])
    bound = float(given["clip"])
    if last:
        bound = min(bound, sorted(last)[math.ceil(float(given["clip_quantile"]) * len(last)) - 1])
    last += [abs(g) for g in gradients]
    del last[: -int(given["clip_memory"])]
    return bounded(gradients, bound)


def meazo(given, state, losses):
    decay = 1 - 1 / int(given["moment_memory"])
    gradients = bounded(losses.gradients, float(given["clip"]))
    state["moment"] = (decay * state.get("moment", 0.0)
                       + (1 - decay) * statistics.fmean(gradients) ** 2)
    state["steps"] = state.get("steps", 0) + 1
    root = math.sqrt(state["moment"] / (1 - decay ** state["steps"])) + 1e-8
    return [g / root for g in gradients]


def fzoo(given, state, losses):
    spread = statistics.pstdev(losses.plus)
    return [g * float(given["eps"]) / spread
            for g in bounded(losses.gradients, float(given["clip"]))]


def spsa_1_5(given, state, losses):
    eps, (clean,) = float(given["eps"]), losses.clean
    bends = [(plus - 2 * clean + minus) / eps**2
             for plus, minus in zip(losses.plus, losses.minus)]
    return [g / max(1.0, abs(bend) ** float(given["curvature_power"]))
            for g, bend in zip(bounded(losses.gradients, float(given["clip"])), bends)]


def guide_of(given, losses):
    """The share of each sample in the guiding vector."""
    by_loss = sorted(range(len(losses)), key=lambda i: losses[i])
    low = int(float(given["guide_share"]) * len(losses))
    return [1 / low if i in by_loss[:low] else -1 / (len(losses) - low)
            for i in range(len(losses))]


def mezo_gv(given, state, losses):
    """Times the number of samples, by which `follow_step` divides."""
    (plus, minus), = losses.guided
    slope, = bounded([(plus - minus) / (2 * float(given["eps"]))], float(given["clip"]))
    return [slope * share * len(losses.plus) for share in guide_of(given, losses.plus)]


RULES = {rule.__name__: rule
         for rule in (plain, mean_clip, quantile_clip, meazo, fzoo, spsa_1_5, mezo_gv)}
RULES["momentum"] = plain  # its state is a vector, see Course.move
ONE_SIDED, DIRECTIONS = {"fzoo"}, {"fzoo": "rademacher", "spsa_1_5": "rademacher"}


# --- the comparison ---

class Findings:
    def __init__(self):
        self.lines, self.largest = [], {}

    def compare(self, what, found, expected, limit):
        error = abs(found - expected)
        self.largest[what] = max(self.largest.get(what, 0.0), error / limit)
        if not error <= limit:
            self.lines.append(f"{what}: found {found!r}, expected {expected!r} within {limit:.3g}")


def fp32(text):
    """The number that nine digits stand for."""
    return float(np.float32(text))


def follow_step(course, rows, number, state, findings):
    given, eps = course.given, float(course.given["eps"])
    batches, directions, update = course.draw(), [], 0.0
    for row in rows:
        if int(row["flags"]) & CLEAN:
            loss = course.loss(0.0, batches[0])
            findings.compare("clean", fp32(row["loss_plus"]), loss, LOSS_LIMIT * abs(loss))
    pairs = [row for row in rows if int(row["flags"]) & GUIDED]
    factors = RULES[given["update_rule"]](given, state, Losses(given, rows))
    rows = rows[: course.samples]
    for sample, row in enumerate(rows):
        where = f"step {number} sample {sample}"
        seed = seed_of(int(given["seed"]), number, sample)
        if int(row["seed"]) != seed:
            findings.lines.append(f"{where}: seed {row['seed']}, expected {seed}")
        z = course.direction(seed)
        directions.append(z)
        minus = eps if pairs else 0.0 if given["update_rule"] in ONE_SIDED else -eps
        for name, c in (("loss_plus", eps), ("loss_minus", minus)):
            loss = course.loss(c * z, batches[sample])
            findings.compare(f"{name}", fp32(row[name]), loss, LOSS_LIMIT * abs(loss))
    for pair in pairs:
        shares = guide_of(given, [fp32(row["loss_plus"]) for row in rows])
        guide = sum(share * z for share, z in zip(shares, directions))
        for name, c in (("loss_plus", eps), ("loss_minus", -eps)):
            loss = course.loss(c * guide, batches[0])
            findings.compare("guided", fp32(pair[name]), loss, LOSS_LIMIT * abs(loss))
    rate = float(given["learning_rate"]) / course.samples
    for row, factor, z in zip(rows, factors, directions):
        k = fp32(row["k"])
        findings.compare("k", k, rate * factor, FACTOR_LIMIT * abs(rate * factor) + 1e-45)
        update = update - k * z
    course.move(update)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("task", type=Path)
    parser.add_argument("journal", type=Path)
    parser.add_argument("settings", nargs="*")
    arguments = parser.parse_args()
    given = DEFAULTS | dict(setting.split("=") for setting in arguments.settings)
    torch.set_num_threads(1)
    course, state, findings = Course(arguments.model, arguments.task, given), {}, Findings()
    with arguments.journal.open(newline="") as file:
        steps = itertools.groupby(csv.DictReader(file), lambda row: int(row["step"]))
        for number, rows in steps:
            follow_step(course, list(rows), number, state, findings)
    for line in findings.lines:
        print(line)
    shown = ", ".join(f"{what} {error:.2g}" for what, error in findings.largest.items())
    print(f"{given['update_rule']}: errors over their limits: {shown}")
    sys.exit(bool(findings.lines) or not findings.largest)


if __name__ == "__main__":
    main()
