/* qzo journal DIR TRIAL: a trial's journal, for people or as CSV. */
#include "cli/cli.h"
#include "cli/journal_view.h"

#include "task/task_file.h"
#include "trial/fork.h"

#include <inttypes.h>
#include <math.h>
#include <string.h>

enum { NUMBER_BYTES = 32 };

/* A number without the sign that glibc gives some NaNs. */
static const char *number_text(char out[NUMBER_BYTES], double value) {
    if (isnan(value))
        strcpy(out, "nan");
    else
        snprintf(out, NUMBER_BYTES, "%.9g", value);
    return out;
}

static void print_record_csv(const qzo_step *step, int64_t i) {
    const qzo_record *record = &step->records[i];
    char plus[NUMBER_BYTES], minus[NUMBER_BYTES], gradient[NUMBER_BYTES], k[NUMBER_BYTES];
    printf("%" PRId64 ",%" PRIu32 ",%" PRIu64 ",%s,%s,%s,%s,%" PRIu32 "\n", step->step,
           record->sample, record->seed, number_text(plus, (double)record->loss_plus),
           number_text(minus, (double)record->loss_minus),
           number_text(gradient, (double)record->gradient), number_text(k, (double)step->k[i]),
           record->flags);
}

static void print_flags(uint32_t flags) {
    static const struct {
        uint32_t flag;
        const char *name;
    } names[] = {{QZO_FLAG_EMPTY, "empty"},         {QZO_FLAG_NOT_FINITE, "not-finite"},
                 {QZO_FLAG_CLIPPED, "clipped"},     {QZO_FLAG_ZERO_LOSS, "zero-loss"},
                 {QZO_FLAG_ONE_SIDED, "one-sided"}, {QZO_FLAG_CLEAN, "clean"},
                 {QZO_FLAG_CANDIDATE, "candidate"}, {QZO_FLAG_GUIDED, "guided"}};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (flags & names[i].flag) printf(" %s", names[i].name);
}

static void print_step(const qzo_step *step) {
    printf("STEP %" PRId64 " digest %016" PRIx64 "\n", step->step, step->digest);
    for (int64_t i = 0; i < step->record_count; i++) {
        const qzo_record *record = &step->records[i];
        char plus[NUMBER_BYTES], minus[NUMBER_BYTES], gradient[NUMBER_BYTES], k[NUMBER_BYTES];
        printf("  sample %" PRIu32 " seed %" PRIu64 " loss+ %s loss- %s gradient %s k %s",
               record->sample, record->seed, number_text(plus, (double)record->loss_plus),
               number_text(minus, (double)record->loss_minus),
               number_text(gradient, (double)record->gradient), number_text(k, (double)step->k[i]));
        print_flags(record->flags);
        printf("\n");
    }
}

static void print_text(const char *text, size_t text_bytes) {
    qzo_text_print(stdout, text, text_bytes);
    putchar('\n');
}

static void print_lines(const char *text, size_t text_bytes) {
    for (const char *at = text, *end = text + text_bytes; at < end;) {
        const char *newline = memchr(at, '\n', (size_t)(end - at));
        const char *next = newline != NULL ? newline : end;
        printf("  ");
        print_text(at, (size_t)(next - at));
        at = next + 1;
    }
}

static void print_header(const qzo_journal_view *view) {
    const qzo_journal_header *header = &view->header;
    char text[QZO_DIGEST_TEXT_BYTES];
    qzo_digest_text(text, &header->identity);
    printf("HEADER format %" PRIu32 " noise %" PRIu32 " id %s\n", header->format_version,
           header->noise_version, text);
    printf("  values %" PRIu64 " initial digest %016" PRIx64 "\n  arithmetic ", header->value_count,
           header->initial_digest);
    print_text(header->arithmetic, strlen(header->arithmetic));
    print_lines(header->settings, strlen(header->settings));
}

static void print_change(int64_t step, const char *text, size_t text_bytes) {
    const char *settings = NULL;
    size_t settings_bytes = 0;
    if (qzo_change_has_settings(&settings, &settings_bytes, text, text_bytes)) {
        printf("CHANGE %" PRId64 " settings\n", step);
        print_lines(settings, settings_bytes);
        return;
    }
    printf("CHANGE %" PRId64 " arithmetic ", step);
    print_text(text, text_bytes);
}

static qzo_status print_frame(qzo_journal_view *view, const qzo_frame *frame) {
    qzo_status status = QZO_OK;
    qzo_step step;
    qzo_evaluation evaluation;
    qzo_end end;
    char score[NUMBER_BYTES], loss[NUMBER_BYTES];
    const char *text = NULL;
    size_t text_bytes = 0;
    int64_t at = 0;
    switch (frame->type) {
    case QZO_FRAME_STEP:
        QZO_TRY(qzo_journal_view_step(view, &step, frame));
        print_step(&step);
        break;
    case QZO_FRAME_EVAL:
        QZO_TRY(qzo_evaluation_decode(&evaluation, frame));
        printf("EVAL %" PRId64 " %s score %s loss %s\n", evaluation.step,
               evaluation.split < QZO_SPLIT_COUNT ? qzo_split_name((qzo_split_kind)evaluation.split)
                                                  : "unknown split",
               number_text(score, evaluation.score), number_text(loss, evaluation.loss));
        break;
    case QZO_FRAME_CHANGE:
        QZO_TRY(qzo_change_decode(&at, &text, &text_bytes, frame));
        print_change(at, text, text_bytes);
        break;
    case QZO_FRAME_END:
        QZO_TRY(qzo_end_decode(&end, frame));
        printf("END %" PRId64 " %s ", end.step, qzo_outcome_name(end.outcome));
        print_text(end.text, end.text_bytes);
        break;
    default: printf("frame of unknown type %" PRIu32 "\n", frame->type);
    }
cleanup:
    return status;
}

int qzo_cmd_journal(const qzo_options *options) {
    qzo_status status = QZO_OK;
    qzo_journal_view view = {0};
    qzo_frame frame;
    QZO_TRY(qzo_journal_view_open(&view, options->folder, options->trial));
    if (options->csv)
        printf("step,sample,seed,loss_plus,loss_minus,gradient,k,flags\n");
    else if (view.has_header)
        print_header(&view);
    else
        printf("trial %" PRId64 " has not begun\n", view.number);
    while (qzo_journal_view_next(&view, &frame)) {
        qzo_step step;
        if (!options->csv) {
            QZO_TRY(print_frame(&view, &frame));
        } else if (frame.type == QZO_FRAME_STEP) {
            QZO_TRY(qzo_journal_view_step(&view, &step, &frame));
            for (int64_t i = 0; i < step.record_count; i++) print_record_csv(&step, i);
        }
    }
cleanup:
    qzo_journal_view_close(&view);
    return qzo_exit_report(status, options);
}
