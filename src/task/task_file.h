/* A prepared task of texts: token ids of every option of every example, made once by
 * tools/prepare_task.py.
 *
 * The file (*.qzt) is a safetensors file. Version 1 or 2; integers little-endian, types exact:
 *
 *   __metadata__  qzo_task_version "1" or "2"; name; loss "classification" | "lm"; metric, a name
 *                 of qzo_metrics; vocab_size, max_length: decimal; checksum: 16 hex digits, XXH3-64
 *                 (seed 0) of the payload (all bytes after the header) followed by "key=value\n" of
 *                 every other metadata key in ascending order. Of generated answers, where given:
 *                 max_new_tokens (50), stop (a line's end; empty: none), bos (a token, "none").
 *                 Other keys (template, tokenizer, source ...) are free; the checksum covers all.
 *   for split in train, dev, test:
 *     {split}.option_begin  I64 (examples + 1)  options of example e: [begin[e], begin[e + 1])
 *     {split}.token_begin   I64 (options + 1)   tokens of option o: [begin[o], begin[o + 1])
 *     {split}.answer_tokens I32 (options)       the last so many tokens of the option: its answer
 *     {split}.gold          I32 (examples)      index of the right option within its example
 *     {split}.tokens        I32 (all)           prompt and option as fed to the model, after
 *                                               truncation, beginning-of-sequence token included
 *   pieces.begin I64 (vocab_size + 1), pieces.bytes U8: the text of each token, so that C can print
 *
 * Version 2 adds, where a split needs them:
 *     {split}.right         U8 (options)        1: a right option, of which gold is one; where it
 *                                               is absent gold alone is
 *     {split}.reference_begin       I64 (examples + 1)    texts of example e: [begin[e], begin[e +
 * 1]) {split}.reference_text_begin  I64 (texts + 1)       bytes of text t {split}.reference_bytes
 * U8                    what a generated answer is compared with, UTF-8
 *
 * With loss "lm" an example has one option, the gold answer, or several (COPA, ReCoRD): the loss is
 * taken over the gold one, the metric over all. An answer has at least one token, and at least one
 * token stands before it. */
#ifndef QZO_TASK_TASK_FILE_H
#define QZO_TASK_TASK_FILE_H

#include "base/digest.h"
#include "base/status.h"
#include "weights/safetensors.h"

#include <stddef.h>
#include <stdint.h>

typedef enum { QZO_SPLIT_TRAIN, QZO_SPLIT_DEV, QZO_SPLIT_TEST, QZO_SPLIT_COUNT } qzo_split_kind;

/* "train", "dev", "test". */
const char *qzo_split_name(qzo_split_kind split);

typedef struct qzo_split {
    qzo_split_kind kind;
    int64_t example_count;
    const int64_t *option_begin;
    const int64_t *token_begin;
    const int32_t *answer_tokens;
    const int32_t *gold;
    const int32_t *tokens;
    const uint8_t *right;           /* NULL: gold alone */
    const int64_t *reference_begin; /* NULL: no texts, like the next two */
    const int64_t *reference_text_begin;
    const uint8_t *reference_bytes;
} qzo_split;

struct qzo_images;

typedef struct qzo_task {
    char *name;
    char *loss;   /* a name of qzo_losses */
    char *metric; /* a name of qzo_metrics */
    int64_t vocab_size;
    int64_t max_length; /* of a row */
    int64_t bos;        /* the token that every row begins with; -1: none */
    int64_t answer_max; /* tokens of a generated answer, at most */
    char *stop;         /* the text that such an answer ends before; NULL: none */
    qzo_split splits[QZO_SPLIT_COUNT];
    const int64_t *piece_begin;
    const uint8_t *piece_bytes;
    qzo_digest digest; /* of the whole file */
    /* Images in place of rows of tokens (image_file.h): then splits hold counts alone. NULL: none
     */
    const struct qzo_images *images;
    void *storage; /* owns everything above */
} qzo_task;

/* Maps and checks everything: checksum, monotonic offsets, ids below vocab_size, gold below the
 * options, answers shorter than their rows, at least one example in train and dev. */
qzo_status qzo_task_open(qzo_task **out, const char *path);
void qzo_task_close(qzo_task *task); /* NULL is fine */

/* What the metadata's checksum must say (QZO_ERR_MEMORY is the only failure): for the reader, and
 * for whoever writes or damages such a file on purpose. */
qzo_status qzo_task_checksum(uint64_t *out, const qzo_safetensors *file);

#endif
