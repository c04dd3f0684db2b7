#!/usr/bin/env python3
"""Trains the larger model of the study of update rules: SENTENCES PHRASES OUT --text FILE ...

SENTENCES is a folder with SST-2's sentences, train.tsv and test.tsv (sentence<TAB>label);
PHRASES one with its phrases as GLUE has them (train.tsv with a header); the texts are plain
English. OUT gets
    OUT/model           a Llama of 5.3 million parameters with its tokenizer, fp32
    OUT/task/train.tsv  sentences that the model has not seen, for qzo to train on
    OUT/task/test.tsv   those of SENTENCES/test.tsv; of both, the shorter ones

The model reads the texts and, as prompts with their answers ("... It was good"), the sentences that
are not kept apart and phrases. A phrase of more than SHORT_WORDS words that stands in a sentence
kept apart, or in one of the test split, is left out. So the task is known and its examples are not:
what quantization costs can be won back, as with a model that was trained on the web.

One thread and bf16 products where the processor has them: the weights are those of one machine and
torch. Needs requirements-oracle.txt.
"""
import argparse
import json
import math
import random
import re
import sys
import time
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import LlamaConfig, LlamaForCausalLM

import tensor_file

APART = 2500  # sentences for qzo, the last of SENTENCES/train.tsv
APART_WORDS = 16  # those that are longer are not in its task: a step costs what it has of tokens
SHORT_WORDS = 3
PROMPT, ANSWERS = " It was", (" bad", " good")
SENTENCE_REPEATS = 2  # whole sentences are what the task asks for, and few

VOCABULARY = 2048
BOS, EOS = 1, 2
CONFIG = {
    "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 256,
    "intermediate_size": 704, "num_hidden_layers": 6, "num_attention_heads": 4,
    "num_key_value_heads": 4, "vocab_size": VOCABULARY, "max_position_embeddings": 512,
    "rms_norm_eps": 1e-5, "rope_theta": 10000.0, "hidden_act": "silu", "attention_bias": False,
    "mlp_bias": False, "tie_word_embeddings": True, "bos_token_id": BOS, "eos_token_id": EOS,
    "initializer_range": 0.02, "torch_dtype": "float32",
}
CONTEXT, ROWS = 128, 32
LEARNING_RATE, WARMUP_STEPS, WEIGHT_DECAY = 1.5e-3, 60, 0.05
ANSWER_WEIGHT = 1.0  # of the mean loss of answers, beside that of all tokens


def labelled(path, has_header=False):
    lines = path.read_text().splitlines()[has_header:]
    rows = (line.rsplit("\t", 1) for line in lines if "\t" in line)
    return [(text.strip(), int(label)) for text, label in rows]


def words_of(text):
    """What two copies of SST-2 that differ in hyphens and quotes have in common."""
    return " ".join(re.findall(r"[a-z0-9]+", text.lower()))


def unseen_phrases(phrases, hidden):
    hidden_text = " | ".join(f" {words_of(text)} " for text, _ in hidden)
    kept = []
    for text, label in phrases:
        words = words_of(text)
        if words and (words.count(" ") < SHORT_WORDS or f" {words} " not in hidden_text):
            kept.append((text, label))
    return kept


def train_tokenizer(texts):
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.train_from_iterator(texts, trainers.BpeTrainer(
        vocab_size=VOCABULARY, special_tokens=["<unk>", "<s>", "</s>"], show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet()))
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A",
                                                             special_tokens=[("<s>", BOS)])
    return tokenizer


def rows_of(pieces):
    """Pieces (ids, place of the answer or None) one behind another, cut into rows."""
    ids, is_answer = [], []
    for piece, answer_at in pieces:
        ids += [BOS, *piece]
        is_answer += [False] + [place == answer_at for place in range(len(piece))]
    rows = len(ids) // (CONTEXT + 1)
    cut = rows * (CONTEXT + 1)
    return torch.tensor(ids[:cut]).view(rows, -1), torch.tensor(is_answer[:cut]).view(rows, -1)


def training_rows(texts, prompts, passes):
    """The texts once and the prompts `passes` times, mixed evenly."""
    draw = random.Random(0)
    chunks = [(ids[first:first + CONTEXT], None)
              for ids in texts for first in range(0, len(ids), CONTEXT)]
    draw.shuffle(chunks)
    pieces = []
    for index in range(passes):
        part = chunks[index::passes] + prompts
        draw.shuffle(part)
        pieces += part
    return rows_of(pieces)


def loss_of(model, ids, is_answer):
    with torch.autocast("cpu", torch.bfloat16):
        logits = model(ids[:, :-1]).logits
    losses = torch.nn.functional.cross_entropy(logits.float().flatten(0, 1), ids[:, 1:].flatten(),
                                               reduction="none")
    return losses.mean(), losses[is_answer[:, 1:].flatten()].mean()


def train(ids, is_answer, log):
    torch.manual_seed(0)
    model = LlamaForCausalLM(LlamaConfig(**{key: value for key, value in CONFIG.items()
                                            if key != "architectures"}))
    optimizer = torch.optim.AdamW(model.parameters(), LEARNING_RATE, (0.9, 0.95),
                                  weight_decay=WEIGHT_DECAY)
    steps, start = len(ids) // ROWS, time.monotonic()
    for step in range(steps):
        cosine = 0.05 + 0.95 * (1 + math.cos(math.pi * step / steps)) / 2
        rate = min((step + 1) / WARMUP_STEPS, cosine)
        for group in optimizer.param_groups:
            group["lr"] = LEARNING_RATE * rate
        part = slice(step * ROWS, (step + 1) * ROWS)
        all_loss, answer_loss = loss_of(model, ids[part], is_answer[part])
        optimizer.zero_grad()
        (all_loss + ANSWER_WEIGHT * answer_loss).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        if step % 50 == 0 or step == steps - 1:
            log(f"step {step + 1} of {steps}: loss {all_loss.item():.3f}, of answers "
                f"{answer_loss.item():.3f}; {time.monotonic() - start:.0f} s")
    return model


def score_of(model, tokenizer, rows):
    """Share of the sentences whose right answer is the likelier one."""
    answers = [tokenizer.encode(answer, add_special_tokens=False).ids[0] for answer in ANSWERS]
    right = 0
    with torch.no_grad():
        for text, label in rows:
            ids = torch.tensor([tokenizer.encode(text + PROMPT).ids])
            bad, good = model(ids).logits[0, -1, answers].tolist()
            right += (good > bad) == (label == 1)
    return right / len(rows)


def save(model, tokenizer, folder):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(CONFIG, indent=2) + "\n")
    tensors = {name: tensor_file.tensor_of(parameter.detach().float().numpy())
               for name, parameter in model.named_parameters()}
    tensor_file.write_folder(folder, tensors)
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps({
        "tokenizer_class": "PreTrainedTokenizerFast", "bos_token": "<s>", "eos_token": "</s>",
        "unk_token": "<unk>", "add_bos_token": True, "model_max_length": 512}, indent=2) + "\n")


def write_rows(path, rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{text}\t{label}\n" for text, label in rows
                            if len(text.split()) <= APART_WORDS))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("sentences", type=Path)
    parser.add_argument("phrases", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--text", type=Path, nargs="+", required=True)
    parser.add_argument("--passes", type=int, default=2, help="over the prompts")
    given = parser.parse_args()
    torch.set_num_threads(1)

    def log(line):
        print(line, flush=True)

    sentences, test = labelled(given.sentences / "train.tsv"), given.sentences / "test.tsv"
    known, apart = sentences[:-APART], sentences[-APART:]
    phrases = labelled(given.phrases / "train.tsv", has_header=True)
    unseen = unseen_phrases(phrases, apart + labelled(test))
    log(f"{len(known)} sentences, {len(unseen)} of {len(phrases)} phrases; {len(apart)} sentences "
        "kept apart")
    write_rows(given.out / "task" / "train.tsv", apart)
    write_rows(given.out / "task" / "test.tsv", labelled(test))
    raw_texts = [path.read_text() for path in given.text]
    answered = [text + PROMPT + ANSWERS[label]
                for text, label in known * SENTENCE_REPEATS + unseen]
    tokenizer = train_tokenizer(raw_texts + answered)
    texts = [tokenizer.encode(text, add_special_tokens=False).ids for text in raw_texts]
    encoded = [tokenizer.encode(text, add_special_tokens=False).ids for text in answered]
    prompts = [(ids, len(ids) - 1) for ids in encoded if len(ids) <= CONTEXT]
    log(f"{sum(map(len, texts))} tokens of text, {sum(len(ids) for ids, _ in prompts)} of prompts")
    model = train(*training_rows(texts, prompts, given.passes), log)
    save(model, tokenizer, given.out / "model")
    log(f"of the sentences kept apart {score_of(model, tokenizer, apart):.4f} right")
    return 0


if __name__ == "__main__":
    sys.exit(main())
