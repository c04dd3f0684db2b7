/* qzo generate MODEL --ids FILE --max-new N: greedy or sampled text. */
#include "cli/cli.h"
#include "cli/pieces.h"
#include "cli/prompts.h"

#include "base/cpu.h"
#include "model/generate.h"
#include "trial/workbench.h"
#include "weights/gguf_model.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

/* A wave has room for the longest prompt, and for several where they are short. */
enum { WAVE_SEQUENCES = 16, WAVE_ROWS = 2048 };

typedef struct generation {
    qzo_prompts prompts;
    qzo_backend *backend;
    qzo_workbench bench;
    qzo_pieces *pieces;
    qzo_forward *forward;
    qzo_generator *generator;
    int32_t *ids;            /* every prompt, and behind it room for the new ones */
    qzo_sequence *sequences; /* (prompts.count) */
    int32_t end_ids[QZO_END_IDS_MAX];
    char *stop; /* NULL: none */
    qzo_generation settings;
} generation;

static int64_t prompt_length(const qzo_prompts *prompts, int64_t index) {
    return prompts->begin[index + 1] - prompts->begin[index];
}

static qzo_status check_ids(const generation *g, const qzo_options *options) {
    const qzo_shape *shape = &g->bench.model->shape;
    const qzo_prompts *prompts = &g->prompts;
    for (int64_t i = 0; i < prompts->begin[prompts->count]; i++)
        if (prompts->ids[i] < 0 || prompts->ids[i] >= shape->vocab)
            return qzo_fail(QZO_ERR_FORMAT,
                            "%s: id %" PRId64 " is %" PRId32 ", the vocabulary of %s has %" PRId64,
                            options->ids_path, i + 1, prompts->ids[i], options->model_path,
                            shape->vocab);
    for (int64_t p = 0; p < prompts->count; p++) {
        /* The last new token is never fed. */
        int64_t length = prompt_length(prompts, p), context = length + options->new_count - 1;
        if (context > shape->positions_max)
            return qzo_fail(QZO_ERR_LIMIT,
                            "%" PRId64 " ids and %" PRId64 " new ones need %" PRId64
                            " positions, the model has %" PRId64,
                            length, options->new_count, context, shape->positions_max);
    }
    return QZO_OK;
}

/* --- settings --- */

/* In place: \n, \t and \\, which are awkward to type in a shell. */
static void unescape(char *text) {
    char *to = text;
    for (; *text != '\0'; text++) {
        bool escapes = text[0] == '\\' && text[1] != '\0' && strchr("nt\\", text[1]) != NULL;
        if (escapes) text++;
        *to++ = !escapes ? *text : *text == 'n' ? '\n' : *text == 't' ? '\t' : '\\';
    }
    *to = '\0';
}

static size_t piece_of(const void *context, const uint8_t **bytes, int32_t id) {
    return qzo_pieces_text(context, bytes, id);
}

static qzo_status load_pieces(generation *g, const qzo_options *options) {
    const qzo_gguf_model *gguf = qzo_model_dir_gguf(g->bench.model->dir, NULL);
    qzo_status status = qzo_pieces_load(&g->pieces, options->model_path);
    if (status == QZO_OK && g->pieces == NULL && gguf != NULL)
        status = qzo_pieces_of_gguf(&g->pieces, qzo_gguf_model_file(gguf));
    return status;
}

static qzo_status read_settings(generation *g, const qzo_options *options) {
    int64_t seed = options->seed > 0 ? options->seed : 0;
    g->settings = (qzo_generation){.new_max = options->new_count,
                                   .sampling = {.temperature = options->temperature,
                                                .top_k = options->top_k,
                                                .top_p = options->top_p,
                                                .seed = (uint64_t)seed},
                                   .ends = {.ids = g->end_ids}};
    if (options->stop_at_eos)
        g->settings.ends.id_count = qzo_model_end_ids(g->end_ids, g->bench.model);
    if (options->stop_text == NULL) return QZO_OK;
    if (g->pieces == NULL)
        return qzo_fail(QZO_ERR_USAGE,
                        "--stop is looked for in the text of the tokens: %s has no tokenizer.json",
                        options->model_path);
    g->stop = strdup(options->stop_text);
    if (g->stop == NULL) return qzo_fail(QZO_ERR_MEMORY, "out of memory for --stop");
    unescape(g->stop);
    g->settings.ends.texts = (const char *const *)&g->stop;
    g->settings.ends.text_count = 1;
    g->settings.ends.piece = piece_of;
    g->settings.ends.context = g->pieces;
    return QZO_OK;
}

/* --- sequences --- */

static qzo_status place_sequences(generation *g, int64_t new_count) {
    const qzo_prompts *prompts = &g->prompts;
    int64_t total = prompts->begin[prompts->count] + prompts->count * new_count, place = 0;
    g->ids = calloc((size_t)total, sizeof *g->ids);
    g->sequences = calloc((size_t)prompts->count, sizeof *g->sequences);
    if (g->ids == NULL || g->sequences == NULL)
        return qzo_fail(QZO_ERR_MEMORY, "out of memory for %" PRId64 " ids", total);
    for (int64_t p = 0; p < prompts->count; p++) {
        int64_t length = prompt_length(prompts, p);
        int32_t *ids = g->ids + place;
        memcpy(ids, prompts->ids + prompts->begin[p], (size_t)length * sizeof *ids);
        g->sequences[p] = (qzo_sequence){
            .prompt = ids, .prompt_count = length, .number = (uint64_t)p, .ids = ids + length};
        place += length + new_count;
    }
    return QZO_OK;
}

static qzo_status open_generator(generation *g, int64_t new_count) {
    qzo_status status = QZO_OK;
    const qzo_prompts *prompts = &g->prompts;
    int64_t total = prompts->begin[prompts->count], longest = 0;
    for (int64_t p = 0; p < prompts->count; p++)
        if (prompt_length(prompts, p) > longest) longest = prompt_length(prompts, p);
    int64_t rows = total < WAVE_ROWS ? total : WAVE_ROWS;
    qzo_generator_limits limits = {.sequences = prompts->count < WAVE_SEQUENCES ? prompts->count
                                                                                : WAVE_SEQUENCES,
                                   .rows = rows > longest ? rows : longest,
                                   .new_max = new_count};
    qzo_pack_limits packed = {
        .rows = limits.rows, .gathers = limits.sequences, .context = longest + new_count - 1};
    QZO_TRY(qzo_forward_open(&g->forward, g->bench.model, &packed));
    QZO_TRY(qzo_generator_open(&g->generator, g->forward, g->bench.model, &limits));
cleanup:
    return status;
}

/* --- printing --- */

static qzo_status print_text(const generation *g, const qzo_sequence *sequence) {
    char *text = NULL;
    size_t size_bytes = 0, cut_bytes = (size_t)sequence->cut_bytes;
    FILE *stream = open_memstream(&text, &size_bytes);
    if (stream == NULL) return qzo_fail(QZO_ERR_MEMORY, "out of memory for a text");
    qzo_pieces_print(stream, g->pieces, sequence->prompt, sequence->prompt_count + sequence->count);
    bool is_whole = fclose(stream) == 0;
    if (is_whole) fwrite(text, 1, size_bytes > cut_bytes ? size_bytes - cut_bytes : 0, stdout);
    free(text);
    return is_whole ? QZO_OK : qzo_fail(QZO_ERR_MEMORY, "out of memory for a text");
}

/* Ids on one line each; texts, which may have several, with an empty line between them. */
static qzo_status print_generation(const generation *g, const qzo_options *options) {
    qzo_status status = QZO_OK;
    for (int64_t p = 0; p < g->prompts.count; p++) {
        const qzo_sequence *sequence = &g->sequences[p];
        int64_t count = sequence->prompt_count + sequence->count;
        if (g->pieces != NULL && !options->print_ids) {
            if (p > 0) printf("\n");
            QZO_TRY(print_text(g, sequence));
        } else {
            for (int64_t i = 0; i < count; i++)
                printf("%s%" PRId32, i > 0 ? " " : "", sequence->prompt[i]);
        }
        printf("\n");
    }
cleanup:
    return status;
}

static void release(generation *g) {
    qzo_generator_close(g->generator);
    qzo_forward_close(g->forward);
    qzo_workbench_release(&g->bench);
    qzo_backend_close(g->backend);
    qzo_pieces_free(g->pieces);
    qzo_prompts_release(&g->prompts);
    free(g->sequences);
    free(g->ids);
    free(g->stop);
}

int qzo_cmd_generate(const qzo_options *options) {
    qzo_status status = QZO_OK;
    generation g = {0};
    const qzo_perturbation none = {0};
    qzo_backend_options backend = {.thread_count = qzo_threads(options, 1)};
    QZO_TRY(qzo_prompts_read(&g.prompts, options->ids_path, options->each_line));
    QZO_TRY(qzo_cpu_check_float_mode());
    QZO_TRY(qzo_backend_open(&g.backend, options->backend_name, &backend));
    qzo_workbench_init(&g.bench, g.backend);
    QZO_TRY(qzo_workbench_load_model(&g.bench, options->model_path, qzo_quantize_kind(options)));
    QZO_TRY(qzo_model_require_decoder(g.bench.model));
    if (!options->print_ids || options->stop_text != NULL) QZO_TRY(load_pieces(&g, options));
    QZO_TRY(check_ids(&g, options));
    QZO_TRY(read_settings(&g, options));
    QZO_TRY(place_sequences(&g, options->new_count));
    QZO_TRY(open_generator(&g, options->new_count));
    QZO_TRY(qzo_generate(g.generator, g.sequences, g.prompts.count, &g.settings, g.bench.masters,
                         &none));
    QZO_TRY(print_generation(&g, options));
cleanup:
    release(&g);
    return qzo_exit_report(status, options);
}
