#include "base/suggest.h"

#include <string.h>

static int min3(int a, int b, int c) {
    int smaller = a < b ? a : b;
    return smaller < c ? smaller : c;
}

/* Three rows of the usual table are enough: a swap of neighbours looks back two. */
int qzo_edit_distance(const char *a, const char *b) {
    size_t a_bytes = strlen(a), b_bytes = strlen(b);
    if (a_bytes >= QZO_SUGGEST_WORD_BYTES_MAX || b_bytes >= QZO_SUGGEST_WORD_BYTES_MAX)
        return QZO_SUGGEST_WORD_BYTES_MAX;
    int rows[3][QZO_SUGGEST_WORD_BYTES_MAX + 1];
    for (size_t j = 0; j <= b_bytes; j++) rows[0][j] = (int)j;
    for (size_t i = 1; i <= a_bytes; i++) {
        int *now = rows[i % 3];
        const int *last = rows[(i + 2) % 3], *before_last = rows[(i + 1) % 3];
        now[0] = (int)i;
        for (size_t j = 1; j <= b_bytes; j++) {
            int replaced = last[j - 1] + (a[i - 1] != b[j - 1]);
            now[j] = min3(replaced, last[j] + 1, now[j - 1] + 1);
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] &&
                before_last[j - 2] + 1 < now[j])
                now[j] = before_last[j - 2] + 1;
        }
    }
    return rows[a_bytes % 3][b_bytes];
}

const char *qzo_suggest(const char *text, const char *const *words, size_t count) {
    const char *best = NULL;
    int best_distance = QZO_SUGGEST_DISTANCE_MAX + 1;
    for (size_t i = 0; i < count; i++) {
        int distance = qzo_edit_distance(text, words[i]);
        if (distance < best_distance && distance < (int)strlen(words[i])) {
            best = words[i];
            best_distance = distance;
        }
    }
    return best;
}
