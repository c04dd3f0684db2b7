"""The text that each token stands for, as bytes, so that a program without a tokenizer can print.

Pieces of a row, one after the other, are its text, but for one space that some tokenizers put
before the first word. By kind of tokenizer:

    added tokens        their content as it is ("<s>")
    byte-level BPE      the byte that each character stands for
    SentencePiece       U+2581 is a space, <0xXX> is that byte
    WordLevel           a space and the word, since splitting at spaces has dropped it
"""
import functools
import json
import re

BYTE_PIECE = re.compile(r"^<0x([0-9A-Fa-f]{2})>$")


@functools.cache
def byte_level_map():
    """The characters that byte-level BPE writes for the 256 bytes: printable Latin-1 stands for
    itself, the others follow from U+0100 in ascending order."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    pairs = [(chr(byte), byte) for byte in printable]
    return dict(pairs + [(chr(256 + i), byte) for i, byte in enumerate(others)])


def byte_level_piece(token):
    table = byte_level_map()
    return bytes(table[character] for character in token)


def sentence_piece(token):
    byte = BYTE_PIECE.match(token)
    return bytes([int(byte.group(1), 16)]) if byte else token.replace("\u2581", " ").encode()


def word_piece(token):
    return (" " + token).encode()


def contains(part, kind):
    """Whether a (pre-tokenizer, decoder) description has a part of this kind, nested or not."""
    if isinstance(part, dict):
        return part.get("type") == kind or any(contains(value, kind) for value in part.values())
    return isinstance(part, list) and any(contains(value, kind) for value in part)


def kind_of(tokenizer):
    """"words", "bytelevel" or "sentencepiece"."""
    description = json.loads(tokenizer.to_str())
    if description["model"]["type"] == "WordLevel":
        return "words"
    parts = [description.get("pre_tokenizer"), description.get("decoder")]
    return "bytelevel" if contains(parts, "ByteLevel") else "sentencepiece"


PIECES = {"words": word_piece, "bytelevel": byte_level_piece, "sentencepiece": sentence_piece}


def pieces_of(tokenizer, vocab_size):
    """vocab_size byte strings; ids without a token get an empty one."""
    added = json.loads(tokenizer.to_str()).get("added_tokens", [])
    added = {entry["id"]: entry["content"] for entry in added}
    piece = PIECES[kind_of(tokenizer)]
    pieces = []
    for index in range(vocab_size):
        token = tokenizer.id_to_token(index)
        if index in added:
            pieces.append(added[index].encode())
        else:
            pieces.append(piece(token) if token is not None else b"")
    return pieces
