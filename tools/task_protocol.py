"""The eleven tasks that MeZO (arXiv 2305.17333) and QZO (arXiv 2505.13430) report: rows to prompts,
candidates and right answers, as MeZO's templates have them.

A row is a dictionary with the field names of Hugging Face `datasets` (task_rows.py makes them of
other layouts). To add a task: a function from a row to an Example and a line in TASKS.
"""
from typing import Callable, NamedTuple


class Example(NamedTuple):
    """The text of candidate i is prompt + candidates[i]."""
    prompt: str
    candidates: list
    right: list            # indices of the right candidates; a loss is taken over the first
    references: list = []  # texts that a generated answer is compared with


class Task(NamedTuple):
    example: Callable      # row to Example
    loss: str              # "classification" over candidates, or "lm" over the right one
    metric: str
    dev: int               # examples of the development split in MeZO's scripts
    hub: tuple             # Hugging Face datasets: path, name, training split, evaluation split
    calibration: Callable = None  # row to the prompt without its question (SFC); None: no options


def words(prompt, candidates, label):
    return Example(prompt, list(candidates), [label])


def sst2(row):
    return words(f"{row['sentence'].strip()} It was", (" terrible", " great"), row["label"])


def rte(row):
    return words(f"{row['premise']}\nDoes this mean that \"{row['hypothesis']}\" is true? "
                 "Yes or No?\n", ("Yes", "No"), row["label"])


def cb(row):
    return words(f"Suppose {row['premise']} Can we infer that \"{row['hypothesis']}\"? "
                 "Yes, No, or Maybe?\n", ("Yes", "No", "Maybe"), row["label"])


def boolq(row):
    question = row["question"] + ("" if row["question"].endswith("?") else "?")
    return words(f"{row['passage']} {question[0].upper()}{question[1:]}\n", ("Yes", "No"),
                 0 if row["answer"] else 1)


def wsc(row):
    return words(f"{row['text']}\nIn the previous sentence, does the pronoun "
                 f"\"{row['span2_text'].lower()}\" refer to {row['span1_text']}? Yes or No?\n",
                 ("No", "Yes"), row["label"])


def wic(row):
    return words(f"Does the word \"{row['word']}\" have the same meaning in these two sentences? "
                 f"Yes, No?\n{row['sentence1']}\n{row['sentence2']}\n", ("No", "Yes"),
                 row["label"])


def multirc(row):
    return words(f"{row['paragraph']}\nQuestion: {row['question']}\nI found this answer "
                 f"\"{row['answer']}\". Is that correct? Yes or No?\n", ("No", "Yes"), row["label"])


def copa_joint(row):
    return {"effect": " so ", "cause": " because "}[row["question"]]


def copa(row):
    premise = row["premise"].rstrip()
    premise = premise[:-1] if premise.endswith(".") else premise

    def continued(choice):
        first, space, rest = choice.partition(" ")
        return (first if first == "I" else first.lower()) + space + rest

    return Example(premise + copa_joint(row),
                   [continued(row["choice1"]), continued(row["choice2"])], [row["label"]])


def record(row):
    passage = row["passage"].replace("@highlight\n", "- ")
    queries = [" " + row["query"].replace("@placeholder", entity) for entity in row["entities"]]
    # MeZO's loss is over the first right answer in the order of the answers.
    right = [row["entities"].index(answer) for answer in row["answers"]
             if answer in row["entities"]]
    return Example(passage + "\n-", queries, right)


def squad(row):
    return generated(f"Title: {row['title']}\nContext: {row['context']}\n"
                     f"Question: {row['question'].strip()}\nAnswer:", row["answers"])


def drop(row):
    return generated(f"Passage: {row['passage']}\nQuestion: {row['question'].strip()}\nAnswer:",
                     row["answers"])


def generated(prompt, answers):
    return Example(prompt, [f" {answers[0]}\n"], [0], list(answers))


def constant(prompt):
    return lambda row: prompt


GLUE, SUPER = ("train", "validation"), "aps/super_glue"
EMPTY = constant("")
TASKS = {
    "sst2": Task(sst2, "classification", "accuracy", 500, ("nyu-mll/glue", "sst2", *GLUE),
                 constant(" It was")),
    "rte": Task(rte, "classification", "accuracy", 500, (SUPER, "rte", *GLUE), EMPTY),
    "cb": Task(cb, "classification", "accuracy", 100, (SUPER, "cb", *GLUE), EMPTY),
    "boolq": Task(boolq, "classification", "accuracy", 500, ("google/boolq", None, *GLUE), EMPTY),
    "wsc": Task(wsc, "classification", "accuracy", 500, (SUPER, "wsc.fixed", *GLUE), EMPTY),
    "wic": Task(wic, "classification", "accuracy", 500, (SUPER, "wic", *GLUE), EMPTY),
    "multirc": Task(multirc, "classification", "accuracy", 500, (SUPER, "multirc", *GLUE), EMPTY),
    "copa": Task(copa, "lm", "accuracy", 100, (SUPER, "copa", *GLUE), copa_joint),
    "record": Task(record, "lm", "accuracy", 500, (SUPER, "record", *GLUE),
                   constant("-")),
    "squad": Task(squad, "lm", "f1", 500, ("rajpurkar/squad", None, *GLUE)),
    "drop": Task(drop, "lm", "f1", 500, ("ucinlp/drop", None, *GLUE)),
}
