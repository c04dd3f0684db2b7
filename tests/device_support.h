/* Tests of every backend through its public table: memory, bounds and who runs. The CPU's
 * operations come first, which shows that a test and its bounds are right, then CUDA's where there
 * is a device (else 77, skipped). Bounds: docs/error-analysis-cuda.md. */
#ifndef QZO_TESTS_DEVICE_SUPPORT_H
#define QZO_TESTS_DEVICE_SUPPORT_H

#include "backend_support.h"

#include "backend/cuda_module.h"

#include <float.h>
#include <math.h>

/* Half a unit in the last place, relative; and half of the smallest positive value. */
static const double FLOAT_ROUNDING = 0x1p-24;
static const struct {
    const char *backend_name;
    bool is_bf16;
    double rounding, smallest;
} ACTIVATIONS[] = {
    {"cpu", false, 0.0, 0.0},
    {"cuda", false, 0x1p-11, 0x1p-25},
    {"cuda-bf16", true, 0x1p-8, 0x1p-134},
};
enum { BACKENDS = sizeof ACTIVATIONS / sizeof *ACTIVATIONS };
/* An fp32 result that is rounded to 16 bits is off by its own error too, 50 roundings at most. */
static const double FLOATS_BEFORE_HALF = 50.0;

static qzo_backend *backend;
static int which; /* of ACTIVATIONS */

/* --- memory of the backend --- */

static inline bool is_half(void) { return backend->ops->activation_bytes == sizeof(uint16_t); }

static inline uint16_t half_of(float value) {
    return ACTIVATIONS[which].is_bf16 ? qzo_float_to_bf16(value) : qzo_float_to_fp16(value);
}

static inline float float_of(uint16_t half) {
    return ACTIVATIONS[which].is_bf16 ? qzo_bf16_to_float(half) : qzo_fp16_to_float(half);
}

static inline void *device_bytes(const void *host, size_t size_bytes) {
    void *memory = NULL;
    assert_ok(backend->ops->allocate(backend, &memory, size_bytes));
    assert_ok(backend->ops->upload(backend, memory, host, size_bytes));
    return memory;
}

static inline float *device_floats(const float *host, int64_t count) {
    return device_bytes(host, (size_t)count * sizeof *host);
}

static inline int32_t *device_ints(const int32_t *host, int64_t count) {
    return device_bytes(host, (size_t)count * sizeof *host);
}

static inline void drop(const void *memory) {
    union {
        const void *in;
        void *out;
    } pointer = {.in = memory};
    backend->ops->release(backend, pointer.out);
}

static inline void host_floats(float *out, const float *memory, int64_t count) {
    assert_ok(backend->ops->download(backend, out, memory, (size_t)count * sizeof *out));
}

/* values become what the activation type can hold, so that both sides see the same inputs. */
static inline qzo_act *device_act(float *values, int64_t count) {
    if (!is_half()) return device_bytes(values, (size_t)count * sizeof *values);
    uint16_t *halves = malloc((size_t)count * sizeof *halves);
    for (int64_t i = 0; i < count; i++) {
        halves[i] = half_of(values[i]);
        values[i] = float_of(halves[i]);
    }
    void *memory = device_bytes(halves, (size_t)count * sizeof *halves);
    free(halves);
    return memory;
}

/* An output full of NaN: what is not written shows. */
static inline qzo_act *device_blank(int64_t count) {
    float *values = malloc((size_t)count * sizeof *values);
    for (int64_t i = 0; i < count; i++) values[i] = NAN;
    qzo_act *memory = device_act(values, count);
    free(values);
    return memory;
}

/* The caller frees. */
static inline float *host_act(const qzo_act *memory, int64_t count) {
    float *out = malloc((size_t)count * sizeof *out);
    uint16_t *halves = (void *)out;
    assert_ok(backend->ops->download(backend, out, memory,
                                     (size_t)count * backend->ops->activation_bytes));
    if (is_half()) /* backwards: a float covers two halves */
        for (int64_t i = count - 1; i >= 0; i--) {
            uint16_t half;
            memcpy(&half, halves + i, sizeof half);
            out[i] = float_of(half);
        }
    return out;
}

/* --- bounds --- */

/* What storing a value as an activation may change. */
static inline double storing(double value) {
    return ACTIVATIONS[which].rounding * fabs(value) + ACTIVATIONS[which].smallest;
}

static inline void assert_all_close(const float *actual, const double *expected,
                                    const double *limits, int64_t count, const char *what) {
    for (int64_t i = 0; i < count; i++)
        if (!(fabs((double)actual[i] - expected[i]) <= limits[i]))
            fail_msg("%s %s: element %lld of %lld is %.9g, expected %.9g to %.3g",
                     backend->ops->name, what, (long long)i, (long long)count, (double)actual[i],
                     expected[i], limits[i]);
}

static inline void assert_same_floats(const float *actual, const float *expected, int64_t count,
                                      const char *what) {
    for (int64_t i = 0; i < count; i++)
        if (qzo_float_bits(actual[i]) != qzo_float_bits(expected[i]))
            fail_msg("%s %s: element %lld of %lld is %.9g, expected the bits of %.9g",
                     backend->ops->name, what, (long long)i, (long long)count, (double)actual[i],
                     (double)expected[i]);
}

/* --- all backends --- */

/* The result of a test program whose `run` tests the open backend under a name. */
static inline int device_main(int (*run)(const char *name)) {
    const qzo_backend_options options = {.thread_count = 2};
    for (which = 0; which < BACKENDS; which++) {
        const char *name = ACTIVATIONS[which].backend_name;
        if (which == 1 && qzo_cuda_available() != QZO_OK) {
            print_message("skipped: %s\n", qzo_error_message());
            return 77;
        }
        if (qzo_backend_open(&backend, name, &options) != QZO_OK) {
            print_message("%s: %s\n", name, qzo_error_message());
            return 1;
        }
        int failed = run(name);
        qzo_backend_close(backend);
        if (failed != 0) return failed;
    }
    return 0;
}

#endif
