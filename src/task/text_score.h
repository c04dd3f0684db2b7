/* Generated answers against references, by the rules of SQuAD's published evaluation: lower case,
 * no ASCII punctuation, no articles, single blanks; then equality, or the F1 of the words.
 *
 * Texts are UTF-8. Letters of Latin, Greek and Cyrillic are lowered; what is a letter and what is a
 * blank follows Unicode for these and for the common blocks of symbols. A byte that is no UTF-8 is
 * a symbol of its own. */
#ifndef QZO_TASK_TEXT_SCORE_H
#define QZO_TASK_TEXT_SCORE_H

#include <stddef.h>
#include <stdint.h>

/* Not terminated; borrowed. */
typedef struct qzo_text {
    const uint8_t *bytes;
    size_t size_bytes;
} qzo_text;

/* The normalised text in `room`, which has at least text.size_bytes bytes and is not those of
 * text. */
qzo_text qzo_text_normalised(uint8_t *room, qzo_text text);

/* 0 .. 1, of normalised texts. F1 of the multisets of words, 0 where they share none. */
double qzo_text_f1(qzo_text answer, qzo_text reference);
double qzo_text_exact_match(qzo_text answer, qzo_text reference);

#endif
