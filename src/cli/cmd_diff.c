/* qzo diff DIR TRIAL TRIAL: where two journals part. Steps are compared record by record, and those
 * evaluations that both have; how often a trial evaluates does not change its path. */
#include "cli/cli.h"
#include "cli/journal_view.h"

#include "base/host_device.h"
#include "task/task_file.h"
#include "trial/fork.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

enum { TEXT_BYTES = 200, NO_DIFFERENCE = -1 };

/* One of the two journals. */
typedef struct side {
    qzo_journal_view view;
    qzo_step step;
    bool has_step;
    int64_t last_step;
    qzo_evaluation *evaluations; /* read so far */
    int64_t evaluation_count;
} side;

/* The next STEP; evaluations on the way are kept. */
static qzo_status next_step(side *s) {
    qzo_frame frame;
    s->has_step = false;
    while (qzo_journal_view_next(&s->view, &frame)) {
        if (frame.type == QZO_FRAME_EVAL) {
            qzo_evaluation *grown =
                realloc(s->evaluations, ((size_t)s->evaluation_count + 1) * sizeof *grown);
            if (grown == NULL) return qzo_fail(QZO_ERR_MEMORY, "out of memory for evaluations");
            s->evaluations = grown;
            qzo_status status = qzo_evaluation_decode(&grown[s->evaluation_count], &frame);
            if (status != QZO_OK) return status;
            s->evaluation_count++;
        } else if (frame.type == QZO_FRAME_STEP) {
            qzo_status status = qzo_journal_view_step(&s->view, &s->step, &frame);
            if (status != QZO_OK) return status;
            s->has_step = true;
            s->last_step = s->step.step;
            return QZO_OK;
        }
    }
    return QZO_OK;
}

static bool floats_differ(char text[TEXT_BYTES], const char *name, uint32_t sample, float a,
                          float b) {
    if (qzo_float_bits(a) == qzo_float_bits(b)) return false;
    snprintf(text, TEXT_BYTES, "%s of sample %" PRIu32 ": %.9g | %.9g", name, sample, (double)a,
             (double)b);
    return true;
}

/* Says in text where the steps differ; false where they do not. */
static bool steps_differ(char text[TEXT_BYTES], const qzo_step *a, const qzo_step *b) {
    if (a->step != b->step) {
        snprintf(text, TEXT_BYTES, "step number: %" PRId64 " | %" PRId64, a->step, b->step);
        return true;
    }
    if (a->record_count != b->record_count) {
        snprintf(text, TEXT_BYTES, "samples: %" PRId64 " | %" PRId64, a->record_count,
                 b->record_count);
        return true;
    }
    for (int64_t i = 0; i < a->record_count; i++) {
        const qzo_record *x = &a->records[i], *y = &b->records[i];
        if (x->seed != y->seed || x->sample != y->sample) {
            snprintf(text, TEXT_BYTES, "seed of sample %" PRIu32 ": %" PRIu64 " | %" PRIu64,
                     x->sample, x->seed, y->seed);
            return true;
        }
        if (floats_differ(text, "loss_plus", x->sample, x->loss_plus, y->loss_plus) ||
            floats_differ(text, "loss_minus", x->sample, x->loss_minus, y->loss_minus) ||
            floats_differ(text, "gradient", x->sample, x->gradient, y->gradient) ||
            floats_differ(text, "k", x->sample, a->k[i], b->k[i]))
            return true;
        if (x->flags != y->flags) {
            snprintf(text, TEXT_BYTES, "flags of sample %" PRIu32 ": %" PRIu32 " | %" PRIu32,
                     x->sample, x->flags, y->flags);
            return true;
        }
    }
    if (a->digest == b->digest) return false;
    snprintf(text, TEXT_BYTES, "digest: %016" PRIx64 " | %016" PRIx64, a->digest, b->digest);
    return true;
}

/* The first step before `end` whose evaluations differ, or NO_DIFFERENCE. */
static int64_t find_evaluation(char text[TEXT_BYTES], const side *a, const side *b, int64_t end) {
    int64_t found = NO_DIFFERENCE;
    for (int64_t i = 0; i < a->evaluation_count; i++)
        for (int64_t j = 0; j < b->evaluation_count; j++) {
            const qzo_evaluation *x = &a->evaluations[i], *y = &b->evaluations[j];
            bool is_pair = x->step == y->step && x->split == y->split;
            bool is_equal = memcmp(&x->score, &y->score, sizeof x->score) == 0 &&
                            memcmp(&x->loss, &y->loss, sizeof x->loss) == 0;
            if (!is_pair || is_equal || x->step >= end) continue;
            if (found != NO_DIFFERENCE && found <= x->step) continue;
            found = x->step;
            snprintf(text, TEXT_BYTES, "evaluation on %s: score %.9g | %.9g, loss %.9g | %.9g",
                     x->split < QZO_SPLIT_COUNT ? qzo_split_name((qzo_split_kind)x->split) : "?",
                     x->score, y->score, x->loss, y->loss);
        }
    return found;
}

/* The line of settings that begins as `line` does up to its '='; NULL where there is none. */
static const char *find_setting(const char *settings, const char *line) {
    size_t key = strcspn(line, "=") + 1;
    while (settings[0] != '\0' && strncmp(settings, line, key) != 0) {
        settings += strcspn(settings, "\n");
        settings += settings[0] == '\n';
    }
    return settings[0] != '\0' ? settings : NULL;
}

static void print_value(const char *line) {
    const char *value = line != NULL ? line + strcspn(line, "=") + 1 : "-";
    printf("%.*s", (int)strcspn(value, "\n"), value);
}

/* Settings are lines "key=value"; one that is absent has its default. */
static void print_settings(const char *a, const char *b) {
    const char *const sides[] = {a, b};
    for (int which = 0; which < 2; which++)
        for (const char *line = sides[which]; *line != '\0';) {
            const char *in_a = find_setting(a, line), *in_b = find_setting(b, line);
            size_t bytes = strcspn(line, "\n");
            bool is_equal = in_a != NULL && in_b != NULL && strncmp(in_a, in_b, bytes + 1) == 0;
            if (!is_equal && (which == 0 || in_a == NULL)) { /* each once */
                printf("setting %.*s: ", (int)strcspn(line, "="), line);
                print_value(in_a);
                printf(" | ");
                print_value(in_b);
                printf("\n");
            }
            line += bytes + (line[bytes] == '\n');
        }
}

static qzo_status compare(side *a, side *b) {
    qzo_status status = QZO_OK;
    char text[TEXT_BYTES], evaluation_text[TEXT_BYTES];
    int64_t equal = 0, differs = NO_DIFFERENCE;
    while (differs == NO_DIFFERENCE) {
        QZO_TRY(next_step(a));
        QZO_TRY(next_step(b));
        if (!a->has_step || !b->has_step) break;
        if (steps_differ(text, &a->step, &b->step))
            differs = a->step.step < b->step.step ? a->step.step : b->step.step;
        else
            equal = a->step.step;
    }
    while (a->has_step) QZO_TRY(next_step(a));
    while (b->has_step) QZO_TRY(next_step(b));
    int64_t evaluated =
        find_evaluation(evaluation_text, a, b, differs != NO_DIFFERENCE ? differs : INT64_MAX);
    if (evaluated != NO_DIFFERENCE && (differs == NO_DIFFERENCE || evaluated < differs)) {
        printf("equal before the evaluation of step %" PRId64 "\nstep %" PRId64 " differs: %s\n",
               evaluated, evaluated, evaluation_text);
    } else if (differs != NO_DIFFERENCE) {
        printf("equal through step %" PRId64 "\nstep %" PRId64 " differs: %s\n", equal, differs,
               text);
    } else {
        printf("equal through step %" PRId64 "\n", equal);
        if (a->last_step != b->last_step)
            printf("trial %" PRId64 " goes on to step %" PRId64 "\n",
                   a->last_step > b->last_step ? a->view.number : b->view.number,
                   a->last_step > b->last_step ? a->last_step : b->last_step);
    }
cleanup:
    return status;
}

int qzo_cmd_diff(const qzo_options *options) {
    qzo_status status = QZO_OK;
    side a = {0}, b = {0};
    char *settings[2] = {NULL, NULL};
    qzo_digest identity;
    QZO_TRY(qzo_journal_view_open(&a.view, options->folder, options->trial));
    QZO_TRY(qzo_journal_view_open(&b.view, options->folder, options->other_trial));
    printf("trial %" PRId64 " %.8s | trial %" PRId64 " %.8s\n", a.view.number, a.view.id,
           b.view.number, b.view.id);
    if (a.view.has_header && b.view.has_header) {
        QZO_TRY(qzo_journal_settings(&settings[0], &identity, &a.view.file));
        QZO_TRY(qzo_journal_settings(&settings[1], &identity, &b.view.file));
        print_settings(settings[0], settings[1]);
        if (strcmp(a.view.header.arithmetic, b.view.header.arithmetic) != 0)
            printf("arithmetic: %s | %s\n", a.view.header.arithmetic, b.view.header.arithmetic);
    } else {
        const side *idle = a.view.has_header ? &b : &a;
        printf("trial %" PRId64 " has not begun\n", idle->view.number);
    }
    QZO_TRY(compare(&a, &b));
cleanup:
    qzo_journal_view_close(&a.view);
    qzo_journal_view_close(&b.view);
    free(settings[0]);
    free(settings[1]);
    free(a.evaluations);
    free(b.evaluations);
    return qzo_exit_report(status, options);
}
