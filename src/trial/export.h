/* A trial's tuned values as files that other programs read: the model folder in its own format, the
 * changed tensors alone, or the journal from which anyone with the base model rebuilds them. */
#ifndef QZO_TRIAL_EXPORT_H
#define QZO_TRIAL_EXPORT_H

#include "trial/replay.h"

typedef enum {
    QZO_EXPORT_FOLDER, /* a complete model folder */
    QZO_EXPORT_DELTA,  /* model.safetensors with the changed tensors */
    QZO_EXPORT_MERGED, /* a complete model folder with the adapters in its weights */
} qzo_export_kind;

/* Means over the dev split; NaN where it was not evaluated. */
typedef struct qzo_export_score {
    double score, loss;
} qzo_export_score;

typedef struct qzo_export_report {
    int64_t step;
    uint64_t digest;           /* of the fp32 values */
    int64_t value_count;       /* trainable values */
    int64_t changed_count;     /* whose fp32 value differs from the initial one */
    int64_t surviving_count;   /* of those: that still do in the written files */
    int64_t tensor_count;      /* tensors written anew */
    bool has_adapters;         /* as a PEFT folder of their own */
    bool has_model;            /* beside it; else that folder is all */
    qzo_export_score tuned;    /* of the fp32 values */
    qzo_export_score exported; /* of the written folder, read back */
} qzo_export_report;

typedef struct qzo_export_request {
    qzo_export_kind kind;
    int64_t step;                  /* -1: the best dev evaluation's */
    bool evaluate;                 /* score dev before and after */
    const qzo_digest *base_digest; /* of the model that the trial started from */
    const char *final_path;        /* absolute; where the folder will be */
} qzo_export_request;

/* Fills the empty folder `path`. Adapters are a PEFT folder: that one where nothing else trains,
 * else `adapter` in it, which then names final_path as its base. file and spec: the trial's;
 * spec->model_path is the base model, refused where its contents are not those that the journal
 * names. The bench holds the written model afterwards (FOLDER), or the base (DELTA: what is read
 * back is the changes as stored). */
qzo_status qzo_export_write(qzo_export_report *out, qzo_workbench *bench,
                            const qzo_journal_file *file, const qzo_trial_spec *spec,
                            const qzo_export_request *request, const char *path);

/* Bytes of the journal up to and with step `until_step`: whole frames, so that replay gives the
 * values of that step, whose digest it records. QZO_ERR_USAGE where the journal ends before. */
qzo_status qzo_export_journal_bytes(size_t *size_bytes, uint64_t *digest,
                                    const qzo_journal_file *file, const qzo_trial_spec *spec,
                                    int64_t until_step);

#endif
