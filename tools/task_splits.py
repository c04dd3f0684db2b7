"""Which file of a folder gives which split, and how many examples of each there are."""
from typing import NamedTuple

import numpy as np

from task_rows import READERS, TaskError, read_file

TEST = 1000  # examples of MeZO's test split, and the default
# A training file and, beside it, those of the evaluation split ("dev": GLUE and SuperGLUE publish
# its labels, and MeZO tests on it) and of another test split.
TRAIN_NAMES = ("train.tsv", "train.jsonl", "train.csv", "train.parquet", "train-v1.1.json",
               "drop_dataset_train.json")
DEV_NAMES = {"train-v1.1.json": ("dev-v1.1.json",),
             "drop_dataset_train.json": ("drop_dataset_dev.json",)}
DEV_STEMS, TEST_STEMS = ("val", "dev", "validation"), ("test",)
# Where there is no training file one file gives all splits: few-shot subsets come last.
SINGLE_NAMES = ("val.jsonl", "dev-v1.1.json", "xquad.en.json", "drop_dataset_dev.json",
                "drop_v0_dev.jsonl.gz", "fewglue_train.jsonl")
SPLITS = ("auto", "dev", "test")


class Files(NamedTuple):
    train: object
    others: list     # files that may give the test examples, the first choice first
    is_given: bool   # the user named it: --test-file
    expected: str = ""

    def all(self):
        return [self.train, *self.others]


class Rows(NamedTuple):
    train: list
    test: list       # None: the training rows give them too
    files: tuple     # training file, test file or None
    sentence: str    # where they come from


def first_of(folder, names):
    return next((folder / name for name in names if (folder / name).exists()), None)


def names_beside(train, split):
    """What the files of a split may be called, beside a training file."""
    dev = DEV_NAMES.get(train.name, [f"{stem}{train.suffix}" for stem in DEV_STEMS])
    test = [f"{stem}{train.suffix}" for stem in TEST_STEMS]
    return {"auto": [*dev, *test], "dev": dev, "test": test}[split]


def source_files(source, test_file, split):
    """The training file of a file or folder and what may be beside it."""
    if not source.exists():
        raise TaskError(f"{source}: no such file or folder")
    if test_file is not None:
        if not test_file.exists() and (source / test_file).exists():
            test_file = source / test_file
        if not test_file.exists():
            raise TaskError(f"--test-file {test_file}: no such file")
    given = [] if test_file is None else [test_file]
    if split != "auto" and (given or not first_of(source, TRAIN_NAMES)):
        raise TaskError(f"--test-split {split}: expected a folder with files of two splits or more "
                        "as SOURCE, and no --test-file")
    if source.is_file():
        return Files(source, given, True)
    train = first_of(source, TRAIN_NAMES)
    if train is None:
        single = first_of(source, SINGLE_NAMES)
        if single is None:
            raise TaskError(f"{source}: expected a file, or a folder with one of "
                            f"{', '.join(TRAIN_NAMES + SINGLE_NAMES)}; other names: a file of "
                            f"{', '.join(READERS)} as SOURCE and another as --test-file")
        return Files(single, given, True)
    if given:
        return Files(train, given, True)
    found = [first_of(source, names_beside(train, one))
             for one in (("dev", "test") if split == "auto" else (split,))]
    return Files(train, [path for path in found if path], False,
                 ", ".join(names_beside(train, split)))


def has_labels(raw, convert, check):
    """Whether the first row is an example; GLUE's and SuperGLUE's own test files have no labels."""
    try:
        check(convert(raw[:1])[0])
        return True
    except (TaskError, IndexError):
        return False


def read_rows(files, convert, check, count):
    """convert: rows of a file to rows of the task; check: refuses one that is no example. The
    evaluation split gives the test examples, unless more than MeZO's 1000 are wanted and only the
    test split has them."""
    train = convert(read_file(files.train))
    if not train:
        raise TaskError(f"{files.train}: expected rows, found none")
    check(train[0])  # what is wrong with both files is said of the first
    labelled, unlabelled = [], []
    for path in files.others:
        raw = read_file(path)
        if files.is_given or has_labels(raw, convert, check):
            labelled.append((path, convert(raw)))
        else:
            unlabelled.append(path)
    if not labelled and files.is_given:
        return Rows(train, None, (files.train, None), f"train, dev and test from {files.train}")
    if not labelled:
        raise TaskError(f"{files.train.parent}: expected one of {files.expected} with labels "
                        f"beside {files.train.name}, or --test-file")
    enough = [one for one in labelled if count <= TEST or len(one[1]) >= count]
    path, test = (enough or labelled)[0]
    sentence = f"train and dev from {files.train}, test from {path} ({len(test)} rows)"
    sentence += "".join(f"; {other.name} has no labels" for other in unlabelled)
    for other, rows in labelled:
        if other != path:
            split = "dev" if path == labelled[-1][0] else "test"
            sentence += f"; --test-split {split} takes the {len(rows)} of {other.name}"
    return Rows(train, test, (files.train, path), sentence)


def permuted(rows, count, seed):
    """The first `count` of one permutation, as MeZO draws them."""
    return [rows[i] for i in np.random.RandomState(seed).permutation(len(rows))[:count]]


def split_rows(rows, given, dev_count):
    """(train, dev, test). MeZO draws train and dev together and cuts dev from their end, so a small
    set loses training examples: WSC's 554 give 54 and 500. Without test rows, test examples are the
    next of the same permutation."""
    wanted = given.train + dev_count
    drawn = permuted(rows.train, wanted if rows.test is not None else None, given.seed)
    rest, drawn = drawn[wanted:], drawn[:wanted]
    keep = max(len(drawn) - dev_count, 0)
    train, dev = drawn[:keep], drawn[keep:]
    if rows.test is None:
        return train, dev, rest[: given.test]
    return train, dev, permuted(rows.test, given.test, given.seed)


def fitting(rows, given, dev_count):
    """Numbers of examples that these rows have: a quarter each for dev and test (where test rows
    are not apart), at most what was asked for."""
    count, parts = len(rows.train), 3 if rows.test is None else 2
    quarter = max(count // 4, 1)
    dev, test = min(dev_count, quarter), min(given.test, quarter) if parts == 3 else 0
    numbers = [f"--train {min(given.train, count - dev - test)}", f"--dev {dev}"]
    return " ".join(numbers + ([f"--test {test}"] if parts == 3 else []))


def check_counts(rows, parts, given, dev_count):
    """Each split has examples; no test examples have to be asked for (--test 0)."""
    found, place = dict(zip(("train", "dev", "test"), map(len, parts))), rows.files[0] or "the hub"
    least = 2 + (rows.test is None and given.test > 0)
    if min(found["train"], found["dev"]) > 0 and (found["test"] > 0 or given.test == 0):
        return
    if rows.test is not None and found["train"] and found["dev"]:
        raise TaskError(f"{rows.files[1] or place}: expected rows for test, found none")
    if len(rows.train) < least:
        raise TaskError(f"{place}: expected {least} rows or more, found {len(rows.train)}")
    has_rest = rows.test is None and found["train"] and found["dev"]
    raise TaskError(f"{place}: its {len(rows.train)} rows give {found['train']} train, "
                    f"{found['dev']} dev and {found['test']} test examples of --train "
                    f"{given.train}, --dev {dev_count}"
                    f"{'' if rows.test is not None else f' and --test {given.test}'}; what fits: "
                    f"{fitting(rows, given, dev_count)}"
                    f"{', or --test 0 for none' if has_rest else ''}")
