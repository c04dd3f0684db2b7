/* A folder of the process, with places for a model's two files, for targets whose input is one of
 * them or both. It goes away at the end; what cannot be written aborts. */
#ifndef QZO_TESTS_FUZZ_FOLDER_H
#define QZO_TESTS_FUZZ_FOLDER_H

#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static char fuzz_folder[] = "/tmp/qzo-fuzz-XXXXXX";
static char fuzz_config[64], fuzz_tensors[64];

static inline void fuzz_folder_remove(void) {
    unlink(fuzz_config);
    unlink(fuzz_tensors);
    rmdir(fuzz_folder);
}

static inline void fuzz_file_write(const char *path, const void *bytes, size_t size_bytes) {
    FILE *file = fopen(path, "wb");
    if (file == NULL || fwrite(bytes, 1, size_bytes, file) != size_bytes) abort();
    fclose(file);
}

/* Whether it was made just now: at the first input. */
static inline int fuzz_folder_make(void) {
    if (fuzz_tensors[0] != '\0') return 0;
    if (mkdtemp(fuzz_folder) == NULL) abort();
    snprintf(fuzz_config, sizeof fuzz_config, "%s/config.json", fuzz_folder);
    snprintf(fuzz_tensors, sizeof fuzz_tensors, "%s/model.safetensors", fuzz_folder);
    atexit(fuzz_folder_remove);
    return 1;
}

#endif
