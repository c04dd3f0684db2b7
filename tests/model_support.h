/* A model on the CPU backend for tests: folder to masters and forward passes. */
#ifndef QZO_TESTS_MODEL_SUPPORT_H
#define QZO_TESTS_MODEL_SUPPORT_H

#include "test_support.h"

#include "base/cpu.h"
#include "model/forward.h"
#include "weights/safetensors.h"

#include <stdlib.h>
#include <string.h>

typedef struct test_model {
    qzo_backend *backend;
    qzo_model *model;
    float *masters; /* the CPU's memory is the host's */
} test_model;

typedef struct test_row {
    const int32_t *tokens;
    int64_t length;
    int32_t answer_tokens;
} test_row;

static const qzo_perturbation test_no_perturbation = {.directions = QZO_DIRECTIONS_GAUSSIAN};

static inline void test_model_open_for(test_model *out, const char *path, int thread_count,
                                       const qzo_training *training) {
    qzo_backend_options options = {.thread_count = thread_count};
    qzo_model_dir *dir = NULL;
    void *memory = NULL;
    assert_ok(qzo_backend_open(&out->backend, "cpu", &options));
    assert_ok(qzo_model_dir_open(&dir, path));
    assert_ok(qzo_model_load_for(&out->model, dir, out->backend, training));
    size_t size_bytes = (size_t)out->model->master_count * sizeof(float);
    assert_ok(out->backend->ops->allocate(out->backend, &memory, size_bytes));
    out->masters = memory;
    assert_ok(qzo_model_initial_values(out->model, out->masters));
}

static inline void test_model_open(test_model *out, const char *path, int thread_count) {
    test_model_open_for(out, path, thread_count, &qzo_training_default);
}

static inline void test_model_close(test_model *model) {
    model->backend->ops->release(model->backend, model->masters);
    qzo_model_free(model->model);
    qzo_backend_close(model->backend);
}

/* Adds one question whose options are `rows`. */
static inline void test_pack_add(qzo_pack *pack, const test_row *rows, int64_t count) {
    const int32_t *tokens[16];
    int64_t lengths[16];
    int32_t answers[16];
    assert_in_range(count, 1, 16);
    for (int64_t i = 0; i < count; i++) {
        tokens[i] = rows[i].tokens;
        lengths[i] = rows[i].length;
        answers[i] = rows[i].answer_tokens;
    }
    assert_ok(qzo_pack_add(pack, count, tokens, lengths, answers));
}

/* The log-probabilities of a finished pack; the caller frees. */
static inline double *test_log_probs(const test_model *model, const qzo_pack *pack,
                                     const qzo_perturbation *perturbation) {
    qzo_forward *forward = NULL;
    double *out = calloc((size_t)pack->target_count + 1, sizeof *out);
    assert_ok(qzo_forward_open(&forward, model->model, &pack->limits));
    assert_ok(qzo_forward_log_probs(forward, pack, model->masters, perturbation, out));
    qzo_forward_close(forward);
    return out;
}

/* Logits (count, vocab) after each of `count` tokens; the caller frees. */
static inline float *test_logits(const test_model *model, const int32_t *tokens, int64_t count,
                                 const qzo_perturbation *perturbation) {
    qzo_forward *forward = NULL;
    qzo_pack pack;
    const qzo_pack_limits limits = {
        .rows = count, .gathers = count, .targets = count, .options = 1, .context = count};
    int32_t *fed = calloc((size_t)count + 1, sizeof *fed); /* the last one is never fed */
    float *out = calloc((size_t)(count * model->model->shape.vocab), sizeof *out);
    memcpy(fed, tokens, (size_t)count * sizeof *fed);
    assert_ok(qzo_pack_create(&pack, &limits));
    test_pack_add(&pack, &(test_row){fed, count + 1, (int32_t)count}, 1);
    qzo_pack_finish(&pack);
    assert_ok(qzo_forward_open(&forward, model->model, &limits));
    assert_ok(qzo_forward_logits(forward, &pack, model->masters, perturbation, out));
    qzo_forward_close(forward);
    qzo_pack_release(&pack);
    free(fed);
    return out;
}

/* The same over a cache: the first half of the tokens in one pass, then one after the other. */
static inline float *test_logits_cached(const test_model *model, const int32_t *tokens,
                                        int32_t count, const qzo_perturbation *perturbation) {
    qzo_forward *forward = NULL;
    qzo_kv_cache cache;
    const qzo_pack_limits packed = {.rows = count, .gathers = count, .context = count};
    const qzo_kv_limits kept = {.places = count, .rows = count};
    int32_t *begin = calloc((size_t)count, sizeof *begin);
    int32_t *places = calloc((size_t)count, sizeof *places);
    int32_t *ids = calloc((size_t)count, sizeof *ids);
    float *out = calloc((size_t)(count * model->model->shape.vocab), sizeof *out);
    for (int32_t t = 0; t < count; t++) places[t] = t;
    memcpy(ids, tokens, (size_t)count * sizeof *ids);
    assert_ok(qzo_forward_open(&forward, model->model, &packed));
    assert_ok(qzo_kv_cache_open(&cache, model->model, &kept));
    assert_ok(qzo_kv_cache_begin(&cache, begin, count));
    for (int32_t t = 0, rows = count / 2; t < count; t += rows, rows = 1) {
        const qzo_pack pack = {.row_count = rows,
                               .gather_count = rows,
                               .ids = ids + t,
                               .positions = places + t,
                               .gather_rows = places, /* 0, 1 ... of the pass */
                               .gather_positions = places + t};
        const qzo_kv_places at = {places + t, places + t};
        assert_ok(qzo_forward_continue(forward, &pack, &cache, &at, model->masters, perturbation,
                                       out + t * model->model->shape.vocab));
    }
    qzo_kv_cache_close(&cache);
    qzo_forward_close(forward);
    free(begin), free(places), free(ids);
    return out;
}

#endif
