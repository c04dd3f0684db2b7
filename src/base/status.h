/* The one status type. Everything below src/cli returns it; only src/cli prints it or exits with
 * it. The entries stand in order of severity: the worst of several is the largest (see
 * qzo_comm_worst_status).
 * A failing call leaves one sentence for the user in a per-thread buffer: qzo_error_message(). */
#ifndef QZO_BASE_STATUS_H
#define QZO_BASE_STATUS_H

#define QZO_STATUS_MAP(X)                                                                          \
    X(OK, "ok")                                                                                    \
    X(ERR_DIVERGED, "the loss is not finite or collapsed to zero")                                 \
    X(ERR_INTERRUPTED, "interrupted, work is left")                                                \
    X(ERR_USAGE, "usage error")                                                                    \
    X(ERR_CONFIG, "configuration error")                                                           \
    X(ERR_FORMAT, "malformed file")                                                                \
    X(ERR_UNSUPPORTED, "not supported")                                                            \
    X(ERR_LIMIT, "too large")                                                                      \
    X(ERR_NOT_FOUND, "not found")                                                                  \
    X(ERR_IO, "file error")                                                                        \
    X(ERR_MEMORY, "out of memory")                                                                 \
    X(ERR_BUSY, "in use by another process")                                                       \
    X(ERR_ENVIRONMENT, "environment error")                                                        \
    X(ERR_DESYNC, "the ranks disagree")

#define QZO_STATUS_ENUM(name, text) QZO_##name,
typedef enum { QZO_STATUS_MAP(QZO_STATUS_ENUM) QZO_STATUS_COUNT } qzo_status;

/* The general text of a status; never NULL. */
const char *qzo_status_text(qzo_status status);

/* Stores a sentence for the user (what was expected and found, where) and returns status. Control
 * characters in it become escapes (base/visible.h). */
qzo_status qzo_fail(qzo_status status, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* Puts "context: " before the stored sentence, for callers that know the file or the trial. */
qzo_status qzo_fail_context(qzo_status status, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* The last sentence stored on this thread; "" when there was none. Valid until the next qzo_fail.
 */
const char *qzo_error_message(void);

/* Notes where a failing status passed; kept for the debug log only. */
void qzo_error_trace(const char *call, const char *file, int line);

/* The places noted since the last qzo_fail, innermost first, one per line. */
const char *qzo_error_trace_text(void);

/* Relays a failing status to the function's one `cleanup:` label. */
#define QZO_TRY(call)                                                                              \
    do {                                                                                           \
        if ((status = (call)) != QZO_OK) {                                                         \
            qzo_error_trace(#call, __FILE__, __LINE__);                                            \
            goto cleanup;                                                                          \
        }                                                                                          \
    } while (0)

#endif
