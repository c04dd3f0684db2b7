/* Prints digests of the arithmetic that must be the same everywhere: 10^6 normals, 10^6 signs, 10^5
 * updates, and exp, ln and cos over their ranges. unit_bits.sh compiles this file together with
 * src/base with every compiler and level of optimization, and compares. */
#include "base/cpu.h"
#include "base/math32.h"
#include "base/math64.h"
#include "base/noise.h"
#include "base/philox.h"
#include "base/update.h"

#include <stdio.h>
#include <string.h>

enum { DRAWS = 1000000, UPDATES = 100000 };

static float values[DRAWS];

static uint64_t digest_of(const float *in, int count) {
    uint64_t sum = 0;
    for (int i = 0; i < count; i++) sum += qzo_digest_mix(7, (uint64_t)i, in[i]);
    return sum;
}

static uint64_t noise_digest(qzo_directions directions) {
    qzo_noise_fill(values, 0x243f6a8885a308d3u, 0x13198a2eu, 3, DRAWS, directions);
    return digest_of(values, DRAWS);
}

static uint64_t update_digest(void) {
    static float z[UPDATES];
    for (int i = 0; i < UPDATES; i++) values[i] = 0.005f + (float)(i % 977) * 0x1p-20f;
    for (int sample = 0; sample < 4; sample++) {
        qzo_noise_fill(z, qzo_noise_seed(1, 2, (uint32_t)sample), 3, 0, UPDATES,
                       QZO_DIRECTIONS_GAUSSIAN);
        for (int i = 0; i < UPDATES; i++)
            values[i] = qzo_updated(values[i], 1e-3f * (float)(sample + 1), z[i]);
    }
    for (int i = 0; i < UPDATES; i++)
        values[i] = i % 2 == 0 ? qzo_constrained_positive(values[i], 1e-7f)
                               : qzo_constrained_sign(values[i], -1.0f, 1e-7f);
    return digest_of(values, UPDATES);
}

static uint64_t functions_digest(void) {
    for (int i = 0; i < DRAWS; i++) {
        float x = (float)i * 176e-6f - 88.0f;
        values[i] = i % 2 == 0 ? qzo_expf(x) : qzo_logf(qzo_expf(x) + 0x1p-126f);
    }
    uint64_t sum = digest_of(values, DRAWS);
    for (int i = 1; i <= UPDATES; i++) {
        double results[3] = {qzo_log(i * 0.37), qzo_cospi((double)i / UPDATES),
                             qzo_exp((double)i * 0.0137 - 690.0)};
        uint64_t bits[3];
        memcpy(bits, results, sizeof bits);
        sum = sum * 0x9E3779B97F4A7C15u + (bits[0] ^ bits[1] << 1 ^ bits[2] << 2);
    }
    return sum;
}

int main(void) {
    const char *separator = "";
    for (int level = QZO_CPU_BASELINE; level <= QZO_CPU_AVX512; level++) {
        qzo_cpu_limit((qzo_cpu_level)level);
        if (qzo_cpu() != (qzo_cpu_level)level) continue;
        printf("%s%016llx %016llx %016llx %016llx", separator,
               (unsigned long long)noise_digest(QZO_DIRECTIONS_GAUSSIAN),
               (unsigned long long)noise_digest(QZO_DIRECTIONS_RADEMACHER),
               (unsigned long long)update_digest(), (unsigned long long)functions_digest());
        separator = "\n";
    }
    printf("\n");
    return 0;
}
