/* Philox4x32-10 (Salmon et al., SC'11) and its normals; shared by scalar C, vector C and CUDA,
 * which give the same bits.
 *
 * Noise is a pure function: key = the 64-bit seed; counter = (element / 4 low, element / 4 high,
 * tensor id, purpose); element % 4 chooses among the four results. Purposes keep noise, data order
 * and seeds apart.
 *
 * Normals: Box-Muller (1958) on pairs of words, r = sqrt(-2 ln u), z = (r cos a, r sin a), from
 * rounded IEEE operations alone (no libm but fma). Polynomials: tools/fit_polynomials.py. The first
 * word of a pair gives u in (0, 1] with 32 bits, so |z| reaches 6.7; the second gives the angle:
 * its two top bits the quadrant, the other thirty the place in it. */
#ifndef QZO_BASE_PHILOX_H
#define QZO_BASE_PHILOX_H

#include "base/host_device.h"

/* Written in every journal: a change of any bit of the noise must change it. */
#define QZO_NOISE_VERSION 1u

/* The last counter word. */
enum {
    QZO_PURPOSE_NOISE = 0,    /* directions of perturbation */
    QZO_PURPOSE_SEED = 1,     /* seeds of perturbations from a trial's seed */
    QZO_PURPOSE_DATA = 2,     /* order of the examples */
    QZO_PURPOSE_TIME = 3,     /* timesteps of diffusion models */
    QZO_PURPOSE_INIT = 4,     /* initial values of added parameters */
    QZO_PURPOSE_SEARCH = 5,   /* settings of a random search */
    QZO_PURPOSE_TOKEN = 6,    /* tokens that are drawn when a model continues a text */
    QZO_PURPOSE_BOOTSTRAP = 7 /* examples of a resample */
};

typedef struct qzo_philox_block {
    uint32_t word[4];
} qzo_philox_block;

QZO_HOST_DEVICE static inline qzo_philox_block qzo_philox(uint64_t seed, uint64_t counter,
                                                          uint32_t tensor_id, uint32_t purpose) {
    uint32_t c0 = (uint32_t)counter, c1 = (uint32_t)(counter >> 32), c2 = tensor_id, c3 = purpose;
    uint32_t k0 = (uint32_t)seed, k1 = (uint32_t)(seed >> 32);
    for (int round = 0; round < 10; round++) {
        uint64_t product0 = (uint64_t)c0 * 0xD2511F53u;
        uint64_t product1 = (uint64_t)c2 * 0xCD9E8D57u;
        uint32_t next0 = (uint32_t)(product1 >> 32) ^ c1 ^ k0;
        uint32_t next2 = (uint32_t)(product0 >> 32) ^ c3 ^ k1;
        c1 = (uint32_t)product1;
        c3 = (uint32_t)product0;
        c0 = next0;
        c2 = next2;
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    qzo_philox_block block = {{c0, c1, c2, c3}};
    return block;
}

/* ln(x) of a positive normal x; error below 1 ulp of the result or 2^-25, whichever is larger. */
QZO_HOST_DEVICE static inline float qzo_logf(float x) {
    uint32_t bits = qzo_float_bits(x);
    /* x = m 2^exponent with m in [sqrt(1/2), sqrt(2)): the subtraction moves the carry there. */
    int32_t exponent = (int32_t)(bits - 0x3f3504f3u) >> 23;
    float f = QZO_FADD(qzo_float_from_bits(bits - ((uint32_t)exponent << 23)), -1.0f);
    float p = -0x1.43b246p-4f;
    p = QZO_FMA(p, f, 0x1.02814ep-3f);
    p = QZO_FMA(p, f, -0x1.0a33eap-3f);
    p = QZO_FMA(p, f, 0x1.231ce6p-3f);
    p = QZO_FMA(p, f, -0x1.54d03ep-3f);
    p = QZO_FMA(p, f, 0x1.999f14p-3f);
    p = QZO_FMA(p, f, -0x1.0000cep-2f);
    p = QZO_FMA(p, f, 0x1.555554p-2f);
    float square = QZO_FMUL(f, f);
    float tail = QZO_FMUL(square, QZO_FMA(f, p, -0.5f)); /* ln(1 + f) - f */
    return QZO_FMA((float)exponent, 0x1.62e430p-1f, QZO_FADD(f, tail));
}

/* A pair of words to a pair of independent normals. */
QZO_HOST_DEVICE static inline void qzo_normal_pair(float *z0, float *z1, uint32_t word0,
                                                   uint32_t word1) {
    /* (word0 + 1/2) / 2^32, rounded by each fma; the halves of a word are exact floats, and signed
     * conversions exist as vector instructions everywhere. */
    float high = (float)(int32_t)(word0 >> 16), low = (float)(int32_t)(word0 & 0xffffu);
    float u = QZO_FMA(QZO_FMA(high, 0x1p16f, low), 0x1p-32f, 0x1p-33f);
    float radius = QZO_FSQRT(QZO_FMUL(-2.0f, qzo_logf(u)));

    float t = QZO_FMUL((float)(int32_t)(word1 << 2), 0x1p-32f); /* [-1/2, 1/2] quarter turns */
    float s = QZO_FMUL(t, t);
    float sine = -0x1.2d9b40p-8f;
    sine = QZO_FMA(sine, s, 0x1.465ec4p-4f);
    sine = QZO_FMA(sine, s, -0x1.4abbbap-1f);
    sine = QZO_FMUL(QZO_FMA(sine, s, 0x1.921fb6p+0f), t);
    float cosine = 0x1.d9c2e8p-11f;
    cosine = QZO_FMA(cosine, s, -0x1.55c57ap-6f);
    cosine = QZO_FMA(cosine, s, 0x1.03c1dcp-2f);
    cosine = QZO_FMA(cosine, s, -0x1.3bd3ccp+0f);
    cosine = QZO_FMA(cosine, s, 1.0f);

    uint32_t quadrant = word1 >> 30;
    uint32_t swap = 0u - (quadrant & 1u); /* all ones in odd quadrants */
    uint32_t sine_bits = qzo_float_bits(sine), cosine_bits = qzo_float_bits(cosine);
    uint32_t x = (cosine_bits & ~swap) | (sine_bits & swap);
    uint32_t y = (sine_bits & ~swap) | (cosine_bits & swap);
    x ^= ((quadrant + 1u) & 2u) << 30; /* cos is negative in quadrants 1 and 2 */
    y ^= (quadrant & 2u) << 30;        /* sin is negative in quadrants 2 and 3 */
    *z0 = QZO_FMUL(radius, qzo_float_from_bits(x));
    *z1 = QZO_FMUL(radius, qzo_float_from_bits(y));
}

/* The four normals of a block. */
QZO_HOST_DEVICE static inline void qzo_normals(float z[4], qzo_philox_block block) {
    qzo_normal_pair(&z[0], &z[1], block.word[0], block.word[1]);
    qzo_normal_pair(&z[2], &z[3], block.word[2], block.word[3]);
}

/* -1 or +1 by the top bit of a word. */
QZO_HOST_DEVICE static inline float qzo_rademacher(uint32_t word) {
    return qzo_float_from_bits(0x3f800000u | (word & 0x80000000u));
}

#endif
