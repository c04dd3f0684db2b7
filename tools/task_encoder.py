"""Prompts and options to token ids, by MeZO's rules for option lengths and truncation."""
import json
from pathlib import Path

import tokenizers
import xxhash

import token_pieces
from task_rows import TaskError

# The class whose post-processor alone decides what stands in front; Llama-3 has it.
GENERIC_CLASS = "PreTrainedTokenizerFast"
MAX_NEW_TOKENS = 50  # of a generated answer, by default


def json_of(path):
    """An object; an empty one where there is no such file."""
    try:
        found = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    except ValueError as error:
        raise TaskError(f"{path}: expected JSON: {error}") from error
    if not isinstance(found, dict):
        raise TaskError(f"{path}: expected a JSON object")
    return found


def tokenizer_files(folder):
    """OPT's folders have GPT-2's two files in place of one."""
    whole, parts = folder / "tokenizer.json", [folder / "vocab.json", folder / "merges.txt"]
    if whole.exists():
        return [whole]
    return parts if all(path.exists() for path in parts) else []


def open_tokenizer(folder):
    """(tokenizer, digest of its files)"""
    files = tokenizer_files(folder)
    if not files:
        raise TaskError(f"{folder / 'tokenizer.json'}: expected a tokenizer of Hugging Face (or "
                        "vocab.json and merges.txt beside it), found none")
    try:
        if len(files) == 1:
            tokenizer = tokenizers.Tokenizer.from_file(str(files[0]))
        else:
            model = tokenizers.models.BPE.from_file(*map(str, files))
            tokenizer = tokenizers.Tokenizer(model)
            tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
            tokenizer.decoder = tokenizers.decoders.ByteLevel()
    except Exception as error:  # the package raises no narrower one
        raise TaskError(f"{' and '.join(map(str, files))}: not a tokenizer that can be read: "
                        f"{error}") from error
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return tokenizer, xxhash.xxh3_64_hexdigest(b"".join(path.read_bytes() for path in files))


class Encoder:
    def __init__(self, folder, bos, max_length, new_tokens=None):
        folder = Path(folder)
        self.tokenizer, self.digest = open_tokenizer(folder)
        config = json_of(folder / "config.json")
        self.vocab_size = config.get("vocab_size") or self.tokenizer.get_vocab_size()
        self.bos = self.find_bos(bos, config, json_of(folder / "tokenizer_config.json"))
        self.max_length = max_length
        self.new_tokens = new_tokens or MAX_NEW_TOKENS
        self.cut = 0     # rows that were too long
        self.filled = 0  # rows that are all answer

    def find_bos(self, wanted, config, tokenizer_config):
        """The id put before each row, or None. auto: for OPT 0, as MeZO sets it; else what
        tokenizer_config.json says (add_bos_token), unless its class does not read that; else what
        the tokenizer does on its own; else what its kind does: SentencePiece puts one, byte-level
        BPE none."""
        if wanted == "no":
            return None
        if wanted.isdigit():
            return int(wanted)
        token = tokenizer_config.get("bos_token")
        token = token.get("content") if isinstance(token, dict) else token
        bos = self.tokenizer.token_to_id(token) if token else config.get("bos_token_id")
        if wanted == "yes" and bos is None:
            raise TaskError("--bos yes: expected bos_token in tokenizer_config.json or "
                            "bos_token_id in config.json, found neither")
        if wanted == "auto" and config.get("model_type") == "opt":
            return 0
        if wanted == "yes" or bos is None:
            return bos
        is_generic = tokenizer_config.get("tokenizer_class") == GENERIC_CLASS
        if "add_bos_token" in tokenizer_config and not is_generic:
            return bos if tokenizer_config["add_bos_token"] else None
        own = self.tokenizer.encode("a", add_special_tokens=True).ids
        plain = self.tokenizer.encode("a", add_special_tokens=False).ids
        if own != plain:
            return bos if own[0] == bos else None
        return bos if token_pieces.kind_of(self.tokenizer) == "sentencepiece" else None

    def ids(self, text):
        ids = self.tokenizer.encode(text, add_special_tokens=False).ids
        return ids if self.bos is None else [self.bos] + ids

    def option(self, before, prompt, candidate, most=None):
        """(ids, answer tokens) of prompt + candidate behind demonstrations; of what is longer than
        `most` (max_length) the left is dropped. Demonstrations do not count in the answer's
        length; an answer as long as the row leaves its first token to condition on."""
        text = (prompt + candidate).strip(" ")
        answer = len(self.ids(text)) - len(self.ids(prompt.strip(" ")))
        ids = self.ids((before + text).lstrip().strip(" "))
        if answer < 1:
            raise TaskError(f"option {candidate!r} after {prompt[-60:]!r}: expected an answer of "
                            f"one token or more, found {answer}")
        most = self.max_length if most is None else most
        if len(ids) > most:
            self.cut += 1
            kept = most - (self.bos is not None)
            ids = ([] if self.bos is None else [self.bos]) + ids[len(ids) - kept :]
        if answer >= len(ids):
            answer = len(ids) - 1
            self.filled += 1
        if answer < 1:
            raise TaskError(f"option {candidate!r} after {prompt[-60:]!r}: expected a token before "
                            "the answer's, found none; --bos puts one")
        if max(ids) >= self.vocab_size:
            raise TaskError(f"expected token ids below vocab_size {self.vocab_size}, "
                            f"found {max(ids)}")
        return ids, answer
