/* qzo inspect MODEL: what a model folder holds and takes, without loading it. */
#include "cli/cli.h"
#include "model/mmdit.h"

#include "trial/trial_spec.h"
#include "weights/bnb_quantize.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

enum { SHAPE_BYTES = 128 };

/* One linear layer. */
typedef struct module {
    char *name;
    const qzo_quant_format *format;
    int64_t out_features, in_features, group_count;
    int64_t size_bytes; /* of all its tensors in the files */
} module;

typedef struct inspection {
    qzo_model_dir *dir;
    /* One of the two; neither: not supported, only the tensors are known. */
    const qzo_arch *arch;
    bool is_of_images;
    qzo_mmdit_shape images;
    qzo_model_sizes sizes;
    module *modules;
    int64_t module_count;
    int64_t adapter_rank;                  /* of the group lora's values */
    int64_t group_values[QZO_GROUP_COUNT]; /* that each group of train.groups would train */
} inspection;

static qzo_status fail_memory(const inspection *in) {
    return qzo_fail(QZO_ERR_MEMORY, "%s: out of memory", qzo_model_dir_path(in->dir));
}

/* --- collecting --- */

/* Bytes of all tensors named "MODULE.something". */
static int64_t module_bytes(const qzo_model_dir *dir, const char *name) {
    int64_t size_bytes = 0;
    size_t length = strlen(name);
    for (int64_t i = 0; i < qzo_model_dir_count(dir); i++) {
        const qzo_tensor_view *view = qzo_model_dir_at(dir, i);
        if (strncmp(view->name, name, length) == 0 && view->name[length] == '.')
            size_bytes += (int64_t)view->size_bytes;
    }
    return size_bytes;
}

static qzo_status add_tensor(inspection *in, const qzo_qtensor *tensor) {
    module *added = &in->modules[in->module_count++];
    bool is_quantized = tensor->format != &qzo_quant_dense;
    int64_t made_bytes = qzo_bnb_made_bytes(tensor);
    *added =
        (module){.name = strdup(tensor->name),
                 .format = tensor->format,
                 .out_features = tensor->out_features,
                 .in_features = tensor->in_features,
                 .group_count = is_quantized ? tensor->group_count : 0,
                 .size_bytes = made_bytes > 0 ? made_bytes : module_bytes(in->dir, tensor->name)};
    return added->name != NULL ? QZO_OK : fail_memory(in);
}

static qzo_status add_module(inspection *in, int64_t layer, qzo_linear_kind kind) {
    qzo_qtensor tensor = {0};
    char name[QZO_MODULE_NAME_BYTES];
    qzo_status status =
        qzo_model_bind_linear(&tensor, name, in->dir, in->arch, &in->sizes.shape, layer, kind, 0);
    if (status == QZO_OK) status = add_tensor(in, &tensor);
    qzo_qtensor_release(&tensor);
    return status;
}

/* Of a loaded model of images: its blocks' linear layers. */
static qzo_status add_blocks(inspection *in, const qzo_model *model) {
    qzo_status status = QZO_OK;
    const qzo_mmdit *mmdit = model->mmdit;
    in->images = mmdit->shape;
    in->sizes.mapped_bytes = qzo_model_dir_data_bytes(in->dir);
    in->sizes.loaded_bytes = model->loaded_bytes;
    in->modules =
        calloc((size_t)(mmdit->shape.layer_count * QZO_MMDIT_LINEAR_COUNT), sizeof *in->modules);
    if (in->modules == NULL) return fail_memory(in);
    for (int64_t i = 0; i < mmdit->shape.layer_count; i++)
        for (int kind = 0; kind < QZO_MMDIT_LINEAR_COUNT; kind++) {
            const qzo_linear *linear = &mmdit->blocks[i].linears[kind];
            if (linear->weight != NULL) QZO_TRY(add_tensor(in, &linear->tensor));
        }
    in->sizes.value_count = in->group_values[QZO_GROUP_SCALES];
    in->is_of_images = true;
cleanup:
    return status;
}

/* Of adapters with the settings that a sweep file need not say. */
static qzo_status count_adapters(inspection *in, const qzo_model *model) {
    qzo_trial_spec spec;
    qzo_adapters *adapters = NULL;
    qzo_trial_spec_defaults(&spec);
    in->adapter_rank = spec.lora_rank;
    const qzo_adapter_settings settings = {.rank = spec.lora_rank, .targets = ""};
    qzo_status status = qzo_adapters_open(&adapters, model, &settings);
    if (status == QZO_OK) in->group_values[QZO_GROUP_LORA] = adapters->value_count;
    qzo_adapters_close(adapters);
    return status;
}

/* Loads the model as a trial of all groups would, on a backend that holds nothing. */
static qzo_status count_groups(inspection *in) {
    static const qzo_training all = {.groups = {{true, QZO_KEEP_AUTO, "", ""},
                                                {true, QZO_KEEP_AUTO, "", ""},
                                                {true, QZO_KEEP_AUTO, "", ""}}};
    const qzo_backend_options options = {.thread_count = 1, .dry = true};
    qzo_status status = QZO_OK;
    qzo_backend *backend = NULL;
    qzo_model_dir *dir = NULL;
    qzo_model *model = NULL;
    QZO_TRY(qzo_backend_open(&backend, "cpu", &options));
    QZO_TRY(qzo_model_dir_open(&dir, qzo_model_dir_path(in->dir)));
    qzo_model_dir_quantize(dir, qzo_model_dir_quantize_kind(in->dir));
    QZO_TRY(qzo_model_load_for(&model, dir, backend, &all));
    for (int64_t i = 0; i < model->part_count; i++) {
        const qzo_part *part = &model->parts[i];
        if (part->tensor->span == QZO_SPAN_NONE) continue; /* its scales can never train */
        in->group_values[part->kind] += model->spans[part->tensor->span].count;
    }
    status = model->mmdit != NULL ? add_blocks(in, model) : count_adapters(in, model);
cleanup:
    qzo_model_free(model);
    qzo_backend_close(backend);
    return status;
}

static qzo_status collect(inspection *in) {
    qzo_status status = QZO_OK;
    const qzo_arch *arch = NULL;
    if (qzo_mmdit_detect(qzo_model_dir_config(in->dir))) return count_groups(in);
    QZO_TRY(qzo_arch_find(&arch, qzo_model_dir_config(in->dir), qzo_model_dir_path(in->dir)));
    QZO_TRY(qzo_model_measure(&in->sizes, in->dir));
    in->arch = arch;
    size_t count = (size_t)in->sizes.shape.layer_count * QZO_LINEAR_COUNT;
    in->modules = calloc(count, sizeof *in->modules);
    if (in->modules == NULL) return fail_memory(in);
    for (int64_t layer = 0; layer < in->sizes.shape.layer_count; layer++)
        for (int kind = 0; kind < QZO_LINEAR_COUNT; kind++)
            if (arch->linears[kind] != NULL) QZO_TRY(add_module(in, layer, (qzo_linear_kind)kind));
    QZO_TRY(count_groups(in));
cleanup:
    return status;
}

static void release(inspection *in) {
    for (int64_t i = 0; i < in->module_count; i++) free(in->modules[i].name);
    free(in->modules);
    qzo_model_dir_close(in->dir);
}

static int64_t values_of(const module *m) { return m->out_features * m->group_count; }

static double bits_of(const module *m) {
    return 8.0 * (double)m->size_bytes / ((double)m->out_features * (double)m->in_features);
}

/* Inputs that share one scale; 0 where there are none. */
static int64_t group_size_of(const module *m) {
    return m->group_count > 0 ? (m->in_features + m->group_count - 1) / m->group_count : 0;
}

static int64_t disk_bytes(const qzo_model_dir *dir) {
    int64_t size_bytes = 0;
    for (int64_t i = 0; i < qzo_model_dir_count(dir); i++)
        size_bytes += (int64_t)qzo_model_dir_at(dir, i)->size_bytes;
    return size_bytes;
}

static int64_t master_bytes(const inspection *in) {
    return in->sizes.value_count * (int64_t)sizeof(float);
}

/* --- printing --- */

static const char *shape_text(char out[SHAPE_BYTES], const qzo_tensor_view *view) {
    size_t used = 0;
    out[0] = '\0';
    for (int i = 0; i < view->rank && used < SHAPE_BYTES - 24; i++)
        used += (size_t)snprintf(out + used, SHAPE_BYTES - used, "%s%" PRId64, i > 0 ? " x " : "",
                                 view->shape[i]);
    return view->rank > 0 ? out : "scalar";
}

static void print_name(const char *name, int width) {
    int printed = qzo_text_print(stdout, name, strlen(name));
    printf("%*s", printed < width ? width - printed : 0, "");
}

static void print_tensors(const qzo_model_dir *dir) {
    int width = 6;
    for (int64_t i = 0; i < qzo_model_dir_count(dir); i++) {
        int length = qzo_text_width(qzo_model_dir_at(dir, i)->name);
        if (length > width) width = length;
    }
    printf("\n%-*s  type  %-16s bytes\n", width, "tensor", "shape");
    for (int64_t i = 0; i < qzo_model_dir_count(dir); i++) {
        const qzo_tensor_view *view = qzo_model_dir_at(dir, i);
        char shape[SHAPE_BYTES];
        print_name(view->name, width);
        printf("  %-4s  %-16s %zu\n", qzo_dtype_name(view->dtype), shape_text(shape, view),
               view->size_bytes);
    }
}

static void print_modules(const inspection *in) {
    int width = 6;
    for (int64_t i = 0; i < in->module_count; i++) {
        int length = qzo_text_width(in->modules[i].name);
        if (length > width) width = length;
    }
    printf("\n%-*s  format  %-14s bits/weight  group size  groups  trainable values\n", width,
           "module", "out x in");
    for (int64_t i = 0; i < in->module_count; i++) {
        const module *m = &in->modules[i];
        char shape[SHAPE_BYTES];
        snprintf(shape, sizeof shape, "%" PRId64 " x %" PRId64, m->out_features, m->in_features);
        print_name(m->name, width);
        printf("  %-6s  %-14s %11.3f  %10" PRId64 "  %6" PRId64 "  %16" PRId64 "\n",
               m->format->name, shape, bits_of(m), group_size_of(m), m->group_count, values_of(m));
    }
}

static int64_t windowed_layers(const qzo_shape *shape) {
    int64_t count = 0;
    for (int64_t i = 0; i < shape->layer_count; i++) count += qzo_shape_is_windowed(shape, i);
    return count;
}

static const char *positions_text(const inspection *in) {
    static const char *const rotary[] = {[QZO_ROPE_DEFAULT] = "rotary",
                                         [QZO_ROPE_LINEAR] = "rotary, linear scaling",
                                         [QZO_ROPE_LLAMA3] = "rotary, llama3 scaling",
                                         [QZO_ROPE_FACTORS] =
                                             "rotary, a factor for each frequency"};
    return in->arch->positions != NULL ? "learned" : rotary[in->sizes.shape.rope.kind];
}

/* What only some architectures have. */
static void print_variants(const inspection *in) {
    const qzo_shape *shape = &in->sizes.shape;
    int64_t windowed = windowed_layers(shape);
    printf("positions         %s\n", positions_text(in));
    if (windowed > 0)
        printf("sliding window    %" PRId64 " rows in %" PRId64 " of %" PRId64 " layers\n",
               shape->window, windowed, shape->layer_count);
    if (shape->score_cap > 0.0f || shape->logit_cap > 0.0f)
        printf("soft caps         scores %g, logits %g (0: none)\n", (double)shape->score_cap,
               (double)shape->logit_cap);
}

static void print_image_shape(const qzo_mmdit_shape *shape) {
    int64_t dual = 0;
    for (int64_t i = 0; i < shape->layer_count; i++) dual += shape->is_dual[i];
    printf("architecture      mmdit: %" PRId64 " layers, %" PRId64
           " with a second attention, width %" PRId64 ", %" PRId64 " heads of %" PRId64 "%s\n",
           shape->layer_count, dual, shape->width, shape->head_count, shape->head_dim,
           shape->has_norms ? ", normed" : "");
    printf("latents           %" PRId64 " channels, sides up to %" PRId64 ", patches of %" PRId64
           " x %" PRId64 "; texts of width %" PRId64 ", pooled %" PRId64 "\n",
           shape->channels, shape->side_max * shape->patch, shape->patch, shape->patch,
           shape->text_width, shape->pooled_width);
}

static void print_text_shape(const inspection *in) {
    const qzo_shape *shape = &in->sizes.shape;
    printf("architecture      %s: %" PRId64 " layers, width %" PRId64 ", feed-forward %" PRId64
           ", %" PRId64 " heads of %" PRId64 " (%" PRId64 " for keys and values)\n",
           in->arch->name, shape->layer_count, shape->width, shape->ffn_width, shape->head_count,
           shape->head_dim, shape->kv_head_count);
    printf("vocabulary        %" PRId64 " tokens, %" PRId64 " positions%s\n", shape->vocab,
           shape->positions_max, shape->tied_head ? ", head tied to the embedding" : "");
    print_variants(in);
}

static void print_sizes(const inspection *in) {
    char text[QZO_BYTES_TEXT_BYTES];
    if (in->is_of_images)
        print_image_shape(&in->images);
    else
        print_text_shape(in);
    printf("trainable values  %" PRId64 "%s\n", in->sizes.value_count,
           in->sizes.value_count == 0 ? ": none of the linear layers is quantized" : "");
    printf("groups           ");
    for (int kind = 0; kind < QZO_GROUP_COUNT; kind++)
        printf("%s %s %" PRId64, kind > 0 ? "," : "", qzo_group_name(kind), in->group_values[kind]);
    if (!in->is_of_images) printf(" (rank %" PRId64 ")", in->adapter_rank);
    printf("\n");
    printf("memory per rank   mapped %s (shared by the ranks of a host)",
           qzo_bytes_text(text, in->sizes.mapped_bytes));
    printf(", loaded %s", qzo_bytes_text(text, in->sizes.loaded_bytes));
    printf(", each copy of the scales %s\n", qzo_bytes_text(text, master_bytes(in)));
}

static void print_inspection(const inspection *in) {
    char text[QZO_BYTES_TEXT_BYTES];
    printf("model             %s\n", qzo_model_dir_path(in->dir));
    printf("on disk           %" PRId64 " tensors, %s\n", qzo_model_dir_count(in->dir),
           qzo_bytes_text(text, disk_bytes(in->dir)));
    if (in->arch != NULL || in->is_of_images) {
        print_sizes(in);
        print_modules(in);
    }
    print_tensors(in->dir);
}

static json_t *tensors_to_json(const qzo_model_dir *dir) {
    json_t *tensors = json_array();
    for (int64_t i = 0; i < qzo_model_dir_count(dir); i++) {
        const qzo_tensor_view *view = qzo_model_dir_at(dir, i);
        json_t *shape = json_array();
        for (int d = 0; d < view->rank; d++)
            json_array_append_new(shape, json_integer(view->shape[d]));
        json_array_append_new(tensors, json_pack("{ss, ss, so, sI}", "name", view->name, "type",
                                                 qzo_dtype_name(view->dtype), "shape", shape,
                                                 "bytes", (json_int_t)view->size_bytes));
    }
    return tensors;
}

static json_t *modules_to_json(const inspection *in) {
    json_t *modules = json_array();
    for (int64_t i = 0; i < in->module_count; i++) {
        const module *m = &in->modules[i];
        json_array_append_new(
            modules,
            json_pack("{ss, ss, sI, sI, sf, sI, sI, sI, sI}", "name", m->name, "format",
                      m->format->name, "out_features", (json_int_t)m->out_features, "in_features",
                      (json_int_t)m->in_features, "bits_per_weight", bits_of(m), "group_size",
                      (json_int_t)group_size_of(m), "groups", (json_int_t)m->group_count, "values",
                      (json_int_t)values_of(m), "bytes", (json_int_t)m->size_bytes));
    }
    return modules;
}

static json_t *shape_to_json(const inspection *in) {
    const qzo_shape *shape = &in->sizes.shape;
    return json_pack("{sI, sI, sI, sI, sI, sI, sI, sI, sb, ss, sI, sI, sf, sf}", "layers",
                     (json_int_t)shape->layer_count, "width", (json_int_t)shape->width, "ffn_width",
                     (json_int_t)shape->ffn_width, "heads", (json_int_t)shape->head_count,
                     "kv_heads", (json_int_t)shape->kv_head_count, "head_dim",
                     (json_int_t)shape->head_dim, "vocabulary", (json_int_t)shape->vocab,
                     "positions", (json_int_t)shape->positions_max, "tied_head", shape->tied_head,
                     "positions_kind", positions_text(in), "window", (json_int_t)shape->window,
                     "windowed_layers", (json_int_t)windowed_layers(shape), "score_cap",
                     (double)shape->score_cap, "logit_cap", (double)shape->logit_cap);
}

static json_t *image_shape_to_json(const qzo_mmdit_shape *shape) {
    return json_pack("{sI, sI, sI, sI, sI, sI, sI, sI}", "layers", (json_int_t)shape->layer_count,
                     "width", (json_int_t)shape->width, "heads", (json_int_t)shape->head_count,
                     "head_dim", (json_int_t)shape->head_dim, "channels",
                     (json_int_t)shape->channels, "patch", (json_int_t)shape->patch, "text_width",
                     (json_int_t)shape->text_width, "pooled_width",
                     (json_int_t)shape->pooled_width);
}

static qzo_status print_json(const inspection *in) {
    json_t *root = json_pack("{ss, sI, so, so}", "model", qzo_model_dir_path(in->dir), "disk_bytes",
                             (json_int_t)disk_bytes(in->dir), "tensors", tensors_to_json(in->dir),
                             "modules", modules_to_json(in));
    if (in->arch != NULL || in->is_of_images) {
        json_t *sizes = json_pack(
            "{ss, so, sI, sI, sI, sI}", "architecture", in->is_of_images ? "mmdit" : in->arch->name,
            "shape", in->is_of_images ? image_shape_to_json(&in->images) : shape_to_json(in),
            "values", (json_int_t)in->sizes.value_count, "mapped_bytes",
            (json_int_t)in->sizes.mapped_bytes, "loaded_bytes", (json_int_t)in->sizes.loaded_bytes,
            "scales_bytes", (json_int_t)master_bytes(in));
        json_object_update(root, sizes);
        json_decref(sizes);
        json_t *groups = json_object();
        for (int kind = 0; kind < QZO_GROUP_COUNT; kind++)
            json_object_set_new(groups, qzo_group_name(kind), json_integer(in->group_values[kind]));
        json_object_set_new(root, "group_values", groups);
    }
    return qzo_json_print(root);
}

int qzo_cmd_inspect(const qzo_options *options) {
    qzo_status status = QZO_OK, printed = QZO_OK;
    inspection in = {0};
    QZO_TRY(qzo_model_dir_open(&in.dir, options->model_path));
    qzo_model_dir_quantize(in.dir, qzo_quantize_kind(options));
    /* A model that qzo cannot run still has tensors worth seeing; the reason comes after them. */
    status = collect(&in);
    if (options->json)
        printed = print_json(&in);
    else
        print_inspection(&in);
    if (printed != QZO_OK) status = printed;
cleanup:
    release(&in);
    return qzo_exit_report(status, options);
}
