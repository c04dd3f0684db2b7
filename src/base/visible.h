/* Text that others wrote (names in a model, a task or a sweep) as it may stand on a terminal or in
 * a line of a log: control characters, which would move the cursor, change colours or begin a line
 * of their own, as escapes. */
#ifndef QZO_BASE_VISIBLE_H
#define QZO_BASE_VISIBLE_H

#include <stddef.h>

enum { QZO_VISIBLE_BYTES = 9 };

/* The byte at *text, or the escape of the control character there ("\n", "\x1b"); *text, which is
 * before end, moves past it. Returns out. */
const char *qzo_visible_next(char out[QZO_VISIBLE_BYTES], const char **text, const char *end);

/* As much of the text as there is room for; an escape stands whole or not at all. What has no
 * control characters, escapes included, stays as it is. Returns out. */
const char *qzo_visible_text(char *out, size_t out_bytes, const char *text);

#endif
