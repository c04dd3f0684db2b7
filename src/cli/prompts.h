/* Prompts as token ids, read from a file. */
#ifndef QZO_CLI_PROMPTS_H
#define QZO_CLI_PROMPTS_H

#include "base/status.h"

#include <stdbool.h>
#include <stdint.h>

typedef struct qzo_prompts {
    int64_t count;  /* at least 1 */
    int64_t *begin; /* (count + 1): ids of prompt p are begin[p] .. begin[p + 1] - 1, at least 1 */
    int32_t *ids;
} qzo_prompts;

/* Decimal ids between blanks, commas and line ends, or little-endian int32. by_line: every line of
 * a text is a prompt of its own, blank ones left out. The caller releases out. */
qzo_status qzo_prompts_read(qzo_prompts *out, const char *path, bool by_line);
void qzo_prompts_release(qzo_prompts *prompts); /* safe on zeroed prompts */

#endif
