#!/usr/bin/env python3
"""Cases of tools/prepare_task.py that need no program: TOKENIZER, in an empty folder.

Each function is a case; those that fail are named with what was expected. A traceback of the tool
is a failure, whatever the case expects.
"""
import contextlib
import gzip
import io
import json
import os
import re
import resource
import sys
import traceback
from pathlib import Path

import prepare_task
import task_rows
import tensor_file

TOKENIZER = os.path.abspath(sys.argv[1])
SMALL = ("--tokenizer", TOKENIZER, "--train", "2", "--dev", "1", "--test", "1", "--bos", "no")
OPTIONS = ("--template", "{text} ?", "--options", " no", " yes")
OWN = (*SMALL, *OPTIONS)
ROWS = (("the film was good .", "yes"), ("the plot was bad .", "0"), ("the cast was great .", "1"),
        ("the story was dull .", "no"))
OUT = Path("made.qzt")


class Failed(Exception):
    pass


def call(*arguments):
    """(exit code, what it printed) of the tool, called as from a shell."""
    sys.argv = ["prepare_task.py", *map(str, arguments)]
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
        try:
            prepare_task.main()
            return 0, printed.getvalue()
        except SystemExit as ended:
            words = ended.code if isinstance(ended.code, str) else ""
            return 1 if words else ended.code, printed.getvalue() + words


def made(pattern, source, *arguments):
    """It writes OUT and says so; returns what it printed."""
    code, printed = call(source, OUT, *arguments)
    if code != 0 or not re.search(pattern, printed):
        raise Failed(f"expected a file and {pattern!r}, found exit code {code} and: {printed}")
    return printed


def refused(pattern, source, *arguments, out=OUT):
    """It says the sentence, and leaves OUT as it was."""
    before = OUT.read_bytes() if OUT.exists() else None
    code, printed = call(source, out, *arguments)
    if code == 0 or not re.search(pattern, printed):
        raise Failed(f"expected to be refused with {pattern!r}, found exit code {code} and: "
                     f"{printed}")
    if before != (OUT.read_bytes() if OUT.exists() else None) or list(Path().glob("*.tmp")):
        raise Failed(f"a refused task changed {OUT} or left a part of it: {list(Path().iterdir())}")


def write_csv(path, rows=ROWS):
    path = Path(path)
    path.write_text("text,label\n" + "".join(f"{text},{label}\n" for text, label in rows),
                    encoding="utf-8")
    return path


def write_jsonl(path, rows):
    Path(path).write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def metadata():
    return tensor_file.read(OUT)[1]


# --- files --------------------------------------------------------------------------------------

def input_as_output():
    source, kept = write_csv("own.csv"), write_csv("kept.csv")
    Path("link.csv").symlink_to(source)
    refused("own.csv: is read as an input", source, *OWN, out=source)
    refused("own.csv: is read as an input", "link.csv", *OWN, out=source)
    refused("own.csv: is read as an input", kept, *OWN, "--test-file", source, out=source)
    refused("is read as an input", source, *OWN, out=Path(TOKENIZER) / "tokenizer.json")
    refused("expected the name of a file to write, found a folder", source, *OWN, out=Path())
    if source.read_bytes() != kept.read_bytes():
        raise Failed("the source has changed")


def whole_or_nothing():
    """A disk that is full in the middle of the file leaves the file of before."""
    source = write_csv("own.csv")
    made("1 train|2 train", source, *OWN)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, limits[1]))
    try:
        refused("File too large", source, *OWN, "--name", "another")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


# --- scores that mean nothing -------------------------------------------------------------------

ANSWER = (*SMALL, "--template", "{text} ?", "--answer", " {label}")


def yaml(**settings):
    """A --config file of JSON, which YAML is too."""
    Path("own.yaml").write_text(json.dumps(settings), encoding="utf-8")
    return (*SMALL, "--config", "own.yaml")


def one_answer():
    source = write_csv("own.csv")
    refused("metric accuracy: expected two options or more", source, *ANSWER, "--metric",
            "accuracy")
    refused("loss classification: expected two options or more", source, *ANSWER, "--loss",
            "classification")
    refused("metric f1: expected one answer per example", source, *OWN, "--metric", "f1")
    refused("options to choose from or an answer to produce, found both", source, *OWN, "--answer",
            " {label}", "--loss", "lm")
    refused("options: expected a list of two texts or more", source, *SMALL, "--template",
            "{text} ?", "--options", " no", "--loss", "lm")
    refused("options: expected texts that differ", source, *SMALL, "--template", "{text} ?",
            "--options", " no", "no")
    made("2 train", source, *ANSWER)
    if metadata()["metric"] != "perplexity" or metadata()["loss"] != "lm":
        raise Failed(f"an answer without --metric: {metadata()}")
    for metric in ("f1", "exact_match", "perplexity"):
        made("2 train", source, *ANSWER, "--metric", metric)


def one_answer_of_named_tasks():
    question = {"question": "was the film good ?", "answers": [{"text": "good"}]}
    paragraph = {"context": "the film was good .", "qas": [question] * 5}
    Path("squad.json").write_text(json.dumps({"data": [{"title": "film",
                                                        "paragraphs": [paragraph]}]}))
    squad = ("--source", "squad.json", *SMALL)
    made("2 train", "squad", *squad, "--metric", "exact_match")
    refused("metric accuracy: expected two options or more", "squad", *squad, "--metric",
            "accuracy")
    refused("loss classification: expected two options or more", "squad", *squad, "--loss",
            "classification")
    refused("--options: squad has options or answers of its own", "squad", *squad, "--options",
            " no", " yes")
    Path("sst2.tsv").write_text("".join(f"{text}\t{i % 2}\n" for i, (text, _) in enumerate(ROWS)))
    sst2 = ("--source", "sst2.tsv", *SMALL)
    refused("metric exact_match: expected one answer per example", "sst2", *sst2, "--metric",
            "exact_match")
    refused("--options: expected 2 as the task has, found 3", "sst2", *sst2, "--options", " no",
            " yes", " great")
    refused("--answer: sst2 has its own", "sst2", *sst2, "--answer", " {label}")
    made("2 train", "sst2", *sst2, "--options", " no", " yes", "--loss", "lm")
    Path("sst2.tsv").write_text("the film was good .\t2\n" * 4)
    refused("sst2.tsv, row [1-4]: expected a right option below 2, found 2", "sst2", *sst2)


def settings_of_yaml():
    source, good = write_csv("own.csv"), {"template": "{text} ?", "options": [" no", " yes"]}
    made("2 train", source, *yaml(**good, metric="accuracy", loss="lm"))
    refused("own.yaml: metric: expected accuracy, f1, exact_match or perplexity, found "
            "'acuracy'; the nearest is 'accuracy'", source, *yaml(**good, metric="acuracy"))
    refused("own.yaml: loss: expected classification or lm, found 'classify'; the nearest is "
            "'classification'", source, *yaml(**good, loss="classify"))
    refused("own.yaml: metric f1: expected one answer", source, *yaml(**good, metric="f1"))
    refused("own.yaml: unknown key 'lable_field'; known: .*; the nearest is 'label_field'", source,
            *yaml(**good, lable_field="label"))
    refused("own.yaml: metric: expected a text, found 1", source, *yaml(**good, metric=1))
    refused("own.yaml: name: expected a text, found 5", source, *yaml(**good, name=5))
    refused("options: expected a list of two texts or more, found 'noyes'", source,
            *yaml(template="{text}", options="noyes"))
    refused("references_field: expected only beside an answer", source,
            *yaml(**good, references_field="text"))
    refused("calibration: expected only beside options", source,
            *yaml(template="{text}", answer=" {label}", calibration="?"))
    refused(r"label_field: expected a field of the rows \(text, label\), found 'lable'; the "
            "nearest is 'label'", source, *yaml(**good, label_field="lable"))


def references_of_yaml():
    rows = [{"text": text, "label": label, "refs": [label, "well"]} for text, label in ROWS]
    asked = {"template": "{text} ?", "answer": " {label}", "metric": "f1"}
    write_jsonl("own.jsonl", rows)
    made("2 train", "own.jsonl", *yaml(**asked, references_field="refs"))
    tensors = tensor_file.read(OUT)[0]
    texts = bytes(tensors["train.reference_bytes"].array).decode()
    if not re.fullmatch("((yes|no|0|1)well){2}", texts) or \
            tensors["train.reference_begin"].array.tolist() != [0, 2, 4]:
        raise Failed(f"references of two texts each: {texts}")
    made("2 train", "own.jsonl", *yaml(**asked))
    texts = bytes(tensor_file.read(OUT)[0]["train.reference_bytes"].array).decode()
    if not re.fullmatch("(yes|no|0|1){2}", texts):
        raise Failed(f"references without references_field are the answers: {texts}")
    refused("own.jsonl, row [1-4]: references_field: expected a field of the rows .*, found "
            "'reffs'; the nearest is 'refs'", "own.jsonl", *yaml(**asked, references_field="reffs"))
    write_jsonl("own.jsonl", [{**row, "refs": 5} for row in rows])
    refused("refs: expected a text or a list of texts, found 5", "own.jsonl",
            *yaml(**asked, references_field="refs"))


# --- numbers ------------------------------------------------------------------------------------

def ranges():
    source = write_csv("own.csv")
    for option, value, least in (
            ("--shots", -1, "0 or more"), ("--train", -5, "1 or more"), ("--train", 0, "1 or more"),
            ("--dev", 0, "1 or more"), ("--test", -1, "0 or more"), ("--seed", -1, "0 to 429"),
            ("--seed", 2**32, "0 to 4294967295"), ("--max-length", 0, "2 or more"),
            ("--max-length", "ten", "2 or more"), ("--max-new", 0, "1 or more"),
            ("--shuffle-labels", -1, "0 or more")):
        refused(f"argument {option}: expected a whole number, {least}.*, found {value}", source,
                *OWN, option, value)
    made("0 test", source, *OWN, "--test", 0, "--seed", 2**32 - 1)


# --- files that are not what they should be -----------------------------------------------------

def damaged_rows():
    rows = [{"text": text, "label": label} for text, label in ROWS]
    write_jsonl("own.jsonl", rows * 50)
    packed = gzip.compress(Path("own.jsonl").read_bytes())
    Path("cut.jsonl.gz").write_bytes(packed[: len(packed) // 2])
    refused("cut.jsonl.gz: damaged", "cut.jsonl.gz", *OWN)
    Path("no.jsonl.gz").write_bytes(b"{}")
    refused("no.jsonl.gz: damaged", "no.jsonl.gz", *OWN)
    Path("cut.json").write_text('{"data": [{"title": "film", "par')
    refused("cut.json: expected JSON: ", "squad", "--source", "cut.json", *SMALL)
    Path("list.json").write_text("[1]")
    refused("list.json: expected SQuAD's JSON", "squad", "--source", "list.json", *SMALL)
    write_jsonl("own.jsonl", [rows[0], {"text": "half \ud83d", "label": "no"}, *rows])
    refused(r"own.jsonl:2: .* half a surrogate pair \(.ud83d\)", "own.jsonl", *OWN)
    write_jsonl("own.jsonl", [*rows, {"text": "whole \U0001f600", "label": "no"}])
    made("2 train", "own.jsonl", *OWN)
    Path("own.jsonl").write_bytes(b'{"text": "a", "label": 1}\n{"text": "\xff"}\n')
    refused("own.jsonl:2: expected UTF-8 text, found byte 0xff", "own.jsonl", *OWN)
    Path("own.csv").write_text("text,label\na good film,1\na bad film\n")
    refused("own.csv:3: expected 2 fields .*, found fewer", "own.csv", *OWN)
    write_jsonl("own.jsonl", [*rows[:3], {"text": "the plot .", "label": "maybe"}])
    refused("own.jsonl, row 4: label: expected 0 to 1 or one of the options, found 'maybe'",
            "own.jsonl", *OWN)


def damaged_parquet():
    try:
        import pyarrow.parquet
    except ImportError:
        print("no pyarrow: Parquet files are left out")
        return
    rows = [{"text": text, "label": label} for text, label in ROWS]
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), "own.parquet")
    made("2 train", "own.parquet", *OWN)
    found = tensor_file.payload_of(tensor_file.read(OUT)[0])
    write_jsonl("own.jsonl", rows)
    made("2 train", "own.jsonl", *OWN)
    if found != tensor_file.payload_of(tensor_file.read(OUT)[0]):
        raise Failed("a Parquet file gives other rows than the same as JSONL")
    Path("cut.parquet").write_bytes(Path("own.parquet").read_bytes()[:100])
    refused("cut.parquet: not a Parquet file that can be read", "cut.parquet", *OWN)


def damaged_tokenizer():
    source = write_csv("own.csv")
    os.mkdir("tokenizer")
    whole = (Path(TOKENIZER) / "tokenizer.json").read_text()
    Path("tokenizer/tokenizer.json").write_text(whole[: len(whole) // 2])
    refused("tokenizer/tokenizer.json: not a tokenizer that can be read", source, *OWN,
            "--tokenizer", "tokenizer")
    Path("tokenizer/tokenizer.json").write_text(whole)
    Path("tokenizer/config.json").write_text("{")
    refused("tokenizer/config.json: expected JSON", source, *OWN, "--tokenizer", "tokenizer")


def templates():
    source = write_csv("own.csv")
    for template, sentence in (
            ("{text", "own.csv, row [1-4]: template '{text': expected fields .* in braces"),
            ("{0}", "template '.0.': expected fields .* in braces"),
            ("{text.size}", "template '{text.size}': expected fields"),
            ("{txt}", "template '{txt}': expected fields .*, found 'txt'; the nearest is 'text'")):
        refused(sentence, source, *SMALL, "--options", " no", " yes", "--template", template)


def columns():
    source = write_csv("own.csv")
    made("2 train", source, *OWN)
    expected = tensor_file.read(OUT)[0]["train.tokens"].array.tolist()
    source.write_bytes(b"\xef\xbb\xbf" + source.read_bytes())
    made("2 train", source, *OWN)
    lines = [f"{i}\t{label}\t{text}" for i, (text, label) in enumerate(ROWS)]
    Path("own.tsv").write_text("index\tlabel\ttext\r\n" + "\r\n".join(lines) + "\r\n")
    made("2 train", "own.tsv", *OWN)
    if tensor_file.read(OUT)[0]["train.tokens"].array.tolist() != expected:
        raise Failed("a TSV with a header gives other rows than the same as CSV")
    Path("own.tsv").write_text("index\tlabel\ttext\n" + lines[0] + "\tmore\n")
    refused("own.tsv:2: expected 3 fields .*, found 4", "own.tsv", *OWN)
    Path("bare.tsv").write_text("".join(f"{text}\t{('no', 'yes')[i % 2]}\n"
                                        for i, (text, _) in enumerate(ROWS)))
    made("2 train", "bare.tsv", *SMALL, "--template", "{sentence} ?", "--options", " no", " yes")


# --- which file gives which split ---------------------------------------------------------------

def sentences(path, count, ending=".", header=""):
    nouns, words = ("plot", "cast", "story", "film"), ("dull", "bad", "good", "great")
    Path(path).write_text(header + "".join(
        f"the {nouns[i % 4]} was {words[i // 4 % 4]} {ending}\t{i // 8 % 2}\n"
        for i in range(count)))


def splits_of_sst2():
    """Sentences as they go round, with labels in all three files."""
    os.mkdir("sst2")
    for name, count in (("train", 16), ("dev", 6), ("test", 1100)):
        sentences(f"sst2/{name}.tsv", count)
    sst2 = ("--source", "sst2", *SMALL)
    made(r"train and dev from sst2/train.tsv, test from sst2/dev.tsv \(6 rows\); --test-split test "
         "takes the 1100 of test.tsv", "sst2", *sst2)
    for count in (1000, 6):
        made("test from sst2/dev.tsv", "sst2", *sst2, "--test", count)
    made(r"1000 test;(.|\n)*test from sst2/test.tsv", "sst2", *sst2, "--test-split", "test",
         "--test", 1000)
    made(r"1050 test;(.|\n)*test from sst2/test.tsv \(1100 rows\); --test-split dev takes the 6",
         "sst2", *sst2, "--test", 1050)
    made("6 test;(.|\n)*test from sst2/dev.tsv", "sst2", *sst2, "--test", 1050, "--test-split",
         "dev")
    made("test from sst2/test.tsv", "sst2", *sst2, "--test-file", "test.tsv")
    own = (*SMALL, "--template", "{sentence} ?", "--options", " no", " yes")
    made("test from sst2/dev.tsv", "./sst2", *own)
    refused(r"sst2 is a task: a template of your own needs its rows \(--source, or ./sst2", "sst2",
            *own)
    refused("--test-split dev: expected a folder", "sst2", "--source", "sst2/train.tsv", *SMALL,
            "--test-split", "dev")
    refused("--test-file none.tsv: no such file", "sst2", *sst2, "--test-file", "none.tsv")
    Path("sst2/dev.tsv").unlink()
    made("test from sst2/test.tsv", "sst2", *sst2)


def splits_of_glue():
    """GLUE's archive: a header, and no labels in test.tsv."""
    os.mkdir("SST-2")
    sentences("SST-2/train.tsv", 16, header="sentence\tlabel\n")
    sentences("SST-2/dev.tsv", 6, header="sentence\tlabel\n")
    Path("SST-2/test.tsv").write_text("index\tsentence\n0\tuneasy film .\n1\tthe plot .\n")
    sst2 = ("--source", "SST-2", *SMALL)
    made(r"test from SST-2/dev.tsv \(6 rows\); test.tsv has no labels", "sst2", *sst2, "--test", 2)
    refused("expected one of test.tsv with labels beside train.tsv", "sst2", *sst2, "--test-split",
            "test")
    sentences("SST-2/train.tsv", 16, header="sentence\tmark\n")
    refused("SST-2/train.tsv, row 1: not a row of sst2: label: expected", "sst2", *sst2)


def splits_of_questions():
    """The files of SQuAD and DROP under their own names."""
    os.mkdir("squad")
    question = {"question": "was the film good ?", "answers": [{"text": "good"}, {"text": "great"}]}
    for name, count in (("train", 8), ("dev", 2)):
        paragraph = {"context": "the film was good .", "qas": [question] * count}
        Path(f"squad/{name}-v1.1.json").write_text(json.dumps(
            {"data": [{"title": "film", "paragraphs": [paragraph]}], "version": "1.1"}))
    made("train and dev from squad/train-v1.1.json, test from squad/dev-v1.1.json", "squad",
         "--source", "squad", *SMALL)
    os.mkdir("drop")
    nothing = {"number": "", "date": {"day": "", "month": "", "year": ""}, "spans": []}
    kinds = ({"number": "3"}, {"spans": ["good", "great"]},
             {"date": {"day": "2", "month": "May", "year": "1992"}}, {"date": {"year": "1992"}})
    pairs = [{"question": "was it ?", "answer": {**nothing, **kind}} for kind in kinds]
    pairs.append({"question": "what ?", "answer": {**nothing, "number": "1", "spans": ["good"]}})
    Path("drop/drop_dataset_train.json").write_text(json.dumps(
        {"history_1": {"passage": "the film was good .", "qa_pairs": pairs}}))
    asked = {**pairs[0], "validated_answers": [{**nothing, "number": "4"}, pairs[1]["answer"]]}
    Path("drop/drop_dataset_dev.json").write_text(json.dumps(
        {"history_2": {"passage": "the plot was bad .", "qa_pairs": [asked]}}))
    made("train and dev from drop/drop_dataset_train.json, test from drop/drop_dataset_dev.json",
         "drop", "--source", "drop", *SMALL, "--train", 3)
    found = [row["answers"] for row in task_rows.read_file(Path("drop/drop_dataset_train.json"))]
    if found != [["3"], ["good", "great"], ["2 May 1992"], ["1992"]]:
        raise Failed(f"DROP's answers: {found}")
    found = task_rows.read_file(Path("drop/drop_dataset_dev.json"))[0]["answers"]
    if found != ["4", "good", "great"]:
        raise Failed(f"DROP's answers by others: {found}")


def counts():
    """Sets that are too small for the defaults, and the numbers that the message names."""
    asked = ("--tokenizer", TOKENIZER, "--bos", "no", *OPTIONS)
    for count, found, numbers in (
            (32, "0 train, 32 dev and 0 test", ("--train", 16, "--dev", 8, "--test", 8)),
            (600, "100 train, 500 dev and 0 test",
             ("--train", 300, "--dev", 150, "--test", 150)),
            (3, "0 train, 3 dev and 0 test", ("--train", 1, "--dev", 1, "--test", 1))):
        source = write_csv("own.csv", (ROWS * 150)[:count])
        words = " ".join(map(str, numbers))
        refused(f"own.csv: its {count} rows give {found} examples of --train 1000, --dev 500 and "
                f"--test 1000; what fits: {words}", source, *asked)
        made(f"{numbers[1]} train, {numbers[3]} dev, {numbers[5]} test", source, *asked, *numbers)
    made("100 train, 500 dev, 0 test", write_csv("own.csv", ROWS * 150), *asked, "--test", 0)
    refused("or --test 0 for none", write_csv("own.csv", ROWS * 150), *asked)
    few, test = write_csv("few.csv", (ROWS * 8)[:30]), write_csv("test.csv")
    refused("few.csv: its 30 rows give 0 train, 30 dev and 4 test examples of --train 1000, --dev "
            "500; what fits: --train 23 --dev 7", few, *asked, "--test-file", test)
    made("23 train, 7 dev, 4 test", few, *asked, "--test-file", test, "--train", 23, "--dev", 7)
    refused("own.csv: expected 3 rows or more, found 2", write_csv("own.csv", ROWS[:2]), *asked)
    refused("none.csv: expected rows, found none", write_csv("none.csv", ()), *asked)
    refused("none.csv: expected rows for test, found none", few, *OWN, "--test-file", "none.csv")


def rows_of_hub():
    """The hub's rows, as if they had come over the network."""
    def rows(count):
        return [task_rows.Row({"sentence": text, "label": i % 2}, f"hub, row {i}")
                for i, (text, _) in enumerate((ROWS * count)[:count])]
    kept = prepare_task.hub_rows
    prepare_task.hub_rows = lambda task, hub: [rows(600), rows(7)]
    try:
        made("train and dev from nyu-mll/glue train, test from its validation", "sst2",
             "--tokenizer", TOKENIZER, "--bos", "no")
        prepare_task.hub_rows = lambda task, hub: [rows(8), rows(4)]
        refused("the hub: its 8 rows give 0 train, 8 dev and 4 test examples .*fits: --train 6 "
                "--dev 2", "sst2", "--tokenizer", TOKENIZER, "--bos", "no")
    finally:
        prepare_task.hub_rows = kept


# --- what runs ----------------------------------------------------------------------------------

CASES = (input_as_output, whole_or_nothing, one_answer, one_answer_of_named_tasks,
         settings_of_yaml, references_of_yaml, ranges, damaged_rows, damaged_parquet,
         damaged_tokenizer, templates, columns, splits_of_sst2, splits_of_glue,
         splits_of_questions, counts, rows_of_hub)


def run(case):
    """Whether it passed, in a folder of its own."""
    above = os.getcwd()
    os.mkdir(case.__name__)
    os.chdir(case.__name__)
    try:
        case()
        return True
    except Failed as error:
        print(f"FAILED {case.__name__}: {error}")
    except Exception:  # a traceback is what no user may see
        print(f"FAILED {case.__name__}: {traceback.format_exc()}")
    finally:
        os.chdir(above)
    return False


def main():
    passed = [run(case) for case in CASES]
    print(f"{sum(passed)} of {len(passed)} cases")
    return 0 if all(passed) else 1


if __name__ == "__main__":
    sys.exit(main())
