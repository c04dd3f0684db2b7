/* The table that redraws in place while a sweep runs: of `qzo run` itself, and of `qzo status` from
 * another terminal. Both read the journals and nothing else, so they show the same. */
#ifndef QZO_CLI_LIVE_H
#define QZO_CLI_LIVE_H

#include "base/status.h"

#include <stdbool.h>
#include <stdio.h>

typedef struct qzo_live qzo_live;

/* The caller closes it. */
qzo_status qzo_live_open(qzo_live **out, const char *folder);
void qzo_live_close(qzo_live *live); /* NULL is fine */

/* Reads again what can have changed: trials that have not ended. */
qzo_status qzo_live_refresh(qzo_live *live);

/* A live process holds the folder. */
bool qzo_live_is_running(const qzo_live *live);

/* Prints the table once: no line is wider than the terminal, and there are fewer lines than it has;
 * trials that do not fit are counted. columns, lines: 0 asks the terminal (80 x 24 where there is
 * none). */
void qzo_live_print(qzo_live *live, FILE *stream, int columns, int lines);

/* Prints over what the last call printed. */
void qzo_live_redraw(qzo_live *live, FILE *stream);

#endif
