/* One trainable value: how it is perturbed, updated, constrained and digested. Shared by C and
 * CUDA; these lines are the promise that a journal replays to the same bits anywhere. */
#ifndef QZO_BASE_UPDATE_H
#define QZO_BASE_UPDATE_H

#include "base/host_device.h"

/* Relative perturbation: z is replaced by this, rounded once, wherever z stands below. unit is the
 * element's initial value; its sign is as good as the other, since z has none. */
QZO_HOST_DEVICE static inline float qzo_scaled_direction(float unit, float z) {
    return QZO_FMUL(unit, z);
}

/* A group of values may have its own eps and learning rate, as factors of the trial's: c and k are
 * multiplied once, before any value is touched. A factor of 1 changes no bit. */
QZO_HOST_DEVICE static inline float qzo_scaled(float c_or_k, float factor) {
    return QZO_FMUL(c_or_k, factor);
}

/* What the forward pass sees: c = +eps or -eps. Not constrained, may be negative. */
QZO_HOST_DEVICE static inline float qzo_perturbed(float value, float c, float z) {
    return QZO_FMA(c, z, value);
}

/* One record's share of a step; k comes from the journal. */
QZO_HOST_DEVICE static inline float qzo_updated(float value, float k, float z) {
    return QZO_FMA(-k, z, value);
}

/* With momentum the records move a velocity instead, which keeps a share of what it was, and the
 * velocity the value, once per step. */
QZO_HOST_DEVICE static inline float qzo_decayed(float velocity, float decay) {
    return QZO_FMUL(decay, velocity);
}

QZO_HOST_DEVICE static inline float qzo_moved(float value, float velocity) {
    return QZO_FADD(value, velocity);
}

/* After all records of a step. NaN becomes the floor too. */
QZO_HOST_DEVICE static inline float qzo_constrained_positive(float value, float floor) {
    return value > floor ? value : floor;
}

/* Keeps the sign that the value has before the step; |value| >= floor. Zero has no sign that a step
 * may give it, and stays what it is: a block of weights that are all zero. */
QZO_HOST_DEVICE static inline float qzo_constrained_sign(float value, float before, float floor) {
    if (before == 0.0f) return before;
    if (before < 0.0f) return value < -floor ? value : -floor;
    return value > floor ? value : floor;
}

/* The masters' digest is the sum of this over all elements modulo 2^64: any order gives the same.
 * The finalizer of splitmix64 (Steele, Lea, Flood 2014) over place and bits. */
QZO_HOST_DEVICE static inline uint64_t qzo_digest_mix(uint32_t tensor_id, uint64_t element,
                                                      float value) {
    uint64_t x = ((uint64_t)tensor_id << 32 ^ element) * 0x9E3779B97F4A7C15u;
    x ^= (uint64_t)qzo_float_bits(value) + 0x9E3779B97F4A7C15u + (x >> 29);
    x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9u;
    x = (x ^ (x >> 27)) * 0x94D049BB133111EBu;
    return x ^ (x >> 31);
}

#endif
