"""Reads an output folder of `qzo run` through the program, for the tools that show results or pass
them on."""
import csv
import json
import math
import subprocess
from pathlib import Path

PROGRAM = str(Path(__file__).parent.parent / "build" / "qzo")
CLIPPED = 4  # the flag of a record whose gradient exceeded the clip
CLEAN = 32  # that of a loss without perturbation


class ResultsError(Exception):
    """Something that was needed and not found."""


def run_qzo(qzo, *words):
    try:
        done = subprocess.run([qzo, *words], capture_output=True, text=True, check=False)
    except OSError as error:
        raise ResultsError(f"{qzo}: {error.strerror}; --qzo names the program") from error
    if done.returncode != 0:
        raise ResultsError(done.stderr.strip().splitlines()[-1].removeprefix("qzo: "))
    return done.stdout


def finite(value):
    """NaN and infinity have no place in JSON."""
    return value if value is not None and math.isfinite(value) else None


def read_sweep(qzo, folder):
    """`qzo report --json`: name, and trials in grid order."""
    return json.loads(run_qzo(qzo, "report", str(folder), "--json"))


def read_steps(qzo, folder, trial):
    """[(step, mean of loss+ and loss- over its records, [|gradient|], records clipped)]."""
    steps = []
    lines = run_qzo(qzo, "journal", str(folder), str(trial), "--csv").splitlines()
    for row in csv.DictReader(lines):
        step, loss = int(row["step"]), (float(row["loss_plus"]) + float(row["loss_minus"])) / 2
        if not steps or steps[-1][0] != step:
            steps.append((step, [], [], []))
        steps[-1][1].append(loss)
        if int(row["flags"]) & CLEAN:
            continue  # a loss without perturbation has no gradient
        steps[-1][2].append(abs(float(row["gradient"])))
        steps[-1][3].append(int(row["flags"]) & CLIPPED != 0)
    return [(step, sum(losses) / len(losses), gradients, sum(clipped))
            for step, losses, gradients, clipped in steps]


def read_evaluations(qzo, folder, trial):
    """[(step, split, score, loss)]: the lines "EVAL STEP SPLIT score S loss L" of a journal."""
    lines = run_qzo(qzo, "journal", str(folder), str(trial)).splitlines()
    words = [line.split() for line in lines if line.startswith("EVAL ")]
    return [(int(w[1]), w[2], float(w[4]), float(w[6])) for w in words]
