#include "optim/qspsa.h"

#include "base/fault.h"
#include "base/file_io.h"
#include "base/host_device.h"
#include "optim/guide.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { RECORD_BYTES = 32, PAIR = 2 };

/* Losses of a batch, cut into units (evaluation, micro-batch) that are dealt to the ranks. */
typedef struct unit_work {
    int64_t total; /* units */
    int64_t slots; /* that one rank computes at most */
    double *sums;  /* (total) by unit; only this rank's until they travelled */
    bool is_pair;  /* the two along the guide; else those of the samples and the clean one */
} unit_work;

struct qzo_qspsa {
    qzo_qspsa_settings settings;
    qzo_trainable trainable;
    qzo_objective objective;
    qzo_comm *comm;
    qzo_rule *rule;
    double bound;       /* the rule's, in this step */
    qzo_status failure; /* of this rank alone; the next exchange carries it */
    unit_work samples;
    unit_work pair;       /* of a rule with a guide; else nothing */
    qzo_guide *guide;     /* of such a rule */
    int64_t record_slots; /* records that each rank sends */
    bool units_travel;    /* not every rank computes all that its records need */
    double *my_sums;      /* (slots of the larger work) */
    double *all_sums;     /* (ranks, slots of the larger work) */
    uint8_t *my_records;  /* (record_slots, RECORD_BYTES) */
    uint8_t *all_records; /* (ranks, record_slots, RECORD_BYTES) */
    int64_t record_count; /* of a step */
    qzo_record *records;  /* (record_count) */
    float *k;             /* (record_count); that of the clean record stays 0 */
    qzo_gain *gains;      /* (samples) */
    uint64_t digest;      /* of the masters now */
    uint64_t state;       /* of the masters and the velocity: what steps depend on */
};

/* Units of a rank: [first, first of the next rank). Rounded up: rank 0, whose journal's errors and
 * whose answers to other groups travel with its units, always has one. */
static int64_t first_unit(const qzo_qspsa *optimizer, const unit_work *work, int64_t rank) {
    int64_t ranks = optimizer->comm->size;
    return (rank * work->total + ranks - 1) / ranks;
}

static bool open_work(unit_work *out, int64_t evaluations, int64_t units, int64_t ranks) {
    out->total = evaluations * units;
    out->slots = (out->total + ranks - 1) / ranks;
    out->sums = calloc((size_t)out->total + 1, sizeof(double));
    return out->sums != NULL;
}

qzo_status qzo_qspsa_open(qzo_qspsa **out, const qzo_qspsa_settings *settings,
                          const qzo_trainable *trainable, const qzo_objective *objective,
                          qzo_comm *comm) {
    qzo_qspsa *optimizer = calloc(1, sizeof *optimizer);
    if (optimizer == NULL) return qzo_fail(QZO_ERR_MEMORY, "out of memory for the optimizer");
    int64_t samples = settings->samples_per_step, ranks = comm->size;
    optimizer->settings = *settings;
    optimizer->trainable = *trainable;
    optimizer->objective = *objective;
    optimizer->comm = comm;
    int64_t evaluations = qzo_update_rule_evaluations(settings->rule, samples);
    int64_t along_guide = settings->rule->share != NULL ? PAIR : 0;
    optimizer->record_slots = (samples + ranks - 1) / ranks;
    optimizer->units_travel =
        ranks > 1 && (settings->rule->has_clean || along_guide > 0 || samples % ranks != 0);
    bool is_open =
        open_work(&optimizer->samples, evaluations - along_guide, objective->unit_count, ranks) &&
        open_work(&optimizer->pair, along_guide, objective->unit_count, ranks);
    optimizer->pair.is_pair = true;
    size_t sums = (size_t)(optimizer->pair.slots > optimizer->samples.slots
                               ? optimizer->pair.slots
                               : optimizer->samples.slots),
           record_bytes = (size_t)optimizer->record_slots * RECORD_BYTES;
    optimizer->my_sums = calloc(sums, sizeof(double));
    optimizer->all_sums = calloc(sums * (size_t)ranks, sizeof(double));
    optimizer->my_records = calloc(record_bytes, 1);
    optimizer->all_records = calloc(record_bytes * (size_t)ranks, 1);
    optimizer->record_count = qzo_update_rule_records(settings->rule, samples);
    optimizer->records = calloc((size_t)optimizer->record_count, sizeof(qzo_record));
    optimizer->k = calloc((size_t)optimizer->record_count, sizeof(float));
    optimizer->gains = calloc((size_t)samples, sizeof(qzo_gain));
    if (!is_open || optimizer->my_sums == NULL || optimizer->all_sums == NULL ||
        optimizer->my_records == NULL || optimizer->all_records == NULL ||
        optimizer->records == NULL || optimizer->k == NULL || optimizer->gains == NULL) {
        qzo_qspsa_close(optimizer);
        return qzo_fail(QZO_ERR_MEMORY, "out of memory for %lld samples per step",
                        (long long)samples);
    }
    qzo_status status = qzo_rule_open(&optimizer->rule, settings->rule, &settings->rule_settings);
    if (status == QZO_OK && along_guide > 0)
        status = qzo_guide_open(&optimizer->guide, &optimizer->trainable, samples);
    if (status != QZO_OK)
        qzo_qspsa_close(optimizer);
    else
        *out = optimizer;
    return status;
}

void qzo_qspsa_close(qzo_qspsa *optimizer) {
    if (optimizer == NULL) return;
    free(optimizer->samples.sums);
    free(optimizer->pair.sums);
    qzo_guide_close(optimizer->guide);
    free(optimizer->my_sums);
    free(optimizer->all_sums);
    free(optimizer->my_records);
    free(optimizer->all_records);
    free(optimizer->records);
    free(optimizer->k);
    free(optimizer->gains);
    qzo_rule_close(optimizer->rule);
    free(optimizer);
}

qzo_rule *qzo_qspsa_rule(qzo_qspsa *optimizer) { return optimizer->rule; }

static qzo_status read_digest(uint64_t *out, const qzo_trainable *trainable, const float *values) {
    return trainable->backend->ops->digest(trainable->backend, out, values, trainable->spans,
                                           trainable->span_count);
}

/* *state: of what has this digest of its masters and the velocity as it is. */
static qzo_status read_state(uint64_t *state, const qzo_trainable *trainable, uint64_t digest) {
    uint64_t velocity = 0;
    qzo_status status = QZO_OK;
    if (trainable->velocity != NULL)
        status = read_digest(&velocity, trainable, trainable->velocity);
    *state = digest + 3 * velocity; /* so that two that were swapped show */
    return status;
}

/* Both, of the values as they are. */
static qzo_status read_values(uint64_t *digest, uint64_t *state, const qzo_trainable *trainable) {
    qzo_status status = read_digest(digest, trainable, trainable->masters);
    return status == QZO_OK ? read_state(state, trainable, *digest) : status;
}

qzo_status qzo_qspsa_sync(qzo_qspsa *optimizer) {
    return read_values(&optimizer->digest, &optimizer->state, &optimizer->trainable);
}

/* --- records on the wire --- */

static void put_float(uint8_t *at, float value) { qzo_put_u32(at, qzo_float_bits(value)); }
static float get_float(const uint8_t *at) { return qzo_float_from_bits(qzo_get_u32(at)); }

static void put_record(uint8_t *at, const qzo_record *record) {
    qzo_put_u64(at, record->seed);
    put_float(at + 8, record->loss_plus);
    put_float(at + 12, record->loss_minus);
    put_float(at + 16, record->gradient);
    qzo_put_u32(at + 20, record->sample);
    qzo_put_u32(at + 24, record->flags);
    qzo_put_u32(at + 28, record->digest);
}

static qzo_record get_record(const uint8_t *at) {
    qzo_record record = {.seed = qzo_get_u64(at),
                         .loss_plus = get_float(at + 8),
                         .loss_minus = get_float(at + 12),
                         .gradient = get_float(at + 16),
                         .sample = qzo_get_u32(at + 20),
                         .flags = qzo_get_u32(at + 24),
                         .digest = qzo_get_u32(at + 28)};
    return record;
}

/* --- one step --- */

static int64_t batch_of(const qzo_qspsa *optimizer, int64_t step, int64_t sample) {
    const qzo_qspsa_settings *settings = &optimizer->settings;
    return settings->batch_per_sample ? (step - 1) * settings->samples_per_step + sample + 1 : step;
}

static uint64_t sample_seed(const qzo_qspsa *optimizer, int64_t step, int64_t sample) {
    return qzo_noise_seed(optimizer->settings.noise_seed, (uint64_t)step, (uint32_t)sample);
}

/* Losses that a sample has of its own. */
static int64_t sides_of(const qzo_qspsa *optimizer) {
    const qzo_update_rule *rule = optimizer->settings.rule;
    return rule->is_one_sided || rule->share != NULL ? 1 : PAIR;
}

static qzo_probe probe_of(const qzo_qspsa *optimizer, int64_t step, int64_t unit) {
    const qzo_qspsa_settings *settings = &optimizer->settings;
    int64_t evaluation = unit / optimizer->objective.unit_count, sides = sides_of(optimizer);
    int64_t sample = evaluation / sides;
    qzo_probe probe = {.step = step, .batch = step, .unit = unit % optimizer->objective.unit_count};
    if (sample == settings->samples_per_step) return probe; /* without perturbation */
    float eps = (float)settings->eps;
    probe.batch = batch_of(optimizer, step, sample);
    probe.perturbation = (qzo_perturbation){.seed = sample_seed(optimizer, step, sample),
                                            .c = evaluation % sides != 0 ? -eps : eps,
                                            .directions = settings->directions,
                                            .unit = optimizer->trainable.unit};
    return probe;
}

/* The values are those of the guide, so that nothing is left to add: first plus, then minus. */
static qzo_probe probe_along_guide(const qzo_qspsa *optimizer, int64_t step, int64_t unit) {
    int64_t units = optimizer->objective.unit_count;
    return (qzo_probe){.step = step,
                       .batch = step,
                       .unit = unit % units,
                       .perturbation = {.directions = optimizer->settings.directions,
                                        .unit = optimizer->trainable.unit}};
}

/* Whether this rank computes the unit and the same micro-batch under the other sign by one call:
 * where both are its own, and no core or guide moves the values in between. *minus: the unit is the
 * second of the two. */
static bool is_of_both(bool *minus, const qzo_qspsa *optimizer, const unit_work *work,
                       int64_t unit) {
    int64_t units = optimizer->objective.unit_count, evaluation = unit / units;
    int64_t first = first_unit(optimizer, work, optimizer->comm->rank);
    int64_t end = first_unit(optimizer, work, optimizer->comm->rank + 1);
    const qzo_core *core = optimizer->trainable.core;
    if (optimizer->objective.loss_sums == NULL || work->is_pair || sides_of(optimizer) != PAIR ||
        (core != NULL && core->enter != NULL) ||
        evaluation >= PAIR * optimizer->settings.samples_per_step)
        return false;
    *minus = evaluation % PAIR != 0;
    return *minus ? unit - units >= first : unit + units < end;
}

static float guide_eps(const qzo_qspsa *optimizer, int64_t unit) {
    float eps = (float)optimizer->settings.eps;
    return unit < optimizer->objective.unit_count ? eps : -eps;
}

/* One unit under its perturbation; the values are made ready for it where they are not those of the
 * unit before. */
static qzo_status evaluate_unit(qzo_qspsa *optimizer, const unit_work *work, double *sum,
                                int64_t step, int64_t unit, qzo_perturbation *entered,
                                bool is_first) {
    const qzo_objective *objective = &optimizer->objective;
    qzo_probe probe =
        work->is_pair ? probe_along_guide(optimizer, step, unit) : probe_of(optimizer, step, unit);
    qzo_status status = QZO_OK;
    if (is_first || probe.unit == 0) {
        *entered = probe.perturbation;
        status = work->is_pair ? qzo_guide_enter(optimizer->guide, guide_eps(optimizer, unit),
                                                 optimizer->settings.directions)
                               : qzo_core_enter(&optimizer->trainable, entered);
    }
    probe.perturbation = *entered;
    return status != QZO_OK ? status : objective->loss_sum(objective->context, sum, &probe);
}

/* This rank's units, unless it failed before. A failure is returned to be remembered: the others
 * wait in the exchange. */
static qzo_status evaluate_units(qzo_qspsa *optimizer, const unit_work *work, int64_t step,
                                 qzo_status status) {
    int64_t first = first_unit(optimizer, work, optimizer->comm->rank);
    int64_t end = first_unit(optimizer, work, optimizer->comm->rank + 1);
    qzo_perturbation perturbation;
    bool is_entered = false, minus = false; /* entered: for the unit before */
    for (int64_t unit = first; unit < end; unit++) {
        double sums[PAIR] = {(double)NAN, (double)NAN};
        bool both = is_of_both(&minus, optimizer, work, unit), is_first = !is_entered;
        is_entered = !both;
        if (both && minus) continue; /* it came with the other */
        if (status == QZO_OK && both) {
            const qzo_probe probe = probe_of(optimizer, step, unit);
            status = optimizer->objective.loss_sums(optimizer->objective.context, sums, &probe);
        } else if (status == QZO_OK) {
            status = evaluate_unit(optimizer, work, sums, step, unit, &perturbation, is_first);
        }
        work->sums[unit] = sums[0];
        if (both) work->sums[unit + optimizer->objective.unit_count] = sums[1];
    }
    qzo_status left =
        work->is_pair ? qzo_guide_leave(optimizer->guide) : qzo_core_leave(&optimizer->trainable);
    return status != QZO_OK ? status : left;
}

/* All units' sums to all ranks, where they do not have them. */
static qzo_status exchange_units(qzo_qspsa *optimizer, const unit_work *work) {
    const qzo_comm *comm = optimizer->comm;
    size_t slots = (size_t)work->slots;
    int64_t first = first_unit(optimizer, work, comm->rank);
    int64_t end = first_unit(optimizer, work, comm->rank + 1);
    if (!optimizer->units_travel) return QZO_OK;
    memcpy(optimizer->my_sums, work->sums + first, (size_t)(end - first) * sizeof(double));
    qzo_status status = qzo_comm_gather(optimizer->comm, optimizer->all_sums, optimizer->my_sums,
                                        slots * sizeof(double));
    for (int64_t rank = 0; status == QZO_OK && rank < comm->size; rank++) {
        first = first_unit(optimizer, work, rank);
        end = first_unit(optimizer, work, rank + 1);
        memcpy(work->sums + first, optimizer->all_sums + (size_t)rank * slots,
               (size_t)(end - first) * sizeof(double));
    }
    return status;
}

/* A NaN's sign and payload differ between processors and compilers; a journal's bytes must not. */
static float one_nan(float value) {
    return isnan(value) ? qzo_float_from_bits(0x7fc00000u) : value;
}

static float loss_of(const qzo_qspsa *optimizer, const unit_work *work, int64_t evaluation,
                     double weight) {
    int64_t units = optimizer->objective.unit_count;
    const double *sums = work->sums + evaluation * units;
    double total = 0.0;
    for (int64_t unit = 0; unit < units; unit++) total += sums[unit];
    return one_nan((float)(total / weight));
}

/* What both losses of a record say of each other; sides: perturbed ones among them. */
static void complete_record(const qzo_qspsa *optimizer, qzo_record *record, int64_t sides) {
    double difference = (double)record->loss_plus - (double)record->loss_minus;
    record->gradient = one_nan((float)(difference / ((double)sides * optimizer->settings.eps)));
    if (!isfinite(record->loss_plus) || !isfinite(record->loss_minus))
        record->flags |= QZO_FLAG_NOT_FINITE;
    else if (fabs((double)record->gradient) > optimizer->bound)
        record->flags |= QZO_FLAG_CLIPPED;
    bool is_zero = record->loss_plus == 0.0f && record->loss_minus == 0.0f;
    if (is_zero && !optimizer->objective.may_be_zero) record->flags |= QZO_FLAG_ZERO_LOSS;
}

static qzo_record record_of(const qzo_qspsa *optimizer, int64_t step, int64_t sample) {
    const qzo_objective *objective = &optimizer->objective;
    const qzo_update_rule *rule = optimizer->settings.rule;
    double weight = objective->loss_weight(objective->context, batch_of(optimizer, step, sample));
    int64_t sides = sides_of(optimizer), plus = sides * sample, minus = plus + sides - 1;
    qzo_record record = {.seed = sample_seed(optimizer, step, sample), .sample = (uint32_t)sample};
    if (rule->share != NULL) record.flags = QZO_FLAG_CANDIDATE;
    if (rule->is_one_sided) {
        record.flags = QZO_FLAG_ONE_SIDED;
        minus = optimizer->settings.samples_per_step; /* the clean one */
    }
    record.loss_plus = loss_of(optimizer, &optimizer->samples, plus, weight);
    record.loss_minus = loss_of(optimizer, &optimizer->samples, minus, weight);
    complete_record(optimizer, &record, sides);
    return record;
}

/* Every rank has its sums: it does not travel. */
static qzo_record clean_record(const qzo_qspsa *optimizer, int64_t step) {
    const qzo_objective *objective = &optimizer->objective;
    int64_t samples = optimizer->settings.samples_per_step;
    double weight = objective->loss_weight(objective->context, step);
    float loss = loss_of(optimizer, &optimizer->samples, samples * sides_of(optimizer), weight);
    qzo_record record = {.loss_plus = loss,
                         .loss_minus = loss,
                         .sample = (uint32_t)samples,
                         .flags = QZO_FLAG_CLEAN};
    if (!isfinite(loss)) record.flags |= QZO_FLAG_NOT_FINITE;
    if (loss == 0.0f && !objective->may_be_zero) record.flags |= QZO_FLAG_ZERO_LOSS;
    return record;
}

/* As the clean one. */
static qzo_record guided_record(const qzo_qspsa *optimizer, int64_t step) {
    const qzo_objective *objective = &optimizer->objective;
    double weight = objective->loss_weight(objective->context, step);
    qzo_record record = {.loss_plus = loss_of(optimizer, &optimizer->pair, 0, weight),
                         .loss_minus = loss_of(optimizer, &optimizer->pair, 1, weight),
                         .sample = (uint32_t)optimizer->settings.samples_per_step,
                         .flags = QZO_FLAG_GUIDED};
    complete_record(optimizer, &record, PAIR);
    return record;
}

/* Candidates to a guide, and the pair of losses along it. */
static qzo_status follow_guide(qzo_qspsa *optimizer, int64_t step, qzo_status *evaluated) {
    int64_t samples = optimizer->settings.samples_per_step;
    qzo_status status = exchange_units(optimizer, &optimizer->samples);
    if (status != QZO_OK) return status;
    for (int64_t i = 0; i < samples; i++) optimizer->records[i] = record_of(optimizer, step, i);
    for (int64_t i = 0; i < samples; i++)
        qzo_guide_set(optimizer->guide, i, optimizer->records[i].seed,
                      qzo_rule_share(optimizer->rule, optimizer->records, samples, i));
    *evaluated = evaluate_units(optimizer, &optimizer->pair, step, *evaluated);
    return QZO_OK;
}

/* Every rank fills every slot, if only with flags and digest. */
static void fill_slots(qzo_qspsa *optimizer, int64_t step, uint32_t run_flags, uint64_t state_now) {
    for (int64_t slot = 0; slot < optimizer->record_slots; slot++) {
        int64_t sample = optimizer->comm->rank * optimizer->record_slots + slot;
        qzo_record record = {.sample = (uint32_t)sample, .flags = QZO_FLAG_EMPTY};
        if (sample < optimizer->settings.samples_per_step)
            record = record_of(optimizer, step, sample);
        record.flags |= run_flags;
        record.digest = (uint32_t)state_now;
        put_record(optimizer->my_records + slot * RECORD_BYTES, &record);
    }
}

/* Slots of all ranks to records in order of samples; flags of the run are taken out of them. */
static qzo_status collect_records(qzo_qspsa *optimizer, uint32_t *any_flags) {
    int64_t slots = optimizer->record_slots * optimizer->comm->size, count = 0;
    int desync_rank = -1;
    *any_flags = 0;
    for (int64_t slot = 0; slot < slots; slot++) {
        qzo_record record = get_record(optimizer->all_records + slot * RECORD_BYTES);
        *any_flags |= record.flags & QZO_FLAGS_RUN_DEPENDENT;
        uint32_t first_digest = qzo_get_u32(optimizer->all_records + 28);
        bool corrupt = (record.flags & QZO_FLAG_CORRUPT) != 0;
        if ((corrupt || record.digest != first_digest) && desync_rank < 0)
            desync_rank = (int)(slot / optimizer->record_slots);
        if ((record.flags & QZO_FLAG_EMPTY) != 0) continue;
        record.flags &= ~(uint32_t)QZO_FLAGS_RUN_DEPENDENT;
        record.digest = 0;
        optimizer->records[count++] = record;
    }
    /* A rank that failed while it applied the last step differs, and says why itself. */
    if (desync_rank >= 0 && (*any_flags & QZO_FLAG_FAILED) == 0)
        return qzo_fail(QZO_ERR_DESYNC,
                        "the scales of rank %d are not those that the last update left",
                        desync_rank);
    return QZO_OK;
}

static double rate_at(const qzo_qspsa_settings *settings, int64_t step) {
    return settings->learning_rate *
           qzo_lr_factor(settings->schedule, step, settings->steps, settings->warmup_steps);
}

qzo_status qzo_qspsa_apply(const qzo_trainable *trainable, qzo_gain *gains_scratch,
                           const qzo_qspsa_settings *settings, const qzo_step *step,
                           uint64_t *digest) {
    int64_t samples = settings->samples_per_step;
    const qzo_core_step applied = {.records = step->records,
                                   .k = step->k,
                                   .record_count =
                                       step->record_count < samples ? step->record_count : samples,
                                   .directions = settings->directions,
                                   .rate = rate_at(settings, step->step),
                                   .eps = settings->eps,
                                   .clip = settings->rule_settings.clip,
                                   .digest = digest};
    return qzo_core_apply(trainable, gains_scratch, &applied);
}

void qzo_qspsa_fail(qzo_qspsa *optimizer, qzo_status status) {
    if (optimizer->failure == QZO_OK) optimizer->failure = status;
}

qzo_status qzo_qspsa_failure(const qzo_qspsa *optimizer) { return optimizer->failure; }

/* The exchanged records to k and to the masters. */
static qzo_status apply_step(qzo_qspsa *optimizer, int64_t step) {
    qzo_status status = QZO_OK;
    const qzo_qspsa_settings *settings = &optimizer->settings;
    qzo_rule_factors(optimizer->k, optimizer->rule, optimizer->records, settings->samples_per_step,
                     rate_at(settings, step));
    if (qzo_fault_at_step(QZO_FAULT_UPDATE_ERROR, step))
        return qzo_fail(QZO_ERR_ENVIRONMENT, "the update of step %lld failed on purpose",
                        (long long)step);
    const qzo_step done = {.step = step,
                           .records = optimizer->records,
                           .k = optimizer->k,
                           .record_count = optimizer->record_count};
    QZO_TRY(qzo_qspsa_apply(&optimizer->trainable, optimizer->gains, settings, &done,
                            &optimizer->digest));
    QZO_TRY(read_state(&optimizer->state, &optimizer->trainable, optimizer->digest));
    qzo_rule_observe(optimizer->rule, optimizer->records, settings->samples_per_step);
cleanup:
    return status;
}

qzo_status qzo_qspsa_step(qzo_qspsa *optimizer, int64_t step, uint32_t my_flags, qzo_step *out,
                          uint32_t *any_flags) {
    qzo_status status = QZO_OK;
    optimizer->bound = qzo_rule_bound(optimizer->rule);
    qzo_value_groups_enter(optimizer->trainable.groups, optimizer->trainable.group_count, step);
    const unit_work *last = optimizer->guide != NULL ? &optimizer->pair : &optimizer->samples;
    qzo_status evaluated = evaluate_units(optimizer, &optimizer->samples, step, optimizer->failure);
    if (optimizer->guide != NULL) QZO_TRY(follow_guide(optimizer, step, &evaluated));
    /* Read again after the losses: a value that changed since the update is found before anything
     * computed from it is applied. */
    uint64_t digest_now, state_now = optimizer->state;
    if (evaluated == QZO_OK)
        evaluated = read_values(&digest_now, &state_now, &optimizer->trainable);
    if (evaluated != QZO_OK) my_flags |= QZO_FLAG_FAILED;
    if (state_now != optimizer->state) my_flags |= QZO_FLAG_CORRUPT;
    QZO_TRY(exchange_units(optimizer, last));
    fill_slots(optimizer, step, my_flags, state_now);
    QZO_TRY(qzo_comm_gather(optimizer->comm, optimizer->all_records, optimizer->my_records,
                            (size_t)optimizer->record_slots * RECORD_BYTES));
    status = collect_records(optimizer, any_flags);
    if ((*any_flags & QZO_FLAG_FAILED) != 0)
        return qzo_comm_worst_status(optimizer->comm, evaluated);
    if (status != QZO_OK) goto cleanup;
    if (optimizer->record_count > optimizer->settings.samples_per_step)
        optimizer->records[optimizer->record_count - 1] = optimizer->guide != NULL
                                                              ? guided_record(optimizer, step)
                                                              : clean_record(optimizer, step);

    qzo_qspsa_fail(optimizer, apply_step(optimizer, step));
    *out = (qzo_step){.step = step,
                      .records = optimizer->records,
                      .k = optimizer->k,
                      .record_count = optimizer->record_count,
                      .digest = optimizer->digest};
cleanup:
    return status;
}
