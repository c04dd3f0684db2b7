"""Scores of generated answers apart from the program's own: `prompts TASK SPLIT` prints the ids of
every prompt on a line (the gold row without its answer, cut on its left as MeZO does); `score TASK
SPLIT TOKENIZER IDS` takes what `qzo generate --print-ids` made of them, lets the tokenizer's own
library decode it, and prints the mean F1 by text_scores.py."""
import sys

import numpy as np
from safetensors import safe_open
from tokenizers import Tokenizer

import text_scores

NEW_TOKENS = 50


def prompts_of(task, split):
    metadata = task.metadata()
    part = {name: task.get_tensor(f"{split}.{name}")
            for name in ("option_begin", "token_begin", "answer_tokens", "gold", "tokens")}
    for option in part["option_begin"][:-1] + part["gold"]:
        row = part["tokens"][part["token_begin"][option]:part["token_begin"][option + 1]]
        prompt = row[: len(row) - part["answer_tokens"][option]].tolist()
        room = int(metadata["max_length"]) - NEW_TOKENS
        if len(prompt) > room:
            first = metadata["bos"] != "none"
            prompt = prompt[:first] + prompt[first - room:]
        yield prompt


def references_of(task, split):
    begin = task.get_tensor(f"{split}.reference_begin")
    text_begin = task.get_tensor(f"{split}.reference_text_begin")
    texts = task.get_tensor(f"{split}.reference_bytes").tobytes()
    for first, last in zip(begin, begin[1:]):
        yield [texts[text_begin[t]:text_begin[t + 1]].decode() for t in range(first, last)]


def main():
    command, path, split, *rest = sys.argv[1:]
    with safe_open(path, framework="numpy") as task:
        prompts, references = list(prompts_of(task, split)), list(references_of(task, split))
    if command == "prompts":
        for prompt in prompts:
            print(*prompt)
        return
    tokenizer = Tokenizer.from_file(f"{rest[0]}/tokenizer.json")
    scores = []
    for prompt, texts, line in zip(prompts, references, open(rest[1]), strict=True):
        ids = [int(word) for word in line.split()]
        assert ids[: len(prompt)] == prompt
        answer = tokenizer.decode(ids[len(prompt):]).split("\n")[0]
        scores.append(max(text_scores.f1(answer, text) for text in texts))
    print(repr(float(np.mean(scores))), sum(score > 0 for score in scores))


if __name__ == "__main__":
    main()
