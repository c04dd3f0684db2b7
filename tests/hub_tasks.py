"""TASKS_FOLDER SCRATCH_FOLDER: real rows of the eleven tasks, laid out as on Hugging Face's hub,
read through `datasets`.
"""
import sys
from pathlib import Path

import pyarrow
import pyarrow.parquet

from task_protocol import TASKS
from task_rows import ENTAILMENT, TaskError, hub_rows, read_file, task_rows

ROWS = 40


def entailment(task):
    return lambda raw: [{"premise": raw["premise"], "hypothesis": raw["hypothesis"], "idx": 0,
                         "label": ENTAILMENT[task].index(raw["label"])}]


def plain(*names):
    return lambda raw: [{**{name: raw[name] for name in names}, "label": int(raw["label"])}]


def wsc(raw):
    return [{"text": raw["text"], **raw["target"], "label": int(raw["label"])}]


def multirc(raw):
    return [{"paragraph": raw["passage"]["text"], "question": question["question"],
             "answer": answer["text"], "label": answer["label"],
             "idx": {"paragraph": 0, "question": 0, "answer": 0}}
            for question in raw["passage"]["questions"] for answer in question["answers"]]


def record(raw):
    text, spans = raw["passage"]["text"], raw["passage"]["entities"]
    return [{"passage": text, "query": question["query"],
             "entities": sorted({text[s["start"] : s["end"] + 1] for s in spans}),
             "answers": sorted({answer["text"] for answer in question["answers"]})}
            for question in raw["qas"]]


def squad(raw):
    return [{"id": "0", "title": raw["title"], "context": raw["context"],
             "question": raw["question"],
             "answers": {"text": raw["answers"], "answer_start": [0] * len(raw["answers"])}}]


def drop(raw):
    passage, _, question = raw["context"].removesuffix("\nAnswer:").rpartition("\nQuestion: ")
    spans = raw["ref_text"].split("|")
    return [{"section_id": "0", "query_id": "0", "passage": passage.removeprefix("Passage: "),
             "question": question,
             "answers_spans": {"spans": spans, "types": ["span"] * len(spans)}}]


def boolq(raw):
    return [{"question": raw["question"], "passage": raw["passage"], "answer": bool(raw["label"])}]


# File, and a function from its row to rows in the hub's columns.
LAYOUTS = {
    "sst2": ("sst2_sentences/train.tsv", plain("sentence")),
    "rte": ("superglue/RTE/train.jsonl", entailment("rte")),
    "cb": ("superglue/CB/train.jsonl", entailment("cb")),
    "boolq": ("superglue/BoolQ/val.jsonl", boolq),
    "wsc": ("superglue/WSC/train.jsonl", wsc),
    "wic": ("superglue/WiC/train.jsonl",
            plain("word", "sentence1", "sentence2", "start1", "end1", "start2", "end2")),
    "multirc": ("superglue/MultiRC/val.jsonl", multirc),
    "copa": ("superglue/COPA/train.jsonl", plain("premise", "choice1", "choice2", "question")),
    "record": ("superglue/ReCoRD/fewglue_train.jsonl", record),
    "squad": ("squad/xquad.en.json", squad),
    "drop": ("drop/drop_v0_dev.jsonl.gz", drop),
}


def check(task, tasks_folder, scratch):
    file, columns = LAYOUTS[task]
    raw = read_file(tasks_folder / file)[:ROWS]
    repository = scratch / f"hub-{task}"
    repository.mkdir()
    table = pyarrow.Table.from_pylist([row for one in raw for row in columns(one)])
    for split in ("train", "validation"):
        pyarrow.parquet.write_table(table, repository / f"{split}-00000-of-00001.parquet")
    own = [TASKS[task].example(row) for row in task_rows(task, raw)]
    for rows in hub_rows(task, (str(repository), None, "train", "validation")):
        found = [TASKS[task].example(row) for row in rows]
        assert len(found) > 0 and found == own, (task, found[0], own[0])
    print(f"{task}: {len(own)} rows alike")


def main():
    tasks_folder, scratch = (Path(path) for path in sys.argv[1:])
    assert set(LAYOUTS) == set(TASKS)
    for task in TASKS:
        check(task, tasks_folder, scratch)
    try:
        hub_rows("rte", TASKS["rte"].hub)
        raise SystemExit("a hub that cannot be reached was no error")
    except TaskError as error:
        assert "aps/super_glue cannot be loaded" in str(error) and "--source" in str(error), error


if __name__ == "__main__":
    main()
