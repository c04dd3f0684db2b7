#include "backend/cuda_sizes.h"

#include <limits.h>

/* Of the parts of a weight and of scratch; what cudaMalloc gives. */
enum { PART_ALIGNMENT_BYTES = 256 };

const size_t qzo_cuda_fixed_bytes[CUDA_FIXED_COUNT] = {
    [CUDA_FIXED_WORKSPACE] = CUDA_WORKSPACE_BYTES,
    [CUDA_FIXED_RESULTS] = CUDA_TARGETS_PER_LAUNCH * sizeof(double),
    [CUDA_FIXED_GAINS] = (size_t)CUDA_GAINS_MAX * CUDA_GAIN_BYTES,
    [CUDA_FIXED_SPANS] = (size_t)CUDA_SPANS_MAX * CUDA_SPAN_BYTES,
    [CUDA_FIXED_DIGEST] = sizeof(uint64_t),
};

/* UNMEASURED: rounded up from what users of these libraries report. */
const qzo_memory_item qzo_cuda_library_memory[] = {
    {"CUDA context", 600000000},
    {"cuBLAS", 150000000},
    {"NCCL, where it is used", 250000000},
    {NULL, 0},
};

static size_t padded(size_t size_bytes) {
    return (size_bytes + PART_ALIGNMENT_BYTES - 1) / PART_ALIGNMENT_BYTES * PART_ALIGNMENT_BYTES;
}

static void lay_out_gptq(qzo_cuda_layout *out, const qzo_qtensor *tensor) {
    size_t out_features = (size_t)tensor->out_features, in_features = (size_t)tensor->in_features;
    out->is_decoded = true;
    size_t bits = (size_t)tensor->as.gptq.bits;
    out->codes_bytes = in_features * bits / 32 * out_features * sizeof(uint32_t);
    out->zeros_bytes =
        (size_t)tensor->group_count * (tensor->as.gptq.has_float_zeros
                                           ? out_features * sizeof(float)
                                           : out_features * bits / 32 * sizeof(uint32_t));
    out->groups_bytes = in_features * sizeof(int32_t);
    out->zeros_at = padded(out->codes_bytes);
    out->groups_at = out->zeros_at + padded(out->zeros_bytes);
    out->total_bytes = out->groups_at + out->groups_bytes;
}

static void lay_out_bnb(qzo_cuda_layout *out, const qzo_qtensor *tensor) {
    out->is_decoded = true;
    out->codes_bytes = (size_t)(tensor->out_features * (tensor->in_features / 2));
    out->total_bytes = out->codes_bytes;
}

static void lay_out_aqlm(qzo_cuda_layout *out, const qzo_qtensor *tensor) {
    const qzo_aqlm_layout *aqlm = &tensor->as.aqlm.layout;
    size_t groups = (size_t)(tensor->out_features * (tensor->in_features / QZO_AQLM_GROUP));
    size_t codebooks = (size_t)aqlm->codebook_count;
    out->is_decoded = true;
    out->codes_bytes = groups * codebooks * (size_t)aqlm->code_bits / 8;
    out->codebooks_bytes =
        (codebooks << aqlm->code_bits) * QZO_AQLM_GROUP * sizeof *aqlm->codebooks;
    out->codebooks_at = padded(out->codes_bytes);
    out->total_bytes = out->codebooks_at + out->codebooks_bytes;
}

static void lay_out_gguf(qzo_cuda_layout *out, const qzo_qtensor *tensor) {
    out->is_decoded = true;
    out->codes_bytes = (size_t)(tensor->out_features * tensor->group_count) *
                       (size_t)tensor->as.gguf.layout.block_bytes;
    out->total_bytes = out->codes_bytes;
}

static bool is_float(qzo_dtype dtype) {
    return dtype == QZO_DTYPE_F32 || dtype == QZO_DTYPE_F16 || dtype == QZO_DTYPE_BF16;
}

static qzo_status lay_out_dense(qzo_cuda_layout *out, const qzo_qtensor *tensor, qzo_dtype act) {
    if (tensor->group_count > 0) {
        out->is_decoded = true; /* from the masters, which hold every element */
        return QZO_OK;
    }
    if (!is_float(tensor->as.dense.dtype))
        return qzo_fail(QZO_ERR_UNSUPPORTED, "%s: the CUDA backend takes no %s", tensor->name,
                        qzo_dtype_name(tensor->as.dense.dtype));
    out->total_bytes = tensor->as.dense.size_bytes;
    out->is_decoded = tensor->as.dense.dtype != act; /* which is multiplied as it is */
    return QZO_OK;
}

qzo_status qzo_cuda_layout_of(qzo_cuda_layout *out, const qzo_qtensor *tensor, qzo_dtype act) {
    size_t values = (size_t)(tensor->out_features * tensor->group_count);
    *out = (qzo_cuda_layout){.tile_width = tensor->in_features,
                             .tile_rows_most = tensor->out_features};
    if (tensor->out_features > INT_MAX || tensor->in_features > INT_MAX)
        return qzo_fail(QZO_ERR_LIMIT, "%s: (%lld, %lld), cuBLAS takes at most %d", tensor->name,
                        (long long)tensor->out_features, (long long)tensor->in_features, INT_MAX);
    out->values_bytes = tensor->format->layout == QZO_LAYOUT_DENSE ? 0 : values * sizeof(float);
    switch (tensor->format->layout) {
    case QZO_LAYOUT_GPTQ: lay_out_gptq(out, tensor); break;
    case QZO_LAYOUT_BNB: lay_out_bnb(out, tensor); break;
    case QZO_LAYOUT_AQLM: lay_out_aqlm(out, tensor); break;
    case QZO_LAYOUT_GGUF: lay_out_gguf(out, tensor); break;
    case QZO_LAYOUT_DENSE: return lay_out_dense(out, tensor, act);
    default:
        return qzo_fail(QZO_ERR_UNSUPPORTED, "%s: the CUDA backend has no kernel for format %s",
                        tensor->name, tensor->format->name);
    }
    return QZO_OK;
}

qzo_status qzo_cuda_check_heads(const qzo_backend *backend, int64_t head_dim) {
    (void)backend;
    if (head_dim % 2 == 0 && head_dim <= CUDA_HEAD_DIM_MAX) return QZO_OK;
    return qzo_fail(QZO_ERR_UNSUPPORTED,
                    "heads of %lld dimensions: the CUDA backend takes even ones up to %d",
                    (long long)head_dim, CUDA_HEAD_DIM_MAX);
}

size_t qzo_cuda_tile_bytes(const qzo_cuda_layout *layout, const cuda_plan *plan) {
    if (!layout->is_decoded) return 0;
    int64_t outputs = cuda_plan_tile_outputs(plan, layout->tile_width);
    if (outputs > layout->tile_rows_most) outputs = layout->tile_rows_most;
    return (size_t)(outputs * layout->tile_width) * sizeof(uint16_t);
}

void qzo_cuda_scratch_raise(size_t *scratch_bytes, size_t wanted_bytes) {
    if (padded(wanted_bytes) > *scratch_bytes) *scratch_bytes = padded(wanted_bytes);
}
