#!/usr/bin/env python3
"""What a finished sweep learnt, as Markdown: DIR [--qzo PROGRAM] [--test-examples N] [--score S].

One line per combination of swept settings, over the seeds: best dev score, test score at that step,
and with --score the evaluations of a batch that training took until the dev split first scored S.
docs/measurements.md holds such tables.
"""
import argparse
import csv
import io
import math
import statistics

from compare_estimators import Trial, output_of

SEEDS = ("seed", "data_seed", "noise_seed")
REPORT_COLUMNS = 10  # the fixed ones; the swept settings follow


def spread(values):
    """mean (least to most)."""
    return f"{statistics.mean(values):.3f} ({min(values):.3f} to {max(values):.3f})"


def standard_error(score, examples):
    return math.sqrt(score * (1 - score) / examples)


def lines_of(given):
    rows = list(csv.DictReader(io.StringIO(output_of(given.qzo, "report", given.folder, "--csv"))))
    swept = [name for name in list(rows[0])[REPORT_COLUMNS:] if name not in SEEDS]
    head = [*swept, "seeds", "zero-shot dev", "dev at the best step", "test there"]
    if given.test_examples:
        head.append("standard error of a test score")
    if given.score is not None:
        head.append(f"evaluations to dev {given.score:g}")
    yield head
    yield ["---"] * len(head)
    groups = {}
    for row in rows:
        groups.setdefault(tuple(row[name] for name in swept), []).append(row)
    for setting, trials in groups.items():
        test = [float(row["test_score"] or "nan") for row in trials]
        cells = [*setting, str(len(trials)), f"{float(trials[0]['zero_shot_dev']):.3f}",
                 spread([float(row["dev_score"]) for row in trials]), spread(test)]
        if given.test_examples:
            cells.append(f"{standard_error(statistics.mean(test), given.test_examples):.3f}")
        if given.score is not None:
            counts = [Trial(given.qzo, given.folder, row).evaluations_to(given.score)
                      for row in trials]
            cells.append(", ".join("never" if math.isinf(n) else str(n) for n in sorted(counts)))
        yield cells


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder")
    parser.add_argument("--qzo", default="build/qzo")
    parser.add_argument("--test-examples", type=int)
    parser.add_argument("--score", type=float)
    for cells in lines_of(parser.parse_args()):
        print("| " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
