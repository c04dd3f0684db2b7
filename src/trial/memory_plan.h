/* What a trial will take of memory on each rank, counted by loading it into a backend that holds
 * nothing: for `qzo plan` and the checks before a sweep. */
#ifndef QZO_TRIAL_MEMORY_PLAN_H
#define QZO_TRIAL_MEMORY_PLAN_H

#include "trial/workbench.h"

typedef struct qzo_memory_plan {
    char backend_name[16];
    /* On the host. */
    int64_t mapped_bytes; /* the files, in the page cache, shared by the ranks of a host */
    int64_t host_bytes;   /* values of the best step, weights that had to be turned */
    /* The backend's own allocations: on the device, where it has one. */
    int64_t weight_bytes;  /* copies of codes and zero points; 0: read from the mapping */
    int64_t ends_bytes;    /* embeddings and head, likewise */
    int64_t loaded_bytes;  /* norms and biases */
    int64_t masters_bytes; /* initial and current values, and what the rule keeps beside them */
    int64_t activation_bytes;
    int64_t scratch_bytes;
    int64_t own_bytes; /* the sum of these six */
    /* Beside them, where there is a device. */
    const qzo_memory_item *library_memory; /* estimates; NULL: none */
    int64_t library_bytes;                 /* their sum */
    int64_t
        rank_bytes; /* what --memory-limit bounds: own and libraries', or own, mapped and host's */
    int64_t adapter_count, adapter_values; /* linear layers with an adapter; of value_count */
    int64_t value_count;
    int64_t row_max;   /* of the largest forward pass */
    int64_t pair_rows; /* of the largest that runs both signs of a perturbation at once; 0: none */
} qzo_memory_plan;

/* The same errors as qzo_workbench_prepare and check_trainable. thread_count: of a rank on the CPU.
 */
qzo_status qzo_memory_plan_measure(qzo_memory_plan *out, const qzo_trial_spec *spec,
                                   const char *backend_name, int thread_count, qzo_pairs pairs);

#endif
