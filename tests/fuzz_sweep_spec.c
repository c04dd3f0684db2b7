/* libFuzzer entry: any bytes as a sweep file, then its grid where that is small. */
#include "sweep/grid.h"

#include <stdint.h>
#include <stdlib.h>

enum { COMBINATIONS_MAX = 256 };

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size_bytes);

static qzo_status no_contents(qzo_digest *out, const char *path, bool is_model, void *context) {
    (void)path, (void)is_model, (void)context;
    *out = (qzo_digest){{0}};
    return QZO_OK;
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size_bytes) {
    qzo_sweep_spec *sweep = NULL;
    if (qzo_sweep_spec_parse(&sweep, (const char *)bytes, size_bytes, "f.yaml", "/") != QZO_OK) {
        if (sweep) abort(); /* a failing call must leave nothing behind */
        return 0;
    }
    double combinations = 1;
    for (int64_t p = 0; p < sweep->parameter_count; p++)
        combinations *= (double)sweep->parameters[p].value_count;
    qzo_grid *grid = NULL;
    if (combinations <= COMBINATIONS_MAX &&
        qzo_grid_expand(&grid, sweep, no_contents, NULL) == QZO_OK &&
        (double)(grid->trial_count + grid->duplicate_count) != combinations)
        abort();
    qzo_grid_free(grid);
    qzo_sweep_spec_free(sweep);
    return 0;
}
