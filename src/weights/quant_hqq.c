/* HQQ as the hqq package writes it (half-quadratic quantization; its state_dict, encoded for
 * safetensors), with groups along the inputs (axis 1). For a module with `in` inputs, `out` outputs
 * and runs = out * in / group_size groups, output after output:
 *
 *   MODULE.W_q    8 bits: U8 (runs, group_size); 4, 2, 1 bits: U8 (runs * bits / 8, group_size);
 *                 3 bits: I32 (ceil(runs / 10), group_size)
 *   MODULE.scale, .zero          F16, BF16 or F32 (runs, 1)
 *   MODULE.nbits, .axis          I32 scalars
 *   MODULE.shape                 I64 (2): out, in
 *
 * A word holds codes of the same place in several groups, step = (rows of W_q) apart, the first in
 * the highest bits. A weight is (code - zero) * scale, with a zero that is no integer. The scales
 * train. Codes are laid out as GPTQ's when the model is loaded, those of 1 bit with 2. */
#include "weights/gptq_pack.h"
#include "weights/quant_parts.h"

#include <math.h>
#include <string.h>

static bool detect(const qzo_model_dir *dir, const char *module) {
    return qzo_quant_part_find(dir, module, "W_q") != NULL;
}

/* How many codes a word of W_q holds; 0 where hqq has no such packing. */
static int64_t codes_per_word(int64_t bits) {
    switch (bits) {
    case 1:
    case 2:
    case 4:
    case 8: return 8 / bits;
    case 3: return 10;
    default: return 0;
    }
}

static int packed_bits(int64_t bits) { return bits == 1 ? 2 : (int)bits; }

/* MODULE.SUFFIX, one I32. */
static qzo_status read_setting(int64_t *out, const qzo_model_dir *dir, const char *module,
                               const char *suffix) {
    const qzo_tensor_view *view = NULL;
    qzo_status status = qzo_quant_part_require(&view, dir, module, suffix, QZO_DTYPE_I32, 1);
    if (status == QZO_OK) *out = qzo_quant_int_at(view, 0);
    return status;
}

static qzo_status check_settings(int64_t *bits, const qzo_qtensor *out, const qzo_model_dir *dir,
                                 const char *module) {
    qzo_status status = QZO_OK;
    int64_t axis = 0;
    QZO_TRY(read_setting(bits, dir, module, "nbits"));
    QZO_TRY(read_setting(&axis, dir, module, "axis"));
    if (codes_per_word(*bits) == 0)
        return qzo_fail(QZO_ERR_UNSUPPORTED,
                        "%s: module %s: HQQ with %lld bits, only 1, 2, 3, 4 and 8 are read",
                        qzo_model_dir_path(dir), module, (long long)*bits);
    if (axis != 1)
        return qzo_fail(QZO_ERR_UNSUPPORTED,
                        "%s: module %s: HQQ with axis %lld: only axis 1, whose groups are inputs "
                        "of one output, is read",
                        qzo_model_dir_path(dir), module, (long long)axis);
    QZO_TRY(qzo_gptq_check_sizes(out, dir, "HQQ", packed_bits(*bits)));
    QZO_TRY(qzo_quant_part_shape(dir, module, "shape", out->out_features, out->in_features));
cleanup:
    return status;
}

/* Scale and zero point of each group, which tell how many there are. */
static qzo_status bind_groups(qzo_qtensor *out, const qzo_model_dir *dir, const char *module) {
    qzo_status status = QZO_OK;
    qzo_gptq_tensor *gptq = &out->as.gptq;
    const qzo_tensor_view *scales = qzo_quant_part_find(dir, module, "scale"), *zeros = NULL;
    const int64_t runs = scales != NULL && scales->rank == 2 ? scales->shape[0] : 1;
    QZO_TRY(qzo_quant_part_floats(&scales, dir, module, "scale", runs, 1));
    QZO_TRY(qzo_quant_part_floats(&zeros, dir, module, "zero", runs, 1));
    if (runs < 1 || runs % out->out_features != 0 ||
        out->in_features % (runs / out->out_features) != 0)
        return qzo_fail(QZO_ERR_UNSUPPORTED,
                        "%s: tensor %s: %lld groups, which do not divide the rows of a weight "
                        "(%lld, %lld)",
                        qzo_model_dir_path(dir), scales->name, (long long)runs,
                        (long long)out->out_features, (long long)out->in_features);
    out->group_count = runs / out->out_features;
    gptq->group_size = out->in_features / out->group_count;
    gptq->scales = *scales;
    gptq->stored.zeros = *zeros;
cleanup:
    return status;
}

static qzo_status bind(qzo_qtensor *out, const qzo_model_dir *dir, const char *module,
                       int64_t out_features, int64_t in_features) {
    qzo_status status = QZO_OK;
    qzo_gptq_tensor *gptq = &out->as.gptq;
    const qzo_tensor_view *codes = NULL;
    int64_t bits = 0;
    (void)in_features;
    QZO_TRY(check_settings(&bits, out, dir, module));
    QZO_TRY(bind_groups(out, dir, module));
    const int64_t runs = out_features * out->group_count, per_word = codes_per_word(bits);
    const int64_t steps = (runs + per_word - 1) / per_word;
    if (bits != 3 && runs % per_word != 0) {
        status = qzo_fail(QZO_ERR_FORMAT, "%s: module %s: HQQ packs %lld groups by %lld",
                          qzo_model_dir_path(dir), module, (long long)runs, (long long)per_word);
        goto cleanup;
    }
    QZO_TRY(qzo_quant_part_require(&codes, dir, module, "W_q",
                                   bits == 3 ? QZO_DTYPE_I32 : QZO_DTYPE_U8,
                                   steps * gptq->group_size));
    gptq->bits = packed_bits(bits);
    gptq->stored.bits = (int)bits;
    gptq->stored.codes = *codes;
    gptq->has_float_zeros = true;
cleanup:
    return status;
}

static uint32_t word_at(const qzo_tensor_view *codes, int64_t index) {
    return codes->dtype == QZO_DTYPE_U8 ? codes->data[index]
                                        : (uint32_t)qzo_quant_int_at(codes, index);
}

/* The codes of one group. */
static void repack_run(uint32_t *codes, const qzo_qtensor *tensor, int64_t run) {
    const qzo_gptq_tensor *gptq = &tensor->as.gptq;
    const int64_t per_word = codes_per_word(gptq->stored.bits);
    const int64_t runs = tensor->out_features * tensor->group_count;
    const int64_t steps = (runs + per_word - 1) / per_word, size = gptq->group_size;
    const int64_t output = run / tensor->group_count;
    const int64_t first = run % tensor->group_count * size;
    const int shift = (int)(per_word - 1 - run / steps) * gptq->stored.bits;
    const uint32_t mask = (1u << gptq->stored.bits) - 1u;
    for (int64_t i = 0; i < size; i++)
        qzo_gptq_put(codes + output, tensor->out_features, first + i, gptq->bits,
                     word_at(&gptq->stored.codes, run % steps * size + i) >> shift & mask);
}

static qzo_status repack(qzo_qtensor *tensor) {
    const qzo_gptq_tensor *gptq = &tensor->as.gptq;
    const int64_t runs = tensor->out_features * tensor->group_count;
    qzo_gptq_room room;
    qzo_status status = qzo_gptq_make_room(&room, tensor);
    if (status != QZO_OK) return status;
    for (int64_t run = 0; run < runs; run++) {
        repack_run(room.codes, tensor, run);
        room.float_zeros[run % tensor->group_count * tensor->out_features +
                         run / tensor->group_count] = qzo_tensor_float_at(&gptq->stored.zeros, run);
    }
    return QZO_OK;
}

static qzo_status read_values(float *out, const qzo_qtensor *weight) {
    qzo_status status = qzo_quant_part_check_finite(&weight->as.gptq.stored.zeros);
    if (status != QZO_OK) return status;
    return qzo_gptq_scales_read_by_output(out, weight);
}

const qzo_quant_format qzo_quant_hqq = {
    .name = "hqq",
    .layout = QZO_LAYOUT_GPTQ,
    .detect = detect,
    .bind = bind,
    .repack = repack,
    .decode_row = qzo_gptq_decode_row,
    .read_values = read_values,
    .write_values = qzo_gptq_scales_write_by_output,
    .value_suffix = "scale",
    .constraint = QZO_CONSTRAINT_KEEP_SIGN,
};
