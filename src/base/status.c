#include "base/status.h"

#include "base/visible.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

enum { MESSAGE_BYTES_MAX = 2048, TRACE_BYTES_MAX = 2048 };

static _Thread_local char message[MESSAGE_BYTES_MAX];
static _Thread_local char trace[TRACE_BYTES_MAX];

/* Appends what fits. */
static void append(char *text, size_t text_bytes, const char *more) {
    size_t used = strlen(text), room = text_bytes - 1 - used, length = strlen(more);
    if (length > room) length = room;
    memcpy(text + used, more, length);
    text[used + length] = '\0';
}

const char *qzo_status_text(qzo_status status) {
#define TEXT_OF(name, text) text,
    static const char *const texts[] = {QZO_STATUS_MAP(TEXT_OF)};
#undef TEXT_OF
    return status >= 0 && status < QZO_STATUS_COUNT ? texts[status] : "unknown status";
}

/* Names in a sentence may be anyone's: no character of it acts on a terminal. */
__attribute__((format(printf, 1, 0))) static void set_message(const char *format,
                                                              va_list arguments) {
    char text[MESSAGE_BYTES_MAX];
    vsnprintf(text, sizeof text, format, arguments);
    qzo_visible_text(message, sizeof message, text);
}

qzo_status qzo_fail(qzo_status status, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    set_message(format, arguments);
    va_end(arguments);
    trace[0] = '\0';
    return status;
}

qzo_status qzo_fail_context(qzo_status status, const char *format, ...) {
    char inner[MESSAGE_BYTES_MAX];
    memcpy(inner, message, sizeof inner);
    va_list arguments;
    va_start(arguments, format);
    set_message(format, arguments);
    va_end(arguments);
    append(message, sizeof message, ": ");
    append(message, sizeof message, inner);
    return status;
}

const char *qzo_error_message(void) { return message; }

void qzo_error_trace(const char *call, const char *file, int line) {
    size_t used = strlen(trace);
    snprintf(trace + used, sizeof trace - used, "  at %s:%d: %s\n", file, line, call);
}

const char *qzo_error_trace_text(void) { return trace; }
