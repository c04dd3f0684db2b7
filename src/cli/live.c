#include "cli/live.h"

#include "base/clock.h"
#include "base/visible.h"
#include "sweep/results.h"

#include <inttypes.h>
#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

enum {
    LINE_BYTES = 512,
    COLUMNS_DEFAULT = 80,
    LINES_DEFAULT = 24,
    HEAD_LINES = 2,
    SPARE_LINES = 2
};

/* When a row's steps were first seen: rates are those of this process's watching. */
typedef struct pace {
    double since_seconds;
    int64_t since_steps;
    double steps_per_second; /* 0: not known yet */
} pace;

struct qzo_live {
    char *folder;
    qzo_results *results;
    pace *paces; /* one per row */
    int printed_lines;
};

/* --- reading --- */

static void update_paces(qzo_live *live) {
    double now = qzo_clock_seconds();
    for (int64_t i = 0; i < live->results->row_count; i++) {
        const qzo_result_row *row = &live->results->rows[i];
        pace *p = &live->paces[i];
        bool running = strcmp(row->status, "running") == 0;
        if (!running || p->since_seconds == 0.0) {
            *p = (pace){.since_seconds = running ? now : 0.0, .since_steps = row->summary.steps};
        } else if (now > p->since_seconds) {
            p->steps_per_second =
                (double)(row->summary.steps - p->since_steps) / (now - p->since_seconds);
        }
    }
}

qzo_status qzo_live_open(qzo_live **out, const char *folder) {
    qzo_status status = QZO_OK;
    qzo_live *live = calloc(1, sizeof *live);
    if (live == NULL) return qzo_fail(QZO_ERR_MEMORY, "%s: out of memory", folder);
    live->folder = strdup(folder);
    QZO_TRY(qzo_results_load(&live->results, folder));
    live->paces = calloc((size_t)live->results->row_count + 1, sizeof *live->paces);
    if (live->folder == NULL || live->paces == NULL) {
        status = qzo_fail(QZO_ERR_MEMORY, "%s: out of memory", folder);
        goto cleanup;
    }
    update_paces(live);
    *out = live;
    live = NULL;
cleanup:
    qzo_live_close(live);
    return status;
}

void qzo_live_close(qzo_live *live) {
    if (live == NULL) return;
    qzo_results_free(live->results);
    free(live->paces);
    free(live->folder);
    free(live);
}

qzo_status qzo_live_refresh(qzo_live *live) {
    int64_t before = live->results->row_count;
    qzo_status status = qzo_results_refresh(live->results, live->folder);
    if (status != QZO_OK) return status;
    size_t count = (size_t)live->results->row_count;
    pace *grown = realloc(live->paces, (count + 1) * sizeof *grown);
    if (grown == NULL) return qzo_fail(QZO_ERR_MEMORY, "%s: out of memory", live->folder);
    live->paces = grown;
    for (int64_t i = before; i < live->results->row_count; i++) grown[i] = (pace){0};
    update_paces(live);
    return QZO_OK;
}

bool qzo_live_is_running(const qzo_live *live) { return qzo_folder_lock_is_held(live->folder); }

/* --- printing --- */

static void terminal_size(FILE *stream, int *columns, int *lines) {
    struct winsize size = {0};
    bool known = ioctl(fileno(stream), TIOCGWINSZ, &size) == 0;
    if (*columns <= 0) *columns = known && size.ws_col > 0 ? size.ws_col : COLUMNS_DEFAULT;
    if (*lines <= 0) *lines = known && size.ws_row > 0 ? size.ws_row : LINES_DEFAULT;
}

/* One line, cut to the width: a longer one would wrap and the next redraw would miss it. */
__attribute__((format(printf, 4, 5))) static void put_line(qzo_live *live, FILE *stream,
                                                           int columns, const char *format, ...) {
    char text[LINE_BYTES], line[LINE_BYTES];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    fprintf(stream, "%.*s\n", columns - 1, qzo_visible_text(line, sizeof line, text));
    live->printed_lines++;
}

static const char *duration(char out[16], double seconds) {
    if (!(seconds >= 0.0) || seconds > 359999.0)
        snprintf(out, 16, "-");
    else if (seconds < 3600.0)
        snprintf(out, 16, "%d:%02d", (int)seconds / 60, (int)seconds % 60);
    else
        snprintf(out, 16, "%dh%02d", (int)seconds / 3600, (int)seconds / 60 % 60);
    return out;
}

static const char *number(char out[16], const char *format, double value) {
    if (isnan(value))
        snprintf(out, 16, "-");
    else if (format[1] == '.')
        snprintf(out, 16, "%.4f", value);
    else
        snprintf(out, 16, "%.1f", value);
    return out;
}

static double seconds_left(const qzo_result_row *row, const pace *p) {
    if (p->steps_per_second <= 0.0) return (double)NAN;
    return (double)(row->summary.steps_total - row->summary.steps) / p->steps_per_second;
}

static void put_row(qzo_live *live, FILE *stream, int columns, int64_t index) {
    const qzo_result_row *row = &live->results->rows[index];
    const qzo_trial_summary *s = &row->summary;
    const pace *p = &live->paces[index];
    char steps[32] = "-", clip[16] = "-", rate[16] = "-", loss[16], best[16], left[16], values[128];
    if (s->exists) snprintf(steps, sizeof steps, "%" PRId64 "/%" PRId64, s->steps, s->steps_total);
    if (s->record_count > 0)
        snprintf(clip, sizeof clip, "%.0f%%",
                 100.0 * (double)s->clipped_count / (double)s->record_count);
    if (p->steps_per_second > 0.0) number(rate, "%1", p->steps_per_second);
    values[0] = '\0';
    for (int64_t i = 0; i < live->results->listing->swept_count; i++) {
        size_t used = strlen(values);
        snprintf(values + used, sizeof values - used, " %s", row->trial->values[i]);
    }
    put_line(live, stream, columns, "%5" PRId64 " %-8s %13s %8s %8s %5s %8s %7s %s", row->number,
             row->status, steps, number(loss, "%.", s->last_loss), number(best, "%.", s->dev_score),
             clip, rate, duration(left, seconds_left(row, p)), values);
}

static void put_total(qzo_live *live, FILE *stream, int columns) {
    const qzo_results *results = live->results;
    int64_t ended = 0, running = 0, bad = 0, done = 0, total = 0, longest = 0;
    double rate = 0.0;
    for (int64_t i = 0; i < results->row_count; i++) {
        const qzo_result_row *row = &results->rows[i];
        if (row->summary.steps_total > longest) longest = row->summary.steps_total;
        ended += row->summary.ended;
        running += strcmp(row->status, "running") == 0;
        bad += strcmp(row->status, "diverged") == 0 || strcmp(row->status, "failed") == 0;
        rate += live->paces[i].steps_per_second;
    }
    for (int64_t i = 0; i < results->row_count;
         i++) { /* a waiting trial is taken for the longest */
        const qzo_trial_summary *s = &results->rows[i].summary;
        int64_t steps = s->exists ? s->steps_total : longest;
        total += steps;
        done += s->ended ? steps : s->steps;
    }
    char left[16];
    double seconds = rate > 0.0 ? (double)(total - done) / rate : (double)NAN;
    put_line(live, stream, columns,
             "%.16s: %" PRId64 " of %" PRId64 " ended, %" PRId64 " running, %" PRId64
             " diverged or failed; %.0f%%, left %s",
             results->listing->name, ended, results->row_count, running, bad,
             total > 0 ? 100.0 * (double)done / (double)total : 0.0, duration(left, seconds));
    put_line(live, stream, columns, "%5s %-8s %13s %8s %8s %5s %8s %7s  %s", "trial", "status",
             "step", "loss", "best dev", "clip", "steps/s", "left",
             results->listing->swept_count > 0 ? "parameters" : "");
}

/* Running trials first, then the others in grid order, as many as the terminal has lines. */
void qzo_live_print(qzo_live *live, FILE *stream, int columns, int lines) {
    terminal_size(stream, &columns, &lines);
    if (columns > LINE_BYTES) columns = LINE_BYTES;
    live->printed_lines = 0;
    put_total(live, stream, columns);
    int64_t room = lines - HEAD_LINES - SPARE_LINES, count = live->results->row_count;
    if (room < 1) room = 1;
    bool all = count <= room;
    int64_t shown = 0;
    for (int pass = 0; pass < 2; pass++)
        for (int64_t i = 0; i < count && (all || shown < room); i++) {
            bool running = strcmp(live->results->rows[i].status, "running") == 0;
            if (all ? pass != 0 : running != (pass == 0)) continue;
            put_row(live, stream, columns, i);
            shown++;
        }
    if (shown < count) put_line(live, stream, columns, "      and %" PRId64 " more", count - shown);
    fflush(stream);
}

void qzo_live_redraw(qzo_live *live, FILE *stream) {
    /* Up to the first line of the last table, then clear to the end of the screen. */
    if (live->printed_lines > 0) fprintf(stream, "\x1b[%dA", live->printed_lines);
    fputs("\x1b[J", stream);
    qzo_live_print(live, stream, 0, 0);
}
