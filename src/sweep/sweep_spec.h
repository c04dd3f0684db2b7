/* A sweep file: YAML to a typed sweep. Errors read "FILE:LINE:COLUMN: expected ..., found ..." and
 * name the closest known key where one is near. Nothing else of the program knows YAML.
 *
 * Top-level keys: name, model, task, ranks_per_trial (a number or "all"), train (a mapping of
 * settings), method ("grid"), metric ({name, goal}), parameters (mapping of key to {value: x} or
 * {values: [x, ...]}; any setting of train, also model and task). */
#ifndef QZO_SWEEP_SWEEP_SPEC_H
#define QZO_SWEEP_SWEEP_SPEC_H

#include "base/status.h"
#include "trial/trial_spec.h"

#include <stddef.h>

typedef struct qzo_parameter {
    const qzo_setting *setting;
    char **values; /* texts, already checked against the setting; a path as it was written */
    int64_t value_count;
    bool swept; /* written with `values`: it gets a column in the tables */
} qzo_parameter;

enum { QZO_RANKS_ALL = 0, QZO_RANKS_PER_TRIAL_MAX = 1 << 20, QZO_SWEEP_NAME_BYTES_MAX = 200 };

/* NULL-terminated names of what a sweep does with its parameters: grid. */
extern const char *const qzo_sweep_methods[];

typedef struct qzo_sweep_spec {
    char *name; /* the file's, without folder and ending, where it names none */
    char *file_path;
    char *folder; /* of the file: relative paths start here */
    char *text;   /* the file, byte for byte */
    size_t text_bytes;
    qzo_trial_spec base;       /* train, model, task, metric; paths joined with folder */
    int64_t ranks_per_trial;   /* QZO_RANKS_ALL or a count */
    const char *method;        /* a name of a registry */
    qzo_parameter *parameters; /* in the file's order */
    int64_t parameter_count;
} qzo_sweep_spec;

qzo_status qzo_sweep_spec_load(qzo_sweep_spec **out, const char *path);

/* The same over text; name stands in messages, folder is where relative paths start. */
qzo_status qzo_sweep_spec_parse(qzo_sweep_spec **out, const char *text, size_t text_bytes,
                                const char *name, const char *folder);

void qzo_sweep_spec_free(qzo_sweep_spec *sweep); /* NULL is fine */

#endif
