/* Any bytes as config.json beside good GPTQ tensors: an error, or a weight that can be decoded
 * and sizes that can be used. */
#include "fuzz_folder.h"

#include "base/file_io.h"
#include "model/mmdit.h"
#include "weights/quant.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size_bytes);

enum { INPUTS = 16, OUTPUTS = 8, GROUPS_MAX = INPUTS };

/* Zeroed tensors for groups of 8, with the group of each input. */
static void write_tensors(void) {
    static const char header[] =
        "{\"m.qweight\":{\"dtype\":\"I32\",\"shape\":[2,8],\"data_offsets\":[0,64]},"
        "\"m.qzeros\":{\"dtype\":\"I32\",\"shape\":[2,1],\"data_offsets\":[64,72]},"
        "\"m.scales\":{\"dtype\":\"F16\",\"shape\":[2,8],\"data_offsets\":[72,104]},"
        "\"m.g_idx\":{\"dtype\":\"I32\",\"shape\":[16],\"data_offsets\":[104,168]}}";
    uint8_t bytes[8 + sizeof header - 1 + 168] = {0};
    qzo_put_u64(bytes, sizeof header - 1);
    memcpy(bytes + 8, header, sizeof header - 1);
    fuzz_file_write(fuzz_tensors, bytes, sizeof bytes);
}

static void use_model(const qzo_model_dir *dir) {
    qzo_qtensor weight = {0};
    qzo_digest digest;
    float values[OUTPUTS * GROUPS_MAX], row[INPUTS];
    const qzo_arch *arch = NULL;
    qzo_model_sizes sizes;
    qzo_mmdit_shape images;
    if (qzo_model_dir_digest(&digest, dir) != QZO_OK) abort();
    if (qzo_arch_find(&arch, qzo_model_dir_config(dir), "fuzz") == QZO_OK)
        (void)qzo_model_measure(&sizes, dir); /* reads the shape, binds what it names */
    if (qzo_mmdit_detect(qzo_model_dir_config(dir)))
        (void)qzo_mmdit_read_shape(&images, qzo_model_dir_config(dir), "fuzz");
    if (qzo_qtensor_bind(&weight, dir, "m", OUTPUTS, INPUTS) != QZO_OK) return;
    if (weight.group_count < 1 || weight.group_count > GROUPS_MAX) abort();
    if (weight.format->read_values(values, &weight) != QZO_OK) abort();
    for (int64_t i = 0; i < OUTPUTS; i++)
        weight.format->decode_row(row, &weight, i, values + i * weight.group_count);
    qzo_qtensor_release(&weight);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size_bytes) {
    if (fuzz_folder_make()) write_tensors();
    fuzz_file_write(fuzz_config, bytes, size_bytes);
    qzo_model_dir *dir = NULL;
    if (qzo_model_dir_open(&dir, fuzz_folder) == QZO_OK)
        use_model(dir);
    else if (dir != NULL || qzo_error_message()[0] == '\0')
        abort();
    qzo_model_dir_close(dir);
    return 0;
}
