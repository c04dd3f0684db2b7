"""The language of the tiny model: two clauses of one hidden sentiment, 64 words.

    the plot was very dull and bad . this cast is awful .

The second clause can be foretold from the first only through the sentiment, so that a model of
this text learns it. Half of the rows go on with "? yes ." or "? no ." at random: the question is
known to the model, its answer is not.
"""
import json

import numpy as np
from tokenizers import Tokenizer, models, pre_tokenizers, processors

SPECIAL = ("<unk>", "<s>", "</s>")
DETERMINERS = ("the", "this", "that")
NOUNS = ("plot", "cast", "film", "movie", "acting", "story", "script", "music", "ending")
VERBS = ("was", "is", "seems", "felt")
ADVERBS = ("very", "quite", "so", "really")
GOOD = ("good", "great", "fine", "superb", "lovely", "clever", "warm", "funny", "fresh", "bright",
        "moving", "smart", "tender", "rich", "sharp", "sweet", "bold", "witty")
BAD = ("bad", "awful", "dull", "poor", "weak", "bland", "silly", "stale", "boring", "cheap",
       "clumsy", "lazy", "flat", "tired", "messy", "cold", "lame", "empty")
OTHER = (".", "?", "yes", "no", "and")
WORDS = SPECIAL + OTHER + DETERMINERS + NOUNS + VERBS + ADVERBS + GOOD + BAD
assert len(WORDS) == len(set(WORDS)) == 64


def clause(draw, adjectives):
    """DET NOUN VERB [ADV] ADJ [and ADJ] ."""
    words = [draw.choice(DETERMINERS), draw.choice(NOUNS), draw.choice(VERBS)]
    if draw.random() < 0.3:
        words.append(draw.choice(ADVERBS))
    first, second = draw.choice(adjectives, 2, replace=False)
    words.append(first)
    if draw.random() < 0.3:
        words += ["and", second]
    return words + ["."]


def text(draw, good):
    adjectives = GOOD if good else BAD
    return " ".join(str(word) for word in clause(draw, adjectives) + clause(draw, adjectives))


def training_row(draw):
    row = text(draw, draw.random() < 0.5)
    if draw.random() < 0.5:
        row += " ? yes ." if draw.random() < 0.5 else " ? no ."
    return row


def labelled(counts, seed):
    """For each count a list of (text, label), as many of each label, shuffled; no text twice."""
    draw = np.random.default_rng(seed)
    seen, parts = set(), []
    for count in counts:
        rows = []
        while len(rows) < count:
            label = len(rows) % 2
            row = text(draw, label == 1)
            if row not in seen:
                seen.add(row)
                rows.append((row, label))
        parts.append([rows[i] for i in draw.permutation(count)])
    return parts


def tokenizer():
    out = Tokenizer(models.WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="<unk>"))
    out.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    out.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    out.add_special_tokens(list(SPECIAL))
    return out


def tokenizer_config():
    return {"tokenizer_class": "PreTrainedTokenizerFast", "bos_token": "<s>", "eos_token": "</s>",
            "unk_token": "<unk>", "add_bos_token": True, "model_max_length": 64}


def write_labelled(path, rows):
    lines = (json.dumps({"text": row, "label": label}) for row, label in rows)
    path.write_text("\n".join(lines) + "\n")
