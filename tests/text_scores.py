"""F1 and exact match by SQuAD's published rules, written from their description with Python's own
Unicode tables. `pairs FOLDER` writes pairs of texts for text_scores.c, with the real answers in
FOLDER where they are there; `check PAIRS SCORES` compares."""
import collections
import gzip
import json
import pathlib
import random
import re
import string
import sys


def normalised(text):
    text = "".join(character for character in text.lower() if character not in string.punctuation)
    return re.sub(r"\b(a|an|the)\b", " ", text).split()


def f1(answer, reference):
    answer, reference = normalised(answer), normalised(reference)
    shared = sum((collections.Counter(answer) & collections.Counter(reference)).values())
    if shared == 0:
        return 0.0
    precision, recall = shared / len(answer), shared / len(reference)
    return 2 * precision * recall / (precision + recall)


def exact_match(answer, reference):
    return float(normalised(answer) == normalised(reference))


def escaped(text):
    return "".join(f"\\x{byte:02x}" if byte < 32 or byte > 126 or byte == 92 else chr(byte)
                   for byte in text.encode())


def unescaped(text):
    return re.sub(rb"\\x(..)", lambda match: bytes([int(match[1], 16)]), text.encode()).decode()


def real_texts(folder):
    texts = []
    squad, drop = folder / "squad/xquad.en.json", folder / "drop/drop_v0_dev.jsonl.gz"
    if squad.exists():
        for document in json.loads(squad.read_text())["data"]:
            for paragraph in document["paragraphs"]:
                texts.append(paragraph["context"])
                texts += [answer["text"] for qa in paragraph["qas"] for answer in qa["answers"]]
    if drop.exists():
        texts += gzip.open(drop, "rt", encoding="utf-8").read().split('"')
    return texts


# Letters whose small forms, and signs whose kinds, the C code has.
CHARACTERS = ([chr(code) for code in [*range(1, 0x180), *range(0x391, 0x3A2), *range(0x3B1, 0x3C2),
                                      *range(0x400, 0x460), *range(0x2010, 0x2030),
                                      *range(0x20A0, 0x20C0), *range(0x3041, 0x3060)]
               if code != 0x130])


def made_texts(draw):
    words = ["a", "an", "the", "The", "A", "cat", "can't", "U.S.", "1,000", "the-end", "_the_",
             "a_n", "\u00c9t\u00e9", "\u2013the\u2019s", "\u00a0", "  ", "\u041c\u0438\u0440",
             "x\u0301the"]
    yield from ("", " ", "the", "a the an", "...")
    for _ in range(3000):
        parts = draw.choices(words, k=draw.randrange(1, 8))
        parts += draw.choices(CHARACTERS, k=draw.randrange(0, 5))
        draw.shuffle(parts)
        yield draw.choice(["", " "]).join(parts)


def pairs(folder):
    draw = random.Random(7)
    for texts in (list(made_texts(draw)), [t for t in real_texts(folder) if len(t) < 2000]):
        for text in texts:
            other = draw.choice([text.upper(), text.title(), draw.choice(texts),
                                 " ".join(text.split()[: draw.randrange(1, 9)]),
                                 text + " the", f"{text} {draw.choice(texts)}"])
            # Without capitals that Python spells with two characters, or by what follows them.
            if not set(text + other) & set("\u0130\u03a3\u00df\u0149\ufb01\ufb02"):
                print(f"{escaped(text)}\t{escaped(other)}")


def check(pairs_path, scores_path):
    lines = pathlib.Path(pairs_path).read_text().splitlines()
    scores = pathlib.Path(scores_path).read_text().splitlines()
    if len(lines) != len(scores):
        sys.exit(f"{len(lines)} pairs, {len(scores)} scores")
    middling = 0
    for line, found in zip(lines, scores):
        answer, reference = map(unescaped, line.split("\t"))
        wanted = (f1(answer, reference), exact_match(answer, reference))
        if wanted != tuple(map(float, found.split())):
            sys.exit(f"{answer!r} and {reference!r}: expected {wanted}, found {found}")
        middling += 0 < wanted[0] < 1
    print(f"{len(lines)} pairs, {middling} of them with an F1 between 0 and 1")


if __name__ == "__main__":
    if sys.argv[1] == "pairs":
        pairs(pathlib.Path(sys.argv[2]))
    else:
        check(*sys.argv[2:])
