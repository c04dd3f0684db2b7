/* The reference: plain loops, obviously right, never tuned; every other table must give its bits.
 */
#include "backend/cpu_ops.h"

#include <math.h>

#include "backend/cpu_ops_lanes.h"

/* scratch: (group_count) values, (in_features) weights of one output. */
static void linear_row(const cpu_linear *job, int64_t output, float *scratch) {
    const qzo_qtensor *weight = job->weight;
    int64_t groups = weight->group_count, in_features = weight->in_features;
    float *values = scratch, *row = values + groups;
    perturbed_values(values, job, output * groups, groups);
    weight->format->decode_row(row, weight, output, groups > 0 ? values : NULL);
    for (int64_t t = 0; t < job->rows; t++) {
        float sum = 0.0f;
        for (int64_t k = 0; k < in_features; k++)
            sum = __builtin_fmaf(job->x[t * in_features + k], row[k], sum);
        job->out[t * weight->out_features + output] = sum;
    }
}

const cpu_ops qzo_cpu_ops_reference = {
    .name = "reference",
    .linear_tile_rows = 1,
    .linear_tile = linear_row,
    CPU_OPS_OF_LANES,
};
