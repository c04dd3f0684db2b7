#include "base/visible.h"

#include <stdio.h>
#include <string.h>

/* Bytes of the control character at the beginning of the text, 0 where there is none: those of
 * ASCII, and U+0080 to U+009F, of which terminals may take one for an escape and its bracket. */
static size_t control_bytes(const char *text, const char *end) {
    const unsigned char first = (unsigned char)text[0];
    if (first < ' ' || first == 127) return 1;
    if (first != 0xC2 || end - text < 2) return 0;
    const unsigned char second = (unsigned char)text[1];
    return second >= 0x80 && second <= 0x9F ? 2 : 0;
}

static char letter_of(char control) {
    return control == '\n' ? 'n' : control == '\r' ? 'r' : control == '\t' ? 't' : '\0';
}

const char *qzo_visible_next(char out[QZO_VISIBLE_BYTES], const char **text, const char *end) {
    const char *at = *text, letter = letter_of(at[0]);
    size_t length = control_bytes(at, end), used = 0;
    if (length == 0)
        snprintf(out, QZO_VISIBLE_BYTES, "%c", at[0]);
    else if (letter != '\0')
        snprintf(out, QZO_VISIBLE_BYTES, "\\%c", letter);
    for (size_t i = 0; letter == '\0' && i < length; i++)
        used += (size_t)snprintf(out + used, QZO_VISIBLE_BYTES - used, "\\x%02x",
                                 (unsigned)(unsigned char)at[i]);
    *text += length > 0 ? length : 1;
    return out;
}

const char *qzo_visible_text(char *out, size_t out_bytes, const char *text) {
    char next[QZO_VISIBLE_BYTES];
    const char *end = text + strlen(text);
    size_t used = 0;
    while (text < end) {
        size_t length = strlen(qzo_visible_next(next, &text, end));
        if (used + length >= out_bytes) break;
        memcpy(out + used, next, length);
        used += length;
    }
    out[used] = '\0';
    return out;
}
