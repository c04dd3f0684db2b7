/* The table of trials, for people and for programs. Every number in it comes from the journals. */
#include "cli/cli.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { CELL_BYTES = 64, ID_DIGITS_SHOWN = 8 };

/* One column that every table has. %.9g keeps every bit of an fp32 value; people get fewer digits.
 */
typedef struct table_column {
    const char *name;   /* in CSV, JSON and the SQLite view */
    const char *header; /* for people; NULL: not shown to them */
    void (*cell)(char out[CELL_BYTES], const qzo_result_row *row, int digits);
} table_column;

static void put_number(char out[CELL_BYTES], double value, int digits) {
    if (isnan(value))
        out[0] = '\0';
    else
        snprintf(out, CELL_BYTES, "%.*g", digits, value);
}

static void trial_cell(char out[CELL_BYTES], const qzo_result_row *row, int digits) {
    (void)digits;
    snprintf(out, CELL_BYTES, "%" PRId64, row->number);
}

static void id_cell(char out[CELL_BYTES], const qzo_result_row *row, int digits) {
    (void)digits;
    snprintf(out, CELL_BYTES, "%s", row->id);
}

static void status_cell(char out[CELL_BYTES], const qzo_result_row *row, int digits) {
    (void)digits;
    snprintf(out, CELL_BYTES, "%s", row->status);
}

static void steps_cell(char out[CELL_BYTES], const qzo_result_row *row, int digits) {
    (void)digits;
    snprintf(out, CELL_BYTES, "%" PRId64, row->summary.steps);
}

static void best_step_cell(char out[CELL_BYTES], const qzo_result_row *row, int digits) {
    (void)digits;
    out[0] = '\0';
    if (row->summary.best_step >= 0) snprintf(out, CELL_BYTES, "%" PRId64, row->summary.best_step);
}

static void zero_shot_cell(char out[CELL_BYTES], const qzo_result_row *row, int digits) {
    put_number(out, row->summary.zero_shot_dev, digits);
}

static void dev_score_cell(char out[CELL_BYTES], const qzo_result_row *row, int digits) {
    put_number(out, row->summary.dev_score, digits);
}

static void dev_loss_cell(char out[CELL_BYTES], const qzo_result_row *row, int digits) {
    put_number(out, row->summary.dev_loss, digits);
}

static void test_score_cell(char out[CELL_BYTES], const qzo_result_row *row, int digits) {
    put_number(out, row->summary.test_score, digits);
}

static void test_loss_cell(char out[CELL_BYTES], const qzo_result_row *row, int digits) {
    put_number(out, row->summary.test_loss, digits);
}

static const table_column columns[] = {
    {"trial", "trial", trial_cell},
    {"id", "id", id_cell},
    {"status", "status", status_cell},
    {"steps", "steps", steps_cell},
    {"best_step", "best step", best_step_cell},
    {"zero_shot_dev", "zero-shot dev", zero_shot_cell},
    {"dev_score", "dev", dev_score_cell},
    {"dev_loss", "dev loss", dev_loss_cell},
    {"test_score", "test", test_score_cell},
    {"test_loss", "test loss", test_loss_cell},
};
enum { COLUMN_COUNT = sizeof columns / sizeof *columns, COLUMNS_BEFORE_SWEPT = 2 };

static const int DIGITS_EXACT = 9, DIGITS_SHOWN = 4;

/* --- CSV --- */

void qzo_table_print_csv_field(FILE *stream, const char *text) {
    if (strpbrk(text, ",\"\r\n") == NULL) {
        fputs(text, stream);
        return;
    }
    fputc('"', stream);
    for (; *text != '\0'; text++) {
        if (*text == '"') fputc('"', stream);
        fputc(*text, stream);
    }
    fputc('"', stream);
}

void qzo_table_print_csv(FILE *stream, const qzo_results *results) {
    const qzo_listing *listing = results->listing;
    char cell[CELL_BYTES];
    for (int c = 0; c < COLUMN_COUNT; c++)
        fprintf(stream, "%s%s", c > 0 ? "," : "", columns[c].name);
    for (int64_t k = 0; k < listing->swept_count; k++) {
        fputc(',', stream);
        qzo_table_print_csv_field(stream, listing->swept_keys[k]);
    }
    fputc('\n', stream);
    for (int64_t i = 0; i < results->row_count; i++) {
        const qzo_result_row *row = &results->rows[i];
        for (int c = 0; c < COLUMN_COUNT; c++) {
            columns[c].cell(cell, row, DIGITS_EXACT);
            fprintf(stream, "%s%s", c > 0 ? "," : "", cell);
        }
        for (int64_t k = 0; k < listing->swept_count; k++) {
            fputc(',', stream);
            qzo_table_print_csv_field(stream, row->trial->values[k]);
        }
        fputc('\n', stream);
    }
}

/* --- for people --- */

/* Column c of the table for people: two fixed ones, the swept ones, the other fixed ones. row NULL:
 * the header. Text stays valid until the next call with the same buffer. */
static const char *shown_cell(char buffer[CELL_BYTES], const qzo_results *results,
                              const qzo_result_row *row, int64_t c) {
    int64_t swept = results->listing->swept_count;
    if (c >= COLUMNS_BEFORE_SWEPT && c < COLUMNS_BEFORE_SWEPT + swept) {
        int64_t k = c - COLUMNS_BEFORE_SWEPT;
        return row == NULL ? results->listing->swept_keys[k] : row->trial->values[k];
    }
    const table_column *column = &columns[c < COLUMNS_BEFORE_SWEPT ? c : c - swept];
    if (row == NULL) return column->header;
    column->cell(buffer, row, DIGITS_SHOWN);
    if (column->cell == id_cell) buffer[ID_DIGITS_SHOWN] = '\0';
    if (buffer[0] == '\0') snprintf(buffer, CELL_BYTES, "-");
    return buffer;
}

/* Texts stand left, numbers right. */
static bool is_number_column(const qzo_results *results, int64_t c) {
    for (int64_t i = 0; i < results->row_count; i++) {
        char buffer[CELL_BYTES], *end = NULL;
        const char *text = shown_cell(buffer, results, &results->rows[i], c);
        if (strcmp(text, "-") == 0) continue;
        strtod(text, &end);
        if (end == text || *end != '\0') return false;
    }
    return c != 1; /* an id may happen to look like a number */
}

static void print_counts(FILE *stream, const qzo_results *results) {
    static const char *const statuses[] = {"finished", "running",  "waiting",
                                           "stopped",  "diverged", "failed"};
    qzo_text_print(stream, results->listing->name, strlen(results->listing->name));
    fprintf(stream, ": %" PRId64 " trial%s", results->row_count,
            results->row_count == 1 ? "" : "s");
    const char *separator = ": ";
    for (size_t s = 0; s < sizeof statuses / sizeof *statuses; s++) {
        int64_t count = 0;
        for (int64_t i = 0; i < results->row_count; i++)
            count += strcmp(results->rows[i].status, statuses[s]) == 0;
        if (count == 0) continue;
        fprintf(stream, "%s%" PRId64 " %s", separator, count, statuses[s]);
        separator = ", ";
    }
    fprintf(stream, "\n");
}

void qzo_table_print(FILE *stream, const qzo_results *results) {
    int64_t count = COLUMN_COUNT + results->listing->swept_count;
    int *widths = calloc((size_t)count, sizeof *widths);
    bool *right = calloc((size_t)count, sizeof *right);
    char buffer[CELL_BYTES];
    for (int64_t c = 0; widths != NULL && right != NULL && c < count; c++) {
        widths[c] = qzo_text_width(shown_cell(buffer, results, NULL, c));
        right[c] = is_number_column(results, c);
        for (int64_t i = 0; i < results->row_count; i++) {
            int width = qzo_text_width(shown_cell(buffer, results, &results->rows[i], c));
            if (width > widths[c]) widths[c] = width;
        }
    }
    if (results->listing->name != NULL) print_counts(stream, results);
    for (int64_t i = -1; i < results->row_count; i++) {
        const qzo_result_row *row = i < 0 ? NULL : &results->rows[i];
        for (int64_t c = 0; c < count; c++) {
            const char *text = shown_cell(buffer, results, row, c);
            /* Without memory for widths the table is ragged, and still a table. */
            int pad = widths != NULL && right != NULL ? widths[c] - qzo_text_width(text) : 0;
            int before = right != NULL && right[c] ? pad : 0;
            int after = c + 1 < count ? pad - before : 0;
            fprintf(stream, "%s%*s", c > 0 ? "  " : "", before, "");
            qzo_text_print(stream, text, strlen(text));
            fprintf(stream, "%*s", after, "");
        }
        fputc('\n', stream);
    }
    for (int64_t i = qzo_listing_asked(results->listing); i < results->row_count; i++) {
        const qzo_listed_trial *fork = results->rows[i].trial;
        fprintf(stream, "trial %" PRId64 " goes on from trial %" PRId64 " after step %" PRId64 "\n",
                results->rows[i].number, fork->parent + 1,
                results->listing->scheduling.rungs[fork->rung]);
    }
    for (int64_t i = 0; i < results->row_count; i++) {
        const char *text = results->rows[i].summary.text;
        if (text == NULL || text[0] == '\0') continue;
        fprintf(stream, "trial %" PRId64 " %s: ", results->rows[i].number, results->rows[i].status);
        qzo_text_print(stream, text, strlen(text));
        fputc('\n', stream);
    }
    for (int64_t i = 0; i < results->row_count; i++)
        if (results->rows[i].summary.still_steps >= QZO_STILL_STEPS_MIN)
            fprintf(stream,
                    "trial %" PRId64 " learns nothing: every gradient of its last %" PRId64
                    " steps is exactly 0 (a model that has collapsed, or eps too small)\n",
                    results->rows[i].number, results->rows[i].summary.still_steps);
    free(widths);
    free(right);
}

/* --- JSON --- */

static json_t *number_or_null(double value) {
    return isfinite(value) ? json_real(value) : json_null();
}

static json_t *row_to_json(const qzo_results *results, const qzo_result_row *row) {
    const qzo_trial_summary *summary = &row->summary;
    json_t *parameters = json_object();
    for (int64_t k = 0; k < results->listing->swept_count; k++)
        json_object_set_new(parameters, results->listing->swept_keys[k],
                            json_string(row->trial->values[k]));
    const char *message = summary->text != NULL && summary->text[0] != '\0' ? summary->text : NULL;
    json_t *best_step = summary->best_step >= 0 ? json_integer(summary->best_step) : json_null();
    json_t *fork = NULL;
    if (row->trial->parent != QZO_NO_TRIAL)
        fork = json_pack("{sI, sI}", "trial", (json_int_t)row->trial->parent + 1, "step",
                         (json_int_t)results->listing->scheduling.rungs[row->trial->rung]);
    return json_pack(
        "{sI, ss, ss, sI, sI, so, so, so, so, so, so, ss*, so*, so}", "trial",
        (json_int_t)row->number, "id", row->id, "status", row->status, "steps",
        (json_int_t)summary->steps, "still_steps", (json_int_t)summary->still_steps, "best_step",
        best_step, "zero_shot_dev", number_or_null(summary->zero_shot_dev), "dev_score",
        number_or_null(summary->dev_score), "dev_loss", number_or_null(summary->dev_loss),
        "test_score", number_or_null(summary->test_score), "test_loss",
        number_or_null(summary->test_loss), "message", message, "fork_of", fork, "parameters",
        parameters);
}

qzo_status qzo_table_print_json(const qzo_results *results) {
    json_t *trials = json_array();
    for (int64_t i = 0; i < results->row_count; i++)
        json_array_append_new(trials, row_to_json(results, &results->rows[i]));
    json_t *root = json_pack("{ss*, so}", "name", results->listing->name, "trials", trials);
    if (root != NULL && json_array_size(trials) != (size_t)results->row_count) {
        json_decref(root);
        root = NULL;
    }
    return qzo_json_print(root);
}
