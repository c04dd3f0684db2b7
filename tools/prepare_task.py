#!/usr/bin/env python3
"""Tokenizes a task into one prepared file (*.qzt): TASK|SOURCE [OUT] --tokenizer FOLDER [options].

TASK is one of the eleven of MeZO's protocol (sst2, rte, cb, boolq, wsc, wic, multirc, copa, record,
squad, drop); its rows come from --source, or from Hugging Face `datasets`. SOURCE is any other file
(JSONL, CSV, TSV, Parquet) or folder, with a template on the command line or in a --config file.
Training and development examples come by one NumPy permutation of the training rows, test examples
by the same seed from those of the evaluation split (dev or val). docs/task-file.md has the format,
the rules and examples.

    prepare_task.py rte rte.qzt --source RTE --tokenizer MODEL
    prepare_task.py reviews.jsonl out.qzt --tokenizer MODEL --test-file reviews_test.jsonl \\
        --template '{text} It was' --options ' bad' ' good' --label-field label
    prepare_task.py tickets.csv out.qzt --tokenizer MODEL --config tickets.yaml
"""
import argparse
import json
import os
import sys
from pathlib import Path

import numpy as np
import xxhash

import command_line
import tensor_file
import token_pieces
from task_encoder import Encoder, tokenizer_files
from task_protocol import TASKS, constant
from task_rows import TaskError, hub_rows, task_rows
from task_settings import GENERATED, LOSSES, METRICS, Template, check_options, check_score
from task_splits import (SPLITS, TEST, Rows, check_counts, permuted, read_rows, source_files,
                         split_rows)

DEV = 500
SEED_MAX = 2**32 - 1  # NumPy takes no larger one
OWN_KEYS = ("template", "options", "answer", "label_field", "loss", "metric")


def calibration_of(make, prompt):
    """`make` with a prompt that does not ask the question: what the options get then is the prior
    that surface form competition subtracts."""
    if prompt is None:
        raise TaskError("--sfc: the task has no calibration prompt (in a --config file the key "
                        "calibration), or no options to choose from")
    return lambda row: make(row)._replace(prompt=prompt(row))


def demonstrated(shots):
    """What stands before a prompt: right answers to other examples."""
    texts = [(shot.prompt + shot.candidates[shot.right[0]]).strip() for shot in shots]
    return "\n\n".join(texts).strip() + "\n\n" if texts else ""


def demonstrations(examples, rows, make, given):
    """In-context learning as MeZO does it: each of `examples` gets the first --shots of a
    permutation of its own, whose seed is one of a row of draws; shared, all get those of the
    permutation that the training examples come from."""
    count, seed = given.shots, given.seed
    if count == 0:
        return [""] * len(examples)
    if len(rows) < count:
        raise TaskError(f"--shots {count}: only {len(rows)} training examples")
    seeds = np.random.RandomState(seed).randint(0, 10000, len(examples))
    seeds = np.full_like(seeds, seed) if given.shots_shared else seeds
    texts = {seed: demonstrated([make(row) for row in permuted(rows, count, seed)])
             for seed in set(seeds.tolist())}
    return [texts[seed] for seed in seeds.tolist()]


def shuffled_labels(gold, seed):
    """A permutation of the labels that tells nothing of the old ones: examples of each old label
    get the new ones in the same proportions. A plain permutation of 1000 labels keeps a chance
    correlation of 3 %, which a model that knows the right feature does learn."""
    draw = np.random.default_rng(seed)
    order = np.lexsort((draw.random(len(gold)), gold))
    labels, counts = np.unique(gold, return_counts=True)
    # Each label stands at even distances in one sequence, which is dealt to the sorted examples.
    places = np.concatenate([(np.arange(count) + 0.5) / count for count in counts])
    out = np.empty_like(gold)
    out[order] = np.repeat(labels, counts)[np.argsort(places, kind="stable")]
    return out


def row_limit(encoder, example, prompt_only):
    """The longest row of a generated answer: MeZO leaves room for the tokens that may be
    generated behind the answer where it is trained, behind the prompt where it will be."""
    if encoder.max_length <= encoder.new_tokens + 1:
        raise TaskError(f"--max-length {encoder.max_length}: answers are generated, so expected "
                        f"more than {encoder.new_tokens + 1}")
    most = encoder.max_length - encoder.new_tokens
    if not prompt_only:
        return most
    text = example.prompt + example.candidates[0]
    answer = len(encoder.ids(text)) - len(encoder.ids(example.prompt))
    return min(most + answer, encoder.max_length)


def split_tensors(name, examples, encoder, is_generated, before=None, shuffle_seed=None):
    option_begin, token_begin, answers, gold, right, tokens = [0], [0], [], [], [], []
    for number, example in enumerate(examples):
        most = row_limit(encoder, example, name != "train") if is_generated else None
        for place, candidate in enumerate(example.candidates):
            ids, answer = encoder.option(before[number] if before else "", example.prompt,
                                         candidate, most)
            tokens.extend(ids)
            token_begin.append(len(tokens))
            answers.append(answer)
            right.append(place in example.right)
        option_begin.append(len(answers))
        gold.append(example.right[0])
    if shuffle_seed is not None:
        gold = shuffled_labels(np.array(gold), shuffle_seed)
    tensors = {f"{name}.option_begin": np.array(option_begin, np.int64),
               f"{name}.token_begin": np.array(token_begin, np.int64),
               f"{name}.answer_tokens": np.array(answers, np.int32),
               f"{name}.gold": np.array(gold, np.int32),
               f"{name}.tokens": np.array(tokens, np.int32)}
    if any(len(example.right) > 1 for example in examples):
        tensors[f"{name}.right"] = np.array(right, np.uint8)
    if any(example.references for example in examples):
        tensors.update(reference_tensors(name, examples))
    return tensors


def reference_tensors(name, examples):
    texts = [text.encode() for example in examples for text in example.references]
    counts = [len(example.references) for example in examples]
    return {f"{name}.reference_begin": np.cumsum([0, *counts]).astype(np.int64),
            f"{name}.reference_text_begin":
                np.cumsum([0, *map(len, texts)]).astype(np.int64),
            f"{name}.reference_bytes": np.frombuffer(b"".join(texts), np.uint8)}


def piece_tensors(encoder):
    pieces = token_pieces.pieces_of(encoder.tokenizer, encoder.vocab_size)
    begin = np.concatenate([[0], np.cumsum([len(piece) for piece in pieces])])
    return {"pieces.begin": begin.astype(np.int64),
            "pieces.bytes": np.frombuffer(b"".join(pieces), np.uint8)}


def write_task(path, tensors, metadata):
    """Adds the checksum: XXH3-64 of the payload, then of "key=value\\n" in ascending order."""
    tensors = {name: tensor_file.tensor_of(array) for name, array in tensors.items()}
    digest = xxhash.xxh3_64(tensor_file.payload_of(tensors)[1])
    for key in sorted(metadata):
        digest.update(f"{key}={metadata[key]}\n".encode())
    write_whole(Path(path), tensors, {**metadata, "checksum": digest.hexdigest()})


def write_whole(path, tensors, metadata):
    """All of a file or nothing: under another name first. A device or pipe is written as it is."""
    if path.exists() and not path.is_file():
        tensor_file.write(path, tensors, metadata)
        return
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        tensor_file.write(temporary, tensors, metadata)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def refuse_input_as_output(out, inputs):
    """Before anything is read: the file would be lost, and the next run would find its result."""
    if out.is_dir():
        raise TaskError(f"{out}: expected the name of a file to write, found a folder")
    for path in inputs:
        if path and out.exists() and path.exists() and out.samefile(path):
            raise TaskError(f"{out}: is read as an input ({path}) and would be overwritten: give "
                            "another OUT.qzt")


def user_settings(given):
    """The task of --config, with what the command line says on top."""
    settings = {}
    if given.config:
        try:
            import yaml
        except ImportError as error:
            raise TaskError("--config needs pyyaml: pip install -r tools/requirements.txt") \
                from error
        try:
            settings = yaml.safe_load(given.config.read_text(encoding="utf-8"))
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            raise TaskError(f"{given.config}: {error}") from error
        if not isinstance(settings, dict):
            raise TaskError(f"{given.config}: expected keys and values")
    for key in OWN_KEYS:
        if getattr(given, key) is not None:
            settings[key] = getattr(given, key)
    return settings


def load_own(given, files):
    settings = user_settings(given)
    try:
        template = Template(settings)
    except TaskError as error:
        raise TaskError(f"{given.config}: {error}" if given.config else str(error)) from error
    name = given.name or settings.get("name") or given.task or given.out.stem
    calibration = None if template.calibration is None else constant(template.calibration)
    rows = read_rows(files, lambda raw: raw, lambda row: example_of(name, template.example, row),
                     given.test)
    return {"name": name, "make": template.example, "loss": template.loss,
            "metric": template.metric, "dev": DEV, "calibration": calibration, "rows": rows,
            "template": template.prompt, "options": template.options}


def reworded(make, options):
    """The task's rows and prompt with other words."""
    def example(row):
        made = make(row)
        if len(made.candidates) != len(options):
            raise TaskError(f"--options: expected {len(made.candidates)} as the task has, found "
                            f"{len(options)}")
        return made._replace(candidates=list(options))
    return example


def load_known(given, task, files):
    known, make = TASKS[task], TASKS[task].example
    for key in ("answer", "label_field"):
        if getattr(given, key) is not None:
            raise TaskError(f"--{key.replace('_', '-')}: {task} has its own; expected only beside "
                            "--template or --config")
    if given.options:
        if known.loss != "classification":
            raise TaskError(f"--options: {task} has options or answers of its own in every row")
        check_options(given.options)
        make = reworded(make, given.options)
    loss, metric = given.loss or known.loss, given.metric or known.metric
    check_score(loss, metric, known.metric not in GENERATED)
    if files is None:
        rows = Rows(*hub_rows(task, known.hub), (None, None), "train and dev from {0} {2}, test "
                    "from its {3}".format(*known.hub))
    else:
        rows = read_rows(files, lambda raw: task_rows(task, raw),
                         lambda row: example_of(task, make, row), given.test)
    return {"name": given.name or task, "make": make, "loss": loss, "metric": metric,
            "dev": known.dev, "calibration": known.calibration, "rows": rows,
            "template": f"task {task}", "options": given.options}


def load(given):
    """What is prepared: its name, loss, metric, `make` (row to Example), number of dev examples
    and Rows."""
    task = given.task or (given.source_or_task if given.source_or_task in TASKS else None)
    source = given.source or (Path(given.source_or_task)
                              if given.source_or_task != task else None)
    files = source_files(source, given.test_file, given.test_split) if source else None
    refuse_input_as_output(given.out, (*(files.all() if files else ()), given.config,
                                       *tokenizer_files(given.tokenizer)))
    if task and not (given.template or given.config):
        loaded = load_known(given, task, files)
    elif source is None and task:
        raise TaskError(f"{task} is a task: a template of your own needs its rows (--source, or "
                        f"./{task} for a folder of that name)")
    elif source is None:
        raise TaskError(f"{given.source_or_task}: no such file, and no task of that name; "
                        f"tasks: {', '.join(TASKS)}")
    else:
        loaded = load_own(given, files)
    make, dev = loaded["make"], loaded["dev"] if given.dev is None else given.dev
    return {**loaded, "dev": dev,
            "encoded": calibration_of(make, loaded["calibration"]) if given.sfc else make}


def example_of(name, make, row):
    """An example with a right candidate; what is wrong with a row is said with its place."""
    try:
        example = make(row)
        right = [place for place in example.right if place >= len(example.candidates)]
        if not example.right or right:
            raise TaskError(f"expected a right option below {len(example.candidates)}, found "
                            f"{right[0] if right else 'none'}")
        return example
    except TaskError as error:
        raise TaskError(f"{row.place}: {error}") from error
    except (KeyError, IndexError, AttributeError, TypeError) as error:
        raise TaskError(f"{row.place}: not rows of {name}: {error!r}; found the fields "
                        f"{', '.join(row)}") from error


def prepare(given):
    task = load(given)
    train_file, test_file = task["rows"].files
    encoder = Encoder(given.tokenizer, given.bos, given.max_length, given.max_new)
    parts = split_rows(task["rows"], given, task["dev"])
    check_counts(task["rows"], parts, given, task["dev"])
    train, dev, test = [[example_of(task["name"], task["encoded"], row) for row in rows]
                        for rows in parts]
    # Dev examples, and test examples where there is one file, are training rows themselves.
    shown = parts[0] if task["rows"].test is None else task["rows"].train
    generated = task["metric"] in GENERATED
    tensors = {**split_tensors("train", train, encoder, generated,
                               shuffle_seed=given.shuffle_labels),
               **split_tensors("dev", dev, encoder, generated,
                               demonstrations(dev, parts[0], task["make"], given)),
               **split_tensors("test", test, encoder, generated,
                               demonstrations(test, shown, task["make"], given)),
               **piece_tensors(encoder)}
    later = any(name.endswith((".right", ".reference_bytes")) for name in tensors)
    metadata = {"qzo_task_version": "2" if later else "1", "name": task["name"],
                "loss": task["loss"], "metric": task["metric"],
                "vocab_size": str(encoder.vocab_size), "max_length": str(given.max_length),
                "template": task["template"], "options": json.dumps(task["options"]),
                "tokenizer_xxh3": encoder.digest,
                "bos": "none" if encoder.bos is None else str(encoder.bos),
                "seed": str(given.seed)}
    for key, path in (("source", train_file), ("test_source", test_file)):
        if path:
            metadata[key] = path.name
            metadata[f"{key}_xxh3"] = xxhash.xxh3_64_hexdigest(path.read_bytes())
    if given.max_new is not None:
        metadata["max_new_tokens"] = str(given.max_new)
    if given.stop is not None:
        metadata["stop"] = given.stop
    if given.shots:
        metadata["shots"] = f"{given.shots}{' shared' if given.shots_shared else ''}"
    if given.sfc:
        metadata["sfc"] = "1"
    if given.shuffle_labels is not None:
        metadata["shuffled_labels"] = str(given.shuffle_labels)
    write_task(given.out, tensors, metadata)
    report(given, task, tensors, (train, dev, test), encoder)


def report(given, task, tensors, parts, encoder):
    answers = tensors["train.answer_tokens"]
    rows = np.concatenate([np.diff(tensors[f"{name}.token_begin"])
                           for name in ("train", "dev", "test")])
    train, dev, test = map(len, parts)
    print(f"{given.out}: {train} train, {dev} dev, {test} test; rows of at most {rows.max()} "
          f"tokens, answers of {answers.min()} to {answers.max()}")
    if encoder.cut:
        print(f"{encoder.cut} of {len(rows)} rows are too long for --max-length "
              f"{given.max_length}: their left is cut off")
    if encoder.filled:
        print(f"{encoder.filled} rows are all answer but for their first token: --max-length "
              f"{given.max_length} is short for this task")
    print(task["rows"].sentence)
    if task["rows"].test is None:
        print("There is no other file beside it: the scores are not those of the published splits")


def unescaped(text):
    """\\n, \\t and \\\\ as the shell cannot type them."""
    return text.replace("\\\\", "\0").replace("\\n", "\n").replace("\\t", "\t").replace("\0", "\\")


def bos_choice(text):
    if text in ("auto", "yes", "no") or text.isdigit():
        return text
    raise argparse.ArgumentTypeError(f"expected auto, yes, no or a token id, found {text!r}")


def parser_of():
    parser, whole = command_line.parser_of(__doc__), command_line.whole
    parser.add_argument("source_or_task", metavar="TASK|SOURCE",
                        help=f"{', '.join(TASKS)}; or a file or folder of your own")
    parser.add_argument("out", type=Path, nargs="?", help="default: NAME.qzt")
    parser.add_argument("--tokenizer", type=Path, required=True,
                        help="folder with tokenizer.json, as a rule the model's")
    parser.add_argument("--source", type=Path, help="the task's rows: a file, or a folder with "
                        "train and val or test files; default: Hugging Face datasets")
    parser.add_argument("--test-file", type=Path, help="rows of the test examples")
    parser.add_argument("--test-split", choices=SPLITS, default="auto", help="which file beside "
                        "train gives the test examples: dev (or val), test, or the first of them "
                        "that has labels (dev, as in MeZO; test where more than 1000 are wanted "
                        "and dev has fewer)")
    parser.add_argument("--task", choices=sorted(TASKS), help="the task whose rows SOURCE holds")
    parser.add_argument("--config", type=Path, help="YAML with name, template, options or answer, "
                        "calibration, label_field, references_field, loss, metric")
    parser.add_argument("--template", type=unescaped, help="prompt with {field}s; \\n is a newline")
    parser.add_argument("--options", type=unescaped, nargs="+", help="candidates, label 0 first")
    parser.add_argument("--answer", type=unescaped, help="template of the right answer (--loss lm)")
    parser.add_argument("--loss", choices=LOSSES)
    parser.add_argument("--metric", choices=METRICS)
    parser.add_argument("--max-new", type=whole(1), metavar="N",
                        help="tokens of a generated answer, at most (default: 50)")
    parser.add_argument("--stop", type=unescaped, metavar="TEXT",
                        help="what such an answer ends before (default: \\n; '': nothing)")
    parser.add_argument("--label-field")
    parser.add_argument("--train", type=whole(1), default=1000)
    parser.add_argument("--dev", type=whole(1), help="default: the task's, 500 for most")
    parser.add_argument("--test", type=whole(0), default=TEST)
    parser.add_argument("--seed", type=whole(0, SEED_MAX), default=0, help="of the permutation")
    parser.add_argument("--shots", type=whole(0), default=0, metavar="K",
                        help="put K training examples with their answers before every dev and "
                        "test prompt, drawn for each prompt anew as MeZO does")
    parser.add_argument("--shots-shared", action="store_true",
                        help="the same K for all: the first of the training examples")
    parser.add_argument("--sfc", action="store_true",
                        help="prompts without their question, for `qzo eval --calibration`")
    parser.add_argument("--max-length", type=whole(2), default=2048)
    parser.add_argument("--bos", default="auto", type=bos_choice, metavar="auto|yes|no|ID",
                        help="the token put before each row")
    parser.add_argument("--shuffle-labels", type=whole(0), metavar="SEED",
                        help="permute the training labels, for a control experiment")
    parser.add_argument("--name")
    return parser


def main():
    given = parser_of().parse_args()
    if given.out is None:
        given.out = Path(f"{given.name or given.task or Path(given.source_or_task).stem}.qzt")
    try:
        prepare(given)
    except (TaskError, OSError, UnicodeEncodeError) as error:
        sys.exit(f"prepare_task: {error}")


if __name__ == "__main__":
    main()
