/* Any bytes as a task file: an error, or offsets and ids that can be followed blindly. The checksum
 * is put right first, or every change would end there. */
#include "task/image_file.h"
#include "task/task_file.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size_bytes);

enum { DIGITS = 16 };

static void repair_checksum(uint8_t *bytes, size_t size_bytes) {
    qzo_safetensors *file = NULL;
    if (qzo_safetensors_parse(&file, bytes, size_bytes, "fuzz") != QZO_OK) return;
    const char *found = qzo_safetensors_metadata(file, "checksum");
    uint64_t checksum = 0;
    if (found != NULL && strlen(found) == DIGITS && qzo_task_checksum(&checksum, file) == QZO_OK) {
        char text[DIGITS + 1];
        uint8_t *at = memmem(bytes, size_bytes, found, DIGITS);
        snprintf(text, sizeof text, "%016" PRIx64, checksum);
        if (at != NULL) memcpy(at, text, DIGITS);
    }
    qzo_safetensors_close(file);
}

static int64_t walk_images(const qzo_images *images) {
    float *latent = malloc((size_t)qzo_images_latent_count(images) * sizeof *latent);
    float *text = malloc((size_t)(images->text_rows * images->text_width) * sizeof *text);
    float *pooled = malloc((size_t)images->pooled_width * sizeof *pooled);
    int64_t sum = 0;
    if (latent == NULL || text == NULL || pooled == NULL) abort();
    for (int split = 0; split < QZO_IMAGE_SPLITS; split++)
        for (int64_t e = 0; e < images->image_count[split]; e++) {
            qzo_images_fetch(images, split, e, latent, text, pooled);
            sum += latent[0] + text[0] + pooled[0] > 0.0f;
        }
    free(latent), free(text), free(pooled);
    return sum;
}

/* Reads everything that a user of the task would reach. */
static int64_t walk(const qzo_task *task) {
    int64_t sum = 0;
    if (task->images != NULL) return walk_images(task->images);
    for (int i = 0; i < QZO_SPLIT_COUNT; i++) {
        const qzo_split *split = &task->splits[i];
        for (int64_t e = 0; e < split->example_count; e++) {
            const int64_t gold = split->option_begin[e] + split->gold[e];
            if (gold >= split->option_begin[e + 1]) abort();
            for (int64_t o = split->option_begin[e]; o < split->option_begin[e + 1]; o++) {
                const int64_t end = split->token_begin[o + 1];
                if (end - split->answer_tokens[o] <= split->token_begin[o]) abort();
                for (int64_t t = split->token_begin[o]; t < end; t++) {
                    const int64_t id = split->tokens[t];
                    for (int64_t p = task->piece_begin[id]; p < task->piece_begin[id + 1]; p++)
                        sum += task->piece_bytes[p];
                }
            }
        }
    }
    return sum;
}

static volatile int64_t sink; /* keeps the reads that the sanitizer checks */

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size_bytes) {
    static int descriptor = -1;
    static char path[64];
    if (descriptor < 0) {
        descriptor = memfd_create("fuzz", 0);
        if (descriptor < 0) abort();
        snprintf(path, sizeof path, "/proc/self/fd/%d", descriptor);
    }
    uint8_t *copy = malloc(size_bytes + 1);
    if (copy == NULL) abort();
    memcpy(copy, bytes, size_bytes);
    repair_checksum(copy, size_bytes);
    if (ftruncate(descriptor, 0) != 0 ||
        pwrite(descriptor, copy, size_bytes, 0) != (ssize_t)size_bytes)
        abort();
    free(copy);

    qzo_task *task = NULL;
    if (qzo_task_open(&task, path) == QZO_OK)
        sink = walk(task);
    else if (task != NULL || qzo_error_message()[0] == '\0')
        abort();
    qzo_task_close(task);
    return 0;
}
