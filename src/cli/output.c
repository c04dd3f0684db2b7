/* Statuses to sentences and exit codes. */
#include "cli/cli.h"

#include "base/visible.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

int qzo_exit_code(qzo_status status) {
    switch (status) {
    case QZO_OK: return QZO_EXIT_OK;
    case QZO_ERR_DIVERGED: return QZO_EXIT_TRIALS;
    case QZO_ERR_INTERRUPTED: return QZO_EXIT_INTERRUPTED;
    case QZO_ERR_USAGE:
    case QZO_ERR_CONFIG:
    case QZO_ERR_FORMAT:
    case QZO_ERR_UNSUPPORTED:
    case QZO_ERR_LIMIT:
    case QZO_ERR_NOT_FOUND: return QZO_EXIT_USAGE;
    case QZO_ERR_DESYNC: return QZO_EXIT_DESYNC;
    case QZO_ERR_IO:
    case QZO_ERR_MEMORY:
    case QZO_ERR_BUSY:
    case QZO_ERR_ENVIRONMENT:
    case QZO_STATUS_COUNT: break;
    }
    return QZO_EXIT_ENVIRONMENT;
}

int qzo_exit_report(qzo_status status, const qzo_options *options) {
    errno = 0;
    bool lost = fflush(stdout) != 0 || ferror(stdout);
    if (lost && status == QZO_OK)
        status = qzo_fail(QZO_ERR_IO, "standard output: %s",
                          errno != 0 ? strerror(errno) : "a write failed");
    if (status == QZO_OK) return QZO_EXIT_OK;
    const char *sentence = qzo_error_message();
    fprintf(stderr, "qzo: %s\n", sentence[0] != '\0' ? sentence : qzo_status_text(status));
    if (options->log_level >= QZO_LOG_DEBUG) fputs(qzo_error_trace_text(), stderr);
    return qzo_exit_code(status);
}

const char *qzo_bytes_text(char out[QZO_BYTES_TEXT_BYTES], int64_t size_bytes) {
    static const char *const units[] = {"KiB", "MiB", "GiB", "TiB"};
    double value = (double)size_bytes;
    int unit = -1;
    while (value >= 1024.0 && unit + 1 < (int)(sizeof units / sizeof *units)) {
        value /= 1024.0;
        unit++;
    }
    if (unit < 0)
        snprintf(out, QZO_BYTES_TEXT_BYTES, "%" PRId64 " B", size_bytes);
    else
        snprintf(out, QZO_BYTES_TEXT_BYTES, "%.2f %s", value, units[unit]);
    return out;
}

/* stream NULL: counts alone. */
static int print_visible(FILE *stream, const char *text, size_t text_bytes) {
    char next[QZO_VISIBLE_BYTES];
    int width = 0;
    for (const char *end = text + text_bytes; text < end;) {
        qzo_visible_next(next, &text, end);
        for (const char *at = next; *at != '\0'; at++) width += ((unsigned char)*at & 0xC0) != 0x80;
        if (stream != NULL) fputs(next, stream);
    }
    return width;
}

int qzo_text_width(const char *text) { return print_visible(NULL, text, strlen(text)); }

int qzo_text_print(FILE *stream, const char *text, size_t text_bytes) {
    return print_visible(stream, text, text_bytes);
}

qzo_status qzo_json_print(json_t *root) {
    if (root == NULL) return qzo_fail(QZO_ERR_MEMORY, "out of memory for the output");
    /* %.9g keeps every bit of an fp32 value. */
    int printed = json_dumpf(root, stdout, JSON_INDENT(2) | JSON_REAL_PRECISION(9));
    json_decref(root);
    putchar('\n');
    return printed == 0 ? QZO_OK : qzo_fail(QZO_ERR_IO, "standard output: a write failed");
}
