#!/usr/bin/env python3
"""Tokenizes a task into one prepared file (*.qzt): SOURCE OUT --tokenizer FOLDER [options].

SOURCE is a JSONL file, or a folder with train.jsonl or train.tsv (sentence<TAB>label). Training and
development examples come from it by one NumPy permutation: the first --train, then the next --dev.
Test examples come from --test-file by the same seed. docs/task-file.md has the format and examples.

    prepare_task.py sst2_folder sst2.qzt --task sst2 --tokenizer MODEL
    prepare_task.py reviews.jsonl out.qzt --tokenizer MODEL --test-file reviews_test.jsonl \\
        --template '{text} It was' --options ' bad' ' good' --label-field label
    prepare_task.py squad.jsonl out.qzt --tokenizer MODEL --loss lm \\
        --template '{context}\\nQuestion: {question}\\nAnswer:' --answer ' {answer}\\n'
"""
import argparse
import json
import sys
from pathlib import Path

import numpy as np
import tokenizers
import xxhash

import tensor_file
import token_pieces

# task: template, options, label field. Fields of a row stand in braces.
TASKS = {
    "sst2": ("{sentence} It was", (" terrible", " great"), "label"),
    "rte": ("{premise}\nDoes this mean that \"{hypothesis}\" is true? Yes or No?\n", ("Yes", "No"),
            "label"),
    "cb": ("Suppose {premise} Can we infer that \"{hypothesis}\"? Yes, No, or Maybe?\n",
           ("Yes", "No", "Maybe"), "label"),
}
# Labels of SuperGLUE's files as text, in the order of the options above.
LABEL_WORDS = {
    "rte": ("entailment", "not_entailment"),
    "cb": ("entailment", "contradiction", "neutral"),
}


class TaskError(Exception):
    """A source, template or tokenizer that does not give a task."""


def read_rows(path):
    """A list of dictionaries."""
    # Not splitlines(), which also ends a line at characters that texts do contain (U+2028).
    lines = path.read_text(encoding="utf-8").split("\n")
    rows = []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        if path.suffix == ".tsv":
            sentence, tab, label = line.rpartition("\t")
            if not tab:
                raise TaskError(f"{path}:{number}: expected sentence<TAB>label, found no tab")
            if number == 1 and label == "label":
                continue
            rows.append({"sentence": sentence.strip(), "label": label.strip()})
        else:
            try:
                rows.append(json.loads(line))
            except json.JSONDecodeError as error:
                raise TaskError(f"{path}:{number}: expected a JSON object: {error}") from error
    return rows


def source_files(source, test_file):
    """(train file, test file or None)."""
    if source.is_file():
        return source, test_file
    for suffix in (".tsv", ".jsonl"):
        if (source / f"train{suffix}").exists():
            test = test_file or source / f"test{suffix}"
            if not test.exists() and (source / test).exists():
                test = source / test
            return source / f"train{suffix}", test
    raise TaskError(f"{source}: expected a file, or a folder with train.tsv or train.jsonl")


class Encoder:
    """Rows to token ids: MeZO's rules for option lengths and truncation."""

    def __init__(self, folder, bos, max_length):
        folder = Path(folder)
        path = folder / "tokenizer.json"
        if not path.exists():
            raise TaskError(f"{path}: expected a tokenizer of Hugging Face, found none")
        self.tokenizer = tokenizers.Tokenizer.from_file(str(path))
        self.tokenizer.no_padding()
        self.tokenizer.no_truncation()
        self.digest = xxhash.xxh3_64_hexdigest(path.read_bytes())
        config = self.json_of(folder / "config.json")
        self.vocab_size = config.get("vocab_size") or self.tokenizer.get_vocab_size()
        self.bos = self.find_bos(bos, config, self.json_of(folder / "tokenizer_config.json"))
        self.max_length = max_length

    @staticmethod
    def json_of(path):
        return json.loads(path.read_text()) if path.exists() else {}

    def find_bos(self, wanted, config, tokenizer_config):
        """The id put before each row, or None. auto: what tokenizer_config.json says
        (add_bos_token), else what the tokenizer does on its own, else what its kind does:
        SentencePiece puts one, byte-level BPE none."""
        if wanted == "no":
            return None
        token = tokenizer_config.get("bos_token")
        token = token.get("content") if isinstance(token, dict) else token
        bos = self.tokenizer.token_to_id(token) if token else config.get("bos_token_id")
        if wanted == "yes" and bos is None:
            raise TaskError("--bos yes: expected bos_token in tokenizer_config.json or "
                            "bos_token_id in config.json, found neither")
        if wanted == "yes" or bos is None:
            return bos
        if "add_bos_token" in tokenizer_config:
            return bos if tokenizer_config["add_bos_token"] else None
        own = self.tokenizer.encode("a", add_special_tokens=True).ids
        plain = self.tokenizer.encode("a", add_special_tokens=False).ids
        if own != plain:
            return bos if own[0] == bos else None
        return bos if token_pieces.kind_of(self.tokenizer) == "sentencepiece" else None

    def ids(self, text):
        ids = self.tokenizer.encode(text.strip(" "), add_special_tokens=False).ids
        return ids if self.bos is None else [self.bos] + ids

    def option(self, prompt, candidate):
        """(ids, answer tokens) of prompt + candidate; the left of a long prompt is dropped."""
        ids = self.ids(prompt + candidate)
        answer = len(ids) - len(self.ids(prompt))
        if len(ids) > self.max_length:
            kept = self.max_length - (self.bos is not None)
            ids = ([] if self.bos is None else [self.bos]) + ids[len(ids) - kept :]
        if not 1 <= answer < len(ids):
            raise TaskError(f"option {candidate!r} after {prompt[-60:]!r}: expected an answer of 1 "
                            f"to {len(ids) - 1} tokens, found {answer}")
        if max(ids) >= self.vocab_size:
            raise TaskError(f"expected token ids below vocab_size {self.vocab_size}, "
                            f"found {max(ids)}")
        return ids, answer


class Template:
    """Rows to (prompt, candidates, gold)."""

    def __init__(self, prompt, options, answer, label_field, label_words):
        self.prompt, self.options, self.answer = prompt, options, answer
        self.label_field, self.label_words = label_field, label_words

    def fill(self, text, row):
        try:
            return text.format_map(row)
        except (KeyError, IndexError) as error:
            raise TaskError(f"template {text!r}: expected fields {sorted(row)}, "
                            f"found {error}") from error

    def gold(self, row):
        if self.answer is not None:
            return 0
        label = row.get(self.label_field)
        if self.label_words and label in self.label_words:
            return self.label_words.index(label)
        text = str(int(label)) if isinstance(label, bool) else str(label)
        if not text.isdigit() or int(text) >= len(self.options):
            raise TaskError(f"{self.label_field}: expected 0 to {len(self.options) - 1}, "
                            f"found {label!r}")
        return int(text)

    def apply(self, row):
        candidates = [self.answer] if self.answer is not None else self.options
        return (self.fill(self.prompt, row), [self.fill(text, row) for text in candidates],
                self.gold(row))


def choose(rows, counts, seed):
    """Consecutive parts of one permutation; a part is cut where the rows end."""
    order = np.random.RandomState(seed).permutation(len(rows))
    parts, begin = [], 0
    for count in counts:
        parts.append([rows[i] for i in order[begin : begin + count]])
        begin += count
    return parts


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


def split_tensors(name, rows, template, encoder, shuffle_seed=None):
    option_begin, token_begin, answers, gold, tokens = [0], [0], [], [], []
    for row in rows:
        prompt, candidates, right = template.apply(row)
        for candidate in candidates:
            ids, answer = encoder.option(prompt, candidate)
            tokens.extend(ids)
            token_begin.append(len(tokens))
            answers.append(answer)
        option_begin.append(len(answers))
        gold.append(right)
    if shuffle_seed is not None:
        gold = shuffled_labels(np.array(gold), shuffle_seed)
    return {f"{name}.option_begin": np.array(option_begin, np.int64),
            f"{name}.token_begin": np.array(token_begin, np.int64),
            f"{name}.answer_tokens": np.array(answers, np.int32),
            f"{name}.gold": np.array(gold, np.int32),
            f"{name}.tokens": np.array(tokens, np.int32)}


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
    tensor_file.write(path, tensors, {**metadata, "checksum": digest.hexdigest()})


def prepare(given):
    template, options, label_field = TASKS.get(given.task, (None, None, "label"))
    template = Template(given.template or template, given.options or options, given.answer,
                        given.label_field or label_field, LABEL_WORDS.get(given.task))
    if template.prompt is None or (template.options is None and template.answer is None):
        raise TaskError("expected --task, or --template with --options or --answer")
    if given.loss == "classification" and (template.answer is not None
                                           or len(template.options) < 2):
        raise TaskError("--loss classification: expected two --options or more and no --answer")
    encoder = Encoder(given.tokenizer, given.bos, given.max_length)
    train_file, test_file = source_files(given.source, given.test_file)
    train, dev = choose(read_rows(train_file), (given.train, given.dev), given.seed)
    if not train or not dev:
        raise TaskError(f"{train_file}: expected rows for train and dev, found {len(train)} and "
                        f"{len(dev)}")
    test = choose(read_rows(test_file), (given.test,), given.seed)[0] if test_file else []
    tensors = {**split_tensors("train", train, template, encoder, given.shuffle_labels),
               **split_tensors("dev", dev, template, encoder),
               **split_tensors("test", test, template, encoder), **piece_tensors(encoder)}
    metadata = {"qzo_task_version": "1", "name": given.name or given.task or given.out.stem,
                "loss": given.loss, "metric": "accuracy", "vocab_size": str(encoder.vocab_size),
                "max_length": str(given.max_length), "template": template.prompt,
                "options": json.dumps([template.answer] if template.answer is not None
                                      else list(template.options)),
                "tokenizer_xxh3": encoder.digest, "source": train_file.name,
                "source_xxh3": xxhash.xxh3_64_hexdigest(train_file.read_bytes()),
                "bos": "none" if encoder.bos is None else str(encoder.bos),
                "seed": str(given.seed)}
    if test_file:
        metadata["test_source"] = test_file.name
        metadata["test_source_xxh3"] = xxhash.xxh3_64_hexdigest(test_file.read_bytes())
    if given.shuffle_labels is not None:
        metadata["shuffled_labels"] = str(given.shuffle_labels)
    write_task(given.out, tensors, metadata)
    answers = tensors["train.answer_tokens"]
    print(f"{given.out}: {len(train)} train, {len(dev)} dev, {len(test)} test; rows of at most "
          f"{np.diff(tensors['train.token_begin']).max()} tokens, answers of {answers.min()} to "
          f"{answers.max()}")


def unescaped(text):
    """\\n, \\t and \\\\ as the shell cannot type them."""
    return text.replace("\\\\", "\0").replace("\\n", "\n").replace("\\t", "\t").replace("\0", "\\")


def parser_of():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("source", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--tokenizer", type=Path, required=True,
                        help="folder with tokenizer.json, as a rule the model's")
    parser.add_argument("--task", choices=sorted(TASKS), help="template and options of this task")
    parser.add_argument("--template", type=unescaped, help="prompt with {field}s; \\n is a newline")
    parser.add_argument("--options", type=unescaped, nargs="+", help="candidates, label 0 first")
    parser.add_argument("--answer", type=unescaped, help="template of the right answer (--loss lm)")
    parser.add_argument("--loss", default="classification", choices=("classification", "lm"))
    parser.add_argument("--label-field")
    parser.add_argument("--test-file", type=Path)
    parser.add_argument("--train", type=int, default=1000)
    parser.add_argument("--dev", type=int, default=500)
    parser.add_argument("--test", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0, help="of the permutation")
    parser.add_argument("--max-length", type=int, default=2048)
    parser.add_argument("--bos", default="auto", choices=("auto", "yes", "no"))
    parser.add_argument("--shuffle-labels", type=int, metavar="SEED",
                        help="permute the training labels, for a control experiment")
    parser.add_argument("--name")
    return parser


def main():
    try:
        prepare(parser_of().parse_args())
    except (TaskError, OSError) as error:
        sys.exit(f"prepare_task: {error}")


if __name__ == "__main__":
    main()
