/* qzo plan SWEEP.yaml: what a sweep will do and take, without doing it. */
#include "cli/cli.h"

#include "base/digest.h"
#include "cli/plan_time.h"
#include "sweep/kinds.h"
#include "sweep/scheduling.h"
#include "sweep/sweep_spec.h"

#include <inttypes.h>
#include <stddef.h>
#include <string.h>

typedef struct plan {
    qzo_sweep_spec *sweep;
    qzo_grid *grid;
    qzo_kinds kinds;
    qzo_pairs asked_pairs, pairs; /* with --pairs, and as memory allows */
    int64_t step_count;           /* of all trials that can run */
    double pass_count; /* the same; more than any integer holds, if the file asks for it */
    int64_t runnable_count;
    int64_t rank_count, ranks_per_trial, group_count;
    qzo_residency residency;
    qzo_plan_time time; /* choice_count 0: not asked for */
} plan;

/* --- measuring --- */

/* A plan opens models, but reads none: the same path is the same content. */
static qzo_status digest_of_path(qzo_digest *out, const char *path, bool is_model, void *context) {
    (void)is_model, (void)context;
    *out = qzo_digest_of(path, strlen(path));
    return QZO_OK;
}

static int64_t divide_up(int64_t a, int64_t b) { return (a + b - 1) / b; }

/* Forward passes of one trial: those of its steps and one per chunk of an evaluation; dev is
 * evaluated before the first step too. */
static double passes_of(const qzo_trial_spec *spec, const qzo_kind *kind) {
    double steps = (double)spec->steps * (double)qzo_trial_spec_passes(spec);
    double evaluations = 1.0 + (double)divide_up(spec->steps, spec->evaluate_every);
    return steps + evaluations * (double)kind->dev_passes + (double)kind->test_passes;
}

static qzo_status make_plan(plan *p, const qzo_options *options) {
    qzo_status status = QZO_OK;
    qzo_scheduling scheduling = {0};
    qzo_sweep_additions additions = {options->model_path, options->task_path};
    QZO_TRY(qzo_sweep_spec_load(&p->sweep, options->sweep_path, &additions));
    QZO_TRY(qzo_grid_expand(&p->grid, p->sweep, digest_of_path, NULL));
    QZO_TRY(qzo_scheduling_make(&scheduling, p->sweep, p->grid)); /* do they fit each other? */
    const qzo_kinds_settings kinds = {options->backend_name, qzo_threads(options, 1),
                                      options->pairs, options->memory_limit_bytes};
    p->asked_pairs = options->pairs;
    QZO_TRY(qzo_kinds_measure(&p->kinds, &p->pairs, p->grid, &kinds));
    QZO_TRY(qzo_kinds_residency(&p->residency, &p->kinds, options->memory_limit_bytes));
    for (int64_t i = 0; i < p->grid->trial_count; i++) {
        const qzo_trial_spec *spec = &p->grid->trials[i].spec;
        const qzo_kind *kind = qzo_kinds_find(&p->kinds, spec);
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
    if (options->calibrate)
        QZO_TRY(qzo_plan_time_make(&p->time, p->sweep, p->grid, &p->kinds, options));
    else if (options->time_text != NULL)
        status = qzo_fail(QZO_ERR_USAGE, "--time needs --calibrate");
cleanup:
    qzo_scheduling_release(&scheduling);
    return status;
}

static void release_plan(plan *p) {
    qzo_plan_time_release(&p->time);
    qzo_kinds_release(&p->kinds);
    qzo_grid_free(p->grid);
    qzo_sweep_spec_free(p->sweep);
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
            for (int64_t v = 0; v < parameter->value_count; v++) {
                const char *value = parameter->values[v] != NULL ? parameter->values[v] : "-";
                putchar(' ');
                qzo_text_print(stdout, value, strlen(value));
            }
            printf("\n");
        }
    }
}

static void print_bytes(const char *name, int64_t size_bytes, const char *note) {
    char text[QZO_BYTES_TEXT_BYTES];
    printf("  %-12s %10s  %s\n", name, qzo_bytes_text(text, size_bytes), note);
}

/* Parts of the plan in the order in which they are printed; zero ones only in JSON. */
static const struct {
    const char *name, *note;
    size_t offset;
} parts[] = {
    {"mapped", "the model's files, shared by the ranks of a host",
     offsetof(qzo_memory_plan, mapped_bytes)},
    {"host", "values of the best step; weights turned or quantized at load",
     offsetof(qzo_memory_plan, host_bytes)},
    {"weights", "codes and zero points", offsetof(qzo_memory_plan, weight_bytes)},
    {"ends", "embeddings and head", offsetof(qzo_memory_plan, ends_bytes)},
    {"loaded", "norms and biases", offsetof(qzo_memory_plan, loaded_bytes)},
    {"scales", "trainable values: initial and current", offsetof(qzo_memory_plan, masters_bytes)},
    {"activations", "of the largest forward pass", offsetof(qzo_memory_plan, activation_bytes)},
    {"scratch", "decoded tiles, workspaces", offsetof(qzo_memory_plan, scratch_bytes)},
    {"own", "the backend's own allocations: from weights to scratch",
     offsetof(qzo_memory_plan, own_bytes)},
};
enum { PART_COUNT = sizeof parts / sizeof *parts };

static int64_t part_bytes(const qzo_memory_plan *memory, int part) {
    return *(const int64_t *)(const void *)((const char *)memory + parts[part].offset);
}

static void print_memory(const plan *p) {
    const qzo_kind *kind = qzo_kinds_largest(&p->kinds);
    if (kind == NULL) return;
    const qzo_memory_plan *memory = &kind->memory;
    printf("memory per rank, backend %s%s\n", memory->backend_name,
           p->kinds.count > 1 ? ", of the trials that need most" : "");
    for (int i = 0; i < PART_COUNT; i++)
        if (part_bytes(memory, i) > 0)
            print_bytes(parts[i].name, part_bytes(memory, i), parts[i].note);
    for (const qzo_memory_item *item = memory->library_memory; item != NULL && item->name != NULL;
         item++)
        print_bytes("unmeasured", item->size_bytes, item->name);
    print_bytes("sum", memory->rank_bytes,
                memory->library_memory != NULL ? "on the device" : "mapped, host and own");
    if (memory->adapter_count > 0)
        printf("  adapters beside %" PRId64 " linear layers: %" PRId64 " values\n",
               memory->adapter_count, memory->adapter_values);
    printf("  %" PRId64 " trainable values, at most %" PRId64 " tokens in a forward pass\n",
           memory->value_count, memory->row_max);
    if (memory->pair_rows > 0)
        printf("  both signs of a perturbation at once, up to %" PRId64 " tokens each\n",
               memory->pair_rows);
    else if (p->pairs != p->asked_pairs)
        printf("  both signs of a perturbation one after the other: at once they take more than "
               "--memory-limit\n");
}

/* Of several models: how many a rank keeps, where --memory-limit says what it may take. */
static void print_residency(const plan *p) {
    if (p->residency.model_count < 2) return;
    printf("%" PRId64 " models: a rank keeps %" PRId64 " loaded", p->residency.model_count,
           p->residency.kept_count);
    if (p->residency.kept_count > 1)
        printf(", which take %" PRId64 " bytes at most\n", p->residency.rank_bytes);
    else
        printf(" at a time (--memory-limit tells what it may take)\n");
}

static void print_refused(FILE *stream, const plan *p) {
    for (int64_t i = 0; i < p->kinds.count; i++)
        if (p->kinds.entries[i].status != QZO_OK)
            fprintf(stream, "%" PRId64 " trial%s cannot run: %s\n", p->kinds.entries[i].trial_count,
                    p->kinds.entries[i].trial_count == 1 ? "" : "s", p->kinds.entries[i].message);
}

static void print_plan(const plan *p) {
    qzo_text_print(stdout, p->sweep->name, strlen(p->sweep->name));
    printf(": %" PRId64 " trial%s, %" PRId64 " steps, %.0f forward passes\n", p->grid->trial_count,
           p->grid->trial_count == 1 ? "" : "s", p->step_count, p->pass_count);
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
    print_residency(p);
    qzo_plan_time_print(&p->time, &p->kinds);
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
    const qzo_kind *kind = qzo_kinds_largest(&p->kinds);
    if (kind == NULL) return json_null();
    const qzo_memory_plan *memory = &kind->memory;
    json_t *root = json_pack(
        "{ss, sI, sI, sI, sI}", "backend", memory->backend_name, "values",
        (json_int_t)memory->value_count, "adapter_values", (json_int_t)memory->adapter_values,
        "libraries", (json_int_t)memory->library_bytes, "sum", (json_int_t)memory->rank_bytes);
    for (int i = 0; i < PART_COUNT; i++)
        json_object_set_new(root, parts[i].name, json_integer(part_bytes(memory, i)));
    return root;
}

static json_t *refused_to_json(const plan *p) {
    json_t *refused = json_array();
    for (int64_t i = 0; i < p->kinds.count; i++)
        if (p->kinds.entries[i].status != QZO_OK)
            json_array_append_new(refused, json_pack("{sI, ss}", "trials",
                                                     (json_int_t)p->kinds.entries[i].trial_count,
                                                     "message", p->kinds.entries[i].message));
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
    json_t *models = json_pack("{sI, sI}", "count", (json_int_t)p->residency.model_count, "kept",
                               (json_int_t)p->residency.kept_count);
    const qzo_kind *largest = qzo_kinds_largest(&p->kinds);
    if (root != NULL) json_object_set_new(root, "models", models);
    if (root != NULL)
        json_object_set_new(root, "pair_rows",
                            json_integer(largest != NULL ? largest->memory.pair_rows : 0));
    if (root != NULL && p->time.choice_count > 0 &&
        json_object_set_new(root, "time", qzo_plan_time_json(&p->time)) != 0) {
        json_decref(root);
        root = NULL;
    }
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
                          p.kinds.entries[0].message);
    else
        status = qzo_kinds_check_limit(&p.kinds, options->memory_limit_bytes, "--memory-limit");
cleanup:
    release_plan(&p);
    return qzo_exit_report(status, options);
}
