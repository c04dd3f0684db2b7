/* Files: atomic replacement, whole reads and writes, mappings, paths, and the log's file. */
#include "test_support.h"

#include "base/file_io.h"
#include "base/file_map.h"
#include "base/log.h"

#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static char *folder;
static char path[4096];

static int setup(void **state) {
    (void)state;
    folder = qzo_test_folder_create();
    snprintf(path, sizeof path, "%s/file", folder);
    return 0;
}

static int teardown(void **state) {
    (void)state;
    qzo_test_folder_remove(folder);
    return 0;
}

static void replace_leaves_the_new_bytes_and_nothing_else(void **state) {
    (void)state;
    char temporary[4200];
    snprintf(temporary, sizeof temporary, "%s.tmp", path);
    assert_ok(qzo_file_replace(path, "a longer first version", 22));
    assert_ok(qzo_file_replace(path, "new\0!", 5));
    size_t size_bytes = 0;
    uint8_t *bytes = qzo_test_file_read(path, &size_bytes);
    assert_int_equal(size_bytes, 5);
    assert_memory_equal(bytes, "new\0!", 5);
    free(bytes);
    assert_int_not_equal(access(temporary, F_OK), 0);
    assert_ok(qzo_file_replace(path, NULL, 0));
    free(qzo_test_file_read(path, &size_bytes));
    assert_int_equal(size_bytes, 0);
}

static void replace_that_fails_keeps_the_old_bytes(void **state) {
    (void)state;
    char blocker[4200], missing[4200];
    snprintf(blocker, sizeof blocker, "%s.tmp", path);
    snprintf(missing, sizeof missing, "%s/none/file", folder);
    assert_ok(qzo_file_replace(path, "old", 3));
    assert_int_equal(mkdir(blocker, 0777), 0); /* stops root too, unlike permissions */
    assert_fails(qzo_file_replace(path, "new", 3), QZO_ERR_IO, blocker);
    size_t size_bytes = 0;
    uint8_t *bytes = qzo_test_file_read(path, &size_bytes);
    assert_memory_equal(bytes, "old", 3);
    free(bytes);
    assert_fails(qzo_file_replace(missing, "new", 3), QZO_ERR_NOT_FOUND, "cannot create");
}

static void full_disk_is_reported(void **state) {
    (void)state;
    int descriptor = open("/dev/full", O_WRONLY);
    if (descriptor < 0) skip();
    assert_fails(qzo_file_write_all(descriptor, "x", 1, "some file"), QZO_ERR_IO,
                 "some file: cannot write: No space left on device");
    close(descriptor);
}

static void read_returns_all_bytes_and_a_nul(void **state) {
    (void)state;
    enum { SIZE = 300001 }; /* several times the first buffer */
    char *written = malloc(SIZE), *text = NULL;
    for (int i = 0; i < SIZE; i++) written[i] = (char)(i % 251);
    qzo_test_file_write(path, written, SIZE);
    size_t size_bytes = 0;
    assert_ok(qzo_file_read(&text, &size_bytes, path, SIZE));
    assert_int_equal(size_bytes, SIZE);
    assert_memory_equal(text, written, SIZE);
    assert_int_equal(text[SIZE], '\0');
    free(text);
    assert_fails(qzo_file_read(&text, &size_bytes, path, SIZE - 1), QZO_ERR_LIMIT,
                 "300001 bytes, at most 300000");
    assert_null(text);
    free(written);
}

static void read_limits_what_has_no_size(void **state) {
    (void)state;
    char *text = NULL;
    size_t size_bytes = 0;
    assert_fails(qzo_file_read(&text, &size_bytes, "/dev/zero", 1000), QZO_ERR_LIMIT,
                 "larger than 1000 bytes");
    assert_fails(qzo_file_read(&text, &size_bytes, folder, 1000), QZO_ERR_IO, "cannot read");
    assert_fails(qzo_file_read(&text, &size_bytes, path, 1000), QZO_ERR_NOT_FOUND, "cannot open");
}

static void map_shows_the_file(void **state) {
    (void)state;
    qzo_file_map map = {0};
    qzo_test_file_write(path, "bytes", 5);
    assert_ok(qzo_file_map_open(&map, path));
    assert_int_equal(map.size_bytes, 5);
    assert_memory_equal(map.bytes, "bytes", 5);
    qzo_file_map_close(&map);
    assert_null(map.bytes);
    qzo_file_map_close(&map); /* safe on a zeroed map */
}

static void map_of_an_empty_file_is_empty(void **state) {
    (void)state;
    qzo_file_map map = {0};
    qzo_test_file_write(path, "", 0);
    assert_ok(qzo_file_map_open(&map, path));
    assert_null(map.bytes);
    assert_int_equal(map.size_bytes, 0);
    qzo_file_map_close(&map);
}

static void map_refuses_what_is_no_file(void **state) {
    (void)state;
    qzo_file_map map = {0};
    assert_fails(qzo_file_map_open(&map, path), QZO_ERR_NOT_FOUND, path);
    assert_fails(qzo_file_map_open(&map, folder), QZO_ERR_IO, "expected a regular file");
    assert_int_equal(mkfifo(path, 0666), 0);
    assert_fails(qzo_file_map_open(&map, path), QZO_ERR_IO, "expected a regular file");
}

static void folders_are_created_once(void **state) {
    (void)state;
    assert_ok(qzo_folder_create(path));
    assert_ok(qzo_folder_create(path));
    char inner[4200];
    snprintf(inner, sizeof inner, "%s/file", path);
    qzo_test_file_write(inner, "", 0);
    assert_fails(qzo_folder_create(inner), QZO_ERR_IO, "expected a folder, found a file");
    snprintf(inner, sizeof inner, "%s/a/b", path);
    assert_fails(qzo_folder_create(inner), QZO_ERR_NOT_FOUND, inner);
}

static void paths_are_joined_and_split(void **state) {
    (void)state;
    static const char *const joins[][3] = {
        {"a", "b", "a/b"}, {"a/", "b", "a/b"}, {"a", "/b", "/b"}, {"/", "b", "/b"}, {"", "b", "b"}};
    static const char *const folders[][2] = {
        {"a/b", "a"}, {"b", "."}, {"/b", "/"}, {"a/b/c", "a/b"}, {"a/b/", "a/b"}};
    for (size_t i = 0; i < sizeof joins / sizeof joins[0]; i++) {
        char *joined = qzo_path_join(joins[i][0], joins[i][1]);
        assert_string_equal(joined, joins[i][2]);
        free(joined);
    }
    for (size_t i = 0; i < sizeof folders / sizeof folders[0]; i++) {
        char *part = qzo_path_folder(folders[i][0]);
        assert_string_equal(part, folders[i][1]);
        free(part);
    }
}

static void fields_are_little_endian(void **state) {
    (void)state;
    static const uint8_t expected[12] = {0x78, 0x56, 0x34, 0x12, 0xef, 0xcd,
                                         0xab, 0x89, 0x67, 0x45, 0x23, 0x01};
    uint8_t bytes[12];
    qzo_put_u32(bytes, 0x12345678u);
    qzo_put_u64(bytes + 4, 0x0123456789abcdefu);
    assert_memory_equal(bytes, expected, sizeof bytes);
    assert_true(qzo_get_u32(bytes) == 0x12345678u);
    assert_true(qzo_get_u64(bytes + 4) == 0x0123456789abcdefu);
}

enum { LOG_THREADS = 4, LOG_LINES = 200 };

static void *log_lines(void *argument) {
    for (int i = 0; i < LOG_LINES; i++)
        qzo_log_debug("thread %d line %d end", *(const int *)argument, i);
    return NULL;
}

static void log_file_holds_whole_lines_of_all_threads(void **state) {
    (void)state;
    pthread_t threads[LOG_THREADS];
    int numbers[LOG_THREADS];
    qzo_log_configure(QZO_LOG_ERROR, 1, 3); /* debug lines stay out of stderr */
    qzo_log_open(path);
    for (int i = 0; i < LOG_THREADS; i++) {
        numbers[i] = i;
        assert_int_equal(pthread_create(&threads[i], NULL, log_lines, &numbers[i]), 0);
    }
    for (int i = 0; i < LOG_THREADS; i++) pthread_join(threads[i], NULL);
    qzo_log_open(NULL);

    FILE *file = fopen(path, "r");
    char line[256];
    int next[LOG_THREADS] = {0}, count = 0, thread, number;
    assert_non_null(file);
    for (; fgets(line, sizeof line, file) != NULL; count++) {
        const char *text = strstr(line, " 1/3 debug thread ");
        assert_non_null(text);
        assert_int_equal(sscanf(text, " 1/3 debug thread %d line %d end", &thread, &number), 2);
        assert_int_equal(number, next[thread]++);
    }
    fclose(file);
    assert_int_equal(count, LOG_THREADS * LOG_LINES);
}

static void log_cuts_long_lines_and_survives_a_bad_path(void **state) {
    (void)state;
    char *text = malloc(10001);
    memset(text, 'x', 10000);
    text[10000] = '\0';
    qzo_log_configure(QZO_LOG_ERROR, 0, 1);
    qzo_log_open("/nowhere/at/all");
    qzo_log_open(path);
    qzo_log_info("%s", text);
    qzo_log_open(NULL);
    size_t size_bytes = 0;
    uint8_t *bytes = qzo_test_file_read(path, &size_bytes);
    assert_in_range(size_bytes, 1000, 4096);
    assert_int_equal(bytes[size_bytes - 1], '\n');
    free(bytes);
    free(text);
}

#define file_test(function) cmocka_unit_test_setup_teardown(function, setup, teardown)

int main(void) {
    const struct CMUnitTest tests[] = {
        file_test(replace_leaves_the_new_bytes_and_nothing_else),
        file_test(replace_that_fails_keeps_the_old_bytes),
        file_test(full_disk_is_reported),
        file_test(read_returns_all_bytes_and_a_nul),
        file_test(read_limits_what_has_no_size),
        file_test(map_shows_the_file),
        file_test(map_of_an_empty_file_is_empty),
        file_test(map_refuses_what_is_no_file),
        file_test(folders_are_created_once),
        file_test(paths_are_joined_and_split),
        file_test(fields_are_little_endian),
        file_test(log_file_holds_whole_lines_of_all_threads),
        file_test(log_cuts_long_lines_and_survives_a_bad_path),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
