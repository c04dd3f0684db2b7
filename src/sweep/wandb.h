/* Sweep files of Weights & Biases, as they are: recognized by their key `program`. Of the names
 * that trainers commonly have for settings, also in `command` ("--max_steps=20000"), those that qzo
 * has under another name are read; what a file only says to its own program is ignored. Each of
 * these is written into the sweep's notes. A swept parameter that qzo lacks is refused: its trials
 * would be equal. */
#ifndef QZO_SWEEP_WANDB_H
#define QZO_SWEEP_WANDB_H

#include "sweep/sweep_reader.h"

/* The keys of the top level that only such files have. */
enum {
    QZO_WANDB_PROGRAM,
    QZO_WANDB_COMMAND,
    QZO_WANDB_PROJECT,
    QZO_WANDB_ENTITY,
    QZO_WANDB_DESCRIPTION,
    QZO_WANDB_EARLY_TERMINATE,
    QZO_WANDB_KEY_COUNT
};
extern const char *const qzo_wandb_keys[QZO_WANDB_KEY_COUNT];

/* The setting behind a trainer's name for it; NULL where qzo has none. */
const qzo_setting *qzo_wandb_setting(const char *name);

/* A parameter of no setting: noted, or refused where it has several values. */
qzo_status qzo_wandb_ignore_parameter(qzo_reader *r, const qzo_yaml_node *key);

/* Settings in `command`, and notes of what is ignored. After parameters, which win. */
qzo_status qzo_wandb_read(qzo_reader *r, const qzo_yaml_node *const *found);

/* The metric, whatever its name: the best step is chosen on dev. */
qzo_status qzo_wandb_metric(qzo_reader *r, const qzo_yaml_node *name, const qzo_yaml_node *goal);

#endif
