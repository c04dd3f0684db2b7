/* compat: paper. The arithmetic of the paper's program (github maifoundations/QZO at f843ddc,
 * large_language_models/trainer.py, QZOTrainer: zo_perturb_parameters, zo_step, zo_update), in
 * which scales are fp16 tensors, changed in place four times a step:
 *
 *   s = s + 1 * z * eps      loss+
 *   s = s + -2 * z * eps     loss-
 *   s = s + 1 * z * eps      back, but for the rounding: this is the drift
 *   s = clamp(s - lr * (d * z), min=1e-7),   d = min(max(-100, d), 100)
 *
 * PyTorch evaluates from left to right, each product and sum in fp32 and rounded to fp16 at once; a
 * Python number (eps, lr, d) is rounded to fp32 first. z is drawn in fp16 there; here it is the
 * noise of base/noise.h rounded to fp16. Losses and d are computed as everywhere in this program,
 * from fp32 logits: theirs has the grain of fp16.
 *
 * The masters hold fp16 numbers. Perturbed values are written over them for the losses and taken
 * back by `leave`, so that a step that is given up leaves nothing behind; the round trip and its
 * drift are part of `apply`, which is what a replay calls. Everything is computed on the host, so
 * every backend gives the same bits: a comparison has no need to be fast. */
#include "base/half.h"
#include "base/host_device.h"
#include "optim/cores.h"

#include <math.h>
#include <stdlib.h>

struct qzo_core_room {
    int64_t value_count;
    float *start;  /* (value_count): the values that the step began with */
    float *walked; /* (value_count): what the masters become */
    float *z;      /* (value_count): in fp16, of z_seed */
    uint64_t z_seed;
    qzo_directions z_directions;
    bool has_z, is_entered;
};

qzo_status qzo_core_room_open(qzo_core_room **out, const qzo_core *core, int64_t value_count) {
    *out = NULL;
    if (core->value_bytes == 0) return QZO_OK;
    qzo_core_room *room = calloc(1, sizeof *room);
    size_t count = value_count > 0 ? (size_t)value_count : 1;
    if (room != NULL) {
        room->value_count = value_count;
        room->start = calloc(count, sizeof(float));
        room->walked = calloc(count, sizeof(float));
        room->z = calloc(count, sizeof(float));
    }
    if (room == NULL || room->start == NULL || room->walked == NULL || room->z == NULL) {
        qzo_core_room_close(room);
        return qzo_fail(QZO_ERR_MEMORY, "out of memory for %lld values of compat: %s",
                        (long long)value_count, core->name);
    }
    *out = room;
    return QZO_OK;
}

void qzo_core_room_close(qzo_core_room *room) {
    if (room == NULL) return;
    free(room->start);
    free(room->walked);
    free(room->z);
    free(room);
}

/* --- one value --- */

static float to_fp16(float value) { return qzo_fp16_to_float(qzo_float_to_fp16(value)); }

/* s + factor * z * eps */
static float walk(float s, float factor, float z, float eps) {
    float step = to_fp16(to_fp16(factor * z) * eps);
    return to_fp16(s + step);
}

/* s - rate * (d * z) */
static float update(float s, float rate, float d, float z) {
    float step = to_fp16(rate * to_fp16(d * z));
    return to_fp16(s - step);
}

/* The clamp of the program, which knows positive scales alone; signed ones are clamped away from
 * zero on their own side. */
static float clamped(float s, float start, float floor, qzo_constraint constraint) {
    if (constraint == QZO_CONSTRAINT_FREE) return s;
    if (constraint == QZO_CONSTRAINT_KEEP_SIGN && start == 0.0f) return start;
    if (constraint == QZO_CONSTRAINT_KEEP_SIGN && start < 0.0f) return s > -floor ? -floor : s;
    return s < floor ? floor : s;
}

/* --- all of them --- */

static size_t values_bytes(const qzo_core_room *room) {
    return (size_t)room->value_count * sizeof(float);
}

static void draw(qzo_core_room *room, const qzo_trainable *trainable, uint64_t seed,
                 qzo_directions directions) {
    if (room->has_z && room->z_seed == seed && room->z_directions == directions) return;
    for (int64_t i = 0; i < trainable->span_count; i++) {
        const qzo_span *span = &trainable->spans[i];
        qzo_noise_fill(room->z + span->offset, seed, span->tensor_id, 0, span->count, directions);
    }
    for (int64_t i = 0; i < room->value_count; i++) room->z[i] = to_fp16(room->z[i]);
    room->z_seed = seed;
    room->z_directions = directions;
    room->has_z = true;
}

static qzo_status read_masters(qzo_core_room *room, const qzo_trainable *trainable) {
    return trainable->backend->ops->download(trainable->backend, room->start, trainable->masters,
                                             values_bytes(room));
}

static qzo_status write_masters(const qzo_trainable *trainable, const float *values) {
    return trainable->backend->ops->upload(trainable->backend, trainable->masters, values,
                                           values_bytes(trainable->room));
}

static qzo_status start(const qzo_trainable *trainable) {
    qzo_core_room *room = trainable->room;
    room->is_entered = false;
    qzo_status status = read_masters(room, trainable);
    if (status != QZO_OK) return status;
    for (int64_t i = 0; i < room->value_count; i++) room->walked[i] = to_fp16(room->start[i]);
    return write_masters(trainable, room->walked);
}

static qzo_status enter(const qzo_trainable *trainable, qzo_perturbation *perturbation) {
    qzo_core_room *room = trainable->room;
    qzo_status status = room->is_entered ? QZO_OK : read_masters(room, trainable);
    if (status != QZO_OK) return status;
    room->is_entered = true;
    draw(room, trainable, perturbation->seed, perturbation->directions);
    float eps = fabsf(perturbation->c);
    for (int64_t i = 0; i < room->value_count; i++) {
        float s = walk(room->start[i], 1.0f, room->z[i], eps);
        room->walked[i] = perturbation->c < 0.0f ? walk(s, -2.0f, room->z[i], eps) : s;
    }
    perturbation->c = 0.0f;
    return write_masters(trainable, room->walked);
}

static qzo_status leave(const qzo_trainable *trainable) {
    qzo_core_room *room = trainable->room;
    if (!room->is_entered) return QZO_OK;
    room->is_entered = false;
    return write_masters(trainable, room->start);
}

/* One record, which is all that a step has. A gradient that is not finite is not applied, but the
 * values have been there and back. */
static qzo_status apply(const qzo_trainable *trainable, qzo_gain *gains,
                        const qzo_core_step *step) {
    qzo_core_room *room = trainable->room;
    const qzo_record *record = &step->records[0];
    (void)gains;
    if (step->record_count != 1)
        return qzo_fail(QZO_ERR_CONFIG, "compat: paper has one sample per step, found %lld",
                        (long long)step->record_count);
    qzo_status status = read_masters(room, trainable);
    if (status != QZO_OK) return status;
    draw(room, trainable, record->seed, step->directions);
    bool is_finite = (record->flags & QZO_FLAG_NOT_FINITE) == 0;
    float d =
        is_finite ? (float)fmin(fmax(-step->clip, (double)record->gradient), step->clip) : 0.0f;
    float eps = (float)step->eps, rate = (float)step->rate;
    for (int64_t i = 0; i < trainable->span_count; i++) {
        const qzo_span *span = &trainable->spans[i];
        float floor = to_fp16(span->floor);
        for (int64_t at = span->offset; at < span->offset + span->count; at++) {
            float z = room->z[at];
            float s = walk(walk(walk(room->start[at], 1.0f, z, eps), -2.0f, z, eps), 1.0f, z, eps);
            s = update(s, rate, d, z);
            room->walked[at] = clamped(s, room->start[at], floor, span->constraint);
        }
    }
    status = write_masters(trainable, room->walked);
    if (status != QZO_OK || step->digest == NULL) return status;
    return trainable->backend->ops->digest(trainable->backend, step->digest, trainable->masters,
                                           trainable->spans, trainable->span_count);
}

const qzo_core qzo_core_paper = {.name = "paper",
                                 .value_bytes = 3 * (int64_t)sizeof(float),
                                 .start = start,
                                 .enter = enter,
                                 .leave = leave,
                                 .apply = apply};
