/* Any bytes as config.json beside good GPTQ tensors: an error, or a weight that can be decoded
 * and sizes that can be used. */
#include "base/file_io.h"
#include "model/mmdit.h"
#include "weights/quant.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size_bytes);

enum { INPUTS = 16, OUTPUTS = 8, GROUPS_MAX = INPUTS };

static char folder[] = "/tmp/qzo-fuzz-XXXXXX";
static char config[64], tensors[64];

static void remove_folder(void) {
    unlink(config);
    unlink(tensors);
    rmdir(folder);
}

/* Zeroed tensors for groups of 8, with the group of each input. */
static void make_folder(void) {
    static const char header[] =
        "{\"m.qweight\":{\"dtype\":\"I32\",\"shape\":[2,8],\"data_offsets\":[0,64]},"
        "\"m.qzeros\":{\"dtype\":\"I32\",\"shape\":[2,1],\"data_offsets\":[64,72]},"
        "\"m.scales\":{\"dtype\":\"F16\",\"shape\":[2,8],\"data_offsets\":[72,104]},"
        "\"m.g_idx\":{\"dtype\":\"I32\",\"shape\":[16],\"data_offsets\":[104,168]}}";
    uint8_t bytes[8 + sizeof header - 1 + 168] = {0};
    if (mkdtemp(folder) == NULL) abort();
    snprintf(config, sizeof config, "%s/config.json", folder);
    snprintf(tensors, sizeof tensors, "%s/model.safetensors", folder);
    atexit(remove_folder);
    qzo_put_u64(bytes, sizeof header - 1);
    memcpy(bytes + 8, header, sizeof header - 1);
    FILE *file = fopen(tensors, "wb");
    if (file == NULL || fwrite(bytes, 1, sizeof bytes, file) != sizeof bytes) abort();
    fclose(file);
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
    if (tensors[0] == '\0') make_folder();
    FILE *file = fopen(config, "wb");
    if (file == NULL || fwrite(bytes, 1, size_bytes, file) != size_bytes) abort();
    fclose(file);
    qzo_model_dir *dir = NULL;
    if (qzo_model_dir_open(&dir, folder) == QZO_OK)
        use_model(dir);
    else if (dir != NULL || qzo_error_message()[0] == '\0')
        abort();
    qzo_model_dir_close(dir);
    return 0;
}
