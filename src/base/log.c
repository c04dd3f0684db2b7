#include "base/log.h"

#include "base/visible.h"

#include <errno.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

enum { LINE_BYTES_MAX = 4096 };

/* One lock for the settings and the lines: a line is written whole, whatever the thread. */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static qzo_log_level level_max = QZO_LOG_INFO;
static int own_rank = 0;
static int all_ranks = 1;
static FILE *log_file = NULL;

void qzo_log_configure(qzo_log_level level, int rank, int rank_count) {
    pthread_mutex_lock(&lock);
    level_max = level;
    own_rank = rank;
    all_ranks = rank_count;
    pthread_mutex_unlock(&lock);
}

void qzo_log_open(const char *path) {
    int code = 0;
    pthread_mutex_lock(&lock);
    if (log_file != NULL) fclose(log_file);
    log_file = NULL;
    if (path != NULL) {
        log_file = fopen(path, "ae");
        code = log_file == NULL ? errno : 0;
    }
    pthread_mutex_unlock(&lock);
    if (code != 0) qzo_log_warn("%s: cannot open the log file: %s", path, strerror(code));
}

/* "2026-01-31 12:00:00.123 0/2 warn  " and its length. */
static size_t write_prefix(char *line, size_t line_bytes, qzo_log_level level) {
    static const char *const names[] = {"error", "warn ", "info ", "debug"};
    struct timespec now;
    struct tm parts;
    clock_gettime(CLOCK_REALTIME, &now);
    localtime_r(&now.tv_sec, &parts);
    size_t length = strftime(line, line_bytes, "%Y-%m-%d %H:%M:%S", &parts);
    int added = snprintf(line + length, line_bytes - length, ".%03ld %d/%d %s ",
                         now.tv_nsec / 1000000, own_rank, all_ranks, names[level]);
    return length + (size_t)added;
}

void qzo_log(qzo_log_level level, const char *format, ...) {
    char line[LINE_BYTES_MAX], text[LINE_BYTES_MAX];
    pthread_mutex_lock(&lock);
    if (level <= level_max || log_file != NULL) {
        size_t length = write_prefix(line, sizeof line, level);
        va_list arguments;
        va_start(arguments, format);
        vsnprintf(text, sizeof text, format, arguments);
        va_end(arguments);
        /* What is too long for the line is cut. */
        qzo_visible_text(line + length, sizeof line - length - 1, text);
        length += strlen(line + length);
        line[length++] = '\n';
        /* One call per line: lines of several ranks on one terminal do not mix. Nothing can be done
         * about a log that cannot be written. */
        if (level <= level_max) (void)fwrite(line, 1, length, stderr);
        if (log_file != NULL) {
            (void)fwrite(line, 1, length, log_file);
            (void)fflush(log_file);
        }
    }
    pthread_mutex_unlock(&lock);
}
