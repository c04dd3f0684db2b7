/* Every launcher of kernels/ as a C prototype, in the order of backend.h, which has the formulas.
 *
 * A launcher starts its kernels on the stream and returns without waiting; it returns what CUDA
 * says of the launch. All pointers are device memory. Counts of 0 are fine and start nothing.
 * Activations are fp16 or bf16, as `act` says, passed as their bits (uint16_t), since C has no name
 * for them. Nothing here uses floating-point atomics: the same inputs give the same bits. */
#ifndef QZO_KERNELS_KERNELS_H
#define QZO_KERNELS_KERNELS_H

#include "weights/aqlm_decode.h"
#include "weights/gguf_decode.h"

#include <cuda_runtime_api.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef enum { QZO_CUDA_F32, QZO_CUDA_F16, QZO_CUDA_BF16 } qzo_cuda_dtype;

/* GPTQ's layout, weights/gptq_decode.h. */
typedef struct qzo_cuda_gptq {
    int bits;                      /* 2, 3, 4 or 8 */
    const uint32_t *codes;         /* (in_features * bits / 32, out_features) */
    const uint32_t *zeros;         /* (group_count, out_features * bits / 32) */
    const float *float_zeros;      /* (group_count, out_features) in their place; else NULL */
    const int32_t *group_of_input; /* (in_features) */
    uint32_t zero_correction;
    int64_t out_features;
    int64_t in_features;
    int64_t group_count;
    int64_t inputs_per_group; /* input i is in group i / this; 0: group_of_input alone knows */
} qzo_cuda_gptq;

/* bitsandbytes 4-bit, laid out as in weights/bnb_decode.h. */
typedef struct qzo_cuda_bnb {
    const uint8_t *codes; /* (out_features, in_features / 2) */
    float levels[16];
    int64_t block; /* inputs, a power of two from 32 on */
    int64_t in_features;
} qzo_cuda_bnb;

/* AQLM; weights/aqlm_decode.h with device pointers. */
typedef struct qzo_cuda_aqlm {
    qzo_aqlm_layout layout;
    int64_t in_features;
} qzo_cuda_aqlm;

/* backend.h qzo_perturbation and the span that it perturbs. */
typedef struct qzo_cuda_noise {
    uint64_t seed;
    uint32_t tensor_id;
    int rademacher;
    float c;
} qzo_cuda_noise;

/* backend.h qzo_attention */
typedef struct qzo_cuda_attention {
    const int32_t *query_rows; /* NULL: query i is row i */
    const int32_t *prefix_begin;
    const int32_t *prefix_end;
    const int32_t *own_begin;
    const int32_t *own_end; /* NULL: behind the row itself */
    int32_t head_count;
    int32_t kv_head_count;
    int32_t head_dim;
    float scale;
    float score_cap;
    int64_t window;
} qzo_cuda_attention;

enum {
    QZO_CUDA_HEAD_DIM_MAX = 256,
    QZO_CUDA_TILE_HEAD_DIM_MAX = 128,
    QZO_CUDA_FEW_ROWS_MAX = 8,
    QZO_CUDA_MMA_ROWS_MAX = 32,
    QZO_CUDA_MMA_CHUNK = 32 /* inputs; divides inputs_per_group */
};

/* backend.h qzo_gain, and what an update needs to know of a span. */
typedef struct qzo_cuda_gain {
    uint64_t seed;
    float k;
} qzo_cuda_gain;

typedef enum {
    QZO_CUDA_FREE,
    QZO_CUDA_POSITIVE,
    QZO_CUDA_KEEP_SIGN,
    QZO_CUDA_AT_REST /* read, never written */
} qzo_cuda_constraint;

/* Elements of one span per thread block of an update or a digest. */
enum { QZO_CUDA_SPAN_BLOCK = 1024 };

typedef struct qzo_cuda_span {
    int64_t offset; /* of element 0 in the masters */
    int64_t count;
    int64_t first_block; /* thread blocks of the spans before it */
    uint32_t tensor_id;
    qzo_cuda_constraint constraint;
    float floor;
    float rate_factor; /* of its group, times k */
} qzo_cuda_span;

/* All spans of one launch. */
typedef struct qzo_cuda_spans {
    const qzo_cuda_span *table; /* (count), with ascending first_block; none is empty */
    int64_t count;
    int64_t block_count; /* thread blocks of all */
} qzo_cuda_spans;

/* --- embed.cu --- */

cudaError_t qzo_cuda_embed(float *residual, const void *table, const int32_t *ids, int64_t rows,
                           int64_t width, qzo_cuda_dtype dtype, float scale, int add,
                           cudaStream_t stream);

/* The same from a table that trains: perturbed elements of its span. */
cudaError_t qzo_cuda_embed_values(float *residual, const float *masters, const float *unit,
                                  const int32_t *ids, int64_t rows, int64_t width,
                                  qzo_cuda_noise noise, float scale, int add, cudaStream_t stream);

/* The same from blocks of a GGUF file, with values (vocab, blocks of a row): gguf.cu. */
cudaError_t qzo_cuda_embed_gguf(float *residual, qzo_gguf_blocks table, const float *values,
                                const int32_t *ids, int64_t rows, float scale, int add,
                                cudaStream_t stream);
cudaError_t qzo_cuda_gather(float *out, const float *residual, const int32_t *rows,
                            int64_t row_count, int64_t width, cudaStream_t stream);
/* rows NULL: row i is row i */
cudaError_t qzo_cuda_select(uint16_t *out, const uint16_t *x, const int32_t *rows,
                            int64_t row_count, int64_t x_width, int64_t first, int64_t width,
                            cudaStream_t stream);
cudaError_t qzo_cuda_scatter(uint16_t *out, const uint16_t *x, const int32_t *rows,
                             int64_t row_count, int64_t width, cudaStream_t stream);

/* --- norm.cu --- */

cudaError_t qzo_cuda_norm_rms(uint16_t *out, const float *residual, const float *gain, int64_t rows,
                              int64_t width, float epsilon, qzo_cuda_dtype act,
                              cudaStream_t stream);
cudaError_t qzo_cuda_norm_layer(uint16_t *out, const float *residual, const float *gain,
                                const float *bias, int64_t rows, int64_t width, float epsilon,
                                qzo_cuda_dtype act, cudaStream_t stream);

/* backend.h qzo_modulation */
typedef struct qzo_cuda_modulation {
    const uint16_t *values; /* (examples, stride) */
    int64_t stride;
    int64_t rows_per_example;
} qzo_cuda_modulation;

cudaError_t qzo_cuda_modulate(uint16_t *out, const float *residual, qzo_cuda_modulation modulation,
                              int64_t shift_at, int64_t scale_at, int64_t rows, int64_t width,
                              float epsilon, qzo_cuda_dtype act, cudaStream_t stream);

/* elementwise.cu */
cudaError_t qzo_cuda_add_gated(float *residual, const uint16_t *x, qzo_cuda_modulation modulation,
                               int64_t gate_at, int64_t rows, int64_t width, qzo_cuda_dtype act,
                               cudaStream_t stream);

/* --- dequantize.cu --- */

/* plus (count) = fma(c, z, masters), from element 0 of the span, and minus with -c; with unit
 * (count), z is replaced by unit z. unit NULL: 1. minus NULL: not asked. */
cudaError_t qzo_cuda_perturb(float *plus, float *minus, const float *masters, const float *unit,
                             int64_t count, qzo_cuda_noise noise, cudaStream_t stream);

/* Tiles of decoded weights under one sign of a perturbation or under both, whose codes are read
 * once, and the trainable values that each comes from. */
typedef struct qzo_cuda_signs {
    int count; /* 1 or 2 */
    uint16_t *tile[2];
    const float *values[2];
} qzo_cuda_signs;

/* tile (output_count, in_features) of type act = rows first_output .. of W, given the trainable
 * values (out_features, group_count); finite values stay finite. tile is aligned to 16 bytes. */
cudaError_t qzo_cuda_decode_gptq(qzo_cuda_signs signs, qzo_cuda_gptq weight, int64_t first_output,
                                 int64_t output_count, qzo_cuda_dtype act, cudaStream_t stream);

/* The same of bitsandbytes and AQLM weights: dequantize_blocks.cu. */
cudaError_t qzo_cuda_decode_bnb(qzo_cuda_signs signs, qzo_cuda_bnb weight, int64_t first_output,
                                int64_t output_count, qzo_cuda_dtype act, cudaStream_t stream);
cudaError_t qzo_cuda_decode_aqlm(qzo_cuda_signs signs, qzo_cuda_aqlm weight, int64_t first_output,
                                 int64_t output_count, qzo_cuda_dtype act, cudaStream_t stream);

/* The same of blocks of a GGUF file, which weight.blocks points to on the device: gguf.cu. */
cudaError_t qzo_cuda_decode_gguf(qzo_cuda_signs signs, qzo_gguf_blocks weight, int64_t first_output,
                                 int64_t output_count, qzo_cuda_dtype act, cudaStream_t stream);

/* tile (count) of type act = elements first .. of a dense weight; finite values stay finite. */
cudaError_t qzo_cuda_decode_dense(uint16_t *tile, const void *data, int64_t first, int64_t count,
                                  qzo_cuda_dtype dtype, qzo_cuda_dtype act, cudaStream_t stream);

/* The same of a weight that trains: perturbed elements of its span, from the masters in
 * signs.values[0], under c and -c. */
cudaError_t qzo_cuda_decode_values(qzo_cuda_signs signs, const float *unit, int64_t first,
                                   int64_t count, qzo_cuda_noise noise, qzo_cuda_dtype act,
                                   cudaStream_t stream);

/* --- linear_gptq.cu --- */

/* out (rows, out_features), fp32 where wide, = x W^T for rows <= QZO_CUDA_FEW_ROWS_MAX. */
cudaError_t qzo_cuda_linear_gptq_few(void *out, const uint16_t *x, qzo_cuda_gptq weight,
                                     const float *values, int64_t rows, int wide,
                                     qzo_cuda_dtype act, cudaStream_t stream);

/* --- linear_gptq_mma.cu --- */

/* The same on tensor cores for rows <= QZO_CUDA_MMA_ROWS_MAX and groups of whole chunks. Given
 * minus, x and out have the rows of both signs, plus's first: (2 rows, width), the codes are read
 * once, and each half has the bits that it gets alone. minus NULL: one sign. */
cudaError_t qzo_cuda_linear_gptq_mma(void *out, const uint16_t *x, qzo_cuda_gptq weight,
                                     const float *plus, const float *minus, int64_t rows, int wide,
                                     qzo_cuda_dtype act, cudaStream_t stream);

/* --- rope.cu --- */

cudaError_t qzo_cuda_rope(uint16_t *x, const int32_t *positions, const float *table, int64_t rows,
                          int64_t head_count, int64_t head_dim, qzo_cuda_dtype act,
                          cudaStream_t stream);

/* --- attention.cu --- */

/* head_dim is even and at most QZO_CUDA_HEAD_DIM_MAX. */
cudaError_t qzo_cuda_attention_rows(uint16_t *out, const uint16_t *q, const uint16_t *k,
                                    const uint16_t *v, qzo_cuda_attention attention,
                                    int64_t queries, qzo_cuda_dtype act, cudaStream_t stream);

/* --- attention_tiles.cu --- */

/* The same for long contexts; head_dim is a multiple of 8 and at most QZO_CUDA_TILE_HEAD_DIM_MAX. A
 * query's result depends on its own rows alone, not on the other queries. */
cudaError_t qzo_cuda_attention_tiles(uint16_t *out, const uint16_t *q, const uint16_t *k,
                                     const uint16_t *v, qzo_cuda_attention attention,
                                     int64_t queries, qzo_cuda_dtype act, cudaStream_t stream);

/* --- elementwise.cu --- */

typedef enum {
    QZO_CUDA_SILU,
    QZO_CUDA_RELU,
    QZO_CUDA_GELU_TANH,
    QZO_CUDA_GELU
} qzo_cuda_activation;

cudaError_t qzo_cuda_add_bias(uint16_t *x, const float *bias, int64_t rows, int64_t width,
                              qzo_cuda_dtype act, cudaStream_t stream);
cudaError_t qzo_cuda_activate(uint16_t *gate, const uint16_t *up, int64_t count,
                              qzo_cuda_activation activation, qzo_cuda_dtype act,
                              cudaStream_t stream);
cudaError_t qzo_cuda_add_scaled(uint16_t *x, const uint16_t *y, float factor, int64_t count,
                                qzo_cuda_dtype act, cudaStream_t stream);
cudaError_t qzo_cuda_add(float *residual, const uint16_t *x, int64_t count, qzo_cuda_dtype act,
                         cudaStream_t stream);
cudaError_t qzo_cuda_widen(float *out, const uint16_t *x, int64_t count, qzo_cuda_dtype act,
                           cudaStream_t stream);
cudaError_t qzo_cuda_narrow(uint16_t *out, const float *x, int64_t count, qzo_cuda_dtype act,
                            cudaStream_t stream);
cudaError_t qzo_cuda_soft_cap(float *x, int64_t count, float cap, cudaStream_t stream);

/* --- loss.cu --- */

cudaError_t qzo_cuda_log_probs(double *out, const float *logits, const int32_t *target_row,
                               const int32_t *target_id, int64_t target_count, int64_t vocab,
                               cudaStream_t stream);

/* --- update.cu --- */

/* unit, velocity: of the same elements as the masters, or NULL. *digest += qzo_digest_mix over the
 * spans, whose integer sums do not depend on their order; NULL: not asked. */
cudaError_t qzo_cuda_update(float *masters, const float *unit, float *velocity, float decay,
                            qzo_cuda_spans spans, const qzo_cuda_gain *gains, int64_t gain_count,
                            int rademacher, uint64_t *digest, cudaStream_t stream);

#ifdef __cplusplus
}
#endif

#endif
