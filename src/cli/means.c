/* Rows that differ in their seeds alone, as one: how many finished, mean and confidence interval.
 * Trials that have not finished have no say in a mean, and stand in the column `of`. */
#include "cli/means.h"

#include "base/student.h"
#include "cli/cli.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { MEASURE_COUNT = 4, CELL_BYTES = 64, VALUE_WIDTH = 16 };

static const char *const measures[MEASURE_COUNT] = {"dev_score", "dev_loss", "test_score",
                                                    "test_loss"};

typedef struct setting_mean {
    const qzo_result_row *first; /* of the rows that it stands for */
    int64_t row_count;
    int64_t finished_count;
    qzo_mean means[MEASURE_COUNT];
} setting_mean;

static bool is_seed(const char *key) {
    return strcmp(key, "seed") == 0 || strcmp(key, "data_seed") == 0 ||
           strcmp(key, "noise_seed") == 0;
}

static bool same_setting(const qzo_listing *listing, const qzo_result_row *a,
                         const qzo_result_row *b) {
    for (int64_t k = 0; k < listing->swept_count; k++)
        if (!is_seed(listing->swept_keys[k]) &&
            strcmp(a->trial->values[k], b->trial->values[k]) != 0)
            return false;
    return true;
}

static double measure_of(const qzo_result_row *row, int measure) {
    const qzo_trial_summary *s = &row->summary;
    const double values[MEASURE_COUNT] = {s->dev_score, s->dev_loss, s->test_score, s->test_loss};
    return values[measure];
}

/* One mean per setting, in the order of the first row of each; the caller frees it. */
static qzo_status collect(setting_mean **out, int64_t *count, const qzo_results *results) {
    int64_t rows = results->row_count;
    setting_mean *means = calloc((size_t)rows + 1, sizeof *means);
    double *values = calloc((size_t)rows * MEASURE_COUNT + 1, sizeof *values);
    bool *taken = calloc((size_t)rows + 1, sizeof *taken);
    *out = means;
    *count = 0;
    for (int64_t i = 0; means != NULL && values != NULL && taken != NULL && i < rows; i++) {
        if (taken[i]) continue;
        setting_mean *mean = &means[(*count)++];
        mean->first = &results->rows[i];
        for (int64_t j = i; j < rows; j++) {
            const qzo_result_row *row = &results->rows[j];
            if (taken[j] || !same_setting(results->listing, mean->first, row)) continue;
            taken[j] = true;
            mean->row_count++;
            if (!row->summary.ended || row->summary.outcome != QZO_OUTCOME_FINISHED) continue;
            for (int m = 0; m < MEASURE_COUNT; m++)
                values[m * rows + mean->finished_count] = measure_of(row, m);
            mean->finished_count++;
        }
        for (int m = 0; m < MEASURE_COUNT; m++)
            mean->means[m] = qzo_mean_of(values + m * rows, mean->finished_count);
    }
    bool is_complete = means != NULL && values != NULL && taken != NULL;
    free(values);
    free(taken);
    return is_complete ? QZO_OK : qzo_fail(QZO_ERR_MEMORY, "out of memory for means");
}

static void put_number(char out[CELL_BYTES], double value, int digits) {
    out[0] = '\0';
    if (!isnan(value)) snprintf(out, CELL_BYTES, "%.*g", digits, value);
}

static void print_csv(const setting_mean *means, int64_t count, const qzo_listing *listing) {
    char cell[CELL_BYTES];
    for (int64_t k = 0; k < listing->swept_count; k++)
        if (!is_seed(listing->swept_keys[k])) {
            qzo_table_print_csv_field(stdout, listing->swept_keys[k]);
            putchar(',');
        }
    printf("runs,of");
    for (int m = 0; m < MEASURE_COUNT; m++) printf(",%s_mean,%s_ci95", measures[m], measures[m]);
    printf("\n");
    for (int64_t i = 0; i < count; i++) {
        for (int64_t k = 0; k < listing->swept_count; k++)
            if (!is_seed(listing->swept_keys[k])) {
                qzo_table_print_csv_field(stdout, means[i].first->trial->values[k]);
                putchar(',');
            }
        printf("%" PRId64 ",%" PRId64, means[i].finished_count, means[i].row_count);
        for (int m = 0; m < MEASURE_COUNT; m++) {
            put_number(cell, means[i].means[m].mean, 9);
            printf(",%s", cell);
            put_number(cell, means[i].means[m].half_width, 9);
            printf(",%s", cell);
        }
        printf("\n");
    }
}

static void print_value(const char *value) {
    int width = qzo_text_print(stdout, value, strlen(value));
    printf("%*s  ", width < VALUE_WIDTH ? VALUE_WIDTH - width : 0, "");
}

static void print_text(const setting_mean *means, int64_t count, const qzo_listing *listing) {
    qzo_text_print(stdout, listing->name, strlen(listing->name));
    printf(": means over seeds +- t(0.95, n - 1) s / sqrt(n)\n");
    for (int64_t k = 0; k < listing->swept_count; k++)
        if (!is_seed(listing->swept_keys[k])) printf("%-*s  ", VALUE_WIDTH, listing->swept_keys[k]);
    printf("%7s", "runs");
    for (int m = 0; m < MEASURE_COUNT; m++) printf("  %20s", measures[m]);
    printf("\n");
    for (int64_t i = 0; i < count; i++) {
        char runs[CELL_BYTES];
        for (int64_t k = 0; k < listing->swept_count; k++)
            if (!is_seed(listing->swept_keys[k])) print_value(means[i].first->trial->values[k]);
        snprintf(runs, sizeof runs, "%" PRId64 "/%" PRId64, means[i].finished_count,
                 means[i].row_count);
        printf("%7s", runs);
        for (int m = 0; m < MEASURE_COUNT; m++) {
            const qzo_mean *mean = &means[i].means[m];
            char cell[CELL_BYTES] = "-";
            if (mean->count > 1)
                snprintf(cell, sizeof cell, "%.4g +- %.2g", mean->mean, mean->half_width);
            else if (mean->count == 1)
                snprintf(cell, sizeof cell, "%.4g", mean->mean);
            printf("  %20s", cell);
        }
        printf("\n");
    }
}

static json_t *number_or_null(double value) {
    return isfinite(value) ? json_real(value) : json_null();
}

static qzo_status print_json(const setting_mean *means, int64_t count, const qzo_listing *listing) {
    json_t *list = json_array();
    for (int64_t i = 0; i < count; i++) {
        json_t *parameters = json_object();
        for (int64_t k = 0; k < listing->swept_count; k++)
            if (!is_seed(listing->swept_keys[k]))
                json_object_set_new(parameters, listing->swept_keys[k],
                                    json_string(means[i].first->trial->values[k]));
        json_t *object =
            json_pack("{so, sI, sI}", "parameters", parameters, "runs",
                      (json_int_t)means[i].finished_count, "of", (json_int_t)means[i].row_count);
        for (int m = 0; m < MEASURE_COUNT; m++)
            json_object_set_new(object, measures[m],
                                json_pack("{so, so}", "mean",
                                          number_or_null(means[i].means[m].mean), "ci95",
                                          number_or_null(means[i].means[m].half_width)));
        json_array_append_new(list, object);
    }
    return qzo_json_print(json_pack("{ss*, so}", "name", listing->name, "means", list));
}

qzo_status qzo_means_print(const qzo_results *results, const qzo_options *options) {
    qzo_status status = QZO_OK;
    setting_mean *means = NULL;
    int64_t count = 0;
    QZO_TRY(collect(&means, &count, results));
    if (options->csv)
        print_csv(means, count, results->listing);
    else if (options->json)
        QZO_TRY(print_json(means, count, results->listing));
    else
        print_text(means, count, results->listing);
cleanup:
    free(means);
    return status;
}
