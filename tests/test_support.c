#include "test_support.h"

#include <ftw.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { PATH_BYTES = 4096 };

void qzo_test_assert_fails(qzo_status status, qzo_status expected, const char *text,
                           const char *call, const char *file, int line) {
    if (status != expected)
        fail_msg("%s:%d: %s returned \"%s\" (%s), expected \"%s\"", file, line, call,
                 qzo_status_text(status), qzo_error_message(), qzo_status_text(expected));
    if (strstr(qzo_error_message(), text) == NULL)
        fail_msg("%s:%d: %s: the message \"%s\" lacks \"%s\"", file, line, call,
                 qzo_error_message(), text);
}

void qzo_test_assert_close(double actual, double expected, double limit, const char *limit_name) {
    if (!(fabs(actual - expected) <= limit))
        fail_msg("%.17g differs from %.17g by %.3g, limit %.3g (%s)", actual, expected,
                 fabs(actual - expected), limit, limit_name);
}

const char *qzo_test_fixture(const char *name) {
    static _Thread_local char path[PATH_BYTES];
    const char *source = getenv("QZO_SOURCE");
    snprintf(path, sizeof path, "%s/tests/fixtures/%s", source != NULL ? source : "..", name);
    return path;
}

const char *qzo_test_data(const char *name) {
    static _Thread_local char path[PATH_BYTES];
    const char *folder = getenv("QZO_TEST_DATA");
    if (folder == NULL) return NULL;
    snprintf(path, sizeof path, "%s/%s", folder, name);
    return access(path, R_OK) == 0 ? path : NULL;
}

char *qzo_test_folder_create(void) {
    const char *base = getenv("TMPDIR");
    char *path = malloc(PATH_BYTES);
    snprintf(path, PATH_BYTES, "%s/qzo-test-XXXXXX", base != NULL ? base : "/tmp");
    if (mkdtemp(path) == NULL) fail_msg("cannot make a temporary folder %s", path);
    return path;
}

static int remove_entry(const char *path, const struct stat *info, int kind, struct FTW *where) {
    (void)info, (void)kind, (void)where;
    return remove(path);
}

void qzo_test_folder_remove(char *path) {
    nftw(path, remove_entry, 16, FTW_DEPTH | FTW_PHYS);
    free(path);
}

uint8_t *qzo_test_file_read(const char *path, size_t *size_bytes) {
    FILE *file = fopen(path, "rb");
    if (file == NULL) fail_msg("cannot open %s", path);
    fseek(file, 0, SEEK_END);
    long size = ftell(file);
    rewind(file);
    uint8_t *bytes = malloc((size_t)size + 1);
    if (fread(bytes, 1, (size_t)size, file) != (size_t)size) fail_msg("cannot read %s", path);
    bytes[size] = '\0';
    fclose(file);
    *size_bytes = (size_t)size;
    return bytes;
}

void qzo_test_file_write(const char *path, const void *bytes, size_t size_bytes) {
    FILE *file = fopen(path, "wb");
    if (file == NULL || fwrite(bytes, 1, size_bytes, file) != size_bytes || fclose(file) != 0)
        fail_msg("cannot write %s", path);
}
