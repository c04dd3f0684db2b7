/* Shared by the tests of decisions and results: real sweeps over the tiny model, expanded with the
 * real digests. */
#ifndef QZO_TESTS_SWEEP_SUPPORT_H
#define QZO_TESTS_SWEEP_SUPPORT_H

#include "test_support.h"

#include "sweep/contents.h"
#include "sweep/grid.h"
#include "sweep/sweep_spec.h"

#include <stdio.h>
#include <string.h>

/* parameters: lines of the mapping, each with two blanks and a newline. */
static inline qzo_grid *expand_sweep(const char *parameters) {
    char text[2048], model[1024];
    qzo_sweep_spec *sweep = NULL;
    qzo_grid *grid = NULL;
    qzo_contents contents = {0};
    snprintf(model, sizeof model, "%s", qzo_test_fixture("tiny-llama"));
    snprintf(text, sizeof text,
             "model: %s\ntask: %s\ntrain: { steps: 2, batch: 4 }\nparameters:\n%s", model,
             qzo_test_fixture("tiny-task.qzt"), parameters);
    assert_ok(qzo_sweep_spec_parse(&sweep, text, strlen(text), "sweep.yaml", ".", NULL));
    assert_ok(qzo_grid_expand(&grid, sweep, qzo_contents_digest, &contents));
    qzo_contents_release(&contents);
    qzo_sweep_spec_free(sweep);
    return grid;
}

#endif
