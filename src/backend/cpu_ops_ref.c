/* The reference: plain loops, obviously right, never tuned; every other table must give its bits.
 */
#include "backend/cpu_ops.h"

#include <math.h>

#include "backend/cpu_attention.h"
#include "backend/cpu_ops_lanes.h"

void qzo_cpu_decode_row(float *out, const cpu_linear *job, int64_t output, float *scratch) {
    int64_t groups = job->weight->group_count;
    perturbed_values(scratch, job, output * groups, groups);
    job->weight->format->decode_row(out, job->weight, output, groups > 0 ? scratch : NULL);
}

/* scratch: (in_features) weights of one output, then qzo_cpu_decode_row's. */
static void linear_row(const cpu_linear *job, int64_t output, float *scratch) {
    int64_t in_features = job->weight->in_features;
    float *row = scratch;
    qzo_cpu_decode_row(row, job, output, row + in_features);
    for (int64_t t = 0; t < job->rows; t++) {
        float sum = 0.0f;
        for (int64_t k = 0; k < in_features; k++)
            sum = __builtin_fmaf(job->x[t * in_features + k], row[k], sum);
        job->out[t * job->weight->out_features + output] = sum;
    }
}

const cpu_ops qzo_cpu_ops_reference = {
    .name = "reference",
    .linear_tile_rows = 1,
    .linear_tile = linear_row,
    CPU_OPS_OF_LANES,
};
