/* The known word that a user probably meant. */
#ifndef QZO_BASE_SUGGEST_H
#define QZO_BASE_SUGGEST_H

#include <stddef.h>

enum {
    QZO_SUGGEST_DISTANCE_MAX = 2, /* insertions, deletions, replacements, swapped neighbours */
    QZO_SUGGEST_WORD_BYTES_MAX = 64
};

/* Edits that turn a into b; QZO_SUGGEST_WORD_BYTES_MAX where either is that long or longer. */
int qzo_edit_distance(const char *a, const char *b);

/* The nearest of words (count), the first on a tie, or NULL where none is near enough. A word of
 * which nothing would remain is not near. */
const char *qzo_suggest(const char *text, const char *const *words, size_t count);

#endif
