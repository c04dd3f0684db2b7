#include "trial/answers.h"

#include "base/check.h"

#include <stdlib.h>
#include <string.h>

/* A wave of prompts: as the kernels like it, and a cache that stays small beside the model. */
enum { WAVE_SEQUENCES = 64, WAVE_ROWS = 4096 };

struct qzo_answers {
    const qzo_task *task;
    int64_t prompt_max;
    qzo_generator *generator;
    qzo_generation settings;
    int32_t end_ids[QZO_END_IDS_MAX];
    const char *stops[1];
    const qzo_split *split; /* of what was generated last */
    int64_t *generated;     /* (examples_max) */
    int64_t examples_max;
    qzo_sequence *sequences;   /* (examples_max) */
    int32_t *ids;              /* (examples_max, answer_max) */
    int32_t *prompts;          /* (examples_max, prompt_max): of those that lose their left */
    uint8_t *text, *text_room; /* (answer_max * the longest piece) */
    uint8_t *reference_room;   /* (the longest reference) */
};

/* --- sizes --- */

static int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }
static int64_t larger(int64_t a, int64_t b) { return a > b ? a : b; }

static int64_t prompt_max_of(const qzo_task *task, const qzo_shape *shape) {
    return smaller(task->max_length, shape->positions_max) - task->answer_max;
}

/* The gold row of an example without its answer. */
static const int32_t *whole_prompt(int64_t *length, const qzo_split *split, int64_t example) {
    int64_t option = split->option_begin[example] + split->gold[example];
    int64_t begin = split->token_begin[option];
    *length = split->token_begin[option + 1] - begin - split->answer_tokens[option];
    return split->tokens + begin;
}

static int64_t longest_prompt(const qzo_task *task) {
    int64_t longest = 1;
    for (int s = 0; s < QZO_SPLIT_COUNT; s++)
        for (int64_t e = 0; e < task->splits[s].example_count; e++) {
            int64_t length = 0;
            (void)whole_prompt(&length, &task->splits[s], e);
            longest = larger(longest, length);
        }
    return longest;
}

static int64_t longest_reference(const qzo_task *task) {
    int64_t longest = 0;
    for (int s = 0; s < QZO_SPLIT_COUNT; s++) {
        const qzo_split *split = &task->splits[s];
        int64_t texts =
            split->reference_begin != NULL ? split->reference_begin[split->example_count] : 0;
        for (int64_t t = 0; t < texts; t++)
            longest = larger(longest,
                             split->reference_text_begin[t + 1] - split->reference_text_begin[t]);
    }
    return longest;
}

static int64_t longest_piece(const qzo_task *task) {
    int64_t longest = 0;
    for (int64_t id = 0; id < task->vocab_size; id++)
        longest = larger(longest, task->piece_begin[id + 1] - task->piece_begin[id]);
    return longest;
}

qzo_status qzo_answers_limits(qzo_pack_limits *limits, const qzo_task *task,
                              const qzo_shape *shape) {
    int64_t prompt_max = prompt_max_of(task, shape);
    if (prompt_max < 2)
        return qzo_fail(QZO_ERR_CONFIG,
                        "answers of %lld tokens leave no room for a prompt: rows of the task have "
                        "at most %lld tokens, the model has %lld positions",
                        (long long)task->answer_max, (long long)task->max_length,
                        (long long)shape->positions_max);
    int64_t context = smaller(longest_prompt(task), prompt_max) + task->answer_max - 1;
    limits->context = larger(limits->context, context);
    /* Prompts share nothing yet: a wave of them is as large as a pass whose rows do not either. */
    limits->rows = larger(limits->rows, smaller(limits->places, WAVE_ROWS));
    return QZO_OK;
}

/* --- opening --- */

static size_t piece_of(const void *context, const uint8_t **bytes, int32_t id) {
    const qzo_task *task = context;
    if (id >= task->vocab_size) return 0; /* the model's vocabulary may be larger */
    *bytes = task->piece_bytes + task->piece_begin[id];
    return (size_t)(task->piece_begin[id + 1] - task->piece_begin[id]);
}

static void set_generation(qzo_answers *a, const qzo_model *model) {
    a->stops[0] = a->task->stop;
    a->settings = (qzo_generation){.new_max = a->task->answer_max,
                                   .sampling = {.top_p = 1.0},
                                   .ends = {.ids = a->end_ids,
                                            .id_count = qzo_model_end_ids(a->end_ids, model),
                                            .texts = a->stops,
                                            .text_count = a->task->stop != NULL,
                                            .piece = piece_of,
                                            .context = a->task}};
}

static qzo_status allocate(qzo_answers *a) {
    const qzo_task *task = a->task;
    size_t count = (size_t)a->examples_max;
    size_t text_bytes = (size_t)(task->answer_max * longest_piece(task)) + 1;
    a->generated = calloc(count, sizeof *a->generated);
    a->sequences = calloc(count, sizeof *a->sequences);
    a->ids = calloc(count * (size_t)task->answer_max, sizeof *a->ids);
    a->prompts = calloc(count * (size_t)a->prompt_max, sizeof *a->prompts);
    a->text = malloc(text_bytes);
    a->text_room = malloc(text_bytes);
    a->reference_room = malloc((size_t)longest_reference(task) + 1);
    if (a->generated != NULL && a->sequences != NULL && a->ids != NULL && a->prompts != NULL &&
        a->text != NULL && a->text_room != NULL && a->reference_room != NULL)
        return QZO_OK;
    return qzo_fail(QZO_ERR_MEMORY, "out of memory for %zu answers", count);
}

qzo_status qzo_answers_open(qzo_answers **out, const qzo_task *task, const qzo_model *model,
                            qzo_forward *forward, const qzo_pack_limits *limits) {
    qzo_status status = QZO_OK;
    int64_t longest = longest_prompt(task), prompt_max = prompt_max_of(task, &model->shape);
    qzo_answers *a = calloc(1, sizeof *a);
    if (a == NULL) return qzo_fail(QZO_ERR_MEMORY, "out of memory for answers");
    a->task = task;
    a->prompt_max = smaller(longest, prompt_max);
    a->examples_max = limits->options;
    const qzo_generator_limits wave = {
        .sequences = smaller(smaller(WAVE_SEQUENCES, limits->options), limits->gathers),
        .rows = larger(smaller(limits->rows, WAVE_ROWS), a->prompt_max),
        .new_max = task->answer_max};
    set_generation(a, model);
    QZO_TRY(allocate(a));
    QZO_TRY(qzo_generator_open(&a->generator, forward, model, &wave));
    *out = a;
    a = NULL;
cleanup:
    qzo_answers_close(a);
    return status;
}

void qzo_answers_close(qzo_answers *a) {
    if (a == NULL) return;
    qzo_generator_close(a->generator);
    free(a->generated);
    free(a->sequences);
    free(a->ids);
    free(a->prompts);
    free(a->text);
    free(a->text_room);
    free(a->reference_room);
    free(a);
}

/* --- answering --- */

/* The index-th sequence, for an example of the split. */
static void set_prompt(qzo_answers *a, int64_t index, int64_t example) {
    qzo_sequence *sequence = &a->sequences[index];
    int64_t length = 0;
    const int32_t *prompt = whole_prompt(&length, a->split, example);
    *sequence = (qzo_sequence){.prompt = prompt,
                               .prompt_count = length,
                               .number = (uint64_t)example,
                               .ids = a->ids + index * a->task->answer_max};
    if (length <= a->prompt_max) return;
    int32_t *kept = a->prompts + index * a->prompt_max;
    int64_t first = prompt[0] == a->task->bos;
    kept[0] = prompt[0];
    memcpy(kept + first, prompt + length - a->prompt_max + first,
           (size_t)(a->prompt_max - first) * sizeof *kept);
    sequence->prompt = kept;
    sequence->prompt_count = a->prompt_max;
}

qzo_status qzo_answers_generate(qzo_answers *answers, const qzo_split *split,
                                const int64_t *examples, int64_t count, const float *masters,
                                const qzo_perturbation *perturbation) {
    QZO_ASSERT(count <= answers->examples_max);
    answers->split = split;
    for (int64_t i = 0; i < count; i++) {
        answers->generated[i] = examples[i];
        set_prompt(answers, i, examples[i]);
    }
    return qzo_generate(answers->generator, answers->sequences, count, &answers->settings, masters,
                        perturbation);
}

qzo_text qzo_answers_text(qzo_answers *answers, int64_t index) {
    const qzo_sequence *sequence = &answers->sequences[index];
    size_t size_bytes = 0;
    for (int64_t i = 0; i < sequence->count; i++) {
        const uint8_t *bytes = NULL;
        size_t piece_bytes = piece_of(answers->task, &bytes, sequence->ids[i]);
        if (piece_bytes > 0) memcpy(answers->text + size_bytes, bytes, piece_bytes);
        size_bytes += piece_bytes;
    }
    return (qzo_text){answers->text, size_bytes - (size_t)sequence->cut_bytes};
}

double qzo_answers_score(qzo_answers *answers, int64_t index, const qzo_metric *metric) {
    return qzo_metric_of_text(metric, answers->split, answers->generated[index],
                              qzo_answers_text(answers, index), answers->text_room,
                              answers->reference_room);
}

bool qzo_answers_are_of_numbers(const qzo_answers *answers, int64_t count) {
    for (int64_t i = 0; i < count; i++)
        if (answers->sequences[i].has_nan) return false;
    return true;
}
