#include "cli/prompts.h"

#include "base/file_io.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

enum { IDS_FILE_BYTES_MAX = 64 << 20 };

static bool is_separator(char c) {
    return c == ' ' || c == ',' || c == '\t' || c == '\n' || c == '\r';
}

static bool is_id_text(const char *bytes, size_t size_bytes) {
    for (size_t i = 0; i < size_bytes; i++)
        if (!is_separator(bytes[i]) && (bytes[i] < '0' || bytes[i] > '9')) return false;
    return true;
}

/* Ends the prompt that the ids so far belong to, if it has any. */
static void end_prompt(qzo_prompts *prompts, int64_t id_count) {
    if (id_count > prompts->begin[prompts->count]) prompts->begin[++prompts->count] = id_count;
}

/* prompts has room for as many ids, and prompts, as the text has bytes. */
static qzo_status parse_text(qzo_prompts *prompts, const char *text, const char *path,
                             bool by_line) {
    int64_t count = 0;
    while (*text != '\0') {
        if (is_separator(*text)) {
            if (by_line && *text == '\n') end_prompt(prompts, count);
            text++;
            continue;
        }
        char *end = NULL;
        errno = 0;
        long value = strtol(text, &end, 10);
        if (errno != 0 || value > INT32_MAX)
            return qzo_fail(QZO_ERR_FORMAT, "%s: id %" PRId64 " is too large: %.20s", path,
                            count + 1, text);
        prompts->ids[count++] = (int32_t)value;
        text = end;
    }
    end_prompt(prompts, count);
    return QZO_OK;
}

qzo_status qzo_prompts_read(qzo_prompts *out, const char *path, bool by_line) {
    qzo_status status = QZO_OK;
    char *bytes = NULL;
    size_t size_bytes = 0;
    *out = (qzo_prompts){0};
    QZO_TRY(qzo_file_read(&bytes, &size_bytes, path, IDS_FILE_BYTES_MAX));
    out->ids = calloc(size_bytes + 1, sizeof *out->ids);
    out->begin = calloc(size_bytes + 2, sizeof *out->begin);
    if (out->ids == NULL || out->begin == NULL) {
        status = qzo_fail(QZO_ERR_MEMORY, "out of memory for ids");
        goto cleanup;
    }
    if (is_id_text(bytes, size_bytes)) {
        QZO_TRY(parse_text(out, bytes, path, by_line));
    } else if (size_bytes % sizeof(int32_t) == 0) {
        int64_t count = (int64_t)(size_bytes / sizeof(int32_t));
        for (int64_t i = 0; i < count; i++)
            out->ids[i] = (int32_t)qzo_get_u32((const uint8_t *)bytes + 4 * i);
        end_prompt(out, count);
    } else {
        status = qzo_fail(QZO_ERR_FORMAT,
                          "%s: expected decimal ids, or little-endian int32 (%zu bytes are not a "
                          "multiple of 4)",
                          path, size_bytes);
        goto cleanup;
    }
    if (out->count == 0) status = qzo_fail(QZO_ERR_FORMAT, "%s: no ids", path);
cleanup:
    free(bytes);
    if (status != QZO_OK) qzo_prompts_release(out);
    return status;
}

void qzo_prompts_release(qzo_prompts *prompts) {
    free(prompts->begin);
    free(prompts->ids);
    *prompts = (qzo_prompts){0};
}
