#!/usr/bin/env python3
"""What settings cost and reach at equal forward passes, as Markdown: DIR ... [--score S | --loss
L] [--by SETTING ...] [--across SETTING].

One line for all trials of the output folders that share the settings of --by; its cells hold one
entry per value of --across (the learning rate), each over their seeds: the median of the forward
passes that training took until dev first scored S, or had a loss of L ("-": most never did); the
dev loss before; dev score and dev loss at the end, mean and 95 % interval (Student's t); how large
the gradients of all entries are, without their sign; the share of them that was clipped. Forward
passes are those of a step's records, evaluations apart. How much the entries of a cell differ is
how much the setting of --across matters. docs/measurements.md holds such tables.
"""
import csv
import io
import math
import statistics
import subprocess

import command_line

BY = ("perturbation", "update_rule", "samples_per_step")
# Of Student's t by degrees of freedom, 97.5 %.
T = {1: 12.706, 2: 4.303, 3: 3.182, 4: 2.776, 5: 2.571, 6: 2.447, 7: 2.365, 8: 2.306, 9: 2.262}
Z = 1.959964  # ... of infinitely many
REPORTED = ("model", "task", "seed")  # a journal has digests of these, and two seeds


def output_of(*command):
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


class Trial:
    """One journal: settings, evaluations of a batch per step, dev scores, clipped gradients.

    A journal leaves out a later setting at its default, and its sweep may name it all the same: so
    settings are the journal's, or trials of one setting in two folders would differ.
    """

    def __init__(self, program, folder, row):
        """row: of the report, which names a swept model as the sweep does."""
        self.settings = {key: row[key] for key in REPORTED if key in row}
        self.dev = []
        steps, evaluations, clipped, self.gradients = 0, 0, 0, []
        for line in output_of(program, "journal", folder, row["trial"]).splitlines():
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
                clipped += "clipped" in words
                if not is_clean and not is_candidate:
                    self.gradients.append(abs(float(words[words.index("gradient") + 1])))
            elif line.startswith("  ") and "=" in line:
                key, _, value = line.strip().partition("=")
                self.settings.setdefault(key, value)
        self.clipped = clipped / max(len(self.gradients), 1)
        self.micro_batches = math.ceil(int(self.settings["batch"])
                                       / int(self.settings["micro_batch"]))
        self.evaluations_per_step = evaluations / max(steps, 1)

    def evaluations_to(self, number, is_loss=False):
        """Of a batch, until dev had this score, or this loss; or infinity."""
        steps = [step for step, score, loss in self.dev
                 if (loss <= number if is_loss else score >= number)]
        return round(min(steps) * self.evaluations_per_step) if steps else math.inf

    def passes_to(self, goal):
        return self.evaluations_to(*goal) * self.micro_batches

    def value_of(self, setting):
        text = self.settings.get(setting, "default")  # not in the canonical text
        if setting == "model":
            return text.rstrip("/").split("/")[-1]
        try:
            return f"{float(text):g}"
        except ValueError:
            return text

    def place(self, settings):
        return tuple(self.value_of(setting) for setting in settings)


def student_t(freedom):
    """Beyond the table by the expansion in 1 / freedom, to 1e-3."""
    if freedom in T:
        return T[freedom]
    terms = (Z, (Z**3 + Z) / 4, (5 * Z**5 + 16 * Z**3 + 3 * Z) / 96,
             (3 * Z**7 + 19 * Z**5 + 17 * Z**3 - 15 * Z) / 384)
    return sum(term / freedom**power for power, term in enumerate(terms))


def interval(values, digits):
    """mean +- half the width of its interval."""
    mean = f"{statistics.mean(values):.{digits}f}"
    if len(values) < 2:
        return mean
    half = student_t(len(values) - 1) * statistics.stdev(values) / math.sqrt(len(values))
    return f"{mean} ± {half:.{digits}f}"


def sizes_of(gradients):
    """The median of what is finite, and what 99 % of it stays below."""
    sizes = sorted(filter(math.isfinite, gradients))
    return ", ".join(f"{sizes[int(share * (len(sizes) - 1))]:.3g}" for share in (0.5, 0.99))


def order_of(entry):
    try:
        return float(entry[0]), ""
    except ValueError:
        return math.inf, entry[0]


def cells_of(entries, goal):
    """entries: lists of trials, one per value of --across."""
    medians = [statistics.median_high(trial.passes_to(goal) for trial in trials)
               for trials in entries]
    return [", ".join("-" if math.isinf(count) else str(count) for count in medians),
            str(sum(math.isinf(trial.passes_to(goal)) for trials in entries for trial in trials)),
            ", ".join(sorted({f"{trial.dev[0][2]:.3f}" for trials in entries for trial in trials})),
            ", ".join(interval([trial.dev[-1][1] for trial in trials], 3) for trials in entries),
            ", ".join(interval([trial.dev[-1][2] for trial in trials], 3) for trials in entries),
            sizes_of([size for trials in entries for trial in trials for size in trial.gradients]),
            ", ".join(f"{100 * statistics.mean(trial.clipped for trial in trials):.1f}"
                      for trials in entries)]


def trials_of(program, folders):
    """Those that ended, each once."""
    seen = set()
    for folder in folders:
        table = output_of(program, "report", folder, "--csv")
        for row in csv.DictReader(io.StringIO(table)):
            if row["status"] in ("waiting", "running") or row["id"] in seen:
                continue
            seen.add(row["id"])
            yield Trial(program, folder, row)


def main():
    parser = command_line.parser_of(__doc__)
    parser.add_argument("folders", nargs="+")
    parser.add_argument("--qzo", default="build/qzo")
    parser.add_argument("--score", type=float, default=0.95)
    parser.add_argument("--loss", type=float)
    parser.add_argument("--by", nargs="+", default=BY)
    parser.add_argument("--across", default="learning_rate")
    given = parser.parse_args()
    goal = (given.score, False) if given.loss is None else (given.loss, True)
    lines = {}
    for trial in trials_of(given.qzo, given.folders):
        entries = lines.setdefault(trial.place(given.by), {})
        entries.setdefault(trial.value_of(given.across), []).append(trial)
    head = [*given.by, given.across, "trials each", f"passes to {goal[0]:g}", "never",
            "dev loss before", "dev score at the end", "dev loss at the end",
            "gradient: median, 99 %", "clipped, %"]
    print("| " + " | ".join(head) + " |")
    print("| " + " | ".join(["---"] * len(head)) + " |")
    for place, found in lines.items():
        entries = dict(sorted(found.items(), key=order_of))
        counts = [str(len(trials)) for trials in entries.values()]
        each = counts[0] if len(set(counts)) == 1 else ", ".join(counts)
        cells = [*place, ", ".join(entries), each, *cells_of(list(entries.values()), goal)]
        print("| " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
