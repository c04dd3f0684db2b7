/* What the readers of a sweep file's parts share: places in messages, keys of a mapping, values of
 * settings. Only src/sweep/sweep_*.c and wandb.c include it. */
#ifndef QZO_SWEEP_SWEEP_READER_H
#define QZO_SWEEP_SWEEP_READER_H

#include "sweep/sweep_spec.h"
#include "sweep/yaml_tree.h"

enum { QZO_WORDS_MAX = 128, QZO_LIST_BYTES = 1024, QZO_FOUND_BYTES = 96 };

typedef struct qzo_reader {
    qzo_sweep_spec *sweep;
    const char *name;                         /* of the file, for messages */
    const qzo_yaml_node *seen[QZO_WORDS_MAX]; /* per setting: the key that set it */
    bool is_foreign;                          /* a W&B file: sweep/wandb.h */
} qzo_reader;

/* Words of a mapping's keys, for look-up and for messages. */
typedef struct qzo_word_list {
    const char *words[QZO_WORDS_MAX];
    size_t count;
} qzo_word_list;

/* --- nodes --- */

bool qzo_yaml_is_nothing(const qzo_yaml_node *node); /* ~, null or empty */
int64_t qzo_yaml_child_count(const qzo_yaml_node *node);
const qzo_yaml_node *qzo_yaml_value_of(const qzo_yaml_node *key); /* NULL for NULL */

/* What stands there, bounded and in one line. */
void qzo_yaml_describe(char out[QZO_FOUND_BYTES], const qzo_yaml_node *node);

/* --- messages: "FILE:LINE:COLUMN: ..." --- */

qzo_status qzo_reader_fail(const qzo_reader *r, const qzo_yaml_node *node, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
qzo_status qzo_reader_fail_memory(const qzo_reader *r);
qzo_status qzo_reader_fail_expected(const qzo_reader *r, const qzo_yaml_node *node, const char *key,
                                    const char *expected);
qzo_status qzo_reader_fail_unknown(const qzo_reader *r, const qzo_yaml_node *key, const char *where,
                                   const qzo_word_list *list);
/* "a, b, c", or "a, b and 7 more" where it would be too long */
void qzo_reader_list(char out[QZO_LIST_BYTES], const qzo_word_list *list);

/* Where a setting that stands in the wrong mapping belongs; NULL for unknown words. */
const char *qzo_reader_right_place(const char *key);

/* --- mappings --- */

qzo_status qzo_reader_expect_mapping(const qzo_reader *r, const qzo_yaml_node *node,
                                     const char *where);
qzo_status qzo_reader_expect_key(const qzo_reader *r, const qzo_yaml_node *key, const char *where);

/* found (of list's count) = the key node of each word, or NULL. The value is its `next`. */
qzo_status qzo_reader_find_keys(const qzo_yaml_node **found, const qzo_reader *r,
                                const qzo_yaml_node *mapping, const char *where,
                                const qzo_word_list *list);

/* --- settings --- */

/* Train and parameters set the same things: each once, in one place. */
qzo_status qzo_reader_claim(qzo_reader *r, const qzo_setting *setting, const qzo_yaml_node *key);

/* Reads one value into spec: the type of the YAML node first, then the setting's own check. */
qzo_status qzo_reader_value(const qzo_reader *r, qzo_trial_spec *spec, const qzo_setting *setting,
                            const qzo_yaml_node *value);

/* A whole number without a leading zero; 0 where it is none, or above max. */
int64_t qzo_reader_count(const qzo_yaml_node *value, int64_t max);

qzo_word_list qzo_reader_settings(bool with_train, bool with_top);

/* --- parts of the file --- */

/* value NULL: fifo. */
qzo_status qzo_reader_scheduler(qzo_reader *r, const qzo_yaml_node *value);

/* The words of sweep_space.c among those of the top level, and their reading; found[] is of
 * QZO_SPACE_KEY_COUNT key nodes or NULL. */
enum { QZO_SPACE_PARAMETERS, QZO_SPACE_TRIALS, QZO_SPACE_ZIP, QZO_SPACE_EXCLUDE, QZO_SPACE_GRIDS };
enum { QZO_SPACE_KEY_COUNT = QZO_SPACE_GRIDS + 1 };
extern const char *const qzo_space_keys[QZO_SPACE_KEY_COUNT];
qzo_status qzo_reader_spaces(qzo_reader *r, const qzo_yaml_node *const *found);

#endif
