/* Conditions over the settings of a trial, in sweep files (`exclude`, `when`):
 *
 *   learning_rate * samples_per_step > 1e-5 and not (schedule == cosine or warmup_steps == 0)
 *
 * or, and, not; == != < <= > >=; + - * /; parentheses; numbers; names of settings; words, which
 * stand for themselves beside == and != (quotes, "..." or '...', are only needed for odd ones). */
#ifndef QZO_SWEEP_EXPRESSION_H
#define QZO_SWEEP_EXPRESSION_H

#include "base/status.h"
#include "trial/trial_spec.h"

#include <stdbool.h>

enum { QZO_EXPRESSION_NODES_MAX = 256, QZO_EXPRESSION_DEPTH_MAX = 32 };

typedef struct qzo_expression qzo_expression;

/* folder: where relative paths that are compared with `model` or `task` start. QZO_ERR_CONFIG says
 * what was expected at which character. The caller frees it. */
qzo_status qzo_expression_parse(qzo_expression **out, const char *text, const char *folder);
void qzo_expression_free(qzo_expression *expression); /* NULL is fine */

/* Division by zero and other numbers that are none compare as false. */
bool qzo_expression_holds(const qzo_expression *expression, const qzo_trial_spec *spec);

#endif
