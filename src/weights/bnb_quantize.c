/* The arithmetic of quantize_4bit of bitsandbytes 0.50 on a CPU (backends/default/ops.py), in fp32
 * whatever the type of the file, per block of 64 inputs:
 *
 *   absmax = max |x|;  y = clamp(x * (1 / max(absmax, 1e-38)), -1, 1)
 *   code = that of the level whose bounds hold y, the lower one where y is a bound
 *
 * transformers has no other block size. Rows are independent, so threads share them out. */
#include "weights/bnb_quantize.h"

#include "base/half.h"
#include "base/thread_pool.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { BLOCK = 64, LEVELS = 16, PIECE_ELEMENTS = 1 << 18, STATE_BYTES = 256, NAME_BYTES = 640 };

static const float ABSMAX_MIN = 1e-38f;

/* Dettmers et al., arXiv 2305.14314, appendix E. */
static const qzo_bnb_kind nf4 = {
    .name = "nf4",
    .levels = {-0x1.000000p+0f, -0x1.647362p-1f, -0x1.0cd660p-1f, -0x1.946540p-2f, -0x1.23449ap-2f,
               -0x1.7a6a7ep-3f, -0x1.74f0e2p-4f, 0.0f, 0x1.45f5fep-4f, 0x1.4995c6p-3f,
               0x1.f809bap-3f, 0x1.5a0674p-2f, 0x1.c34970p-2f, 0x1.200f56p-1f, 0x1.722766p-1f,
               0x1.000000p+0f},
    .bounds = {-0x1.b239b0p-1f, -0x1.38a4e0p-1f, -0x1.d70900p-2f, -0x1.5bd4ecp-2f, -0x1.e079d8p-3f,
               -0x1.1a7178p-3f, -0x1.74f0e2p-5f, 0x1.45f5fep-5f, 0x1.ec90c4p-4f, 0x1.a0cfc0p-3f,
               0x1.2b05a8p-2f, 0x1.8ea7f2p-2f, 0x1.00da08p-1f, 0x1.491b5ep-1f, 0x1.b913b4p-1f},
    .code_of = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15}};

/* A sign and 0, 1/192, 1/6, 1/4, 1/3, 1/2, 2/3, 1, not in that order; code 8 is a second 0. */
static const qzo_bnb_kind fp4 = {
    .name = "fp4",
    .levels = {0.0f, 0x1.555556p-8f, 0x1.555556p-1f, 1.0f, 0x1.555556p-2f, 0.5f, 0x1.555556p-3f,
               0.25f, 0.0f, -0x1.555556p-8f, -0x1.555556p-1f, -1.0f, -0x1.555556p-2f, -0.5f,
               -0x1.555556p-3f, -0.25f},
    .bounds = {-0x1.aaaaacp-1f, -0x1.2aaaacp-1f, -0x1.aaaaacp-2f, -0x1.2aaaacp-2f, -0x1.aaaaacp-3f,
               -0x1.600000p-4f, -0x1.555556p-9f, 0.0f, 0x1.555556p-9f, 0x1.600000p-4f,
               0x1.aaaaacp-3f, 0x1.2aaaacp-2f, 0x1.aaaaacp-2f, 0x1.2aaaacp-1f, 0x1.aaaaacp-1f},
    .code_of = {11, 10, 13, 12, 15, 14, 9, 0, 8, 1, 6, 7, 4, 5, 2, 3}};

const qzo_bnb_kind *const qzo_bnb_kinds[] = {&nf4, &fp4, NULL};

const qzo_bnb_kind *qzo_bnb_kind_find(const char *name) {
    for (int i = 0; qzo_bnb_kinds[i] != NULL; i++)
        if (strcmp(qzo_bnb_kinds[i]->name, name) == 0) return qzo_bnb_kinds[i];
    return NULL;
}

json_t *qzo_bnb_config(const qzo_bnb_kind *kind) {
    return json_pack("{s:s, s:b, s:b, s:s, s:b, s:s, s:s}", "quant_method", "bitsandbytes",
                     "load_in_4bit", 1, "load_in_8bit", 0, "bnb_4bit_quant_type", kind->name,
                     "bnb_4bit_use_double_quant", 0, "bnb_4bit_compute_dtype", "float32",
                     "bnb_4bit_quant_storage", "uint8");
}

/* --- one block --- */

static void read_block(float out[BLOCK], const qzo_tensor_view *view, int64_t first) {
    const uint8_t *at = view->data + (size_t)first * qzo_dtype_bytes(view->dtype);
    uint16_t halves[BLOCK];
    if (view->dtype == QZO_DTYPE_F32) {
        memcpy(out, at, BLOCK * sizeof *out);
        return;
    }
    memcpy(halves, at, sizeof halves);
    if (view->dtype == QZO_DTYPE_BF16)
        for (int i = 0; i < BLOCK; i++) out[i] = qzo_bf16_to_float(halves[i]);
    else
        for (int i = 0; i < BLOCK; i++) out[i] = qzo_fp16_to_float(halves[i]);
}

/* NaN and infinity make the result what is not finite. */
static float absmax_of(const float block[BLOCK]) {
    float largest = 0.0f, sum = 0.0f;
    for (int i = 0; i < BLOCK; i++) {
        float size = fabsf(block[i]);
        largest = size > largest ? size : largest;
        sum += 0.0f * size; /* NaN where size is not finite */
    }
    return largest + sum;
}

/* codes (BLOCK / 2): the first of two in the high bits */
static void encode(uint8_t *codes, float block[BLOCK], float absmax, const qzo_bnb_kind *kind) {
    int32_t above[BLOCK] = {0};
    float inverse = 1.0f / (absmax > ABSMAX_MIN ? absmax : ABSMAX_MIN);
    for (int i = 0; i < BLOCK; i++) {
        float y = block[i] * inverse;
        y = y < -1.0f ? -1.0f : y;
        block[i] = y > 1.0f ? 1.0f : y;
    }
    for (int bound = 0; bound < LEVELS - 1; bound++)
        for (int i = 0; i < BLOCK; i++) above[i] += block[i] > kind->bounds[bound];
    for (int i = 0; i < BLOCK / 2; i++)
        codes[i] = (uint8_t)(kind->code_of[above[2 * i]] << 4 | kind->code_of[above[2 * i + 1]]);
}

/* --- a tensor --- */

/* What a made tensor owns: one block of memory, this in front of it. */
typedef struct made {
    qzo_tensor_view views[QZO_BNB_MADE_COUNT];
    float levels[LEVELS];
    char names[QZO_BNB_MADE_COUNT + 1][NAME_BYTES]; /* the last: of absmax */
    char state[STATE_BYTES];
    uint8_t data[]; /* absmax, then codes */
} made;

static int64_t absmax_bytes(const qzo_qtensor *tensor) {
    return tensor->out_features * (tensor->in_features / BLOCK) * (int64_t)sizeof(float);
}

static int64_t codes_bytes(const qzo_qtensor *tensor) {
    return tensor->out_features * tensor->in_features / 2;
}

int64_t qzo_bnb_made_bytes(const qzo_qtensor *tensor) {
    if (tensor->format != &qzo_quant_bnb || tensor->as.bnb.made == NULL) return 0;
    return absmax_bytes(tensor) + codes_bytes(tensor);
}

typedef struct quantize_job {
    const qzo_tensor_view *from;
    const qzo_bnb_kind *kind;
    float *absmax;
    uint8_t *codes;
    int64_t block_count, blocks_per_piece;
} quantize_job;

static void quantize_piece(void *context, int64_t piece, int thread) {
    const quantize_job *job = context;
    (void)thread;
    int64_t end = (piece + 1) * job->blocks_per_piece;
    if (end > job->block_count) end = job->block_count;
    for (int64_t b = piece * job->blocks_per_piece; b < end; b++) {
        float block[BLOCK];
        read_block(block, job->from, b * BLOCK);
        job->absmax[b] = absmax_of(block);
        encode(job->codes + b * (BLOCK / 2), block, job->absmax[b], job->kind);
    }
}

static qzo_status fill(made *out, const qzo_qtensor *dense, const qzo_bnb_kind *kind,
                       int thread_count) {
    qzo_thread_pool *pool = NULL;
    const qzo_tensor_view *from = &dense->as.dense;
    quantize_job job = {.from = from,
                        .kind = kind,
                        .absmax = (float *)(void *)out->data,
                        .codes = out->data + absmax_bytes(dense),
                        .block_count = from->count / BLOCK,
                        .blocks_per_piece = PIECE_ELEMENTS / BLOCK};
    qzo_status status = qzo_thread_pool_open(&pool, thread_count);
    if (status != QZO_OK) return status;
    qzo_thread_pool_run(pool, (job.block_count + job.blocks_per_piece - 1) / job.blocks_per_piece,
                        quantize_piece, &job);
    qzo_thread_pool_close(pool);
    for (int64_t b = 0; b < job.block_count; b++)
        if (!isfinite(job.absmax[b]))
            return qzo_fail(QZO_ERR_FORMAT,
                            "tensor %s: a value of row %lld, columns %lld to %lld is not finite",
                            from->name, (long long)(b * BLOCK / dense->in_features),
                            (long long)(b * BLOCK % dense->in_features),
                            (long long)(b * BLOCK % dense->in_features + BLOCK - 1));
    return QZO_OK;
}

/* The tensors that a file of the library would have, for an export. */
static void describe(made *out, const qzo_qtensor *dense, const qzo_bnb_kind *kind,
                     const uint8_t *codes) {
    static const char *const dtypes[] = {
        [QZO_DTYPE_F16] = "float16", [QZO_DTYPE_BF16] = "bfloat16", [QZO_DTYPE_F32] = "float32"};
    int state_bytes = snprintf(
        out->state, sizeof out->state,
        "{\"quant_type\": \"%s\", \"blocksize\": %d, \"dtype\": \"%s\", \"shape\": [%lld, %lld]}",
        kind->name, BLOCK, dtypes[dense->as.dense.dtype], (long long)dense->out_features,
        (long long)dense->in_features);
    memcpy(out->levels, kind->levels, sizeof out->levels);
    snprintf(out->names[0], NAME_BYTES, "%s.weight", dense->name);
    snprintf(out->names[1], NAME_BYTES, "%s.weight.quant_map", dense->name);
    snprintf(out->names[2], NAME_BYTES, "%s.weight.quant_state.bitsandbytes__%s", dense->name,
             kind->name);
    snprintf(out->names[3], NAME_BYTES, "%s.weight.absmax", dense->name);
    const int64_t counts[] = {codes_bytes(dense), LEVELS, state_bytes};
    const uint8_t *const data[] = {codes, (const uint8_t *)out->levels,
                                   (const uint8_t *)out->state};
    for (int i = 0; i < QZO_BNB_MADE_COUNT; i++)
        out->views[i] = (qzo_tensor_view){.name = out->names[i],
                                          .dtype = i == 1 ? QZO_DTYPE_F32 : QZO_DTYPE_U8,
                                          .rank = i == 0 ? 2 : 1,
                                          .shape = {counts[i], 1},
                                          .count = counts[i],
                                          .data = data[i],
                                          .size_bytes = (size_t)counts[i] * (i == 1 ? 4 : 1)};
}

static qzo_status check_blocks(const qzo_qtensor *dense, const qzo_bnb_kind *kind) {
    if (dense->in_features % BLOCK == 0) return QZO_OK;
    return qzo_fail(QZO_ERR_UNSUPPORTED,
                    "quantize: %s: module %s: blocks of %d inputs cross the rows of a weight "
                    "(%lld, %lld): that is not supported",
                    kind->name, dense->name, BLOCK, (long long)dense->out_features,
                    (long long)dense->in_features);
}

qzo_status qzo_bnb_quantize(qzo_qtensor *dense, const qzo_bnb_kind *kind, int thread_count) {
    qzo_status status = QZO_OK;
    made *own = NULL;
    QZO_TRY(check_blocks(dense, kind));
    size_t size_bytes = sizeof *own;
    if (thread_count > 0) size_bytes += (size_t)(absmax_bytes(dense) + codes_bytes(dense));
    own = malloc(size_bytes);
    if (own == NULL) {
        status =
            qzo_fail(QZO_ERR_MEMORY, "%s: out of memory for %zu bytes", dense->name, size_bytes);
        goto cleanup;
    }
    if (thread_count > 0) QZO_TRY(fill(own, dense, kind, thread_count));
    bool is_filled = thread_count > 0;
    describe(own, dense, kind, is_filled ? own->data + absmax_bytes(dense) : NULL);
    qzo_qtensor out = {.format = &qzo_quant_bnb,
                       .name = dense->name,
                       .out_features = dense->out_features,
                       .in_features = dense->in_features,
                       .group_count = dense->in_features / BLOCK,
                       .span = QZO_SPAN_NONE,
                       .owned = own};
    int64_t absmax_count = out.out_features * out.group_count;
    memcpy(out.as.bnb.levels, kind->levels, sizeof kind->levels);
    out.as.bnb.codes = own->views[0].data;
    out.as.bnb.block = BLOCK;
    out.as.bnb.made = own->views;
    out.as.bnb.absmax = (qzo_tensor_view){.name = own->names[QZO_BNB_MADE_COUNT],
                                          .dtype = QZO_DTYPE_F32,
                                          .rank = 1,
                                          .shape = {absmax_count},
                                          .count = absmax_count,
                                          .data = is_filled ? own->data : NULL,
                                          .size_bytes = (size_t)absmax_bytes(dense)};
    own = NULL;
    qzo_qtensor_release(dense);
    *dense = out;
cleanup:
    free(own);
    if (status != QZO_OK) qzo_qtensor_release(dense);
    return status;
}
