#!/usr/bin/env python3
"""tools/prepare_task.py against mezo_encoding.py: ids, option lengths, truncation, splits, right
options and references of the eleven tasks, for several tokenizers. DATA WORK.

Prints a line per task and what differs; exit code 1 where something does.
"""
import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import tokenizers
from safetensors.numpy import load_file

import mezo_encoding as mezo

SOURCES = {  # training file (or the only one), evaluation file
    "sst2": ("sst2_sentences/train.tsv", "sst2_sentences/test.tsv"),
    "rte": ("superglue/RTE/train.jsonl", "superglue/RTE/val.jsonl"),
    "cb": ("superglue/CB/train.jsonl", "superglue/CB/val.jsonl"),
    "boolq": ("superglue/BoolQ/val.jsonl", None),
    "wsc": ("superglue/WSC/train.jsonl", "superglue/WSC/val.jsonl"),
    "wic": ("superglue/WiC/train.jsonl", "superglue/WiC/val.jsonl"),
    "multirc": ("superglue/MultiRC/train.jsonl", "superglue/MultiRC/val.jsonl"),
    "copa": ("superglue/COPA/train.jsonl", "superglue/COPA/val.jsonl"),
    "record": ("superglue/ReCoRD/fewglue_train.jsonl", None),
    "squad": ("squad/xquad.en.json", None),
    "drop": ("drop/drop_v0_dev.jsonl.gz", None),
}
COUNTS = {"train": 100, "dev": 50, "test": 50}  # examples compared
FEW = {"train": 16, "dev": 8, "test": 8}        # ReCoRD: 32 local rows
# What the defaults give of small training sets: MeZO asks for 1000, and 500 for dev or 100.
MEZO_COUNTS = {"cb": (150, 100, 56), "copa": (300, 100, 100), "wsc": (54, 500, 104)}


class Tokenizers:
    """Folders as prepare_task takes them, and the same tokenizer by another way where there is
    one: vocabulary and merges instead of tokenizer.json, SentencePiece's own library."""

    def __init__(self, data, work):
        self.data, self.work = data, work

    def folder(self, name, files, **configs):
        folder = self.work / name
        folder.mkdir(exist_ok=True)
        for target, source in files.items():
            (folder / target).unlink(missing_ok=True)
            (folder / target).symlink_to(source.resolve())
        for stem, value in configs.items():
            (folder / f"{stem}.json").write_text(json.dumps(value))
        return folder

    def byte_level(self, name):
        """(text to ids) from vocabulary and merges alone."""
        folder = self.data / "tokenizers" / name
        stem = "gpt2-" if name == "opt" else ""
        bpe = tokenizers.ByteLevelBPETokenizer(str(folder / f"{stem}vocab.json"),
                                               str(folder / f"{stem}merges.txt"))
        return lambda text: bpe.encode(text).ids

    def gpt2(self):
        return self.data / "tokenizers/gpt2", self.byte_level("gpt2"), None

    def stories(self):
        folder = self.data / "models/stories260K"
        try:
            import sentencepiece
        except ImportError:
            print("no sentencepiece: its tokenizer is checked against tokenizer.json alone")
            bpe = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
            return folder, lambda text: bpe.encode(text, add_special_tokens=False).ids, 1
        model = sentencepiece.SentencePieceProcessor(model_file=str(folder / "tokenizer.model"))
        return folder, model.encode, model.bos_id()

    def opt(self):
        """Its folders have no tokenizer.json; MeZO makes <s>, token 0, of the </s> in front."""
        files = self.data / "tokenizers/opt"
        folder = self.folder("opt", {"vocab.json": files / "gpt2-vocab.json",
                                     "merges.txt": files / "gpt2-merges.txt"},
                             config={"model_type": "opt", "bos_token_id": 2, "vocab_size": 50272},
                             tokenizer_config={"add_bos_token": True, "bos_token": "</s>",
                                               "tokenizer_class": "GPT2Tokenizer"})
        return folder, self.byte_level("opt"), 0

    def llama2(self):
        """tokenizer.json puts <s> by itself and the configuration asks for it: once is right."""
        _, encode, bos = self.stories()
        folder = self.folder("llama2", {"tokenizer.json":
                                        self.data / "models/stories260K/tokenizer.json"},
                             config={"model_type": "llama", "vocab_size": 512, "bos_token_id": 1},
                             tokenizer_config={"add_bos_token": True, "add_eos_token": False,
                                               "bos_token": {"content": "<s>"}, "legacy": False,
                                               "tokenizer_class": "LlamaTokenizer"})
        return folder, encode, bos

    def llama3(self, flag=None):
        """Byte-level BPE whose tokenizer.json puts a token in front. Its configuration has no
        add_bos_token; where it has (False), that class of tokenizers does not read it."""
        bpe = tokenizers.Tokenizer.from_file(str(self.data / "tokenizers/gpt2/tokenizer.json"))
        bpe.add_special_tokens(["<|begin_of_text|>"])
        bos = bpe.token_to_id("<|begin_of_text|>")
        bpe.post_processor = tokenizers.processors.TemplateProcessing(
            single="<|begin_of_text|> $A", special_tokens=[("<|begin_of_text|>", bos)])
        config = {"bos_token": "<|begin_of_text|>", "tokenizer_class": "PreTrainedTokenizerFast"}
        if flag is not None:
            config["add_bos_token"] = flag
        name = "llama3" if flag is None else "llama3-flag"
        folder = self.folder(name, {}, tokenizer_config=config,
                             config={"model_type": "llama", "vocab_size": bos + 1})
        bpe.save(str(folder / "tokenizer.json"))
        return folder, self.byte_level("gpt2"), bos


def permutation(rows, count, seed=0):
    np.random.seed(seed)
    return [rows[i] for i in np.random.permutation(len(rows))[:count]]


def splits_of(train, test, counts):
    """MeZO draws train and dev in one and cuts dev from the end; its evaluation set is drawn by
    the same seed. Where there is one file (not MeZO's case) the splits follow each other."""
    both = counts["train"] + counts["dev"]
    if test is None:
        drawn = permutation(train, None)
        return {"train": drawn[: counts["train"]], "dev": drawn[counts["train"] : both],
                "test": drawn[both : both + counts["test"]]}
    drawn = permutation(train, both)
    return {"train": drawn[: -counts["dev"]], "dev": drawn[-counts["dev"] :],
            "test": permutation(test, counts["test"])}


def prepared(path, split):
    """[(rows, gold, right, references)] of a split of a prepared file."""
    tensors = load_file(path)
    get = lambda name: tensors.get(f"{split}.{name}")
    examples = []
    for e in range(len(get("gold"))):
        options = range(get("option_begin")[e], get("option_begin")[e + 1])
        rows = [mezo.Row(get("tokens")[get("token_begin")[o] : get("token_begin")[o + 1]].tolist(),
                         int(get("answer_tokens")[o])) for o in options]
        right = [int(get("gold")[e])] if get("right") is None else \
            [i for i, o in enumerate(options) if get("right")[o]]
        references = []
        if get("reference_begin") is not None:
            cuts, data = get("reference_text_begin"), bytes(get("reference_bytes"))
            references = [data[cuts[t] : cuts[t + 1]].decode()
                          for t in range(get("reference_begin")[e], get("reference_begin")[e + 1])]
        examples.append((rows, int(get("gold")[e]), right, references))
    return examples


def difference(expected, found):
    """What differs first between [(rows, gold, right, references)], or None."""
    if len(expected) != len(found):
        return f"{len(expected)} examples expected, {len(found)} found"
    for number, (one, other) in enumerate(zip(expected, found)):
        for name, a, b in zip(("options", "gold", "right", "references"), one, other):
            if a == b:
                continue
            if name != "options" or len(a) != len(b):
                return f"example {number}: {name}: expected {a}, found {b}"
            place = next(i for i, (x, y) in enumerate(zip(a, b)) if x != y)
            x, y = a[place], b[place]
            what = "ids" if x.ids != y.ids else "option lengths"
            return (f"example {number}, option {place}: {what} differ: expected {len(x.ids)} "
                    f"tokens {x.ids[:6]}...{x.ids[-6:]} of which {x.option} are scored, found "
                    f"{len(y.ids)} {y.ids[:6]}...{y.ids[-6:]}, {y.option}")
    return None


class Comparison:
    def __init__(self, data, work):
        self.data, self.work, self.failed, self.samples = data, work, 0, {}

    def read(self, task):
        if task not in self.samples:
            files = [name and self.data / "tasks" / name for name in SOURCES[task]]
            self.samples[task] = [path and getattr(mezo, task)(path) for path in files]
        return self.samples[task]

    def demonstrations(self, train, splits, split, shots, has_test_file):
        """MeZO: per example, the first K of a permutation of the training rows whose seed comes
        from one draw by seed 0. Examples of ours that are training rows themselves (dev, or test
        of one file) are shown only what trains."""
        np.random.seed(0)
        seeds = np.random.randint(0, 10000, len(splits[split]))
        rows = train if split == "test" and has_test_file else splits["train"]
        return [permutation(rows, shots, seed) for seed in seeds]

    def task(self, task, label, tokenizer, max_length, bos_option, shots=0, sfc=False,
             by_default=False):
        """One run of the tool and one of MeZO's encoding. by_default: how many examples and from
        which files is left to the tool."""
        folder, encode, bos = tokenizer
        train, test = self.read(task)
        counts = FEW if task == "record" else COUNTS
        source = self.data / "tasks" / SOURCES[task][0]
        if by_default:
            counts = {"train": 1000, "dev": 500 if task == "wsc" else 100, "test": 1000}
            source = source.parent
        out = self.work / f"{task}.qzt"
        arguments = [task, str(out), "--tokenizer", str(folder), "--source", str(source),
                     "--max-length", str(max_length), "--bos", bos_option]
        for split, count in counts.items() if not by_default else ():
            arguments += [f"--{split}", str(count)]
        if test is not None and not by_default:
            arguments += ["--test-file", str(self.data / "tasks" / SOURCES[task][1])]
        if shots:
            arguments += ["--shots", str(shots)]
        if sfc:
            arguments.append("--sfc")
        prepare_task.prepare(prepare_task.parser_of().parse_args(arguments))
        encoder = mezo.Encoder(encode, bos, max_length)
        splits = splits_of(train, test, counts)
        if by_default and tuple(map(len, splits.values())) != MEZO_COUNTS[task]:
            self.failed += 1
            print(f"FAILED {label} {task}: splits of {[len(part) for part in splits.values()]}")
        compared = 0
        for split, samples in splits.items():
            demos = [()] * len(samples)
            if shots and split != "train":
                demos = self.demonstrations(train, splits, split, shots, test is not None)
            asked = samples
            if sfc:
                asked = [replace(sample, prompt=sample.bare[0], texts=sample.bare[1])
                         for sample in samples]
            expected = [(encoder.rows(sample, demo, split == "train"), sample.right[0],
                         sample.right, sample.golds) for sample, demo in zip(asked, demos)]
            compared += len(expected)
            found = difference(expected, prepared(out, split))
            if found:
                self.failed += 1
                print(f"FAILED {label} {task} {split}: {found}")
        print(f"{label:24} {task:8} {compared:4} examples, {encoder.cut:4} rows cut")


def main():
    data, work = Path(sys.argv[1]), Path(sys.argv[2])
    make, comparison = Tokenizers(data, work), Comparison(data, work)
    gpt2, stories = make.gpt2(), make.stories()
    with_bos = (gpt2[0], gpt2[1], 50256)
    without = (stories[0], stories[1], None)
    for task in SOURCES:
        comparison.task(task, "gpt2 2048", gpt2, 2048, "auto")
        comparison.task(task, "gpt2 64 with bos", with_bos, 64, "yes")
        comparison.task(task, "stories260K 2048", stories, 2048, "auto")
        comparison.task(task, "stories260K 64", stories, 64, "auto")
        comparison.task(task, "stories260K 64 no bos", without, 64, "no")
        comparison.task(task, "opt", make.opt(), 2048, "auto")
    for task in MEZO_COUNTS:
        comparison.task(task, "stories260K by default", stories, 512, "auto", by_default=True)
    for task in ("sst2", "rte", "copa", "squad"):
        comparison.task(task, "llama2", make.llama2(), 256, "auto")
        comparison.task(task, "llama3", make.llama3(), 64, "auto")
        comparison.task(task, "llama3 with flag", make.llama3(False), 64, "auto")
    for task in ("sst2", "cb", "copa", "boolq", "squad"):
        comparison.task(task, "gpt2 4 shots", gpt2, 512, "auto", shots=4)
        comparison.task(task, "stories260K 4 shots", stories, 512, "auto", shots=4)
    for task in ("sst2", "cb", "copa", "record"):
        comparison.task(task, "stories260K sfc", stories, 512, "auto", sfc=True)
    comparison.task("cb", "stories260K sfc 4 shots", stories, 512, "auto", shots=4, sfc=True)
    sys.exit(comparison.failed > 0)


if __name__ == "__main__":
    import prepare_task
    main()
