/* qzo generate MODEL --ids FILE --max-new N: greedy text. Every token runs the whole prefix again,
 * through the same forward pass that training uses. */
#include "cli/cli.h"
#include "cli/pieces.h"

#include "base/cpu.h"
#include "base/file_io.h"
#include "model/forward.h"
#include "model/model.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

enum { IDS_FILE_BYTES_MAX = 64 << 20 };

typedef struct generation {
    qzo_backend *backend;
    qzo_model *model;
    qzo_pieces *pieces;
    qzo_forward *forward;
    qzo_pack pack;
    float *masters; /* the backend's memory */
    float *logits;  /* (vocab) */
    int32_t *ids;   /* (prompt, new ones, 1): one more, the pack's unfed last token */
    int64_t id_count;
} generation;

static qzo_status fail_memory(void) { return qzo_fail(QZO_ERR_MEMORY, "out of memory for ids"); }

/* --- the prompt --- */

static bool is_separator(char c) {
    return c == ' ' || c == ',' || c == '\t' || c == '\n' || c == '\r';
}

static bool is_id_text(const char *bytes, size_t size_bytes) {
    for (size_t i = 0; i < size_bytes; i++)
        if (!is_separator(bytes[i]) && (bytes[i] < '0' || bytes[i] > '9')) return false;
    return true;
}

/* ids has room for size_bytes: a decimal id takes at least one byte and a separator. */
static qzo_status parse_text(int32_t *ids, int64_t *count, const char *text, const char *path) {
    while (*text != '\0') {
        if (is_separator(*text)) {
            text++;
            continue;
        }
        char *end = NULL;
        errno = 0;
        long value = strtol(text, &end, 10);
        if (errno != 0 || value > INT32_MAX)
            return qzo_fail(QZO_ERR_FORMAT, "%s: id %" PRId64 " is too large: %.20s", path,
                            *count + 1, text);
        ids[(*count)++] = (int32_t)value;
        text = end;
    }
    return QZO_OK;
}

/* ids: fresh, with room for new_count more and the unfed one. */
static qzo_status read_ids(int32_t **ids, int64_t *count, const char *path, int64_t new_count) {
    qzo_status status = QZO_OK;
    char *bytes = NULL;
    size_t size_bytes = 0;
    *count = 0;
    QZO_TRY(qzo_file_read(&bytes, &size_bytes, path, IDS_FILE_BYTES_MAX));
    *ids = calloc(size_bytes + (size_t)new_count + 1, sizeof **ids);
    if (*ids == NULL) {
        status = fail_memory();
        goto cleanup;
    }
    if (is_id_text(bytes, size_bytes)) {
        QZO_TRY(parse_text(*ids, count, bytes, path));
    } else if (size_bytes % sizeof(int32_t) == 0) {
        *count = (int64_t)(size_bytes / sizeof(int32_t));
        for (int64_t i = 0; i < *count; i++)
            (*ids)[i] = (int32_t)qzo_get_u32((const uint8_t *)bytes + 4 * i);
    } else {
        status = qzo_fail(QZO_ERR_FORMAT,
                          "%s: expected decimal ids, or little-endian int32 (%zu bytes are not a "
                          "multiple of 4)",
                          path, size_bytes);
        goto cleanup;
    }
    if (*count == 0) status = qzo_fail(QZO_ERR_FORMAT, "%s: no ids", path);
cleanup:
    free(bytes);
    return status;
}

static qzo_status check_ids(const generation *g, const qzo_options *options) {
    const qzo_shape *shape = &g->model->shape;
    for (int64_t i = 0; i < g->id_count; i++)
        if (g->ids[i] < 0 || g->ids[i] >= shape->vocab)
            return qzo_fail(QZO_ERR_FORMAT,
                            "%s: id %" PRId64 " is %" PRId32 ", the vocabulary of %s has %" PRId64,
                            options->ids_path, i + 1, g->ids[i], options->model_path, shape->vocab);
    /* The last new token is never fed. */
    int64_t context = g->id_count + options->new_count - 1;
    if (context > shape->positions_max)
        return qzo_fail(QZO_ERR_LIMIT,
                        "%" PRId64 " ids and %" PRId64 " new ones need %" PRId64
                        " positions, the model has %" PRId64,
                        g->id_count, options->new_count, context, shape->positions_max);
    return QZO_OK;
}

/* --- the model --- */

static qzo_status load_masters(generation *g) {
    qzo_status status = QZO_OK;
    const qzo_backend_ops *ops = g->backend->ops;
    /* A model without trainable values reads none; one element keeps the pointer valid. */
    size_t size_bytes = (size_t)(g->model->value_count + 1) * sizeof(float);
    void *memory = NULL;
    float *host = calloc(1, size_bytes);
    if (host == NULL) return fail_memory();
    QZO_TRY(qzo_model_initial_values(g->model, host));
    QZO_TRY(ops->allocate(g->backend, &memory, size_bytes));
    g->masters = memory;
    QZO_TRY(ops->upload(g->backend, memory, host, size_bytes));
cleanup:
    free(host);
    return status;
}

static qzo_status load_model(generation *g, const qzo_options *options) {
    qzo_status status = QZO_OK;
    qzo_model_dir *dir = NULL;
    qzo_backend_options backend = {.thread_count = qzo_threads(options, 1)};
    QZO_TRY(qzo_cpu_check_float_mode());
    QZO_TRY(qzo_backend_open(&g->backend, options->backend_name, &backend));
    QZO_TRY(qzo_model_dir_open(&dir, options->model_path));
    QZO_TRY(qzo_model_load(&g->model, dir, g->backend));
    QZO_TRY(load_masters(g));
    g->logits = calloc((size_t)g->model->shape.vocab, sizeof *g->logits);
    if (g->logits == NULL) status = fail_memory();
cleanup:
    return status;
}

static qzo_status open_forward(generation *g, const qzo_options *options) {
    qzo_status status = QZO_OK;
    int64_t rows = g->id_count + options->new_count;
    qzo_pack_limits limits = {
        .rows = rows, .gathers = 1, .targets = 1, .options = 1, .context = rows - 1};
    QZO_TRY(qzo_pack_create(&g->pack, &limits));
    QZO_TRY(qzo_forward_open(&g->forward, g->model, &limits));
cleanup:
    return status;
}

/* --- the loop --- */

/* The most likely token after ids (id_count); the lowest id on a tie. */
static qzo_status next_token(generation *g, int32_t *token) {
    qzo_status status = QZO_OK;
    const int32_t *rows[] = {g->ids};
    int64_t length = g->id_count + 1; /* the last one is predicted, not fed */
    int32_t answer = 1;
    qzo_perturbation none = {0};
    qzo_pack_clear(&g->pack);
    QZO_TRY(qzo_pack_add(&g->pack, 1, rows, &length, &answer));
    qzo_pack_finish(&g->pack);
    QZO_TRY(qzo_forward_logits(g->forward, &g->pack, g->masters, &none, g->logits));
    *token = 0;
    for (int64_t i = 1; i < g->model->shape.vocab; i++)
        if (g->logits[i] > g->logits[*token]) *token = (int32_t)i;
cleanup:
    return status;
}

/* config.json's eos_token_id: a number or a list of them. */
static bool ends_text(const generation *g, int32_t token) {
    const json_t *ends = json_object_get(qzo_model_dir_config(g->model->dir), "eos_token_id");
    if (json_is_integer(ends)) return json_integer_value(ends) == token;
    for (size_t i = 0; i < json_array_size(ends); i++) {
        const json_t *end = json_array_get(ends, i);
        if (json_is_integer(end) && json_integer_value(end) == token) return true;
    }
    return false;
}

static void print_generation(const generation *g) {
    if (g->pieces != NULL)
        qzo_pieces_print(stdout, g->pieces, g->ids, g->id_count);
    else
        for (int64_t i = 0; i < g->id_count; i++) printf("%s%" PRId32, i > 0 ? " " : "", g->ids[i]);
    printf("\n");
}

static void release(generation *g) {
    qzo_forward_close(g->forward);
    qzo_pack_release(&g->pack);
    if (g->backend != NULL) g->backend->ops->release(g->backend, g->masters);
    qzo_model_free(g->model);
    qzo_backend_close(g->backend);
    qzo_pieces_free(g->pieces);
    free(g->logits);
    free(g->ids);
}

int qzo_cmd_generate(const qzo_options *options) {
    qzo_status status = QZO_OK;
    generation g = {0};
    QZO_TRY(read_ids(&g.ids, &g.id_count, options->ids_path, options->new_count));
    if (!options->print_ids) QZO_TRY(qzo_pieces_load(&g.pieces, options->model_path));
    QZO_TRY(load_model(&g, options));
    QZO_TRY(check_ids(&g, options));
    QZO_TRY(open_forward(&g, options));
    for (int64_t i = 0; i < options->new_count; i++) {
        int32_t token = 0;
        QZO_TRY(next_token(&g, &token));
        g.ids[g.id_count++] = token;
        if (options->stop_at_eos && ends_text(&g, token)) break;
    }
    print_generation(&g);
cleanup:
    release(&g);
    return qzo_exit_report(status, options);
}
