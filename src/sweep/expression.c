/* Recursive descent, one function per level of precedence. Types are checked while parsing, so that
 * a mistake is found when the file is read and not at the trial that meets it. */
#include "sweep/expression.h"

#include "base/file_io.h"
#include "base/suggest.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { WORD_BYTES = 512, SENTENCE_BYTES = 512, NONE = -1, SETTINGS_MAX = 128 };

typedef enum {
    NODE_NUMBER,
    NODE_TEXT,
    NODE_SETTING,
    NODE_OR,
    NODE_AND,
    NODE_NOT,
    NODE_EQUAL,
    NODE_UNEQUAL,
    NODE_LESS,
    NODE_LESS_EQUAL,
    NODE_GREATER,
    NODE_GREATER_EQUAL,
    NODE_ADD,
    NODE_SUBTRACT,
    NODE_MULTIPLY,
    NODE_DIVIDE,
    NODE_NEGATE
} node_kind;

typedef enum { TYPE_NUMBER, TYPE_TEXT, TYPE_TRUTH } value_type;

typedef struct node {
    node_kind kind;
    value_type type;
    int left, right; /* indices; NONE */
    double number;
    char *text; /* of NODE_TEXT; owned */
    const qzo_setting *setting;
} node;

struct qzo_expression {
    node *nodes;
    int node_count;
    int root;
};

typedef struct parser {
    qzo_expression *expression;
    const char *text, *at;
    const char *folder;
    int depth;
    qzo_status status;
} parser;

/* --- parsing --- */

static int fail(parser *p, const char *at, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* The first error counts. */
static int fail(parser *p, const char *at, const char *format, ...) {
    char sentence[SENTENCE_BYTES];
    va_list arguments;
    if (p->status != QZO_OK) return NONE;
    va_start(arguments, format);
    vsnprintf(sentence, sizeof sentence, format, arguments);
    va_end(arguments);
    p->status = qzo_fail(QZO_ERR_CONFIG, "\"%.200s\", character %d: %s", p->text,
                         (int)(at - p->text) + 1, sentence);
    return NONE;
}

static int add(parser *p, const char *at, node made) {
    qzo_expression *e = p->expression;
    if (p->status == QZO_OK && e->node_count < QZO_EXPRESSION_NODES_MAX) {
        e->nodes[e->node_count] = made;
        return e->node_count++;
    }
    free(made.text);
    return fail(p, at, "expected at most %d words and signs", QZO_EXPRESSION_NODES_MAX);
}

static void skip_blanks(parser *p) { p->at += strspn(p->at, " \t\r\n"); }

static bool is_word_character(char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_';
}

/* Takes a sign, or a word that ends where it ends. */
static bool take(parser *p, const char *token) {
    size_t length = strlen(token);
    skip_blanks(p);
    if (strncmp(p->at, token, length) != 0) return false;
    if (is_word_character(token[0]) && is_word_character(p->at[length])) return false;
    p->at += length;
    return true;
}

static value_type type_of(const parser *p, int index) {
    return index == NONE ? TYPE_NUMBER : p->expression->nodes[index].type;
}

static int expect_type(parser *p, const char *at, int index, value_type wanted, const char *what) {
    if (p->status != QZO_OK || index == NONE) return NONE;
    const node *found = &p->expression->nodes[index];
    if (found->type == wanted) return index;
    if (found->kind == NODE_TEXT && wanted == TYPE_NUMBER) {
        const char *keys[SETTINGS_MAX];
        size_t count = 0;
        for (const qzo_setting *s = qzo_settings; s->key && count < SETTINGS_MAX; s++)
            keys[count++] = s->key;
        const char *near = qzo_suggest(found->text, keys, count);
        return fail(p, at, "expected %s, found \"%.40s\", which is no setting%s%s%s", what,
                    found->text, near ? " (did you mean " : "", near ? near : "", near ? "?)" : "");
    }
    return fail(p, at, "expected %s, found %s", what,
                found->type == TYPE_TRUTH    ? "a condition"
                : found->type == TYPE_NUMBER ? "a number"
                                             : "a word");
}

static int parse_or(parser *p);

static int parse_number(parser *p) {
    char *end = NULL;
    const char *at = p->at;
    double value = strtod(at, &end);
    size_t plain = strspn(at, "0123456789.eE+-");
    if (end == at || (size_t)(end - at) > plain || !isfinite(value) || is_word_character(*end))
        return fail(p, at, "expected a decimal number");
    p->at = end;
    return add(p, at, (node){NODE_NUMBER, TYPE_NUMBER, NONE, NONE, value, NULL, NULL});
}

static int parse_quoted(parser *p) {
    const char *begin = p->at + 1, *end = strchr(begin, *p->at);
    if (end == NULL) return fail(p, p->at, "expected a closing %c", *p->at);
    p->at = end + 1;
    char *text = strndup(begin, (size_t)(end - begin));
    if (text == NULL) return fail(p, begin, "out of memory");
    return add(p, begin, (node){NODE_TEXT, TYPE_TEXT, NONE, NONE, 0.0, text, NULL});
}

static int parse_word(parser *p) {
    const char *begin = p->at;
    /* groups.scales.until is one word */
    while (is_word_character(*p->at) || (*p->at == '.' && is_word_character(p->at[1]))) p->at++;
    char *text = strndup(begin, (size_t)(p->at - begin));
    if (text == NULL) return fail(p, begin, "out of memory");
    const qzo_setting *setting = qzo_setting_find(text);
    if (setting == NULL)
        return add(p, begin, (node){NODE_TEXT, TYPE_TEXT, NONE, NONE, 0.0, text, NULL});
    free(text);
    bool is_text = setting->kind == QZO_SETTING_CHOICE || setting->kind == QZO_SETTING_PATH ||
                   setting->kind == QZO_SETTING_WORDS;
    return add(
        p, begin,
        (node){NODE_SETTING, is_text ? TYPE_TEXT : TYPE_NUMBER, NONE, NONE, 0.0, NULL, setting});
}

static int parse_primary(parser *p) {
    skip_blanks(p);
    const char *at = p->at;
    if (take(p, "(")) {
        int inner = parse_or(p);
        if (p->status == QZO_OK && !take(p, ")")) return fail(p, p->at, "expected )");
        return inner;
    }
    if (*at == '"' || *at == '\'') return parse_quoted(p);
    if ((*at >= '0' && *at <= '9') || *at == '.') return parse_number(p);
    if (is_word_character(*at)) return parse_word(p);
    return *at == '\0' ? fail(p, at, "expected a setting or a number, found the end")
                       : fail(p, at, "expected a setting or a number, found \"%.1s\"", at);
}

static int parse_unary(parser *p) {
    skip_blanks(p);
    const char *at = p->at;
    if (!take(p, "-")) return parse_primary(p);
    if (++p->depth > QZO_EXPRESSION_DEPTH_MAX)
        return fail(p, at, "expected at most %d levels", QZO_EXPRESSION_DEPTH_MAX);
    int inner = expect_type(p, at, parse_unary(p), TYPE_NUMBER, "a number");
    p->depth--;
    return add(p, at, (node){NODE_NEGATE, TYPE_NUMBER, inner, NONE, 0.0, NULL, NULL});
}

typedef struct operation {
    const char *token;
    node_kind kind;
} operation;

/* A chain "a op b op c" of one level; its signs and the level above it. */
static int parse_chain(parser *p, const operation *operations, int (*operand)(parser *),
                       value_type wanted, const char *what) {
    skip_blanks(p);
    const char *at = p->at;
    int left = operand(p);
    for (const operation *o = operations; p->status == QZO_OK && o->token != NULL;) {
        if (!take(p, o->token)) {
            o++;
            continue;
        }
        left = expect_type(p, at, left, wanted, what);
        skip_blanks(p);
        const char *right_at = p->at;
        int right = expect_type(p, right_at, operand(p), wanted, what);
        left = add(p, at, (node){o->kind, wanted, left, right, 0.0, NULL, NULL});
        o = operations;
    }
    return left;
}

static int parse_product(parser *p) {
    static const operation operations[] = {{"*", NODE_MULTIPLY}, {"/", NODE_DIVIDE}, {0}};
    return parse_chain(p, operations, parse_unary, TYPE_NUMBER, "a number");
}

static int parse_sum(parser *p) {
    static const operation operations[] = {{"+", NODE_ADD}, {"-", NODE_SUBTRACT}, {0}};
    return parse_chain(p, operations, parse_product, TYPE_NUMBER, "a number");
}

static int parse_comparison_sides(parser *p, const char *at, const operation *o, int left);

static int parse_comparison(parser *p) {
    static const operation operations[] = {{"==", NODE_EQUAL},
                                           {"!=", NODE_UNEQUAL},
                                           {"<=", NODE_LESS_EQUAL},
                                           {">=", NODE_GREATER_EQUAL},
                                           {"<", NODE_LESS},
                                           {">", NODE_GREATER},
                                           {0}};
    skip_blanks(p);
    const char *at = p->at;
    int left = parse_sum(p);
    for (const operation *o = operations; p->status == QZO_OK && o->token != NULL; o++)
        if (take(p, o->token)) return parse_comparison_sides(p, at, o, left);
    if (take(p, "=")) return fail(p, p->at - 1, "expected ==, found =");
    return left;
}

/* A word beside a setting must be one of the words that it takes; a path is resolved. */
static int bind_text(parser *p, const char *at, int word, int other) {
    node *text = &p->expression->nodes[word];
    const qzo_setting *setting = p->expression->nodes[other].setting;
    if (setting->kind == QZO_SETTING_PATH) {
        char *joined = qzo_path_join(p->folder, text->text);
        if (joined == NULL) return fail(p, at, "out of memory");
        free(text->text);
        text->text = joined;
        return word;
    }
    char expected[QZO_SETTING_EXPECTED_BYTES];
    for (int i = 0; setting->choice(i) != NULL; i++)
        if (strcmp(setting->choice(i), text->text) == 0) return word;
    qzo_setting_expected(expected, setting);
    return fail(p, at, "expected %s beside %s, found \"%.40s\"", expected, setting->key,
                text->text);
}

static int parse_comparison_sides(parser *p, const char *at, const operation *o, int left) {
    skip_blanks(p);
    const char *right_at = p->at;
    int right = parse_sum(p);
    if (p->status != QZO_OK) return NONE;
    bool by_text = type_of(p, left) == TYPE_TEXT && type_of(p, right) == TYPE_TEXT;
    const node *nodes = p->expression->nodes;
    if (by_text && (o->kind == NODE_EQUAL || o->kind == NODE_UNEQUAL) &&
        (nodes[left].kind == NODE_SETTING) != (nodes[right].kind == NODE_SETTING)) {
        if (nodes[left].kind == NODE_TEXT)
            left = bind_text(p, at, left, right);
        else
            right = bind_text(p, right_at, right, left);
    } else {
        left = expect_type(p, at, left, TYPE_NUMBER, "a number");
        right = expect_type(p, right_at, right, TYPE_NUMBER, "a number");
    }
    return add(p, at, (node){o->kind, TYPE_TRUTH, left, right, 0.0, NULL, NULL});
}

static int parse_not(parser *p) {
    skip_blanks(p);
    const char *at = p->at;
    if (!take(p, "not")) return parse_comparison(p);
    if (++p->depth > QZO_EXPRESSION_DEPTH_MAX)
        return fail(p, at, "expected at most %d levels", QZO_EXPRESSION_DEPTH_MAX);
    int inner = expect_type(p, at, parse_not(p), TYPE_TRUTH, "a condition");
    p->depth--;
    return add(p, at, (node){NODE_NOT, TYPE_TRUTH, inner, NONE, 0.0, NULL, NULL});
}

static int parse_and(parser *p) {
    static const operation operations[] = {{"and", NODE_AND}, {0}};
    return parse_chain(p, operations, parse_not, TYPE_TRUTH, "a condition");
}

static int parse_or(parser *p) {
    static const operation operations[] = {{"or", NODE_OR}, {0}};
    if (++p->depth > QZO_EXPRESSION_DEPTH_MAX)
        return fail(p, p->at, "expected at most %d levels", QZO_EXPRESSION_DEPTH_MAX);
    int made = parse_chain(p, operations, parse_and, TYPE_TRUTH, "a condition");
    p->depth--;
    return made;
}

qzo_status qzo_expression_parse(qzo_expression **out, const char *text, const char *folder) {
    parser p = {.text = text, .at = text, .folder = folder};
    *out = NULL;
    p.expression = calloc(1, sizeof *p.expression);
    node *nodes = calloc(QZO_EXPRESSION_NODES_MAX, sizeof *nodes);
    if (p.expression == NULL || nodes == NULL) {
        free(p.expression);
        free(nodes);
        return qzo_fail(QZO_ERR_MEMORY, "out of memory for a condition");
    }
    p.expression->nodes = nodes;
    p.expression->root = expect_type(&p, text, parse_or(&p), TYPE_TRUTH, "a condition");
    skip_blanks(&p);
    if (p.status == QZO_OK && *p.at != '\0')
        fail(&p, p.at, "expected the end, found \"%.20s\"", p.at);
    if (p.status == QZO_OK)
        *out = p.expression;
    else
        qzo_expression_free(p.expression);
    return p.status;
}

void qzo_expression_free(qzo_expression *expression) {
    if (expression == NULL) return;
    for (int i = 0; i < expression->node_count; i++) free(expression->nodes[i].text);
    free(expression->nodes);
    free(expression);
}

/* --- evaluating --- */

static double number_of_setting(const qzo_setting *setting, const qzo_trial_spec *spec) {
    const void *field = (const char *)spec + setting->offset;
    switch (setting->kind) {
    case QZO_SETTING_INT: return (double)*(const int64_t *)field;
    case QZO_SETTING_SEED: return (double)*(const uint64_t *)field;
    case QZO_SETTING_NUMBER: return *(const double *)field;
    case QZO_SETTING_CHOICE:
    case QZO_SETTING_WORDS:
    case QZO_SETTING_PATH: break;
    }
    return (double)NAN;
}

static const char *text_at(const qzo_expression *e, int index, const qzo_trial_spec *spec) {
    const node *n = &e->nodes[index];
    if (n->kind == NODE_TEXT) return n->text;
    const char *text =
        *(const char *const *)(const void *)((const char *)spec + n->setting->offset);
    return text != NULL ? text : "";
}

static double number_at(const qzo_expression *e, int index, const qzo_trial_spec *spec) {
    const node *n = &e->nodes[index];
    if (n->kind == NODE_NUMBER) return n->number;
    if (n->kind == NODE_SETTING) return number_of_setting(n->setting, spec);
    double left = number_at(e, n->left, spec);
    if (n->kind == NODE_NEGATE) return -left;
    double right = number_at(e, n->right, spec);
    switch (n->kind) {
    case NODE_ADD: return left + right;
    case NODE_SUBTRACT: return left - right;
    case NODE_MULTIPLY: return left * right;
    default: return right == 0.0 ? (double)NAN : left / right;
    }
}

static bool holds_at(const qzo_expression *e, int index, const qzo_trial_spec *spec) {
    const node *n = &e->nodes[index];
    if (n->kind == NODE_OR) return holds_at(e, n->left, spec) || holds_at(e, n->right, spec);
    if (n->kind == NODE_AND) return holds_at(e, n->left, spec) && holds_at(e, n->right, spec);
    if (n->kind == NODE_NOT) return !holds_at(e, n->left, spec);
    if (e->nodes[n->left].type == TYPE_TEXT) {
        bool equal = strcmp(text_at(e, n->left, spec), text_at(e, n->right, spec)) == 0;
        return equal == (n->kind == NODE_EQUAL);
    }
    double left = number_at(e, n->left, spec), right = number_at(e, n->right, spec);
    switch (n->kind) {
    case NODE_EQUAL: return left == right;
    case NODE_UNEQUAL: return left < right || left > right;
    case NODE_LESS: return left < right;
    case NODE_LESS_EQUAL: return left <= right;
    case NODE_GREATER: return left > right;
    default: return left >= right;
    }
}

bool qzo_expression_holds(const qzo_expression *expression, const qzo_trial_spec *spec) {
    return holds_at(expression, expression->root, spec);
}
