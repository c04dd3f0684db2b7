"""Rows of a task from files, or from Hugging Face `datasets`, in the field names of the latter.

Layouts that are read: JSONL (also .gz), TSV with sentence and label or with a header, CSV with a
header, Parquet, SQuAD's JSON and DROP's.
"""
import csv
import gzip
import io
import json
import zlib
from pathlib import Path


class TaskError(Exception):
    """A source, template or tokenizer that does not give a task."""


class Row(dict):
    """Fields by name, and where they stand: a sentence about them begins with that."""

    def __init__(self, fields, place):
        super().__init__(fields)
        self.place = place


# --- files to raw rows ----------------------------------------------------------------------------

def read_text(path):
    """A byte order mark in front, as spreadsheets write it, is no text."""
    data = path.read_bytes()
    data = gzip.decompress(data) if path.suffix == ".gz" else data
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise TaskError(f"{path}:{line}: expected UTF-8 text, found byte "
                        f"0x{error.object[error.start]:02x}") from error


def lines_of(path):
    """(number, line) of those that are not empty. Not splitlines(), which also ends a line at
    characters that texts do contain (U+2028)."""
    lines = enumerate(read_text(path).split("\n"), start=1)
    return [(number, line.removesuffix("\r")) for number, line in lines if line.strip()]


def check_encodable(value, place):
    """JSON can spell half of a surrogate pair, which is no character: no tokenizer takes it."""
    try:
        json.dumps(value, ensure_ascii=False).encode("utf-8")
    except UnicodeEncodeError as error:
        code = ord(error.object[error.start])
        raise TaskError(f"{place}: expected Unicode text, found half a surrogate pair "
                        f"(\\u{code:04x})") from error


def read_json_lines(path):
    rows = []
    for number, line in lines_of(path):
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError as error:
            raise TaskError(f"{path}:{number}: expected a JSON object: {error}") from error
        if not isinstance(rows[-1], dict):
            raise TaskError(f"{path}:{number}: expected a JSON object, found {line[:40]}")
        if "\\u" in line:
            check_encodable(rows[-1], f"{path}:{number}")
    return rows


def read_tsv(path):
    """sentence<TAB>label without a header, or columns by the names in the first line. A first line
    is a header unless it ends in a number or in a text that other lines end in too: a label."""
    lines = lines_of(path)
    last = [line.rpartition("\t")[2].strip() for _, line in lines]
    if not lines or last[0].isdigit() or last[0] in last[1:]:
        return read_sentences(path, lines)
    names = [name.strip() for name in lines[0][1].split("\t")]
    if names == ["sentence", "label"]:
        return read_sentences(path, lines[1:])
    rows = []
    for number, line in lines[1:]:
        fields = line.split("\t")
        if len(fields) != len(names):
            raise TaskError(f"{path}:{number}: expected {len(names)} fields as in the first line "
                            f"({', '.join(names)}), found {len(fields)}")
        rows.append(dict(zip(names, map(str.strip, fields))))
    return rows


def read_sentences(path, lines):
    rows = []
    for number, line in lines:
        sentence, tab, label = line.rpartition("\t")
        if not tab:
            raise TaskError(f"{path}:{number}: expected sentence<TAB>label, found no tab")
        rows.append({"sentence": sentence.strip(), "label": label.strip()})
    return rows


def read_csv(path):
    """By the names in the first line."""
    reader = csv.DictReader(io.StringIO(read_text(path), newline=""))
    rows = []
    for row in reader:
        if None in row or None in row.values():
            raise TaskError(f"{path}:{reader.line_num}: expected {len(reader.fieldnames)} fields "
                            f"as in the first line ({', '.join(reader.fieldnames)}), found "
                            f"{'more' if None in row else 'fewer'}")
        rows.append(row)
    return rows


def read_parquet(path):
    try:
        import pyarrow.parquet
    except ImportError as error:
        raise TaskError(f"{path}: Parquet needs pyarrow: pip install -r "
                        "tools/requirements-datasets.txt") from error
    try:
        return pyarrow.parquet.read_table(path).to_pylist()
    except pyarrow.ArrowException as error:
        raise TaskError(f"{path}: not a Parquet file that can be read: {error}") from error


def read_json(path):
    """SQuAD's JSON or DROP's: one row per question, in the order of the file."""
    content = json.loads(read_text(path))
    check_encodable(content, path)
    if isinstance(content, dict) and "data" in content:
        return [{"title": article.get("title", ""), "context": paragraph["context"],
                 "question": question["question"],
                 "answers": [answer["text"] for answer in question["answers"]]}
                for article in content["data"]
                for paragraph in article["paragraphs"] for question in paragraph["qas"]]
    passages = list(content.values()) if isinstance(content, dict) else []
    if not passages or not all("qa_pairs" in passage for passage in passages):
        raise TaskError(f"{path}: expected SQuAD's JSON (\"data\") or DROP's (passages with "
                        "\"qa_pairs\")")
    rows = [{"passage": passage["passage"], "question": pair["question"],
             "answers": drop_answers(pair)}
            for passage in passages for pair in passage["qa_pairs"]]
    return [row for row in rows if row["answers"]]


def drop_answers(pair):
    """As `datasets` has them: in the development set those of the people who were asked, else the
    question's own; none, and the question is left out, where an answer is not of one kind."""
    answers = [drop_answer(answer) for answer in pair.get("validated_answers") or [pair["answer"]]]
    return list(dict.fromkeys(text for texts in answers for text in texts)) if all(answers) else []


def drop_answer(answer):
    """Texts: of spans, or one of a number or a date."""
    date = answer.get("date") or {}
    date = " ".join(date.get(part, "") for part in ("day", "month", "year")).strip()
    kinds = [answer.get("spans") or [], [text for text in [str(answer.get("number", ""))] if text],
             [date] if date else []]
    found = [texts for texts in kinds if texts]
    return found[0] if len(found) == 1 else []


READERS = {".jsonl": read_json_lines, ".tsv": read_tsv, ".csv": read_csv,
           ".parquet": read_parquet, ".json": read_json}
DAMAGED = (KeyError, TypeError, AttributeError, EOFError, zlib.error, gzip.BadGzipFile, csv.Error)


def read_file(path):
    """A list of Rows as the file has them."""
    suffix = Path(path.stem).suffix if path.suffix == ".gz" else path.suffix
    if suffix not in READERS:
        raise TaskError(f"{path}: expected a file that ends in {', '.join(sorted(READERS))} or "
                        f".jsonl.gz, found {suffix or 'none of these'}")
    try:
        return [Row(fields, f"{path}, row {number}")
                for number, fields in enumerate(READERS[suffix](path), start=1)]
    except json.JSONDecodeError as error:
        raise TaskError(f"{path}: expected JSON: {error}") from error
    except DAMAGED as error:
        raise TaskError(f"{path}: damaged, or not in the layout that its name promises: "
                        f"{error!r}") from error


# --- raw rows to rows of a task -------------------------------------------------------------------

ENTAILMENT = {"rte": ("entailment", "not_entailment"),
              "cb": ("entailment", "contradiction", "neutral")}


def label_of(row, task):
    """0, 1, 2: numbers, numbers as text, truth values and SuperGLUE's words."""
    label = row.get("label")
    if label in ENTAILMENT.get(task, ()):
        return ENTAILMENT[task].index(label)
    if isinstance(label, bool):
        return int(label)
    text = str(label)
    if not text.isdigit():
        raise TaskError(f"label: expected 0, 1, ... {' or '.join(ENTAILMENT.get(task, ()))}, "
                        f"found {label!r}")
    return int(text)


def multirc_rows(raw):
    """SuperGLUE nests questions and answers; `datasets` has a row per answer, in that order."""
    if "passage" not in raw:
        return [{**raw, "label": label_of(raw, "multirc")}]
    return [{"paragraph": raw["passage"]["text"], "question": question["question"],
             "answer": answer["text"], "label": label_of(answer, "multirc")}
            for question in raw["passage"]["questions"] for answer in question["answers"]]


def record_rows(raw):
    """Entities and answers are spans there; `datasets` has their distinct texts, sorted."""
    if isinstance(raw["passage"], str):
        return [raw]
    text = raw["passage"]["text"]
    spans = raw["passage"]["entities"]
    entities = sorted({text[span["start"] : span["end"] + 1] for span in spans})
    return [{"passage": text, "query": question["query"], "entities": entities,
             "answers": sorted({answer["text"] for answer in question["answers"]})}
            for question in raw["qas"]]


def squad_rows(raw):
    answers = raw["answers"]
    return [{**raw, "answers": answers["text"] if isinstance(answers, dict) else answers}]


def drop_rows(raw):
    """Three layouts: ours, that of `datasets` (answers_spans), and prompts with "a|b" answers."""
    if "answers" in raw:
        return [raw]
    if "answers_spans" in raw:
        spans = raw["answers_spans"]["spans"]
        return [{"passage": raw["passage"], "question": raw["question"],
                 "answers": list(dict.fromkeys(spans))}]
    passage, _, question = raw["context"].removesuffix("\nAnswer:").rpartition("\nQuestion: ")
    return [{"passage": passage.removeprefix("Passage: "), "question": question,
             "answers": raw["ref_text"].split("|")}]


WSC_HOPELESS = ("Kamenev and Zinoviev", "Kamenev, Zinoviev, and Stalin")


def wsc_span(text, span, index):
    """A span as wsc.fixed of `datasets` has it: one that its text does not contain gets the case of
    the text's word and loses final full stops and line breaks. Two are beyond that."""
    if span in text or span in WSC_HOPELESS:
        return span
    first = span[0].lower() if text.split()[index][0].islower() else span[0].upper()
    return (first + span[1:]).rstrip(".").replace("\n", " ")


def wsc_rows(raw):
    row = {**raw, **raw.get("target", {}), "label": label_of(raw, "wsc")}
    if "span1_index" in row:
        for name in ("span1", "span2"):
            row[f"{name}_text"] = wsc_span(row["text"], row[f"{name}_text"], row[f"{name}_index"])
    return [row]


def boolq_rows(raw):
    return [{**raw, "answer": raw["answer"] if "answer" in raw else bool(label_of(raw, "boolq"))}]


OWN_ROWS = {"multirc": multirc_rows, "record": record_rows, "squad": squad_rows, "drop": drop_rows,
            "wsc": wsc_rows, "boolq": boolq_rows}


def task_rows(task, raw_rows):
    """Rows with the fields that the task's template reads."""
    rows = []
    for raw in raw_rows:
        try:
            made = (OWN_ROWS[task](raw) if task in OWN_ROWS
                    else [{**raw, "label": label_of(raw, task)}])
        except (KeyError, TypeError, AttributeError, TaskError) as error:
            reason = f"no field {error}" if isinstance(error, KeyError) else error
            raise TaskError(f"{raw.place}: not a row of {task}: {reason}") from error
        rows += [Row(fields, raw.place) for fields in made]
    return rows


# --- rows of the hub -----------------------------------------------------------------------------

def hub_rows(task, hub):
    """(training rows, test rows) through Hugging Face `datasets`."""
    path, name, train, test = hub
    try:
        import datasets
    except ImportError as error:
        raise TaskError(f"{task}: without --source its rows come from Hugging Face datasets: pip "
                        "install -r tools/requirements-datasets.txt, or give --source a file or "
                        "folder") from error
    try:
        found = datasets.load_dataset(path, name)
        return [task_rows(task, [Row(fields, f"{path} {split}, row {number}")
                                 for number, fields in enumerate(found[split], start=1)])
                for split in (train, test)]
    except (OSError, ValueError, RuntimeError, KeyError) as error:
        raise TaskError(f"{task}: {path} cannot be loaded ({error}); give --source a file or "
                        "folder") from error
