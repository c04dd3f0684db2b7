#include "sweep/listing.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static qzo_status fail_memory(const char *name) {
    return qzo_fail(QZO_ERR_MEMORY, "%s: out of memory", name);
}

static qzo_status read_digest(qzo_digest *out, const char *text, const char *name) {
    size_t length = strspn(text, "0123456789abcdef");
    if (length != QZO_DIGEST_TEXT_BYTES - 1 || text[length] != '\0')
        return qzo_fail(QZO_ERR_FORMAT,
                        "%s: expected an id of 32 hexadecimal digits, found '%.40s'", name, text);
    for (size_t i = 0; i < sizeof out->bytes; i++) {
        unsigned byte;
        sscanf(text + 2 * i, "%2x", &byte);
        out->bytes[i] = (uint8_t)byte;
    }
    return QZO_OK;
}

/* A copy of a string field. */
static qzo_status read_text(char **out, const json_t *object, const char *key, const char *name) {
    const char *text = NULL;
    qzo_status status = qzo_json_string(&text, object, key, name);
    if (status != QZO_OK) return status;
    *out = strdup(text);
    return *out != NULL ? QZO_OK : fail_memory(name);
}

/* Copies of a list of strings; wanted < 0: any number of them. */
static qzo_status read_texts(char ***out, int64_t *count, const json_t *object, const char *key,
                             int64_t wanted, const char *name) {
    const json_t *list = json_object_get(object, key);
    size_t size = json_array_size(list);
    if (!json_is_array(list) || (wanted >= 0 && size != (size_t)wanted))
        return qzo_fail(QZO_ERR_FORMAT, "%s: \"%s\" must be a list with a text per swept key", name,
                        key);
    *out = calloc(size + 1, sizeof **out);
    if (*out == NULL) return fail_memory(name);
    *count = (int64_t)size;
    for (size_t i = 0; i < size; i++) {
        const char *text = json_string_value(json_array_get(list, i));
        if (text == NULL)
            return qzo_fail(QZO_ERR_FORMAT, "%s: \"%s\" must hold texts only", name, key);
        (*out)[i] = strdup(text);
        if ((*out)[i] == NULL) return fail_memory(name);
    }
    return QZO_OK;
}

static qzo_status read_trial(qzo_listed_trial *out, const json_t *object, int64_t swept_count,
                             const char *name) {
    qzo_status status = QZO_OK;
    const char *id = NULL;
    int64_t count = 0;
    QZO_TRY(qzo_json_string(&id, object, "id", name));
    QZO_TRY(read_digest(&out->id, id, name));
    QZO_TRY(read_text(&out->model_path, object, "model", name));
    QZO_TRY(read_text(&out->task_path, object, "task", name));
    QZO_TRY(read_texts(&out->values, &count, object, "values", swept_count, name));
    out->parent = QZO_NO_TRIAL;
cleanup:
    return status;
}

qzo_status qzo_listing_parse(qzo_listing **out, const char *text, size_t text_bytes,
                             const char *name) {
    qzo_status status = QZO_OK;
    json_t *root = NULL;
    qzo_listing *listing = calloc(1, sizeof *listing);
    *out = NULL;
    if (listing == NULL) return fail_memory(name);
    QZO_TRY(qzo_json_parse(&root, text, text_bytes, name));
    QZO_TRY(read_text(&listing->name, root, "name", name));
    QZO_TRY(read_texts(&listing->swept_keys, &listing->swept_count, root, "swept", -1, name));
    QZO_TRY(
        qzo_scheduling_from_json(&listing->scheduling, json_object_get(root, "scheduler"), name));
    const json_t *trials = json_object_get(root, "trials");
    size_t count = json_array_size(trials);
    if (!json_is_array(trials) || count > QZO_GRID_TRIALS_MAX) {
        status = qzo_fail(QZO_ERR_FORMAT, "%s: \"trials\" must be a list of at most %d", name,
                          QZO_GRID_TRIALS_MAX);
        goto cleanup;
    }
    listing->trials = calloc(count + 1, sizeof *listing->trials);
    if (listing->trials == NULL) {
        status = fail_memory(name);
        goto cleanup;
    }
    for (size_t i = 0; i < count; i++) {
        listing->trial_count++; /* counted first: what was read of it is freed on failure */
        QZO_TRY(
            read_trial(&listing->trials[i], json_array_get(trials, i), listing->swept_count, name));
    }
    *out = listing;
    listing = NULL;
cleanup:
    json_decref(root);
    qzo_listing_free(listing);
    return status;
}

bool qzo_listing_equal(const qzo_listing *a, const qzo_listing *b) {
    if (a->swept_count != b->swept_count || a->trial_count != b->trial_count) return false;
    for (int64_t k = 0; k < a->swept_count; k++)
        if (strcmp(a->swept_keys[k], b->swept_keys[k]) != 0) return false;
    for (int64_t i = 0; i < a->trial_count; i++) {
        if (!qzo_digest_equal(&a->trials[i].id, &b->trials[i].id)) return false;
        for (int64_t k = 0; k < a->swept_count; k++)
            if (strcmp(a->trials[i].values[k], b->trials[i].values[k]) != 0) return false;
    }
    return true;
}

static void free_texts(char **texts, int64_t count) {
    for (int64_t i = 0; texts != NULL && i < count; i++) free(texts[i]);
    free(texts);
}

static void release_trial(qzo_listed_trial *trial, int64_t swept_count) {
    free(trial->model_path);
    free(trial->task_path);
    free_texts(trial->values, swept_count);
}

void qzo_listing_free(qzo_listing *listing) {
    if (listing == NULL) return;
    for (int64_t i = 0; i < listing->trial_count; i++)
        release_trial(&listing->trials[i], listing->swept_count);
    free(listing->trials);
    free_texts(listing->swept_keys, listing->swept_count);
    qzo_scheduling_release(&listing->scheduling);
    free(listing->name);
    free(listing);
}

static char **copy_texts(char *const *texts, int64_t count) {
    char **copies = calloc((size_t)count + 1, sizeof *copies);
    bool is_whole = copies != NULL;
    for (int64_t i = 0; is_whole && i < count; i++)
        is_whole = (copies[i] = strdup(texts[i])) != NULL;
    if (is_whole) return copies;
    free_texts(copies, count);
    return NULL;
}

qzo_status qzo_listing_add_fork(qzo_listing *listing, int64_t parent, int64_t rung,
                                const qzo_digest *id, char *const *values) {
    size_t count = (size_t)listing->trial_count + 1;
    qzo_listed_trial *grown = realloc(listing->trials, count * sizeof *grown);
    if (grown == NULL) return fail_memory(listing->name);
    listing->trials = grown;
    qzo_listed_trial fork = {.id = *id,
                             .model_path = strdup(grown[parent].model_path),
                             .task_path = strdup(grown[parent].task_path),
                             .values = copy_texts(values, listing->swept_count),
                             .parent = parent,
                             .rung = rung};
    if (fork.model_path == NULL || fork.task_path == NULL || fork.values == NULL) {
        release_trial(&fork, listing->swept_count);
        return fail_memory(listing->name);
    }
    grown[listing->trial_count++] = fork;
    listing->fork_count++;
    return QZO_OK;
}

qzo_status qzo_listing_read_fork(qzo_listing *listing, int64_t parent, int64_t rung,
                                 const char *text, size_t text_bytes, const char *name) {
    qzo_status status = QZO_OK;
    json_t *root = NULL;
    const char *id_text = NULL;
    char **values = NULL;
    int64_t count = 0;
    qzo_digest id;
    QZO_TRY(qzo_json_parse(&root, text, text_bytes, name));
    QZO_TRY(qzo_json_string(&id_text, root, "id", name));
    QZO_TRY(read_digest(&id, id_text, name));
    QZO_TRY(read_texts(&values, &count, root, "values", listing->swept_count, name));
    QZO_TRY(qzo_listing_add_fork(listing, parent, rung, &id, values));
cleanup:
    json_decref(root);
    free_texts(values, count);
    return status;
}
