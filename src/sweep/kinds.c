#include "sweep/kinds.h"

#include "base/digest.h"
#include "task/task_file.h"
#include "trial/eval_chunks.h"

#include <stdlib.h>
#include <string.h>

enum { KINDS_ROOM_FIRST = 16 };

static bool same_kind(const qzo_trial_spec *a, const qzo_trial_spec *b) {
    const qzo_training training_a = qzo_trial_spec_training(a);
    const qzo_training training_b = qzo_trial_spec_training(b);
    const qzo_adapter_settings adapters_a = qzo_trial_spec_adapters(a);
    const qzo_adapter_settings adapters_b = qzo_trial_spec_adapters(b);
    return qzo_training_equal(&training_a, &training_b) &&
           qzo_adapter_settings_equal(&adapters_a, &adapters_b) &&
           strcmp(a->update_rule, b->update_rule) == 0 &&
           qzo_trial_spec_by_metric(a) == qzo_trial_spec_by_metric(b) &&
           a->micro_batch == b->micro_batch && a->eval_batch == b->eval_batch &&
           a->eval_tokens == b->eval_tokens && strcmp(a->compat, b->compat) == 0 &&
           strcmp(a->model_path, b->model_path) == 0 && strcmp(a->task_path, b->task_path) == 0;
}

static uint64_t hash_text(uint64_t seed, const char *text) {
    return qzo_checksum(text, strlen(text) + 1, seed);
}

/* Equal for specs of the same kind; what many sweeps do not vary is left out. */
static uint64_t hash_kind(const qzo_trial_spec *spec) {
    const int64_t sizes[] = {spec->micro_batch, spec->eval_batch, spec->eval_tokens};
    const qzo_adapter_settings adapters = qzo_trial_spec_adapters(spec);
    uint64_t hash = qzo_checksum(sizes, sizeof sizes, (uint64_t)adapters.rank);
    hash = hash_text(hash, spec->model_path);
    hash = hash_text(hash, spec->task_path);
    hash = hash_text(hash, spec->update_rule);
    hash = hash_text(hash, spec->groups);
    for (int kind = 0; kind < QZO_GROUP_COUNT; kind++) {
        hash = hash_text(hash, spec->group[kind].include);
        hash = hash_text(hash, spec->group[kind].exclude);
    }
    return hash;
}

static qzo_kind *find(const qzo_kinds *kinds, const qzo_trial_spec *spec) {
    if (kinds->room == 0) return NULL;
    uint64_t hash = hash_kind(spec);
    int64_t at = kinds->heads[hash & (uint64_t)(kinds->room - 1)];
    for (; at >= 0; at = kinds->entries[at].next) {
        qzo_kind *kind = &kinds->entries[at];
        if (kind->hash == hash && same_kind(kind->spec, spec)) return kind;
    }
    return NULL;
}

static void link_kind(qzo_kinds *kinds, int64_t index) {
    qzo_kind *kind = &kinds->entries[index];
    int64_t *head = &kinds->heads[kind->hash & (uint64_t)(kinds->room - 1)];
    kind->next = *head;
    *head = index;
}

/* Room for one more. */
static qzo_status grow(qzo_kinds *kinds) {
    if (kinds->count < kinds->room) return QZO_OK;
    int64_t room = kinds->room > 0 ? 2 * kinds->room : KINDS_ROOM_FIRST;
    qzo_kind *entries = realloc(kinds->entries, (size_t)room * sizeof *entries);
    if (entries != NULL) kinds->entries = entries;
    int64_t *heads = realloc(kinds->heads, (size_t)room * sizeof *heads);
    if (heads != NULL) kinds->heads = heads;
    if (entries == NULL || heads == NULL)
        return qzo_fail(QZO_ERR_MEMORY, "out of memory for the kinds of trials");
    kinds->room = room;
    for (int64_t i = 0; i < room; i++) heads[i] = -1;
    for (int64_t i = 0; i < kinds->count; i++) link_kind(kinds, i);
    return QZO_OK;
}

const qzo_kind *qzo_kinds_find(const qzo_kinds *kinds, const qzo_trial_spec *spec) {
    return find(kinds, spec);
}

static qzo_status count_passes(int64_t *out, const qzo_split *split, const qzo_trial_spec *spec) {
    qzo_eval_chunks chunks = {0};
    qzo_status status = qzo_eval_chunks_make(&chunks, split, split, spec);
    *out = chunks.count;
    qzo_eval_chunks_release(&chunks);
    return status;
}

static qzo_status measure(qzo_kind *out, const qzo_kinds_settings *settings, qzo_pairs pairs) {
    qzo_status status = QZO_OK;
    qzo_task *task = NULL;
    QZO_TRY(qzo_memory_plan_measure(&out->memory, out->spec, settings->backend_name,
                                    settings->thread_count, pairs));
    QZO_TRY(qzo_task_open(&task, out->spec->task_path));
    QZO_TRY(count_passes(&out->dev_passes, &task->splits[QZO_SPLIT_DEV], out->spec));
    QZO_TRY(count_passes(&out->test_passes, &task->splits[QZO_SPLIT_TEST], out->spec));
cleanup:
    qzo_task_close(task);
    return status;
}

/* Running out of memory, or a machine that cannot compute, says nothing about the trial. */
static bool is_of_machine(qzo_status status) {
    return status == QZO_ERR_MEMORY || status == QZO_ERR_ENVIRONMENT;
}

static qzo_status add(qzo_kinds *kinds, const qzo_trial_spec *spec,
                      const qzo_kinds_settings *settings, qzo_pairs pairs) {
    qzo_status status = grow(kinds);
    if (status != QZO_OK) return status;
    qzo_kind *kind = &kinds->entries[kinds->count];
    *kind = (qzo_kind){.hash = hash_kind(spec), .spec = spec};
    link_kind(kinds, kinds->count++);
    kind->status = measure(kind, settings, pairs);
    if (kind->status == QZO_OK || is_of_machine(kind->status)) return kind->status;
    kind->message = strdup(qzo_error_message());
    return kind->message != NULL
               ? QZO_OK
               : qzo_fail(QZO_ERR_MEMORY, "out of memory for the kinds of trials");
}

static qzo_status measure_all(qzo_kinds *out, const qzo_grid *grid,
                              const qzo_kinds_settings *settings, qzo_pairs pairs) {
    qzo_status status = QZO_OK;
    for (int64_t i = 0; i < grid->trial_count; i++) {
        const qzo_trial_spec *spec = &grid->trials[i].spec;
        qzo_kind *kind = find(out, spec);
        if (kind == NULL) {
            QZO_TRY(add(out, spec, settings, pairs));
            kind = &out->entries[out->count - 1];
            kind->first_trial = i;
        }
        kind->trial_count++;
    }
cleanup:
    return status;
}

static bool has_pairs(const qzo_kinds *kinds) {
    for (int64_t i = 0; i < kinds->count; i++)
        if (kinds->entries[i].memory.pair_rows > 0) return true;
    return false;
}

qzo_status qzo_kinds_measure(qzo_kinds *out, qzo_pairs *pairs, const qzo_grid *grid,
                             const qzo_kinds_settings *settings) {
    *pairs = settings->pairs;
    qzo_status status = measure_all(out, grid, settings, *pairs);
    const qzo_kind *largest = qzo_kinds_largest(out);
    if (status != QZO_OK || largest == NULL || settings->limit_bytes == 0 ||
        largest->memory.rank_bytes <= settings->limit_bytes || !has_pairs(out))
        return status;
    qzo_kinds_release(out);
    *pairs = QZO_PAIRS_NEVER;
    return measure_all(out, grid, settings, *pairs);
}

void qzo_kinds_release(qzo_kinds *kinds) {
    for (int64_t i = 0; i < kinds->count; i++) free(kinds->entries[i].message);
    free(kinds->entries);
    free(kinds->heads);
    *kinds = (qzo_kinds){0};
}

const qzo_kind *qzo_kinds_largest(const qzo_kinds *kinds) {
    const qzo_kind *largest = NULL;
    for (int64_t i = 0; i < kinds->count; i++) {
        const qzo_kind *kind = &kinds->entries[i];
        if (kind->status != QZO_OK) continue;
        if (largest == NULL || kind->memory.rank_bytes > largest->memory.rank_bytes) largest = kind;
    }
    return largest;
}

qzo_status qzo_kinds_check_limit(const qzo_kinds *kinds, int64_t limit_bytes,
                                 const char *limit_name) {
    const qzo_kind *largest = qzo_kinds_largest(kinds);
    if (limit_bytes == 0 || largest == NULL || largest->memory.rank_bytes <= limit_bytes)
        return QZO_OK;
    return qzo_fail(QZO_ERR_MEMORY,
                    "trial %lld (%s) takes %lld bytes on a rank, %s is %lld bytes; `qzo plan` "
                    "lists them, smaller micro_batch and eval_batch (or eval_tokens) take less",
                    (long long)largest->first_trial + 1, largest->spec->model_path,
                    (long long)largest->memory.rank_bytes, limit_name, (long long)limit_bytes);
}

/* --- what stays loaded --- */

/* What one model takes with the largest of its trials, the libraries aside. */
typedef struct model_need {
    const qzo_trial_spec *spec;
    int64_t own_bytes, rank_bytes;
} model_need;

static model_need *find_need(model_need *needs, int64_t count, const qzo_trial_spec *spec) {
    const qzo_training training = qzo_trial_spec_training(spec);
    for (int64_t i = 0; i < count; i++) {
        const qzo_training other = qzo_trial_spec_training(needs[i].spec);
        if (strcmp(needs[i].spec->model_path, spec->model_path) == 0 &&
            qzo_training_equal(&training, &other))
            return &needs[i];
    }
    return NULL;
}

static int64_t larger(int64_t a, int64_t b) { return a > b ? a : b; }

static int descending(const void *a, const void *b) {
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x < y) - (x > y);
}

qzo_status qzo_kinds_residency(qzo_residency *out, const qzo_kinds *kinds, int64_t limit_bytes) {
    qzo_status status = QZO_OK;
    size_t room = (size_t)kinds->count + 1;
    int64_t count = 0, library_bytes = 0;
    model_need *needs = calloc(room, sizeof *needs);
    int64_t *own = calloc(room, sizeof *own), *all = calloc(room, sizeof *all);
    *out = (qzo_residency){.kept_count = 1};
    if (needs == NULL || own == NULL || all == NULL) {
        status = qzo_fail(QZO_ERR_MEMORY, "out of memory for %lld kinds", (long long)kinds->count);
        goto cleanup;
    }
    for (int64_t i = 0; i < kinds->count; i++) {
        const qzo_kind *kind = &kinds->entries[i];
        if (kind->status != QZO_OK) continue;
        model_need *need = find_need(needs, count, kind->spec);
        if (need == NULL) need = &needs[count++];
        need->spec = kind->spec;
        library_bytes = kind->memory.library_bytes;
        need->own_bytes = larger(need->own_bytes, kind->memory.own_bytes);
        need->rank_bytes = larger(need->rank_bytes, kind->memory.rank_bytes - library_bytes);
    }
    for (int64_t i = 0; i < count; i++) {
        own[i] = needs[i].own_bytes;
        all[i] = needs[i].rank_bytes;
    }
    qsort(own, (size_t)count, sizeof *own, descending);
    qsort(all, (size_t)count, sizeof *all, descending);
    *out = (qzo_residency){count, 1, own[0], library_bytes + all[0]};
    for (; out->kept_count < count && out->rank_bytes + all[out->kept_count] <= limit_bytes;
         out->kept_count++) {
        out->rank_bytes += all[out->kept_count];
        out->own_bytes += own[out->kept_count];
    }
cleanup:
    free(needs);
    free(own);
    free(all);
    return status;
}
