/* The text of token ids, from a model folder's tokenizer.json (the file of Hugging Face
 * tokenizers) or from a GGUF file. Only the way from ids to text: byte-level BPE, SentencePiece's
 * pieces, whole words. */
#ifndef QZO_CLI_PIECES_H
#define QZO_CLI_PIECES_H

#include "base/status.h"
#include "weights/gguf.h"

#include <stdint.h>
#include <stdio.h>

typedef struct qzo_pieces qzo_pieces;

/* *out is NULL and the status OK where the folder has no tokenizer.json. The caller frees it. */
qzo_status qzo_pieces_load(qzo_pieces **out, const char *model_path);

/* The same of a file's tokenizer.ggml keys; NULL where it has none, or one of another kind than
 * llama and gpt2. A token that is not UTF-8 prints nothing. */
qzo_status qzo_pieces_of_gguf(qzo_pieces **out, const qzo_gguf *file);
void qzo_pieces_free(qzo_pieces *pieces); /* NULL is fine */

/* The text of one id and its size: with the blank before a word, not terminated, 0 where it has
 * none. Borrowed. */
size_t qzo_pieces_text(const qzo_pieces *pieces, const uint8_t **bytes, int32_t id);

/* Special tokens print nothing; an id that the tokenizer does not know prints nothing either. */
void qzo_pieces_print(FILE *stream, const qzo_pieces *pieces, const int32_t *ids, int64_t count);

#endif
