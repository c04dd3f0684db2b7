#include "model/generate.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

struct qzo_generator {
    qzo_forward *forward;
    const qzo_model *model;
    qzo_generator_limits limits;
    int64_t context; /* tokens of one sequence that can be fed */
    qzo_pack pack;
    qzo_kv_cache cache;
    /* Host memory. */
    float *logits;             /* (sequences, vocab) */
    qzo_candidate *candidates; /* (vocab) */
    int32_t *places;           /* (rows or sequences, what is more) */
    int32_t *gather_places;    /* (sequences) */
    int32_t *own_begin;        /* (cache places) */
    qzo_sequence **going;      /* (sequences): those that have not ended, in their order */
    int32_t *begin;            /* (sequences): the first place of each of them */
};

static int64_t larger(int64_t a, int64_t b) { return a > b ? a : b; }

qzo_status qzo_generator_open(qzo_generator **out, qzo_forward *forward, const qzo_model *model,
                              const qzo_generator_limits *limits) {
    qzo_status status = QZO_OK;
    const int64_t rows = larger(limits->rows, limits->sequences), vocab = model->shape.vocab;
    const int64_t places = limits->rows + limits->sequences * (limits->new_max - 1);
    const qzo_pack_limits packed = {.rows = rows, .gathers = limits->sequences};
    const qzo_kv_limits kept = {.places = places, .rows = rows};
    size_t sequences = (size_t)limits->sequences;
    qzo_generator *g = calloc(1, sizeof *g);
    if (g == NULL) return qzo_fail(QZO_ERR_MEMORY, "out of memory for a generator");
    g->forward = forward;
    g->model = model;
    g->limits = *limits;
    g->context = qzo_forward_limits(forward)->context;
    QZO_TRY(qzo_kv_cache_open(&g->cache, model, &kept));
    QZO_TRY(qzo_pack_create(&g->pack, &packed));
    g->logits = calloc(sequences * (size_t)vocab, sizeof *g->logits);
    g->candidates = calloc((size_t)vocab, sizeof *g->candidates);
    g->places = calloc((size_t)rows, sizeof *g->places);
    g->gather_places = calloc(sequences, sizeof *g->gather_places);
    g->own_begin = calloc((size_t)places, sizeof *g->own_begin);
    g->going = calloc(sequences, sizeof *g->going);
    g->begin = calloc(sequences, sizeof *g->begin);
    if (g->logits == NULL || g->candidates == NULL || g->places == NULL ||
        g->gather_places == NULL || g->own_begin == NULL || g->going == NULL || g->begin == NULL) {
        status = qzo_fail(QZO_ERR_MEMORY, "out of memory for %zu sequences of logits", sequences);
        goto cleanup;
    }
    *out = g;
    g = NULL;
cleanup:
    qzo_generator_close(g);
    return status;
}

void qzo_generator_close(qzo_generator *g) {
    if (g == NULL) return;
    qzo_kv_cache_close(&g->cache);
    qzo_pack_release(&g->pack);
    free(g->logits);
    free(g->candidates);
    free(g->places);
    free(g->gather_places);
    free(g->own_begin);
    free(g->going);
    free(g->begin);
    free(g);
}

/* --- where a text ends --- */

int64_t qzo_model_end_ids(int32_t out[QZO_END_IDS_MAX], const qzo_model *model) {
    const json_t *ends = json_object_get(qzo_model_dir_config(model->dir), "eos_token_id");
    size_t listed = json_is_array(ends) ? json_array_size(ends) : 1;
    int64_t count = 0;
    for (size_t i = 0; i < listed && count < QZO_END_IDS_MAX; i++) {
        const json_t *end = json_is_array(ends) ? json_array_get(ends, i) : ends;
        json_int_t id = json_is_integer(end) ? json_integer_value(end) : -1;
        if (id >= 0 && id < model->shape.vocab) out[count++] = (int32_t)id;
    }
    return count;
}

/* A byte of the new text: byte `at` of the piece of token `token`. */
typedef struct text_place {
    const qzo_ends *ends;
    const qzo_sequence *sequence;
    int64_t token, at;
    const uint8_t *bytes; /* of the piece */
} text_place;

/* To the byte before; false at the beginning of the text. */
static bool step_back(text_place *place) {
    while (place->at == 0) {
        if (place->token-- == 0) return false;
        place->at = (int64_t)place->ends->piece(place->ends->context, &place->bytes,
                                                place->sequence->ids[place->token]);
    }
    place->at--;
    return true;
}

/* Whether `text` ends right before `place`. */
static bool ends_before(text_place place, const char *text) {
    for (size_t left = strlen(text); left > 0; left--)
        if (!step_back(&place) || place.bytes[place.at] != (uint8_t)text[left - 1]) return false;
    return true;
}

/* The bytes from an ending text on, if one ends within the last token; the longest such rest. */
static int64_t bytes_to_cut(const qzo_sequence *sequence, const qzo_ends *ends) {
    int64_t cut = 0;
    if (ends->text_count == 0) return 0;
    text_place place = {.ends = ends, .sequence = sequence, .token = sequence->count - 1};
    const int64_t piece_bytes =
        (int64_t)ends->piece(ends->context, &place.bytes, sequence->ids[place.token]);
    for (place.at = 1; place.at <= piece_bytes; place.at++)
        for (int64_t i = 0; i < ends->text_count; i++)
            if (ends_before(place, ends->texts[i]))
                cut = larger(cut, piece_bytes - place.at + (int64_t)strlen(ends->texts[i]));
    return cut;
}

static void append(qzo_sequence *sequence, int32_t id, const qzo_ends *ends) {
    const uint8_t *bytes = NULL;
    sequence->ids[sequence->count++] = id;
    for (int64_t i = 0; i < ends->id_count; i++)
        if (ends->ids[i] == id) sequence->ended = true;
    if (sequence->ended && ends->piece != NULL)
        sequence->cut_bytes = (int64_t)ends->piece(ends->context, &bytes, id);
    if (sequence->ended) return;
    sequence->cut_bytes = bytes_to_cut(sequence, ends);
    sequence->ended = sequence->cut_bytes > 0;
}

/* --- one wave --- */

typedef struct wave {
    qzo_generator *generator;
    const qzo_generation *settings;
    const float *masters;
    const qzo_perturbation *perturbation;
    int64_t count; /* sequences that go on */
} wave;

static void add_row(qzo_generator *g, int32_t id, int64_t position, int32_t begin) {
    int64_t row = g->pack.row_count++;
    g->pack.ids[row] = id;
    g->pack.positions[row] = (int32_t)position;
    g->places[row] = begin + (int32_t)position;
}

/* Asks for the logits of the row that was added last. */
static void gather_last_row(qzo_generator *g) {
    int64_t gather = g->pack.gather_count++, row = g->pack.row_count - 1;
    g->pack.gather_rows[gather] = (int32_t)row;
    g->pack.gather_positions[gather] = g->pack.positions[row];
    g->gather_places[gather] = g->places[row];
}

static bool has_nan(const float *logits, int64_t vocab) {
    bool found = false;
    for (int64_t i = 0; i < vocab; i++) found |= isnan(logits[i]);
    return found;
}

/* The next token of every sequence after the rows of the pack; those that ended leave. */
static qzo_status run_pack(wave *w) {
    qzo_generator *g = w->generator;
    const qzo_kv_places places = {g->places, g->gather_places};
    int64_t vocab = g->model->shape.vocab, going = 0;
    qzo_status status = qzo_forward_continue(g->forward, &g->pack, &g->cache, &places, w->masters,
                                             w->perturbation, g->logits);
    if (status != QZO_OK) return status;
    for (int64_t i = 0; i < w->count; i++) {
        qzo_sequence *sequence = g->going[i];
        int64_t position = sequence->prompt_count + sequence->count;
        const float *logits = g->logits + i * vocab;
        sequence->has_nan |= has_nan(logits, vocab);
        int32_t id = qzo_sample(logits, vocab, &w->settings->sampling, sequence->number,
                                (uint32_t)position, g->candidates);
        append(sequence, id, &w->settings->ends);
        if (sequence->ended || sequence->count == w->settings->new_max) continue;
        g->begin[going] = g->begin[i];
        g->going[going++] = sequence;
    }
    w->count = going;
    return QZO_OK;
}

/* Takes sequences into the wave while there is room; *taken says how many. */
static qzo_status feed_prompts(wave *w, qzo_sequence *sequences, int64_t count, int64_t *taken) {
    qzo_status status = QZO_OK;
    qzo_generator *g = w->generator;
    int64_t place = 0;
    qzo_pack_clear(&g->pack);
    for (w->count = 0; w->count < count && w->count < g->limits.sequences; w->count++) {
        qzo_sequence *sequence = &sequences[w->count];
        int64_t begin = place, fed = sequence->prompt_count + w->settings->new_max - 1;
        if (g->pack.row_count + sequence->prompt_count > g->limits.rows) break;
        if (fed > g->context)
            return qzo_fail(QZO_ERR_LIMIT,
                            "%lld ids and %lld new ones need %lld positions, there are %lld",
                            (long long)sequence->prompt_count, (long long)w->settings->new_max,
                            (long long)fed, (long long)g->context);
        for (int64_t p = 0; p < sequence->prompt_count; p++)
            add_row(g, sequence->prompt[p], p, (int32_t)begin);
        gather_last_row(g);
        for (; place < begin + fed; place++) g->own_begin[place] = (int32_t)begin;
        g->going[w->count] = sequence;
        g->begin[w->count] = (int32_t)begin;
        sequence->count = sequence->cut_bytes = 0;
        sequence->ended = sequence->has_nan = false;
    }
    *taken = w->count;
    if (w->count == 0)
        return qzo_fail(QZO_ERR_LIMIT, "a prompt of %lld tokens, room for %lld",
                        (long long)sequences->prompt_count, (long long)g->limits.rows);
    QZO_TRY(qzo_kv_cache_begin(&g->cache, g->own_begin, place));
    QZO_TRY(run_pack(w));
cleanup:
    return status;
}

static qzo_status feed_last_tokens(wave *w) {
    qzo_generator *g = w->generator;
    qzo_pack_clear(&g->pack);
    for (int64_t i = 0; i < w->count; i++) {
        const qzo_sequence *sequence = g->going[i];
        int64_t position = sequence->prompt_count + sequence->count - 1;
        add_row(g, sequence->ids[sequence->count - 1], position, g->begin[i]);
        gather_last_row(g);
    }
    return run_pack(w);
}

qzo_status qzo_generate(qzo_generator *generator, qzo_sequence *sequences, int64_t count,
                        const qzo_generation *settings, const float *masters,
                        const qzo_perturbation *perturbation) {
    qzo_status status = QZO_OK;
    wave w = {generator, settings, masters, perturbation, 0};
    for (int64_t done = 0, taken = 0; done < count; done += taken) {
        QZO_TRY(feed_prompts(&w, sequences + done, count - done, &taken));
        while (w.count > 0) QZO_TRY(feed_last_tokens(&w));
    }
cleanup:
    return status;
}
