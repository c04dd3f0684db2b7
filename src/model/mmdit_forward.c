/* Rows of all images come first, example by example, then those of all texts: a linear layer of
 * either works on neighbouring rows, and an attention is two ranges of rows. */
#include "model/mmdit_forward.h"

#include "base/arena.h"
#include "base/check.h"
#include "model/mmdit_rows.h"
#include "model/sides.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static const float NORM_EPSILON = 1e-6f;

enum { FFN = 4, MODULATIONS_MAX = 9 };

/* All in the backend's memory; rows: of images and texts. */
typedef struct buffers {
    float *residual;      /* (rows, width) */
    float *condition;     /* (examples, width) */
    float *input;         /* (what is largest of the inputs) in fp32 */
    float *out;           /* (image_rows, out_row) */
    float *widened;       /* (rows, width): q or k, for norms of heads */
    float *scratch;       /* (MODULATIONS_MAX * width or more): a vector that trains */
    qzo_act *patches;     /* (image_rows, in_row) */
    qzo_act *text;        /* (text_rows, text_width) */
    qzo_act *pooled;      /* (examples, pooled_width) */
    qzo_act *sinusoids;   /* (examples, QZO_MMDIT_TIME_WIDTH) */
    qzo_act *time, *more; /* (examples, width): one after the other what the condition is made of */
    qzo_act *x;           /* (rows, width) */
    qzo_act *q, *k, *v;   /* (rows, width) */
    qzo_act *mixed;       /* (rows, the larger of width and out_row) */
    qzo_act *own;         /* (image_rows, width): what a second attention gives */
    qzo_act *ffn;         /* (the larger of image_rows and text_rows, FFN * width) */
    qzo_act *modulation, *text_modulation; /* (examples, MODULATIONS_MAX * width) */
    int32_t *position_rows;                /* (image_rows): rows of the position table */
    int32_t *image_begin, *image_end;      /* (rows): image rows of the row's example */
    int32_t *text_begin, *text_end;        /* (rows): its text rows */
    int32_t *nothing;                      /* (rows): zeros, an empty range */
} buffers;

struct qzo_mmdit_forward {
    const qzo_model *model;
    qzo_mmdit_limits limits;
    int64_t image_rows, text_rows; /* of all examples that fit, of both sides */
    int64_t example_count;         /* of the batch that is set */
    int64_t ranged_count;          /* examples of all sides that the ranges are of */
    void *memory;
    buffers at;
    float *host; /* as `input` or `out`, whichever is larger */
};

static int64_t largest(int64_t a, int64_t b) { return a > b ? a : b; }

/* Of the largest batch, alone or under both signs. */
static int64_t examples_of_sides(const qzo_mmdit_limits *limits) {
    return largest(limits->examples, 2 * limits->pair_examples);
}

static int64_t input_floats(const qzo_mmdit_shape *shape, const qzo_mmdit_limits *limits) {
    int64_t images = qzo_mmdit_patches_of(shape, limits) * qzo_mmdit_in_row(shape);
    int64_t most = largest(images, limits->text_rows * shape->text_width);
    most = largest(most, largest(shape->pooled_width, QZO_MMDIT_TIME_WIDTH));
    return limits->examples * most;
}

static bool has_dual(const qzo_mmdit_shape *shape) {
    for (int64_t i = 0; i < shape->layer_count; i++)
        if (shape->is_dual[i]) return true;
    return false;
}

static void slice(buffers *at, qzo_arena *arena, const qzo_mmdit_shape *shape, size_t act_bytes,
                  const qzo_mmdit_limits *limits) {
    int64_t examples = examples_of_sides(limits), width = shape->width;
    int64_t images = examples * qzo_mmdit_patches_of(shape, limits),
            texts = examples * limits->text_rows;
    int64_t rows = images + texts;
    int64_t vector = largest(MODULATIONS_MAX * width, qzo_mmdit_out_row(shape));
    const struct {
        float **to;
        int64_t count;
    } floats[] = {{&at->residual, rows * width},
                  {&at->condition, examples * width},
                  {&at->input, input_floats(shape, limits)},
                  {&at->out, images * qzo_mmdit_out_row(shape)},
                  {&at->widened, shape->has_norms ? rows * width : 0},
                  {&at->scratch, vector}};
    const struct {
        qzo_act **to;
        int64_t count;
    } acts[] = {{&at->patches, images * qzo_mmdit_in_row(shape)},
                {&at->text, texts * shape->text_width},
                {&at->pooled, examples * shape->pooled_width},
                {&at->sinusoids, examples * QZO_MMDIT_TIME_WIDTH},
                {&at->time, examples * width},
                {&at->more, examples * width},
                {&at->x, rows * width},
                {&at->q, rows * width},
                {&at->k, rows * width},
                {&at->v, rows * width},
                {&at->mixed, rows * largest(width, qzo_mmdit_out_row(shape))},
                {&at->own, has_dual(shape) ? images * width : 0},
                {&at->ffn, largest(images, texts) * FFN * width},
                {&at->modulation, examples * MODULATIONS_MAX * width},
                {&at->text_modulation, examples * MODULATIONS_MAX * width}};
    int32_t **const ints[] = {&at->image_begin, &at->image_end, &at->text_begin, &at->text_end,
                              &at->nothing};
    for (size_t i = 0; i < sizeof floats / sizeof *floats; i++)
        *floats[i].to = qzo_arena_reserve(arena, floats[i].count, sizeof(float));
    for (size_t i = 0; i < sizeof acts / sizeof *acts; i++)
        *acts[i].to = qzo_arena_reserve(arena, acts[i].count, act_bytes);
    for (size_t i = 0; i < sizeof ints / sizeof *ints; i++)
        *ints[i] = qzo_arena_reserve(arena, rows, sizeof(int32_t));
    at->position_rows = qzo_arena_reserve(arena, images, sizeof(int32_t));
}

int64_t qzo_mmdit_forward_bytes(const qzo_mmdit_shape *shape, size_t activation_bytes,
                                const qzo_mmdit_limits *limits) {
    qzo_arena arena = {0};
    buffers at;
    slice(&at, &arena, shape, activation_bytes, limits);
    return (int64_t)arena.planned_bytes;
}

/* --- opening --- */

static qzo_status check_limits(const qzo_mmdit_shape *shape, const qzo_mmdit_limits *limits) {
    const int64_t sides[] = {limits->height, limits->width};
    for (int i = 0; i < 2; i++)
        if (sides[i] <= 0 || sides[i] % shape->patch != 0 ||
            sides[i] / shape->patch > shape->side_max)
            return qzo_fail(QZO_ERR_LIMIT,
                            "latents of %lld x %lld: the model takes sides that are multiples of "
                            "%lld, up to %lld",
                            (long long)limits->height, (long long)limits->width,
                            (long long)shape->patch, (long long)(shape->patch * shape->side_max));
    if (limits->text_rows < 1 || limits->examples < 1)
        return qzo_fail(QZO_ERR_LIMIT, "%lld examples with %lld text rows, expected at least one",
                        (long long)limits->examples, (long long)limits->text_rows);
    return QZO_OK;
}

/* The middle of the position table, as diffusers crops it: no row depends on the batch. */
static qzo_status load_position_rows(qzo_mmdit_forward *forward) {
    const qzo_mmdit_shape *shape = &forward->model->mmdit->shape;
    int64_t height = forward->limits.height / shape->patch;
    int64_t width = forward->limits.width / shape->patch;
    int64_t top = (shape->side_max - height) / 2, left = (shape->side_max - width) / 2;
    int32_t *host = (int32_t *)(void *)forward->host; /* it has an image row's floats for each */
    for (int64_t row = 0; row < forward->image_rows; row++) {
        int64_t y = row / width % height, x = row % width;
        host[row] = (int32_t)((top + y) * shape->side_max + left + x);
    }
    return forward->model->backend->ops->upload(forward->model->backend, forward->at.position_rows,
                                                host,
                                                (size_t)forward->image_rows * sizeof(int32_t));
}

/* Which rows belong to the example of each row. For another number of examples these would be other
 * rows. */
static qzo_status load_ranges(qzo_mmdit_forward *forward, int64_t examples) {
    qzo_status status = QZO_OK;
    qzo_backend *backend = forward->model->backend;
    const buffers *at = &forward->at;
    int64_t patches = qzo_mmdit_patches_of(&forward->model->mmdit->shape, &forward->limits);
    int64_t texts = forward->limits.text_rows, images = examples * patches;
    int64_t rows = images + examples * texts;
    int32_t *host = (int32_t *)(void *)forward->host;
    if (examples == forward->ranged_count) return QZO_OK;
    forward->ranged_count = 0;
    int32_t *const to[] = {at->image_begin, at->image_end, at->text_begin, at->text_end};
    for (int range = 0; range < 4; range++) {
        for (int64_t row = 0; row < rows; row++) {
            int64_t example = row < images ? row / patches : (row - images) / texts;
            int64_t begin = range < 2 ? example * patches : images + example * texts;
            int64_t count = range < 2 ? patches : texts;
            host[row] = (int32_t)(range % 2 == 0 ? begin : begin + count);
        }
        QZO_TRY(backend->ops->upload(backend, to[range], host, (size_t)rows * sizeof *host));
    }
    forward->ranged_count = examples;
cleanup:
    return status;
}

qzo_status qzo_mmdit_forward_open(qzo_mmdit_forward **out, const qzo_model *model,
                                  const qzo_mmdit_limits *limits) {
    qzo_status status = QZO_OK;
    qzo_backend *backend = model->backend;
    const qzo_mmdit_shape *shape = &model->mmdit->shape;
    qzo_arena arena = {0};
    int64_t floats = 0;
    qzo_mmdit_forward *forward = NULL;
    QZO_TRY(check_limits(shape, limits));
    forward = calloc(1, sizeof *forward);
    if (forward == NULL) return qzo_fail(QZO_ERR_MEMORY, "out of memory for a forward pass");
    forward->model = model;
    forward->limits = *limits;
    forward->image_rows = examples_of_sides(limits) * qzo_mmdit_patches_of(shape, limits);
    forward->text_rows = examples_of_sides(limits) * limits->text_rows;
    floats = largest(input_floats(shape, limits), forward->image_rows * qzo_mmdit_out_row(shape));
    floats = largest(floats, forward->image_rows + forward->text_rows);
    forward->host = malloc((size_t)floats * sizeof(float));
    if (forward->host == NULL) {
        status = qzo_fail(QZO_ERR_MEMORY, "out of memory for %lld inputs", (long long)floats);
        goto cleanup;
    }
    slice(&forward->at, &arena, shape, backend->ops->activation_bytes, limits);
    QZO_TRY(backend->ops->allocate(backend, &forward->memory, arena.planned_bytes));
    arena.base = forward->memory;
    slice(&forward->at, &arena, shape, backend->ops->activation_bytes, limits);
    QZO_TRY(qzo_arena_finish(&arena));
    QZO_TRY(load_position_rows(forward));
    QZO_TRY(backend->ops->reserve(backend, qzo_mmdit_patches_of(shape, limits) + limits->text_rows,
                                  limits->pair_examples > 0));
    *out = forward;
    forward = NULL;
cleanup:
    qzo_mmdit_forward_close(forward);
    return status;
}

void qzo_mmdit_forward_close(qzo_mmdit_forward *forward) {
    if (forward == NULL) return;
    forward->model->backend->ops->release(forward->model->backend, forward->memory);
    free(forward->host);
    free(forward);
}

/* --- a batch --- */

/* out (count) activations = in_host; through at.input. */
static qzo_status take_in(qzo_mmdit_forward *forward, qzo_act *out, const float *in_host,
                          int64_t count) {
    qzo_backend *backend = forward->model->backend;
    qzo_status status =
        backend->ops->upload(backend, forward->at.input, in_host, (size_t)count * sizeof *in_host);
    return status == QZO_OK ? backend->ops->narrow(backend, out, forward->at.input, count) : status;
}

qzo_status qzo_mmdit_forward_set(qzo_mmdit_forward *forward, const qzo_mmdit_batch *batch) {
    qzo_status status = QZO_OK;
    const qzo_mmdit_shape *shape = &forward->model->mmdit->shape;
    const buffers *at = &forward->at;
    int64_t examples = batch->example_count;
    if (examples < 1 || examples > forward->limits.examples)
        return qzo_fail(QZO_ERR_LIMIT, "a batch of %lld examples, there is room for %lld",
                        (long long)examples, (long long)forward->limits.examples);
    qzo_mmdit_cut_patches(forward->host, shape, &forward->limits, batch->latents, examples);
    QZO_TRY(take_in(forward, at->patches, forward->host,
                    examples * qzo_mmdit_patches_of(shape, &forward->limits) *
                        qzo_mmdit_in_row(shape)));
    qzo_mmdit_fill_sinusoids(forward->host, batch->timesteps, examples);
    QZO_TRY(take_in(forward, at->sinusoids, forward->host, examples * QZO_MMDIT_TIME_WIDTH));
    QZO_TRY(take_in(forward, at->text, batch->text,
                    examples * forward->limits.text_rows * shape->text_width));
    QZO_TRY(take_in(forward, at->pooled, batch->pooled, examples * shape->pooled_width));
    forward->example_count = examples;
cleanup:
    return status;
}

/* --- a pass --- */

typedef struct pass {
    qzo_mmdit_forward *forward;
    qzo_backend *backend;
    const qzo_mmdit_shape *shape;
    qzo_sides values;
    int64_t examples, image_rows, text_rows; /* of the batch, of all sides */
} pass;

static qzo_act *rows_of(const pass *p, qzo_act *x, int64_t first, int64_t width) {
    return qzo_act_at(p->backend, x, first * width);
}

/* out (rows, out_features) = x W^T + bias */
static qzo_status linear(const pass *p, const qzo_linear *with, qzo_act *out, const qzo_act *x,
                         int64_t rows) {
    qzo_status status = qzo_sides_linear(&p->values, out, x, with->weight, rows);
    if (status != QZO_OK) return status;
    return qzo_sides_add_bias(&p->values, out, &with->bias, p->forward->at.scratch, rows,
                              with->tensor.out_features);
}

/* Norms heads in place. */
static qzo_status norm_heads(const pass *p, qzo_act *x, const qzo_vector *gain, int64_t rows) {
    const buffers *at = &p->forward->at;
    const qzo_norm norm = {.gain = *gain};
    float *const scratch[] = {at->scratch, NULL};
    if (gain->values == NULL) return QZO_OK;
    qzo_status status = p->backend->ops->widen(p->backend, at->widened, x, rows * p->shape->width);
    if (status != QZO_OK) return status;
    return qzo_sides_norm(&p->values, x, at->widened, &norm, scratch, rows * p->shape->head_count,
                          p->shape->head_dim, QZO_NORM_RMS, NORM_EPSILON);
}

/* time = SiLU of the condition, which is the sum of what timestep and pooled text give. */
static qzo_status run_condition(const pass *p) {
    qzo_status status = QZO_OK;
    qzo_backend *backend = p->backend;
    const buffers *at = &p->forward->at;
    const qzo_linear *ends = p->forward->model->mmdit->ends;
    int64_t rows = p->examples, count = rows * p->shape->width;
    QZO_TRY(linear(p, &ends[QZO_MMDIT_TIME_UP], at->time, at->sinusoids, rows));
    QZO_TRY(backend->ops->activate(backend, at->time, NULL, count, QZO_ACTIVATION_SILU));
    QZO_TRY(linear(p, &ends[QZO_MMDIT_TIME_DOWN], at->more, at->time, rows));
    QZO_TRY(backend->ops->widen(backend, at->condition, at->more, count));
    QZO_TRY(linear(p, &ends[QZO_MMDIT_POOLED_UP], at->time, at->pooled, rows));
    QZO_TRY(backend->ops->activate(backend, at->time, NULL, count, QZO_ACTIVATION_SILU));
    QZO_TRY(linear(p, &ends[QZO_MMDIT_POOLED_DOWN], at->more, at->time, rows));
    QZO_TRY(backend->ops->add(backend, at->condition, at->more, count));
    QZO_TRY(backend->ops->narrow(backend, at->time, at->condition, count));
    QZO_TRY(backend->ops->activate(backend, at->time, NULL, count, QZO_ACTIVATION_SILU));
cleanup:
    return status;
}

/* residual: patches with their positions, then texts, all of the model's width. */
static qzo_status embed(const pass *p) {
    qzo_status status = QZO_OK;
    qzo_backend *backend = p->backend;
    const buffers *at = &p->forward->at;
    const qzo_mmdit *mmdit = p->forward->model->mmdit;
    int64_t width = p->shape->width;
    QZO_TRY(linear(p, &mmdit->ends[QZO_MMDIT_PATCHES], at->x, at->patches, p->image_rows));
    QZO_TRY(linear(p, &mmdit->ends[QZO_MMDIT_CAPTION], rows_of(p, at->x, p->image_rows, width),
                   at->text, p->text_rows));
    QZO_TRY(
        backend->ops->widen(backend, at->residual, at->x, (p->image_rows + p->text_rows) * width));
    QZO_TRY(qzo_sides_embed(&p->values, at->residual, mmdit->positions, at->position_rows,
                            p->image_rows, 1.0f, true));
cleanup:
    return status;
}

/* One stream of rows within a block: of images or of texts. */
typedef struct stream {
    int64_t first, rows; /* of all rows */
    qzo_modulation modulation;
    const qzo_linear *q, *k, *v, *o, *up, *down; /* q NULL: keys and values alone */
    const qzo_vector *norm_q, *norm_k;
} stream;

static stream image_stream(const pass *p, const qzo_mmdit_block *block, bool own) {
    const qzo_linear *linears = block->linears;
    const qzo_vector *norms = block->norms;
    return (stream){.first = 0,
                    .rows = p->image_rows,
                    .modulation = {.values = p->forward->at.modulation,
                                   .stride = linears[QZO_MMDIT_MODULATION].tensor.out_features,
                                   .rows_per_example = p->image_rows / p->examples},
                    .q = &linears[own ? QZO_MMDIT_OWN_Q : QZO_MMDIT_Q],
                    .k = &linears[own ? QZO_MMDIT_OWN_K : QZO_MMDIT_K],
                    .v = &linears[own ? QZO_MMDIT_OWN_V : QZO_MMDIT_V],
                    .o = &linears[own ? QZO_MMDIT_OWN_O : QZO_MMDIT_O],
                    .up = &linears[QZO_MMDIT_UP],
                    .down = &linears[QZO_MMDIT_DOWN],
                    .norm_q = &norms[own ? QZO_MMDIT_NORM_OWN_Q : QZO_MMDIT_NORM_Q],
                    .norm_k = &norms[own ? QZO_MMDIT_NORM_OWN_K : QZO_MMDIT_NORM_K]};
}

static stream text_stream(const pass *p, const qzo_mmdit_block *block, bool is_last) {
    const qzo_linear *linears = block->linears;
    const qzo_vector *norms = block->norms;
    return (stream){.first = p->image_rows,
                    .rows = p->text_rows,
                    .modulation = {.values = p->forward->at.text_modulation,
                                   .stride = linears[QZO_MMDIT_TEXT_MODULATION].tensor.out_features,
                                   .rows_per_example = p->text_rows / p->examples},
                    .q = is_last ? NULL : &linears[QZO_MMDIT_TEXT_Q],
                    .k = &linears[QZO_MMDIT_TEXT_K],
                    .v = &linears[QZO_MMDIT_TEXT_V],
                    .o = &linears[QZO_MMDIT_TEXT_O],
                    .up = &linears[QZO_MMDIT_TEXT_UP],
                    .down = &linears[QZO_MMDIT_TEXT_DOWN],
                    .norm_q = &norms[QZO_MMDIT_NORM_TEXT_Q],
                    .norm_k = &norms[QZO_MMDIT_NORM_TEXT_K]};
}

static float *residual_of(const pass *p, const stream *s) {
    return p->forward->at.residual + s->first * p->shape->width;
}

/* x = norm(residual) (1 + scale) + shift; shift and scale by their places among the modulations. */
static qzo_status modulate(const pass *p, const stream *s, int shift, int scale) {
    int64_t width = p->shape->width;
    return p->backend->ops->modulate(p->backend, rows_of(p, p->forward->at.x, s->first, width),
                                     residual_of(p, s), &s->modulation, shift * width,
                                     scale * width, s->rows, width, NORM_EPSILON);
}

/* q, k and v of a stream's rows in x */
static qzo_status project(const pass *p, const stream *s) {
    qzo_status status = QZO_OK;
    const buffers *at = &p->forward->at;
    int64_t width = p->shape->width;
    const qzo_act *x = rows_of(p, at->x, s->first, width);
    if (s->q != NULL) {
        QZO_TRY(linear(p, s->q, rows_of(p, at->q, s->first, width), x, s->rows));
        QZO_TRY(norm_heads(p, rows_of(p, at->q, s->first, width), s->norm_q, s->rows));
    }
    QZO_TRY(linear(p, s->k, rows_of(p, at->k, s->first, width), x, s->rows));
    QZO_TRY(norm_heads(p, rows_of(p, at->k, s->first, width), s->norm_k, s->rows));
    QZO_TRY(linear(p, s->v, rows_of(p, at->v, s->first, width), x, s->rows));
cleanup:
    return status;
}

/* mixed (queries, width): of the first rows, over the images alone or the texts too. */
static qzo_status attend(const pass *p, int64_t queries, bool with_text) {
    const buffers *at = &p->forward->at;
    qzo_attention attention = {.prefix_begin = at->image_begin,
                               .prefix_end = at->image_end,
                               .own_begin = with_text ? at->text_begin : at->nothing,
                               .own_end = with_text ? at->text_end : at->nothing,
                               .context_max = (p->image_rows + p->text_rows) / p->examples,
                               .head_count = p->shape->head_count,
                               .kv_head_count = p->shape->head_count,
                               .head_dim = p->shape->head_dim,
                               .scale = 1.0f / sqrtf((float)p->shape->head_dim)};
    return p->backend->ops->attention(p->backend, at->mixed, at->q, at->k, at->v, &attention,
                                      queries);
}

/* residual += gate o(mixed) */
static qzo_status leave(const pass *p, const stream *s, int gate) {
    const buffers *at = &p->forward->at;
    int64_t width = p->shape->width;
    qzo_act *x = rows_of(p, at->x, s->first, width);
    qzo_status status = linear(p, s->o, x, rows_of(p, at->mixed, s->first, width), s->rows);
    if (status != QZO_OK) return status;
    return p->backend->ops->add_gated(p->backend, residual_of(p, s), x, &s->modulation,
                                      gate * width, s->rows, width);
}

/* residual += gate down(GELU(up(modulated))) */
static qzo_status feed_forward(const pass *p, const stream *s, int shift, int scale, int gate) {
    qzo_status status = QZO_OK;
    qzo_backend *backend = p->backend;
    const buffers *at = &p->forward->at;
    int64_t width = p->shape->width;
    qzo_act *x = rows_of(p, at->x, s->first, width);
    QZO_TRY(modulate(p, s, shift, scale));
    QZO_TRY(linear(p, s->up, at->ffn, x, s->rows));
    QZO_TRY(backend->ops->activate(backend, at->ffn, NULL, s->rows * FFN * width,
                                   QZO_ACTIVATION_GELU_TANH));
    QZO_TRY(linear(p, s->down, x, at->ffn, s->rows));
    QZO_TRY(backend->ops->add_gated(backend, residual_of(p, s), x, &s->modulation, gate * width,
                                    s->rows, width));
cleanup:
    return status;
}

/* Places among a block's modulations; of the last block's texts, and of the output's, whose layers
 * give the scale first. */
enum { SHIFT, SCALE, GATE, FFN_SHIFT, FFN_SCALE, FFN_GATE, OWN_SHIFT, OWN_SCALE, OWN_GATE };
enum { END_SCALE, END_SHIFT };

/* at.own = the second attention's output. It reads the residual stream as it is before the first
 * one, so it comes first and is added behind it. */
static qzo_status run_own_attention(const pass *p, const stream *own) {
    qzo_status status = QZO_OK;
    const buffers *at = &p->forward->at;
    QZO_TRY(modulate(p, own, OWN_SHIFT, OWN_SCALE));
    QZO_TRY(project(p, own));
    QZO_TRY(attend(p, own->rows, false));
    QZO_TRY(linear(p, own->o, at->own, at->mixed, own->rows));
cleanup:
    return status;
}

static qzo_status run_block(const pass *p, int64_t layer) {
    qzo_status status = QZO_OK;
    const buffers *at = &p->forward->at;
    const qzo_mmdit_block *block = &p->forward->model->mmdit->blocks[layer];
    bool is_last = layer == p->shape->layer_count - 1, is_dual = p->shape->is_dual[layer];
    stream image = image_stream(p, block, false), own = image_stream(p, block, true);
    stream text = text_stream(p, block, is_last);
    QZO_TRY(
        linear(p, &block->linears[QZO_MMDIT_MODULATION], at->modulation, at->time, p->examples));
    QZO_TRY(linear(p, &block->linears[QZO_MMDIT_TEXT_MODULATION], at->text_modulation, at->time,
                   p->examples));
    if (is_dual) QZO_TRY(run_own_attention(p, &own));
    QZO_TRY(modulate(p, &image, SHIFT, SCALE));
    QZO_TRY(modulate(p, &text, is_last ? END_SHIFT : SHIFT, is_last ? END_SCALE : SCALE));
    QZO_TRY(project(p, &image));
    QZO_TRY(project(p, &text));
    QZO_TRY(attend(p, is_last ? image.rows : image.rows + text.rows, true));
    QZO_TRY(leave(p, &image, GATE));
    if (is_dual)
        QZO_TRY(p->backend->ops->add_gated(p->backend, at->residual, at->own, &own.modulation,
                                           OWN_GATE * p->shape->width, own.rows, p->shape->width));
    QZO_TRY(feed_forward(p, &image, FFN_SHIFT, FFN_SCALE, FFN_GATE));
    if (is_last) goto cleanup;
    QZO_TRY(leave(p, &text, GATE));
    QZO_TRY(feed_forward(p, &text, FFN_SHIFT, FFN_SCALE, FFN_GATE));
cleanup:
    return status;
}

/* at.out (image_rows, out_row) in fp32 */
static qzo_status run_end(const pass *p) {
    qzo_status status = QZO_OK;
    const buffers *at = &p->forward->at;
    const qzo_linear *ends = p->forward->model->mmdit->ends;
    stream end = {.rows = p->image_rows,
                  .modulation = {.values = at->modulation,
                                 .stride = ends[QZO_MMDIT_OUT_MODULATION].tensor.out_features,
                                 .rows_per_example = p->image_rows / p->examples}};
    QZO_TRY(linear(p, &ends[QZO_MMDIT_OUT_MODULATION], at->modulation, at->time, p->examples));
    QZO_TRY(modulate(p, &end, END_SHIFT, END_SCALE));
    QZO_TRY(linear(p, &ends[QZO_MMDIT_OUT], at->mixed, at->x, p->image_rows));
    QZO_TRY(p->backend->ops->widen(p->backend, at->out, at->mixed,
                                   p->image_rows * qzo_mmdit_out_row(p->shape)));
cleanup:
    return status;
}

/* What the second side starts from: the batch again. */
static qzo_status repeat_batch(const pass *p) {
    qzo_status status = QZO_OK;
    const buffers *at = &p->forward->at;
    const qzo_mmdit_shape *shape = p->shape;
    const struct {
        qzo_act *x;
        int64_t count; /* of both */
    } inputs[] = {{at->patches, p->image_rows * qzo_mmdit_in_row(shape)},
                  {at->text, p->text_rows * shape->text_width},
                  {at->pooled, p->examples * shape->pooled_width},
                  {at->sinusoids, p->examples * QZO_MMDIT_TIME_WIDTH}};
    for (size_t i = 0; i < sizeof inputs / sizeof *inputs; i++)
        QZO_TRY(p->backend->ops->copy(
            p->backend, qzo_act_at(p->backend, inputs[i].x, inputs[i].count / 2), inputs[i].x,
            (size_t)(inputs[i].count / 2) * p->backend->ops->activation_bytes));
cleanup:
    return status;
}

static qzo_status run_sides(qzo_mmdit_forward *forward, const qzo_sides *values, float *out_host) {
    qzo_status status = QZO_OK;
    const qzo_mmdit_shape *shape = &forward->model->mmdit->shape;
    qzo_backend *backend = forward->model->backend;
    int64_t examples = values->count * forward->example_count;
    pass p = {.forward = forward,
              .backend = backend,
              .shape = shape,
              .values = *values,
              .examples = examples,
              .image_rows = examples * qzo_mmdit_patches_of(shape, &forward->limits),
              .text_rows = examples * forward->limits.text_rows};
    QZO_TRY(load_ranges(forward, examples));
    if (values->count == 2) QZO_TRY(repeat_batch(&p));
    QZO_TRY(run_condition(&p));
    QZO_TRY(embed(&p));
    for (int64_t layer = 0; layer < shape->layer_count; layer++) QZO_TRY(run_block(&p, layer));
    QZO_TRY(run_end(&p));
    QZO_TRY(backend->ops->download(backend, forward->host, forward->at.out,
                                   (size_t)(p.image_rows * qzo_mmdit_out_row(shape)) *
                                       sizeof *forward->host));
    qzo_mmdit_join_patches(out_host, shape, &forward->limits, forward->host, examples);
cleanup:
    return status;
}

qzo_status qzo_mmdit_forward_run(qzo_mmdit_forward *forward, const float *masters,
                                 const qzo_perturbation *perturbation, float *out_host) {
    const qzo_sides values = qzo_sides_one(forward->model->backend, masters, perturbation);
    return run_sides(forward, &values, out_host);
}

bool qzo_mmdit_forward_has_pair(const qzo_mmdit_forward *forward) {
    return forward->example_count <= forward->limits.pair_examples;
}

qzo_status qzo_mmdit_forward_run_pair(qzo_mmdit_forward *forward, const float *masters,
                                      const qzo_perturbation *perturbation, float *out_host) {
    const qzo_sides values = qzo_sides_both(forward->model->backend, masters, perturbation);
    QZO_ASSERT(qzo_mmdit_forward_has_pair(forward));
    return run_sides(forward, &values, out_host);
}
