/* Any tensors of one module beside the settings of a quantized model: an error, or a weight that
 * can be decoded. The input is u8 settings, u16 payload bytes, u16 of them given, the header of a
 * safetensors file, the given bytes; the rest of the payload is zeros, so that codebooks need no
 * room in the input. */
#include "fuzz_folder.h"

#include "base/file_io.h"
#include "weights/quant.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size_bytes);

enum { INPUTS = 64, OUTPUTS = 32, FIXED_BYTES = 5, INPUT_BYTES_MAX = 8192 };

#define QUANTIZATION(settings) "{\"quantization_config\":{" settings "}}"
#define BITS(count)            "{\"weights\":{\"num_bits\":" #count "}}"

static const char *const settings[] = {
    "{}",
    QUANTIZATION("\"quant_method\":\"gptq\",\"bits\":3,\"group_size\":32"),
    QUANTIZATION("\"quant_method\":\"aqlm\""),
    QUANTIZATION("\"quant_method\":\"awq\",\"bits\":4,\"group_size\":32"),
    QUANTIZATION("\"quant_method\":\"compressed-tensors\",\"config_groups\":"
                 "{\"a\":" BITS(4) ",\"b\":" BITS(3) "}"),
};
enum { SETTING_COUNT = sizeof settings / sizeof *settings };

static void decode(const qzo_model_dir *dir) {
    qzo_qtensor weight = {0};
    float values[OUTPUTS * INPUTS], row[INPUTS];
    if (qzo_qtensor_bind(&weight, dir, "m", OUTPUTS, INPUTS) != QZO_OK) {
        if (weight.owned != NULL || qzo_error_message()[0] == '\0') abort();
        return;
    }
    if (weight.group_count < 0 || weight.group_count > INPUTS) abort();
    if (weight.format->read_values(values, &weight) == QZO_OK &&
        qzo_qtensor_repack(&weight) == QZO_OK)
        for (int64_t i = 0; i < OUTPUTS; i++)
            weight.format->decode_row(row, &weight, i, values + i * weight.group_count);
    qzo_qtensor_release(&weight);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size_bytes) {
    static uint8_t file[8 + INPUT_BYTES_MAX + UINT16_MAX];
    if (size_bytes < FIXED_BYTES || size_bytes > INPUT_BYTES_MAX) return 0;
    size_t payload_bytes = bytes[1] | (size_t)bytes[2] << 8;
    size_t given_bytes = bytes[3] | (size_t)bytes[4] << 8, left = size_bytes - FIXED_BYTES;
    if (given_bytes > left || given_bytes > payload_bytes) return 0;
    size_t header_bytes = left - given_bytes;
    (void)fuzz_folder_make();
    qzo_put_u64(file, header_bytes);
    memcpy(file + 8, bytes + FIXED_BYTES, left);
    memset(file + 8 + left, 0, payload_bytes - given_bytes);
    fuzz_file_write(fuzz_tensors, file, 8 + header_bytes + payload_bytes);
    const char *text = settings[bytes[0] % SETTING_COUNT];
    fuzz_file_write(fuzz_config, text, strlen(text));
    qzo_model_dir *dir = NULL;
    if (qzo_model_dir_open(&dir, fuzz_folder) == QZO_OK)
        decode(dir);
    else if (dir != NULL || qzo_error_message()[0] == '\0')
        abort();
    qzo_model_dir_close(dir);
    return 0;
}
