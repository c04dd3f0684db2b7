/* Drawn weights, activations and masters for tests of the CPU backend's inner loops. */
#ifndef QZO_TESTS_BACKEND_SUPPORT_H
#define QZO_TESTS_BACKEND_SUPPORT_H

#include "test_support.h"

#include "backend/cpu_ops.h"
#include "base/cpu.h"
#include "base/half.h"
#include "base/philox.h"
#include "base/update.h"
#include "weights/aqlm_decode.h"
#include "weights/bnb_decode.h"
#include "weights/gguf_model.h"
#include "weights/gptq_decode.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct test_weight {
    qzo_qtensor tensor;
    float *masters; /* with `offset` floats of another span before them */
    float *unit;    /* the same of initial values: other numbers, of both signs */
    void *first, *second, *third;
} test_weight;

enum { TEST_SPAN_OFFSET = 13 };

static inline uint32_t test_word(uint32_t stream, uint64_t index) {
    return qzo_philox(7, index, stream, QZO_PURPOSE_INIT).word[0];
}

/* count normals times scale; the caller frees. */
static inline float *test_normals(uint32_t stream, int64_t count, float scale) {
    float *out = malloc((size_t)(count + 1) * sizeof *out);
    qzo_noise_fill(out, 8, stream, 0, count, QZO_DIRECTIONS_GAUSSIAN);
    for (int64_t i = 0; i < count; i++) out[i] *= scale;
    return out;
}

static inline uint32_t *test_words(uint32_t stream, int64_t count) {
    uint32_t *out = malloc((size_t)count * sizeof *out);
    for (int64_t i = 0; i < count; i++) out[i] = test_word(stream, (uint64_t)i);
    return out;
}

/* GPTQ: drawn codes and zeros, scales of both signs; group 0: one group per row. */
static inline test_weight test_weight_gptq_bits(int bits, int64_t out_features, int64_t in_features,
                                                int64_t group, bool desc_act, bool v1) {
    int64_t groups = group == 0 ? 1 : (in_features + group - 1) / group;
    int32_t *group_of_input = malloc((size_t)in_features * sizeof *group_of_input);
    for (int64_t i = 0; i < in_features; i++)
        group_of_input[i] = (int32_t)(group == 0 ? 0
                                      : desc_act ? test_word(3, (uint64_t)i) % (uint32_t)groups
                                                 : i / group);
    int64_t value_count = TEST_SPAN_OFFSET + out_features * groups;
    test_weight out = {.masters = test_normals(4, value_count, 0.01f),
                       .unit = test_normals(9, value_count, 0.02f),
                       .first = test_words(1, in_features * bits / 32 * out_features),
                       .second = test_words(2, groups * (out_features * bits / 32)),
                       .third = group_of_input};
    out.tensor = (qzo_qtensor){.format = &qzo_quant_gptq,
                               .name = "gptq",
                               .out_features = out_features,
                               .in_features = in_features,
                               .group_count = groups,
                               .span_offset = TEST_SPAN_OFFSET,
                               .tensor_id = 0xabcdef01u,
                               .as.gptq = {.bits = bits,
                                           .codes = out.first,
                                           .zeros = out.second,
                                           .zero_correction = v1 ? qzo_gptq_v1_correction(bits) : 0,
                                           .group_of_input = group_of_input}};
    return out;
}

static inline test_weight test_weight_gptq(int64_t out_features, int64_t in_features, int64_t group,
                                           bool desc_act, bool v1) {
    return test_weight_gptq_bits(4, out_features, in_features, group, desc_act, v1);
}

static inline test_weight test_weight_dense(int64_t out_features, int64_t in_features,
                                            qzo_dtype dtype) {
    int64_t count = out_features * in_features;
    float *values = test_normals(5, count, 0.05f);
    test_weight out = {.masters = test_normals(6, TEST_SPAN_OFFSET, 1.0f),
                       .unit = test_normals(6, TEST_SPAN_OFFSET, 1.0f),
                       .first = values};
    uint16_t *halves = malloc((size_t)count * sizeof *halves);
    out.second = halves;
    for (int64_t i = 0; i < count; i++)
        halves[i] =
            dtype == QZO_DTYPE_F16 ? qzo_float_to_fp16(values[i]) : qzo_float_to_bf16(values[i]);
    const void *data = dtype == QZO_DTYPE_F32 ? out.first : out.second;
    out.tensor = (qzo_qtensor){.format = &qzo_quant_dense,
                               .name = "dense",
                               .out_features = out_features,
                               .in_features = in_features,
                               .span = QZO_SPAN_NONE,
                               .as.dense = {.name = "dense.weight",
                                            .dtype = dtype,
                                            .rank = 2,
                                            .shape = {out_features, in_features},
                                            .count = count,
                                            .data = data,
                                            .size_bytes = (size_t)count * qzo_dtype_bytes(dtype)}};
    return out;
}

/* A weight whose elements train: they lie in the masters, and the file's are not read. */
static inline test_weight test_weight_trained(int64_t out_features, int64_t in_features) {
    int64_t count = out_features * in_features;
    test_weight out = {.masters = test_normals(6, TEST_SPAN_OFFSET + count, 0.05f),
                       .unit = test_normals(9, TEST_SPAN_OFFSET + count, 0.02f)};
    out.tensor = (qzo_qtensor){.format = &qzo_quant_dense,
                               .name = "trained",
                               .out_features = out_features,
                               .in_features = in_features,
                               .group_count = in_features,
                               .span_offset = TEST_SPAN_OFFSET,
                               .tensor_id = 0xabcdef02u};
    return out;
}

static inline void test_weight_release(test_weight *weight) {
    free(weight->masters);
    free(weight->unit);
    free(weight->first);
    free(weight->second);
    free(weight->third);
}

/* Clean, both signs, both kinds of direction; absolute, and relative to the weight's units. */
enum { TEST_PERTURBATIONS = 6 };

static inline qzo_perturbation test_perturbation(int index, const float *unit) {
    const qzo_perturbation perturbations[TEST_PERTURBATIONS] = {
        {.seed = 1, .c = 0.0f, .unit = unit},
        {.seed = 0xfedcba9876543210u, .c = 1e-3f},
        {.seed = 0xfedcba9876543210u, .c = -1e-3f},
        {.seed = 2, .c = 0.05f, .directions = QZO_DIRECTIONS_RADEMACHER},
        {.seed = 3, .c = -0.1f, .unit = unit},
        {.seed = 4, .c = 0.1f, .directions = QZO_DIRECTIONS_RADEMACHER, .unit = unit},
    };
    return perturbations[index];
}

/* Every element of a weight that trains, perturbed with c; the caller frees. */
static inline float *test_trained_values(const test_weight *weight,
                                         const qzo_perturbation *perturbation, float c) {
    int64_t count = weight->tensor.out_features * weight->tensor.in_features;
    float *out = malloc((size_t)count * sizeof *out);
    qzo_noise_fill(out, perturbation->seed, weight->tensor.tensor_id, 0, count,
                   perturbation->directions);
    for (int64_t i = 0; i < count; i++) {
        float unit = perturbation->unit == NULL ? 1.0f : perturbation->unit[TEST_SPAN_OFFSET + i];
        out[i] = qzo_perturbed(weight->masters[TEST_SPAN_OFFSET + i], c,
                               qzo_scaled_direction(unit, out[i]));
    }
    return out;
}

/* bitsandbytes: drawn codes and levels, absmax of both signs. */
static inline test_weight test_weight_bnb(int64_t out_features, int64_t in_features,
                                          int64_t block) {
    int64_t values = TEST_SPAN_OFFSET + out_features * (in_features / block);
    test_weight out = {.masters = test_normals(4, values, 0.01f),
                       .unit = test_normals(9, values, 0.02f),
                       .first = test_words(11, out_features * in_features / 8)};
    out.tensor = (qzo_qtensor){.format = &qzo_quant_bnb,
                               .name = "bnb",
                               .out_features = out_features,
                               .in_features = in_features,
                               .group_count = in_features / block,
                               .span_offset = TEST_SPAN_OFFSET,
                               .tensor_id = 0xabcdef03u,
                               .as.bnb = {.codes = out.first, .block = block}};
    float *levels = test_normals(12, QZO_BNB_LEVELS, 0.5f);
    memcpy(out.tensor.as.bnb.levels, levels, sizeof out.tensor.as.bnb.levels);
    free(levels);
    return out;
}

/* AQLM: drawn codes and codebooks, scales of both signs. */
static inline test_weight test_weight_aqlm(int code_bits, int codebooks, bool is_bf16,
                                           int64_t out_features, int64_t in_features) {
    int64_t codes = out_features * (in_features / QZO_AQLM_GROUP) * codebooks;
    int64_t entries = ((int64_t)codebooks << code_bits) * QZO_AQLM_GROUP;
    float *drawn = test_normals(13, entries, 1.0f);
    uint16_t *halves = malloc((size_t)entries * sizeof *halves);
    for (int64_t i = 0; i < entries; i++)
        halves[i] = is_bf16 ? qzo_float_to_bf16(drawn[i]) : qzo_float_to_fp16(drawn[i]);
    free(drawn);
    test_weight out = {.masters = test_normals(4, TEST_SPAN_OFFSET + out_features, 0.1f),
                       .unit = test_normals(9, TEST_SPAN_OFFSET + out_features, 0.02f),
                       .first = test_words(14, codes),
                       .second = halves};
    out.tensor = (qzo_qtensor){.format = &qzo_quant_aqlm,
                               .name = "aqlm",
                               .out_features = out_features,
                               .in_features = in_features,
                               .group_count = 1,
                               .span_offset = TEST_SPAN_OFFSET,
                               .tensor_id = 0xabcdef04u,
                               .as.aqlm.layout = {.codes = out.first,
                                                  .codebooks = halves,
                                                  .code_bits = code_bits,
                                                  .codebook_count = codebooks,
                                                  .is_bf16 = is_bf16}};
    return out;
}

/* GGUF: drawn bits, but for Q4_K's dmin and the sub-scales' sizes; d of both signs. */
static inline test_weight test_weight_gguf(qzo_gguf_block kind, int64_t out_features,
                                           int64_t in_features, int64_t head_rows) {
    qzo_gguf_blocks layout = qzo_gguf_blocks_of(kind);
    int64_t blocks = out_features * in_features / layout.block_inputs;
    float size = layout.block_inputs == QZO_GGUF_SMALL ? 0.01f : 2e-4f;
    test_weight out = {.masters = test_normals(4, TEST_SPAN_OFFSET + blocks, size),
                       .unit = test_normals(9, TEST_SPAN_OFFSET + blocks, size),
                       .first = test_words(15, blocks * (layout.block_bytes / 4 + 1))};
    uint8_t *bytes = out.first;
    for (int64_t i = 0; kind == QZO_GGUF_BLOCK_Q4_K && i < blocks; i++) {
        bytes[i * layout.block_bytes + 2] = (uint8_t)i;
        bytes[i * layout.block_bytes + 3] = 0x15; /* about 1e-3 */
    }
    layout.blocks = bytes;
    layout.in_features = in_features;
    layout.head_rows = head_rows;
    out.tensor = (qzo_qtensor){.format = &qzo_quant_gguf,
                               .name = "gguf",
                               .out_features = out_features,
                               .in_features = in_features,
                               .group_count = in_features / layout.block_inputs,
                               .span_offset = TEST_SPAN_OFFSET,
                               .tensor_id = 0xabcdef05u,
                               .as.gguf = {.layout = layout}};
    return out;
}

typedef void test_weight_visit(const test_weight *weight, const char *name);

static inline void test_weights_visit_gptq(test_weight_visit *visit) {
    static const struct {
        int bits;
        int64_t out_features, in_features, group;
    } shapes[] = {{4, 8, 8, 8},     {4, 24, 32, 32},   {4, 64, 256, 32}, {4, 72, 264, 128},
                  {4, 136, 520, 0}, {4, 128, 544, 32}, {2, 16, 16, 16},  {2, 80, 272, 32},
                  {3, 32, 32, 32},  {3, 96, 288, 64},  {3, 160, 544, 0}, {8, 8, 8, 8},
                  {8, 72, 264, 128}};
    char name[128];
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++)
        for (int kind = 0; kind < 4; kind++) {
            bool desc_act = kind % 2 != 0, v1 = kind / 2 != 0;
            test_weight weight =
                test_weight_gptq_bits(shapes[i].bits, shapes[i].out_features, shapes[i].in_features,
                                      shapes[i].group, desc_act, v1);
            snprintf(name, sizeof name, "gptq v%d %d bits (%d, %d) groups of %d%s", v1 ? 1 : 2,
                     shapes[i].bits, (int)shapes[i].out_features, (int)shapes[i].in_features,
                     (int)shapes[i].group, desc_act ? " permuted" : "");
            visit(&weight, name);
            test_weight_release(&weight);
        }
}

static inline void test_weights_visit_dense(test_weight_visit *visit) {
    static const int64_t shapes[][2] = {{1, 1}, {7, 5}, {16, 256}, {65, 300}, {130, 257}};
    static const qzo_dtype dtypes[] = {QZO_DTYPE_F32, QZO_DTYPE_F16, QZO_DTYPE_BF16};
    char name[128];
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++)
        for (int kind = 0; kind < 3; kind++) {
            test_weight weight = test_weight_dense(shapes[i][0], shapes[i][1], dtypes[kind]);
            snprintf(name, sizeof name, "dense %s (%d, %d)", qzo_dtype_name(dtypes[kind]),
                     (int)shapes[i][0], (int)shapes[i][1]);
            visit(&weight, name);
            test_weight_release(&weight);
        }
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        test_weight weight = test_weight_trained(shapes[i][0], shapes[i][1]);
        snprintf(name, sizeof name, "trained (%d, %d)", (int)shapes[i][0], (int)shapes[i][1]);
        visit(&weight, name);
        test_weight_release(&weight);
    }
}

static inline void test_weights_visit_blocks(test_weight_visit *visit) {
    static const int64_t bnb_shapes[][3] = {{1, 32, 32}, {70, 320, 64}, {128, 512, 256}};
    static const struct {
        int code_bits, codebooks;
        bool is_bf16;
        int64_t out_features, in_features;
    } aqlm_shapes[] = {{8, 2, false, 1, 8}, {8, 2, true, 70, 328}, {16, 1, false, 128, 520}};
    char name[128];
    for (size_t i = 0; i < sizeof bnb_shapes / sizeof *bnb_shapes; i++) {
        const int64_t *shape = bnb_shapes[i];
        test_weight weight = test_weight_bnb(shape[0], shape[1], shape[2]);
        snprintf(name, sizeof name, "bnb (%d, %d) blocks of %d", (int)shape[0], (int)shape[1],
                 (int)shape[2]);
        visit(&weight, name);
        test_weight_release(&weight);
    }
    for (size_t i = 0; i < sizeof aqlm_shapes / sizeof *aqlm_shapes; i++) {
        test_weight weight = test_weight_aqlm(aqlm_shapes[i].code_bits, aqlm_shapes[i].codebooks,
                                              aqlm_shapes[i].is_bf16, aqlm_shapes[i].out_features,
                                              aqlm_shapes[i].in_features);
        snprintf(name, sizeof name, "aqlm %dx%d (%d, %d)", aqlm_shapes[i].codebooks,
                 aqlm_shapes[i].code_bits, (int)aqlm_shapes[i].out_features,
                 (int)aqlm_shapes[i].in_features);
        visit(&weight, name);
        test_weight_release(&weight);
    }
}

static inline void test_weights_visit_gguf(test_weight_visit *visit) {
    static const int64_t shapes[][3] = {{1, 1, 0}, {70, 3, 0}, {128, 2, 32}};
    char name[128];
    for (int kind = 0; kind <= QZO_GGUF_BLOCK_Q6_K; kind++)
        for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
            int64_t inputs = shapes[i][1] * qzo_gguf_blocks_of((qzo_gguf_block)kind).block_inputs;
            test_weight weight =
                test_weight_gguf((qzo_gguf_block)kind, shapes[i][0], inputs, shapes[i][2]);
            snprintf(name, sizeof name, "gguf %s (%d, %d) heads of %d",
                     qzo_gguf_block_suffix((qzo_gguf_block)kind), (int)shapes[i][0], (int)inputs,
                     (int)shapes[i][2]);
            visit(&weight, name);
            test_weight_release(&weight);
        }
}

/* Every kind of weight over shapes around the tiles (16, 64 outputs; 256 inputs). */
static inline void test_weights_visit(test_weight_visit *visit) {
    test_weights_visit_gptq(visit);
    test_weights_visit_blocks(visit);
    test_weights_visit_gguf(visit);
    test_weights_visit_dense(visit);
}

/* out (rows, out_features): all tiles of one table, in scratch of exactly the size that it asks
 * for. The caller frees. */
static inline float *test_linear(const cpu_ops *ops, const test_weight *weight, const float *x,
                                 const qzo_perturbation *perturbation, int64_t rows) {
    int64_t count = rows * weight->tensor.out_features;
    float *out = malloc((size_t)(count + 1) * sizeof *out);
    float *scratch =
        malloc((size_t)qzo_cpu_linear_scratch_floats(&weight->tensor) * sizeof *scratch);
    for (int64_t i = 0; i <= count; i++) out[i] = 1e30f; /* what is not written shows */
    const cpu_linear job = {.out = out,
                            .x = x,
                            .weight = &weight->tensor,
                            .masters = weight->masters,
                            .perturbation = *perturbation,
                            .rows = rows};
    for (int64_t first = 0; first < weight->tensor.out_features; first += ops->linear_tile_rows)
        ops->linear_tile(&job, first, scratch);
    assert_true(out[count] == 1e30f);
    free(scratch);
    return out;
}

#endif
