/* A leveled log on stderr, and in a file once qzo_log_open named one. Lines carry the time, the
 * rank and a level; nothing in them enters a journal. Control characters become escapes
 * (base/visible.h). */
#ifndef QZO_BASE_LOG_H
#define QZO_BASE_LOG_H

typedef enum { QZO_LOG_ERROR, QZO_LOG_WARN, QZO_LOG_INFO, QZO_LOG_DEBUG } qzo_log_level;

/* Lines above level stay out of stderr; the file, where there is one, gets QZO_LOG_DEBUG too. */
void qzo_log_configure(qzo_log_level level, int rank, int rank_count);

/* Appends to the file at path from now on; a failure to open it is reported once and ignored,
 * since a log must never end a sweep. Called again, it changes the file; NULL closes it. */
void qzo_log_open(const char *path);

void qzo_log(qzo_log_level level, const char *format, ...) __attribute__((format(printf, 2, 3)));

#define qzo_log_error(...) qzo_log(QZO_LOG_ERROR, __VA_ARGS__)
#define qzo_log_warn(...)  qzo_log(QZO_LOG_WARN, __VA_ARGS__)
#define qzo_log_info(...)  qzo_log(QZO_LOG_INFO, __VA_ARGS__)
#define qzo_log_debug(...) qzo_log(QZO_LOG_DEBUG, __VA_ARGS__)

#endif
