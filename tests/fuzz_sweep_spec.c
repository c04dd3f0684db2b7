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
    if (qzo_sweep_spec_parse(&sweep, (const char *)bytes, size_bytes, "f.yaml", "/", NULL) !=
        QZO_OK) {
        if (sweep) abort(); /* a failing call must leave nothing behind */
        return 0;
    }
    qzo_grid *grid = NULL;
    double combinations = 0;
    for (int64_t i = 0; i < sweep->space_count; i++) {
        double product = sweep->run_cap > 0 ? (double)sweep->run_cap : 1;
        for (int64_t p = 0; p < sweep->spaces[i].parameter_count; p++)
            if (sweep->spaces[i].parameters[p].value_count > 0)
                product *= (double)sweep->spaces[i].parameters[p].value_count;
        combinations += product;
    }
    if (combinations <= COMBINATIONS_MAX &&
        qzo_grid_expand(&grid, sweep, no_contents, NULL) == QZO_OK &&
        (grid->trial_count == 0 ||
         (double)(grid->trial_count + grid->duplicate_count + grid->excluded_count) > combinations))
        abort();
    qzo_grid_free(grid);
    qzo_sweep_spec_free(sweep);
    return 0;
}
