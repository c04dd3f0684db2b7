/* Uses every function of the headers that C and CUDA share, so that unit_ptx.sh can read what the
 * compiler makes of them. With -DBARE also a product and a sum as a careless header would have
 * them. */
#include "base/half.h"
#include "base/philox.h"
#include "base/update.h"
#include "weights/gptq_decode.h"

extern "C" __global__ void noise_fill(float *out, uint64_t seed, uint32_t tensor_id,
                                      uint64_t first_block) {
    uint64_t block = first_block + blockIdx.x * (uint64_t)blockDim.x + threadIdx.x;
    qzo_normals(out + 4 * block, qzo_philox(seed, block, tensor_id, QZO_PURPOSE_NOISE));
}

extern "C" __global__ void signs_fill(float *out, uint64_t seed, uint32_t tensor_id) {
    qzo_philox_block block = qzo_philox(seed, threadIdx.x, tensor_id, QZO_PURPOSE_NOISE);
    for (int i = 0; i < 4; i++) out[4 * threadIdx.x + i] = qzo_rademacher(block.word[i]);
}

extern "C" __global__ void update(float *values, const float *z, uint64_t *digests, float k,
                                  float floor) {
    uint32_t i = threadIdx.x;
    float before = values[i], value = qzo_updated(before, k, qzo_scaled_direction(before, z[i]));
    value = qzo_constrained_positive(value, floor);
    value = qzo_constrained_sign(value, before, floor);
    values[i] = value;
    digests[i] = qzo_digest_mix(1, i, value);
}

extern "C" __global__ void decode(float *out, const uint32_t *codes, const uint32_t *zeros,
                                  const float *masters, const float *z, float c) {
    uint32_t i = threadIdx.x;
    constexpr int BITS = 3; /* codes that cross words */
    int code = qzo_gptq_lane(qzo_gptq_octet(codes, 1, i / 8, BITS), (int)(i % 8), BITS);
    int zero = qzo_gptq_zero(zeros, i, BITS, qzo_gptq_v1_correction(BITS));
    out[i] = qzo_gptq_value(code, zero, qzo_perturbed(masters[i], c, z[i]));
}

extern "C" __global__ void halves(uint16_t *out, float *floats, const uint16_t *in) {
    uint32_t i = threadIdx.x;
    floats[2 * i] = qzo_fp16_to_float(in[2 * i]);
    floats[2 * i + 1] = qzo_bf16_to_float(in[2 * i + 1]);
    out[2 * i] = qzo_float_to_fp16(floats[2 * i + 1]);
    out[2 * i + 1] = qzo_float_to_bf16(floats[2 * i]);
}

#if defined(BARE)
extern "C" __global__ void bare(float *out, const float *a, const float *b) {
    out[threadIdx.x] = a[threadIdx.x] * b[threadIdx.x] + out[threadIdx.x];
}
#endif
