/* qzo plan SWEEP.yaml: what a sweep will do and take, without doing it. */
#include "cli/cli.h"

#include "sweep/contents.h"
#include "sweep/grid.h"
#include "sweep/sweep_spec.h"
#include "task/task_file.h"
#include "trial/workbench.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

/* What decides a trial's memory; trials that agree in it are measured once. */
typedef struct measured {
    const qzo_trial_spec *spec;
    qzo_memory_plan memory;
    int64_t dev_count, test_count; /* examples */
    int64_t trial_count;
    qzo_status status;
    char *message; /* why its trials cannot run; NULL where they can */
} measured;

typedef struct plan {
    qzo_sweep_spec *sweep;
    qzo_grid *grid;
    qzo_contents contents;
    measured *kinds;
    int64_t kind_count;
    int64_t step_count; /* of all trials that can run */
    double pass_count;  /* the same; more than any integer holds, if the file asks for it */
    int64_t runnable_count;
    int64_t rank_count, ranks_per_trial, group_count;
} plan;

static qzo_status fail_memory(const plan *p) {
    return qzo_fail(QZO_ERR_MEMORY, "%s: out of memory for a plan", p->sweep->file_path);
}

/* --- measuring --- */

static bool same_kind(const qzo_trial_spec *a, const qzo_trial_spec *b) {
    return a->micro_batch == b->micro_batch && a->eval_batch == b->eval_batch &&
           strcmp(a->model_path, b->model_path) == 0 && strcmp(a->task_path, b->task_path) == 0;
}

static qzo_status measure(measured *out) {
    qzo_status status = QZO_OK;
    qzo_task *task = NULL;
    QZO_TRY(qzo_workbench_measure(&out->memory, out->spec));
    QZO_TRY(qzo_task_open(&task, out->spec->task_path));
    out->dev_count = task->splits[QZO_SPLIT_DEV].example_count;
    out->test_count = task->splits[QZO_SPLIT_TEST].example_count;
cleanup:
    qzo_task_close(task);
    return status;
}

static qzo_status kind_of(measured **out, plan *p, const qzo_trial_spec *spec) {
    for (int64_t i = 0; i < p->kind_count; i++)
        if (same_kind(p->kinds[i].spec, spec)) {
            *out = &p->kinds[i];
            return QZO_OK;
        }
    measured *grown = realloc(p->kinds, ((size_t)p->kind_count + 1) * sizeof *grown);
    if (grown == NULL) return fail_memory(p);
    p->kinds = grown;
    *out = &grown[p->kind_count++];
    **out = (measured){.spec = spec};
    (*out)->status = measure(*out);
    if ((*out)->status == QZO_OK) return QZO_OK;
    if ((*out)->status == QZO_ERR_MEMORY) return (*out)->status;
    (*out)->message = strdup(qzo_error_message());
    return (*out)->message != NULL ? QZO_OK : fail_memory(p);
}

static int64_t divide_up(int64_t a, int64_t b) { return (a + b - 1) / b; }

/* Forward passes of one trial: two per perturbation and micro-batch, one per chunk of an
 * evaluation; dev is evaluated before the first step too. */
static double passes_of(const qzo_trial_spec *spec, const measured *kind) {
    double steps = 2.0 * (double)spec->steps * (double)spec->samples_per_step *
                   (double)divide_up(spec->batch, spec->micro_batch);
    double evaluations = 1.0 + (double)divide_up(spec->steps, spec->evaluate_every);
    return steps + evaluations * (double)divide_up(kind->dev_count, spec->eval_batch) +
           (double)divide_up(kind->test_count, spec->eval_batch);
}

static qzo_status make_plan(plan *p, const qzo_options *options) {
    qzo_status status = QZO_OK;
    qzo_sweep_additions additions = {options->model_path, options->task_path};
    QZO_TRY(qzo_sweep_spec_load(&p->sweep, options->sweep_path, &additions));
    QZO_TRY(qzo_grid_expand(&p->grid, p->sweep, qzo_contents_digest, &p->contents));
    for (int64_t i = 0; i < p->grid->trial_count; i++) {
        const qzo_trial_spec *spec = &p->grid->trials[i].spec;
        measured *kind = NULL;
        QZO_TRY(kind_of(&kind, p, spec));
        kind->trial_count++;
        if (kind->status != QZO_OK) continue;
        p->runnable_count++;
        p->step_count += spec->steps;
        p->pass_count += passes_of(spec, kind);
    }
    p->rank_count = options->rank_count;
    p->ranks_per_trial = p->sweep->ranks_per_trial;
    if (p->ranks_per_trial == QZO_RANKS_ALL || p->ranks_per_trial > p->rank_count)
        p->ranks_per_trial = p->rank_count;
    p->group_count = divide_up(p->rank_count, p->ranks_per_trial); /* the last may be smaller */
cleanup:
    return status;
}

static void release_plan(plan *p) {
    for (int64_t i = 0; i < p->kind_count; i++) free(p->kinds[i].message);
    free(p->kinds);
    qzo_contents_release(&p->contents);
    qzo_grid_free(p->grid);
    qzo_sweep_spec_free(p->sweep);
}

static int64_t bytes_of(const qzo_memory_plan *memory) {
    return memory->mapped_bytes + memory->loaded_bytes + memory->masters_bytes +
           memory->activation_bytes;
}

/* The trials that need most. */
static const measured *largest_kind(const plan *p) {
    const measured *largest = NULL;
    for (int64_t i = 0; i < p->kind_count; i++) {
        const measured *kind = &p->kinds[i];
        if (kind->status != QZO_OK) continue;
        if (largest == NULL || bytes_of(&kind->memory) > bytes_of(&largest->memory)) largest = kind;
    }
    return largest;
}

/* --- printing --- */

static void print_parameters(const plan *p) {
    for (int64_t s = 0; s < p->sweep->space_count; s++) {
        const qzo_space *space = &p->sweep->spaces[s];
        if (p->sweep->space_count > 1) printf("  grid %" PRId64 "\n", s + 1);
        for (int64_t i = 0; i < space->parameter_count; i++) {
            const qzo_parameter *parameter = &space->parameters[i];
            if (!parameter->swept) continue;
            printf("  %-16s", parameter->setting->key);
            if (parameter->draw != QZO_DRAW_VALUES)
                printf(" %g to %g%s", parameter->min, parameter->max,
                       parameter->draw == QZO_DRAW_LOG ? ", logarithmic" : "");
            for (int64_t v = 0; v < parameter->value_count; v++)
                printf(" %s", parameter->values[v] != NULL ? parameter->values[v] : "-");
            printf("\n");
        }
    }
}

static void print_bytes(const char *name, int64_t size_bytes, const char *note) {
    char text[QZO_BYTES_TEXT_BYTES];
    printf("  %-12s %10s  %s\n", name, qzo_bytes_text(text, size_bytes), note);
}

static void print_memory(const plan *p) {
    const measured *kind = largest_kind(p);
    if (kind == NULL) return;
    const qzo_memory_plan *memory = &kind->memory;
    char note[96];
    printf("memory per rank%s\n", p->kind_count > 1 ? ", of the trials that need most" : "");
    print_bytes("mapped", memory->mapped_bytes, "the model's files, shared by the ranks of a host");
    print_bytes("loaded", memory->loaded_bytes, "norms");
    snprintf(note, sizeof note, "%" PRId64 " trainable values: initial, current and best",
             memory->value_count);
    print_bytes("scales", memory->masters_bytes, note);
    snprintf(note, sizeof note, "at most %" PRId64 " tokens in a forward pass", memory->row_max);
    print_bytes("activations", memory->activation_bytes, note);
    print_bytes("sum", bytes_of(memory), "");
}

static void print_refused(FILE *stream, const plan *p) {
    for (int64_t i = 0; i < p->kind_count; i++)
        if (p->kinds[i].status != QZO_OK)
            fprintf(stream, "%" PRId64 " trial%s cannot run: %s\n", p->kinds[i].trial_count,
                    p->kinds[i].trial_count == 1 ? "" : "s", p->kinds[i].message);
}

static void print_plan(const plan *p) {
    printf("%s: %" PRId64 " trial%s, %" PRId64 " steps, %.0f forward passes\n", p->sweep->name,
           p->grid->trial_count, p->grid->trial_count == 1 ? "" : "s", p->step_count,
           p->pass_count);
    print_parameters(p);
    if (p->grid->duplicate_count > 0)
        printf("%" PRId64 " repeated combinations are left out\n", p->grid->duplicate_count);
    if (p->grid->excluded_count > 0)
        printf("%" PRId64 " combinations are excluded\n", p->grid->excluded_count);
    if (p->sweep->notes != NULL) printf("note: %s\n", p->sweep->notes);
    printf("%" PRId64 " rank%s: %" PRId64 " trial%s at a time, %" PRId64 " rank%s each",
           p->rank_count, p->rank_count == 1 ? "" : "s", p->group_count,
           p->group_count == 1 ? "" : "s", p->ranks_per_trial, p->ranks_per_trial == 1 ? "" : "s");
    if (p->rank_count % p->ranks_per_trial != 0)
        printf(", the last %" PRId64, p->rank_count % p->ranks_per_trial);
    printf("\n");
    print_memory(p);
    print_refused(stdout, p);
}

/* Values of a setting that several grids sweep follow one another; of a drawn one, its range. */
static json_t *parameters_to_json(const plan *p) {
    json_t *all = json_object();
    for (int64_t s = 0; s < p->sweep->space_count; s++)
        for (int64_t i = 0; i < p->sweep->spaces[s].parameter_count; i++) {
            const qzo_parameter *parameter = &p->sweep->spaces[s].parameters[i];
            const char *key = parameter->setting->key;
            if (!parameter->swept) continue;
            if (json_object_get(all, key) == NULL) json_object_set_new(all, key, json_array());
            json_t *values = json_object_get(all, key);
            if (parameter->draw != QZO_DRAW_VALUES)
                json_array_append_new(
                    values, json_pack("{sf, sf}", "min", parameter->min, "max", parameter->max));
            for (int64_t v = 0; v < parameter->value_count; v++)
                if (parameter->values[v] != NULL)
                    json_array_append_new(values, json_string(parameter->values[v]));
        }
    return all;
}

static json_t *memory_to_json(const plan *p) {
    const measured *kind = largest_kind(p);
    if (kind == NULL) return json_null();
    const qzo_memory_plan *memory = &kind->memory;
    return json_pack("{sI, sI, sI, sI, sI, sI}", "mapped", (json_int_t)memory->mapped_bytes,
                     "loaded", (json_int_t)memory->loaded_bytes, "scales",
                     (json_int_t)memory->masters_bytes, "activations",
                     (json_int_t)memory->activation_bytes, "sum", (json_int_t)bytes_of(memory),
                     "values", (json_int_t)memory->value_count);
}

static json_t *refused_to_json(const plan *p) {
    json_t *refused = json_array();
    for (int64_t i = 0; i < p->kind_count; i++)
        if (p->kinds[i].status != QZO_OK)
            json_array_append_new(refused, json_pack("{sI, ss}", "trials",
                                                     (json_int_t)p->kinds[i].trial_count, "message",
                                                     p->kinds[i].message));
    return refused;
}

static qzo_status print_json(const plan *p) {
    const double integer_max = 9e18;
    json_int_t passes = (json_int_t)(p->pass_count < integer_max ? p->pass_count : integer_max);
    json_t *root = json_pack(
        "{ss, sI, sI, sI, sI, so, sI, sI, sI, so, so}", "name", p->sweep->name, "trials",
        (json_int_t)p->grid->trial_count, "duplicates", (json_int_t)p->grid->duplicate_count,
        "steps", (json_int_t)p->step_count, "forward_passes", passes, "parameters",
        parameters_to_json(p), "ranks", (json_int_t)p->rank_count, "ranks_per_trial",
        (json_int_t)p->ranks_per_trial, "trials_at_a_time", (json_int_t)p->group_count,
        "memory_bytes", memory_to_json(p), "refused", refused_to_json(p));
    return qzo_json_print(root);
}

int qzo_cmd_plan(const qzo_options *options) {
    qzo_status status = QZO_OK;
    plan p = {0};
    QZO_TRY(make_plan(&p, options));
    if (options->json)
        QZO_TRY(print_json(&p));
    else
        print_plan(&p);
    if (p.runnable_count == 0)
        status = qzo_fail(QZO_ERR_CONFIG, "%s: no trial can run: %s", p.sweep->file_path,
                          p.kinds[0].message);
cleanup:
    release_plan(&p);
    return qzo_exit_report(status, options);
}
