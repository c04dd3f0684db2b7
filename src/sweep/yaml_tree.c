/* libyaml's events, gathered into a tree. Events and not its document API, because only they show
 * anchors, aliases and tags, and because a depth limit can act before the text is read to its end.
 */
#include "sweep/yaml_tree.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <yaml.h>

typedef struct builder {
    const char *name;
    const char *text;
    size_t text_bytes;
    qzo_yaml_node *root;
    qzo_yaml_node *open[QZO_YAML_DEPTH_MAX];  /* containers that have begun and not ended */
    qzo_yaml_node **tail[QZO_YAML_DEPTH_MAX]; /* where the next child of each goes */
    int64_t child_count[QZO_YAML_DEPTH_MAX];
    int depth;
    int document_count;
} builder;

static qzo_status fail_at(const builder *b, yaml_mark_t mark, const char *sentence) {
    return qzo_fail(QZO_ERR_CONFIG, "%s:%zu:%zu: %s", b->name, mark.line + 1, mark.column + 1,
                    sentence);
}

/* The reader of bytes, before there are lines, reports only an offset. */
static yaml_mark_t mark_of_offset(const builder *b, size_t offset) {
    yaml_mark_t mark = {.index = offset};
    for (size_t i = 0; i < offset && i < b->text_bytes; i++) {
        mark.column++;
        if (b->text[i] == '\n') {
            mark.line++;
            mark.column = 0;
        }
    }
    return mark;
}

/* A tab is the one mistake whose general message ("cannot start any token") helps nobody. */
static bool is_tab_at(const builder *b, yaml_mark_t mark) {
    size_t line = 0, i = 0;
    for (; i < b->text_bytes && line < mark.line; i++) line += b->text[i] == '\n';
    for (size_t column = 0; i < b->text_bytes && b->text[i] != '\n' && column <= mark.column; i++) {
        if (b->text[i] == '\t') return true;
        column += ((unsigned char)b->text[i] & 0xc0) != 0x80; /* columns count characters */
    }
    return false;
}

/* The conversion of libyaml's errors. */
static qzo_status fail_parser(const builder *b, const yaml_parser_t *parser) {
    const char *problem = parser->problem ? parser->problem : "unknown error";
    yaml_mark_t mark = parser->problem_mark;
    if (parser->error == YAML_MEMORY_ERROR)
        return qzo_fail(QZO_ERR_MEMORY, "%s: no memory to read it", b->name);
    if (parser->error == YAML_READER_ERROR) mark = mark_of_offset(b, parser->problem_offset);
    if (parser->error == YAML_SCANNER_ERROR && is_tab_at(b, mark))
        return fail_at(b, mark, "expected spaces, found a tab (YAML indents with spaces only)");
    if (parser->context)
        return qzo_fail(QZO_ERR_CONFIG, "%s:%zu:%zu: expected YAML, found an error %s: %s", b->name,
                        mark.line + 1, mark.column + 1, parser->context, problem);
    return qzo_fail(QZO_ERR_CONFIG, "%s:%zu:%zu: expected YAML, found an error: %s", b->name,
                    mark.line + 1, mark.column + 1, problem);
}

static qzo_status add_node(builder *b, qzo_yaml_kind kind, yaml_mark_t mark, qzo_yaml_node **out) {
    qzo_yaml_node *node = calloc(1, sizeof *node);
    if (!node) return qzo_fail(QZO_ERR_MEMORY, "%s: no memory to read it", b->name);
    node->kind = kind;
    node->line = (int64_t)mark.line + 1;
    node->column = (int64_t)mark.column + 1;
    if (b->depth == 0) {
        b->root = node;
    } else {
        *b->tail[b->depth - 1] = node;
        b->tail[b->depth - 1] = &node->next;
        b->child_count[b->depth - 1]++;
    }
    *out = node;
    return QZO_OK;
}

static qzo_status add_scalar(builder *b, const yaml_event_t *event) {
    qzo_status status = QZO_OK;
    qzo_yaml_node *node = NULL;
    const char *text = (const char *)event->data.scalar.value;
    size_t length = event->data.scalar.length;
    if (event->data.scalar.tag)
        return fail_at(b, event->start_mark, "expected a plain value, found a tag (not supported)");
    if (memchr(text, '\0', length))
        return fail_at(b, event->start_mark, "expected text, found a NUL character in it");
    /* The children so far are an even number exactly where the next one is a key. */
    bool is_key = b->depth > 0 && b->open[b->depth - 1]->kind == QZO_YAML_MAPPING &&
                  b->child_count[b->depth - 1] % 2 == 0;
    bool is_plain = event->data.scalar.style == YAML_PLAIN_SCALAR_STYLE;
    if (is_key && is_plain && strcmp(text, "<<") == 0)
        return fail_at(b, event->start_mark,
                       "expected a key, found << (merge keys are not supported)");
    QZO_TRY(add_node(b, QZO_YAML_SCALAR, event->start_mark, &node));
    node->is_plain = is_plain;
    node->text = strdup(text);
    if (!node->text) status = qzo_fail(QZO_ERR_MEMORY, "%s: no memory to read it", b->name);
cleanup:
    return status;
}

static qzo_status open_container(builder *b, const yaml_event_t *event, qzo_yaml_kind kind) {
    qzo_yaml_node *node = NULL;
    bool has_tag = kind == QZO_YAML_SEQUENCE ? event->data.sequence_start.tag != NULL
                                             : event->data.mapping_start.tag != NULL;
    if (has_tag)
        return fail_at(b, event->start_mark, "expected a plain value, found a tag (not supported)");
    if (b->depth == QZO_YAML_DEPTH_MAX)
        return qzo_fail(QZO_ERR_LIMIT, "%s:%zu:%zu: level %d of nesting, at most %d", b->name,
                        event->start_mark.line + 1, event->start_mark.column + 1, b->depth + 1,
                        QZO_YAML_DEPTH_MAX);
    qzo_status status = add_node(b, kind, event->start_mark, &node);
    if (status != QZO_OK) return status;
    b->open[b->depth] = node;
    b->tail[b->depth] = &node->first;
    b->child_count[b->depth] = 0;
    b->depth++;
    return QZO_OK;
}

static bool has_anchor(const yaml_event_t *event) {
    return (event->type == YAML_SCALAR_EVENT && event->data.scalar.anchor) ||
           (event->type == YAML_SEQUENCE_START_EVENT && event->data.sequence_start.anchor) ||
           (event->type == YAML_MAPPING_START_EVENT && event->data.mapping_start.anchor);
}

static qzo_status add_event(builder *b, const yaml_event_t *event) {
    if (has_anchor(event))
        return fail_at(b, event->start_mark,
                       "expected a plain value, found an anchor (&name is not supported)");
    switch (event->type) {
    case YAML_ALIAS_EVENT:
        return fail_at(b, event->start_mark,
                       "expected a plain value, found an alias (*name is not supported)");
    case YAML_DOCUMENT_START_EVENT:
        if (b->document_count++ > 0)
            return fail_at(b, event->start_mark, "expected one document, found a second one");
        return QZO_OK;
    case YAML_SCALAR_EVENT: return add_scalar(b, event);
    case YAML_SEQUENCE_START_EVENT: return open_container(b, event, QZO_YAML_SEQUENCE);
    case YAML_MAPPING_START_EVENT: return open_container(b, event, QZO_YAML_MAPPING);
    case YAML_SEQUENCE_END_EVENT:
    case YAML_MAPPING_END_EVENT: b->depth--; return QZO_OK;
    default: return QZO_OK;
    }
}

qzo_status qzo_yaml_parse(qzo_yaml_node **out, const char *text, size_t text_bytes,
                          const char *name) {
    qzo_status status = QZO_OK;
    builder b = {.name = name, .text = text, .text_bytes = text_bytes};
    yaml_parser_t parser;
    *out = NULL;
    if (text_bytes > QZO_YAML_BYTES_MAX)
        return qzo_fail(QZO_ERR_LIMIT, "%s: %zu bytes, at most %d", name, text_bytes,
                        QZO_YAML_BYTES_MAX);
    if (!yaml_parser_initialize(&parser))
        return qzo_fail(QZO_ERR_MEMORY, "%s: no memory to read it", name);
    yaml_parser_set_input_string(&parser, (const unsigned char *)text, text_bytes);
    for (bool is_end = false; !is_end;) {
        yaml_event_t event;
        if (!yaml_parser_parse(&parser, &event)) {
            status = fail_parser(&b, &parser);
            goto cleanup;
        }
        is_end = event.type == YAML_STREAM_END_EVENT;
        status = add_event(&b, &event);
        yaml_event_delete(&event);
        if (status != QZO_OK) goto cleanup;
    }
    *out = b.root;
    b.root = NULL;
cleanup:
    qzo_yaml_free(b.root);
    yaml_parser_delete(&parser);
    return status;
}

void qzo_yaml_free(qzo_yaml_node *node) {
    while (node) {
        qzo_yaml_node *next = node->next;
        qzo_yaml_free(node->first); /* at most QZO_YAML_DEPTH_MAX deep */
        free(node->text);
        free(node);
        node = next;
    }
}
