#!/usr/bin/env python3
"""What update rules cost and reach at equal forward passes, as Markdown: DIR [--qzo PROGRAM]
[--score S].

One line per setting of the trials in an output folder, over their seeds: the forward passes that
training took until the dev split first scored S (sorted, "-" for never) and their median; dev score
and dev loss at the end, mean and 95 % interval (Student's t); and the share of gradients that were
clipped. Forward passes are those of a step's records, evaluations apart. The lines of one
perturbation, rule and number of samples stand together: how much they differ is how much the
learning rate matters. docs/measurements.md holds such a table.
"""
import argparse
import csv
import io
import math
import statistics
import subprocess

SHOWN = ("perturbation", "update_rule", "samples_per_step", "learning_rate")
# Of Student's t by degrees of freedom, 97.5 %.
T = {1: 12.706, 2: 4.303, 3: 3.182, 4: 2.776, 5: 2.571, 6: 2.447, 7: 2.365, 8: 2.306, 9: 2.262}


def output_of(*command):
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


class Trial:
    """One journal: settings, evaluations of a batch per step, dev scores, clipped gradients."""

    def __init__(self, program, folder, trial):
        self.settings, self.dev = {}, []
        steps, evaluations, gradients, self.clipped = 0, 0, 0, 0
        for line in output_of(program, "journal", folder, trial).splitlines():
            words = line.split()
            if words[:1] == ["EVAL"] and words[2] == "dev":
                self.dev.append((int(words[1]), float(words[4]), float(words[6])))
            elif words[:1] == ["STEP"]:
                steps += 1
            elif words[:1] == ["sample"]:
                is_clean, is_one_sided = "clean" in words, "one-sided" in words
                is_candidate = "candidate" in words
                evaluations += 1 if is_clean or is_one_sided or is_candidate else 2
                evaluations += is_one_sided and words[1] == "0"  # the loss that all share
                gradients += not is_clean and not is_candidate
                self.clipped += "clipped" in words
            elif line.startswith("  ") and "=" in line:
                key, _, value = line.strip().partition("=")
                self.settings[key] = value
        self.clipped /= max(gradients, 1)
        self.micro_batches = math.ceil(int(self.settings["batch"])
                                       / int(self.settings["micro_batch"]))
        self.evaluations_per_step = evaluations / max(steps, 1)

    def evaluations_to(self, score):
        """Of a batch, until the dev split scored `score`, or infinity."""
        steps = [step for step, found, _ in self.dev if found >= score]
        return round(min(steps) * self.evaluations_per_step) if steps else math.inf

    def passes_to(self, score):
        return self.evaluations_to(score) * self.micro_batches

    def place(self):
        return tuple(f"{float(self.settings[key]):g}" if key == "learning_rate"
                     else self.settings[key] for key in SHOWN)


def interval(values, digits):
    """mean +- half the width of its interval."""
    half = T[len(values) - 1] * statistics.stdev(values) / math.sqrt(len(values))
    return f"{statistics.mean(values):.{digits}f} ± {half:.{digits}f}"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder")
    parser.add_argument("--qzo", default="build/qzo")
    parser.add_argument("--score", type=float, default=0.95)
    given = parser.parse_args()
    rows = csv.DictReader(io.StringIO(output_of(given.qzo, "report", given.folder, "--csv")))
    groups = {}
    for row in rows:
        trial = Trial(given.qzo, given.folder, row["trial"])
        groups.setdefault(trial.place(), []).append(trial)
    head = [*SHOWN, f"passes to {given.score:g}", "median", "dev score at the end",
            "dev loss at the end", "clipped"]
    print("| " + " | ".join(head) + " |")
    print("| " + " | ".join(["---"] * len(head)) + " |")
    for place, trials in groups.items():
        passes = sorted(trial.passes_to(given.score) for trial in trials)
        shown = ["-" if math.isinf(count) else str(count) for count in passes]
        median = statistics.median_high(passes)
        cells = [*place, ", ".join(shown), "-" if math.isinf(median) else str(median),
                 interval([trial.dev[-1][1] for trial in trials], 3),
                 interval([trial.dev[-1][2] for trial in trials], 3),
                 f"{100 * statistics.mean(trial.clipped for trial in trials):.1f} %"]
        print("| " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
