/* Builds safetensors files in memory: for tests that need a small good file to break. Everything
 * fails the test that runs. */
#ifndef QZO_TESTS_TENSOR_WRITER_H
#define QZO_TESTS_TENSOR_WRITER_H

#include "test_support.h"

#include "base/file_io.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { TENSOR_WRITER_BYTES_MAX = 1 << 19 };

typedef struct tensor_writer { /* zeroed: an empty file */
    char tensors[TENSOR_WRITER_BYTES_MAX];
    char metadata[TENSOR_WRITER_BYTES_MAX];
    uint8_t data[TENSOR_WRITER_BYTES_MAX];
    size_t data_bytes;
} tensor_writer;

static inline tensor_writer *tensor_writer_create(void) {
    tensor_writer *writer = calloc(1, sizeof *writer);
    assert_non_null(writer);
    return writer;
}

static inline void tensor_writer_append(char *text, const char *addition) {
    assert_true(strlen(text) + strlen(addition) < TENSOR_WRITER_BYTES_MAX);
    strcat(text, addition);
}

/* shape as it stands in the header, without brackets: "2,3"; "" for a scalar. */
static inline void tensor_writer_add(tensor_writer *writer, const char *name, const char *dtype,
                                     const char *shape, const void *data, size_t data_bytes) {
    char entry[512];
    snprintf(entry, sizeof entry,
             ",\"%s\":{\"dtype\":\"%s\",\"shape\":[%s],\"data_offsets\":[%zu,%zu]}", name, dtype,
             shape, writer->data_bytes, writer->data_bytes + data_bytes);
    tensor_writer_append(writer->tensors, entry);
    assert_true(writer->data_bytes + data_bytes <= sizeof writer->data);
    if (data_bytes > 0) memcpy(writer->data + writer->data_bytes, data, data_bytes);
    writer->data_bytes += data_bytes;
}

static inline void tensor_writer_metadata(tensor_writer *writer, const char *key,
                                          const char *value) {
    char entry[512];
    snprintf(entry, sizeof entry, "%s\"%s\":\"%s\"", writer->metadata[0] == '\0' ? "" : ",", key,
             value);
    tensor_writer_append(writer->metadata, entry);
}

/* A whole file of any header and data; the caller frees. */
static inline uint8_t *tensor_file_bytes(size_t *size_bytes, const char *header, const void *data,
                                         size_t data_bytes) {
    const size_t header_bytes = strlen(header);
    *size_bytes = 8 + header_bytes + data_bytes;
    uint8_t *bytes = malloc(*size_bytes);
    assert_non_null(bytes);
    qzo_put_u64(bytes, header_bytes);
    memcpy(bytes + 8, header, header_bytes);
    if (data_bytes > 0) memcpy(bytes + 8 + header_bytes, data, data_bytes);
    return bytes;
}

/* The file as written so far, its data at a place that is `shift` modulo 8; the caller frees. */
static inline uint8_t *tensor_writer_bytes(size_t *size_bytes, const tensor_writer *writer,
                                           size_t shift) {
    char *header = malloc(2 * TENSOR_WRITER_BYTES_MAX + 64);
    assert_non_null(header);
    sprintf(header, "{\"__metadata__\":{%s}%s}", writer->metadata, writer->tensors);
    while (strlen(header) % 8 != shift) strcat(header, " ");
    uint8_t *bytes = tensor_file_bytes(size_bytes, header, writer->data, writer->data_bytes);
    free(header);
    return bytes;
}

static inline void tensor_writer_save(const tensor_writer *writer, const char *path, size_t shift) {
    size_t size_bytes = 0;
    uint8_t *bytes = tensor_writer_bytes(&size_bytes, writer, shift);
    qzo_test_file_write(path, bytes, size_bytes);
    free(bytes);
}

/* Writes text to FOLDER/NAME. */
static inline void tensor_folder_write(const char *folder, const char *name, const char *text) {
    char *path = qzo_path_join(folder, name);
    qzo_test_file_write(path, text, strlen(text));
    free(path);
}

#endif
