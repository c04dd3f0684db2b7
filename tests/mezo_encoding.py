"""MeZO's encoding of its eleven tasks, written from its published description and nothing of
tools/: the second opinion that compare_tasks.py holds against tools/prepare_task.py.

A sample knows its prompt, its verbalized candidates and what is right; encode() makes token ids of
them by the rules of MeZO's encode_prompt. Rows come from the archives' own files, in the fields of
Hugging Face `datasets`. The order of work differs from the tool's on purpose: a candidate's whole
text is written out, where the tool joins prompt and option.
"""
import gzip
import json
from dataclasses import dataclass, field


@dataclass
class Sample:
    prompt: str
    texts: list                 # one per candidate, the prompt included
    right: list                 # right candidates; the first is trained on
    golds: list = field(default_factory=list)  # answers of a generated text
    generated: bool = False
    bare: tuple = ("", ())      # prompt and texts without the question: MeZO's encode_sfc


def lines(path):
    opener = gzip.open if path.name.endswith(".gz") else open
    with opener(path, "rt", encoding="utf-8", newline="\n") as file:
        return [json.loads(line) for line in file if line.strip()]


# --- files to samples -----------------------------------------------------------------------------

def sst2(path):
    samples = []
    with open(path, encoding="utf-8", newline="\n") as file:
        for line in file:
            sentence, label = line.rstrip("\n").rsplit("\t", 1)
            if label in ("0", "1"):
                prompt = sentence.strip() + " It was"
                samples.append(Sample(prompt, [prompt + " terrible", prompt + " great"],
                                      [int(label)],
                                      bare=(" It was", [" It was terrible", " It was great"])))
    return samples


def after_newline(prompt, words, right):
    return Sample(prompt, [prompt + word for word in words], [right], bare=("", words))


def rte(path):
    return [after_newline(row["premise"] + '\nDoes this mean that "' + row["hypothesis"] +
                          '" is true? Yes or No?\n', ["Yes", "No"],
                          ["entailment", "not_entailment"].index(row["label"]))
            for row in lines(path)]


def cb(path):
    return [after_newline("Suppose " + row["premise"] + ' Can we infer that "' +
                          row["hypothesis"] + '"? Yes, No, or Maybe?\n', ["Yes", "No", "Maybe"],
                          ["entailment", "contradiction", "neutral"].index(row["label"]))
            for row in lines(path)]


def boolq(path):
    samples = []
    for row in lines(path):
        question = row["question"] if row["question"][-1] == "?" else row["question"] + "?"
        prompt = row["passage"] + " " + question[:1].upper() + question[1:] + "\n"
        samples.append(after_newline(prompt, ["Yes", "No"], 0 if row["label"] else 1))
    return samples


def wsc_spans(row):
    """The spans as the configuration wsc.fixed of `datasets` has them: a span that is not in the
    text gets the case of the text's word, and loses final full stops and line breaks."""
    spans = []
    for name in ("span1", "span2"):
        text, index = row["target"][name + "_text"], row["target"][name + "_index"]
        hopeless = text in ("Kamenev and Zinoviev", "Kamenev, Zinoviev, and Stalin")
        if text not in row["text"] and not hopeless:
            is_lower = row["text"].split()[index][0].islower()
            text = (text[0].lower() if is_lower else text[0].upper()) + text[1:]
            text = text.rstrip(".").replace("\n", " ")
        spans.append(text)
    return spans


def wsc(path):
    samples = []
    for row in lines(path):
        first, second = wsc_spans(row)
        prompt = (row["text"] + '\nIn the previous sentence, does the pronoun "' + second.lower() +
                  '" refer to ' + first + "? Yes or No?\n")
        samples.append(after_newline(prompt, ["No", "Yes"], int(row["label"])))
    return samples


def wic(path):
    return [after_newline('Does the word "' + row["word"] + '" have the same meaning in these two '
                          "sentences? Yes, No?\n" + row["sentence1"] + "\n" + row["sentence2"] +
                          "\n", ["No", "Yes"], int(row["label"])) for row in lines(path)]


def multirc(path):
    return [after_newline(row["passage"]["text"] + "\nQuestion: " + question["question"] +
                          '\nI found this answer "' + answer["text"] +
                          '". Is that correct? Yes or No?\n', ["No", "Yes"], int(answer["label"]))
            for row in lines(path) for question in row["passage"]["questions"]
            for answer in question["answers"]]


def copa(path):
    samples = []
    for row in lines(path):
        premise = row["premise"].rstrip()
        premise = premise[:-1] if premise[-1:] == "." else premise
        prompt = premise + (" so " if row["question"] == "effect" else " because ")
        texts = []
        for choice in (row["choice1"], row["choice2"]):
            words = choice.split(" ")
            words[0] = words[0] if words[0] == "I" else words[0].lower()
            texts.append(prompt + " ".join(words))
        joint = "so" if row["question"] == "effect" else "because"
        samples.append(Sample(prompt, texts, [row["label"]],
                              bare=(joint, [joint + text[len(prompt) - 1 :] for text in texts])))
    return samples


def record(path):
    samples = []
    for row in lines(path):
        text = row["passage"]["text"]
        entities = sorted({text[span["start"] : span["end"] + 1]
                           for span in row["passage"]["entities"]})
        passage = text.replace("@highlight\n", "- ")
        for query in row["qas"]:
            answers = sorted({answer["text"] for answer in query["answers"]})
            texts = [passage + "\n- " + query["query"].replace("@placeholder", entity)
                     for entity in entities]
            samples.append(Sample(passage + "\n-", texts,
                                  [entities.index(answer) for answer in answers],
                                  bare=("-", [text[len(passage) + 1 :] for text in texts])))
    return samples


def generated(prompt, answers):
    return Sample(prompt, [prompt + " " + answers[0] + "\n"], [0], answers, generated=True)


def squad(path):
    articles = json.loads(path.read_text(encoding="utf-8"))["data"]
    return [generated("Title: " + article.get("title", "") + "\nContext: " + paragraph["context"] +
                      "\nQuestion: " + question["question"].strip() + "\nAnswer:",
                      [answer["text"] for answer in question["answers"]])
            for article in articles for paragraph in article["paragraphs"]
            for question in paragraph["qas"]]


def drop(path):
    """The file has whole prompts ("Passage: ...\\nQuestion: ...\\nAnswer:") and answers in one."""
    samples = []
    for row in lines(path):
        body = row["context"][len("Passage: ") : -len("\nAnswer:")]
        cut = body.rindex("\nQuestion: ")
        question = body[cut + len("\nQuestion: ") :]
        prompt = "Passage: " + body[:cut] + "\nQuestion: " + question.strip() + "\nAnswer:"
        samples.append(generated(prompt, row["ref_text"].split("|")))
    return samples


# --- samples to tokens ----------------------------------------------------------------------------

MAX_NEW_TOKENS = 50


@dataclass
class Row:
    ids: list
    option: int  # the last so many tokens are scored


class Encoder:
    """tokenize: a text to ids without special tokens; bos: an id, or None."""

    def __init__(self, tokenize, bos, max_length):
        self.tokenize, self.bos, self.max_length = tokenize, bos, max_length
        self.cut = 0  # rows that were too long

    def encode(self, text):
        return ([] if self.bos is None else [self.bos]) + list(self.tokenize(text))

    def truncate(self, ids, most):
        self.cut += len(ids) > most
        if self.bos is not None:
            return ids[:1] + ids[1:][-(most - 1) :]
        return ids[-most:]

    def rows(self, sample, demonstrations=(), is_training=True):
        """One row per candidate. A generated answer is trained with room for the tokens that
        might be generated; where it is generated the same room is kept behind its prompt."""
        before = "\n\n".join(demo.texts[demo.right[0]].strip() for demo in demonstrations).strip()
        prompt_tokens = len(self.encode(sample.prompt.strip(" ")))
        rows = []
        for text in sample.texts:
            text = text if sample.generated else text.strip(" ")
            option = len(self.encode(text)) - prompt_tokens
            whole = (before + "\n\n" + text).lstrip().strip(" ")
            most = self.max_length - (MAX_NEW_TOKENS if sample.generated else 0)
            if sample.generated and not is_training:  # a file has no rows longer than that
                most = min(most + option, self.max_length)
            ids = self.truncate(self.encode(whole), most)
            # What is longer than the row leaves nothing to condition on but its first token.
            rows.append(Row(ids, min(option, len(ids) - 1)))
        return rows
